//! What the mechanism promises for every method: of those of the crate, and of one that does nothing.

use crate::common::*;
use counter::Counter;
use std::path::Path;
use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor};
use tch_svgd::hatted::{Convolution, Geometry, Hatted, HattedConv2D, HattedLinear, Method, Pass, Settings};
use tch_svgd::testing::{tangent, with_memory};
use tch_svgd::{
    Damping, Error, Graft, Granularity, Positions, Svgd, SvgdConfig, SvgdMethod, TsoAlraConfig, TsoAlraMethod, backward,
};

/// The settings that a claim is held to, each with a name.
trait Tried: Method {
    fn configs() -> Vec<(&'static str, Self::Config)>;
}

impl Tried for SvgdMethod {
    fn configs() -> Vec<(&'static str, SvgdConfig)> {
        let of = |granularity, virtual_bias| SvgdConfig { granularity, virtual_bias, ..Default::default() };
        vec![
            ("by element", of(Granularity::Element, false)),
            ("by channel", of(Granularity::Channel, false)),
            ("by element, virtual bias", of(Granularity::Element, true)),
            ("by channel, virtual bias", of(Granularity::Channel, true)),
        ]
    }
}

impl Tried for TsoAlraMethod {
    fn configs() -> Vec<(&'static str, TsoAlraConfig)> {
        // Roots after one step, and second moments in each.
        let config = TsoAlraConfig { warmup: 1, interval: 1, stats_interval: 1, ..Default::default() };
        let paper =
            TsoAlraConfig { damping: Damping::Absolute, graft: Graft::None, positions: Positions::Sum, ..config };
        vec![("grafted", config), ("not grafted", paper)]
    }
}

impl Tried for Counter {
    fn configs() -> Vec<(&'static str, counter::Config)> {
        let of = |formed| counter::Config { formed, fails: false };
        vec![("in one pass", of(false)), ("formed", of(true))]
    }
}

/// Each claim as a test of each method: a new method is a line here.
macro_rules! for_every_method {
    ($($claim:ident)*) => {
        mod of_svgd { $(#[test] fn $claim() { super::$claim::<super::SvgdMethod>() })* }
        mod of_tso_alra { $(#[test] fn $claim() { super::$claim::<super::TsoAlraMethod>() })* }
        mod of_counter { $(#[test] fn $claim() { super::$claim::<super::Counter>() })* }
    };
}

for_every_method! {
    the_forward_value_and_the_input_gradient_of_linear_are_the_originals
    the_forward_value_and_the_input_gradient_of_conv2d_are_the_originals
    every_backward_pass_changes_the_state
    nothing_changes_where_the_weight_gets_no_gradient
    switched_off_the_layers_are_the_originals
    a_step_that_runs_out_of_memory_anywhere_leaves_the_state_as_it_was
    double_backward_is_refused_and_ordinary_gradients_have_no_history
    forward_mode_gives_the_plain_tangent_or_an_error
    autocast_casts_the_values_and_leaves_the_state_in_float
    the_state_follows_the_weight_to_another_kind
    the_state_is_saved_loaded_and_reset_in_place
    a_layer_names_itself_and_its_operator
    gradients_have_the_kind_and_the_strides_of_the_originals
    autograd_sees_that_the_state_has_changed
    a_loss_scale_is_taken_out_of_the_state_and_left_in_the_gradients
}

/// Layers of a method, with the store of their variables.
struct Layers<M: Method> {
    vs: nn::VarStore,
    hatted: Hatted<M>,
    linear: HattedLinear<M>,
    conv: HattedConv2D<M>,
}

impl<M: Method> Layers<M> {
    fn new(config: M::Config) -> Self {
        let vs = nn::VarStore::new(Device::Cpu);
        let hatted = Hatted::<M>::new(config).unwrap();
        let linear = seeded(1, || hatted.linear(vs.root() / "fc", 33, 17, Default::default()));
        let conv = seeded(2, || hatted.conv2d(vs.root() / "conv", 3, 5, 3, Default::default()));
        Layers { vs, hatted, linear, conv }
    }

    /// As they are in a training, with a step behind them.
    fn in_training(config: M::Config) -> Self {
        let layers = Self::new(config);
        layers.step();
        layers.hatted.step();
        layers
    }

    /// The losses of one pass through each layer, over inputs that need gradients.
    fn losses(&self, kind: Kind) -> [Tensor; 2] {
        let rows = self.linear.forward(&leaf(&noise(3, &[9, 33], kind)));
        let images = self.conv.forward(&leaf(&noise(4, &[2, 3, 8, 8], kind)));
        [rows, images].map(|output| output.square().mean(None))
    }

    fn step(&self) {
        for loss in self.losses(self.linear.ws.kind()) {
            loss.backward();
        }
    }

    fn weights(&self) -> [&Tensor; 2] {
        [&self.linear.ws, &self.conv.ws]
    }

    fn states(&self) -> [Option<Vec<Tensor>>; 2] {
        [self.linear.state(), self.conv.state()]
    }
}

fn with_every_config<M: Tried>(claim: impl Fn(&str, M::Config)) {
    for (name, config) in M::configs() {
        claim(name, config);
    }
}

fn same_states(a: &[Option<Vec<Tensor>>; 2], b: &[Option<Vec<Tensor>>; 2]) -> bool {
    let same = |(a, b): (&Tensor, &Tensor)| same_bits(a, b);
    a.iter().zip(b).all(|pair| match pair {
        (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(same),
        (a, b) => a.is_none() && b.is_none(),
    })
}

/// Forward value and input gradient, to the bit.
fn check_same_as_original(original: &dyn Module, hatted: &dyn Module, input: &Tensor, what: &str) {
    let run = |layer: &dyn Module| {
        let input = leaf(input);
        let output = layer.forward(&input);
        (&output * noise(7, &output.size(), output.kind())).sum(None).backward();
        (output, input.grad())
    };
    let ((a, grad_a), (b, grad_b)) = (run(original), run(hatted));
    assert_same_bits(&a, &b, &format!("{what}: forward value"));
    assert_same_bits(&grad_a, &grad_b, &format!("{what}: input gradient"));
}

fn the_forward_value_and_the_input_gradient_of_linear_are_the_originals<M: Tried>() {
    let (_, config) = M::configs().remove(0);
    for kind in [Kind::Float, Kind::Double, Kind::BFloat16, Kind::Half] {
        for bias in [false, true] {
            let [mut plain, mut store] = [(); 2].map(|()| nn::VarStore::new(Device::Cpu));
            let settings = nn::LinearConfig { bias, ..Default::default() };
            let original = seeded(1, || nn::linear(plain.root(), 33, 17, settings));
            let hatted = seeded(1, || Hatted::<M>::new(config).unwrap().linear(store.root(), 33, 17, settings));
            plain.set_kind(kind);
            store.set_kind(kind);
            for (layout, input) in [
                ("one row", noise(3, &[33], kind)),
                ("matrix", noise(3, &[129, 33], kind)),
                ("column-major", noise(3, &[33, 129], kind).tr()),
                ("every second row", noise(3, &[129, 33], kind).slice(0, 0, 129, 2)),
                ("three axes", noise(3, &[5, 31, 33], kind)),
                ("three axes, transposed", noise(3, &[31, 5, 33], kind).transpose(0, 1)),
                ("three axes, sliced", noise(3, &[5, 31, 66], kind).slice(2, 0, 66, 2)),
                ("four axes", noise(3, &[2, 3, 7, 33], kind)),
                ("four axes, permuted", noise(3, &[7, 33, 2, 3], kind).permute([2, 3, 0, 1])),
                ("an axis of one, moved", noise(3, &[1, 129, 33], kind).transpose(0, 1)),
                ("an axis of one, cut", noise(3, &[129, 5, 33], kind).narrow(1, 2, 1)),
                ("a batch of one, cut", noise(3, &[31, 5, 33], kind).transpose(0, 1).narrow(0, 2, 1)),
                ("empty", noise(3, &[0, 33], kind)),
                ("empty, three axes", noise(3, &[4, 0, 33], kind)),
            ] {
                let what = format!("{kind:?} bias {bias} {layout}");
                check_same_as_original(&original, &hatted, &input, &what);
                if let (Some(a), Some(b)) = (&original.bs, &hatted.bs) {
                    assert_same_bits(&a.grad(), &b.grad(), &format!("{what}: bias gradient"));
                }
            }
        }
    }
}

fn the_forward_value_and_the_input_gradient_of_conv2d_are_the_originals<M: Tried>() {
    let config = nn::ConvConfigND::<[i64; 2]>::default();
    let geometries = [
        ("3x3", [3, 3], nn::ConvConfigND { padding: [1, 1], ..config }),
        ("no bias", [3, 3], nn::ConvConfigND { padding: [1, 1], bias: false, ..config }),
        ("strided", [3, 3], nn::ConvConfigND { stride: [2, 2], padding: [1, 1], ..config }),
        ("dilated", [3, 3], nn::ConvConfigND { dilation: [2, 2], ..config }),
        ("groups", [3, 3], nn::ConvConfigND { groups: 2, ..config }),
        ("pointwise", [1, 1], config),
        ("rectangular", [2, 5], nn::ConvConfigND { stride: [1, 2], padding: [2, 0], dilation: [3, 1], ..config }),
        ("reflect", [3, 3], nn::ConvConfigND { padding: [1, 2], padding_mode: nn::PaddingMode::Reflect, ..config }),
        ("replicate", [3, 3], nn::ConvConfigND { padding: [2, 1], padding_mode: nn::PaddingMode::Replicate, ..config }),
        ("circular", [3, 3], nn::ConvConfigND { padding: [1, 1], padding_mode: nn::PaddingMode::Circular, ..config }),
    ];
    for (method_config, (name, settings)) in M::configs().into_iter().enumerate() {
        // Every one in Float, the first in the other kinds as well.
        let kinds = [Kind::Float, Kind::Double, Kind::BFloat16];
        for kind in &kinds[..if method_config == 0 { 3 } else { 1 }] {
            for (geometry, ksizes, config) in geometries {
                let input = noise(3, &[5, 4, 11, 12], *kind);
                for (layout, input) in [
                    ("contiguous", input.shallow_clone()),
                    ("channels_last", channels_last(&input)),
                    ("strided", noise(3, &[5, 4, 11, 24], *kind).slice(3, 0, 24, 2)),
                    ("empty", noise(3, &[0, 4, 11, 12], *kind)),
                    ("unbatched", noise(3, &[4, 11, 12], *kind)),
                ] {
                    let [mut plain, mut store] = [(); 2].map(|()| nn::VarStore::new(Device::Cpu));
                    let hatted = Hatted::<M>::new(settings).unwrap();
                    let original = seeded(1, || nn::conv(plain.root(), 4, 6, ksizes, config));
                    let hatted = seeded(1, || hatted.conv(store.root(), 4, 6, ksizes, config));
                    plain.set_kind(*kind);
                    store.set_kind(*kind);
                    check_same_as_original(
                        &original,
                        &hatted,
                        &input,
                        &format!("{name}: {kind:?} {geometry} {layout}"),
                    );
                }
            }
        }
    }
}

fn every_backward_pass_changes_the_state<M: Tried>() {
    with_every_config::<M>(|name, config| {
        let layers = Layers::<M>::new(config);
        assert!(layers.states().iter().all(Option::is_none), "{name}: no state before a pass");
        let mut seen = vec![];
        for _ in 0..3 {
            layers.step();
            let states = layers.states();
            assert!(seen.iter().all(|before| !same_states(before, &states)), "{name}: a pass changed nothing");
            seen.push(states);
        }
        // A retained graph is a pass each time, and a layer that is used twice has two.
        let layers = Layers::<M>::new(config);
        for loss in layers.losses(Kind::Float) {
            Tensor::run_backward(&[&loss], &layers.weights().map(|w| w), true, false);
            Tensor::run_backward(&[&loss], &layers.weights().map(|w| w), false, false);
        }
        assert!(same_states(&layers.states(), &seen[1]), "{name}: two passes through one graph");
        let layers = Layers::<M>::new(config);
        let twice = [0, 1].map(|_| layers.losses(Kind::Float));
        let [a, b] = twice.map(|[rows, images]| rows + images);
        (a + b).backward();
        assert!(same_states(&layers.states(), &seen[1]), "{name}: two uses in one graph");
    });
}

/// The do-nothing method says how often, and that its gradients are plain.
#[test]
fn a_method_that_does_nothing_is_called_once_for_each_use() {
    with_every_config::<Counter>(|name, config| {
        let layers = Layers::<Counter>::new(config);
        let plain = Layers::<Counter>::new(config);
        plain.hatted.set_enabled(false);
        for passes in 1..=3 {
            layers.step();
            plain.step();
            for (state, bias) in layers.states().iter().zip([&layers.linear.bs, &layers.conv.bs]) {
                let [count, sums] = &state.as_ref().unwrap()[..] else { panic!("two tensors") };
                assert_eq!(count.double_value(&[0]), f64::from(passes), "{name}");
                // The bias's own gradient adds them up as well, in another order.
                let expected = bias.as_ref().unwrap().grad();
                assert!(sums.allclose(&expected, 1e-5, 1e-6, false), "{name}: {sums} {expected}");
            }
            for (a, b) in layers.vs.trainable_variables().iter().zip(plain.vs.trainable_variables()) {
                assert_same_bits(&a.grad(), &b.grad(), name);
            }
        }
    });
}

#[test]
fn an_error_of_a_method_is_typed_and_undoes_what_it_did() {
    let layers = Layers::<Counter>::new(counter::Config { formed: false, fails: true });
    for loss in layers.losses(Kind::Float) {
        let error = backward(&loss).unwrap_err();
        assert!(matches!(&error, Error::Config(text) if text.contains("_backward: setting 'fails'")), "{error:?}");
    }
    for tensor in layers.states().into_iter().flatten().flatten() {
        assert_eq!(tensor.abs().max().double_value(&[]), 0.0, "the pass never happened");
    }
    assert!(layers.states().iter().all(Option::is_some));
}

fn nothing_changes_where_the_weight_gets_no_gradient<M: Tried>() {
    with_every_config::<M>(|name, config| {
        let mut layers = Layers::<M>::new(config);
        // Under no_grad, as the original, which may multiply in another way there.
        let strided = noise(3, &[5, 31, 66], Kind::Float).slice(2, 0, 66, 2);
        let value = tch::no_grad(|| layers.linear.forward(&strided));
        let original = tch::no_grad(|| strided.linear(&layers.linear.ws, layers.linear.bs.as_ref()));
        assert_same_bits(&value, &original, name);
        assert!(!value.requires_grad());
        let _ = tch::no_grad(|| layers.losses(Kind::Float));
        // Of a frozen weight, whose input gets the true gradient still.
        layers.vs.freeze();
        let input = leaf(&noise(3, &[9, 33], Kind::Float));
        let plain = leaf(&input);
        layers.linear.forward(&input).square().mean(None).backward();
        plain.linear(&layers.linear.ws, layers.linear.bs.as_ref()).square().mean(None).backward();
        assert_same_bits(&input.grad(), &plain.grad(), name);
        layers.step();
        assert!(layers.states().iter().all(Option::is_none), "{name}: there is state");

        // Where only another gradient is asked for.
        layers.vs.unfreeze();
        layers.step();
        let before = layers.states();
        let (rows, image) = (leaf(&noise(3, &[9, 33], Kind::Float)), leaf(&noise(4, &[2, 3, 8, 8], Kind::Float)));
        let (linear, conv) = (&layers.linear, &layers.conv);
        let (bias, image_bias) = (linear.bs.as_ref().unwrap(), conv.bs.as_ref().unwrap());
        for asked in 0..2 {
            for (hatted, original, asked) in [
                (linear.forward(&rows), rows.linear(&linear.ws, Some(bias)), [&rows, bias][asked]),
                (
                    conv.forward(&image),
                    image.conv2d(&conv.ws, Some(image_bias), 1, 0, 1, 1),
                    [&image, image_bias][asked],
                ),
            ] {
                let gradient = |output: Tensor| {
                    Tensor::run_backward(&[output.square().mean(None)], &[asked], false, false).remove(0)
                };
                assert_same_bits(&gradient(hatted), &gradient(original), name);
            }
        }
        assert!(same_states(&before, &layers.states()), "{name}: the state has changed");
    });
}

fn switched_off_the_layers_are_the_originals<M: Tried>() {
    with_every_config::<M>(|name, config| {
        let layers = Layers::<M>::new(config);
        layers.step();
        let states = layers.states();
        layers.hatted.set_enabled(false);
        assert!(!layers.hatted.is_enabled());
        let (rows, image) = (noise(3, &[9, 33], Kind::Float), noise(4, &[2, 3, 8, 8], Kind::Float));
        let (linear, conv) = (&layers.linear, &layers.conv);
        for (hatted, original, weight) in [
            (linear.forward(&rows), rows.linear(&linear.ws, linear.bs.as_ref()), &linear.ws),
            (conv.forward(&image), image.conv2d(&conv.ws, conv.bs.as_ref(), 1, 0, 1, 1), &conv.ws),
        ] {
            let gradient =
                |output: Tensor| Tensor::run_backward(&[output.square().mean(None)], &[weight], false, false).remove(0);
            assert_same_bits(&gradient(hatted), &gradient(original), name);
        }
        assert!(same_states(&states, &layers.states()), "{name}: the state has changed");
        layers.hatted.set_enabled(true);
        layers.step();
        assert!(!same_states(&states, &layers.states()), "{name}: on again, it changes nothing");
    });
}

fn a_step_that_runs_out_of_memory_anywhere_leaves_the_state_as_it_was<M: Tried>() {
    with_every_config::<M>(|name, config| {
        for layer in 0..2 {
            let step = |limit: i64| {
                let layers = Layers::<M>::in_training(config);
                let before = layers.states();
                let loss = &layers.losses(Kind::Float)[layer];
                let (result, peak) = with_memory(limit, || backward(loss)).unwrap();
                (before, layers.states(), result, peak)
            };
            let (before, after, result, peak) = step(i64::MAX);
            result.unwrap();
            assert!(!same_states(&before, &after), "{name}: the step counts");
            // From one allocation to the next: a step that is refused memory tells how much it would have had.
            let (mut limit, mut refused) = (0, 0);
            loop {
                let (before, now, result, wanted) = step(limit);
                let Err(error) = result else {
                    assert!(same_states(&now, &after), "{name}: the step that had enough");
                    break;
                };
                assert!(matches!(error, Error::OutOfMemory(_)), "{name}: {error:?}");
                assert!(wanted > limit, "{name}: refused {wanted} bytes where there are {limit}, of {peak}");
                assert!(same_states(&before, &now), "{name}: refused {wanted} of {peak} bytes, and it counts");
                (limit, refused) = (wanted, refused + 1);
            }
            assert!(refused >= 3, "{name}: refused {refused} times");
        }
    });
}

fn double_backward_is_refused_and_ordinary_gradients_have_no_history<M: Tried>() {
    with_every_config::<M>(|name, config| {
        let layers = Layers::<M>::in_training(config);
        let inputs = [leaf(&noise(3, &[9, 33], Kind::Float)), leaf(&noise(4, &[2, 3, 8, 8], Kind::Float))];
        let outputs = [layers.linear.forward(&inputs[0]), layers.conv.forward(&inputs[1])];
        for (layer, (op, output)) in ["::linear", "::conv2d"].into_iter().zip(outputs).enumerate() {
            let loss = output.square().mean(None);
            let leaves = [&inputs[layer], layers.weights()[layer]];
            for gradient in Tensor::run_backward(&[&loss], &leaves, true, false) {
                assert!(!gradient.requires_grad(), "{name}");
            }
            // The first pass works with create_graph too.
            for gradient in Tensor::f_run_backward(&[&loss], &leaves, true, true).unwrap() {
                let again = Tensor::f_run_backward(&[gradient.sum(Kind::Float)], &leaves[..1], true, false);
                let text = again.unwrap_err().to_string();
                assert!(text.contains(op) && text.contains("double backward is not supported"), "{name}: {text}");
            }
        }
    });
}

fn forward_mode_gives_the_plain_tangent_or_an_error<M: Tried>() {
    let (_, config) = M::configs().remove(0);
    let mut layers = Layers::<M>::new(config);
    let rows = [noise(3, &[9, 33], Kind::Float), noise(5, &[9, 33], Kind::Float)];
    let images = [noise(4, &[2, 3, 8, 8], Kind::Float), noise(6, &[2, 3, 8, 8], Kind::Float)];
    let check = |layers: &Layers<M>, frozen: bool| {
        for ([primal, direction], layer, expected) in [
            (&rows, &layers.linear as &dyn Module, rows[1].matmul(&layers.linear.ws.tr())),
            (&images, &layers.conv, images[1].conv2d(&layers.conv.ws, None::<&Tensor>, 1, 0, 1, 1)),
        ] {
            let forward = |input: &Tensor| Ok::<_, Error>(layer.forward(input));
            let plain = |got: Tensor| got.defined() && got.allclose(&expected, 1e-5, 1e-5, false);
            assert!(tch::no_grad(|| plain(tangent(primal, direction, forward).unwrap().unwrap())), "under no_grad");
            if frozen {
                assert!(plain(tangent(primal, direction, forward).unwrap().unwrap()), "of a frozen weight");
            }
        }
    };
    check(&layers, false);
    let refused = tangent(&rows[0], &rows[1], |input| layers.linear.f_forward(input)).unwrap();
    assert!(refused.is_err(), "of a weight in training");
    let refused = tangent(&images[0], &images[1], |input| layers.conv.f_forward(input)).unwrap();
    assert!(refused.is_err(), "of a weight in training");
    layers.vs.freeze();
    check(&layers, true);
}

fn autocast_casts_the_values_and_leaves_the_state_in_float<M: Tried>() {
    with_every_config::<M>(|name, config| {
        let layers = Layers::<M>::in_training(config);
        // As of a first layer, and of one behind it, whose input has been cast already.
        let outputs = tch_svgd::autocast(Device::Cpu, Kind::BFloat16, || {
            let (linear, conv) = (&layers.linear, &layers.conv);
            [Kind::BFloat16, Kind::Float].map(|kind| {
                let (rows, images) = (noise(3, &[9, 33], kind), noise(4, &[2, 3, 8, 8], kind));
                [
                    (linear.forward(&rows), rows.linear(&linear.ws, linear.bs.as_ref())),
                    (conv.forward(&images), images.conv2d(&conv.ws, conv.bs.as_ref(), 1, 0, 1, 1)),
                ]
            })
        });
        for (hatted, original) in outputs.unwrap().into_iter().flatten() {
            assert_eq!(hatted.kind(), Kind::BFloat16);
            assert_same_bits(&hatted, &original, name);
            hatted.to_kind(Kind::Float).square().mean(None).backward();
        }
        for weight in layers.weights() {
            assert_eq!(weight.grad().kind(), Kind::Float);
        }
        for state in layers.states() {
            for tensor in state.unwrap() {
                assert_eq!(tensor.kind(), Kind::Float);
                assert!(tensor.abs().max().double_value(&[]) > 0.0, "{name}: no pass changed it");
            }
        }
    });
}

fn the_state_follows_the_weight_to_another_kind<M: Tried>() {
    with_every_config::<M>(|name, config| {
        let mut layers = Layers::<M>::new(config);
        layers.step();
        let before = layers.states();
        for mut variable in layers.vs.trainable_variables() {
            variable.zero_grad();
        }
        layers.vs.double();
        let _ = layers.losses(Kind::Double);
        let after = layers.states();
        assert!(after.iter().all(Option::is_some));
        for (before, after) in before.iter().flatten().flatten().zip(after.iter().flatten().flatten()) {
            assert_eq!(after.kind(), Kind::Double, "{name}");
            assert_same_bits(&before.to_kind(Kind::Double), after, name);
        }
        layers.step();
        assert!(!same_states(&after, &layers.states()), "{name}: a pass in Double");
    });
}

/// In place: a graph that waits for its backward pass, and a captured CUDA graph, know the memory.
fn the_state_is_saved_loaded_and_reset_in_place<M: Tried>() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    with_every_config::<M>(|name, config| {
        let layers = Layers::<M>::new(config);
        let save = |path: &Path| layers.hatted.save(path).unwrap();
        let load = |path: &Path| layers.hatted.load(path).unwrap();
        save(&path("none"));
        layers.step();
        let once = layers.states();
        save(&path("once"));
        layers.step();
        let twice = layers.states();

        load(&path("once"));
        assert!(same_states(&layers.states(), &once), "{name}: loaded");
        layers.step();
        assert!(same_states(&layers.states(), &twice), "{name}: and on from there");

        for load_nothing in [false, true] {
            let in_flight = layers.losses(Kind::Float);
            if load_nothing {
                load(&path("none"))
            } else {
                layers.hatted.reset()
            }
            assert!(layers.states().iter().all(Option::is_none), "{name}: reset");
            for loss in in_flight {
                loss.backward();
            }
            assert!(same_states(&layers.states(), &once), "{name}: a graph in flight has begun the state anew");
        }
        let in_flight = layers.losses(Kind::Float);
        load(&path("once"));
        for loss in in_flight {
            loss.backward();
        }
        assert!(same_states(&layers.states(), &twice), "{name}: a graph in flight goes on with what was loaded");

        // In another process, as it were; and not of another method.
        let resumed = Layers::<M>::new(config);
        resumed.hatted.load(path("once")).unwrap();
        assert!(same_states(&resumed.states(), &once), "{name}: resumed");
        resumed.step();
        assert!(same_states(&resumed.states(), &twice), "{name}: and on from there");
        let bytes =
            |states: &[Option<Vec<Tensor>>; 2]| states.iter().flatten().flatten().map(|t| t.numel() * 4).sum::<usize>();
        assert_eq!(resumed.hatted.state_bytes(), bytes(&twice), "{name}");
    });
    let foreign = path("foreign");
    match M::FORMAT == SvgdMethod::FORMAT {
        true => Hatted::<Counter>::new(counter::Config::default()).unwrap().save(&foreign).unwrap(),
        false => Svgd::new(SvgdConfig::default()).unwrap().save(&foreign).unwrap(),
    }
    let error = Layers::<M>::new(M::configs().remove(0).1).hatted.load(&foreign).unwrap_err();
    assert!(matches!(&error, Error::State { .. }) && error.to_string().contains(M::FORMAT), "{error}");
}

fn a_layer_names_itself_and_its_operator<M: Tried>() {
    with_every_config::<M>(|_, config| {
        let layers = Layers::<M>::new(config);
        let wide = noise(3, &[9, 34], Kind::Float);
        let image = noise(3, &[2, 4, 8, 8], Kind::Float);
        // The same words where the original runs.
        for error in [layers.linear.f_forward(&wide), tch::no_grad(|| layers.linear.f_forward(&wide))] {
            let error = error.unwrap_err();
            assert!(matches!(error, Error::Shape(_)), "{error:?}");
            let text = error.to_string();
            assert!(text.starts_with("layer 'fc': ") && text.contains("::linear: argument 'input'"), "{text}");
        }
        for error in [layers.conv.f_forward(&image), tch::no_grad(|| layers.conv.f_forward(&image))] {
            let text = error.unwrap_err().to_string();
            assert!(text.starts_with("layer 'conv': ") && text.contains("::conv2d: argument 'input'"), "{text}");
        }
        for error in [layers.linear.f_forward(&Tensor::new()), layers.conv.f_forward(&Tensor::new())] {
            assert!(error.unwrap_err().to_string().contains("undefined"));
        }
        assert!(layers.states().iter().all(Option::is_none), "a pass that fails leaves no state");
    });
}

fn gradients_have_the_kind_and_the_strides_of_the_originals<M: Tried>() {
    with_every_config::<M>(|name, config| {
        for kind in [Kind::Float, Kind::Double, Kind::BFloat16] {
            for order in [false, true] {
                let mut layers = Layers::<M>::in_training(config);
                layers.vs.set_kind(kind);
                if order {
                    layers.conv.ws = leaf(&channels_last(&layers.conv.ws));
                }
                let gradients = |layers: &Layers<M>| -> Vec<_> {
                    let mut weights: Vec<_> = layers.weights().to_vec();
                    weights.extend([&layers.linear.bs, &layers.conv.bs].into_iter().flatten());
                    let [rows, images] = layers.losses(kind);
                    let gradients = Tensor::run_backward(&[rows + images], &weights, false, false);
                    gradients.iter().map(|g| (g.kind(), g.size(), g.stride())).collect()
                };
                let hatted = gradients(&layers);
                layers.hatted.set_enabled(false);
                assert_eq!(hatted, gradients(&layers), "{name}: {kind:?} other order {order}");
            }
        }
    });
}

/// A graph that has saved the state must not go on with other values of it.
fn autograd_sees_that_the_state_has_changed<M: Tried>() {
    with_every_config::<M>(|name, config| {
        let layers = Layers::<M>::new(config);
        let settings = Settings { config, enabled: true, loss_scale: 1.0, progress: Default::default() };
        let inputs = [noise(3, &[9, 33], Kind::Float), noise(4, &[2, 3, 8, 8], Kind::Float)];
        let geometries = [Geometry::Linear, Geometry::Conv2D(Convolution::default())];
        for ((xs, ws), geometry) in inputs.iter().zip(layers.weights()).zip(geometries) {
            let pass = Pass { xs, ws, bs: None, geometry };
            let state = M::initial(&config, &pass, (Kind::Float, Device::Cpu)).unwrap();
            let output = M::call(&settings, &pass, &state).unwrap();
            let before: Vec<_> = state.iter().map(Tensor::copy).collect();
            let factors: Vec<_> = state.iter().map(|tensor| leaf(&tensor.ones_like())).collect();
            let products: Vec<_> =
                factors.iter().zip(&state).map(|(factor, tensor)| (factor * tensor).sum(None)).collect();
            output.square().mean(None).backward();
            let changed: Vec<_> = state.iter().zip(&before).map(|(now, before)| !same_bits(now, before)).collect();
            assert!(changed.contains(&true), "{name}");
            for ((product, factor), changed) in products.iter().zip(&factors).zip(changed) {
                let result = Tensor::f_run_backward(&[product], &[factor], false, false);
                assert_eq!(result.is_err(), changed, "{name} {geometry:?}: {result:?}");
            }
        }
    });
}

/// Of a power of two, so to the bit.
fn a_loss_scale_is_taken_out_of_the_state_and_left_in_the_gradients<M: Tried>() {
    with_every_config::<M>(|name, config| {
        let step = |scale: f64| {
            let layers = Layers::<M>::in_training(config);
            layers.hatted.set_loss_scale(scale);
            let [rows, images] = layers.losses(Kind::Float);
            let loss = (rows + images) * scale;
            let gradients = Tensor::run_backward(&[loss], &layers.weights(), false, false);
            (layers.states(), gradients.into_iter().map(|gradient| gradient / scale).collect::<Vec<_>>())
        };
        let ((states, gradients), (scaled_states, scaled_gradients)) = (step(1.0), step(64.0));
        assert!(same_states(&states, &scaled_states), "{name}: the state");
        for (gradient, scaled) in gradients.iter().zip(&scaled_gradients) {
            assert_same_bits(gradient, scaled, name);
        }
    });
}
