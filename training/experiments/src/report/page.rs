//! What the report says, in the order in which it is read: the same for Markdown and HTML.

use super::section::{Row, Section};
use super::statistics::{Spread, best_error, final_error, reaching};
use super::text::{duration, grouped, short};
use crate::curve::Evaluation;
use crate::record::Progress;
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
}

/// A table, whose first column has the names of its rows.
pub struct Table {
    pub caption: Option<String>,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// One section: its conditions, its figure, and its tables.
pub fn section(section: &Section, figure: Option<Figure>) -> Vec<Block> {
    let mut blocks =
        vec![Block::Conditions { title: section.title(), lines: vec![section.conditions(), section.rates()] }];
    blocks.extend(figure.map(Block::Figure));
    blocks.push(Block::Table(errors(section)));
    blocks.push(Block::Paragraph(explanation(section)));
    blocks.push(Block::Table(levels(section)));
    if section.experiment.validation > 0.0 {
        blocks.push(Block::Table(losses(section)));
    }
    let items: Vec<String> = section.runs().filter_map(note).collect();
    if !items.is_empty() {
        blocks.push(Block::List { caption: "Runs that ended before their time, or have not ended".to_owned(), items });
    }
    blocks
}

fn note(run: &Run) -> Option<String> {
    let note = run.record.cut_short()?;
    Some(format!("{}, seed {}: {note}", run.record.conditions.optimizer.name(), run.record.seed))
}

/// What the published numbers are of, where that is not what the rows are of.
fn mark(section: &Section) -> &'static str {
    if section.is_comparable() { "" } else { " (of the whole schedule)" }
}

fn errors(section: &Section) -> Table {
    let mark = mark(section);
    let mut header = ["optimizer", "seeds", "final test error, %", "best test error, %"].map(str::to_owned).to_vec();
    if section.has_published_errors() {
        header.push(format!("paper's table, best %{mark}"));
    }
    if !section.authors.is_empty() {
        header.push(format!("authors' log, final and best %{mark}"));
    }
    header.extend(["ms/step", "optimizer state, bytes", "steps"].map(str::to_owned));
    let rows = section.rows.iter().map(|row| {
        let over_seeds = |value: fn(&[Evaluation]) -> Option<f64>| {
            mean_and_deviation(Spread::of(row.runs.iter().filter_map(|run| value(&run.curve))))
        };
        let mut cells = vec![row.label.clone(), row.runs.len().to_string()];
        cells.extend([over_seeds(final_error), over_seeds(best_error)]);
        if section.has_published_errors() {
            cells.push(percent(section.experiment.paper_error(row.optimizer)));
        }
        if !section.authors.is_empty() {
            let curve = section.authors.get(&row.optimizer);
            let errors = curve.map(|curve| [final_error(curve), best_error(curve)].map(percent).join(", "));
            cells.push(errors.unwrap_or("-".to_owned()));
        }
        cells.extend([
            ms_per_step(row),
            grouped(row.record().progress.state_bytes),
            grouped(row.record().progress.steps),
        ]);
        cells
    });
    Table { caption: None, header, rows: rows.collect() }
}

fn percent(error: Option<f64>) -> String {
    error.map_or("-".to_owned(), |error| format!("{error:.2}"))
}

fn mean_and_deviation(spread: Option<Spread>) -> String {
    let deviation = spread.and_then(|spread| spread.deviation);
    percent(spread.map(|spread| spread.mean)) + &deviation.map(|value| format!(" ± {value:.2}")).unwrap_or_default()
}

fn ms_per_step(row: &Row) -> String {
    let runs = row.runs.iter().map(|run| &run.record.progress).filter(|progress| progress.steps > 0);
    // The mean where the median is not known.
    let mean = |progress: &Progress| 1e3 * progress.seconds / progress.steps as f64;
    match Spread::of(runs.map(|progress| progress.step_milliseconds.unwrap_or_else(|| mean(progress)))) {
        None => "-".to_owned(),
        Some(spread) if spread.mean < 10.0 => format!("{:.2}", spread.mean),
        Some(spread) => format!("{:.1}", spread.mean),
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

fn levels(section: &Section) -> Table {
    let mut header = vec!["optimizer".to_owned()];
    header.extend(section.experiment.error_levels.iter().map(|level| format!("{} %", short(*level))));
    let mut rows = Vec::new();
    for row in &section.rows {
        let curves: Vec<&[Evaluation]> = row.runs.iter().map(|run| run.curve.as_slice()).collect();
        rows.push(levels_row(section, row.label.clone(), &curves));
    }
    for (optimizer, curve) in &section.authors {
        let label = format!("{}, authors' log{}", optimizer.name(), mark(section));
        rows.push(levels_row(section, label, &[curve]));
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

fn levels_row(section: &Section, label: String, curves: &[&[Evaluation]]) -> Vec<String> {
    let mut cells = vec![label];
    cells.extend(section.experiment.error_levels.iter().map(|&level| {
        let there: Vec<_> = curves.iter().filter_map(|curve| reaching(curve, level)).collect();
        let mean = |value: fn(&Evaluation) -> f64| Spread::of(there.iter().map(|row| value(row)));
        let (Some(steps), Some(seconds)) = (mean(|row| row.step as f64), mean(|row| row.seconds)) else {
            return "-".to_owned();
        };
        let of = match there.len() {
            count if count == curves.len() => String::new(),
            count => format!(" ({count} of {})", curves.len()),
        };
        format!("{} / {}{of}", grouped(steps.mean.round() as usize), duration(seconds.mean))
    }));
    cells
}
