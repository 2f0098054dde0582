// Checks that every layer and method makes of its tensors; those of one layer's shapes are in its own file. Each throws
// one of the errors of errors.h, with a text that names the operator, the argument, what was expected, what came and
// what to do.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "errors.h"

namespace hatted {

using at::Tensor;

// A dense tensor of a kind that can be trained.
void check_tensor(const char* op, const char* name, const Tensor& tensor);

// The same, on the device and of the kind of another argument.
void check_same(const char* op, const char* name, const Tensor& tensor, const char* like_name, const Tensor& like);

// One value for each output of the weight, where there is a bias.
void check_bias(const char* op, const std::optional<Tensor>& bias, const Tensor& weight);

// A tensor that a backward pass changes: of a gradient's device and accumulator kind, outside of autograd, and with
// memory of its own.
void check_state(const char* op, const char* name, const Tensor& state, const Tensor& gradient);

// The kind of an accumulator that belongs to gradients of this kind: Double for Double, else Float.
inline at::ScalarType accumulator_kind(at::ScalarType gradient) {
  return gradient == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace hatted
