// TSO-ALRA's gradients: the plain ones between the two roots; and the update of A and B.
#include "method.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/diagonal.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/where.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <array>
#include <cmath>

#include "../hatted/checks.h"

namespace tso_alra {
namespace {

// factor <- (1 - gamma) factor + gamma scale products, as a new tensor; the old values where the new ones are not
// finite.
Tensor averaged(const Tensor& factor, const Tensor& products, double gamma, double scale) {
  const auto updated = factor.mul(1 - gamma).add_(products, gamma * scale);
  // A sum of products x x^T is finite where its diagonal, that of the squares, is.
  const auto is_finite = at::isfinite(at::diagonal(updated, 0, 1, 2)).all(-1).view({-1, 1, 1});
  return at::where(is_finite, updated, factor);
}

void update_factors(const TsoAlra& method, const hatted::Use& use) {
  const auto samples = static_cast<double>(use.samples()), positions = static_cast<double>(use.positions());
  if (samples == 0 || positions == 0) {
    return;
  }
  const auto k = method.gradient_scale > 0 ? method.gradient_scale : samples;
  const auto kind = method.input_factor.scalar_type();
  const bool with_one = method.input_factor.size(-1) > use.inputs();
  const auto a = averaged(method.input_factor, use.input_products(kind, with_one), method.gamma,
                          1 / (samples * (method.sum_positions ? 1 : positions)));
  const auto b = averaged(method.output_factor, use.output_products(kind, k), method.gamma, 1 / (samples * positions));
  // What can run out of memory has come before: both change, or none.
  method.input_factor.copy_(a);
  method.output_factor.copy_(b);
}

// The length of a gradient, whose squares a Float may not hold.
Tensor norm_of(const Tensor& gradient) {
  return at::linalg_vector_norm(gradient, 2, at::OptionalIntArrayRef(), /*keepdim=*/false, at::kDouble);
}

// The block [weight, bias] of each group between its roots. Without the bias's gradient the block is the weight alone.
void precondition(const TsoAlra& method, const hatted::Use& use, hatted::ParameterGradients& parameters) {
  const auto inputs = use.inputs();
  auto plain = use.blocks(parameters.weight).to(method.input_root.scalar_type());
  auto input_root = method.input_root;
  if (parameters.bias.defined()) {
    plain = at::cat({plain, parameters.bias.view({plain.size(0), plain.size(1), 1}).to(plain.scalar_type())}, 2);
  } else {
    input_root = input_root.narrow(1, 0, inputs).narrow(2, 0, inputs);
  }
  auto gradient = use.between(method.output_root, plain, input_root);
  if (method.graft) {
    const auto norm = norm_of(gradient);
    gradient.mul_(at::where(norm.gt(0), norm_of(plain).div(norm), 1));
  }
  // Into the tensors that there are, whose strides are the original's.
  parameters.weight.copy_(gradient.narrow(2, 0, inputs).reshape(parameters.weight.sizes()));
  if (parameters.bias.defined()) {
    parameters.bias.copy_(gradient.select(2, inputs).reshape(parameters.bias.sizes()));
  }
}

}  // namespace

void TsoAlra::check(const char* op, const Tensor& weight, const hatted::Sizes& sizes) const {
  const auto& groups = sizes.groups;
  const auto outputs = weight.sym_size(0) / groups;
  const auto inputs = weight.sym_numel() / weight.sym_size(0) + (sizes.has_bias ? 1 : 0);
  const auto check_matrices = [&](const char* name, const Tensor& tensor, const c10::SymInt& size) {
    hatted::check_state(op, name, tensor, weight);
    const std::array<c10::SymInt, 3> expected{groups, size, size};
    HATTED_CHECK(ShapeError, tensor.sym_sizes() == c10::SymIntArrayRef(expected), op, ": argument '", name,
                 "': expected shape ", c10::SymIntArrayRef(expected), " (a matrix for each group), got ",
                 tensor.sym_sizes(),
                 "; after a change of the layer's size call reset() of its TsoAlra, or create it with that shape");
  };
  check_matrices("input_factor", input_factor, inputs);
  check_matrices("output_factor", output_factor, outputs);
  check_matrices("input_root", input_root, inputs);
  check_matrices("output_root", output_root, outputs);
  HATTED_CHECK(ConfigError, gamma > 0 && gamma <= 1, op, ": argument 'gamma': expected a number in (0, 1], got ", gamma,
               "; correct the setting");
  HATTED_CHECK(ConfigError, std::isfinite(static_cast<float>(gradient_scale)), op,
               ": argument 'gradient_scale': expected a finite number, got ", gradient_scale,
               "; 1 takes the gradient as received, 0 or less means the batch size");
}

hatted::ParameterGradients TsoAlra::gradients(hatted::Use& use) const {
  auto parameters = use.plain();
  // A backward pass may run in an autocast region: what is made of these is not cast.
  const c10::impl::ExcludeDispatchKeyGuard without_autocast(c10::autocast_dispatch_keyset);
  if (precondition) {
    tso_alra::precondition(*this, use, parameters);
  }
  if (update) {
    update_factors(*this, use);
  }
  return parameters;
}

}  // namespace tso_alra
