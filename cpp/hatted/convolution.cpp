// The convolution: its checks, its value and its gradients, as tch's and PyTorch's own has them.
#include "convolution.h"

#include <ATen/ops/conv2d.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/sum.h>

#include <limits>

#include "checks.h"
#include "patches.h"

namespace hatted {
namespace {

void check_pair(const char* op, const char* name, c10::SymIntArrayRef pair, int64_t smallest) {
  constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();  // sizes computed from it cannot overflow
  const auto valid = [&](const c10::SymInt& value) { return value >= smallest && value <= kLargest; };
  HATTED_CHECK(ConfigError, pair.size() == 2 && valid(pair[0]) && valid(pair[1]), op, ": argument '", name,
               "': expected two integers in [", smallest, ", ", kLargest, "] (height, width), got ", pair,
               "; correct the ", name);
}

const std::array<c10::SymInt, 2> kNoOutputPadding{0, 0};

}  // namespace

std::vector<c10::SymInt> Conv2d::output_size(const char* op, c10::SymIntArrayRef input,
                                             c10::SymIntArrayRef weight) const {
  HATTED_CHECK(ShapeError, weight.size() == 4, op, ": argument 'weight': expected 4 dimensions ",
               "[c_out, c_in / groups, h, w], got ", weight, "; reshape the weight");
  HATTED_CHECK(ShapeError, weight[2] >= 1 && weight[3] >= 1, op,
               ": argument 'weight': expected a kernel of at least 1x1, got shape ", weight,
               "; check ksize of the layer");
  HATTED_CHECK(ShapeError, input.size() == 4, op, ": argument 'input': expected 4 dimensions ",
               "[n, c_in, h, w] (or 3, without n), got ", input, "; reshape the input");
  check_pair(op, "stride", stride, 1);
  check_pair(op, "padding", padding, 0);
  check_pair(op, "dilation", dilation, 1);
  HATTED_CHECK(ConfigError, groups >= 1, op, ": argument 'groups': expected an integer >= 1, got ", groups,
               "; 1 is an ordinary convolution");
  HATTED_CHECK(ShapeError, weight[0] >= 1 && weight[0] % groups == 0, op,
               ": argument 'weight': expected a number of output channels that ", groups, " groups divide, got ",
               weight[0], "; change groups or the output channels");
  HATTED_CHECK(ShapeError, input[1] == weight[1] * groups, op, ": argument 'input': expected ", weight[1] * groups,
               " channels (the weight's ", weight[1], " times ", groups, " groups), got shape ", input,
               "; check in_dim of the layer");
  std::vector<c10::SymInt> size{weight[0]};
  for (const size_t axis : {0, 1}) {
    const auto padded = input[axis + 2] + 2 * padding[axis];
    const auto kernel = dilation[axis] * (weight[axis + 2] - 1) + 1;
    HATTED_CHECK(ShapeError, padded >= kernel, op, ": argument 'input': expected at least ", kernel, " padded ",
                 axis == 0 ? "rows" : "columns", " (kernel ", weight[axis + 2], ", dilation ", dilation[axis],
                 "), got ", padded, " from shape ", input, "; enlarge the image or its padding");
    size.push_back((padded - kernel) / stride[axis] + 1);
  }
  return size;
}

at::MemoryFormat Conv2d::format(const Tensor& input, const Tensor& weight) {
  const auto is_channels_last = [](const Tensor& tensor) {
    return tensor.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
  };
  return is_channels_last(input) || is_channels_last(weight) ? at::MemoryFormat::ChannelsLast
                                                             : at::MemoryFormat::Contiguous;
}

Tensor Conv2d::original(const Tensor& input, const Tensor& weight, const OptionalTensor& bias) const {
  return at::conv2d_symint(input, weight, bias, stride, padding, dilation, groups);
}

Tensor Conv2d::forward(const Tensor& input, const Tensor& weight, const OptionalTensor& bias) const {
  return at::convolution_symint(input, weight, bias, stride, padding, dilation, /*transposed=*/false, kNoOutputPadding,
                                groups);
}

Tensor Conv2d::meta(const Tensor& input, const Tensor& weight, c10::SymIntArrayRef output) const {
  std::vector<c10::SymInt> size{input.sym_size(0)};
  size.insert(size.end(), output.begin(), output.end());
  return input.new_empty_symint(size).contiguous(format(input, weight));
}

Gradients Conv2d::backward_meta(const char* /*op*/, const Tensor& grad_output, const Tensor& input,
                                const Tensor& weight, Mask asked) const {
  const auto order = format(input, weight);
  const auto like = [&](const Tensor& tensor) { return tensor.new_empty_symint(tensor.sym_sizes()).contiguous(order); };
  return {asked[0] ? like(input) : Tensor(), asked[1] ? like(weight) : Tensor(),
          asked[2] ? grad_output.new_empty_symint(weight.sym_sizes().slice(0, 1)) : Tensor()};
}

Conv2d::Use::Use(const char* op, const Conv2d& layer, const Tensor& grad_output, const Tensor& input,
                 const Tensor& weight, Mask asked)
    : hatted::Use(op, asked, grad_output), layer_(layer), input_(input), weight_(weight) {}

Gradients Conv2d::Use::backward(const Tensor& t, Mask asked) const {
  const std::array<c10::SymInt, 1> bias_size{weight_.sym_size(0)};
  return at::convolution_backward_symint(t, input_, weight_, bias_size, layer_.stride, layer_.padding, layer_.dilation,
                                         /*transposed=*/false, kNoOutputPadding, layer_.groups, asked);
}

ParameterGradients Conv2d::Use::plain() {
  ParameterGradients parameters;
  std::tie(input_gradient_, parameters.weight, parameters.bias) = backward(grad_output, asked);
  return parameters;
}

ParameterGradients Conv2d::Use::from(const Tensor& t, bool with_bias) const {
  ParameterGradients parameters;
  std::tie(std::ignore, parameters.weight, parameters.bias) = backward(t, {false, true, with_bias});
  return parameters;
}

// Not by `backward`: oneDNN would compute the weight's gradient along with that of the bias.
Tensor Conv2d::Use::bias_gradient(const Tensor& t) const { return at::sum(t, {0, 2, 3}); }

Tensor Conv2d::Use::blocks(const Tensor& weight_gradient) const {
  const auto groups = layer_.groups.expect_int();
  return weight_gradient.reshape({groups, weight_.size(0) / groups, inputs()});
}

Tensor Conv2d::Use::input_products(at::ScalarType kind, bool with_one) const {
  const auto pair = [](c10::SymIntArrayRef pair) {
    return std::array<int64_t, 2>{pair[0].expect_int(), pair[1].expect_int()};
  };
  const Window window{{weight_.size(2), weight_.size(3)},
                      pair(layer_.stride),
                      pair(layer_.padding),
                      pair(layer_.dilation),
                      layer_.groups.expect_int()};
  return patch_products(input_, window, kind, with_one);
}

Tensor Conv2d::Use::output_products(at::ScalarType kind, double scale) const {
  return channel_products(scaled_gradient(kind, scale), layer_.groups.expect_int());
}

Tensor Conv2d::Use::make_input_gradient() const { return std::get<0>(backward(grad_output, {true, false, false})); }

}  // namespace hatted
