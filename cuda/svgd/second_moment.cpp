// The operators of the svgd namespace that have CUDA kernels of ours: checks, memory and launches.
//
// Nothing here waits for the device, and all memory comes from the caching allocator: the operators can be captured in
// a CUDA graph.
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/cuda/EmptyTensor.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../../cpp/svgd/flat_gradient.h"
#include "../../cpp/svgd/second_moment.h"
#include "kernels.h"

namespace svgd::cuda {
namespace {

Extents extents_of(const FlatGradient& flat) { return {flat.outer, flat.features, flat.inner}; }

// at::empty on the device of `like`. The function is one of libtorch_cuda's own, which keeps that library linked:
// linkers drop a library that no symbol is taken from, and CUDA tensors are of no use without it.
Tensor empty_on_device(at::IntArrayRef size, at::ScalarType kind, const Tensor& like, at::MemoryFormat format) {
  return Tensor(at::detail::empty_cuda(size, kind, like.device(), format));
}

void update_flat_second_moment(const FlatGradient& flat, const Averaging& averaging) {
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const auto extents = extents_of(flat);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, flat.values.scalar_type(), "svgd::_update_second_moment", [&] {
        using M = Moment<scalar_t>;
        Tensor partial_sums;
        M* partial_sums_data = nullptr;
        if (const auto size = partial_sums_size<scalar_t>(extents); size > 0) {
          partial_sums =
              empty_on_device(size, flat.second_moment.scalar_type(), flat.values, at::MemoryFormat::Contiguous);
          partial_sums_data = partial_sums.mutable_data_ptr<M>();
        }
        update_second_moment(flat.values.const_data_ptr<scalar_t>(), flat.second_moment.mutable_data_ptr<M>(),
                             partial_sums_data, extents, averaging, stream);
      });
}

void update_second_moment_cuda(const Tensor& grad_output, const Tensor& second_moment, double decay,
                               double gradient_scale) {
  check_second_moment("svgd::_update_second_moment", grad_output, second_moment);
  if (grad_output.numel() == 0) {
    return;
  }
  const c10::cuda::CUDAGuard guard(grad_output.device());
  const auto flat = flatten(grad_output, second_moment);
  update_flat_second_moment(flat, {decay, resolve_gradient_scale(grad_output, gradient_scale)});
  return_second_moment(flat, grad_output, second_moment);
}

Tensor virtual_grad_cuda(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay, double eps,
                         double gradient_scale) {
  check_virtual_grad(grad_output, second_moment, scale, decay, eps, gradient_scale);
  const c10::cuda::CUDAGuard guard(grad_output.device());
  // What can run out of memory comes before the state changes.
  const auto virtual_gradient =
      empty_on_device(grad_output.sizes(), grad_output.scalar_type(), grad_output, virtual_grad_format(grad_output));
  if (grad_output.numel() == 0) {
    return virtual_gradient;
  }
  const auto flat = flatten(grad_output, second_moment);
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const auto extents = extents_of(flat);
  const Averaging averaging{decay, resolve_gradient_scale(grad_output, gradient_scale)};
  const Scaling scaling{scale, eps};
  if (!fits_in_registers(extents)) {
    update_flat_second_moment(flat, averaging);
  }
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, grad_output.scalar_type(), "svgd::virtual_grad", [&] {
    const auto* values = flat.values.const_data_ptr<scalar_t>();
    auto* scaled = virtual_gradient.mutable_data_ptr<scalar_t>();
    auto* moments = flat.second_moment.mutable_data_ptr<Moment<scalar_t>>();
    if (fits_in_registers(extents)) {
      virtual_grad_in_one_pass(values, scaled, moments, extents, averaging, scaling, stream);
    } else {
      scale_features(values, scaled, moments, extents, scaling, stream);
    }
  });
  return_second_moment(flat, grad_output, second_moment);
  return virtual_gradient;
}

void scale_rows_cuda(const Tensor& rows, const Tensor& second_moment, double scale, double eps) {
  check_scale_rows(rows, second_moment, scale, eps);
  if (rows.numel() == 0) {
    return;
  }
  const c10::cuda::CUDAGuard guard(rows.device());
  const auto packed = pack_rows(rows);
  const auto moments = second_moment.contiguous();
  const auto stream = c10::cuda::getCurrentCUDAStream();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, packed.scalar_type(), "svgd::_scale_rows", [&] {
    auto* values = packed.mutable_data_ptr<scalar_t>();
    scale_features(values, values, moments.const_data_ptr<Moment<scalar_t>>(),
                   {1, rows.size(0), rows.numel() / rows.size(0)}, {scale, eps}, stream);
  });
  return_rows(packed, rows);
}

}  // namespace

TORCH_LIBRARY_IMPL(svgd, CUDA, m) {
  m.impl("virtual_grad", virtual_grad_cuda);
  m.impl("_update_second_moment", update_second_moment_cuda);
  m.impl("_scale_rows", scale_rows_cuda);
}

}  // namespace svgd::cuda
