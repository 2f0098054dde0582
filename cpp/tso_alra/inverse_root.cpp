// (X + damping I)^(-1/2) of symmetric X, by its eigenvalues: the matrices of all layers at once, in Float and, where
// that fails, in Double.
#include "inverse_root.h"

#include <ATen/Parallel.h>
#include <ATen/ops/_linalg_eigh.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/diagonal.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <string>
#include <tuple>
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

// Roots of a batch of matrices, [b, n, n], and which of them are roots: [b].
struct Roots {
  Tensor values, valid;
};

Roots decomposed(const Tensor& factors, at::ScalarType kind, double eps, bool relative) {
  const auto [values, vectors] = at::_linalg_eigh(factors.to(kind));
  const auto mean = values.mean(-1, /*keepdim=*/true);
  // What is below zero, is so by rounding.
  const auto damped = values.clamp_min(0).add(relative ? mean.mul(eps) : at::full_like(mean, eps));
  const auto root = at::matmul(vectors.mul(damped.rsqrt().unsqueeze(-2)), vectors.mT()).to(factors.scalar_type());
  // A mean that is infinite would give a root of zeros.
  const auto valid = mean.squeeze(-1).gt(0).logical_and_(at::isfinite(mean.squeeze(-1)));
  return {root, valid.logical_and(at::isfinite(root).flatten(-2).all(-1))};
}

// In Float and, where there is a matrix that is not zero and has no root, in Double. Some of LAPACK's routines throw
// where they fail, others give what is no number.
Roots decomposed_in_float_or_double(const Tensor& factors, double eps, bool relative) {
  const auto is_zero = at::diagonal(factors, 0, -2, -1).eq(0).all(-1);
  Roots roots{factors, at::zeros_like(is_zero)};
  for (const auto kind : {factors.scalar_type(), at::kDouble}) {
    try {
      const auto found = decomposed(factors, kind, eps, relative);
      roots.values = at::where(roots.valid.unsqueeze(-1).unsqueeze(-1), roots.values, found.values);
      roots.valid = roots.valid.logical_or(found.valid);
    } catch (const c10::LinAlgError&) {
      // One that cannot be decomposed fails its batch: the others are tried without it.
      if (factors.size(0) > 1) {
        std::vector<Tensor> values, valid;
        for (const auto& factor : factors.split(1)) {
          auto alone = decomposed_in_float_or_double(factor, eps, relative);
          values.push_back(std::move(alone.values));
          valid.push_back(std::move(alone.valid));
        }
        return {at::cat(values), at::cat(valid)};
      }
    }
    if (roots.valid.logical_or(is_zero).all().item<bool>()) {
      break;
    }
  }
  return roots;
}

// On the CPU a matrix of this size or more is decomposed by itself.
constexpr int64_t kAlone = 64;

// The matrices in parts that are decomposed at once, the most work first: those of equal size, kind and device, since
// on an accelerator a call for each would wait for each, and a call for a small one is mostly the call. Large ones on
// the CPU are alone, and run best on one thread each.
std::vector<std::vector<size_t>> in_parts(const std::vector<Tensor>& matrices) {
  std::vector<std::vector<size_t>> parts;
  std::map<std::tuple<int64_t, at::ScalarType, std::string>, std::vector<size_t>> by_size;
  for (size_t i = 0; i < matrices.size(); ++i) {
    const auto& matrix = matrices[i];
    if (matrix.is_cpu() && matrix.size(0) >= kAlone) {
      parts.push_back({i});
    } else {
      by_size[{matrix.size(0), matrix.scalar_type(), matrix.device().str()}].push_back(i);
    }
  }
  for (auto& [key, members] : by_size) {
    parts.push_back(std::move(members));
  }
  const auto work = [&](const std::vector<size_t>& part) {
    const auto n = static_cast<double>(matrices[part[0]].size(0));
    return static_cast<double>(part.size()) * n * n * n;
  };
  std::stable_sort(parts.begin(), parts.end(), [&](const auto& a, const auto& b) { return work(a) > work(b); });
  return parts;
}

// Below autograd, on every device.
void kernel(at::TensorList factors, at::TensorList roots, double eps, bool relative) {
  check(factors, roots, eps);
  const hatted::Plainly plainly;
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
  const bool on_cpu = std::all_of(matrices.begin(), matrices.end(), [](const Tensor& m) { return m.is_cpu(); });
  const auto parts = in_parts(matrices);
  std::vector<Roots> found(parts.size());
  const auto decompose = [&](size_t part) {
    std::vector<Tensor> members;
    for (const auto i : parts[part]) {
      members.push_back(matrices[i]);
    }
    found[part] = decomposed_in_float_or_double(at::stack(members), eps, relative);
  };
  if (on_cpu) {
    // Whoever is done takes the next.
    std::atomic<size_t> next{0};
    at::parallel_for(0, std::min<int64_t>(at::get_num_threads(), static_cast<int64_t>(parts.size())), 1,
                     [&](int64_t begin, int64_t end) {
                       const hatted::Plainly on_this_thread;
                       for (; begin < end; ++begin) {
                         for (auto part = next++; part < parts.size(); part = next++) {
                           decompose(part);
                         }
                       }
                     });
  } else {
    for (size_t part = 0; part < parts.size(); ++part) {
      decompose(part);
    }
  }
  // What can run out of memory has come before: all roots change, or none.
  int64_t failed = 0;
  for (size_t part = 0; part < parts.size(); ++part) {
    const auto& values = found[part].values;
    const auto valid = found[part].valid.cpu();
    for (size_t k = 0; k < parts[part].size(); ++k) {
      const auto i = parts[part][k];
      if (valid[k].item<bool>()) {
        places[i].copy_(values[k]);
      } else {
        failed += at::diagonal(matrices[i]).eq(0).all().item<bool>() ? 0 : 1;
      }
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
