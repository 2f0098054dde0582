//! The curve of a run in training: curve.csv, a row for each test.

use anyhow::{Context, Result};
use experiments::curve::{CURVE_FILE, Evaluation, curve_csv, read_curve};
use experiments::files::{write_atomically, write_synced};
use std::path::{Path, PathBuf};

/// The rows so far. With each the whole file is written anew, so that it is whole whatever happens to it meanwhile.
pub struct Curve {
    rows: Vec<Evaluation>,
    path: PathBuf,
}

impl Curve {
    /// Begins anew in the folder of a run.
    pub fn create(folder: &Path) -> Result<Self> {
        Self { rows: Vec::new(), path: folder.join(CURVE_FILE) }.written()
    }

    /// Goes on with the curve of a checkpoint: rows that were written after it come again.
    pub fn restore(checkpoint: &Path, folder: &Path) -> Result<Self> {
        let saved = checkpoint.join(CURVE_FILE);
        let rows = read_curve(&saved).with_context(|| saved.display().to_string())?;
        Self { rows, path: folder.join(CURVE_FILE) }.written()
    }

    fn written(self) -> Result<Self> {
        write_atomically(&self.path, &curve_csv(&self.rows)?)?;
        Ok(self)
    }

    pub fn append(&mut self, row: Evaluation) -> Result<()> {
        self.rows.push(row);
        write_atomically(&self.path, &curve_csv(&self.rows)?)
    }

    /// Writes it into the folder of a checkpoint.
    pub fn save(&self, checkpoint: &Path) -> Result<()> {
        write_synced(&checkpoint.join(CURVE_FILE), &curve_csv(&self.rows)?)
    }

    pub fn rows(&self) -> &[Evaluation] {
        &self.rows
    }

    pub fn into_rows(self) -> Vec<Evaluation> {
        self.rows
    }
}
