//! The papers' experiments: their tables of rates, schedules and test errors, in one place. SVGD's three, TSO-ALRA's, and BNG's.

use crate::benchmark::Benchmark;
use crate::optimizer::OptimizerKind;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// By what batch norm normalizes in tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNorm {
    /// The moving means of training: what is usual.
    Running,
    /// The statistics of the test batch: SVGD's authors'.
    Batch,
}

/// One experiment of a paper: everything but the model itself.
#[derive(Debug)]
pub struct Experiment {
    /// The name of the program, of the figure, and of the default folder.
    pub name: &'static str,
    /// What it trains on.
    pub benchmark: Benchmark,
    /// The share of the training images that validation holds out.
    pub validation: f64,
    /// The steps of the whole schedule.
    pub steps: usize,
    /// The steps after which the rate falls; all of them where it does not.
    pub decay_at: [usize; 2],
    /// Samples per step.
    pub batch_size: usize,
    /// The most test samples in a batch, whose statistics batch norm uses.
    pub test_batch: usize,
    /// The statistics of batch norm in the paper's tests.
    pub batch_norm: BatchNorm,
    /// The factor of the penalty on the absolute values of kernels, dense weights and biases.
    pub l1: f64,
    /// The factor of the squares' penalty, on all weights.
    pub weight_decay: f64,
    /// Whether Adam's and RMSProp's ε is inside of the root, as the SVGD paper has it (§5).
    pub eps_inside_root: bool,
    /// SVGD's scale of the virtual gradient.
    pub scale: f64,
    /// The steps between two of the authors' evaluations.
    pub eval_every: usize,
    /// The rates of the paper, one for each phase.
    pub rates: Rates,
    /// Test errors in per cent whose first crossing the report tells.
    pub error_levels: &'static [f64],
    /// The test errors of the paper's table in per cent, where it has one.
    pub paper_errors: Option<PaperErrors>,
    /// What the file names of the authors' curves begin with, where they published some.
    pub log_prefix: Option<&'static str>,
    /// What a 1 in the accuracies of these files is in per cent: some have shares.
    pub log_accuracy_unit: f64,
}

/// The learning rates before, between and after the two decays: the paper's for SGD, RMSProp, Adam and SVGD.
#[derive(Debug)]
pub struct Rates {
    pub sgd: [f64; 3],
    pub momentum: [f64; 3],
    pub rmsprop: [f64; 3],
    pub adam: [f64; 3],
    pub svgd: [f64; 3],
    pub svgd_per_example: [f64; 3],
    pub adagrad: [f64; 3],
}

/// The test errors of the paper's table in per cent.
#[derive(Debug)]
pub struct PaperErrors {
    pub sgd: f64,
    pub rmsprop: f64,
    pub adam: f64,
    pub svgd: f64,
}

/// MNIST, the MLP.
pub const MLP_MNIST: Experiment = Experiment {
    name: "mlp_mnist",
    benchmark: Benchmark::Mnist,
    validation: 0.0,
    steps: 6_000,
    decay_at: [1_600, 3_600],
    batch_size: 32,
    // The whole test set: so the authors' curve is met from beginning to end (see docs/results.md).
    test_batch: 10_000,
    batch_norm: BatchNorm::Batch,
    l1: 1e-4,
    weight_decay: 0.0,
    eps_inside_root: true,
    scale: 0.1,
    eval_every: 100,
    rates: Rates {
        sgd: [0.1, 0.05, 0.01],
        // Not the paper's: a tenth of SGD's, whose steps momentum 0.9 makes ten times longer.
        momentum: [0.01, 0.005, 0.001],
        rmsprop: [1e-3, 5e-4, 5e-5],
        adam: [1e-3, 5e-5, 5e-5],
        svgd: [0.01, 0.005, 0.001],
        // Not the paper's: ten times SVGD's, whose second moments are of smaller gradients.
        svgd_per_example: [0.1, 0.05, 0.01],
        // Not tried.
        adagrad: [0.01, 0.001, 0.0001],
    },
    error_levels: &[10.0, 5.0, 3.0, 2.0],
    paper_errors: Some(PaperErrors { sgd: 1.76, rmsprop: 1.80, adam: 1.94, svgd: 1.60 }),
    log_prefix: Some("mlp"),
    log_accuracy_unit: 100.0,
};

