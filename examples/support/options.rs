//! The command line of the training programs.

use super::experiment::Experiment;
use super::optimizer::OptimizerKind;
use anyhow::{Result, ensure};
use clap::{ArgGroup, Parser};
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use tch::{Cuda, Device};

/// Train with SGD, SVGD and others on the same data, and compare.
#[derive(Parser, Debug, Clone)]
#[command(version, group(ArgGroup::new("length").args(["epochs", "steps", "paper"])))]
pub struct Options {
    /// A folder with the files of the data set (MNIST, Fashion-MNIST, the binary versions of CIFAR, SVHN, those of
    /// scripts/texts), `digits` (embedded images), or `auto`: the data set below data/, downloaded if need be, and the
    /// digits in the place of other images when that fails.
    #[arg(long, value_name = "DIR|digits|auto", default_value = "auto")]
    pub data: DataSource,

    /// Optimizers, a run each.
    #[arg(long = "optimizer", value_delimiter = ',', default_value = "sgd,svgd")]
    pub optimizers: Vec<OptimizerKind>,

    /// Seeds, a run each for every optimizer: of the initial weights, the order of the samples, their augmentation, and
    /// dropout.
    #[arg(long, value_name = "N|N,N…|FROM..END", visible_alias = "seed", default_value = "0")]
    pub seeds: Seeds,

    /// Learning rate in the place of the paper's first-phase rates, for all optimizers; later ones keep their proportion.
    #[arg(long, value_parser = positive, allow_negative_numbers = true)]
    pub lr: Option<f64>,

    /// SVGD's scale of the virtual gradient [default: the paper's].
    #[arg(long, value_parser = non_negative, allow_negative_numbers = true)]
    pub scale: Option<f64>,

    /// Passes over the training samples [default: 10].
    #[arg(long)]
    pub epochs: Option<NonZeroU32>,

    /// Training steps.
    #[arg(long)]
    pub steps: Option<NonZeroUsize>,

    /// The paper's schedule: its number of steps, with lower rates from two of them on.
    #[arg(long)]
    pub paper: bool,

    /// The part of the paper's schedule to run: all step counts are multiplied by it, those between evaluations too.
    #[arg(long, value_name = "(0, 1]", requires = "paper", default_value_t = 1.0, value_parser = fraction, allow_negative_numbers = true)]
    pub budget: f64,

    /// Samples per step [default: the paper's].
    #[arg(long)]
    pub batch_size: Option<NonZeroUsize>,

    /// Steps between evaluations on the test samples [default: an epoch, or the authors' with --paper]; the last step
    /// always has one.
    #[arg(long)]
    pub eval_every: Option<NonZeroUsize>,

    /// Steps between checkpoints; the last step always has one, and so has an interrupted one. The last two are kept.
    #[arg(long, default_value = "1000")]
    pub checkpoint_every: NonZeroUsize,

    /// Go on from the checkpoints in the output folder: finished runs are left alone, others go on where they were.
    #[arg(long)]
    pub resume: bool,

    /// Begin anew where the output folder holds the same runs.
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,

    /// Where to compute: `auto` is the first GPU that libtorch sees, else the CPU.
    #[arg(long, value_name = "auto|cpu|cuda[:N]", default_value = "auto")]
    pub device: DeviceChoice,

    /// CPU threads [default: libtorch's choice].
    #[arg(long)]
    pub threads: Option<NonZeroU16>,

    /// Forward passes under autocast to bfloat16.
    #[arg(long)]
    pub amp: bool,

    /// The factor of the loss in the backward pass. Gradients are divided by it again, and the methods' statistics
    /// are those of the true gradients.
    #[arg(long, default_value_t = 1.0, value_parser = positive, allow_negative_numbers = true)]
    pub loss_scale: f64,

    /// Capture the step as a CUDA graph once and replay it.
    #[arg(long)]
    pub cuda_graph: bool,

