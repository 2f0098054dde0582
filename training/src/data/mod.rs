//! Data sets for classification, in memory: images as bytes, texts as numbers of words. Where they come from and what is in them.

pub mod batches;
mod cifar;
pub mod digits;
mod download;
pub mod identity;
mod idx;
pub mod images;
pub mod king_james;
pub mod sentences;
mod svhn;
pub mod text;

use anyhow::{Context, Result, bail, ensure};
use experiments::benchmark::Benchmark;
use std::path::{Path, PathBuf};
use std::str::FromStr;
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

    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
    /// That of its digest, where somebody knows it.
    pub name: String,
    /// See [`identity::digest`].
    pub digest: String,
    /// Where it was read; none where it is embedded.
    pub folder: Option<PathBuf>,
    pub classes: i64,
    /// Their names, where they are those of folders.
    pub class_names: Vec<String>,
    pub inputs: Inputs,
    pub train: Split,
    /// Training samples that are not trained on, where some were [held out](Self::hold_out).
    pub validation: Option<Split>,
    pub test: Split,
}

/// Where the data come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSource {
    /// The experiment's own data set, below data/ or from the network.
    Auto,
    /// The embedded digits, which stand for images of any kind.
    Digits,
    /// The data set's files in this folder.
    Folder(PathBuf),
}

impl FromStr for DataSource {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "digits" => Self::Digits,
            folder => Self::Folder(folder.into()),
        })
    }
}

/// Loads what the options ask for, and tells which data these are.
///
/// # Errors
/// If they are not there, not whole, or not to be had: nothing stands for them.
pub fn load(source: &DataSource, benchmark: Benchmark) -> Result<Dataset> {
    let folder = match source {
        DataSource::Digits => return digits::load(benchmark),
        DataSource::Folder(folder) => place(benchmark, folder),
        DataSource::Auto => {
            let folder = Path::new("data").join(benchmark.folder());
            match installed(benchmark) {
                Some(installed) if !folder.exists() => installed.to_owned(),
                _ => {
                    if !folder.exists() {
                        download(benchmark, &folder).with_context(|| format!("{}: is not there", folder.display()))?;
                    }
                    folder
                }
            }
        }
    };
    let mut data = read(benchmark, &folder).with_context(|| match source {
        DataSource::Auto => format!("{}: is there, and not whole: complete it, or remove it", folder.display()),
        _ => format!("--data {}", folder.display()),
    })?;
    data.digest = identity::digest(&data.train, &data.test)?;
    data.name = identity::name(&data.digest, &folder, &data.name);
    // As seen from anywhere.
    data.folder = Some(folder.canonicalize().unwrap_or(folder));
    Ok(data)
}

/// The folder of a data set in one that the user names: that itself, or the data set's own in it, as programs keep them.
fn place(benchmark: Benchmark, folder: &Path) -> PathBuf {
    let torchvision = match benchmark {
        Benchmark::Mnist => "MNIST/raw",
        Benchmark::FashionMnist => "FashionMNIST/raw",
        _ => benchmark.folder(),
    };
    let below = [benchmark.folder(), torchvision].map(|name| folder.join(name));
    below.into_iter().find(|folder| folder.is_dir()).unwrap_or_else(|| folder.to_owned())
}

/// Reads the files in `folder`.
fn read(benchmark: Benchmark, folder: &Path) -> Result<Dataset> {
    if images::is_one(folder) {
        return images::read(folder, benchmark);
    }
    match benchmark {
        Benchmark::Mnist => idx::MNIST.read(folder),
        Benchmark::FashionMnist => idx::FASHION_MNIST.read(folder),
        Benchmark::Cifar10 => cifar::CIFAR10.read(folder),
        Benchmark::Cifar100 => cifar::CIFAR100.read(folder),
        Benchmark::Svhn => svhn::read(folder),
        Benchmark::KingJames => king_james::read(folder),
        Benchmark::Sentences => sentences::read(folder),
    }
}

/// The most bytes that a compressed file is unpacked to: no data set of these has more in one.
const MOST_UNPACKED: u64 = 1 << 29;

/// The folder where a package of the system has it.
fn installed(benchmark: Benchmark) -> Option<&'static Path> {
    match benchmark {
        Benchmark::FashionMnist => idx::FASHION_MNIST.installed(),
        _ => None,
    }
}

/// Makes the folder, with all of the data set in it.
fn download(benchmark: Benchmark, folder: &Path) -> Result<()> {
    match benchmark {
        Benchmark::Mnist => idx::MNIST.download(folder),
        Benchmark::FashionMnist => idx::FASHION_MNIST.download(folder),
        Benchmark::Cifar10 => cifar::CIFAR10.download(folder),
        Benchmark::Cifar100 => cifar::CIFAR100.download(folder),
        Benchmark::Svhn => bail!("give the folder of train_32x32.mat and test_32x32.mat with --data"),
        Benchmark::KingJames | Benchmark::Sentences => {
            bail!("run scripts/texts, or give the folder of its text with --data")
        }
    }
}

/// The most classes that anybody looks at one by one.
pub const MOST_NAMED: i64 = 1_000;

impl Dataset {
    /// One that nobody has looked at yet.
    pub fn new(format: &str, classes: i64, inputs: Inputs, train: Split, test: Split) -> Dataset {
        let (name, digest) = (format.to_owned(), String::new());
        let class_names = Vec::new();
        Dataset { name, digest, folder: None, classes, class_names, inputs, train, validation: None, test }
    }

    pub fn describe(&self) -> String {
        let held_out = self.validation.as_ref().map(|split| format!(", {} for validation", split.len()));
        let (held_out, samples) = (held_out.unwrap_or_default(), self.inputs.samples());
        format!("{}: {} training {samples}{held_out}, {} test {samples}", self.name, self.train.len(), self.test.len())
    }

    /// The name of a class: of its folder, or that of the data set, where these are it.
    pub fn class_name(&self, benchmark: Benchmark, class: i64) -> String {
        if let Some(name) = self.class_names.get(class as usize) {
            return name.clone();
        }
        match self.name.starts_with(benchmark.name()) {
            true => benchmark.class_name(class),
            false => class.to_string(),
        }
    }

    /// The names of all classes, where these are few enough to be looked at.
    pub fn class_names(&self, benchmark: Benchmark) -> Vec<String> {
        let few = if self.classes <= MOST_NAMED { self.classes } else { 0 };
        (0..few).map(|class| self.class_name(benchmark, class)).collect()
    }

    pub fn to_device(self, device: Device) -> Dataset {
        let validation = self.validation.as_ref().map(|split| split.to_device(device));
        Dataset { train: self.train.to_device(device), validation, test: self.test.to_device(device), ..self }
    }

    /// Keeps the last of the training samples, this share of them, for validation.
    ///
    /// # Errors
    /// If that is none of them, or all.
    pub fn hold_out(mut self, share: f64) -> Result<Dataset> {
        if share == 0.0 {
            return Ok(self);
        }
        let n = self.train.len() as i64;
        let held = (n as f64 * share).round() as i64;
        ensure!(
            (1..n).contains(&held),
            "--validation {share}: expected a share that is some of the {n} training {}, got {held} of them",
            self.inputs.samples()
        );
        let part = |from, length| Split {
            inputs: self.train.inputs.narrow(0, from, length),
            labels: self.train.labels.narrow(0, from, length),
        };
        (self.train, self.validation) = (part(0, n - held), Some(part(n - held, held)));
        Ok(self)
    }
}
