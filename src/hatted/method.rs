//! What a method is to the layers, as cpp/hatted/method.h is to the operators.

use super::switch::{Progress, Stage, Switch};
pub use crate::bridge::ffi::Convolution;
use crate::error::Result;
use std::fmt;
use tch::{Device, Kind, Tensor};

/// Keeps [`Method`] to this crate, so that it can grow, and to the crate's tests.
pub trait Sealed {}

/// A method: what the layers' backward passes do, and the state that they change. A type without values, which tells
/// [`Hatted`](super::Hatted) and its layers what they are: [`Svgd`](crate::Svgd) is `Hatted<SvgdMethod>`.
///
/// Its operators are those of its C++ struct, `Operator<Layer, Method>` in `cpp/hatted/`; `tests/counter` is one with nothing
/// in it. The trait may change with any release: it is not yet for other crates.
pub trait Method: Sealed + fmt::Debug + Send + Sync + Sized + 'static {
    /// The settings that the user gives.
    type Config: Copy + fmt::Debug + Send;

    /// What the user calls it, for errors.
    const NAME: &'static str;
    /// What its state files say of themselves.
    const FORMAT: &'static str;
    /// The names of a layer's state tensors. In files a single one has the layer's own name, several are `LAYER.NAME`.
    const STATE: &'static [&'static str];

    /// An error for a setting out of its range.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config), which names the setting.
    fn validate(config: &Self::Config) -> Result<()>;

    /// A layer's state before this pass, its first: a tensor for each name of [`STATE`](Self::STATE), of this kind and on this
    /// device.
    ///
    /// # Errors
    /// Of the tensors of the pass, in the operator's words, or of memory.
    fn initial(config: &Self::Config, pass: &Pass<'_>, options: (Kind, Device)) -> Result<Vec<Tensor>>;

    /// Makes the state's tensor of this number what [`initial`](Self::initial) made it, in its memory: zeros, unless the
    /// method says otherwise.
    fn forget(index: usize, tensor: &mut Tensor) {
        let _ = (index, tensor.zero_());
    }

    /// Whether these tensors, out of a file, may be the state of such a layer: or what was expected, and what came. Their
    /// sizes are compared with the passes' when there is one, as a layer's weight may be replaced.
    ///
    /// # Errors
    /// The end of a sentence.
    fn check_loaded(config: &Self::Config, geometry: &Geometry, tensors: &[Tensor]) -> std::result::Result<(), String>;

    /// What is done between two steps, when so many of them are behind: `states` are those of all layers, to be changed in
    /// place. Not after the switch to plain gradients.
    ///
    /// # Errors
    /// Of memory, or of the method's operators. The states are untouched then.
    fn after_step(config: &Self::Config, steps: u64, states: &[Vec<Tensor>]) -> Result<()> {
        let _ = (config, steps, states);
        Ok(())
    }

    /// The operator of the layer that the pass is of. Its backward pass changes `state` in place. What goes into the state is
    /// of the unscaled gradient ([`Settings::gradient_scale`]); the gradients stay scaled.
    ///
    /// # Errors
    /// Those of the operator.
    fn call(settings: &Settings<Self::Config>, pass: &Pass<'_>, state: &[Tensor]) -> Result<Tensor>;
}

/// The settings of a [`Hatted`](super::Hatted) as they are at a forward pass.
#[derive(Debug, Clone, Copy)]
pub struct Settings<Config> {
    /// The method's own.
    pub config: Config,
    /// Whether the method is switched on; off, the layers are tch's own.
    pub enabled: bool,
    /// The factor that a loss scaler multiplied the loss with.
    pub loss_scale: f64,
    /// How many steps there have been, and what they led to.
    pub progress: Progress,
}

impl<Config: Copy> Settings<Config> {
    /// Whether the layers give the method's gradients.
    pub(super) fn is_on(&self) -> bool {
        self.enabled && self.progress.stage == Stage::Method
    }

    /// As they are after another step.
    pub(super) fn after_step(mut self, switch: Switch) -> Self {
        self.progress.step(switch);
        self
    }

    /// The factor `k` of a received gradient inside a method's statistics.
    pub fn gradient_scale(&self, batch_gradient: BatchGradient, pass: &Pass<'_>) -> f64 {
        let batch = match batch_gradient {
            BatchGradient::AsReceived => 1.0,
            BatchGradient::PerExample => pass.samples() as f64,
        };
        batch / self.loss_scale
    }
}

/// What the incoming gradient is, for a method's statistics: the factor `k` of `(k g)²`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BatchGradient {
    /// `k = 1`: the gradient as it comes, of a batch-mean loss. What the authors' implementation of SVGD does; the learning
    /// rates of its paper's tables belong to it.
    #[default]
    AsReceived,
    /// `k = n`: the gradients of the single examples of a batch-mean loss. SVGD's Algorithm 1 read literally, and what
    /// TSO-ALRA takes. For Linear `n` is the number of rows, the product of all leading axes.
    PerExample,
}

/// How a layer computes: a variant for each layer of cpp/hatted/layers.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Geometry {
    /// `[…, in]` → `[…, out]`.
    Linear,
    /// `[n, c_in, h, w]` → `[n, c_out, h_out, w_out]`, and the same without `n`.
    Conv2D(Convolution),
}

impl Default for Convolution {
    fn default() -> Self {
        Self { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
    }
}

/// One forward pass through a layer.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// The input.
    pub xs: &'a Tensor,
    /// The weight, whose dimension 0 is the outputs'.
    pub ws: &'a Tensor,
    /// The bias.
    pub bs: Option<&'a Tensor>,
    /// How the layer computes.
    pub geometry: Geometry,
}

impl Pass<'_> {
    /// tch's own operator.
    pub(super) fn plain(&self) -> Result<Tensor> {
        let Self { xs, ws, bs, geometry } = *self;
        Ok(match geometry {
            Geometry::Linear => xs.f_linear(ws, bs)?,
            Geometry::Conv2D(Convolution { stride, padding, dilation, groups }) => {
                xs.f_conv2d(ws, bs, stride, padding, dilation, groups)?
            }
        })
    }

    /// The number of samples: the images, or the rows of a matrix product. What cannot be an input counts as one.
    pub fn samples(&self) -> i64 {
        let size = self.xs.size();
        match self.geometry {
            Geometry::Linear => size.split_last().map_or(1, |(_, leading)| leading.iter().product()),
            Geometry::Conv2D(_) => {
                if let [n, _, _, _] = size[..] {
                    n
                } else {
                    1
                }
            }
        }
    }
}
