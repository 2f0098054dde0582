// Shapes, kinds and memory formats of every operator's results, without data. No state is touched.
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "../ops.h"

namespace svgd {
namespace {

// The order of what a convolution and its backward pass give, on every device: channels_last where one of the two is.
at::MemoryFormat convolution_format(const Tensor& input, const Tensor& weight) {
  const auto is_channels_last = [](const Tensor& tensor) {
    return tensor.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
  };
  return is_channels_last(input) || is_channels_last(weight) ? at::MemoryFormat::ChannelsLast
                                                             : at::MemoryFormat::Contiguous;
}

Tensor linear_meta(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                   const Tensor& second_moment, double scale, double decay, double eps, double gradient_scale,
                   bool /*virtual_bias*/) {
  check_linear(input, weight, bias, second_moment, scale, decay, eps, gradient_scale);
  auto size = input.sym_sizes().vec();
  size.back() = weight.sym_size(0);
  return input.new_empty_symint(size);
}

Tensor conv2d_meta(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                   const Tensor& second_moment, c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                   c10::SymIntArrayRef dilation, c10::SymInt groups, double scale, double decay, double eps,
                   double gradient_scale, bool /*virtual_bias*/) {
  const bool unbatched = input.dim() == 3;
  const auto batch = unbatched ? input.unsqueeze(0) : input;
  check_conv2d(batch, weight, bias, second_moment, stride, padding, dilation, groups, scale, decay, eps,
               gradient_scale);
  const auto size = conv2d_output_size(batch.sym_sizes(), weight.sym_sizes(), stride, padding, dilation, groups);
  const auto output = batch.new_empty_symint(size).contiguous(convolution_format(batch, weight));
  return unbatched ? output.squeeze(0) : output;
}

Tensor virtual_grad_meta(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay, double eps,
                         double gradient_scale) {
  check_virtual_grad(grad_output, second_moment, scale, decay, eps, gradient_scale);
  return at::empty_like(grad_output, grad_output.options(), virtual_grad_format(grad_output));
}

void update_second_moment_meta(const Tensor& grad_output, const Tensor& second_moment, double, double) {
  check_second_moment("svgd::_update_second_moment", grad_output, second_moment);
}

void scale_rows_meta(const Tensor& rows, const Tensor& second_moment, double scale, double eps) {
  check_scale_rows(rows, second_moment, scale, eps);
}

Gradients conv2d_backward_meta(const Tensor& grad_output, const Tensor& input, const Tensor& weight, const Tensor&,
                               c10::SymIntArrayRef, c10::SymIntArrayRef, c10::SymIntArrayRef, c10::SymInt, double,
                               double, double, double, bool, BackwardMask mask) {
  const auto format = convolution_format(input, weight);
  const auto like = [&](const Tensor& tensor) {
    return tensor.new_empty_symint(tensor.sym_sizes()).contiguous(format);
  };
  return {mask[0] ? like(input) : Tensor(), mask[1] ? like(weight) : Tensor(),
          mask[2] ? grad_output.new_empty_symint(weight.sym_sizes().slice(0, 1)) : Tensor()};
}

}  // namespace

TORCH_LIBRARY_IMPL(svgd, Meta, m) {
  m.impl("linear", linear_meta);
  m.impl("conv2d", conv2d_meta);
  m.impl("virtual_grad", virtual_grad_meta);
  m.impl("_virtual_grad_composed", virtual_grad_meta);
  m.impl("_update_second_moment", update_second_moment_meta);
  m.impl("_scale_rows", scale_rows_meta);
  m.impl("_conv2d_backward", conv2d_backward_meta);
}

}  // namespace svgd
