//! What the training programs share.

mod cifar10;
pub mod dataset;
pub mod digits;
mod files;
pub mod initialise;
pub mod model;
pub mod options;
mod report;
pub mod resnet;
pub mod schedule;
mod train;

use anyhow::{Context, Result};
use model::Model;
use options::Options;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Trains the model with every optimizer that the options name, and reports.
pub fn run<M: Model>(options: &Options) -> Result<ExitCode> {
    let device = options.device()?;
    if let Some(threads) = options.threads {
        tch::set_num_threads(threads.get() as i32);
    }
    let data = dataset::load(&options.data)?;
    println!("{}", data.describe());

    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    ctrlc::set_handler(move || {
        // The second time the user means it.
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step and one more test (press Ctrl-C again to stop at once)");
    })
    .context("no handler for Ctrl-C")?;

    let report = report::Report::create(options, &data, M::NAME, device)?;
    let mut runs = Vec::new();
    for &optimizer in &options.optimizers {
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        runs.push(train::train::<M>(optimizer, options, &data, device, &report, &interrupted)?);
    }
    report.finish(&runs)?;
    Ok(ExitCode::from(if interrupted.load(Ordering::Relaxed) { 130 } else { 0 }))
}
