// What libtorch has is called, and what it has not, the epsilon of the papers and most of RMSProp, is put together of
// its foreach operations.
#include "steps.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_addcdiv.h>
#include <ATen/ops/_foreach_addcmul.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_div.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_maximum.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_sqrt.h>
#include <ATen/ops/_fused_adagrad.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/full.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>

#include <array>
#include <cmath>
#include <initializer_list>
#include <tuple>
#include <vector>

#include "../hatted/autograd.h"
#include "../hatted/checks.h"
#include "tch-svgd/src/bridge.rs.h"

namespace optim {
namespace {

using Tensors = std::vector<Tensor>;

bool is_reduced(const Tensor& tensor) {
  return tensor.scalar_type() == at::kHalf || tensor.scalar_type() == at::kBFloat16;
}

// Whether libtorch's kernels may be handed these lists as they are. They walk memory, whose order must be one for a
// parameter, its gradient and its state; and of reduced kinds the CPU's have been wrong (pytorch/pytorch#191763), while
// an epsilon of 1e-10 is 0 in Half.
bool is_plain(std::initializer_list<TensorList> lists) {
  const auto& first = *lists.begin();
  for (const auto& list : lists) {
    for (size_t i = 0; i < list.size(); ++i) {
      if (is_reduced(list[i]) || !list[i].is_non_overlapping_and_dense() || list[i].strides() != first[i].strides()) {
        return false;
      }
    }
  }
  return true;
}

// A list as kernels can take it: itself, or copies, in Float for reduced kinds, which go back at the end.
class Workable {
 public:
  Workable(TensorList originals, bool plain) : originals_(originals), plain_(plain), values_(originals.vec()) {
    for (auto& value : values_) {
      if (!plain) {
        value = value.to(is_reduced(value) ? at::kFloat : value.scalar_type()).contiguous();
      }
    }
  }
  // NOLINTNEXTLINE: a list of these is a list of tensors.
  operator TensorList() const { return values_; }
  void put_back() const {
    if (!plain_ && !values_.empty()) {
      at::_foreach_copy_(originals_, values_);
    }
  }

