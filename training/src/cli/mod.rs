//! The training programs: their command line, what they show, and the list of runs that they go through.

pub mod config;
mod jobs;
pub mod options;
pub mod output;
mod signals;
mod threads;

use crate::catalogue::{WithModel, with_model_of};
use crate::data;
use crate::log::{self, Format};
use crate::models::Model;
use crate::trainer::observer::Observer;
use crate::trainer::settings::Settings;
use crate::trainer::{self, Job, Wishes, folder};
use anyhow::{Context, Result, ensure};
use clap::{Command, CommandFactory, FromArgMatches};
use experiments::experiment::Experiment;
use experiments::optimizer::OptimizerKind;
use experiments::record::DIVERGED;
use experiments::report;
use experiments::run::load_all;
use experiments::screen::{say, warn};
use options::Options;
use output::duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tch::Device;

/// The options of a program that has these experiments, and compares these optimizers unless it is told others.
pub fn parse<A: CommandFactory + FromArgMatches>(experiments: &[&Experiment], optimizers: &'static str) -> A {
    threads::wait_passively();
    let matches = config::matches(command::<A>(experiments, optimizers));
    A::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The command of such a program.
pub fn command<A: CommandFactory>(experiments: &[&Experiment], optimizers: &'static str) -> Command {
    let about: Vec<String> = experiments.iter().map(|experiment| options::about(experiment)).collect();
    A::command()
        .mut_arg("optimizers", |argument| argument.default_value(optimizers))
        .after_help(format!("{}\n{}", about.concat(), options::AFTER_HELP))
        .max_term_width(100)
}

/// Trains the experiment's model with every optimizer and seed that the options name, and reports on all runs in the output
/// folder.
///
/// The exit status is 0 where all came to their ends, 1 where one failed or diverged, 3 where --max-time stopped one, 130
/// where the user has interrupted. An error is a sentence on standard error.
pub fn main(experiment: &Experiment, options: &Options) -> ExitCode {
    let trained =
        signals::wishes().and_then(|wishes| with_model_of(experiment, Program { experiment, options, wishes }));
    trained.unwrap_or_else(|error| {
        warn(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn wrong_option(error: &anyhow::Error) -> ExitCode {
    warn(&format!("error: {error:#}"));
    ExitCode::from(config::WRONG_OPTION)
}

/// A program with its command line.
struct Program<'a> {
    experiment: &'a Experiment,
    options: &'a Options,
    wishes: Arc<Wishes>,
}

impl WithModel for Program<'_> {
    type Output = Result<ExitCode>;

    fn with<M: Model>(self) -> Result<ExitCode> {
        let Program { experiment, options, wishes } = self;
        let again = options.config.as_deref().map(config::record).transpose()?.flatten();
        if let Some(record) = &again
            && let Err(error) = config::ensure_of(record, experiment)
        {
            return Ok(wrong_option(&error));
        }
        let out = options.out.clone().unwrap_or_else(|| Path::new("runs").join(experiment.name));
        let wanted = || -> Result<(Settings, Device)> {
            let settings = options.settings(experiment)?;
            ensure!(
                !(M::DROPOUT && settings.cuda_graph),
                "--cuda-graph: expected a model without dropout, which a captured step would repeat, got the {}; leave the \
                 option away",
                M::NAME
            );
            let device = options.device()?;
            folder::ensure_outside(&out)?;
            Ok((settings, device))
        };
        let (settings, device) = match wanted() {
            Ok(wanted) => wanted,
            Err(error) => return Ok(wrong_option(&error)),
        };
        let mut parts = Vec::new();
        for &optimizer in &options.optimizers {
            for &seed in &options.seeds.0 {
                let begin = options.name.as_ref().map(|name| format!("{name}_")).unwrap_or_default();
                let folder = out.join(format!("{begin}{}-seed{seed}", optimizer.name()));
                // All of them before the first is trained for hours.
                folder::ensure_free(&folder, settings.start, experiment.name)?;
                parts.push(Part { optimizer, seed, folder });
            }
        }
        if let Some(parent) = options.part {
            jobs::end_with(parent)?;
        }
        let at_once = parts.len().min(options.jobs.get().into());
        let threads = threads::choose::<M>(options.threads, at_once);
        tch::set_num_threads(threads);
        let whole = data::load(&options.data, experiment.benchmark)?;
        let fitting = whole.hold_out(settings.validation(experiment)).and_then(|data| {
            trainer::ensure_fits::<M>(experiment, &settings, &data, &options.optimizers)?;
            Ok(data)
        });
        let data = match fitting {
            Ok(data) => data,
            Err(error) => return Ok(wrong_option(&error)),
        };
        if let Some(record) = &again {
            config::ensure_same_data(record, &data)?;
        }
        if options.part.is_none() {
            say(&format!("{} on {}", M::NAME, data.describe()));
        }
        let began = Instant::now();
        let mut outcome = if at_once > 1 {
            drop(data);
            signals::listen(&wishes, true)?;
            jobs::train_all(parts, at_once, &options.of_a_part(threads), &wishes)?
        } else {
            let data = data.to_device(device);
            signals::listen(&wishes, options.part.is_none())?;
            let (settings, data, wishes) = (&settings, &data, &*wishes);
            let jobs = parts.into_iter().map(|Part { optimizer, seed, folder }| Job {
                experiment,
                optimizer,
                seed,
                settings,
                data,
                device,
                folder,
                wishes,
            });
            train_all::<M>(jobs, &options.log)
        };
        wishes.trained.store(true, Ordering::Relaxed);
        if options.part.is_none() {
            outcome.report(&out);
            say(&format!("runs: {}; {} in all", out.display(), duration(began.elapsed())));
            outcome.tell();
        }
        Ok(outcome.exit_code(wishes.stop.load(Ordering::Relaxed)))
    }
}

/// A run of the list.
struct Part {
    optimizer: OptimizerKind,
    seed: u64,
    folder: PathBuf,
}

/// What a program ends with whose runs are not all at their ends, since their time was over.
const OUT_OF_TIME: u8 = 3;

/// What became of a list of runs.
#[derive(Debug, Default)]
struct Outcome {
    failed: Vec<String>,
    /// By --max-time.
    stopped: Vec<String>,
    /// Those that were not begun.
    waiting: Vec<String>,
}

impl Outcome {
    /// The report on every run in the folder.
    fn report(&mut self, out: &Path) {
        match report_on(out) {
            Ok(text) => say(&format!("\n{text}")),
            Err(error) => {
                warn(&format!("the report: {error:#}"));
                self.failed.push("the report".to_owned());
            }
        }
    }

    fn tell(&self) {
        let Self { failed, stopped, waiting } = self;
        if !waiting.is_empty() {
            warn(&format!("not begun: {}", waiting.join(", ")));
        }
        if !failed.is_empty() {
            warn(&format!("failed: {}", failed.join(", ")));
        }
        if !stopped.is_empty() {
            warn(&format!("stopped by --max-time: {}; --resume goes on", stopped.join(", ")));
        }
    }

    fn exit_code(&self, interrupted: bool) -> ExitCode {
        match (interrupted, self.failed.is_empty(), self.stopped.is_empty()) {
            (true, _, _) => ExitCode::from(signals::INTERRUPTED),
            (false, false, _) => ExitCode::FAILURE,
            (false, true, false) => ExitCode::from(OUT_OF_TIME),
            (false, true, true) => ExitCode::SUCCESS,
        }
    }
}

/// Goes through the list, whatever becomes of one of them: the others have nothing to do with it.
fn train_all<'a, M: Model>(jobs: impl Iterator<Item = Job<'a>>, logs: &[Format]) -> Outcome {
    let mut outcome = Outcome::default();
    for job in jobs {
        if job.wishes.stop.load(Ordering::Relaxed) {
            outcome.waiting.push(job.name());
            continue;
        }
        // A panic is a mistake of ours, which has told its place: no reason for the others not to be trained either.
        let train = AssertUnwindSafe(|| trainer::train::<M>(&job, &mut observers(logs)));
        match catch_unwind(train) {
            Ok(Ok(run)) => {
                let interrupted = job.wishes.stop.load(Ordering::Relaxed);
                let is_finished = run.record.is_finished();
                match run.record.progress.note {
                    Some(note) if note.starts_with(DIVERGED) => outcome.failed.push(format!("{} ({note})", job.name())),
                    Some(_) if !is_finished && !interrupted => outcome.stopped.push(job.name()),
                    _ => {}
                }
            }
            Ok(Err(error)) => {
                warn(&format!("{}: {error:#}", job.name()));
                outcome.failed.push(job.name());
            }
            Err(_) => outcome.failed.push(format!("{} (a panic)", job.name())),
        }
    }
    outcome
}

/// Who looks on: the screen, and the logs that are wanted.
fn observers(logs: &[Format]) -> Vec<Box<dyn Observer>> {
    let is_first = |&index: &usize| !logs[..index].contains(&logs[index]);
    let logs = (0..logs.len()).filter(is_first).map(|index| log::observer(logs[index]));
    std::iter::once(output::screen()).chain(logs).collect()
}

/// The report on every run in the folder, which is written there.
fn report_on(out: &Path) -> Result<String> {
    let found = load_all(&[out.to_owned()])?;
    for reason in &found.left_out {
        warn(&format!("left out of the report: {reason}"));
    }
    if found.runs.is_empty() {
        return Ok("no run has a test yet: there is nothing to report".to_owned());
    }
    let options = report::Options { out: Some(out), ..Default::default() };
    Ok(report::write(&found.runs, &options).context(out.display().to_string())?.shown())
}
