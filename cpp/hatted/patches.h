// What the weights of a convolution see, and second moments of it: sums over all samples and positions.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>

namespace hatted {

using at::Tensor;

// How a kernel walks over images; pairs are (height, width).
struct Window {
  std::array<int64_t, 2> kernel, stride, padding, dilation;
  int64_t groups;
};

// Of a patch a, [in] with in = c / groups * kh * kw, in the order of a row of the weight: the sum of a aᵀ, as
// [groups, in, in] of this kind; `with_one` puts a 1 behind each a. The images are [n, c, h, w].
Tensor patch_products(const Tensor& images, const Window& window, at::ScalarType kind, bool with_one);

// The same of the channels at each position: [groups, c / groups, c / groups].
Tensor channel_products(const Tensor& images, int64_t groups);

}  // namespace hatted
