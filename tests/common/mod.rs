//! What the tests share: random tensors, comparisons, and Algorithm 1 in plain loops.
#![allow(dead_code)] // each test file uses its own part

use ndarray::{Array1, Array2, Array4, ArrayD, IxDyn};
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor};
use tch_svgd::Error;
use tch_svgd::functional::{Convolution, Hyperparameters};

/// The devices that a test runs on: the CPU, and CUDA where libtorch sees a device. `TCH_SVGD_REQUIRE_CUDA=1` makes a
/// missing one an error.
pub fn devices() -> Vec<Device> {
    if tch::Cuda::is_available() {
        return vec![Device::Cpu, Device::Cuda(0)];
    }
    let required = std::env::var("TCH_SVGD_REQUIRE_CUDA").is_ok_and(|required| required == "1");
    assert!(!required, "TCH_SVGD_REQUIRE_CUDA is set, and libtorch sees no CUDA device");
    // Past the capture of test output: a skipped test says so on the screen.
    let _ = writeln!(std::io::stderr(), "no CUDA device: the test runs on the CPU alone");
    vec![Device::Cpu]
}

/// A tensor of the given kind with values that bfloat16 and half represent exactly: multiples of 1/64 in [-2, 2).
/// So the reference computes with the very values that the operator sees.
pub fn random(seed: i64, size: &[i64], kind: Kind) -> Tensor {
    seeded(seed, || (Tensor::randint_low(-128, 128, size, (Kind::Double, Device::Cpu)) / 64.0).to_kind(kind))
}

/// Standard normal values.
pub fn noise(seed: i64, size: &[i64], kind: Kind) -> Tensor {
    seeded(seed, || Tensor::randn(size, (Kind::Float, Device::Cpu)).to_kind(kind))
}

/// Runs `f` with libtorch's random numbers from `seed` on. All threads draw from one generator, and tests run in
/// several: a layer that is made outside of this takes numbers from those that are made inside.
pub fn seeded<T>(seed: i64, f: impl FnOnce() -> T) -> T {
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _guard = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed);
    f()
}

/// A leaf that requires a gradient, with the memory layout of `tensor`.
pub fn leaf(tensor: &Tensor) -> Tensor {
    tensor.detach().set_requires_grad(true)
}

pub fn zeros(size: &[i64], kind: Kind) -> Tensor {
    Tensor::zeros(size, (kind, Device::Cpu))
}

pub fn channels_last(tensor: &Tensor) -> Tensor {
    // tch binds no memory format: a permuted copy has the same strides.
    tensor.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// The kind of the accumulators for gradients of `kind`.
pub fn moment_kind(kind: Kind) -> Kind {
    if kind == Kind::Double { Kind::Double } else { Kind::Float }
}

/// What rounding may do to a sum of products in this kind, relative to the largest value.
pub fn tolerance(kind: Kind) -> f64 {
    match kind {
        Kind::Double => 1e-12,
        Kind::Float => 2e-5,
        Kind::Half => 4e-3,
        Kind::BFloat16 => 3e-2,
        other => panic!("no tolerance for {other:?}"),
    }
}

pub fn to_array(tensor: &Tensor) -> ArrayD<f64> {
    let size: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
    let tensor = tensor.detach().to_kind(Kind::Double).contiguous();
    let values = Vec::<f64>::try_from(tensor.view([-1])).unwrap();
    ArrayD::from_shape_vec(IxDyn(&size), values).unwrap()
}

/// The error of a call, of its class and with these words.
#[track_caller]
pub fn check<T>(result: tch_svgd::Result<T>, class: fn(&Error) -> bool, words: &[&str]) {
    let error = result.err().expect("an error");
    assert!(class(&error), "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} in: {error}");
    }
}

pub fn is_shape(error: &Error) -> bool {
    matches!(error, Error::Shape(_))
}
pub fn is_config(error: &Error) -> bool {
    matches!(error, Error::Config(_))
}
pub fn is_kind(error: &Error) -> bool {
    matches!(error, Error::Kind(_))
}
pub fn is_unsupported(error: &Error) -> bool {
    matches!(error, Error::Unsupported(_))
}

