// What the kernels and launchers of cuda/ see of CUDA, for a C++ compiler. Found in the place of the toolkit's header.
#pragma once

#include <math.h>  // sqrt and isfinite as nvcc has them: of every type, without std::

#include <cstdint>
#include <cstring>

#include "emulation.h"

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
// Where a barrier stands tells it from the others.
#define __syncthreads() emulation::wait_at_barrier(__FILE__, __LINE__)

// Launches are of one dimension: y and z are left out, so that a kernel that wants them does not compile.
inline const auto& threadIdx = emulation::here.thread;
inline const auto& blockIdx = emulation::here.block;
inline const auto& gridDim = emulation::here.grid;

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

using cudaStream_t = emulation::Stream*;

inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

// Accesses with hints for the caches, which are not emulated.
template <typename T>
T __ldcs(const T* from) {
  return *from;
}
template <typename T>
void __stwb(T* to, const T& value) {
  *to = value;
}
