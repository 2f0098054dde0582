//! One training step, run as it is or replayed as a CUDA graph, and the test.

use super::settings::Settings;
use crate::data::{Dataset, Inputs, Split};
use crate::initialise::initialise;
use crate::method::Method;
use crate::models::Model;
use crate::optimizer::Optimizer;
use anyhow::{Context, Result, anyhow, ensure};
use experiments::experiment::{BatchNorm, Experiment};
use experiments::optimizer::OptimizerKind;
use std::path::Path;
use tch::nn;
use tch::{Device, Kind, Reduction, Tensor};
use tch_svgd::CudaGraph;

/// No label is left out: PyTorch's default.
const NONE_IGNORED: i64 = -100;

/// Steps before one is captured: libraries choose their algorithms in the first, and SVGD's second moments come to be.
const EAGER_STEPS: usize = 3;

/// A model in training, with all that a step changes.
pub struct Stepper<M> {
    model: M,
    vs: nn::VarStore,
    method: Method,
    optimizer: Optimizer,
    /// The sum of the cross-entropies of the steps since it was last forgotten.
    loss_sum: Tensor,
    amp: bool,
    loss_scale: f64,
    label_smoothing: f64,
    test_batch: usize,
    inputs: Inputs,
    batch_norm: BatchNorm,
    /// Of dropout, where the model has some: each step's is a function of it and the step.
    seed: u64,
    graph: Graph,
}

/// Whether steps are captured.
enum Graph {
    Off,
    /// After so many more steps.
    After(usize),
    Captured {
        graph: CudaGraph,
        inputs: Tensor,
        labels: Tensor,
    },
}

impl<M: Model> Stepper<M> {
    /// A new model. The same seed gives every optimizer the same weights.
    pub fn new(
        experiment: &Experiment,
        kind: OptimizerKind,
        seed: u64,
        settings: &Settings,
        data: &Dataset,
        device: Device,
    ) -> Result<Self> {
        let classes = data.classes;
        let vs = nn::VarStore::new(device);
        let method = Method::new(kind, settings.scale.unwrap_or(experiment.scale), settings.loss_scale)?;
        tch::manual_seed(seed as i64);
        let model: M = method.build(&vs.root(), classes);
        if M::AS_SVGDS_AUTHORS {
            tch::manual_seed(seed as i64);
            initialise(&vs);
        }
        let optimizer = Optimizer::new(kind, &vs, experiment, settings)?;
        let parameters = optimizer.parameters();
        ensure!(
            classes != 10 || parameters == M::PARAMETERS,
            "{}: expected {} parameters, got {parameters}",
            M::NAME,
            M::PARAMETERS
        );
        let graph = if settings.cuda_graph { Graph::After(EAGER_STEPS) } else { Graph::Off };
        let loss_sum = Tensor::zeros([], (Kind::Float, device));
        let (amp, loss_scale, test_batch) = (settings.amp, settings.loss_scale, experiment.test_batch);
        let (inputs, batch_norm) = (data.inputs, settings.batch_norm(experiment));
        let label_smoothing = settings.recipe.label_smoothing;
        Ok(Self {
            model,
            vs,
            method,
            optimizer,
            loss_sum,
            amp,
            loss_scale,
            label_smoothing,
            test_batch,
            inputs,
            batch_norm,
            seed,
            graph,
        })
    }

    pub fn parameters(&self) -> usize {
        self.optimizer.parameters()
    }

    /// What the optimizer keeps from step to step, in bytes: moving means of weights, second moments of outputs.
    pub fn state_bytes(&self) -> usize {
        self.optimizer.state_bytes() + self.method.state_bytes()
    }

    /// Whether steps are replayed from a graph.
    pub fn is_captured(&self) -> bool {
        matches!(self.graph, Graph::Captured { .. })
    }

    /// Trains on the batch of this step. Nothing waits for the device, but for the one step that is captured.
    pub fn step(&mut self, step: usize, rate: f64, inputs: &Tensor, labels: &Tensor) -> Result<()> {
        self.optimizer.set_rate(rate);
        if M::DROPOUT {
            // A run that goes on from a checkpoint drops what an uninterrupted one does.
            tch::manual_seed(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(step as u64) as i64);
        }
        self.run(inputs, labels)?;
        self.method.step()
    }

    fn run(&mut self, inputs: &Tensor, labels: &Tensor) -> Result<()> {
        match &mut self.graph {
            Graph::Off => self.train(inputs, labels),
            Graph::After(0) => self.capture(inputs, labels),
            Graph::After(steps) => {
                *steps -= 1;
                self.train(inputs, labels)
            }
            Graph::Captured { graph, inputs: static_inputs, labels: static_labels } => {
                static_inputs.copy_(inputs);
                static_labels.copy_(labels);
                Ok(graph.replay()?)
            }
        }
    }

    /// Captures a step, which runs nothing, and replays it.
    fn capture(&mut self, inputs: &Tensor, labels: &Tensor) -> Result<()> {
        self.graph = Graph::Off;
        // A replay reads its batch where the captured step did.
        let (inputs, labels) = (inputs.copy(), labels.copy());
        let captured = CudaGraph::capture(self.vs.device(), || self.train(&inputs, &labels));
        match captured {
            Ok((graph, result)) => {
                result?;
                graph.replay()?;
                self.graph = Graph::Captured { graph, inputs, labels };
                Ok(())
            }
            Err(error) => Err(anyhow!("--cuda-graph: {error}; leave the option away")),
        }
    }

