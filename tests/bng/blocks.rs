//! Which parameters are normalized together, and when.

use crate::common::*;
use tch::nn::{self, Module, ModuleT, OptimizerConfig, RNN};
use tch::{Device, Kind, Tensor};
use tch_svgd::{
    BlockNormalizer, Blocks, Bng, BngConfig, Layers, Normalization, Plain, Svgd, SvgdConfig, TsoAlra, TsoAlraConfig,
};

fn names(normalizer: &BlockNormalizer) -> Vec<String> {
    normalizer.blocks().into_iter().map(|(name, count)| format!("{name} {count}")).collect()
}

fn input(size: &[i64]) -> Tensor {
    noise(5, size, Kind::Float)
}

/// The norm of these tensors' gradients together.
fn norm(parameters: &[&Tensor]) -> f64 {
    let squares = |p: &&Tensor| p.grad().to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
    parameters.iter().map(squares).sum::<f64>().sqrt()
}

#[test]
fn those_of_a_perceptron_are_its_layers() {
    let vs = nn::VarStore::new(Device::Cpu);
    let _ = seeded(0, || nn::linear(vs.root() / "hidden", 4, 8, Default::default()));
    let _ = seeded(0, || nn::linear(vs.root() / "out", 8, 3, nn::LinearConfig { bias: false, ..Default::default() }));
    let normalizer = |blocks| BlockNormalizer::new(&vs, BngConfig { blocks, ..Default::default() }).unwrap();
    assert_eq!(names(&normalizer(Blocks::PerLayer)), ["hidden 2", "out 1"]);
    assert_eq!(names(&normalizer(Blocks::PerParameter)), ["hidden.bias 1", "hidden.weight 1", "out.weight 1"]);
}

/// A batch norm's running means are no parameters.
#[test]
fn those_of_a_residual_network_are_its_layers() {
    let vs = nn::VarStore::new(Device::Cpu);
    let block = vs.root() / "block1";
    let config = nn::ConvConfig { padding: 1, bias: false, ..Default::default() };
    let conv = seeded(0, || nn::conv2d(&block / "conv", 3, 3, 3, config));
    let bn = seeded(0, || nn::batch_norm2d(&block / "bn", 3, Default::default()));
    let fc = seeded(0, || nn::linear(vs.root() / "fc", 3, 2, Default::default()));
    let normalizer = BlockNormalizer::new(&vs, BngConfig::default()).unwrap();
    assert_eq!(names(&normalizer), ["block1.conv 1", "block1.bn 2", "fc 2"]);
    let images = input(&[4, 3, 6, 6]);
    let features = (bn.forward_t(&conv.forward(&images), true) + images).relu();
    let loss = fc.forward(&features.mean_dim([2i64, 3].as_slice(), false, Kind::Float)).square().sum(Kind::Float);
    loss.backward();
    let before = [norm(&[&conv.ws]), norm(&[bn.ws.as_ref().unwrap(), bn.bs.as_ref().unwrap()])];
    normalizer.normalize();
    let parameters = vs.trainable_variables();
    assert!((norm(&parameters.iter().collect::<Vec<_>>()) - 3f64.sqrt()).abs() < 1e-5);
    for (layer, before) in normalizer.norms().unwrap().iter().zip(before) {
        assert!((layer.1 / before - 1.0).abs() < 1e-6, "{layer:?} {before}");
    }
}

#[test]
fn those_of_a_recurrent_network_are_its_layers() {
    let vs = nn::VarStore::new(Device::Cpu);
    let config = nn::RNNConfig { num_layers: 2, ..Default::default() };
    let lstm = seeded(0, || nn::lstm(vs.root() / "lstm", 3, 4, config));
    let normalizer = BlockNormalizer::new(&vs, BngConfig::default()).unwrap();
    assert_eq!(names(&normalizer), ["lstm.l0 4", "lstm.l1 4"]);
    // Every layer is used at each of seven steps: their sum is normalized.
    lstm.seq(&input(&[2, 7, 3])).0.square().sum(Kind::Float).backward();
    normalizer.normalize();
    for layer in 0..2 {
        let of_layer = |(name, _): &(String, Tensor)| name.ends_with(&format!("_l{layer}"));
        let parameters: Vec<_> = vs.variables().into_iter().filter(of_layer).collect();
        let parameters: Vec<_> = parameters.iter().map(|(_, tensor)| tensor).collect();
        assert!(parameters.len() == 4 && (norm(&parameters) - 1.0).abs() < 1e-6);
    }
}

