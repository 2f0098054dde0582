// The refusal of double backward, which every backward operator of this crate shares.
#pragma once

#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <string>

namespace svgd {

// The results of a backward operator, tied to its inputs by a node that throws: with create_graph the first
// backward pass gives its gradients, and only differentiating these again is an error.
inline torch::autograd::variable_list refuse_double_backward(const char* op,
                                                             const torch::autograd::variable_list& inputs,
                                                             torch::autograd::variable_list results) {
  return torch::autograd::wrap_outputs(inputs, std::move(results), [op](torch::autograd::edge_list&& next_edges) {
    return std::make_shared<torch::autograd::Error>(
        std::string(op) +
            ": double backward is not supported: a virtual gradient depends on the optimizer's state and has no "
            "derivative; call backward without create_graph, or use the plain layer where you need second derivatives",
        std::move(next_edges));
  });
}

}  // namespace svgd
