//! One run, from the seed or a checkpoint to the last test.

mod checkpoint;
mod curve;
pub mod folder;
pub mod machine;
pub mod observer;
mod pace;
pub mod schedule;
pub mod settings;
pub mod step;

use crate::data::batches::Batches;
use crate::data::{Dataset, Split};
use crate::models::{BatchNorms, Model};
use anyhow::{Context, Result, ensure};
use curve::Curve;
use experiments::curve::Evaluation;
use experiments::experiment::Experiment;
use experiments::files::write_atomically;
use experiments::optimizer::OptimizerKind;
use experiments::record::{Conditions, DIVERGED, Data, Progress, RECORD_FILE, Record};
use experiments::run::Run;
use folder::{Beginning, RunFolder};
use observer::{Begun, Observer, Stepped, Tested};
use pace::Pace;
use schedule::Schedule;
use settings::{Settings, Start};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use step::Stepper;
use tch::Device;

/// Steps between looks at the loss on a device, which wait for it. On the CPU each step is looked at.
const LOOK_EVERY: usize = 50;

/// The weights of the test with the least error so far, in the folder of a run.
pub const BEST_WEIGHTS: &str = "best.safetensors";

/// What the user may want of a run meanwhile.
#[derive(Debug, Default)]
pub struct Wishes {
    /// To stop after this step, with a checkpoint.
    pub stop: AtomicBool,
    /// A checkpoint after this step.
    pub checkpoint: AtomicBool,
}

/// One run: an optimizer and a seed.
pub struct Job<'a> {
    pub experiment: &'a Experiment,
    pub optimizer: OptimizerKind,
    pub seed: u64,
    pub settings: &'a Settings,
    /// On the device.
    pub data: &'a Dataset,
    pub device: Device,
    /// The folder of the run.
    pub folder: PathBuf,
    pub wishes: &'a Wishes,
}

impl Job<'_> {
    /// The name of the run and of its folder.
    pub fn name(&self) -> String {
        format!("{}-seed{}", self.optimizer.name(), self.seed)
    }

    fn record<M: Model>(&self, batches: &Batches, schedule: &Schedule, stepper: &Stepper<M>) -> Result<Record> {
        let Job { experiment, optimizer, settings, data, .. } = self;
        let conditions = Conditions {
            experiment: experiment.name.to_owned(),
            model: M::NAME.to_owned(),
            parameters: stepper.parameters(),
            data: Data {
                name: data.name.clone(),
                digest: Some(data.digest.clone()),
                samples: data.inputs.samples().to_owned(),
                training: data.train.len(),
                validation: data.validation.as_ref().map_or(0, Split::len),
                test: data.test.len(),
            },
            optimizer: *optimizer,
            batch_size: batches.size(),
            planned_steps: schedule.steps,
            decay_at: schedule.decay_at,
            rates: schedule.rates,
            budget: match settings.length {
                settings::Length::Paper(share) => Some(share),
                _ => None,
            },
            scale: optimizer.is_virtual().then(|| settings.scale.unwrap_or(experiment.scale)),
            l1: experiment.l1,
            weight_decay: experiment.weight_decay,
            batch_norm: M::BATCH_NORM.map(|_| settings.batch_norm(experiment)),
            amp: settings.amp,
            loss_scale: settings.loss_scale,
        };
        let machine = machine::machine(self.device, false)?;
        let origin = machine::origin(data.folder.as_deref());
        Ok(Record::new(self.seed, conditions, machine, origin, schedule.eval_every))
    }
}

