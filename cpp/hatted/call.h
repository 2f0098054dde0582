// The operators of a layer with a method, as C++ functions: calls of the dispatcher.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <string>
#include <vector>

#include "method.h"

namespace hatted {

// For callers whose missing tensor is an undefined one, and whose numbers are numbers.
inline OptionalTensor optional(const Tensor& tensor) {
  return tensor.defined() ? OptionalTensor(tensor) : std::nullopt;
}
inline bool is_given(const OptionalTensor& tensor) { return tensor.has_value() && tensor->defined(); }

// The operator of this name, "svgd::linear", whose arguments are those of the function type. It is looked up once where
// the result is static.
template <typename Function>
c10::TypedOperatorHandle<Function> find_operator(const std::string& name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name.c_str(), "").typed<Function>();
}

template <typename Integers>
std::vector<c10::SymInt> symbolic(const Integers& integers) {
  return {integers.begin(), integers.end()};
}

template <class Layer, class Method, class Geometry = typename Layer::Geometry, class State = typename Method::State,
          class Settings = typename Method::Settings>
struct Call;

template <class Layer, class Method, class... G, class... T, class... S>
struct Call<Layer, Method, Pack<G...>, Pack<T...>, Pack<S...>> {
  using BackwardWeight = typename Layer::BackwardWeight;

  // "svgd::linear", "_linear_backward", "svgd::_linear_backward".
  static const std::string& op() {
    static const auto op = std::string(Method::kNamespace) + "::" + Layer::kName;
    return op;
  }
  static const std::string& backward_name() {
    static const auto name = std::string("_") + Layer::kName + "_backward";
    return name;
  }
  static const std::string& backward_op() {
    static const auto op = std::string(Method::kNamespace) + "::" + backward_name();
    return op;
  }

  static Tensor forward(const Tensor& input, const Tensor& weight, const OptionalTensor& bias, T... state,
                        G... geometry, S... settings) {
    using Signature = Tensor(const Tensor&, const Tensor&, const OptionalTensor&, T..., G..., S...);
    static const auto op = find_operator<Signature>(Call::op());
    return op.call(input, weight, bias, state..., std::move(geometry)..., settings...);
  }

  static Gradients backward(const Tensor& grad_output, const Tensor& input, BackwardWeight weight, T... state,
                            G... geometry, S... settings, Mask asked) {
    using Signature = Gradients(const Tensor&, const Tensor&, BackwardWeight, T..., G..., S..., Mask);
    static const auto op = find_operator<Signature>(backward_op());
    return op.call(grad_output, input, weight, state..., std::move(geometry)..., settings..., asked);
  }
};

}  // namespace hatted
