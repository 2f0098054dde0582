//! When second moments, roots and stages change; and that a training goes on from its files to the bit.

use crate::common::*;
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use tch_svgd::testing::with_memory;
use tch_svgd::{Error, Stage, Svgd, SvgdConfig, Switch, TsoAlra, TsoAlraConfig};

struct Model {
    vs: nn::VarStore,
    tso: TsoAlra,
    conv: tch_svgd::TsoAlraConv2D,
    fc: tch_svgd::TsoAlraLinear,
    sgd: nn::Optimizer,
}

impl Model {
    fn new(config: TsoAlraConfig) -> Self {
        let vs = nn::VarStore::new(Device::Cpu);
        let tso = TsoAlra::new(config).unwrap();
        let conv = seeded(1, || tso.conv2d(vs.root() / "conv", 2, 4, 3, Default::default()));
        let fc = seeded(2, || tso.linear(vs.root() / "fc", 4, 3, Default::default()));
        let sgd = nn::Sgd::default().build(&vs, 0.05).unwrap();
        Model { vs, tso, conv, fc, sgd }
    }

    fn loss(&self, step: i64) -> Tensor {
        let images = noise(100 + step, &[8, 2, 6, 6], Kind::Float);
        let labels = Tensor::from_slice(&[0i64, 1, 2, 0, 1, 2, 0, 1]);
        let features = self.conv.forward(&images).relu().mean_dim([2i64, 3].as_slice(), false, Kind::Float);
        self.fc.forward(&features).cross_entropy_for_logits(&labels)
    }

    fn step(&mut self, step: i64) -> Stage {
        let loss = self.loss(step);
        self.sgd.backward_step(&loss);
        self.tso.step()
    }

    /// `A`, `B` and their roots.
    fn state(&self) -> Vec<Tensor> {
        self.fc.state().unwrap()
    }
}

#[test]
fn second_moments_and_roots_change_at_their_intervals() {
    // After the step that ends the warm-up, and at each multiple of the interval behind it.
    for (interval, warmup, decompositions) in [(5, 2, &[2, 5, 10][..]), (3, 7, &[7, 9, 12])] {
        let mut model = Model::new(TsoAlraConfig { interval, stats_interval: 3, warmup, ..Default::default() });
        let mut before: Option<Vec<Tensor>> = None;
        for step in 0..14 {
            model.step(step);
            let now = model.state();
            if let Some(before) = before {
                let changed = |index: usize| !same_bits(&before[index], &now[index]);
                let updates = step < warmup as i64 || (step + 1) % 3 == 0;
                assert_eq!([changed(0), changed(1)], [updates; 2], "A and B in step {step}");
                let decomposes = decompositions.contains(&(step + 1));
                assert_eq!([changed(2), changed(3)], [decomposes; 2], "roots after step {step}, warm-up {warmup}");
            }
            before = Some(now);
        }
    }
}

#[test]
fn gradients_are_plain_before_the_first_decomposition_and_after_the_switch() {
    let mut model = Model::new(TsoAlraConfig { warmup: 3, interval: 5, ..Default::default() });
    model.tso.set_switch(Switch::AtStep(6)).unwrap();
    for step in 0..9 {
        let gradient =
            |model: &Model| Tensor::run_backward(&[model.loss(step)], &[&model.conv.ws, &model.fc.ws], false, false);
        let state = model.fc.state();
        let hatted = gradient(&model);
        model.tso.set_enabled(false);
        let plain = gradient(&model);
        model.tso.set_enabled(true);
        for (hatted, plain) in hatted.iter().zip(&plain) {
            assert_eq!(same_bits(hatted, plain), !(3..6).contains(&step), "step {step}");
        }
        if step >= 6 {
            for (before, after) in state.unwrap().iter().zip(&model.state()) {
                assert_same_bits(before, after, "no statistics after the switch");
            }
        }
        let stage = model.step(step);
        assert_eq!(stage, if step + 1 >= 6 { Stage::Plain } else { Stage::Method }, "after step {step}");
        assert_eq!(model.tso.stage(), stage);
        assert_eq!(model.tso.progress().steps, step as u64 + 1);
    }
}

