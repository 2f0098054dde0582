//! The numbers of the report: what its tables show, and what report.json holds.

use super::section::{Row, Section};
use super::statistics::{Interval, Spread, Test, best_error, final_error, holm, reaching};
use crate::curve::Evaluation;
use crate::optimizer::OptimizerKind;
use crate::record::Conditions;
use crate::run::Run;
use serde::Serialize;

/// What report.json's `format` says.
pub const FORMAT: u32 = 1;

/// report.json. A number that is none, such as the deviation of one value or a loss that is infinite, is null in it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub format: u32,
    /// The sections, in the order of report.md.
    pub experiments: Vec<Numbers>,
}

/// Those of a section: of runs of one model on one data set by one schedule.
#[derive(Debug, Serialize)]
pub struct Numbers {
    /// The name of the experiment.
    pub experiment: String,
    pub model: String,
    pub data: String,
    pub batch_size: usize,
    pub planned_steps: usize,
    pub decay_at: Option<[usize; 2]>,
    /// The share of the paper's steps, where the schedule is the paper's.
    pub budget: Option<f64>,
    /// The file of the figure.
    pub figure: Option<String>,
    /// The label of the row that the others are compared with, where there are two of whole runs at least.
    pub baseline: Option<String>,
    /// The rows of the tables.
    pub optimizers: Vec<OfRow>,
}

/// Those of a row: of runs that differ in the seed alone. Errors are in per cent.
#[derive(Debug, Serialize)]
pub struct OfRow {
    pub optimizer: OptimizerKind,
    /// The optimizer, and what tells the row from others.
    pub label: String,
    /// As in run.json.
    pub conditions: Conditions,
    /// Of the first seed: early stopping ends each in its own time.
    pub steps: usize,
    pub state_bytes: usize,
    /// Why its runs are shorter than they were to be, if they are.
    pub cut_short: Option<String>,
    pub final_error: Option<Spread>,
    /// The 95 % confidence interval of the mean of the final error, of three seeds or more.
    pub final_error_interval: Option<Interval>,
    /// To the baseline, where both are of whole runs.
    pub difference: Option<Difference>,
    /// Of the best tests: those of the least validation error, or, where there is none, those of the least test error,
    /// which the test samples chose.
    pub best_error: Option<Spread>,
    /// The paper's, which is that of the best test of one run.
    pub paper_error: Option<f64>,
    pub final_test_loss: Option<Spread>,
    pub ms_per_step: Option<Spread>,
    /// Of each error level of the experiment.
    pub crossings: Vec<Crossing>,
    pub seeds: Vec<OfRun>,
}

/// Those of a run.
#[derive(Debug, Clone, Serialize)]
pub struct OfRun {
    pub seed: u64,
    pub steps: usize,
    pub final_error: Option<f64>,
    pub best_error: Option<f64>,
    pub final_test_loss: Option<f64>,
    /// Of training alone.
    pub seconds: f64,
    /// The median, or the mean where that is not known.
    pub ms_per_step: Option<f64>,
    pub state_bytes: usize,
    /// Why it is shorter than it was to be, if it is.
    pub cut_short: Option<String>,
}

/// Where curves first have an error or less: means over those that get there.
#[derive(Debug, Serialize)]
pub struct Crossing {
    pub error: f64,
    /// How many get there.
    pub seeds: usize,
    pub steps: Option<f64>,
    pub seconds: Option<f64>,
}

/// The final errors of a row less those of the baseline, over the seeds that both have.
#[derive(Debug, Serialize)]
pub struct Difference {
    pub seeds: Vec<u64>,
    /// In points, of per cent.
    pub points: Option<Spread>,
    /// The 95 % confidence interval of their mean, of three pairs or more.
    pub interval: Option<Interval>,
    /// The paired t-test, of three pairs or more.
    pub test: Option<Test>,
    /// Its p adjusted after Holm for all tests of the section, where there are several.
    pub p_holm: Option<f64>,
}

impl Numbers {
    /// Those of a section. Without a `baseline`, and where the section has no whole run of it, the first row of whole
    /// runs is it.
    pub fn of(section: &Section, baseline: Option<OptimizerKind>, figure: Option<String>) -> Self {
        let mut optimizers: Vec<OfRow> = section.rows.iter().map(|row| OfRow::of(section, row)).collect();
        let Conditions { experiment, model, data, batch_size, planned_steps, decay_at, budget, .. } =
            section.record().conditions.clone();
        let baseline = compare(&mut optimizers, baseline);
        let data = data.name;
        Self { experiment, model, data, batch_size, planned_steps, decay_at, budget, figure, baseline, optimizers }
    }

