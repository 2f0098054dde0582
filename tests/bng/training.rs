//! What the paper is about: gradients that vanish, and how fast its Theorem 1 says that AdaGrad on normalized ones comes near.

use crate::common::*;
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use tch_svgd::{BlockNormalizer, BngConfig};

/// In thirty layers of sigmoids, initialised as PyTorch does, the first layers' gradients are so small that the sum of their squares is 0 in Float. Their norms
/// are not.
#[test]
fn vanishing_gradients_are_normalized() {
    let vs = nn::VarStore::new(Device::Cpu);
    let mut net = nn::seq();
    for layer in 0..30 {
        let inputs = if layer == 0 { 64 } else { 20 };
        let bound = 1.0 / (inputs as f64).sqrt();
        let uniform = nn::Init::Uniform { lo: -bound, up: bound };
        let config = nn::LinearConfig { ws_init: uniform, bs_init: Some(uniform), bias: true };
        net = net
            .add(seeded(layer, || nn::linear(vs.root() / format!("fc{layer:02}"), inputs, 20, config)))
            .add_fn(Tensor::sigmoid);
    }
    let net = net.add(seeded(50, || nn::linear(vs.root() / "out", 20, 10, Default::default())));
    let normalizer = BlockNormalizer::new(&vs, BngConfig::default()).unwrap();
    let mut optimizer = nn::Adam::default().build(&vs, 1e-3).unwrap();
    let (xs, labels) =
        (noise(1, &[100, 64], Kind::Float), Tensor::arange(100, (Kind::Int64, Device::Cpu)).remainder(10));
    let first = vs.variables()["fc00.weight"].shallow_clone();
    net.forward(&xs).cross_entropy_for_logits(&labels).backward();
    let squares = first.grad().square().sum(Kind::Float).double_value(&[]);
    assert!(squares == 0.0 && first.grad().abs().max().double_value(&[]) > 0.0, "the case of the test: {squares}");
    for _ in 0..5 {
        normalizer.backward_step(&mut optimizer, &net.forward(&xs).cross_entropy_for_logits(&labels));
        let norms = normalizer.norms().unwrap();
        assert!(norms.len() == 31 && norms.iter().all(|&(_, norm)| norm > 0.0), "{norms:?}");
        let length = first.grad().square().sum(Kind::Double).double_value(&[]).sqrt();
        assert!(length > 0.9 && length < 1.01, "{length}");
    }
    assert_eq!(normalizer.skipped().unwrap(), 0);
}

/// Theorem 1: AdaGrad on normalized gradients, `x ← x - η g / (‖gᵢ‖ H)` with `H = √Σ (g/‖gᵢ‖)²`, of a convex function: the mean
/// of the iterates comes as near as the bound says, and falls as `1/√T`.
#[test]
fn adagrad_on_normalized_gradients_keeps_to_the_theorem() {
    // f(x) = ‖x - x*‖₁ weighted, of two blocks whose scales differ by 1e6: convex, with bounded subgradients.
    let vs = nn::VarStore::new(Device::Cpu);
    let dims = [5i64, 3];
    let blocks: Vec<Tensor> = dims
        .iter()
        .enumerate()
        .map(|(i, &n)| (vs.root() / format!("block{i}")).var("x", &[n], nn::Init::Const(1.0)))
        .collect();
    let scales = [1.0, 1e-6];
    let normalizer = BlockNormalizer::new(&vs, BngConfig::default()).unwrap();
    let f = |xs: &[Tensor]| {
        let terms: Vec<_> =
            xs.iter().zip(scales).map(|(x, scale)| (x.square() + 1.0).sqrt().sum(x.kind()) * scale).collect();
        &terms[0] + &terms[1]
    };
    let rate = 0.5;
    let mut squares: Vec<Tensor> = dims.iter().map(|&n| zeros(&[n], Kind::Float)).collect();
    let mut sums: Vec<Tensor> = dims.iter().map(|&n| zeros(&[n], Kind::Double)).collect();
    let mut gaps = Vec::new();
    // M_i of the theorem is the largest norm of a block's gradient, D the distance from x* that is never left, B the blocks.
    let mut largest = [0f64; 2];
    let mut distance = 0f64;
    let steps = [400usize, 1600, 6400];
    for t in 1..=6400 {
        f(&blocks).backward();
        normalizer.normalize();
        for (i, (_, norm)) in normalizer.norms().unwrap().into_iter().enumerate() {
            largest[i] = largest[i].max(norm);
        }
        tch::no_grad(|| {
            let mut norm = 0.0;
            for ((x, square), sum) in blocks.iter().zip(&mut squares).zip(&mut sums) {
                let mut gradient = x.grad();
                let _ = sum.g_add_(&x.to_kind(Kind::Double));
                norm += x.square().sum(Kind::Double).double_value(&[]);
                let _ = square.g_add_(&gradient.square());
                let _ = x.shallow_clone().g_sub_(&(&gradient / (square.sqrt() + 1e-12) * rate));
                let _ = gradient.zero_();
            }
            distance = distance.max(norm.sqrt());
        });
        if steps.contains(&t) {
            let mean: Vec<_> = sums.iter().map(|sum| sum / t as f64).collect();
            let least = scales.iter().zip(dims).map(|(scale, n)| scale * n as f64).sum::<f64>();
            let gap = f(&mean).double_value(&[]) - least;
            let d = dims.iter().sum::<i64>() as f64;
            let root = (t as f64).sqrt();
            // |x1 - x*|²_{H_1} / (2ηT), where H_1 is at most 1; D²√(Bd) / (2η√T); Σ η M_i² √d_i / √T.
            let bound = d / (2.0 * rate * t as f64)
                + distance.powi(2) * (2.0 * d).sqrt() / (2.0 * rate * root)
                + largest.iter().zip(dims).map(|(m, n)| rate * m * m * (n as f64).sqrt() / root).sum::<f64>();
            assert!(gap <= bound, "after {t} steps: {gap}, the bound is {bound}");
            gaps.push(gap);
        }
    }
    // Four times the steps: half the gap, or less.
    assert!(gaps.windows(2).all(|pair| pair[1] <= 0.55 * pair[0]), "{gaps:?}");
}
