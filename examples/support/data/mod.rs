//! Data sets for classification, in memory: images as bytes, texts as numbers of words. Where they come from and what is in them.

pub mod batches;
mod cifar;
pub mod digits;
mod download;
mod idx;
pub mod king_james;
pub mod sentences;
mod svhn;
pub mod text;

use super::options::DataSource;
use anyhow::{Result, bail};
use download::Unavailable;
use std::path::Path;
use tch::{Device, Tensor};

/// Samples, as [`Inputs`] says, and their labels as Int64: one each, `[n]`, or one for each of its words, `[n, length]`.
#[derive(Debug)]
pub struct Split {
    pub inputs: Tensor,
    pub labels: Tensor,
}

impl Split {
    pub fn len(&self) -> usize {
        self.labels.size()[0] as usize
    }

    fn to_device(&self, device: Device) -> Split {
        Split { inputs: self.inputs.to_device(device), labels: self.labels.to_device(device) }
    }
}

/// What may be done to a training image that leaves its class as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Augmentation {
    /// Zero-padding by two pixels and a random crop to the old size.
    pub crops: bool,
    /// Mirroring half of the images.
    pub flips: bool,
}

/// What the samples of a data set are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inputs {
    /// Images `[n, channels, side, side]` as Uint8.
    Images(Augmentation),
    /// Numbers of words `[n, length]` as Int64, and what a sample is called.
    Words(&'static str),
}

impl Inputs {
    /// Samples as a model gets them: images whitened, words as they are.
    pub fn present(self, samples: &Tensor) -> Tensor {
        match self {
            Inputs::Images(_) => batches::whiten(samples),
            Inputs::Words(_) => samples.shallow_clone(),
        }
    }

    /// What its samples are called.
    pub fn samples(self) -> &'static str {
        match self {
            Inputs::Images(_) => "images",
            Inputs::Words(samples) => samples,
        }
    }
}

/// A data set for classification.
#[derive(Debug)]
pub struct Dataset {
    pub name: &'static str,
    pub classes: i64,
    pub inputs: Inputs,
    pub train: Split,
    /// Training samples that are not trained on, where some were [held out](Self::hold_out).
    pub validation: Option<Split>,
    pub test: Split,
}

/// The data sets of the paper's experiments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Benchmark {
    /// 28x28 images in grey, as they are.
    Mnist,
    /// As MNIST, of clothes, cropped and mirrored.
    FashionMnist,
    /// 32x32 images in colour, cropped and mirrored.
    Cifar10,
    /// The same of a hundred classes.
    Cifar100,
    /// 32x32 house numbers in colour, cropped.
    Svhn,
    /// The words of the King James Bible, each to be told from those before it.
    KingJames,
    /// Sentences of film reviews, for or against.
    Sentences,
}

impl Benchmark {
    /// Its name, as a `Dataset` has it.
    pub fn name(self) -> &'static str {
        match self {
            Benchmark::Mnist => idx::MNIST.name,
            Benchmark::FashionMnist => idx::FASHION_MNIST.name,
            Benchmark::Cifar10 => cifar::CIFAR10.name,
            Benchmark::Cifar100 => cifar::CIFAR100.name,
            Benchmark::Svhn => svhn::NAME,
            Benchmark::KingJames => king_james::NAME,
            Benchmark::Sentences => sentences::NAME,
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Benchmark::Mnist => idx::MNIST.folder,
            Benchmark::FashionMnist => idx::FASHION_MNIST.folder,
            Benchmark::Cifar10 => cifar::CIFAR10.folder,
            Benchmark::Cifar100 => cifar::CIFAR100.folder,
            Benchmark::Svhn => svhn::FOLDER,
            Benchmark::KingJames => king_james::FOLDER,
            Benchmark::Sentences => sentences::FOLDER,
        }
    }

    /// Reads the files in `folder`, or in its folder of the data set's own name.
    fn read(self, folder: &Path) -> Result<Dataset> {
        let below = folder.join(self.folder());
        let folder = if below.is_dir() { &below } else { folder };
        match self {
            Benchmark::Mnist => idx::MNIST.read(folder),
            Benchmark::FashionMnist => idx::FASHION_MNIST.read(folder),
            Benchmark::Cifar10 => cifar::CIFAR10.read(folder),
            Benchmark::Cifar100 => cifar::CIFAR100.read(folder),
            Benchmark::Svhn => svhn::read(folder),
            Benchmark::KingJames => king_james::read(folder),
            Benchmark::Sentences => sentences::read(folder),
        }
    }

    /// The folder where a package of the system has it.
    fn installed(self) -> Option<&'static Path> {
        match self {
            Benchmark::FashionMnist => idx::FASHION_MNIST.installed(),
            _ => None,
        }
    }

    fn download(self, folder: &Path) -> Result<Result<(), Unavailable>> {
        match self {
            Benchmark::Mnist => idx::MNIST.download(folder),
            Benchmark::FashionMnist => idx::FASHION_MNIST.download(folder),
            Benchmark::Cifar10 => cifar::CIFAR10.download(folder),
            Benchmark::Cifar100 => cifar::CIFAR100.download(folder),
            Benchmark::Svhn => Ok(Err(Unavailable("give its folder with --data".to_owned()))),
            // The digits are no text to stand for it.
            Benchmark::KingJames | Benchmark::Sentences => bail!(
                "{}: expected its text in {}; run scripts/texts, or give its folder with --data",
                self.name(),
                folder.display()
            ),
        }
    }
}

/// Loads what the options ask for. `auto` ends with the digits when the data set is neither here nor to be had.
pub fn load(source: &DataSource, benchmark: Benchmark) -> Result<Dataset> {
    match source {
        DataSource::Digits => digits::load(benchmark),
        DataSource::Folder(folder) => benchmark.read(folder),
        DataSource::Auto => {
            let folder = Path::new("data").join(benchmark.folder());
            if !folder.is_dir()
                && let Some(installed) = benchmark.installed()
            {
                return benchmark.read(installed);
            }
            if !folder.is_dir()
                && let Err(Unavailable(reason)) = benchmark.download(&folder)?
            {
                println!(
                    "{} is not in {} and cannot be downloaded ({reason}): using the digits",
                    benchmark.name(),
                    folder.display()
                );
                return digits::load(benchmark);
            }
            benchmark.read(&folder)
        }
    }
}

impl Dataset {
    pub fn describe(&self) -> String {
        let held_out = self.validation.as_ref().map(|split| format!(", {} for validation", split.len()));
        let (held_out, samples) = (held_out.unwrap_or_default(), self.inputs.samples());
        format!("{}: {} training {samples}{held_out}, {} test {samples}", self.name, self.train.len(), self.test.len())
    }

    pub fn to_device(&self, device: Device) -> Dataset {
        let validation = self.validation.as_ref().map(|split| split.to_device(device));
        Dataset { train: self.train.to_device(device), validation, test: self.test.to_device(device), ..*self }
    }

    /// Keeps the last of the training samples, this share of them, for validation.
    pub fn hold_out(mut self, share: f64) -> Dataset {
        let n = self.train.len() as i64;
        let kept = n - (n as f64 * share).round() as i64;
        if kept < n {
            let part = |from, length| Split {
                inputs: self.train.inputs.narrow(0, from, length),
                labels: self.train.labels.narrow(0, from, length),
            };
            (self.train, self.validation) = (part(0, kept), Some(part(kept, n - kept)));
        }
        self
    }
}
