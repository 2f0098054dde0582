//! The command line of the training programs.

use super::{config, threads as of_machine};
use crate::catalogue::model_name;
use crate::data::{DataSource, Dataset, load};
use crate::log::Format;
use crate::trained::Weights;
use crate::trainer::settings::{Length, Settings, Start};
use anyhow::{Context, Result, ensure};
use clap::{ArgGroup, Parser, ValueEnum};
use experiments::experiment::{BatchNorm, Experiment};
use experiments::optimizer::{OptimizerKind, TABLE};
use experiments::recipe::Recipe;
use experiments::record::Record;
use experiments::screen::warn;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use tch::{Cuda, Device};

/// What stands below the options.
pub const AFTER_HELP: &str = "\
Examples:
  --paper --seeds 0..5 --optimizer sgd,svgd       the paper's schedule, five seeds each
  --paper --budget 0.1 --resume                   a tenth of it; go on where it was stopped
  --epochs 5 --lr sgd=0.1,svgd=0.5 --name sweep   rates of one's own, in folders of one's own

Environment: CIFAR10_URL with CIFAR10_MD5, MNIST_URL and FASHION_MNIST_URL name mirrors of the data; DOWNLOAD_SILENCE says \
after how many seconds a server that sends nothing is given up (60); OMP_WAIT_POLICY says how threads wait (PASSIVE unless it \
is set).

Signals: the first SIGINT (Ctrl-C), SIGTERM or SIGHUP stops with a checkpoint, the second at once; SIGUSR1 asks for a \
checkpoint.

Exit status: 0 where all runs came to their ends, 1 where one failed or diverged, 2 for a wrong option, 3 where --max-time \
stopped one, 130 after an interrupt.";

/// Which weights of a run.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum WeightsChoice {
    Best,
    Last,
}

impl From<WeightsChoice> for Weights {
    fn from(choice: WeightsChoice) -> Self {
        match choice {
            WeightsChoice::Best => Weights::Best,
            WeightsChoice::Last => Weights::Last,
        }
    }
}

/// The data of a run, where it read them or where the user says that they are; others are told.
pub fn data_of(run: &Path, source: Option<&DataSource>) -> Result<Dataset> {
    let record = Record::load(run)?;
    let own = || match &record.origin.data_folder {
        Some(folder) => DataSource::Folder(folder.into()),
        None if record.conditions.data.name == "digits" => DataSource::Digits,
        None => DataSource::Auto,
    };
    let data = load(&source.cloned().unwrap_or_else(own), record.experiment()?.benchmark)
        .with_context(|| format!("the data of {}; --data says where they are now", run.display()))?;
    if record.conditions.data.digest.as_ref().is_some_and(|digest| *digest != data.digest) {
        warn(&format!("these are {}; the run was on {}", data.name, record.conditions.data.name));
    }
    Ok(data)
}

/// What an experiment trains, for --help.
pub fn about(experiment: &Experiment) -> String {
    let Experiment { name, benchmark, steps, batch_size, decay_at, rates, .. } = experiment;
    let falls = match decay_at[0] < *steps {
        true => format!(", lower rates from {} and {}", decay_at[0], decay_at[1]),
        false => String::new(),
    };
    format!(
        "{name}: {} on {}; --paper is {steps} steps of {batch_size}{falls};\n  first rates: sgd {}, momentum {}, adam {}, \
         adagrad {}, svgd {}\n",
        model_name(experiment),
        benchmark.name(),
        rates.sgd[0],
        rates.momentum[0],
        rates.adam[0],
        rates.adagrad[0],
        rates.svgd[0]
    )
}

/// Train a model with several optimizers on the same data, and compare.
#[derive(Parser, Debug, Clone)]
#[command(version, group(ArgGroup::new("length").args(["epochs", "steps", "paper"])))]
pub struct Options {
    /// A folder with the data set's files (MNIST, Fashion-MNIST, the binary versions of CIFAR, SVHN, those of
    /// scripts/texts), one of images (train/CLASS/*.png and test/CLASS/*.png, or JPEG), `digits` (embedded images, which
    /// stand for others), or `auto`: the data set below data/, downloaded if need be.
    #[arg(long, value_name = "DIR|digits|auto", default_value = "auto")]
    pub data: DataSource,

