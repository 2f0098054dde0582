//! The operators themselves, for code that keeps its own weights and accumulators.
//!
//! [`Svgd`](crate::Svgd) and its layers are built on these. Each is the dispatcher's operator of the same name, the
//! one that Python sees as `torch.ops.svgd.…`.

use crate::bridge::ffi;
use crate::convert::{lend, take};
use crate::error::{Error, Result};
use tch::Tensor;

/// The scalar arguments of every operator (SVGD paper, Algorithm 1).
///
/// ```
/// use tch_svgd::functional::Hyperparameters;
/// let paper_mlp = Hyperparameters { scale: 0.1, ..Default::default() };
/// assert_eq!((paper_mlp.decay, paper_mlp.eps), (0.9, 1e-6));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hyperparameters {
    /// `s`: the factor of the virtual gradient. Finite, at least 0.
    pub scale: f64,
    /// `γ`: what the second moment keeps in an update. In [0, 1).
    pub decay: f64,
    /// `ε`: added to the second moment below the root. Finite, above 0.
    pub eps: f64,
    /// `k`: the factor of the gradient inside the statistic, and nowhere else; 0 or less means the batch size.
    pub gradient_scale: f64,
    /// Whether the bias gets the sum of the virtual gradient instead of that of the true one. A frozen weight has no
    /// virtual gradient: then the bias gets the true one.
    pub virtual_bias: bool,
}

impl Default for Hyperparameters {
    /// The authors' values: scale 0.01 (their ResNet), decay 0.9, eps 1e-6, the gradient as received, a true bias
    /// gradient.
    fn default() -> Self {
        Self { scale: 0.01, decay: 0.9, eps: 1e-6, gradient_scale: 1.0, virtual_bias: false }
    }
}

impl From<Hyperparameters> for ffi::Hyperparameters {
    fn from(h: Hyperparameters) -> Self {
        Self {
            scale: h.scale,
            decay: h.decay,
            eps: h.eps,
            gradient_scale: h.gradient_scale,
            virtual_bias: h.virtual_bias,
        }
    }
}

/// The geometry of a convolution; pairs are (height, width).
///
/// ```
/// use tch_svgd::functional::Convolution;
/// let halving = Convolution { stride: [2, 2], padding: [1, 1], ..Default::default() };
/// assert_eq!(halving.groups, 1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Steps of the kernel, at least 1.
    pub stride: [i64; 2],
    /// Zeros added on both sides, at least 0.
    pub padding: [i64; 2],
    /// Distance between the taps of the kernel, at least 1.
    pub dilation: [i64; 2],
    /// Groups of channels that do not see each other, at least 1.
    pub groups: i64,
}

impl Default for Convolution {
    fn default() -> Self {
        Self { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
    }
}

impl From<Convolution> for ffi::Convolution {
    fn from(c: Convolution) -> Self {
        Self { stride: c.stride, padding: c.padding, dilation: c.dilation, groups: c.groups }
    }
}

/// An undefined tensor is what the bridge takes for no bias; a caller's undefined bias is a mistake.
fn bias_or_undefined(op: &str, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) if !bias.defined() => Err(Error::Config(format!(
            "{op}: argument 'bias': expected a tensor or none, got an undefined tensor; pass None for no bias"
        ))),
        Some(bias) => Ok(bias.shallow_clone()),
        None => Ok(Tensor::new()),
    }
}

/// `input weightᵀ + bias`, whose backward pass gives `weight` the virtual gradient.
///
/// - `input`: `[…, in]`; `weight`: `[out, in]`; `bias`: `[out]`; the result: `[…, out]`, equal to
///   [`Tensor::linear`]'s to the bit.
/// - `second_moment`: `[out]`, Float (Double for Double weights), on the weight's device. **Changed** by each backward
///   pass in which `weight` needs a gradient, and only then.
///
/// In the backward pass, with `g` the gradient of the result and `n` its rows:
/// `r ← decay·r + (1 - decay)·mean((k g)²)`, then `grad_weight = diag(scale / √(r + eps)) gᵀ input`; the gradient of
/// `input` is the true one (SVGD paper, Algorithm 1 and §3.1).
///
/// # Errors
/// [`Error::Shape`], [`Error::Kind`], [`Error::Device`], [`Error::Config`], [`Error::Unsupported`] name the argument;
/// [`Error::OutOfMemory`]; [`Error::Torch`] for anything else that libtorch raises.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::functional::{Hyperparameters, linear};
/// let weight = Tensor::randn([2, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
/// let second_moment = Tensor::zeros([2], (Kind::Float, Device::Cpu));
/// let input = Tensor::randn([5, 3], (Kind::Float, Device::Cpu));
/// let output = linear(&input, &weight, None, &second_moment, Hyperparameters::default())?;
/// output.square().mean(None).backward();
/// assert_eq!(weight.grad().size(), [2, 3]);
/// assert!(second_moment.min().double_value(&[]) > 0.0);
/// # Ok::<(), tch_svgd::Error>(())
/// ```
pub fn linear(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    second_moment: &Tensor,
    hyperparameters: Hyperparameters,
) -> Result<Tensor> {
    let bias = bias_or_undefined("svgd::linear", bias)?;
    Ok(take(ffi::linear(lend(input), lend(weight), lend(&bias), lend(second_moment), &hyperparameters.into())?))
}

