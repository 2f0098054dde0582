// Autograd of svgd::conv2d: what the forward pass keeps, and which gradients the backward pass asks for.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/conv2d.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "../ops.h"
#include "shared.h"

namespace svgd {
namespace {

using c10::SymInt;
using c10::SymIntArrayRef;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Conv2dFunction : torch::autograd::Function<Conv2dFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, const Tensor& weight,
                        const std::optional<Tensor>& bias, const Tensor& second_moment, SymIntArrayRef stride,
                        SymIntArrayRef padding, SymIntArrayRef dilation, const SymInt& groups, double scale,
                        double decay, double eps, double gradient_scale, bool virtual_bias) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    ctx->save_for_backward({input, weight});
    // saved_data, since the backward pass changes it: a saved variable would refuse that the second time.
    ctx->saved_data["second_moment"] = second_moment;
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    ctx->saved_data["dilation"] = dilation;
    ctx->saved_data["groups"] = groups;
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["decay"] = decay;
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["gradient_scale"] = gradient_scale;
    ctx->saved_data["virtual_bias"] = virtual_bias;
    ctx->saved_data["has_bias"] = bias.has_value() && bias->defined();
    // An undefined gradient is no gradient: it must not enter the second moment as zeros.
    ctx->set_materialize_grads(false);
    return conv2d(input, weight, bias, second_moment, stride, padding, dilation, groups, scale, decay, eps,
                  gradient_scale, virtual_bias);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad_outputs) {
    variable_list gradients(13);  // one place for each argument of forward
    if (!grad_outputs[0].defined()) {
      return gradients;
    }
    const auto saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    std::tie(gradients[0], gradients[1], gradients[2]) = conv2d_backward(
        grad_outputs[0], saved[0], saved[1], data["second_moment"].toTensor(), data["stride"].toSymIntVector(),
        data["padding"].toSymIntVector(), data["dilation"].toSymIntVector(), data["groups"].toSymInt(),
        data["scale"].toDouble(), data["decay"].toDouble(), data["eps"].toDouble(), data["gradient_scale"].toDouble(),
        data["virtual_bias"].toBool(), gradients_asked_for(ctx));
    return gradients;
  }
};

Tensor conv2d_autograd(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                       const Tensor& second_moment, SymIntArrayRef stride, SymIntArrayRef padding,
                       SymIntArrayRef dilation, SymInt groups, double scale, double decay, double eps,
                       double gradient_scale, bool virtual_bias) {
  // An image without a batch axis is a batch of one, as in at::conv2d.
  const bool unbatched = input.defined() && input.dim() == 3;
  const auto batch = unbatched ? input.unsqueeze(0) : input;
  check_conv2d(batch, weight, bias, second_moment, stride, padding, dilation, groups, scale, decay, eps,
               gradient_scale);
  if (is_plain(weight)) {
    return at::conv2d_symint(input, weight, bias, stride, padding, dilation, std::move(groups));
  }
  const auto output = Conv2dFunction::apply(batch, weight, bias, second_moment, stride, padding, dilation, groups,
                                            scale, decay, eps, gradient_scale, virtual_bias);
  return unbatched ? output.squeeze(0) : output;
}

Gradients conv2d_backward_autograd(const Tensor& grad_output, const Tensor& input, const Tensor& weight,
                                   const Tensor& second_moment, SymIntArrayRef stride, SymIntArrayRef padding,
                                   SymIntArrayRef dilation, SymInt groups, double scale, double decay, double eps,
                                   double gradient_scale, bool virtual_bias, BackwardMask mask) {
  variable_list gradients(3);
  {
    at::AutoDispatchBelowAutograd below_autograd;
    std::tie(gradients[0], gradients[1], gradients[2]) =
        conv2d_backward(grad_output, input, weight, second_moment, stride, padding, dilation, groups, scale, decay, eps,
                        gradient_scale, virtual_bias, mask);
  }
  gradients = refuse_double_backward("svgd::conv2d", {grad_output, input, weight}, std::move(gradients));
  return {gradients[0], gradients[1], gradients[2]};
}

}  // namespace

TORCH_LIBRARY_IMPL(svgd, Autograd, m) {
  m.impl("conv2d", conv2d_autograd);
  m.impl("_conv2d_backward", conv2d_backward_autograd);
}

}  // namespace svgd
