//! TSO-ALRA's experiments: VGG and AlexNet, fitted to small images, on Fashion-MNIST, CIFAR-10, CIFAR-100 and SVHN, with SGD, Adam, AMSGrad,
//! and TSO-ALRA with and without its switch to SGD.
//!
//!     cargo run --release --bin tso_alra -- --epochs 8 --seeds 0..3
//!
//! Debian's package dataset-fashion-mnist has the images. A tenth of the training images is for validation: it tells when to
//! switch. `--data digits` trains on the handwritten digits that the program carries.

use clap::{Parser, ValueEnum};
use experiments::experiment::*;
use std::process::ExitCode;
use training::cli::{self, options::Options};

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

fn main() -> ExitCode {
    let Arguments { model, data_set, options } = cli::parse(
        &[&TSO_VGG_FASHION, &TSO_ALEXNET_FASHION, &TSO_VGG_CIFAR10, &TSO_ALEXNET_CIFAR10],
        "sgd,adam,amsgrad,tso-alra,tso-alra-switch",
    );
    use {DataSet::*, ModelName::*};
    let experiment = match (model, data_set) {
        (Vgg, FashionMnist) => &TSO_VGG_FASHION,
        (Vgg, Cifar10) => &TSO_VGG_CIFAR10,
        (Vgg, Cifar100) => &TSO_VGG_CIFAR100,
        (Vgg, Svhn) => &TSO_VGG_SVHN,
        (Alexnet, FashionMnist) => &TSO_ALEXNET_FASHION,
        (Alexnet, Cifar10) => &TSO_ALEXNET_CIFAR10,
        (Alexnet, Cifar100) => &TSO_ALEXNET_CIFAR100,
        (Alexnet, Svhn) => &TSO_ALEXNET_SVHN,
    };
    cli::main(experiment, &options)
}
