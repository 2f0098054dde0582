//! The 2-D convolution.

use super::state::{Accumulator, Values, layer_name, options};
use super::{Granularity, Shared};
use crate::bridge::ffi;
use crate::error::{Error, Result};
use crate::functional::{self, Convolution, Hyperparameters};
use std::sync::Arc;
use tch::nn::PaddingMode;
use tch::{Device, Kind, Tensor, nn};

/// A 2-D convolution `[n, c_in, h, w]` → `[n, c_out, h_out, w_out]` whose weight gets virtual gradients:
/// [`tch::nn::Conv2D`], made by [`Svgd::conv2d`](crate::Svgd::conv2d) or [`Svgd::conv`](crate::Svgd::conv).
///
/// The output and the gradient of the input are those of [`tch::nn::Conv2D`] to the bit, for every padding mode (SVGD
/// paper, §3.1: Conv2D). With [`Granularity::Element`] the second moment belongs to one output size: a training pass
/// with another is an error, one without gradients is not. With `g` the gradient of the output,
/// `r ← decay·r + (1 - decay)·mean((k g)²)`, and the weight's gradient is formed from `t = scale·g / √(r + eps)`.
///
/// ```
/// use tch::nn::{self, Module};
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::{Svgd, SvgdConfig};
/// let vs = nn::VarStore::new(Device::Cpu);
/// let config = nn::ConvConfig { padding: 1, ..Default::default() };
/// let conv = Svgd::new(SvgdConfig::default())?.conv2d(vs.root() / "conv", 3, 16, 3, config);
/// let output = conv.forward(&Tensor::randn([2, 3, 8, 8], (Kind::Float, Device::Cpu)));
/// output.square().mean(None).backward();
/// assert_eq!(conv.second_moment().unwrap().size(), [16, 8, 8]);
/// # Ok::<(), tch_svgd::Error>(())
/// ```
#[derive(Debug)]
pub struct SvgdConv2D {
    /// The weight, `[c_out, c_in / groups, kh, kw]`.
    pub ws: Tensor,
    /// The bias, `[c_out]`.
    pub bs: Option<Tensor>,
    convolution: Convolution,
    padding_mode: PaddingMode,
    /// What is padded before the convolution, when `padding_mode` is not zeros: in the order of [`Tensor::pad`].
    pad: [i64; 4],
    shared: Arc<Shared>,
    accumulator: Arc<Accumulator>,
}

impl SvgdConv2D {
    pub(super) fn new(
        shared: Arc<Shared>,
        vs: &nn::Path<'_>,
        in_dim: i64,
        out_dim: i64,
        ksizes: [i64; 2],
        config: nn::ConvConfigND<[i64; 2]>,
    ) -> Result<Self> {
        let name = layer_name(vs);
        check_geometry(&name, in_dim, out_dim, ksizes, &config)?;
        let nn::ConvConfigND { stride, padding, dilation, groups, bias, ws_init, bs_init, padding_mode } = config;
        // The order of tch: the same seed gives the same layer.
        let bs = if bias {
            Some(vs.f_var("bias", &[out_dim], bs_init).map_err(|error| Error::from(error).in_layer(&name))?)
        } else {
            None
        };
        let ws = vs
            .f_var("weight", &[out_dim, in_dim / groups, ksizes[0], ksizes[1]], ws_init)
            .map_err(|error| Error::from(error).in_layer(&name))?;
        let [h, w] = padding;
        let convolution = match padding_mode {
            PaddingMode::Zeros => Convolution { stride, padding, dilation, groups },
            _ => Convolution { stride, padding: [0, 0], dilation, groups },
        };
        let values = match shared.granularity() {
            Granularity::Element => Values::PerElement,
            Granularity::Channel => Values::PerOutput,
        };
        let accumulator = super::lock(&shared.accumulators).register(name, values);
        // tch pads (left, right, top, bottom) by (w, h, w, h), where PyTorch pads by (w, w, h, h). The two differ
        // only for a rectangular padding that is not zeros; there we follow tch, whose layer this one replaces.
        Ok(Self { ws, bs, convolution, padding_mode, pad: [w, h, w, h], shared, accumulator })
    }