#[test]
fn a_plateau_is_a_least_loss_that_does_not_change() {
    let tso = TsoAlra::new(TsoAlraConfig::default()).unwrap();
    tso.set_switch(Switch::Plateau { patience: 3, min_delta: 0.1 }).unwrap();
    // The third in a row that is not below 0.5 by more than 0.1; what is no number is no better.
    let losses = [f64::NAN, 1.0, 0.5, 0.45, 0.39, 0.38, 0.5, f64::INFINITY];
    let stages = losses.map(|loss| tso.observe(loss));
    assert_eq!(stages.iter().position(|&stage| stage == Stage::Plain), Some(7), "{stages:?}");
    assert_eq!(tso.progress().least_loss, 0.39);
    assert_eq!(tso.observe(0.0), Stage::Plain, "for good");

    let never = TsoAlra::new(TsoAlraConfig::default()).unwrap();
    assert!(losses.iter().all(|&loss| never.observe(loss) == Stage::Method));
}

#[test]
fn a_switch_serves_svgd_too() {
    let vs = nn::VarStore::new(Device::Cpu);
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let fc = seeded(1, || svgd.linear(vs.root(), 4, 3, Default::default()));
    svgd.set_switch(Switch::AtStep(1)).unwrap();
    let input = noise(2, &[5, 4], Kind::Float);
    let gradient =
        |output: Tensor| Tensor::run_backward(&[output.square().mean(None)], &[&fc.ws], false, false).remove(0);
    let plain = gradient(input.linear(&fc.ws, fc.bs.as_ref()));
    assert!(!same_bits(&gradient(fc.forward(&input)), &plain));
    assert_eq!(svgd.step(), Stage::Plain);
    assert_same_bits(&gradient(fc.forward(&input)), &plain, "after the switch");
    svgd.reset();
    assert_eq!(svgd.stage(), Stage::Method);
}

#[test]
fn a_resumed_training_is_the_same_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, state) = (folder.path().join("weights.safetensors"), folder.path().join("tso.safetensors"));
    let config = TsoAlraConfig { interval: 4, stats_interval: 3, warmup: 2, ..Default::default() };
    let switch = Switch::Plateau { patience: 2, min_delta: 0.0 };
    let go_on = |model: &mut Model, from: i64| -> Vec<Tensor> {
        for step in from..12 {
            model.step(step);
            // No better from step 9 on: the switch is at step 10.
            model.tso.observe((9 - step).max(0) as f64);
        }
        let variables = model.vs.variables();
        let mut names: Vec<_> = variables.keys().collect();
        names.sort();
        names.into_iter().map(|name| variables[name].detach().copy()).chain(model.state()).collect()
    };
    for at in [1, 3, 7, 11] {
        let mut whole = Model::new(config);
        whole.tso.set_switch(switch).unwrap();
        for step in 0..at {
            whole.step(step);
            whole.tso.observe((9 - step).max(0) as f64);
        }
        whole.vs.save(&weights).unwrap();
        whole.tso.save(&state).unwrap();
        let mut resumed = Model::new(config);
        resumed.tso.set_switch(switch).unwrap();
        resumed.vs.load(&weights).unwrap();
        resumed.tso.load(&state).unwrap();
        let again = folder.path().join("again.safetensors");
        resumed.tso.save(&again).unwrap();
        assert!(std::fs::read(&state).unwrap() == std::fs::read(&again).unwrap(), "equal states are equal files");
        assert_eq!(whole.tso.progress(), resumed.tso.progress());
        let (whole_end, resumed_end) = (go_on(&mut whole, at), go_on(&mut resumed, at));
        assert_eq!(whole.tso.stage(), Stage::Plain);
        assert_eq!(whole.tso.progress(), resumed.tso.progress());
        for (a, b) in whole_end.iter().zip(&resumed_end) {
            assert_same_bits(a, b, &format!("resumed at {at}"));
        }
    }
}

