//! What a gradient becomes.

use crate::common::*;
use ndarray::ArrayD;
use tch::{Device, Kind, Tensor};
use tch_svgd::Normalization;
use tch_svgd::functional::bng::normalize;

pub const RULES: [Normalization; 3] =
    [Normalization::Unit, Normalization::Adaptive { alpha: 0.02 }, Normalization::Clip { threshold: 0.1 }];

/// Normalizes, and returns norms and the count of skipped blocks.
pub fn run(gradients: &[Tensor], parameters: &[Tensor], blocks: &[i64], rule: Normalization) -> (Vec<f64>, i64) {
    let device = gradients[0].device();
    let norms = Tensor::zeros([blocks.len() as i64], (Kind::Double, device));
    let skipped = Tensor::zeros([], (Kind::Int64, device));
    let [gradients, parameters] = [gradients, parameters].map(|tensors| tensors.iter().collect::<Vec<_>>());
    normalize(&gradients, &parameters, blocks, &norms, &skipped, rule).unwrap();
    (Vec::try_from(norms.to_device(Device::Cpu)).unwrap(), skipped.int64_value(&[]))
}

fn norm(tensors: &[ArrayD<f64>]) -> f64 {
    tensors.iter().flatten().map(|v| v * v).sum::<f64>().sqrt()
}

/// The paper's formulas.
fn factor(gradients: &[ArrayD<f64>], parameters: &[ArrayD<f64>], rule: Normalization) -> f64 {
    match rule {
        Normalization::Unit => 1.0 / norm(gradients),
        Normalization::Adaptive { alpha } => alpha * norm(parameters) / norm(gradients),
        Normalization::Clip { threshold } => f64::min(1.0, threshold / norm(gradients)),
        other => panic!("no formula for {other:?}"),
    }
}

/// A convolution in channels_last order with its bias, a matrix alone, three vectors, one of them transposed and one empty.
fn tensors(seed: i64, kind: Kind, device: Device) -> Vec<Tensor> {
    let random = |place: i64, size: &[i64]| random(seed + place, size, kind).to_device(device);
    vec![
        channels_last(&random(0, &[4, 3, 5, 2])),
        random(1, &[4]),
        random(2, &[7, 3]),
        random(3, &[6]),
        random(4, &[2, 5]).tr(),
        random(5, &[0, 3]),
    ]
}
const BLOCKS: [i64; 3] = [2, 1, 3];

#[test]
fn that_of_a_block_is_multiplied_by_one_number() {
    for device in devices() {
        for kind in [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16] {
            for rule in RULES {
                let (mut gradients, parameters) = (tensors(1, kind, device), tensors(11, kind, device));
                // Below the threshold of the clipping.
                gradients[2] = &gradients[2] * 2f64.powi(-9);
                let [before, weights] = [&gradients, &parameters].map(|t| t.iter().map(to_array).collect::<Vec<_>>());
                let strides: Vec<_> = gradients.iter().map(Tensor::stride).collect();
                let (norms, skipped) = run(&gradients, &parameters, &BLOCKS, rule);
                assert_eq!(skipped, 0);
                let mut from = 0;
                for (block, count) in BLOCKS.into_iter().enumerate() {
                    let range = from..from + count as usize;
                    from = range.end;
                    let length = norm(&before[range.clone()]);
                    assert!((norms[block] - length).abs() < 1e-12 * length, "{kind:?} {rule:?}: {norms:?}");
                    let factor = factor(&before[range.clone()], &weights[range.clone()], rule);
                    for i in range {
                        assert_eq!((gradients[i].kind(), gradients[i].stride()), (kind, strides[i].clone()));
                        assert_close(
                            &gradients[i],
                            &before[i].mapv(|v| v * factor),
                            kind,
                            &format!("{kind:?} {rule:?} {i}"),
                        );
                    }
                }
                for (parameter, before) in parameters.iter().zip(&weights) {
                    assert_close(parameter, before, kind, "a parameter");
                }
            }
        }
    }
}

