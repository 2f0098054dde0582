// The operators of the svgd namespace as C++ functions, the checks of their arguments, and the errors these raise.
//
// Each function is a dispatcher call: what runs depends on the tensors (autograd/, kernels/, autocast.cpp).
// The mathematics and the names of the arguments are those of the schemas in library.cpp.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/SymIntArrayRef.h>
#include <c10/util/Exception.h>

#include <array>
#include <optional>
#include <tuple>
#include <vector>

namespace svgd {

using at::Tensor;
using BackwardMask = std::array<bool, 3>;  // which gradients are asked for: input, weight, bias
using Gradients = std::tuple<Tensor, Tensor, Tensor>;

// One class for each kind of bad argument: bridge.h turns them into the variants of the crate's Error,
// PyTorch into ValueError, TypeError and NotImplementedError.
struct ShapeError : c10::ValueError {
  using ValueError::ValueError;
};
struct DeviceError : c10::ValueError {
  using ValueError::ValueError;
};
struct ConfigError : c10::ValueError {
  using ValueError::ValueError;
};
struct KindError : c10::TypeError {
  using TypeError::TypeError;
};
struct UnsupportedError : c10::NotImplementedError {
  using NotImplementedError::NotImplementedError;
};

// Like TORCH_CHECK_WITH, which only knows the classes of c10.
#define SVGD_CHECK(ERROR, CONDITION, ...)                                                                \
  if (C10_UNLIKELY(!(CONDITION))) {                                                                      \
    throw ::svgd::ERROR({__func__, __FILE__, static_cast<uint32_t>(__LINE__)}, ::c10::str(__VA_ARGS__)); \
  }

Tensor linear(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& second_moment,
              double scale, double decay, double eps, double gradient_scale, bool virtual_bias);

Tensor conv2d(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& second_moment,
              c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, c10::SymInt groups,
              double scale, double decay, double eps, double gradient_scale, bool virtual_bias);

Tensor virtual_grad(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay, double eps,
                    double gradient_scale);

Tensor virtual_grad_composed(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay,
                             double eps, double gradient_scale);

void update_second_moment(const Tensor& grad_output, const Tensor& second_moment, double decay, double gradient_scale);

// rows[i] *= scale / sqrt(second_moment[i] + eps), in place. diag(scale / sqrt(r + eps)) of docs/design.md.
void scale_rows(const Tensor& rows, const Tensor& second_moment, double scale, double eps);

Gradients linear_backward(const Tensor& grad_output, const Tensor& input, const Tensor& weight,
                          const Tensor& second_moment, double scale, double decay, double eps, double gradient_scale,
                          bool virtual_bias, BackwardMask mask);

Gradients conv2d_backward(const Tensor& grad_output, const Tensor& input, const Tensor& weight,
                          const Tensor& second_moment, c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                          c10::SymIntArrayRef dilation, c10::SymInt groups, double scale, double decay, double eps,
                          double gradient_scale, bool virtual_bias, BackwardMask mask);

// The checks. Each throws one of the errors above, with a text that names the operator, the argument, what was
// expected, what came and what to do. The first kernel that a call reaches runs them.
void check_linear(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                  const Tensor& second_moment, double scale, double decay, double eps, double gradient_scale);

void check_conv2d(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                  const Tensor& second_moment, c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                  c10::SymIntArrayRef dilation, c10::SymInt groups, double scale, double decay, double eps,
                  double gradient_scale);

void check_second_moment(const char* op, const Tensor& grad_output, const Tensor& second_moment);

void check_scale_rows(const Tensor& rows, const Tensor& second_moment, double scale, double eps);

void check_virtual_grad(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay, double eps,
                        double gradient_scale);

// [n, c_out, h_out, w_out] of a convolution of a batch; checks everything that the shape depends on.
std::vector<c10::SymInt> conv2d_output_size(c10::SymIntArrayRef input_size, c10::SymIntArrayRef weight_size,
                                            c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                                            c10::SymIntArrayRef dilation, c10::SymInt groups);

// The kind of the accumulator that belongs to gradients of this kind: Double for Double, else Float.
inline at::ScalarType second_moment_kind(at::ScalarType gradient) {
  return gradient == at::kDouble ? at::kDouble : at::kFloat;
}

// The memory format of a virtual gradient: channels_last like its gradient, else contiguous.
inline at::MemoryFormat virtual_grad_format(const Tensor& grad_output) {
  const bool channels_last = grad_output.dim() == 4 && !grad_output.is_contiguous() &&
                             grad_output.is_contiguous(at::MemoryFormat::ChannelsLast);
  return channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

// Whether second_moment holds one value per channel (dimension 1) of the gradient, not one per element.
inline bool is_channel_granular(const Tensor& grad_output, const Tensor& second_moment) {
  return second_moment.dim() == 1 && grad_output.dim() > 2;
}

}  // namespace svgd
