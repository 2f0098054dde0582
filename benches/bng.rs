//! A training step of ResNet-20 at batch 128 whose gradients are block-normalized, beside the same without.

mod support;
#[path = "support/training.rs"]
mod training;

use criterion::Criterion;
use support::{Routine, Summary, device, in_turn};
use tch::nn;
use tch_svgd::optim::{Optim, Rule, Sgd};
use tch_svgd::{BlockNormalizer, BngConfig, Normalization, Plain};
use training::{Batch, Model, ResNet20};

const BATCH: i64 = 128;

/// A model with its optimizer, and with what is done to its gradients.
struct Trainer {
    model: ResNet20,
    optimizer: Optim<Sgd>,
    normalizer: Option<BlockNormalizer>,
    _vs: nn::VarStore,
}

impl Trainer {
    fn new(normalization: Option<Normalization>) -> Self {
        let vs = nn::VarStore::new(device());
        let model = ResNet20::new(&Plain, &vs.root(), 10);
        let optimizer = Sgd { momentum: 0.9, weight_decay: 1e-4, ..Default::default() }.build(&vs, 0.01).unwrap();
        let config = normalization.map(|normalization| BngConfig { normalization, ..Default::default() });
        let normalizer = config.map(|config| BlockNormalizer::new(&vs, config).unwrap());
        Self { model, optimizer, normalizer, _vs: vs }
    }

    fn step(&mut self, batch: &Batch) {
        let loss = batch.loss(&self.model);
        match &self.normalizer {
            Some(normalizer) => normalizer.backward_step(&mut self.optimizer, &loss),
            None => self.optimizer.backward_step(&loss),
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().sample_size(150).configure_from_args();
    let mut summary = Summary::new("bng_step");
    let batch = Batch::cifar10(BATCH);
    let mut plain = Trainer::new(None);
    let mut unit = Trainer::new(Some(Normalization::Unit));
    let mut adaptive = Trainer::new(Some(Normalization::Adaptive { alpha: 0.02 }));
    // A normalization alone, of gradients that are there.
    let mut alone = Trainer::new(Some(Normalization::Unit));
    alone.step(&batch);
    let normalizer = alone.normalizer.as_ref().expect("made with one");
    let routines: Vec<Routine> = vec![
        ("unit", Box::new(|| unit.step(&batch))),
        ("adaptive", Box::new(|| adaptive.step(&batch))),
        ("plain", Box::new(|| plain.step(&batch))),
        ("alone", Box::new(|| normalizer.normalize())),
    ];
    if let Some(times) = in_turn(&mut criterion, "bng", "resnet20_128", 0, routines) {
        summary.ratio("", times.ratio("unit", "plain"));
        summary.ratio("adaptive", times.ratio("adaptive", "plain"));
        summary.fact("alone/milliseconds", times.median("alone") * 1e3, "ms");
    }
    summary.write();
    criterion.final_summary();
}