#[test]
fn damaged_progress_is_an_error_and_that_of_another_model_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tso.safetensors");
    let mut model = Model::new(TsoAlraConfig::default());
    model.step(0);
    model.tso.save(&path).unwrap();
    // As long as before, for the header's size.
    let bytes = std::fs::read(&path).unwrap();
    let text: String = bytes[8..].iter().map(|&byte| char::from(byte)).collect();
    let stage = text.find("stage method").unwrap_or_else(|| panic!("{text:.300}"));
    let at = stage + 8 + "stage ".len();
    let mut damaged = bytes.clone();
    damaged[at] = b'M';
    std::fs::write(&path, damaged).unwrap();
    let error = model.tso.load(&path).unwrap_err();
    assert!(matches!(&error, Error::State { .. }) && error.to_string().contains("Method"), "{error}");
    assert_eq!(model.tso.progress().steps, 1, "untouched");

    std::fs::write(&path, bytes).unwrap();
    let other = Model::new(TsoAlraConfig::default());
    other.tso.load_partial(&path).unwrap();
    assert_eq!(other.tso.progress().steps, 0, "a new training with an old body");
}

/// A layer that no pass has reached, one that is used twice, and batches of every size.
#[test]
fn layers_may_be_unused_or_used_twice_and_batches_may_change() {
    let vs = nn::VarStore::new(Device::Cpu);
    let tso = TsoAlra::new(TsoAlraConfig { warmup: 1, interval: 1, stats_interval: 1, ..Default::default() }).unwrap();
    let twice = seeded(1, || tso.linear(vs.root() / "twice", 4, 4, Default::default()));
    let unused = seeded(2, || tso.linear(vs.root() / "unused", 4, 4, Default::default()));
    for batch in [3, 8, 1, 0, 5] {
        let input = noise(batch, &[batch, 4], Kind::Float);
        let loss = twice.forward(&twice.forward(&input)).square().sum(Kind::Float);
        loss.backward();
        tso.step();
        assert!(twice.ws.grad().isfinite().all().int64_value(&[]) == 1, "a batch of {batch}");
    }
    assert!(unused.state().is_none());
    // Reached at last: its root is the identity until it is decomposed.
    let input = noise(9, &[8, 4], Kind::Float);
    unused.forward(&input).square().mean(None).backward();
    let plain = Tensor::run_backward(
        &[input.linear(&unused.ws, unused.bs.as_ref()).square().mean(None)],
        &[&unused.ws],
        false,
        false,
    );
    assert!(unused.ws.grad().allclose(&plain[0], 1e-5, 1e-7, false));
}

#[test]
fn a_switch_set_to_steps_that_are_behind_is_at_once() {
    let tso = TsoAlra::new(TsoAlraConfig::default()).unwrap();
    tso.set_switch(Switch::AtStep(1)).unwrap();
    assert_eq!(tso.stage(), Stage::Method);
    tso.set_switch(Switch::AtStep(0)).unwrap();
    assert_eq!(tso.stage(), Stage::Plain);
}

/// What another thread tells during a step is not lost.
#[test]
fn steps_and_validation_losses_may_come_from_several_threads() {
    let tso = TsoAlra::new(TsoAlraConfig::default()).unwrap();
    tso.set_switch(Switch::Plateau { patience: 150, min_delta: 0.0 }).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..50).for_each(|_| _ = tso.step()));
            scope.spawn(|| (0..50).for_each(|_| _ = (tso.step(), tso.observe(1.0))));
        }
    });
    let progress = tso.progress();
    assert_eq!((progress.steps, progress.least_loss, progress.stalled), (200, 1.0, 99));
}

/// Refused memory at each of its own allocations in turn (other threads of it are not counted).
#[test]
fn a_step_that_runs_out_of_memory_is_not_counted_and_changes_no_root() {
    let mut model = Model::new(TsoAlraConfig { warmup: 2, ..Default::default() });
    model.step(0);
    let before = model.state();
    let (mut limit, mut refused) = (0, 0);
    loop {
        let (result, wanted) = with_memory(limit, || model.tso.f_step()).unwrap();
        let Err(error) = result else { break };
        assert!(matches!(error, Error::OutOfMemory(_)), "{error:?}");
        assert_eq!(model.tso.progress().steps, 1);
        for (before, now) in before.iter().zip(&model.state()) {
            assert_same_bits(before, now, &format!("refused {wanted} bytes"));
        }
        assert!(wanted > limit);
        (limit, refused) = (wanted, refused + 1);
    }
    assert!(refused >= 1, "refused {refused} times");
    assert_eq!(model.tso.progress().steps, 2);
    assert!(!same_bits(&before[2], &model.state()[2]), "the step that had enough");
}
