//! A training step of ResNet-20 at batch 128 with TSO-ALRA, beside tch's SGD.
//!
//! Few of its steps do all that it does, so its parts are timed: a step that applies the roots, one that updates the second
//! moments as well, and a decomposition of all layers. A step of some intervals is made of these, round by round. One
//! stretch of steps as they come says whether that is what a user has.

mod support;
#[path = "support/training.rs"]
mod training;

use criterion::Criterion;
use std::time::Instant;
use support::{Routine, Summary, device, in_turn, synchronize};
use tch::nn::{self, Module};
use tch::{Kind, Tensor};
use tch_svgd::functional::tso_alra::inverse_roots;
use tch_svgd::{Damping, TsoAlra, TsoAlraConfig};
use training::{Batch, Method, Trainer};

const BATCH: i64 = 128;
/// Decompositions are of real second moments: after so many steps.
const WARMUP: u64 = 3;

/// A trainer whose steps have these intervals, with the first decomposition behind it.
fn trainer(interval: u64, stats_interval: u64, batch: &Batch) -> (TsoAlra, Trainer) {
    let tso = TsoAlra::new(TsoAlraConfig { interval, stats_interval, warmup: WARMUP, ..Default::default() }).unwrap();
    let mut trainer = Trainer::of_tso_alra(&tso);
    for _ in 0..WARMUP {
        trainer.step(batch);
        tso.step();
    }
    (tso, trainer)
}

/// All layers' matrices in one call, which deals them out to the threads, and in a call each, whose threads LAPACK has.
fn decompositions(criterion: &mut Criterion, summary: &mut Summary) {
    // Of ResNet-20's convolutions: what they see, and their channels.
    let sizes = [(27, 1), (144, 7), (288, 6), (576, 5), (16, 7), (32, 6), (64, 6)];
    let factors: Vec<Tensor> = (sizes.into_iter().flat_map(|(n, layers)| (0..layers).map(move |_| n)))
        .map(|n: i64| {
            let rows = Tensor::randn([4 * n, n], (Kind::Float, device()));
            rows.tr().matmul(&rows) / (4 * n) as f64
        })
        .collect();
    let roots: Vec<Tensor> = factors.iter().map(Tensor::zeros_like).collect();
    let decompose = |factors: &[&Tensor], roots: &[&Tensor]| {
        inverse_roots(factors, roots, 1e-2, Damping::Relative).unwrap();
    };
    let [all_factors, all_roots] = [&factors, &roots].map(|tensors| tensors.iter().collect::<Vec<_>>());
    let routines: Vec<Routine> = vec![
        ("together", Box::new(|| decompose(&all_factors, &all_roots))),
        ("apart", Box::new(|| factors.iter().zip(&roots).for_each(|(factor, root)| decompose(&[factor], &[root])))),
    ];
    if let Some(times) = in_turn(criterion, "tso_alra", "decompositions", 0, routines) {
        summary.ratio("decompositions_together", times.ratio("together", "apart"));
        summary.fact("decompositions_apart/milliseconds", times.median("apart") * 1e3, "ms");
    }
}

/// A pass through a wide layer whose gradient goes between two roots, beside tch's own.
fn wide_layer(criterion: &mut Criterion, summary: &mut Summary) {
    const ROWS: i64 = 128;
    const WIDTH: i64 = 2_048;
    let vs = nn::VarStore::new(device());
    let tso =
        TsoAlra::new(TsoAlraConfig { interval: u64::MAX, stats_interval: u64::MAX, warmup: 1, ..Default::default() });
    let tso = tso.unwrap();
    let hatted = tso.linear(vs.root() / "hatted", WIDTH, WIDTH, Default::default());
    let plain = nn::linear(vs.root() / "plain", WIDTH, WIDTH, Default::default());
    let input = Tensor::randn([ROWS, WIDTH], (Kind::Float, device()));
    let pass = |layer: &dyn Module| layer.forward(&input).square().mean(None).backward();
    pass(&hatted);
    tso.step();
    let routines: Vec<Routine> = vec![("applied", Box::new(|| pass(&hatted))), ("tch", Box::new(|| pass(&plain)))];
    if let Some(times) = in_turn(criterion, "tso_alra", "wide_layer", 0, routines) {
        summary.ratio("wide_layer", times.ratio("applied", "tch"));
    }
}

fn main() {
    let mut criterion = Criterion::default().sample_size(50).configure_from_args();
    let mut summary = Summary::new("tso_alra_step");
    decompositions(&mut criterion, &mut summary);
    wide_layer(&mut criterion, &mut summary);
    let batch = Batch::cifar10(BATCH);
    let mut sgd = Trainer::resnet20(Method::Sgd, 1);
    let (_, mut applying) = trainer(u64::MAX, u64::MAX, &batch);
    let (every_step, mut updating) = trainer(1, 1, &batch);
    let routines: Vec<Routine> = vec![
        ("applied", Box::new(|| applying.step(&batch))),
        ("updated", Box::new(|| updating.step(&batch))),
        (
            "decomposed",
            Box::new(|| {
                every_step.step();
            }),
        ),
        ("sgd", Box::new(|| sgd.step(&batch))),
    ];
    let Some(times) = in_turn(&mut criterion, "tso_alra", "resnet20_128", 0, routines) else { return summary.write() };
    // Of `interval` steps one is followed by a decomposition, of `stats_interval` one updates the second moments.
    let step = |interval: f64, stats_interval: f64| {
        let (updates, decompositions) = (1.0 / stats_interval, 1.0 / interval);
        let parts = [(1.0 - updates, "applied"), (updates, "updated"), (decompositions, "decomposed")];
        times.ratio_of_sum(&parts, "sgd")
    };
    summary.ratio("", step(100.0, 10.0));
    for (name, interval, stats_interval) in [
        ("interval_10", 10.0, 10.0),
        ("interval_1", 1.0, 10.0),
        ("stats_interval_1", 100.0, 1.0),
        ("interval_1_stats_interval_1", 1.0, 1.0),
    ] {
        summary.ratio(name, step(interval, stats_interval));
    }
    let milliseconds = |name: &str| times.median(name) * 1e3;
    summary.fact("sgd/milliseconds", milliseconds("sgd"), "ms");
    summary.fact("application/milliseconds", milliseconds("applied") - milliseconds("sgd"), "ms");
    summary.fact("statistics/milliseconds", milliseconds("updated") - milliseconds("applied"), "ms");
    summary.fact("decomposition/milliseconds", milliseconds("decomposed"), "ms");
    summary.fact("state", every_step.state_bytes() as f64, "bytes");

    // As they come: a hundred steps, of which ten update and one decomposes.
    let (tso, mut as_it_comes) = trainer(100, 10, &batch);
    let stretch = |step: &mut dyn FnMut()| {
        synchronize(device());
        let start = Instant::now();
        (0..100).for_each(|_| step());
        synchronize(device());
        start.elapsed().as_secs_f64()
    };
    let with = stretch(&mut || {
        as_it_comes.step(&batch);
        tso.step();
    });
    let without = stretch(&mut || sgd.step(&batch));
    summary.fact("a_hundred_steps", with / without, "times those of sgd");
    summary.write();
    criterion.final_summary();
}
