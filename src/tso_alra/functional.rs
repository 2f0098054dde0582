//! TSO-ALRA's operators.

use crate::bridge::ffi;
pub use crate::bridge::ffi::{Convolution, Preconditioning};
use crate::convert::{bias_or_undefined, lend, lend_all, take};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::tso_alra::Damping;
use tch::Tensor;

impl Default for Preconditioning {
    /// `γ` 0.05, the gradient as it comes, the mean over positions; statistics are updated, and the gradient is
    /// preconditioned and grafted.
    fn default() -> Self {
        Self { gamma: 0.05, gradient_scale: 1.0, sum_positions: false, update: true, precondition: true, graft: true }
    }
}

/// The second moments of a layer and their inverse roots: `groups` matrices each, Float (Double for Double weights), on the
/// weight's device. `in` is the number of weights of an output; a bias counts as one more.
#[derive(Debug, Clone, Copy)]
pub struct Factors<'a> {
    /// `A`, `[groups, in (+ 1), in (+ 1)]`, of what an output sees of the input. **Changed** by backward passes with
    /// [`update`](Preconditioning::update).
    pub input: &'a Tensor,
    /// `B`, `[groups, out / groups, out / groups]`, of the outputs' gradients. **Changed** likewise.
    pub output: &'a Tensor,
    /// `A^(-1/2)`, of `A`'s size.
    pub input_root: &'a Tensor,
    /// `B^(-1/2)`, of `B`'s size.
    pub output_root: &'a Tensor,
}

/// `input weightᵀ + bias`, whose backward pass gives `weight` and `bias` the preconditioned gradient.
///
/// - `input`: `[…, in]`; `weight`: `[out, in]`; `bias`: `[out]`; the result: `[…, out]`, equal to
///   [`Tensor::linear`]'s to the bit.
/// - `factors`: of one group. `A` and `B` are changed by each backward pass in which `weight` needs a gradient and `update` is
///   set: `A ← (1 - γ) A + γ mean(a aᵀ)`, `B ← (1 - γ) B + γ mean((k b)(k b)ᵀ)`, where `a` is a row of the input with a 1
///   behind if there is a bias, and `b` that of the result's gradient (TSO-ALRA, eq. 17 and 18).
///
/// With `precondition`, `[weight, bias]` gets `B^(-1/2) G A^(-1/2)` of its plain gradient `G` (eq. 15 and 16), by the roots as
/// they are; with `graft`, as long as `G`. Where the bias asks for none, the block is the weight alone.
///
/// # Errors
/// [`Error::Shape`], [`Error::Kind`], [`Error::Device`], [`Error::Config`], [`Error::Unsupported`] name the argument;
/// [`Error::OutOfMemory`]; [`Error::Torch`] for anything else that libtorch raises.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::functional::tso_alra::{Factors, Preconditioning, inverse_roots, linear};
/// use tch_svgd::Damping;
/// let float = (Kind::Float, Device::Cpu);
/// let weight = Tensor::randn([2, 3], float).set_requires_grad(true);
/// let (a, b) = (Tensor::eye(3, float).unsqueeze(0), Tensor::eye(2, float).unsqueeze(0));
/// let (input_root, output_root) = (a.copy(), b.copy());
/// let factors = Factors { input: &a, output: &b, input_root: &input_root, output_root: &output_root };
/// let input = Tensor::randn([5, 3], float);
/// let output = linear(&input, &weight, None, factors, Preconditioning::default())?;
/// output.square().mean(None).backward();
/// inverse_roots(&[&a, &b], &[&input_root, &output_root], 1e-2, Damping::Relative)?;
/// # Ok::<(), tch_svgd::Error>(())
/// ```
pub fn linear(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    factors: Factors<'_>,
    preconditioning: Preconditioning,
) -> Result<Tensor> {
    let bias = bias_or_undefined("tso_alra::linear", bias)?;
    Ok(take(ffi::tso_alra_linear(
        lend(input),
        lend(weight),
        lend(&bias),
        lend(factors.input),
        lend(factors.output),
        lend(factors.input_root),
        lend(factors.output_root),
        &preconditioning,
    )?))
}

