// Autograd of svgd::linear: what the forward pass keeps, and which gradients the backward pass asks for.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "../ops.h"
#include "shared.h"

namespace svgd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, const Tensor& weight,
                        const std::optional<Tensor>& bias, const Tensor& second_moment, double scale, double decay,
                        double eps, double gradient_scale, bool virtual_bias) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    // As the original: what no gradient needs is not kept, and may change before the backward pass.
    ctx->save_for_backward({input, input.requires_grad() ? weight : Tensor()});
    // saved_data, since the backward pass changes it: a saved variable would refuse that the second time.
    ctx->saved_data["second_moment"] = second_moment;
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["decay"] = decay;
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["gradient_scale"] = gradient_scale;
    ctx->saved_data["virtual_bias"] = virtual_bias;
    ctx->saved_data["has_bias"] = bias.has_value() && bias->defined();
    // An undefined gradient is no gradient: it must not enter the second moment as zeros.
    ctx->set_materialize_grads(false);
    return linear(input, weight, bias, second_moment, scale, decay, eps, gradient_scale, virtual_bias);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad_outputs) {
    variable_list gradients(9);  // one place for each argument of forward
    if (!grad_outputs[0].defined()) {
      return gradients;
    }
    const auto saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    std::tie(gradients[0], gradients[1], gradients[2]) =
        linear_backward(grad_outputs[0], saved[0], saved[1], data["second_moment"].toTensor(), data["scale"].toDouble(),
                        data["decay"].toDouble(), data["eps"].toDouble(), data["gradient_scale"].toDouble(),
                        data["virtual_bias"].toBool(), gradients_asked_for(ctx));
    return gradients;
  }
};

Tensor linear_autograd(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                       const Tensor& second_moment, double scale, double decay, double eps, double gradient_scale,
                       bool virtual_bias) {
  check_linear(input, weight, bias, second_moment, scale, decay, eps, gradient_scale);
  if (is_plain(weight)) {
    return at::linear(input, weight, bias);
  }
  return LinearFunction::apply(input, weight, bias, second_moment, scale, decay, eps, gradient_scale, virtual_bias);
}

Gradients linear_backward_autograd(const Tensor& grad_output, const Tensor& input, const Tensor& weight,
                                   const Tensor& second_moment, double scale, double decay, double eps,
                                   double gradient_scale, bool virtual_bias, BackwardMask mask) {
  variable_list gradients(3);
  {
    at::AutoDispatchBelowAutograd below_autograd;
    std::tie(gradients[0], gradients[1], gradients[2]) = linear_backward(
        grad_output, input, weight, second_moment, scale, decay, eps, gradient_scale, virtual_bias, mask);
  }
  gradients = refuse_double_backward("svgd::linear", {grad_output, input, weight}, std::move(gradients));
  return {gradients[0], gradients[1], gradients[2]};
}

}  // namespace

TORCH_LIBRARY_IMPL(svgd, Autograd, m) {
  m.impl("linear", linear_autograd);
  m.impl("_linear_backward", linear_backward_autograd);
}

}  // namespace svgd
