//! Equations 17 and 18 against plain loops: what is averaged, over what, and when.

use super::{State, matrices};
use crate::common::*;
use ndarray::{Array2, Array3, Array4, Axis, s};
use tch::{Kind, Tensor};
use tch_svgd::functional::Convolution;
use tch_svgd::functional::tso_alra::{Preconditioning, conv2d, linear};

/// `(1 - gamma) factor + gamma scale Σ x xᵀ`, of each group's rows `[groups, rows, n]`.
fn average(factor: &mut Array3<f64>, rows: &Array3<f64>, gamma: f64, scale: f64) {
    for (mut factor, rows) in factor.outer_iter_mut().zip(rows.outer_iter()) {
        let mut sum = Array2::<f64>::zeros(factor.dim());
        for row in rows.outer_iter() {
            for ((i, j), value) in sum.indexed_iter_mut() {
                *value += row[i] * row[j];
            }
        }
        factor.zip_mut_with(&sum, |old, new| *old = (1.0 - gamma) * *old + gamma * scale * new);
    }
}

/// With a 1 behind each row.
fn with_one(rows: &Array3<f64>) -> Array3<f64> {
    let (groups, count, _) = rows.dim();
    ndarray::concatenate![Axis(2), *rows, Array3::ones((groups, count, 1))]
}

#[derive(Clone, Copy)]
struct Case {
    input: [i64; 4],
    weight: [i64; 4],
    convolution: Convolution,
}

/// What each output of each group sees at each position, `[groups, n h_out w_out, c / groups kh kw]`.
fn unfold(input: &Array4<f64>, case: Case) -> Array3<f64> {
    let [c_out, c_group, kh, kw] = case.weight.map(|n| n as usize);
    let convolution = case.convolution;
    let groups = convolution.groups as usize;
    let (n, _, height, width) = input.dim();
    let [_, _, h_out, w_out] =
        conv2d_output_size(case.input.map(|n| n as usize), [c_out, c_group, kh, kw], convolution);
    let mut rows = Array3::zeros((groups, n * h_out * w_out, c_group * kh * kw));
    for ((group, row, column), value) in rows.indexed_iter_mut() {
        let (sample, y, x) = (row / (h_out * w_out), row / w_out % h_out, row % w_out);
        let (c, ky, kx) = (column / (kh * kw), column / kw % kh, column % kw);
        let tap = |out: usize, k: usize, axis: usize| {
            out as i64 * convolution.stride[axis] + k as i64 * convolution.dilation[axis] - convolution.padding[axis]
        };
        let (y, x) = (tap(y, ky, 0), tap(x, kx, 1));
        if (0..height as i64).contains(&y) && (0..width as i64).contains(&x) {
            *value = input[[sample, group * c_group + c, y as usize, x as usize]];
        }
    }
    rows
}

/// The gradients of each group's outputs at each position, `[groups, n h w, c / groups]`.
fn outputs(grad_output: &Array4<f64>, groups: usize) -> Array3<f64> {
    let (n, c, h, w) = grad_output.dim();
    Array3::from_shape_fn((groups, n * h * w, c / groups), |(group, row, o)| {
        grad_output[[row / (h * w), group * (c / groups) + o, row / w % h, row % w]]
    })
}

#[test]
fn those_of_a_linear_layer_are_averages_over_the_rows() {
    for kind in [Kind::Double, Kind::Float, Kind::BFloat16] {
        for (size, bias) in [(vec![33, 7], false), (vec![33, 7], true), (vec![3, 5, 7], true), (vec![7], true)] {
            let weight = leaf(&random(1, &[5, 7], kind));
            let bs = leaf(&random(2, &[5], kind));
            let state = State::new(1, 7 + i64::from(bias), 5, kind);
            let [mut a, mut b] = [&state.0[0], &state.0[1]].map(matrices);
            let rows = size[..size.len() - 1].iter().product::<i64>();
            for (step, gamma) in [0.3, 1.0, 0.05].into_iter().enumerate() {
                let input = random(10 + step as i64, &size, kind);
                let arguments =
                    Preconditioning { gamma, gradient_scale: rows as f64, precondition: false, ..Default::default() };
                let output = linear(&input, &weight, bias.then_some(&bs), state.factors(), arguments).unwrap();
                let grad_output = random(20 + step as i64, &output.size(), kind);
                (&output * &grad_output).sum(Kind::Double).backward();
                let x = matrices(&input.view([1, rows, 7]));
                let g = matrices(&grad_output.view([1, rows, 5]));
                average(&mut a, &if bias { with_one(&x) } else { x }, gamma, 1.0 / rows as f64);
                average(&mut b, &g, gamma, (rows * rows) as f64 / rows as f64);
                let at = format!("{kind:?} {size:?} bias {bias} step {step}: ");
                assert_close(&state.0[0], &a, moment_kind(kind), &(at.clone() + "A"));
                assert_close(&state.0[1], &b, moment_kind(kind), &(at + "B"));
            }
        }
    }
}

