//! When a method gives way to plain gradients: the steps, the validation losses, and what they have led to.

use crate::error::{Error, Result};

/// When the layers of a [`Hatted`](super::Hatted) go over to plain gradients for good (TSO-ALRA, Algorithm 1: its second
/// stage). Set by [`Hatted::set_switch`](super::Hatted::set_switch).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Switch {
    /// Never.
    #[default]
    Never,
    /// After this many calls of [`Hatted::step`](super::Hatted::step).
    AtStep(u64),
    /// When the least validation loss has not changed over several of them.
    Plateau {
        /// How many losses in a row that are no better switch. At least 1.
        patience: u64,
        /// A loss is better if it is below the least one by more than this. Finite, at least 0.
        min_delta: f64,
    },
}

impl Switch {
    pub(super) fn validate(self, method: &str) -> Result<()> {
        let error = |setting: &str, expected: &str, got: String| {
            Err(Error::Config(format!(
                "{method}: setting '{setting}' of Switch::Plateau: expected {expected}, got {got}; correct the setting"
            )))
        };
        match self {
            Switch::Plateau { patience: 0, .. } => error("patience", "at least 1", "0".to_owned()),
            Switch::Plateau { min_delta, .. } if !(min_delta.is_finite() && min_delta >= 0.0) => {
                error("min_delta", "a finite number >= 0", min_delta.to_string())
            }
            _ => Ok(()),
        }
    }
}

/// Whose gradients the layers give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// The method's, as at first.
    #[default]
    Method,
    /// The plain ones, since the switch.
    Plain,
}

/// How many steps there have been, and what they and the validation losses have led to. A part of the saved state.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Calls of [`Hatted::step`](super::Hatted::step).
    pub steps: u64,
    /// Whose gradients the layers give.
    pub stage: Stage,
    /// The least validation loss, infinite before the first.
    pub least_loss: f64,
    /// How many validation losses since have been no better.
    pub stalled: u64,
}

impl Default for Progress {
    fn default() -> Self {
        Self { steps: 0, stage: Stage::Method, least_loss: f64::INFINITY, stalled: 0 }
    }
}

const STAGES: [(Stage, &str); 2] = [(Stage::Method, "method"), (Stage::Plain, "plain")];

impl Progress {
    pub(super) fn step(&mut self, switch: Switch) {
        // A file may have any number.
        self.steps = self.steps.saturating_add(1);
        self.meet(switch);
    }

    /// Switches where the steps are behind that the switch waits for.
    pub(super) fn meet(&mut self, switch: Switch) {
        if matches!(switch, Switch::AtStep(last) if self.steps >= last) {
            self.stage = Stage::Plain;
        }
    }

    pub(super) fn observe(&mut self, switch: Switch, loss: f64) {
        let Switch::Plateau { patience, min_delta } = switch else { return };
        // A loss that is not a number is no better.
        if loss < self.least_loss - min_delta {
            self.least_loss = loss;
            self.stalled = 0;
        } else {
            self.stalled = self.stalled.saturating_add(1);
        }
        if self.stalled >= patience {
            self.stage = Stage::Plain;
        }
    }

    /// For a state file; nothing of what never counted.
    pub(super) fn to_text(self) -> Option<String> {
        let stage = STAGES.iter().find(|(stage, _)| *stage == self.stage).map_or("", |(_, name)| name);
        let Self { steps, least_loss, stalled, .. } = self;
        let text = || format!("steps {steps}, stage {stage}, least loss {least_loss}, stalled {stalled}");
        (self != Self::default()).then(text)
    }

    /// Reads what [`to_text`](Self::to_text) has written.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let mut fields = text.split(", ");
        let mut field = |name: &str| fields.next()?.strip_prefix(name)?.strip_prefix(' ');
        let steps = field("steps")?.parse().ok()?;
        let stage = field("stage")?;
        let stage = STAGES.iter().find(|(_, name)| *name == stage)?.0;
        let (least_loss, stalled): (f64, _) = (field("least loss")?.parse().ok()?, field("stalled")?.parse().ok()?);
        (fields.next().is_none() && !least_loss.is_nan()).then_some(Self { steps, stage, least_loss, stalled })
    }
}
