//! What runs are to do, whoever says so.

use experiments::experiment::{BatchNorm, Experiment};
use experiments::optimizer::{OptimizerKind, Rule};
use experiments::recipe::Recipe;
use experiments::record::Options;
use std::time::Duration;
use tch_svgd::optim::AdamW;

/// How long to train.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    /// Passes over the training samples, at a constant rate.
    Epochs(usize),
    /// Steps, at a constant rate.
    Steps(usize),
    /// This share of the paper's schedule, with lower rates from two of its steps on.
    Paper(f64),
}

/// What to do where there is a run already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Leave it, and say so.
    New,
    /// Go on with it; where it has come to its end, leave it.
    Resume,
    /// Train anew in its place.
    Overwrite,
}

/// The settings that all runs of a command share.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub length: Length,
    /// Learning rates in the place of the paper's first: for one optimizer, or for all that are not named.
    pub rates: Vec<(Option<OptimizerKind>, f64)>,
    /// SVGD's scale of the virtual gradient, where it is not the paper's.
    pub scale: Option<f64>,
    pub batch_size: Option<usize>,
    /// The factor of the squares' penalty, or of AdamW's decoupled decay, where it is not the default.
    pub weight_decay: Option<f64>,
    /// Steps between tests.
    pub eval_every: Option<usize>,
    /// Steps between checkpoints.
    pub checkpoint_every: usize,
    pub start: Start,
    /// By what batch norm normalizes in tests: the paper's way with its schedule, else the usual one, unless it is told.
    pub batch_norm: Option<BatchNorm>,
    /// The share of the training samples that is held out, where it is not the experiment's.
    pub validation: Option<f64>,
    /// Where runs depart from the paper's recipe.
    pub recipe: Recipe,
    pub amp: bool,
    pub loss_scale: f64,
    pub cuda_graph: bool,
    /// The time after which a run stops with a checkpoint.
    pub max_time: Option<Duration>,
    /// What the user has given, for the record.
    pub given: Options,
}

impl Settings {
    /// The factor of the squares' penalty, or of AdamW's decoupled decay, which has a default of its own.
    pub fn weight_decay(&self, experiment: &Experiment, optimizer: OptimizerKind) -> f64 {
        let default = match optimizer.rule() {
            Rule::Adamw => AdamW::default().weight_decay,
            _ => experiment.weight_decay,
        };
        self.weight_decay.unwrap_or(default)
    }

    pub fn batch_size(&self, experiment: &Experiment) -> usize {
        self.batch_size.unwrap_or(experiment.batch_size)
    }

    /// The share of the training samples that is held out.
    pub fn validation(&self, experiment: &Experiment) -> f64 {
        self.validation.unwrap_or(experiment.validation)
    }

    /// By what batch norm normalizes in tests.
    pub fn batch_norm(&self, experiment: &Experiment) -> BatchNorm {
        let default = if matches!(self.length, Length::Paper(_)) { experiment.batch_norm } else { BatchNorm::Running };
        self.batch_norm.unwrap_or(default)
    }

    /// The first rate of an optimizer, where it is not the paper's.
    pub fn rate(&self, optimizer: OptimizerKind) -> Option<f64> {
        let of = |wanted| self.rates.iter().find(|(kind, _)| *kind == wanted).map(|&(_, rate)| rate);
        of(Some(optimizer)).or_else(|| of(None))
    }
}
