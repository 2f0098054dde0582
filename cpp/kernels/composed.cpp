// The second moment and the virtual gradient (docs/design.md, Mathematics), composed of ATen's operators: for devices
// without a kernel of ours, and for the kernels to be compared with.
//
//     q = mean over the batch of (k g)^2;   r <- decay r + (1 - decay) q;   t = scale g / sqrt(r + eps)
#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/where.h>
#include <torch/library.h>

#include "../ops.h"
#include "flat_gradient.h"

namespace svgd {
namespace {

// second_moment with a batch axis, and spatial axes where it has one value per channel, to broadcast over gradients.
Tensor broadcastable(const Tensor& grad_output, const Tensor& second_moment) {
  std::vector<int64_t> size{1};
  size.insert(size.end(), second_moment.sizes().begin(), second_moment.sizes().end());
  size.resize(grad_output.dim(), 1);
  return second_moment.view(size);
}

void update_second_moment_composed(const Tensor& grad_output, const Tensor& second_moment, double decay,
                                   double gradient_scale) {
  check_second_moment("svgd::_update_second_moment", grad_output, second_moment);
  if (grad_output.numel() == 0) {
    return;
  }
  const auto moment = broadcastable(grad_output, second_moment);
  std::vector<int64_t> averaged{0};
  for (auto dim = second_moment.dim() + 1; dim < grad_output.dim(); ++dim) {
    averaged.push_back(dim);
  }
  const auto scaled =
      grad_output.to(second_moment.scalar_type()).mul(resolve_gradient_scale(grad_output, gradient_scale));
  const auto mean = scaled.mul(scaled).mean(averaged, /*keepdim=*/true);
  moment.copy_(at::where(at::isfinite(mean), moment * decay + mean * (1 - decay), moment));
}

Tensor virtual_grad_composed_kernel(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay,
                                    double eps, double gradient_scale) {
  check_virtual_grad(grad_output, second_moment, scale, decay, eps, gradient_scale);
  update_second_moment_composed(grad_output, second_moment, decay, gradient_scale);
  const auto factor = at::rsqrt(broadcastable(grad_output, second_moment) + eps).mul_(scale);
  return grad_output.mul(factor).to(grad_output.scalar_type()).contiguous(virtual_grad_format(grad_output));
}

void scale_rows_composed(const Tensor& rows, const Tensor& second_moment, double scale, double eps) {
  check_scale_rows(rows, second_moment, scale, eps);
  std::vector<int64_t> size(rows.dim(), 1);
  size[0] = second_moment.size(0);
  rows.mul_(at::rsqrt(second_moment + eps).mul_(scale).view(size));
}

}  // namespace

TORCH_LIBRARY_IMPL(svgd, CompositeExplicitAutograd, m) {
  m.impl("virtual_grad", virtual_grad_composed_kernel);
  m.impl("_virtual_grad_composed", virtual_grad_composed_kernel);
  m.impl("_update_second_moment", update_second_moment_composed);
  m.impl("_scale_rows", scale_rows_composed);
}

}  // namespace svgd
