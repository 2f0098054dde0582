//! Block-normalized gradients on deep perceptrons (BNG paper, §4.1): 6, 12 or 18 layers of sigmoids on MNIST, with momentum, Adam
//! and AdaGrad as they are and on normalized gradients.
//!
//!     cargo run --release --bin bng_mlp -- --depth 18 --epochs 5 --seeds 0..3
//!
//! `--data digits` trains on the handwritten digits that the program carries.

use clap::{Parser, ValueEnum};
use experiments::experiment::*;
use std::process::ExitCode;
use training::cli::{self, options::Options};

/// Train with each rule on plain gradients and on normalized ones, and compare.
#[derive(Parser, Debug)]
#[command(version)]
struct Arguments {
    /// The hidden layers.
    #[arg(long, default_value = "18")]
    depth: Depth,

    /// How the weights begin.
    #[arg(long, default_value = "xavier")]
    init: Initialisation,

    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Depth {
    #[value(name = "6")]
    Six,
    #[value(name = "12")]
    Twelve,
    #[value(name = "18")]
    Eighteen,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Initialisation {
    /// Uniform, with a variance of 2 / (in + out); biases of zero.
    Xavier,
    /// PyTorch's own: uniform, weights and biases within 1 / √in.
    Torch,
}

fn main() -> ExitCode {
    let Arguments { depth, init, options } =
        cli::parse(&[&BNG_MLP_6, &BNG_MLP_12, &BNG_MLP_18], "momentum,momentum-ng,adam,adam-ng,adagrad,adagrad-ng");
    use {Depth::*, Initialisation::*};
    let experiment = match (depth, init) {
        (Six, Xavier) => &BNG_MLP_6,
        (Twelve, Xavier) => &BNG_MLP_12,
        (Eighteen, Xavier) => &BNG_MLP_18,
        (Six, Torch) => &BNG_MLP_6_TORCH,
        (Twelve, Torch) => &BNG_MLP_12_TORCH,
        (Eighteen, Torch) => &BNG_MLP_18_TORCH,
    };
    cli::main(experiment, &options)
}