/// All blocks at once are what each is alone, multiplied by its factor.
#[test]
fn all_at_once_is_one_after_the_other_to_the_bit() {
    for rule in RULES {
        let (gradients, parameters) = (tensors(1, Kind::Float, Device::Cpu), tensors(11, Kind::Float, Device::Cpu));
        let mut from = 0;
        let mut expected = Vec::new();
        for count in BLOCKS {
            let range = from..from + count as usize;
            from = range.end;
            let norm = |tensors: &[Tensor]| {
                let each: Vec<_> = tensors.iter().map(|t| t.to_kind(Kind::Double).norm()).collect();
                Tensor::stack(&each, 0).norm().double_value(&[])
            };
            let length = norm(&gradients[range.clone()]);
            let factor = match rule {
                Normalization::Unit => 1.0 / length,
                Normalization::Adaptive { alpha } => norm(&parameters[range.clone()]) * alpha / length,
                Normalization::Clip { threshold } => (threshold / length).min(1.0),
                other => panic!("no formula for {other:?}"),
            };
            expected.extend(gradients[range].iter().map(|gradient| gradient * factor as f32 as f64));
        }
        run(&gradients, &parameters, &BLOCKS, rule);
        for (gradient, expected) in gradients.iter().zip(&expected) {
            assert_same_bits(gradient, expected, &format!("{rule:?}"));
        }
    }
}

#[test]
fn the_loss_scale_is_of_no_consequence() {
    for rule in &RULES[..2] {
        let parameters = tensors(11, Kind::Float, Device::Cpu);
        let scaled = |scale: f64| {
            let gradients: Vec<_> = tensors(1, Kind::Float, Device::Cpu).iter().map(|g| g * scale).collect();
            run(&gradients, &parameters, &BLOCKS, *rule);
            gradients
        };
        let plain = scaled(1.0);
        for exponent in [-100, -24, 16, 100] {
            for (plain, scaled) in plain.iter().zip(scaled(2f64.powi(exponent))) {
                assert_same_bits(&scaled, plain, &format!("scale 2^{exponent}, {rule:?}"));
            }
        }
    }
}

#[test]
fn gradients_of_every_size_have_the_length_that_is_asked_for() {
    let parameters = [Tensor::from_slice(&[2f32, 0.0, 0.0])];
    for length in [1e-37, 1e-30, 1e-20, 1.0, 1e20, 1e38] {
        for (rule, expected) in RULES.into_iter().zip([1.0, 0.04, f64::min(0.1, length)]) {
            let gradient = Tensor::from_slice(&[0.6f64, 0.0, -0.8]) * length;
            let gradients = [gradient.to_kind(Kind::Float)];
            let (norms, skipped) = run(&gradients, &parameters, &[1], rule);
            assert!((norms[0] / length - 1.0).abs() < 1e-6 && skipped == 0, "{norms:?}");
            let got = to_array(&gradients[0]);
            let error = got.iter().zip([0.6, 0.0, -0.8]).map(|(got, v)| (got / expected - v).abs()).fold(0.0, f64::max);
            assert!(error < 1e-5, "{length} {rule:?}: {got}");
        }
    }
    // What is below the smallest normal number is multiplied by the largest at most.
    let gradients = [Tensor::from_slice(&[1e-41f64]).to_kind(Kind::Float)];
    run(&gradients, &[Tensor::from_slice(&[1f32])], &[1], Normalization::Unit);
    let got = gradients[0].double_value(&[0]);
    assert!(got.is_finite() && (0.0..=1.0).contains(&got), "{got}");
}

