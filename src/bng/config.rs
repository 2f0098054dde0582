//! The settings of block-normalized gradients.

use crate::error::{Error, Result};

/// What a block's gradient `g` becomes, by the norm `‖g‖` of the block. A block whose norm is zero keeps its zeros.
///
/// Norms are of Double, which holds the squares of any Float. A block whose norm is infinite or no number stays as it is, and is
/// [counted](crate::BlockNormalizer::skipped).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Normalization {
    /// `g / ‖g‖`: the paper's NG.
    #[default]
    Unit,
    /// `α g ‖w‖ / ‖g‖`, where `w` are the block's weights: the paper's NG_adap. A block whose weights are all zero, which this
    /// would keep there for ever, has its plain gradient.
    Adaptive {
        /// `α`; the paper has 0.02. Finite, above 0.
        alpha: f64,
    },
    /// `g min(1, c / ‖g‖)`: clipping, with which the paper compares. With all parameters in one block
    /// ([`BlockNormalizer::with_blocks`](crate::BlockNormalizer::with_blocks)) it is the usual clipping of the whole gradient.
    Clip {
        /// `c`; the paper has 0.1. Finite, above 0.
        threshold: f64,
    },
}

impl Normalization {
    /// The operator's name for it, and its number.
    pub(super) fn rule(self) -> (&'static str, f64) {
        match self {
            Normalization::Unit => ("unit", 1.0),
            Normalization::Adaptive { alpha } => ("adaptive", alpha),
            Normalization::Clip { threshold } => ("clip", threshold),
        }
    }
}

/// What belongs to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Blocks {
    /// All parameters of a layer, weight and bias: the paper's. In a `VarStore` these are the ones below one path; of a recurrent
    /// network, which has all of its layers there, the ones of one number (`weight_ih_l0`, `bias_hh_l0`, …).
    #[default]
    PerLayer,
    /// Each parameter is a block.
    PerParameter,
}

/// The settings of a [`Bng`](crate::Bng) or [`BlockNormalizer`](crate::BlockNormalizer). The defaults are the paper's NG.
///
/// ```
/// use tch_svgd::{Blocks, BngConfig, Normalization};
/// let adaptive = BngConfig { normalization: Normalization::Adaptive { alpha: 0.02 }, ..Default::default() };
/// assert_eq!(adaptive.blocks, Blocks::PerLayer);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BngConfig {
    /// What a block's gradient becomes.
    pub normalization: Normalization,
    /// What belongs to a block.
    pub blocks: Blocks,
}

impl BngConfig {
    pub(super) fn validate(&self) -> Result<()> {
        let (name, value) = match self.normalization {
            Normalization::Unit => return Ok(()),
            Normalization::Adaptive { alpha } => ("alpha", alpha),
            Normalization::Clip { threshold } => ("threshold", threshold),
        };
        // The gradients are Float for most.
        match (value as f32).is_normal() && value > 0.0 {
            true => Ok(()),
            false => Err(Error::Config(format!(
                "Bng: setting '{name}': expected a finite number, at least 1e-37, got {value}; correct the setting"
            ))),
        }
    }
}
