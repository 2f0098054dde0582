//! What the training programs share.

mod checkpoint;
mod curve;
pub mod data;
pub mod experiment;
mod files;
pub mod initialise;
pub mod method;
pub mod models;
pub mod optimizer;
pub mod options;
#[allow(dead_code)] // reading runs is for the program `report`
pub mod report;
pub mod schedule;
pub mod step;
mod train;

use anyhow::{Context, Result};
use data::Dataset;
use experiment::Experiment;
use models::Model;
use options::Options;
use report::run::Run;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use train::Job;

/// Trains the model with every optimizer and seed that the options name, and reports.
pub fn run<M: Model>(experiment: &Experiment, options: &Options) -> Result<ExitCode> {
    options.validate(experiment)?;
    let device = options.device()?;
    if let Some(threads) = options.threads {
        tch::set_num_threads(i32::from(threads.get()));
    }
    let data = data::load(&options.data, experiment.benchmark)?.hold_out(experiment.validation);
    println!("{}", data.describe());
    if options.budget < 1.0 {
        println!("budget {}: the paper's schedule with all its step counts multiplied by it", options.budget);
    }
    let out = options.out.clone().unwrap_or_else(|| Path::new("runs").join(experiment.name));
    let interrupted = watch_for_interrupts()?;
    let runs = train_all::<M>(experiment, options, &data.to_device(device), device, &out, &interrupted)?;
    if !runs.is_empty() {
        println!("\n{}", report::write(&runs, None, &out)?);
        println!("report, figure and runs: {}", out.display());
    }
    Ok(ExitCode::from(if interrupted.load(Ordering::Relaxed) { 130 } else { 0 }))
}

/// A flag that Ctrl-C and SIGTERM set.
fn watch_for_interrupts() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    ctrlc::set_handler(move || {
        // The second time the user means it.
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step, a checkpoint and one more test (press Ctrl-C again to stop at once)");
    })
    .context("no handler for Ctrl-C")?;
    Ok(interrupted)
}

fn train_all<M: Model>(
    experiment: &Experiment,
    options: &Options,
    data: &Dataset,
    device: tch::Device,
    out: &Path,
    interrupted: &AtomicBool,
) -> Result<Vec<Run>> {
    let mut jobs = Vec::new();
    for &optimizer in &options.optimizers {
        for &seed in &options.seeds.0 {
            let folder = PathBuf::new();
            let mut job = Job { experiment, optimizer, seed, options, data, device, folder, interrupted };
            job.folder = out.join(job.name());
            // All of them before the first is trained for hours.
            job.ensure_free()?;
            jobs.push(job);
        }
    }
    let mut runs = Vec::new();
    for job in jobs {
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        match train::train::<M>(&job) {
            Ok(run) => runs.push(run),
            Err(error) => {
                // What is done is reported all the same.
                if !runs.is_empty() {
                    report::write(&runs, None, out)?;
                }
                return Err(error.context(job.name()));
            }
        }
    }
    Ok(runs)
}
