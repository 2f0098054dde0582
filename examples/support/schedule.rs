//! How long to train, and how fast: the paper's schedule, a part of it, or one rate all along.

use super::experiment::Experiment;
use super::optimizer::OptimizerKind;
use super::options::Options;

/// Learning rates over the steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The number of steps.
    pub steps: usize,
    /// The steps after which the rate falls; none for a constant one.
    pub decay_at: Option<[usize; 2]>,
    /// The rates before, between and after the decays.
    pub rates: [f64; 3],
    /// Steps between evaluations.
    pub eval_every: usize,
}

/// Passes over the training images when nobody says otherwise.
const EPOCHS: usize = 10;

impl Schedule {
    pub fn new(
        experiment: &Experiment,
        optimizer: OptimizerKind,
        options: &Options,
        steps_per_epoch: usize,
    ) -> Schedule {
        let mut rates = experiment.rates(optimizer);
        if let Some(lr) = options.lr {
            // The later phases keep their proportion to the first.
            rates = rates.map(|rate| rate / rates[0] * lr);
        }
        let scaled = |steps: usize| ((steps as f64 * options.budget).round() as usize).max(1);
        let (steps, decay_at, eval_every) = match (options.paper, options.steps, options.epochs) {
            (true, ..) => {
                let decays = experiment.decay_at[0] < experiment.steps;
                let decay_at = decays.then_some(experiment.decay_at.map(scaled));
                (scaled(experiment.steps), decay_at, scaled(experiment.eval_every))
            }
            (_, Some(steps), _) => (steps.get(), None, steps_per_epoch),
            (_, _, epochs) => {
                (epochs.map_or(EPOCHS, |epochs| epochs.get() as usize) * steps_per_epoch, None, steps_per_epoch)
            }
        };
        let eval_every = options.eval_every.map_or(eval_every, |steps| steps.get());
        Schedule { steps, decay_at, rates, eval_every }
    }

    /// The rate of a step, counted from 0.
    pub fn rate(&self, step: usize) -> f64 {
        let phase = self.decay_at.iter().flatten().filter(|&&end| step >= end).count();
        self.rates[phase]
    }
}
