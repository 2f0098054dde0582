//! run.json: under which conditions a run was trained, where, and how far it has come.

use crate::experiment::{self, BatchNorm, Experiment};
use crate::optimizer::OptimizerKind;
use crate::recipe::Recipe;
use anyhow::{Context, Result, bail, ensure};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file in the folder of a run.
pub const RECORD_FILE: &str = "run.json";
/// What run.json's `format` says.
pub const FORMAT: u32 = 2;

/// Options of a program by their long names.
pub type Options = serde_json::Map<String, serde_json::Value>;

/// How a run was trained, and how far it has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub format: u32,
    /// The digest of the conditions: two runs are samples of one thing where it is the same.
    pub id: String,
    pub seed: u64,
    pub conditions: Conditions,
    pub machine: Machine,
    pub origin: Origin,
    pub progress: Progress,
}

/// What the weights at the end depend on, besides the seed. Runs are averaged, and gone on with, under the same conditions
/// alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// `Experiment::name`.
    pub experiment: String,
    pub model: String,
    pub parameters: usize,
    pub data: Data,
    pub optimizer: OptimizerKind,
    pub batch_size: usize,
    pub planned_steps: usize,
    /// The steps after which the rate falls, unless it is constant.
    pub decay_at: Option<[usize; 2]>,
    pub rates: [f64; 3],
    /// The share of the paper's steps, where the schedule is the paper's; 1 is all of them.
    pub budget: Option<f64>,
    /// Of SVGD's virtual gradients, where they are used.
    pub scale: Option<f64>,
    pub l1: f64,
    pub weight_decay: f64,
    /// By what batch norm normalizes in tests, where there is one.
    pub batch_norm: Option<BatchNorm>,
    pub amp: bool,
    pub loss_scale: f64,
    /// Left away where it is the paper's: so are those of before.
    #[serde(default, skip_serializing_if = "Recipe::is_papers")]
    pub recipe: Recipe,
}

/// What was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// The name that its digest has, or the format's with the digest where nobody knows it.
    pub name: String,
    /// MD5 of all samples and labels as they are in memory. Records of format 1 have none.
    pub digest: Option<String>,
    /// What its samples are called.
    pub samples: String,
    pub training: usize,
    /// Training samples that were held out.
    pub validation: usize,
    pub test: usize,
    /// The names of its classes, which other names would change nothing for. Records of before have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
}

/// What the last bits of the weights depend on, and the times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub device: String,
    pub threads: i32,
    pub cuda_graph: bool,
    pub cpu: Option<String>,
    /// The widest instructions that it has: "avx512", "avx2" or another.
    pub instructions: Option<String>,
    pub crate_version: String,
    pub libtorch_version: String,
}

/// How it came about.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Origin {
    pub host: Option<String>,
    /// When it was begun or gone on with last, in UTC.
    pub started: Option<String>,
    pub command: Option<String>,
    /// Its options, by their long names: `--config` reads them.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// The commit of the source, with -dirty where it was changed.
    pub commit: Option<String>,
    /// Where its data were read.
    pub data_folder: Option<String>,
}

/// How far it has come.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The steps that were done.
    pub steps: usize,
    /// Steps between tests; 0 where it was gone on with at others.
    pub eval_every: usize,
    /// Of training alone, tests left out.
    pub seconds: f64,
    /// Of all, tests and checkpoints too.
    pub wall_seconds: f64,
    /// The median of one step, in milliseconds.
    pub step_milliseconds: Option<f64>,
    pub state_bytes: usize,
    /// Of the process, which may have trained others before.
    pub peak_memory_bytes: Option<u64>,
    /// The step at which its method gave way to plain gradients.
    pub switched_at: Option<usize>,
    /// Why it ended before its time.
    pub note: Option<String>,
    /// Records of before, and of a run without a test, have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<Digests>,
}

/// What the files beside run.json are held to: those of another run have the same names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Digests {
    /// The rows that curve.csv had. It may have got more since, of a run that was killed then.
    pub tests: usize,
    /// MD5 of a curve.csv of these rows alone.
    pub curve: String,
    /// MD5 of the best weights, where a program that notes it has written them.
    pub best: Option<String>,
}

/// A condition that two runs do not share, with what it was and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub name: &'static str,
    pub before: String,
    pub now: String,
}

