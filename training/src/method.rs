//! The methods whose layers a model may be built of, as the training loop sees them.

use crate::models::Model;
use anyhow::Result;
use experiments::optimizer::{Gradients, OptimizerKind};
use std::path::Path;
use tch::nn;
use tch_svgd::{BatchGradient, Granularity, Plain, Stage, Svgd, SvgdConfig, Switch, TsoAlra, TsoAlraConfig};

/// Tests in a row whose validation loss is no better, before the switch.
const PATIENCE: u64 = 2;

/// A method, or none: plain gradients.
pub enum Method {
    Plain,
    Svgd(Svgd),
    TsoAlra(TsoAlra),
}

impl Method {
    pub fn new(kind: OptimizerKind, scale: f64, loss_scale: f64) -> Result<Self> {
        match kind.row().gradients {
            Gradients::Plain => Ok(Method::Plain),
            Gradients::Svgd { by_channel, per_example } => {
                let granularity = if by_channel { Granularity::Channel } else { Granularity::Element };
                let batch_gradient = if per_example { BatchGradient::PerExample } else { BatchGradient::AsReceived };
                let svgd = Svgd::new(SvgdConfig { scale, granularity, batch_gradient, ..Default::default() })?;
                svgd.f_set_loss_scale(loss_scale)?;
                Ok(Method::Svgd(svgd))
            }
            Gradients::TsoAlra { switches } => {
                let tso = TsoAlra::new(TsoAlraConfig::default())?;
                tso.f_set_loss_scale(loss_scale)?;
                if switches {
                    tso.set_switch(Switch::Plateau { patience: PATIENCE, min_delta: 0.0 })?;
                }
                Ok(Method::TsoAlra(tso))
            }
        }
    }

    /// Builds a model of its layers.
    pub fn build<M: Model>(&self, p: &nn::Path, classes: i64) -> M {
        match self {
            Method::Plain => M::new(&Plain, p, classes),
            Method::Svgd(svgd) => M::new(svgd, p, classes),
            Method::TsoAlra(tso) => M::new(tso, p, classes),
        }
    }

    pub fn state_bytes(&self) -> usize {
        match self {
            Method::Plain => 0,
            Method::Svgd(svgd) => svgd.state_bytes(),
            Method::TsoAlra(tso) => tso.state_bytes(),
        }
    }

    /// After a step of the optimizer. SVGD has nothing to do then.
    pub fn step(&self) -> Result<()> {
        if let Method::TsoAlra(tso) = self {
            tso.f_step()?;
        }
        Ok(())
    }

    /// Whether the gradients are plain from now on, though they were not.
    pub fn observe(&self, validation_loss: f64) -> bool {
        match self {
            Method::TsoAlra(tso) => tso.stage() == Stage::Method && tso.observe(validation_loss) == Stage::Plain,
            Method::Plain | Method::Svgd(_) => false,
        }
    }

    /// Writes its state into a folder.
    pub fn save(&self, folder: &Path) -> Result<()> {
        match self {
            Method::Plain => Ok(()),
            Method::Svgd(svgd) => Ok(svgd.save(folder.join(SVGD))?),
            Method::TsoAlra(tso) => Ok(tso.save(folder.join(TSO_ALRA))?),
        }
    }

    /// Reads what [`save`](Self::save) has written.
    pub fn load(&self, folder: &Path) -> Result<()> {
        match self {
            Method::Plain => Ok(()),
            Method::Svgd(svgd) => Ok(svgd.load(folder.join(SVGD))?),
            Method::TsoAlra(tso) => Ok(tso.load(folder.join(TSO_ALRA))?),
        }
    }
}

/// The files of a checkpoint.
const SVGD: &str = "svgd.safetensors";
const TSO_ALRA: &str = "tso_alra.safetensors";
