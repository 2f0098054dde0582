// The formulas of docs/design.md for one feature, as every kernel computes them.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels.h"
#include "pack.cuh"

namespace svgd::cuda {

// r <- decay r + (1 - decay) q, where q is the mean of (gradient_scale g)^2 over `count` values.
template <typename M>
struct SecondMoment {
  M decay, complement, gradient_scale, count;

  SecondMoment(const Averaging& averaging, const Extents& extents)
      : decay(static_cast<M>(averaging.decay)),
        complement(static_cast<M>(1 - averaging.decay)),
        gradient_scale(static_cast<M>(averaging.gradient_scale)),
        count(static_cast<M>(extents.outer * extents.inner)) {}

  // The scale comes before the square: k g is of an ordinary size where g carries a loss scale, and g^2 may not be.
  template <typename T>
  __device__ __forceinline__ M square(T gradient) const {
    const M scaled = gradient_scale * static_cast<M>(gradient);
    return scaled * scaled;
  }

  // A mean that is not finite leaves the second moment as it was: the state survives a step that overflowed.
  __device__ __forceinline__ M updated(M second_moment, M sum_of_squares) const {
    const M mean = sum_of_squares / count;
    return isfinite(mean) ? decay * second_moment + complement * mean : second_moment;
  }
};

// t = scale g / sqrt(r + eps), as a factor of g that is computed once a feature.
template <typename M>
struct Factor {
  M scale, eps;

  explicit Factor(const Scaling& scaling) : scale(static_cast<M>(scaling.scale)), eps(static_cast<M>(scaling.eps)) {}

  __device__ __forceinline__ M of(M second_moment) const { return scale / sqrt(second_moment + eps); }
};

template <typename T>
__device__ __forceinline__ Vector<T> scaled(const Vector<T>& gradient, const Pack<Moment<T>, kVector<T>>& factors) {
  auto elements = gradient.unpacked();
#pragma unroll
  for (int i = 0; i < kVector<T>; ++i) {
    elements.values[i] = static_cast<T>(factors.values[i] * static_cast<Moment<T>>(elements.values[i]));
  }
  return Vector<T>(elements);
}

}  // namespace svgd::cuda
