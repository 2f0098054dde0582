//! What the tests of this crate need and tch does not bind. Not part of the API.

use crate::bridge::ffi;
pub use crate::bridge::ffi::Tensor as CxxTensor;
pub use crate::convert::{lend, take};
use crate::error::Result;
pub use crate::hatted::method::Sealed;
use tch::Tensor;

/// The operators that another crate has registered, as [`BuildInfo`](crate::BuildInfo) has ours.
pub fn operators(name_space: &str) -> Result<Vec<crate::Operator>> {
    crate::build_info::operators(name_space)
}

/// The tensor without its data, on the meta device.
pub fn to_meta(tensor: &Tensor) -> Result<Tensor> {
    Ok(take(ffi::to_meta(lend(tensor))?))
}

/// Runs `f` and says how many bytes of tensors it held at most beyond those that were there before.
pub fn peak_memory<T>(f: impl FnOnce() -> T) -> Result<(T, i64)> {
    with_memory(i64::MAX, f)
}

/// As [`peak_memory`], where libtorch has no more than `limit` bytes for tensors: it refuses what would be more, which
/// counts as held.
pub fn with_memory<T>(limit: i64, f: impl FnOnce() -> T) -> Result<(T, i64)> {
    ffi::start_memory_count(limit)?;
    let result = f();
    Ok((result, ffi::stop_memory_count()?))
}

/// Runs `f` on a dual tensor, in forward-mode differentiation, and returns the tangent of the result, which is undefined
/// where there is none.
pub fn tangent<T>(
    primal: &Tensor,
    tangent: &Tensor,
    f: impl FnOnce(&Tensor) -> std::result::Result<Tensor, T>,
) -> Result<std::result::Result<Tensor, T>> {
    let level = ffi::enter_dual_level()?;
    let output = f(&Tensor::internal_make_dual(primal, tangent, level as i64));
    let result = output.map(|output| Tensor::internal_unpack_dual(&output, level as i64).1);
    ffi::exit_dual_level(level)?;
    Ok(result)
}
