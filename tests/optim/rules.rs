//! What a step does to the weights.

use super::*;
use crate::common::*;
use tch::nn::{Module, OptimizerConfig};

const START: [f64; 5] = [-1.0, -0.5, 0.0, 0.5, 1.0];
const RATE: f64 = 0.05;

/// `steps` of them on `loss`.
fn after<R: Rule>(rule: R, kind: Kind, steps: usize) -> Vec<f64> {
    let (vs, w) = variable(&START, kind);
    let mut optimizer = rule.build(&vs, RATE).unwrap();
    (0..steps).for_each(|_| optimizer.backward_step(&loss(&w)));
    values(&w)
}

/// The same of plain loops: `step(t, weight, gradient)` of one element, whose state is its own.
fn in_loops(steps: usize, step: impl Fn() -> Box<dyn FnMut(i32, f64, f64) -> f64>) -> Vec<f64> {
    let trained = |start: f64| {
        let mut step = step();
        (1..=steps as i32).fold(start, |w, t| step(t, w, 1.5 * w + (3.0 * w).sin()))
    };
    START.map(trained).to_vec()
}

#[track_caller]
fn assert_near(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= tolerance, "{what}: {got} {expected}");
    }
}

#[track_caller]
fn held<R: Rule>(rule: R, step: impl Fn() -> Box<dyn FnMut(i32, f64, f64) -> f64>) {
    let expected = in_loops(12, step);
    assert_near(&after(rule, Kind::Double, 12), &expected, 1e-6, &format!("{rule:?}"));
    assert_near(&after(rule, Kind::Float, 12), &expected, 1e-5, &format!("{rule:?} in Float"));
}

#[test]
fn sgd_is_its_formula() {
    for (momentum, dampening, weight_decay, nesterov) in
        [(0.0, 0.0, 0.0, false), (0.0, 0.0, 0.1, false), (0.9, 0.2, 0.1, false), (0.9, 0.0, 0.0, true)]
    {
        let rule = Sgd { momentum, dampening, weight_decay, nesterov };
        held(rule, || {
            let mut velocity = 0.0;
            Box::new(move |t, w, g| {
                let g = g + weight_decay * w;
                velocity = if t == 1 { g } else { momentum * velocity + (1.0 - dampening) * g };
                w - RATE * if nesterov { g + momentum * velocity } else { velocity }
            })
        });
    }
}

#[test]
fn adam_is_its_formula() {
    for (eps_inside_root, decoupled_weight_decay) in [(false, false), (false, true), (true, false), (true, true)] {
        for (weight_decay, amsgrad) in [(0.0, false), (0.1, true)] {
            let rule = Adam { eps: 1e-2, eps_inside_root, weight_decay, decoupled_weight_decay, amsgrad, ..adam() };
            held(rule, || {
                let (mut m, mut r, mut largest) = (0.0, 0.0, 0f64);
                Box::new(move |t, w, g| {
                    let (g, w) = match decoupled_weight_decay {
                        true => (g, w - RATE * weight_decay * w),
                        false => (g + weight_decay * w, w),
                    };
                    m = rule.beta1 * m + (1.0 - rule.beta1) * g;
                    r = rule.beta2 * r + (1.0 - rule.beta2) * g * g;
                    largest = largest.max(r);
                    let square = if amsgrad { largest } else { r } / (1.0 - rule.beta2.powi(t));
                    let root = if eps_inside_root { (square + rule.eps).sqrt() } else { square.sqrt() + rule.eps };
                    w - RATE * (m / (1.0 - rule.beta1.powi(t))) / root
                })
            });
        }
    }
    // AdamW is one of these.
    let of_adam = Adam { weight_decay: 0.1, decoupled_weight_decay: true, ..Default::default() };
    assert_eq!(after(adamw(), Kind::Float, 12), after(of_adam, Kind::Float, 12));
}

#[test]
fn adagrad_is_its_formula() {
    held(adagrad(), || {
        let AdaGrad { lr_decay, eps, weight_decay, initial_accumulator_value } = adagrad();
        let mut sum = initial_accumulator_value;
        Box::new(move |t, w, g| {
            let g = g + weight_decay * w;
            sum += g * g;
            w - RATE / (1.0 + f64::from(t - 1) * lr_decay) * g / (sum.sqrt() + eps)
        })
    });
}

