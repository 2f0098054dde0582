// Every schema of the svgd namespace. Operators that lead with `_` are internal.
//
//   gradient_scale   the factor k of docs/design.md; 0 or less means the batch size
//   second_moment    the accumulator, updated in place once per backward pass
//   output_mask      which of the gradients of input, weight and bias to compute
#include <torch/headeronly/version.h>
#include <torch/library.h>

// What a loader reads in the file (examples/torch_ops.py), since a PyTorch of another version lacks symbols that this
// library needs, and says no more than that. Nothing refers to it: compiler and linker are told to keep it.
extern const char kBuiltFor[];
__attribute__((used, retain)) const char kBuiltFor[] = "tch-svgd is built for libtorch " TORCH_VERSION;

TORCH_LIBRARY(svgd, m) {
  m.def(
      "linear(Tensor input, Tensor weight, Tensor? bias, Tensor second_moment, float scale, float decay, float eps, "
      "float gradient_scale, bool virtual_bias) -> Tensor");
  m.def(
      "conv2d(Tensor input, Tensor weight, Tensor? bias, Tensor second_moment, SymInt[2] stride, SymInt[2] padding, "
      "SymInt[2] dilation, SymInt groups, float scale, float decay, float eps, float gradient_scale, "
      "bool virtual_bias) -> Tensor");
  m.def(
      "virtual_grad(Tensor grad_output, Tensor(a!) second_moment, float scale, float decay, float eps, "
      "float gradient_scale) -> Tensor");

  m.def(
      "_linear_backward(Tensor grad_output, Tensor input, Tensor weight, Tensor(a!) second_moment, float scale, "
      "float decay, float eps, float gradient_scale, bool virtual_bias, bool[3] output_mask) "
      "-> (Tensor, Tensor, Tensor)");
  m.def(
      "_conv2d_backward(Tensor grad_output, Tensor input, Tensor weight, Tensor(a!) second_moment, SymInt[2] stride, "
      "SymInt[2] padding, SymInt[2] dilation, SymInt groups, float scale, float decay, float eps, "
      "float gradient_scale, bool virtual_bias, bool[3] output_mask) -> (Tensor, Tensor, Tensor)");
  m.def("_scale_rows(Tensor(a!) rows, Tensor second_moment, float scale, float eps) -> ()");
  m.def("_update_second_moment(Tensor grad_output, Tensor(a!) second_moment, float decay, float gradient_scale) -> ()");
  m.def(
      "_virtual_grad_composed(Tensor grad_output, Tensor(a!) second_moment, float scale, float decay, float eps, "
      "float gradient_scale) -> Tensor");
}
