// Holds the kernels of one kind of gradient, EMULATED_KIND, to the formulas of kernels.h in plain loops of doubles.
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"
#include "memory.h"

using svgd::cuda::Averaging;
using svgd::cuda::Extents;
using svgd::cuda::Scaling;
using T = EMULATED_KIND;
using M = svgd::cuda::Moment<T>;

namespace {

constexpr int64_t kVector = 16 / sizeof(T);
constexpr Averaging kAveraging{0.75, 2.0};
constexpr Scaling kScaling{0.5, 1e-3};
constexpr unsigned kOrders = 4;

// Device memory that begins `offset` elements past what the allocator would align it to.
template <typename E>
struct Array {
  Array(size_t size, size_t offset, const char* name) : memory(size * sizeof(E), offset * sizeof(E), name), size(size) {
    // An element that no kernel writes is not a number.
    std::memset(memory.data(), 0xff, size * sizeof(E));
  }
  Array(const std::vector<E>& values, size_t offset, const char* name) : Array(values.size(), offset, name) {
    std::memcpy(memory.data(), values.data(), values.size() * sizeof(E));
    memory.written_by_host();
  }
  E* data() const { return static_cast<E*>(memory.data()); }
  std::vector<E> values() const { return {data(), data() + size}; }

  emulation::Memory memory;
  size_t size;
};

struct Offsets {
  size_t gradient = 0, result = 0, moments = 0;
};

struct Result {
  std::vector<T> gradient;
  std::vector<M> moments;
};

[[noreturn]] void differ(const std::string& what) { emulation::fail("wrong value: " + what); }

template <typename E>
void expect_close(const std::vector<E>& got, const std::vector<double>& exact, const std::string& what) {
  const double relative = 64 * std::numeric_limits<M>::epsilon() + double(std::numeric_limits<E>::epsilon());
  for (size_t i = 0; i < exact.size(); ++i) {
    const auto value = static_cast<double>(got[i]);
    const auto tolerance = relative * std::abs(exact[i]) + double(std::numeric_limits<E>::denorm_min());
    if (value != exact[i] && !(std::abs(value - exact[i]) <= tolerance)) {
      differ(what + "[" + std::to_string(i) + "] is " + std::to_string(value) + ", not " + std::to_string(exact[i]));
    }
  }
}

template <typename E>
void expect_same_bits(const std::vector<E>& got, const std::vector<E>& expected, const std::string& what) {
  if (std::memcmp(got.data(), expected.data(), got.size() * sizeof(E)) != 0) {
    differ(what + ": other bits");
  }
}

// One gradient: what goes into the kernels, what should come out, and each way of computing it.
class Problem {
 public:
  Problem(const Extents& extents, const Offsets& offsets = {}) : extents_(extents), offsets_(offsets) {
    name_ = std::to_string(extents.outer) + " x " + std::to_string(extents.features) + " x " +
            std::to_string(extents.inner) + " at " + std::to_string(offsets.gradient) + ", " +
            std::to_string(offsets.result) + ", " + std::to_string(offsets.moments);
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int64_t i = 0; i < extents.outer * extents.features * extents.inner; ++i) {
      // Far enough from 0 that no product of 16 bits becomes subnormal.
      const float value = uniform(random);
      gradient_.push_back(static_cast<T>(value + (value < 0 ? -0.25f : 0.25f)));
    }
    for (int64_t i = 0; i < extents.features; ++i) {
      moments_.push_back(static_cast<M>(std::abs(uniform(random))));
    }
  }

  void set(int64_t at, T value) { gradient_[at] = value; }

  void check() const {
    const auto updated = exact_moments();
    if (fits_in_registers(extents_)) {
      const auto result = in_every_order("one pass", [&](auto& gradient, auto& scaled, auto& moments, auto* stream) {
        virtual_grad_in_one_pass<T>(gradient.data(), scaled.data(), moments.data(), extents_, kAveraging, kScaling,
                                    stream);
      });
      expect_close(result.moments, updated, "second moment of one pass, " + name_);
      expect_close(result.gradient, exact_gradient(updated), "virtual gradient of one pass, " + name_);
    }
    const auto two = in_every_order("two passes", [&](auto& gradient, auto& scaled, auto& moments, auto* stream) {
      const Array<M> sums(svgd::cuda::partial_sums_size<T>(extents_), 0, "the partial sums");
      update_second_moment<T>(gradient.data(), moments.data(), sums.size == 0 ? nullptr : sums.data(), extents_,
                              kAveraging, stream);
      scale_features<T>(gradient.data(), scaled.data(), moments.data(), extents_, kScaling, stream);
    });
    expect_close(two.moments, updated, "second moment, " + name_);
    expect_close(two.gradient, exact_gradient(updated), "virtual gradient, " + name_);
    // As the rows of weight gradients are scaled: in place.
    const auto rows = in_every_order("in place", [&](auto& gradient, auto& scaled, auto& moments, auto* stream) {
      std::memcpy(scaled.data(), gradient.data(), gradient.size * sizeof(T));
      scaled.memory.written_by_host();
      scale_features<T>(scaled.data(), scaled.data(), moments.data(), extents_, kScaling, stream);
    });
    expect_same_bits(rows.moments, moments_, "second moment of a scaling, " + name_);
    expect_close(rows.gradient, exact_gradient({moments_.begin(), moments_.end()}), "scaling in place, " + name_);
  }

