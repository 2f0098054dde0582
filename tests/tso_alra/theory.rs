//! What the paper proves, of the gradients that the layers give.

use super::{State, kronecker, matrix};
use crate::common::*;
use ndarray::{Array1, Array2};
use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor};
use tch_svgd::functional::tso_alra::{Preconditioning, inverse_roots, linear};
use tch_svgd::hatted::{Hatted, Method};
use tch_svgd::{Damping, Graft, TsoAlra, TsoAlraConfig};

/// Lemma 1: `F^(-1/2) u` is as long under `F` as `u` is, `F = B ⊗ A`.
#[test]
fn a_preconditioned_gradient_is_as_long_under_f_as_the_plain_one() {
    let kind = Kind::Double;
    let weight = leaf(&random(1, &[4, 5], kind));
    let (input, grad_output) = (random(2, &[60, 5], kind), random(3, &[60, 4], kind));
    let state = State::new(1, 5, 4, kind);
    let gradient = |precondition| {
        let arguments = Preconditioning { gamma: 1.0, precondition, graft: false, ..Default::default() };
        let output = linear(&input, &weight, None, state.factors(), arguments).unwrap();
        let loss = (output * &grad_output).sum(kind);
        Tensor::run_backward(&[loss], &[&weight], false, false).remove(0)
    };
    let plain = gradient(false);
    let [a, b, input_root, output_root] = &state.0;
    inverse_roots(&[a, b], &[input_root, output_root], 1e-14, Damping::Absolute).unwrap();
    let vector = |tensor: &Tensor| Array1::from_iter(to_array(tensor));
    let (u, v) = (vector(&plain), vector(&gradient(true)));
    let f = kronecker(&matrix(b), &matrix(a));
    let (under_f, plain, preconditioned) = (v.dot(&f.dot(&v)).sqrt(), u.dot(&u).sqrt(), v.dot(&v).sqrt());
    assert!((under_f / plain - 1.0).abs() < 1e-9, "{under_f} {plain}");
    assert!((preconditioned / plain - 1.0).abs() > 0.1, "the lengths themselves differ: {preconditioned} {plain}");
}

/// Theorem 2: of a quadratic loss whose gradients have a known covariance, the noise of the preconditioned gradients is the
/// same in all directions, and that of the plain ones is not. An example's loss is `|W a - y|² / 2`, and `W a - y = b`.
#[test]
fn the_noise_of_preconditioned_gradients_has_no_direction() {
    fn layer<M: Method>(vs: &nn::VarStore, hatted: &Hatted<M>) -> tch_svgd::hatted::HattedLinear<M> {
        seeded(1, || hatted.linear(vs.root(), 3, 2, nn::LinearConfig { bias: false, ..Default::default() }))
    }
    let config = TsoAlraConfig {
        gamma: 1.0,
        eps: 1e-9,
        damping: Damping::Absolute,
        graft: Graft::None,
        warmup: 1,
        stats_interval: u64::MAX,
        interval: u64::MAX,
        ..Default::default()
    };
    let (vs, tso) = (nn::VarStore::new(Device::Cpu), TsoAlra::new(config).unwrap());
    let layer = layer(&vs, &tso);
    // Directions of deviation 3 to 0.2, which no axis has.
    let mixed = |seed: i64, n: i64, deviations: &[f32], count: i64| {
        let (turned, _) = Tensor::linalg_qr(&noise(seed, &[n, n], Kind::Float), "reduced");
        (noise(seed + 1, &[count, n], Kind::Float) * Tensor::from_slice(deviations)).matmul(&turned)
    };
    let samples = 6000;
    let (a, b) = (mixed(10, 3, &[3.0, 1.0, 0.3], samples), mixed(20, 2, &[2.0, 0.2], samples));
    let y = tch::no_grad(|| layer.forward(&a)) - &b;
    let loss = |rows: &Tensor, y: &Tensor| {
        let squares = (layer.forward(rows) - y).square().sum(Kind::Float);
        squares / (2 * rows.size()[0]) as f64
    };
    let covariance = || {
        let mut sum = Array2::<f64>::zeros((6, 6));
        for i in 0..samples {
            let loss = loss(&a.narrow(0, i, 1), &y.narrow(0, i, 1));
            let gradient = Tensor::run_backward(&[loss], &[&layer.ws], false, false).remove(0);
            let g = Array1::from_iter(to_array(&gradient));
            let g = g.view().insert_axis(ndarray::Axis(1));
            sum += &g.dot(&g.t());
        }
        let tensor = Tensor::from_slice(sum.as_slice().unwrap()).view([6, 6]) / samples as f64;
        let (values, _) = tensor.linalg_eigh("L");
        (values.double_value(&[0]), values.double_value(&[5]))
    };
    loss(&a, &y).backward(); // the one update of A and B
    tso.set_enabled(false);
    let (least, most) = covariance();
    assert!(most / least > 1000.0, "plain: {least} to {most}");
    tso.set_enabled(true);
    tso.step(); // the decomposition
    let (least, most) = covariance();
    assert!(least > 0.8 && most < 1.25, "preconditioned: {least} to {most}, where each should be 1");
}
