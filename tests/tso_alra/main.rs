//! TSO-ALRA: the paper in plain loops, its decompositions, its schedule, and what it proves.

#[path = "../common/mod.rs"]
mod common;

mod errors;
mod gradients;
mod roots;
mod schedule;
mod second_moments;
mod theory;

use ndarray::{Array2, Array3, Axis};
use tch::{Kind, Tensor};
use tch_svgd::functional::tso_alra::Factors;

/// The state of a layer: `A`, `B`, and their roots.
struct State([Tensor; 4]);

impl State {
    /// As at first: second moments of zero, and roots that change nothing.
    fn new(groups: i64, inputs: i64, outputs: i64, kind: Kind) -> Self {
        let options = (common::moment_kind(kind), tch::Device::Cpu);
        let zeros = |n: i64| Tensor::zeros([groups, n, n], options);
        let eye = |n: i64| Tensor::eye(n, options).repeat([groups, 1, 1]);
        State([zeros(inputs), zeros(outputs), eye(inputs), eye(outputs)])
    }

    /// With roots that are symmetric and positive, and no identity.
    fn with_roots(mut self) -> Self {
        for (index, root) in self.0.iter_mut().enumerate().skip(2) {
            let random = common::random(60 + index as i64, &root.size(), root.kind());
            *root = random.matmul(&random.transpose(1, 2)) / root.size()[1] as f64 + &*root;
        }
        self
    }

    fn factors(&self) -> Factors<'_> {
        let [input, output, input_root, output_root] = &self.0;
        Factors { input, output, input_root, output_root }
    }
}

fn matrices(tensor: &Tensor) -> Array3<f64> {
    common::to_array(tensor).into_dimensionality().unwrap()
}

/// The one matrix of a layer without groups.
fn matrix(tensor: &Tensor) -> Array2<f64> {
    matrices(tensor).index_axis_move(Axis(0), 0)
}

/// `f` of the eigenvalues of a symmetric matrix, in loops: Jacobi's rotations.
fn of_eigenvalues(matrix: &Array2<f64>, f: impl Fn(f64) -> f64) -> Array2<f64> {
    let n = matrix.nrows();
    let (mut a, mut vectors) = (matrix.clone(), Array2::<f64>::eye(n));
    for _ in 0..60 {
        for p in 0..n {
            for q in p + 1..n {
                if a[[p, q]] == 0.0 {
                    continue;
                }
                let theta = (a[[q, q]] - a[[p, p]]) / (2.0 * a[[p, q]]);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / t.hypot(1.0);
                let s = t * c;
                let rotate = |m: &mut Array2<f64>, by_column: bool| {
                    for k in 0..n {
                        let (i, j) = if by_column { ([k, p], [k, q]) } else { ([p, k], [q, k]) };
                        (m[i], m[j]) = (c * m[i] - s * m[j], s * m[i] + c * m[j]);
                    }
                };
                rotate(&mut a, true);
                rotate(&mut a, false);
                rotate(&mut vectors, true);
            }
        }
    }
    let scaled = &vectors * &a.diag().mapv(f);
    scaled.dot(&vectors.t())
}

/// The Kronecker product.
fn kronecker(b: &Array2<f64>, a: &Array2<f64>) -> Array2<f64> {
    let (rows, columns) = a.dim();
    Array2::from_shape_fn((b.nrows() * rows, b.ncols() * columns), |(i, j)| {
        b[[i / rows, j / columns]] * a[[i % rows, j % columns]]
    })
}
