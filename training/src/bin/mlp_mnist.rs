//! The MLP on MNIST (SVGD paper, §5), with any of the paper's optimizers, side by side.
//!
//!     cargo run --release --bin mlp_mnist -- --paper --optimizer sgd,svgd --seeds 0..5
//!
//! `--data digits` trains on the handwritten digits that the program carries.

use experiments::experiment::MLP_MNIST;
use std::process::ExitCode;
use training::cli;

fn main() -> ExitCode {
    cli::main(&MLP_MNIST, &cli::parse(&[&MLP_MNIST], "sgd,svgd"))
}
