//! Checkpoints: everything that a run needs to go on as if it had never stopped.
//!
//! A checkpoint is a folder `step-N` with the weights, the optimizer's state, SVGD's second moments, the curve so far,
//! and `checkpoint.json`, which tells the rest and the checksum of each file; its own is in `checkpoint.md5`. It is
//! written under another name, synced and renamed: it is there as a whole or not at all. The order of the images and all
//! that is drawn at random follow from the seed and the step (see data/batches.rs), so these two are the whole state of
//! the generator.

use anyhow::{Context, Result, anyhow, bail, ensure};
use experiments::files::{hexadecimal, md5_of, sync_folder, write_atomically, write_synced};
use experiments::record::Record;
use experiments::run::{BEST_WEIGHTS, CHECKPOINTS};
use experiments::screen::warn;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// How many are kept: if the newest turns out to be damaged, there is the one before.
const KEPT: usize = 2;

/// The name of what is being written, and of what is being removed, until it is or is no more.
const WRITING: &str = ".writing-";
const REMOVING: &str = ".removing-";

const MANIFEST: &str = "checkpoint.json";
const MANIFEST_MD5: &str = "checkpoint.md5";
const FORMAT: u32 = 3;

/// What a checkpoint says of itself: checkpoint.json.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// The run that it belongs to, as it was at this step.
    pub record: Record,
    /// The MD5 of each file.
    files: BTreeMap<String, String>,
}

/// A checkpoint whose files are those that were written.
#[derive(Debug)]
pub struct Checkpoint {
    pub folder: PathBuf,
    pub manifest: Manifest,
}

/// The checkpoints of one run.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// Those of the run in `run`, whose folder for them is made if need be. What a killed run left half-written is removed.
    pub fn open(run: &Path) -> Result<Self> {
        let folder = run.join(CHECKPOINTS);
        std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
        for (name, path) in entries(&folder)?.into_iter().chain(entries(run)?) {
            if name.starts_with(WRITING) || name.starts_with(REMOVING) {
                let remove = if path.is_dir() { std::fs::remove_dir_all } else { std::fs::remove_file };
                remove(&path).with_context(|| format!("{}: cannot be removed", path.display()))?;
            }
        }
        Ok(Self { folder })
    }

    /// Writes one: `write` puts the files into the folder that it is given. Then the third-newest goes, and so do those
    /// of later steps, which were damaged: the run has fallen back from them.
    pub fn save(&self, record: &Record, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let name = folder_name(record.progress.steps);
        let context = || format!("{}: checkpoint {name} cannot be written", self.folder.display());
        self.try_save(&name, record, write).with_context(context)
    }

    fn try_save(&self, name: &str, record: &Record, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let writing = tempfile::Builder::new().prefix(WRITING).tempdir_in(&self.folder)?;
        write(writing.path())?;
        let mut files = BTreeMap::new();
        for (file, path) in entries(writing.path())? {
            File::open(&path)?.sync_all()?;
            files.insert(file, md5_of(&path)?);
        }
        let manifest = Manifest { format: FORMAT, record: record.clone(), files };
        let manifest = serde_json::to_vec_pretty(&manifest)?;
        write_synced(&writing.path().join(MANIFEST), &manifest)?;
        write_synced(&writing.path().join(MANIFEST_MD5), hexadecimal(&Md5::digest(&manifest)).as_bytes())?;
        #[cfg(unix)]
        // As any new folder: tempfile's own choice is open to its owner alone.
        std::fs::set_permissions(writing.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        sync_folder(writing.path());
        let target = self.folder.join(name);
        if target.exists() {
            // A damaged one that the run has fallen back from and come to again.
            self.remove(&target)?;
        }
        std::fs::rename(writing.keep(), target)?;
        sync_folder(&self.folder);
        let (passed_over, own): (Vec<_>, Vec<_>) =
            steps(&self.folder)?.into_iter().partition(|(step, _)| *step > record.progress.steps);
        for (_, path) in passed_over.into_iter().chain(own.into_iter().skip(KEPT)) {
            self.remove(&path)?;
        }
        Ok(())
    }

    /// Removes one that nobody takes for whole meanwhile.
    fn remove(&self, path: &Path) -> Result<()> {
        let removing = tempfile::Builder::new().prefix(REMOVING).tempdir_in(&self.folder)?;
        std::fs::rename(path, removing.path().join("checkpoint"))?;
        removing.close()?;
        Ok(())
    }

    /// The newest that is whole; none if there are none at all. Says which damaged ones it passes over.
    ///
    /// # Errors
    /// If there are some, and every one is damaged.
    pub fn newest(&self) -> Result<Option<Checkpoint>> {
        Self::newest_in(&self.folder)
    }

    /// The newest in a folder of checkpoints that is only read.
    pub fn newest_in(folder: &Path) -> Result<Option<Checkpoint>> {
        let steps = steps(folder)?;
        for (step, path) in &steps {
            match Checkpoint::read(path, *step) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error) => warn(&format!("{error:#}: falling back to the checkpoint before")),
            }
        }
        ensure!(
            steps.is_empty(),
            "{}: all {} checkpoints are damaged; begin anew with --overwrite, or elsewhere with --out",
            folder.display(),
            steps.len()
        );
        Ok(None)
    }

    /// Whether the run in this folder has any, damaged or not.
    pub fn any(run: &Path) -> Result<bool> {
        let folder = run.join(CHECKPOINTS);
        Ok(folder.is_dir() && !steps(&folder)?.is_empty())
    }
}

