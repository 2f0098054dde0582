// The inner loops of the CPU kernels. loops.inc defines them once for each instruction set; second_moment.cpp picks
// the set at run time.
//
// These files include nothing of libtorch: what is compiled for AVX-512 must not define inline functions that the
// linker may choose for everyone.
#pragma once

#include <cstdint>

namespace svgd::cpu {

// 16-bit floating point numbers as their bits. The loops compute in float.
struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

template <typename scalar_t>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};

// Where a result goes: to the cache, for whoever reads it next, or past it to memory, which saves reading each line
// before it is overwritten. Streaming pays for results that no cache can hold.
enum class Stores { kCached, kStreaming };

template <typename scalar_t>
struct Loops {
  using value_t = scalar_t;
  using acc_t = typename Accumulate<scalar_t>::type;

  // sums[column] = sum over the rows of (k values[row * stride + column])^2.
  void (*sum_columns)(const scalar_t* values, int64_t rows, int64_t stride, int64_t columns, acc_t gradient_scale,
                      acc_t* sums);
  // sums[run] = the sum of values[run * length + i] over i. `sums` may be `values`.
  void (*sum_runs)(const acc_t* values, int64_t runs, int64_t length, acc_t* sums);
  // r <- decay r + (1 - decay) sums / count, where that is finite; where it is not, r stays.
  void (*update)(acc_t* second_moment, const acc_t* sums, int64_t features, acc_t count, acc_t decay);
  // factors = scale / sqrt(r + eps).
  void (*factors)(const acc_t* second_moment, int64_t features, acc_t scale, acc_t eps, acc_t* factors);
  // result[row * stride + column] = factors[column] values[row * stride + column].
  void (*scale_columns)(const scalar_t* values, int64_t rows, int64_t stride, int64_t columns, const acc_t* factors,
                        scalar_t* result, Stores stores);
  // result[run * length + i] = factors[run] values[run * length + i]. `result` may be `values`, if kCached.
  void (*scale_runs)(const scalar_t* values, int64_t runs, int64_t length, const acc_t* factors, scalar_t* result,
                     Stores stores);
};

struct AllLoops {
  Loops<float> of_float;
  Loops<double> of_double;
  Loops<BFloat16> of_bfloat16;
  Loops<Half> of_half;
};

namespace portable {
extern const AllLoops all_loops;
}
#if defined(__x86_64__)
namespace avx2 {
extern const AllLoops all_loops;
}
namespace avx512 {
extern const AllLoops all_loops;
}
#endif

}  // namespace svgd::cpu