    /// Folder for the runs, each in OPTIMIZER-seedN, and for the report on them [default: runs/PROGRAM].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl Options {
    /// Checks what the parsers of single options cannot see.
    pub fn validate(&self, experiment: &Experiment) -> Result<()> {
        for (index, optimizer) in self.optimizers.iter().enumerate() {
            ensure!(
                !self.optimizers[..index].contains(optimizer),
                "--optimizer: expected each once, got {} twice; give it once, and several --seeds for several runs",
                optimizer.name()
            );
            ensure!(
                !optimizer.switches() || experiment.validation > 0.0,
                "--optimizer {}: expected an experiment with validation images, which tell when to switch, got {}; take \
                 tso-alra, or the program tso_alra",
                optimizer.name(),
                experiment.name
            );
            ensure!(
                !optimizer.is_tso_alra() || !self.cuda_graph,
                "--cuda-graph: expected optimizers whose steps are all alike, got {}, which updates its second moments in \
                 some of them; leave the option away",
                optimizer.name()
            );
        }
        Ok(())
    }

    /// The device that was asked for, if it is there.
    pub fn device(&self) -> Result<Device> {
        match self.device {
            DeviceChoice::Auto => Ok(Device::cuda_if_available()),
            DeviceChoice::Cpu => Ok(Device::Cpu),
            DeviceChoice::Cuda(index) => {
                let devices = if Cuda::is_available() { Cuda::device_count() } else { 0 };
                ensure!(
                    (index as i64) < devices,
                    "--device cuda:{index}: libtorch sees {devices} CUDA devices; use --device cpu, or link a CUDA \
                     libtorch on a machine with a driver"
                );
                Ok(Device::Cuda(index))
            }
        }
    }
}

/// Seeds in the order in which they are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeds(pub Vec<u64>);

const MOST_SEEDS: u64 = 10_000;

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.trim().parse::<u64>().map_err(|_| format!("expected numbers such as 0, 0,3 or 0..5, got '{text}'"))
        };
        let seeds: Vec<u64> = match text.split_once("..") {
            Some((from, end)) => {
                let range = number(from)?..number(end)?;
                if range.end.saturating_sub(range.start) > MOST_SEEDS {
                    return Err(format!("expected at most {MOST_SEEDS} seeds, got '{text}'"));
                }
                range.collect()
            }
            None => text.split(',').map(number).collect::<Result<_, _>>()?,
        };
        let mut sorted = seeds.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if seeds.is_empty() || sorted.len() < seeds.len() {
            return Err(format!("expected at least one seed and each once, got '{text}'"));
        }
        Ok(Self(seeds))
    }
}

/// Where the data come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSource {
    /// The experiment's own data set where it is or can be had, else the digits.
    Auto,
    /// The embedded digits.
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

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU if there is one.
    Auto,
    /// The CPU.
    Cpu,
    /// This GPU.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':').unwrap_or((text, "0")) {
            ("auto", "0") if text == "auto" => Ok(Self::Auto),
            ("cpu", "0") if text == "cpu" => Ok(Self::Cpu),
            ("cuda", index) => index.parse().map(Self::Cuda).map_err(|_| format!("'{index}' is no GPU's number")),
            _ => Err("expected auto, cpu, cuda or cuda:N".to_owned()),
        }
    }
}

/// A parser of numbers that fulfil a condition.
fn number(text: &str, valid: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|&value: &f64| value.is_finite() && valid(value))
        .ok_or_else(|| format!("expected {expected}"))
}

fn positive(text: &str) -> Result<f64, String> {
    // Weights and rates are Float on the device.
    number(text, |value| value > 0.0 && (value as f32).is_finite(), "a finite number > 0")
}

fn non_negative(text: &str) -> Result<f64, String> {
    number(text, |value| value >= 0.0, "a finite number >= 0")
}

fn fraction(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0 && value <= 1.0, "a number in (0, 1]")
}