/// Trains a new model, or goes on with one. The same seed gives every optimizer the same weights and the same batches.
pub fn train<M: Model>(job: &Job, observer: &mut dyn Observer) -> Result<Run> {
    let Job { experiment, settings, data, .. } = job;
    let name = job.name();
    let batch_size = settings.batch_size.unwrap_or(experiment.batch_size);
    ensure!(
        batch_size <= data.train.len(),
        "--batch-size {batch_size}: expected at most the {} training {} that there are; give a smaller one",
        data.train.len(),
        data.inputs.samples()
    );
    ensure!(
        batch_size > 1 || M::BATCH_NORM != Some(BatchNorms::OfVectors),
        "--batch-size 1: expected at least 2 for the {}, whose batch norms see one number of each sample: alone it has no \
         deviation, and nothing is learned",
        M::NAME
    );
    let batches = Batches::new(data, batch_size, job.seed);
    let per_epoch = batches.per_epoch();
    let schedule = Schedule::new(experiment, job.optimizer, settings, per_epoch);
    let mut stepper = Stepper::<M>::new(experiment, job.optimizer, job.seed, settings, data, job.device)?;
    let mut record = job.record(&batches, &schedule, &stepper)?;

    let (mut folder, beginning) = RunFolder::open(&job.folder, settings.start, &record)?;
    let mut curve = match beginning {
        Beginning::Done(run) => {
            observer.on_message(&format!("{name}: had come to its end before"));
            observer.on_end(&run);
            return Ok(*run);
        }
        Beginning::GoOn(checkpoint) => {
            stepper.load(&checkpoint.folder)?;
            let Progress { steps, seconds, wall_seconds, switched_at, .. } = checkpoint.manifest.record.progress;
            record.progress = Progress { steps, seconds, wall_seconds, switched_at, ..record.progress };
            observer.on_message(&format!("{name}: goes on from the checkpoint of step {steps}"));
            Curve::restore(&checkpoint.folder, &job.folder)?
        }
        Beginning::New => {
            if settings.start == Start::Resume && job.folder.join(RECORD_FILE).exists() {
                observer.on_message(&format!("{name}: had no checkpoint: it begins anew"));
            }
            Curve::create(&job.folder)?
        }
    };
    let write_record =
        |record: &Record| write_atomically(&job.folder.join(RECORD_FILE), &serde_json::to_vec_pretty(record)?);
    // What a run of before left is no longer true.
    write_record(&record)?;

    let first = record.progress.steps;
    let (began, wall_before) = (Instant::now(), record.progress.wall_seconds);
    observer.on_begin(&Begun {
        name: name.clone(),
        done: first,
        planned: schedule.steps,
        batch_size,
        samples: data.inputs.samples(),
    });
    let look_every = if job.device == Device::Cpu { 1 } else { LOOK_EVERY };
    let mut pace = Pace::new();
    let mut least_error = curve.rows().iter().map(|row| row.test_error).fold(f64::INFINITY, f64::min);
    for (step, (inputs, labels)) in (first + 1..=schedule.steps).zip(batches.stream(first, schedule.steps)) {
        stepper.step(step, schedule.rate(step - 1), &inputs, &labels)?;
        pace.stepped();

        let last = step == schedule.steps;
        let out_of_time = settings.max_time.is_some_and(|time| began.elapsed() >= time);
        let stopped = (out_of_time || job.wishes.stop.load(Ordering::Relaxed)) && !last;
        let due = step % schedule.eval_every == 0 || last;
        let wanted = job.wishes.checkpoint.swap(false, Ordering::Relaxed);
        let save = step % settings.checkpoint_every == 0 || last || stopped || wanted;
        if !due && !save && step % look_every != 0 {
            continue;
        }
        let steps_of_row = step - curve.rows().last().map_or(0, |row| row.step);
        let train_loss = stepper.loss_sum() / steps_of_row as f64;
        let notable = due || save;
        record.progress.steps = step;
        record.progress.seconds += pace.looked();
        record.progress.state_bytes = stepper.state_bytes();
        record.progress.step_milliseconds = pace.per_step().map(|time| 1e3 * time.as_secs_f64());
        record.progress.wall_seconds = wall_before + began.elapsed().as_secs_f64();
        record.machine.cuda_graph = stepper.is_captured();
        if notable {
            record.progress.peak_memory_bytes = machine::peak_memory();
        }
        let stepped = |pace: &Pace| Stepped {
            step,
            per_step: pace.per_step().unwrap_or_default(),
            left: pace.left(schedule.steps - step, (schedule.steps - step).div_ceil(schedule.eval_every)),
        };
        let mut diverged = !train_loss.is_finite();
        if due || diverged || stopped {
            observer.on_testing();
            let began = Instant::now();
            let (test_loss, test_error) = stepper.test(&data.test)?;
            pace.tested(began);
            diverged |= !test_loss.is_finite();
            let epoch = step as f64 / per_epoch as f64;
            let seconds = record.progress.seconds;
            let evaluation = Evaluation { step, epoch, train_loss, test_loss, test_error, seconds };
            let is_best = test_error < least_error;
            least_error = least_error.min(test_error);
            if is_best && due {
                stepper.save_weights(&job.folder.join(BEST_WEIGHTS))?;
            }
            // That of a run that is stopped is for the report alone: the run that goes on does not have it.
            if stopped && !due && !diverged {
                save_checkpoint(job, &mut folder, &mut record, &mut stepper, &curve, observer)?;
                curve.append(evaluation)?;
            } else {
                curve.append(evaluation)?;
                stepper.forget_losses();
            }
            observer.on_test(&Tested {
                evaluation: &evaluation,
                rate: schedule.rate(step - 1),
                is_best,
                stepped: stepped(&pace),
            });
            if let Some(validation) = data.validation.as_ref().filter(|_| job.optimizer.switches())
                && due
                && stepper.observe(stepper.test(validation)?.0)
            {
                record.progress.switched_at = Some(step);
                observer.on_message(&format!(
                    "{name}: plain gradients from step {step} on: the validation loss has stalled"
                ));
            }
        }
        // The checkpoint before a divergence is worth more than one after it.
        if save && !diverged && (due || !stopped) {
            save_checkpoint(job, &mut folder, &mut record, &mut stepper, &curve, observer)?;
        }
        record.progress.wall_seconds = wall_before + began.elapsed().as_secs_f64();
        record.progress.note = if diverged {
            Some(format!("{DIVERGED} at step {step}"))
        } else if stopped {
            let reason = if out_of_time { "stopped by --max-time" } else { "interrupted" };
            Some(format!("{reason} at step {step}"))
        } else {
            None
        };
        if notable || diverged {
            write_record(&record)?;
        }
        observer.on_step(&stepped(&pace));
        if record.progress.note.is_some() {
            break;
        }
        pace.restart();
    }
    let run = Run { record, curve: curve.into_rows() };
    observer.on_end(&run);
    Ok(run)
}

fn save_checkpoint<M: Model>(
    job: &Job,
    folder: &mut RunFolder,
    record: &mut Record,
    stepper: &mut Stepper<M>,
    curve: &Curve,
    observer: &mut dyn Observer,
) -> Result<()> {
    let record = Record { progress: Progress { note: None, ..record.progress.clone() }, ..record.clone() };
    folder.checkpoints.save(&record, |folder| {
        curve.save(folder)?;
        stepper.save(folder)
    })?;
    folder.forget_replaced().context("the run that this one takes the place of")?;
    observer.on_checkpoint(record.progress.steps, &job.folder);
    Ok(())
}