 private:
  template <typename Compute>
  Result in_every_order(const char* way, const Compute& compute) const {
    Result first;
    for (emulation::order = 0; emulation::order < kOrders; ++emulation::order) {
      const Array<T> gradient(gradient_, offsets_.gradient, "the gradient");
      Array<T> scaled(gradient_.size(), offsets_.result, "the result");
      const Array<M> moments(moments_, offsets_.moments, "the second moments");
      emulation::Stream stream;
      const auto before = emulation::launches.size();
      compute(gradient, scaled, moments, &stream);
      for (auto i = before; i < emulation::launches.size(); ++i) {
        if (emulation::launches[i].stream != &stream) {
          differ("the stream of a launch");
        }
      }
      const auto what = std::string(way) + ", order " + std::to_string(emulation::order) + ", " + name_;
      expect_same_bits(gradient.values(), gradient_, "what was only to be read by " + what);
      if (emulation::order == 0) {
        first = {scaled.values(), moments.values()};
      }
      expect_same_bits(scaled.values(), first.gradient, what);
      expect_same_bits(moments.values(), first.moments, "second moment of " + what);
    }
    return first;
  }

  double element(int64_t sample, int64_t feature, int64_t i) const {
    return static_cast<double>(gradient_[(sample * extents_.features + feature) * extents_.inner + i]);
  }

  std::vector<double> exact_moments() const {
    std::vector<double> moments(moments_.begin(), moments_.end());
    for (int64_t feature = 0; feature < extents_.features; ++feature) {
      double sum = 0;
      for (int64_t sample = 0; sample < extents_.outer; ++sample) {
        for (int64_t i = 0; i < extents_.inner; ++i) {
          sum += std::pow(kAveraging.gradient_scale * element(sample, feature, i), 2);
        }
      }
      const double mean = sum / static_cast<double>(extents_.outer * extents_.inner);
      if (std::isfinite(mean)) {
        moments[feature] = kAveraging.decay * moments[feature] + (1 - kAveraging.decay) * mean;
      }
    }
    return moments;
  }

  std::vector<double> exact_gradient(const std::vector<double>& moments) const {
    std::vector<double> gradient;
    for (int64_t sample = 0; sample < extents_.outer; ++sample) {
      for (int64_t feature = 0; feature < extents_.features; ++feature) {
        for (int64_t i = 0; i < extents_.inner; ++i) {
          gradient.push_back(kScaling.scale * element(sample, feature, i) / std::sqrt(moments[feature] + kScaling.eps));
        }
      }
    }
    return gradient;
  }

  Extents extents_;
  Offsets offsets_;
  std::string name_;
  std::vector<T> gradient_;
  std::vector<M> moments_;
};

constexpr Offsets kOffsets[] = {{0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}};

void check_columns() {
  for (const int64_t samples : {1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 128, 129, 256, 257, 512, 513}) {
    for (const int64_t columns : {int64_t{1}, kVector, 5 * kVector + 3}) {
      Problem({samples, columns, 1}).check();
    }
    for (const auto& offsets : kOffsets) {
      Problem({samples, 2 * kVector, 1}, offsets).check();
    }
  }
  // Several blocks of the widest kernel, and of all others.
  for (const int64_t samples : {2, 8, 16, 32}) {
    for (const int64_t columns : {512 * kVector, 256 * kVector + 1}) {
      Problem({samples, columns, 1}).check();
    }
  }
  // Several parts of the rows; and more of them than a thread adds up at once.
  Problem({4200, 1, 1}).check();
  Problem({1100, 32 * kVector, 1}).check();
  Problem({300, 33 * kVector - 1, 1}).check();
}

void check_runs() {
  for (const int64_t outer : {1, 2, 5, 67}) {
    for (const int64_t features : {1, 3, 24}) {
      for (const int64_t inner : {int64_t{2}, int64_t{3}, kVector, 2 * kVector + 1}) {
        Problem({outer, features, inner}).check();
      }
    }
  }
  for (const int64_t inner : {32 * kVector, 33 * kVector, 129 * kVector, 257 * kVector + 1}) {
    Problem({5, 3, inner}).check();
  }
  for (const auto& offsets : kOffsets) {
    Problem({3, 5, 4 * kVector}, offsets).check();
  }
  // Several parts of the samples.
  Problem({4200, 2, kVector}).check();
  Problem({150, 3, 32 * kVector - 1}).check();
}

// A mean that is not finite leaves the second moment of its feature alone.
void check_infinite() {
  Problem problem({4, 2 * kVector, 1});
  problem.set(kVector + 1, std::numeric_limits<T>::infinity());
  problem.check();
}

// A launch of no blocks is an error of CUDA's, which must come out. Gradients that ask for one are kept away by
// callers.
void check_errors() {
  const auto expect_error = [](const auto& compute) {
    try {
      compute();
    } catch (const std::runtime_error&) {
      return;
    }
    emulation::fail("no error of an empty launch");
  };
  T* none = nullptr;
  M* moments = nullptr;
  expect_error([&] { virtual_grad_in_one_pass<T>(none, none, moments, {4, 0, 1}, kAveraging, kScaling, nullptr); });
  expect_error([&] { update_second_moment<T>(none, moments, moments, {0, 3, 1}, kAveraging, nullptr); });
  expect_error([&] { scale_features<T>(none, none, moments, {0, 3, 1}, kScaling, nullptr); });
}

}  // namespace

int main() {
  check_errors();
  check_infinite();
  check_columns();
  check_runs();
  std::set<const void*> kernels;
  for (const auto& launch : emulation::launches) {
    kernels.insert(launch.kernel);
  }
  for (const auto* kernel : kernels) {
    std::printf("launched %p\n", kernel);
  }
}
