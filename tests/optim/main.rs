//! The optimizers: held to their formulas, to torch's and to tch's own; what they keep, and in which files.

#[path = "../common/mod.rs"]
mod common;

mod grad_scaler;
mod rules;
mod schedules;
mod state;

use tch::nn;
use tch::{Device, Kind, Tensor};
use tch_svgd::Error;
use tch_svgd::optim::{AdaGrad, Adam, AdamW, Optim, RmsProp, Rule, Sgd};

/// A `VarStore` with one variable of these values.
fn variable(values: &[f64], kind: Kind) -> (nn::VarStore, Tensor) {
    let vs = nn::VarStore::new(Device::Cpu);
    let values = Tensor::from_slice(values).to_kind(kind);
    let variable = vs.root().add("w", values, true);
    (vs, variable)
}

/// The gradient is `1.5 w + sin 3w`.
fn loss(w: &Tensor) -> Tensor {
    w.square().sum(w.kind()) * 0.75 - (w * 3.0).cos().sum(w.kind()) / 3.0
}

fn values(w: &Tensor) -> Vec<f64> {
    Vec::try_from(w.detach().to_kind(Kind::Double).view([-1])).unwrap()
}

/// A test for each optimizer, each with all that it can keep.
macro_rules! for_every_rule {
    ($($test:ident),*) => {
        mod of_sgd { $(#[test] fn $test() { super::$test(crate::sgd()) })* }
        mod of_adam { $(#[test] fn $test() { super::$test(crate::adam()) })* }
        mod of_adam_inside_root { $(#[test] fn $test() { super::$test(crate::adam_inside_root()) })* }
        mod of_adamw { $(#[test] fn $test() { super::$test(crate::adamw()) })* }
        mod of_adagrad { $(#[test] fn $test() { super::$test(crate::adagrad()) })* }
        mod of_rmsprop { $(#[test] fn $test() { super::$test(crate::rmsprop()) })* }
    };
}
use for_every_rule;

fn sgd() -> Sgd {
    Sgd { momentum: 0.9, dampening: 0.1, weight_decay: 0.01, nesterov: false }
}
fn adam() -> Adam {
    Adam { weight_decay: 0.01, amsgrad: true, ..Default::default() }
}
fn adam_inside_root() -> Adam {
    Adam { eps_inside_root: true, eps: 1e-3, weight_decay: 0.01, amsgrad: true, ..Default::default() }
}
fn adamw() -> AdamW {
    AdamW { weight_decay: 0.1, ..Default::default() }
}
fn adagrad() -> AdaGrad {
    AdaGrad { lr_decay: 0.01, eps: 1e-3, weight_decay: 0.01, initial_accumulator_value: 0.25 }
}
fn rmsprop() -> RmsProp {
    RmsProp { alpha: 0.9, eps: 1e-3, momentum: 0.5, weight_decay: 0.01, centered: true, ..Default::default() }
}

/// Two layers, the second of group 1, and an optimizer.
fn model<R: Rule>(rule: R, kind: Kind) -> (nn::VarStore, nn::Sequential, Optim<R>) {
    let mut vs = nn::VarStore::new(Device::Cpu);
    let body = common::seeded(1, || nn::linear(vs.root() / "body", 4, 6, Default::default()));
    let head = common::seeded(2, || nn::linear((vs.root() / "head").set_group(1), 6, 3, Default::default()));
    vs.set_kind(kind);
    let net = nn::seq().add(body).add_fn(|xs| xs.tanh()).add(head);
    let optimizer = rule.build(&vs, 0.02).unwrap();
    (vs, net, optimizer)
}
