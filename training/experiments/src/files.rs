//! Files that are there as a whole or not at all.

use anyhow::{Context, Result};
use md5::{Digest, Md5};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// What a file is called while it is written.
const WRITING: &str = ".writing-";

/// Removes what programs that were killed have left half-written in a folder: what nobody has written to for an hour. It is in
/// nobody's way: where it cannot be removed, it stays.
pub fn remove_abandoned(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(WRITING)) {
        let age = entry.metadata().and_then(|file| file.modified()).map(|time| time.elapsed().unwrap_or_default());
        if age.is_ok_and(|age| age > Duration::from_secs(3600)) {
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

/// Writes beside, syncs and renames.
pub fn write_atomically(path: &Path, contents: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // as any new file
        let mut file = builder.prefix(WRITING).tempfile_in(folder)?;
        file.write_all(contents)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_folder(folder);
        Ok(())
    };
    write().with_context(|| format!("{}: cannot be written", path.display()))
}

/// Writes a file of a folder that is not there for anybody else yet.
pub fn write_synced(path: &Path, contents: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(contents)?;
        file.sync_all()
    };
    write().with_context(|| format!("{}: cannot be written", path.display()))
}

/// A rename is on disk once its folder is. Some file systems cannot sync a folder; the files are whole there all the same.
pub fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        folder.sync_all().ok();
    }
}

/// The MD5 of a file.
pub fn md5_of(path: &Path) -> Result<String> {
    Ok(hexadecimal(&Md5::digest(std::fs::read(path)?)))
}

/// A checksum as it is written.
pub fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
