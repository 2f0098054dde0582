// (X + damping I)^(-1/2) of symmetric X, by its eigenvalues: the matrices of all layers at once, in Float and, where
// that fails, in Double.
#include "inverse_root.h"

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/_linalg_eigh.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "../hatted/autograd.h"
#include "../hatted/call.h"
#include "../hatted/checks.h"

namespace tso_alra {
namespace {

constexpr auto kOp = "tso_alra::_inverse_roots";

void check(at::TensorList factors, at::TensorList roots, double eps) {
  HATTED_CHECK(ConfigError, factors.size() == roots.size(), kOp,
               ": argument 'roots': expected a tensor for each of the ", factors.size(), " factors, got ", roots.size(),
               "; pass both lists in one order");
  for (size_t i = 0; i < factors.size(); ++i) {
    hatted::check_tensor(kOp, "factors", factors[i]);
    HATTED_CHECK(KindError, factors[i].scalar_type() == hatted::accumulator_kind(factors[i].scalar_type()), kOp,
                 ": argument 'factors': expected kind Float or Double, got ", factors[i].scalar_type(),
                 "; convert it with to_kind");
    HATTED_CHECK(ShapeError,
                 (factors[i].dim() == 2 || factors[i].dim() == 3) && factors[i].sym_size(-1) == factors[i].sym_size(-2),
                 kOp, ": argument 'factors': expected square matrices [n, n] or [groups, n, n], got shape ",
                 factors[i].sym_sizes(), "; pass A and B of a layer");
    hatted::check_state(kOp, "roots", roots[i], factors[i]);
    HATTED_CHECK(ShapeError, roots[i].sym_sizes() == factors[i].sym_sizes(), kOp, ": argument 'roots': expected shape ",
                 factors[i].sym_sizes(), " (that of its factor), got ", roots[i].sym_sizes(),
                 "; create it with that shape");
  }
  HATTED_CHECK(ConfigError, std::isfinite(eps) && eps > 0, kOp, ": argument 'eps': expected a finite number > 0, got ",
               eps, "; correct the setting");
}

// Of matrices [..., n, n]; `otherwise` where a matrix is zero, or not finite.
Tensor decomposed(const Tensor& factors, const Tensor& otherwise, double eps, bool relative) {
  const auto [values, vectors] = at::_linalg_eigh(factors);
  const auto mean = values.mean(-1, /*keepdim=*/true);
  // What is below zero, is so by rounding.
  const auto damped = values.clamp_min(0).add(relative ? mean.mul(eps) : at::full_like(mean, eps));
  const auto root = at::matmul(vectors.mul(damped.rsqrt().unsqueeze(-2)), vectors.mT()).to(otherwise.scalar_type());
  const auto is_valid = mean.gt(0).logical_and_(at::isfinite(root).flatten(-2).all(-1, /*keepdim=*/true));
  return at::where(is_valid.unsqueeze(-1), root, otherwise);
}

// Undefined where the eigenvalues are not found in either precision.
Tensor decomposed_or_undefined(const Tensor& factors, const Tensor& otherwise, double eps, bool relative) {
  for (const auto kind : {factors.scalar_type(), at::kDouble}) {
    try {
      return decomposed(factors.to(kind), otherwise, eps, relative);
    } catch (const c10::LinAlgError&) {
    }
  }
  return {};
}

// The matrices one by one, on all threads: a decomposition of this size is fastest on one. The order is that of their
// sizes, dealt out to the threads.
void on_the_cpu(const std::vector<Tensor>& factors, const std::vector<Tensor>& otherwise, std::vector<Tensor>& roots,
                double eps, bool relative) {
  std::vector<size_t> order(factors.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t i, size_t j) { return factors[i].size(0) > factors[j].size(0); });
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), static_cast<int64_t>(order.size()));
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    // The thread's own state is not that of the caller: nothing here is for autograd, and nothing is cast.
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    for (auto thread = begin; thread < end; ++thread) {
      for (auto i = static_cast<size_t>(thread); i < order.size(); i += threads) {
        roots[order[i]] = decomposed_or_undefined(factors[order[i]], otherwise[order[i]], eps, relative);
      }
    }
  });
}

// The matrices of a size in one call: on an accelerator a call for each would wait for each.
void batched(const std::vector<Tensor>& factors, const std::vector<Tensor>& otherwise, std::vector<Tensor>& roots,
             double eps, bool relative) {
  std::map<std::pair<int64_t, at::ScalarType>, std::vector<size_t>> by_size;
  for (size_t i = 0; i < factors.size(); ++i) {
    by_size[{factors[i].size(0), factors[i].scalar_type()}].push_back(i);
  }
  for (const auto& [size, members] : by_size) {
    std::vector<Tensor> stacked, others;
    for (const auto i : members) {
      stacked.push_back(factors[i]);
      others.push_back(otherwise[i]);
    }
    const auto root = decomposed_or_undefined(at::stack(stacked), at::stack(others), eps, relative);
    for (size_t k = 0; k < members.size(); ++k) {
      // One that cannot be decomposed fails its batch: the others are tried alone.
      const auto i = members[k];
      roots[i] = root.defined() ? root[k] : decomposed_or_undefined(factors[i], otherwise[i], eps, relative);
    }
  }
}

// Below autograd, on every device.
void kernel(at::TensorList factors, at::TensorList roots, double eps, bool relative) {
  check(factors, roots, eps);
  std::vector<Tensor> matrices, places;  // one for each group of a layer
  for (size_t i = 0; i < factors.size(); ++i) {
    const auto n = factors[i].size(-1);
    for (const auto& matrix : factors[i].reshape({-1, n, n}).unbind()) {
      matrices.push_back(matrix);
    }
    for (const auto& place : roots[i].view({-1, n, n}).unbind()) {
      places.push_back(place);
    }
  }
  std::vector<Tensor> decomposed(matrices.size());
  const bool on_cpu = std::all_of(matrices.begin(), matrices.end(), [](const Tensor& m) { return m.is_cpu(); });
  (on_cpu ? on_the_cpu : batched)(matrices, places, decomposed, eps, relative);
  // What can fail has come before: all roots change, or none.
  int64_t failed = 0;
  for (size_t i = 0; i < places.size(); ++i) {
    if (decomposed[i].defined()) {
      places[i].copy_(decomposed[i]);
    } else {
      ++failed;
    }
  }
  if (failed > 0) {
    TORCH_WARN(kOp, ": ", failed, " of ", places.size(),
               " matrices could not be decomposed in Float or in Double; their roots stay as they were");
  }
}

void meta(at::TensorList factors, at::TensorList roots, double eps, bool /*relative*/) { check(factors, roots, eps); }

void in_place(at::TensorList factors, at::TensorList roots, double eps, bool relative) {
  const at::AutoDispatchBelowADInplaceOrView below;
  inverse_roots(factors, roots, eps, relative);
  for (const auto& root : roots) {
    hatted::bump_version(root);
  }
}

}  // namespace

void inverse_roots(at::TensorList factors, at::TensorList roots, double eps, bool relative) {
  static const auto op = hatted::find_operator<decltype(inverse_roots)>(kOp);
  op.call(factors, roots, eps, relative);
}

TORCH_LIBRARY_IMPL(tso_alra, CompositeExplicitAutograd, m) { m.impl("_inverse_roots", kernel); }
TORCH_LIBRARY_IMPL(tso_alra, Meta, m) { m.impl("_inverse_roots", meta); }
TORCH_LIBRARY_IMPL(tso_alra, ADInplaceOrView, m) { m.impl("_inverse_roots", in_place); }

}  // namespace tso_alra
