// The scaling alone: every value times the factor of its feature. The second pass over gradients that are too large for
// one, and the rows of weight gradients.
#include <c10/cuda/CUDAException.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "blocks.cuh"
#include "formulas.cuh"
#include "kernels.h"
#include "pack.cuh"

namespace svgd::cuda {
namespace {

// inner == 1: features are columns. A thread computes the factors of its columns once, for all rows of its split.
template <typename T, Access kAccess>
__global__ void __launch_bounds__(kThreads)
    scale_columns_kernel(const T* gradient, T* scaled_gradient, const Moment<T>* __restrict__ second_moments,
                         int64_t rows, int64_t columns, Lanes layout, Split split, Factor<Moment<T>> factor) {
  const int lane = threadIdx.x % layout.lanes;
  const int group = threadIdx.x / layout.lanes;
  if (group >= layout.groups) {
    return;
  }
  for (int64_t block = blockIdx.x; block < layout.chunks * split.count; block += gridDim.x) {
    const auto [part, column, end] = place_of<kVector<T>>(block, layout, split, lane, rows);
    if (column >= columns) {
      continue;
    }
    auto factors = load_pack<kAccess, kVector<T>>(second_moments + column, columns - column);
#pragma unroll
    for (int j = 0; j < kVector<T>; ++j) {
      factors.values[j] = factor.of(factors.values[j]);
    }
    for (int64_t row = part * split.length + group; row < end; row += kUnroll * layout.groups) {
      Vector<T> vectors[kUnroll];
#pragma unroll
      for (int i = 0; i < kUnroll; ++i) {
        const int64_t own_row = row + i * layout.groups;
        vectors[i] =
            load<kAccess, Use::kLast>(gradient + own_row * columns + column, own_row < end ? columns - column : 0);
      }
#pragma unroll
      for (int i = 0; i < kUnroll; ++i) {
        const int64_t own_row = row + i * layout.groups;
        store<kAccess>(scaled(vectors[i], factors), scaled_gradient + own_row * columns + column,
                       own_row < end ? columns - column : 0);
      }
    }
  }
}

// Segments of runs, dealt to the groups of all blocks in turn: what a thread adds to go from one to its next.
struct Stride {
  int64_t runs, segments, features;
};

// inner > 1, or rows: run number `run`, of `inner` elements, belongs to feature run % features. A group takes a segment
// of a run: kUnroll chunks of it.
template <typename T, Access kAccess>
__global__ void __launch_bounds__(kThreads)
    scale_runs_kernel(const T* gradient, T* scaled_gradient, const Moment<T>* __restrict__ second_moments,
                      Extents extents, Lanes layout, int64_t segments, Stride stride, Factor<Moment<T>> factor) {
  const int lane = threadIdx.x % layout.lanes;
  const int group = threadIdx.x / layout.lanes;
  if (group >= layout.groups) {
    return;
  }
  const int64_t runs = extents.outer * extents.features;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * layout.groups + group;
  int64_t run = first / segments;
  int64_t segment = first - run * segments;
  int64_t feature = run % extents.features;
  while (run < runs) {
    Vector<T> vectors[kUnroll];
    const int64_t start = (segment * kUnroll * layout.lanes + lane) * kVector<T>;
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const int64_t position = start + i * layout.lanes * kVector<T>;
      vectors[i] = load<kAccess, Use::kLast>(gradient + run * extents.inner + position, extents.inner - position);
    }
    const auto value = factor.of(second_moments[feature]);
    Pack<Moment<T>, kVector<T>> factors;
#pragma unroll
    for (int j = 0; j < kVector<T>; ++j) {
      factors.values[j] = value;
    }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const int64_t position = start + i * layout.lanes * kVector<T>;
      store<kAccess>(scaled(vectors[i], factors), scaled_gradient + run * extents.inner + position,
                     extents.inner - position);
    }
    run += stride.runs;
    feature += stride.features;
    segment += stride.segments;
    if (segment >= segments) {
      segment -= segments;
      ++run;
      ++feature;
    }
    if (feature >= extents.features) {
      feature -= extents.features;
    }
  }
}

}  // namespace

template <typename T>
void scale_features(const T* gradient, T* scaled, const Moment<T>* second_moment, const Extents& extents,
                    const Scaling& scaling, cudaStream_t stream) {
  const Factor<Moment<T>> factor(scaling);
  const bool columns = extents.inner == 1 && extents.outer > 1;
  const auto row_length = columns ? extents.features : extents.inner;
  const Lanes layout(divide_up(row_length, kVector<T>));
  const bool aligned = row_length % kVector<T> == 0 && is_aligned(gradient) && is_aligned(scaled) &&
                       (!columns || is_aligned(second_moment));
  if (columns) {
    const Split split(extents.outer, layout.chunks, layout.groups);
    const auto kernel =
        aligned ? scale_columns_kernel<T, Access::kAligned> : scale_columns_kernel<T, Access::kElementwise>;
    kernel<<<grid_size(layout.chunks * split.count), kThreads, 0, stream>>>(
        gradient, scaled, second_moment, extents.outer, extents.features, layout, split, factor);
  } else {
    constexpr int64_t kMostBlocks = 4096;  // fills the largest GPUs; each thread then goes from segment to segment
    const auto segments = divide_up(layout.chunks, kUnroll);
    const auto blocks = std::min(divide_up(extents.outer * extents.features * segments, layout.groups), kMostBlocks);
    const auto step = blocks * layout.groups;
    const Stride stride{step / segments, step % segments, step / segments % extents.features};
    const auto kernel = aligned ? scale_runs_kernel<T, Access::kAligned> : scale_runs_kernel<T, Access::kElementwise>;
    kernel<<<grid_size(blocks), kThreads, 0, stream>>>(gradient, scaled, second_moment, extents, layout, segments,
                                                       stride, factor);
  }
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

#define SVGD_INSTANTIATE(T) \
  template void scale_features(const T*, T*, const Moment<T>*, const Extents&, const Scaling&, cudaStream_t);
SVGD_FOR_EVERY_KIND(SVGD_INSTANTIATE)
#undef SVGD_INSTANTIATE

}  // namespace svgd::cuda
