//! ResNet-20 on CIFAR-10 (SVGD paper, §5), with any of the paper's optimizers, side by side.
//!
//!     cargo run --release --bin resnet20_cifar10 -- --optimizer sgd,svgd --epochs 2
//!
//! `--data digits` trains on the handwritten digits that the program carries.

use experiments::experiment::RESNET20_CIFAR10;
use std::process::ExitCode;
use training::cli;

fn main() -> ExitCode {
    cli::main(&RESNET20_CIFAR10, &cli::parse(&[&RESNET20_CIFAR10], "sgd,svgd"))
}
