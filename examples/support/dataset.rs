//! Images in memory as bytes, and batches of them: cropped, flipped and whitened as a whole.

use super::options::DataSource;
use super::{cifar10, digits};
use anyhow::Result;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Images `[n, 3, 32, 32]` as Uint8, and their labels `[n]` as Int64.
#[derive(Debug)]
pub struct Split {
    pub images: Tensor,
    pub labels: Tensor,
}

impl Split {
    pub fn len(&self) -> usize {
        self.labels.numel()
    }

    fn to_device(&self, device: Device) -> Split {
        Split { images: self.images.to_device(device), labels: self.labels.to_device(device) }
    }
}

/// A data set for classification.
#[derive(Debug)]
pub struct Dataset {
    pub name: &'static str,
    pub classes: i64,
    /// Whether a mirrored image is of the same class: an animal is, a digit is not.
    pub flips: bool,
    pub train: Split,
    pub test: Split,
}

/// Loads what the options ask for. `auto` ends with the digits when CIFAR-10 is neither here nor to be had.
pub fn load(source: &DataSource) -> Result<Dataset> {
    match source {
        DataSource::Digits => digits::load(),
        DataSource::Folder(folder) => cifar10::read(folder),
        DataSource::Auto => {
            let folder = Path::new("data").join(cifar10::FOLDER);
            if !folder.is_dir()
                && let Err(cifar10::Unavailable(reason)) = cifar10::download(&folder)?
            {
                println!(
                    "CIFAR-10 is not in {} and cannot be downloaded ({reason}): using the digits",
                    folder.display()
                );
                return digits::load();
            }
            cifar10::read(&folder)
        }
    }
}

impl Dataset {
    pub fn describe(&self) -> String {
        format!("{}: {} training images, {} test images", self.name, self.train.len(), self.test.len())
    }

    pub fn to_device(&self, device: Device) -> Dataset {
        Dataset { train: self.train.to_device(device), test: self.test.to_device(device), ..*self }
    }
}

/// Training batches without end: every epoch in an order of its own, the rest that fills no batch left out.
pub struct Batches<'a> {
    data: &'a Dataset,
    size: usize,
    order: Vec<i64>,
    next: usize,
    rng: ChaCha8Rng,
}

impl<'a> Batches<'a> {
    pub fn new(data: &'a Dataset, size: usize, rng: ChaCha8Rng) -> Self {
        let order: Vec<i64> = (0..data.train.len() as i64).collect();
        Self { data, size: size.min(order.len()), next: order.len(), order, rng }
    }

    pub fn batch_size(&self) -> usize {
        self.size
    }

    pub fn per_epoch(&self) -> usize {
        self.order.len() / self.size
    }

    /// The next batch: images `[n, 3, 32, 32]` as Float, zero-padded by 2, randomly cropped to their size, half of them
    /// mirrored where that keeps the class, and whitened; and labels `[n]`.
    pub fn next(&mut self) -> (Tensor, Tensor) {
        if self.next + self.size > self.order.len() {
            self.order.shuffle(&mut self.rng);
            self.next = 0;
        }
        let Split { images, labels } = &self.data.train;
        let device = images.device();
        let chosen = Tensor::from_slice(&self.order[self.next..self.next + self.size]).to_device(device);
        self.next += self.size;
        let images = augment(&images.index_select(0, &chosen), self.data.flips, &mut self.rng);
        (whiten(&images), labels.index_select(0, &chosen))
    }
}

const PAD: i64 = 2;

fn augment(images: &Tensor, flips: bool, rng: &mut ChaCha8Rng) -> Tensor {
    let [n, channels, height, width] = images.size()[..] else { panic!("images have four dimensions") };
    let device = images.device();
    let mut draw = |largest: i64| -> Tensor {
        let values: Vec<i64> = (0..n).map(|_| rng.random_range(0..=largest)).collect();
        Tensor::from_slice(&values).view([n, 1]).to_device(device)
    };
    let range = |end: i64| Tensor::arange(end, (Kind::Int64, device));
    let rows = draw(2 * PAD) + range(height);
    let (column, flip) = (range(width), draw(i64::from(flips)));
    // A mirrored image reads its columns from the right.
    let mirrored = (width - 1) - &column;
    let columns: Tensor = draw(2 * PAD) + &column * (1 - &flip) + mirrored * &flip;
    images.constant_pad_nd([PAD, PAD, PAD, PAD]).index(&[
        Some(range(n).view([n, 1, 1, 1])),
        Some(range(channels).view([1, channels, 1, 1])),
        Some(rows.view([n, 1, height, 1])),
        Some(columns.view([n, 1, 1, width])),
    ])
}

/// Every image on its own to mean 0 and standard deviation 1, the latter floored at 1/√numel (the authors' whitening).
pub fn whiten(images: &Tensor) -> Tensor {
    let images = images.to_kind(Kind::Float);
    let axes = [1i64, 2, 3].as_slice();
    let mean = images.mean_dim(axes, true, Kind::Float);
    let std = images.std_dim(axes, false, true);
    let numel: i64 = images.size()[1..].iter().product();
    (images - mean) / std.clamp_min(1.0 / (numel as f64).sqrt())
}
