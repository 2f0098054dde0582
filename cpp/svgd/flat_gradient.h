// A gradient as the kernels of every device see it: flat memory in its own dense order, beside its second moment in
// that order.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/accumulate.h>

#include "second_moment.h"

namespace svgd {

// values[outer][features][inner]. The second moment has one value per feature, and the mean goes over outer and inner.
// inner is 1 unless the features are the channels of contiguous images.
struct FlatGradient {
  Tensor values;         // dense, in the order above
  Tensor second_moment;  // dense, in the order of the features; of the caller's memory where that has this order
  int64_t outer, features, inner;
};

// Copies a gradient that is neither contiguous nor channels_last, and a second moment whose order is not that of the
// gradient; `return_second_moment` brings the latter back.
inline FlatGradient flatten(const Tensor& grad_output, const Tensor& second_moment) {
  const bool channels_last = virtual_grad_format(grad_output) == at::MemoryFormat::ChannelsLast;
  const auto values = channels_last ? grad_output : grad_output.contiguous();
  const auto features = second_moment.numel();
  if (!is_channel_granular(grad_output, second_moment)) {
    const auto ordered = channels_last ? second_moment.permute({1, 2, 0}) : second_moment;
    return {values, ordered.contiguous(), values.size(0), features, 1};
  }
  const auto inner = channels_last ? 1 : c10::multiply_integers(values.sizes().slice(2));
  const auto outer = features * inner == 0 ? 0 : values.numel() / (features * inner);
  return {values, second_moment.contiguous(), outer, features, inner};
}

// Writes the updated second moment to the caller's tensor, unless the kernel has updated that itself.
inline void return_second_moment(const FlatGradient& flat, const Tensor& grad_output, const Tensor& second_moment) {
  if (flat.second_moment.data_ptr() == second_moment.data_ptr()) {
    return;
  }
  const bool permuted =
      flat.second_moment.dim() == 3 && virtual_grad_format(grad_output) == at::MemoryFormat::ChannelsLast;
  second_moment.copy_(permuted ? flat.second_moment.permute({2, 0, 1}) : flat.second_moment);
}

// Rows as dense memory, one after another; the order within a row does not matter, as in a channels_last weight. Copies
// what is laid out otherwise; `return_rows` brings that back.
inline Tensor pack_rows(const Tensor& rows) {
  const bool packed =
      rows.is_non_overlapping_and_dense() && (rows.size(0) == 1 || rows.stride(0) == rows.numel() / rows.size(0));
  return packed ? rows : rows.contiguous();
}

inline void return_rows(const Tensor& packed, const Tensor& rows) {
  if (!packed.is_same(rows)) {
    rows.copy_(packed);
  }
}

// The factor k of docs/design.md: 0 or less means the batch size.
inline double resolve_gradient_scale(const Tensor& grad_output, double gradient_scale) {
  return gradient_scale > 0 ? gradient_scale : static_cast<double>(grad_output.size(0));
}

}  // namespace svgd
