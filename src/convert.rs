//! Tensors across the border between tch and cxx: the one home of `unsafe`.
#![allow(unsafe_code)]

use crate::bridge::ffi;
use cxx::UniquePtr;
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
