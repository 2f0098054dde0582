// The CPU kernels of the second moment and the virtual gradient (DESIGN §2): how the work is cut into pieces, and which
// thread does which. The arithmetic is in loops.inc.
//
//     q = mean over the batch of (k g)^2;   r <- decay r + (1 - decay) q;   t = scale g / sqrt(r + eps)
//
// The order of every sum is a function of the shape alone: where the pieces of a sum are cut, and the order in which
// they are added, never depend on the number of threads.
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>

#include "../../ops.h"
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

// Values that one thread reads twice, the second time out of its L2 cache.
constexpr int64_t kCachedBytes = 1 << 19;
// Results of this size are in no cache when they are read next.
constexpr int64_t kStreamedBytes = 1 << 25;
// A chunk of columns: at least a few cache lines of each row, at most what its sums and factors leave of the L1 cache.
constexpr int64_t kMinColumns = 64, kMaxColumns = 1024;
// Rows, and values of a channel, that make one partial sum.
constexpr int64_t kRows = 256, kValues = 1 << 13;
// Values that are worth a task of their own.
constexpr int64_t kGrain = 1 << 14;

int64_t grain(int64_t values_per_item) { return std::max<int64_t>(kGrain / std::max<int64_t>(values_per_item, 1), 1); }

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

// Columns that fit the cache with all their rows are read from memory once: summed, and scaled out of the cache.
template <typename scalar_t>
void columns_in_one_pass(const Pass<scalar_t>& pass, int64_t width) {
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
      if (pass.result != nullptr) {
        pass.loops.scale_columns(values, pass.outer, pass.features, columns, factors, pass.result + first, pass.stores);
      }
    }
  });
}

// Many rows: all of them are summed before the first is scaled. A few features are folded into wide rows, so that a
// vector always has work: `fold` rows of the gradient make one.
template <typename scalar_t>
void columns_in_two_passes(const Pass<scalar_t>& pass, int64_t fold, const at::TensorOptions& options) {
  using acc_t = typename Pass<scalar_t>::acc_t;
  const auto width = fold * pass.features;
  const auto rows = pass.outer / fold;
  const auto rest = pass.outer % fold * pass.features;  // values after the last whole row
  const auto blocks = at::divup(rows, kRows);
  const auto partial = at::zeros({blocks + (rest > 0), width}, options);
  auto* const sums = partial.template mutable_data_ptr<acc_t>();
  const auto chunks = at::divup(width, kMaxColumns);
  at::parallel_for(0, blocks * chunks, 1, [&](int64_t begin, int64_t end) {
    for (auto task = begin; task < end; ++task) {
      const auto row = task / chunks * kRows;
      const auto first = task % chunks * kMaxColumns;
      pass.loops.sum_columns(pass.values + row * width + first, std::min(kRows, rows - row), width,
                             std::min(kMaxColumns, width - first), pass.gradient_scale,
                             sums + task / chunks * width + first);
    }
  });
  if (rest > 0) {
    pass.loops.sum_columns(pass.values + rows * width, 1, width, rest, pass.gradient_scale, sums + blocks * width);
  }

  const auto all_factors = at::empty({pass.result != nullptr ? width : 0}, options);
  auto* const factors = all_factors.template mutable_data_ptr<acc_t>();
  at::parallel_for(0, width, fold > 1 ? width : grain(blocks), [&](int64_t begin, int64_t end) {
    for (int64_t block = 1; block < partial.size(0); ++block) {
      add(sums + block * width + begin, end - begin, sums + begin);
    }
    if (fold == 1) {
      pass.update(begin, end - begin, sums + begin, factors + begin);
    }
  });
  if (fold > 1) {
    for (int64_t row = 1; row < fold; ++row) {
      add(sums + row * pass.features, pass.features, sums);
    }
    pass.update(0, pass.features, sums, factors);
  }
  if (pass.result == nullptr) {
    return;
  }
  for (int64_t row = 1; row < fold; ++row) {
    std::copy_n(factors, pass.features, factors + row * pass.features);
  }
  at::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
    pass.loops.scale_columns(pass.values + begin * width, end - begin, width, width, factors,
                             pass.result + begin * width, pass.stores);
  });
  pass.loops.scale_columns(pass.values + rows * width, 1, width, rest, factors, pass.result + rows * width,
                           pass.stores);
}

