// Every schema of the svgd namespace. Operators that lead with `_` are internal.
//
//   gradient_scale   the factor k of docs/design.md; 0 or less means the batch size
//   second_moment    the accumulator, updated in place once per backward pass
//   output_mask      which of the gradients of input, weight and bias to compute
#include "../hatted/layers.h"
#include "method.h"

TORCH_LIBRARY(svgd, m) {
  // For every layer, as here for the convolution (the weight of _linear_backward is optional):
  //   conv2d(Tensor input, Tensor weight, Tensor? bias, Tensor second_moment, SymInt[2] stride, SymInt[2] padding,
  //     SymInt[2] dilation, SymInt groups, float scale, float decay, float eps, float gradient_scale,
  //     bool virtual_bias) -> Tensor
  //   _conv2d_backward(Tensor grad_output, Tensor input, Tensor weight, Tensor(a!) second_moment, SymInt[2] stride,
  //     SymInt[2] padding, SymInt[2] dilation, SymInt groups, float scale, float decay, float eps,
  //     float gradient_scale, bool virtual_bias, bool[3] output_mask) -> (Tensor, Tensor, Tensor)
  hatted::Operators<svgd::Svgd>::define(m);

  m.def(
      "virtual_grad(Tensor grad_output, Tensor(a!) second_moment, float scale, float decay, float eps, "
      "float gradient_scale) -> Tensor");
  m.def("_scale_rows(Tensor(a!) rows, Tensor second_moment, float scale, float eps) -> ()");
  m.def("_update_second_moment(Tensor grad_output, Tensor(a!) second_moment, float decay, float gradient_scale) -> ()");
  m.def(
      "_virtual_grad_composed(Tensor grad_output, Tensor(a!) second_moment, float scale, float decay, float eps, "
      "float gradient_scale) -> Tensor");
}

HATTED_OPERATORS(svgd, svgd::Svgd)
