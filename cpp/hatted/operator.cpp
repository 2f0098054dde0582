// What of the operators is no template.
#include "operator.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <memory>

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

void bump_version(const Tensor& changed) {
  if (!changed.is_inference()) {
    changed.unsafeGetTensorImpl()->bump_version();
  }
}

std::vector<Tensor> without_derivative(const char* op, const std::vector<Tensor>& inputs, std::vector<Tensor> results) {
  return torch::autograd::wrap_outputs(inputs, std::move(results), [op](torch::autograd::edge_list&& next_edges) {
    return make_node<torch::autograd::Error>(
        std::string(op) +
            ": double backward is not supported: a virtual gradient depends on the optimizer's state and has no "
            "derivative; call backward without create_graph, or use the plain layer where you need second derivatives",
        std::move(next_edges));
  });
}

Autocast::Autocast(c10::DeviceType device)
    : device_(device), off_(at::autocast::get_autocast_dispatch_key_from_device_type(device)) {}

Tensor Autocast::operator()(const Tensor& tensor) const {
  return at::autocast::cached_cast(at::autocast::get_lower_precision_fp_from_device_type(device_), tensor, device_);
}

OptionalTensor Autocast::operator()(const OptionalTensor& tensor) const {
  return tensor.has_value() ? OptionalTensor((*this)(*tensor)) : std::nullopt;
}

}  // namespace hatted
