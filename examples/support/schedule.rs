//! Learning rates over the steps: those of the paper's CIFAR-10 ResNet table.

use super::options::{OptimizerKind, Options};

/// The steps after which the paper lowers the rates, and where it ends.
const PAPER_PHASES: [usize; 2] = [32_000, 42_000];
const PAPER_STEPS: usize = 50_000;

/// How long to train, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// The number of steps.
    pub steps: usize,
    rates: [f64; 3],
    phased: bool,
}

impl Schedule {
    pub fn new(optimizer: OptimizerKind, options: &Options, steps_per_epoch: usize) -> Self {
        let mut rates = match optimizer {
            OptimizerKind::Sgd => [0.1, 0.01, 0.001],
            OptimizerKind::Momentum => [0.1, 0.01, 0.001],
            OptimizerKind::Rmsprop => [1e-3, 1e-4, 1e-4],
            OptimizerKind::Adam => [1e-3, 1e-4, 5e-5],
            OptimizerKind::Svgd => [0.5, 0.02, 0.01],
        };
        if let Some(lr) = options.lr {
            // The later phases keep their proportion to the first.
            rates = rates.map(|rate| rate / rates[0] * lr);
        }
        let steps = match (options.paper, options.steps, options.epochs) {
            (true, _, _) => PAPER_STEPS,
            (_, Some(steps), _) => steps.get(),
            (_, _, epochs) => epochs.map_or(10, |epochs| epochs.get()) * steps_per_epoch,
        };
        Self { steps, rates, phased: options.paper }
    }

    /// The rate of a step, counted from 0.
    pub fn rate(&self, step: usize) -> f64 {
        let phase = PAPER_PHASES.iter().filter(|&&end| self.phased && step >= end).count();
        self.rates[phase]
    }
}
