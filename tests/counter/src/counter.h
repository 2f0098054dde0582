// The do-nothing method: the gradients are the plain ones, and the state counts the backward passes.
#pragma once

#include <rust/cxx.h>

#include <memory>

#include "bridge.h"
#include "hatted/method.h"

namespace counter {

struct Counter {
  static constexpr const char* kNamespace = "counter";
  static constexpr const char* kState = "Tensor(a!) passes";
  static constexpr const char* kSettings = "bool formed, bool fails";
  using State = hatted::Pack<const at::Tensor&>;
  using Settings = hatted::Pack<bool, bool>;

  const at::Tensor& passes;  // [1]
  bool formed;               // from g, as a method does that puts something in its place
  bool fails;                // after the state has changed

  void check(const char* op, const at::Tensor& weight, c10::SymIntArrayRef output) const;
  hatted::Changed changed(hatted::Mask asked) const { return asked[1] ? hatted::Changed{passes} : hatted::Changed{}; }
  hatted::Parameters gradients(hatted::Use& use) const;
};

std::unique_ptr<at::Tensor> linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                   const at::Tensor& passes, bool formed, bool fails);
std::unique_ptr<at::Tensor> conv2d(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                   const at::Tensor& passes, rust::Slice<const int64_t> stride,
                                   rust::Slice<const int64_t> padding, rust::Slice<const int64_t> dilation,
                                   int64_t groups, bool formed, bool fails);

}  // namespace counter
