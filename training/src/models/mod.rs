//! The paper's models, written once for plain and for hatted layers.

mod batch_norm;
pub mod language;
pub mod mlp;
pub mod resnet20;
pub mod sentences;
pub mod sigmoid_mlp;
pub mod small;
pub mod vgg;

use tch::nn;
use tch_svgd::Layers;

/// What batch norms see of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchNorms {
    /// A number for each channel: a batch of one sample has no deviation.
    OfVectors,
    /// A plane for each channel.
    OfPlanes,
}

/// What a model is to the training programs and the benches.
pub trait Model: nn::ModuleT + Sized + 'static {
    /// Its name, as reports show it.
    const NAME: &'static str;
    /// The number of its parameters for ten classes, which the paper gives.
    const PARAMETERS: usize;
    /// Whether its weights begin as the authors of SVGD have them (`initialise`), and not as tch has them.
    const AS_SVGDS_AUTHORS: bool = true;
    /// What its batch norms see, if it has some.
    const BATCH_NORM: Option<BatchNorms> = None;
    /// Whether a step is so short that threads have nothing to share.
    const SHORT_STEPS: bool = false;
    /// Whether it draws random numbers in training.
    const DROPOUT: bool = false;

    /// Builds it below `p`. Parameters of batch norms have a part of their path that begins with `norm`.
    fn new<L: Layers>(layers: &L, p: &nn::Path, classes: i64) -> Self;
}
