//! The fully-connected layer.

use super::Shared;
use super::state::{Accumulator, Values, layer_name, options};
use crate::error::{Error, Result};
use crate::functional::{self, Hyperparameters};
use std::sync::Arc;
use tch::{Tensor, nn};

/// A fully-connected layer `[…, in]` → `[…, out]` whose weight gets virtual gradients: [`tch::nn::Linear`], made by
/// [`Svgd::linear`](crate::Svgd::linear).
///
/// The output and the gradient of the input are those of [`tch::nn::Linear`] to the bit. Its second moment has one
/// value per output, `[out]`, and the mean goes over all leading axes: with `g` the gradient of the output as a matrix of
/// rows, `r ← decay·r + (1 - decay)·mean((k g)²)` and `grad_weight = diag(scale / √(r + eps)) gᵀ x` (SVGD paper, Algorithm
/// 1 and §3.1: MatMul).
///
/// ```
/// use tch::nn::{self, Module};
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::{Svgd, SvgdConfig};
/// let vs = nn::VarStore::new(Device::Cpu);
/// let fc = Svgd::new(SvgdConfig::default())?.linear(vs.root() / "fc", 4, 3, Default::default());
/// let output = fc.forward(&Tensor::randn([5, 7, 4], (Kind::Float, Device::Cpu)));
/// assert_eq!(output.size(), [5, 7, 3]);
/// output.square().mean(None).backward();
/// assert_eq!(fc.ws.grad().size(), [3, 4]);
/// assert_eq!(fc.second_moment().unwrap().size(), [3]);
/// # Ok::<(), tch_svgd::Error>(())
/// ```
#[derive(Debug)]
pub struct SvgdLinear {
    /// The weight, `[out, in]`.
    pub ws: Tensor,
    /// The bias, `[out]`.
    pub bs: Option<Tensor>,
    shared: Arc<Shared>,
    accumulator: Arc<Accumulator>,
}

impl SvgdLinear {
    pub(super) fn new(
        shared: Arc<Shared>,
        vs: &nn::Path<'_>,
        in_dim: i64,
        out_dim: i64,
        config: nn::LinearConfig,
    ) -> Result<Self> {
        let name = layer_name(vs);
        for (argument, value) in [("in_dim", in_dim), ("out_dim", out_dim)] {
            if value < 1 {
                return Err(Error::Config(format!(
                    "layer '{name}': linear: argument '{argument}': expected at least 1, got {value}; correct the layer"
                )));
            }
        }
        // The order of tch: the same seed gives the same layer.
        let bs = if config.bias {
            let bound = 1.0 / (in_dim as f64).sqrt();
            let init = config.bs_init.unwrap_or(nn::Init::Uniform { lo: -bound, up: bound });
            Some(vs.f_var("bias", &[out_dim], init).map_err(|error| Error::from(error).in_layer(&name))?)
        } else {
            None
        };
        let ws = vs
            .f_var("weight", &[out_dim, in_dim], config.ws_init)
            .map_err(|error| Error::from(error).in_layer(&name))?;
        let accumulator = super::lock(&shared.accumulators).register(name, Values::PerOutput);
        Ok(Self { ws, bs, shared, accumulator })
    }

    /// The output, for gradients of the kind that [`Svgd`](crate::Svgd) is set to.
    ///
    /// # Errors
    /// As [`functional::linear`](crate::functional::linear), led by the layer's name.
    pub fn f_forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.forward_or_error(xs).map_err(|error| error.in_layer(self.accumulator.name()))
    }

    fn forward_or_error(&self, xs: &Tensor) -> Result<Tensor> {
        let rows = match xs.size().split_last() {
            Some((_, leading)) => leading.iter().product(),
            None => 1,
        };
        let Some(hyperparameters) = self.shared.hyperparameters(&self.ws, rows)? else {
            return xs
                .f_linear(&self.ws, self.bs.as_ref())
                .map_err(|error| Error::from(error).explained_by(self.probe(xs)));
        };
        let second_moment =
            self.accumulator.second_moment(&self.ws, |options| Ok(Tensor::f_zeros(self.ws.size()[0], options)?))?;
        functional::linear(xs, &self.ws, self.bs.as_ref(), &second_moment, hyperparameters)
    }

    /// The operator with a state of no consequence.
    fn probe(&self, xs: &Tensor) -> Result<Tensor> {
        let second_moment = Tensor::f_zeros(self.ws.size()[0], options(&self.ws))?;
        functional::linear(xs, &self.ws, self.bs.as_ref(), &second_moment, Hyperparameters::default())
    }

    /// A copy of the second moment, `[out]`, once the layer has had a forward pass with gradients.
    pub fn second_moment(&self) -> Option<Tensor> {
        self.accumulator.snapshot()
    }
}

impl nn::Module for SvgdLinear {
    fn forward(&self, xs: &Tensor) -> Tensor {
        self.f_forward(xs).unwrap_or_else(|error| panic!("{error}"))
    }
}
