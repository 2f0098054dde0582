//! The inverse roots: of matrices as bad as they come, of many sizes at once.

use super::{matrix, of_eigenvalues};
use crate::common::*;
use ndarray::Array2;
use tch::{Kind, Tensor};
use tch_svgd::Damping;
use tch_svgd::functional::tso_alra::inverse_roots;

/// A symmetric matrix with these eigenvalues, in directions that no axis has.
fn with_eigenvalues(seed: i64, values: &[f64]) -> Tensor {
    let n = values.len() as i64;
    let (directions, _) = Tensor::linalg_qr(&random(seed, &[n, n], Kind::Double), "reduced");
    let scaled = &directions * Tensor::from_slice(values);
    scaled.matmul(&directions.tr())
}

fn inverse_root(factor: &Tensor, eps: f64, damping: Damping) -> Tensor {
    let root = Tensor::eye(factor.size()[0], (factor.kind(), factor.device()));
    inverse_roots(&[factor], &[&root], eps, damping).unwrap();
    root
}

#[test]
fn they_are_those_of_the_eigenvalues() {
    for n in [1, 2, 7, 24] {
        let values: Vec<_> = (0..n).map(|i| 0.1 + 3.0 * f64::from(i)).collect();
        let mean = values.iter().sum::<f64>() / f64::from(n);
        let factor = with_eigenvalues(1, &values);
        for (damping, added) in [(Damping::Absolute, 0.05), (Damping::Relative, 0.05 * mean)] {
            let array: Array2<f64> = to_array(&factor).into_dimensionality().unwrap();
            let expected = of_eigenvalues(&array, |value| 1.0 / (value + added).sqrt());
            for kind in [Kind::Double, Kind::Float] {
                let root = inverse_root(&factor.to_kind(kind), 0.05, damping);
                assert_close(&root, &expected, kind, &format!("{n} {damping:?} {kind:?}"));
            }
        }
    }
}

/// Over twelve orders of magnitude, and of rank 3 of 20: the small eigenvalues are lost in a Float, some of them below
/// zero. The root is bounded by `1/√eps`, and right where the matrix is.
#[test]
fn ill_conditioned_and_rank_deficient_matrices_have_bounded_roots() {
    let ill: Vec<_> = (0..20).map(|i| 10f64.powf(3.0 - 0.6 * f64::from(i))).collect();
    let deficient: Vec<_> = (0..20).map(|i| if i < 3 { 5.0 } else { 0.0 }).collect();
    for (name, values) in [("ill-conditioned", ill), ("rank-deficient", deficient)] {
        let mean = values.iter().sum::<f64>() / 20.0;
        let factor = with_eigenvalues(2, &values);
        let eye = Tensor::eye(20, (Kind::Double, tch::Device::Cpu));
        for (eps, damping, added) in [(1e-2, Damping::Relative, 1e-2 * mean), (1e-6, Damping::Absolute, 1e-6)] {
            let root = inverse_root(&factor.to_kind(Kind::Float), eps, damping);
            let largest = root.linalg_eigh("L").0.abs().max().double_value(&[]);
            assert!(largest <= 1.01 / added.sqrt(), "{name} {damping:?}: {largest}");
            assert!(root.allclose(&root.tr(), 1e-4, 1e-4 * largest, false), "{name} {damping:?}: not symmetric");
            // root (factor + d I) root = I, as far as a Float of the largest eigenvalue goes.
            if damping == Damping::Relative {
                let (root, damped) = (root.to_kind(Kind::Double), &factor + &eye * added);
                let identity = root.matmul(&damped).matmul(&root) - &eye;
                assert!(identity.abs().max().double_value(&[]) < 2e-3, "{name}: {}", identity.abs().max());
            }
        }
    }
}

