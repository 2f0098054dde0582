//! Models that were trained: their weights, and what they say of samples.

use crate::catalogue::{WithModel, with_model_of};
use crate::data::{Dataset, Split};
use crate::models::Model;
use crate::trainer::newest_checkpoint;
use anyhow::{Context, Result, ensure};
use experiments::experiment::Experiment;
use experiments::record::Record;
use experiments::run::{BEST_WEIGHTS, CHECKPOINTS};
use std::path::Path;
use tch::nn::{self, ModuleT};
use tch::{Device, Kind, Tensor};
use tch_svgd::Plain;

/// Which weights of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Those of the test with the least error.
    Best,
    /// Those of the newest checkpoint.
    Last,
}

/// A model of a run. Its layers are tch's own: hatted ones have the same weights and give the same outputs.
pub struct Trained {
    pub record: Record,
    pub experiment: &'static Experiment,
    model: Box<dyn ModuleT>,
    vs: nn::VarStore,
}

struct Build<'a>(&'a nn::Path<'a>, i64);

impl WithModel for Build<'_> {
    type Output = Box<dyn ModuleT>;

    fn with<M: Model>(self) -> Box<dyn ModuleT> {
        Box::new(M::new(&Plain, self.0, self.1))
    }
}

impl Trained {
    /// The weights of the run in a folder.
    pub fn load(run: &Path, weights: Weights, classes: i64, device: Device) -> Result<Self> {
        let record = Record::load(run)?;
        let experiment = record.experiment()?;
        let mut vs = nn::VarStore::new(device);
        let model = with_model_of(experiment, Build(&vs.root(), classes));
        let path = match weights {
            Weights::Best => run.join(BEST_WEIGHTS),
            // One that is whole: the files are held to their checksums.
            Weights::Last => newest_checkpoint(&run.join(CHECKPOINTS))?.join("weights.safetensors"),
        };
        ensure!(
            path.exists(),
            "{}: is not there: the run has no test yet, or is of a program of before; --weights last takes the newest \
             checkpoint's",
            path.display()
        );
        vs.load(&path).with_context(|| {
            let model = &record.conditions.model;
            format!("{}: expected the weights of the {model}, whole and of a program of now", path.display())
        })?;
        Ok(Self { record, experiment, model, vs })
    }

    /// The logits of samples as the data set has them, `[n, classes]` or `[n, length, classes]`; batch norm by its moving
    /// means.
    pub fn logits(&self, data: &Dataset, samples: &Tensor) -> Tensor {
        let inputs = data.inputs.present(&samples.to_device(self.vs.device()));
        tch::no_grad(|| self.model.forward_t(&inputs, false))
    }

    /// How it answers the samples of a split.
    pub fn evaluate(&self, data: &Dataset, split: &Split) -> Evaluation {
        let classes = data.classes;
        let mut counts = Tensor::zeros([classes * classes], (Kind::Int64, Device::Cpu));
        let (mut loss, mut answers) = (0.0, 0);
        let batches = split.len().div_ceil(self.experiment.test_batch) as i64;
        for (samples, labels) in split.inputs.chunk(batches, 0).iter().zip(split.labels.chunk(batches, 0)) {
            let logits = self.logits(data, samples).to_kind(Kind::Float).flatten(0, -2).to_device(Device::Cpu);
            let labels = labels.flatten(0, -1).to_device(Device::Cpu);
            loss += logits.cross_entropy_for_logits(&labels).double_value(&[]) * labels.numel() as f64;
            answers += labels.numel();
            let pairs = labels * classes + logits.argmax(1, false);
            counts += pairs.bincount::<Tensor>(None, classes * classes);
        }
        Evaluation { loss: loss / answers as f64, answers, counts: counts.view([classes, classes]) }
    }
}

/// The answers of a model.
#[derive(Debug)]
pub struct Evaluation {
    /// The mean cross-entropy.
    pub loss: f64,
    pub answers: usize,
    /// How often a sample of the class of the row was taken for the class of the column: Int64.
    pub counts: Tensor,
}

impl Evaluation {
    /// The share of wrong answers in per cent.
    pub fn error(&self) -> f64 {
        100.0 * (1.0 - self.counts.trace().double_value(&[]) / self.answers as f64)
    }

    /// The samples of a class, and the share of wrong answers among them in per cent, where there are some.
    pub fn of_class(&self, class: i64) -> (i64, Option<f64>) {
        let row = self.counts.get(class);
        let (all, right) = (row.sum(Kind::Int64).int64_value(&[]), row.int64_value(&[class]));
        (all, (all > 0).then(|| 100.0 * (1.0 - right as f64 / all as f64)))
    }

    /// The rows of the counts.
    pub fn rows(&self) -> Vec<Vec<i64>> {
        (0..self.counts.size()[0]).map(|class| Vec::try_from(self.counts.get(class)).expect("a row of Int64")).collect()
    }
}
