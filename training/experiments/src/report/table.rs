//! The sections as Markdown, whose tables are tables on a terminal, too.

use super::section::{Row, Section};
use super::statistics::{Spread, best_error, final_error, reaching};
use super::text::{duration, grouped, short, table};
use crate::curve::Evaluation;
use crate::record::Progress;
use crate::run::Run;

/// One section: its conditions, its figure, and its tables.
pub fn section(section: &Section, figure: Option<&str>) -> String {
    let mut text = format!("{}\n{}\n\n", section.conditions(), section.rates());
    if let Some(figure) = figure {
        text += &format!("![{}]({figure})\n\n", section.heading());
    }
    text += &errors(section);
    text += "\n";
    text += &explanation(section);
    text += "\n";
    text += &levels(section);
    if section.experiment.validation > 0.0 {
        text += &format!("\n{}", losses(section));
    }
    let notes: Vec<String> = section.runs().filter_map(note).collect();
    if !notes.is_empty() {
        text += &format!("\nRuns that ended before their time, or have not ended:\n\n{}", notes.concat());
    }
    text
}

fn note(run: &Run) -> Option<String> {
    let note = run.record.cut_short()?;
    Some(format!("- {}, seed {}: {note}\n", run.record.conditions.optimizer.name(), run.record.seed))
}

/// What the published numbers are of, where that is not what the rows are of.
fn mark(section: &Section) -> &'static str {
    if section.is_comparable() { "" } else { " (of the whole schedule)" }
}

fn errors(section: &Section) -> String {
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
    table(header, rows.collect())
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

fn explanation(section: &Section) -> String {
    let mut text = String::from("Errors: mean over the seeds");
    if section.rows.iter().any(|row| row.runs.len() > 1) {
        text += " ± sample standard deviation";
    }
    text += match section.runs().filter_map(|run| run.curve.last()).all(|row| row.validation_error.is_some()) {
        true => "; best: of the test whose validation error is the least.",
        false => "; best: the least on the test curve, which the test samples chose.",
    };
    if section.has_published_errors() {
        text += " The paper's table has the best of one test curve.";
        if !section.is_comparable() {
            text += &format!(
                "\nThe paper's and the authors' errors are of the whole schedule ({} steps, batch {}): not to be compared \
                 with the others.",
                grouped(section.experiment.steps),
                section.experiment.batch_size
            );
        }
    }
    text + "\n"
}

fn levels(section: &Section) -> String {
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
    let mut text = String::from("Steps / seconds of training to the first test with this error or less");
    if section.rows.iter().any(|row| row.runs.len() > 1) {
        text += " (mean over the seeds that got there)";
    }
    if !section.authors.is_empty() {
        text += ";\nthe authors' seconds are of one GPU, tests and pauses included";
    }
    text + ":\n\n" + &table(header, rows)
}

/// What TSO-ALRA's figures show: the test loss over the epochs, after 1, 2, 4 of them and so on, and after the last.
fn losses(section: &Section) -> String {
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
    "Test loss, the mean cross-entropy of the test samples:\n\n".to_owned() + &table(header, rows.collect())
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
