//! CIFAR-10: its binary files, and how they get here.

use super::download::{Unavailable, download as fetch, publish, variable};
use super::{Augmentation, Dataset, Split};
use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

pub const NAME: &str = "CIFAR-10";
/// The folder of the archive, and of the files in it.
pub const FOLDER: &str = "cifar-10-batches-bin";

const URL: &str = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz";
const MD5: &str = "c32a1d4ab5d03f1284b67883e8d87530";
/// Variables that name a mirror, and the checksum of what it has when that is not the original archive.
const URL_VARIABLE: &str = "CIFAR10_URL";
const MD5_VARIABLE: &str = "CIFAR10_MD5";

const PIXELS: usize = 3 * 32 * 32;
const RECORD: usize = 1 + PIXELS;
const CLASSES: u8 = 10;

/// Reads data_batch_1.bin to data_batch_5.bin and test_batch.bin in `folder`.
pub fn read(folder: &Path) -> Result<Dataset> {
    let train: Vec<PathBuf> = (1..=5).map(|i| folder.join(format!("data_batch_{i}.bin"))).collect();
    Ok(Dataset {
        name: NAME,
        classes: i64::from(CLASSES),
        augmentation: Augmentation { crops: true, flips: true },
        train: read_files(&train)?,
        validation: None,
        test: read_files(&[folder.join("test_batch.bin")])?,
    })
}

/// A file is records of one label byte and 3072 pixels: red, green and blue planes, row by row.
fn read_files(paths: &[PathBuf]) -> Result<Split> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for path in paths {
        let bytes = std::fs::read(path).with_context(|| {
            format!("{}: cannot be read; --data wants the folder of CIFAR-10's binary version", path.display())
        })?;
        ensure!(
            !bytes.is_empty() && bytes.len() % RECORD == 0,
            "{}: expected records of {RECORD} bytes, got {} bytes, which is no whole number of them; the file is cut \
             off or not of CIFAR-10's binary version: download it again",
            path.display(),
            bytes.len()
        );
        pixels.reserve(bytes.len());
        for (index, record) in bytes.chunks_exact(RECORD).enumerate() {
            ensure!(
                record[0] < CLASSES,
                "{}: record {index}: expected a label below {CLASSES}, got {}; the file is damaged: download it again",
                path.display(),
                record[0]
            );
            labels.push(i64::from(record[0]));
            pixels.extend_from_slice(&record[1..]);
        }
    }
    let images = Tensor::from_data_size(&pixels, &[labels.len() as i64, 3, 32, 32], Kind::Uint8);
    Ok(Split { images, labels: Tensor::from_slice(&labels) })
}

/// Downloads, verifies and unpacks the archive so that `folder` holds the files; the folder appears when all are in it.
pub fn download(folder: &Path) -> Result<Result<(), Unavailable>> {
    let parent = folder.parent().context("a folder for the data")?;
    let archive = match fetch(NAME, &variable(URL_VARIABLE, URL), &variable(MD5_VARIABLE, MD5), parent)? {
        Ok(archive) => archive,
        Err(unavailable) => return Ok(Err(unavailable)),
    };
    let unpacked = tempfile::tempdir_in(parent)?;
    tar::Archive::new(GzDecoder::new(archive)).unpack(unpacked.path()).context("the archive cannot be unpacked")?;
    publish(&unpacked.path().join(FOLDER), folder)?;
    Ok(Ok(()))
}
