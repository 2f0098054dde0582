//! The parsers of files, each as its users reach it: by the path of a file or a folder. An input is what the files hold.
//!
//! A parser takes a file or refuses it with an error that names it. What was taken is whole and, where there is a writer for
//! it, written and read again to the same; what was refused has changed no state. Everything else panics here.

pub mod data;
// As the tests of the programs write them.
#[path = "../../training/tests/programs/matlab.rs"]
mod matlab;
pub mod runs;
pub mod state_files;

use anyhow::Result;
use std::path::Path;
use tempfile::TempDir;

/// A parser.
pub struct Target {
    /// That of its program in fuzz_targets/, and of its folder in corpus/.
    pub name: &'static str,
    /// Whether it takes the input.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that it takes, from which others are made.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    Target { name: "state_files", run: state_files::load, seeds: state_files::seeds },
    Target { name: "idx", run: data::idx, seeds: data::idx_seeds },
    Target { name: "cifar", run: data::cifar, seeds: data::cifar_seeds },
    Target { name: "svhn", run: data::svhn, seeds: data::svhn_seeds },
    Target { name: "texts", run: data::texts, seeds: data::texts_seeds },
    Target { name: "image", run: data::image, seeds: data::image_seeds },
    Target { name: "run_json", run: runs::run_json, seeds: runs::run_json_seeds },
    Target { name: "curve_csv", run: runs::curve_csv, seeds: runs::curve_csv_seeds },
    Target { name: "options_toml", run: runs::options_toml, seeds: runs::options_toml_seeds },
];

/// A folder that is gone when it is dropped: in memory, where there is such a place.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    folder.expect("a folder for the files")
}

/// What stands between the files of an input.
pub const SEPARATOR: &[u8] = b"|8<|";

/// The files of an input; those that it lacks are not written.
fn files(input: &[u8]) -> Vec<&[u8]> {
    let (mut files, mut rest) = (Vec::new(), input);
    while let Some(end) = rest.windows(SEPARATOR.len()).position(|part| part == SEPARATOR) {
        files.push(&rest[..end]);
        rest = &rest[end + SEPARATOR.len()..];
    }
    files.push(rest);
    files
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("a file in memory");
}

/// What a parser has made of a file, which its error names.
fn taken<T>(result: Result<T>, place: &Path) -> Option<T> {
    let error = match result {
        Ok(taken) => return Some(taken),
        Err(error) => format!("{error:#}"),
    };
    assert!(error.contains(&*place.to_string_lossy()), "an error that does not name {}: {error}", place.display());
    None
}
