//! SVGD's operators.

use crate::bridge::ffi;
pub use crate::bridge::ffi::{Convolution, Hyperparameters};
use crate::convert::{bias_or_undefined, lend, take};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use tch::Tensor;

impl Default for Hyperparameters {
    /// The authors' values: scale 0.01 (their ResNet), decay 0.9, eps 1e-6, the gradient as received, a true bias
    /// gradient.
    fn default() -> Self {
        Self { scale: 0.01, decay: 0.9, eps: 1e-6, gradient_scale: 1.0, virtual_bias: false }
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
    Ok(take(ffi::svgd_linear(lend(input), lend(weight), lend(&bias), lend(second_moment), &hyperparameters)?))
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
    Ok(take(ffi::svgd_conv2d(
        lend(input),
        lend(weight),
        lend(&bias),
        lend(second_moment),
        &convolution,
        &hyperparameters,
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
    Ok(take(ffi::svgd_virtual_grad(lend(grad_output), lend(second_moment), &hyperparameters)?))
}

/// [`virtual_grad`] composed of libtorch's own operators: what runs on devices without a kernel of ours, and what the
/// kernels are compared with.
#[doc(hidden)]
pub fn virtual_grad_composed(
    grad_output: &Tensor,
    second_moment: &Tensor,
    hyperparameters: Hyperparameters,
) -> Result<Tensor> {
    Ok(take(ffi::svgd_virtual_grad_composed(lend(grad_output), lend(second_moment), &hyperparameters)?))
}

/// The update of the second moment alone, as the layers whose virtual gradient is a scaling of rows make it; `scale` and
/// `eps` play no part.
#[doc(hidden)]
pub fn update_second_moment(
    grad_output: &Tensor,
    second_moment: &Tensor,
    hyperparameters: Hyperparameters,
) -> Result<()> {
    Ok(ffi::svgd_update_second_moment(lend(grad_output), lend(second_moment), &hyperparameters)?)
}