#[test]
fn rmsprop_is_its_formula() {
    for eps_inside_root in [false, true] {
        for (momentum, centered, weight_decay) in
            [(0.0, false, 0.0), (0.0, false, 0.1), (0.5, false, 0.1), (0.5, true, 0.0), (0.0, true, 0.1)]
        {
            let rule = RmsProp { alpha: 0.9, eps: 1e-2, eps_inside_root, weight_decay, momentum, centered };
            held(rule, || {
                let (mut r, mut mean, mut velocity) = (0.0, 0.0, 0.0);
                Box::new(move |_, w, g| {
                    let g = g + weight_decay * w;
                    r = rule.alpha * r + (1.0 - rule.alpha) * g * g;
                    mean = rule.alpha * mean + (1.0 - rule.alpha) * g;
                    let square = if centered { r - mean * mean } else { r };
                    let root = if eps_inside_root { (square + rule.eps).sqrt() } else { square.sqrt() + rule.eps };
                    velocity = momentum * velocity + g / root;
                    w - RATE * velocity
                })
            });
        }
    }
}

/// `torch.optim` of PyTorch 2.13.0 with these settings after 50 steps, from the same weights (Double).
#[test]
fn fifty_steps_are_those_of_torch() {
    let symmetric = |outer: f64, inner: f64| [outer, inner, 0.0, -inner, -outer];
    #[rustfmt::skip]
    let cases = [
        ("sgd", after(sgd(), Kind::Double, 50), symmetric(0.06065750856849235, 0.021600085458793238)),
        ("nesterov", after(Sgd { momentum: 0.9, nesterov: true, ..Default::default() }, Kind::Double, 50),
            symmetric(-7.702727533409232e-05, -6.447650019785096e-05)),
        ("adam", after(Adam { beta1: 0.8, beta2: 0.99, eps: 1e-3, weight_decay: 0.01, ..Default::default() }, Kind::Double, 50),
            symmetric(-0.005685923198848149, -0.0008210210120955457)),
        ("amsgrad", after(Adam { amsgrad: true, ..Default::default() }, Kind::Double, 50),
            symmetric(-0.042204083548347225, 0.016576005602105353)),
        ("adamw", after(adamw(), Kind::Double, 50), symmetric(-0.04548577361819845, 0.017918311911296326)),
        ("adagrad", after(adagrad(), Kind::Double, 50), symmetric(-0.4492801630112183, -0.0860775222544117)),
        // After five, which are not at the end yet.
        ("rmsprop", after(rmsprop(), Kind::Double, 5), symmetric(-0.03204163894147749, 0.08441902571823671)),
        ("plain rmsprop", after(RmsProp { alpha: 0.9, ..Default::default() }, Kind::Double, 5),
            symmetric(-0.45499499509637786, -0.08155749719071703)),
    ];
    for (name, got, expected) in cases {
        assert_near(&got, &expected, 1e-7, name);
    }
}

/// Those of tch, which are libtorch's of C++, on a network.
#[test]
fn fifty_steps_are_those_of_tch() {
    fn tried<R: Rule>(rule: R, config: impl OptimizerConfig) {
        let (ours, net, mut optimizer) = model(rule, Kind::Float);
        let (theirs, their_net, _) = model(rule, Kind::Float);
        let mut their_optimizer = config.build(&theirs, 0.02).unwrap();
        let xs = noise(3, &[16, 4], Kind::Float);
        for _ in 0..50 {
            optimizer.backward_step(&net.forward(&xs).square().mean(None));
            their_optimizer.backward_step(&their_net.forward(&xs).square().mean(None));
        }
        for (a, b) in ours.trainable_variables().iter().zip(theirs.trainable_variables()) {
            assert!(a.allclose(&b, 1e-4, 1e-5, false), "{rule:?}: {:?}", (a - b).abs().max());
        }
    }
    tried(sgd(), tch::nn::sgd(0.9, 0.1, 0.01, false));
    tried(Sgd { momentum: 0.9, nesterov: true, ..Default::default() }, tch::nn::sgd(0.9, 0.0, 0.0, true));
    tried(Adam { weight_decay: 0.01, ..Default::default() }, tch::nn::adam(0.9, 0.999, 0.01));
    tried(adam(), tch::nn::adam(0.9, 0.999, 0.01).amsgrad(true));
    tried(adamw(), tch::nn::adamw(0.9, 0.999, 0.1));
    tried(rmsprop(), tch::nn::rms_prop(0.9, 1e-3, 0.01, 0.5, true));
    tried(
        RmsProp { alpha: 0.9, weight_decay: 0.01, ..Default::default() },
        tch::nn::rms_prop(0.9, 1e-8, 0.01, 0.0, false),
    );
}

