// Block-normalized gradients: what stands between the backward pass and the optimizer. docs/design.md, Mathematics.
#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

namespace bng {

using at::Tensor;

// Multiplies the gradients of each block, `blocks[k]` of them in a row, by one number:
//   "unit"      value / |g|
//   "adaptive"  value |w| / |g|, w the block's parameters
//   "clip"      min(1, value / |g|)
// A block whose |g| (or, for "adaptive", |w|) is zero stays as it is; so does one whose norm is not finite, and
// `skipped` counts it. `norms` gets every |g|, of before. Nothing waits for the device. A dispatcher call.
void normalize_(at::TensorList gradients, at::TensorList parameters, at::IntArrayRef blocks, const Tensor& norms,
                const Tensor& skipped, std::string_view rule, double value);

}  // namespace bng