/// Whether two tensors have the same shape, kind and bits (NaN equals NaN).
pub fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    let bits = |t: &Tensor| {
        let t = t.detach().contiguous();
        let mut bytes = vec![0; t.numel() * t.kind().elt_size_in_bytes()];
        t.copy_data_u8(&mut bytes, t.numel());
        bytes
    };
    a.size() == b.size() && a.kind() == b.kind() && bits(a) == bits(b)
}

#[track_caller]
pub fn assert_same_bits(a: &Tensor, b: &Tensor, what: &str) {
    assert!(same_bits(a, b), "{what} differs: {a:?} {b:?}, by {:?} at most", (a - b).abs().max());
}

/// The largest difference is within the tolerance of `kind` times the largest expected value.
#[track_caller]
pub fn assert_close<D: ndarray::Dimension>(got: &Tensor, expected: &ndarray::Array<f64, D>, kind: Kind, what: &str) {
    let got = to_array(got);
    let expected = expected.clone().into_dyn();
    assert_eq!(got.shape(), expected.shape(), "{what}: shape");
    let largest = expected.iter().fold(1e-30, |m: f64, v| m.max(v.abs()));
    for (index, value) in expected.indexed_iter() {
        let difference = (got[&index] - value).abs();
        assert!(
            difference <= tolerance(kind) * largest,
            "{what}{index:?}: expected {value}, got {}, the largest is {largest}",
            got[&index]
        );
    }
}

// ---- Algorithm 1 of the SVGD paper, in loops over f64 arrays, independent of torch ------------------------------

/// Which elements of a sample's output share a value of the second moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Share {
    Nothing,
    Channel,
}

/// q, r and t for a gradient `[n, c, h, w]`; `second_moment` is `[c, h, w]`, or `[c, 1, 1]` with [`Share::Channel`].
pub fn virtual_grad(
    grad_output: &Array4<f64>,
    second_moment: &mut ndarray::Array3<f64>,
    share: Share,
    hyper: Hyperparameters,
) -> Array4<f64> {
    let (n, c, h, w) = grad_output.dim();
    let k = if hyper.gradient_scale > 0.0 { hyper.gradient_scale } else { n as f64 };
    let mut q = second_moment.clone() * 0.0;
    let place = |y: usize, x: usize| if share == Share::Channel { (0, 0) } else { (y, x) };
    let count = if share == Share::Channel { n * h * w } else { n };
    for i in 0..n {
        for j in 0..c {
            for y in 0..h {
                for x in 0..w {
                    let (row, column) = place(y, x);
                    q[[j, row, column]] += (k * grad_output[[i, j, y, x]]).powi(2) / count as f64;
                }
            }
        }
    }
    for (r, q) in second_moment.iter_mut().zip(q.iter()) {
        if q.is_finite() && count > 0 {
            *r = hyper.decay * *r + (1.0 - hyper.decay) * q;
        }
    }
    Array4::from_shape_fn((n, c, h, w), |(i, j, y, x)| {
        let (row, column) = place(y, x);
        hyper.scale * grad_output[[i, j, y, x]] / (second_moment[[j, row, column]] + hyper.eps).sqrt()
    })
}

/// Output, and gradients of input, weight and bias, of one layer.
pub struct Step<X, W> {
    pub output: X,
    pub grad_input: X,
    pub grad_weight: W,
    pub grad_bias: Array1<f64>,
}