    /// Optimizers, a run each.
    #[arg(long = "optimizer", value_name = "NAME,…", value_delimiter = ',',
          long_help = optimizers_help(), default_value = "sgd,svgd")]
    pub optimizers: Vec<OptimizerKind>,

    /// Seeds, a run each for every optimizer: of the initial weights, the order of the samples, their augmentation, and
    /// dropout.
    #[arg(long, value_name = "N|N,N…|FROM..END", visible_alias = "seed", default_value = "0")]
    pub seeds: Seeds,

    /// Learning rates in the place of the paper's first, for all optimizers or for those that are named; later ones keep
    /// their proportion.
    #[arg(long, value_name = "RATE|NAME=RATE,…", value_delimiter = ',', value_parser = rate, allow_hyphen_values = true)]
    pub lr: Vec<(Option<OptimizerKind>, f64)>,

    /// SVGD's scale of the virtual gradient [default: the paper's].
    #[arg(long, value_parser = non_negative, allow_negative_numbers = true)]
    pub scale: Option<f64>,

    /// The factor of the squares' penalty, of all weights [default: the paper's]; of adamw the decoupled decay [0.01].
    #[arg(long, value_parser = non_negative, allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,

    /// In the place of 0.9, for optimizers with a momentum.
    #[arg(long, value_name = "[0, 1)", value_parser = share, allow_negative_numbers = true)]
    pub momentum: Option<f64>,

    /// Of Adam's moving means [default: 0.9,0.999].
    #[arg(long, value_name = "B1,B2", value_parser = betas, allow_hyphen_values = true)]
    pub betas: Option<[f64; 2]>,

    /// Clip the gradient of all weights together at this norm, before the optimizer sees it.
    #[arg(long, value_name = "NORM", value_parser = positive, allow_negative_numbers = true)]
    pub clip_norm: Option<f64>,

    /// The share of a label's weight that goes to all classes alike; the training loss has it in it.
    #[arg(long, value_name = "[0, 1)", default_value_t = 0.0, value_parser = share, allow_negative_numbers = true)]
    pub label_smoothing: f64,

    /// How the rate goes: it stays, or falls to 0 along half a cosine.
    #[arg(long, value_name = "constant|cosine", conflicts_with = "paper", default_value = "constant")]
    pub schedule: Course,

    /// Steps over which the rate rises along a straight line to what it would be.
    #[arg(long, value_name = "STEPS", value_parser = count, allow_negative_numbers = true)]
    pub warmup: Option<usize>,

    /// The share of the training samples, the last ones, that is held out. By its error the best weights are chosen, instead
    /// of by the test's [default: the paper's; most have none].
    #[arg(long, value_name = "[0, 1)", value_parser = share, allow_negative_numbers = true)]
    pub validation: Option<f64>,

    /// Early stopping: end a run after this many tests in a row none of which was the best by the validation error.
    #[arg(long, value_name = "TESTS", value_parser = count, allow_negative_numbers = true)]
    pub patience: Option<usize>,

    /// Passes over the training samples [default: 10].
    #[arg(long, value_parser = count, allow_negative_numbers = true)]
    pub epochs: Option<usize>,

    /// Training steps.
    #[arg(long, value_parser = count, allow_negative_numbers = true)]
    pub steps: Option<usize>,

    /// The paper's schedule: its number of steps, with lower rates from two of them on.
    #[arg(long)]
    pub paper: bool,

    /// The part of the paper's schedule to run: its steps, and those at which the rate falls, are multiplied by it
    /// [default: 1].
    #[arg(long, value_name = "(0, 1]", requires = "paper", conflicts_with_all = ["epochs", "steps"], value_parser = fraction,
          allow_negative_numbers = true)]
    pub budget: Option<f64>,

    /// Samples per step [default: the paper's].
    #[arg(long, value_parser = count, allow_negative_numbers = true)]
    pub batch_size: Option<usize>,

    /// Steps between tests [default: an epoch; with --paper the authors', or a tenth of the steps]; the last step always
    /// has one.
    #[arg(long, value_parser = count, allow_negative_numbers = true)]
    pub eval_every: Option<usize>,

    /// Steps between checkpoints; the last step always has one, and so has an interrupted one. The last two are kept.
    #[arg(long, default_value = "1000", value_parser = count, allow_negative_numbers = true)]
    pub checkpoint_every: usize,

    /// Go on from the checkpoints in the output folder: finished runs are left alone, others go on where they were. A run
    /// at a constant rate may be given more --steps or --epochs than before.
    #[arg(long)]
    pub resume: bool,

    /// Begin anew where the output folder holds the same runs. The old ones go when the new ones have a checkpoint.
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,

    /// Stop each run with a checkpoint after this time, such as 90s, 30m or 2h; --resume goes on.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub max_time: Option<Duration>,

    /// Where to compute: `auto` is the first GPU that libtorch sees, else the CPU.
    #[arg(long, value_name = "auto|cpu|cuda[:N]", default_value = "auto")]
    pub device: DeviceChoice,

    /// CPU threads [default: one for the perceptrons, else the machine's less one for the batches].
    #[arg(long, value_parser = threads, allow_negative_numbers = true)]
    pub threads: Option<NonZeroU16>,

    /// By what batch norm normalizes in tests: `running`, the moving means of training, or `batch`, the statistics of the
    /// test batch as SVGD's authors had it [default: the paper's way with --paper, else running].
    #[arg(long, value_name = "running|batch", value_parser = batch_norm)]
    pub batch_norm: Option<BatchNorm>,

    /// Forward passes under autocast to bfloat16.
    #[arg(long)]
    pub amp: bool,

    /// The factor of the loss in the backward pass. Gradients are divided by it again, and the methods' statistics
    /// are those of the true gradients.
    #[arg(long, default_value_t = 1.0, value_parser = positive, allow_negative_numbers = true)]
    pub loss_scale: f64,

    /// Capture the step as a CUDA graph once and replay it.
    #[arg(long)]
    pub cuda_graph: bool,

    /// Logs in the folder of each run, for other programs to read: log.jsonl, TensorBoard's event files.
    #[arg(long, value_enum, value_name = "jsonl|tensorboard,…", value_delimiter = ',')]
    pub log: Vec<Format>,

    /// What the folders of the runs begin with: NAME_OPTIMIZER-seedN.
    #[arg(long, value_parser = name)]
    pub name: Option<String>,

    /// Options from a file: TOML with their long names, such as lr = { sgd = 0.1 }, or the run.json of a run, whose options,
    /// optimizer and seed it has. Those of the command line go before.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Runs side by side, each in a process of its own.
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads, allow_negative_numbers = true)]
    pub jobs: NonZeroU16,

    /// One of the processes of --jobs, and the number of the one that has started it.
    #[arg(long, hide = true)]
    pub part: Option<i32>,

    /// Folder for the runs, each in OPTIMIZER-seedN, and for the report on all runs in it [default: runs/EXPERIMENT].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Passes over the training samples when nobody says otherwise.