    fn train(&mut self, inputs: &Tensor, labels: &Tensor) -> Result<()> {
        let logits = self.autocast(|| self.model.forward_t(inputs, true))?;
        let (logits, labels) = (one_by_one(&logits), labels.flatten(0, -1));
        let loss =
            logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, NONE_IGNORED, self.label_smoothing);
        let scaled = if self.loss_scale == 1.0 { loss.shallow_clone() } else { &loss * self.loss_scale };
        self.optimizer.backward_step(&scaled, self.loss_scale)?;
        self.loss_sum += loss.detach();
        Ok(())
    }

    fn autocast<T>(&self, f: impl FnOnce() -> T) -> Result<T> {
        match self.amp {
            true => Ok(tch_svgd::autocast(self.vs.device(), Kind::BFloat16, f)?),
            false => Ok(f()),
        }
    }

    /// The sum of the cross-entropies, without the penalty, of the steps since [`forget_losses`](Self::forget_losses).
    /// Waits for the device.
    pub fn loss_sum(&self) -> f64 {
        self.loss_sum.double_value(&[])
    }

    /// Starts a new sum. In place: a captured step adds to the same memory.
    pub fn forget_losses(&mut self) {
        let _ = self.loss_sum.zero_();
    }

    /// Tells a validation loss; whether the gradients are plain from now on, though they were not.
    pub fn observe(&self, validation_loss: f64) -> bool {
        self.method.observe(validation_loss)
    }

    /// The mean cross-entropy, and the share of wrong answers in per cent. Batch norm sees test samples in batches of
    /// equal size, whatever the training batch is.
    pub fn test(&self, test: &Split) -> Result<(f64, f64)> {
        // Statistics of the test batch are those of training, whose moving means are none of a test's business.
        let by_batch = M::BATCH_NORM.is_some() && self.batch_norm == BatchNorm::Batch;
        let moving: Vec<(Tensor, Tensor)> = match by_batch {
            true => {
                let variables = self.vs.variables().into_values().filter(|variable| !variable.requires_grad());
                variables.map(|variable| (variable.copy(), variable)).collect()
            }
            false => Vec::new(),
        };
        let sums = tch::no_grad(|| -> Result<Tensor> {
            let mut sums = Tensor::zeros([2], (Kind::Double, self.vs.device()));
            let batches = test.len().div_ceil(self.test_batch) as i64;
            for (samples, labels) in test.inputs.chunk(batches, 0).iter().zip(test.labels.chunk(batches, 0)) {
                let inputs = self.inputs.present(samples);
                let logits = one_by_one(&self.autocast(|| self.model.forward_t(&inputs, by_batch))?);
                let labels = labels.flatten(0, -1);
                let loss = logits.cross_entropy_for_logits(&labels) * labels.numel() as f64;
                let wrong = logits.argmax(1, false).ne_tensor(&labels).sum(Kind::Float);
                sums += Tensor::stack(&[loss, wrong], 0);
            }
            for (before, mut variable) in moving {
                variable.copy_(&before);
            }
            Ok(sums)
        })?;
        let n = test.labels.numel() as f64;
        Ok((sums.double_value(&[0]) / n, 100.0 * sums.double_value(&[1]) / n))
    }

    /// Writes the weights alone, beside and renamed.
    pub fn save_weights(&self, path: &Path) -> Result<()> {
        let folder = path.parent().context("a folder for the weights")?;
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // as any new file
        let writing = builder.prefix(".writing-").suffix(".safetensors").tempfile_in(folder)?;
        self.vs.save(writing.path()).with_context(|| path.display().to_string())?;
        let context = || format!("{}: cannot be written", path.display());
        writing.as_file().sync_all().with_context(context)?;
        writing.persist(path).with_context(context)?;
        Ok(())
    }

    /// Writes weights, optimizer state and second moments into a folder.
    pub fn save(&mut self, folder: &Path) -> Result<()> {
        self.vs.save(folder.join(WEIGHTS)).context(WEIGHTS)?;
        self.optimizer.save(folder)?;
        Tensor::write_safetensors(&[(LOSS_SUM, &self.loss_sum)], folder.join(LOSSES)).context(LOSSES)?;
        self.method.save(folder)
    }

    /// Reads what [`save`](Self::save) has written.
    pub fn load(&mut self, folder: &Path) -> Result<()> {
        self.vs.load(folder.join(WEIGHTS)).context(WEIGHTS)?;
        self.optimizer.load(folder)?;
        let path = folder.join(LOSSES);
        let losses = Tensor::read_safetensors(&path).context(LOSSES)?;
        let sum = losses.iter().find(|(name, _)| name == LOSS_SUM).map(|(_, sum)| sum);
        let sum = sum.with_context(|| format!("{}: '{LOSS_SUM}' is missing", path.display()))?;
        self.loss_sum.f_copy_(sum).with_context(|| format!("{}: '{LOSS_SUM}'", path.display()))?;
        self.method.load(folder)
    }
}

/// The logits of each answer in a row: of each sample, or of each of its words.
fn one_by_one(logits: &Tensor) -> Tensor {
    logits.to_kind(Kind::Float).flatten(0, -2)
}

/// The files of a checkpoint.
const WEIGHTS: &str = "weights.safetensors";
const LOSSES: &str = "losses.safetensors";
const LOSS_SUM: &str = "loss_sum";
