//! The fully-connected layer.

use super::Shared;
use super::layer::{Layer, layer_name};
use super::method::{Geometry, Method};
use crate::error::{Error, Result};
use crate::layers::Parameters;
use std::sync::Arc;
use tch::{Tensor, nn};

/// A fully-connected layer `[…, in]` → `[…, out]` whose weight gets the gradients of a method: [`tch::nn::Linear`], made
/// by [`Hatted::linear`](super::Hatted::linear). [`SvgdLinear`](crate::SvgdLinear) is SVGD's.
///
/// The output and the gradient of the input are those of [`tch::nn::Linear`] to the bit.
#[derive(Debug)]
pub struct HattedLinear<M: Method> {
    /// The weight, `[out, in]`.
    pub ws: Tensor,
    /// The bias, `[out]`.
    pub bs: Option<Tensor>,
    layer: Arc<Layer<M>>,
}

impl<M: Method> HattedLinear<M> {
    pub(super) fn new(
        shared: &Arc<Shared<M>>,
        vs: &nn::Path<'_>,
        in_dim: i64,
        out_dim: i64,
        config: nn::LinearConfig,
    ) -> Result<Self> {
        for (argument, value) in [("in_dim", in_dim), ("out_dim", out_dim)] {
            if value < 1 {
                return Err(Error::Config(format!(
                    "layer '{}': linear: argument '{argument}': expected at least 1, got {value}; correct the layer",
                    layer_name(vs)
                )));
            }
        }
        let bound = 1.0 / (in_dim as f64).sqrt();
        let bs_init = config.bs_init.unwrap_or(nn::Init::Uniform { lo: -bound, up: bound });
        let bs_init = config.bias.then_some(bs_init);
        let (ws, bs, layer) = Layer::build(shared, vs, Geometry::Linear, bs_init, &[out_dim, in_dim], config.ws_init)?;
        Ok(Self { ws, bs, layer })
    }

    /// The output. Its backward pass gives the weight the method's gradient, unless the method is switched off
    /// ([`Hatted::set_enabled`](super::Hatted::set_enabled)).
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Kind`], [`Error::Device`], [`Error::Config`] and [`Error::Unsupported`] name the layer and the
    /// argument; [`Error::OutOfMemory`]; [`Error::Torch`] for anything else that libtorch raises.
    pub fn f_forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.layer.forward(xs, &self.ws, self.bs.as_ref())
    }

    /// Copies of the method's state, in the order of [`Method::STATE`], once the layer has had a forward pass with gradients or
    /// has been loaded. No backward pass may run in another thread meanwhile: it changes the values that are being copied.
    pub fn state(&self) -> Option<Vec<Tensor>> {
        self.layer.state.copies()
    }
}

impl<M: Method> Parameters for HattedLinear<M> {
    fn weight(&self) -> &Tensor {
        &self.ws
    }

    fn bias(&self) -> Option<&Tensor> {
        self.bs.as_ref()
    }
}

impl<M: Method> nn::Module for HattedLinear<M> {
    fn forward(&self, xs: &Tensor) -> Tensor {
        self.f_forward(xs).unwrap_or_else(|error| panic!("{error}"))
    }
}