    /// The output, for gradients of the kind that [`Svgd`](crate::Svgd) is set to.
    ///
    /// # Errors
    /// As [`functional::conv2d`](crate::functional::conv2d), led by the layer's name.
    pub fn f_forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.forward_or_error(xs).map_err(|error| error.in_layer(self.accumulator.name()))
    }

    fn forward_or_error(&self, xs: &Tensor) -> Result<Tensor> {
        let padded;
        let xs = match self.padding_mode {
            PaddingMode::Zeros => xs,
            mode => {
                padded = mode.f_pad(xs, &self.pad)?;
                &padded
            }
        };
        let size = batch_size(xs);
        let Some(hyperparameters) = self.shared.hyperparameters(&self.ws, size[0])? else {
            let Convolution { stride, padding, dilation, groups } = self.convolution;
            return xs
                .f_conv2d(&self.ws, self.bs.as_ref(), stride, padding, dilation, groups)
                .map_err(|error| Error::from(error).explained_by(self.probe(xs)));
        };
        if !xs.defined() {
            return self.probe(xs);
        }
        let second_moment = self.accumulator.second_moment(&self.ws, |options| self.zeros(xs, &size, options))?;
        functional::conv2d(xs, &self.ws, self.bs.as_ref(), &second_moment, self.convolution, hyperparameters)
    }

    /// A second moment for outputs of the images `xs`: where it has a value for each of their elements, in their memory
    /// order, so that the backward pass reads both side by side.
    fn zeros(&self, xs: &Tensor, batch_size: &[i64], options: (Kind, Device)) -> Result<Tensor> {
        let weight_size = self.ws.size();
        if self.shared.granularity() == Granularity::Channel {
            return Ok(Tensor::f_zeros(weight_size[0], options)?);
        }
        let output_size = ffi::conv2d_output_size(batch_size, &weight_size, &self.convolution.into())?;
        let (c, h, w) = (output_size[0], output_size[1], output_size[2]);
        if is_channels_last(xs) || is_channels_last(&self.ws) {
            return Ok(Tensor::f_zeros([h, w, c], options)?.f_permute([2, 0, 1])?);
        }
        Ok(Tensor::f_zeros([c, h, w], options)?)
    }

    /// The operator with a state of no consequence, which fits any image size.
    fn probe(&self, xs: &Tensor) -> Result<Tensor> {
        let second_moment = Tensor::f_zeros(self.ws.size()[0], options(&self.ws))?;
        let hyperparameters = Hyperparameters::default();
        functional::conv2d(xs, &self.ws, self.bs.as_ref(), &second_moment, self.convolution, hyperparameters)
    }

    /// A copy of the second moment, `[c_out, h_out, w_out]` or `[c_out]`, once the layer has had a forward pass with
    /// gradients.
    pub fn second_moment(&self) -> Option<Tensor> {
        self.accumulator.snapshot()
    }
}

impl nn::Module for SvgdConv2D {
    fn forward(&self, xs: &Tensor) -> Tensor {
        self.f_forward(xs).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// An image without a batch axis is a batch of one.
fn batch_size(xs: &Tensor) -> Vec<i64> {
    let mut size = xs.size();
    if size.len() == 3 {
        size.insert(0, 1);
    }
    if size.is_empty() { vec![1] } else { size }
}

/// Whether a convolution of it has a channels_last output.
fn is_channels_last(tensor: &Tensor) -> bool {
    tensor.dim() == 4 && !tensor.is_contiguous() && tensor.permute([0, 2, 3, 1]).is_contiguous()
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
        ("in_dim", [in_dim; 2], 1),
        ("out_dim", [out_dim; 2], 1),
        ("ksize", ksizes, 1),
        ("stride", config.stride, 1),
        ("padding", config.padding, 0),
        ("dilation", config.dilation, 1),
        ("groups", [groups; 2], 1),
    ] {
        if value.iter().any(|&v| v < smallest) {
            return error(argument, &format!("at least {smallest}"), format!("{value:?}"));
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
