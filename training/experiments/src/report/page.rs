//! What the report says, in the order in which it is read: the same whoever writes it.

use super::numbers::{Crossing, Difference, Numbers, OfRow};
use super::section::Section;
use super::statistics::{Interval, Spread, best_error, final_error};
use super::text::{duration, grouped, short};
use crate::curve::Evaluation;
use crate::record::Record;
use crate::run::Run;

/// The title of the report.
pub const TITLE: &str = "Training runs";

/// A piece of the report. Its texts are plain: whoever writes them escapes what must be.
pub enum Block {
    Heading(String),
    /// Lines, the first of which has words before it that stand out.
    Conditions {
        title: String,
        lines: Vec<String>,
    },
    Paragraph(Vec<String>),
    Figure(Figure),
    Table(Table),
    List {
        caption: String,
        items: Vec<String>,
    },
}

/// A figure, and the file that it is in.
pub struct Figure {
    pub file: String,
    pub svg: String,
    pub heading: String,
    /// For those who do not see it.
    pub description: String,
}

/// A table, whose first column has the names of its rows.
pub struct Table {
    pub caption: Option<String>,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// One section: its conditions, its figure, and its tables.
pub fn section(section: &Section, numbers: &Numbers, figure: Option<Figure>) -> Vec<Block> {
    let mut blocks =
        vec![Block::Conditions { title: section.title(), lines: vec![section.conditions(), section.rates()] }];
    blocks.extend(figure.map(Block::Figure));
    blocks.push(Block::Table(errors(section, numbers)));
    blocks.push(Block::Paragraph(explanation(section)));
    if let Some(table) = differences(numbers) {
        blocks.push(Block::Table(table));
        blocks.push(Block::Paragraph(vec![meaning(numbers)]));
    }
    blocks.push(Block::Table(levels(section, numbers)));
    if section.experiment.validation > 0.0 {
        blocks.push(Block::Table(losses(section)));
    }
    let runs = section.rows.iter().flat_map(|row| row.runs.iter().map(|run| (row.label.as_str(), &run.record)));
    let items: Vec<String> = runs.filter_map(|(label, record)| note(label, record)).collect();
    if !items.is_empty() {
        blocks.push(Block::List { caption: "Runs that ended before their time, or have not ended".to_owned(), items });
    }
    blocks
}

/// What the figure of a section shows.
pub fn description(section: &Section) -> String {
    let labels: Vec<&str> = section.rows.iter().map(|row| row.label.as_str()).collect();
    format!(
        "{}: test error and cross-entropy over training steps and over seconds, of {}. Their ends are in the tables.",
        section.heading(),
        labels.join("; ")
    )
}

fn note(label: &str, record: &Record) -> Option<String> {
    let reason = record.cut_short()?;
    // The label may end with the reason, too.
    let label = label.strip_suffix(&format!(", {reason}")).unwrap_or(label);
    Some(format!("{label}, seed {}: {reason}", record.seed))
}

/// What the published numbers are of, where that is not what the rows are of.
fn mark(section: &Section) -> &'static str {
    if section.is_comparable() { "" } else { " (of the whole schedule)" }
}

fn errors(section: &Section, numbers: &Numbers) -> Table {
    let mark = mark(section);
    let mut header = ["optimizer", "seeds", "final test error, %", "best test error, %"].map(str::to_owned).to_vec();
    if section.has_published_errors() {
        header.push(format!("paper's table, best %{mark}"));
    }
    if !section.authors.is_empty() {
        header.push(format!("authors' log, final and best %{mark}"));
    }
    header.extend(["ms/step", "optimizer state, bytes", "steps"].map(str::to_owned));
    let rows = numbers.optimizers.iter().map(|row| {
        let mut cells = vec![row.label.clone(), row.seeds.len().to_string()];
        cells.extend([row.final_error, row.best_error].map(mean_and_deviation));
        if section.has_published_errors() {
            cells.push(percent(row.paper_error));
        }
        if !section.authors.is_empty() {
            let curve = section.authors.get(&row.optimizer);
            let errors = curve.map(|curve| [final_error(curve), best_error(curve)].map(percent).join(", "));
            cells.push(errors.unwrap_or("-".to_owned()));
        }
        cells.extend([ms_per_step(row), grouped(row.state_bytes), steps(row)]);
        cells
    });
    Table { caption: None, header, rows: rows.collect() }
}

fn percent(error: Option<f64>) -> String {
    dash(error, |error| format!("{error:.2}"))
}

