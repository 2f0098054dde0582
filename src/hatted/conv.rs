//! The 2-D convolution.

use super::Shared;
use super::layer::{Layer, layer_name};
use super::method::{Convolution, Geometry, Method};
use crate::error::{Error, Result};
use crate::layers::Parameters;
use std::sync::Arc;
use tch::nn::PaddingMode;
use tch::{Tensor, nn};

/// A 2-D convolution `[n, c_in, h, w]` → `[n, c_out, h_out, w_out]` whose weight gets the gradients of a method:
/// [`tch::nn::Conv2D`], made by [`Hatted::conv2d`](super::Hatted::conv2d) or [`Hatted::conv`](super::Hatted::conv).
/// [`SvgdConv2D`](crate::SvgdConv2D) is SVGD's.
///
/// The output and the gradient of the input are those of [`tch::nn::Conv2D`] to the bit, for every padding mode.
#[derive(Debug)]
pub struct HattedConv2D<M: Method> {
    /// The weight, `[c_out, c_in / groups, kh, kw]`.
    pub ws: Tensor,
    /// The bias, `[c_out]`.
    pub bs: Option<Tensor>,
    padding_mode: PaddingMode,
    /// What is padded before the convolution, when `padding_mode` is not zeros: in the order of [`Tensor::pad`].
    pad: [i64; 4],
    layer: Arc<Layer<M>>,
}

impl<M: Method> HattedConv2D<M> {
    pub(super) fn new(
        shared: &Arc<Shared<M>>,
        vs: &nn::Path<'_>,
        in_dim: i64,
        out_dim: i64,
        ksizes: [i64; 2],
        config: nn::ConvConfigND<[i64; 2]>,
    ) -> Result<Self> {
        check_geometry(&layer_name(vs), in_dim, out_dim, ksizes, &config)?;
        let nn::ConvConfigND { stride, padding, dilation, groups, bias, ws_init, bs_init, padding_mode } = config;
        let [h, w] = padding;
        let padding = if let PaddingMode::Zeros = padding_mode { padding } else { [0, 0] };
        let geometry = Geometry::Conv2D(Convolution { stride, padding, dilation, groups });
        let ws_size = [out_dim, in_dim / groups, ksizes[0], ksizes[1]];
        let (ws, bs, layer) = Layer::build(shared, vs, geometry, bias.then_some(bs_init), &ws_size, ws_init)?;
        // tch pads (left, right, top, bottom) by (w, h, w, h), where PyTorch pads by (w, w, h, h). The two differ
        // only for a rectangular padding that is not zeros; there we follow tch, whose layer this one replaces.
        Ok(Self { ws, bs, padding_mode, pad: [w, h, w, h], layer })
    }

    /// The output. Its backward pass gives the weight the method's gradient, unless the method is switched off
    /// ([`Hatted::set_enabled`](super::Hatted::set_enabled)).
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Kind`], [`Error::Device`], [`Error::Config`] and [`Error::Unsupported`] name the layer and the
    /// argument; [`Error::OutOfMemory`]; [`Error::Torch`] for anything else that libtorch raises.
    pub fn f_forward(&self, xs: &Tensor) -> Result<Tensor> {
        let forward = |xs: &Tensor| self.layer.forward(xs, &self.ws, self.bs.as_ref());
        match self.padding_mode {
            PaddingMode::Zeros => forward(xs),
            mode => {
                let padded = mode.f_pad(xs, &self.pad);
                forward(&padded.map_err(|error| Error::from(error).in_layer(&self.layer.name))?)
            }
        }
    }

    /// Copies of the method's state, in the order of [`Method::STATE`], once the layer has had a forward pass with gradients or
    /// has been loaded. No backward pass may run in another thread meanwhile: it changes the values that are being copied.
    pub fn state(&self) -> Option<Vec<Tensor>> {
        self.layer.state.copies()
    }
}

impl<M: Method> Parameters for HattedConv2D<M> {
    fn weight(&self) -> &Tensor {
        &self.ws
    }

    fn bias(&self) -> Option<&Tensor> {
        self.bs.as_ref()
    }
}

impl<M: Method> nn::Module for HattedConv2D<M> {
    fn forward(&self, xs: &Tensor) -> Tensor {
        self.f_forward(xs).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn check_geometry(
    name: &str,
    in_dim: i64,
    out_dim: i64,
    ksizes: [i64; 2],
    config: &nn::ConvConfigND<[i64; 2]>,
) -> Result<()> {
    let error = |argument: &str, expected: &str, got: String| {
        Err(Error::Config(format!(
            "layer '{name}': conv2d: argument '{argument}': expected {expected}, got {got}; correct the layer"
        )))
    };
    let groups = config.groups;
    for (argument, value, smallest) in [
        ("in_dim", &[in_dim][..], 1),
        ("out_dim", &[out_dim], 1),
        ("ksize", &ksizes, 1),
        ("stride", &config.stride, 1),
        ("padding", &config.padding, 0),
        ("dilation", &config.dilation, 1),
        ("groups", &[groups], 1),
    ] {
        if value.iter().any(|&v| v < smallest) {
            return error(
                argument,
                &format!("at least {smallest}"),
                match value {
                    [one] => one.to_string(),
                    pair => format!("{pair:?}"),
                },
            );
        }
    }
    if in_dim % groups != 0 {
        return error("groups", "a divisor of in_dim", format!("{groups} for in_dim {in_dim}"));
    }
    if out_dim % groups != 0 {
        return error("groups", "a divisor of out_dim", format!("{groups} for out_dim {out_dim}"));
    }
    Ok(())
}
