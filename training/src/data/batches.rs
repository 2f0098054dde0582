//! Training batches: each a function of the seed and the step alone, prepared ahead of the training on the CPU.

use super::{Augmentation, Dataset, Inputs, Split};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use tch::{Device, Kind, Tensor};

/// Training batches without end: every epoch in an order of its own, the rest that fills no batch left out.
///
/// The order and the augmentation of an epoch are drawn at its beginning, from the seed and the number of the epoch. So
/// a run that starts at any step sees what an uninterrupted one sees there, and nothing crosses to a GPU in a step.
pub struct Batches {
    train: Split,
    inputs: Inputs,
    size: usize,
    seed: u64,
    epoch: Option<Epoch>,
}

/// What is drawn for an epoch: Int64s for each sample, on the device.
struct Epoch {
    number: usize,
    order: Tensor,
    places: Option<Places>,
}

/// Where each padded image is cropped, and whether it is mirrored.
struct Places {
    rows: Tensor,
    columns: Tensor,
    mirrored: Tensor,
}

const PAD: i64 = 2;

impl Batches {
    /// Batches of `size` samples, or of all where there are fewer.
    pub fn new(data: &Dataset, size: usize, seed: u64) -> Self {
        let train = Split { inputs: data.train.inputs.shallow_clone(), labels: data.train.labels.shallow_clone() };
        Self { size: size.min(train.len()), train, inputs: data.inputs, seed, epoch: None }
    }

    pub fn size(&self) -> usize {
        self.size
    }

    pub fn per_epoch(&self) -> usize {
        self.train.len() / self.size
    }

    /// The batch of a step, counted from 0. Images `[n, channels, side, side]` are Float, zero-padded by 2, randomly
    /// cropped to their size, half of them mirrored, as far as the data set allows, and whitened; words are as they are.
    pub fn batch(&mut self, step: usize) -> (Tensor, Tensor) {
        let number = step / self.per_epoch();
        if self.epoch.as_ref().is_none_or(|epoch| epoch.number != number) {
            self.epoch = Some(self.draw(number));
        }
        let epoch = self.epoch.as_ref().expect("drawn above");
        let (from, size) = ((step % self.per_epoch() * self.size) as i64, self.size as i64);
        let part = |values: &Tensor| values.narrow(0, from, size);
        let chosen = part(&epoch.order);
        let mut samples = self.train.inputs.index_select(0, &chosen);
        if let Some(Places { rows, columns, mirrored }) = &epoch.places {
            samples = crop(&samples, &part(rows), &part(columns), &part(mirrored));
        }
        (self.inputs.present(&samples), self.train.labels.index_select(0, &chosen))
    }

    fn draw(&self, number: usize) -> Epoch {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(number as u64);
        let n = self.train.len();
        let device = self.train.inputs.device();
        let mut order: Vec<i64> = (0..n as i64).collect();
        order.shuffle(&mut rng);
        let mut upto = |largest: i64| -> Tensor {
            let values: Vec<i64> = (0..n).map(|_| rng.random_range(0..=largest)).collect();
            Tensor::from_slice(&values).to_device(device)
        };
        let places = match self.inputs {
            Inputs::Images(Augmentation { crops, flips }) if crops || flips => {
                // Without crops every image keeps the place that it has in the padded one.
                let mut offsets = || if crops { upto(2 * PAD) } else { upto(0) + PAD };
                let (rows, columns) = (offsets(), offsets());
                Some(Places { rows, columns, mirrored: upto(i64::from(flips)) })
            }
            _ => None,
        };
        Epoch { number, order: Tensor::from_slice(&order).to_device(device), places }
    }

    /// The batches from `first` to `end`, on the CPU prepared by a thread of their own. On a GPU the device does the
    /// work in any case, in the order in which it is asked.
    pub fn stream(mut self, first: usize, end: usize) -> Stream {
        if self.train.inputs.device() != Device::Cpu {
            return Stream::OnDevice { batches: self, steps: first..end };
        }
        let (sender, receiver) = sync_channel(AHEAD);
        let (ready, started) = sync_channel(0);
        let threads = tch::get_num_threads();
        let worker = std::thread::Builder::new().name("batches".to_owned());
        let worker = worker.spawn(move || {
            // The setting is that of this thread, and the one with which a thread begins when it is first asked: now,
            // before the training sets it back for the threads to come.
            tch::set_num_threads(1);
            tch::get_num_threads();
            ready.send(()).ok();
            for step in first..end {
                // The training has ended early when nobody listens.
                if sender.send(self.batch(step)).is_err() {
                    return;
                }
            }
        });
        started.recv().ok();
        tch::set_num_threads(threads);
        Stream::Ahead { receiver: Some(receiver), worker: Some(worker.expect("a thread for the batches")) }
    }
}

/// Batches that wait for the training.
const AHEAD: usize = 2;

/// The batches of a range of steps, one after the other.
pub enum Stream {
    OnDevice { batches: Batches, steps: std::ops::Range<usize> },
    Ahead { receiver: Option<Receiver<(Tensor, Tensor)>>, worker: Option<JoinHandle<()>> },
}

impl Iterator for Stream {
    type Item = (Tensor, Tensor);

    fn next(&mut self) -> Option<(Tensor, Tensor)> {
        match self {
            Stream::OnDevice { batches, steps } => steps.next().map(|step| batches.batch(step)),
            Stream::Ahead { receiver, worker } => match receiver.as_ref()?.recv() {
                Ok(batch) => Some(batch),
                // All are done, or the worker has panicked: then so does the training, with the same words.
                Err(_) => match worker.take()?.join() {
                    Ok(()) => None,
                    Err(panic) => std::panic::resume_unwind(panic),
                },
            },
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Stream::Ahead { receiver, worker } = self {
            drop(receiver.take());
            if let Some(worker) = worker.take() {
                worker.join().ok();
            }
        }
    }
}

/// Crops images padded by [`PAD`] to their old size, from the row and column that each is given, mirrored where that is 1.
fn crop(images: &Tensor, rows: &Tensor, columns: &Tensor, mirrored: &Tensor) -> Tensor {
    let [n, channels, height, width] = images.size()[..] else { panic!("images have four dimensions") };
    let range = |end: i64| Tensor::arange(end, (Kind::Int64, images.device()));
    let rows = rows.view([n, 1]) + range(height);
    let (column, mirrored) = (range(width), mirrored.view([n, 1]));
    // A mirrored image reads its columns from the right.
    let columns: Tensor = columns.view([n, 1]) + &column * (1 - &mirrored) + ((width - 1) - &column) * &mirrored;
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
