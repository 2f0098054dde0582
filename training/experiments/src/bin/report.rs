//! Puts training runs together: tables for the screen and, where it is told, files of them with a figure for every
//! experiment.
//!
//!     cargo run --release --bin report -- runs --out runs

use anyhow::{Result, bail};
use clap::Parser;
use experiments::optimizer::OptimizerKind;
use experiments::report;
use experiments::run::load_all;
use experiments::screen::warn;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Put training runs together.
///
/// The exit status is 0 where all runs are in the report, 1 where some were left out (each with a word) or none was found,
/// and 2 for a wrong option.
#[derive(Parser, Debug)]
#[command(version, after_help = "Example: report runs/mlp_mnist runs/vgg_cifar10 --out runs")]
struct Arguments {
    /// Folders that hold runs, at any depth: a run is a folder with run.json and curve.csv. Hidden folders, and those named
    /// `checkpoints`, are not looked into.
    #[arg(required = true, value_name = "RUN_DIR")]
    runs: Vec<PathBuf>,

    /// A folder with the curves that the authors published, to compare with.
    #[arg(long, value_name = "CSV_DIR")]
    reference: Option<PathBuf>,

    /// The optimizer that the others are compared with, in tables that have it [default: the first of each table].
    #[arg(long, value_name = "NAME")]
    baseline: Option<OptimizerKind>,

    /// Folder for report.md, report.html, report.json, report.csv and EXPERIMENT.svg [default: none is written].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Report nothing where a run would be left out.
    #[arg(long)]
    strict: bool,
}

fn main() -> ExitCode {
    report(&Arguments::parse()).unwrap_or_else(|error| {
        warn(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn report(arguments: &Arguments) -> Result<ExitCode> {
    let found = load_all(&arguments.runs)?;
    for reason in &found.left_out {
        warn(&format!("left out: {reason}"));
    }
    let left_out = found.left_out.len();
    if arguments.strict && left_out > 0 {
        bail!("--strict: {left_out} runs would be left out");
    }
    let Arguments { reference, baseline, out, .. } = arguments;
    let options = report::Options { reference: reference.as_deref(), baseline: *baseline, out: out.as_deref() };
    let text = report::write(&found.runs, &options)?.shown();
    // A reader that has seen enough is no failure.
    let mut stdout = std::io::stdout();
    let shown = write!(stdout, "{text}").and_then(|()| match out {
        Some(out) => writeln!(stdout, "\nreport and figures: {}", out.display()),
        None => writeln!(stdout, "\n(no file is written without --out)"),
    });
    if let Err(error) = shown
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        return Err(error.into());
    }
    Ok(ExitCode::from(if left_out > 0 { 1 } else { 0 }))
}
