//! Block-normalized gradients on deep perceptrons (BNG paper, §4.1): 6, 12 or 18 layers of sigmoids on MNIST, with momentum, Adam
//! and AdaGrad as they are and on normalized gradients.
//!
//!     cargo run --release --example bng_mlp -- --depth 18 --epochs 5 --seeds 0..3
//!
//! Without MNIST and without a network it trains on the handwritten digits that it carries.

mod support;

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use std::process::ExitCode;
use support::experiment::*;
use support::models::sigmoid_mlp::SigmoidMlp;
use support::options::Options;

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

fn main() -> Result<ExitCode> {
    let command = Arguments::command().mut_arg("optimizers", |argument| {
        argument.default_value("momentum,momentum-ng,adam,adam-ng,adagrad,adagrad-ng")
    });
    let Arguments { depth, init, options } =
        Arguments::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    use {Depth::*, Initialisation::*};
    match (depth, init) {
        (Six, Xavier) => support::run::<SigmoidMlp<6, true>>(&BNG_MLP_6, &options),
        (Twelve, Xavier) => support::run::<SigmoidMlp<12, true>>(&BNG_MLP_12, &options),
        (Eighteen, Xavier) => support::run::<SigmoidMlp<18, true>>(&BNG_MLP_18, &options),
        (Six, Torch) => support::run::<SigmoidMlp<6, false>>(&BNG_MLP_6_TORCH, &options),
        (Twelve, Torch) => support::run::<SigmoidMlp<12, false>>(&BNG_MLP_12_TORCH, &options),
        (Eighteen, Torch) => support::run::<SigmoidMlp<18, false>>(&BNG_MLP_18_TORCH, &options),
    }
}