/// A 2-D convolution whose backward pass gives `weight` the virtual gradient.
///
/// - `input`: `[n, c_in, h, w]` or, without a batch, `[c_in, h, w]`; `weight`: `[c_out, c_in / groups, kh, kw]`; `bias`:
///   `[c_out]`; the result: `[n, c_out, h_out, w_out]` or `[c_out, h_out, w_out]`, equal to [`Tensor::conv2d`]'s to the bit.
/// - `second_moment`: `[c_out, h_out, w_out]` for one value per output element (the paper's), or `[c_out]` for one per
///   channel; Float (Double for Double weights), on the weight's device. **Changed** by each backward pass in which
///   `weight` needs a gradient, and only then.
///
/// The equations are those of [`linear`], with `t = scale·g / √(r + eps)` in the place of `g` where the weight's
/// gradient is formed.
///
/// # Errors
/// [`Error::Shape`], [`Error::Kind`], [`Error::Device`], [`Error::Config`], [`Error::Unsupported`] name the argument;
/// [`Error::OutOfMemory`]; [`Error::Torch`] for anything else that libtorch raises.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::functional::{Convolution, Hyperparameters, conv2d};
/// let weight = Tensor::randn([4, 3, 3, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
/// let second_moment = Tensor::zeros([4, 8, 8], (Kind::Float, Device::Cpu));
/// let images = Tensor::randn([2, 3, 8, 8], (Kind::Float, Device::Cpu));
/// let same = Convolution { padding: [1, 1], ..Default::default() };
/// let output = conv2d(&images, &weight, None, &second_moment, same, Hyperparameters::default())?;
/// assert_eq!(output.size(), [2, 4, 8, 8]);
/// # Ok::<(), tch_svgd::Error>(())
/// ```
pub fn conv2d(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    second_moment: &Tensor,
    convolution: Convolution,
    hyperparameters: Hyperparameters,
) -> Result<Tensor> {
    let bias = bias_or_undefined("svgd::conv2d", bias)?;
    Ok(take(ffi::conv2d(
        lend(input),
        lend(weight),
        lend(&bias),
        lend(second_moment),
        &convolution.into(),
        &hyperparameters.into(),
    )?))
}

/// The virtual gradient `t = scale·g / √(r + eps)` of the gradient `g` = `grad_output`, after the update
/// `r ← decay·r + (1 - decay)·mean((k g)²)` of `second_moment` (SVGD paper, Algorithm 1).
///
/// - `grad_output`: `[n, …]`, Float, Double, BFloat16 or Half, in any memory format.
/// - `second_moment`: `[…]` for the mean over the batch axis, or, for three or more dimensions, the size of dimension
///   1 alone for the mean over all other axes. **Changed** by every call; where the statistic is not finite, or the
///   batch is empty, it stays as it was.
///
/// # Errors
/// [`Error::Shape`], [`Error::Kind`], [`Error::Device`], [`Error::Config`], [`Error::Unsupported`] name the argument;
/// [`Error::OutOfMemory`]; [`Error::Torch`] for anything else that libtorch raises.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::functional::{Hyperparameters, virtual_grad};
/// let grad_output = Tensor::from_slice(&[3.0f32, -3.0]).view([2, 1]);
/// let second_moment = Tensor::zeros([1], (Kind::Float, Device::Cpu));
/// let h = Hyperparameters { scale: 1.0, decay: 0.0, ..Default::default() };
/// let virtual_gradient = virtual_grad(&grad_output, &second_moment, h)?;
/// assert!((virtual_gradient.double_value(&[0, 0]) - 1.0).abs() < 1e-6);
/// assert_eq!(second_moment.double_value(&[0]), 9.0);
/// # Ok::<(), tch_svgd::Error>(())
/// ```
pub fn virtual_grad(grad_output: &Tensor, second_moment: &Tensor, hyperparameters: Hyperparameters) -> Result<Tensor> {
    Ok(take(ffi::virtual_grad(lend(grad_output), lend(second_moment), &hyperparameters.into())?))
}

/// [`virtual_grad`] composed of libtorch's own operators: what runs on devices without a kernel of ours, and what the
/// kernels are compared with.
#[doc(hidden)]
pub fn virtual_grad_composed(
    grad_output: &Tensor,
    second_moment: &Tensor,
    hyperparameters: Hyperparameters,
) -> Result<Tensor> {
    Ok(take(ffi::virtual_grad_composed(lend(grad_output), lend(second_moment), &hyperparameters.into())?))
}

/// The update of the second moment alone, as the layers whose virtual gradient is a scaling of rows make it; `scale` and
/// `eps` play no part.
#[doc(hidden)]
pub fn update_second_moment(
    grad_output: &Tensor,
    second_moment: &Tensor,
    hyperparameters: Hyperparameters,
) -> Result<()> {
    Ok(ffi::update_second_moment(lend(grad_output), lend(second_moment), &hyperparameters.into())?)
}
