// The public operators: argument checks, and the dispatcher calls behind the functions of ops.h.
#include "ops.h"

#include <ATen/MemoryOverlap.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/StringUtil.h>

#include <cmath>
#include <limits>

namespace svgd {
namespace {

void check_tensor(const char* op, const char* name, const Tensor& tensor) {
  SVGD_CHECK(ConfigError, tensor.defined(), op, ": argument '", name,
             "': expected a tensor, got an undefined one; build it before the call");
  SVGD_CHECK(UnsupportedError, tensor.layout() == at::kStrided, op, ": argument '", name,
             "': expected a dense (strided) tensor, got layout ", tensor.layout(), "; call to_dense() on it first");
  const auto kind = tensor.scalar_type();
  SVGD_CHECK(KindError, kind == at::kFloat || kind == at::kDouble || kind == at::kBFloat16 || kind == at::kHalf, op,
             ": argument '", name, "': expected kind Float, Double, BFloat16 or Half, got ", kind,
             "; convert it with to_kind");
}

void check_same(const char* op, const char* name, const Tensor& tensor, const char* like_name, const Tensor& like) {
  check_tensor(op, name, tensor);
  SVGD_CHECK(DeviceError, tensor.device() == like.device(), op, ": argument '", name, "': expected device ",
             like.device(), " (where '", like_name, "' is), got ", tensor.device(), "; move it with to_device");
  SVGD_CHECK(KindError, tensor.scalar_type() == like.scalar_type(), op, ": argument '", name, "': expected kind ",
             like.scalar_type(), " (that of '", like_name, "'), got ", tensor.scalar_type(),
             "; convert one of the two with to_kind");
}

void check_bias(const char* op, const std::optional<Tensor>& bias, const Tensor& weight) {
  if (!bias.has_value() || !bias->defined()) {
    return;
  }
  check_same(op, "bias", *bias, "weight", weight);
  SVGD_CHECK(ShapeError, bias->dim() == 1 && bias->sym_size(0) == weight.sym_size(0), op,
             ": argument 'bias': expected shape [", weight.sym_size(0), "] (one value per output), got ",
             bias->sym_sizes(), "; pass a bias of that shape, or none");
}

void check_second_moment_storage(const char* op, const Tensor& second_moment, const Tensor& gradient) {
  check_tensor(op, "second_moment", second_moment);
  SVGD_CHECK(DeviceError, second_moment.device() == gradient.device(), op,
             ": argument 'second_moment': expected device ", gradient.device(), ", got ", second_moment.device(),
             "; move it with to_device");
  const auto kind = second_moment_kind(gradient.scalar_type());
  SVGD_CHECK(KindError, second_moment.scalar_type() == kind, op, ": argument 'second_moment': expected kind ", kind,
             " (for gradients of kind ", gradient.scalar_type(), "), got ", second_moment.scalar_type(),
             "; accumulators are Float, and Double for Double gradients");
  SVGD_CHECK(ConfigError, !second_moment.requires_grad(), op,
             ": argument 'second_moment': expected a tensor that requires no gradient, got one that does; it is "
             "optimizer state: create it with zeros and leave requires_grad off");
  SVGD_CHECK(ConfigError, second_moment.is_non_overlapping_and_dense(), op,
             ": argument 'second_moment': expected a dense tensor with memory of its own, got strides ",
             second_moment.sym_strides(), "; it is updated in place: call contiguous() on it first");
  const auto symbolic = [](const Tensor& tensor) { return tensor.unsafeGetTensorImpl()->has_symbolic_sizes_strides(); };
  if (!symbolic(second_moment) && !symbolic(gradient)) {
    const auto overlap = at::get_overlap_status(second_moment, gradient);
    SVGD_CHECK(ConfigError, overlap != at::MemOverlapStatus::Full && overlap != at::MemOverlapStatus::Partial, op,
               ": argument 'second_moment': expected memory of its own, got some that another argument has too; it is "
               "updated in place: call copy() on it first");
  }
}

// The kernels compute in float for every kind but Double: a value must keep its meaning there.
void check_hyperparameters(const char* op, double scale, double decay, double eps, double gradient_scale) {
  SVGD_CHECK(ConfigError, std::isfinite(static_cast<float>(scale)) && scale >= 0, op,
             ": argument 'scale': expected a finite number >= 0, got ", scale, "; the paper uses 0.001 to 0.1");
  SVGD_CHECK(ConfigError, decay >= 0 && static_cast<float>(decay) < 1, op,
             ": argument 'decay': expected a number in [0, 1), got ", decay, "; the paper uses 0.9");
  SVGD_CHECK(ConfigError, std::isfinite(eps) && static_cast<float>(eps) > 0, op,
             ": argument 'eps': expected a finite number > 0, got ", eps, "; the paper uses 1e-6");
  SVGD_CHECK(ConfigError, std::isfinite(gradient_scale), op,
             ": argument 'gradient_scale': expected a finite number, got ", gradient_scale,
             "; 1 takes the gradient as received, 0 or less means the batch size");
}

void check_pair(const char* name, c10::SymIntArrayRef pair, int64_t smallest) {
  constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();  // sizes computed from it cannot overflow
  const auto valid = [&](const c10::SymInt& value) { return value >= smallest && value <= kLargest; };
  SVGD_CHECK(ConfigError, pair.size() == 2 && valid(pair[0]) && valid(pair[1]), "svgd::conv2d: argument '", name,
             "': expected two integers in [", smallest, ", ", kLargest, "] (height, width), got ", pair,
             "; correct the ", name);
}

}  // namespace

std::vector<c10::SymInt> conv2d_output_size(c10::SymIntArrayRef input_size, c10::SymIntArrayRef weight_size,
                                            c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                                            c10::SymIntArrayRef dilation, c10::SymInt groups) {
  SVGD_CHECK(ShapeError, weight_size.size() == 4, "svgd::conv2d: argument 'weight': expected 4 dimensions ",
             "[c_out, c_in / groups, h, w], got ", weight_size, "; reshape the weight");
  SVGD_CHECK(ShapeError, weight_size[2] >= 1 && weight_size[3] >= 1,
             "svgd::conv2d: argument 'weight': expected a kernel of at least 1x1, got shape ", weight_size,
             "; check ksize of the layer");
  SVGD_CHECK(ShapeError, input_size.size() == 4, "svgd::conv2d: argument 'input': expected 4 dimensions ",
             "[n, c_in, h, w] (or 3, without n), got ", input_size, "; reshape the input");
  check_pair("stride", stride, 1);
  check_pair("padding", padding, 0);
  check_pair("dilation", dilation, 1);
  SVGD_CHECK(ConfigError, groups >= 1, "svgd::conv2d: argument 'groups': expected an integer >= 1, got ", groups,
             "; 1 is an ordinary convolution");
  SVGD_CHECK(ShapeError, weight_size[0] >= 1 && weight_size[0] % groups == 0,
             "svgd::conv2d: argument 'weight': expected a number of output channels that ", groups,
             " groups divide, got ", weight_size[0], "; change groups or the output channels");
  SVGD_CHECK(ShapeError, input_size[1] == weight_size[1] * groups, "svgd::conv2d: argument 'input': expected ",
             weight_size[1] * groups, " channels (the weight's ", weight_size[1], " times ", groups,
             " groups), got shape ", input_size, "; check in_dim of the layer");
  std::vector<c10::SymInt> output_size{input_size[0], weight_size[0]};
  for (const size_t axis : {0, 1}) {
    const auto padded = input_size[axis + 2] + 2 * padding[axis];
    const auto kernel = dilation[axis] * (weight_size[axis + 2] - 1) + 1;
    SVGD_CHECK(ShapeError, padded >= kernel, "svgd::conv2d: argument 'input': expected at least ", kernel, " padded ",
               axis == 0 ? "rows" : "columns", " (kernel ", weight_size[axis + 2], ", dilation ", dilation[axis],
               "), got ", padded, " from shape ", input_size, "; enlarge the image or its padding");
    output_size.push_back((padded - kernel) / stride[axis] + 1);
  }
  return output_size;
}

void check_linear(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                  const Tensor& second_moment, double scale, double decay, double eps, double gradient_scale) {
  constexpr auto op = "svgd::linear";
  check_tensor(op, "weight", weight);
  SVGD_CHECK(ShapeError, weight.dim() == 2 && weight.sym_size(0) >= 1, op,
             ": argument 'weight': expected 2 dimensions [out, in] with at least one output, got ", weight.sym_sizes(),
             "; reshape the weight");
  check_same(op, "input", input, "weight", weight);
  SVGD_CHECK(ShapeError, input.dim() >= 1 && input.sym_size(-1) == weight.sym_size(1), op,
             ": argument 'input': expected ", weight.sym_size(1), " features in the last dimension (weight ",
             weight.sym_sizes(), "), got shape ", input.sym_sizes(),
             "; flatten the input or check in_dim of the layer");
  check_bias(op, bias, weight);
  check_second_moment_storage(op, second_moment, weight);
  SVGD_CHECK(ShapeError, second_moment.dim() == 1 && second_moment.sym_size(0) == weight.sym_size(0), op,
             ": argument 'second_moment': expected shape [", weight.sym_size(0), "] (one value per output), got ",
             second_moment.sym_sizes(),
             "; after a change of the layer's size call reset() of its Svgd, or create it with "
             "zeros of that shape");
  check_hyperparameters(op, scale, decay, eps, gradient_scale);
}

void check_conv2d(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                  const Tensor& second_moment, c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                  c10::SymIntArrayRef dilation, c10::SymInt groups, double scale, double decay, double eps,
                  double gradient_scale) {
  constexpr auto op = "svgd::conv2d";
  check_tensor(op, "weight", weight);
  check_same(op, "input", input, "weight", weight);
  const auto output_size = conv2d_output_size(input.sym_sizes(), weight.sym_sizes(), stride, padding, dilation, groups);
  check_bias(op, bias, weight);
  check_second_moment_storage(op, second_moment, weight);
  const auto per_element = c10::SymIntArrayRef(output_size).slice(1);
  SVGD_CHECK(ShapeError,
             second_moment.sym_sizes() == per_element || second_moment.sym_sizes() == per_element.slice(0, 1), op,
             ": argument 'second_moment': expected shape ", per_element, " (one value per output element) or ",
             per_element.slice(0, 1), " (one per channel), got ", second_moment.sym_sizes(),
             "; accumulators per element belong to one image size: keep the size, reset them, or use one value per "
             "channel (Granularity::Channel)");
  check_hyperparameters(op, scale, decay, eps, gradient_scale);
}

void check_second_moment(const char* op, const Tensor& grad_output, const Tensor& second_moment) {
  check_tensor(op, "grad_output", grad_output);
  SVGD_CHECK(ShapeError, grad_output.dim() >= 1, op,
             ": argument 'grad_output': expected a batch axis, got a scalar; unsqueeze it");
  check_second_moment_storage(op, second_moment, grad_output);
  const auto per_element = grad_output.sym_sizes().slice(1);
  SVGD_CHECK(ShapeError,
             second_moment.sym_sizes() == per_element ||
                 (is_channel_granular(grad_output, second_moment) && second_moment.sym_size(0) == per_element[0]),
             op, ": argument 'second_moment': expected shape ", per_element,
             " (one value per element of a sample) or that of dimension 1 alone (one per channel), got ",
             second_moment.sym_sizes(), " for gradients of shape ", grad_output.sym_sizes(),
             "; create it with zeros of one of the two shapes");
}

void check_scale_rows(const Tensor& rows, const Tensor& second_moment, double scale, double eps) {
  constexpr auto op = "svgd::_scale_rows";
  check_tensor(op, "rows", rows);
  SVGD_CHECK(ShapeError, rows.dim() >= 1, op, ": argument 'rows': expected at least one dimension, got a scalar; ",
             "pass the weight gradient");
  check_second_moment_storage(op, second_moment, rows);
  SVGD_CHECK(ShapeError, second_moment.dim() == 1 && second_moment.sym_size(0) == rows.sym_size(0), op,
             ": argument 'second_moment': expected shape [", rows.sym_size(0), "] (one value per row), got ",
             second_moment.sym_sizes(), "; pass the accumulator of the layer's outputs");
  check_hyperparameters(op, scale, /*decay=*/0, eps, /*gradient_scale=*/1);
}

void check_virtual_grad(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay, double eps,
                        double gradient_scale) {
  check_second_moment("svgd::virtual_grad", grad_output, second_moment);
  check_hyperparameters("svgd::virtual_grad", scale, decay, eps, gradient_scale);
}

// The dispatcher calls. Each looks its operator up once; the types come from the function of the same name.
#define SVGD_OPERATOR(FUNCTION, NAME) \
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("svgd::" NAME, "").typed<decltype(FUNCTION)>()

Tensor linear(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& second_moment,
              double scale, double decay, double eps, double gradient_scale, bool virtual_bias) {
  SVGD_OPERATOR(linear, "linear");
  return op.call(input, weight, bias, second_moment, scale, decay, eps, gradient_scale, virtual_bias);
}

Tensor conv2d(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& second_moment,
              c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, c10::SymInt groups,
              double scale, double decay, double eps, double gradient_scale, bool virtual_bias) {
  SVGD_OPERATOR(conv2d, "conv2d");
  return op.call(input, weight, bias, second_moment, stride, padding, dilation, groups, scale, decay, eps,
                 gradient_scale, virtual_bias);
}

Tensor virtual_grad(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay, double eps,
                    double gradient_scale) {
  SVGD_OPERATOR(virtual_grad, "virtual_grad");
  return op.call(grad_output, second_moment, scale, decay, eps, gradient_scale);
}

Tensor virtual_grad_composed(const Tensor& grad_output, const Tensor& second_moment, double scale, double decay,
                             double eps, double gradient_scale) {
  SVGD_OPERATOR(virtual_grad_composed, "_virtual_grad_composed");
  return op.call(grad_output, second_moment, scale, decay, eps, gradient_scale);
}

void update_second_moment(const Tensor& grad_output, const Tensor& second_moment, double decay, double gradient_scale) {
  SVGD_OPERATOR(update_second_moment, "_update_second_moment");
  op.call(grad_output, second_moment, decay, gradient_scale);
}

void scale_rows(const Tensor& rows, const Tensor& second_moment, double scale, double eps) {
  SVGD_OPERATOR(scale_rows, "_scale_rows");
  op.call(rows, second_moment, scale, eps);
}

Gradients linear_backward(const Tensor& grad_output, const Tensor& input, const Tensor& weight,
                          const Tensor& second_moment, double scale, double decay, double eps, double gradient_scale,
                          bool virtual_bias, BackwardMask mask) {
  SVGD_OPERATOR(linear_backward, "_linear_backward");
  return op.call(grad_output, input, weight, second_moment, scale, decay, eps, gradient_scale, virtual_bias, mask);
}

Gradients conv2d_backward(const Tensor& grad_output, const Tensor& input, const Tensor& weight,
                          const Tensor& second_moment, c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                          c10::SymIntArrayRef dilation, c10::SymInt groups, double scale, double decay, double eps,
                          double gradient_scale, bool virtual_bias, BackwardMask mask) {
  SVGD_OPERATOR(conv2d_backward, "_conv2d_backward");
  return op.call(grad_output, input, weight, second_moment, stride, padding, dilation, groups, scale, decay, eps,
                 gradient_scale, virtual_bias, mask);
}

}  // namespace svgd
