//! Bad input to the operators: each argument spoiled in each way, and each setting out of its range.

use super::{Subject, Trial};
use crate::common::*;
use tch::{Device, Kind, Tensor};
use tch_svgd::functional::tso_alra::{Factors, Preconditioning};
use tch_svgd::functional::{self, Convolution, Hyperparameters, bng, tso_alra};
use tch_svgd::testing::to_meta;
use tch_svgd::{Damping, Normalization, Result};

/// An operator by its tensors.
struct Operator<'a> {
    says: &'a str,
    names: &'a [&'a str],
    /// Of the tensors, those that it changes.
    states: &'a [usize],
    tensors: &'a dyn Fn() -> Vec<Tensor>,
    call: &'a dyn Fn(&[Tensor]) -> Result<()>,
}

type Spoiling = fn(&Tensor) -> Tensor;

/// Ways to spoil a tensor, and whether the error can name no other argument.
const SPOILED: &[(Spoiling, bool)] = &[
    (|_| Tensor::new(), true),
    (|t| Tensor::ones(t.size(), (Kind::Int, Device::Cpu)), true),
    (|t| Tensor::ones(t.size(), (Kind::Bool, Device::Cpu)), true),
    (|t| Tensor::ones(t.size(), (Kind::ComplexFloat, Device::Cpu)), true),
    (|t| t.detach().to_kind(Kind::Float).to_sparse_sparse_dim(t.dim() as i64), true),
    (|t| t.detach().to_kind(if t.kind() == Kind::Double { Kind::Float } else { Kind::Double }), false),
    (|t| to_meta(&t.detach()).unwrap(), false),
    (|_| zeros(&[1, 1, 1, 1, 1], Kind::Float), false),
    (|_| zeros(&[2, 1, 2], Kind::BFloat16), false),
];

/// Ways to spoil a tensor that is changed in place.
const SPOILED_STATE: &[fn(&Tensor) -> Tensor] =
    &[leaf, |t| zeros(&vec![1; t.dim()], t.kind()).expand(t.size(), false), |_| zeros(&[0], Kind::Float)];

impl Operator<'_> {
    fn try_all(&self, trial: &mut Trial) {
        for (place, name) in self.names.iter().enumerate() {
            for &(spoil, is_named) in SPOILED {
                self.try_one(trial, place, if is_named { name } else { "" }, spoil);
            }
        }
        for &place in self.states {
            for &spoil in SPOILED_STATE {
                self.try_one(trial, place, self.names[place], spoil);
            }
        }
    }

    fn try_one(&self, trial: &mut Trial, place: usize, name: &str, spoil: fn(&Tensor) -> Tensor) {
        let mut tensors = (self.tensors)();
        let spoiled = spoil(&tensors[place]);
        tensors[place] = spoiled;
        let others = || {
            let others = tensors.iter().enumerate().filter(|(other, _)| *other != place);
            others.map(|(_, tensor)| tensor.shallow_clone()).collect()
        };
        let good = || (self.call)(&(self.tensors)());
        let subject = Subject { says: self.says, state: &others, good: &good };
        trial.refused(&subject, name, || (self.call)(&tensors));
    }
}

/// Values that no setting which must be above zero can have.
const NOT_ABOVE_ZERO: [f64; 5] = [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

fn f(size: &[i64]) -> Tensor {
    zeros(size, Kind::Float)
}

fn svgd_settings() -> Vec<(&'static str, Hyperparameters)> {
    let good = Hyperparameters::default();
    let mut settings = Vec::new();
    for bad in [-1.0, f64::NAN, f64::INFINITY, 1e39] {
        settings.push(("scale", Hyperparameters { scale: bad, ..good }));
    }
    for bad in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
        settings.push(("decay", Hyperparameters { decay: bad, ..good }));
    }
    for bad in NOT_ABOVE_ZERO {
        settings.push(("eps", Hyperparameters { eps: bad, ..good }));
    }
    for bad in [f64::NAN, f64::INFINITY] {
        settings.push(("gradient_scale", Hyperparameters { gradient_scale: bad, ..good }));
    }
    settings
}

fn geometries() -> Vec<(&'static str, Convolution)> {
    let good = Convolution::default();
    let mut geometries = Vec::new();
    for bad in [0, -1, i64::MIN, i64::MAX] {
        geometries.push(("stride", Convolution { stride: [1, bad], ..good }));
        geometries.push(("dilation", Convolution { dilation: [bad, 1], ..good }));
    }
    for bad in [-1, i64::MIN, i64::MAX] {
        geometries.push(("padding", Convolution { padding: [bad, 0], ..good }));
    }
    for bad in [0, -1, i64::MIN] {
        geometries.push(("groups", Convolution { groups: bad, ..good }));
    }
    geometries
}

fn factors(state: &[Tensor]) -> Factors<'_> {
    Factors { input: &state[0], output: &state[1], input_root: &state[2], output_root: &state[3] }
}

