// Autograd of svgd::virtual_grad: a transform of gradients, which is not itself differentiable.
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include "../ops.h"
#include "shared.h"

namespace svgd {
namespace {

Tensor virtual_grad_autograd(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay,
                             double eps, double gradient_scale) {
  check_virtual_grad(grad_output, second_moment, scale, decay, eps, gradient_scale);
  SVGD_CHECK(
      UnsupportedError, !grad_output._fw_grad(/*level=*/0).defined(),
      "svgd::virtual_grad: argument 'grad_output': expected a tensor without a forward-mode tangent, got one with "
      "it; a virtual gradient depends on the optimizer's state and has no derivative: unpack the dual tensor first");
  Tensor virtual_gradient;
  {
    at::AutoDispatchBelowAutograd below_autograd;
    virtual_gradient = virtual_grad(grad_output, second_moment, scale, decay, eps, gradient_scale);
  }
  return refuse_double_backward("svgd::virtual_grad", {grad_output}, {virtual_gradient})[0];
}

}  // namespace

TORCH_LIBRARY_IMPL(svgd, Autograd, m) { m.impl("virtual_grad", virtual_grad_autograd); }

}  // namespace svgd
