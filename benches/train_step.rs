//! A training step of ResNet-20 at batch 128: SVGD at both granularities and tch's Adam beside tch's SGD.

mod support;
#[path = "support/training.rs"]
mod training;

use criterion::Criterion;
use support::Summary;
use training::{Method, Trainer};

fn main() {
    let mut criterion = Criterion::default().sample_size(200).configure_from_args();
    let mut summary = Summary::new("train_step");
    let mut trainers: Vec<_> = Method::ALL.into_iter().map(|method| (method, Trainer::new(method, 1))).collect();
    let times = training::times(&mut criterion, "train_step", "resnet20_128", &mut trainers, 128);
    let Some(times) = times else { return };
    for (method, trainer) in &trainers {
        if *method != Method::Sgd {
            summary.ratio(method.name(), times.ratio(method.name(), "sgd"));
        }
        summary.fact(&format!("{}/milliseconds", method.name()), times.median(method.name()) * 1e3, "ms");
        summary.fact(&format!("{}/state", method.name()), trainer.state_bytes(*method) as f64, "bytes");
    }
    summary.write();
    criterion.final_summary();
}
