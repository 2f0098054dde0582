//! One run, from the seed or a checkpoint to the last test.

mod checkpoint;
pub mod curve;
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
use checkpoint::Checkpoints;
use curve::Curve;
use experiments::curve::{Evaluation, best};
use experiments::experiment::Experiment;
use experiments::files::{md5_of, write_atomically};
use experiments::optimizer::OptimizerKind;
use experiments::record::{Conditions, DIVERGED, Data, Digests, Progress, RECORD_FILE, Record, STALLED};
use experiments::run::{BEST_WEIGHTS, CHECKPOINTS, Run};
use folder::{Beginning, RunFolder};
use observer::{Begun, Observer, Stepped, Tested};
use pace::Pace;
use schedule::Schedule;
use settings::{Settings, Start};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use step::Stepper;
use tch::Device;

/// Steps between looks at the loss on a device, which wait for it. On the CPU each step is looked at.
const LOOK_EVERY: usize = 50;

/// Between two words to observers: nobody sees more.
const SHOW_EVERY: Duration = Duration::from_millis(100);

/// The newest whole checkpoint of the run in a folder, and its step.
///
/// # Errors
/// If there is none, or it is of another run, or the run has ended and it is not that of its end.
pub fn newest_checkpoint(run: &Path, record: &Record) -> Result<(PathBuf, usize)> {
    let checkpoints = run.join(CHECKPOINTS);
    let newest = Checkpoints::newest_in(&checkpoints)?;
    let newest = newest.with_context(|| format!("{}: expected a checkpoint, found none", checkpoints.display()))?;
    let (shown, of) = (newest.folder.display(), &newest.manifest.record);
    ensure!(
        of.is_of_run(record),
        "{shown}: expected a checkpoint of the run that {RECORD_FILE} tells of, got one of another seed or under other conditions"
    );
    let (step, end) = (of.progress.steps, record.progress.steps);
    ensure!(
        step == end || !record.is_finished() || record.has_diverged(),
        "{shown}: expected the checkpoint of step {end}, where the run has ended, got that of step {step} as the newest"
    );
    Ok((newest.folder, step))
}

/// What the user may want of a run meanwhile.
#[derive(Debug, Default)]
pub struct Wishes {
    /// To stop after this step, with a checkpoint.
    pub stop: AtomicBool,
    /// A checkpoint after this step.
    pub checkpoint: Arc<AtomicBool>,
    /// Not a wish: nothing is trained any more, and there is nothing to wait for.
    pub trained: AtomicBool,
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
        self.folder.file_name().unwrap_or(self.folder.as_os_str()).to_string_lossy().into_owned()
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
                classes: data.class_names(experiment.benchmark),
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
            weight_decay: settings.weight_decay(experiment, *optimizer),
            batch_norm: M::BATCH_NORM.map(|_| settings.batch_norm(experiment)),
            amp: settings.amp,
            loss_scale: settings.loss_scale,
            recipe: settings.recipe.of(*optimizer),
        };
        let machine = machine::machine(self.device, false)?;
        let origin = machine::origin(data.folder.as_deref(), settings.given.clone());
        Ok(Record::new(self.seed, conditions, machine, origin, schedule.eval_every))
    }
}

/// Refuses settings that these data do not allow.
pub fn ensure_fits<M: Model>(
    experiment: &Experiment,
    settings: &Settings,
    data: &Dataset,
    optimizers: &[OptimizerKind],
) -> Result<()> {
    let batch_size = settings.batch_size(experiment);
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
    let per_epoch = Batches::new(data, batch_size, 0).per_epoch();
    for &optimizer in optimizers {
        let Schedule { warmup, steps, .. } = Schedule::new(experiment, optimizer, settings, per_epoch);
        ensure!(
            warmup < steps,
            "--warmup {warmup}: expected fewer steps than the {steps} of the run; give fewer, or train for longer"
        );
    }
    Ok(())
}

/// Trains a new model, or goes on with one. The same seed gives every optimizer the same weights and the same batches.
pub fn train<M: Model>(job: &Job, observer: &mut dyn Observer) -> Result<Run> {
    let run = match Training::<M>::begin(job, observer)? {
        Begin::Training(training, batches) => training.run(batches, observer)?,
        Begin::Done(run) => *run,
    };
    observer.on_end(&job.name(), &run);
    Ok(run)
}

