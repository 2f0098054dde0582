//! Merges training runs into one report: report.md, and a figure for every experiment.
//!
//!     cargo run --release --example report -- runs/resnet20_cifar10 runs/mlp_mnist --out runs

#[allow(dead_code)] // training is for the other programs
mod support;

use anyhow::Result;
use clap::Parser;
use std::path::PathBuf;
use support::report;

/// Merge training runs into one report.
#[derive(Parser, Debug)]
#[command(version)]
struct Arguments {
    /// Folders that hold runs, at any depth: a run is a folder with run.json and curve.csv.
    #[arg(required = true, value_name = "RUN_DIR")]
    runs: Vec<PathBuf>,

    /// A folder with the curves that the authors published, to compare with.
    #[arg(long, value_name = "CSV_DIR")]
    reference: Option<PathBuf>,

    /// Folder for report.md and EXPERIMENT.svg [default: the first RUN_DIR].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let out = arguments.out.as_deref().unwrap_or(&arguments.runs[0]);
    let runs = report::run::load_all(&arguments.runs)?;
    print!("{}", report::write(&runs, arguments.reference.as_deref(), out)?);
    println!("\nreport and figures: {}", out.display());
    Ok(())
}
