//! MNIST: its IDX files, and how they get here.

use super::download::{Unavailable, download as fetch, publish, variable};
use super::{Augmentation, Dataset, Split};
use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use std::fs::File;
use std::path::Path;
use tch::{Kind, Tensor};

pub const NAME: &str = "MNIST";
/// The folder of the files.
pub const FOLDER: &str = "mnist";

/// The folder of the compressed files, and a variable that names a mirror.
const URL: &str = "https://ossci-datasets.s3.amazonaws.com/mnist";
const URL_VARIABLE: &str = "MNIST_URL";

/// The files, and the MD5 of each as it is compressed there.
const FILES: [(&str, &str); 4] = [
    ("train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    ("train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432"),
    ("t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3"),
    ("t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c"),
];

const SIDE: usize = 28;
const CLASSES: u8 = 10;

/// Reads the four files in `folder`, uncompressed. The images are neither cropped nor mirrored in training.
pub fn read(folder: &Path) -> Result<Dataset> {
    let split = |part: &str| -> Result<Split> {
        let images = read_idx(&folder.join(format!("{part}-images-idx3-ubyte")), &[SIDE, SIDE])?;
        let labels_path = folder.join(format!("{part}-labels-idx1-ubyte"));
        let labels = read_idx(&labels_path, &[])?;
        ensure!(
            images.count == labels.count,
            "{}: expected {} labels, one for each image of its other file, got {}; download both again",
            labels_path.display(),
            images.count,
            labels.count
        );
        if let Some(index) = labels.bytes.iter().position(|&label| label >= CLASSES) {
            anyhow::bail!(
                "{}: record {index}: expected a label below {CLASSES}, got {}; the file is damaged: download it again",
                labels_path.display(),
                labels.bytes[index]
            );
        }
        let size = [images.count as i64, 1, SIDE as i64, SIDE as i64];
        let labels: Vec<i64> = labels.bytes.into_iter().map(i64::from).collect();
        Ok(Split {
            images: Tensor::from_data_size(&images.bytes, &size, Kind::Uint8),
            labels: Tensor::from_slice(&labels),
        })
    };
    Ok(Dataset {
        name: NAME,
        classes: i64::from(CLASSES),
        augmentation: Augmentation { crops: false, flips: false },
        train: split("train")?,
        test: split("t10k")?,
    })
}

/// The records of a file, one after the other.
struct Records {
    count: usize,
    bytes: Vec<u8>,
}

/// An IDX file of unsigned bytes: 0, 0, 8, the number of dimensions, each dimension as a big-endian u32, the data.
fn read_idx(path: &Path, record: &[usize]) -> Result<Records> {
    let mut bytes = std::fs::read(path).with_context(|| {
        format!("{}: cannot be read; --data wants the folder of MNIST's four files, uncompressed", path.display())
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
        "{}: expected an uncompressed IDX file of records of {} bytes, got {} bytes that are none; the file is cut off, \
         compressed or another one: download it again",
        path.display(),
        record.iter().product::<usize>(),
        bytes.len()
    );
    let count = dimensions(&bytes)[0];
    bytes.drain(..header);
    Ok(Records { count, bytes })
}

/// Downloads, verifies and uncompresses the files so that `folder` holds them; it appears when all are in it.
pub fn download(folder: &Path) -> Result<Result<(), Unavailable>> {
    let parent = folder.parent().context("a folder for the data")?;
    let url = variable(URL_VARIABLE, URL);
    let mut compressed = Vec::new();
    for (name, md5) in FILES {
        match fetch(name, &format!("{}/{name}.gz", url.trim_end_matches('/')), md5, parent)? {
            Ok(file) => compressed.push((name, file)),
            Err(unavailable) => return Ok(Err(unavailable)),
        }
    }
    let unpacked = tempfile::tempdir_in(parent)?;
    let files = unpacked.path().join(FOLDER);
    std::fs::create_dir(&files)?;
    for (name, file) in compressed {
        std::io::copy(&mut GzDecoder::new(file), &mut File::create(files.join(name))?)
            .with_context(|| format!("{name} cannot be uncompressed"))?;
    }
    publish(&files, folder)?;
    Ok(Ok(()))
}
