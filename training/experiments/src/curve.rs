//! curve.csv: what came of a run, a row for each test.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file in the folder of a run.
pub const CURVE_FILE: &str = "curve.csv";
/// Its columns; those of validation are there where samples are held out for it.
pub const CURVE_COLUMNS: [&str; 8] =
    ["step", "epoch", "train_loss", "test_loss", "test_error", "seconds", "validation_loss", "validation_error"];
/// How many of them there are always.
pub const TEST_COLUMNS: usize = 6;

/// The state of training at one step.
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
    /// The mean cross-entropy of the samples that are held out, where some are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// Per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_error: Option<f64>,
}

impl Evaluation {
    /// The error by which the best test is chosen: that of validation where there is one.
    pub fn choosing_error(&self) -> f64 {
        self.validation_error.unwrap_or(self.test_error)
    }
}

/// The best test so far: the first of those with the least error. One whose loss is no number is of weights that are none.
pub fn best(curve: &[Evaluation]) -> Option<&Evaluation> {
    let finite = curve.iter().filter(|row| row.test_loss.is_finite() && row.choosing_error().is_finite());
    finite.min_by(|left, right| left.choosing_error().total_cmp(&right.choosing_error()))
}

/// A curve.csv with these rows.
pub fn curve_csv(rows: &[Evaluation]) -> Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    let validates = rows.iter().any(|row| row.validation_error.is_some());
    writer.write_record(&CURVE_COLUMNS[..if validates { CURVE_COLUMNS.len() } else { TEST_COLUMNS }])?;
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    writer.into_inner().context(CURVE_FILE)
}

/// Reads a curve.csv.
pub fn read_curve(path: &Path) -> Result<Vec<Evaluation>> {
    let text = std::fs::read_to_string(path).context("cannot be read")?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns = reader.headers()?.clone();
    ensure!(
        columns == CURVE_COLUMNS[..] || columns == CURVE_COLUMNS[..TEST_COLUMNS],
        "expected the columns {}, got '{}'",
        CURVE_COLUMNS.join(","),
        text.lines().next().unwrap_or_default()
    );
    let mut curve: Vec<Evaluation> = Vec::new();
    for row in reader.records() {
        let position = row.as_ref().map_or_else(csv::Error::position, csv::StringRecord::position);
        let from = position.map_or(1, |position| position.line() as usize);
        // Blank lines, which are none, count to the row behind them.
        let line = || from + text.lines().skip(from - 1).take_while(|line| line.is_empty()).count();
        let expected = || {
            let (line, columns) = (line(), columns.iter().collect::<Vec<_>>().join(","));
            format!("line {line}: expected {columns}, got '{}'", text.lines().nth(line - 1).unwrap_or_default())
        };
        let row: Evaluation = row.and_then(|row| row.deserialize(Some(&columns))).with_context(expected)?;
        let validates = columns.len() > TEST_COLUMNS;
        ensure!(
            [row.validation_loss, row.validation_error].iter().all(|value| value.is_some() == validates),
            "{}",
            expected()
        );
        ensure!(
            row.seconds.is_finite() && row.seconds >= 0.0,
            "line {}: expected seconds from 0 on, got {}",
            line(),
            row.seconds
        );
        if let Some(last) = curve.last().filter(|last| last.step >= row.step) {
            bail!("line {}: expected a step after {}, got {}", line(), last.step, row.step);
        }
        curve.push(row);
    }
    Ok(curve)
}