const EPOCHS: usize = 10;

impl Options {
    /// What the runs are to do, where the options go together.
    pub fn settings(&self, experiment: &Experiment) -> Result<Settings> {
        let length = match (self.paper, self.steps, self.epochs) {
            (true, ..) => Length::Paper(self.budget.unwrap_or(1.0)),
            (_, Some(steps), _) => Length::Steps(steps),
            (_, _, epochs) => Length::Epochs(epochs.unwrap_or(EPOCHS)),
        };
        let settings = Settings {
            length,
            rates: self.lr.clone(),
            scale: self.scale,
            batch_size: self.batch_size,
            weight_decay: self.weight_decay,
            eval_every: self.eval_every,
            checkpoint_every: self.checkpoint_every,
            start: match (self.resume, self.overwrite) {
                (true, _) => Start::Resume,
                (_, true) => Start::Overwrite,
                _ => Start::New,
            },
            batch_norm: self.batch_norm,
            validation: self.validation,
            recipe: Recipe {
                cosine: self.schedule == Course::Cosine,
                warmup: self.warmup.unwrap_or(0),
                momentum: self.momentum,
                betas: self.betas,
                label_smoothing: self.label_smoothing,
                clip_norm: self.clip_norm,
                patience: self.patience,
            },
            amp: self.amp,
            loss_scale: self.loss_scale,
            cuda_graph: self.cuda_graph,
            max_time: self.max_time,
            given: config::given(),
        };
        let validates = settings.validation(experiment) > 0.0;
        for (index, optimizer) in self.optimizers.iter().enumerate() {
            ensure!(
                !self.optimizers[..index].contains(optimizer),
                "--optimizer: expected each once, got {} twice; give it once, and several --seeds for several runs",
                optimizer.name()
            );
            ensure!(
                !optimizer.switches() || validates,
                "--optimizer {}: expected samples for validation, which tell when to switch, and {} has none; hold some out \
                 with --validation 0.1",
                optimizer.name(),
                experiment.name
            );
            ensure!(
                !optimizer.is_tso_alra() || !self.cuda_graph,
                "--cuda-graph: expected optimizers whose steps are all alike, got {}, which updates its second moments in \
                 some of them; leave the option away",
                optimizer.name()
            );
        }
        for (index, (optimizer, _)) in self.lr.iter().enumerate() {
            let named = optimizer.map_or("all", OptimizerKind::name);
            ensure!(
                self.lr[..index].iter().all(|(other, _)| other != optimizer),
                "--lr: expected one rate for {named}, got two; give one"
            );
            ensure!(
                optimizer.is_none_or(|optimizer| self.optimizers.contains(&optimizer)),
                "--lr {named}=…: expected one of the --optimizer list, which has no {named}; add it there, or leave it away here"
            );
        }
        ensure!(
            self.patience.is_none() || validates,
            "--patience: expected samples for validation, and {} has none: a run that ends by its test samples would flatter \
             itself; hold some out with --validation 0.1",
            experiment.name
        );
        self.ensure_used("momentum", self.momentum.is_some(), |optimizer| optimizer.rule().has_momentum())?;
        self.ensure_used("betas", self.betas.is_some(), |optimizer| optimizer.rule().has_betas())?;
        self.ensure_used("scale", self.scale.is_some(), |optimizer| optimizer.is_virtual())?;
        Ok(settings)
    }

