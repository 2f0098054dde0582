// Operators that change a tensor of their caller: autograd hears of it here, below its own kernels, as it does of
// ATen's.
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include <type_traits>
#include <utility>

#include "../ops.h"

namespace svgd {
namespace {

// A graph that has saved the tensor refuses to go on with the new values.
void bump_version(const Tensor& changed) {
  if (!changed.is_inference()) {
    changed.unsafeGetTensorImpl()->bump_version();
  }
}

// The dispatcher call `operation` below this key, and then the version of its argument of this number. A backward
// operator changes its state only where the weight's gradient is asked for.
template <auto operation, size_t changed>
struct Changing;

template <typename Result, typename... Arguments, Result (*operation)(Arguments...), size_t changed>
struct Changing<operation, changed> {
  static Result call(Arguments... arguments) {
    const auto all = std::tie(arguments...);
    const auto& last = std::get<sizeof...(Arguments) - 1>(all);
    bool changes = true;
    if constexpr (std::is_same_v<std::decay_t<decltype(last)>, BackwardMask>) {
      changes = last[1];
    }
    const at::AutoDispatchBelowADInplaceOrView below;
    if constexpr (std::is_void_v<Result>) {
      operation(arguments...);
      bump_version(std::get<changed>(all));
    } else {
      auto result = operation(arguments...);
      if (changes) {
        bump_version(std::get<changed>(all));
      }
      return result;
    }
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(svgd, ADInplaceOrView, m) {
  m.impl("virtual_grad", Changing<virtual_grad, 1>::call);
  m.impl("_virtual_grad_composed", Changing<virtual_grad_composed, 1>::call);
  m.impl("_update_second_moment", Changing<update_second_moment, 1>::call);
  m.impl("_scale_rows", Changing<scale_rows, 0>::call);
  m.impl("_linear_backward", Changing<linear_backward, 3>::call);
  m.impl("_conv2d_backward", Changing<conv2d_backward, 3>::call);
}

}  // namespace svgd