/// A run under way.
struct Training<'a, M> {
    job: &'a Job<'a>,
    schedule: Schedule,
    per_epoch: usize,
    stepper: Stepper<M>,
    folder: RunFolder,
    record: Record,
    curve: Curve,
    pace: Pace,
    began: Instant,
    /// When observers were last told of a step.
    shown: Instant,
    /// The time that it had taken before this process.
    wall_seconds_before: f64,
}

enum Begin<'a, M> {
    Training(Box<Training<'a, M>>, Batches),
    Done(Box<Run>),
}

/// What is to be done after a step.
#[derive(Debug, Clone, Copy)]
struct Due {
    test: bool,
    checkpoint: bool,
    /// Why the run stops here, if it does.
    stop: Option<&'static str>,
}

impl<'a, M: Model> Training<'a, M> {
    fn begin(job: &'a Job<'a>, observer: &mut dyn Observer) -> Result<Begin<'a, M>> {
        let Job { experiment, settings, data, .. } = job;
        let name = job.name();
        let batch_size = settings.batch_size(experiment);
        let batches = Batches::new(data, batch_size, job.seed);
        let per_epoch = batches.per_epoch();
        let schedule = Schedule::new(experiment, job.optimizer, settings, per_epoch);
        let mut stepper = Stepper::<M>::new(experiment, job.optimizer, job.seed, settings, data, job.device)?;
        let mut record = job.record(&batches, &schedule, &stepper)?;

