//! SVHN's files, in small.

use std::io::Write;

/// An element of a MATLAB file: its type, its length, its data, padded to eight bytes.
fn element(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// The types of values.
pub const BYTES: u32 = 2;
#[allow(dead_code)] // fuzz/ has some
pub const DOUBLES: u32 = 9;

pub fn matrix(name: &str, size: &[i32], kind: u32, values: &[u8]) -> Vec<u8> {
    let size: Vec<u8> = size.iter().flat_map(|n| n.to_le_bytes()).collect();
    // A name of up to four letters is in the place of its length.
    let mut small = (1u32 | (name.len() as u32) << 16).to_le_bytes().to_vec();
    small.extend_from_slice(name.as_bytes());
    small.resize(8, 0);
    let flags = element(6, &[9, 0, 0, 0, 0, 0, 0, 0]);
    element(14, &[flags, element(5, &size), small, element(kind, values)].concat())
}

/// What a file begins with.
pub fn header() -> Vec<u8> {
    [&[b' '; 124][..], &[0, 1, b'I', b'M']].concat()
}

/// `X`, [32, 32, 3, n], as it is, and `y` compressed.
pub fn matlab_file(pixels: &[u8], labels: &[u8]) -> Vec<u8> {
    let n = labels.len() as i32;
    let mut file = header();
    file.extend(matrix("X", &[32, 32, 3, n], BYTES, pixels));
    let mut compressed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    compressed.write_all(&matrix("y", &[n, 1], BYTES, labels)).unwrap();
    let compressed = compressed.finish().unwrap();
    file.extend([15u32.to_le_bytes(), (compressed.len() as u32).to_le_bytes()].concat());
    file.extend(compressed);
    file
}