/// CIFAR-10, the VGG-like network.
pub const VGG_CIFAR10: Experiment = Experiment {
    name: "vgg_cifar10",
    benchmark: Benchmark::Cifar10,
    validation: 0.0,
    steps: 35_000,
    decay_at: [12_000, 24_000],
    batch_size: 128,
    test_batch: 1_000,
    batch_norm: BatchNorm::Batch,
    l1: 1e-5,
    weight_decay: 0.0,
    eps_inside_root: true,
    scale: 0.001,
    eval_every: 1_000,
    rates: Rates {
        sgd: [2.0, 0.5, 0.005],
        // Not the paper's: a tenth of SGD's, as above.
        momentum: [0.2, 0.05, 0.0005],
        rmsprop: [0.02, 0.01, 0.002],
        adam: [0.02, 0.01, 0.005],
        svgd: [2.0, 0.5, 0.005],
        svgd_per_example: [2.0, 0.5, 0.005],
        // Not tried.
        adagrad: [0.01, 0.001, 0.0001],
    },
    error_levels: &[50.0, 40.0, 30.0, 20.0],
    paper_errors: Some(PaperErrors { sgd: 17.32, rmsprop: 17.78, adam: 18.02, svgd: 17.07 }),
    log_prefix: Some("vgg"),
    log_accuracy_unit: 1.0,
};

/// CIFAR-10, ResNet-20.
pub const RESNET20_CIFAR10: Experiment = Experiment {
    name: "resnet20_cifar10",
    benchmark: Benchmark::Cifar10,
    validation: 0.0,
    steps: 50_000,
    decay_at: [32_000, 42_000],
    batch_size: 128,
    test_batch: 1_000,
    batch_norm: BatchNorm::Batch,
    l1: 1e-4,
    weight_decay: 0.0,
    eps_inside_root: true,
    scale: 0.01,
    eval_every: 1_000,
    rates: Rates {
        sgd: [0.1, 0.01, 0.001],
        // Not the paper's: those of He et al. 2016.
        momentum: [0.1, 0.01, 0.001],
        rmsprop: [1e-3, 1e-4, 1e-4],
        adam: [1e-3, 1e-4, 5e-5],
        svgd: [0.5, 0.02, 0.01],
        svgd_per_example: [0.5, 0.02, 0.01],
        // Not tried.
        adagrad: [0.01, 0.001, 0.0001],
    },
    error_levels: &[50.0, 40.0, 30.0, 20.0, 10.0],
    paper_errors: Some(PaperErrors { sgd: 10.69, rmsprop: 11.18, adam: 11.12, svgd: 8.62 }),
    log_prefix: Some("resnet"),
    log_accuracy_unit: 1.0,
};

/// A rate, and a tenth of it after each decay.
const fn tenths(rate: f64) -> [f64; 3] {
    [rate, rate / 10.0, rate / 100.0]
}

/// TSO-ALRA's (its §5): 164 epochs, with a tenth of the rate from epochs 81 and 122 on; a tenth of the training images is for
/// validation. SGD's rate is also that of TSO-ALRA, whose steps are as long; the paper's, without grafting, is 1e-2.
const fn of_tso_alra(
    name: &'static str,
    benchmark: Benchmark,
    epoch: usize,
    sgd: f64,
    error_levels: &'static [f64],
) -> Experiment {
    Experiment {
        name,
        benchmark,
        validation: 0.1,
        steps: 164 * epoch,
        decay_at: [81 * epoch, 122 * epoch],
        batch_size: 128,
        test_batch: 1_000,
        batch_norm: BatchNorm::Running,
        l1: 0.0,
        weight_decay: 0.0,
        eps_inside_root: true,
        scale: 0.01,
        eval_every: epoch,
        rates: Rates {
            sgd: tenths(sgd),
            momentum: tenths(sgd / 10.0),
            rmsprop: tenths(1e-3),
            adam: tenths(1e-3),
            // Not tried.
            svgd: tenths(sgd),
            svgd_per_example: tenths(sgd),
            adagrad: tenths(0.01),
        },
        error_levels,
        paper_errors: None,
        log_prefix: None,
        log_accuracy_unit: 1.0,
    }
}

/// Fashion-MNIST: 54,000 training images in batches of 128.
pub const TSO_VGG_FASHION: Experiment =
    of_tso_alra("tso_alra_vgg_fashion_mnist", Benchmark::FashionMnist, 421, 0.1, &[20.0, 15.0, 12.0, 10.0]);
