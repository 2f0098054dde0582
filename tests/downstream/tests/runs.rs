//! A crate that depends on ours finds libtorch at run time, and trains.

use std::process::Command;

#[test]
fn a_crate_that_depends_on_ours_runs() {
    // A user's shell has no library path of cargo's.
    let output = Command::new(env!("CARGO_BIN_EXE_downstream")).env_remove("LD_LIBRARY_PATH").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for part in ["libtorch 2.", "svgd::conv2d(Tensor input", "state bytes 584", "loss fell true"] {
        assert!(text.contains(part), "'{part}' is not in:\n{text}");
    }
}
