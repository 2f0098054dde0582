// The operators of a layer with a method: what every pair of them has in common, once.
//
//   NAMESPACE::LAYER(input, weight, bias, STATE, GEOMETRY, SETTINGS) -> output
//   NAMESPACE::_LAYER_backward(grad_output, input, weight, STATE, GEOMETRY, SETTINGS, output_mask) -> gradients
//
// A layer is a struct of its geometry, as Linear and Conv2d are; a method one of its state and settings, see method.h.
// forward_autograd leaves a frozen weight to the original; backward_kernel gives what is not asked for nothing to do,
// and restores the state of a pass that fails.
#pragma once

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "autocast.h"
#include "autograd.h"
#include "call.h"
#include "checks.h"
#include "method.h"

namespace hatted {

// An argument out of a node of the graph, as the dispatcher takes it.
template <class Argument>
auto unpack(const c10::IValue& value) {
  using Value = std::decay_t<Argument>;
  if constexpr (std::is_same_v<Value, c10::SymIntArrayRef>) {
    return value.toSymIntVector();
  } else if constexpr (std::is_same_v<Value, c10::SymInt>) {
    return value.toSymInt();
  } else {
    return value.to<Value>();
  }
}

inline bool is_defined(const Tensor& tensor) { return tensor.defined(); }
inline bool is_defined(const OptionalTensor& tensor) { return !tensor.has_value() || tensor->defined(); }

template <class Layer, class Method, class Geometry = typename Layer::Geometry, class State = typename Method::State,
          class Settings = typename Method::Settings>
struct Operator;

template <class Layer, class Method, class... G, class... T, class... S>
struct Operator<Layer, Method, Pack<G...>, Pack<T...>, Pack<S...>>
    : torch::autograd::Function<Operator<Layer, Method, Pack<G...>, Pack<T...>, Pack<S...>>> {
  using Call = hatted::Call<Layer, Method>;
  using Function = torch::autograd::Function<Operator>;
  using Context = torch::autograd::AutogradContext;
  using BackwardWeight = typename Layer::BackwardWeight;
  static constexpr size_t kArguments = 3 + sizeof...(T) + sizeof...(G) + sizeof...(S);
  static constexpr std::array<const char*, 4> kStatePlaces{"state0", "state1", "state2", "state3"};
  static_assert(sizeof...(T) <= kStatePlaces.size());
  static constexpr bool kReadsWeight = std::is_same_v<BackwardWeight, const Tensor&>;

  static const char* op() { return Call::op().c_str(); }
  static const char* backward_op() { return Call::backward_op().c_str(); }

  // ---- Checks ----

  // Returns the size of a sample's output.
  static std::vector<c10::SymInt> check(const Tensor& batch, const Tensor& weight, const OptionalTensor& bias,
                                        const Layer& layer, const Method& method) {
    check_tensor(op(), "weight", weight);
    check_same(op(), "input", batch, "weight", weight);
    auto output = layer.output_size(op(), batch.sym_sizes(), weight.sym_sizes());
    check_bias(op(), bias, weight);
    method.check(op(), weight, {output, layer.group_count(), is_given(bias)});
    return output;
  }

  // An input without a batch axis is a batch of one, as for the originals, and its output has none either.
  static bool lacks_batch(const Tensor& input) { return input.defined() && Layer::lacks_batch(input); }
  static Tensor with_batch(const Tensor& input) { return lacks_batch(input) ? input.unsqueeze(0) : input; }
  static Tensor without_batch(const Tensor& input, const Tensor& output) {
    return lacks_batch(input) ? output.squeeze(0) : output;
  }

  // ---- The forward pass ----

  static Tensor forward_autograd(const Tensor& input, const Tensor& weight, const OptionalTensor& bias, T... state,
                                 G... geometry, S... settings) {
    const bool all_defined = input.defined() && weight.defined() && (is_defined(state) && ... && true);
    if (all_defined && is_trained(weight)) {
      return without_batch(input, Function::apply(with_batch(input), weight, bias, state..., geometry..., settings...));
    }
    const Layer layer{geometry...};
    check(with_batch(input), weight, bias, layer, Method{state..., settings...});
    return layer.original(input, weight, bias);
  }

  // Of the node: what is kept for the backward pass.
  static Tensor forward(Context* context, const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
                        T... state, G... geometry, S... settings) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    // As the original: what no gradient needs is not kept, and may change before the backward pass.
    context->save_for_backward({input, kReadsWeight || input.requires_grad() ? weight : Tensor()});
    // Not as saved variables: the backward pass changes the state, and these would refuse that the second time. Each
    // tensor has an entry of its own, and the rest is a list: PyTorch's compiled autograd takes both apart.
    size_t place = 0;
    ((context->saved_data[kStatePlaces[place++]] = state), ...);
    c10::impl::GenericList rest(c10::AnyType::get());
    rest.reserve(sizeof...(G) + sizeof...(S) + 1);
    (rest.push_back(c10::IValue(geometry)), ...);
    (rest.push_back(c10::IValue(settings)), ...);
    rest.push_back(is_given(bias));
    context->saved_data["rest"] = std::move(rest);
    // An undefined gradient is no gradient: no state may take it for zeros.
    context->set_materialize_grads(false);
    return Call::forward(input, weight, bias, state..., geometry..., settings...);
  }