pub const TSO_ALEXNET_FASHION: Experiment =
    of_tso_alra("tso_alra_alexnet_fashion_mnist", Benchmark::FashionMnist, 421, 0.1, &[20.0, 15.0, 12.0, 10.0]);
/// CIFAR-10: 45,000 training images.
pub const TSO_VGG_CIFAR10: Experiment =
    of_tso_alra("tso_alra_vgg_cifar10", Benchmark::Cifar10, 351, 0.1, &[50.0, 40.0, 30.0, 20.0]);
pub const TSO_ALEXNET_CIFAR10: Experiment =
    of_tso_alra("tso_alra_alexnet_cifar10", Benchmark::Cifar10, 351, 0.01, &[50.0, 40.0, 30.0, 20.0]);
/// CIFAR-100: 45,000.
pub const TSO_VGG_CIFAR100: Experiment =
    of_tso_alra("tso_alra_vgg_cifar100", Benchmark::Cifar100, 351, 0.1, &[80.0, 70.0, 60.0, 50.0]);
pub const TSO_ALEXNET_CIFAR100: Experiment =
    of_tso_alra("tso_alra_alexnet_cifar100", Benchmark::Cifar100, 351, 0.01, &[80.0, 70.0, 60.0, 50.0]);
/// SVHN: 65,931.
pub const TSO_VGG_SVHN: Experiment =
    of_tso_alra("tso_alra_vgg_svhn", Benchmark::Svhn, 515, 0.1, &[20.0, 15.0, 12.0, 10.0]);
pub const TSO_ALEXNET_SVHN: Experiment =
    of_tso_alra("tso_alra_alexnet_svhn", Benchmark::Svhn, 515, 0.01, &[20.0, 15.0, 12.0, 10.0]);

/// BNG's perceptrons (its §4.1): MNIST in batches of 100, a hundred epochs at one rate. The rates of Adam and AdaGrad are the
/// paper's; it gives none for momentum.
const fn of_bng_mlp(name: &'static str) -> Experiment {
    Experiment {
        name,
        benchmark: Benchmark::Mnist,
        validation: 0.0,
        steps: 60_000,
        decay_at: [60_000, 60_000],
        batch_size: 100,
        test_batch: 10_000,
        batch_norm: BatchNorm::Running,
        l1: 0.0,
        weight_decay: 0.0,
        eps_inside_root: false,
        scale: 0.1,
        eval_every: 600,
        rates: Rates {
            sgd: [0.1; 3],
            momentum: [0.01; 3],
            rmsprop: [1e-3; 3],
            adam: [1e-3; 3],
            // Not tried.
            svgd: [0.01; 3],
            svgd_per_example: [0.1; 3],
            adagrad: [0.01; 3],
        },
        error_levels: &[50.0, 10.0, 5.0, 3.0],
        paper_errors: None,
        log_prefix: None,
        log_accuracy_unit: 1.0,
    }
}

pub const BNG_MLP_6: Experiment = of_bng_mlp("bng_mlp6");
pub const BNG_MLP_12: Experiment = of_bng_mlp("bng_mlp12");
pub const BNG_MLP_18: Experiment = of_bng_mlp("bng_mlp18");
/// From PyTorch's initialisation instead of Xavier's.
pub const BNG_MLP_6_TORCH: Experiment = of_bng_mlp("bng_mlp6_torch");
pub const BNG_MLP_12_TORCH: Experiment = of_bng_mlp("bng_mlp12_torch");
pub const BNG_MLP_18_TORCH: Experiment = of_bng_mlp("bng_mlp18_torch");

/// BNG's ResNets (its §4.2): CIFAR-10, 160 epochs of 390 steps, with a tenth of the rate from epochs 80 and 120 on.
const fn of_bng_resnet(name: &'static str) -> Experiment {
    Experiment {
        name,
        benchmark: Benchmark::Cifar10,
        validation: 0.0,
        steps: 62_400,
        decay_at: [31_200, 46_800],
        batch_size: 128,
        test_batch: 1_000,
        batch_norm: BatchNorm::Running,
        l1: 0.0,
        weight_decay: 1e-4,
        eps_inside_root: false,
        scale: 0.01,
        eval_every: 390,
        rates: Rates {
            sgd: tenths(0.1),
            momentum: tenths(0.1),
            rmsprop: tenths(1e-3),
            adam: tenths(1e-3),
            // Not tried.
            svgd: tenths(0.5),
            svgd_per_example: tenths(0.5),
            adagrad: tenths(0.01),
        },
        error_levels: &[50.0, 40.0, 30.0, 20.0, 10.0],
        paper_errors: None,
        log_prefix: None,
        log_accuracy_unit: 1.0,
    }
}