#[test]
fn those_of_a_convolution_are_averages_over_samples_and_positions() {
    let same = Convolution { padding: [1, 1], ..Default::default() };
    let case = |input, weight, convolution| Case { input, weight, convolution };
    let grouped = |groups, convolution| Convolution { groups, ..convolution };
    let cases = [
        // The way of the 3x3 kernel at every pixel.
        case([3, 4, 6, 7], [5, 4, 3, 3], same),
        case([3, 4, 6, 7], [6, 2, 3, 3], grouped(2, same)),
        case([2, 4, 5, 5], [8, 1, 3, 3], grouped(4, same)),
        case([2, 3, 1, 6], [4, 3, 3, 3], same),
        case([2, 3, 6, 1], [4, 3, 3, 3], same),
        case([2, 3, 1, 1], [4, 3, 3, 3], same),
        case([2, 3, 2, 2], [4, 3, 3, 3], same),
        // Of pixels alone.
        case([3, 4, 6, 7], [5, 4, 1, 1], Convolution::default()),
        case([3, 4, 6, 7], [6, 2, 1, 1], Convolution { stride: [2, 3], groups: 2, ..Default::default() }),
        // Of patches.
        case([3, 4, 6, 7], [5, 4, 3, 3], Convolution::default()),
        case([3, 4, 6, 7], [5, 4, 3, 3], Convolution { stride: [2, 2], ..same }),
        case([3, 4, 6, 7], [5, 4, 3, 3], Convolution { padding: [0, 1], ..same }),
        case([3, 4, 9, 8], [5, 4, 3, 3], Convolution { dilation: [2, 2], ..same }),
        case([3, 4, 9, 8], [6, 2, 2, 5], Convolution { stride: [1, 2], padding: [2, 0], dilation: [3, 1], groups: 2 }),
        case([20, 4, 9, 8], [4, 4, 5, 5], Convolution { padding: [2, 2], ..Default::default() }),
        case([3, 4, 6, 7], [5, 4, 1, 1], same),
    ];
    for (index, case) in cases.into_iter().enumerate() {
        for (kind, bias, sum_positions, order) in [
            (Kind::Double, true, false, false),
            (Kind::Double, false, true, false),
            (Kind::Float, true, false, true),
            (Kind::BFloat16, false, false, false),
        ] {
            let groups = case.convolution.groups;
            let inputs = case.weight[1..].iter().product::<i64>();
            let weight = leaf(&random(1, &case.weight, kind));
            let bs = leaf(&random(2, &case.weight[..1], kind));
            let state = State::new(groups, inputs + i64::from(bias), case.weight[0] / groups, kind);
            let [mut a, mut b] = [&state.0[0], &state.0[1]].map(matrices);
            for (step, gamma) in [0.3, 0.05].into_iter().enumerate() {
                let images = random(10 + step as i64, &case.input, kind);
                let input = if order { channels_last(&images) } else { images.shallow_clone() };
                let n = case.input[0] as f64;
                let arguments = Preconditioning {
                    gamma,
                    gradient_scale: n,
                    sum_positions,
                    precondition: false,
                    ..Default::default()
                };
                let factors = state.factors();
                let output =
                    conv2d(&input, &weight, bias.then_some(&bs), factors, case.convolution, arguments).unwrap();
                let grad_output = random(20 + step as i64, &output.size(), kind);
                (&output * &grad_output).sum(Kind::Double).backward();
                let x = unfold(&to_array(&images).into_dimensionality().unwrap(), case);
                let g = outputs(&to_array(&grad_output).into_dimensionality().unwrap(), groups as usize);
                let positions = (output.size()[2] * output.size()[3]) as f64;
                let of_a = 1.0 / (n * if sum_positions { 1.0 } else { positions });
                average(&mut a, &if bias { with_one(&x) } else { x }, gamma, of_a);
                average(&mut b, &g, gamma, n * n / (n * positions));
                let at = format!("case {index} {kind:?} bias {bias} sum {sum_positions} step {step}: ");
                assert_close(&state.0[0], &a, moment_kind(kind), &(at.clone() + "A"));
                assert_close(&state.0[1], &b, moment_kind(kind), &(at + "B"));
            }
        }
    }
}

