// The steps of optimizers, of all their parameters at once: libtorch's fused kernels, and its foreach operations where
// there is no such kernel. All lists are of one device and kind, dense, and in one order; parameters and state change.
#pragma once

#include <ATen/core/Tensor.h>

namespace hatted::bridge {
struct Sgd;
struct Adam;
struct AdaGrad;
struct RmsProp;
}  // namespace hatted::bridge

namespace optim {

using at::Tensor;
using at::TensorList;

// The learning rate: a number, and on devices whose steps a graph may replay a tensor of it, which is read instead.
struct Rate {
  double value;
  const Tensor& tensor;  // or an undefined one
};

// `momentum_buffers`: none without momentum. `first`: they have no values yet.
void sgd(const hatted::bridge::Sgd& settings, Rate rate, TensorList parameters, TensorList gradients,
         TensorList momentum_buffers, bool first);

// `steps`: those before this one, Float, []. `max_exp_avg_sqs`: none without amsgrad.
void adam(const hatted::bridge::Adam& settings, Rate rate, TensorList parameters, TensorList gradients,
          TensorList steps, TensorList exp_avgs, TensorList exp_avg_sqs, TensorList max_exp_avg_sqs);

void adagrad(const hatted::bridge::AdaGrad& settings, Rate rate, TensorList parameters, TensorList gradients,
             TensorList steps, TensorList sums);

// `grad_avgs`: none unless centered. `momentum_buffers`: none without momentum.
void rmsprop(const hatted::bridge::RmsProp& settings, Rate rate, TensorList parameters, TensorList gradients,
             TensorList square_avgs, TensorList grad_avgs, TensorList momentum_buffers);

// No tensor has a gradient after it.
void forget_gradients(TensorList parameters);

// Divides the gradients by the loss scale, Float, []; `found_inf`, Float, [], becomes 1 where one is not finite.
void unscale(TensorList gradients, const Tensor& found_inf, const Tensor& inverse_scale);

}  // namespace optim
