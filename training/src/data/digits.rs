//! The embedded data set: the UCI optical digits (CC BY 4.0, see examples/data/README.md).

use super::identity::digest;
use super::{Augmentation, Dataset, Inputs, Split};
use anyhow::{Context, Result, ensure};
use experiments::benchmark::Benchmark;
use flate2::read::GzDecoder;
use tch::{Kind, Tensor};

const FILE: &[u8] = include_bytes!("../../data/digits.csv.gz");
const TRAIN: i64 = 1437;
const SIDE: i64 = 8;

/// 1,797 images of 8x8 in 16 grey levels, upscaled to the size of the data set that they stand for; the first 1,437 of
/// the file train, the last 360 test.
pub fn load(stand_for: Benchmark) -> Result<Dataset> {
    let [channels, side] = stand_for
        .image_shape()
        .with_context(|| format!("--data digits: expected the text of {}; leave the option away", stand_for.name()))?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(GzDecoder::new(FILE));
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let record = record.context("the embedded digits")?;
        let values: Vec<u8> = record.iter().map(str::parse).collect::<Result<_, _>>().context("the embedded digits")?;
        let (label, image) = values.split_last().context("the embedded digits: an empty line")?;
        ensure!(image.len() as i64 == SIDE * SIDE, "the embedded digits: a line of {} pixels", image.len());
        pixels.extend_from_slice(image);
        labels.push(i64::from(*label));
    }
    let n = labels.len() as i64;
    let grey = Tensor::from_slice(&pixels).view([n, 1, SIDE, SIDE]).to_kind(Kind::Float) * (255.0 / 16.0);
    let images = grey
        .upsample_bilinear2d([side, side], false, None, None)
        .round()
        .to_kind(Kind::Uint8)
        .expand([n, channels, side, side], false)
        .contiguous();
    let labels = Tensor::from_slice(&labels);
    let split =
        |from: i64, to: i64| Split { inputs: images.slice(0, from, to, 1), labels: labels.slice(0, from, to, 1) };
    let inputs = Inputs::Images(Augmentation { crops: stand_for != Benchmark::Mnist, flips: false });
    let mut data = Dataset::new("digits", 10, inputs, split(0, TRAIN), split(TRAIN, n));
    data.digest = digest(&data.train, &data.test)?;
    Ok(data)
}
