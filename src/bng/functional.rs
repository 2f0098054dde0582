//! The operator of block-normalized gradients.

use super::Normalization;
use crate::bridge::ffi;
use crate::convert::{lend, lend_all};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use tch::Tensor;

/// Multiplies the gradients of each block by one number, which [`Normalization`] says (BNG paper, Algorithm 1).
///
/// - `gradients`: dense, on one device. **Changed.**
/// - `parameters`: those of the gradients, of the same sizes, in the same order.
/// - `blocks`: how many gradients in a row are a block.
/// - `norms`: Double, `[blocks]`. **Changed** to the blocks' norms, of before.
/// - `skipped`: Int64, `[]`. **Changed**: grows by the number of blocks whose norm is not finite, and which stay as they are.
///
/// Nothing waits for the device; the number of kernels does not grow with that of the blocks, unless gradients are of half
/// precision, which libtorch multiplies one by one.
///
/// # Errors
/// [`Error::Shape`], [`Error::Kind`], [`Error::Device`], [`Error::Config`], [`Error::Unsupported`] name the argument;
/// [`Error::OutOfMemory`]; [`Error::Torch`] for anything else that libtorch raises. Nothing has changed then.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::Normalization;
/// use tch_svgd::functional::bng::normalize;
/// let (weight, bias) = (Tensor::from_slice(&[3f32]), Tensor::from_slice(&[4f32]));
/// let (norms, skipped) = (Tensor::zeros([1], (Kind::Double, Device::Cpu)), Tensor::from(0i64));
/// normalize(&[&weight, &bias], &[&weight, &bias], &[2], &norms, &skipped, Normalization::Unit)?;
/// assert_eq!((weight.double_value(&[0]), norms.double_value(&[0])), (0.6f32 as f64, 5.0));
/// # Ok::<(), tch_svgd::Error>(())
/// ```
pub fn normalize(
    gradients: &[&Tensor],
    parameters: &[&Tensor],
    blocks: &[i64],
    norms: &Tensor,
    skipped: &Tensor,
    normalization: Normalization,
) -> Result<()> {
    let (rule, value) = normalization.rule();
    let (gradients, parameters) = (lend_all(gradients.iter().copied())?, lend_all(parameters.iter().copied())?);
    Ok(ffi::bng_normalize(&gradients, &parameters, blocks, lend(norms), lend(skipped), rule, value)?)
}
