//! Checkpoints: everything that a run needs to go on as if it had never stopped.
//!
//! A checkpoint is a folder `step-N` with the weights, the optimizer's state, SVGD's second moments, the curve so far,
//! and `checkpoint.json`, which tells the rest and the checksum of each file. It is written under another name, synced
//! and renamed: it is there as a whole or not at all. The order of the images and all that is drawn at random follow
//! from the seed and the step (see data/batches.rs), so these two are the whole state of the generator.

use super::files::{hexadecimal, sync_folder, write_synced};
use super::report::run::Record;
use anyhow::{Context, Result, anyhow, bail, ensure};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How many are kept: if the newest turns out to be damaged, there is the one before.
const KEPT: usize = 2;

/// The name of what is being written, and of what is being removed, until it is or is no more.
const WRITING: &str = ".writing-";
const REMOVING: &str = ".removing-";

const MANIFEST: &str = "checkpoint.json";
const FORMAT: u32 = 1;

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
    /// Those in `folder`, which is made if need be. What a killed run left half-written is removed.
    pub fn open(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
        for (name, path) in entries(&folder)? {
            if name.starts_with(WRITING) || name.starts_with(REMOVING) {
                std::fs::remove_dir_all(&path).with_context(|| format!("{}: cannot be removed", path.display()))?;
            }
        }
        Ok(Self { folder })
    }

    /// The steps that have one, the newest first.
    fn steps(&self) -> Result<Vec<(usize, PathBuf)>> {
        let parse = |(name, path): (String, PathBuf)| Some((name.strip_prefix("step-")?.parse().ok()?, path));
        let mut steps: Vec<_> = entries(&self.folder)?.into_iter().filter_map(parse).collect();
        steps.sort_unstable_by(|a, b| b.cmp(a));
        Ok(steps)
    }

    /// Writes one: `write` puts the files into the folder that it is given. The third-newest then goes.
    pub fn save(&self, record: &Record, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let name = format!("step-{:09}", record.steps);
        let context = || format!("{}: checkpoint {name} cannot be written", self.folder.display());
        self.try_save(&name, record, write).with_context(context)
    }

    fn try_save(&self, name: &str, record: &Record, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let writing = tempfile::Builder::new().prefix(WRITING).tempdir_in(&self.folder)?;
        write(writing.path())?;
        let mut files = BTreeMap::new();
        for (file, path) in entries(writing.path())? {
            let handle = std::fs::File::open(&path)?;
            handle.sync_all()?;
            files.insert(file, checksum(&path)?);
        }
        let manifest = Manifest { format: FORMAT, record: record.clone(), files };
        write_synced(&writing.path().join(MANIFEST), &serde_json::to_vec_pretty(&manifest)?)?;
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
        for (_, path) in self.steps()?.into_iter().skip(KEPT) {
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
        let steps = self.steps()?;
        for (_, path) in &steps {
            match Checkpoint::read(path) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error) => eprintln!("{error:#}: falling back to the checkpoint before"),
            }
        }
        ensure!(
            steps.is_empty(),
            "{}: all {} checkpoints are damaged; begin anew with --overwrite, or elsewhere with --out",
            self.folder.display(),
            steps.len()
        );
        Ok(None)
    }

    /// Whether there is any, damaged or not.
    pub fn any(&self) -> Result<bool> {
        Ok(!self.steps()?.is_empty())
    }

    /// Removes all.
    pub fn clear(&self) -> Result<()> {
        self.steps()?.iter().try_for_each(|(_, path)| self.remove(path))
    }
}

impl Checkpoint {
    fn read(folder: &Path) -> Result<Self> {
        let read = || -> Result<Manifest> {
            let text = std::fs::read(folder.join(MANIFEST)).context(MANIFEST)?;
            let manifest: Manifest = serde_json::from_slice(&text).context(MANIFEST)?;
            ensure!(manifest.format == FORMAT, "{MANIFEST}: expected format {FORMAT}, got {}", manifest.format);
            for (file, expected) in &manifest.files {
                let found = checksum(&folder.join(file)).with_context(|| file.clone())?;
                if found != *expected {
                    bail!("{file}: expected MD5 {expected}, got {found}");
                }
            }
            Ok(manifest)
        };
        let manifest = read().map_err(|error| anyhow!("checkpoint {} is damaged ({error:#})", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), manifest })
    }

    /// Refuses to go on with other conditions than those of the run that was stopped.
    pub fn ensure_continues(&self, record: &Record) -> Result<()> {
        // What may change: how far the run has come, the machine, and the programs on it.
        let conditions = |record: &Record| -> Result<serde_json::Map<String, serde_json::Value>> {
            let mut fields = match serde_json::to_value(record)? {
                serde_json::Value::Object(fields) => fields,
                other => bail!("expected a record, got {other}"),
            };
            for progress in ["steps", "seconds", "note", "state_bytes"] {
                fields.remove(progress);
            }
            for machine in ["device", "threads", "cuda_graph", "crate_version", "libtorch_version"] {
                fields.remove(machine);
            }
            Ok(fields)
        };
        let (before, now) = (conditions(&self.manifest.record)?, conditions(record)?);
        let differences: Vec<_> = now
            .iter()
            .filter(|(name, value)| before.get(*name) != Some(value))
            .map(|(name, value)| format!("{name} was {}, is {value}", before.get(name).unwrap_or(&"nothing".into())))
            .collect();
        ensure!(
            differences.is_empty(),
            "{}: --resume goes on with a run under its own conditions, but {}; give the options that it was started \
             with, or another --out",
            self.folder.display(),
            differences.join(", ")
        );
        Ok(())
    }
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

fn checksum(path: &Path) -> Result<String> {
    Ok(hexadecimal(&Md5::digest(std::fs::read(path)?)))
}
