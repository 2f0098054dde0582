// Shapes, kinds and memory formats of every operator's results, without data. No state is touched.
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "../ops.h"

namespace svgd {
namespace {

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
  const auto format = batch.suggest_memory_format() == at::MemoryFormat::ChannelsLast ||
                              weight.suggest_memory_format() == at::MemoryFormat::ChannelsLast
                          ? at::MemoryFormat::ChannelsLast
                          : at::MemoryFormat::Contiguous;
  const auto output = batch.new_empty_symint(size).contiguous(format);
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

Gradients empty_gradients(const Tensor& grad_output, const Tensor& input, c10::SymIntArrayRef weight_size,
                          BackwardMask mask) {
  return {mask[0] ? at::empty_like(input) : Tensor(), mask[1] ? grad_output.new_empty_symint(weight_size) : Tensor(),
          mask[2] ? grad_output.new_empty_symint(weight_size.slice(0, 1)) : Tensor()};
}

Gradients linear_backward_meta(const Tensor& grad_output, const Tensor& input, const Tensor& /*weight*/,
                               const Tensor& /*second_moment*/, double, double, double, double, bool,
                               BackwardMask mask) {
  return empty_gradients(grad_output, input, {grad_output.sym_size(-1), input.sym_size(-1)}, mask);
}

Gradients conv2d_backward_meta(const Tensor& grad_output, const Tensor& input, const Tensor& weight, const Tensor&,
                               c10::SymIntArrayRef, c10::SymIntArrayRef, c10::SymIntArrayRef, c10::SymInt, double,
                               double, double, double, bool, BackwardMask mask) {
  return empty_gradients(grad_output, input, weight.sym_sizes(), mask);
}

}  // namespace

TORCH_LIBRARY_IMPL(svgd, Meta, m) {
  m.impl("linear", linear_meta);
  m.impl("conv2d", conv2d_meta);
  m.impl("virtual_grad", virtual_grad_meta);
  m.impl("_virtual_grad_composed", virtual_grad_meta);
  m.impl("_update_second_moment", update_second_moment_meta);
  m.impl("_scale_rows", scale_rows_meta);
  m.impl("_linear_backward", linear_backward_meta);
  m.impl("_conv2d_backward", conv2d_backward_meta);
}

}  // namespace svgd