#[test]
fn zeros_stay_zeros() {
    for rule in RULES {
        let gradients = [zeros(&[3], Kind::Float), zeros(&[2], Kind::Float), Tensor::from_slice(&[3f32, 4.0])];
        let parameters = [3, 2, 2].map(|n| Tensor::ones([n], (Kind::Float, Device::Cpu)));
        let (norms, skipped) = run(&gradients, &parameters, &[2, 1], rule);
        assert_eq!((norms, skipped), (vec![0.0, 5.0], 0));
        assert_eq!(gradients[0].abs().max().double_value(&[]), 0.0);
        let expected = factor(&[to_array(&Tensor::from_slice(&[3f64, 4.0]))], &[to_array(&parameters[2])], rule) * 3.0;
        assert!((gradients[2].double_value(&[0]) - expected).abs() < 1e-6, "{rule:?}");
    }
}

/// NG_adap would keep weights of zero where they are.
#[test]
fn weights_of_zero_have_their_plain_gradient() {
    let gradients = [Tensor::from_slice(&[3f32, 4.0])];
    let (norms, skipped) = run(&gradients, &[zeros(&[2], Kind::Float)], &[1], Normalization::Adaptive { alpha: 0.02 });
    assert_eq!((norms, skipped), (vec![5.0], 0));
    assert_eq!(gradients[0], Tensor::from_slice(&[3f32, 4.0]));
}

#[test]
fn what_is_not_finite_stays_and_is_counted() {
    for rule in RULES {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let gradients =
                [Tensor::from_slice(&[1f32, bad]), Tensor::from_slice(&[2f32]), Tensor::from_slice(&[3f32])];
            let parameters = [2, 1, 1].map(|n| Tensor::ones([n], (Kind::Float, Device::Cpu)));
            let before = gradients.each_ref().map(Tensor::copy);
            let (norms, skipped) = run(&gradients, &parameters, &[2, 1], rule);
            assert!(!norms[0].is_finite() && norms[1] == 3.0 && skipped == 1, "{norms:?} {skipped}");
            for i in 0..2 {
                assert_same_bits(&gradients[i], &before[i], "the block of what is not finite");
            }
            assert!(gradients[2].double_value(&[0]) < 3.0);
        }
    }
    // So for weights, where they count.
    let gradients = [Tensor::from_slice(&[2f32])];
    let weight = [Tensor::from_slice(&[f32::INFINITY])];
    assert_eq!(run(&gradients, &weight, &[1], Normalization::Adaptive { alpha: 0.02 }), (vec![2.0], 1));
    assert_eq!(gradients[0].double_value(&[0]), 2.0);
    assert_eq!(run(&gradients, &weight, &[1], Normalization::Unit).1, 0);
}

/// What autograd has saved of a gradient or a norm is no longer what it was.
#[test]
fn graphs_that_have_saved_what_changes_are_refused() {
    for changed in 0..3 {
        let (gradient, parameter) = (random(1, &[3], Kind::Float), random(2, &[3], Kind::Float));
        let norms = zeros(&[1], Kind::Double);
        let skipped = Tensor::from(0i64);
        let weight = leaf(&random(3, &[1], Kind::Float));
        // Each product saves one of the two.
        let saved = [&gradient, &norms, &parameter][changed];
        let product = (&weight * saved).sum(Kind::Float);
        normalize(&[&gradient], &[&parameter], &[1], &norms, &skipped, Normalization::Unit).unwrap();
        assert_eq!(product.f_backward().is_err(), changed < 2, "{changed}");
    }
}

/// In an autocast region, as a backward pass may be, nothing is cast.
#[test]
fn autocast_does_not_reach_it() {
    let inside = tensors(1, Kind::Float, Device::Cpu);
    let outside = tensors(1, Kind::Float, Device::Cpu);
    let parameters = tensors(11, Kind::Float, Device::Cpu);
    let rule = Normalization::Adaptive { alpha: 0.02 };
    tch_svgd::autocast(Device::Cpu, Kind::BFloat16, || run(&inside, &parameters, &BLOCKS, rule)).unwrap();
    run(&outside, &parameters, &BLOCKS, rule);
    for (inside, outside) in inside.iter().zip(&outside) {
        assert_same_bits(inside, outside, "in an autocast region");
    }
}
