//! The VGG-like network on CIFAR-10 (SVGD paper, §5), with any of the paper's optimizers, side by side.
//!
//!     cargo run --release --bin vgg_cifar10 -- --paper --optimizer sgd,svgd --budget 0.1
//!
//! `--data digits` trains on the handwritten digits that the program carries.

use experiments::experiment::VGG_CIFAR10;
use std::process::ExitCode;
use training::cli;

fn main() -> ExitCode {
    cli::main(&VGG_CIFAR10, &cli::parse(&[&VGG_CIFAR10], "sgd,svgd"))
}
