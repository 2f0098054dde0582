// What the autograd kernels of this crate share: the refusal of double backward, and the version of changed state.
#pragma once

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <string>

namespace svgd {

// Tells autograd that the kernel has written to the tensor: a graph that saved it refuses to go on with the new values.
inline void mark_changed(const at::Tensor& state) {
  if (!state.is_inference()) {
    state.unsafeGetTensorImpl()->bump_version();
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
    return std::make_shared<torch::autograd::Error>(
        std::string(op) +
            ": double backward is not supported: a virtual gradient depends on the optimizer's state and has no "
            "derivative; call backward without create_graph, or use the plain layer where you need second derivatives",
        std::move(next_edges));
  });
}

}  // namespace svgd
