//! What a run may have that the papers' recipes have not: another course of the rate, smoothed labels, clipped gradients.

use crate::optimizer::{OptimizerKind, Rule};
use serde::{Deserialize, Serialize};

/// Of the optimizers that have one.
pub const MOMENTUM: f64 = 0.9;
/// Of Adam's moving means.
pub const BETAS: [f64; 2] = [0.9, 0.999];

/// Where a run departs from its paper's recipe. The default departs nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Recipe {
    /// The rate falls along half a cosine, to 0 after the last step.
    pub cosine: bool,
    /// Steps over which the rate rises along a straight line to what it would be.
    pub warmup: usize,
    /// In the place of [`MOMENTUM`].
    pub momentum: Option<f64>,
    /// In the place of [`BETAS`].
    pub betas: Option<[f64; 2]>,
    /// The share of a label's weight that goes to all classes alike.
    pub label_smoothing: f64,
    /// The largest norm that the gradient of all weights together keeps.
    pub clip_norm: Option<f64>,
    /// Tests in a row without a better one, after which the run ends.
    pub patience: Option<usize>,
}

impl Recipe {
    /// Whether nothing differs from the paper's.
    pub fn is_papers(&self) -> bool {
        *self == Self::default()
    }

    /// What of it an optimizer makes use of, and is not so anyway.
    pub fn of(self, optimizer: OptimizerKind) -> Self {
        Self {
            momentum: self.momentum.filter(|&momentum| optimizer.rule().has_momentum() && momentum != MOMENTUM),
            betas: self.betas.filter(|&betas| optimizer.rule().has_betas() && betas != BETAS),
            ..self
        }
    }
}

impl Rule {
    /// Whether it has a momentum.
    pub fn has_momentum(self) -> bool {
        matches!(self, Rule::Momentum | Rule::Nesterov)
    }

    /// Whether it has Adam's two moving means.
    pub fn has_betas(self) -> bool {
        matches!(self, Rule::Adam | Rule::Amsgrad | Rule::Adamw)
    }
}