impl Checkpoint {
    /// The best weights as they were then: those that came later belong to tests that come again.
    pub fn restore_best(&self, run: &Path) -> Result<()> {
        let (saved, best) = (self.folder.join(BEST_WEIGHTS), run.join(BEST_WEIGHTS));
        match saved.exists() {
            true => write_atomically(&best, &std::fs::read(&saved).with_context(|| saved.display().to_string())?),
            false if best.exists() => std::fs::remove_file(&best).with_context(|| best.display().to_string()),
            false => Ok(()),
        }
    }

    fn read(folder: &Path, step: usize) -> Result<Self> {
        let read = || -> Result<Manifest> {
            let text = std::fs::read(folder.join(MANIFEST)).context(MANIFEST)?;
            let expected = std::fs::read_to_string(folder.join(MANIFEST_MD5)).context(MANIFEST_MD5)?;
            let found = hexadecimal(&Md5::digest(&text));
            ensure!(found == expected, "{MANIFEST}: expected MD5 {expected}, got {found}");
            let manifest: Manifest = serde_json::from_slice(&text).context(MANIFEST)?;
            ensure!(manifest.format == FORMAT, "{MANIFEST}: expected format {FORMAT}, got {}", manifest.format);
            let found = manifest.record.progress.steps;
            ensure!(found == step, "{MANIFEST}: expected step {step} as the folder's name says, got {found}");
            for (file, expected) in &manifest.files {
                let found = md5_of(&folder.join(file)).with_context(|| file.clone())?;
                if found != *expected {
                    bail!("{file}: expected MD5 {expected}, got {found}");
                }
            }
            Ok(manifest)
        };
        let manifest = read().map_err(|error| anyhow!("checkpoint {} is damaged ({error:#})", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), manifest })
    }
}

/// The checkpoints in a folder and their steps, the newest first.
fn steps(folder: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let parse = |(name, path): (String, PathBuf)| Some((name.strip_prefix("step-")?.parse().ok()?, path));
    let mut steps: Vec<_> = entries(folder)?.into_iter().filter_map(parse).collect();
    steps.sort_unstable_by(|a, b| b.cmp(a));
    Ok(steps)
}

fn folder_name(step: usize) -> String {
    format!("step-{step:09}")
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let read = || -> std::io::Result<Vec<_>> {
        let entries = std::fs::read_dir(folder)?;
        entries
            .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
            .collect()
    };
    read().with_context(|| format!("{}: cannot be read", folder.display()))
}
