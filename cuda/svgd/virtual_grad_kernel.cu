// The virtual gradient in one pass: a block keeps all samples of its columns in registers between the statistic and the
// scaling. For gradients with inner == 1, which are matrices of samples by columns.
#include <c10/cuda/CUDAException.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "blocks.cuh"
#include "formulas.cuh"
#include "kernels.h"
#include "pack.cuh"

namespace svgd::cuda {
namespace {

constexpr int64_t kMostSamples = 512;

// How many blocks of a kernel are to share a multiprocessor: as many as its registers allow without spills. While some
// wait for their samples or for the barrier, others store.
constexpr int resident_blocks(int groups, int samples, Access access) {
  if (access == Access::kElementwise) {
    return samples <= 8 ? 2 : 1;
  }
  return samples > 8 ? 2 : samples == 8 && groups <= 2 ? 3 : 4;
}

// A block covers the columns of `kLanes` vectors. Its threads are kGroups groups of kLanes, and thread (group, lane)
// holds the samples group, group + kGroups, ... of its vector of columns: kSamples of them at most.
template <typename T, int kGroups, int kSamples, Access kAccess>
__global__ void __launch_bounds__(kThreads, resident_blocks(kGroups, kSamples, kAccess))
    virtual_grad_kernel(const T* __restrict__ gradient, T* __restrict__ virtual_grad,
                        Moment<T>* __restrict__ second_moments, int64_t samples, int64_t columns,
                        SecondMoment<Moment<T>> second_moment, Factor<Moment<T>> factor) {
  using M = Moment<T>;
  constexpr int kLanes = kThreads / kGroups;
  constexpr int kColumns = kLanes * kVector<T>;
  // The columns whose second moments a thread updates: all threads share in it, or as many as there are columns.
  constexpr int kMoments = kVector<T> > kGroups ? kVector<T> / kGroups : 1;
  using Moments = Pack<M, kMoments>;
  __shared__ Pack<M, kVector<T>> sums[kGroups == 1 ? 1 : kThreads];
  __shared__ Pack<M, kVector<T>> factors[kGroups == 1 ? 1 : kLanes];

  const int lane = threadIdx.x % kLanes;
  const int group = threadIdx.x / kLanes;
  const int64_t stride = kGroups * columns;
  const int64_t chunks = (columns + kColumns - 1) / kColumns;
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const int64_t column = chunk * kColumns + lane * kVector<T>;
    const int64_t start = group * columns + column;
    Vector<T> kept[kSamples];
#pragma unroll
    for (int i = 0; i < kSamples; ++i) {
      const int64_t left = group + i * kGroups < samples ? columns - column : 0;
      // The backward pass of a layer reads its gradient here for the last time.
      kept[i] = load<kAccess, Use::kLast>(gradient + start + i * stride, left);
    }
    // Fetched together with the samples, not after them.
    const bool updates = threadIdx.x * kMoments < kColumns;
    const int64_t moment_column = chunk * kColumns + threadIdx.x * kMoments;
    const int64_t moments_left = updates ? columns - moment_column : 0;
    Moments moments = load_pack<kAccess, kMoments>(second_moments + moment_column, moments_left);

    Pack<M, kVector<T>> sum{};
#pragma unroll
    for (int i = 0; i < kSamples; ++i) {
      const auto elements = kept[i].unpacked();
#pragma unroll
      for (int j = 0; j < kVector<T>; ++j) {
        sum.values[j] += second_moment.square(elements.values[j]);
      }
      kept[i].hold();
    }
    Pack<M, kVector<T>> column_factors;
    if constexpr (kGroups == 1) {
#pragma unroll
      for (int j = 0; j < kVector<T>; ++j) {
        moments.values[j] = second_moment.updated(moments.values[j], sum.values[j]);
        column_factors.values[j] = factor.of(moments.values[j]);
      }
    } else {
      sums[threadIdx.x] = sum;
      __syncthreads();
      if (updates) {
        // As sums[group][column] and factors[column]. Each is written before one barrier and read before the next, so
        // none is overwritten too early when the block goes on to another chunk.
        const M* column_sums = sums[0].values + threadIdx.x * kMoments;
        M* own_factors = factors[0].values + threadIdx.x * kMoments;
#pragma unroll
        for (int k = 0; k < kMoments; ++k) {
          M total = 0;
#pragma unroll
          for (int other = 0; other < kGroups; ++other) {
            total += column_sums[other * kColumns + k];
          }
          moments.values[k] = second_moment.updated(moments.values[k], total);
          own_factors[k] = factor.of(moments.values[k]);
        }
      }
      __syncthreads();
      column_factors = factors[lane];
    }
    store_pack<kAccess>(moments, second_moments + moment_column, moments_left);
#pragma unroll
    for (int i = 0; i < kSamples; ++i) {
      const int64_t left = group + i * kGroups < samples ? columns - column : 0;
      // An ordinary store: the weight gradient that reads it comes next, and may find it in the cache.
      store<kAccess>(scaled(kept[i], column_factors), virtual_grad + start + i * stride, left);
    }
  }
}

template <int kGroups, int kSamples, typename T>
void launch(const T* gradient, T* virtual_grad, Moment<T>* second_moment, const Extents& extents,
            const Averaging& averaging, const Scaling& scaling, cudaStream_t stream) {
  const bool aligned = extents.features % kVector<T> == 0 && is_aligned(gradient) && is_aligned(virtual_grad) &&
                       is_aligned(second_moment);
  const auto kernel = aligned ? virtual_grad_kernel<T, kGroups, kSamples, Access::kAligned>
                              : virtual_grad_kernel<T, kGroups, kSamples, Access::kElementwise>;
  const auto blocks = divide_up(extents.features, kThreads / kGroups * kVector<T>);
  kernel<<<grid_size(blocks), kThreads, 0, stream>>>(gradient, virtual_grad, second_moment, extents.outer,
                                                     extents.features, SecondMoment<Moment<T>>(averaging, extents),
                                                     Factor<Moment<T>>(scaling));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace

bool fits_in_registers(const Extents& extents) { return extents.inner == 1 && extents.outer <= kMostSamples; }

// More groups hold more samples, of fewer columns: eight vectors a thread are enough in flight to hide the latency of
// memory, and few enough for four blocks to share a multiprocessor, of which some load while others store.
template <typename T>
void virtual_grad_in_one_pass(const T* gradient, T* virtual_grad, Moment<T>* second_moment, const Extents& extents,
                              const Averaging& averaging, const Scaling& scaling, cudaStream_t stream) {
  const auto n = extents.outer;
  const auto launcher = n <= 2     ? launch<1, 2, T>
                        : n <= 4   ? launch<1, 4, T>
                        : n <= 8   ? launch<1, 8, T>
                        : n <= 16  ? launch<2, 8, T>
                        : n <= 32  ? launch<4, 8, T>
                        : n <= 64  ? launch<8, 8, T>
                        : n <= 128 ? launch<16, 8, T>
                        : n <= 256 ? launch<32, 8, T>
                                   : launch<32, 16, T>;
  launcher(gradient, virtual_grad, second_moment, extents, averaging, scaling, stream);
}

#define SVGD_INSTANTIATE(T)                                                                                          \
  template void virtual_grad_in_one_pass(const T*, T*, Moment<T>*, const Extents&, const Averaging&, const Scaling&, \
                                         cudaStream_t);
SVGD_FOR_EVERY_KIND(SVGD_INSTANTIATE)
#undef SVGD_INSTANTIATE

}  // namespace svgd::cuda
