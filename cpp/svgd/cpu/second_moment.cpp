// The CPU kernels of the second moment and the virtual gradient (docs/design.md): how the work is cut into pieces, and
// which thread does which. The arithmetic is in loops.inc.
//
//     q = mean over the batch of (k g)^2;   r <- decay r + (1 - decay) q;   t = scale g / sqrt(r + eps)
//
// The order of every sum is a function of operator, kind and shape alone: where the pieces of a sum are cut, and the
// order in which they are added, never depend on the number of threads.
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <array>

#include "../second_moment.h"

#include "../flat_gradient.h"
#include "loops.h"

namespace svgd {
namespace {

const cpu::AllLoops& loops() {
  static const cpu::AllLoops& chosen = []() -> const cpu::AllLoops& {
#if defined(__x86_64__)
    const auto capability = at::get_cpu_capability();
    if (capability == "AVX512") {
      return cpu::avx512::all_loops;
    }
    if (capability == "AVX2") {
      return cpu::avx2::all_loops;
    }
#endif
    return cpu::portable::all_loops;
  }();
  return chosen;
}

// Calls `function` with the loops for values of this kind.
template <typename Function>
void with_loops(at::ScalarType kind, const Function& function) {
  switch (kind) {
    case at::kFloat:
      return function(loops().of_float);
    case at::kDouble:
      return function(loops().of_double);
    case at::kBFloat16:
      return function(loops().of_bfloat16);
    default:  // the checks let nothing else through
      return function(loops().of_half);
  }
}

// Results of this size are in no cache when they are read next: they are streamed past it. A smaller gradient is still
// in a cache, where the layer above has just written it.
constexpr int64_t kStreamedBytes = 1 << 25;
// Values that one thread reads twice, the second time out of the caches (L2, and L3 for what that does not hold).
constexpr int64_t kCachedBytes = 1 << 20;
// A chunk of columns: at least a few cache lines of each row, at most what its sums and factors leave of the L1 cache.
constexpr int64_t kMinColumns = 64, kMaxColumns = 1024;
// Rows that make one partial sum.
constexpr int64_t kRows = 64;
// Values that make a row on their own; fewer are folded.
constexpr int64_t kMinWidth = 1024;
// Values that are worth a task of their own.
constexpr int64_t kGrain = 1 << 14;
// Values that take as long as the update of one feature, whose divisions and root are slow.
constexpr int64_t kUpdate = 16;

int64_t grain(int64_t values_per_item) { return std::max<int64_t>(kGrain / std::max<int64_t>(values_per_item, 1), 1); }

// Short rows are folded into long ones, so that a vector always has work.
int64_t rows_in_one(int64_t width) { return std::max<int64_t>(kMinWidth / width, 1); }

// One pass over a gradient: its arguments in the kinds that they are computed in.
template <typename scalar_t>
struct Pass {
  using acc_t = typename cpu::Accumulate<scalar_t>::type;

  const cpu::Loops<scalar_t>& loops;
  const scalar_t* values;
  acc_t* second_moment;
  int64_t outer, features, inner;
  acc_t decay, gradient_scale;

  // Of the virtual gradient; result is null where only the second moment is asked for.
  scalar_t* result = nullptr;
  acc_t scale = 0, eps = 0;
  cpu::Stores stores = cpu::Stores::kCached;

  Pass(const cpu::Loops<scalar_t>& loops, const FlatGradient& flat, double decay, double gradient_scale)
      : loops(loops),
        values(static_cast<const scalar_t*>(flat.values.const_data_ptr())),
        second_moment(static_cast<acc_t*>(flat.second_moment.mutable_data_ptr())),
        outer(flat.outer),
        features(flat.features),
        inner(flat.inner),
        decay(static_cast<acc_t>(decay)),
        gradient_scale(static_cast<acc_t>(gradient_scale)) {}

  void scale_into(const Tensor& virtual_gradient, double scale, double eps) {
    result = static_cast<scalar_t*>(virtual_gradient.mutable_data_ptr());
    this->scale = static_cast<acc_t>(scale);
    this->eps = static_cast<acc_t>(eps);
    stores = virtual_gradient.nbytes() >= kStreamedBytes ? cpu::Stores::kStreaming : cpu::Stores::kCached;
  }

