// The backward passes of svgd::linear and svgd::conv2d, on every device.
//
// t = scale * g / sqrt(r + eps) multiplies column j of g by one number when r has one value per output (Linear) or
// per channel (Conv2D with Granularity::Channel). Then grad_weight is the plain weight gradient with row j multiplied
// by that number, and t is never formed. Only Conv2D with Granularity::Element forms it.
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <torch/library.h>

#include "../ops.h"

namespace svgd {
namespace {

// g w, with the operands in the order in which autograd's own addmm and mm multiply them: an input in column-major
// order gets a column-major gradient. So the result is that of the original to the bit.
Tensor input_gradient(const Tensor& grad_output, const Tensor& weight, const Tensor& input) {
  if (input.sym_stride(0) == 1 && input.sym_stride(1) == input.sym_size(0)) {
    return at::mm(weight.t(), grad_output.t()).t();
  }
  return at::mm(grad_output, weight);
}

// What the original's backward pass gives.
Gradients plain_linear_backward(const Tensor& grad_output, const Tensor& input, const Tensor& weight,
                                BackwardMask mask) {
  SVGD_CHECK(ShapeError, grad_output.dim() >= 1 && grad_output.sym_size(-1) >= 1,
             "svgd::_linear_backward: argument 'grad_output': expected [..., out] with at least one output, got ",
             grad_output.sym_sizes(), "; pass the gradient of the output of svgd::linear");
  const auto out = grad_output.sym_size(-1);
  const auto rows = grad_output.sym_numel() / out;
  const auto gradient = grad_output.reshape_symint({rows, out});
  const auto matrix = mask[0] || mask[1] ? input.reshape_symint({rows, input.sym_size(-1)}) : Tensor();
  return {mask[0] ? input_gradient(gradient, weight, matrix).view_symint(input.sym_sizes()) : Tensor(),
          mask[1] ? at::mm(gradient.t(), matrix) : Tensor(), mask[2] ? at::sum(gradient, 0) : Tensor()};
}

Gradients linear_backward_kernel(const Tensor& grad_output, const Tensor& input, const Tensor& weight,
                                 const Tensor& second_moment, double scale, double decay, double eps,
                                 double gradient_scale, bool virtual_bias, BackwardMask mask) {
  // What can run out of memory comes before the state changes: a step that failed and is tried again counts once.
  auto gradients = plain_linear_backward(grad_output, input, weight, mask);
  if (mask[1]) {
    update_second_moment(grad_output.reshape_symint({-1, grad_output.sym_size(-1)}), second_moment, decay,
                         gradient_scale);
    scale_rows(std::get<1>(gradients), second_moment, scale, eps);
    if (mask[2] && virtual_bias) {
      scale_rows(std::get<2>(gradients), second_moment, scale, eps);
    }
  }
  return gradients;
}

// The same expressions, whose strides are then the same, and no state.
Gradients linear_backward_meta(const Tensor& grad_output, const Tensor& input, const Tensor& weight, const Tensor&,
                               double, double, double, double, bool, BackwardMask mask) {
  return plain_linear_backward(grad_output, input, weight, mask);
}

Gradients conv2d_backward_kernel(const Tensor& grad_output, const Tensor& input, const Tensor& weight,
                                 const Tensor& second_moment, c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                                 c10::SymIntArrayRef dilation, c10::SymInt groups, double scale, double decay,
                                 double eps, double gradient_scale, bool virtual_bias, BackwardMask mask) {
  const std::array<c10::SymInt, 1> bias_size{weight.sym_size(0)};
  const std::array<c10::SymInt, 2> output_padding{0, 0};
  const auto plain_backward = [&](const Tensor& gradient, BackwardMask asked) {
    return at::convolution_backward_symint(gradient, input, weight, bias_size, stride, padding, dilation,
                                           /*transposed=*/false, output_padding, groups, asked);
  };
  if (!mask[1]) {  // a frozen weight: no virtual gradient is formed, and the state stays as it is
    return plain_backward(grad_output, mask);
  }
  // A step that runs out of memory and is tried again counts once.
  const auto before = second_moment.clone();
  try {
    Tensor grad_input, grad_weight, grad_bias;
    // The statistic comes first: the gradient has just been written, and is in the cache.
    if (is_channel_granular(grad_output, second_moment)) {
      update_second_moment(grad_output, second_moment, decay, gradient_scale);
      std::tie(grad_input, grad_weight, grad_bias) = plain_backward(grad_output, mask);
      scale_rows(grad_weight, second_moment, scale, eps);
      if (mask[2] && virtual_bias) {
        scale_rows(grad_bias, second_moment, scale, eps);
      }
      return {grad_input, grad_weight, grad_bias};
    }
    // The virtual gradient is a temporary: it is gone before the memory for grad_input is taken.
    std::tie(std::ignore, grad_weight, grad_bias) =
        plain_backward(virtual_grad(grad_output, second_moment, scale, decay, eps, gradient_scale),
                       {false, true, mask[2] && virtual_bias});
    if (mask[0]) {
      grad_input = std::get<0>(plain_backward(grad_output, {true, false, false}));
    }
    if (mask[2] && !virtual_bias) {
      // Not by plain_backward: oneDNN would compute the weight's gradient along with that of the bias.
      grad_bias = at::sum(grad_output, {0, 2, 3});
    }
    return {grad_input, grad_weight, grad_bias};
  } catch (...) {
    second_moment.copy_(before);
    throw;
  }
}

}  // namespace

TORCH_LIBRARY_IMPL(svgd, CompositeExplicitAutograd, m) {
  m.impl("_linear_backward", linear_backward_kernel);
  m.impl("_conv2d_backward", conv2d_backward_kernel);
}

TORCH_LIBRARY_IMPL(svgd, Meta, m) { m.impl("_linear_backward", linear_backward_meta); }

}  // namespace svgd