/// Weights of half precision have state of their kind, and the steps go down.
fn weights_of_every_kind_are_trained<R: Rule>(rule: R) {
    for kind in [Kind::Double, Kind::Float, Kind::BFloat16] {
        let (_, net, mut optimizer) = model(rule, kind);
        let xs = noise(3, &[16, 4], kind);
        let loss = || net.forward(&xs).square().mean(Kind::Float);
        let before = loss().double_value(&[]);
        (0..20).for_each(|_| optimizer.backward_step(&loss()));
        let after = loss().double_value(&[]);
        assert!(after < 0.9 * before, "{kind:?}: {before} {after}");
    }
}

/// A step of half precision is that of Float, rounded: of every size, since kernels have vectors and rests; and where the gradient is
/// zero, though ε may be zero in Half.
fn a_step_of_half_precision_is_rounded_once<R: Rule>(rule: R) {
    for kind in [Kind::Half, Kind::BFloat16] {
        for size in [1, 8, 31, 32, 33, 64, 100] {
            let stepped = |kind: Kind, start: &Tensor| {
                let vs = nn::VarStore::new(Device::Cpu);
                let w = vs.root().add("w", start.to_kind(kind).copy(), true);
                let mut optimizer = rule.build(&vs, 0.125).unwrap();
                // The gradient is the start itself.
                optimizer.backward_step(&(&w * start.to_kind(kind)).sum(Kind::Float));
                let state: Vec<_> = rule.state().iter().map(|name| optimizer.state("w", name).unwrap()).collect();
                (w.detach(), state)
            };
            let start = random(size, &[size], kind).to_kind(Kind::Float);
            let _ = start.get(0).zero_();
            let ((got, state), (expected, expected_state)) = (stepped(kind, &start), stepped(Kind::Float, &start));
            assert_same_bits(&got, &expected.to_kind(kind), &format!("{kind:?}, {size} weights"));
            for (got, expected) in state.iter().zip(&expected_state) {
                assert_same_bits(got, &expected.to_kind(got.kind()), &format!("state in {kind:?}"));
            }
        }
    }
}

/// Weights in every order of memory, which may change between steps.
fn the_order_of_memory_is_of_no_consequence<R: Rule>(rule: R) {
    let start = noise(1, &[4, 3, 5, 2], Kind::Float);
    let with_gaps = || {
        let wide = Tensor::zeros([4, 3, 5, 4], (Kind::Float, Device::Cpu));
        let mut every_other = wide.slice(3, 0, 4, 2);
        every_other.copy_(&start);
        every_other
    };
    let trained = |first: Tensor, then: Option<fn(&Tensor) -> Tensor>| {
        let vs = nn::VarStore::new(Device::Cpu);
        let mut w = vs.root().add("w", first, true);
        let mut optimizer = rule.build(&vs, 0.05).unwrap();
        for step in 0..4 {
            if let Some(then) = then.filter(|_| step == 2) {
                let data = then(&w.detach());
                w.set_data(&data);
                optimizer.zero_grad();
            }
            optimizer.backward_step(&(w.square() * noise(7, &[4, 3, 5, 2], Kind::Float)).sum(Kind::Float));
        }
        w.detach().contiguous()
    };
    let expected = trained(start.copy(), None);
    for (what, got) in [
        ("channels_last", trained(channels_last(&start), None)),
        ("gaps", trained(with_gaps(), None)),
        ("channels_last later", trained(start.copy(), Some(channels_last))),
        ("contiguous later", trained(channels_last(&start), Some(Tensor::contiguous))),
    ] {
        assert!(got.allclose(&expected, 1e-5, 1e-6, false), "{what}: {:?}", (got - &expected).abs().max());
    }
}

/// No elements, and no dimensions.
fn weights_without_elements_or_dimensions<R: Rule>(rule: R) {
    let vs = nn::VarStore::new(Device::Cpu);
    let (none, scalar) = (vs.root().ones("none", &[0, 3]), vs.root().ones("scalar", &[]));
    let mut optimizer = rule.build(&vs, 0.1).unwrap();
    (0..2).for_each(|_| optimizer.backward_step(&(none.sum(Kind::Float) + scalar.square())));
    assert!(values(&scalar)[0] < 1.0 && none.size() == [0, 3]);
    let folder = tempfile::tempdir().unwrap();
    optimizer.save(folder.path().join("state")).unwrap();
    optimizer.load(folder.path().join("state")).unwrap();
}