  // Below autograd, on every device.
  static Tensor forward_kernel(const Tensor& input, const Tensor& weight, const OptionalTensor& bias, T... state,
                               G... geometry, S... settings) {
    const Layer layer{geometry...};
    const auto batch = with_batch(input);
    check(batch, weight, bias, layer, Method{state..., settings...});
    return without_batch(input, layer.forward(batch, weight, bias));
  }

  static Tensor forward_meta(const Tensor& input, const Tensor& weight, const OptionalTensor& bias, T... state,
                             G... geometry, S... settings) {
    const Layer layer{geometry...};
    const auto batch = with_batch(input);
    const auto output = check(batch, weight, bias, layer, Method{state..., settings...});
    return without_batch(input, layer.meta(batch, weight, output));
  }

  template <c10::DeviceType device>
  static Tensor forward_autocast(const Tensor& input, const Tensor& weight, const OptionalTensor& bias, T... state,
                                 G... geometry, S... settings) {
    const Autocast cast(device);
    return Call::forward(cast(input), cast(weight), cast(bias), state..., geometry..., settings...);
  }

  // ---- The backward pass ----

  // Of the node: which gradients are asked for.
  static torch::autograd::variable_list backward(Context* context, const torch::autograd::variable_list& grad_outputs) {
    torch::autograd::variable_list gradients(kArguments);
    if (grad_outputs[0].defined()) {
      auto [input, weight, bias] = call_backward(context, grad_outputs[0], std::index_sequence_for<T...>(),
                                                 std::index_sequence_for<G..., S...>());
      gradients[0] = std::move(input);
      gradients[1] = std::move(weight);
      gradients[2] = std::move(bias);
    }
    return gradients;
  }

  template <size_t... state, size_t... rest>
  static Gradients call_backward(Context* context, const Tensor& grad_output, std::index_sequence<state...>,
                                 std::index_sequence<rest...>) {
    const auto saved = context->get_saved_variables();
    const auto list = context->saved_data.at("rest").toListRef();
    // Autograd numbers the tensors that there are: without a bias its place is that of another.
    const bool has_bias = list.back().toBool();
    const Mask asked{context->needs_input_grad(0), context->needs_input_grad(1),
                     has_bias && context->needs_input_grad(2)};
    return Call::backward(
        grad_output, saved[0], as_backward_weight(saved[1]),
        unpack<std::tuple_element_t<state, std::tuple<T...>>>(context->saved_data.at(kStatePlaces[state]))...,
        unpack<std::tuple_element_t<rest, std::tuple<G..., S...>>>(list[rest])..., asked);
  }

  static std::decay_t<BackwardWeight> as_backward_weight(const Tensor& saved) {
    if constexpr (kReadsWeight) {
      return saved;
    } else {
      return optional(saved);
    }
  }

