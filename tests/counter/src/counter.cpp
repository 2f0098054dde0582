#include "counter.h"

#include "hatted/checks.h"
#include "hatted/layers.h"

namespace counter {

using hatted::Call;
using hatted::optional;
using hatted::symbolic;

void Counter::check(const char* op, const at::Tensor& weight, const hatted::Sizes& sizes) const {
  const auto outputs = sizes.output.slice(0, 1);
  hatted::check_state(op, "passes", passes, weight);
  hatted::check_state(op, "sums", sums, weight);
  HATTED_CHECK(ShapeError, passes.sym_numel() == 1, op, ": argument 'passes': expected one value, got shape ",
               passes.sym_sizes(), "; create it with zeros of that shape");
  HATTED_CHECK(ShapeError, sums.sym_sizes() == outputs, op, ": argument 'sums': expected shape ", outputs, ", got ",
               sums.sym_sizes(), "; create it with zeros of that shape");
}

hatted::ParameterGradients Counter::gradients(hatted::Use& use) const {
  use.restore_on_error(passes);
  use.restore_on_error(sums);
  passes.add_(1);
  sums.add_(use.bias_gradient(use.grad_output), gradient_scale);
  HATTED_CHECK(ConfigError, !fails, use.op, ": setting 'fails': expected false, got true; set it to false");
  return formed ? use.from(use.grad_output, /*with_bias=*/use.asked[2]) : use.plain();
}

std::unique_ptr<at::Tensor> linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                   const at::Tensor& passes, const at::Tensor& sums, double gradient_scale, bool formed,
                                   bool fails) {
  return std::make_unique<at::Tensor>(Call<hatted::Linear, Counter>::forward(input, weight, optional(bias), passes,
                                                                             sums, gradient_scale, formed, fails));
}

std::unique_ptr<at::Tensor> conv2d(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                   const at::Tensor& passes, const at::Tensor& sums, rust::Slice<const int64_t> stride,
                                   rust::Slice<const int64_t> padding, rust::Slice<const int64_t> dilation,
                                   int64_t groups, double gradient_scale, bool formed, bool fails) {
  return std::make_unique<at::Tensor>(Call<hatted::Conv2d, Counter>::forward(
      input, weight, optional(bias), passes, sums, symbolic(stride), symbolic(padding), symbolic(dilation), groups,
      gradient_scale, formed, fails));
}

}  // namespace counter

TORCH_LIBRARY(counter, m) { hatted::Operators<counter::Counter>::define(m); }

HATTED_OPERATORS(counter, counter::Counter)
