// The versions of changed tensors, and the node that refuses to be differentiated.
#include "autograd.h"

#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <memory>
#include <string>
#include <utility>

namespace hatted {
namespace {

// A node of the graph as this libtorch holds it: since 2.13 by c10::intrusive_ptr, before by std::shared_ptr.
template <typename Node, typename... Arguments>
auto make_node(Arguments&&... arguments) {
  if constexpr (std::is_base_of_v<c10::intrusive_ptr_target, Node>) {
    return c10::make_intrusive<Node>(std::forward<Arguments>(arguments)...);
  } else {
    return std::make_shared<Node>(std::forward<Arguments>(arguments)...);
  }
}

}  // namespace

void bump_version(const at::Tensor& changed) {
  if (!changed.is_inference()) {
    changed.unsafeGetTensorImpl()->bump_version();
  }
}

std::vector<at::Tensor> without_derivative(const char* op, const std::vector<at::Tensor>& inputs,
                                           std::vector<at::Tensor> results) {
  return torch::autograd::wrap_outputs(inputs, std::move(results), [op](torch::autograd::edge_list&& next_edges) {
    return make_node<torch::autograd::Error>(
        std::string(op) +
            ": double backward is not supported: a virtual gradient depends on the optimizer's state and has no "
            "derivative; call backward without create_graph, or use the plain layer where you need second derivatives",
        std::move(next_edges));
  });
}

}  // namespace hatted
