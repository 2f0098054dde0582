// What a method is to the layers: a struct of its state and settings, which turns one use of a layer in a backward pass
// into the gradients of the layer's parameters.
//
//   struct Method {
//     // Of its operators; and their arguments as the schemas have them, where what changes is marked: (a!).
//     static constexpr const char* kNamespace;
//     static constexpr const char* kState;
//     static constexpr const char* kSettings;
//
//     // The same arguments' types. The fields are those of the state, and then those of the settings, in this order.
//     using State = Pack<const Tensor&, ...>;
//     using Settings = Pack<double, ...>;
//
//     // Throws one of errors.h, of a forward pass whose layer has found nothing wrong.
//     void check(const char* op, const Tensor& weight, const Sizes& sizes) const;
//
//     // Called only where the weight's gradient is asked for: a frozen weight is the mechanism's to handle. The
//     // gradients have the kind, sizes and strides of the original's, while state is Float, or Double for Double. A
//     // pass that fails must leave the state as it was: either nothing can fail once it has changed, or
//     // use.restore_on_error(state) comes before the change.
//     ParameterGradients gradients(Use& use) const;
//
//     // The state that `gradients` changes in place: the mechanism tells autograd of it.
//     Changed changed() const;
//   };
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/bmm.h>
#include <c10/core/SymIntArrayRef.h>
#include <c10/util/SmallVector.h>

#include <array>
#include <optional>
#include <tuple>
#include <utility>

namespace hatted {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

template <class... Types>
struct Pack {};

// Which gradients are asked for: those of input, weight and bias.
using Mask = std::array<bool, 3>;
using Gradients = std::tuple<Tensor, Tensor, Tensor>;
using Changed = c10::SmallVector<Tensor, 2>;

// Undefined where they are not asked for.
struct ParameterGradients {
  Tensor weight, bias;
};

// What a method's check is told of a layer, beside its weight.
struct Sizes {
  c10::SymIntArrayRef output;  // of one sample: [out], or [c_out, h_out, w_out]
  c10::SymInt groups;          // of outputs, each with inputs of its own
  bool has_bias;
};

// One use of a layer in a backward pass. What a method does not ask for is not computed.
class Use {
 public:
  // The operator's name, for errors.
  const char* const op;
  const Mask asked;
  // The gradient of the output: [rows, out], or [n, c_out, *space].
  const Tensor grad_output;

  // The original's gradients, with that of the input, in as few passes as the original takes. The tensors are the
  // method's: what it writes into them keeps their kind and strides.
  virtual ParameterGradients plain() = 0;
  // The same of the parameters alone, formed from `t` in the place of grad_output.
  virtual ParameterGradients from(const Tensor& t, bool with_bias) const = 0;
  // The bias's alone.
  virtual Tensor bias_gradient(const Tensor& t) const = 0;

  // A layer as matrix products, one for each group: each output at each position is the product of a row of the weight,
  // [out / groups, in], with what it sees of the input, a. Of a convolution that is a patch; of a linear layer there is
  // one position, and the input itself.
  virtual int64_t samples() const = 0;
  virtual int64_t positions() const = 0;
  virtual int64_t inputs() const = 0;
  // The weight's gradient so: [groups, out / groups, in].
  virtual Tensor blocks(const Tensor& weight_gradient) const = 0;
  // Sums over all samples and positions: of a aᵀ, [groups, in, in], where `with_one` puts a 1 behind each a; and of
  // b bᵀ, [groups, out / groups, out / groups], where b is `scale` times the gradient of the group's outputs.
  virtual Tensor input_products(at::ScalarType kind, bool with_one) const = 0;
  virtual Tensor output_products(at::ScalarType kind, double scale) const = 0;
  // left [weight, bias] right, [groups, out / groups, in], of the blocks of the parameters' gradients: `blocks`, with
  // the bias's behind the weight's where `right` has a row more than there are inputs.
  virtual Tensor between(const Tensor& left, const Tensor& blocks, const Tensor& right) const {
    return at::bmm(at::bmm(left, blocks), right);
  }

  // Remembers the state: if the rest of this backward pass throws, the state is as if the pass had never begun, and
  // a step that ran out of memory and is tried again counts once.
  void restore_on_error(const Tensor& state) { remembered_.emplace_back(state, state.clone()); }

  // For the mechanism: the original's gradient of the input, where it is asked for; what plain() has not made yet is
  // made last, when the method's temporaries are gone.
  Tensor input_gradient() {
    if (asked[0] && !input_gradient_.defined()) {
      input_gradient_ = make_input_gradient();
    }
    return std::move(input_gradient_);
  }
  void restore() const {
    for (auto remembered = remembered_.rbegin(); remembered != remembered_.rend(); ++remembered) {
      remembered->first.copy_(remembered->second);
    }
  }

 protected:
  Use(const char* op, Mask asked, Tensor grad_output) : op(op), asked(asked), grad_output(std::move(grad_output)) {}
  Use(const Use&) = delete;
  ~Use() = default;

  virtual Tensor make_input_gradient() const = 0;

  // Scaled before it is squared: the squares of the gradient as it comes may be too small for a Float.
  Tensor scaled_gradient(at::ScalarType kind, double scale) const {
    return scale == 1 ? grad_output.to(kind) : grad_output.to(kind).mul(scale);
  }

  Tensor input_gradient_;

 private:
  c10::SmallVector<std::pair<Tensor, Tensor>, 2> remembered_;
};

// The original's gradients.
inline Gradients plain_gradients(Use& use) {
  auto parameters = use.plain();
  return {use.input_gradient(), std::move(parameters.weight), std::move(parameters.bias)};
}

}  // namespace hatted
