//! Running cargo and programs from tests.
#![allow(dead_code)] // each test file uses its own part

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder of this crate.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A cargo that builds below our own target folder, in the profile of this test, from the crates that are here.
pub fn cargo(command: &str, target: &Path) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    // What the outer cargo tells a test of its package would look like a changed environment to the inner one, which
    // would build dependencies again and again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let of_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| text.starts_with(prefix));
        if of_package || name == "OUT_DIR" || name == "LD_LIBRARY_PATH" {
            cargo.env_remove(name);
        }
    }
    cargo.arg(command).arg("--offline").env("CARGO_TARGET_DIR", target);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    cargo
}

/// The target folder: a test is target/PROFILE/deps/NAME.
pub fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().to_owned()
}

/// The path of an example. `cargo test` has built it; where it tests a part alone, it may be missing or old: then it is built.
pub fn example(name: &str) -> PathBuf {
    let path = binary("examples").join(name);
    let time = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    if time(&path) < time(&root().join("examples").join(name).with_extension("rs")) {
        run(cargo("build", &target()).args(["--quiet", "--example", name]).current_dir(root()));
    }
    path
}

/// A program of the package whose test this is: cargo has built it beside.
pub fn binary(name: &str) -> PathBuf {
    target().join(if cfg!(debug_assertions) { "debug" } else { "release" }).join(name)
}

/// The arguments of a command line without quotes.
pub fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must succeed.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}{}", output.status, stdout(&output), stderr(&output));
    output
}

/// Runs a command that must fail, and returns what it said of it.
#[track_caller]
pub fn run_refused(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(!output.status.success(), "{command:?} succeeded:\n{}", stdout(&output));
    stderr(&output)
}

pub fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
