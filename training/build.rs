//! Where the libraries of libtorch are at run time, and which commit the programs are of.

use std::path::Path;
use std::process::Command;

fn main() {
    let lib = std::env::var("DEP_TCH_SVGD_LIBTORCH_LIB").expect("tch-svgd says where libtorch is");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    // With the feature `cuda`, that of CUDA's runtime as well.
    if let Ok(cuda) = std::env::var("DEP_TCH_SVGD_CUDA_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{cuda}");
    }
    // Records tell the commit. Without git, or outside of a checkout, there is none.
    for watched in ["src", "experiments/src", "../src", "../cpp", "../cuda", "../.git/HEAD", "../.git/logs/HEAD"] {
        if Path::new(watched).exists() {
            println!("cargo:rerun-if-changed={watched}");
        }
    }
    let git = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    if let Some(git) = git.ok().filter(|git| git.status.success()) {
        println!("cargo:rustc-env=TRAINING_COMMIT={}", String::from_utf8_lossy(&git.stdout).trim());
    }
}
