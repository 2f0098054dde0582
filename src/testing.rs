//! What the tests of this crate need and tch does not bind. Not part of the API.

use crate::bridge::ffi;
use crate::convert::{lend, take};
use crate::error::Result;
use tch::Tensor;

/// The tensor without its data, on the meta device.
pub fn to_meta(tensor: &Tensor) -> Result<Tensor> {
    Ok(take(ffi::to_meta(lend(tensor))?))
}

/// Runs `f` and says how many bytes of tensors it held at most beyond those that were there before.
pub fn peak_memory<T>(f: impl FnOnce() -> T) -> Result<(T, i64)> {
    ffi::start_memory_count()?;
    let result = f();
    Ok((result, ffi::stop_memory_count()?))
}
