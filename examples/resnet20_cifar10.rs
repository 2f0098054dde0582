//! ResNet-20 on CIFAR-10 (SVGD paper, §5), with any of the paper's optimizers, side by side.
//!
//!     cargo run --release --example resnet20_cifar10 -- --optimizer sgd,svgd --epochs 2
//!
//! Without CIFAR-10 and without a network it trains on the handwritten digits that it carries.

mod support;

use anyhow::Result;
use clap::Parser;
use std::process::ExitCode;
use support::experiment::RESNET20_CIFAR10;
use support::models::resnet20::ResNet20;
use support::options::Options;

fn main() -> Result<ExitCode> {
    support::run::<ResNet20>(&RESNET20_CIFAR10, &Options::parse())
}
