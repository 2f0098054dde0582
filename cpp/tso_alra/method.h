// TSO-ALRA, stage one: the gradient G of a layer's weight and bias, between the inverse roots of two second moments,
// that of what the layer sees (A) and that of the gradient of what it gives (B). docs/design.md, Mathematics.
#pragma once

#include "../hatted/method.h"

namespace tso_alra {

using at::Tensor;

struct TsoAlra {
  static constexpr const char* kNamespace = "tso_alra";
  static constexpr const char* kState =
      "Tensor(a!) input_factor, Tensor(b!) output_factor, Tensor input_root, Tensor output_root";
  static constexpr const char* kSettings =
      "float gamma, float gradient_scale, bool sum_positions, bool update, bool precondition, bool graft";
  using State = hatted::Pack<const Tensor&, const Tensor&, const Tensor&, const Tensor&>;
  using Settings = hatted::Pack<double, double, bool, bool, bool, bool>;

  const Tensor& input_factor;   // A: [groups, in, in], or in + 1 with a bias
  const Tensor& output_factor;  // B: [groups, out / groups, out / groups]
  const Tensor& input_root;     // A^(-1/2)
  const Tensor& output_root;    // B^(-1/2)
  double gamma;
  double gradient_scale;  // the factor k of the output's gradient in B; 0 or less means the batch size
  bool sum_positions;     // of A: over the positions of an image, where others take the mean
  bool update;            // whether the pass updates A and B
  bool precondition;      // whether the gradient is B^(-1/2) G A^(-1/2), or the plain one
  bool graft;             // whether that has the norm of G

  void check(const char* op, const Tensor& weight, const hatted::Sizes& sizes) const;
  hatted::ParameterGradients gradients(hatted::Use& use) const;
  hatted::Changed changed() const { return update ? hatted::Changed{input_factor, output_factor} : hatted::Changed{}; }
};

}  // namespace tso_alra
