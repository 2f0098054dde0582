// What autograd must be told by every operator that changes a tensor, or whose results have no derivative.
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>

#include <tuple>
#include <type_traits>
#include <vector>

namespace hatted {

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