  // sums -> r, and r -> factors where there is a result, of some features from `first` on.
  void update(int64_t first, int64_t count, const acc_t* sums, acc_t* factors) const {
    loops.update(second_moment + first, sums, count, static_cast<acc_t>(outer * inner), decay);
    if (result != nullptr) {
      loops.factors(second_moment + first, count, scale, eps, factors);
    }
  }
};

template <typename acc_t>
void add(const acc_t* __restrict terms, int64_t count, acc_t* __restrict sums) {
  for (int64_t i = 0; i < count; ++i) {
    sums[i] += terms[i];
  }
}

// The sum of the rows of a table, in its first row, for the columns from `begin` to `end`: of pairs of rows, then of
// pairs of these, whose rounding errors grow with the logarithm of the rows only.
template <typename acc_t>
void add_rows(acc_t* table, int64_t rows, int64_t stride, int64_t begin, int64_t end) {
  for (int64_t step = 1; step < rows; step *= 2) {
    for (int64_t row = 0; row + step < rows; row += 2 * step) {
      add(table + (row + step) * stride + begin, end - begin, table + row * stride + begin);
    }
  }
}

// Columns of a large gradient that fit the caches with all their rows are read from memory once: summed, and scaled out
// of the caches.
template <typename scalar_t>
void in_one_pass(const Pass<scalar_t>& pass, int64_t width) {
  using acc_t = typename Pass<scalar_t>::acc_t;
  at::parallel_for(0, at::divup(pass.features, width), 1, [&](int64_t begin, int64_t end) {
    alignas(64) acc_t sums[kMaxColumns], terms[kMaxColumns];
    for (auto chunk = begin; chunk < end; ++chunk) {
      const auto first = chunk * width;
      const auto columns = std::min(width, pass.features - first);
      const auto* values = pass.values + first;
      for (int64_t row = 0; row < pass.outer; row += kRows) {
        auto* const to = row == 0 ? sums : terms;
        pass.loops.sum_columns(values + row * pass.features, std::min(kRows, pass.outer - row), pass.features, columns,
                               pass.gradient_scale, to);
        if (row > 0) {
          add(terms, columns, sums);
        }
      }
      auto* const factors = terms;
      pass.update(first, columns, sums, factors);
      pass.loops.scale_columns(values, pass.outer, pass.features, columns, factors, pass.result + first, pass.stores);
    }
  });
}

// The sum of the squares of each feature, in the first values of the table that is returned. Each thread reads rows
// that lie together, and most likely has written them itself.
template <typename scalar_t>
Tensor sum_squares(const Pass<scalar_t>& pass, const at::TensorOptions& options) {
  using acc_t = typename Pass<scalar_t>::acc_t;
  const auto fold = rows_in_one(pass.features);
  const auto width = fold * pass.features;
  const auto rows = pass.outer / fold;
  const auto rest = pass.outer % fold * pass.features;  // values after the last whole row
  const auto blocks = at::divup(rows, kRows);
  const auto chunks = at::divup(width, kMaxColumns);
  const auto table = at::empty({blocks + (rest > 0), width}, options);
  auto* const sums = table.template mutable_data_ptr<acc_t>();
  const auto values_per_task = std::min(kRows, rows) * std::min(width, kMaxColumns);
  at::parallel_for(0, blocks * chunks, grain(values_per_task), [&](int64_t begin, int64_t end) {
    for (auto task = begin; task < end; ++task) {
      const auto row = task / chunks * kRows;
      const auto first = task % chunks * kMaxColumns;
      pass.loops.sum_columns(pass.values + row * width + first, std::min(kRows, rows - row), width,
                             std::min(kMaxColumns, width - first), pass.gradient_scale,
                             sums + task / chunks * width + first);
    }
  });
  if (rest > 0) {
    auto* const last = sums + blocks * width;
    pass.loops.sum_columns(pass.values + rows * width, 1, width, rest, pass.gradient_scale, last);
    std::fill(last + rest, last + width, acc_t(0));
  }
  at::parallel_for(0, width, grain(table.size(0)),
                   [&](int64_t begin, int64_t end) { add_rows(sums, table.size(0), width, begin, end); });
  add_rows(sums, fold, pass.features, 0, pass.features);
  return table;
}

// The same where a feature is a channel of contiguous images: the sums of some columns, a part of one channel or
// several whole ones, are added up as soon as they are there, so that the table has nothing of the gradient's size.
template <typename scalar_t>
Tensor sum_channel_squares(const Pass<scalar_t>& pass, const at::TensorOptions& options) {
  using acc_t = typename Pass<scalar_t>::acc_t;
  const auto width = pass.features * pass.inner;
  const auto parts = at::divup(pass.inner, kMaxColumns);                 // of a channel
  const auto together = std::max<int64_t>(kMaxColumns / pass.inner, 1);  // channels, or one part of one
  const auto chunks = at::divup(pass.features, together) * parts;
  const auto blocks = at::divup(pass.outer, kRows);
  const auto table = at::empty({blocks, pass.features * parts}, options);
  auto* const sums = table.template mutable_data_ptr<acc_t>();
  const auto values_per_task = std::min(kRows, pass.outer) * std::min(width, kMaxColumns);
  at::parallel_for(0, blocks * chunks, grain(values_per_task), [&](int64_t begin, int64_t end) {
    alignas(64) acc_t columns[kMaxColumns];
    for (auto task = begin; task < end; ++task) {
      const auto block = task / chunks;
      const auto feature = task % chunks / parts * together;
      const auto part = task % chunks % parts;
      const auto channels = std::min(together, pass.features - feature);
      const auto length = std::min(kMaxColumns, pass.inner - part * kMaxColumns);
      pass.loops.sum_columns(pass.values + block * kRows * width + feature * pass.inner + part * kMaxColumns,
                             std::min(kRows, pass.outer - block * kRows), width, channels * length, pass.gradient_scale,
                             columns);
      pass.loops.sum_runs(columns, channels, length, sums + (block * pass.features + feature) * parts + part);
    }
  });
  add_rows(sums, blocks, table.size(1), 0, table.size(1));
  if (parts > 1) {
    pass.loops.sum_runs(sums, pass.features, parts, sums);
  }
  return table;
}

// Everything is summed before the first value is scaled: gradients in a cache that the cores share, those with more
// rows than their own caches hold, those of channels, and those of which nothing is scaled.
template <typename scalar_t>
void in_two_passes(const Pass<scalar_t>& pass, const at::TensorOptions& options) {
  using acc_t = typename Pass<scalar_t>::acc_t;
  const auto table = pass.inner == 1 ? sum_squares(pass, options) : sum_channel_squares(pass, options);
  const auto* const sums = table.template const_data_ptr<acc_t>();
  const auto fold = pass.inner == 1 ? rows_in_one(pass.features) : 1;
  const auto width = fold * pass.features;
  const auto all_factors = at::empty({pass.result != nullptr ? width : 0}, options);
  auto* const factors = all_factors.template mutable_data_ptr<acc_t>();
  at::parallel_for(0, pass.features, grain(kUpdate),
                   [&](int64_t begin, int64_t end) { pass.update(begin, end - begin, sums + begin, factors + begin); });
  if (pass.result == nullptr) {
    return;
  }
  if (pass.inner == 1) {
    for (int64_t row = 1; row < fold; ++row) {
      std::copy_n(factors, pass.features, factors + row * pass.features);
    }
    at::parallel_for(0, pass.outer * pass.features, kGrain, [&](int64_t begin, int64_t end) {
      while (begin < end) {  // whole rows together, and a part of a row before and behind them
        const auto column = begin % width;
        const auto rows = column == 0 ? std::max<int64_t>((end - begin) / width, 1) : 1;
        const auto columns = std::min(width - column, end - begin);
        pass.loops.scale_columns(pass.values + begin, rows, width, columns, factors + column, pass.result + begin,
                                 pass.stores);
        begin += rows * columns;
      }
    });
    return;
  }
  at::parallel_for(0, pass.outer * pass.features, grain(pass.inner), [&](int64_t begin, int64_t end) {
    while (begin < end) {  // image by image
      const auto feature = begin % pass.features;
      const auto runs = std::min(pass.features - feature, end - begin);
      const auto offset = begin * pass.inner;
      pass.loops.scale_runs(pass.values + offset, runs, pass.inner, factors + feature, pass.result + offset,
                            pass.stores);
      begin += runs;
    }
  });
}

template <typename scalar_t>
void run(const Pass<scalar_t>& pass, const at::TensorOptions& options) {
  const auto in_cache = kCachedBytes / static_cast<int64_t>(sizeof(scalar_t)) / pass.outer;
  if (pass.inner == 1 && pass.stores == cpu::Stores::kStreaming && in_cache >= kMinColumns) {
    // Whole cache lines, and a chunk for every thread. The order of the sums does not depend on the width.
    const auto share = at::divup(at::divup(pass.features, at::get_num_threads()), kMinColumns) * kMinColumns;
    return in_one_pass(pass, std::min({share, in_cache / kMinColumns * kMinColumns, kMaxColumns}));
  }
  in_two_passes(pass, options);
}

void update_second_moment_cpu(const Tensor& grad_output, const Tensor& second_moment, double decay,
                              double gradient_scale) {
  check_second_moment("svgd::_update_second_moment", grad_output, second_moment);
  if (grad_output.numel() == 0) {
    return;  // the mean of nothing is no statistic
  }
  const auto flat = flatten(grad_output, second_moment);
  with_loops(grad_output.scalar_type(), [&](const auto& loops) {
    run(Pass(loops, flat, decay, resolve_gradient_scale(grad_output, gradient_scale)), second_moment.options());
  });
  return_second_moment(flat, grad_output, second_moment);
}

Tensor virtual_grad_cpu(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay, double eps,
                        double gradient_scale) {
  check_virtual_grad(grad_output, second_moment, scale, decay, eps, gradient_scale);
  const auto flat = flatten(grad_output, second_moment);
  const auto virtual_gradient = at::empty_like(flat.values);
  if (grad_output.numel() == 0) {
    return virtual_gradient;
  }
  with_loops(grad_output.scalar_type(), [&](const auto& loops) {
    Pass pass(loops, flat, decay, resolve_gradient_scale(grad_output, gradient_scale));
    pass.scale_into(virtual_gradient, scale, eps);
    run(pass, second_moment.options());
  });
  return_second_moment(flat, grad_output, second_moment);
  return virtual_gradient;
}

void scale_rows_cpu(const Tensor& rows, const Tensor& second_moment, double scale, double eps) {
  check_scale_rows(rows, second_moment, scale, eps);
  if (rows.numel() == 0) {
    return;
  }
  const auto packed = pack_rows(rows);
  const auto moments = second_moment.contiguous();
  const auto length = rows.numel() / rows.size(0);
  with_loops(rows.scalar_type(), [&](const auto& loops) {
    using scalar_t = typename std::decay_t<decltype(loops)>::value_t;
    using acc_t = typename cpu::Accumulate<scalar_t>::type;
    const auto* const moment = static_cast<const acc_t*>(moments.const_data_ptr());
    auto* const values = static_cast<scalar_t*>(packed.mutable_data_ptr());
    at::parallel_for(0, rows.size(0), grain(length), [&](int64_t begin, int64_t end) {
      // On the stack: rows that lie as those of a gradient do take no memory, so that this cannot fail after the state
      // has changed.
      constexpr int64_t kRows = 256;
      std::array<acc_t, kRows> factors;
      for (; begin < end; begin += kRows) {
        const auto count = std::min(kRows, end - begin);
        loops.factors(moment + begin, count, static_cast<acc_t>(scale), static_cast<acc_t>(eps), factors.data());
        auto* const first = values + begin * length;
        loops.scale_runs(first, count, length, factors.data(), first, cpu::Stores::kCached);
      }
    });
  });
  return_rows(packed, rows);
}

}  // namespace

TORCH_LIBRARY_IMPL(svgd, CPU, m) {
  m.impl("_scale_rows", scale_rows_cpu);
  m.impl("virtual_grad", virtual_grad_cpu);
  m.impl("_update_second_moment", update_second_moment_cpu);
}

}  // namespace svgd
