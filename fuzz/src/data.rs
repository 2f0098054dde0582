//! Data sets, of which the programs read whole folders.

use crate::matlab::{self, matrix};
use crate::{SEPARATOR, files, folder, taken, write};
use anyhow::Result;
use experiments::benchmark::Benchmark;
use std::io::Write;
use std::path::Path;
use tch::Kind;
use training::data::{DataSource, Dataset, images, load};

/// Reads a data set whose files are the first ones of the input: with samples for training and for tests, or with an error.
fn read(benchmark: Benchmark, names: &[impl AsRef<str>], input: &[u8]) -> bool {
    let folder = folder();
    for (name, bytes) in names.iter().zip(files(input)) {
        write(&folder.path().join(name.as_ref()), bytes);
    }
    take(load(&DataSource::Folder(folder.path().to_owned()), benchmark), folder.path())
}

/// Holds a data set that was read to what all are: as many labels as samples, each of a class.
fn take(data: Result<Dataset>, place: &Path) -> bool {
    let Some(data) = taken(data, place) else { return false };
    for split in [&data.train, &data.test] {
        let (inputs, labels) = (&split.inputs, &split.labels);
        assert!(!split.is_empty() && inputs.size()[0] == labels.size()[0], "{inputs:?}, {labels:?}");
        assert_eq!(labels.kind(), Kind::Int64);
        let (least, most) = (labels.min().int64_value(&[]), labels.max().int64_value(&[]));
        assert!(least >= 0 && most < data.classes, "labels of {least} to {most}, of {} classes", data.classes);
    }
    true
}

const IDX: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// MNIST's four files; compressed ones, where the first byte is even.
pub fn idx(input: &[u8]) -> bool {
    let Some((first, input)) = input.split_first() else { return false };
    let ending = if first % 2 == 0 { ".gz" } else { "" };
    read(Benchmark::Mnist, &IDX.map(|name| format!("{name}{ending}")), input)
}

fn idx_file(record: &[u32], bytes: &[u8]) -> Vec<u8> {
    let count = bytes.len() as u32 / record.iter().product::<u32>();
    let dimensions = [&[count], record].concat();
    let dimensions: Vec<u8> = dimensions.iter().flat_map(|n| n.to_be_bytes()).collect();
    [&[0, 0, 8, 1 + record.len() as u8], &dimensions[..], bytes].concat()
}

/// Two images and one, as they are and compressed.
pub fn idx_seeds() -> Vec<Vec<u8>> {
    let image = idx_file(&[28, 28], &[7; 784]);
    let plain = [idx_file(&[28, 28], &[3; 2 * 784]), idx_file(&[], &[4, 9]), image, idx_file(&[], &[0])];
    let compressed = plain.each_ref().map(|file| {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(file).expect("memory");
        writer.finish().expect("memory")
    });
    vec![[&[0], &compressed.join(SEPARATOR)[..]].concat(), [&[1], &plain.join(SEPARATOR)[..]].concat()]
}

const CIFAR10: [&str; 6] = [
    "test_batch.bin",
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
];

/// By the first byte CIFAR-10, CIFAR-100, or an archive of CIFAR-10, which is the rest of the input.
pub fn cifar(input: &[u8]) -> bool {
    let Some((first, input)) = input.split_first() else { return false };
    match first % 3 {
        0 => read(Benchmark::Cifar10, &CIFAR10, input),
        1 => read(Benchmark::Cifar100, &["test.bin", "train.bin"], input),
        _ => {
            let folder = folder();
            let path = folder.path().join("archive.tar.gz");
            // Compressed here: a mutated archive would fail at gzip's checksum.
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
            writer.write_all(input).expect("memory");
            write(&path, &writer.finish().expect("memory"));
            take(load(&DataSource::Folder(path.clone()), Benchmark::Cifar10), &path)
        }
    }
}

/// A record or two in each file.
pub fn cifar_seeds() -> Vec<Vec<u8>> {
    let record = |label: &[u8]| [label, &[5; 3072]].concat();
    let of_10 = CIFAR10.map(|_| record(&[9]));
    let of_100 = [record(&[19, 99]), [record(&[0, 1]), record(&[1, 0])].concat()];
    let mut archive = tar::Builder::new(Vec::new());
    for name in CIFAR10 {
        let mut header = tar::Header::new_gnu();
        header.set_size(3073);
        archive.append_data(&mut header, format!("cifar-10-batches-bin/{name}"), &record(&[1])[..]).expect("memory");
    }
    vec![
        [&[0], &of_10.join(SEPARATOR)[..]].concat(),
        [&[1], &of_100.join(SEPARATOR)[..]].concat(),
        [&[2], &archive.into_inner().expect("memory")[..]].concat(),
    ]
}

/// SVHN's two MATLAB files.
pub fn svhn(input: &[u8]) -> bool {
    read(Benchmark::Svhn, &["train_32x32.mat", "test_32x32.mat"], input)
}

/// An image in each file: the labels as bytes, as doubles, or compressed.
pub fn svhn_seeds() -> Vec<Vec<u8>> {
    let labelled = |labels: &[u8]| {
        [matlab::header(), matrix("X", &[32, 32, 3, 1], matlab::BYTES, &[9; 3072]), labels.to_vec()].concat()
    };
    let bytes = labelled(&matrix("y", &[1, 1], matlab::BYTES, &[10]));
    let doubles = labelled(&matrix("y", &[1, 1], matlab::DOUBLES, &3f64.to_le_bytes()));
    let compressed = matlab::matlab_file(&[9; 3072], &[10]);
    vec![[&bytes[..], &doubles].join(SEPARATOR), [compressed, bytes].join(SEPARATOR)]
}

/// By the first byte the verses, or the sentences.
pub fn texts(input: &[u8]) -> bool {
    let Some((first, input)) = input.split_first() else { return false };
    match first % 2 {
        0 => read(Benchmark::KingJames, &["verses.txt"], input),
        _ => read(Benchmark::Sentences, &["movieReviewSnippets_GroundTruth.txt"], input),
    }
}

/// Enough of each for training and tests.
pub fn texts_seeds() -> Vec<Vec<u8>> {
    let verses = "In the earth's\n".repeat(1000);
    let sentences = format!("\u{feff}{}", "7\t-1.5\tA film, of sorts\r\n8\t 2 \tGood!\n".repeat(10));
    vec![[b"0", verses.as_bytes()].concat(), [b"1", sentences.as_bytes()].concat()]
}

/// An image that is classified; a grey one, where the first byte is even.
pub fn image(input: &[u8]) -> bool {
    let Some((first, input)) = input.split_first() else { return false };
    let folder = folder();
    let path = folder.path().join("image.png");
    write(&path, input);
    let channels = if first % 2 == 0 { 1 } else { 3 };
    let Some(image) = taken(images::read_one(&path, channels, 8), &path) else { return false };
    assert_eq!((image.size(), image.kind()), (vec![1, channels, 8, 8], Kind::Uint8));
    true
}

/// A PNG and a JPEG.
pub fn image_seeds() -> Vec<Vec<u8>> {
    [image::ImageFormat::Png, image::ImageFormat::Jpeg]
        .into_iter()
        .map(|format| {
            let mut file = std::io::Cursor::new(vec![1]);
            file.set_position(1);
            image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, 99]))
                .write_to(&mut file, format)
                .expect("memory");
            file.into_inner()
        })
        .collect()
}
