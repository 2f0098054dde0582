// Autocast of svgd::linear and svgd::conv2d: input, weight and bias are cast as those of the originals are;
// the accumulator stays in its own kind.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "ops.h"

namespace svgd {
namespace {

// The autocast key of a device type stays excluded while this lives.
struct NoAutocast : c10::impl::ExcludeDispatchKeyGuard {
  explicit NoAutocast(c10::DeviceType device)
      : ExcludeDispatchKeyGuard(at::autocast::get_autocast_dispatch_key_from_device_type(device)) {}
};

template <c10::DeviceType device>
Tensor linear_autocast(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                       const Tensor& second_moment, double scale, double decay, double eps, double gradient_scale,
                       bool virtual_bias) {
  const NoAutocast guard(device);
  const auto kind = at::autocast::get_lower_precision_fp_from_device_type(device);
  using at::autocast::cached_cast;
  return linear(cached_cast(kind, input, device), cached_cast(kind, weight, device), cached_cast(kind, bias, device),
                second_moment, scale, decay, eps, gradient_scale, virtual_bias);
}

template <c10::DeviceType device>
Tensor conv2d_autocast(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                       const Tensor& second_moment, c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                       c10::SymIntArrayRef dilation, c10::SymInt groups, double scale, double decay, double eps,
                       double gradient_scale, bool virtual_bias) {
  const NoAutocast guard(device);
  const auto kind = at::autocast::get_lower_precision_fp_from_device_type(device);
  using at::autocast::cached_cast;
  return conv2d(cached_cast(kind, input, device), cached_cast(kind, weight, device), cached_cast(kind, bias, device),
                second_moment, stride, padding, dilation, std::move(groups), scale, decay, eps, gradient_scale,
                virtual_bias);
}

}  // namespace

TORCH_LIBRARY_IMPL(svgd, AutocastCPU, m) {
  m.impl("linear", linear_autocast<c10::DeviceType::CPU>);
  m.impl("conv2d", conv2d_autocast<c10::DeviceType::CPU>);
}

TORCH_LIBRARY_IMPL(svgd, AutocastCUDA, m) {
  m.impl("linear", linear_autocast<c10::DeviceType::CUDA>);
  m.impl("conv2d", conv2d_autocast<c10::DeviceType::CUDA>);
}

}  // namespace svgd
