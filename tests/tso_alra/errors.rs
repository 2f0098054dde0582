//! Every bad argument, setting and file: a typed error that says what to do.

use super::State;
use crate::common::*;
use tch::nn;
use tch::{Device, Kind, Tensor};
use tch_svgd::functional::Convolution;
use tch_svgd::functional::tso_alra::{Factors, Preconditioning, conv2d, inverse_roots, linear};
use tch_svgd::{Damping, Error, Switch, TsoAlra, TsoAlraConfig};

#[test]
fn of_states_that_do_not_fit() {
    let kind = Kind::Float;
    let (input, weight, bias) = (random(1, &[4, 7], kind), leaf(&random(2, &[5, 7], kind)), random(3, &[5], kind));
    let run =
        |bias: Option<&Tensor>, factors: Factors<'_>, arguments| linear(&input, &weight, bias, factors, arguments);
    let arguments = Preconditioning::default();
    let state = State::new(1, 7, 5, kind);
    assert!(run(None, state.factors(), arguments).is_ok());
    // A bias is one more input.
    let words = ["tso_alra::linear: argument 'input_factor'", "[1, 8, 8]", "[1, 7, 7]", "reset()"];
    check(run(Some(&bias), state.factors(), arguments), is_shape, &words);
    let names = ["input_factor", "output_factor", "input_root", "output_root"];
    for (index, name) in names.into_iter().enumerate() {
        let put = |tensor: Tensor| {
            let mut state = State::new(1, 7, 5, kind);
            state.0[index] = tensor;
            run(None, state.factors(), arguments).map(|_| ())
        };
        let argument = format!("argument '{name}'");
        check(put(zeros(&[1, 6, 6], kind)), is_shape, &[&argument]);
        check(put(zeros(&[7, 7], kind)), is_shape, &[&argument]);
        check(put(state.0[index].to_kind(Kind::Double)), is_kind, &[&argument]);
        check(put(state.0[index].copy().set_requires_grad(true)), is_config, &[&argument]);
        check(put(zeros(&[1, 1, 1], kind).expand(state.0[index].size(), false)), is_config, &[&argument]);
        check(put(Tensor::new()), is_config, &[&argument]);
    }
    let groups = Convolution { groups: 2, ..Default::default() };
    let (images, kernel) = (random(1, &[2, 4, 5, 5], kind), leaf(&random(2, &[6, 2, 3, 3], kind)));
    let ungrouped = State::new(1, 18, 6, kind);
    let words = ["tso_alra::conv2d: argument 'input_factor'", "[2, 18, 18]", "a matrix for each group"];
    check(conv2d(&images, &kernel, None, ungrouped.factors(), groups, arguments), is_shape, &words);
}

#[test]
fn of_settings_out_of_their_range() {
    let kind = Kind::Float;
    let (input, weight) = (random(1, &[4, 7], kind), leaf(&random(2, &[5, 7], kind)));
    let state = State::new(1, 7, 5, kind);
    for gamma in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
        let arguments = Preconditioning { gamma, ..Default::default() };
        check(linear(&input, &weight, None, state.factors(), arguments), is_config, &["argument 'gamma'", "(0, 1]"]);
        check(TsoAlra::new(TsoAlraConfig { gamma, ..Default::default() }), is_config, &["setting 'gamma'"]);
    }
    for gradient_scale in [f64::NAN, f64::INFINITY, 1e60] {
        let arguments = Preconditioning { gradient_scale, ..Default::default() };
        let result = linear(&input, &weight, None, state.factors(), arguments);
        check(result, is_config, &["argument 'gradient_scale'"]);
    }
    for eps in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-60] {
        check(TsoAlra::new(TsoAlraConfig { eps, ..Default::default() }), is_config, &["TsoAlra: setting 'eps'"]);
    }
    let config = TsoAlraConfig::default();
    for (name, config) in [
        ("interval", TsoAlraConfig { interval: 0, ..config }),
        ("stats_interval", TsoAlraConfig { stats_interval: 0, ..config }),
        ("warmup", TsoAlraConfig { warmup: 0, ..config }),
    ] {
        check(TsoAlra::new(config), is_config, &[&format!("setting '{name}'"), "at least 1"]);
    }
    let tso = TsoAlra::new(config).unwrap();
    check(tso.set_switch(Switch::Plateau { patience: 0, min_delta: 0.0 }), is_config, &["'patience'", "at least 1"]);
    for min_delta in [-1.0, f64::NAN, f64::INFINITY] {
        check(tso.set_switch(Switch::Plateau { patience: 1, min_delta }), is_config, &["'min_delta'"]);
    }
    for loss_scale in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-60, 1e60] {
        check(tso.f_set_loss_scale(loss_scale), is_config, &["TsoAlra: setting 'loss_scale'"]);
    }
}

