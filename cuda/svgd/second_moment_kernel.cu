// The statistic alone: sums of squares, and the update of the second moment from them. Where several blocks share the
// values of a feature, each writes a partial sum, and a second, small kernel adds these up.
#include <c10/cuda/CUDAException.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "blocks.cuh"
#include "formulas.cuh"
#include "kernels.h"
#include "pack.cuh"

namespace svgd::cuda {
namespace {

// Where a block leaves a sum: beside those of the other blocks, or in the second moment when there are no others.
template <typename M>
struct SumOfSquares {
  M* partial_sums;  // [splits][features], or null
  M* second_moments;
  SecondMoment<M> second_moment;

  __device__ __forceinline__ void put(M sum, int64_t split, int64_t feature, int64_t features) const {
    if (partial_sums != nullptr) {
      partial_sums[split * features + feature] = sum;
    } else {
      second_moments[feature] = second_moment.updated(second_moments[feature], sum);
    }
  }
};

// Adds up what the threads of the same lane hold, two groups at a time. The result is for the threads of group 0.
// No barrier is needed before the next call: after the last one here, a thread reads what it wrote itself.
template <typename M, int kCount>
__device__ __forceinline__ Pack<M, kCount> sum_over_groups(const Pack<M, kCount>& sum, int lanes, int groups) {
  __shared__ Pack<M, kCount> sums[kThreads];
  const int group = threadIdx.x / lanes;
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int live = groups; live > 1;) {
    const int half = (live + 1) / 2;
    if (group < live - half) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        sums[threadIdx.x].values[i] += sums[threadIdx.x + half * lanes].values[i];
      }
    }
    __syncthreads();
    live = half;
  }
  return sums[threadIdx.x];
}

// The sums of the squares of several vectors, element by element, as a balanced tree.
template <typename T>
__device__ __forceinline__ Pack<Moment<T>, kVector<T>> sums_of_squares(const Vector<T> (&vectors)[kUnroll],
                                                                       const SecondMoment<Moment<T>>& second_moment) {
  Pack<Moment<T>, kVector<T>> squares[kUnroll];
#pragma unroll
  for (int i = 0; i < kUnroll; ++i) {
    const auto elements = vectors[i].unpacked();
#pragma unroll
    for (int j = 0; j < kVector<T>; ++j) {
      squares[i].values[j] = second_moment.square(elements.values[j]);
    }
  }
#pragma unroll
  for (int half = kUnroll / 2; half >= 1; half /= 2) {
#pragma unroll
    for (int i = 0; i < half; ++i) {
#pragma unroll
      for (int j = 0; j < kVector<T>; ++j) {
        squares[i].values[j] += squares[i + half].values[j];
      }
    }
  }
  return squares[0];
}

// inner == 1: features are columns. A block takes one chunk of columns of one split of the rows.
template <typename T, Access kAccess>
__global__ void __launch_bounds__(kThreads)
    column_second_moment_kernel(const T* __restrict__ gradient, int64_t rows, int64_t columns, Lanes layout,
                                Split split, SumOfSquares<Moment<T>> target) {
  using M = Moment<T>;
  const int lane = threadIdx.x % layout.lanes;
  const int group = threadIdx.x / layout.lanes;
  for (int64_t block = blockIdx.x; block < layout.chunks * split.count; block += gridDim.x) {
    const auto [part, column, end] = place_of<kVector<T>>(block, layout, split, lane, rows);
    Pack<M, kVector<T>> sum{};
    if (group < layout.groups && column < columns) {
      for (int64_t row = part * split.length + group; row < end; row += kUnroll * layout.groups) {
        Vector<T> vectors[kUnroll];
#pragma unroll
        for (int i = 0; i < kUnroll; ++i) {
          const int64_t own_row = row + i * layout.groups;
          vectors[i] =
              load<kAccess, Use::kAgain>(gradient + own_row * columns + column, own_row < end ? columns - column : 0);
        }
        const auto squares = sums_of_squares(vectors, target.second_moment);
#pragma unroll
        for (int j = 0; j < kVector<T>; ++j) {
          sum.values[j] += squares.values[j];
        }
      }
    }
    sum = sum_over_groups(sum, layout.lanes, layout.groups);
    if (group == 0) {
#pragma unroll
      for (int j = 0; j < kVector<T>; ++j) {
        if (column + j < columns) {
          target.put(sum.values[j], part, column + j, columns);
        }
      }
    }
  }
}

