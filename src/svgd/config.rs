//! The settings of SVGD.

use super::functional::Hyperparameters;
use crate::error::{Error, Result};
use crate::hatted::BatchGradient;

/// How many values the second moment of a convolution has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Granularity {
    /// One per element of a sample's output, `[c_out, h_out, w_out]`: the paper's. It belongs to one image size.
    #[default]
    Element,
    /// One per output channel, `[c_out]`, averaged over space as well: ours. It fits any image size and needs no
    /// temporary of the gradient's size.
    Channel,
}

/// The settings of an [`Svgd`](crate::Svgd). The defaults are the authors' for ResNet-20.
///
/// ```
/// use tch_svgd::{Granularity, SvgdConfig};
/// let config = SvgdConfig { scale: 0.1, granularity: Granularity::Channel, ..Default::default() };
/// assert_eq!(config.decay, 0.9);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SvgdConfig {
    /// `s`, the factor of the virtual gradient (paper: 0.1 MLP, 0.001 VGG, 0.01 ResNet). Finite, at least 0.
    pub scale: f64,
    /// `γ`, what the second moment keeps in an update. In [0, 1).
    pub decay: f64,
    /// `ε`, added to the second moment below the root. Finite, above 0.
    pub eps: f64,
    /// How many values the second moment of a convolution has.
    pub granularity: Granularity,
    /// What the incoming gradient is, for the statistic.
    pub batch_gradient: BatchGradient,
    /// Whether biases get the sum of the virtual gradient (Algorithm 1 read literally) instead of the true one (as
    /// the authors ran it). With a frozen weight there is no virtual gradient, and the bias gets the true one.
    pub virtual_bias: bool,
}

impl Default for SvgdConfig {
    fn default() -> Self {
        let Hyperparameters { scale, decay, eps, virtual_bias, .. } = Hyperparameters::default();
        Self {
            scale,
            decay,
            eps,
            granularity: Granularity::default(),
            batch_gradient: BatchGradient::default(),
            virtual_bias,
        }
    }
}

fn check(name: &str, value: f64, valid: bool, expected: &str) -> Result<()> {
    if valid {
        return Ok(());
    }
    Err(Error::Config(format!("Svgd: setting '{name}': expected {expected}, got {value}; correct the setting")))
}

// The kernels compute in f32 for every kind but Double: a value must keep its meaning there.
impl SvgdConfig {
    pub(super) fn validate(&self) -> Result<()> {
        let scale = self.scale;
        check("scale", scale, (scale as f32).is_finite() && scale >= 0.0, "a finite number >= 0")?;
        check("decay", self.decay, self.decay >= 0.0 && (self.decay as f32) < 1.0, "a number in [0, 1)")?;
        check("eps", self.eps, self.eps.is_finite() && self.eps as f32 > 0.0, "a finite number > 0")
    }
}