#[test]
fn of_decompositions() {
    let float = (Kind::Float, Device::Cpu);
    let [factor, root] = [Tensor::eye(3, float), Tensor::eye(3, float)];
    let run = |factor: &Tensor, root: &Tensor, eps| inverse_roots(&[factor], &[root], eps, Damping::Absolute);
    let op = "tso_alra::_inverse_roots: argument ";
    check(inverse_roots(&[&factor], &[], 1e-6, Damping::Absolute), is_config, &[op, "'roots'", "0"]);
    check(run(&Tensor::zeros([3, 4], float), &root, 1e-6), is_shape, &[op, "'factors'", "[3, 4]"]);
    check(run(&Tensor::zeros([9], float), &root, 1e-6), is_shape, &[op, "'factors'"]);
    check(run(&factor, &Tensor::eye(4, float), 1e-6), is_shape, &[op, "'roots'", "[3, 3]", "[4, 4]"]);
    check(run(&factor.to_kind(Kind::BFloat16), &root, 1e-6), is_kind, &[op, "'factors'"]);
    check(run(&factor, &root.to_kind(Kind::Double), 1e-6), is_kind, &[op, "'roots'"]);
    check(run(&factor, &factor, 1e-6), is_config, &[op, "'roots'", "memory of its own"]);
    for eps in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        check(run(&factor, &root, eps), is_config, &[op, "'eps'"]);
    }
    assert!(inverse_roots(&[], &[], 1e-6, Damping::Absolute).is_ok(), "of no layers");
}

#[test]
fn of_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tso.safetensors");
    let model = |inputs: i64| {
        let vs = nn::VarStore::new(Device::Cpu);
        let tso = TsoAlra::new(TsoAlraConfig::default()).unwrap();
        let fc = seeded(1, || tso.linear(vs.root() / "fc", inputs, 3, Default::default()));
        (vs, tso, fc)
    };
    let pass = |fc: &tch_svgd::TsoAlraLinear, inputs: i64| {
        fc.f_forward(&noise(1, &[5, inputs], Kind::Float)).map(|output| output.square().mean(None).backward())
    };
    let (_vs, tso, fc) = model(4);
    pass(&fc, 4).unwrap();
    tso.save(&path).unwrap();
    // Of another size: an error of the first pass, as the weight may have been replaced.
    let (_other, wide, layer) = model(6);
    wide.load(&path).unwrap();
    check(pass(&layer, 6), is_shape, &["layer 'fc'", "'input_factor'", "[1, 7, 7]", "[1, 5, 5]", "reset()"]);
    wide.reset();
    pass(&layer, 6).unwrap();

    let is_state = |error: &Error| matches!(error, Error::State { .. });
    let write = |tensors: &[(&str, Tensor)]| Tensor::write_safetensors(tensors, &path).unwrap();
    let float = (Kind::Float, Device::Cpu);
    // Without the metadata it is none of ours.
    write(&[("fc.input_factor", Tensor::eye(5, float))]);
    check(tso.load(&path), is_state, &["TsoAlra::save", "Kronecker"]);
}
