//! TSO-ALRA's experiments: VGG and AlexNet, fitted to small images, on Fashion-MNIST, CIFAR-10, CIFAR-100 and SVHN, with SGD, Adam, AMSGrad,
//! and TSO-ALRA with and without its switch to SGD.
//!
//!     cargo run --release --example tso_alra -- --epochs 8 --seeds 0..3
//!
//! Debian's package dataset-fashion-mnist has the images. A tenth of the training images is for validation: it tells when to
//! switch. Without data and without a network it trains on the handwritten digits that it carries.

mod support;

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use std::process::ExitCode;
use support::experiment::*;
use support::models::small::{SmallAlexNet, SmallVgg};
use support::options::Options;

/// Train with SGD, Adam, TSO-ALRA and others on the same data, and compare.
#[derive(Parser, Debug)]
#[command(version)]
struct Arguments {
    /// The network.
    #[arg(long, default_value = "vgg")]
    model: ModelName,

    /// The images; --data says where they are.
    #[arg(long, default_value = "fashion-mnist")]
    data_set: DataSet,

    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModelName {
    Vgg,
    Alexnet,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DataSet {
    FashionMnist,
    Cifar10,
    /// By --data alone: the binary version.
    Cifar100,
    /// By --data alone: train_32x32.mat and test_32x32.mat.
    Svhn,
}

fn main() -> Result<ExitCode> {
    let command = Arguments::command()
        .mut_arg("optimizers", |argument| argument.default_value("sgd,adam,amsgrad,tso-alra,tso-alra-switch"));
    let Arguments { model, data_set, options } =
        Arguments::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    use {DataSet::*, ModelName::*};
    match (model, data_set) {
        (Vgg, FashionMnist) => support::run::<SmallVgg<1, 28>>(&TSO_VGG_FASHION, &options),
        (Vgg, Cifar10) => support::run::<SmallVgg<3, 32>>(&TSO_VGG_CIFAR10, &options),
        (Vgg, Cifar100) => support::run::<SmallVgg<3, 32>>(&TSO_VGG_CIFAR100, &options),
        (Vgg, Svhn) => support::run::<SmallVgg<3, 32>>(&TSO_VGG_SVHN, &options),
        (Alexnet, FashionMnist) => support::run::<SmallAlexNet<1, 28>>(&TSO_ALEXNET_FASHION, &options),
        (Alexnet, Cifar10) => support::run::<SmallAlexNet<3, 32>>(&TSO_ALEXNET_CIFAR10, &options),
        (Alexnet, Cifar100) => support::run::<SmallAlexNet<3, 32>>(&TSO_ALEXNET_CIFAR100, &options),
        (Alexnet, Svhn) => support::run::<SmallAlexNet<3, 32>>(&TSO_ALEXNET_SVHN, &options),
    }
}
