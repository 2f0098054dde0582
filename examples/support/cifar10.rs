//! CIFAR-10: its binary files, and how they get here.

use super::dataset::{Dataset, Split};
use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use md5::{Digest, Md5};
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tch::{Kind, Tensor};

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

/// Reads data_batch_1.bin to data_batch_5.bin and test_batch.bin in `folder`, or in its cifar-10-batches-bin.
pub fn read(folder: &Path) -> Result<Dataset> {
    let below = folder.join(FOLDER);
    let folder = if below.is_dir() { &below } else { folder };
    let train: Vec<PathBuf> = (1..=5).map(|i| folder.join(format!("data_batch_{i}.bin"))).collect();
    Ok(Dataset {
        name: "CIFAR-10",
        classes: i64::from(CLASSES),
        flips: true,
        train: read_files(&train)?,
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

/// Why CIFAR-10 is not to be had: no network, or something else at the other end.
pub struct Unavailable(pub String);

/// Downloads, verifies and unpacks the archive so that `folder` holds the files; the folder appears when all are in it.
pub fn download(folder: &Path) -> Result<Result<(), Unavailable>> {
    let parent = folder.parent().context("a folder for the data")?;
    let variable = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let (url, expected) = (variable(URL_VARIABLE, URL), variable(MD5_VARIABLE, MD5));
    let agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(30)))
        .timeout_recv_body(Some(Duration::from_secs(3600)))
        .build()
        .new_agent();
    let mut response = match agent.get(&url).call() {
        Ok(response) => response,
        Err(reason) => return Ok(Err(Unavailable(reason.to_string()))),
    };
    let length = response.body().content_length();
    println!("downloading CIFAR-10 from {url}");
    std::fs::create_dir_all(parent).with_context(|| format!("{}: cannot be made", parent.display()))?;

    let mut archive =
        tempfile::tempfile_in(parent).with_context(|| format!("{}: cannot be written", parent.display()))?;
    let bar = download_bar(length);
    let mut reader = bar.wrap_read(response.body_mut().as_reader());
    let (mut md5, mut buffer) = (Md5::new(), vec![0; 1 << 16]);
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(reason) => return Ok(Err(Unavailable(reason.to_string()))),
        };
        md5.update(&buffer[..count]);
        archive.write_all(&buffer[..count]).with_context(|| format!("{}: cannot be written", parent.display()))?;
    }
    bar.finish_and_clear();
    let found: String = md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != expected {
        return Ok(Err(Unavailable(format!(
            "{url}: expected MD5 {expected}, got {found}, so this is not the archive"
        ))));
    }

    let unpacked = tempfile::tempdir_in(parent)?;
    archive.rewind()?;
    tar::Archive::new(GzDecoder::new(archive)).unpack(unpacked.path()).context("the archive cannot be unpacked")?;
    // On disk before they have their name: a crash leaves no half a data set behind.
    for file in std::fs::read_dir(unpacked.path().join(FOLDER)).context("the archive has no data")? {
        std::fs::File::open(file?.path())?.sync_all()?;
    }
    std::fs::rename(unpacked.path().join(FOLDER), folder)
        .with_context(|| format!("{}: cannot be made", folder.display()))?;
    Ok(Ok(()))
}

fn download_bar(length: Option<u64>) -> ProgressBar {
    if !io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("CIFAR-10 {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left");
    let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_style(style.expect("a valid template"))
}
