// What the autograd kernels of this crate share: when they are the original's, which gradients are asked for, and the
// refusal of double backward.
#pragma once

#include <ATen/core/grad_mode.h>
#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "../ops.h"

namespace svgd {

// Whether no virtual gradient can come of a forward pass: then it is the original's, which keeps for its own backward
// pass what that needs and no more, and knows forward-mode differentiation.
inline bool is_plain(const at::Tensor& weight) { return !at::GradMode::is_enabled() || !weight.requires_grad(); }

// Of input, weight and bias. Autograd numbers the tensors that there are: without a bias its place is that of another.
inline BackwardMask gradients_asked_for(const torch::autograd::AutogradContext* ctx) {
  return {ctx->needs_input_grad(0), ctx->needs_input_grad(1),
          ctx->saved_data.at("has_bias").toBool() && ctx->needs_input_grad(2)};
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
