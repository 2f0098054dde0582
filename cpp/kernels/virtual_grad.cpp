// The second moment and the virtual gradient (DESIGN §2): a CPU kernel, and the composed version for every other
// device.
//
//     q = mean over the batch of (k g)^2;   r <- decay r + (1 - decay) q;   t = scale g / sqrt(r + eps)
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/where.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>

#include "../ops.h"

namespace svgd {
namespace {

double resolve_gradient_scale(const Tensor& grad_output, double gradient_scale) {
  return gradient_scale > 0 ? gradient_scale : static_cast<double>(grad_output.size(0));
}

// ---- CPU ------------------------------------------------------------------------------------------------------

// The gradient as flat memory: values[outer][feature][inner]. The second moment has one value per feature; the mean
// goes over outer and inner. inner is 1 unless the features are the channels of a contiguous image.
struct FlatGradient {
  Tensor values;         // dense, in the order above
  Tensor second_moment;  // the caller's, its axes in the order of values
  int64_t outer, features, inner;
};

FlatGradient flatten(const Tensor& grad_output, const Tensor& second_moment) {
  const bool channel_granular = is_channel_granular(grad_output, second_moment);
  const bool channels_last = virtual_grad_format(grad_output) == at::MemoryFormat::ChannelsLast;
  const auto values = channels_last ? grad_output : grad_output.contiguous();
  const auto count = values.numel();
  const auto features = second_moment.numel();
  if (!channel_granular) {
    return {values, channels_last ? second_moment.permute({1, 2, 0}) : second_moment, values.size(0), features, 1};
  }
  const auto inner = channels_last ? 1 : c10::multiply_integers(values.sizes().slice(2));
  const auto outer = features * inner == 0 ? 0 : count / (features * inner);
  return {values, second_moment, outer, features, inner};
}

constexpr int64_t kGrain = 1 << 15;  // values that are worth a task of their own
constexpr int64_t kLanes = 16;       // running sums of a contiguous run: enough for the widest vectors

// The order of every sum is a function of the shape alone, never of the number of threads: each task fills its own
// row of `partial`, and the rows are added in order. kRows rows of the gradient make one row of `partial`.
constexpr int64_t kRows = 256;

// partial[row / kRows][feature], the sums of (k g)^2 over blocks of rows, for inner == 1.
template <typename scalar_t, typename acc_t>
void sum_columns(const scalar_t* values, acc_t* partial, int64_t rows, int64_t columns, acc_t gradient_scale) {
  const auto blocks = at::divup(rows, kRows);
  const auto chunk = std::clamp<int64_t>(kGrain / std::min(rows, kRows), kLanes, std::max(columns, kLanes));
  const auto chunks = at::divup(columns, chunk);
  at::parallel_for(0, blocks * chunks, 1, [&](int64_t begin, int64_t end) {
    for (auto task = begin; task < end; ++task) {
      const auto block = task / chunks;
      const auto first = task % chunks * chunk;
      const auto width = std::min(chunk, columns - first);
      acc_t* __restrict sums = partial + block * columns + first;
      std::fill_n(sums, width, acc_t(0));
      for (auto row = block * kRows; row < std::min(rows, (block + 1) * kRows); ++row) {
        const scalar_t* __restrict run = values + row * columns + first;
        for (int64_t i = 0; i < width; ++i) {
          const auto scaled = gradient_scale * static_cast<acc_t>(run[i]);
          sums[i] += scaled * scaled;
        }
      }
    }
  });
}

// partial[outer][feature], the sums of (k g)^2 over contiguous runs of `inner` values.
template <typename scalar_t, typename acc_t>
void sum_runs(const scalar_t* values, acc_t* partial, int64_t runs, int64_t inner, acc_t gradient_scale) {
  at::parallel_for(0, runs, std::max<int64_t>(kGrain / inner, 1), [&](int64_t begin, int64_t end) {
    for (auto run = begin; run < end; ++run) {
      const scalar_t* __restrict value = values + run * inner;
      acc_t lanes[kLanes] = {};
      int64_t i = 0;
      for (; i + kLanes <= inner; i += kLanes) {
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          const auto scaled = gradient_scale * static_cast<acc_t>(value[i + lane]);
          lanes[lane] += scaled * scaled;
        }
      }
      for (int64_t lane = 0; i < inner; ++i, ++lane) {
        const auto scaled = gradient_scale * static_cast<acc_t>(value[i]);
        lanes[lane] += scaled * scaled;
      }
      acc_t sum = 0;
      for (const auto lane : lanes) {
        sum += lane;
      }
      partial[run] = sum;
    }
  });
}

// r <- decay r + (1 - decay) q from the partial sums. Where q is not finite, r stays: one overflowing step must not
// destroy the state.
template <typename acc_t>
void update_from_partial(acc_t* second_moment, const acc_t* partial, int64_t blocks, int64_t features, acc_t count,
                         acc_t decay) {
  at::parallel_for(0, features, std::max<int64_t>(kGrain / blocks, 1), [&](int64_t begin, int64_t end) {
    for (auto feature = begin; feature < end; ++feature) {
      acc_t sum = 0;
      for (int64_t block = 0; block < blocks; ++block) {
        sum += partial[block * features + feature];
      }
      const auto mean = sum / count;
      if (std::isfinite(mean)) {
        second_moment[feature] = decay * second_moment[feature] + (acc_t(1) - decay) * mean;
      }
    }
  });
}

void update_flat(const FlatGradient& flat, double decay, double gradient_scale) {
  if (flat.values.numel() == 0) {
    return;  // the mean of nothing is no statistic
  }
  const auto blocks = flat.inner == 1 ? at::divup(flat.outer, kRows) : flat.outer;
  const auto partial = at::empty({blocks, flat.features}, flat.second_moment.options());
  // The same tensor when its order is already that of the gradient.
  const auto second_moment = flat.second_moment.contiguous();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, flat.values.scalar_type(), "svgd::second_moment", [&] {
    using acc_t = at::opmath_type<scalar_t>;
    const auto* values = flat.values.const_data_ptr<scalar_t>();
    auto* sums = partial.mutable_data_ptr<acc_t>();
    if (flat.inner == 1) {
      sum_columns(values, sums, flat.outer, flat.features, static_cast<acc_t>(gradient_scale));
    } else {
      sum_runs(values, sums, flat.outer * flat.features, flat.inner, static_cast<acc_t>(gradient_scale));
    }
    update_from_partial(second_moment.mutable_data_ptr<acc_t>(), sums, blocks, flat.features,
                        static_cast<acc_t>(flat.outer * flat.inner), static_cast<acc_t>(decay));
  });
  if (!second_moment.is_same(flat.second_moment)) {
    flat.second_moment.copy_(second_moment);
  }
}

