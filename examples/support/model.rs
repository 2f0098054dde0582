//! What a model is to the training programs and the benches.

use tch::nn;
use tch_svgd::Layers;

/// A model written once, for plain and for hatted layers.
pub trait Model: nn::Module + Sized {
    /// Its name, as reports show it.
    const NAME: &'static str;
    /// The number of its parameters for ten classes, which the paper gives.
    const PARAMETERS: usize;

    /// Builds it below `p`.
    fn new<L: Layers>(layers: &L, p: &nn::Path, classes: i64) -> Self;
}
