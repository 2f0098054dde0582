//! The MLP on MNIST (SVGD paper, §5), with any of the paper's optimizers, side by side.
//!
//!     cargo run --release --example mlp_mnist -- --paper --optimizer sgd,svgd --seeds 0..5
//!
//! Without MNIST and without a network it trains on the handwritten digits that it carries.

mod support;

use anyhow::Result;
use clap::Parser;
use std::process::ExitCode;
use support::experiment::MLP_MNIST;
use support::models::mlp::Mlp;
use support::options::Options;

fn main() -> Result<ExitCode> {
    support::run::<Mlp>(&MLP_MNIST, &Options::parse())
}
