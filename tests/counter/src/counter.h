// The do-nothing method: the gradients are the plain ones, and the state counts the backward passes and adds up what
// came.
#pragma once

#include <rust/cxx.h>

#include <memory>

#include "bridge.h"
#include "hatted/method.h"

namespace counter {

struct Counter {
  static constexpr const char* kNamespace = "counter";
  static constexpr const char* kState = "Tensor(a!) passes, Tensor(b!) sums";
  static constexpr const char* kSettings = "float gradient_scale, bool formed, bool fails";
  using State = hatted::Pack<const at::Tensor&, const at::Tensor&>;
  using Settings = hatted::Pack<double, bool, bool>;

  const at::Tensor& passes;  // [1]
  const at::Tensor& sums;    // [out]: of the outputs' gradients
  double gradient_scale;     // the factor of what goes into sums
  bool formed;               // from g, as a method does that puts something in its place
  bool fails;                // after the state has changed

  void check(const char* op, const at::Tensor& weight, const hatted::Sizes& sizes) const;
  hatted::ParameterGradients gradients(hatted::Use& use) const;
  hatted::Changed changed() const { return {passes, sums}; }
};

std::unique_ptr<at::Tensor> linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                   const at::Tensor& passes, const at::Tensor& sums, double gradient_scale, bool formed,
                                   bool fails);
std::unique_ptr<at::Tensor> conv2d(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                   const at::Tensor& passes, const at::Tensor& sums, rust::Slice<const int64_t> stride,
                                   rust::Slice<const int64_t> padding, rust::Slice<const int64_t> dilation,
                                   int64_t groups, double gradient_scale, bool formed, bool fails);

}  // namespace counter
