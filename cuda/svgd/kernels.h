// The CUDA kernels of docs/design.md behind plain pointers. Nothing here knows of tensors: second_moment.cpp does.
//
//     q = mean over outer and inner of (k g)^2;   r <- decay r + (1 - decay) q;   t = scale g / sqrt(r + eps)
//
// Every launcher works on the current device, is asynchronous on its stream, and allocates nothing. T is float, double,
// c10::BFloat16 or c10::Half. Sums are taken in an order that the extents alone decide.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <type_traits>

namespace svgd::cuda {

// What gradients of type T are computed in, and what their second moment is kept in.
template <typename T>
using Moment = std::conditional_t<std::is_same_v<T, double>, double, float>;

// gradient[outer][features][inner], dense and not empty, as in cpp/svgd/flat_gradient.h. One second moment a feature.
struct Extents {
  int64_t outer, features, inner;
};

struct Averaging {
  double decay, gradient_scale;
};

struct Scaling {
  double scale, eps;
};

// Whether virtual_grad_in_one_pass can take gradients of these extents: whether a block holds all samples of its
// features in registers.
bool fits_in_registers(const Extents& extents);

// Updates the second moment and writes the virtual gradient: one read and one write of the gradient's size.
template <typename T>
void virtual_grad_in_one_pass(const T* gradient, T* virtual_grad, Moment<T>* second_moment, const Extents& extents,
                              const Averaging& averaging, const Scaling& scaling, cudaStream_t stream);

// How many elements of type Moment<T> update_second_moment wants to keep the partial sums of its blocks in; 0 where one
// block sees all that a feature has.
template <typename T>
int64_t partial_sums_size(const Extents& extents);

// Updates the second moment: one read of the gradient's size.
template <typename T>
void update_second_moment(const T* gradient, Moment<T>* second_moment, Moment<T>* partial_sums, const Extents& extents,
                          const Averaging& averaging, cudaStream_t stream);

// scaled = scale gradient / sqrt(second_moment + eps): one read and one write. The two may be the same memory.
template <typename T>
void scale_features(const T* gradient, T* scaled, const Moment<T>* second_moment, const Extents& extents,
                    const Scaling& scaling, cudaStream_t stream);

// Calls a macro with each kind of gradient.
#define SVGD_FOR_EVERY_KIND(_) _(float) _(double) _(c10::BFloat16) _(c10::Half)

}  // namespace svgd::cuda
