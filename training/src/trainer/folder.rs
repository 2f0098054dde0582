//! The folder of a run: who may train there, and what becomes of a run that is there already.

use super::checkpoint::{Checkpoint, Checkpoints};
use super::settings::Start;
use anyhow::{Context, Result, bail, ensure};
use experiments::record::{Difference, RECORD_FILE, Record};
use experiments::run::{Run, is_run};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// A folder that no other process trains in.
#[derive(Debug)]
pub struct RunFolder {
    pub path: PathBuf,
    pub checkpoints: Checkpoints,
    /// Where the run is that this one takes the place of, until its first checkpoint stands.
    replaced: Option<PathBuf>,
    _lock: File,
}

/// From where a run begins.
#[derive(Debug)]
pub enum Beginning {
    New,
    GoOn(Box<Checkpoint>),
    /// It had come to its end before.
    Done(Box<Run>),
}

/// The file that is locked.
const LOCK: &str = ".lock";
/// What the name of a run begins with that another takes the place of.
const REPLACED: &str = ".replaced-";

/// Refuses what would lose a run, before anything is trained.
///
/// # Errors
/// If the folder holds a run that is neither to be gone on with nor to be replaced, or a run of another experiment.
pub fn ensure_free(folder: &Path, start: Start, experiment: &str) -> Result<()> {
    if !is_run(folder) {
        return Ok(());
    }
    let shown = folder.display();
    ensure!(
        start != Start::New,
        "{shown} holds a run: go on with it by --resume, begin anew by --overwrite, or choose another --out"
    );
    if folder.join(RECORD_FILE).exists() {
        match Record::load(folder) {
            Ok(record) => ensure!(
                record.conditions.experiment == experiment,
                "{shown} holds a run of {}, not of {experiment}: choose another --out",
                record.conditions.experiment
            ),
            // What cannot be read may be replaced, but not gone on with.
            Err(error) if start == Start::Resume => {
                return Err(error.context(format!("{shown}: --resume cannot tell what it would go on with")));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

impl RunFolder {
    /// Takes the folder for this process, and tells from where the run begins.
    pub fn open(path: &Path, start: Start, record: &Record) -> Result<(Self, Beginning)> {
        ensure_free(path, start, &record.conditions.experiment)?;
        let aside = aside(path)?;
        let replaced = match start {
            Start::Overwrite if is_run(path) => Some(set_aside(path, aside)?),
            // This is the run that was to take the place of that one.
            Start::Overwrite | Start::Resume => Some(aside).filter(|aside| aside.exists()),
            Start::New => None,
        };
        let lock = lock(path)?;
        let folder = Self { path: path.to_owned(), checkpoints: Checkpoints::open(path)?, replaced, _lock: lock };
        let beginning = match start {
            Start::Resume => folder.go_on(record)?,
            Start::New | Start::Overwrite => Beginning::New,
        };
        Ok((folder, beginning))
    }

    fn go_on(&self, record: &Record) -> Result<Beginning> {
        let before = match self.path.join(RECORD_FILE).exists() {
            true => Some(Record::load(&self.path)?),
            false => None,
        };
        if let Some(before) = &before {
            self.ensure_continues(before, record)?;
            let longer = record.conditions.planned_steps > before.conditions.planned_steps;
            if before.is_finished() && !longer {
                return Ok(Beginning::Done(Box::new(Run::load(&self.path)?)));
            }
        }
        if let Some(checkpoint) = self.checkpoints.newest()? {
            self.ensure_continues(&checkpoint.manifest.record, record)?;
            return Ok(Beginning::GoOn(Box::new(checkpoint)));
        }
        let Some(before) = before else { return Ok(Beginning::New) };
        let rows = Run::load(&self.path).map_or(0, |run| run.curve.len());
        ensure!(
            rows == 0,
            "{}: has a curve of {rows} rows, to step {}, and no checkpoint to go on from; begin anew with --overwrite, or \
             elsewhere with --out",
            self.path.display(),
            before.progress.steps
        );
        Ok(Beginning::New)
    }

    /// Refuses to go on under other conditions than those of the run that was stopped. A run at a constant rate may go
    /// on for longer than it was to.
    fn ensure_continues(&self, before: &Record, now: &Record) -> Result<()> {
        let constant = before.conditions.decay_at.is_none() && now.conditions.decay_at.is_none();
        let may_differ = |difference: &Difference| {
            difference.name == "planned_steps"
                && constant
                && now.conditions.budget.is_none()
                && now.conditions.planned_steps >= before.progress.steps
        };
        let mut differences = before.conditions.differences(&now.conditions);
        differences.retain(|difference| !may_differ(difference));
        if differences.is_empty() {
            return Ok(());
        }
        let told = differences.iter().map(|Difference { name, before, now }| format!("{name} was {before}, is {now}"));
        bail!(
            "{}: --resume goes on with a run under its own conditions, but {}; give the options that it was started \
             with, or another --out",
            self.path.display(),
            told.collect::<Vec<_>>().join(", ")
        )
    }

    /// After a checkpoint: the run before is no longer wanted.
    pub fn forget_replaced(&mut self) -> Result<()> {
        if let Some(replaced) = self.replaced.take() {
            std::fs::remove_dir_all(&replaced).with_context(|| format!("{}: cannot be removed", replaced.display()))?;
        }
        Ok(())
    }
}

fn lock(folder: &Path) -> Result<File> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    let lock = File::create(folder.join(LOCK)).with_context(|| format!("{}: cannot be written", folder.display()))?;
    // A file system that has no locks is no reason not to train.
    ensure!(
        !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
        "{}: another process is training here; wait for it, or choose another --out",
        folder.display()
    );
    Ok(lock)
}

/// Where a run is while another takes its place.
fn aside(folder: &Path) -> Result<PathBuf> {
    let name = folder.file_name().context("a folder with a name")?.to_string_lossy();
    Ok(folder.with_file_name(format!("{REPLACED}{name}")))
}

/// Gives a run that other name.
fn set_aside(folder: &Path, aside: PathBuf) -> Result<PathBuf> {
    let held = lock(folder)?;
    if aside.exists() && !Checkpoints::any(folder)? {
        // This one was to take the place of that, and never came to a checkpoint: that is the one to keep.
        std::fs::remove_dir_all(folder).with_context(|| format!("{}: cannot be removed", folder.display()))?;
    } else {
        if aside.exists() {
            std::fs::remove_dir_all(&aside).with_context(|| format!("{}: cannot be removed", aside.display()))?;
        }
        std::fs::rename(folder, &aside).with_context(|| format!("{}: cannot be set aside", folder.display()))?;
    }
    drop(held);
    Ok(aside)
}