 private:
  TensorList originals_;
  bool plain_;
  Tensors values_;
};

// Calls step(lists...) on lists that its kernels can take; all but the gradients, which come second, change.
template <typename Step, typename... States>
void on_workable(const char* op, Step step, TensorList parameters, TensorList gradients, States... states) {
  for (const auto& gradient : gradients) {
    hatted::check_tensor(op, "gradient", gradient);
  }
  const at::NoGradGuard no_grad;
  const bool plain = is_plain({parameters, gradients, states...});
  const std::array<Workable, 2 + sizeof...(States)> lists{Workable(parameters, plain), Workable(gradients, plain),
                                                          Workable(states, plain)...};
  std::apply([&](const auto&... list) { step(TensorList(list)...); }, lists);
  for (size_t i = 0; i < lists.size(); ++i) {
    if (i != 1) {
      lists[i].put_back();
    }
  }
  // libtorch's fused kernels tell no graph that what it has saved is no more.
  for (const auto& parameter : parameters) {
    hatted::bump_version(parameter);
  }
}

// Calls one of libtorch's fused steps, which have an overload for each kind of rate.
template <typename Step>
void with(Rate rate, Step step) {
  if (rate.tensor.defined()) {
    step(rate.tensor);
  } else {
    step(rate.value);
  }
}

// parameters <- parameters - rate numerators / denominators
void descend(Rate rate, TensorList parameters, TensorList numerators, TensorList denominators) {
  if (rate.tensor.defined()) {
    at::_foreach_addcdiv_(parameters, at::_foreach_mul(numerators, rate.tensor), denominators, -1);
  } else {
    at::_foreach_addcdiv_(parameters, numerators, denominators, -rate.value);
  }
}

// sqrt(squares) + eps, or with eps inside of the root.
Tensors root(TensorList squares, double eps, bool eps_inside_root) {
  auto roots = eps_inside_root ? at::_foreach_add(squares, eps) : at::_foreach_sqrt(squares);
  if (eps_inside_root) {
    at::_foreach_sqrt_(roots);
  } else {
    at::_foreach_add_(roots, eps);
  }
  return roots;
}

// With the penalty's, which is new memory.
Tensors decayed(TensorList parameters, TensorList gradients, double weight_decay) {
  return weight_decay == 0 ? gradients.vec() : at::_foreach_add(gradients, parameters, weight_decay);
}

// 1 - decay^steps for each of the steps. In Float the first of 1 - 0.999^steps would have three digits.
Tensors corrections(double decay, TensorList steps) {
  return at::pow(decay, at::stack(steps).to(at::kDouble)).neg_().add_(1).unbind();
}

// Adam with eps inside of the root, which is the SVGD paper's, and no fused kernel's.
void adam_inside_root(const hatted::bridge::Adam& s, Rate rate, TensorList parameters, TensorList gradients,
                      TensorList steps, TensorList exp_avgs, TensorList exp_avg_sqs, TensorList max_exp_avg_sqs) {
  const auto of_penalty = decayed(parameters, gradients, s.decoupled_weight_decay ? 0 : s.weight_decay);
  if (s.decoupled_weight_decay && s.weight_decay != 0) {
    if (rate.tensor.defined()) {
      at::_foreach_mul_(parameters, rate.tensor.mul(-s.weight_decay).add_(1));
    } else {
      at::_foreach_mul_(parameters, 1 - rate.value * s.weight_decay);
    }
  }
  at::_foreach_lerp_(exp_avgs, of_penalty, 1 - s.beta1);
  at::_foreach_mul_(exp_avg_sqs, s.beta2);
  at::_foreach_addcmul_(exp_avg_sqs, of_penalty, of_penalty, 1 - s.beta2);
  if (s.amsgrad) {
    at::_foreach_maximum_(max_exp_avg_sqs, exp_avg_sqs);
  }
  const auto squares = at::_foreach_div(s.amsgrad ? max_exp_avg_sqs : exp_avg_sqs, corrections(s.beta2, steps));
  const auto roots = root(squares, s.eps, true);
  descend(rate, parameters, at::_foreach_div(exp_avgs, corrections(s.beta1, steps)), roots);
}

// RMSProp as far as it is an Adam whose mean forgets at once (beta1 0) and whose corrections are over (endless steps).
// For the CPU, where a foreach operation is one for each tensor; on a GPU the zeros alone would be so many launches.
void rmsprop_as_adam(const hatted::bridge::RmsProp& s, Rate rate, TensorList parameters, TensorList gradients,
                     TensorList square_avgs) {
  Tensors means;
  for (const auto& gradient : gradients) {
    means.push_back(at::zeros_like(gradient));
  }
  const auto endless = at::full({}, INFINITY, gradients[0].options().dtype(at::kFloat));
  const Tensors steps(gradients.size(), endless);
  with(rate, [&](const auto& lr) {
    at::_fused_adam_(parameters, gradients, means, square_avgs, /*max_exp_avg_sqs=*/{}, steps, lr, /*beta1=*/0,
                     /*beta2=*/s.alpha, s.weight_decay, s.eps, /*amsgrad=*/false, /*maximize=*/false);
  });
}

}  // namespace

void sgd(const hatted::bridge::Sgd& s, Rate rate, TensorList parameters, TensorList gradients,
         TensorList momentum_buffers, bool first) {
  const auto step = [&](TensorList parameters, TensorList gradients, TensorList momentum_buffers) {
    with(rate, [&](const auto& lr) {
      at::_fused_sgd_(parameters, gradients, momentum_buffers, s.weight_decay, s.momentum, lr, s.dampening, s.nesterov,
                      /*maximize=*/false, first);
    });
  };
  on_workable("Sgd", step, parameters, gradients, momentum_buffers);
}

void adam(const hatted::bridge::Adam& s, Rate rate, TensorList parameters, TensorList gradients, TensorList steps,
          TensorList exp_avgs, TensorList exp_avg_sqs, TensorList max_exp_avg_sqs) {
  const auto step = [&](TensorList parameters, TensorList gradients, TensorList exp_avgs, TensorList exp_avg_sqs,
                        TensorList max_exp_avg_sqs) {
    at::_foreach_add_(steps, 1);
    if (s.eps_inside_root) {
      return adam_inside_root(s, rate, parameters, gradients, steps, exp_avgs, exp_avg_sqs, max_exp_avg_sqs);
    }
    with(rate, [&](const auto& lr) {
      const auto call = [&](auto fused) {
        fused(parameters, gradients, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, lr, s.beta1, s.beta2,
              s.weight_decay, s.eps, s.amsgrad, /*maximize=*/false);
      };
      if (s.decoupled_weight_decay) {
        call([](auto&&... arguments) { at::_fused_adamw_(arguments...); });
      } else {
        call([](auto&&... arguments) { at::_fused_adam_(arguments...); });
      }
    });
  };
  on_workable("Adam", step, parameters, gradients, exp_avgs, exp_avg_sqs, max_exp_avg_sqs);
}

void adagrad(const hatted::bridge::AdaGrad& s, Rate rate, TensorList parameters, TensorList gradients, TensorList steps,
             TensorList sums) {
  const auto step = [&](TensorList parameters, TensorList gradients, TensorList sums) {
    at::_foreach_add_(steps, 1);
    with(rate, [&](const auto& lr) {
      at::_fused_adagrad_(parameters, gradients, sums, steps, lr, s.lr_decay, s.weight_decay, s.eps,
                          /*maximize=*/false);
    });
  };
  on_workable("AdaGrad", step, parameters, gradients, sums);
}

void rmsprop(const hatted::bridge::RmsProp& s, Rate rate, TensorList parameters, TensorList gradients,
             TensorList square_avgs, TensorList grad_avgs, TensorList momentum_buffers) {
  const auto step = [&](TensorList parameters, TensorList gradients, TensorList square_avgs, TensorList grad_avgs,
                        TensorList momentum_buffers) {
    if (!s.centered && s.momentum == 0 && !s.eps_inside_root && gradients[0].is_cpu()) {
      return rmsprop_as_adam(s, rate, parameters, gradients, square_avgs);
    }
    const auto of_penalty = decayed(parameters, gradients, s.weight_decay);
    at::_foreach_mul_(square_avgs, s.alpha);
    at::_foreach_addcmul_(square_avgs, of_penalty, of_penalty, 1 - s.alpha);
    auto squares = square_avgs.vec();
    if (s.centered) {
      at::_foreach_lerp_(grad_avgs, of_penalty, 1 - s.alpha);
      squares = at::_foreach_addcmul(square_avgs, grad_avgs, grad_avgs, -1);
    }
    const auto roots = root(squares, s.eps, s.eps_inside_root);
    if (s.momentum == 0) {
      return descend(rate, parameters, of_penalty, roots);
    }
    at::_foreach_mul_(momentum_buffers, s.momentum);
    at::_foreach_addcdiv_(momentum_buffers, of_penalty, roots);
    if (rate.tensor.defined()) {
      at::_foreach_add_(parameters, at::_foreach_mul(momentum_buffers, rate.tensor), -1);
    } else {
      at::_foreach_add_(parameters, momentum_buffers, -rate.value);
    }
  };
  on_workable("RmsProp", step, parameters, gradients, square_avgs, grad_avgs, momentum_buffers);
}

void forget_gradients(TensorList parameters) {
  for (const auto& parameter : parameters) {
    parameter.mutable_grad().reset();
  }
}

void unscale(TensorList gradients, const Tensor& found_inf, const Tensor& inverse_scale) {
  for (const auto& gradient : gradients) {
    hatted::check_tensor("GradScaler", "gradient", gradient);
  }
  const at::NoGradGuard no_grad;
  auto found = found_inf;
  at::_amp_foreach_non_finite_check_and_unscale_(gradients, found, inverse_scale);
}

}  // namespace optim