/// One image more than fits into a part, so that the last is a smaller one.
#[test]
fn patches_are_made_in_parts() {
    let (n, kind) = (9, Kind::Float);
    let images = noise(1, &[n, 16, 120, 120], kind);
    let weight = leaf(&noise(2, &[2, 16, 3, 3], kind));
    let state = State::new(1, 144, 2, kind);
    let arguments = Preconditioning { gamma: 1.0, precondition: false, ..Default::default() };
    let valid = Convolution::default();
    conv2d(&images, &weight, None, state.factors(), valid, arguments).unwrap().sum(kind).backward();
    let patches = images.to_kind(Kind::Double).im2col([3, 3], [1, 1], [0, 0], [1, 1]);
    let products = patches.matmul(&patches.transpose(1, 2)).sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
    let expected = to_array(&(products / (n * 118 * 118) as f64));
    let expected: Array2<f64> = expected.into_dimensionality().unwrap();
    assert_close(&state.0[0].get(0), &expected, kind, "A");
}

#[test]
fn what_is_not_finite_is_skipped_and_so_is_an_empty_batch() {
    for kind in [Kind::Float, Kind::Double] {
        let weight = leaf(&random(1, &[5, 7], kind));
        let state = State::new(1, 7, 5, kind);
        let arguments = Preconditioning { precondition: false, ..Default::default() };
        let pass = |input: &Tensor, scale: f64| {
            let output = linear(input, &weight, None, state.factors(), arguments).unwrap();
            (output * scale).sum(kind).backward();
            [0, 1].map(|i| state.0[i].copy())
        };
        let before = pass(&random(2, &[4, 7], kind), 1.0);
        let bad = random(3, &[4, 7], kind);
        let _ = bad.get(1).get(2).fill_(f64::NAN);
        let after = pass(&bad, 1.0);
        assert_same_bits(&before[0], &after[0], "A, of an input that is no number");
        assert!(!same_bits(&before[1], &after[1]), "B, of gradients that are");
        let overflown = pass(&random(4, &[4, 7], kind), f64::INFINITY);
        assert_same_bits(&after[1], &overflown[1], "B, of an infinite gradient");
        let empty = pass(&random(5, &[0, 7], kind), 1.0);
        assert_same_bits(&overflown[0], &empty[0], "A, of an empty batch");
        assert_same_bits(&overflown[1], &empty[1], "B, of an empty batch");
    }
}

#[test]
fn nothing_changes_without_update() {
    let weight = leaf(&random(1, &[5, 7], Kind::Float));
    let state = State::new(1, 7, 5, Kind::Float);
    let arguments = Preconditioning { update: false, ..Default::default() };
    let output = linear(&random(2, &[4, 7], Kind::Float), &weight, None, state.factors(), arguments).unwrap();
    output.square().mean(None).backward();
    for moment in &state.0[..2] {
        assert_eq!(moment.abs().max().double_value(&[]), 0.0);
    }
}

/// The rows of a slice that no test above walks: the reference itself, by hand.
#[test]
fn the_reference_unfolds_as_written() {
    let input = Array4::from_shape_fn((1, 1, 2, 2), |(_, _, y, x)| (1 + 2 * y + x) as f64);
    let case = Case {
        input: [1, 1, 2, 2],
        weight: [1, 1, 3, 3],
        convolution: Convolution { padding: [1, 1], ..Default::default() },
    };
    let rows = unfold(&input, case);
    assert_eq!(rows.slice(s![0, 0, ..]).to_vec(), [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 3.0, 4.0]);
    assert_eq!(rows.slice(s![0, 3, ..]).to_vec(), [1.0, 2.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]);
}

/// The gradient is scaled before it is squared: the squares of these are no Floats.
#[test]
fn gradients_far_from_one_are_scaled_first() {
    let weight = leaf(&random(1, &[5, 7], Kind::Float));
    for (gradient, k) in [(1e-25, 1e25), (1e25, 1e-25)] {
        let state = State::new(1, 7, 5, Kind::Float);
        let arguments = Preconditioning { gamma: 1.0, gradient_scale: k, precondition: false, ..Default::default() };
        let output = linear(&random(2, &[4, 7], Kind::Float), &weight, None, state.factors(), arguments).unwrap();
        (output * gradient).sum(Kind::Float).backward();
        assert!((state.0[1].double_value(&[0, 0, 0]) - 1.0).abs() < 1e-4, "{gradient}: {}", state.0[1]);
    }
}
