//! The backward pass, with this crate's errors.

use crate::bridge::ffi;
use crate::convert::lend;
use crate::error::Result;
use tch::Tensor;

/// As [`Tensor::f_backward`], with typed errors: what an operator finds wrong in a backward pass arrives as what it is.
///
/// **State**: the gradients of the graph's leaves, and the second moments of its layers. After an error each layer's is as
/// before its own pass, or as after it.
///
/// # Errors
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::Shape`](crate::Error::Shape) and the others of the
/// operators; [`Error::Torch`](crate::Error::Torch) for what libtorch raises, as for a `loss` that is no scalar or has
/// no graph.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// let weight = Tensor::ones([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
/// tch_svgd::backward(&weight.square().sum(Kind::Float))?;
/// assert_eq!(Vec::<f32>::try_from(weight.grad())?, [2.0, 2.0, 2.0]);
/// assert!(matches!(tch_svgd::backward(&weight), Err(tch_svgd::Error::Torch(_)))); // no scalar
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn backward(loss: &Tensor) -> Result<()> {
    Ok(ffi::backward(lend(loss))?)
}
