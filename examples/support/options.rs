//! The command line.

use anyhow::{Result, ensure};
use clap::{ArgGroup, Parser, ValueEnum};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use tch::{Cuda, Device};

/// Train with SGD, SVGD and others on the same data, and compare.
#[derive(Parser, Debug, Clone, Serialize)]
#[command(version, group(ArgGroup::new("length").args(["epochs", "steps", "paper"])))]
pub struct Options {
    /// Images: a folder with CIFAR-10's binary files, `digits` (embedded), or `auto`: CIFAR-10 below data/, downloaded
    /// if need be, and the digits when that fails.
    #[arg(long, value_name = "DIR|digits|auto", default_value = "auto")]
    pub data: DataSource,

    /// Optimizers, one run each.
    #[arg(long = "optimizer", value_delimiter = ',', default_value = "sgd,svgd")]
    pub optimizers: Vec<OptimizerKind>,

    /// Learning rate in the place of the paper's first-phase rates, for all optimizers.
    #[arg(long, value_parser = positive, allow_negative_numbers = true)]
    pub lr: Option<f64>,

    /// SVGD's scale of the virtual gradient.
    #[arg(long, default_value_t = 0.01, value_parser = non_negative, allow_negative_numbers = true)]
    pub scale: f64,

    /// Passes over the training images [default: 10].
    #[arg(long)]
    pub epochs: Option<NonZeroUsize>,

    /// Training steps.
    #[arg(long)]
    pub steps: Option<NonZeroUsize>,

    /// The paper's schedule: 50,000 steps, lower rates from 32,000 and 42,000.
    #[arg(long)]
    pub paper: bool,

    /// Images per step.
    #[arg(long, default_value = "128")]
    pub batch_size: NonZeroUsize,

    /// Steps between evaluations on the test images [default: an epoch]; the last step always has one.
    #[arg(long)]
    pub eval_every: Option<NonZeroUsize>,

    /// Of the initial weights, the order of the images and their augmentation.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Where to compute: `auto` is the first GPU that libtorch sees, else the CPU.
    #[arg(long, value_name = "auto|cpu|cuda[:N]", default_value = "auto")]
    pub device: DeviceChoice,

    /// CPU threads [default: libtorch's choice].
    #[arg(long)]
    pub threads: Option<NonZeroUsize>,

    /// Folder for OPTIMIZER.csv, summary.json and curves.svg.
    #[arg(long, value_name = "DIR", default_value = "runs/resnet20_cifar10")]
    pub out: PathBuf,
}

impl Options {
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

/// The optimizers: tch's own, and SVGD, which is tch's SGD on hatted layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent.
    Sgd,
    /// SGD with momentum 0.9 (no rates of the paper: those of He et al. 2016).
    Momentum,
    /// RMSProp with decay 0.9.
    Rmsprop,
    /// Adam.
    Adam,
    /// SGD on virtual gradients.
    Svgd,
}

impl OptimizerKind {
    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::Momentum => "momentum",
            Self::Rmsprop => "rmsprop",
            Self::Adam => "adam",
            Self::Svgd => "svgd",
        }
    }
}

/// Where the images come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataSource {
    /// CIFAR-10 where it is or can be had, else the digits.
    Auto,
    /// The embedded digits.
    Digits,
    /// CIFAR-10's binary files in this folder.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
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

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("expected a finite number > 0".to_owned()),
    }
}

fn non_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("expected a finite number >= 0".to_owned()),
    }
}
