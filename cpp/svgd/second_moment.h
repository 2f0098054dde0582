// The second moment and the virtual gradient as operators of their own: what Svgd's gradients are made of.
//
//     q = mean over the batch of (k g)^2;   r <- decay r + (1 - decay) q;   t = scale g / sqrt(r + eps)
//
// Each function is a dispatcher call: cpu/ has the CPU's kernels, cuda/svgd those of CUDA, and second_moment.cpp what
// runs on every other device.
#pragma once

#include <ATen/core/Tensor.h>

namespace svgd {

using at::Tensor;

// Updates r, and returns t.
Tensor virtual_grad(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay, double eps,
                    double gradient_scale);

// The same composed of ATen's operators.
Tensor virtual_grad_composed(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay,
                             double eps, double gradient_scale);

// Updates r alone.
void update_second_moment(const Tensor& grad_output, const Tensor& second_moment, double decay, double gradient_scale);

// rows[i] *= scale / sqrt(second_moment[i] + eps), in place.
void scale_rows(const Tensor& rows, const Tensor& second_moment, double scale, double eps);

// The checks of these, each with the errors of hatted/errors.h.
void check_hyperparameters(const char* op, double scale, double decay, double eps, double gradient_scale);
void check_second_moment(const char* op, const Tensor& grad_output, const Tensor& second_moment);
void check_scale_rows(const Tensor& rows, const Tensor& second_moment, double scale, double eps);
void check_virtual_grad(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay, double eps,
                        double gradient_scale);

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