// inner > 1: a feature has runs of `inner` elements, one a sample. A block takes one split of the chunks of all runs of
// one feature; `layout` cuts a run into chunks.
template <typename T, Access kAccess>
__global__ void __launch_bounds__(kThreads)
    run_second_moment_kernel(const T* __restrict__ gradient, Extents extents, Lanes layout, Split split,
                             SumOfSquares<Moment<T>> target) {
  using M = Moment<T>;
  const int lane = threadIdx.x % layout.lanes;
  const int group = threadIdx.x / layout.lanes;
  const int64_t rows = extents.outer * layout.chunks;
  const int64_t groups_in_samples = layout.groups / layout.chunks;
  const int64_t groups_in_chunks = layout.groups % layout.chunks;
  for (int64_t block = blockIdx.x; block < extents.features * split.count; block += gridDim.x) {
    const int64_t part = block / extents.features;
    const int64_t feature = block - part * extents.features;
    const int64_t end = min(rows, (part + 1) * split.length);
    Pack<M, 1> sum{};
    if (group < layout.groups) {
      int64_t row = part * split.length + group;
      // Row number `row` is chunk `chunk` of sample `sample`; carried along, since a division costs more than a load.
      int64_t sample = row / layout.chunks;
      int64_t chunk = row % layout.chunks;
      while (row < end) {
        Vector<T> vectors[kUnroll];
#pragma unroll
        for (int i = 0; i < kUnroll; ++i) {
          const int64_t position = (chunk * layout.lanes + lane) * kVector<T>;
          const T* run = gradient + (sample * extents.features + feature) * extents.inner;
          vectors[i] = load<kAccess, Use::kAgain>(run + position, row < end ? extents.inner - position : 0);
          row += layout.groups;
          sample += groups_in_samples;
          chunk += groups_in_chunks;
          if (chunk >= layout.chunks) {
            chunk -= layout.chunks;
            ++sample;
          }
        }
        const auto squares = sums_of_squares(vectors, target.second_moment);
#pragma unroll
        for (int j = 0; j < kVector<T>; ++j) {
          sum.values[0] += squares.values[j];
        }
      }
    }
    sum = sum_over_groups(sum, /*lanes=*/1, kThreads);
    if (threadIdx.x == 0) {
      target.put(sum.values[0], part, feature, extents.features);
    }
  }
}

// Adds up partial_sums[splits][features] and updates the second moment.
template <typename M>
__global__ void __launch_bounds__(kThreads)
    finish_second_moment_kernel(const M* __restrict__ partial_sums, int64_t splits, int64_t features, Lanes layout,
                                SumOfSquares<M> target) {
  const int lane = threadIdx.x % layout.lanes;
  const int group = threadIdx.x / layout.lanes;
  for (int64_t chunk = blockIdx.x; chunk < layout.chunks; chunk += gridDim.x) {
    const int64_t feature = chunk * layout.lanes + lane;
    Pack<M, 1> sum{};
    if (group < layout.groups && feature < features) {
#pragma unroll 8
      for (int64_t split = group; split < splits; split += layout.groups) {
        sum.values[0] += partial_sums[split * features + feature];
      }
    }
    sum = sum_over_groups(sum, layout.lanes, layout.groups);
    if (group == 0 && feature < features) {
      target.put(sum.values[0], /*split=*/0, feature, features);
    }
  }
}

template <typename T>
Lanes row_layout(const Extents& extents) {
  return Lanes(divide_up(extents.inner == 1 ? extents.features : extents.inner, kVector<T>));
}

Split row_split(const Extents& extents, const Lanes& layout) {
  return extents.inner == 1 ? Split(extents.outer, layout.chunks, layout.groups)
                            : Split(extents.outer * layout.chunks, extents.features, layout.groups);
}

}  // namespace

template <typename T>
int64_t partial_sums_size(const Extents& extents) {
  const auto split = row_split(extents, row_layout<T>(extents));
  return split.count == 1 ? 0 : split.count * extents.features;
}

template <typename T>
void update_second_moment(const T* gradient, Moment<T>* second_moment, Moment<T>* partial_sums, const Extents& extents,
                          const Averaging& averaging, cudaStream_t stream) {
  using M = Moment<T>;
  const auto layout = row_layout<T>(extents);
  const auto split = row_split(extents, layout);
  const SumOfSquares<M> updated{nullptr, second_moment, SecondMoment<M>(averaging, extents)};
  auto summed = updated;
  if (split.count > 1) {
    summed.partial_sums = partial_sums;
  }
  const auto row_length = extents.inner == 1 ? extents.features : extents.inner;
  const bool aligned = row_length % kVector<T> == 0 && is_aligned(gradient);
  if (extents.inner == 1) {
    const auto kernel = aligned ? column_second_moment_kernel<T, Access::kAligned>
                                : column_second_moment_kernel<T, Access::kElementwise>;
    kernel<<<grid_size(layout.chunks * split.count), kThreads, 0, stream>>>(gradient, extents.outer, extents.features,
                                                                            layout, split, summed);
  } else {
    const auto kernel =
        aligned ? run_second_moment_kernel<T, Access::kAligned> : run_second_moment_kernel<T, Access::kElementwise>;
    kernel<<<grid_size(extents.features * split.count), kThreads, 0, stream>>>(gradient, extents, layout, split,
                                                                               summed);
  }
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  if (split.count > 1) {
    const Lanes features(extents.features);
    finish_second_moment_kernel<M><<<grid_size(features.chunks), kThreads, 0, stream>>>(
        partial_sums, split.count, extents.features, features, updated);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
}

#define SVGD_INSTANTIATE(T)                              \
  template int64_t partial_sums_size<T>(const Extents&); \
  template void update_second_moment(const T*, Moment<T>*, Moment<T>*, const Extents&, const Averaging&, cudaStream_t);
SVGD_FOR_EVERY_KIND(SVGD_INSTANTIATE)
#undef SVGD_INSTANTIATE

}  // namespace svgd::cuda
