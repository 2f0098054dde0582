//! How the cost of SVGD grows: the ratio of a step to SGD's over the batch size and over the width of the model.

mod support;
#[path = "support/training.rs"]
mod training;

use criterion::Criterion;
use support::Summary;
use training::{Batch, Method, Trainer};

const METHODS: [Method; 3] = [Method::SvgdElement, Method::SvgdChannel, Method::Sgd];

fn bench(criterion: &mut Criterion, summary: &mut Summary, name: String, batch: i64, width: i64) {
    // New models for each case: the accumulators and libtorch's buffers have its sizes.
    let mut trainers: Vec<_> = METHODS.into_iter().map(|method| (method, Trainer::resnet20(method, width))).collect();
    let times = training::times(criterion, "growth", &name, &mut trainers, &Batch::cifar10(batch));
    let Some(times) = times else { return };
    for method in [Method::SvgdElement, Method::SvgdChannel] {
        summary.ratio(&format!("{name}/{}", method.name()), times.ratio(method.name(), "sgd"));
    }
}

fn main() {
    let mut criterion = Criterion::default().sample_size(30).configure_from_args();
    let mut summary = Summary::new("growth");
    for batch in [32, 64, 128, 256, 512] {
        bench(&mut criterion, &mut summary, format!("batch_{batch}"), batch, 1);
    }
    for width in 1..=4 {
        bench(&mut criterion, &mut summary, format!("width_{width}"), 64, width);
    }
    summary.write();
    criterion.final_summary();
}
