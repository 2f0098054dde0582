//! Learning rates over the steps: the factors by which `torch.optim.lr_scheduler` has them.

use crate::error::{Error, Result};
use std::f64::consts::PI;

/// A factor of the learning rate for each step, counted from 0. It keeps no state: a run that goes on at a step has the rate of
/// that step.
///
/// ```
/// use tch_svgd::optim::{Schedule, StepDecay, WarmUp};
/// let schedule = WarmUp { steps: 4, from: 0.0, then: StepDecay { every: 10, gamma: 0.1 } };
/// assert_eq!([0, 2, 4, 13, 14].map(|step| schedule.factor(step)), [0.0, 0.5, 1.0, 1.0, 0.1]);
/// ```
pub trait Schedule {
    /// The factor of a step.
    fn factor(&self, step: u64) -> f64;
}

/// `γ` times the rate after every so many steps (`StepLR`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepDecay {
    /// How many. 0 never.
    pub every: u64,
    /// `γ`.
    pub gamma: f64,
}

impl Schedule for StepDecay {
    fn factor(&self, step: u64) -> f64 {
        power(self.gamma, step.checked_div(self.every).unwrap_or(0))
    }
}

/// `γ` times the rate from each of these steps on (`MultiStepLR`).
#[derive(Debug, Clone, PartialEq)]
pub struct MultiStep {
    /// The steps.
    pub at: Vec<u64>,
    /// `γ`.
    pub gamma: f64,
}

impl Schedule for MultiStep {
    fn factor(&self, step: u64) -> f64 {
        power(self.gamma, self.at.iter().filter(|&&at| step >= at).count() as u64)
    }
}

fn power(gamma: f64, times: u64) -> f64 {
    gamma.powi(times.min(i32::MAX as u64) as i32)
}

/// Half a cosine from 1 to `end` (`CosineAnnealingLR`), which stays there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cosine {
    /// How many steps it takes.
    pub steps: u64,
    /// The last factor.
    pub end: f64,
}

impl Schedule for Cosine {
    fn factor(&self, step: u64) -> f64 {
        if step < self.steps { anneal(1.0, self.end, step as f64 / self.steps as f64) } else { self.end }
    }
}

fn anneal(from: f64, to: f64, share: f64) -> f64 {
    to + (from - to) * (1.0 + (PI * share.clamp(0.0, 1.0)).cos()) / 2.0
}

/// Up by half a cosine, and down by another (`OneCycleLR` with its defaults but for `cycle_momentum`, which is off): the rate is the
/// largest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneCycle {
    /// All steps.
    pub steps: u64,
    /// The share of them that goes up: 0.3 in PyTorch.
    pub up: f64,
    /// What the largest rate is divided by at first: 25 in PyTorch.
    pub div_factor: f64,
    /// What the first rate is divided by at last: 1e4 in PyTorch.
    pub final_div_factor: f64,
}

impl OneCycle {
    /// PyTorch's, of so many steps.
    pub fn new(steps: u64) -> Self {
        Self { steps, up: 0.3, div_factor: 25.0, final_div_factor: 1e4 }
    }
}

impl Schedule for OneCycle {
    fn factor(&self, step: u64) -> f64 {
        let (step, steps) = (step as f64, self.steps as f64);
        let first = 1.0 / self.div_factor;
        let (top, last) = (self.up * steps - 1.0, steps - 1.0);
        match step <= top {
            true => anneal(first, 1.0, step / top.max(f64::MIN_POSITIVE)),
            false => anneal(1.0, first / self.final_div_factor, (step - top) / (last - top)),
        }
    }
}

/// A straight line from `from` to 1 over the first steps (`LinearLR`), and then another schedule from its beginning on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WarmUp<S> {
    /// How many steps it takes.
    pub steps: u64,
    /// The factor of the first step.
    pub from: f64,
    /// What comes then.
    pub then: S,
}

impl<S: Schedule> Schedule for WarmUp<S> {
    fn factor(&self, step: u64) -> f64 {
        match step.checked_sub(self.steps) {
            Some(behind) => self.then.factor(behind),
            None => self.from + (1.0 - self.from) * step as f64 / self.steps as f64,
        }
    }
}

/// A factor that falls when a loss stalls (`ReduceLROnPlateau` with its defaults). All of it is state: a run that is to go on
/// keeps a copy.
///
/// ```
/// use tch_svgd::optim::Plateau;
/// let mut plateau = Plateau::new(0.1, 1)?;
/// assert_eq!([0.9, 0.5, 0.6, 0.6, 0.6].map(|loss| plateau.observe(loss)), [1.0, 1.0, 1.0, 0.1, 0.1]);
/// # Ok::<(), tch_svgd::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plateau {
    /// What the factor is multiplied by.
    pub gamma: f64,
    /// How many losses in a row may be no better.
    pub patience: u64,
    /// The share of the least loss by which a better one is below it.
    pub threshold: f64,
    /// The least loss so far.
    pub least: f64,
    /// How many since have been no better.
    pub stalled: u64,
    /// The factor as it is.
    pub factor: f64,
}

impl Plateau {
    /// At its beginning, with a threshold of 1e-4.
    ///
    /// # Errors
    /// [`Error::Config`] if `gamma` is not in (0, 1).
    pub fn new(gamma: f64, patience: u64) -> Result<Self> {
        if !(gamma > 0.0 && gamma < 1.0) {
            return Err(Error::Config(format!(
                "Plateau: setting 'gamma': expected a number in (0, 1), got {gamma}; correct the setting"
            )));
        }
        Ok(Self { gamma, patience, threshold: 1e-4, least: f64::INFINITY, stalled: 0, factor: 1.0 })
    }

    /// Tells a loss, and returns the factor from now on. What is not a number is no better.
    pub fn observe(&mut self, loss: f64) -> f64 {
        if loss < self.least * (1.0 - self.threshold) || (loss.is_finite() && self.least.is_infinite()) {
            self.least = loss;
            self.stalled = 0;
        } else {
            self.stalled += 1;
        }
        if self.stalled > self.patience {
            self.factor *= self.gamma;
            self.stalled = 0;
        }
        self.factor
    }
}
