// The operators of second_moment.h: their checks and calls, and their kernels for every device without one of ours,
// which are what the others are compared with.
#include "second_moment.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/where.h>
#include <torch/library.h>

#include <cmath>

#include "../hatted/autograd.h"
#include "../hatted/call.h"
#include "../hatted/checks.h"
#include "flat_gradient.h"

namespace svgd {

// ---- Calls ----

Tensor virtual_grad(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay, double eps,
                    double gradient_scale) {
  static const auto op = hatted::find_operator<decltype(virtual_grad)>("svgd::virtual_grad");
  return op.call(grad_output, second_moment, scale, decay, eps, gradient_scale);
}

Tensor virtual_grad_composed(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay,
                             double eps, double gradient_scale) {
  static const auto op = hatted::find_operator<decltype(virtual_grad_composed)>("svgd::_virtual_grad_composed");
  return op.call(grad_output, second_moment, scale, decay, eps, gradient_scale);
}

void update_second_moment(const Tensor& grad_output, const Tensor& second_moment, double decay, double gradient_scale) {
  static const auto op = hatted::find_operator<decltype(update_second_moment)>("svgd::_update_second_moment");
  op.call(grad_output, second_moment, decay, gradient_scale);
}

void scale_rows(const Tensor& rows, const Tensor& second_moment, double scale, double eps) {
  static const auto op = hatted::find_operator<decltype(scale_rows)>("svgd::_scale_rows");
  op.call(rows, second_moment, scale, eps);
}

// ---- Checks ----

// The kernels compute in float for every kind but Double: a value must keep its meaning there.
void check_hyperparameters(const char* op, double scale, double decay, double eps, double gradient_scale) {
  HATTED_CHECK(ConfigError, std::isfinite(static_cast<float>(scale)) && scale >= 0, op,
               ": argument 'scale': expected a finite number >= 0, got ", scale, "; the paper uses 0.001 to 0.1");
  HATTED_CHECK(ConfigError, decay >= 0 && static_cast<float>(decay) < 1, op,
               ": argument 'decay': expected a number in [0, 1), got ", decay, "; the paper uses 0.9");
  HATTED_CHECK(ConfigError, std::isfinite(eps) && static_cast<float>(eps) > 0, op,
               ": argument 'eps': expected a finite number > 0, got ", eps, "; the paper uses 1e-6");
  HATTED_CHECK(ConfigError, std::isfinite(static_cast<float>(gradient_scale)), op,
               ": argument 'gradient_scale': expected a finite number, got ", gradient_scale,
               "; 1 takes the gradient as received, 0 or less means the batch size");
}

void check_second_moment(const char* op, const Tensor& grad_output, const Tensor& second_moment) {
  hatted::check_tensor(op, "grad_output", grad_output);
  HATTED_CHECK(ShapeError, grad_output.dim() >= 1, op,
               ": argument 'grad_output': expected a batch axis, got a scalar; unsqueeze it");
  hatted::check_state(op, "second_moment", second_moment, grad_output);
  const auto per_element = grad_output.sym_sizes().slice(1);
  HATTED_CHECK(ShapeError,
               second_moment.sym_sizes() == per_element ||
                   (is_channel_granular(grad_output, second_moment) && second_moment.sym_size(0) == per_element[0]),
               op, ": argument 'second_moment': expected shape ", per_element,
               " (one value per element of a sample) or that of dimension 1 alone (one per channel), got ",
               second_moment.sym_sizes(), " for gradients of shape ", grad_output.sym_sizes(),
               "; create it with zeros of one of the two shapes");
}

void check_scale_rows(const Tensor& rows, const Tensor& second_moment, double scale, double eps) {
  constexpr auto op = "svgd::_scale_rows";
  hatted::check_tensor(op, "rows", rows);
  HATTED_CHECK(ShapeError, rows.dim() >= 1, op, ": argument 'rows': expected at least one dimension, got a scalar; ",
               "pass the weight gradient");
  hatted::check_state(op, "second_moment", second_moment, rows);
  HATTED_CHECK(ShapeError, second_moment.dim() == 1 && second_moment.sym_size(0) == rows.sym_size(0), op,
               ": argument 'second_moment': expected shape [", rows.sym_size(0), "] (one value per row), got ",
               second_moment.sym_sizes(), "; pass the accumulator of the layer's outputs");
  check_hyperparameters(op, scale, /*decay=*/0, eps, /*gradient_scale=*/1);
}

void check_virtual_grad(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay, double eps,
                        double gradient_scale) {
  check_second_moment("svgd::virtual_grad", grad_output, second_moment);
  check_hyperparameters("svgd::virtual_grad", scale, decay, eps, gradient_scale);
}

namespace {

// ---- Composed of ATen's operators ----

// second_moment with a batch axis, and spatial axes where it has one value per channel, to broadcast over gradients.
Tensor broadcastable(const Tensor& grad_output, const Tensor& second_moment) {
  std::vector<int64_t> size{1};
  size.insert(size.end(), second_moment.sizes().begin(), second_moment.sizes().end());
  size.resize(grad_output.dim(), 1);
  return second_moment.view(size);
}

void update_second_moment_composed(const Tensor& grad_output, const Tensor& second_moment, double decay,
                                   double gradient_scale) {
  check_second_moment("svgd::_update_second_moment", grad_output, second_moment);
  if (grad_output.numel() == 0) {
    return;
  }
  const auto moment = broadcastable(grad_output, second_moment);
  std::vector<int64_t> averaged{0};
  for (auto dim = second_moment.dim() + 1; dim < grad_output.dim(); ++dim) {
    averaged.push_back(dim);
  }
  const auto scaled =
      grad_output.to(second_moment.scalar_type()).mul(resolve_gradient_scale(grad_output, gradient_scale));
  const auto mean = scaled.mul(scaled).mean(averaged, /*keepdim=*/true);
  moment.copy_(at::where(at::isfinite(mean), moment.mul(decay).add(mean.mul(1 - decay)), moment));
}

Tensor virtual_grad_composed_kernel(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay,
                                    double eps, double gradient_scale) {
  check_virtual_grad(grad_output, second_moment, scale, decay, eps, gradient_scale);
  update_second_moment_composed(grad_output, second_moment, decay, gradient_scale);
  const auto factor = at::rsqrt(broadcastable(grad_output, second_moment).add(eps)).mul_(scale);
  return grad_output.mul(factor).to(grad_output.scalar_type()).contiguous(virtual_grad_format(grad_output));
}

void scale_rows_composed(const Tensor& rows, const Tensor& second_moment, double scale, double eps) {
  check_scale_rows(rows, second_moment, scale, eps);
  std::vector<int64_t> size(rows.dim(), 1);
  size[0] = second_moment.size(0);
  rows.mul_(at::rsqrt(second_moment.add(eps)).mul_(scale).view(size));
}

// ---- Without data ----

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

// ---- Autograd: a transform of gradients, which is not itself differentiable ----

Tensor virtual_grad_autograd(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay,
                             double eps, double gradient_scale) {
  check_virtual_grad(grad_output, second_moment, scale, decay, eps, gradient_scale);
  HATTED_CHECK(
      UnsupportedError, !grad_output._fw_grad(/*level=*/0).defined(),
      "svgd::virtual_grad: argument 'grad_output': expected a tensor without a forward-mode tangent, got one with "
      "it; a virtual gradient depends on the optimizer's state and has no derivative: unpack the dual tensor first");
  Tensor virtual_gradient;
  {
    const at::AutoDispatchBelowAutograd below_autograd;
    virtual_gradient = virtual_grad(grad_output, second_moment, scale, decay, eps, gradient_scale);
  }
  if (!at::GradMode::is_enabled()) {
    return virtual_gradient;
  }
  return hatted::without_derivative("svgd::virtual_grad", {grad_output}, {virtual_gradient})[0];
}

}  // namespace

TORCH_LIBRARY_IMPL(svgd, CompositeExplicitAutograd, m) {
  m.impl("virtual_grad", virtual_grad_composed_kernel);
  m.impl("_virtual_grad_composed", virtual_grad_composed_kernel);
  m.impl("_update_second_moment", update_second_moment_composed);
  m.impl("_scale_rows", scale_rows_composed);
}

TORCH_LIBRARY_IMPL(svgd, Meta, m) {
  m.impl("virtual_grad", virtual_grad_meta);
  m.impl("_virtual_grad_composed", virtual_grad_meta);
  m.impl("_update_second_moment", update_second_moment_meta);
  m.impl("_scale_rows", scale_rows_meta);
}

TORCH_LIBRARY_IMPL(svgd, Autograd, m) { m.impl("virtual_grad", virtual_grad_autograd); }

TORCH_LIBRARY_IMPL(svgd, ADInplaceOrView, m) {
  m.impl("virtual_grad", hatted::Changing<virtual_grad, 1>::call);
  m.impl("_virtual_grad_composed", hatted::Changing<virtual_grad_composed, 1>::call);
  m.impl("_update_second_moment", hatted::Changing<update_second_moment, 1>::call);
  m.impl("_scale_rows", hatted::Changing<scale_rows, 0>::call);
}

}  // namespace svgd
