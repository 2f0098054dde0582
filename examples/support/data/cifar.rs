//! CIFAR-10 and CIFAR-100: their binary files, and how the former get here.

use super::download::{Unavailable, download as fetch, publish, variable};
use super::{Augmentation, Dataset, Inputs, Split};
use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
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

impl Source {
    /// Reads the files in `folder`.
    pub fn read(&self, folder: &Path) -> Result<Dataset> {
        let train: Vec<PathBuf> = self.train.iter().map(|file| folder.join(file)).collect();
        Ok(Dataset {
            name: self.name,
            classes: i64::from(self.classes),
            inputs: Inputs::Images(Augmentation { crops: true, flips: true }),
            train: self.read_files(&train)?,
            validation: None,
            test: self.read_files(&[folder.join(self.test)])?,
        })
    }

    /// A file is records of labels and 3072 pixels: red, green and blue planes, row by row.
    fn read_files(&self, paths: &[PathBuf]) -> Result<Split> {
        let Source { name, label_bytes, classes, .. } = *self;
        let size = label_bytes + PIXELS;
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for path in paths {
            let bytes = std::fs::read(path).with_context(|| {
                format!("{}: cannot be read; --data wants the folder of {name}'s binary version", path.display())
            })?;
            ensure!(
                !bytes.is_empty() && bytes.len() % size == 0,
                "{}: expected records of {size} bytes, got {} bytes, which is no whole number of them; the file is cut \
             off or not of {name}'s binary version: download it again",
                path.display(),
                bytes.len()
            );
            pixels.reserve(bytes.len());
            for (index, record) in bytes.chunks_exact(size).enumerate() {
                let label = record[label_bytes - 1];
                ensure!(
                    label < classes,
                    "{}: record {index}: expected a label below {classes}, got {label}; the file is damaged: download it again",
                    path.display(),
                );
                labels.push(i64::from(label));
                pixels.extend_from_slice(&record[label_bytes..]);
            }
        }
        let images = Tensor::from_data_size(&pixels, &[labels.len() as i64, 3, 32, 32], Kind::Uint8);
        Ok(Split { inputs: images, labels: Tensor::from_slice(&labels) })
    }

    /// Downloads, verifies and unpacks the archive so that `folder` holds the files; the folder appears when all are in it.
    pub fn download(&self, folder: &Path) -> Result<Result<(), Unavailable>> {
        let Some(Archive { url, md5, url_variable, md5_variable }) = &self.archive else {
            return Ok(Err(Unavailable("give its folder with --data".to_owned())));
        };
        let parent = folder.parent().context("a folder for the data")?;
        let archive = match fetch(self.name, &variable(url_variable, url), &variable(md5_variable, md5), parent)? {
            Ok(archive) => archive,
            Err(unavailable) => return Ok(Err(unavailable)),
        };
        let unpacked = tempfile::tempdir_in(parent)?;
        tar::Archive::new(GzDecoder::new(archive)).unpack(unpacked.path()).context("the archive cannot be unpacked")?;
        publish(&unpacked.path().join(self.folder), folder)?;
        Ok(Ok(()))
    }
}
