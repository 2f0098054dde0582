// The forward values of svgd::linear and svgd::conv2d: those of the originals, to the bit, on every device.
#include <ATen/ops/convolution.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <torch/library.h>

#include "../ops.h"

namespace svgd {
namespace {

Tensor linear_forward(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                      const Tensor& second_moment, double scale, double decay, double eps, double gradient_scale,
                      bool /*virtual_bias*/) {
  check_linear(input, weight, bias, second_moment, scale, decay, eps, gradient_scale);
  const bool has_bias = bias.has_value() && bias->defined();
  if (input.dim() <= 2 || (has_bias && input.is_contiguous()) || !weight.requires_grad()) {
    return at::linear(input, weight, bias);
  }
  // Below autograd at::linear may take a batched product here, as the strides are, also those of axes of one; with
  // gradients it always folds the leading axes into one matrix, which rounds differently. Folded too, this is the value
  // that training with the original sees.
  auto output_size = input.sym_sizes().vec();
  output_size.back() = weight.sym_size(0);
  auto output = at::mm(input.reshape_symint({-1, weight.sym_size(1)}), weight.t()).view_symint(output_size);
  return has_bias ? output.add_(*bias) : output;
}

Tensor conv2d_forward(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                      const Tensor& second_moment, c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                      c10::SymIntArrayRef dilation, c10::SymInt groups, double scale, double decay, double eps,
                      double gradient_scale, bool /*virtual_bias*/) {
  const bool unbatched = input.dim() == 3;
  const auto batch = unbatched ? input.unsqueeze(0) : input;
  check_conv2d(batch, weight, bias, second_moment, stride, padding, dilation, groups, scale, decay, eps,
               gradient_scale);
  const std::array<c10::SymInt, 2> output_padding{0, 0};
  auto output = at::convolution_symint(batch, weight, bias, stride, padding, dilation, /*transposed=*/false,
                                       output_padding, std::move(groups));
  return unbatched ? output.squeeze(0) : output;
}

}  // namespace

TORCH_LIBRARY_IMPL(svgd, CompositeExplicitAutograd, m) {
  m.impl("linear", linear_forward);
  m.impl("conv2d", conv2d_forward);
}

}  // namespace svgd
