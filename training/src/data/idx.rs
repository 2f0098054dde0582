//! Data sets in MNIST's IDX files, MNIST and Fashion-MNIST, and how they get here.

use super::download::{Broken, Downloads, variable};
use super::identity;
use super::{Augmentation, Dataset, Inputs, MOST_UNPACKED, Split};
use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tch::{Kind, Tensor};

/// A data set, and where it is to be had.
pub struct Source {
    pub name: &'static str,
    augmentation: Augmentation,
    /// The folder of the files.
    pub folder: &'static str,
    /// Where a package of the system has them.
    installed: Option<&'static str>,
    /// The folder of the compressed files, and a variable that names a mirror.
    url: &'static str,
    url_variable: &'static str,
}

pub const MNIST: Source = Source {
    name: "MNIST",
    augmentation: Augmentation { crops: false, flips: false },
    folder: "mnist",
    installed: None,
    url: "https://ossci-datasets.s3.amazonaws.com/mnist",
    url_variable: "MNIST_URL",
};

pub const FASHION_MNIST: Source = Source {
    name: "Fashion-MNIST",
    augmentation: Augmentation { crops: true, flips: true },
    folder: "fashion-mnist",
    // Debian's dataset-fashion-mnist.
    installed: Some("/usr/share/datasets/fashion-mnist"),
    url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    url_variable: "FASHION_MNIST_URL",
};

const FILES: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

const SIDE: usize = 28;
const CLASSES: u8 = 10;

impl Source {
    /// The folder of the files that a package of the system has, where it is installed.
    pub fn installed(&self) -> Option<&'static Path> {
        self.installed.map(Path::new).filter(|folder| folder.is_dir())
    }

    /// Reads the four files in `folder`, compressed or not.
    pub fn read(&self, folder: &Path) -> Result<Dataset> {
        let split = |part: &str| -> Result<Split> {
            let images = self.read_idx(&folder.join(format!("{part}-images-idx3-ubyte")), &[SIDE, SIDE])?;
            let labels_path = folder.join(format!("{part}-labels-idx1-ubyte"));
            let labels = self.read_idx(&labels_path, &[])?;
            ensure!(
                images.count == labels.count,
                "{}: expected {} labels, one for each image of its other file, got {}; download both again",
                labels_path.display(),
                images.count,
                labels.count
            );
            if let Some(index) = labels.bytes.iter().position(|&label| label >= CLASSES) {
                anyhow::bail!(
                    "{}: record {index}: expected a label below {CLASSES}, got {}; the file is damaged, or of a data set with \
                     more classes, such as EMNIST's letters",
                    labels_path.display(),
                    labels.bytes[index]
                );
            }
            let size = [images.count as i64, 1, SIDE as i64, SIDE as i64];
            let labels: Vec<i64> = labels.bytes.into_iter().map(i64::from).collect();
            Ok(Split {
                inputs: Tensor::from_data_size(&images.bytes, &size, Kind::Uint8),
                labels: Tensor::from_slice(&labels),
            })
        };
        let inputs = Inputs::Images(self.augmentation);
        Ok(Dataset::new(self.name, i64::from(CLASSES), inputs, split("train")?, split("t10k")?))
    }

    /// An IDX file of unsigned bytes: 0, 0, 8, the number of dimensions, each dimension as a big-endian u32, the data.
    fn read_idx(&self, path: &Path, record: &[usize]) -> Result<Records> {
        let compressed = path.with_extension("gz");
        let mut bytes = Vec::new();
        let read = match path.exists() || !compressed.exists() {
            true => File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)),
            false => File::open(&compressed)
                .and_then(|file| GzDecoder::new(file).take(MOST_UNPACKED).read_to_end(&mut bytes)),
        };
        read.with_context(|| {
            format!(
                "{}: cannot be read; --data wants the folder of {}'s four files ({}), compressed or not",
                path.display(),
                self.name,
                FILES.join(", ")
            )
        })?;
        let header = 4 + 4 * (1 + record.len());
        let dimensions = |bytes: &[u8]| -> Vec<usize> {
            let words = bytes[4..header].chunks_exact(4);
            words.map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]) as usize).collect()
        };
        let whole = bytes.len() >= header && bytes[..4] == [0, 0, 8, 1 + record.len() as u8] && {
            let found = dimensions(&bytes);
            let size = found.iter().try_fold(1usize, |size, &dimension| size.checked_mul(dimension));
            found[0] > 0 && found[1..] == *record && size == Some(bytes.len() - header)
        };
        ensure!(
            whole,
            "{}: expected an uncompressed IDX file of records of {} bytes (or a compressed one with .gz behind its name), got {} bytes that are none; the file is cut off, \
         or another one: download it again",
            path.display(),
            record.iter().product::<usize>(),
            bytes.len()
        );
        let count = dimensions(&bytes)[0];
        bytes.drain(..header);
        Ok(Records { count, bytes })
    }

    /// Downloads and uncompresses the files so that `folder` holds them; it appears when all are in it. They are verified by
    /// what is in them: mirrors compress them in their own way.
    pub fn download(&self, folder: &Path) -> Result<()> {
        let parent = folder.parent().context("a folder for the data")?;
        let downloads = Downloads::into_folder(parent)?;
        if folder.exists() {
            return Ok(());
        }
        let url = variable(self.url_variable, self.url);
        let unpacked = downloads.unpacking()?;
        let files = unpacked.path().join(self.folder);
        // What is no such data is nothing to go on from.
        self.unpack(&downloads, &url, &files).inspect_err(|error| {
            if error.downcast_ref::<Broken>().is_none() {
                downloads.forget();
            }
        })?;
        downloads.publish(&files, folder)
    }

    fn unpack(&self, downloads: &Downloads, url: &str, files: &Path) -> Result<()> {
        std::fs::create_dir(files)?;
        for name in FILES {
            let address = format!("{}/{name}.gz", url.trim_end_matches('/'));
            let compressed = downloads.fetch(&format!("{name}.gz"), &address, None)?;
            std::io::copy(&mut GzDecoder::new(compressed), &mut File::create(files.join(name))?)
                .with_context(|| format!("{address}: expected a file that gzip has compressed"))?;
        }
        let data = self.read(files).with_context(|| format!("{url}: what was downloaded is no {}", self.name))?;
        let digest = identity::digest(&data.train, &data.test)?;
        let found = identity::name(&digest, files, self.name);
        ensure!(
            found == self.name,
            "{url}: expected {}, got {found}: other data, or damaged ones; check the address, or give a folder with --data",
            self.name
        );
        Ok(())
    }
}

/// The records of a file, one after the other.
struct Records {
    count: usize,
    bytes: Vec<u8>,
}
