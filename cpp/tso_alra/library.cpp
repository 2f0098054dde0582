// Every schema of the tso_alra namespace. Operators that lead with `_` are internal.
//
//   input_factor, output_factor   A and B, updated in place by a backward pass with `update`
//   input_root, output_root       A^(-1/2) and B^(-1/2), as _inverse_roots leaves them
//   output_mask                   which of the gradients of input, weight and bias to compute
#include "../hatted/layers.h"
#include "method.h"

TORCH_LIBRARY(tso_alra, m) {
  // For every layer, as here for the linear one:
  //   linear(Tensor input, Tensor weight, Tensor? bias, Tensor input_factor, Tensor output_factor, Tensor input_root,
  //     Tensor output_root, float gamma, float gradient_scale, bool sum_positions, bool update, bool precondition,
  //     bool graft) -> Tensor
  //   _linear_backward(Tensor grad_output, Tensor input, Tensor? weight, Tensor(a!) input_factor,
  //     Tensor(b!) output_factor, Tensor input_root, Tensor output_root, float gamma, float gradient_scale,
  //     bool sum_positions, bool update, bool precondition, bool graft, bool[3] output_mask)
  //     -> (Tensor, Tensor, Tensor)
  hatted::Operators<tso_alra::TsoAlra>::define(m);

  m.def("_inverse_roots(Tensor[] factors, Tensor(a!)[] roots, float eps, bool relative) -> ()");
}

HATTED_OPERATORS(tso_alra, tso_alra::TsoAlra)
