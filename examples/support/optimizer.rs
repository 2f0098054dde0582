//! The optimizers of the paper's tables, on one vector of all weights.
//!
//! tch's own optimizers apply virtual gradients as well (see examples/quickstart.rs). These are here because tch cannot
//! save an optimizer's state, because the rate and Adam's step count, which libtorch keeps on the CPU, would stand still
//! in a CUDA graph, and because the paper's formulas (§5) are not libtorch's: RMSProp and Adam have ε inside of the root,
//! and RMSProp decays by 0.9.

use super::initialise::is_batch_norm;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};
use tch_svgd::{BatchGradient, Granularity, SvgdConfig};

/// The optimizers: on the gradients of tch's own layers, or on the virtual gradients of hatted ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Stochastic gradient descent.
    Sgd,
    /// SGD with momentum 0.9.
    Momentum,
    /// RMSProp with decay 0.9, ε 1e-8 inside of the root.
    Rmsprop,
    /// Adam, ε 1e-8 inside of the root.
    Adam,
    /// SGD on virtual gradients: the paper's SVGD.
    Svgd,
    /// SVGD with one second moment for each output channel of a convolution.
    SvgdChannel,
    /// SVGD with the second moments of single examples' gradients.
    SvgdPerExample,
    /// SGD with momentum 0.9 on virtual gradients.
    SvgdMomentum,
    /// Adam with the largest second moment so far.
    Amsgrad,
    /// SGD on Kronecker-factored gradients, grafted and relatively damped.
    TsoAlra,
    /// The same, and plain SGD once the validation loss stalls.
    TsoAlraSwitch,
}

/// What becomes of a gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    Sgd,
    Momentum,
    Rmsprop,
    Adam,
    Amsgrad,
}

impl OptimizerKind {
    /// The name on the command line and in reports.
    pub fn name(self) -> String {
        self.to_possible_value().expect("no kind is hidden").get_name().to_owned()
    }

    /// What becomes of the gradients, virtual or plain.
    pub fn rule(self) -> Rule {
        match self {
            Self::Sgd | Self::Svgd | Self::SvgdChannel | Self::SvgdPerExample => Rule::Sgd,
            Self::TsoAlra | Self::TsoAlraSwitch => Rule::Sgd,
            Self::Momentum | Self::SvgdMomentum => Rule::Momentum,
            Self::Rmsprop => Rule::Rmsprop,
            Self::Adam => Rule::Adam,
            Self::Amsgrad => Rule::Amsgrad,
        }
    }

    /// Whether it applies virtual gradients.
    pub fn is_virtual(self) -> bool {
        self.svgd_config(0.0).is_some()
    }

    /// Whether it is TSO-ALRA, with a switch or without.
    pub fn is_tso_alra(self) -> bool {
        matches!(self, Self::TsoAlra | Self::TsoAlraSwitch)
    }

    /// Whether validation images tell it when to switch.
    pub fn switches(self) -> bool {
        self == Self::TsoAlraSwitch
    }

    /// The settings of SVGD's layers; none for others.
    pub fn svgd_config(self, scale: f64) -> Option<SvgdConfig> {
        let config = SvgdConfig { scale, ..Default::default() };
        match self {
            Self::Sgd | Self::Momentum | Self::Rmsprop | Self::Adam | Self::Amsgrad => None,
            Self::TsoAlra | Self::TsoAlraSwitch => None,
            Self::Svgd | Self::SvgdMomentum => Some(config),
            Self::SvgdChannel => Some(SvgdConfig { granularity: Granularity::Channel, ..config }),
            Self::SvgdPerExample => Some(SvgdConfig { batch_gradient: BatchGradient::PerExample, ..config }),
        }
    }
}

const MOMENTUM: f64 = 0.9;
const RMSPROP_DECAY: f64 = 0.9;
const ADAM_DECAYS: [f64; 2] = [0.9, 0.999];
const EPS: f64 = 1e-8;

