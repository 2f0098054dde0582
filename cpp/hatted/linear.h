// The fully-connected layer: [..., in] -> [..., out].
#pragma once

#include <vector>

#include "method.h"

namespace hatted {

struct Linear {
  static constexpr const char* kName = "linear";
  static constexpr const char* kGeometry = "";
  using Geometry = Pack<>;
  // The weight, in a backward pass: only the input's gradient reads it, so there may be none.
  using BackwardWeight = const OptionalTensor&;
  static constexpr const char* kBackwardWeight = "Tensor? weight";

  static bool lacks_batch(const Tensor& /*input*/) { return false; }  // a vector is as good as a row

  // Checks the sizes, and returns that of a sample's output, [out].
  std::vector<c10::SymInt> output_size(const char* op, c10::SymIntArrayRef input, c10::SymIntArrayRef weight) const;
  c10::SymInt group_count() const { return 1; }
  // tch's and PyTorch's own operator.
  Tensor original(const Tensor& input, const Tensor& weight, const OptionalTensor& bias) const;
  // Its value in training, to the bit. For below autograd.
  Tensor forward(const Tensor& input, const Tensor& weight, const OptionalTensor& bias) const;
  // What the passes give, without data.
  Tensor meta(const Tensor& input, const Tensor& weight, c10::SymIntArrayRef output) const;
  Gradients backward_meta(const char* op, const Tensor& grad_output, const Tensor& input, const OptionalTensor& weight,
                          Mask asked) const;

  class Use final : public hatted::Use {
   public:
    Use(const char* op, const Linear& layer, const Tensor& grad_output, const Tensor& input,
        const OptionalTensor& weight, Mask asked);
    ParameterGradients plain() override;
    ParameterGradients from(const Tensor& t, bool with_bias) const override;
    Tensor bias_gradient(const Tensor& t) const override;

    int64_t samples() const override { return rows_.size(0); }
    int64_t positions() const override { return 1; }
    int64_t inputs() const override { return rows_.size(1); }
    Tensor blocks(const Tensor& weight_gradient) const override { return weight_gradient.unsqueeze(0); }
    Tensor input_products(at::ScalarType kind, bool with_one) const override;
    Tensor output_products(at::ScalarType kind, double scale) const override;
    Tensor between(const Tensor& left, const Tensor& blocks, const Tensor& right) const override;

   private:
    Tensor make_input_gradient() const override;
    // The rows in a kind, with a 1 behind each or without.
    Tensor seen(at::ScalarType kind, bool with_one) const;

    const Tensor input_, weight_;
    const Tensor rows_;  // the input as a matrix
  };
};

}  // namespace hatted
