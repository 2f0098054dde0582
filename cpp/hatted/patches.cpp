// Patches, and sums of their products without them: as weight gradients of convolutions, where libtorch has kernels.
#include "patches.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace hatted {
namespace {

// Unfolded images are made in parts of about this size, or of one image.
constexpr int64_t kUnfoldedBytes = 64 << 20;

// For each offset (y, x) of a neighbour, up to `reach` in each direction: the sum over all positions of the product of
// two channels, the second of them at the neighbour, where the images are zero outside. [c, c / groups, 2 reach + 1,
// ...]. It is the gradient of a convolution's weight, and libtorch's kernels for that need no patches in memory.
Tensor correlations(const Tensor& images, std::array<int64_t, 2> reach, int64_t groups) {
  const auto channels = images.size(1);
  const auto weight =
      images.new_empty({channels, channels / groups, 2 * reach[0] + 1, 2 * reach[1] + 1}, images.options());
  return std::get<1>(at::convolution_backward(images, images, weight, at::OptionalIntArrayRef(), {1, 1}, reach, {1, 1},
                                              /*transposed=*/false, {0, 0}, groups, {false, true, false}));
}

std::array<int64_t, 2> output_size(const Tensor& images, const Window& window) {
  const auto& [kernel, stride, padding, dilation, groups] = window;
  std::array<int64_t, 2> output{};
  for (const size_t axis : {0, 1}) {
    const auto padded = images.size(axis + 2) + 2 * padding[axis];
    output[axis] = (padded - dilation[axis] * (kernel[axis] - 1) - 1) / stride[axis] + 1;
  }
  return output;
}

// All patches, [groups, in, n * h_out * w_out].
Tensor unfolded(const Tensor& images, const Window& window) {
  const auto& [kernel, stride, padding, dilation, groups] = window;
  const auto padded = padding[0] > 0 || padding[1] > 0
                          ? at::constant_pad_nd(images, {padding[1], padding[1], padding[0], padding[0]})
                          : images;
  const auto output = output_size(images, window);
  const auto n = padded.size(0), per_group = padded.size(1) / groups;
  const auto s = padded.strides();
  // A view of the padded images, each of which stands in it once for each tap; the copy is in the order of the
  // products.
  return padded
      .as_strided(
          {groups, per_group, kernel[0], kernel[1], n, output[0], output[1]},
          {per_group * s[1], s[1], dilation[0] * s[2], dilation[1] * s[3], s[0], stride[0] * s[2], stride[1] * s[3]})
      .reshape({groups, per_group * kernel[0] * kernel[1], n * output[0] * output[1]});
}

Tensor unfolded_products(const Tensor& images, const Window& window, at::ScalarType kind) {
  const auto samples = images.size(0);
  const auto in = images.size(1) / window.groups * window.kernel[0] * window.kernel[1];
  auto products = at::zeros({window.groups, in, in}, images.options().dtype(kind));
  const auto output = output_size(images, window);
  const auto bytes = window.groups * in * output[0] * output[1] * static_cast<int64_t>(products.element_size());
  const auto step = std::max<int64_t>(1, kUnfoldedBytes / std::max<int64_t>(1, bytes));
  for (int64_t begin = 0; begin < samples; begin += step) {
    const auto patches = unfolded(images.narrow(0, begin, std::min(step, samples - begin)).to(kind), window);
    products.baddbmm_(patches, patches.mT());
  }
  return products;
}

// A kernel of 3x3 at every pixel of images that are padded with one zero: the products of two taps depend on the
// distance of these alone, but for the positions outside of the grid, at which a tap still sees a pixel. There are 25
// distances where there are 81 pairs of taps. What those positions would add is taken off again: a row above and one
// below, at which only the tap ahead sees something, the columns likewise, and the corners, which are in both.
Tensor three_by_three_products(const Tensor& images, int64_t groups) {
  const auto channels = images.size(1), per_group = channels / groups;
  const auto height = images.size(2), width = images.size(3);
  // [groups, c, 3, 3, c, 3, 3] out of what depends on the distance of two taps, or with 1 for a 3 where there is but
  // one. The first tap runs backwards, so that the distance grows with both.
  const auto expanded = [&](const Tensor& by_distance) {
    const auto distances = by_distance.contiguous();
    const auto s = distances.strides();
    const bool rows = distances.size(2) > 1, columns = distances.size(3) > 1;
    return distances
        .as_strided({groups, per_group, rows ? 3 : 1, columns ? 3 : 1, per_group, rows ? 3 : 1, columns ? 3 : 1},
                    {per_group * s[0], s[0], s[2], s[3], s[1], s[2], s[3]})
        .flip({2, 3});
  };
  auto products = expanded(correlations(images, {2, 2}, groups)).contiguous();
  const auto at_taps = [&](int64_t tap_y, int64_t tap_x) {
    const auto axis = [](const Tensor& tensor, int64_t place, int64_t tap) {
      return tap < 0 ? tensor : tensor.narrow(place, tap, 1).narrow(place + 3, tap, 1);
    };
    return axis(axis(products, 2, tap_y), 3, tap_x);
  };
  constexpr int64_t kAll = -1;
  for (const int64_t tap_y : {0, 2}) {
    const auto row = images.narrow(2, tap_y == 0 ? height - 1 : 0, 1);
    at_taps(tap_y, kAll).sub_(expanded(correlations(row, {0, 2}, groups)));
    for (const int64_t tap_x : {0, 2}) {
      const auto corner = row.narrow(3, tap_x == 0 ? width - 1 : 0, 1);
      at_taps(tap_y, tap_x).add_(expanded(correlations(corner, {0, 0}, groups)));
    }
  }
  for (const int64_t tap_x : {0, 2}) {
    const auto column = images.narrow(3, tap_x == 0 ? width - 1 : 0, 1);
    at_taps(kAll, tap_x).sub_(expanded(correlations(column, {2, 0}, groups)));
  }
  return products.view({groups, per_group * 9, per_group * 9});
}

}  // namespace

Tensor channel_products(const Tensor& images, int64_t groups) {
  const auto channels = images.size(1);
  return correlations(images, {0, 0}, groups).view({groups, channels / groups, channels / groups});
}

Tensor patch_products(const Tensor& images, const Window& window, at::ScalarType kind, bool with_one) {
  using Pair = std::array<int64_t, 2>;
  const auto& [kernel, stride, padding, dilation, groups] = window;
  Tensor products;
  if (kernel == Pair{1, 1} && padding == Pair{0, 0}) {
    products = channel_products(images.slice(2, 0, {}, stride[0]).slice(3, 0, {}, stride[1]).to(kind), groups);
  } else if (kind == at::kFloat && kernel == Pair{3, 3} && stride == Pair{1, 1} && padding == Pair{1, 1} &&
             dilation == Pair{1, 1}) {
    // In Double libtorch has no such kernel, and would make patches of all distances and samples.
    products = three_by_three_products(images.to(kind), groups);
  } else {
    products = unfolded_products(images, window, kind);
  }
  if (!with_one) {
    return products;
  }
  // The products with the one: the sum of all patches, which is that of the sum of all images, and their number.
  const auto patches = unfolded(images.sum(0, /*keepdim=*/true, kind), window);
  const auto sums = patches.sum(2, /*keepdim=*/true);
  const auto count = at::full({groups, 1, 1}, images.size(0) * patches.size(2), products.options());
  return at::cat({at::cat({products, sums}, 2), at::cat({sums.mT(), count}, 2)}, 1);
}

}  // namespace hatted
