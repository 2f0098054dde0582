//! A step of each optimizer, of the parameters of ResNet-20 and of the paper's MLP, beside tch's own.

mod support;
#[path = "support/training.rs"]
mod training;

use criterion::Criterion;
use support::{Routine, Summary, device, in_turn};
use tch::nn::{self, OptimizerConfig};
use tch_svgd::Plain;
use tch_svgd::optim::{Adam, AdamW, Optim, RmsProp, Rule, Sgd};
use training::{Batch, Mlp, Model, ResNet20};

/// Gradients of a model, which stay, and an optimizer that applies them again and again at a rate of zero.
fn trainer<M: Model, O>(batch: &Batch, build: impl FnOnce(&nn::VarStore) -> O) -> (nn::VarStore, O) {
    let vs = nn::VarStore::new(device());
    let model = M::new(&Plain, &vs.root(), 10);
    batch.loss(&model).backward();
    let optimizer = build(&vs);
    (vs, optimizer)
}

fn compare<M: Model, R: Rule>(
    criterion: &mut Criterion,
    summary: &mut Summary,
    (model, name): (&'static str, &str),
    batch: &Batch,
    rule: R,
    config: impl OptimizerConfig,
) {
    let (_ours, mut ours): (_, Optim<R>) = trainer::<M, _>(batch, |vs| rule.build(vs, 0.0).unwrap());
    let (_theirs, mut theirs) = trainer::<M, _>(batch, |vs| config.build(vs, 0.0).unwrap());
    let routines: Vec<Routine> = vec![("tch_svgd", Box::new(|| ours.step())), ("tch", Box::new(|| theirs.step()))];
    let case = format!("{model}_{name}");
    if let Some(times) = in_turn(criterion, "optim", &case, 0, routines) {
        let place = if model == "resnet20" { name.to_owned() } else { case };
        summary.ratio(&place, times.ratio("tch_svgd", "tch"));
        summary.fact(&format!("{place}/tch_microseconds"), times.median("tch") * 1e6, "µs");
    }
}

fn of_model<M: Model>(criterion: &mut Criterion, summary: &mut Summary, model: &'static str, batch: &Batch) {
    let momentum = Sgd { momentum: 0.9, weight_decay: 1e-4, ..Default::default() };
    compare::<M, _>(criterion, summary, (model, "sgd_momentum"), batch, momentum, nn::sgd(0.9, 0.0, 1e-4, false));
    compare::<M, _>(criterion, summary, (model, "adam"), batch, Adam::default(), nn::Adam::default());
    compare::<M, _>(criterion, summary, (model, "adamw"), batch, AdamW::default(), nn::AdamW::default());
    compare::<M, _>(criterion, summary, (model, "rmsprop"), batch, RmsProp::default(), nn::RmsProp::default());
}

fn main() {
    let mut criterion = Criterion::default().sample_size(50).configure_from_args();
    let mut summary = Summary::new("optim");
    of_model::<ResNet20>(&mut criterion, &mut summary, "resnet20", &Batch::cifar10(8));
    of_model::<Mlp>(&mut criterion, &mut summary, "mlp", &Batch::mnist(8));
    summary.write();
    criterion.final_summary();
}
