//! CIFAR-10 and CIFAR-100: their binary files, and how the former get here.

use super::download::{Downloads, checksum, variable};
use super::identity::verify;
use super::{Augmentation, Dataset, Inputs, MOST_UNPACKED, Split};
use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// A data set, and where it is to be had.
pub struct Source {
    pub name: &'static str,
    /// The folder of the archive, and of the files in it.
    pub folder: &'static str,
    /// Its files of training images, and that of test images.
    train: &'static [&'static str],
    test: &'static str,
    /// The bytes before the pixels of a record, the last of which is the label.
    label_bytes: usize,
    classes: u8,
    /// The archive, if it is downloaded.
    archive: Option<Archive>,
}

struct Archive {
    url: &'static str,
    md5: &'static str,
    /// Variables that name a mirror, and the checksum of what it has when that is not the original archive.
    url_variable: &'static str,
    md5_variable: &'static str,
}

pub const CIFAR10: Source = Source {
    name: "CIFAR-10",
    folder: "cifar-10-batches-bin",
    train: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
    test: "test_batch.bin",
    label_bytes: 1,
    classes: 10,
    archive: Some(Archive {
        url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        md5: "c32a1d4ab5d03f1284b67883e8d87530",
        url_variable: "CIFAR10_URL",
        md5_variable: "CIFAR10_MD5",
    }),
};

/// Of its two labels, the fine one.
pub const CIFAR100: Source = Source {
    name: "CIFAR-100",
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: "test.bin",
    label_bytes: 2,
    classes: 100,
    archive: None,
};

const PIXELS: usize = 3 * 32 * 32;

/// The files by their names: in a folder, or in an archive as it was downloaded.
enum Files {
    Folder(PathBuf),
    Archive(PathBuf, HashMap<String, Vec<u8>>),
}

impl Files {
    fn open(path: &Path) -> Result<Self> {
        if !path.is_file() {
            return Ok(Files::Folder(path.to_owned()));
        }
        let read = || -> Result<HashMap<String, Vec<u8>>> {
            let (mut files, mut room) = (HashMap::new(), MOST_UNPACKED);
            for entry in tar::Archive::new(GzDecoder::new(File::open(path)?)).entries()? {
                let entry = entry?;
                let name = entry.path()?.file_name().map(|name| name.to_string_lossy().into_owned());
                let mut bytes = Vec::new();
                room -= entry.take(room).read_to_end(&mut bytes)? as u64;
                ensure!(room > 0, "it holds more than {MOST_UNPACKED} bytes");
                files.extend(name.map(|name| (name, bytes)));
            }
            Ok(files)
        };
        let files = read()
            .with_context(|| format!("{}: expected a folder, or a .tar.gz as it was downloaded", path.display()))?;
        Ok(Files::Archive(path.to_owned(), files))
    }

    fn place(&self, name: &str) -> String {
        match self {
            Files::Folder(folder) => folder.join(name).display().to_string(),
            Files::Archive(path, _) => format!("{}: {name}", path.display()),
        }
    }

    fn read(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        match self {
            Files::Folder(folder) => Ok(Cow::Owned(std::fs::read(folder.join(name))?)),
            Files::Archive(_, files) => {
                files.get(name).map(|bytes| Cow::Borrowed(&bytes[..])).context("is not in the archive")
            }
        }
    }

    /// What else is there in the place of the binary version.
    fn has_python_version(&self) -> bool {
        let names = ["data_batch_1", "train"];
        match self {
            Files::Folder(folder) => {
                let below = ["", "cifar-10-batches-py", "cifar-100-python"].map(|below| folder.join(below));
                below.iter().any(|folder| names.iter().any(|name| folder.join(name).is_file()))
            }
            Files::Archive(_, files) => names.iter().any(|name| files.contains_key(*name)),
        }
    }
}

impl Source {
    /// Reads the files in a folder, or in the archive of them.
    pub fn read(&self, place: &Path) -> Result<Dataset> {
        let files = Files::open(place)?;
        let inputs = Inputs::Images(Augmentation { crops: true, flips: true });
        let [train, test] = [self.train, &[self.test]].map(|names| self.read_files(&files, names));
        Ok(Dataset::new(self.name, i64::from(self.classes), inputs, train?, test?))
    }

    /// A file is records of labels and 3072 pixels: red, green and blue planes, row by row.
    fn read_files(&self, files: &Files, names: &[&str]) -> Result<Split> {
        let Source { name, label_bytes, classes, .. } = *self;
        let size = label_bytes + PIXELS;
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for file in names {
            let place = files.place(file);
            let bytes = files.read(file).with_context(|| {
                let found = if files.has_python_version() { ", and the Python version is there" } else { "" };
                format!(
                    "{place}: cannot be read{found}; --data wants {name}'s binary version: its folder with {}, {}, or its \
                     .tar.gz",
                    self.train.join(", "),
                    self.test
                )
            })?;
            ensure!(
                !bytes.is_empty() && bytes.len() % size == 0,
                "{place}: expected records of {size} bytes, got {} bytes, which is no whole number of them; the file is cut \
                 off or not of {name}'s binary version: download it again",
                bytes.len()
            );
            pixels.reserve(bytes.len());
            for (index, record) in bytes.chunks_exact(size).enumerate() {
                let label = record[label_bytes - 1];
                ensure!(
                    label < classes,
                    "{place}: record {index}: expected a label below {classes}, got {label}; the file is damaged or of \
                     another data set",
                );
                labels.push(i64::from(label));
                pixels.extend_from_slice(&record[label_bytes..]);
            }
        }
        let images = Tensor::from_data_size(&pixels, &[labels.len() as i64, 3, 32, 32], Kind::Uint8);
        Ok(Split { inputs: images, labels: Tensor::from_slice(&labels) })
    }

    /// Downloads, verifies and unpacks the archive so that `folder` holds the files; the folder appears when all are in it.
    pub fn download(&self, folder: &Path) -> Result<()> {
        let Some(Archive { url, md5, url_variable, md5_variable }) = &self.archive else {
            bail!("give the folder of {}'s binary version with --data", self.name);
        };
        let parent = folder.parent().context("a folder for the data")?;
        let downloads = Downloads::into_folder(parent)?;
        if folder.exists() {
            return Ok(());
        }
        let (url, wanted) = (variable(url_variable, url), checksum(&variable(md5_variable, md5)));
        let archive = downloads.fetch(&format!("{}.tar.gz", self.folder), &url, Some(&wanted))?;
        let unpacked = downloads.unpacking()?;
        tar::Archive::new(GzDecoder::new(archive))
            .unpack(unpacked.path())
            .with_context(|| format!("{url}: expected a .tar.gz, which cannot be unpacked"))?;
        let files = unpacked.path().join(self.folder);
        let data = self.read(&files).with_context(|| format!("{url}: the archive is not whole"))?;
        if wanted == *md5 {
            verify(&files, &data, self.name)?;
        }
        downloads.publish(&files, folder)
    }
}
