//! Runs as they lie on disk: a folder with run.json and curve.csv, and where to find them.

use crate::curve::{CURVE_FILE, Evaluation, best, curve_csv, read_curve};
use crate::files::{hexadecimal, md5_of};
use crate::record::{Digests, RECORD_FILE, Record};
use anyhow::{Context, Result, ensure};
use md5::{Digest, Md5};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The folder of its checkpoints in that of a run.
pub const CHECKPOINTS: &str = "checkpoints";

/// The weights of the test with the least error so far, in the folder of a run.
pub const BEST_WEIGHTS: &str = "best.safetensors";

/// One optimizer with one seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub record: Record,
    pub curve: Vec<Evaluation>,
}

impl Run {
    /// Reads run.json and curve.csv in `folder`. One that has not come to its end is as it was at its last test.
    pub fn load(folder: &Path) -> Result<Run> {
        let mut record = Record::load(folder)?;
        let path = folder.join(CURVE_FILE);
        let mut curve = read_curve(&path).with_context(|| path.display().to_string())?;
        let (end, steps) = (curve.last().map_or(0, |row| row.step), record.progress.steps);
        ensure!(
            !record.is_finished() || end == steps,
            "{}: expected rows to step {steps}, where the run has ended, got the last of step {end}; --resume takes it from \
             the last checkpoint",
            path.display()
        );
        if let Some(digests) = &record.progress.digests {
            ensure!(
                digests.are_of(&curve)?,
                "{}: expected the {} tests that {RECORD_FILE} tells of, got others: it is of another run, or was changed; \
                 --resume takes it from the last checkpoint",
                path.display(),
                digests.tests
            );
        }
        // A run that was killed may have a test that its record does not tell of, and a record of behind its last test: --resume
        // knows nothing of the first, and what is told is of the last that counts.
        match &record.progress.digests {
            Some(digests) => curve.truncate(digests.tests),
            None if record.progress.steps == 0 => curve.clear(),
            None => {}
        }
        if let Some(last) = curve.last().filter(|_| !record.is_finished()) {
            (record.progress.steps, record.progress.seconds) = (last.step, last.seconds);
        }
        Ok(Run { record, curve })
    }
}

impl Digests {
    /// Those of a run with these tests.
    pub fn new(curve: &[Evaluation], best: Option<String>) -> Result<Self> {
        Ok(Self { tests: curve.len(), curve: hexadecimal(&Md5::digest(curve_csv(curve)?)), best })
    }

    fn are_of(&self, curve: &[Evaluation]) -> Result<bool> {
        let Some(known) = curve.get(..self.tests) else { return Ok(false) };
        Ok(Self::new(known, None)?.curve == self.curve)
    }
}

/// The step whose weights the best ones of the run in `folder` are, where the run tells.
///
/// # Errors
/// If they are not those of the run.
pub fn step_of_best_weights(folder: &Path, record: &Record) -> Result<Option<usize>> {
    let rows = read_curve(&folder.join(CURVE_FILE)).unwrap_or_default();
    let step_of_best = |rows: &[Evaluation]| best(rows).map(|row| row.step);
    let Some(digests) = &record.progress.digests else { return Ok(step_of_best(&rows)) };
    let Digests { tests, best: Some(expected), .. } = digests else { return Ok(step_of_best(&rows)) };
    let path = folder.join(BEST_WEIGHTS);
    let found = md5_of(&path).with_context(|| unreadable(&path))?;
    let known = if digests.are_of(&rows)? { *tests } else { 0 };
    if found == *expected {
        return Ok(step_of_best(&rows[..known]));
    }
    // A run that was killed between these weights and its record has the test that they are of.
    let newest =
        step_of_best(&rows).filter(|step| known == *tests && rows[known..].iter().any(|row| row.step == *step));
    ensure!(
        newest.is_some(),
        "{}: expected the weights that {RECORD_FILE} tells of, with MD5 {expected}, got {found}: they are of another run, or \
         were changed; --resume takes them from the last checkpoint",
        path.display()
    );
    Ok(newest)
}