#[test]
fn matrices_of_many_sizes_are_decomposed_at_once() {
    // Small ones are decomposed together, large ones alone.
    let sizes = [(1, 3), (4, 5), (1, 40), (2, 3), (1, 70), (1, 5), (1, 1), (2, 64)];
    let factors: Vec<_> = (sizes.into_iter().enumerate())
        .map(|(i, (groups, n))| {
            let random = random(i as i64, &[groups, n, 2 * n], Kind::Float);
            random.matmul(&random.transpose(1, 2)) / n as f64
        })
        .collect();
    let roots: Vec<_> = factors.iter().map(Tensor::zeros_like).collect();
    let [factors_of, roots_of] = [&factors, &roots].map(|tensors| tensors.iter().collect::<Vec<_>>());
    inverse_roots(&factors_of, &roots_of, 1e-3, Damping::Relative).unwrap();
    for (factor, root) in factors.iter().zip(&roots) {
        for group in 0..factor.size()[0] {
            let alone = inverse_root(&factor.get(group), 1e-3, Damping::Relative);
            assert!(root.get(group).allclose(&alone, 1e-4, 1e-5, false), "{:?}", factor.size());
        }
    }
}

#[test]
fn a_root_stays_where_there_is_nothing_to_decompose() {
    let kind = Kind::Float;
    for damping in [Damping::Relative, Damping::Absolute] {
        let factors = Tensor::stack(&[zeros(&[3, 3], kind), Tensor::eye(3, (kind, tch::Device::Cpu)) * 4.0], 0);
        let root = random(1, &[2, 3, 3], kind);
        let before = root.copy();
        inverse_roots(&[&factors], &[&root], 1e-6, damping).unwrap();
        assert_same_bits(&root.get(0), &before.get(0), "of a factor of zero");
        let half = Tensor::eye(3, (kind, tch::Device::Cpu)) * 0.5;
        assert!(root.get(1).allclose(&half, 1e-3, 1e-3, false), "of the one beside it");
    }
}

/// What has no root in a Float has one in a Double: eigenvalues whose sum is no Float, and such as a Float barely holds.
#[test]
fn what_a_float_cannot_decompose_is_decomposed_in_double() {
    for (value, tolerance) in [(2e38, 1e-5), (1e-42, 1e-3)] {
        let factor = Tensor::eye(5, (Kind::Float, tch::Device::Cpu)) * value;
        let exact = factor.double_value(&[0, 0]);
        let root = inverse_root(&factor, 1e-2, Damping::Relative).double_value(&[2, 2]);
        let expected = 1.0 / (exact * 1.01).sqrt();
        assert!((root / expected - 1.0).abs() < tolerance, "{value}: {root}, not {expected}");
    }
}

/// What no algorithm decomposes: the root of before stays, the others are made, and libtorch warns.
#[test]
fn a_root_stays_where_the_decomposition_fails() {
    let kind = Kind::Float;
    let eye = Tensor::eye(3, (kind, tch::Device::Cpu));
    let (bad, good) = (&eye * f64::NAN, &eye * 4.0);
    let roots = [random(1, &[3, 3], kind), random(2, &[3, 3], kind)];
    let before = roots[0].copy();
    // Of one size, so of one batch.
    inverse_roots(&[&bad, &good], &[&roots[0], &roots[1]], 1e-6, Damping::Absolute).unwrap();
    assert_same_bits(&roots[0], &before, "of what is not finite");
    assert!((matrix(&roots[1].unsqueeze(0))[[0, 0]] - 0.5).abs() < 1e-3);
}

/// An autocast region casts no matrix of these, on no thread.
#[test]
fn autocast_does_not_reach_the_decompositions() {
    let factors: Vec<_> =
        (0..6).map(|seed| with_eigenvalues(seed, &[0.1, 1.0, 2.0, 3.0]).to_kind(Kind::Float)).collect();
    let decompose = || {
        let roots: Vec<_> = factors.iter().map(Tensor::zeros_like).collect();
        let [factors, of] = [&factors, &roots].map(|tensors| tensors.iter().collect::<Vec<_>>());
        inverse_roots(&factors, &of, 1e-3, Damping::Relative).unwrap();
        roots
    };
    let cast = tch_svgd::autocast(tch::Device::Cpu, Kind::BFloat16, decompose).unwrap();
    for (plain, cast) in decompose().iter().zip(&cast) {
        assert_same_bits(plain, cast, "a root");
    }
}
