//! Runs as they lie on disk: run.json says how it was trained, curve.csv what came of it.

use super::super::experiment::{self, Experiment};
use super::super::optimizer::OptimizerKind;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The files of a run in its folder.
pub const RECORD_FILE: &str = "run.json";
pub const CURVE_FILE: &str = "curve.csv";
/// The columns of curve.csv.
pub const CURVE_COLUMNS: [&str; 6] = ["step", "epoch", "train_loss", "test_loss", "test_error", "seconds"];
/// What run.json's `format` says.
pub const FORMAT: u32 = 1;

/// How a run was trained, and how it ended: run.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub format: u32,
    /// `Experiment::name`.
    pub experiment: String,
    pub model: String,
    pub data: String,
    pub training_images: usize,
    pub test_images: usize,
    /// Training images that were held out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub validation_images: usize,
    pub optimizer: OptimizerKind,
    pub seed: u64,
    pub batch_size: usize,
    pub planned_steps: usize,
    /// Steps between tests.
    pub eval_every: usize,
    /// The steps after which the rate falls, unless it is constant.
    pub decay_at: Option<[usize; 2]>,
    pub rates: [f64; 3],
    pub scale: f64,
    pub l1: f64,
    /// Whether the schedule is the paper's, or its `budget`.
    pub paper: bool,
    /// The share of the paper's steps that the schedule was shrunk to; 1 is all of them.
    pub budget: Option<f64>,
    pub device: String,
    pub threads: i32,
    pub amp: bool,
    pub loss_scale: f64,
    pub cuda_graph: bool,
    pub crate_version: String,
    pub libtorch_version: String,
    pub parameters: usize,
    pub state_bytes: usize,
    /// The steps that were done.
    pub steps: usize,
    /// Of training alone, evaluations left out.
    pub seconds: f64,
    /// The step at which its method gave way to plain gradients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switched_at: Option<usize>,
    /// Why it ended before its time.
    pub note: Option<String>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Record {
    /// The experiment that it names.
    pub fn experiment(&self) -> Result<&'static Experiment> {
        let found = experiment::ALL.into_iter().find(|experiment| experiment.name == self.experiment);
        found.with_context(|| {
            let names: Vec<_> = experiment::ALL.iter().map(|experiment| experiment.name).collect();
            format!("expected an experiment of {}, got '{}'", names.join(", "), self.experiment)
        })
    }

    /// The record without what may differ between runs that are averaged. Two runs are alike when these are equal; one
    /// that ended early is like those alone that ended at the same step.
    pub fn conditions(&self) -> Record {
        // The scale is there for every optimizer, but does something to virtual gradients only.
        let scale = if self.optimizer.is_virtual() { self.scale } else { 0.0 };
        Record { seed: 0, seconds: 0.0, state_bytes: 0, switched_at: None, scale, ..self.clone() }
    }

    /// Why it is shorter than it was to be, if it is: it ended before its time, or has not ended yet.
    pub fn cut_short(&self) -> Option<String> {
        let unfinished = || (self.steps < self.planned_steps).then(|| format!("unfinished, at step {}", self.steps));
        self.note.clone().or_else(unfinished)
    }

    /// The share of the paper's schedule, where it is the paper's.
    pub fn share(&self) -> Option<f64> {
        self.paper.then(|| self.budget.unwrap_or(1.0))
    }
}

/// The state of training at one step: a row of curve.csv.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    pub step: usize,
    pub epoch: f64,
    /// The mean cross-entropy of the training batches since the row before, without the penalty.
    pub train_loss: f64,
    pub test_loss: f64,
    /// Per cent.
    pub test_error: f64,
    /// Of training alone, evaluations left out.
    pub seconds: f64,
}

/// One optimizer with one seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub record: Record,
    pub curve: Vec<Evaluation>,
}

impl Run {
    /// Reads run.json and curve.csv in `folder`.
    pub fn load(folder: &Path) -> Result<Run> {
        let path = folder.join(RECORD_FILE);
        let record = read_record(&path).with_context(|| path.display().to_string())?;
        let path = folder.join(CURVE_FILE);
        let curve = read_curve(&path).with_context(|| path.display().to_string())?;
        Ok(Run { record, curve })
    }
}

fn read_record(path: &Path) -> Result<Record> {
    let text = std::fs::read_to_string(path).context("cannot be read")?;
    let expected = "expected the record of a run as JSON";
    let value: serde_json::Value = serde_json::from_str(&text).context(expected)?;
    ensure!(value["format"] == FORMAT, "expected format {FORMAT}, got {}", value["format"]);
    // From the text again: it knows the line.
    let record: Record = serde_json::from_str(&text).context(expected)?;
    record.experiment()?;
    Ok(record)
}

pub fn read_curve(path: &Path) -> Result<Vec<Evaluation>> {
    let text = std::fs::read_to_string(path).context("cannot be read")?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns = reader.headers()?;
    ensure!(
        columns == CURVE_COLUMNS.as_slice(),
        "expected the columns {}, got '{}'",
        CURVE_COLUMNS.join(","),
        columns.iter().collect::<Vec<_>>().join(",")
    );
    let mut curve: Vec<Evaluation> = Vec::new();
    for (number, row) in reader.deserialize().enumerate() {
        let line = number + 2;
        let row: Evaluation = row.with_context(|| {
            let got = text.lines().nth(line - 1).unwrap_or_default();
            format!("line {line}: expected {}, got '{got}'", CURVE_COLUMNS.join(","))
        })?;
        if let Some(last) = curve.last().filter(|last| last.step >= row.step) {
            bail!("line {line}: expected a step after {}, got {}", last.step, row.step);
        }
        curve.push(row);
    }
    Ok(curve)
}

/// The runs in these folders, at any depth, in the order of the folders' names. The same folder counts once.
pub fn load_all(folders: &[PathBuf]) -> Result<Vec<Run>> {
    let (mut runs, mut origins, mut seen): (Vec<Run>, Vec<PathBuf>, _) = (Vec::new(), Vec::new(), BTreeSet::new());
    for folder in folders {
        let mut found = Vec::new();
        walk(folder, &mut found)?;
        ensure!(
            !found.is_empty(),
            "{}: expected a folder with runs, which have {RECORD_FILE} and {CURVE_FILE}, found none",
            folder.display()
        );
        for origin in found {
            if !seen.insert(origin.canonicalize().with_context(|| unreadable(&origin))?) {
                continue;
            }
            let run = Run::load(&origin)?;
            let conditions = run.record.conditions();
            let alike = |other: &Run| other.record.seed == run.record.seed && other.record.conditions() == conditions;
            if let Some(twin) = runs.iter().position(alike) {
                bail!(
                    "{} and {}: both are {} with seed {} under the same conditions, which is no second sample: give \
                     one of them",
                    origins[twin].display(),
                    origin.display(),
                    run.record.optimizer.name(),
                    run.record.seed
                );
            }
            runs.push(run);
            origins.push(origin);
        }
    }
    Ok(runs)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if folder.join(RECORD_FILE).exists() {
        found.push(folder.to_owned());
        return Ok(());
    }
    let mut below = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| unreadable(folder))? {
        let entry = entry.with_context(|| unreadable(folder))?;
        let name = entry.file_name();
        let skipped = name.to_string_lossy().starts_with('.') || name == "checkpoints";
        if entry.file_type().with_context(|| unreadable(folder))?.is_dir() && !skipped {
            below.push(entry.path());
        }
    }
    below.sort();
    below.iter().try_for_each(|folder| walk(folder, found))
}

fn unreadable(folder: &Path) -> String {
    format!("{}: cannot be read", folder.display())
}