/// Whether a folder holds a run, whatever is left of it.
pub fn is_run(folder: &Path) -> bool {
    let is_step = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("step-");
    let holds = |path: PathBuf| std::fs::read_dir(path).is_ok_and(|entries| entries.flatten().any(is_step));
    [RECORD_FILE, CURVE_FILE, BEST_WEIGHTS].iter().any(|file| folder.join(file).exists())
        || holds(folder.join(CHECKPOINTS))
}

/// The runs that were found, and what is wrong with those that are not among them.
#[derive(Debug, Default)]
pub struct Found {
    pub runs: Vec<Run>,
    pub left_out: Vec<String>,
}

/// The runs in these folders, at any depth and behind links, in the order of the folders' names. The same folder counts once;
/// one that cannot be read, has no row, or is a second copy of a run is left out with a word.
///
/// # Errors
/// If one of `folders` cannot be read or holds no run at all.
pub fn load_all(folders: &[PathBuf]) -> Result<Found> {
    let (mut found, mut origins, mut seen): (Found, Vec<PathBuf>, _) = Default::default();
    for folder in folders {
        let mut paths = Vec::new();
        walk(folder, &mut BTreeSet::new(), &mut paths, &mut found.left_out)?;
        ensure!(
            !paths.is_empty() || !found.left_out.is_empty(),
            "{}: expected a folder with runs, which have {RECORD_FILE} and {CURVE_FILE}, found none",
            folder.display()
        );
        for origin in paths {
            let canonical = origin.canonicalize().with_context(|| unreadable(&origin))?;
            if BTreeSet::insert(&mut seen, canonical) {
                found.add(origin, &mut origins);
            }
        }
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, origin: PathBuf, origins: &mut Vec<PathBuf>) {
        let run = match Run::load(&origin) {
            Ok(run) => run,
            Err(error) => return self.left_out.push(format!("{error:#}")),
        };
        if run.curve.is_empty() {
            return self.left_out.push(format!("{}: has no test yet", origin.display()));
        }
        let is_twin = |other: &Run| other.record.seed == run.record.seed && other.record.is_like(&run.record);
        if let Some(twin) = self.runs.iter().position(is_twin) {
            return self.left_out.push(format!(
                "{}: is {} with seed {} under the same conditions as {}, which is no second sample",
                origin.display(),
                run.record.conditions.optimizer.name(),
                run.record.seed,
                origins[twin].display()
            ));
        }
        self.runs.push(run);
        origins.push(origin);
    }
}

/// `above` are the folders on the way here: a link to one of them would lead round for ever.
fn walk(
    folder: &Path,
    above: &mut BTreeSet<PathBuf>,
    found: &mut Vec<PathBuf>,
    left_out: &mut Vec<String>,
) -> Result<()> {
    if folder.join(RECORD_FILE).exists() {
        found.push(folder.to_owned());
        return Ok(());
    }
    if is_run(folder) {
        left_out.push(format!("{}: is a run without {RECORD_FILE}", folder.display()));
        return Ok(());
    }
    let canonical = folder.canonicalize().with_context(|| unreadable(folder))?;
    if !above.insert(canonical.clone()) {
        return Ok(());
    }
    let mut below = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| unreadable(folder))? {
        let entry = entry.with_context(|| unreadable(folder))?;
        let name = entry.file_name();
        // Hidden ones are being written, or were set aside.
        let skipped = name.to_string_lossy().starts_with('.') || name == CHECKPOINTS;
        if !skipped && entry.path().is_dir() {
            below.push(entry.path());
        }
    }
    below.sort();
    for folder in below {
        if let Err(error) = walk(&folder, above, found, left_out) {
            left_out.push(format!("{error:#}"));
        }
    }
    above.remove(&canonical);
    Ok(())
}

fn unreadable(folder: &Path) -> String {
    format!("{}: cannot be read", folder.display())
}
