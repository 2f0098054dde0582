//! Models that were trained: their weights, and what they say of samples.

use crate::catalogue::{WithModel, with_model_of};
use crate::data::{Dataset, Inputs, MOST_NAMED, Split};
use crate::models::Model;
use crate::trainer::newest_checkpoint;
use anyhow::{Context, Result, ensure};
use experiments::experiment::Experiment;
use experiments::record::Record;
use experiments::run::{BEST_WEIGHTS, step_of_best_weights};
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
    /// The step whose weights these are, where the run tells.
    pub step: Option<usize>,
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
        let (path, step) = match weights {
            Weights::Best => {
                let path = run.join(BEST_WEIGHTS);
                ensure!(
                    path.exists(),
                    "{}: is not there: the run has no test yet, or none whose loss is a number, or is of a program of before; \
                     --weights last takes the newest checkpoint's",
                    path.display()
                );
                let step = step_of_best_weights(run, &record)?;
                (path, step)
            }
            // One that is whole: the files are held to their checksums.
            Weights::Last => {
                let (checkpoint, step) = newest_checkpoint(run, &record)?;
                (checkpoint.join("weights.safetensors"), Some(step))
            }
        };
        let parameters: usize = vs.trainable_variables().iter().map(Tensor::numel).sum();
        ensure!(
            parameters == record.conditions.parameters,
            "expected data of as many classes as the run's, got {classes}: its {} has {} parameters, not {parameters}",
            record.conditions.model,
            record.conditions.parameters
        );
        vs.load(&path).with_context(|| {
            let model = &record.conditions.model;
            format!("{}: expected the weights of the {model}, whole and of a program of now", path.display())
        })?;
        Ok(Self { record, experiment, step, model, vs })
    }

    /// The logits of samples as the data set has them, `[n, classes]` or `[n, length, classes]`; batch norm by its moving
    /// means.
    pub fn logits(&self, inputs: Inputs, samples: &Tensor) -> Tensor {
        let inputs = inputs.present(&samples.to_device(self.vs.device()));
        tch::no_grad(|| self.model.forward_t(&inputs, false))
    }

    /// How it answers the samples of a split.
    pub fn evaluate(&self, data: &Dataset, split: &Split) -> Evaluation {
        let classes = data.classes;
        // Of ten thousand words it would be a hundred million numbers, which nobody reads.
        let mut counts =
            (classes <= MOST_NAMED).then(|| Tensor::zeros([classes * classes], (Kind::Int64, Device::Cpu)));
        let (mut loss, mut answers, mut wrong) = (0.0, 0, 0);
        let batches = split.len().div_ceil(self.experiment.test_batch) as i64;
        for (samples, labels) in split.inputs.chunk(batches, 0).iter().zip(split.labels.chunk(batches, 0)) {
            let logits = self.logits(data.inputs, samples).to_kind(Kind::Float).flatten(0, -2).to_device(Device::Cpu);
            let labels = labels.flatten(0, -1).to_device(Device::Cpu);
            loss += logits.cross_entropy_for_logits(&labels).double_value(&[]) * labels.numel() as f64;
            answers += labels.numel();
            let taken_for = logits.argmax(1, false);
            wrong += taken_for.ne_tensor(&labels).sum(Kind::Int64).int64_value(&[]);
            if let Some(counts) = &mut counts {
                *counts += (labels * classes + taken_for).bincount::<Tensor>(None, classes * classes);
            }
        }
        let error = 100.0 * wrong as f64 / answers as f64;
        let counts = counts.map(|counts| rows(&counts.view([classes, classes])));
        Evaluation { loss: loss / answers as f64, answers, error, counts }
    }
}

/// The answers of a model.
#[derive(Debug)]
pub struct Evaluation {
    /// The mean cross-entropy.
    pub loss: f64,
    pub answers: usize,
    /// The share of wrong ones in per cent.
    pub error: f64,
    /// How often a sample of the class of the row was taken for the class of the column, where there are not too many.
    pub counts: Option<Vec<Vec<i64>>>,
}

fn rows(counts: &Tensor) -> Vec<Vec<i64>> {
    (0..counts.size()[0]).map(|class| Vec::try_from(counts.get(class)).expect("a row of Int64")).collect()
}
