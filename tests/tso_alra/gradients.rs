//! Equations 15 and 16: what the weight and the bias get.

use super::{State, kronecker, matrices, matrix, of_eigenvalues};
use crate::common::*;
use ndarray::{Array1, Array2, Axis, concatenate};
use tch::{Kind, Tensor};
use tch_svgd::Damping;
use tch_svgd::functional::Convolution;
use tch_svgd::functional::tso_alra::{Preconditioning, conv2d, inverse_roots, linear};

/// The gradients of weight and bias where `forward` is handed them.
fn gradients(forward: impl FnOnce() -> Tensor, of: &[&Tensor]) -> Vec<Tensor> {
    let output = forward();
    let grad_output = random(20, &output.size(), output.kind());
    Tensor::run_backward(&[(output * grad_output).sum(Kind::Double)], of, false, false)
}

/// `[weight, bias]` of each group as a matrix.
fn blocks(weight: &Tensor, bias: Option<&Tensor>, groups: i64) -> Vec<Array2<f64>> {
    let outputs = weight.size()[0];
    let weight = matrices(&weight.reshape([groups, outputs / groups, -1]));
    let bias = bias.map(|bias| matrices(&bias.reshape([groups, outputs / groups, 1])));
    let block = |group: usize| {
        let weight = weight.index_axis(Axis(0), group);
        match &bias {
            Some(bias) => concatenate![Axis(1), weight, bias.index_axis(Axis(0), group)],
            None => weight.to_owned(),
        }
    };
    (0..groups as usize).map(block).collect()
}

/// The dense way: `(B ⊗ A)^(-1/2) vec(G)`, of second moments that a pass has made.
#[test]
fn that_of_a_linear_layer_is_the_dense_product() {
    let kind = Kind::Double;
    for bias in [false, true] {
        let (weight, bs) = (leaf(&random(1, &[4, 5], kind)), leaf(&random(2, &[4], kind)));
        let bs = bias.then_some(&bs);
        let (input, inputs) = (random(3, &[40, 5], kind), 5 + i64::from(bias));
        let state = State::new(1, inputs, 4, kind);
        let of: Vec<_> = [Some(&weight), bs].into_iter().flatten().collect();
        let plain = gradients(|| input.linear(&weight, bs), &of);
        let run = |precondition| {
            let arguments = Preconditioning { gamma: 1.0, precondition, graft: false, ..Default::default() };
            gradients(|| linear(&input, &weight, bs, state.factors(), arguments).unwrap(), &of)
        };
        for (gradient, plain) in run(false).iter().zip(&plain) {
            assert_same_bits(gradient, plain, "before the first decomposition");
        }
        let [a, b, input_root, output_root] = &state.0;
        inverse_roots(&[a, b], &[input_root, output_root], 1e-14, Damping::Absolute).unwrap();
        let dense = of_eigenvalues(&kronecker(&matrix(b), &matrix(a)), |value| 1.0 / value.sqrt());
        let plain = blocks(&plain[0], plain.get(1), 1).remove(0);
        let expected = dense.dot(&Array1::from_iter(plain.iter().copied()));
        let got = run(true);
        let got = blocks(&got[0], got.get(1), 1).remove(0);
        let largest = expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        for (got, expected) in got.iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-8 * largest, "bias {bias}: {got} {expected}");
        }
    }
}