    /// How many differences are tested.
    pub fn tests(&self) -> usize {
        let differences = self.optimizers.iter().filter_map(|row| row.difference.as_ref());
        differences.filter(|difference| difference.test.is_some()).count()
    }
}

/// Compares the rows of whole runs with one of them, whose label it returns.
fn compare(rows: &mut [OfRow], baseline: Option<OptimizerKind>) -> Option<String> {
    let whole: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].is_whole()).collect();
    let baseline =
        whole.iter().copied().find(|&row| Some(rows[row].optimizer) == baseline).or(whole.first().copied())?;
    let others: Vec<usize> = whole.into_iter().filter(|&row| row != baseline).collect();
    let mut differences: Vec<Difference> =
        others.iter().map(|&row| Difference::between(&rows[row], &rows[baseline])).collect();
    let tests: Vec<f64> = differences.iter().filter_map(|difference| Some(difference.test?.p)).collect();
    if tests.len() > 1 {
        let tested = differences.iter_mut().filter(|difference| difference.test.is_some());
        for (difference, p) in tested.zip(holm(&tests)) {
            difference.p_holm = Some(p);
        }
    }
    for (&row, difference) in others.iter().zip(differences) {
        rows[row].difference = Some(difference);
    }
    (!others.is_empty()).then(|| rows[baseline].label.clone())
}

impl OfRow {
    fn of(section: &Section, row: &Row) -> Self {
        let seeds: Vec<OfRun> = row.runs.iter().map(|run| OfRun::of(run)).collect();
        let over_seeds = |value: fn(&OfRun) -> Option<f64>| Spread::of(seeds.iter().filter_map(value));
        let final_errors: Vec<f64> = seeds.iter().filter_map(|run| run.final_error).collect();
        let curves: Vec<&[Evaluation]> = row.runs.iter().map(|run| run.curve.as_slice()).collect();
        let levels = section.experiment.error_levels;
        Self {
            optimizer: row.optimizer,
            label: row.label.clone(),
            conditions: row.record().conditions.clone(),
            steps: row.record().progress.steps,
            state_bytes: row.record().progress.state_bytes,
            cut_short: row.record().cut_short(),
            final_error: over_seeds(|run| run.final_error),
            final_error_interval: Interval::of_mean(&final_errors),
            difference: None,
            best_error: over_seeds(|run| run.best_error),
            paper_error: section.paper_error(row.optimizer),
            final_test_loss: over_seeds(|run| run.final_test_loss),
            ms_per_step: over_seeds(|run| run.ms_per_step),
            crossings: levels.iter().map(|&level| Crossing::of(level, &curves)).collect(),
            seeds,
        }
    }

    /// Whether its runs came to their ends: only these are compared.
    pub fn is_whole(&self) -> bool {
        self.cut_short.is_none()
    }
}

impl OfRun {
    /// Those of a run.
    pub fn of(run: &Run) -> Self {
        let progress = &run.record.progress;
        let mean = (progress.steps > 0).then(|| 1e3 * progress.seconds / progress.steps as f64);
        Self {
            seed: run.record.seed,
            steps: progress.steps,
            final_error: final_error(&run.curve),
            best_error: best_error(&run.curve),
            final_test_loss: run.curve.last().map(|row| row.test_loss),
            seconds: progress.seconds,
            ms_per_step: mean.map(|mean| progress.step_milliseconds.unwrap_or(mean)),
            state_bytes: progress.state_bytes,
            cut_short: run.record.cut_short(),
        }
    }
}

impl Crossing {
    /// That of an error level.
    pub fn of(level: f64, curves: &[&[Evaluation]]) -> Self {
        let there: Vec<&Evaluation> = curves.iter().filter_map(|curve| reaching(curve, level)).collect();
        let mean = |value: fn(&Evaluation) -> f64| Spread::of(there.iter().map(|row| value(row))).map(|of| of.mean);
        Self { error: level, seeds: there.len(), steps: mean(|row| row.step as f64), seconds: mean(|row| row.seconds) }
    }
}

impl Difference {
    fn between(row: &OfRow, baseline: &OfRow) -> Self {
        let (mut seeds, mut pairs) = (Vec::new(), Vec::new());
        for run in &row.seeds {
            let other = baseline.seeds.iter().find(|other| other.seed == run.seed);
            if let (Some(own), Some(others)) = (run.final_error, other.and_then(|other| other.final_error)) {
                seeds.push(run.seed);
                pairs.push((own, others));
            }
        }
        let points: Vec<f64> = pairs.iter().map(|(own, others)| own - others).collect();
        Self {
            seeds,
            points: Spread::of(points.iter().copied()),
            interval: Interval::of_mean(&points),
            test: Test::of_pairs(&pairs),
            p_holm: None,
        }
    }
}
