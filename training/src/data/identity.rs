//! Which data these are: their digest, and the name that it has.

use super::{Dataset, Split};
use anyhow::{Context, Result};
use experiments::files::{hexadecimal, write_synced};
use md5::{Digest, Md5};
use std::path::Path;
use tch::{Kind, Tensor};

/// The digests of data sets that were looked at, and their names. That of CIFAR-10 as its authors have it is told by the
/// archive from which it came: see [`verify`].
const KNOWN: &[(&str, &str)] = &[
    ("68cb2dc6594ab570e1ff8d884cc31e11", "MNIST"),
    ("b8b4e57ad211ecfe472131d52367e9d9", "Fashion-MNIST"),
    // Compressed as JPEG and back: pixels are others than its authors'.
    ("cb70e1a4b8d382ea297c96df29ddac4e", "CIFAR-10 (JPEG copy)"),
    ("9776591c04c273a217fb7e0504f30679", "King James Bible"),
    ("bf50e3b7b53e21935666b50e279537aa", "Rotten Tomatoes"),
];

/// Beside data that came from an archive whose checksum is its authors': the digest, and the name.
const VERIFIED: &str = "verified";

/// MD5 of all samples and labels as they are in memory, with their shapes.
pub fn digest(train: &Split, test: &Split) -> Result<String> {
    let mut digest = Md5::new();
    for tensor in [&train.inputs, &train.labels, &test.inputs, &test.labels] {
        digest.update(format!("{:?} {:?};", tensor.kind(), tensor.size()));
        digest.update(bytes(tensor)?);
    }
    Ok(hexadecimal(&digest.finalize()))
}

fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.contiguous().flatten(0, -1);
    let flat = if flat.kind() == Kind::Uint8 { flat } else { flat.view_dtype(Kind::Uint8) };
    let mut bytes = vec![0; flat.numel()];
    flat.f_copy_data_u8(&mut bytes, flat.numel()).context("the digest of the data")?;
    Ok(bytes)
}

/// The name of the data with this digest, read from `folder` in the format of the data set `format`.
pub fn name(digest: &str, folder: &Path, format: &str) -> String {
    let verified = std::fs::read_to_string(folder.join(VERIFIED)).unwrap_or_default();
    let verified = verified.split_once(' ').filter(|(known, _)| *known == digest).map(|(_, name)| name.trim());
    let known = KNOWN.iter().find(|(known, _)| *known == digest).map(|&(_, name)| name);
    known.or(verified).map_or_else(|| format!("{format} (unverified, {})", &digest[..8]), str::to_owned)
}

/// Notes that the data in this folder are those of their name.
pub fn verify(folder: &Path, data: &Dataset, name: &str) -> Result<()> {
    let digest = digest(&data.train, &data.test)?;
    write_synced(&folder.join(VERIFIED), format!("{digest} {name}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Inputs;

    #[test]
    fn a_digest_is_of_values_labels_and_shapes_and_an_unknown_one_has_no_name() {
        let split = |inputs: &[u8], labels: &[i64]| Split {
            inputs: Tensor::from_slice(inputs).view([-1, 2]),
            labels: Tensor::from_slice(labels),
        };
        let of = |inputs: &[u8], labels: &[i64]| digest(&split(inputs, labels), &split(&[1, 2], &[0])).unwrap();
        let first = of(&[1, 2, 3, 4], &[0, 1]);
        assert_eq!(first, of(&[1, 2, 3, 4], &[0, 1]));
        assert_ne!(first, of(&[1, 2, 3, 5], &[0, 1]));
        assert_ne!(first, of(&[1, 2, 3, 4], &[1, 0]));
        let folder = tempfile::tempdir().unwrap();
        let unverified = format!("MNIST (unverified, {})", &first[..8]);
        assert_eq!(name(&first, folder.path(), "MNIST"), unverified);
        let data = Dataset::new("MNIST", 2, Inputs::Words("rows"), split(&[1, 2, 3, 4], &[0, 1]), split(&[1, 2], &[0]));
        verify(folder.path(), &data, "Known").unwrap();
        assert_eq!(name(&first, folder.path(), "MNIST"), "Known");
        assert_eq!(name(&of(&[1, 2, 3, 5], &[0, 1]), folder.path(), "MNIST").split(' ').next(), Some("MNIST"));
    }
}
