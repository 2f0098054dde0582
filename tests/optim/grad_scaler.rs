//! Loss scaling.

use super::*;
use crate::common::*;
use tch::nn::Module;
use tch_svgd::optim::{GradScaler, GradScalerConfig};
use tch_svgd::{Bng, BngConfig, Layers, Svgd, SvgdConfig};

fn config(init_scale: f64) -> GradScalerConfig {
    GradScalerConfig { init_scale, growth_interval: 3, ..Default::default() }
}

/// Powers of two are of no consequence.
#[test]
fn a_scaled_training_is_the_unscaled_one_to_the_bit() {
    let (plain, net, mut optimizer) = model(adam(), Kind::Float);
    let (scaled, scaled_net, mut scaled_optimizer) = model(adam(), Kind::Float);
    let mut scaler = GradScaler::new(config(1024.0)).unwrap();
    for number in 0..7 {
        let loss = |net: &nn::Sequential| net.forward(&noise(number, &[8, 4], Kind::Float)).square().mean(None);
        optimizer.backward_step(&loss(&net));
        assert!(scaler.backward_step(&mut scaled_optimizer, &loss(&scaled_net)).unwrap());
    }
    assert_eq!(scaler.scale(), 4096.0, "grown twice in seven steps");
    for (scaled, plain) in scaled.trainable_variables().iter().zip(plain.trainable_variables()) {
        assert_same_bits(scaled, &plain, "a weight");
    }
}

#[test]
fn a_step_that_is_not_finite_is_left_out() {
    let (vs, net, mut optimizer) = model(sgd(), Kind::Float);
    let mut scaler = GradScaler::new(config(8.0)).unwrap();
    let loss = || net.forward(&noise(1, &[8, 4], Kind::Float)).square().mean(None);
    assert!(scaler.backward_step(&mut optimizer, &loss()).unwrap());
    let before: Vec<_> = vs.trainable_variables().iter().map(Tensor::copy).collect();
    assert!(!scaler.backward_step(&mut optimizer, &(loss() * f64::INFINITY)).unwrap());
    for (after, before) in vs.trainable_variables().iter().zip(&before) {
        assert_same_bits(after, before, "a weight");
    }
    assert_eq!(scaler.scale(), 4.0);
    // The good steps are counted anew.
    for expected in [4.0, 4.0, 8.0] {
        assert!(scaler.backward_step(&mut optimizer, &loss()).unwrap());
        assert_eq!(scaler.scale(), expected);
    }
}

/// Unscaled once, whoever asks, and then normalized; and the second moments are of the unscaled gradient, at every scale.
#[test]
fn it_goes_with_other_methods() {
    let vs = nn::VarStore::new(Device::Cpu);
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let bng = Bng::new(svgd.clone(), BngConfig::default()).unwrap();
    let fc = seeded(0, || bng.linear(vs.root() / "fc", 4, 3, Default::default()));
    let mut optimizer = sgd().build(&vs, 0.0).unwrap();
    let loss = || fc.forward(&noise(1, &[8, 4], Kind::Float)).square().mean(None);
    loss().backward();
    let (moment, gradient) = (fc.second_moment().unwrap(), fc.ws.grad().copy());

    let mut scaler = GradScaler::new(GradScalerConfig { growth_interval: 1, ..config(64.0) }).unwrap();
    scaler.tell(bng.clone()).unwrap();
    for expected in [64.0, 128.0, 256.0] {
        assert_eq!(scaler.scale(), expected);
        svgd.reset();
        optimizer.zero_grad();
        scaler.scaled(&loss()).unwrap().backward();
        assert!(scaler.unscale(&mut optimizer).unwrap() && scaler.unscale(&mut optimizer).unwrap());
        assert_same_bits(&fc.second_moment().unwrap(), &moment, "the second moment");
        assert_same_bits(&fc.ws.grad(), &gradient, "a gradient that was unscaled once");
        bng.normalize();
        let normalized = fc.ws.grad().copy();
        assert!(scaler.step(&mut optimizer).unwrap());
        assert_same_bits(&fc.ws.grad(), &normalized, "what a step has divided no more");
        scaler.update().unwrap();
    }
    assert!(!scaler.backward_step(&mut optimizer, &(loss() * f64::NAN)).unwrap());
    assert_eq!(scaler.scale(), 256.0);
    svgd.reset();
    scaler.scaled(&loss()).unwrap().backward();
    assert_same_bits(&fc.second_moment().unwrap(), &moment, "the second moment after a smaller scale");
}

