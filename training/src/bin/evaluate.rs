//! How a trained model answers the test samples: its error, its loss, and which classes it takes for which.
//!
//!     cargo run --release --bin evaluate -- runs/resnet20_cifar10/svgd-seed0 --out evaluation

use anyhow::{Context, Result, ensure};
use clap::Parser;
use experiments::experiment::BatchNorm;
use experiments::report::{confusion, text};
use experiments::screen::{ensure_said, say, warn};
use std::path::PathBuf;
use std::process::ExitCode;
use tch::Device;
use training::cli::options::{WeightsChoice, data_of};
use training::trained::Trained;

/// Test the model of a run.
///
/// Batch norm goes by its moving means: an answer does not depend on the other samples.
#[derive(Parser, Debug)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// The folder of the run, with run.json.
    run: PathBuf,

    /// A folder with the data [default: that of the run].
    #[arg(long, value_name = "DIR|digits|auto")]
    data: Option<training::data::DataSource>,

    /// Which weights: of the best test, or of the last checkpoint.
    #[arg(long, default_value = "best")]
    weights: WeightsChoice,

    /// Folder for confusion.csv and confusion.svg [default: none is written].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    evaluate(&Arguments::parse()).and_then(|()| ensure_said()).map_or_else(
        |error| {
            warn(&format!("error: {error:#}"));
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

/// Which weights these are, and what their answers are not.
fn of_what(weights: WeightsChoice, trained: &Trained) -> String {
    let Trained { record, step, .. } = trained;
    let mut text = match weights {
        WeightsChoice::Best => "weights of the best test".to_owned(),
        WeightsChoice::Last => "weights of the last checkpoint".to_owned(),
    };
    if let Some(step) = step {
        text += &format!(", at step {step} of {}", record.conditions.planned_steps);
    }
    if let Some(note) = &record.progress.note {
        text += &format!("; the run: {note}");
    }
    if record.conditions.batch_norm == Some(BatchNorm::Batch) {
        text += "; here by the moving means of batch norm, in the curve by the means of test batches";
    }
    text
}

/// Classes of which a table has room.
const SHOWN: i64 = 20;

fn evaluate(arguments: &Arguments) -> Result<()> {
    let data = data_of(&arguments.run, arguments.data.as_ref())?;
    let trained = Trained::load(&arguments.run, arguments.weights.into(), data.classes, Device::cuda_if_available())?;
    let evaluation = trained.evaluate(&data, &data.test);
    let name = |class: i64| data.class_name(trained.experiment.benchmark, class);
    let (model, samples) = (&trained.record.conditions.model, data.inputs.samples());
    say(&format!("{model} on {}: {} test {samples}", data.name, data.test.len()));
    say(&of_what(arguments.weights, &trained));
    say(&format!("test loss {:.4}, test error {:.2} % of {}", evaluation.loss, evaluation.error, evaluation.answers));
    let Some(counts) = evaluation.counts else {
        ensure!(
            arguments.out.is_none(),
            "--out: expected a run with fewer classes to tell apart, got {}",
            data.classes
        );
        return Ok(());
    };
    if data.classes <= SHOWN {
        let mut header = vec!["class".to_owned(), "samples".to_owned(), "error, %".to_owned()];
        header.extend((0..data.classes).map(name));
        let rows = counts.iter().zip(0..).map(|(row, class)| {
            let (samples, right) = (row.iter().sum::<i64>(), row[class as usize]);
            let error = match samples {
                0 => "-".to_owned(),
                _ => format!("{:.2}", 100.0 * (1.0 - right as f64 / samples as f64)),
            };
            let mut cells = vec![name(class), samples.to_string(), error];
            cells.extend(row.iter().map(i64::to_string));
            cells
        });
        let rows: Vec<Vec<String>> = rows.collect();
        say(&format!("\nOf each class, and what it was taken for:\n\n{}", text::table(&header, &rows)));
    }
    if let Some(out) = &arguments.out {
        std::fs::create_dir_all(out).with_context(|| format!("{}: cannot be made", out.display()))?;
        let names: Vec<String> = (0..data.classes).map(name).collect();
        confusion::write(out, &names, &counts, &trained.record.conditions.model)?;
        say(&format!("written: {}", out.display()));
    }
    Ok(())
}