/// Where one variable begins in the vector: at a multiple of this many elements, which vector units like.
const ALIGNMENT: usize = 16;

/// Updates the weights of a model. All that changes in a step is in tensors, so that a CUDA graph can replay one.
pub struct Optimizer {
    rule: Rule,
    names: Vec<String>,
    variables: Vec<Tensor>,
    /// All variables, one after the other: each is a view of its part.
    weights: Tensor,
    /// The factor of the L1 penalty where it applies, 0 elsewhere.
    penalty: Tensor,
    /// Zeros that fill the gap after each variable.
    gaps: Vec<Option<Tensor>>,
    /// -rate.
    negative_rate: Tensor,
    rate: f64,
    /// The moving means: those of the gradients, and those of their squares.
    first_moment: Option<Tensor>,
    second_moment: Option<Tensor>,
    /// The largest of these means so far.
    largest_second_moment: Option<Tensor>,
    /// Adam's β₁ᵗ and β₂ᵗ.
    decay_powers: Option<[Tensor; 2]>,
}

impl Optimizer {
    /// Takes over the variables of a model: their data moves into one vector. All weights but those of batch norms get
    /// the penalty `l1 |w|`.
    pub fn new(rule: Rule, vs: &nn::VarStore, l1: f64) -> Self {
        let device = vs.device();
        let mut named: Vec<_> = vs.variables().into_iter().collect();
        // The map has no order of its own, and a saved state needs one.
        named.sort_by(|a, b| a.0.cmp(&b.0));
        let length: usize = named.iter().map(|(_, variable)| padded(variable.numel())).sum();
        let zeros = || Tensor::zeros([length as i64], (Kind::Float, device));
        let (weights, penalty) = (zeros(), zeros());
        let (mut names, mut variables, mut gaps, mut from) = (Vec::new(), Vec::new(), Vec::new(), 0);
        tch::no_grad(|| {
            for (name, mut variable) in named {
                let numel = variable.numel();
                let mut part = weights.narrow(0, from, numel as i64).view(variable.size().as_slice());
                part.copy_(&variable);
                variable.set_data(&part);
                if !is_batch_norm(&name) {
                    let _ = penalty.narrow(0, from, numel as i64).fill_(l1);
                }
                let gap = padded(numel) - numel;
                gaps.push((gap > 0).then(|| Tensor::zeros([gap as i64], (Kind::Float, device))));
                from += padded(numel) as i64;
                names.push(name);
                variables.push(variable);
            }
        });
        let first_moment = matches!(rule, Rule::Momentum | Rule::Adam | Rule::Amsgrad).then(zeros);
        let second_moment = matches!(rule, Rule::Rmsprop | Rule::Adam | Rule::Amsgrad).then(zeros);
        let largest_second_moment = matches!(rule, Rule::Amsgrad).then(zeros);
        let decay_powers = matches!(rule, Rule::Adam | Rule::Amsgrad)
            .then(|| [(); 2].map(|()| Tensor::ones([], (Kind::Double, device))));
        let negative_rate = Tensor::zeros([], (Kind::Float, device));
        let rate = 0.0;
        Self {
            rule,
            names,
            variables,
            weights,
            penalty,
            gaps,
            negative_rate,
            rate,
            first_moment,
            second_moment,
            largest_second_moment,
            decay_powers,
        }
    }

    /// The moving means, each with its name.
    fn moments(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        let moments = [
            ("first_moment", &self.first_moment),
            ("second_moment", &self.second_moment),
            ("largest_second_moment", &self.largest_second_moment),
        ];
        moments.into_iter().filter_map(|(name, values)| Some((name, values.as_ref()?)))
    }

    /// The number of weights.
    pub fn parameters(&self) -> usize {
        self.variables.iter().map(Tensor::numel).sum()
    }

    /// The memory of the moving means of all weights, in bytes.
    pub fn state_bytes(&self) -> usize {
        self.moments().count() * 4 * self.parameters()
    }

