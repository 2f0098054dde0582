//! How long to train, and how fast: the paper's schedule, a part of it, one rate all along, or one that falls along a cosine.

use super::settings::{Length, Settings};
use experiments::experiment::Experiment;
use experiments::optimizer::OptimizerKind;
use experiments::recipe::Recipe;
use tch_svgd::optim::{Cosine, Schedule as _, StepDecay, WarmUp};

/// Learning rates over the steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The number of steps.
    pub steps: usize,
    /// The steps after which the rate falls; none for a constant one.
    pub decay_at: Option<[usize; 2]>,
    /// The rates before, between and after the decays.
    pub rates: [f64; 3],
    /// Whether the rate falls along half a cosine.
    pub cosine: bool,
    /// Steps over which it rises.
    pub warmup: usize,
    /// Steps between evaluations.
    pub eval_every: usize,
}

/// Tests in a run that has fewer steps than the paper's, at least.
const TESTS: usize = 10;

impl Schedule {
    pub fn new(
        experiment: &Experiment,
        optimizer: OptimizerKind,
        settings: &Settings,
        steps_per_epoch: usize,
    ) -> Schedule {
        let mut rates = experiment.rates(optimizer);
        if let Some(rate) = settings.rate(optimizer) {
            // The later phases keep their proportion to the first.
            rates = rates.map(|own| own / rates[0] * rate);
        }
        let (steps, decay_at, eval_every) = match settings.length {
            Length::Paper(share) => {
                let scaled = |steps: usize| ((steps as f64 * share).round() as usize).max(1);
                let decays = experiment.decay_at[0] < experiment.steps;
                let steps = scaled(experiment.steps);
                // As often as in the paper, but in a short run oftener.
                let eval_every = experiment.eval_every.min(steps.div_ceil(TESTS));
                (steps, decays.then_some(experiment.decay_at.map(scaled)), eval_every)
            }
            Length::Steps(steps) => (steps, None, steps_per_epoch),
            Length::Epochs(epochs) => (epochs.saturating_mul(steps_per_epoch), None, steps_per_epoch),
        };
        let Recipe { cosine, warmup, .. } = settings.recipe;
        Schedule { steps, decay_at, rates, cosine, warmup, eval_every: settings.eval_every.unwrap_or(eval_every) }
    }

    /// The rate of a step, counted from 0.
    pub fn rate(&self, step: usize) -> f64 {
        let phase = self.decay_at.iter().flatten().filter(|&&end| step >= end).count();
        let (now, steps, warmup) = (step as u64, self.steps as u64, self.warmup as u64);
        let from = 1.0 / warmup.max(1) as f64;
        let factor = match self.cosine {
            true => {
                let then = Cosine { steps: steps.saturating_sub(warmup), end: 0.0 };
                WarmUp { steps: warmup, from, then }.factor(now)
            }
            false => WarmUp { steps: warmup, from, then: StepDecay { every: 0, gamma: 1.0 } }.factor(now),
        };
        self.rates[phase] * factor
    }
}