    /// What each of several processes is told besides.
    pub fn of_a_part(&self, threads: i32) -> Vec<String> {
        let mut words = Vec::new();
        words.extend(self.resume.then(|| "--resume".to_owned()));
        words.extend(self.overwrite.then(|| "--overwrite".to_owned()));
        words.extend(self.max_time.map(|time| format!("--max-time={}", humantime::format_duration(time))));
        words.extend(self.threads.is_none().then(|| format!("--threads={threads}")));
        words
    }

    /// Refuses a setting that none of the optimizers has.
    fn ensure_used(&self, option: &str, is_given: bool, has: fn(OptimizerKind) -> bool) -> Result<()> {
        let users = TABLE.iter().filter(|row| has(row.kind)).map(|row| row.name);
        ensure!(
            !is_given || self.optimizers.iter().any(|optimizer| has(*optimizer)),
            "--{option}: expected an optimizer that has it in the --optimizer list: {}; add one, or leave the option away",
            users.collect::<Vec<_>>().join(", ")
        );
        Ok(())
    }

    /// The device that was asked for, if it is there.
    pub fn device(&self) -> Result<Device> {
        let device = match self.device {
            DeviceChoice::Auto => Device::cuda_if_available(),
            DeviceChoice::Cpu => Device::Cpu,
            DeviceChoice::Cuda(index) => {
                let devices = if Cuda::is_available() { Cuda::device_count() } else { 0 };
                ensure!(
                    (index as i64) < devices,
                    "--device cuda:{index}: libtorch sees {devices} CUDA devices; use --device cpu, or link a CUDA \
                     libtorch on a machine with a driver"
                );
                Device::Cuda(index)
            }
        };
        ensure!(
            device.is_cuda() || !self.cuda_graph,
            "--cuda-graph: expected a GPU, got {device:?}; leave the option away"
        );
        Ok(device)
    }
}

/// Seeds in the order in which they are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeds(pub Vec<u64>);