/// A condition as run.json has it.
fn shown(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl Conditions {
    /// What differs. Data are told by their name, which those have that somebody knows, and others with their digest.
    pub fn differences(&self, now: &Conditions) -> Vec<Difference> {
        // A field that is added to the struct is an error here until it is compared, too.
        let Conditions {
            experiment,
            model,
            parameters,
            data,
            optimizer,
            batch_size,
            planned_steps,
            decay_at,
            rates,
            budget,
            scale,
            l1,
            weight_decay,
            batch_norm,
            amp,
            loss_scale,
            recipe,
        } = self;
        let Recipe { cosine, warmup, momentum, betas, label_smoothing, clip_norm, patience } = recipe;
        let Data { name, digest, samples: _, training, validation, test, classes: _ } = data;
        let mut differences = Vec::new();
        let mut compare = |name: &'static str, before: String, now: String| {
            if before != now {
                differences.push(Difference { name, before, now });
            }
        };
        macro_rules! compared {
            ($($value:ident: $now:expr),*) => { $(compare(stringify!($value), shown($value), shown(&$now));)* };
        }
        compared!(experiment: now.experiment, model: now.model, parameters: now.parameters, optimizer: now.optimizer);
        compared!(batch_size: now.batch_size, planned_steps: now.planned_steps, decay_at: now.decay_at, rates: now.rates);
        compared!(budget: now.budget, scale: now.scale, l1: now.l1, weight_decay: now.weight_decay, amp: now.amp);
        compared!(batch_norm: now.batch_norm, loss_scale: now.loss_scale, training: now.data.training, validation: now.data.validation, test: now.data.test);
        compared!(cosine: now.recipe.cosine, warmup: now.recipe.warmup, momentum: now.recipe.momentum, betas: now.recipe.betas);
        compared!(label_smoothing: now.recipe.label_smoothing, clip_norm: now.recipe.clip_norm, patience: now.recipe.patience);
        // The same in a folder of another name are the same.
        if digest.is_none() || *digest != now.data.digest {
            compare("data", name.clone(), now.data.name.clone());
        }
        differences
    }

    /// A name for them: the digest of all but what the name of the data tells.
    pub fn id(&self) -> String {
        let data = Data { digest: None, classes: Vec::new(), ..self.data.clone() };
        let text = serde_json::to_vec(&Conditions { data, ..self.clone() }).expect("conditions are JSON");
        crate::files::hexadecimal(&Md5::digest(text)[..6])
    }
}

impl Record {
    /// One that has not begun.
    pub fn new(seed: u64, conditions: Conditions, machine: Machine, origin: Origin, eval_every: usize) -> Self {
        let progress = Progress { eval_every, ..Default::default() };
        Self { format: FORMAT, id: conditions.id(), seed, conditions, machine, origin, progress }
    }

    /// Reads run.json in the folder of a run; one of an older format, too.
    pub fn load(folder: &Path) -> Result<Record> {
        let path = folder.join(RECORD_FILE);
        let read = || -> Result<Record> { Self::parse(&std::fs::read_to_string(&path).context("cannot be read")?) };
        read().with_context(|| path.display().to_string())
    }

    /// Parses the text of a run.json.
    pub fn parse(text: &str) -> Result<Record> {
        let expected = "expected the record of a run as JSON";
        let value: serde_json::Value = serde_json::from_str(text).context(expected)?;
        // From the text again: it knows the line.
        let record = match value["format"].as_u64() {
            Some(1) => serde_json::from_str::<Format1>(text).context(expected)?.into_record()?,
            Some(2) => serde_json::from_str::<Record>(text).context(expected)?,
            _ => {
                bail!("expected format 1 or {FORMAT}, got {}; read it with the version that wrote it", value["format"])
            }
        };
        record.experiment()?;
        let id = record.conditions.id();
        ensure!(
            record.id == id,
            "expected the conditions whose digest is the 'id', {}, got those of {id}: it was changed since it was written",
            record.id
        );
        Ok(record)
    }

    /// Whether it is of the same run, which may have been given another length since.
    pub fn is_of_run(&self, other: &Record) -> bool {
        let differences = self.conditions.differences(&other.conditions);
        self.seed == other.seed && differences.iter().all(|difference| difference.name == "planned_steps")
    }

