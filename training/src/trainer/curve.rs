//! The curve of a run in training: curve.csv, a row for each test.

use anyhow::{Context, Result};
use experiments::curve::{CURVE_COLUMNS, CURVE_FILE, Evaluation, read_curve};
use experiments::files::write_atomically;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// The rows so far. Each is in the file as soon as it is known, and outlasts a kill; checkpoints have synced copies.
pub struct Curve {
    rows: Vec<Evaluation>,
    writer: csv::Writer<File>,
    path: PathBuf,
}

impl Curve {
    /// Begins anew in the folder of a run.
    pub fn create(folder: &Path) -> Result<Self> {
        let path = folder.join(CURVE_FILE);
        write_atomically(&path, format!("{}\n", CURVE_COLUMNS.join(",")).as_bytes())?;
        Self::append_to(path, Vec::new())
    }

    /// Goes on with the curve of a checkpoint: rows that were written after it come again.
    pub fn restore(checkpoint: &Path, folder: &Path) -> Result<Self> {
        let saved = checkpoint.join(CURVE_FILE);
        let rows = read_curve(&saved).with_context(|| saved.display().to_string())?;
        let path = folder.join(CURVE_FILE);
        write_atomically(&path, &std::fs::read(&saved)?)?;
        Self::append_to(path, rows)
    }

    fn append_to(path: PathBuf, rows: Vec<Evaluation>) -> Result<Self> {
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.with_context(|| format!("{}: cannot be written", path.display()))?;
        let writer = csv::WriterBuilder::new().has_headers(false).from_writer(file);
        Ok(Self { rows, writer, path })
    }

    pub fn append(&mut self, row: Evaluation) -> Result<()> {
        let context = || format!("{}: cannot be written", self.path.display());
        self.writer.serialize(row).with_context(context)?;
        self.writer.flush().with_context(context)?;
        self.rows.push(row);
        Ok(())
    }

    /// Copies it into the folder of a checkpoint.
    pub fn save(&self, checkpoint: &Path) -> Result<()> {
        std::fs::copy(&self.path, checkpoint.join(CURVE_FILE)).with_context(|| self.path.display().to_string())?;
        Ok(())
    }

    pub fn rows(&self) -> &[Evaluation] {
        &self.rows
    }

    pub fn into_rows(self) -> Vec<Evaluation> {
        self.rows
    }
}
