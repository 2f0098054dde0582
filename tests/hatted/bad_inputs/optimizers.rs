//! Bad input to optimizers, the loss scaler and schedules.

use super::{Subject, Trial};
use crate::common::*;
use std::cell::RefCell;
use tch::{Device, Kind, Tensor, nn};
use tch_svgd::optim::{AdaGrad, Adam, AdamW, GradScaler, GradScalerConfig, Optim, Plateau, RmsProp, Rule, Sgd};
use tch_svgd::{Result, Svgd, SvgdConfig};

const NEGATIVE: [f64; 4] = [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
const NO_DECAY: [f64; 4] = [-0.1, 1.0, f64::NAN, f64::INFINITY];

pub fn try_all(trial: &mut Trial) {
    let sgd = Sgd { momentum: 0.9, ..Default::default() };
    let mut bad = Vec::new();
    for value in NEGATIVE {
        bad.push(("momentum", Sgd { momentum: value, ..sgd }));
        bad.push(("weight_decay", Sgd { weight_decay: value, ..sgd }));
    }
    for dampening in [f64::NAN, f64::INFINITY] {
        bad.push(("dampening", Sgd { dampening, ..sgd }));
    }
    bad.push(("nesterov", Sgd { nesterov: true, ..Default::default() }));
    bad.push(("nesterov", Sgd { nesterov: true, dampening: 0.5, ..sgd }));
    of_rule(trial, sgd, &bad);

    let adam = Adam { amsgrad: true, ..Default::default() };
    let mut bad = Vec::new();
    for value in NO_DECAY {
        bad.push(("beta1", Adam { beta1: value, ..adam }));
        bad.push(("beta2", Adam { beta2: value, ..adam }));
    }
    for value in NEGATIVE {
        bad.push(("eps", Adam { eps: value, ..adam }));
        bad.push(("weight_decay", Adam { weight_decay: value, ..adam }));
    }
    of_rule(trial, adam, &bad);

    let adamw = AdamW::default();
    let bad = [
        ("beta1", AdamW { beta1: 1.0, ..adamw }),
        ("beta2", AdamW { beta2: f64::NAN, ..adamw }),
        ("eps", AdamW { eps: -1.0, ..adamw }),
        ("weight_decay", AdamW { weight_decay: f64::INFINITY, ..adamw }),
    ];
    of_rule(trial, adamw, &bad);

    let adagrad = AdaGrad::default();
    let mut bad = Vec::new();
    for value in NEGATIVE {
        bad.push(("lr_decay", AdaGrad { lr_decay: value, ..adagrad }));
        bad.push(("eps", AdaGrad { eps: value, ..adagrad }));
        bad.push(("weight_decay", AdaGrad { weight_decay: value, ..adagrad }));
        bad.push(("initial_accumulator_value", AdaGrad { initial_accumulator_value: value, ..adagrad }));
    }
    of_rule(trial, adagrad, &bad);

    let rmsprop = RmsProp { momentum: 0.9, centered: true, ..Default::default() };
    let mut bad = Vec::new();
    for value in NO_DECAY {
        bad.push(("alpha", RmsProp { alpha: value, ..rmsprop }));
    }
    for value in NEGATIVE {
        bad.push(("eps", RmsProp { eps: value, ..rmsprop }));
        bad.push(("weight_decay", RmsProp { weight_decay: value, ..rmsprop }));
        bad.push(("momentum", RmsProp { momentum: value, ..rmsprop }));
    }
    of_rule(trial, rmsprop, &bad);

    scaler(trial);
    let subject = Subject { says: "Plateau: setting ", state: &Vec::new, good: &|| Plateau::new(0.1, 1).map(drop) };
    for gamma in [0.0, 1.0, -1.0, f64::NAN, f64::INFINITY] {
        trial.refused(&subject, "gamma", || Plateau::new(gamma, 1));
    }
}

/// A model of one vector, in group 1 a second one.
fn model() -> (nn::VarStore, [Tensor; 2]) {
    let vs = nn::VarStore::new(Device::Cpu);
    let first = vs.root().var("first", &[4], nn::Init::Const(1.0));
    let second = vs.root().set_group(1).var("second", &[4], nn::Init::Const(1.0));
    (vs, [first, second])
}

fn step<R: Rule>(optimizer: &mut Optim<R>, variables: &[Tensor; 2]) -> Result<()> {
    optimizer.f_backward_step(&(&variables[0] * &variables[1]).square().sum(Kind::Float))
}

fn of_rule<R: Rule>(trial: &mut Trial, rule: R, bad: &[(&'static str, R)]) {
    let (vs, variables) = model();
    let optimizer = RefCell::new(rule.build(&vs, 0.01).unwrap());
    step(&mut optimizer.borrow_mut(), &variables).unwrap();
    let state = || {
        let mut optimizer = optimizer.borrow_mut();
        let mut kept: Vec<_> = variables.iter().map(Tensor::shallow_clone).collect();
        for (group, name) in ["first", "second"].into_iter().enumerate() {
            kept.extend(rule.state().into_iter().filter_map(|state| optimizer.state(name, state)));
            kept.push(Tensor::from(optimizer.settings(group).unwrap().1));
        }
        kept
    };
    let good = || step(&mut optimizer.borrow_mut(), &variables);
    let says = format!("{}: setting ", R::NAME);
    let subject = Subject { says: &says, state: &state, good: &good };
    for (name, settings) in bad {
        trial.refused(&subject, name, || settings.build(&vs, 0.1));
        trial.refused(&subject, name, || optimizer.borrow_mut().set_settings(1, *settings));
    }
    for lr in [-0.1, f64::NAN, f64::INFINITY, 1e60] {
        trial.refused(&subject, "lr", || rule.build(&vs, lr));
        trial.refused(&subject, "lr", || optimizer.borrow_mut().f_set_lr(lr));
        trial.refused(&subject, "lr", || optimizer.borrow_mut().f_set_lr_group(1, lr));
    }
    let says = format!("{}: argument ", R::NAME);
    let argument = Subject { says: &says, ..subject };
    for group in [2, usize::MAX] {
        trial.refused(&argument, "group", || optimizer.borrow_mut().f_set_lr_group(group, 0.1));
        trial.refused(&argument, "group", || optimizer.borrow_mut().settings(group));
        trial.refused(&argument, "group", || optimizer.borrow_mut().set_settings(group, rule));
    }

    // A sparse gradient, which no kernel of ours takes.
    let (vs, table) = (nn::VarStore::new(Device::Cpu), nn::EmbeddingConfig { sparse: true, ..Default::default() });
    let table = seeded(1, || nn::embedding(vs.root() / "table", 5, 3, table));
    let sparse = RefCell::new(rule.build(&vs, 0.1).unwrap());
    let loss = || {
        use nn::Module;
        table.forward(&Tensor::from_slice(&[1i64, 3])).sum(Kind::Float)
    };
    let state = || vec![table.ws.shallow_clone()];
    let good = || sparse.borrow_mut().f_backward_step(&table.ws.square().sum(Kind::Float));
    let says = format!("{}: gradient of ", R::NAME);
    let subject = Subject { says: &says, state: &state, good: &good };
    trial.refused(&subject, "table.weight", || sparse.borrow_mut().f_backward_step(&loss()));
}

fn scaler(trial: &mut Trial) {
    let good = GradScalerConfig::default();
    let subject = Subject { says: "GradScaler: setting ", state: &Vec::new, good: &|| GradScaler::new(good).map(drop) };
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e60, 1e-60] {
        trial.refused(&subject, "init_scale", || GradScaler::new(GradScalerConfig { init_scale: bad, ..good }));
    }
    for bad in [1.0, -2.0, f64::NAN, f64::INFINITY] {
        trial.refused(&subject, "growth_factor", || GradScaler::new(GradScalerConfig { growth_factor: bad, ..good }));
    }
    for bad in [0.0, 1.0, f64::NAN, f64::INFINITY] {
        let config = GradScalerConfig { backoff_factor: bad, ..good };
        trial.refused(&subject, "backoff_factor", || GradScaler::new(config));
    }
    let config = GradScalerConfig { growth_interval: 0, ..good };
    trial.refused(&subject, "growth_interval", || GradScaler::new(config));

    // Gradients that it cannot divide, and losses that have none.
    let (vs, variables) = model();
    let mut optimizer = Sgd::default().build(&vs, 0.1).unwrap();
    let scaler = RefCell::new(GradScaler::new(good).unwrap());
    scaler.borrow_mut().tell(Svgd::new(SvgdConfig::default()).unwrap()).unwrap();
    let state = || vec![variables[0].shallow_clone(), Tensor::from(scaler.borrow().scale())];
    let optimizer_of_halves = {
        let halves = nn::VarStore::new(Device::Cpu);
        let half = halves.root().add("half", zeros(&[4], Kind::Half), true);
        half.square().sum(Kind::Half).backward();
        Sgd::default().build(&halves, 0.1).unwrap()
    };
    let halves = RefCell::new(optimizer_of_halves);
    let good = {
        let optimizer = RefCell::new(&mut optimizer);
        let (variables, scaler) = (&variables, &scaler);
        move || {
            let loss = (&variables[0] * &variables[1]).square().sum(Kind::Float);
            scaler.borrow_mut().backward_step(&mut **optimizer.borrow_mut(), &loss).map(drop)
        }
    };
    let subject = Subject { says: "GradScaler: argument ", state: &state, good: &good };
    trial.refused(&subject, "optimizer", || scaler.borrow_mut().unscale(&mut *halves.borrow_mut()));
    trial.refused(&subject, "optimizer", || scaler.borrow_mut().step(&mut *halves.borrow_mut()));
}