/// A graph that has saved a weight does not go on with another.
fn a_step_changes_the_version_of_the_weights<R: Rule>(rule: R) {
    let (vs, w) = variable(&START, Kind::Float);
    let mut optimizer = rule.build(&vs, RATE).unwrap();
    let before = loss(&w);
    optimizer.backward_step(&loss(&w));
    assert!(before.f_backward().is_err());
}

for_every_rule!(
    weights_of_every_kind_are_trained,
    a_step_of_half_precision_is_rounded_once,
    the_order_of_memory_is_of_no_consequence,
    weights_without_elements_or_dimensions,
    a_step_changes_the_version_of_the_weights
);

#[test]
fn groups_have_rates_and_settings_of_their_own() {
    let (vs, net, mut optimizer) = model(Sgd::default(), Kind::Float);
    optimizer.f_set_lr_group(1, 0.0).unwrap();
    let step = |optimizer: &mut Optim<Sgd>| {
        let before: Vec<_> = vs.trainable_variables().iter().map(Tensor::copy).collect();
        optimizer.backward_step(&net.forward(&noise(3, &[16, 4], Kind::Float)).square().mean(None));
        let moved = |(a, b): (&Tensor, &Tensor)| (a - b).abs().max().double_value(&[]) > 0.0;
        vs.trainable_variables().iter().zip(&before).map(moved).collect::<Vec<_>>()
    };
    assert_eq!(step(&mut optimizer), [true, true, false, false]);
    optimizer.set_settings(1, Sgd { weight_decay: 0.5, ..Default::default() }).unwrap();
    optimizer.set_lr(0.1);
    assert_eq!(optimizer.settings(1).unwrap(), (Sgd { weight_decay: 0.5, ..Default::default() }, 0.1));
    assert_eq!((optimizer.settings(0).unwrap(), optimizer.lr()), ((Sgd::default(), 0.1), 0.1));
    assert_eq!(step(&mut optimizer), [true; 4]);
    // Momentum that comes later has its first step then.
    optimizer.set_settings(0, sgd()).unwrap();
    assert!(optimizer.state("body.weight", "momentum_buffer").is_none());
    let weight = vs.variables()["body.weight"].shallow_clone();
    let before = weight.copy();
    step(&mut optimizer);
    let buffer = optimizer.state("body.weight", "momentum_buffer").unwrap();
    assert!(buffer.allclose(&(weight.grad() + before * 0.01), 1e-5, 1e-7, false), "without the dampening");
    assert!(optimizer.state("head.weight", "momentum_buffer").is_none());
    let error = optimizer.f_set_lr_group(7, 0.1).unwrap_err();
    assert!(matches!(error, Error::Config(_)) && error.to_string().contains("[0, 1], got 7"), "{error}");
}

#[test]
fn what_has_no_gradient_stays() {
    let (vs, net, mut optimizer) = model(adam(), Kind::Float);
    let _ = vs.variables()["head.bias"].set_requires_grad(false);
    let pass = || net.forward(&noise(3, &[16, 4], Kind::Float)).square().mean(None);
    let before = vs.variables()["head.bias"].copy();
    optimizer.backward_step(&pass());
    assert_same_bits(&vs.variables()["head.bias"], &before, "a frozen bias");
    assert!(optimizer.state("head.bias", "exp_avg").is_none());
    let _ = vs.variables()["head.bias"].set_requires_grad(true);
    optimizer.backward_step(&pass());
    let steps = ["head.bias", "head.weight"].map(|name| optimizer.state(name, "step").unwrap().double_value(&[]));
    assert_eq!(steps, [1.0, 2.0]);
    optimizer.zero_grad();
    assert!(vs.trainable_variables().iter().all(|variable| !variable.grad().defined()));
    let before: Vec<_> = vs.trainable_variables().iter().map(Tensor::copy).collect();
    optimizer.step();
    for (after, before) in vs.trainable_variables().iter().zip(&before) {
        assert_same_bits(after, before, "without gradients");
    }
}

/// As tch's optimizers do.
#[test]
fn variables_that_are_made_later_are_taken_along() {
    let (vs, _, mut optimizer) = model(sgd(), Kind::Float);
    let late = seeded(0, || nn::linear((vs.root() / "late").set_group(2), 4, 3, Default::default()));
    let before = late.ws.copy();
    optimizer.backward_step(&late.forward(&noise(3, &[5, 4], Kind::Float)).square().mean(None));
    assert!(!same_bits(&late.ws, &before) && optimizer.settings(2).unwrap() == (sgd(), 0.02));
}