fn mean_and_deviation(spread: Option<Spread>) -> String {
    let deviation = spread.and_then(|spread| spread.deviation);
    percent(spread.map(|spread| spread.mean)) + &deviation.map(|value| format!(" ± {value:.2}")).unwrap_or_default()
}

fn ms_per_step(row: &OfRow) -> String {
    match row.ms_per_step {
        None => "-".to_owned(),
        Some(spread) if spread.mean < 10.0 => format!("{:.2}", spread.mean),
        Some(spread) => format!("{:.1}", spread.mean),
    }
}

/// Early stopping ends each seed in its own time.
fn steps(row: &OfRow) -> String {
    let steps = || row.seeds.iter().map(|run| run.steps);
    match (steps().min(), steps().max()) {
        (Some(least), Some(most)) if least < most => format!("{} to {}", grouped(least), grouped(most)),
        _ => grouped(row.steps),
    }
}

fn explanation(section: &Section) -> Vec<String> {
    let mut text = String::from("Errors: mean over the seeds");
    if section.rows.iter().any(|row| row.runs.len() > 1) {
        text += " ± sample standard deviation";
    }
    text += match section.runs().filter_map(|run| run.curve.last()).all(|row| row.validation_error.is_some()) {
        true => "; best: of the test whose validation error is the least.",
        false => "; best: the least on the test curve, which the test samples chose.",
    };
    let mut lines = vec![text];
    if section.has_published_errors() {
        lines[0] += " The paper's table has the best of one test curve.";
        if !section.is_comparable() {
            lines.push(format!(
                "The paper's and the authors' errors are of the whole schedule ({} steps, batch {}): not to be compared \
                 with the others.",
                grouped(section.experiment.steps),
                section.experiment.batch_size
            ));
        }
    }
    lines
}

/// What the seeds say of the means of final errors and of their differences. None where no row has seeds enough.
fn differences(numbers: &Numbers) -> Option<Table> {
    let whole = || numbers.optimizers.iter().filter(|row| row.is_whole());
    if whole().all(|row| row.final_error_interval.is_none()) {
        return None;
    }
    let mut header = vec!["optimizer", "final test error, 95 % interval"];
    if numbers.baseline.is_some() {
        header.extend(["pairs", "difference, points", "its 95 % interval", "t", "p"]);
    }
    if numbers.tests() > 1 {
        header.push("p, Holm");
    }
    let rows = whole().map(|row| {
        let mut cells =
            vec![row.label.clone(), dash(row.final_error_interval, |of| interval(of, |error| format!("{error:.2}")))];
        cells.extend(row.difference.iter().flat_map(difference));
        // The baseline has no difference, and a single test no p of Holm.
        cells.resize(header.len(), "-".to_owned());
        cells
    });
    let rows = rows.collect();
    let caption = match &numbers.baseline {
        Some(baseline) => format!("Differences to {baseline}, over paired seeds"),
        None => "The mean over the seeds".to_owned(),
    };
    Some(Table { caption: Some(caption), header: header.into_iter().map(str::to_owned).collect(), rows })
}

fn difference(of: &Difference) -> [String; 6] {
    [
        of.seeds.len().to_string(),
        dash(of.points, |points| signed(points.mean)),
        dash(of.interval, |of| interval(of, signed)),
        dash(of.test, |test| format!("{:.2}", test.t)),
        dash(of.test, |test| probability(test.p)),
        dash(of.p_holm, probability),
    ]
}

fn dash<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or("-".to_owned(), text)
}

fn interval(of: Interval, text: impl Fn(f64) -> String) -> String {
    format!("{} to {}", text(of.low), text(of.high))
}

/// Of two decimals and with a sign, which nothing has none of.
fn signed(points: f64) -> String {
    let text = format!("{points:+.2}");
    if text[1..] == *"0.00" { "0.00".to_owned() } else { text }
}