Tensor scale_flat(const FlatGradient& flat, double scale, double eps) {
  const auto virtual_gradient = at::empty_like(flat.values);
  const auto factors = at::rsqrt(flat.second_moment + eps).mul_(scale).contiguous();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, flat.values.scalar_type(), "svgd::virtual_grad", [&] {
    using acc_t = at::opmath_type<scalar_t>;
    const auto* values = flat.values.const_data_ptr<scalar_t>();
    const auto* factor = factors.const_data_ptr<acc_t>();
    auto* result = virtual_gradient.mutable_data_ptr<scalar_t>();
    // Runs of values with consecutive factors (inner == 1), or with one factor.
    const auto length = flat.inner == 1 ? flat.features : flat.inner;
    const auto runs = flat.values.numel() / std::max<int64_t>(length, 1);
    at::parallel_for(0, runs, std::max<int64_t>(kGrain / std::max<int64_t>(length, 1), 1),
                     [&](int64_t begin, int64_t end) {
                       for (auto run = begin; run < end; ++run) {
                         const scalar_t* __restrict from = values + run * length;
                         scalar_t* __restrict to = result + run * length;
                         if (flat.inner == 1) {
                           for (int64_t i = 0; i < length; ++i) {
                             to[i] = static_cast<scalar_t>(static_cast<acc_t>(from[i]) * factor[i]);
                           }
                         } else {
                           const auto f = factor[run % flat.features];
                           for (int64_t i = 0; i < length; ++i) {
                             to[i] = static_cast<scalar_t>(static_cast<acc_t>(from[i]) * f);
                           }
                         }
                       }
                     });
  });
  return virtual_gradient;
}

void update_second_moment_cpu(const Tensor& grad_output, const Tensor& second_moment, double decay,
                              double gradient_scale) {
  check_second_moment("svgd::_update_second_moment", grad_output, second_moment);
  update_flat(flatten(grad_output, second_moment), decay, resolve_gradient_scale(grad_output, gradient_scale));
}

Tensor virtual_grad_cpu(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay, double eps,
                        double gradient_scale) {
  check_virtual_grad(grad_output, second_moment, scale, decay, eps, gradient_scale);
  const auto flat = flatten(grad_output, second_moment);
  update_flat(flat, decay, resolve_gradient_scale(grad_output, gradient_scale));
  return scale_flat(flat, scale, eps);
}

// ---- Composed of ATen operators -------------------------------------------------------------------------------

// second_moment with a batch axis, and spatial axes where it has one value per channel, to broadcast over gradients.
Tensor broadcastable(const Tensor& grad_output, const Tensor& second_moment) {
  std::vector<int64_t> size{1};
  size.insert(size.end(), second_moment.sizes().begin(), second_moment.sizes().end());
  size.resize(grad_output.dim(), 1);
  return second_moment.view(size);
}

void update_second_moment_composed(const Tensor& grad_output, const Tensor& second_moment, double decay,
                                   double gradient_scale) {
  check_second_moment("svgd::_update_second_moment", grad_output, second_moment);
  if (grad_output.numel() == 0) {
    return;
  }
  const auto moment = broadcastable(grad_output, second_moment);
  std::vector<int64_t> averaged{0};
  for (auto dim = second_moment.dim() + 1; dim < grad_output.dim(); ++dim) {
    averaged.push_back(dim);
  }
  const auto scaled =
      grad_output.to(second_moment.scalar_type()).mul(resolve_gradient_scale(grad_output, gradient_scale));
  const auto mean = scaled.mul(scaled).mean(averaged, /*keepdim=*/true);
  moment.copy_(at::where(at::isfinite(mean), moment * decay + mean * (1 - decay), moment));
}

Tensor virtual_grad_composed_kernel(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay,
                                    double eps, double gradient_scale) {
  check_virtual_grad(grad_output, second_moment, scale, decay, eps, gradient_scale);
  update_second_moment_composed(grad_output, second_moment, decay, gradient_scale);
  const auto factor = at::rsqrt(broadcastable(grad_output, second_moment) + eps).mul_(scale);
  return grad_output.mul(factor).to(grad_output.scalar_type()).contiguous(virtual_grad_format(grad_output));
}

}  // namespace

TORCH_LIBRARY_IMPL(svgd, CPU, m) {
  m.impl("virtual_grad", virtual_grad_cpu);
  m.impl("_update_second_moment", update_second_moment_cpu);
}

TORCH_LIBRARY_IMPL(svgd, CompositeExplicitAutograd, m) {
  m.impl("virtual_grad", virtual_grad_composed_kernel);
  m.impl("_virtual_grad_composed", virtual_grad_composed_kernel);
  m.impl("_update_second_moment", update_second_moment_composed);
}

}  // namespace svgd
