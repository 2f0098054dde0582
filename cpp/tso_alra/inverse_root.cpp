// (X + damping I)^(-1/2) of symmetric X, by its eigenvalues: the matrices of all layers at once, in Float and, where
// that fails, in Double.
#include "inverse_root.h"

#include <ATen/MemoryOverlap.h>
#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <ATen/ops/_linalg_eigh.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/diagonal.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <numeric>
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

// Whether two tensors have memory in common. Where sizes are symbols a compiler asks, which gives each its own.
bool overlap(const Tensor& a, const Tensor& b) {
  if (a.unsafeGetTensorImpl()->has_symbolic_sizes_strides() || b.unsafeGetTensorImpl()->has_symbolic_sizes_strides()) {
    return false;
  }
  const auto status = at::get_overlap_status(a, b);
  return status == at::MemOverlapStatus::Full || status == at::MemOverlapStatus::Partial;
}

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
                 (factors[i].dim() == 2 || factors[i].dim() == 3) &&
                     factors[i].sym_size(-1) == factors[i].sym_size(-2) && factors[i].sym_size(-1) >= 1,
                 kOp,
                 ": argument 'factors': expected square matrices [n, n] or [groups, n, n] of at least 1x1, got shape ",
                 factors[i].sym_sizes(), "; pass A and B of a layer");
    hatted::check_state(kOp, "roots", roots[i], factors[i]);
    HATTED_CHECK(ShapeError, roots[i].sym_sizes() == factors[i].sym_sizes(), kOp, ": argument 'roots': expected shape ",
                 factors[i].sym_sizes(), " (that of its factor), got ", roots[i].sym_sizes(),
                 "; create it with that shape");
    for (size_t other = 0; other < i; ++other) {
      HATTED_CHECK(
          ConfigError,
          !overlap(roots[i], roots[other]) && !overlap(roots[i], factors[other]) && !overlap(roots[other], factors[i]),
          kOp,
          ": argument 'roots': expected memory of its own for each, got some that another root or factor has "
          "too; it is changed in place: call copy() on it first");
    }
  }
  HATTED_CHECK(ConfigError, std::isfinite(eps) && eps > 0, kOp, ": argument 'eps': expected a finite number > 0, got ",
               eps, "; correct the setting");
}

// The roots of symmetric matrices [b, n, n], decomposed in this kind; which of them are roots, and which matrices are
// zero, and have none: [2, b].
struct Roots {
  Tensor values, valid_and_zero;
};

Roots roots_of(const Tensor& factors, at::ScalarType kind, double eps, bool relative) {
  const auto is_zero = at::diagonal(factors, 0, -2, -1).eq(0).all(-1);
  try {
    // Its check of LAPACK's word is all that waits here for an accelerator; libtorch exports no eigh without one.
    const auto [values, vectors] = at::_linalg_eigh(factors.to(kind));
    const auto mean = values.mean(-1, /*keepdim=*/true);
    // What is below zero, is so by rounding.
    const auto damped = values.clamp_min(0).add(relative ? mean.mul(eps) : at::full_like(mean, eps));
    const auto root = at::matmul(vectors.mul(damped.rsqrt().unsqueeze(-2)), vectors.mT()).to(factors.scalar_type());
    // A mean that is infinite would give a root of zeros. Some of LAPACK's routines give what is no number where they
    // fail, others say so, and libtorch throws.
    const auto valid = mean.squeeze(-1).gt(0).logical_and_(at::isfinite(mean.squeeze(-1)));
    return {root, at::stack({valid.logical_and(at::isfinite(root).flatten(-2).all(-1)), is_zero})};
  } catch (const c10::LinAlgError&) {
    if (factors.size(0) == 1) {
      return {factors, at::stack({at::zeros_like(is_zero), is_zero})};
    }
    // One that cannot be decomposed fails its batch: the others are tried without it.
    std::vector<Tensor> values, valid_and_zero;
    for (const auto& factor : factors.split(1)) {
      auto alone = roots_of(factor, kind, eps, relative);
      values.push_back(std::move(alone.values));
      valid_and_zero.push_back(std::move(alone.valid_and_zero));
    }
    return {at::cat(values), at::cat(valid_and_zero, 1)};
  }
}

// On the CPU a matrix of this size or more is decomposed by itself.
constexpr int64_t kAlone = 64;

// The wanted matrices in parts that are decomposed at once, the most work first: those of equal size, kind and device,
// since on an accelerator a call for each would wait for each, and a call for a small one is mostly the call. Large
// ones on the CPU are alone, and run best on one thread each.
std::vector<std::vector<size_t>> in_parts(const std::vector<Tensor>& matrices, const std::vector<size_t>& wanted) {
  std::vector<std::vector<size_t>> parts;
  std::map<std::tuple<int64_t, at::ScalarType, std::string>, std::vector<size_t>> by_size;
  for (const auto i : wanted) {
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

// The roots of those matrices that `wanted` numbers, each in its place of `roots`; returns which of them have none,
// though they are not zero.
std::vector<size_t> decompose(const std::vector<Tensor>& matrices, const std::vector<size_t>& wanted, bool in_double,
                              double eps, bool relative, std::vector<Tensor>& roots) {
  const auto parts = in_parts(matrices, wanted);
  std::vector<Roots> found(parts.size());
  const auto decompose_part = [&](size_t part) {
    std::vector<Tensor> members;
    for (const auto i : parts[part]) {
      members.push_back(matrices[i]);
    }
    const auto kind = in_double ? at::kDouble : members[0].scalar_type();
    found[part] = roots_of(at::stack(members), kind, eps, relative);
  };
  if (std::all_of(matrices.begin(), matrices.end(), [](const Tensor& m) { return m.is_cpu(); })) {
    // Whoever is done takes the next.
    std::atomic<size_t> next{0};
    const at::ThreadLocalState of_this_thread;
    at::parallel_for(0, std::min<int64_t>(at::get_num_threads(), static_cast<int64_t>(parts.size())), 1,
                     [&](int64_t first, int64_t last) {
                       const at::ThreadLocalStateGuard as_there(of_this_thread);
                       for (; first < last; ++first) {
                         for (auto part = next++; part < parts.size(); part = next++) {
                           decompose_part(part);
                         }
                       }
                     });
  } else {
    for (size_t part = 0; part < parts.size(); ++part) {
      decompose_part(part);
    }
  }
  std::vector<size_t> failed;
  for (size_t part = 0; part < parts.size(); ++part) {
    const auto valid_and_zero = found[part].valid_and_zero.cpu();
    const auto is = valid_and_zero.accessor<bool, 2>();
    int64_t at_place = 0;
    for (const auto i : parts[part]) {
      if (is[0][at_place]) {
        roots[i] = found[part].values[at_place];
      } else if (!is[1][at_place]) {
        failed.push_back(i);
      }
      ++at_place;
    }
  }
  return failed;
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
  std::vector<size_t> wanted(matrices.size());
  std::iota(wanted.begin(), wanted.end(), size_t{0});
  std::vector<Tensor> found(matrices.size());
  for (const bool in_double : {false, true}) {
    wanted = decompose(matrices, wanted, in_double, eps, relative, found);
  }
  // What can run out of memory has come before: all roots change, or none.
  for (size_t i = 0; i < places.size(); ++i) {
    if (found[i].defined()) {
      places[i].copy_(found[i]);
    }
  }
  if (!wanted.empty()) {
    TORCH_WARN(kOp, ": ", wanted.size(), " of ", places.size(),
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
