//! TSO-ALRA: the method, and the names of its layers.

mod config;
pub mod functional;

pub use config::{Damping, Graft, Positions, TsoAlraConfig};

use crate::error::Result;
use crate::hatted::{Geometry, Hatted, HattedConv2D, HattedLinear, Method, Pass, Settings, method::Sealed};
use functional::{Factors, Preconditioning};
use tch::{Device, Kind, Tensor};

/// TSO-ALRA: preconditioned gradients for the weights and biases of [`TsoAlraLinear`] and [`TsoAlraConv2D`], and plain ones
/// after a [switch](Hatted::set_switch) (eq. 15 to 18 and Algorithm 1 of the paper).
///
/// Makes the layers and owns their second moments, `A` of what a layer sees and `B` of the gradient of what it gives, and
/// the inverse roots of these. An ordinary `backward()` updates `A` and `B` every
/// [`stats_interval`](TsoAlraConfig::stats_interval) steps, and leaves `B^(-1/2) G A^(-1/2)` in the place of the plain
/// gradient `G` of `[weight, bias]`. [`step`](Hatted::step), called after each step of the optimizer, makes the roots anew every
/// [`interval`](TsoAlraConfig::interval) steps; before the first the gradients are plain. Where a bias is frozen, the weight is put between the roots' own parts of it. Clones
/// share everything.
///
/// ```
/// use tch::nn::{self, Module, OptimizerConfig};
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::{Stage, Switch, TsoAlra, TsoAlraConfig};
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let tso = TsoAlra::new(TsoAlraConfig { warmup: 2, ..Default::default() })?;
/// tso.set_switch(Switch::AtStep(3))?;
/// let model = tso.linear(vs.root() / "fc", 4, 3, Default::default());
/// let mut optimizer = nn::Sgd::default().build(&vs, 0.1)?;
///
/// let (xs, labels) = (Tensor::randn([8, 4], (Kind::Float, Device::Cpu)), Tensor::from_slice(&[0i64, 1, 2, 0, 1, 2, 0, 1]));
/// for _ in 0..3 {
///     let loss = model.forward(&xs).cross_entropy_for_logits(&labels);
///     optimizer.backward_step(&loss);
///     tso.step();
/// }
/// assert_eq!(tso.stage(), Stage::Plain);
/// assert_eq!(tso.state_bytes(), 2 * (5 * 5 + 3 * 3) * 4); // A, of four inputs and the bias, and B, with their roots
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type TsoAlra = Hatted<TsoAlraMethod>;

/// A fully-connected layer `[…, in]` → `[…, out]` whose weight and bias get preconditioned gradients: [`tch::nn::Linear`],
/// made by [`TsoAlra::linear`](Hatted::linear).
///
/// The output and the gradient of the input are those of [`tch::nn::Linear`] to the bit. The equations are those of
/// [`functional::linear`](crate::functional::tso_alra::linear).
///
/// ```
/// use tch::nn::{self, Module};
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::{TsoAlra, TsoAlraConfig};
/// let vs = nn::VarStore::new(Device::Cpu);
/// let fc = TsoAlra::new(TsoAlraConfig::default())?.linear(vs.root() / "fc", 4, 3, Default::default());
/// let output = fc.forward(&Tensor::randn([5, 7, 4], (Kind::Float, Device::Cpu)));
/// output.square().mean(None).backward();
/// assert_eq!(fc.second_moments().unwrap().map(|m| m.size()), [[1, 5, 5], [1, 3, 3]]);
/// # Ok::<(), tch_svgd::Error>(())
/// ```
pub type TsoAlraLinear = HattedLinear<TsoAlraMethod>;

/// A 2-D convolution `[n, c_in, h, w]` → `[n, c_out, h_out, w_out]` whose weight and bias get preconditioned gradients:
/// [`tch::nn::Conv2D`], made by [`TsoAlra::conv2d`](Hatted::conv2d) or [`TsoAlra::conv`](Hatted::conv).
///
/// The output and the gradient of the input are those of [`tch::nn::Conv2D`] to the bit, for every padding mode. Images of
/// any size may follow each other. The equations are those of [`functional::conv2d`](crate::functional::tso_alra::conv2d).
///
/// ```
/// use tch::nn::{self, Module};
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::{TsoAlra, TsoAlraConfig};
/// let vs = nn::VarStore::new(Device::Cpu);
/// let config = nn::ConvConfig { padding: 1, bias: false, ..Default::default() };
/// let conv = TsoAlra::new(TsoAlraConfig::default())?.conv2d(vs.root() / "conv", 3, 16, 3, config);
/// let output = conv.forward(&Tensor::randn([2, 3, 8, 8], (Kind::Float, Device::Cpu)));
/// output.square().mean(None).backward();
/// assert_eq!(conv.second_moments().unwrap().map(|m| m.size()), [[1, 27, 27], [1, 16, 16]]);
/// # Ok::<(), tch_svgd::Error>(())
/// ```
pub type TsoAlraConv2D = HattedConv2D<TsoAlraMethod>;

/// TSO-ALRA, to [`Hatted`] and its layers. Its operators are those of `cpp/tso_alra/method.h`.
#[derive(Debug)]
pub enum TsoAlraMethod {}

