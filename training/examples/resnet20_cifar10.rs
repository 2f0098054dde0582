//! ResNet-20 on CIFAR-10: the program of this name in `src/bin`, for those who look for it among the examples.
//!
//!     cargo run --release --example resnet20_cifar10 -- --optimizer sgd,svgd --epochs 2

use experiments::experiment::RESNET20_CIFAR10;
use std::process::ExitCode;
use training::cli;

fn main() -> ExitCode {
    cli::main(&RESNET20_CIFAR10, &cli::parse(&[&RESNET20_CIFAR10], "sgd,svgd"))
}
