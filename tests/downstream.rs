//! A crate that depends on ours by path builds, finds libtorch at run time, and trains.

#[path = "common/programs.rs"]
mod programs;

use programs::*;
use std::process::Command;

#[test]
fn a_crate_that_depends_on_ours_runs() {
    let crate_folder = root().join("tests/downstream");
    // The versions that are built and here already.
    std::fs::copy(root().join("Cargo.lock"), crate_folder.join("Cargo.lock")).unwrap();
    // A folder of its own: the two builds of tch-svgd would overwrite each other's library, whose name has no hash
    // since it is also a cdylib.
    let target = target().join("downstream");
    let output = run(cargo("build", &target).arg("--quiet").current_dir(&crate_folder));
    assert!(stderr(&output).is_empty(), "warnings:\n{}", stderr(&output));
    // A user's shell has no library path of cargo's.
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let output = run(Command::new(target.join(profile).join("downstream")).env_remove("LD_LIBRARY_PATH"));
    let text = stdout(&output);
    for part in ["libtorch 2.11.0 in ", "svgd::conv2d(Tensor input", "state bytes 584", "loss fell true"] {
        assert!(text.contains(part), "'{part}' is not in:\n{text}");
    }
}
