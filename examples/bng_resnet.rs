//! Block-normalized gradients on residual networks (BNG paper, §4.2): ResNets of 20 to 110 layers on CIFAR-10, with momentum and
//! Adam as they are, on normalized gradients, and clipped.
//!
//!     cargo run --release --example bng_resnet -- --epochs 2 --optimizer momentum,momentum-ng-adap
//!
//! Without CIFAR-10 and without a network it trains on the handwritten digits that it carries.

mod support;

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use std::process::ExitCode;
use support::experiment::*;
use support::models::resnet20::ResNet;
use support::options::Options;

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

fn main() -> Result<ExitCode> {
    let command = Arguments::command().mut_arg("optimizers", |argument| {
        argument
            .default_value("momentum,momentum-ng,momentum-ng-adap,momentum-clip,adam,adam-ng,adam-ng-adap,adam-clip")
    });
    let Arguments { depth, options } =
        Arguments::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    match depth {
        Depth::Of20 => support::run::<ResNet<3, false>>(&BNG_RESNET_20, &options),
        Depth::Of32 => support::run::<ResNet<5, false>>(&BNG_RESNET_32, &options),
        Depth::Of44 => support::run::<ResNet<7, false>>(&BNG_RESNET_44, &options),
        Depth::Of56 => support::run::<ResNet<9, false>>(&BNG_RESNET_56, &options),
        Depth::Of110 => support::run::<ResNet<18, false>>(&BNG_RESNET_110, &options),
    }
}