fn probability(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

/// What the table of differences is.
fn meaning(numbers: &Numbers) -> String {
    let mut text =
        String::from("Final test error: the 95 % confidence interval of the mean over the seeds, by Student's t.");
    if numbers.optimizers.iter().any(|row| !row.is_whole()) {
        text += " Runs that are not whole have no part in it.";
    }
    if let Some(baseline) = &numbers.baseline {
        text += &format!(
            " Difference: the mean of the final errors less those of {baseline} with the same seeds; runs of one seed are \
             paired since they share initial weights and the order of samples. t, p: the paired t-test, two-sided."
        );
        if numbers.tests() > 1 {
            text += &format!(" p, Holm: adjusted for the {} tests of the table.", numbers.tests());
        }
        text += " A dash: of fewer than three seeds or pairs; t and p also of differences that are all the same.";
    }
    text
}

fn levels(section: &Section, numbers: &Numbers) -> Table {
    let mut header = vec!["optimizer".to_owned()];
    header.extend(section.experiment.error_levels.iter().map(|level| format!("{} %", short(*level))));
    let mut rows: Vec<Vec<String>> = Vec::new();
    for row in &numbers.optimizers {
        rows.push(levels_row(row.label.clone(), &row.crossings, row.seeds.len()));
    }
    for (optimizer, curve) in &section.authors {
        let label = format!("{}, authors' log{}", optimizer.name(), mark(section));
        let levels = section.experiment.error_levels.iter();
        let crossings: Vec<Crossing> = levels.map(|&level| Crossing::of(level, &[curve])).collect();
        rows.push(levels_row(label, &crossings, 1));
    }
    let mut caption = String::from("Steps / seconds of training to the first test with this error or less");
    if section.rows.iter().any(|row| row.runs.len() > 1) {
        caption += " (mean over the seeds that got there)";
    }
    if !section.authors.is_empty() {
        caption += ";\nthe authors' seconds are of one GPU, tests and pauses included";
    }
    Table { caption: Some(caption), header, rows }
}

fn levels_row(label: String, crossings: &[Crossing], curves: usize) -> Vec<String> {
    let cell = |crossing: &Crossing| {
        let (Some(steps), Some(seconds)) = (crossing.steps, crossing.seconds) else { return "-".to_owned() };
        let of = match crossing.seeds {
            seeds if seeds == curves => String::new(),
            seeds => format!(" ({seeds} of {curves})"),
        };
        format!("{} / {}{of}", grouped(steps.round() as usize), duration(seconds))
    };
    std::iter::once(label).chain(crossings.iter().map(cell)).collect()
}

/// What TSO-ALRA's figures show: the test loss over the epochs, after 1, 2, 4 of them and so on, and after the last.
fn losses(section: &Section) -> Table {
    let longest = section.runs().map(|run| run.curve.as_slice()).max_by_key(|curve| curve.len()).unwrap_or_default();
    let mut tests: Vec<&Evaluation> = (0..).map(|k| 1 << k).map_while(|place: usize| longest.get(place - 1)).collect();
    tests.extend(longest.last().filter(|last| tests.last().is_some_and(|test| test.step < last.step)));
    let mut header = vec!["optimizer".to_owned()];
    header.extend(tests.iter().map(|test| format!("epoch {}", short((test.epoch * 100.0).round() / 100.0))));
    header.extend(["least", "switched at step"].map(str::to_owned));
    let rows = section.rows.iter().map(|row| {
        let over_seeds = |value: &dyn Fn(&Run) -> Option<f64>| {
            let spread = Spread::of(row.runs.iter().filter_map(|run| value(run)));
            let deviation = spread.and_then(|spread| spread.deviation).map(|value| format!(" ± {value:.4}"));
            spread.map_or("-".to_owned(), |spread| format!("{:.4}", spread.mean)) + &deviation.unwrap_or_default()
        };
        let mut cells = vec![row.label.clone()];
        cells.extend(tests.iter().map(|test| {
            over_seeds(&|run| run.curve.iter().find(|row| row.step == test.step).map(|row| row.test_loss))
        }));
        cells.push(over_seeds(&|run| run.curve.iter().map(|row| row.test_loss).min_by(f64::total_cmp)));
        let switches: Vec<_> = row.runs.iter().filter_map(|run| run.record.progress.switched_at.map(grouped)).collect();
        cells.push(if switches.is_empty() { "-".to_owned() } else { switches.join("; ") });
        cells
    });
    let caption = "Test loss, the mean cross-entropy of the test samples".to_owned();
    Table { caption: Some(caption), header, rows: rows.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_difference_has_no_sign_and_no_probability_is_zero() {
        assert_eq!([0.126, 0.004, 0.0, -0.004, -0.126].map(signed), ["+0.13", "0.00", "0.00", "0.00", "-0.13"]);
        assert_eq!([0.0, 0.0009, 0.001, 1.0].map(probability), ["< 0.001", "< 0.001", "0.001", "1.000"]);
    }
}