pub const BNG_RESNET_20: Experiment = of_bng_resnet("bng_resnet20");
pub const BNG_RESNET_32: Experiment = of_bng_resnet("bng_resnet32");
pub const BNG_RESNET_44: Experiment = of_bng_resnet("bng_resnet44");
pub const BNG_RESNET_56: Experiment = of_bng_resnet("bng_resnet56");
pub const BNG_RESNET_110: Experiment = of_bng_resnet("bng_resnet110");

/// BNG's texts: one rate all along. Those of Adam and AdaGrad are the paper's; it gives none for momentum.
const fn of_bng_text(
    name: &'static str,
    benchmark: Benchmark,
    batch_size: usize,
    epoch: usize,
    epochs: usize,
    error_levels: &'static [f64],
) -> Experiment {
    Experiment {
        name,
        benchmark,
        validation: 0.0,
        steps: epochs * epoch,
        decay_at: [epochs * epoch; 2],
        batch_size,
        test_batch: 100,
        batch_norm: BatchNorm::Running,
        l1: 0.0,
        weight_decay: 0.0,
        eps_inside_root: false,
        scale: 0.1,
        eval_every: epoch,
        rates: Rates {
            sgd: [0.1; 3],
            momentum: [0.01; 3],
            rmsprop: [1e-3; 3],
            adam: [1e-3; 3],
            // Not tried.
            svgd: [0.1; 3],
            svgd_per_example: [0.1; 3],
            adagrad: [0.01; 3],
        },
        error_levels,
        paper_errors: None,
        log_prefix: None,
        log_accuracy_unit: 1.0,
    }
}

/// Words foretold by an LSTM (§4.4). The paper gives no number of epochs.
pub const BNG_LANGUAGE: Experiment =
    of_bng_text("bng_language", Benchmark::KingJames, 100, 184, 40, &[80.0, 75.0, 70.0]);
/// Sentences for or against a film (§4.5).
pub const BNG_SENTENCES: Experiment =
    of_bng_text("bng_sentences", Benchmark::Sentences, 64, 148, 150, &[40.0, 30.0, 25.0]);

/// All of them, in the order of the papers.
pub const ALL: [&Experiment; 24] = [
    &MLP_MNIST,
    &VGG_CIFAR10,
    &RESNET20_CIFAR10,
    &TSO_VGG_FASHION,
    &TSO_ALEXNET_FASHION,
    &TSO_VGG_CIFAR10,
    &TSO_ALEXNET_CIFAR10,
    &TSO_VGG_CIFAR100,
    &TSO_ALEXNET_CIFAR100,
    &TSO_VGG_SVHN,
    &TSO_ALEXNET_SVHN,
    &BNG_MLP_6,
    &BNG_MLP_12,
    &BNG_MLP_18,
    &BNG_MLP_6_TORCH,
    &BNG_MLP_12_TORCH,
    &BNG_MLP_18_TORCH,
    &BNG_RESNET_20,
    &BNG_RESNET_32,
    &BNG_RESNET_44,
    &BNG_RESNET_56,
    &BNG_RESNET_110,
    &BNG_LANGUAGE,
    &BNG_SENTENCES,
];

/// The experiment of this name.
pub fn named(name: &str) -> Result<&'static Experiment> {
    ALL.into_iter().find(|experiment| experiment.name == name).with_context(|| {
        let names: Vec<_> = ALL.iter().map(|experiment| experiment.name).collect();
        format!("expected an experiment of {}, got '{name}'", names.join(", "))
    })
}

impl Experiment {
    /// The rates for an optimizer, before, between and after the decays.
    pub fn rates(&self, optimizer: OptimizerKind) -> [f64; 3] {
        let (rates, factor) = optimizer.row().rates;
        rates(&self.rates).map(|rate| rate * factor)
    }

    /// The paper's test error in per cent, where its table has the optimizer.
    pub fn paper_error(&self, optimizer: OptimizerKind) -> Option<f64> {
        Some(optimizer.row().paper_error?(self.paper_errors.as_ref()?))
    }

    /// The file of the authors' curve, where they published one.
    pub fn log_file(&self, optimizer: OptimizerKind) -> Option<String> {
        Some(format!("{}_{}.csv", self.log_prefix?, optimizer.row().log?))
    }
}