const MOST_SEEDS: u64 = 10_000;

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.trim().parse::<u64>().map_err(|_| format!("expected numbers such as 0, 0,3 or 0..5, got '{text}'"))
        };
        let seeds: Vec<u64> = match text.split_once("..") {
            Some((from, end)) => {
                let range = number(from)?..number(end)?;
                if range.end.saturating_sub(range.start) > MOST_SEEDS {
                    return Err(format!("expected at most {MOST_SEEDS} seeds, got '{text}'"));
                }
                range.collect()
            }
            None => text.split(',').map(number).collect::<Result<_, _>>()?,
        };
        let mut sorted = seeds.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if seeds.is_empty() || sorted.len() < seeds.len() {
            return Err(format!("expected at least one seed and each once, got '{text}'"));
        }
        Ok(Self(seeds))
    }
}

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU if there is one.
    Auto,
    /// The CPU.
    Cpu,
    /// This GPU.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':').unwrap_or((text, "0")) {
            ("auto", "0") if text == "auto" => Ok(Self::Auto),
            ("cpu", "0") if text == "cpu" => Ok(Self::Cpu),
            ("cuda", index) => index.parse().map(Self::Cuda).map_err(|_| format!("'{index}' is no GPU's number")),
            _ => Err("expected auto, cpu, cuda or cuda:N".to_owned()),
        }
    }
}

/// The optimizers and what they are, for --help.
fn optimizers_help() -> String {
    let rows = TABLE.iter().map(|row| format!("  {:<17} {}", row.name, row.about));
    format!("Optimizers, a run each:\n{}", rows.collect::<Vec<_>>().join("\n"))
}

/// A rate for all, or for one.
fn rate(text: &str) -> Result<(Option<OptimizerKind>, f64), String> {
    match text.split_once('=') {
        Some((name, text)) => Ok((Some(name.parse()?), positive(text)?)),
        None => Ok((None, positive(text)?)),
    }
}

/// No run has more of anything.
const MOST: f64 = 1e12;

/// A whole number above 0, also as 1e3.
fn count(text: &str) -> Result<usize, String> {
    let whole = |text: &str| text.parse::<f64>().ok().filter(|n| n.fract() == 0.0 && (1.0..=MOST).contains(n));
    let parsed =
        text.parse::<usize>().ok().filter(|&n| n > 0 && n as f64 <= MOST).or_else(|| whole(text).map(|n| n as usize));
    parsed.ok_or_else(|| "expected a whole number above 0, such as 1000".to_owned())
}

/// Threads for each core of the machine, at most: more would only wait for one another.
const THREADS_PER_CORE: usize = 4;

fn threads(text: &str) -> Result<NonZeroU16, String> {
    let most = THREADS_PER_CORE * of_machine::available();
    let parsed = count(text).ok().filter(|&n| n <= most).and_then(|n| NonZeroU16::new(u16::try_from(n).ok()?));
    parsed.ok_or_else(|| format!("expected a whole number from 1 to {most} on this machine"))
}

/// How the rate goes over the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Course {
    Constant,
    Cosine,
}

fn betas(text: &str) -> Result<[f64; 2], String> {
    let parsed: Option<Vec<f64>> = text.split(',').map(|beta| share(beta).ok()).collect();
    parsed
        .and_then(|betas| betas.try_into().ok())
        .ok_or_else(|| "expected two numbers in [0, 1), such as 0.9,0.999".to_owned())
}

fn batch_norm(text: &str) -> Result<BatchNorm, String> {
    match text {
        "running" => Ok(BatchNorm::Running),
        "batch" => Ok(BatchNorm::Batch),
        _ => Err("expected running or batch".to_owned()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text).ok().filter(|time| !time.is_zero());
    parsed.ok_or_else(|| "expected a time such as 90s, 30m or 2h".to_owned())
}

fn name(text: &str) -> Result<String, String> {
    let valid = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let fits = !text.is_empty() && !text.starts_with('.') && text.chars().all(valid);
    fits.then(|| text.to_owned()).ok_or_else(|| "expected letters, digits, and - _ . within".to_owned())
}

/// A parser of numbers that fulfil a condition.
fn number(text: &str, valid: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    text.trim()
        .parse()
        .ok()
        .filter(|&value: &f64| value.is_finite() && valid(value))
        .ok_or_else(|| format!("expected {expected}"))
}

fn positive(text: &str) -> Result<f64, String> {
    // Weights and rates are Float on the device: no number that is 0 or infinite there.
    number(text, |value| value > 0.0 && (value as f32).is_normal(), "a number above 0, as a Float holds it")
}

fn non_negative(text: &str) -> Result<f64, String> {
    number(text, |value| value >= 0.0, "a finite number >= 0")
}

fn share(text: &str) -> Result<f64, String> {
    number(text, |value| (0.0..1.0).contains(&value), "a number in [0, 1)")
}

fn fraction(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0 && value <= 1.0, "a number in (0, 1]")
}
