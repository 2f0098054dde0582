//! SVHN's files, in small.

use std::io::Write;

/// An element of a MATLAB file: its type, its length, its data, padded to eight bytes.
fn element(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn matrix(name: &str, size: &[i32], values: &[u8]) -> Vec<u8> {
    let size: Vec<u8> = size.iter().flat_map(|n| n.to_le_bytes()).collect();
    // A name of up to four letters is in the place of its length.
    let mut small = (1u32 | (name.len() as u32) << 16).to_le_bytes().to_vec();
    small.extend_from_slice(name.as_bytes());
    small.resize(8, 0);
    let flags = element(6, &[9, 0, 0, 0, 0, 0, 0, 0]);
    element(14, &[flags, element(5, &size), small, element(2, values)].concat())
}

/// `X`, [32, 32, 3, n], as it is, and `y` compressed.
pub fn matlab_file(pixels: &[u8], labels: &[u8]) -> Vec<u8> {
    let n = labels.len() as i32;
    let mut file = vec![b' '; 124];
    file.extend_from_slice(&[0, 1, b'I', b'M']);
    file.extend(matrix("X", &[32, 32, 3, n], pixels));
    let mut compressed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    compressed.write_all(&matrix("y", &[n, 1], labels)).unwrap();
    let compressed = compressed.finish().unwrap();
    file.extend([15u32.to_le_bytes(), (compressed.len() as u32).to_le_bytes()].concat());
    file.extend(compressed);
    file
}
