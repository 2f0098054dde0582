//! The paper's models, written once for plain and for hatted layers.
#![allow(dead_code)] // each program uses its own

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

/// What a model is to the training programs and the benches.
pub trait Model: nn::ModuleT + Sized {
    /// Its name, as reports show it.
    const NAME: &'static str;
    /// The number of its parameters for ten classes, which the paper gives.
    const PARAMETERS: usize;
    /// Whether its weights begin as the authors of SVGD have them (`initialise`), and not as tch has them.
    const AS_SVGDS_AUTHORS: bool = true;
    /// Whether it draws random numbers in training.
    const DROPOUT: bool = false;

    /// Builds it below `p`. Parameters of batch norms have a part of their path that begins with `norm`.
    fn new<L: Layers>(layers: &L, p: &nn::Path, classes: i64) -> Self;
}
