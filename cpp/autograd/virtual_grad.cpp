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
  Tensor virtual_gradient;
  {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    virtual_gradient = virtual_grad(grad_output, second_moment, scale, decay, eps, gradient_scale);
  }
  mark_changed(second_moment);
  return refuse_double_backward("svgd::virtual_grad", {grad_output}, {virtual_gradient})[0];
}

}  // namespace

TORCH_LIBRARY_IMPL(svgd, Autograd, m) { m.impl("virtual_grad", virtual_grad_autograd); }

}  // namespace svgd