pub fn try_all(trial: &mut Trial) {
    svgd(trial);
    tso_alra(trial);
    normalize(trial);
}

fn svgd(trial: &mut Trial) {
    let names = &["input", "weight", "bias", "second_moment"];
    let tensors = || vec![f(&[4, 5]), leaf(&f(&[3, 5])), f(&[3]), f(&[3])];
    let with = |t: &[Tensor], hyper| functional::linear(&t[0], &t[1], Some(&t[2]), &t[3], hyper).map(drop);
    let call = |t: &[Tensor]| with(t, Hyperparameters::default());
    let says = "svgd::linear: argument ";
    Operator { says, names, states: &[3], tensors: &tensors, call: &call }.try_all(trial);
    let kept = tensors();
    let state = || kept.iter().map(Tensor::shallow_clone).collect();
    let subject = Subject { says, state: &state, good: &|| call(&kept) };
    for (name, hyper) in svgd_settings() {
        trial.refused(&subject, name, || with(&kept, hyper));
    }

    let tensors = || vec![f(&[2, 4, 8, 9]), leaf(&f(&[6, 4, 3, 3])), f(&[6]), f(&[6, 6, 7])];
    let with =
        |t: &[Tensor], geometry, hyper| functional::conv2d(&t[0], &t[1], Some(&t[2]), &t[3], geometry, hyper).map(drop);
    let call = |t: &[Tensor]| with(t, Convolution::default(), Hyperparameters::default());
    let says = "svgd::conv2d: argument ";
    Operator { says, names, states: &[3], tensors: &tensors, call: &call }.try_all(trial);
    let kept = tensors();
    let state = || kept.iter().map(Tensor::shallow_clone).collect();
    let subject = Subject { says, state: &state, good: &|| call(&kept) };
    for (name, hyper) in svgd_settings() {
        trial.refused(&subject, name, || with(&kept, Convolution::default(), hyper));
    }
    for (name, geometry) in geometries() {
        trial.refused(&subject, name, || with(&kept, geometry, Hyperparameters::default()));
    }

    let tensors = || vec![f(&[4, 3]), f(&[3])];
    let with = |t: &[Tensor], hyper| functional::virtual_grad(&t[0], &t[1], hyper).map(drop);
    let call = |t: &[Tensor]| with(t, Hyperparameters::default());
    let (says, names) = ("svgd::virtual_grad: argument ", &["grad_output", "second_moment"]);
    Operator { says, names, states: &[1], tensors: &tensors, call: &call }.try_all(trial);
    let kept = tensors();
    let state = || kept.iter().map(Tensor::shallow_clone).collect();
    let subject = Subject { says, state: &state, good: &|| call(&kept) };
    for (name, hyper) in svgd_settings() {
        trial.refused(&subject, name, || with(&kept, hyper));
    }
}