/// The gradients of a layer's uses, and of several batches, are added up before.
#[test]
fn a_layer_that_is_used_twice_is_one_block() {
    let vs = nn::VarStore::new(Device::Cpu);
    let bng = Bng::new(Plain, BngConfig::default()).unwrap();
    let fc = seeded(0, || bng.linear(vs.root() / "fc", 4, 4, Default::default()));
    let other = seeded(0, || nn::linear(vs.root() / "other", 4, 4, Default::default()));
    for batch in [3, 5] {
        let loss = fc.forward(&fc.forward(&other.forward(&input(&[batch, 4])))).square().sum(Kind::Float);
        loss.backward();
    }
    let (sum, before) = (fc.ws.grad().copy(), other.ws.grad().copy());
    let length = norm(&[&fc.ws, fc.bs.as_ref().unwrap()]);
    bng.normalize();
    assert!((norm(&[&fc.ws, fc.bs.as_ref().unwrap()]) - 1.0).abs() < 1e-6);
    assert!(fc.ws.grad().allclose(&(sum / length), 1e-5, 1e-7, false));
    // It is not a layer of this Bng.
    assert_same_bits(&other.ws.grad(), &before, "another layer's gradient");
}

/// SVGD's and TSO-ALRA's gradients, normalized: the same direction, of length one.
#[test]
fn it_goes_with_the_other_methods() {
    fn tried<L: Layers + Clone>(layers: L, after_step: impl Fn()) {
        let vs = nn::VarStore::new(Device::Cpu);
        let bng = Bng::new(layers, BngConfig::default()).unwrap();
        let conv = seeded(1, || bng.conv2d(vs.root() / "conv", 2, 3, 3, Default::default()));
        let fc = seeded(2, || bng.linear(vs.root() / "fc", 3 * 16, 2, Default::default()));
        let images = input(&[4, 2, 6, 6]);
        let mut optimizer = nn::Sgd::default().build(&vs, 0.01).unwrap();
        for _ in 0..5 {
            optimizer.zero_grad();
            fc.forward(&conv.forward(&images).flatten(1, -1)).square().sum(Kind::Float).backward();
            let before: Vec<_> = vs.trainable_variables().iter().map(|p| p.grad().copy()).collect();
            bng.normalize();
            let norms = bng.normalizer().norms().unwrap();
            assert_eq!(norms.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["conv", "fc"]);
            for (i, (parameter, before)) in vs.trainable_variables().iter().zip(&before).enumerate() {
                // tch makes a convolution's weight and bias, and then those of the other layer.
                let expected = before / norms[i / 2].1;
                assert!(parameter.grad().allclose(&expected, 1e-5, 1e-8, false));
            }
            optimizer.step();
            after_step();
        }
    }
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    tried(svgd.clone(), || assert!(svgd.state_bytes() > 0));
    let tso = TsoAlra::new(TsoAlraConfig { warmup: 2, ..Default::default() }).unwrap();
    tried(tso.clone(), || {
        tso.step();
    });
    assert!(tso.progress().steps == 5);
}

#[test]
fn what_has_no_gradient_is_as_if_it_were_not_there() {
    let vs = nn::VarStore::new(Device::Cpu);
    let fc = seeded(0, || nn::linear(vs.root() / "fc", 4, 4, Default::default()));
    let head = seeded(0, || nn::linear(vs.root() / "head", 4, 2, Default::default()));
    let _unused = seeded(0, || nn::linear(vs.root() / "unused", 4, 2, Default::default()));
    let normalizer = BlockNormalizer::new(&vs, BngConfig::default()).unwrap();
    normalizer.normalize();
    assert!(normalizer.norms().unwrap().is_empty() && normalizer.skipped().unwrap() == 0);

    let bias = fc.bs.as_ref().unwrap();
    let _ = bias.set_requires_grad(false);
    let pass = || head.forward(&fc.forward(&input(&[3, 4]))).square().sum(Kind::Float).backward();
    pass();
    normalizer.normalize();
    assert!((norm(&[&fc.ws]) - 1.0).abs() < 1e-6 && !bias.grad().defined());
    let blocks: Vec<_> = normalizer.norms().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(blocks, ["fc", "head"]);

    // With the bias again; and one layer's gradient that is no number.
    let _ = bias.set_requires_grad(true);
    let mut gradients: Vec<_> = vs.trainable_variables().iter().map(Tensor::grad).collect();
    gradients.iter_mut().filter(|gradient| gradient.defined()).for_each(|gradient| drop(gradient.zero_()));
    pass();
    let _ = head.ws.grad().fill_(f64::NAN);
    normalizer.normalize();
    assert!((norm(&[&fc.ws, bias]) - 1.0).abs() < 1e-6);
    assert_eq!(normalizer.skipped().unwrap(), 1);
    normalizer.clone().normalize();
    assert_eq!(normalizer.skipped().unwrap(), 2, "clones share everything");
}

