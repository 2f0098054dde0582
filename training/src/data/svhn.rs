//! SVHN, the cropped digits: two MATLAB files (level 5), each with the images `X`, [32, 32, 3, n], and their labels `y`.

use super::{Augmentation, Dataset, Inputs, MOST_UNPACKED, Split};
use anyhow::{Context, Result, bail, ensure};
use experiments::benchmark::Benchmark;
use flate2::read::ZlibDecoder;
use std::io::Read;
use std::path::Path;
use tch::{Kind, Tensor};

const SIDE: i64 = 32;

/// Reads train_32x32.mat and test_32x32.mat in `folder`. Digits are cropped, and not mirrored.
pub fn read(folder: &Path) -> Result<Dataset> {
    let inputs = Inputs::Images(Augmentation { crops: true, flips: false });
    let [train, test] = ["train_32x32.mat", "test_32x32.mat"].map(|file| read_file(&folder.join(file)));
    Ok(Dataset::new(Benchmark::Svhn.name(), 10, inputs, train?, test?))
}

fn read_file(path: &Path) -> Result<Split> {
    let bytes = std::fs::read(path)
        .with_context(|| format!("{}: cannot be read; --data wants the folder of SVHN's two files", path.display()))?;
    parse(&bytes).with_context(|| {
        format!("{}: expected a MATLAB file of level 5 with X, [32, 32, 3, n], and y, [n, 1]", path.display())
    })
}

fn parse(bytes: &[u8]) -> Result<Split> {
    // 128 bytes of header, the last two of which tell the order of bytes.
    ensure!(bytes.len() > 128 && &bytes[126..128] == b"IM", "got something else, or a part of one");
    let (mut images, mut labels) = (None, None);
    let mut rest = &bytes[128..];
    while !rest.is_empty() {
        let array = match element(&mut rest)? {
            (COMPRESSED, data) => {
                let mut unpacked = Vec::new();
                ZlibDecoder::new(data)
                    .take(MOST_UNPACKED)
                    .read_to_end(&mut unpacked)
                    .context("an element that cannot be uncompressed")?;
                let mut unpacked = &unpacked[..];
                match element(&mut unpacked)? {
                    (MATRIX, data) => Array::parse(data)?,
                    (kind, _) => bail!("got an element of type {kind}"),
                }
            }
            (MATRIX, data) => Array::parse(data)?,
            (kind, _) => bail!("got an element of type {kind}"),
        };
        match &array.name[..] {
            b"X" => images = Some(array),
            b"y" => labels = Some(array),
            _ => {}
        }
    }
    let (Some(images), Some(labels)) = (images, labels) else { bail!("got one without X or y") };
    let n = labels.values.len() as i64;
    ensure!(
        n > 0 && images.size == [SIDE, SIDE, 3, n] && images.values.len() as i64 == SIDE * SIDE * 3 * n,
        "got X of size {:?} and {n} labels",
        images.size
    );
    if let Some(label) = labels.values.iter().find(|label| !(1..=10).contains(*label)) {
        bail!("got a label {label}, where they are 1 to 10");
    }
    // The first axis is the innermost; a digit 0 has the label 10.
    let images = Tensor::from_data_size(&images.values, &[n, 3, SIDE, SIDE], Kind::Uint8).transpose(2, 3).contiguous();
    let labels: Vec<i64> = labels.values.iter().map(|&label| i64::from(label) % 10).collect();
    Ok(Split { inputs: images, labels: Tensor::from_slice(&labels) })
}

/// The types of elements.
const UINT8: u32 = 2;
const INT32: u32 = 5;
const DOUBLE: u32 = 9;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

/// Takes an element off: its type and its data.
fn element<'a>(rest: &mut &'a [u8]) -> Result<(u32, &'a [u8])> {
    let word = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes);
    ensure!(rest.len() >= 8, "got a part of one");
    let (kind, length) = (word(&rest[..4])?, word(&rest[4..8])?);
    // A small one has its length beside its type, and its data in the place of the length.
    let (kind, from, length) = match kind >> 16 {
        0 => (kind, 8, length as usize),
        small => (kind & 0xffff, 4, small as usize),
    };
    ensure!(from + length <= rest.len() && (from == 8 || length <= 4), "got a part of one");
    let data = &rest[from..from + length];
    // Compressed ones are not padded.
    let end = if kind == COMPRESSED { from + length } else { (from + length).next_multiple_of(8).min(rest.len()) };
    *rest = &rest[end..];
    Ok((kind, data))
}

fn as_byte(value: f64) -> Result<u8> {
    let byte = value as u8;
    ensure!(f64::from(byte) == value, "got {value} where a whole number from 0 to 255 is expected");
    Ok(byte)
}

/// An array of bytes, or of doubles that are bytes.
struct Array {
    name: Vec<u8>,
    size: Vec<i64>,
    values: Vec<u8>,
}

impl Array {
    /// Its flags, its size, its name and its values, one element after the other.
    fn parse(mut data: &[u8]) -> Result<Self> {
        let (_, _flags) = element(&mut data)?;
        let (kind, size) = element(&mut data)?;
        ensure!(kind == INT32, "got an array without a size");
        let size = size.chunks_exact(4).map(|word| word.try_into().map(i32::from_le_bytes).map(i64::from));
        let size = size.collect::<Result<_, _>>()?;
        let (_, name) = element(&mut data)?;
        let values = match element(&mut data)? {
            (UINT8, values) => values.to_vec(),
            (DOUBLE, values) => {
                let doubles = values.chunks_exact(8).map(|bytes| bytes.try_into().map(f64::from_le_bytes));
                doubles.map(|value| as_byte(value?)).collect::<Result<_>>()?
            }
            (kind, _) => bail!("got values of type {kind}"),
        };
        Ok(Self { name: name.to_vec(), size, values })
    }
}