fn tso_alra(trial: &mut Trial) {
    let names = &["input", "weight", "bias", "input_factor", "output_factor", "input_root", "output_root"];
    let matrices = |n: i64, m: i64| [n, m, n, m].map(|n| f(&[1, n, n]));
    let mut settings = Vec::new();
    let good = Preconditioning::default();
    for gamma in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
        settings.push(("gamma", Preconditioning { gamma, ..good }));
    }
    for gradient_scale in [f64::NAN, f64::INFINITY, 1e60] {
        settings.push(("gradient_scale", Preconditioning { gradient_scale, ..good }));
    }

    let tensors = || [vec![f(&[4, 5]), leaf(&f(&[3, 5])), f(&[3])], Vec::from(matrices(6, 3))].concat_tensors();
    let with =
        |t: &[Tensor], settings| tso_alra::linear(&t[0], &t[1], Some(&t[2]), factors(&t[3..]), settings).map(drop);
    let call = |t: &[Tensor]| with(t, Preconditioning::default());
    let says = "tso_alra::linear: argument ";
    Operator { says, names, states: &[3, 4, 5, 6], tensors: &tensors, call: &call }.try_all(trial);
    let kept = tensors();
    let state = || kept.iter().map(Tensor::shallow_clone).collect();
    let subject = Subject { says, state: &state, good: &|| call(&kept) };
    for (name, settings) in settings.iter() {
        trial.refused(&subject, name, || with(&kept, *settings));
    }

    let tensors =
        || [vec![f(&[2, 4, 8, 9]), leaf(&f(&[6, 4, 3, 3])), f(&[6])], Vec::from(matrices(37, 6))].concat_tensors();
    let with = |t: &[Tensor], geometry, settings| {
        tso_alra::conv2d(&t[0], &t[1], Some(&t[2]), factors(&t[3..]), geometry, settings).map(drop)
    };
    let call = |t: &[Tensor]| with(t, Convolution::default(), Preconditioning::default());
    let says = "tso_alra::conv2d: argument ";
    Operator { says, names, states: &[3, 4, 5, 6], tensors: &tensors, call: &call }.try_all(trial);
    let kept = tensors();
    let state = || kept.iter().map(Tensor::shallow_clone).collect();
    let subject = Subject { says, state: &state, good: &|| call(&kept) };
    for (name, settings) in settings.iter() {
        trial.refused(&subject, name, || with(&kept, Convolution::default(), *settings));
    }
    for (name, geometry) in geometries() {
        trial.refused(&subject, name, || with(&kept, geometry, Preconditioning::default()));
    }

    let tensors = || vec![Tensor::eye(3, (Kind::Float, Device::Cpu)), f(&[3, 3])];
    let with = |t: &[Tensor], eps| tso_alra::inverse_roots(&[&t[0]], &[&t[1]], eps, Damping::Absolute);
    let call = |t: &[Tensor]| with(t, 1e-6);
    let (says, names) = ("tso_alra::_inverse_roots: argument ", &["factors", "roots"]);
    Operator { says, names, states: &[1], tensors: &tensors, call: &call }.try_all(trial);
    let kept = tensors();
    let state = || kept.iter().map(Tensor::shallow_clone).collect();
    let subject = Subject { says, state: &state, good: &|| call(&kept) };
    for eps in NOT_ABOVE_ZERO {
        trial.refused(&subject, "eps", || with(&kept, eps));
    }
    let [factor, root] = [&kept[0], &kept[1]];
    let empty = f(&[2, 0, 0]);
    trial.refused(&subject, "roots", || tso_alra::inverse_roots(&[factor], &[], 1e-6, Damping::Relative));
    trial.refused(&subject, "roots", || tso_alra::inverse_roots(&[factor], &[factor], 1e-6, Damping::Relative));
    trial
        .refused(&subject, "factors", || tso_alra::inverse_roots(&[&empty], &[&empty.copy()], 1e-6, Damping::Relative));
    // One place for the roots of two.
    trial.refused(&subject, "roots", || {
        tso_alra::inverse_roots(&[factor, factor], &[root, root], 1e-6, Damping::Relative)
    });
    let next = f(&[3, 3]);
    trial.refused(&subject, "roots", || {
        tso_alra::inverse_roots(&[factor, root], &[root, &next], 1e-6, Damping::Relative)
    });
}

fn normalize(trial: &mut Trial) {
    let skipped = || Tensor::zeros([], (Kind::Int64, Device::Cpu));
    let tensors = || vec![f(&[3, 2]), f(&[3, 2]), zeros(&[1], Kind::Double), skipped()];
    let with = |t: &[Tensor], rule| bng::normalize(&[&t[0]], &[&t[1]], &[1], &t[2], &t[3], rule);
    let call = |t: &[Tensor]| with(t, Normalization::Unit);
    let (says, names) = ("bng::normalize_: argument ", &["gradients", "parameters", "norms", "skipped"]);
    Operator { says, names, states: &[0], tensors: &tensors, call: &call }.try_all(trial);
    let kept = tensors();
    let state = || kept.iter().map(Tensor::shallow_clone).collect();
    let subject = Subject { says, state: &state, good: &|| call(&kept) };
    for threshold in NOT_ABOVE_ZERO {
        trial.refused(&subject, "value", || with(&kept, Normalization::Clip { threshold }));
        trial.refused(&subject, "value", || with(&kept, Normalization::Adaptive { alpha: threshold }));
    }
    let [gradient, parameter, norms, skipped] = [&kept[0], &kept[1], &kept[2], &kept[3]];
    let counted = |blocks: &[i64]| {
        let norms = zeros(&[blocks.len() as i64], Kind::Double);
        bng::normalize(&[gradient], &[parameter], blocks, &norms, skipped, Normalization::Unit)
    };
    // The last two are of sums that come round to 1 again.
    for blocks in [&[2][..], &[], &[1, 0], &[2, -1], &[i64::MAX], &[i64::MAX, i64::MAX, 3], &[i64::MAX, 1, i64::MAX, 2]]
    {
        trial.refused(&subject, "blocks", || counted(blocks));
    }
    let none: &[&Tensor] = &[];
    let unit = Normalization::Unit;
    trial.refused(&subject, "gradients", || bng::normalize(none, none, &[], norms, skipped, unit));
    trial.refused(&subject, "parameters", || bng::normalize(&[gradient], none, &[1], norms, skipped, unit));
    let [twice, parameters] = [[gradient, gradient], [parameter, parameter]];
    trial.refused(&subject, "gradients", || bng::normalize(&twice, &parameters, &[2], norms, skipped, unit));
}

/// Lists of tensors, which are no `Clone`, as one.
trait Concat {
    fn concat_tensors(self) -> Vec<Tensor>;
}

impl Concat for [Vec<Tensor>; 2] {
    fn concat_tensors(self) -> Vec<Tensor> {
        self.into_iter().flatten().collect()
    }
}
