//! A crate that depends on ours by path builds, finds libtorch at run time, and trains.

#[path = "common/programs.rs"]
mod programs;
#[path = "common/versions.rs"]
mod versions;

use programs::*;
use std::process::Command;
use versions::*;

#[test]
fn a_crate_that_depends_on_ours_runs() {
    // A folder of its own: the two builds of tch-svgd would overwrite each other's library, whose name has no hash
    // since it is also a cdylib.
    let target = target().join("downstream");
    // As it stands, but with the tch that everything here is built with, and only that.
    let crate_folder = target.join("crate");
    std::fs::create_dir_all(crate_folder.join("src")).unwrap();
    let source = root().join("tests/downstream");
    for file in ["build.rs", "src/main.rs"] {
        std::fs::copy(source.join(file), crate_folder.join(file)).unwrap();
    }
    let manifest = read(source.join("Cargo.toml"));
    let newest = format!("tch = \"{}\"", known_pairs()[0].tch);
    assert!(manifest.contains(&newest) && manifest.contains("\"../..\""), "{manifest}");
    let manifest = manifest.replace(&newest, &format!("tch = \"{}\"", locked_pair().tch));
    let manifest = manifest.replace("\"../..\"", &format!("{:?}", root()));
    std::fs::write(crate_folder.join("Cargo.toml"), manifest).unwrap();
    // The versions that are built and here already.
    std::fs::copy(root().join("Cargo.lock"), crate_folder.join("Cargo.lock")).unwrap();

    let output = run(cargo("build", &target).arg("--quiet").current_dir(&crate_folder));
    assert!(stderr(&output).is_empty(), "warnings:\n{}", stderr(&output));
    // A user's shell has no library path of cargo's.
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let output = run(Command::new(target.join(profile).join("downstream")).env_remove("LD_LIBRARY_PATH"));
    let text = stdout(&output);
    let libtorch = format!("libtorch {} in ", locked_pair().libtorch);
    for part in [&libtorch, "svgd::conv2d(Tensor input", "state bytes 584", "loss fell true"] {
        assert!(text.contains(part), "'{part}' is not in:\n{text}");
    }
}
