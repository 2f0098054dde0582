// The fully-connected layer: its checks, its value and its gradients, as tch's and PyTorch's own has them.
#include "linear.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>

#include "call.h"
#include "checks.h"

namespace hatted {
namespace {

// The gradient of the output as a matrix of rows.
Tensor as_rows(const char* op, const Tensor& grad_output) {
  HATTED_CHECK(ShapeError, grad_output.dim() >= 1 && grad_output.sym_size(-1) >= 1, op,
               ": argument 'grad_output': expected [..., out] with at least one output, got ", grad_output.sym_sizes(),
               "; pass the gradient of the layer's output");
  const auto out = grad_output.sym_size(-1);
  return grad_output.reshape_symint({grad_output.sym_numel() / out, out});
}

}  // namespace

std::vector<c10::SymInt> Linear::output_size(const char* op, c10::SymIntArrayRef input,
                                             c10::SymIntArrayRef weight) const {
  HATTED_CHECK(ShapeError, weight.size() == 2 && weight[0] >= 1, op,
               ": argument 'weight': expected 2 dimensions [out, in] with at least one output, got ", weight,
               "; reshape the weight");
  HATTED_CHECK(ShapeError, !input.empty() && input.back() == weight[1], op, ": argument 'input': expected ", weight[1],
               " features in the last dimension (weight ", weight, "), got shape ", input,
               "; flatten the input or check in_dim of the layer");
  return {weight[0]};
}

Tensor Linear::original(const Tensor& input, const Tensor& weight, const OptionalTensor& bias) const {
  return at::linear(input, weight, bias);
}

Tensor Linear::forward(const Tensor& input, const Tensor& weight, const OptionalTensor& bias) const {
  const bool has_bias = is_given(bias);
  if (input.dim() <= 2 || (has_bias && input.is_contiguous())) {
    return at::linear(input, weight, bias);
  }
  // Below autograd at::linear may take a batched product here, as the strides are, also those of axes of one; with
  // gradients it always folds the leading axes into one matrix, which rounds differently. Folded too, this is the value
  // that training with the original sees.
  auto output_size = input.sym_sizes().vec();
  output_size.back() = weight.sym_size(0);
  auto output = at::mm(input.reshape_symint({-1, weight.sym_size(1)}), weight.t()).view_symint(output_size);
  return has_bias ? output.add_(*bias) : output;
}

Tensor Linear::meta(const Tensor& input, const Tensor& /*weight*/, c10::SymIntArrayRef output) const {
  auto size = input.sym_sizes().vec();
  size.back() = output[0];
  return input.new_empty_symint(size);
}

Linear::Use::Use(const char* op, const Linear& /*layer*/, const Tensor& grad_output, const Tensor& input,
                 const OptionalTensor& weight, Mask asked)
    : hatted::Use(op, asked, as_rows(op, grad_output)),
      input_(input),
      weight_(weight.value_or(Tensor())),
      rows_(asked[0] || asked[1] ? input.reshape_symint({this->grad_output.sym_size(0), input.sym_size(-1)})
                                 : Tensor()) {
  HATTED_CHECK(ConfigError, !asked[0] || weight_.defined(), op,
               ": argument 'weight': expected a tensor, since the input's gradient is asked for, got none; pass it");
}

ParameterGradients Linear::Use::plain() {
  if (asked[0]) {
    input_gradient_ = make_input_gradient();
  }
  return {asked[1] ? at::mm(grad_output.t(), rows_) : Tensor(), asked[2] ? bias_gradient(grad_output) : Tensor()};
}

ParameterGradients Linear::Use::from(const Tensor& t, bool with_bias) const {
  return {at::mm(t.t(), rows_), with_bias ? bias_gradient(t) : Tensor()};
}

Tensor Linear::Use::bias_gradient(const Tensor& t) const { return at::sum(t, 0); }

namespace {

// The sum of the rows' products with themselves, as one group.
Tensor products(const Tensor& rows) { return at::mm(rows.t(), rows).unsqueeze(0); }

}  // namespace

Tensor Linear::Use::seen(at::ScalarType kind, bool with_one) const {
  const auto rows = rows_.to(kind);
  if (!with_one) {
    return rows;
  }
  const auto ones = rows.new_ones({rows.size(0), 1});
  return at::cat({rows, ones}, 1);
}

Tensor Linear::Use::input_products(at::ScalarType kind, bool with_one) const { return products(seen(kind, with_one)); }

Tensor Linear::Use::output_products(at::ScalarType kind, double scale) const {
  return products(scaled_gradient(kind, scale));
}

// The gradient is a sum of products of few rows where the layer is wide: then it is less work to multiply those.
Tensor Linear::Use::between(const Tensor& left, const Tensor& blocks, const Tensor& right) const {
  const auto rows = rows_.size(0), out = left.size(-1), in = right.size(-1);
  if (rows * (out * out + in * in + out * in) >= out * out * in + out * in * in) {
    return hatted::Use::between(left, blocks, right);
  }
  const auto kind = left.scalar_type();
  const auto outputs = at::mm(left[0], grad_output.to(kind).t());
  return at::mm(outputs, at::mm(seen(kind, in > inputs()), right[0])).unsqueeze(0);
}

// The operands in the order in which autograd's own addmm and mm multiply them: an input in column-major order gets a
// column-major gradient. So the result is that of the original to the bit.
Tensor Linear::Use::make_input_gradient() const {
  const bool column_major = rows_.sym_stride(0) == 1 && rows_.sym_stride(1) == rows_.sym_size(0);
  const auto gradient = column_major ? at::mm(weight_.t(), grad_output.t()).t() : at::mm(grad_output, weight_);
  return gradient.view_symint(input_.sym_sizes());
}

// The same expressions, whose strides are then the same.
Gradients Linear::backward_meta(const char* op, const Tensor& grad_output, const Tensor& input,
                                const OptionalTensor& weight, Mask asked) const {
  Use use(op, *this, grad_output, input, weight, asked);
  return plain_gradients(use);
}

}  // namespace hatted
