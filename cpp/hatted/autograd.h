// What the operators and autograd have to do with each other: frozen weights, tensors that change, and results that
// have no derivative.
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <tuple>
#include <type_traits>
#include <vector>

namespace hatted {

// Whether a forward pass can lead to a gradient of the weight: not of a frozen one, nor under no_grad. Then the method
// has nothing to do, and the layer is the original, which keeps for its own backward pass what that needs and no more,
// and knows forward-mode differentiation. Operator::forward_autograd asks this; Operator::backward_kernel asks the
// mask, of a pass in which only other gradients are wanted.
inline bool is_trained(const at::Tensor& weight) { return at::GradMode::is_enabled() && weight.requires_grad(); }

// What runs below this is for no graph, and nothing is cast, whatever the caller's thread is in the middle of.
struct Plainly {
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  const c10::impl::ExcludeDispatchKeyGuard without_autocast{c10::autocast_dispatch_keyset};
};

// The tensor has other values: a graph that has saved it refuses to go on with these.
void bump_version(const at::Tensor& changed);

// Results tied to the inputs by a node that throws: with create_graph a backward pass gives its gradients, and only
// differentiating these again is an error. `op` is the operator that the user has called.
std::vector<at::Tensor> without_derivative(const char* op, const std::vector<at::Tensor>& inputs,
                                           std::vector<at::Tensor> results);

// A kernel for the key ADInplaceOrView: the dispatcher call `operation` below the key, and then the version of its
// argument of this number.
template <auto operation, size_t changed>
struct Changing;

template <typename Result, typename... Arguments, Result (*operation)(Arguments...), size_t changed>
struct Changing<operation, changed> {
  static Result call(Arguments... arguments) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto bump = [&] { bump_version(std::get<changed>(std::tie(arguments...))); };
    if constexpr (std::is_void_v<Result>) {
      operation(arguments...);
      bump();
    } else {
      auto result = operation(arguments...);
      bump();
      return result;
    }
  }
};

}  // namespace hatted
