// The convolutions: [n, c_in, *space] -> [n, c_out, *space], and the same without n.
#pragma once

#include <vector>

#include "method.h"

namespace hatted {

struct Conv2d {
  static constexpr const char* kName = "conv2d";
  static constexpr const char* kGeometry = "SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, SymInt groups";
  using Geometry = Pack<c10::SymIntArrayRef, c10::SymIntArrayRef, c10::SymIntArrayRef, c10::SymInt>;
  using BackwardWeight = const Tensor&;
  static constexpr const char* kBackwardWeight = "Tensor weight";

  c10::SymIntArrayRef stride, padding, dilation;  // (height, width)
  c10::SymInt groups;

  static bool lacks_batch(const Tensor& input) { return input.dim() == 3; }

  // Checks the sizes, and returns that of a sample's output, [c_out, h_out, w_out].
  std::vector<c10::SymInt> output_size(const char* op, c10::SymIntArrayRef input, c10::SymIntArrayRef weight) const;
  c10::SymInt group_count() const { return groups; }
  // The order of what the passes give, on every device: channels_last where input or weight is.
  static at::MemoryFormat format(const Tensor& input, const Tensor& weight);
  // tch's and PyTorch's own operator.
  Tensor original(const Tensor& input, const Tensor& weight, const OptionalTensor& bias) const;
  // Its value, to the bit. For below autograd.
  Tensor forward(const Tensor& input, const Tensor& weight, const OptionalTensor& bias) const;
  // What the passes give, without data.
  Tensor meta(const Tensor& input, const Tensor& weight, c10::SymIntArrayRef output) const;
  Gradients backward_meta(const char* op, const Tensor& grad_output, const Tensor& input, const Tensor& weight,
                          Mask asked) const;

  class Use final : public hatted::Use {
   public:
    Use(const char* op, const Conv2d& layer, const Tensor& grad_output, const Tensor& input, const Tensor& weight,
        Mask asked);
    ParameterGradients plain() override;
    ParameterGradients from(const Tensor& t, bool with_bias) const override;
    Tensor bias_gradient(const Tensor& t) const override;

    int64_t samples() const override { return grad_output.size(0); }
    int64_t positions() const override { return grad_output.size(2) * grad_output.size(3); }
    int64_t inputs() const override { return weight_.size(1) * weight_.size(2) * weight_.size(3); }
    Tensor blocks(const Tensor& weight_gradient) const override;
    Tensor input_products(at::ScalarType kind, bool with_one) const override;
    Tensor output_products(at::ScalarType kind, double scale) const override;

   private:
    Tensor make_input_gradient() const override;
    // The original's, of t in the place of grad_output.
    Gradients backward(const Tensor& t, Mask asked) const;

    const Conv2d& layer_;
    const Tensor input_, weight_;
  };
};

}  // namespace hatted
