//! The optimizers of the table at work: what becomes of the gradients, and the rule by which they are applied.

use crate::initialise::is_batch_norm;
use crate::trainer::settings::Settings;
use anyhow::{Context, Result};
use experiments::experiment::Experiment;
use experiments::optimizer::{Normalization, OptimizerKind, Rule};
use experiments::recipe::{BETAS, MOMENTUM, Recipe};
use std::path::Path;
use tch::{Tensor, nn};
use tch_svgd::optim::{self, AdaGrad, Adam, AdamW, Optim, RmsProp, Sgd};
use tch_svgd::{BlockNormalizer, BngConfig, Normalization as OfBlocks};

const RMSPROP_DECAY: f64 = 0.9;

/// An optimizer of any rule.
trait AnyRule: optim::Optimizer {
    fn set_lr(&mut self, lr: f64);
    fn state_bytes(&self) -> usize;
    fn save(&mut self, path: &Path) -> tch_svgd::Result<()>;
    fn load(&mut self, path: &Path) -> tch_svgd::Result<()>;
}

impl<R: optim::Rule> AnyRule for Optim<R> {
    fn set_lr(&mut self, lr: f64) {
        self.set_lr(lr);
    }

    fn state_bytes(&self) -> usize {
        self.state_bytes()
    }

    fn save(&mut self, path: &Path) -> tch_svgd::Result<()> {
        self.save(path)
    }

    fn load(&mut self, path: &Path) -> tch_svgd::Result<()> {
        self.load(path)
    }
}

/// Updates the weights of a model. All that changes in a step is in tensors, so that a CUDA graph can replay one.
pub struct Optimizer {
    inner: Box<dyn AnyRule>,
    normalizer: Option<BlockNormalizer>,
    /// Clips the gradient of all weights together.
    clip: Option<BlockNormalizer>,
    rate: f64,
    parameters: usize,
    /// What the penalty on absolute values is of, and its factor.
    penalized: Vec<Tensor>,
    l1: f64,
}

impl Optimizer {
    /// Of the variables of a model. All weights but those of batch norms get the experiment's penalty `l1 |w|`, and all get
    /// the settings' `weight_decay w` (AdamW: decoupled).
    pub fn new(kind: OptimizerKind, vs: &nn::VarStore, experiment: &Experiment, settings: &Settings) -> Result<Self> {
        let weight_decay = settings.weight_decay(experiment, kind);
        let Recipe { momentum, betas, clip_norm, .. } = settings.recipe;
        let (momentum, [beta1, beta2]) = (momentum.unwrap_or(MOMENTUM), betas.unwrap_or(BETAS));
        let Experiment { l1, eps_inside_root, .. } = *experiment;
        let adam = |amsgrad| Adam { beta1, beta2, eps_inside_root, weight_decay, amsgrad, ..Default::default() };
        fn built<R: optim::Rule>(rule: R, vs: &nn::VarStore) -> tch_svgd::Result<Box<dyn AnyRule>> {
            Ok(Box::new(rule.build(vs, 0.0)?))
        }
        let inner = match kind.rule() {
            Rule::Sgd => built(Sgd { weight_decay, ..Default::default() }, vs),
            Rule::Momentum => built(Sgd { momentum, weight_decay, ..Default::default() }, vs),
            Rule::Nesterov => built(Sgd { momentum, nesterov: true, weight_decay, ..Default::default() }, vs),
            Rule::Rmsprop => {
                built(RmsProp { alpha: RMSPROP_DECAY, eps_inside_root, weight_decay, ..Default::default() }, vs)
            }
            Rule::Adam => built(adam(false), vs),
            Rule::Amsgrad => built(adam(true), vs),
            Rule::Adamw => built(AdamW { beta1, beta2, eps_inside_root, weight_decay, ..Default::default() }, vs),
            Rule::Adagrad => built(AdaGrad { weight_decay, ..Default::default() }, vs),
        }?;
        let normalization = match kind.row().normalization {
            Normalization::None => None,
            Normalization::Unit => Some(OfBlocks::Unit),
            Normalization::Adaptive(alpha) => Some(OfBlocks::Adaptive { alpha }),
            Normalization::Clip(threshold) => Some(OfBlocks::Clip { threshold }),
        };
        let config = normalization.map(|normalization| BngConfig { normalization, ..Default::default() });
        let normalizer = config.map(|config| BlockNormalizer::new(vs, config)).transpose()?;
        let whole =
            |threshold| BlockNormalizer::with_blocks(vs, OfBlocks::Clip { threshold }, |_| Some("all".to_owned()));
        let clip = clip_norm.map(whole).transpose()?;
        let trained = vs.trainable_variables();
        let parameters = trained.iter().map(Tensor::numel).sum();
        let penalized = match l1 == 0.0 {
            true => Vec::new(),
            false => {
                let variables = vs.variables().into_iter().filter(|(name, _)| !is_batch_norm(name));
                variables.map(|(_, variable)| variable).collect()
            }
        };
        Ok(Self { inner, normalizer, clip, rate: 0.0, parameters, penalized, l1 })
    }

    /// The number of weights.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// The memory of the moving means of all weights, in bytes.
    pub fn state_bytes(&self) -> usize {
        self.inner.state_bytes()
    }

    /// Sets the learning rate of the steps to come.
    pub fn set_rate(&mut self, rate: f64) {
        if rate != self.rate {
            self.inner.set_lr(rate);
            self.rate = rate;
        }
    }

    /// The gradients of `loss`, which is `loss_scale` times the true one, and a step along them and the penalty's.
    pub fn backward_step(&mut self, loss: &Tensor, loss_scale: f64) -> Result<()> {
        self.inner.f_zero_grad()?;
        tch_svgd::backward(loss)?;
        tch::no_grad(|| -> Result<()> {
            if loss_scale != 1.0 {
                for parameter in self.inner.parameters()? {
                    let mut gradient = parameter.grad();
                    if gradient.defined() {
                        let _ = gradient.g_mul_scalar_(1.0 / loss_scale);
                    }
                }
            }
            for weight in &self.penalized {
                let mut gradient = weight.grad();
                if gradient.defined() {
                    let _ = gradient.g_add_(&(weight.sign() * self.l1));
                }
            }
            for normalizer in self.normalizer.iter().chain(&self.clip) {
                normalizer.f_normalize()?;
            }
            Ok(self.inner.f_step()?)
        })
    }

    /// Writes what it keeps into a folder.
    pub fn save(&mut self, folder: &Path) -> Result<()> {
        self.inner.save(&folder.join(OPTIMIZER)).context(OPTIMIZER)
    }

    /// Reads what [`save`](Self::save) has written.
    pub fn load(&mut self, folder: &Path) -> Result<()> {
        // With the rate of that step.
        self.rate = f64::NAN;
        Ok(self.inner.load(&folder.join(OPTIMIZER))?)
    }
}

/// The file of a checkpoint.
const OPTIMIZER: &str = "optimizer.safetensors";
