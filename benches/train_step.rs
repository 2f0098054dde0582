//! A training step of ResNet-20 at batch 128: SVGD at both granularities and tch's Adam beside tch's SGD. And one of the
//! paper's MLP at batch 32, whose layers are so small that a step is mostly the calls of their operators.
//!
//! The differences are a hundredth of a step or so, whose time varies by more than that from one to the next. So what each
//! method adds to a step is timed alone as well.

mod support;
#[path = "support/training.rs"]
mod training;

use criterion::Criterion;
use std::time::Instant;
use support::{Summary, device, in_turn, quantile, synchronize};
use tch::{Kind, Tensor};
use tch_svgd::functional::{self, Hyperparameters};
use training::{Batch, Method, Trainer};

const BATCH: i64 = 128;
/// The outputs of ResNet-20's convolutions, and how many convolutions have them.
const OUTPUTS: [([i64; 4], f64); 3] =
    [([BATCH, 16, 32, 32], 7.0), ([BATCH, 32, 16, 16], 6.0), ([BATCH, 64, 8, 8], 6.0)];
/// Repetitions of what is timed alone.
const REPETITIONS: usize = 50;

/// The gradient of an output, and an accumulator for each granularity.
struct Case {
    gradient: Tensor,
    element: Tensor,
    channel: Tensor,
}

/// The median milliseconds of `work` on gradients that have just been written, over all outputs together.
fn milliseconds(work: impl Fn(&Case)) -> f64 {
    let of_output = |size: &[i64; 4]| {
        let written = Tensor::randn(size, (Kind::Float, device())) * 1e-3;
        let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, device()));
        let [gradient, element, channel] = [&size[..], &size[1..], &size[1..2]].map(zeros);
        let mut case = Case { gradient, element, channel };
        let seconds = (0..REPETITIONS).map(|_| {
            case.gradient.copy_(&written);
            synchronize(device());
            let start = Instant::now();
            work(&case);
            synchronize(device());
            start.elapsed().as_secs_f64()
        });
        quantile(seconds.collect(), 0.5)
    };
    OUTPUTS.iter().map(|(size, layers)| layers * of_output(size)).sum::<f64>() * 1e3
}

/// What the virtual gradients of a step take, beside the least that reading these gradients takes, and the least that
/// reading them and writing as much takes.
fn transforms_alone(summary: &mut Summary) {
    let hyper = Hyperparameters::default();
    let element = milliseconds(|case| drop(functional::virtual_grad(&case.gradient, &case.element, hyper).unwrap()));
    let channel = milliseconds(|case| functional::update_second_moment(&case.gradient, &case.channel, hyper).unwrap());
    summary.fact("alone/svgd_element", element, "ms");
    summary.fact("alone/svgd_channel", channel, "ms");
    summary.fact("alone/sum", milliseconds(|case| drop(case.gradient.sum(Kind::Float))), "ms");
    summary.fact("alone/relu", milliseconds(|case| drop(case.gradient.relu())), "ms");
}

/// What the optimizers take after the backward pass.
fn optimizers_alone(summary: &mut Summary, trainers: &mut [(Method, Trainer)], batch: &Batch) {
    for (method, trainer) in trainers {
        let seconds = (0..REPETITIONS).map(|_| trainer.optimizer_time(batch).as_secs_f64()).collect();
        summary.fact(&format!("optimizer/{}", method.name()), quantile(seconds, 0.5) * 1e3, "ms");
    }
}

fn small_steps(criterion: &mut Criterion, summary: &mut Summary) {
    // Several at a time: one is too short to be timed.
    const STEPS: usize = 20;
    let batch = Batch::mnist(32);
    let mut trainers = [
        ("mlp_svgd", Method::SvgdElement),
        ("mlp_sgd", Method::Sgd),
        ("mlp_adam", Method::Adam),
        ("mlp_nothing", Method::Nothing),
    ]
    .map(|(name, method)| (name, Trainer::mlp(method)));
    let routines = trainers.iter_mut().map(|(name, trainer)| {
        let routine: Box<dyn FnMut()> = Box::new(|| (0..STEPS).for_each(|_| trainer.step(&batch)));
        (*name, routine)
    });
    let Some(times) = in_turn(criterion, "train_step", "mlp_32", 0, routines.collect()) else { return };
    for name in ["mlp_svgd", "mlp_adam", "mlp_nothing"] {
        summary.ratio(name, times.ratio(name, "mlp_sgd"));
    }
    for name in ["mlp_sgd", "mlp_svgd", "mlp_adam", "mlp_nothing"] {
        summary.fact(&format!("{name}/microseconds"), times.median(name) * 1e6 / STEPS as f64, "us");
    }
}

fn main() {
    let mut criterion = Criterion::default().sample_size(200).configure_from_args();
    let mut summary = Summary::new("train_step");
    let batch = Batch::cifar10(BATCH);
    let mut trainers: Vec<_> = Method::ALL.into_iter().map(|method| (method, Trainer::resnet20(method, 1))).collect();
    if let Some(times) = training::times(&mut criterion, "train_step", "resnet20_128", &mut trainers, &batch) {
        for (method, trainer) in &trainers {
            if *method != Method::Sgd {
                summary.ratio(method.name(), times.ratio(method.name(), "sgd"));
            }
            summary.fact(&format!("{}/milliseconds", method.name()), times.median(method.name()) * 1e3, "ms");
            summary.fact(&format!("{}/state", method.name()), trainer.state_bytes(*method) as f64, "bytes");
        }
        transforms_alone(&mut summary);
        optimizers_alone(&mut summary, &mut trainers, &batch);
    }
    small_steps(&mut criterion, &mut summary);
    summary.write();
    criterion.final_summary();
}
