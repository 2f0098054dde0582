//! ResNet-20 on CIFAR-10 (SVGD paper, §5.3), with any of the paper's optimizers, side by side.
//!
//!     cargo run --release --example resnet20_cifar10 -- --optimizer sgd,svgd --epochs 2
//!
//! Without CIFAR-10 and without a network it trains on the handwritten digits that it carries.

mod support;

use anyhow::Result;
use clap::Parser;
use std::process::ExitCode;
use support::options::Options;
use support::resnet::ResNet20;

fn main() -> Result<ExitCode> {
    support::run::<ResNet20>(&Options::parse())
}