    /// The experiment that it names.
    pub fn experiment(&self) -> Result<&'static Experiment> {
        experiment::named(&self.conditions.experiment)
    }

    /// Whether two runs are samples of one thing: of the same conditions, with the same programs, ended alike.
    pub fn is_like(&self, other: &Record) -> bool {
        let (own, others) = (&self.machine, &other.machine);
        let Machine { device, threads, cuda_graph, cpu: _, instructions: _, crate_version, libtorch_version } = own;
        self.conditions.differences(&other.conditions).is_empty()
            && (device, threads, cuda_graph) == (&others.device, &others.threads, &others.cuda_graph)
            && (crate_version, libtorch_version) == (&others.crate_version, &others.libtorch_version)
            && self.progress.eval_every == other.progress.eval_every
            && self.cut_short() == other.cut_short()
            // Early stopping, a condition, ends each seed in its own time.
            && (self.progress.steps == other.progress.steps || self.conditions.recipe.patience.is_some())
    }

    /// Whether it has come to its end, at its time or before.
    pub fn is_finished(&self) -> bool {
        self.progress.steps >= self.conditions.planned_steps || self.stalled() || self.has_diverged()
    }

    /// Why it is shorter than it was to be, if it is: it ended before its time, or has not ended yet. Early stopping is as it
    /// was to be.
    pub fn cut_short(&self) -> Option<String> {
        let Progress { steps, note, .. } = &self.progress;
        if self.stalled() {
            return None;
        }
        note.clone()
            .or_else(|| (*steps < self.conditions.planned_steps).then(|| format!("unfinished, at step {steps}")))
    }

    /// Whether early stopping has ended it.
    pub fn stalled(&self) -> bool {
        self.noted(STALLED)
    }

    /// Whether its loss was no number in the end.
    pub fn has_diverged(&self) -> bool {
        self.noted(DIVERGED)
    }

    fn noted(&self, beginning: &str) -> bool {
        self.progress.note.as_ref().is_some_and(|note| note.starts_with(beginning))
    }
}

/// What the note of a run begins with whose loss is no number.
pub const DIVERGED: &str = "diverged";
/// What the note of a run begins with whose tests no longer get better, where early stopping was asked for.
pub const STALLED: &str = "no better";

/// run.json as the programs of before wrote it.
#[derive(Deserialize)]
struct Format1 {
    experiment: String,
    model: String,
    data: String,
    training_images: usize,
    test_images: usize,
    #[serde(default)]
    validation_images: usize,
    optimizer: OptimizerKind,
    seed: u64,
    batch_size: usize,
    planned_steps: usize,
    eval_every: usize,
    decay_at: Option<[usize; 2]>,
    rates: [f64; 3],
    scale: f64,
    l1: f64,
    paper: bool,
    budget: Option<f64>,
    device: String,
    threads: i32,
    amp: bool,
    loss_scale: f64,
    cuda_graph: bool,
    crate_version: String,
    libtorch_version: String,
    parameters: usize,
    state_bytes: usize,
    steps: usize,
    seconds: f64,
    #[serde(default)]
    switched_at: Option<usize>,
    note: Option<String>,
}

/// The models of format 1 with batch norms, whose tests normalized by the test batch.
const NORMALIZED: [&str; 7] = ["MLP", "VGG", "ResNet-20", "ResNet-32", "ResNet-44", "ResNet-56", "ResNet-110"];

impl Format1 {
    fn into_record(self) -> Result<Record> {
        let Experiment { weight_decay, benchmark, .. } = *experiment::named(&self.experiment)?;
        ensure!(self.batch_size > 0, "expected a batch size above 0, got 0");
        let batch_norm = NORMALIZED.contains(&self.model.as_str()).then_some(BatchNorm::Batch);
        let conditions = Conditions {
            experiment: self.experiment,
            model: self.model,
            parameters: self.parameters,
            data: Data {
                name: self.data,
                digest: None,
                samples: benchmark.samples().to_owned(),
                training: self.training_images,
                validation: self.validation_images,
                test: self.test_images,
                classes: Vec::new(),
            },
            optimizer: self.optimizer,
            batch_size: self.batch_size,
            planned_steps: self.planned_steps,
            decay_at: self.decay_at,
            rates: self.rates,
            budget: self.paper.then(|| self.budget.unwrap_or(1.0)),
            // It was written for every optimizer, and used by some.
            scale: self.optimizer.is_virtual().then_some(self.scale),
            l1: self.l1,
            weight_decay,
            batch_norm,
            amp: self.amp,
            loss_scale: self.loss_scale,
            recipe: Recipe::default(),
        };
        let machine = Machine {
            device: self.device,
            threads: self.threads,
            cuda_graph: self.cuda_graph,
            cpu: None,
            instructions: None,
            crate_version: self.crate_version,
            libtorch_version: self.libtorch_version,
        };
        let mut record = Record::new(self.seed, conditions, machine, Origin::default(), self.eval_every);
        record.progress = Progress {
            steps: self.steps,
            seconds: self.seconds,
            state_bytes: self.state_bytes,
            switched_at: self.switched_at,
            note: self.note,
            ..record.progress
        };
        Ok(record)
    }
}