  static Gradients backward_autograd(const Tensor& grad_output, const Tensor& input, BackwardWeight weight, T... state,
                                     G... geometry, S... settings, Mask asked) {
    Gradients gradients;
    {
      const at::AutoDispatchBelowAutograd below_autograd;
      gradients = Call::backward(grad_output, input, weight, state..., geometry..., settings..., asked);
    }
    if (at::GradMode::is_enabled()) {  // an ordinary backward pass runs without: its gradients have no history
      auto& [of_input, of_weight, of_bias] = gradients;
      auto tied = without_derivative(op(), {grad_output, input, OptionalTensor(weight).value_or(Tensor())},
                                     {of_input, of_weight, of_bias});
      gradients = {tied[0], tied[1], tied[2]};
    }
    return gradients;
  }

  static Gradients backward_in_place(const Tensor& grad_output, const Tensor& input, BackwardWeight weight, T... state,
                                     G... geometry, S... settings, Mask asked) {
    const at::AutoDispatchBelowADInplaceOrView below;
    auto gradients = Call::backward(grad_output, input, weight, state..., geometry..., settings..., asked);
    if (asked[1]) {
      for (const auto& changed : Method{state..., settings...}.changed()) {
        bump_version(changed);
      }
    }
    return gradients;
  }

  // Below autograd, on every device.
  static Gradients backward_kernel(const Tensor& grad_output, const Tensor& input, BackwardWeight weight, T... state,
                                   G... geometry, S... settings, Mask asked) {
    const Layer layer{geometry...};
    typename Layer::Use use(backward_op(), layer, grad_output, input, weight, asked);
    if (!asked[1]) {  // a frozen weight: the original's gradients, and no state changes
      return plain_gradients(use);
    }
    try {
      auto parameters = Method{state..., settings...}.gradients(use);
      return {use.input_gradient(), std::move(parameters.weight), std::move(parameters.bias)};
    } catch (...) {
      use.restore();
      throw;
    }
  }

  static Gradients backward_meta(const Tensor& grad_output, const Tensor& input, BackwardWeight weight, T... /*state*/,
                                 G... geometry, S... /*settings*/, Mask asked) {
    return Layer{geometry...}.backward_meta(backward_op(), grad_output, input, weight, asked);
  }

  // ---- Registration ----

  static void define(torch::Library& m) {
    // The forward pass changes nothing: its schema is without the marks.
    std::string unmarked = Method::kState;
    for (auto mark = unmarked.find('('); mark != std::string::npos; mark = unmarked.find('(')) {
      unmarked.erase(mark, unmarked.find(')') + 1 - mark);
    }
    const auto def = [&](const std::string& name, std::initializer_list<std::string> arguments, const char* results) {
      std::string schema;
      for (const auto& part : arguments) {
        schema += (schema.empty() || part.empty() ? "" : ", ") + part;
      }
      m.def((name + "(" + schema + ") -> " + results).c_str());
    };
    def(Layer::kName, {"Tensor input, Tensor weight, Tensor? bias", unmarked, Layer::kGeometry, Method::kSettings},
        "Tensor");
    def(Call::backward_name(),
        {"Tensor grad_output, Tensor input", Layer::kBackwardWeight, Method::kState, Layer::kGeometry,
         Method::kSettings, "bool[3] output_mask"},
        "(Tensor, Tensor, Tensor)");
  }

  static void every_device(torch::Library& m) {
    m.impl(Layer::kName, &forward_kernel);
    m.impl(Call::backward_name().c_str(), &backward_kernel);
  }
  static void meta(torch::Library& m) {
    m.impl(Layer::kName, &forward_meta);
    m.impl(Call::backward_name().c_str(), &backward_meta);
  }
  static void autograd(torch::Library& m) {
    m.impl(Layer::kName, &forward_autograd);
    m.impl(Call::backward_name().c_str(), &backward_autograd);
  }
  static void in_place(torch::Library& m) { m.impl(Call::backward_name().c_str(), &backward_in_place); }
  template <c10::DeviceType device>
  static void autocast(torch::Library& m) {
    m.impl(Layer::kName, &forward_autocast<device>);
  }
};

}  // namespace hatted
