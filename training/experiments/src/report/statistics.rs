//! Many seeds in few numbers.

use crate::curve::{Evaluation, best};
use crate::run::Run;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// A quantity over the seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
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

/// Of intervals.
const CONFIDENCE: f64 = 0.95;
/// The fewest values that an interval or a test is made of: of two it would be too wide to say anything.
const FEWEST: usize = 3;

/// From where to where a mean may lie: a confidence interval, by Student's t.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// That of the mean of a sample. None of too few values, or where one is no number.
    pub fn of_mean(values: &[f64]) -> Option<Interval> {
        let Estimate { mean, error, student } = Estimate::of(values)?;
        let reach = student.inverse_cdf(0.5 + CONFIDENCE / 2.0) * error;
        Some(Interval { low: mean - reach, high: mean + reach })
    }
}

/// A paired t-test: whether the mean of differences may be 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Test {
    pub t: f64,
    /// Of both sides.
    pub p: f64,
}

impl Test {
    /// That of the differences of each first value to its second. None of too few pairs, where a value is no number, or
    /// where the differences are all the same, of which there is no t.
    pub fn of_pairs(pairs: &[(f64, f64)]) -> Option<Test> {
        let differences: Vec<f64> = pairs.iter().map(|(left, right)| left - right).collect();
        let Estimate { mean, error, student } = Estimate::of(&differences)?;
        // Differences of decimals that are the same are so up to rounding.
        let rounding = pairs.iter().fold(0.0, |most: f64, (left, right)| most.max(left.abs()).max(right.abs())) * 1e-12;
        (error > rounding).then(|| Test { t: mean / error, p: 2.0 * student.sf((mean / error).abs()) })
    }
}

/// The mean of a sample, its standard error, and the distribution of what it is off by in units of that.
struct Estimate {
    mean: f64,
    error: f64,
    student: StudentsT,
}

impl Estimate {
    fn of(values: &[f64]) -> Option<Estimate> {
        if values.len() < FEWEST || !values.iter().all(|value| value.is_finite()) {
            return None;
        }
        let Spread { mean, deviation, .. } = Spread::of(values.iter().copied())?;
        let n = values.len() as f64;
        Some(Estimate { mean, error: deviation? / n.sqrt(), student: StudentsT::new(0.0, 1.0, n - 1.0).ok()? })
    }
}

/// The p of several tests, adjusted after Holm: where all below a level are rejected, the probability that any of them is
/// rejected wrongly is below that level, too.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&left, &right| p[left].total_cmp(&p[right]));
    let (mut adjusted, mut largest) = (vec![0.0; p.len()], 0.0f64);
    for (rank, place) in order.into_iter().enumerate() {
        largest = largest.max(p[place] * (p.len() - rank) as f64).min(1.0);
        adjusted[place] = largest;
    }
    adjusted
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_close(left: f64, right: f64) {
        assert!((left - right).abs() <= 1e-9 * right.abs(), "{left} is not {right}");
    }

    const LEFT: [f64; 5] = [1.68, 1.69, 1.60, 1.70, 1.61];
    const RIGHT: [f64; 5] = [1.71, 1.80, 1.62, 1.66, 1.75];

    fn pairs(left: &[f64], right: &[f64]) -> Vec<(f64, f64)> {
        left.iter().copied().zip(right.iter().copied()).collect()
    }

    /// scipy 1.17.1: `stats.t.interval(0.95, len(x) - 1, np.mean(x), stats.sem(x))`.
    #[test]
    fn an_interval_is_that_of_scipy() {
        for (values, low, high) in [
            (&[10.0, 12.0, 17.0][..], 4.043314104970403, 21.956685895029597),
            (&LEFT, 1.5973650552120084, 1.7146349447879918),
        ] {
            let interval = Interval::of_mean(values).unwrap();
            assert_close(interval.low, low);
            assert_close(interval.high, high);
        }
    }

    /// scipy 1.17.1: `stats.ttest_rel(left, right)`.
    #[test]
    fn a_paired_test_is_that_of_scipy() {
        let test = Test::of_pairs(&pairs(&LEFT, &RIGHT)).unwrap();
        assert_close(test.t, -1.6017068694476133);
        assert_close(test.p, 0.1844778666036695);
        // Far out, where 1 - cdf has no digits left: stats.ttest_1samp([1 + k / 100 for k in range(-8, 9)], 0).
        let pairs: Vec<(f64, f64)> = (-8..9).map(|k| (1.0 + f64::from(k) / 100.0, 0.0)).collect();
        let test = Test::of_pairs(&pairs).unwrap();
        assert_close(test.t, 81.64965809277255);
        assert_close(test.p, 2.122866707409793e-22);
    }

    #[test]
    fn what_cannot_be_tested_is_none_and_never_nan() {
        assert_eq!(Interval::of_mean(&[1.0, 2.0]), None);
        assert_eq!(Interval::of_mean(&[1.0, 2.0, f64::NAN]), None);
        assert_eq!(Interval::of_mean(&[2.5; 3]), Some(Interval { low: 2.5, high: 2.5 }));
        assert_eq!(Test::of_pairs(&pairs(&LEFT[..2], &RIGHT)), None);
        assert_eq!(Test::of_pairs(&[(1.0, 2.0), (2.0, 4.0), (f64::INFINITY, 1.0)]), None);
        assert_eq!(Test::of_pairs(&pairs(&LEFT, &LEFT)), None);
        // All 0.1, had 0.3 - 0.2 not other last bits than 0.2 - 0.1.
        assert_eq!(Test::of_pairs(&[(0.2, 0.1), (0.3, 0.2), (12.1, 12.0)]), None);
    }

    /// statsmodels 0.15.0: `multipletests(p, method="holm")[1]`.
    #[test]
    fn holm_adjusts_in_the_order_of_p() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (adjusted, expected) in adjusted.into_iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert_close(adjusted, expected);
        }
        assert_eq!(holm(&[0.7, 0.6]), [1.0, 1.0]);
        assert_eq!(holm(&[0.2]), [0.2]);
        assert!(holm(&[]).is_empty());
    }
}