/// A loss whose gradients two optimizers apply: each divides its own, and the scale changes after both.
#[test]
fn optimizers_share_a_scale() {
    let (a, net_a, mut optimizer_a) = model(sgd(), Kind::Float);
    let (b, net_b, mut optimizer_b) = model(adam(), Kind::Float);
    let (plain_a, plain_net_a, mut plain_optimizer_a) = model(sgd(), Kind::Float);
    let (plain_b, plain_net_b, mut plain_optimizer_b) = model(adam(), Kind::Float);
    let mut scaler = GradScaler::new(GradScalerConfig { growth_interval: 1, ..config(64.0) }).unwrap();
    for number in 0..4 {
        let xs = noise(number, &[8, 4], Kind::Float);
        let loss = |a: &nn::Sequential, b: &nn::Sequential| (a.forward(&xs) + b.forward(&xs)).square().mean(None);
        plain_optimizer_a.zero_grad();
        plain_optimizer_b.backward_step(&loss(&plain_net_a, &plain_net_b));
        plain_optimizer_a.step();
        optimizer_a.zero_grad();
        optimizer_b.zero_grad();
        scaler.scaled(&loss(&net_a, &net_b)).unwrap().backward();
        scaler.unscale(&mut optimizer_a).unwrap();
        assert!(scaler.step(&mut optimizer_b).unwrap() && scaler.step(&mut optimizer_a).unwrap());
        scaler.update().unwrap();
        assert_eq!(scaler.scale(), 64.0 * 2f64.powi(number as i32 + 1), "one good step, of two optimizers");
    }
    for (scaled, plain) in [(a, plain_a), (b, plain_b)] {
        for (scaled, plain) in scaled.trainable_variables().iter().zip(plain.trainable_variables()) {
            assert_same_bits(scaled, &plain, "a weight");
        }
    }
}

/// An unscale that no step has followed, and variables that the optimizer has not seen yet.
#[test]
fn new_gradients_are_divided_whatever_has_been_before() {
    let vs = nn::VarStore::new(Device::Cpu);
    let first = vs.root().ones("first", &[2]);
    let mut optimizer = Sgd::default().build(&vs, 1.0).unwrap();
    let mut scaler = GradScaler::new(config(1024.0)).unwrap();
    scaler.scaled(&first.sum(Kind::Float)).unwrap().backward();
    scaler.unscale(&mut optimizer).unwrap();
    let late = vs.root().ones("late", &[2]);
    assert!(scaler.backward_step(&mut optimizer, &(&first + &late).sum(Kind::Float)).unwrap());
    assert_eq!((values(&first), values(&late)), (vec![0.0; 2], vec![0.0; 2]), "a step of one");
}

#[test]
fn gradients_of_half_precision_are_refused() {
    let (vs, w) = variable(&[1.0, 2.0], Kind::Half);
    let mut optimizer = Sgd::default().build(&vs, 1.0).unwrap();
    let mut scaler = GradScaler::new(config(1024.0)).unwrap();
    let error = scaler.backward_step(&mut optimizer, &w.sum(Kind::Half)).unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)) && error.to_string().contains("Half"), "{error}");
    assert_eq!(values(&w), [1.0, 2.0]);
    let loss = scaler.scaled(&Tensor::from(100.0).to_kind(Kind::Half)).unwrap();
    assert_eq!((loss.kind(), loss.double_value(&[])), (Kind::Float, 102_400.0));
}

#[test]
fn its_state_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scaler");
    let (_, net, mut optimizer) = model(sgd(), Kind::Float);
    let mut scaler = GradScaler::new(config(8.0)).unwrap();
    let loss = || net.forward(&noise(1, &[8, 4], Kind::Float)).square().mean(None);
    (0..5).for_each(|_| assert!(scaler.backward_step(&mut optimizer, &loss()).unwrap()));
    scaler.save(&path).unwrap();
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let mut again = GradScaler::new(config(2.0)).unwrap();
    again.tell(svgd).unwrap();
    again.load(&path).unwrap();
    assert_eq!(again.scale(), 16.0);
    assert!(format!("{again:?}").contains("init_scale: 8.0"), "{again:?}");
    assert!(again.backward_step(&mut optimizer, &loss()).unwrap());
    assert_eq!(again.scale(), 32.0, "the good steps go on");
    optimizer.save(&path).unwrap();
    assert!(matches!(again.load(&path).unwrap_err(), Error::State { .. }));
    assert_eq!(again.scale(), 32.0);
}

#[test]
fn bad_settings_are_errors() {
    let good = GradScalerConfig::default();
    for (bad, name) in [
        (GradScalerConfig { init_scale: 0.0, ..good }, "init_scale"),
        (GradScalerConfig { init_scale: f64::NAN, ..good }, "init_scale"),
        (GradScalerConfig { growth_factor: 1.0, ..good }, "growth_factor"),
        (GradScalerConfig { backoff_factor: 1.0, ..good }, "backoff_factor"),
        (GradScalerConfig { growth_interval: 0, ..good }, "growth_interval"),
    ] {
        let error = GradScaler::new(bad).unwrap_err();
        assert!(matches!(error, Error::Config(_)) && error.to_string().contains(name), "{error}");
    }
}