#[test]
fn blocks_of_ones_own() {
    let vs = nn::VarStore::new(Device::Cpu);
    let fc1 = seeded(0, || nn::linear(vs.root() / "body" / "fc1", 4, 4, Default::default()));
    let fc2 = seeded(0, || nn::linear(vs.root() / "body" / "fc2", 4, 4, Default::default()));
    let head = seeded(0, || nn::linear(vs.root() / "head", 4, 2, Default::default()));
    let body = |name: &str| name.starts_with("body.").then(|| "body".to_owned());
    let normalizer = BlockNormalizer::with_blocks(&vs, Normalization::Unit, body).unwrap();
    let loss = head.forward(&fc2.forward(&fc1.forward(&input(&[3, 4])))).square().sum(Kind::Float);
    loss.backward();
    let before = head.ws.grad().copy();
    normalizer.normalize();
    assert!((norm(&[&fc1.ws, fc1.bs.as_ref().unwrap(), &fc2.ws, fc2.bs.as_ref().unwrap()]) - 1.0).abs() < 1e-6);
    assert_same_bits(&head.ws.grad(), &before, "what is in no block");
}

/// Two stores, and two layers of one path.
#[test]
fn layers_of_one_path_are_blocks_of_their_own() {
    let stores = [(); 2].map(|()| nn::VarStore::new(Device::Cpu));
    for (blocks, expected) in [
        (Blocks::PerLayer, &["fc 2", "fc__1 2", "fc__2 2"][..]),
        (
            Blocks::PerParameter,
            &["fc.weight 1", "fc.bias 1", "fc__1.weight 1", "fc__1.bias 1", "fc__2.weight 1", "fc__2.bias 1"],
        ),
    ] {
        let bng = Bng::new(Plain, BngConfig { blocks, ..Default::default() }).unwrap();
        for store in [0, 1, 1] {
            let _ = seeded(0, || bng.linear(stores[store].root() / "fc", 4, 4, Default::default()));
        }
        assert_eq!(names(bng.normalizer()), expected);
    }
}

/// The memory of the norms stays where it is, for a captured graph.
#[test]
fn settings_and_the_memory_of_norms_stay() {
    let vs = nn::VarStore::new(Device::Cpu);
    let fc = seeded(0, || nn::linear(vs.root() / "fc", 4, 4, Default::default()));
    let head = seeded(0, || nn::linear(vs.root() / "head", 4, 2, Default::default()));
    let config = BngConfig { normalization: Normalization::Clip { threshold: 2.0 }, blocks: Blocks::PerParameter };
    let normalizer = BlockNormalizer::new(&vs, config).unwrap();
    assert_eq!(normalizer.config(), config);
    let run = |layers: &[&nn::Linear]| {
        layers.iter().for_each(|layer| layer.forward(&input(&[3, 4])).square().sum(Kind::Float).backward());
        normalizer.normalize();
        normalizer.norms().unwrap()
    };
    let first = run(&[&fc]);
    assert_eq!(run(&[&head]).len(), 4);
    assert_eq!(first.len(), 2);
    // What has no gradient any more, as after a zero_grad: the norms are those of the layer alone again.
    let mut optimizer = nn::Sgd::default().build(&vs, 0.0).unwrap();
    optimizer.zero_grad();
    assert_eq!(run(&[&fc]).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["fc.bias", "fc.weight"]);
    optimizer.zero_grad();
    assert_eq!(run(&[&head]).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["head.bias", "head.weight"]);
    optimizer.zero_grad();
    normalizer.normalize();
    assert!(normalizer.norms().unwrap().is_empty());
}

/// A graph with a history of its own, and one after which an error changes nothing.
#[test]
fn backward_step_is_a_step_along_the_normalized_gradient() {
    let vs = nn::VarStore::new(Device::Cpu);
    let fc = seeded(0, || nn::linear(vs.root() / "fc", 4, 3, Default::default()));
    let normalizer = BlockNormalizer::new(&vs, BngConfig::default()).unwrap();
    let mut optimizer = nn::Sgd::default().build(&vs, 0.5).unwrap();
    for _ in 0..3 {
        let before: Vec<_> = vs.trainable_variables().iter().map(|p| p.copy()).collect();
        normalizer.backward_step(&mut optimizer, &(fc.forward(&input(&[6, 4])).square().sum(Kind::Float) * 1e-20));
        let moved = |(after, before): (&Tensor, &Tensor)| (after - before).square().sum(Kind::Double).double_value(&[]);
        let length = vs.trainable_variables().iter().zip(&before).map(moved).sum::<f64>().sqrt();
        assert!((length - 0.5).abs() < 1e-5, "{length}");
    }
    assert!(normalizer.f_backward_step(&mut optimizer, &fc.ws).is_err(), "no scalar");
}