impl Sealed for TsoAlraMethod {}

impl Method for TsoAlraMethod {
    type Config = TsoAlraConfig;

    const NAME: &'static str = "TsoAlra";
    const FORMAT: &'static str = "tch-svgd Kronecker factors 1";
    const STATE: &'static [&'static str] = &["input_factor", "output_factor", "input_root", "output_root"];

    fn validate(config: &TsoAlraConfig) -> Result<()> {
        config.validate()
    }

    /// Second moments of zero, and roots that change nothing.
    fn initial(_: &TsoAlraConfig, pass: &Pass<'_>, options: (Kind, Device)) -> Result<Vec<Tensor>> {
        let groups = match pass.geometry {
            Geometry::Linear => 1,
            Geometry::Conv2D(convolution) => convolution.groups.max(1),
        };
        // What cannot be a weight is the operator's to refuse.
        let outputs = pass.ws.size().first().copied().unwrap_or(1).max(1);
        let inputs = pass.ws.numel() as i64 / outputs + i64::from(pass.bs.is_some());
        let sizes = [[groups, inputs, inputs], [groups, outputs / groups, outputs / groups]];
        let mut tensors = Vec::with_capacity(Self::STATE.len());
        for index in 0..Self::STATE.len() {
            tensors.push(Tensor::f_zeros(sizes[index % 2], options)?);
            Self::forget(index, &mut tensors[index]);
        }
        Ok(tensors)
    }

    fn forget(index: usize, tensor: &mut Tensor) {
        let _ = tensor.zero_();
        if index >= 2 {
            let _ = tensor.diagonal(0, 1, 2).fill_(1.0);
        }
    }

    fn check_loaded(_: &TsoAlraConfig, _: &Geometry, tensors: &[Tensor]) -> std::result::Result<(), String> {
        for (tensor, name) in tensors.iter().zip(Self::STATE) {
            let size = tensor.size();
            if !matches!(size[..], [groups, n, m] if groups > 0 && n > 0 && n == m) {
                return Err(format!("{name}: expected shape [groups, n, n], got {size:?}; the model is another one"));
            }
            if !bool::try_from(tensor.isfinite().all()).unwrap_or(false) {
                return Err(format!("{name}: expected finite values, got others; the file is damaged"));
            }
        }
        let sizes: Vec<_> = tensors.iter().map(Tensor::size).collect();
        if sizes[..2] != sizes[2..] || sizes[0][0] != sizes[1][0] {
            return Err(format!("expected two factors of as many groups, and their roots, got shapes {sizes:?}"));
        }
        Ok(())
    }

    fn call(settings: &Settings<TsoAlraConfig>, pass: &Pass<'_>, state: &[Tensor]) -> Result<Tensor> {
        let (config, steps) = (settings.config, settings.progress.steps);
        let preconditioning = Preconditioning {
            gamma: config.gamma,
            gradient_scale: settings.gradient_scale(config.batch_gradient, pass),
            sum_positions: config.positions == Positions::Sum,
            update: config.updates_after(steps),
            precondition: config.has_roots_after(steps),
            graft: config.graft == Graft::PlainNorm,
        };
        let [input, output, input_root, output_root] = [0, 1, 2, 3].map(|index| &state[index]);
        let factors = Factors { input, output, input_root, output_root };
        let Pass { xs, ws, bs, geometry } = *pass;
        match geometry {
            Geometry::Linear => functional::linear(xs, ws, bs, factors, preconditioning),
            Geometry::Conv2D(convolution) => functional::conv2d(xs, ws, bs, factors, convolution, preconditioning),
        }
    }

    fn after_step(config: &TsoAlraConfig, steps: u64, states: &[Vec<Tensor>]) -> Result<()> {
        if !config.decomposes_after(steps) {
            return Ok(());
        }
        let (factors, roots): (Vec<_>, Vec<_>) =
            states.iter().flat_map(|state| state[..2].iter().zip(&state[2..])).unzip();
        functional::inverse_roots(&factors, &roots, config.eps, config.damping)
    }
}

impl HattedLinear<TsoAlraMethod> {
    /// Copies of `A`, `[1, in (+ 1), in (+ 1)]`, and of `B`, `[1, out, out]`, once the layer has had a forward pass with
    /// gradients or has been loaded. No backward pass may run in another thread meanwhile: it changes the values that are
    /// being copied.
    pub fn second_moments(&self) -> Option<[Tensor; 2]> {
        first_two(self.state())
    }
}

impl HattedConv2D<TsoAlraMethod> {
    /// Copies of `A`, `[groups, in (+ 1), in (+ 1)]` with `in` the weights of an output, and of `B`,
    /// `[groups, c_out / groups, c_out / groups]`, once the layer has had a forward pass with gradients or has been loaded. No
    /// backward pass may run in another thread meanwhile: it changes the values that are being copied.
    pub fn second_moments(&self) -> Option<[Tensor; 2]> {
        first_two(self.state())
    }
}

fn first_two(state: Option<Vec<Tensor>>) -> Option<[Tensor; 2]> {
    let mut tensors = state?.into_iter();
    Some([tensors.next()?, tensors.next()?])
}
