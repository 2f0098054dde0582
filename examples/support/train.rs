//! The training loop: one run, from the seed or a checkpoint to the last test.

use super::checkpoint::Checkpoints;
use super::curve::Curve;
use super::data::batches::Batches;
use super::data::{Dataset, Split};
use super::experiment::Experiment;
use super::files::write_atomically;
use super::models::Model;
use super::optimizer::OptimizerKind;
use super::options::Options;
use super::report::run::{Evaluation, FORMAT, RECORD_FILE, Record, Run};
use super::schedule::Schedule;
use super::step::Stepper;
use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tch::Device;

/// Steps between looks at the loss: each waits for the device.
const LOOK_EVERY: usize = 50;

/// One run of a program: an optimizer and a seed.
pub struct Job<'a> {
    pub experiment: &'a Experiment,
    pub optimizer: OptimizerKind,
    pub seed: u64,
    pub options: &'a Options,
    /// On the device.
    pub data: &'a Dataset,
    pub device: Device,
    /// The folder of the run.
    pub folder: PathBuf,
    /// Whether the user wants to stop.
    pub interrupted: &'a AtomicBool,
}

impl Job<'_> {
    fn record<M: Model>(&self, batches: &Batches, schedule: &Schedule, stepper: &Stepper<M>) -> Result<Record> {
        let Job { experiment, options, data, .. } = self;
        let info = tch_svgd::build_info()?;
        Ok(Record {
            format: FORMAT,
            experiment: experiment.name.to_owned(),
            model: M::NAME.to_owned(),
            data: data.name.to_owned(),
            training_images: data.train.len(),
            test_images: data.test.len(),
            validation_images: data.validation.as_ref().map_or(0, Split::len),
            optimizer: self.optimizer,
            seed: self.seed,
            batch_size: batches.size(),
            planned_steps: schedule.steps,
            eval_every: schedule.eval_every,
            decay_at: schedule.decay_at,
            rates: schedule.rates,
            scale: options.scale.unwrap_or(experiment.scale),
            l1: experiment.l1,
            paper: options.paper,
            budget: options.paper.then_some(options.budget),
            device: format!("{:?}", self.device),
            threads: tch::get_num_threads(),
            amp: options.amp,
            loss_scale: options.loss_scale,
            cuda_graph: false,
            crate_version: info.crate_version.to_owned(),
            libtorch_version: info.libtorch_version,
            parameters: stepper.parameters(),
            state_bytes: 0,
            steps: 0,
            seconds: 0.0,
            switched_at: None,
            note: None,
        })
    }

    /// Refuses to begin where there is a run already, unless the user has said what is to become of that.
    pub fn ensure_free(&self) -> Result<()> {
        ensure!(
            self.options.resume || self.options.overwrite || !Checkpoints::any(&self.folder)?,
            "{} holds a run: go on with it by --resume, begin anew by --overwrite, or choose another --out",
            self.folder.display()
        );
        Ok(())
    }

    /// The name of the run and of its folder.
    pub fn name(&self) -> String {
        format!("{}-seed{}", self.optimizer.name(), self.seed)
    }
}

/// Whether a run has come to its end.
fn is_finished(record: &Record) -> bool {
    record.steps == record.planned_steps || record.note.is_some()
}

