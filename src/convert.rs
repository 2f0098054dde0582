//! Tensors across the border between tch and cxx: the one home of `unsafe`, but for what cxx generates.
#![allow(unsafe_code)]

use crate::bridge::ffi;
use crate::error::{Error, Result};
use cxx::{CxxVector, UniquePtr};
use tch::Tensor;

/// Lends a tch tensor to C++.
pub fn lend(tensor: &Tensor) -> &ffi::Tensor {
    // SAFETY: a tch tensor points to a heap-allocated `torch::Tensor`, which is `at::Tensor`, and is never null; it
    // lives as long as the borrow. C++ only takes it as `const at::Tensor&`.
    unsafe { &*tensor.as_ptr().cast::<ffi::Tensor>() }
}

/// Takes a tensor over from C++.
pub fn take(tensor: UniquePtr<ffi::Tensor>) -> Tensor {
    // SAFETY: the bridge makes its results with `std::make_unique<at::Tensor>`, so the pointer came from `new` and is
    // not null. `into_raw` gives up the ownership, which tch takes: it calls `delete` on the same type.
    unsafe { Tensor::from_ptr(tensor.into_raw().cast::<torch_sys::C_tensor>()) }
}

/// Lends a list of tch tensors to C++.
pub(crate) fn lend_all<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<UniquePtr<CxxVector<ffi::Tensor>>> {
    let mut list = ffi::tensor_list()?;
    for tensor in tensors {
        ffi::append(list.pin_mut(), lend(tensor))?;
    }
    Ok(list)
}

/// An undefined tensor is what the bridge takes for no bias; a caller's undefined bias is a mistake.
pub(crate) fn bias_or_undefined(op: &str, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) if !bias.defined() => Err(Error::Config(format!(
            "{op}: argument 'bias': expected a tensor or none, got an undefined tensor; pass None for no bias"
        ))),
        Some(bias) => Ok(bias.shallow_clone()),
        None => Ok(Tensor::new()),
    }
}