// Channels of contiguous images: each feature is a run of `inner` values in each of the `outer` images.
template <typename scalar_t>
void channels(const Pass<scalar_t>& pass, const at::TensorOptions& options) {
  using acc_t = typename Pass<scalar_t>::acc_t;
  const auto stride = pass.features * pass.inner;
  const auto images = std::max<int64_t>(kValues / pass.inner, 1);  // that make one partial sum
  const auto blocks = at::divup(pass.outer, images);
  const auto sum = [&](int64_t block, int64_t feature) {
    const auto first = block * images;
    return pass.loops.sum_runs(pass.values + first * stride + feature * pass.inner,
                               std::min(images, pass.outer - first), stride, pass.inner, pass.gradient_scale);
  };
  const auto scale = [&](int64_t first, int64_t count, int64_t feature, acc_t factor) {
    const auto offset = first * stride + feature * pass.inner;
    pass.loops.scale_runs(pass.values + offset, count, stride, pass.inner, factor, pass.result + offset, pass.stores);
  };

  if (pass.result != nullptr && pass.features >= 4 * at::get_num_threads()) {
    // A channel is still in the cache, at least in that which the cores share, when it is read again.
    at::parallel_for(0, pass.features, grain(pass.outer * pass.inner), [&](int64_t begin, int64_t end) {
      for (auto feature = begin; feature < end; ++feature) {
        acc_t total = 0, factor = 0;
        for (int64_t block = 0; block < blocks; ++block) {
          total += sum(block, feature);
        }
        pass.update(feature, 1, &total, &factor);
        scale(0, pass.outer, feature, factor);
      }
    });
    return;
  }
  // A thread gets a range of images: of those that it wrote itself, its own cache still has a part.
  const auto partial = at::empty({blocks, pass.features}, options);
  auto* const sums = partial.template mutable_data_ptr<acc_t>();
  at::parallel_for(0, blocks * pass.features, grain(images * pass.inner), [&](int64_t begin, int64_t end) {
    for (auto task = begin; task < end; ++task) {
      sums[task] = sum(task / pass.features, task % pass.features);
    }
  });
  auto* const totals = sums;
  for (int64_t block = 1; block < blocks; ++block) {
    add(sums + block * pass.features, pass.features, totals);
  }
  const auto all_factors = at::empty({pass.features}, options);
  auto* const factors = all_factors.template mutable_data_ptr<acc_t>();
  pass.update(0, pass.features, totals, factors);
  if (pass.result != nullptr) {
    at::parallel_for(0, pass.outer * pass.features, grain(pass.inner), [&](int64_t begin, int64_t end) {
      for (auto run = begin; run < end; ++run) {
        scale(run / pass.features, 1, run % pass.features, factors[run % pass.features]);
      }
    });
  }
}

template <typename scalar_t>
void run(const Pass<scalar_t>& pass, const at::TensorOptions& options) {
  if (pass.inner > 1) {
    return channels(pass, options);
  }
  const auto fold = std::max<int64_t>(kRows / pass.features, 1);
  const auto in_cache = kCachedBytes / static_cast<int64_t>(sizeof(scalar_t)) / pass.outer;
  if (fold == 1 && (pass.result == nullptr ? pass.outer <= kRows : in_cache >= kMinColumns)) {
    // Whole cache lines, and a chunk for every thread. The order of the sums does not depend on the width.
    const auto share = at::divup(at::divup(pass.features, at::get_num_threads()), kMinColumns) * kMinColumns;
    const auto widest = std::clamp(in_cache / kMinColumns * kMinColumns, kMinColumns, kMaxColumns);
    return columns_in_one_pass(pass, std::min(share, widest));
  }
  columns_in_two_passes(pass, fold, options);
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

}  // namespace

TORCH_LIBRARY_IMPL(svgd, CPU, m) {
  m.impl("virtual_grad", virtual_grad_cpu);
  m.impl("_update_second_moment", update_second_moment_cpu);
}

}  // namespace svgd
