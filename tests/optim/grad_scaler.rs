//! Loss scaling.

use super::*;
use crate::common::*;
use tch::nn::Module;
use tch_svgd::optim::{GradScaler, GradScalerConfig};
use tch_svgd::{Bng, BngConfig, Error, Layers, Svgd, SvgdConfig};

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

/// Unscaled once, whoever asks, and then normalized.
#[test]
fn it_goes_with_other_methods() {
    let vs = nn::VarStore::new(Device::Cpu);
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let bng = Bng::new(svgd.clone(), BngConfig::default()).unwrap();
    let fc = bng.linear(vs.root() / "fc", 4, 3, Default::default());
    let mut optimizer = sgd().build(&vs, 0.1).unwrap();
    let mut scaler = GradScaler::new(config(64.0)).unwrap();
    scaler.tell(svgd.clone()).unwrap();
    let loss = || fc.forward(&noise(1, &[8, 4], Kind::Float)).square().mean(None);

    // The second moments are of the unscaled gradient: the same as without a scale.
    scaler.scaled(&loss()).unwrap().backward();
    let scaled = fc.second_moment().unwrap();
    svgd.reset();
    svgd.set_loss_scale(1.0);
    optimizer.zero_grad();
    loss().backward();
    assert_same_bits(&scaled, &fc.second_moment().unwrap(), "the second moment");
    let plain = fc.ws.grad().copy();
    svgd.reset();
    svgd.set_loss_scale(64.0);
    optimizer.zero_grad();
    scaler.scaled(&loss()).unwrap().backward();
    assert!(scaler.unscale(&optimizer).unwrap() && scaler.unscale(&optimizer).unwrap());
    assert_same_bits(&fc.ws.grad(), &plain, "a gradient that was unscaled once");
    bng.normalize();
    assert!(scaler.step(&mut optimizer).unwrap());
    assert!(scaler.unscale(&optimizer).unwrap(), "a new step");
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
