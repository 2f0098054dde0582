// What the autograd kernels of this crate share: the refusal of double backward, and the version of changed state.
#pragma once

#include <ATen/core/grad_mode.h>
#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace svgd {

// Tells autograd that the kernel has written to the tensor: a graph that saved it refuses to go on with the new values.
inline void mark_changed(const at::Tensor& state) {
  if (!state.is_inference()) {
    state.unsafeGetTensorImpl()->bump_version();
  }
}

// A node of the graph as this libtorch holds it: since 2.13 by c10::intrusive_ptr, before by std::shared_ptr.
template <typename Node, typename... Arguments>
auto make_node(Arguments&&... arguments) {
  if constexpr (std::is_base_of_v<c10::intrusive_ptr_target, Node>) {
    return c10::make_intrusive<Node>(std::forward<Arguments>(arguments)...);
  } else {
    return std::make_shared<Node>(std::forward<Arguments>(arguments)...);
  }
}

// The results of a backward operator, tied to its inputs by a node that throws: with create_graph the first
// backward pass gives its gradients, and only differentiating these again is an error.
inline torch::autograd::variable_list refuse_double_backward(const char* op,
                                                             const torch::autograd::variable_list& inputs,
                                                             torch::autograd::variable_list results) {
  if (!at::GradMode::is_enabled()) {
    return results;  // an ordinary backward pass: its gradients have no history
  }
  return torch::autograd::wrap_outputs(inputs, std::move(results), [op](torch::autograd::edge_list&& next_edges) {
    return make_node<torch::autograd::Error>(
        std::string(op) +
            ": double backward is not supported: a virtual gradient depends on the optimizer's state and has no "
            "derivative; call backward without create_graph, or use the plain layer where you need second derivatives",
        std::move(next_edges));
  });
}

}  // namespace svgd
