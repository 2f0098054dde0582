//! Many seeds in few numbers.

use crate::curve::{Evaluation, best};
use crate::run::Run;

/// A quantity over the seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub mean: f64,
    /// The sample standard deviation, which one value does not have.
    pub deviation: Option<f64>,
    pub least: f64,
    pub largest: f64,
}

impl Spread {
    /// None of no values. A value that is no number makes the mean none, too: it is not left out.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let values: Vec<f64> = values.into_iter().collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (!values.is_empty()).then(|| Spread {
            mean,
            deviation: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()),
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            largest: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

/// The last test error of a curve.
pub fn final_error(curve: &[Evaluation]) -> Option<f64> {
    curve.last().map(|row| row.test_error)
}

/// The test error of a curve's best test: the least, or that of the least validation error.
pub fn best_error(curve: &[Evaluation]) -> Option<f64> {
    best(curve).map(|row| row.test_error)
}

/// Where a curve first has this test error or less.
pub fn reaching(curve: &[Evaluation], error: f64) -> Option<&Evaluation> {
    curve.iter().find(|row| row.test_error <= error)
}

/// Curves of several seeds in one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub step: usize,
    /// The mean.
    pub seconds: f64,
    pub value: Spread,
}

/// A quantity at the steps that all runs have evaluated, over the seeds where it is a number.
pub fn over_seeds(runs: &[&Run], quantity: fn(&Evaluation) -> f64) -> Vec<Point> {
    let Some((first, others)) = runs.split_first() else { return Vec::new() };
    let at = |run: &Run, step| run.curve.iter().find(|row| row.step == step).copied();
    let point = |row: &Evaluation| {
        let mut rows = vec![*row];
        for run in others {
            rows.push(at(run, row.step)?);
        }
        let value = Spread::of(rows.iter().map(quantity).filter(|value| value.is_finite()))?;
        Some(Point { step: row.step, seconds: Spread::of(rows.iter().map(|row| row.seconds))?.mean, value })
    };
    first.curve.iter().filter_map(point).collect()
}
