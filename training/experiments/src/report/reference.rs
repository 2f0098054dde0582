//! The curves that the authors published: their steps, datetimes, test losses and test accuracies.

use crate::curve::Evaluation;
use crate::experiment::Experiment;
use crate::optimizer::OptimizerKind;
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::path::Path;
use time::PrimitiveDateTime;

const DATETIME: &str = "[year]-[month]-[day] [hour]:[minute]:[second].[subsecond]";

/// The data set that the experiment's published numbers belong to.
pub fn published_data(experiment: &Experiment) -> &'static str {
    experiment.benchmark.name()
}

/// The authors' curve, if there is one. Its seconds are those since its first row, tests and pauses included; there is
/// no training loss in it.
pub fn load(folder: &Path, experiment: &Experiment, optimizer: OptimizerKind) -> Result<Option<Vec<Evaluation>>> {
    ensure!(folder.is_dir(), "{}: expected a folder with the authors' curves, found none", folder.display());
    let Some(file) = experiment.log_file(optimizer) else { return Ok(None) };
    let path = folder.join(file);
    if !path.exists() {
        let text = format!("{}: not there: the authors' curve of {} is left out", path.display(), optimizer.name());
        let _ = writeln!(std::io::stderr(), "{text}");
        return Ok(None);
    }
    read(&path, experiment.log_accuracy_unit).with_context(|| path.display().to_string()).map(Some)
}

fn read(path: &Path, unit: f64) -> Result<Vec<Evaluation>> {
    let format = time::format_description::parse_borrowed::<2>(DATETIME)?;
    let mut reader = csv::Reader::from_path(path).context("cannot be read")?;
    let columns = reader.headers()?.clone();
    let column = |name: &str| {
        columns.iter().position(|column| column == name).with_context(|| {
            format!("expected a column {name}, got '{}'", columns.iter().collect::<Vec<_>>().join(","))
        })
    };
    let (datetime, loss, accuracy) = (column("datetime")?, column("loss")?, column("accuracy")?);
    let mut curve = Vec::new();
    let mut start = None;
    for row in reader.records() {
        let row = row?;
        let cell = |index: usize, expected: &str| {
            let line = row.position().map_or(0, |position| position.line());
            format!("line {line}: expected {expected}, got '{}'", &row[index])
        };
        let number = |index: usize| row[index].parse::<f64>().ok().with_context(|| cell(index, "a number"));
        // Python leaves a fraction of zero out.
        let text = if row[datetime].contains('.') { row[datetime].to_owned() } else { format!("{}.0", &row[datetime]) };
        let time = PrimitiveDateTime::parse(&text, &format).ok();
        let time = time.with_context(|| cell(datetime, "a datetime like 2019-06-18 22:02:42.220917"))?;
        curve.push(Evaluation {
            step: row[0].parse().ok().with_context(|| cell(0, "a step"))?,
            epoch: f64::NAN,
            train_loss: f64::NAN,
            test_loss: number(loss)?,
            test_error: 100.0 - unit * number(accuracy)?,
            seconds: (time - *start.get_or_insert(time)).as_seconds_f64(),
            validation_loss: None,
            validation_error: None,
        });
    }
    ensure!(!curve.is_empty(), "expected rows, found none");
    Ok(curve)
}