/// A 2-D convolution whose backward pass gives `weight` and `bias` the preconditioned gradient.
///
/// - `input`: `[n, c_in, h, w]` or, without a batch, `[c_in, h, w]`; `weight`: `[c_out, c_in / groups, kh, kw]`; `bias`:
///   `[c_out]`; the result: `[n, c_out, h_out, w_out]` or `[c_out, h_out, w_out]`, equal to [`Tensor::conv2d`]'s to the bit.
/// - `factors`: as for [`linear`], where `a` is the patch that an output at one position sees, in the order of a row of the
///   weight, and `b` the gradient of the outputs there; both are averaged over the batch and the positions, or `a aᵀ` summed
///   over the positions.
///
/// # Errors
/// As [`linear`].
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::functional::tso_alra::{Convolution, Factors, Preconditioning, conv2d};
/// let float = (Kind::Float, Device::Cpu);
/// let weight = Tensor::randn([4, 3, 3, 3], float).set_requires_grad(true);
/// let (a, b) = (Tensor::zeros([1, 27, 27], float), Tensor::zeros([1, 4, 4], float));
/// let (input_root, output_root) = (Tensor::eye(27, float).unsqueeze(0), Tensor::eye(4, float).unsqueeze(0));
/// let factors = Factors { input: &a, output: &b, input_root: &input_root, output_root: &output_root };
/// let images = Tensor::randn([2, 3, 8, 8], float);
/// let same = Convolution { padding: [1, 1], ..Default::default() };
/// let output = conv2d(&images, &weight, None, factors, same, Preconditioning::default())?;
/// output.square().mean(None).backward();
/// assert!(a.abs().max().double_value(&[]) > 0.0);
/// # Ok::<(), tch_svgd::Error>(())
/// ```
pub fn conv2d(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    factors: Factors<'_>,
    convolution: Convolution,
    preconditioning: Preconditioning,
) -> Result<Tensor> {
    let bias = bias_or_undefined("tso_alra::conv2d", bias)?;
    Ok(take(ffi::tso_alra_conv2d(
        lend(input),
        lend(weight),
        lend(&bias),
        lend(factors.input),
        lend(factors.output),
        lend(factors.input_root),
        lend(factors.output_root),
        &convolution,
        &preconditioning,
    )?))
}

/// `roots[i] ← (factors[i] + d I)^(-1/2)`, by the eigenvalues, with `d` what `eps` and `damping` say (TSO-ALRA, eq. 15 and
/// 16): in Float and, where these are not found, in Double.
///
/// - `factors`: symmetric, `[n, n]` or `[groups, n, n]`, Float or Double.
/// - `roots`: of the same sizes. **Changed**, but for those whose factor is zero or cannot be decomposed, which libtorch warns
///   of.
///
/// # Errors
/// [`Error::Shape`], [`Error::Kind`], [`Error::Device`], [`Error::Config`] name the argument; [`Error::OutOfMemory`];
/// [`Error::Torch`] for anything else that libtorch raises. The roots are untouched then.
///
/// ```
/// use tch::Tensor;
/// use tch_svgd::{Damping, functional::tso_alra::inverse_roots};
/// let factor = Tensor::from_slice(&[4f32, 0.0, 0.0, 16.0]).view([2, 2]);
/// let root = factor.zeros_like();
/// inverse_roots(&[&factor], &[&root], 1e-6, Damping::Absolute)?;
/// assert!((root.double_value(&[0, 0]) - 0.5).abs() < 1e-4 && (root.double_value(&[1, 1]) - 0.25).abs() < 1e-4);
/// # Ok::<(), tch_svgd::Error>(())
/// ```
pub fn inverse_roots(factors: &[&Tensor], roots: &[&Tensor], eps: f64, damping: Damping) -> Result<()> {
    let (factors, roots) = (lend_all(factors.iter().copied())?, lend_all(roots.iter().copied())?);
    Ok(ffi::tso_alra_inverse_roots(&factors, &roots, eps, damping == Damping::Relative)?)
}
