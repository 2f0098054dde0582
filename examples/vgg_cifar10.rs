//! The VGG-like network on CIFAR-10 (SVGD paper, §5), with any of the paper's optimizers, side by side.
//!
//!     cargo run --release --example vgg_cifar10 -- --paper --optimizer sgd,svgd --budget 0.1
//!
//! Without CIFAR-10 and without a network it trains on the handwritten digits that it carries.

mod support;

use anyhow::Result;
use clap::Parser;
use std::process::ExitCode;
use support::experiment::VGG_CIFAR10;
use support::models::vgg::Vgg;
use support::options::Options;

fn main() -> Result<ExitCode> {
    support::run::<Vgg>(&VGG_CIFAR10, &Options::parse())
}