        let (folder, beginning) = RunFolder::open(&job.folder, settings.start, &record)?;
        for kept in &folder.replaced {
            observer.on_message(&format!(
                "{name}: the run whose place this one takes is {} until this one has a checkpoint",
                kept.display()
            ));
        }
        let curve = match beginning {
            Beginning::Done(run) => {
                observer.on_message(&format!("{name}: had come to its end before"));
                return Ok(Begin::Done(run));
            }
            Beginning::GoOn(checkpoint) => {
                stepper.load(&checkpoint.folder)?;
                let before = checkpoint.manifest.record.progress.clone();
                let eval_every = if before.eval_every == schedule.eval_every { schedule.eval_every } else { 0 };
                record.progress = Progress { eval_every, note: None, ..before };
                let steps = record.progress.steps;
                observer.on_message(&format!("{name}: goes on from the checkpoint of step {steps}"));
                checkpoint.restore_best(&job.folder)?;
                Curve::restore(&checkpoint.folder, &job.folder)?
            }
            Beginning::New => {
                if settings.start == Start::Resume && job.folder.join(RECORD_FILE).exists() {
                    observer.on_message(&format!("{name}: had no checkpoint: it begins anew"));
                }
                Curve::create(&job.folder)?
            }
        };
        observer.on_begin(&Begun {
            name,
            folder: job.folder.clone(),
            done: record.progress.steps,
            planned: schedule.steps,
            batch_size,
            samples: data.inputs.samples(),
        });
        let mut training = Training {
            job,
            schedule,
            per_epoch,
            stepper,
            folder,
            curve,
            pace: Pace::new(),
            began: Instant::now(),
            shown: Instant::now(),
            wall_seconds_before: record.progress.wall_seconds,
            record,
        };
        // What a run of before left is no longer true. A record of the last step would say that it has been tested, too.
        if training.record.progress.steps < training.schedule.steps {
            training.write_record()?;
        }
        Ok(Begin::Training(Box::new(training), batches))
    }

    /// Trains to the last step, or to where it stops.
    fn run(mut self, batches: Batches, observer: &mut dyn Observer) -> Result<Run> {
        let (first, end) = (self.record.progress.steps, self.schedule.steps);
        let look_every = if self.job.device == Device::Cpu { 1 } else { LOOK_EVERY };
        self.end_what_was_cut(first, observer)?;
        if self.record.progress.note.is_some() {
            return Ok(Run { record: self.record, curve: self.curve.into_rows() });
        }
        self.pace.restart();
        for (step, (inputs, labels)) in (first + 1..=end).zip(batches.stream(first, end)) {
            self.stepper.step(step, self.schedule.rate(step - 1), &inputs, &labels)?;
            self.pace.stepped();
            let due = self.due(step);
            if !due.test && !due.checkpoint && step % look_every != 0 {
                continue;
            }
            let train_loss = self.look(step);
            // The loss may have been none for a while where it is not looked at in each step.
            let word = if look_every == 1 { "at" } else { "by" };
            let (mut diverged, mut stalled) = (!train_loss.is_finite(), false);
            if due.test || due.checkpoint || diverged {
                self.folder.ensure_ours()?;
            }
            if due.stop.is_some() && !due.test && !diverged {
                // The test is for the report alone: the run that goes on from here does not have it.
                self.checkpoint(due, observer)?;
                self.test(step, train_loss, false, observer)?;
            } else {
                if due.test || diverged {
                    diverged |= !self.test(step, train_loss, true, observer)?.is_finite();
                }
                stalled = due.test && self.has_stalled();
                // The checkpoint before a divergence is worth more than one after it.
                if (due.checkpoint || stalled) && !diverged {
                    self.checkpoint(due, observer)?;
                }
            }
            self.record.progress.note = match due.stop {
                _ if diverged => Some(format!("{DIVERGED} {word} step {step}")),
                _ if stalled => Some(self.stalled(step)),
                Some(reason) => Some(format!("{reason} at step {step}")),
                None => None,
            };
            if due.test || due.checkpoint || diverged {
                self.write_record()?;
            }
            if self.shown.elapsed() >= SHOW_EVERY {
                self.shown = Instant::now();
                observer.on_step(&self.stepped());
            }
            if self.record.progress.note.is_some() {
                break;
            }
            self.pace.restart();
        }
        Ok(Run { record: self.record, curve: self.curve.into_rows() })
    }

    /// What a process that was stopped behind its last checkpoint, of this step, had not come to: to end a run whose tests have
    /// stalled; and to test, where the step is the last by now.
    fn end_what_was_cut(&mut self, step: usize, observer: &mut dyn Observer) -> Result<()> {
        let tested = self.curve.rows().last().map_or(0, |row| row.step);
        if tested == step && step > 0 && self.has_stalled() {
            self.record.progress.note = Some(self.stalled(step));
            return self.write_record();
        }
        if step < self.schedule.steps {
            return Ok(());
        }
        if tested < step {
            self.pace.restart();
            let train_loss = self.look(step);
            let test_loss = self.test(step, train_loss, true, observer)?;
            match train_loss.is_finite() && test_loss.is_finite() {
                true => self.checkpoint(Due { test: true, checkpoint: true, stop: None }, observer)?,
                false => self.record.progress.note = Some(format!("{DIVERGED} by step {step}")),
            }
        }
        self.write_record()
    }

    fn stalled(&self, step: usize) -> String {
        format!("{STALLED} for {} tests at step {step}", self.tests_since_best())
    }

    fn due(&self, step: usize) -> Due {
        let Job { settings, wishes, .. } = self.job;
        let last = step == self.schedule.steps;
        let stop = if last {
            None
        } else if wishes.stop.load(Ordering::Relaxed) {
            Some("interrupted")
        } else {
            settings.max_time.is_some_and(|time| self.began.elapsed() >= time).then_some("stopped by --max-time")
        };
        let wanted = wishes.checkpoint.swap(false, Ordering::Relaxed);
        Due {
            test: step.is_multiple_of(self.schedule.eval_every) || last,
            checkpoint: step.is_multiple_of(settings.checkpoint_every) || last || stop.is_some() || wanted,
            stop,
        }
    }

    /// Waits for the step, notes how far the run has come, and returns the mean loss since the last test.
    fn look(&mut self, step: usize) -> f64 {
        let loss = self.stepper.loss_sum() / (step - self.curve.rows().last().map_or(0, |row| row.step)) as f64;
        let seconds = self.pace.looked();
        self.record.progress.steps = step;
        self.record.progress.seconds += seconds;
        loss
    }

    /// Tests, and adds a row to the curve; returns the test loss. One that `counts` begins a new sum of losses, and
    /// may end the method's stage.
    fn test(&mut self, step: usize, train_loss: f64, counts: bool, observer: &mut dyn Observer) -> Result<f64> {
        observer.on_testing();
        let began = Instant::now();
        let (test_loss, test_error) = self.stepper.test(&self.job.data.test)?;
        let validation = self.job.data.validation.as_ref().map(|split| self.stepper.test(split)).transpose()?;
        self.pace.tested(began);
        let epoch = step as f64 / self.per_epoch as f64;
        let seconds = self.record.progress.seconds;
        let (validation_loss, validation_error) = validation.unzip();
        let evaluation =
            Evaluation { step, epoch, train_loss, test_loss, test_error, seconds, validation_loss, validation_error };
        self.curve.append(evaluation)?;
        let is_best = best(self.curve.rows()).is_some_and(|best| best.step == step);
        let mut best_weights = self.record.progress.digests.take().and_then(|digests| digests.best);
        if is_best {
            let path = self.job.folder.join(BEST_WEIGHTS);
            self.stepper.save_weights(&path)?;
            best_weights = Some(md5_of(&path).with_context(|| path.display().to_string())?);
        }
        self.record.progress.digests = Some(Digests::new(self.curve.rows(), best_weights)?);
        let rate = self.schedule.rate(step - 1);
        observer.on_test(&Tested { evaluation: &evaluation, rate, is_best, stepped: self.stepped() });
        if counts {
            self.stepper.forget_losses();
            if let Some(loss) = validation_loss.filter(|_| self.job.optimizer.switches())
                && self.stepper.observe(loss)
            {
                self.record.progress.switched_at = Some(step);
                observer.on_message(&format!(
                    "{}: plain gradients from step {step} on: the validation loss has stalled",
                    self.job.name()
                ));
            }
        }
        Ok(test_loss)
    }

    /// The tests after the best.
    fn tests_since_best(&self) -> usize {
        let rows = self.curve.rows();
        best(rows).map_or(0, |best| rows.iter().filter(|row| row.step > best.step).count())
    }

    /// Whether early stopping ends the run here.
    fn has_stalled(&self) -> bool {
        self.job.settings.recipe.patience.is_some_and(|patience| self.tests_since_best() >= patience)
    }

    fn checkpoint(&mut self, due: Due, observer: &mut dyn Observer) -> Result<()> {
        self.note_time_and_memory();
        let Self { record, folder, stepper, curve, .. } = self;
        let best = folder.path.join(BEST_WEIGHTS);
        folder.checkpoints.save(record, |folder| {
            if best.exists() {
                std::fs::copy(&best, folder.join(BEST_WEIGHTS)).with_context(|| best.display().to_string())?;
            }
            curve.save(folder)?;
            stepper.save(folder)
        })?;
        // One that is stopped at once, since --overwrite was a mistake, does not take the place of another.
        if due.stop.is_none() && !folder.replaced.is_empty() {
            folder.forget_replaced().context("the run that this one takes the place of")?;
            observer.on_message(&format!("{}: has taken the place of the run before", self.job.name()));
        }
        observer.on_checkpoint(record.progress.steps, &folder.path);
        Ok(())
    }

    fn write_record(&mut self) -> Result<()> {
        self.note_time_and_memory();
        write_atomically(&self.job.folder.join(RECORD_FILE), &serde_json::to_vec_pretty(&self.record)?)
    }

    /// What a record tells besides the steps: not in each of them.
    fn note_time_and_memory(&mut self) {
        self.record.machine.cuda_graph = self.stepper.is_captured();
        let progress = &mut self.record.progress;
        progress.wall_seconds = self.wall_seconds_before + self.began.elapsed().as_secs_f64();
        progress.step_milliseconds = self.pace.per_step().map(|time| 1e3 * time.as_secs_f64());
        progress.peak_memory_bytes = machine::peak_memory();
        progress.state_bytes = self.stepper.state_bytes();
    }

    fn stepped(&self) -> Stepped {
        let step = self.record.progress.steps;
        let steps = self.schedule.steps - step;
        let left = self.pace.left(steps, steps.div_ceil(self.schedule.eval_every));
        Stepped { step, per_step: self.pace.per_step().unwrap_or_default(), left }
    }
}