#[test]
fn those_of_layers_are_their_blocks_between_the_roots() {
    // With 2 rows a linear layer's rows are multiplied, with 9 its gradient.
    let geometries = [
        (9, None),
        (2, None),
        (3, Some(([6, 4, 3, 3], Convolution { padding: [1, 1], ..Default::default() }))),
        (3, Some(([6, 2, 3, 2], Convolution { groups: 2, stride: [2, 1], ..Default::default() }))),
    ];
    for kind in [Kind::Double, Kind::Float, Kind::BFloat16] {
        for (geometry, (samples, convolution)) in geometries.into_iter().enumerate() {
            for (bias, graft, frozen_bias, order) in [
                (false, false, false, false),
                (true, false, false, true),
                (true, true, false, false),
                (true, true, true, false),
                (true, false, true, true),
            ] {
                let groups = convolution.map_or(1, |(_, convolution)| convolution.groups);
                let size = convolution.map_or(vec![6, 7], |(size, _)| size.to_vec());
                let inputs = size[1..].iter().product::<i64>();
                let mut weight = random(1, &size, kind);
                if order && size.len() == 4 {
                    weight = channels_last(&weight);
                }
                let weight = leaf(&weight);
                let bs = random(2, &[6], kind).set_requires_grad(!frozen_bias);
                let state = State::new(groups, inputs + i64::from(bias), 6 / groups, kind).with_roots();
                let bs = bias.then_some(&bs);
                let arguments = Preconditioning { update: false, graft, ..Default::default() };
                let mut of = vec![&weight];
                of.extend(bs.filter(|_| !frozen_bias));
                let (plain, got) = match convolution {
                    None => {
                        let input = random(3, &[samples, 7], kind);
                        let hatted = || linear(&input, &weight, bs, state.factors(), arguments).unwrap();
                        (gradients(|| input.linear(&weight, bs), &of), gradients(hatted, &of))
                    }
                    Some((_, c)) => {
                        let input = random(3, &[samples, 4, 6, 7], kind);
                        let hatted = || conv2d(&input, &weight, bs, state.factors(), c, arguments).unwrap();
                        let original = || input.conv2d(&weight, bs, c.stride, c.padding, c.dilation, c.groups);
                        (gradients(original, &of), gradients(hatted, &of))
                    }
                };
                for (got, plain) in got.iter().zip(&plain) {
                    assert_eq!((got.kind(), got.size(), got.stride()), (plain.kind(), plain.size(), plain.stride()));
                }
                let roots = [matrices(&state.0[2]), matrices(&state.0[3])];
                let plain = blocks(&plain[0], plain.get(1), groups);
                let mut expected: Vec<_> = plain
                    .iter()
                    .enumerate()
                    .map(|(group, block)| {
                        let root = |i: usize| roots[i].index_axis(Axis(0), group);
                        let seen = block.ncols();
                        root(1).dot(block).dot(&root(0).slice(ndarray::s![..seen, ..seen]))
                    })
                    .collect();
                if graft {
                    // Of the layer, not of each group.
                    let norm = |blocks: &[Array2<f64>]| blocks.iter().flatten().map(|v| v * v).sum::<f64>().sqrt();
                    let factor = norm(&plain) / norm(&expected);
                    expected.iter_mut().for_each(|block| *block *= factor);
                }
                let got = blocks(&got[0], got.get(1), groups);
                let largest = expected.iter().flatten().fold(0.0, |m: f64, v| m.max(v.abs()));
                for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
                    assert!(
                        (got - expected).abs() <= tolerance(kind) * largest,
                        "geometry {geometry} {kind:?} bias {bias} graft {graft} frozen {frozen_bias}: {got} {expected}"
                    );
                }
            }
        }
    }
}

/// A gradient of zero has no direction: it stays what it is.
#[test]
fn a_gradient_of_zero_is_not_grafted() {
    let weight = leaf(&random(1, &[4, 5], Kind::Float));
    let state = State::new(1, 5, 4, Kind::Float).with_roots();
    let arguments = Preconditioning { graft: true, ..Default::default() };
    let output = linear(&random(2, &[3, 5], Kind::Float), &weight, None, state.factors(), arguments).unwrap();
    (output * 0.0).sum(Kind::Float).backward();
    assert_eq!(weight.grad().abs().max().double_value(&[]), 0.0);
}

/// A loss scaler must find what has overflown.
#[test]
fn what_is_not_finite_stays_so() {
    let weight = leaf(&random(1, &[4, 5], Kind::Float));
    let state = State::new(1, 5, 4, Kind::Float).with_roots();
    for graft in [false, true] {
        let arguments = Preconditioning { graft, ..Default::default() };
        let output = linear(&random(2, &[3, 5], Kind::Float), &weight, None, state.factors(), arguments).unwrap();
        let gradient = Tensor::run_backward(&[(output * f64::INFINITY).sum(Kind::Float)], &[&weight], false, false);
        assert_eq!(gradient[0].isfinite().any().int64_value(&[]), 0);
    }
}

/// Their lengths are Floats, the squares of these are not.
#[test]
fn gradients_far_from_one_are_grafted() {
    for size in [1e-25, 1e25] {
        let weight = leaf(&random(1, &[4, 5], Kind::Float));
        let state = State::new(1, 5, 4, Kind::Float).with_roots();
        let input = random(2, &[3, 5], Kind::Float);
        let gradient = |output: Tensor| {
            let gradients = Tensor::run_backward(&[(output * size).sum(Kind::Float)], &[&weight], false, false);
            to_array(&gradients[0]).iter().map(|g| g * g).sum::<f64>().sqrt()
        };
        let arguments = Preconditioning { update: false, ..Default::default() };
        let plain = gradient(input.linear(&weight, None::<&Tensor>));
        let grafted = gradient(linear(&input, &weight, None, state.factors(), arguments).unwrap());
        assert!((grafted / plain - 1.0).abs() < 1e-5, "{grafted} {plain}");
    }
}
