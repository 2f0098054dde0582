// SVGD's gradients: which of them are formed, of what, and when the second moment is updated.
#include "method.h"

#include "../hatted/checks.h"
#include "second_moment.h"

namespace svgd {
namespace {

// One value for each element of a sample's output: t is formed.
hatted::ParameterGradients by_element(const Svgd& method, hatted::Use& use) {
  const auto& [second_moment, scale, decay, eps, gradient_scale, virtual_bias] = method;
  const auto& g = use.grad_output;
  use.restore_on_error(second_moment);
  auto parameters = use.from(virtual_grad(g, second_moment, scale, decay, eps, gradient_scale),
                             /*with_bias=*/use.asked[2] && virtual_bias);
  if (use.asked[2] && !virtual_bias) {
    parameters.bias = use.bias_gradient(g);
  }
  return parameters;
}

// One value for each output: t is g with each column multiplied by one number. So the weight's gradient is the plain
// one with each row multiplied by that number, and t is never formed.
hatted::ParameterGradients by_output(const Svgd& method, hatted::Use& use) {
  const auto& [second_moment, scale, decay, eps, gradient_scale, virtual_bias] = method;
  const auto& g = use.grad_output;
  hatted::ParameterGradients parameters;
  if (g.dim() > 2) {
    // Of images: large, just written, and still in the cache. The statistic comes first.
    use.restore_on_error(second_moment);
    update_second_moment(g, second_moment, decay, gradient_scale);
    parameters = use.plain();
  } else {
    // What can run out of memory comes first. On the CPU, where a small step is felt, nothing is taken once the state
    // has changed: it needs no copy.
    parameters = use.plain();
    if (!second_moment.is_cpu()) {
      use.restore_on_error(second_moment);
    }
    update_second_moment(g, second_moment, decay, gradient_scale);
  }
  scale_rows(parameters.weight, second_moment, scale, eps);
  if (use.asked[2] && virtual_bias) {
    scale_rows(parameters.bias, second_moment, scale, eps);
  }
  return parameters;
}

}  // namespace

void Svgd::check(const char* op, const Tensor& weight, const hatted::Sizes& sizes) const {
  hatted::check_state(op, "second_moment", second_moment, weight);
  const auto output = sizes.output, per_output = output.slice(0, 1);
  if (output.size() == 1) {
    HATTED_CHECK(
        ShapeError, second_moment.sym_sizes() == per_output, op, ": argument 'second_moment': expected shape ",
        per_output, " (one value per output), got ", second_moment.sym_sizes(),
        "; after a change of the layer's size call reset() of its Svgd, or create it with zeros of that shape");
  } else {
    HATTED_CHECK(ShapeError, second_moment.sym_sizes() == output || second_moment.sym_sizes() == per_output, op,
                 ": argument 'second_moment': expected shape ", output, " (one value per output element) or ",
                 per_output, " (one per channel), got ", second_moment.sym_sizes(),
                 "; accumulators per element belong to one image size: keep the size, reset them, or use one value per "
                 "channel (Granularity::Channel)");
  }
  check_hyperparameters(op, scale, decay, eps, gradient_scale);
}

hatted::ParameterGradients Svgd::gradients(hatted::Use& use) const {
  return second_moment.dim() > 1 ? by_element(*this, use) : by_output(*this, use);
}

}  // namespace svgd