    /// Sets the learning rate of the steps to come.
    pub fn set_rate(&mut self, rate: f64) {
        if rate != self.rate {
            let _ = self.negative_rate.fill_(-rate);
            self.rate = rate;
        }
    }

    /// The gradients of `loss`, which is `loss_scale` times the true one, and a step along them and the penalty's.
    pub fn backward_step(&mut self, loss: &Tensor, loss_scale: f64) {
        let gradients = Tensor::run_backward(&[loss], &self.variables, false, false);
        tch::no_grad(|| {
            let mut parts = Vec::with_capacity(2 * gradients.len());
            for (gradient, gap) in gradients.iter().zip(&self.gaps) {
                parts.push(gradient.reshape([-1]));
                parts.extend(gap.as_ref().map(Tensor::shallow_clone));
            }
            let mut gradient = Tensor::cat(&parts, 0);
            if loss_scale != 1.0 {
                let _ = gradient.g_mul_scalar_(1.0 / loss_scale);
            }
            let _ = gradient.addcmul_(&self.weights.sign(), &self.penalty);
            self.step(&gradient);
        });
    }

    fn step(&mut self, gradient: &Tensor) {
        let direction = match self.rule {
            Rule::Sgd => gradient.shallow_clone(),
            // v ← 0.9 v + g
            Rule::Momentum => {
                let velocity = self.first_moment.as_mut().expect("made for this rule");
                let _ = velocity.g_mul_scalar_(MOMENTUM).g_add_(gradient);
                velocity.shallow_clone()
            }
            // r ← 0.9 r + 0.1 g², g / √(r + ε)
            Rule::Rmsprop => {
                let squares = self.second_moment.as_mut().expect("made for this rule");
                let _ = squares.lerp_(&gradient.square(), 1.0 - RMSPROP_DECAY);
                gradient * (&*squares + EPS).rsqrt()
            }
            // m ← 0.9 m + 0.1 g, v ← 0.999 v + 0.001 g², m / (1 - 0.9ᵗ) / √(v / (1 - 0.999ᵗ) + ε); AMSGrad takes the largest v
            // so far, as torch.optim has it.
            Rule::Adam | Rule::Amsgrad => {
                let means = self.first_moment.as_mut().expect("made for this rule");
                let squares = self.second_moment.as_mut().expect("made for this rule");
                let powers = self.decay_powers.as_mut().expect("made for this rule");
                for (power, decay) in powers.iter_mut().zip(ADAM_DECAYS) {
                    let _ = power.g_mul_scalar_(decay);
                }
                let _ = means.lerp_(gradient, 1.0 - ADAM_DECAYS[0]);
                let _ = squares.lerp_(&gradient.square(), 1.0 - ADAM_DECAYS[1]);
                let [mean_weight, square_weight] = [&powers[0], &powers[1]].map(|power| power.neg() + 1.0);
                let squares = match &mut self.largest_second_moment {
                    Some(largest) => {
                        let larger = largest.maximum(squares);
                        largest.copy_(&larger);
                        &*largest
                    }
                    None => &*squares,
                };
                (&*means / mean_weight) * (squares / square_weight + EPS).rsqrt()
            }
        };
        let _ = self.weights.addcmul_(&direction, &self.negative_rate);
    }

    /// The tensors that change from step to step beside the weights: each moving mean of each variable, by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = Vec::new();
        for (moment, values) in self.moments() {
            let mut from = 0;
            for (name, variable) in self.names.iter().zip(&self.variables) {
                let part = values.narrow(0, from, variable.numel() as i64).view(variable.size().as_slice());
                state.push((format!("{moment}.{name}"), part));
                from += padded(variable.numel()) as i64;
            }
        }
        if let Some(powers) = &self.decay_powers {
            let names = ["first_decay_power", "second_decay_power"];
            state.extend(names.into_iter().zip(powers).map(|(name, power)| (name.to_owned(), power.shallow_clone())));
        }
        state
    }
}

fn padded(numel: usize) -> usize {
    numel.next_multiple_of(ALIGNMENT)
}