/// Trains a new model, or goes on with one. The same seed gives every optimizer the same weights and the same batches.
pub fn train<M: Model>(job: &Job) -> Result<Run> {
    let Job { experiment, options, data, .. } = job;
    let name = job.name();
    let batch_size = options.batch_size.map_or(experiment.batch_size, |size| size.get());
    let batches = Batches::new(data, batch_size, job.seed);
    let per_epoch = batches.per_epoch();
    let schedule = Schedule::new(experiment, job.optimizer, options, per_epoch);
    let mut stepper = Stepper::<M>::new(experiment, job.optimizer, job.seed, options, data, job.device)?;
    let mut record = job.record(&batches, &schedule, &stepper)?;

    let checkpoints = Checkpoints::open(&job.folder)?;
    let write_record =
        |record: &Record| write_atomically(&job.folder.join(RECORD_FILE), &serde_json::to_vec_pretty(record)?);
    let start = if options.resume { checkpoints.newest()? } else { None };
    let mut curve = match start {
        Some(checkpoint) => {
            checkpoint.ensure_continues(&record)?;
            if is_finished(&checkpoint.manifest.record) {
                record = checkpoint.manifest.record;
                println!("{name}: had come to its end before");
            } else {
                stepper.load(&checkpoint.folder)?;
                let Record { steps, seconds, state_bytes, switched_at, .. } = checkpoint.manifest.record;
                record = Record { steps, seconds, state_bytes, switched_at, ..record };
                println!("{name}: goes on from the checkpoint of step {steps}");
            }
            Curve::restore(&checkpoint.folder, &job.folder)?
        }
        None => {
            checkpoints.clear()?;
            Curve::create(&job.folder)?
        }
    };
    // What a run of other conditions or an interrupt left is no longer true.
    write_record(&record)?;

    let bar = progress_bar(&name, schedule.steps);
    let first = record.steps;
    let ahead = if is_finished(&record) { first } else { schedule.steps };
    let batches = batches.stream(first, ahead);
    let mut since = Instant::now();
    for (step, (inputs, labels)) in (first + 1..=ahead).zip(batches) {
        stepper.step(step, schedule.rate(step - 1), &inputs, &labels)?;

        let last = step == schedule.steps;
        let interrupted = job.interrupted.load(Ordering::Relaxed);
        let due = step % schedule.eval_every == 0 || last;
        let save = step % options.checkpoint_every == 0 || last || interrupted;
        if !due && !save && step % LOOK_EVERY != 0 {
            continue;
        }
        let losses = step - curve.rows().last().map_or(0, |row| row.step);
        let train_loss = stepper.loss_sum() / losses as f64;
        record.steps = step;
        record.seconds += since.elapsed().as_secs_f64();
        record.state_bytes = stepper.state_bytes();
        record.cuda_graph = stepper.is_captured();
        let diverged = !train_loss.is_finite();
        if diverged {
            record.note = Some(format!("diverged by step {step}"));
        }
        let seconds = record.seconds;
        let evaluate = |stepper: &Stepper<M>, curve: &mut Curve| -> Result<()> {
            bar.set_message("testing");
            let (test_loss, test_error) = stepper.test(&data.test)?;
            let epoch = step as f64 / per_epoch as f64;
            curve.append(Evaluation { step, epoch, train_loss, test_loss, test_error, seconds })
        };
        if due || diverged {
            evaluate(&stepper, &mut curve)?;
            stepper.forget_losses();
            if let Some(validation) = data.validation.as_ref().filter(|_| job.optimizer.switches())
                && stepper.observe(stepper.test(validation)?.0)
            {
                record.switched_at = Some(step);
                // Nobody may be there to read it, which is no reason to stop.
                let text = format!("{name}: plain gradients from step {step} on: the validation loss has stalled");
                bar.suspend(|| writeln!(std::io::stdout(), "{text}").ok());
            }
        }
        if save || diverged {
            checkpoints.save(&record, |folder| {
                curve.save(folder)?;
                stepper.save(folder)
            })?;
        }
        if interrupted && !is_finished(&record) {
            record.note = Some(format!("interrupted at step {step}"));
            // For the report alone: the run that goes on from the checkpoint does not have this row.
            if !due {
                evaluate(&stepper, &mut curve)?;
            }
        }
        if due || save || diverged {
            write_record(&record)?;
        }
        bar.set_position(step as u64);
        let error = curve.rows().last().map_or("-".to_owned(), |row| format!("{:.2} %", row.test_error));
        let per_second = (step * record.batch_size) as f64 / record.seconds;
        bar.set_message(format!(
            "loss {train_loss:.3}, test error {error}, {per_second:.0} {}/s",
            data.inputs.samples()
        ));
        if record.note.is_some() {
            break;
        }
        since = Instant::now();
    }
    bar.finish_and_clear();
    write_record(&record)?;
    let run = Run { record, curve: curve.into_rows() };
    println!("{name}: {}", summary(&run));
    Ok(run)
}

/// One line for the screen.
fn summary(run: &Run) -> String {
    let note = run.record.note.as_deref().map(|note| format!(" ({note})")).unwrap_or_default();
    let error = run.curve.last().map_or("-".to_owned(), |row| format!("{:.2} %", row.test_error));
    format!("{} steps, test error {error}{note}", run.record.steps)
}

fn progress_bar(name: &str, steps: usize) -> ProgressBar {
    if !std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix:>8} {bar:30} {pos}/{len} {msg}, {eta} left");
    ProgressBar::new(steps as u64).with_style(style.expect("a valid template")).with_prefix(name.to_owned())
}