/// Tied: one variable, with one state.
#[test]
fn a_variable_of_two_names_is_stepped_once() {
    let (vs, w) = variable(&START, Kind::Float);
    let _ = vs.root().add("a", w.shallow_clone(), true);
    let mut optimizer = Sgd::default().build(&vs, RATE).unwrap();
    optimizer.backward_step(&w.sum(Kind::Float));
    assert_near(&values(&w), &START.map(|w| w - RATE), 1e-6, "one step");
    let mut momentum = sgd().build(&vs, RATE).unwrap();
    momentum.backward_step(&w.sum(Kind::Float));
    assert!(momentum.state("a", "momentum_buffer").is_some() && momentum.state("w", "momentum_buffer").is_none());
}

#[test]
fn variables_that_another_store_has_taken_are_still_stepped() {
    let (vs, w) = variable(&START, Kind::Float);
    let mut optimizer = Sgd::default().build(&vs, RATE).unwrap();
    let merged = nn::VarStore::merge(vec![(vs, Some("part"))]).unwrap();
    optimizer.backward_step(&w.sum(Kind::Float));
    let stepped = merged.variables().into_values().next().unwrap();
    assert_near(&values(&stepped), &START.map(|w| w - RATE), 1e-6, "a step");
}

/// What is dense is not stepped where something else is sparse, and has its first step afterwards.
#[test]
fn a_step_that_is_refused_changes_nothing() {
    let vs = nn::VarStore::new(Device::Cpu);
    let (w, table) = (vs.root().ones("w", &[3]), vs.root().set_group(1).ones("table", &[5, 3]));
    let mut optimizer = sgd().build(&vs, 0.1).unwrap();
    let rows = Tensor::embedding(&table, &Tensor::from_slice(&[1i64, 2]), -1, false, true);
    let loss = (rows.sum_dim_intlist([0i64].as_slice(), false, Kind::Float) * &w).sum(Kind::Float);
    assert!(optimizer.f_backward_step(&loss).is_err());
    assert!(values(&w) == [1.0; 3] && optimizer.state("w", "momentum_buffer").is_none());
    optimizer.backward_step(&w.sum(Kind::Float));
    // The first has no dampening, which a second would have.
    assert_near(&values(&optimizer.state("w", "momentum_buffer").unwrap()), &[1.01; 3], 1e-6, "the first step");
}

#[test]
fn bad_settings_and_gradients_are_errors() {
    let vs = nn::VarStore::new(Device::Cpu);
    #[track_caller]
    fn refused<T>(result: tch_svgd::Result<T>, words: &str) {
        let error = result.err().expect("an error");
        assert!(matches!(error, Error::Config(_)) && error.to_string().contains(words), "{error}");
    }
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        refused(
            Sgd { momentum: bad, ..sgd() }.build(&vs, 0.1),
            "Sgd: setting 'momentum': expected a finite number >= 0",
        );
        refused(Sgd { weight_decay: bad, ..sgd() }.build(&vs, 0.1), "'weight_decay'");
        refused(Adam { eps: bad, ..adam() }.build(&vs, 0.1), "Adam: setting 'eps'");
        refused(AdamW { beta2: bad, ..adamw() }.build(&vs, 0.1), "AdamW: setting 'beta2': expected a number in [0, 1)");
        refused(AdaGrad { lr_decay: bad, ..adagrad() }.build(&vs, 0.1), "AdaGrad: setting 'lr_decay'");
        refused(RmsProp { alpha: bad, ..rmsprop() }.build(&vs, 0.1), "RmsProp: setting 'alpha'");
        refused(sgd().build(&vs, bad), "Sgd: setting 'lr'");
    }
    refused(Adam { beta1: 1.0, ..adam() }.build(&vs, 0.1), "'beta1'");
    refused(Sgd { nesterov: true, ..Default::default() }.build(&vs, 0.1), "'nesterov': expected a momentum above 0");
    let table = seeded(0, || vs.root().randn_standard("table", &[5, 3]));
    let mut optimizer = adam().build(&vs, 0.1).unwrap();
    let before = table.copy();
    let rows = Tensor::embedding(&table, &Tensor::from_slice(&[1i64, 2]), -1, false, true);
    let error = optimizer.f_backward_step(&rows.square().sum(Kind::Float)).unwrap_err();
    assert!(
        matches!(error, Error::Unsupported(_)) && error.to_string().contains("Adam: gradient of 'table'"),
        "{error}"
    );
    assert_same_bits(&table, &before, "after an error");
}
