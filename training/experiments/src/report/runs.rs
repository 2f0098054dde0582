//! report.csv: a row for each run, with its conditions and what came of it.

use super::numbers::OfRun;
use super::section::Section;
use crate::experiment::BatchNorm;
use crate::optimizer::OptimizerKind;
use crate::recipe::Recipe;
use crate::run::Run;
use anyhow::{Context, Result};
use serde::Serialize;

/// The first columns, of conditions; those of [`OfRun`] follow.
#[derive(Serialize)]
struct Columns<'a> {
    experiment: &'a str,
    model: &'a str,
    data: &'a str,
    data_digest: Option<&'a str>,
    training: usize,
    /// Samples that were held out: the best test is that of the least validation error, where there are any.
    validation: usize,
    test: usize,
    optimizer: OptimizerKind,
    /// The optimizer, and what tells the row of the tables that the run is in from others.
    label: &'a str,
    batch_size: usize,
    planned_steps: usize,
    budget: Option<f64>,
    rate: f64,
    /// Where the rate falls, the steps after which it does, and what it is then.
    decay_at_1: Option<usize>,
    rate_1: Option<f64>,
    decay_at_2: Option<usize>,
    rate_2: Option<f64>,
    scale: Option<f64>,
    l1: f64,
    weight_decay: f64,
    batch_norm: Option<BatchNorm>,
    amp: bool,
    loss_scale: f64,
    cosine: bool,
    warmup: usize,
    momentum: Option<f64>,
    beta_1: Option<f64>,
    beta_2: Option<f64>,
    label_smoothing: f64,
    clip_norm: Option<f64>,
    patience: Option<usize>,
    eval_every: usize,
    device: &'a str,
    threads: i32,
    cuda_graph: bool,
    cpu: Option<&'a str>,
    instructions: Option<&'a str>,
    crate_version: &'a str,
    libtorch_version: &'a str,
}

/// All runs, in the order of the tables.
pub fn csv(sections: &[Section]) -> Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    for row in sections.iter().flat_map(|section| &section.rows) {
        for run in &row.runs {
            csv.serialize((Columns::of(run, &row.label), OfRun::of(run)))?;
        }
    }
    csv.into_inner().context("report.csv")
}

impl<'a> Columns<'a> {
    fn of(run: &'a Run, label: &'a str) -> Self {
        let (conditions, machine) = (&run.record.conditions, &run.record.machine);
        let Recipe { cosine, warmup, momentum, betas, label_smoothing, clip_norm, patience } = conditions.recipe;
        let falls = |phase: usize| conditions.decay_at.map(|steps| (steps[phase - 1], conditions.rates[phase]));
        let ((decay_at_1, rate_1), (decay_at_2, rate_2)) = (falls(1).unzip(), falls(2).unzip());
        Self {
            experiment: &conditions.experiment,
            model: &conditions.model,
            data: &conditions.data.name,
            data_digest: conditions.data.digest.as_deref(),
            training: conditions.data.training,
            validation: conditions.data.validation,
            test: conditions.data.test,
            optimizer: conditions.optimizer,
            label,
            batch_size: conditions.batch_size,
            planned_steps: conditions.planned_steps,
            budget: conditions.budget,
            rate: conditions.rates[0],
            decay_at_1,
            rate_1,
            decay_at_2,
            rate_2,
            scale: conditions.scale,
            l1: conditions.l1,
            weight_decay: conditions.weight_decay,
            batch_norm: conditions.batch_norm,
            amp: conditions.amp,
            loss_scale: conditions.loss_scale,
            cosine,
            warmup,
            momentum,
            beta_1: betas.map(|[first, _]| first),
            beta_2: betas.map(|[_, second]| second),
            label_smoothing,
            clip_norm,
            patience,
            eval_every: run.record.progress.eval_every,
            device: &machine.device,
            threads: machine.threads,
            cuda_graph: machine.cuda_graph,
            cpu: machine.cpu.as_deref(),
            instructions: machine.instructions.as_deref(),
            crate_version: &machine.crate_version,
            libtorch_version: &machine.libtorch_version,
        }
    }
}