/// One step of a hatted linear layer whose output has the gradient `grad_output`.
pub fn linear_step(
    input: &Array2<f64>,
    weight: &Array2<f64>,
    bias: &Array1<f64>,
    grad_output: &Array2<f64>,
    second_moment: &mut Array1<f64>,
    hyper: Hyperparameters,
) -> Step<Array2<f64>, Array2<f64>> {
    let ((n, fan_in), out) = (input.dim(), weight.nrows());
    let g4 = grad_output.clone().into_shape_with_order((n, out, 1, 1)).unwrap();
    let mut r3 = second_moment.clone().into_shape_with_order((out, 1, 1)).unwrap();
    let t = virtual_grad(&g4, &mut r3, Share::Nothing, hyper).into_shape_with_order((n, out)).unwrap();
    *second_moment = r3.into_shape_with_order(out).unwrap();
    let mut step = Step {
        output: Array2::zeros((n, out)),
        grad_input: Array2::zeros((n, fan_in)),
        grad_weight: Array2::zeros((out, fan_in)),
        grad_bias: Array1::zeros(out),
    };
    for i in 0..n {
        for o in 0..out {
            step.output[[i, o]] = bias[o];
            step.grad_bias[o] += if hyper.virtual_bias { t[[i, o]] } else { grad_output[[i, o]] };
            for j in 0..fan_in {
                step.output[[i, o]] += input[[i, j]] * weight[[o, j]];
                step.grad_input[[i, j]] += grad_output[[i, o]] * weight[[o, j]];
                step.grad_weight[[o, j]] += t[[i, o]] * input[[i, j]];
            }
        }
    }
    step
}

/// The size of a convolution's output.
pub fn conv2d_output_size(input: [usize; 4], weight: [usize; 4], convolution: Convolution) -> [usize; 4] {
    let size = |axis: usize| {
        let kernel = convolution.dilation[axis] * (weight[axis + 2] as i64 - 1) + 1;
        ((input[axis + 2] as i64 + 2 * convolution.padding[axis] - kernel) / convolution.stride[axis] + 1) as usize
    };
    [input[0], weight[0], size(0), size(1)]
}

/// One step of a hatted convolution whose output has the gradient `grad_output`.
#[allow(clippy::too_many_arguments)]
pub fn conv2d_step(
    input: &Array4<f64>,
    weight: &Array4<f64>,
    bias: &Array1<f64>,
    grad_output: &Array4<f64>,
    second_moment: &mut ndarray::Array3<f64>,
    share: Share,
    convolution: Convolution,
    hyper: Hyperparameters,
) -> Step<Array4<f64>, Array4<f64>> {
    let t = virtual_grad(grad_output, second_moment, share, hyper);
    let (n, _, height, width) = input.dim();
    let (c_out, c_group, kernel_h, kernel_w) = weight.dim();
    let (_, _, h_out, w_out) = grad_output.dim();
    let mut step = Step {
        output: Array4::zeros(grad_output.dim()),
        grad_input: Array4::zeros(input.dim()),
        grad_weight: Array4::zeros(weight.dim()),
        grad_bias: Array1::zeros(c_out),
    };
    let per_group = c_out / convolution.groups as usize;
    for i in 0..n {
        for o in 0..c_out {
            for y in 0..h_out {
                for x in 0..w_out {
                    let (g, t) = (grad_output[[i, o, y, x]], t[[i, o, y, x]]);
                    step.output[[i, o, y, x]] += bias[o];
                    step.grad_bias[o] += if hyper.virtual_bias { t } else { g };
                    for c in 0..c_group {
                        for ky in 0..kernel_h {
                            for kx in 0..kernel_w {
                                let tap = |out: usize, k: usize, axis: usize| {
                                    out as i64 * convolution.stride[axis] + k as i64 * convolution.dilation[axis]
                                        - convolution.padding[axis]
                                };
                                let (row, column) = (tap(y, ky, 0), tap(x, kx, 1));
                                if row < 0 || column < 0 || row >= height as i64 || column >= width as i64 {
                                    continue;
                                }
                                let channel = o / per_group * c_group + c;
                                let at = [i, channel, row as usize, column as usize];
                                step.output[[i, o, y, x]] += input[at] * weight[[o, c, ky, kx]];
                                step.grad_input[at] += g * weight[[o, c, ky, kx]];
                                step.grad_weight[[o, c, ky, kx]] += t * input[at];
                            }
                        }
                    }
                }
            }
        }
    }
    step
}
