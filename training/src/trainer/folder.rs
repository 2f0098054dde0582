//! The folder of a run: who may train there, and what becomes of a run that is there already.

use super::checkpoint::{Checkpoint, Checkpoints};
use super::curve::Curve;
use super::settings::Start;
use anyhow::{Context, Result, bail, ensure};
use experiments::curve::{CURVE_FILE, read_curve};
use experiments::record::{Difference, RECORD_FILE, Record};
use experiments::run::{BEST_WEIGHTS, Run, is_run, step_of_best_weights};
use experiments::screen::warn;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// A folder that no other process trains in.
#[derive(Debug)]
pub struct RunFolder {
    pub path: PathBuf,
    pub checkpoints: Checkpoints,
    /// Where the runs are that this one takes the place of, until its first checkpoint stands.
    pub replaced: Vec<PathBuf>,
    lock: File,
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
/// What is left to do where there is nothing to go on from.
const ANEW: &str = "begin anew with --overwrite, or elsewhere with --out";

/// Refuses a folder for runs that is a run's own, or lies in one: it would be gone with that run, and found by no report.
pub fn ensure_outside(out: &Path) -> Result<()> {
    let whole = std::path::absolute(out).with_context(|| out.display().to_string())?;
    if let Some(run) = whole.ancestors().find(|folder| Record::load(folder).is_ok()) {
        bail!(
            "--out {}: expected a folder for runs, got a run, {}; name the one that it is in",
            out.display(),
            run.display()
        );
    }
    Ok(())
}

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
                let remedy = match Checkpoints::any(folder)? {
                    true => format!("without {RECORD_FILE} it goes on from the newest checkpoint"),
                    false => format!("and there is no checkpoint; {ANEW}"),
                };
                return Err(error.context(format!("{shown}: --resume cannot tell what it would go on with; {remedy}")));
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
        if start == Start::Overwrite && is_run(path) {
            set_aside(path)?;
        }
        let replaced: Vec<PathBuf> = match start {
            // This is the run that was to take their place.
            Start::Overwrite | Start::Resume => asides(path)?.into_iter().take_while(|aside| aside.exists()).collect(),
            Start::New => Vec::new(),
        };
        let take = || Ok((lock(path)?, Checkpoints::open(path)?));
        let (lock, checkpoints) = take().map_err(|error: anyhow::Error| match replaced.last() {
            Some(aside) => error.context(format!("the run before it is kept as {}", aside.display())),
            None => error,
        })?;
        let folder = Self { path: path.to_owned(), checkpoints, replaced, lock };
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
            let longer = !before.stalled() && record.conditions.planned_steps > before.conditions.planned_steps;
            if before.is_finished() && !longer {
                return Ok(Beginning::Done(Box::new(self.finished(before)?)));
            }
        }
        if let Some(checkpoint) = self.checkpoints.newest()? {
            self.ensure_continues(&checkpoint.manifest.record, record)?;
            return Ok(Beginning::GoOn(Box::new(checkpoint)));
        }
        let Some(before) = before else {
            let tests = self.path.join(CURVE_FILE);
            // One that was killed before its first record has a curve without rows.
            let is_new = !self.path.join(BEST_WEIGHTS).exists()
                && (!tests.exists() || read_curve(&tests).is_ok_and(|rows| rows.is_empty()));
            ensure!(
                is_new,
                "{}: has tests of a run, and neither its {RECORD_FILE} nor a checkpoint to go on from; {ANEW}",
                self.path.display()
            );
            return Ok(Beginning::New);
        };
        let kept = self.replaced.first().map(|aside| format!(" (the run before it is {})", aside.display()));
        ensure!(
            before.progress.steps == 0,
            "{}: was trained to step {}{}, and has no checkpoint to go on from; {ANEW}",
            self.path.display(),
            before.progress.steps,
            kept.unwrap_or_default()
        );
        Ok(Beginning::New)
    }

    /// A run that has ended, whose curve or best weights may have been lost: the last checkpoint has them as well.
    fn finished(&self, record: &Record) -> Result<Run> {
        let last = || -> Result<Option<Checkpoint>> {
            let newest = self.checkpoints.newest()?;
            let is_last = |of: &Record| of.progress.steps == record.progress.steps && of.is_of_run(record);
            Ok(newest.filter(|checkpoint| is_last(&checkpoint.manifest.record)))
        };
        let is_own = self.path.join(BEST_WEIGHTS).exists() && step_of_best_weights(&self.path, record).is_ok();
        if !is_own && let Ok(Some(checkpoint)) = last() {
            checkpoint.restore_best(&self.path)?;
        }
        Run::load(&self.path).or_else(|error| {
            let Some(checkpoint) = last()? else {
                let none = format!("no checkpoint of its last step has another; {ANEW}");
                return Err(error.context(format!("{}: {none}", self.path.display())));
            };
            warn(&format!("{error:#}: it is that of checkpoint {} now", checkpoint.folder.display()));
            Curve::restore(&checkpoint.folder, &self.path)?;
            Run::load(&self.path)
        })
    }

    /// Refuses to write into a folder that has got the name meanwhile.
    pub fn ensure_ours(&self) -> Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let held = self.lock.metadata()?;
            let there = std::fs::metadata(self.path.join(LOCK)).ok();
            ensure!(
                there.is_some_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())),
                "{}: has been moved, removed or replaced while the run was trained here: it stops, with what its last \
                 checkpoint has",
                self.path.display()
            );
        }
        Ok(())
    }

    /// Refuses to go on under other conditions than those of the run that was stopped. A run at a constant rate may go
    /// on for longer than it was to.
    fn ensure_continues(&self, before: &Record, now: &Record) -> Result<()> {
        // Its tests, the last step's too, tell when to switch or when to end.
        let listens = now.conditions.optimizer.switches() || now.conditions.recipe.patience.is_some();
        let falls = |record: &Record| record.conditions.decay_at.is_some() || record.conditions.recipe.cosine;
        let constant = !listens && !falls(before) && !falls(now);
        let may_differ = |difference: &Difference| {
            difference.name == "planned_steps"
                && constant
                && now.conditions.budget.is_none()
                && now.conditions.planned_steps >= before.progress.steps
        };
        let mut differences = before.conditions.differences(&now.conditions);
        differences.retain(|difference| !may_differ(difference));
        let mut compare = |name, before: u64, now: u64| {
            if before != now {
                differences.push(Difference { name, before: before.to_string(), now: now.to_string() });
            }
        };
        compare("seed", before.seed, now.seed);
        if listens {
            compare("eval_every", before.progress.eval_every as u64, now.progress.eval_every as u64);
        }
        if differences.is_empty() {
            return Ok(());
        }
        let told = differences.iter().map(|Difference { name, before, now }| format!("{name} was {before}, is {now}"));
        bail!(
            "{}: --resume goes on with a run under its own conditions, but {}; give the options that it was started \
             with (it has come to step {}), or another --out",
            self.path.display(),
            told.collect::<Vec<_>>().join(", "),
            before.progress.steps
        )
    }

    /// After a checkpoint: the runs before are no longer wanted.
    pub fn forget_replaced(&mut self) -> Result<()> {
        for replaced in self.replaced.drain(..) {
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

/// Runs that are kept while others take their place, at most.
const MOST_REPLACED: usize = 100;

/// Where runs are while another takes their place: the names that there are.
fn asides(folder: &Path) -> Result<Vec<PathBuf>> {
    let name = folder.file_name().context("a folder with a name")?.to_string_lossy();
    let numbered = |number: usize| if number == 1 { String::new() } else { format!("-{number}") };
    let name = |number| folder.with_file_name(format!("{REPLACED}{name}{}", numbered(number)));
    Ok((1..=MOST_REPLACED).map(name).collect())
}

/// Gives a run another name beside; one that never came to anything goes.
fn set_aside(folder: &Path) -> Result<()> {
    let held = lock(folder)?;
    let asides = asides(folder)?;
    let came_to_something = |folder: &Path| -> Result<bool> {
        let steps = Record::load(folder).map_or(1, |record| record.progress.steps);
        Ok(steps > 0 || Checkpoints::any(folder)?)
    };
    if asides[0].exists() && !came_to_something(folder)? {
        std::fs::remove_dir_all(folder).with_context(|| format!("{}: cannot be removed", folder.display()))?;
    } else {
        let free = asides.iter().find(|aside| !aside.exists());
        let free = free.with_context(|| format!("{}: too many runs were to take its place", folder.display()))?;
        std::fs::rename(folder, free).with_context(|| format!("{}: cannot be set aside", folder.display()))?;
    }
    drop(held);
    Ok(())
}
