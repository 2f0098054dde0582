//! A disk that fails at any call (faults.cpp): nothing is lost, nothing is said to be well that is not, and the run goes on
//! afterwards to the same end.
//!
//! A few calls are tried with each kind of fault; `FAULTS=300 cargo test -p training --test programs faults` tries as many.

use crate::common::*;
use crate::programs::*;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with a program's run, and the disk that it is on.
struct Disk {
    folder: tempfile::TempDir,
    library: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = root().join("tests/programs/faults.cpp");
        let library = folder.path().join("faults.so");
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        let flags = words("-std=c++17 -Wall -Wextra -Werror -O1 -shared -fPIC -o");
        run(Command::new(compiler).args(flags).arg(&library).arg(source));
        std::fs::create_dir(folder.path().join("disk")).unwrap();
        Self { folder, library }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("disk")
    }

    fn run(&self) -> PathBuf {
        self.path().join("runs/svgd-seed0")
    }

    fn program(&self) -> Command {
        let options = "--data digits --steps 12 --batch-size 16 --eval-every 4 --checkpoint-every 3 --threads 1 \
                       --optimizer svgd --out runs";
        mlp(&self.path(), &words(options))
    }

    /// A new run on a disk with a fault of this kind from the call `at` on.
    fn faulty(&self, kind: &str, at: usize) -> Output {
        std::fs::remove_dir_all(self.path()).unwrap();
        std::fs::create_dir(self.path()).unwrap();
        self.faulty_with(&[], kind, at)
    }

    /// The same with what is there, and with more options.
    fn faulty_with(&self, more: &[&str], kind: &str, at: usize) -> Output {
        let mut program = self.program();
        program.args(more).env("LD_PRELOAD", &self.library).env("FAULTS_FOLDER", self.path());
        program.env("FAULTS_KIND", kind).env("FAULTS_AT", at.to_string()).env("FAULTS_COUNT", self.count());
        program.output().unwrap()
    }

    fn count(&self) -> PathBuf {
        self.folder.path().join("count")
    }

    /// How many calls a run makes.
    fn calls(&self) -> usize {
        assert!(self.faulty("none", 0).status.success());
        read(self.count()).parse().unwrap()
    }

    /// What a run has come to; none if it has not come to its end.
    fn outcome(&self) -> Option<Vec<(String, Vec<u8>)>> {
        let last = self.run().join("checkpoints/step-000000012");
        let mut files = Vec::new();
        for entry in std::fs::read_dir(last).ok()? {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                files.push((path.file_name().unwrap().display().to_string(), std::fs::read(&path).ok()?));
            }
        }
        files.sort();
        files.push(("best".to_owned(), std::fs::read(self.run().join("best.safetensors")).ok()?));
        files.push(("curve".to_owned(), format!("{:?}", curve(&self.run())).into_bytes()));
        Some(files)
    }
}

/// The calls that are tried: spread over all, and not the same ones for each kind.
fn tried(calls: usize, kind: usize) -> Vec<usize> {
    let wanted = std::env::var("FAULTS").map_or(5, |faults| faults.parse().expect("FAULTS is a number"));
    let stride = (calls / wanted).max(1);
    (0..wanted.min(calls)).map(|i| 1 + i * stride + (kind * 37) % stride).collect()
}

/// Runs with a fault of this kind end as they should, and go on without it.
fn check(kind: &str, number: usize) {
    let disk = Disk::new();
    let calls = disk.calls();
    assert!(calls > 200, "{calls} calls: the library does not see them");
    let whole = disk.outcome().unwrap();
    let tried = tried(calls, number);
    println!("{kind}: {} of {calls} calls", tried.len());
    for at in tried {
        let output = disk.faulty(kind, at);
        let (status, said) = (output.status, stderr(&output));
        let at = format!("{kind} from call {at} of {calls}");
        if kind == "kill" {
            assert_eq!(status.signal(), Some(9), "{at}: {said}");
        } else {
            assert!(status.signal().is_none() && !said.contains("panicked"), "{at}: {status}\n{said}");
            match status.success() {
                true => assert!(disk.outcome() == Some(whole.clone()), "{at}: it is said to be well"),
                false => assert!(
                    said.contains("runs") && (said.contains("(os error ") || said.contains("Os {")),
                    "{at}: {status}\n{said}"
                ),
            }
        }
        run(disk.program().arg("--resume"));
        assert!(disk.outcome() == Some(whole.clone()), "{at}: it went on to another end");
        let debris = debris(&disk.run());
        assert!(debris.is_empty(), "{at}: {debris:?}");
    }
}

/// What was being written or removed when a program ended.
fn debris(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().display().to_string();
        if name.starts_with(".writing-") || name.starts_with(".removing-") {
            found.push(path);
        } else if path.is_dir() {
            found.extend(self::debris(&path));
        }
    }
    found
}

#[test]
fn a_disk_that_gets_full_loses_nothing() {
    check("full", 0);
}

#[test]
fn a_disk_that_is_full_once_loses_nothing() {
    check("once", 1);
}

#[test]
fn a_disk_that_gets_read_only_loses_nothing() {
    check("read-only", 2);
}

#[test]
fn what_does_not_come_to_the_disk_is_not_said_to_be_there() {
    check("broken", 3);
}

#[test]
fn killed_at_any_call_it_goes_on_to_the_same_end() {
    check("kill", 4);
}

/// The run that is to be replaced has another name by then.
#[test]
fn an_overwrite_that_fails_tells_where_the_run_before_is() {
    let disk = Disk::new();
    let aside = disk.path().join("runs/.replaced-svgd-seed0");
    let mut kept = 0;
    for at in 1..=24 {
        std::fs::remove_dir_all(disk.path()).unwrap();
        std::fs::create_dir(disk.path()).unwrap();
        run(&mut disk.program());
        let before = disk.outcome().unwrap();
        let output = disk.faulty_with(&["--overwrite"], "full", at);
        let said = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{at}: {said}");
        if aside.exists() {
            kept += 1;
            assert!(said.contains("runs/.replaced-svgd-seed0"), "{at}: {said}");
            std::fs::remove_dir_all(disk.run()).ok();
            std::fs::rename(&aside, disk.run()).unwrap();
        }
        assert!(disk.outcome() == Some(before), "{at}: {said}");
    }
    assert!(kept > 10, "{kept} of 24 came so far");
}

#[test]
fn a_slow_disk_and_a_clock_that_goes_back_change_nothing() {
    let disk = Disk::new();
    disk.calls();
    let whole = disk.outcome();
    for kind in ["slow", "clock"] {
        let output = disk.faulty(kind, 1);
        assert!(output.status.success(), "{kind}: {}", stderr(&output));
        assert!(disk.outcome() == whole, "{kind}");
    }
}
