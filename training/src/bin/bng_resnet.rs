//! Block-normalized gradients on residual networks (BNG paper, §4.2): ResNets of 20 to 110 layers on CIFAR-10, with momentum and
//! Adam as they are, on normalized gradients, and clipped.
//!
//!     cargo run --release --bin bng_resnet -- --epochs 2 --optimizer momentum,momentum-ng-adap
//!
//! `--data digits` trains on the handwritten digits that the program carries.

use clap::{Parser, ValueEnum};
use experiments::experiment::*;
use std::process::ExitCode;
use training::cli::{self, options::Options};

/// Train with plain, normalized and clipped gradients, and compare.
#[derive(Parser, Debug)]
#[command(version)]
struct Arguments {
    /// The layers.
    #[arg(long, default_value = "20")]
    depth: Depth,

    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Depth {
    #[value(name = "20")]
    Of20,
    #[value(name = "32")]
    Of32,
    #[value(name = "44")]
    Of44,
    #[value(name = "56")]
    Of56,
    #[value(name = "110")]
    Of110,
}

fn main() -> ExitCode {
    let Arguments { depth, options } = cli::parse(
        &[&BNG_RESNET_20],
        "momentum,momentum-ng,momentum-ng-adap,momentum-clip,adam,adam-ng,adam-ng-adap,adam-clip",
    );
    let experiment = match depth {
        Depth::Of20 => &BNG_RESNET_20,
        Depth::Of32 => &BNG_RESNET_32,
        Depth::Of44 => &BNG_RESNET_44,
        Depth::Of56 => &BNG_RESNET_56,
        Depth::Of110 => &BNG_RESNET_110,
    };
    cli::main(experiment, &options)
}
