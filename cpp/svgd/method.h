// SVGD (Li & Shu 2019, Algorithm 1): the second moment r of the output's gradient g, and the virtual gradient t in the
// place of g where the weight's gradient is formed. docs/design.md, Mathematics.
#pragma once

#include "../hatted/method.h"

namespace svgd {

using at::Tensor;

struct Svgd {
  static constexpr const char* kNamespace = "svgd";
  static constexpr const char* kState = "Tensor(a!) second_moment";
  static constexpr const char* kSettings =
      "float scale, float decay, float eps, float gradient_scale, bool virtual_bias";
  using State = hatted::Pack<const Tensor&>;
  using Settings = hatted::Pack<double, double, double, double, bool>;

  const Tensor& second_moment;  // [out], [c_out], or [c_out, h_out, w_out]
  double scale, decay, eps;
  double gradient_scale;  // the factor k; 0 or less means the batch size
  bool virtual_bias;

  void check(const char* op, const Tensor& weight, const hatted::Sizes& sizes) const;
  hatted::ParameterGradients gradients(hatted::Use& use) const;
  hatted::Changed changed() const { return {second_moment}; }
};

}  // namespace svgd
