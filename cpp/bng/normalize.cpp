// The gradients of all blocks at once: a pass for their norms, one that lays a factor beside each element, and one that
// multiplies, whatever the number of layers. These are libtorch's foreach operations, which read lists of tensors in a
// kernel.
#include "normalize.h"

#include <ATen/MemoryOverlap.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <unordered_set>
#include <vector>

#include "../hatted/autograd.h"
#include "../hatted/call.h"
#include "../hatted/checks.h"

namespace bng {
namespace {

constexpr auto kOp = "bng::normalize_";

enum class Rule { kUnit, kAdaptive, kClip };

Rule parse(std::string_view rule) {
  HATTED_CHECK(ConfigError, rule == "unit" || rule == "adaptive" || rule == "clip", kOp,
               ": argument 'rule': expected unit, adaptive or clip, got '", rule, "'; correct the name");
  return rule == "unit" ? Rule::kUnit : rule == "clip" ? Rule::kClip : Rule::kAdaptive;
}

// What is changed in place has memory for each of its elements: libtorch would say so when the first of them have
// changed.
void check_memory(const char* name, const Tensor& changed) {
  HATTED_CHECK(ConfigError, at::has_internal_overlap(changed) != at::MemOverlap::Yes, kOp, ": argument '", name,
               "': expected memory for each element, got strides ", changed.sym_strides(),
               "; it is changed in place: call contiguous() on it first");
}

// A place for results of this kind and these sizes, beside the gradients.
void check_place(const char* name, const Tensor& place, const Tensor& gradient, at::ScalarType kind,
                 c10::SymIntArrayRef sizes) {
  HATTED_CHECK(ConfigError, place.defined(), kOp, ": argument '", name,
               "': expected a tensor, got an undefined one; create it with zeros");
  HATTED_CHECK(UnsupportedError, place.layout() == at::kStrided, kOp, ": argument '", name,
               "': expected a dense (strided) tensor, got layout ", place.layout(), "; create it with zeros");
  HATTED_CHECK(DeviceError, place.device() == gradient.device(), kOp, ": argument '", name, "': expected device ",
               gradient.device(), " (where the gradients are), got ", place.device(), "; move it with to_device");
  HATTED_CHECK(KindError, place.scalar_type() == kind, kOp, ": argument '", name, "': expected kind ", kind, ", got ",
               place.scalar_type(), "; create it with that kind");
  HATTED_CHECK(ShapeError, place.sym_sizes() == sizes, kOp, ": argument '", name, "': expected shape ", sizes, ", got ",
               place.sym_sizes(), "; create it with that shape");
  check_memory(name, place);
}

Rule check(at::TensorList gradients, at::TensorList parameters, at::IntArrayRef blocks, const Tensor& norms,
           const Tensor& skipped, std::string_view rule, double value) {
  const auto parsed = parse(rule);
  HATTED_CHECK(ConfigError, std::isfinite(static_cast<float>(value)) && static_cast<float>(value) > 0, kOp,
               ": argument 'value': expected a finite number > 0, got ", value, "; correct the setting");
  HATTED_CHECK(ConfigError, !gradients.empty(), kOp,
               ": argument 'gradients': expected at least one, got none; call it after a backward pass");
  HATTED_CHECK(ConfigError, gradients.size() == parameters.size(), kOp,
               ": argument 'parameters': expected one for each of the ", gradients.size(), " gradients, got ",
               parameters.size(), "; pass both lists in one order");
  const auto all = static_cast<int64_t>(gradients.size());
  int64_t sum = 0;
  for (const auto count : blocks) {
    HATTED_CHECK(ConfigError, count >= 1, kOp, ": argument 'blocks': expected counts of at least 1, got ", blocks,
                 "; leave out what has no gradient");
    // No further than to one too many: of counts without a bound the sum could come round to that of the gradients.
    sum += std::min(count, all + 1 - sum);
  }
  HATTED_CHECK(ConfigError, sum == all, kOp, ": argument 'blocks': expected counts whose sum is ", all,
               ", that of the gradients, got ", blocks, "; count each gradient in one block");
  std::unordered_set<const c10::TensorImpl*> seen;
  for (size_t i = 0; i < gradients.size(); ++i) {
    const auto& gradient = gradients[i];
    hatted::check_tensor(kOp, "gradients", gradient);
    check_memory("gradients", gradient);
    hatted::check_same(kOp, "parameters", parameters[i], "gradients", gradient);
    HATTED_CHECK(ShapeError, gradient.sym_sizes() == parameters[i].sym_sizes(), kOp,
                 ": argument 'gradients': expected shape ", parameters[i].sym_sizes(), ", that of its parameter, got ",
                 gradient.sym_sizes(), "; pass both lists in one order");
    HATTED_CHECK(DeviceError, gradient.device() == gradients[0].device(), kOp,
                 ": argument 'gradients': expected all on one device, got ", gradients[0].device(), " and ",
                 gradient.device(), "; call it once a device");
    HATTED_CHECK(UnsupportedError, !gradient.requires_grad(), kOp,
                 ": argument 'gradients': expected gradients that require none, got one of a backward pass with "
                 "create_graph; they are changed in place, which cannot be differentiated");
    HATTED_CHECK(ConfigError, seen.insert(gradient.unsafeGetTensorImpl()).second, kOp,
                 ": argument 'gradients': expected each once, got one twice; a parameter belongs to one block");
  }
  const c10::SymInt count = static_cast<int64_t>(blocks.size());
  check_place("norms", norms, gradients[0], at::kDouble, count);
  check_place("skipped", skipped, gradients[0], at::kLong, {});
  return parsed;
}

// In Double, which holds the squares of any Float: 1e-30 is no zero.
Tensor norms_of(at::TensorList tensors, at::IntArrayRef blocks) {
  const auto each = at::stack(at::_foreach_norm(tensors, 2, at::kDouble));
  return at::stack(at::_foreach_norm(each.split_with_sizes(blocks), 2));
}

// Each gradient's own part of a vector that has its block's factor for each element; multiplying equals by equals is
// one kernel for all, multiplying each by a number on the device is one for each.
std::vector<Tensor> spread(const Tensor& factors, at::TensorList gradients, at::IntArrayRef blocks) {
  std::vector<Tensor> numbers;
  size_t i = 0;
  for (size_t block = 0; block < blocks.size(); ++block) {
    const auto factor = factors.select(0, static_cast<int64_t>(block));
    for (const auto end = i + blocks[block]; i < end; ++i) {
      numbers.push_back(factor.expand({gradients[i].numel()}));
    }
  }
  const auto flat = at::cat(numbers);
  std::vector<Tensor> parts;
  int64_t from = 0;
  for (const auto& gradient : gradients) {
    const auto part = flat.narrow(0, from, gradient.numel());
    // All of one value: whatever the order, these are the gradient's elements.
    parts.push_back(gradient.is_non_overlapping_and_dense() ? part.as_strided(gradient.sizes(), gradient.strides())
                                                            : part.view(gradient.sizes()));
    from += gradient.numel();
  }
  return parts;
}

// Below autograd, on every device.
void kernel(at::TensorList gradients, at::TensorList parameters, at::IntArrayRef blocks, const Tensor& norms,
            const Tensor& skipped, std::string_view rule, double value) {
  const auto parsed = check(gradients, parameters, blocks, norms, skipped, rule, value);
  const hatted::Plainly plainly;
  const auto lengths = norms_of(gradients, blocks);
  auto target = at::full_like(lengths, value);
  auto is_finite = at::isfinite(lengths);
  auto is_valid = lengths.gt(0);
  if (parsed == Rule::kAdaptive) {
    const auto weights = norms_of(parameters, blocks);
    target = weights.mul(value);
    is_finite.logical_and_(at::isfinite(weights));
    is_valid.logical_and_(weights.gt(0));
  }
  is_valid.logical_and_(is_finite);
  auto factors = target.div(lengths);
  if (parsed == Rule::kClip) {
    factors.clamp_max_(1);
  }
  // A Float has no larger one: what is so short that it would need it, 3e-39, comes out shorter.
  const bool has_double = std::any_of(gradients.begin(), gradients.end(),
                                      [](const Tensor& gradient) { return gradient.scalar_type() == at::kDouble; });
  factors.clamp_max_(has_double ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max());
  factors = at::where(is_valid, factors, at::ones_like(factors)).to(has_double ? at::kDouble : at::kFloat);
  const auto spread_factors = spread(factors, gradients, blocks);
  // What can run out of memory has come before.
  norms.copy_(lengths);
  skipped.add_(is_finite.logical_not().sum());
  at::_foreach_mul_(gradients, spread_factors);
}

void meta(at::TensorList gradients, at::TensorList parameters, at::IntArrayRef blocks, const Tensor& norms,
          const Tensor& skipped, std::string_view rule, double value) {
  check(gradients, parameters, blocks, norms, skipped, rule, value);
}

void in_place(at::TensorList gradients, at::TensorList parameters, at::IntArrayRef blocks, const Tensor& norms,
              const Tensor& skipped, std::string_view rule, double value) {
  const at::AutoDispatchBelowADInplaceOrView below;
  normalize_(gradients, parameters, blocks, norms, skipped, rule, value);
  for (const auto& gradient : gradients) {
    hatted::bump_version(gradient);
  }
  hatted::bump_version(norms);
  hatted::bump_version(skipped);
}

}  // namespace

void normalize_(at::TensorList gradients, at::TensorList parameters, at::IntArrayRef blocks, const Tensor& norms,
                const Tensor& skipped, std::string_view rule, double value) {
  static const auto op = hatted::find_operator<decltype(normalize_)>(kOp);
  op.call(gradients, parameters, blocks, norms, skipped, rule, value);
}

TORCH_LIBRARY_IMPL(bng, CompositeExplicitAutograd, m) { m.impl("normalize_", kernel); }
TORCH_LIBRARY_IMPL(bng, Meta, m) { m.impl("normalize_", meta); }
TORCH_LIBRARY_IMPL(bng, ADInplaceOrView, m) { m.impl("normalize_", in_place); }

}  // namespace bng
