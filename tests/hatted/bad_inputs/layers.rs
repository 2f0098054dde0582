//! Bad input to layers: their making, their settings, their passes; and to what stands beside them.

use super::{Subject, Trial};
use crate::common::*;
use tch::{Device, Kind, Tensor, nn};
use tch_svgd::hatted::{Hatted, HattedConv2D, HattedLinear, Method};
use tch_svgd::testing::to_meta;
use tch_svgd::{
    BatchGradient, BlockNormalizer, Blocks, Bng, BngConfig, CudaGraph, Granularity, Normalization, Plain, Result, Svgd,
    SvgdConfig, Switch, TsoAlra, TsoAlraConfig, autocast, backward,
};

const NOT_ABOVE_ZERO: [f64; 5] = [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

fn f(size: &[i64]) -> Tensor {
    zeros(size, Kind::Float)
}

pub fn try_all(trial: &mut Trial) {
    // Those by the example ask an input for its size before any check.
    let batch_gradient = BatchGradient::PerExample;
    for config in [
        SvgdConfig { batch_gradient, ..Default::default() },
        SvgdConfig { granularity: Granularity::Channel, ..Default::default() },
    ] {
        of_method(trial, "svgd", &Svgd::new(config).unwrap());
    }
    of_method(trial, "tso_alra", &TsoAlra::new(TsoAlraConfig { batch_gradient, ..Default::default() }).unwrap());
    settings(trial);
    beside(trial);
}

fn pass(forward: impl FnOnce(&Tensor) -> Result<Tensor>, xs: &Tensor) -> Result<()> {
    backward(&forward(xs)?.square().sum(Kind::Float))
}

fn of_method<M: Method>(trial: &mut Trial, name: &str, hatted: &Hatted<M>) {
    let vs = nn::VarStore::new(Device::Cpu);
    let config = nn::ConvConfig { groups: 2, ..Default::default() };
    let fc = seeded(1, || hatted.linear(vs.root() / "fc", 5, 4, Default::default()));
    let conv = seeded(1, || hatted.conv2d(vs.root() / "conv", 2, 4, 3, config));
    let (rows, images) = (noise(2, &[6, 5], Kind::Float), noise(3, &[2, 2, 6, 6], Kind::Float));
    let good = || {
        pass(|xs| fc.f_forward(xs), &rows)?;
        pass(|xs| conv.f_forward(xs), &images)
    };
    good().unwrap();
    // The names of variables would number a layer that was made in vain.
    let state = || {
        let mut state = [fc.state().unwrap(), conv.state().unwrap()].into_iter().flatten().collect::<Vec<_>>();
        let mut variables: Vec<_> = vs.variables().into_iter().collect();
        variables.sort_by(|a, b| a.0.cmp(&b.0));
        state.extend(variables.into_iter().map(|(_, variable)| variable));
        state
    };
    making(trial, &vs, hatted, &Subject { says: "argument ", state: &state, good: &good });

    // Passes: what comes in.
    let says = [format!("layer 'fc': {name}::linear: argument "), format!("layer 'conv': {name}::conv2d: argument ")];
    let of_fc = Subject { says: &says[0], state: &state, good: &good };
    let of_conv = Subject { says: &says[1], state: &state, good: &good };
    for xs in bad_inputs(&[6, 5]) {
        trial.refused(&of_fc, "", || pass(|xs| fc.f_forward(xs), &xs));
        // Of the original itself, which takes these.
        if !(xs.is_sparse() || is_meta(&xs)) {
            trial.refused(&of_fc, "", || tch::no_grad(|| fc.f_forward(&xs)));
        }
    }
    for xs in bad_inputs(&[2, 2, 6, 6]).into_iter().chain([f(&[2, 2, 2, 6]), f(&[2, 3, 6, 6]), f(&[6, 6])]) {
        trial.refused(&of_conv, "", || pass(|xs| conv.f_forward(xs), &xs));
        trial.refused(&of_conv, "", || tch::no_grad(|| conv.f_forward(&xs)));
    }

    // A weight or a bias that was replaced by what is none.
    let spoiled = |fc: &mut HattedLinear<M>, conv: &mut HattedConv2D<M>, bias: bool, tensor: &Tensor| {
        if bias {
            (fc.bs, conv.bs) = (Some(tensor.shallow_clone()), Some(tensor.shallow_clone()));
        } else {
            (fc.ws, conv.ws) = (tensor.shallow_clone(), tensor.shallow_clone());
        }
    };
    let (mut bad_fc, mut bad_conv) = (
        seeded(1, || hatted.linear(vs.root() / "bad_fc", 5, 4, Default::default())),
        seeded(1, || hatted.conv2d(vs.root() / "bad_conv", 2, 4, 3, config)),
    );
    let says =
        [format!("layer 'bad_fc': {name}::linear: argument "), format!("layer 'bad_conv': {name}::conv2d: argument ")];
    let of_fc = Subject { says: &says[0], ..of_fc };
    let of_conv = Subject { says: &says[1], ..of_conv };
    let kept = (bad_fc.ws.shallow_clone(), bad_conv.ws.shallow_clone());
    for bias in [false, true] {
        for tensor in bad_parameters() {
            spoiled(&mut bad_fc, &mut bad_conv, bias, &tensor);
            trial.refused(&of_fc, "", || pass(|xs| bad_fc.f_forward(xs), &rows));
            trial.refused(&of_conv, "", || pass(|xs| bad_conv.f_forward(xs), &images));
            (bad_fc.ws, bad_conv.ws) = (kept.0.shallow_clone(), kept.1.shallow_clone());
        }
    }
}

/// Inputs that are none to a layer whose good one has this size.
fn bad_inputs(size: &[i64]) -> Vec<Tensor> {
    let mut wide = size.to_vec();
    wide[1] += 1;
    vec![
        Tensor::new(),
        f(&[]),
        f(&wide),
        zeros(size, Kind::Int64),
        zeros(size, Kind::Bool),
        zeros(size, Kind::ComplexFloat),
        zeros(size, Kind::Double),
        zeros(size, Kind::Half),
        f(size).to_sparse_sparse_dim(size.len() as i64),
        to_meta(&f(size)).unwrap(),
    ]
}

/// Neither a weight nor a bias.
fn bad_parameters() -> Vec<Tensor> {
    vec![
        Tensor::new(),
        leaf(&f(&[])),
        leaf(&f(&[7])),
        leaf(&f(&[2, 2, 2])),
        leaf(&f(&[0, 0])),
        leaf(&zeros(&[4, 5], Kind::Half)),
        zeros(&[4, 5], Kind::Int64),
        zeros(&[4, 5], Kind::ComplexFloat),
        f(&[4, 5]).to_sparse_sparse_dim(2),
    ]
}

/// A tensor without data, for whose device tch has no name of its own.
fn is_meta(tensor: &Tensor) -> bool {
    tensor.defined() && !matches!(tensor.device(), Device::Cpu | Device::Cuda(_))
}

fn making<M: Method>(trial: &mut Trial, vs: &nn::VarStore, hatted: &Hatted<M>, subject: &Subject<'_>) {
    let p = vs.root() / "block" / "layer";
    for bad in [0, -1, i64::MIN] {
        trial.refused(subject, "in_dim", || hatted.f_linear(&p, bad, 3, Default::default()));
        trial.refused(subject, "out_dim", || hatted.f_linear(&p, 3, bad, Default::default()));
        let config = nn::ConvConfig::default;
        let mut conv = |name: &str, in_dim, out_dim, ksize, config| {
            trial.refused(subject, name, || hatted.f_conv2d(&p, in_dim, out_dim, ksize, config));
        };
        conv("in_dim", bad, 4, 3, config());
        conv("out_dim", 4, bad, 3, config());
        conv("ksize", 4, 4, bad, config());
        conv("stride", 4, 4, 3, nn::ConvConfig { stride: bad, ..config() });
        conv("dilation", 4, 4, 3, nn::ConvConfig { dilation: bad, ..config() });
        conv("groups", 4, 4, 3, nn::ConvConfig { groups: bad, ..config() });
        conv("padding", 4, 4, 3, nn::ConvConfig { padding: bad.min(-1), ..config() });
    }
    for (in_dim, out_dim) in [(4, 6), (6, 4)] {
        let config = nn::ConvConfig { groups: 3, ..Default::default() };
        trial.refused(subject, "groups", || hatted.f_conv2d(&p, in_dim, out_dim, 3, config));
    }
    // A name that a layer of another model has.
    let other = nn::VarStore::new(Device::Cpu);
    let named = Subject { says: "layer ", ..*subject };
    trial.refused(&named, "fc", || hatted.f_linear(other.root() / "fc", 5, 4, Default::default()));

    let setting = Subject { says: "setting ", ..*subject };
    for bad in NOT_ABOVE_ZERO.into_iter().chain([1e-60, 1e60]) {
        trial.refused(&setting, "loss_scale", || hatted.f_set_loss_scale(bad));
    }
    for min_delta in [-1.0, f64::NAN, f64::INFINITY] {
        trial.refused(&setting, "min_delta", || hatted.set_switch(Switch::Plateau { patience: 1, min_delta }));
    }
    trial.refused(&setting, "patience", || hatted.set_switch(Switch::Plateau { patience: 0, min_delta: 0.0 }));
}

fn settings(trial: &mut Trial) {
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let state = || vec![Tensor::from(svgd.config().scale)];
    let subject =
        Subject { says: "Svgd: setting ", state: &state, good: &|| Svgd::new(SvgdConfig::default()).map(drop) };
    let good = SvgdConfig::default();
    for bad in [-1.0, f64::NAN, f64::INFINITY, 1e39] {
        trial.refused(&subject, "scale", || Svgd::new(SvgdConfig { scale: bad, ..good }));
        trial.refused(&subject, "scale", || svgd.f_set_scale(bad));
    }
    for bad in [-0.1, 1.0, f64::NAN, f64::INFINITY, 1.0 - 1e-12] {
        trial.refused(&subject, "decay", || Svgd::new(SvgdConfig { decay: bad, ..good }));
    }
    for bad in NOT_ABOVE_ZERO.into_iter().chain([1e-60]) {
        trial.refused(&subject, "eps", || Svgd::new(SvgdConfig { eps: bad, ..good }));
    }

    let good = TsoAlraConfig::default();
    let subject = Subject { says: "TsoAlra: setting ", state: &Vec::new, good: &|| TsoAlra::new(good).map(drop) };
    for gamma in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
        trial.refused(&subject, "gamma", || TsoAlra::new(TsoAlraConfig { gamma, ..good }));
    }
    for eps in NOT_ABOVE_ZERO.into_iter().chain([1e-60]) {
        trial.refused(&subject, "eps", || TsoAlra::new(TsoAlraConfig { eps, ..good }));
    }
    trial.refused(&subject, "interval", || TsoAlra::new(TsoAlraConfig { interval: 0, ..good }));
    trial.refused(&subject, "stats_interval", || TsoAlra::new(TsoAlraConfig { stats_interval: 0, ..good }));
    trial.refused(&subject, "warmup", || TsoAlra::new(TsoAlraConfig { warmup: 0, ..good }));

    let vs = nn::VarStore::new(Device::Cpu);
    let w = vs.root().var("w", &[2], nn::Init::Const(1.0));
    let _ = vs.root().sub("other").add("w", w.shallow_clone(), true);
    let state = || vec![w.shallow_clone()];
    let good = || BlockNormalizer::new(&vs, BngConfig { blocks: Blocks::PerLayer, ..Default::default() }).map(drop);
    let subject = Subject { says: "Bng: setting ", state: &state, good: &good };
    for bad in NOT_ABOVE_ZERO.into_iter().chain([1e-40, 1e60]) {
        for (name, normalization) in
            [("alpha", Normalization::Adaptive { alpha: bad }), ("threshold", Normalization::Clip { threshold: bad })]
        {
            let config = BngConfig { normalization, ..Default::default() };
            trial.refused(&subject, name, || BlockNormalizer::new(&vs, config));
            trial.refused(&subject, name, || Bng::new(Plain, config));
        }
    }
}

/// Autocast and CUDA graphs, of devices and kinds that they do not know.
fn beside(trial: &mut Trial) {
    let good = || autocast(Device::Cpu, Kind::BFloat16, || ());
    let subject = Subject { says: "autocast: argument ", state: &Vec::new, good: &good };
    for kind in [Kind::Float, Kind::Double, Kind::Int64, Kind::Bool, Kind::ComplexHalf] {
        trial.refused(&subject, "kind", || autocast(Device::Cpu, kind, || panic!("it ran")));
    }
    for device in [Device::Mps, Device::Vulkan] {
        trial.refused(&subject, "device", || autocast(device, Kind::BFloat16, || panic!("it ran")));
    }
    let subject = Subject { says: "CudaGraph::capture: argument ", state: &Vec::new, good: &good };
    for device in [Device::Cpu, Device::Mps, Device::Vulkan, Device::Cuda(99), Device::Cuda(usize::MAX)] {
        trial.refused(&subject, "device", || CudaGraph::capture(device, || panic!("it ran")).map(drop));
    }
}
