//! The training loop: one optimizer, from the seed to the last evaluation.

use super::dataset::{Batches, Dataset, Split, whiten};
use super::initialise::{initialise, is_batch_norm};
use super::model::Model;
use super::options::{OptimizerKind, Options};
use super::report::{Evaluation, Report, Run};
use super::schedule::Schedule;
use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use tch_svgd::{Plain, Svgd, SvgdConfig};

/// The penalty on the absolute values of kernels, dense weights and biases (the paper's for this model).
const L1: f64 = 1e-4;
/// The most images in a batch of the test set: the authors'.
const TEST_BATCH: usize = 1000;
/// Steps between looks at the loss: each waits for the device.
const LOOK_EVERY: usize = 10;

/// Trains a new model. The same seed gives every optimizer the same weights and the same batches.
pub fn train<M: Model>(
    kind: OptimizerKind,
    options: &Options,
    data: &Dataset,
    device: Device,
    report: &Report,
    interrupted: &AtomicBool,
) -> Result<Run> {
    tch::manual_seed(options.seed as i64);
    let data = &data.to_device(device);
    let mut batches = Batches::new(data, options.batch_size.get(), ChaCha8Rng::seed_from_u64(options.seed));
    let schedule = Schedule::new(kind, options, batches.per_epoch());
    let eval_every = options.eval_every.map_or(batches.per_epoch(), |steps| steps.get());

    let vs = nn::VarStore::new(device);
    let svgd = Svgd::new(SvgdConfig { scale: options.scale, ..Default::default() })?;
    let model = match kind {
        OptimizerKind::Svgd => M::new(&svgd, &vs.root(), data.classes),
        _ => M::new(&Plain, &vs.root(), data.classes),
    };
    let parameters: usize = vs.trainable_variables().iter().map(Tensor::numel).sum();
    ensure!(data.classes != 10 || parameters == M::PARAMETERS, "{} has {parameters} parameters", M::NAME);
    initialise(&vs);
    let penalized: Vec<Tensor> =
        vs.variables().into_iter().filter(|(name, _)| !is_batch_norm(name)).map(|(_, variable)| variable).collect();
    let mut optimizer = build_optimizer(kind, &vs, schedule.rate(0))?;

    let mut csv = report.curve(kind)?;
    let mut run = Run::new(kind, batches.batch_size());
    let bar = progress_bar(kind, schedule.steps);
    let mut loss_sum = Tensor::zeros([], (Kind::Float, device));
    let (mut losses, mut training) = (0, Duration::ZERO);
    let mut error_text = String::from("-");
    let mut since = Instant::now();
    for step in 1..=schedule.steps {
        optimizer.set_lr(schedule.rate(step - 1));
        let (images, labels) = batches.next();
        let loss = model.forward(&images).cross_entropy_for_logits(&labels);
        let penalty = Tensor::stack(&penalized.iter().map(|w| w.abs().sum(Kind::Float)).collect::<Vec<_>>(), 0);
        optimizer.backward_step(&(&loss + penalty.sum(Kind::Float) * L1));
        loss_sum += loss.detach();
        losses += 1;

        run.steps = step;
        let stopping = step == schedule.steps || interrupted.load(Ordering::Relaxed);
        let due = step % eval_every == 0 || stopping;
        if !due && step % LOOK_EVERY != 0 {
            continue;
        }
        let train_loss = loss_sum.double_value(&[]) / f64::from(losses);
        training += since.elapsed();
        let diverged = !train_loss.is_finite();
        let evaluating = due || diverged;
        let per_second = (step * run.batch_size) as f64 / training.as_secs_f64();
        if evaluating {
            bar.set_message("testing");
            let (test_loss, test_error) = evaluate(&model, &data.test);
            let epoch = step as f64 / batches.per_epoch() as f64;
            let seconds = training.as_secs_f64();
            let row = Evaluation { step, epoch, train_loss, test_loss, test_error, seconds };
            csv.append(&row)?;
            run.evaluations.push(row);
            error_text = format!("{test_error:.2} %");
            (loss_sum, losses) = (loss_sum.zeros_like(), 0);
        }
        bar.set_position(step as u64);
        bar.set_message(format!("loss {train_loss:.3}, test error {error_text}, {per_second:.0} images/s"));
        if diverged {
            run.note = Some(format!("diverged by step {step}"));
            break;
        }
        if stopping {
            if step < schedule.steps {
                run.note = Some(format!("interrupted at step {step}"));
            }
            break;
        }
        since = Instant::now();
    }
    bar.finish_and_clear();
    run.ms_per_step = training.as_secs_f64() * 1e3 / run.steps as f64;
    let bytes = 4 * parameters;
    run.state_bytes = match kind {
        OptimizerKind::Sgd => 0,
        OptimizerKind::Momentum | OptimizerKind::Rmsprop => bytes,
        OptimizerKind::Adam => 2 * bytes,
        OptimizerKind::Svgd => svgd.state_bytes(),
    };
    println!("{}", run.summary());
    Ok(run)
}

fn build_optimizer(kind: OptimizerKind, vs: &nn::VarStore, rate: f64) -> Result<nn::Optimizer> {
    Ok(match kind {
        OptimizerKind::Sgd | OptimizerKind::Svgd => nn::Sgd::default().build(vs, rate)?,
        OptimizerKind::Momentum => nn::Sgd { momentum: 0.9, ..Default::default() }.build(vs, rate)?,
        OptimizerKind::Rmsprop => nn::RmsProp { alpha: 0.9, ..Default::default() }.build(vs, rate)?,
        OptimizerKind::Adam => nn::Adam::default().build(vs, rate)?,
    })
}

/// The mean cross-entropy, and the share of wrong answers in per cent. Batch norm sees test images in batches of equal
/// size, whatever the training batch is.
fn evaluate(model: &impl Module, test: &Split) -> (f64, f64) {
    tch::no_grad(|| {
        let (mut loss, mut wrong) = (0.0, 0.0);
        let batches = test.len().div_ceil(TEST_BATCH) as i64;
        for (images, labels) in test.images.chunk(batches, 0).iter().zip(test.labels.chunk(batches, 0)) {
            let logits = model.forward(&whiten(images));
            loss += logits.cross_entropy_for_logits(&labels).double_value(&[]) * labels.numel() as f64;
            wrong += logits.argmax(1, false).ne_tensor(&labels).sum(Kind::Float).double_value(&[]);
        }
        let n = test.len() as f64;
        (loss / n, 100.0 * wrong / n)
    })
}

fn progress_bar(kind: OptimizerKind, steps: usize) -> ProgressBar {
    if !std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix:>8} {bar:30} {pos}/{len} {msg}, {eta} left");
    ProgressBar::new(steps as u64).with_style(style.expect("a valid template")).with_prefix(kind.name())
}
