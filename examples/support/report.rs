//! What a run leaves: a table on the screen; curves as CSV and SVG, and a summary as JSON.

use super::dataset::Dataset;
use super::files::write_atomically;
use super::options::{OptimizerKind, Options};
use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use serde::Serialize;
use std::fs::File;
use std::path::PathBuf;
use tch::Device;

/// The state of training at one step: a row of OPTIMIZER.csv.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Evaluation {
    pub step: usize,
    pub epoch: f64,
    /// The mean cross-entropy of the training batches since the row before, without the penalty.
    pub train_loss: f64,
    pub test_loss: f64,
    /// Per cent.
    pub test_error: f64,
    /// Of training alone, evaluations left out.
    pub seconds: f64,
}

/// What one optimizer did.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    #[serde(rename = "optimizer")]
    pub kind: OptimizerKind,
    pub batch_size: usize,
    pub steps: usize,
    pub ms_per_step: f64,
    pub state_bytes: usize,
    /// Why it ended before its time.
    pub note: Option<String>,
    pub evaluations: Vec<Evaluation>,
}

impl Run {
    pub fn new(kind: OptimizerKind, batch_size: usize) -> Self {
        Self { kind, batch_size, steps: 0, ms_per_step: 0.0, state_bytes: 0, note: None, evaluations: Vec::new() }
    }

    fn final_error(&self) -> Option<f64> {
        self.evaluations.last().map(|row| row.test_error)
    }

    fn best_error(&self) -> Option<f64> {
        self.evaluations.iter().map(|row| row.test_error).min_by(f64::total_cmp)
    }

    fn images_per_second(&self) -> f64 {
        1e3 * self.batch_size as f64 / self.ms_per_step
    }

    /// One line for the screen.
    pub fn summary(&self) -> String {
        let note = self.note.as_deref().map(|note| format!(" ({note})")).unwrap_or_default();
        format!("{}: {} steps, test error {}{note}", self.kind.name(), self.steps, percent(self.final_error()))
    }
}

fn percent(error: Option<f64>) -> String {
    error.map_or("-".to_owned(), |error| format!("{error:.2} %"))
}

/// The curve of a run: a row is on disk as a whole as soon as it is there at all.
pub struct Curve {
    writer: csv::Writer<File>,
    path: PathBuf,
}

impl Curve {
    pub fn append(&mut self, row: &Evaluation) -> Result<()> {
        self.writer.serialize(row)?;
        self.writer.flush().with_context(|| format!("{}: cannot be written", self.path.display()))
    }
}

/// The folder that the results go to, and what they are about.
pub struct Report<'a> {
    options: &'a Options,
    data: &'a Dataset,
    model: &'static str,
    device: Device,
}

/// summary.json.
#[derive(Serialize)]
struct Summary<'a> {
    model: &'a str,
    data: &'a str,
    training_images: usize,
    test_images: usize,
    device: String,
    threads: i32,
    arguments: &'a Options,
    crate_version: &'a str,
    libtorch_version: String,
    runs: Vec<SummaryRow<'a>>,
}

#[derive(Serialize)]
struct SummaryRow<'a> {
    final_test_error: Option<f64>,
    best_test_error: Option<f64>,
    images_per_second: f64,
    #[serde(flatten)]
    run: &'a Run,
}

impl<'a> Report<'a> {
    /// Makes the folder.
    pub fn create(options: &'a Options, data: &'a Dataset, model: &'static str, device: Device) -> Result<Self> {
        std::fs::create_dir_all(&options.out).with_context(|| format!("{}: cannot be made", options.out.display()))?;
        Ok(Self { options, data, model, device })
    }

    /// Starts OPTIMIZER.csv.
    pub fn curve(&self, kind: OptimizerKind) -> Result<Curve> {
        let path = self.options.out.join(format!("{}.csv", kind.name()));
        let file = File::create(&path).with_context(|| format!("{}: cannot be written", path.display()))?;
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(file);
        writer.write_record(["step", "epoch", "train_loss", "test_loss", "test_error", "seconds"])?;
        writer.flush().with_context(|| format!("{}: cannot be written", path.display()))?;
        Ok(Curve { writer, path })
    }

    /// Prints the table and writes summary.json and curves.svg.
    pub fn finish(&self, runs: &[Run]) -> Result<()> {
        let out = &self.options.out;
        let info = tch_svgd::build_info()?;
        let rows = runs.iter().map(|run| SummaryRow {
            final_test_error: run.final_error(),
            best_test_error: run.best_error(),
            images_per_second: run.images_per_second(),
            run,
        });
        let summary = Summary {
            model: self.model,
            data: self.data.name,
            training_images: self.data.train.len(),
            test_images: self.data.test.len(),
            device: format!("{:?}", self.device),
            threads: tch::get_num_threads(),
            arguments: self.options,
            crate_version: info.crate_version,
            libtorch_version: info.libtorch_version,
            runs: rows.collect(),
        };
        write_atomically(&out.join("summary.json"), &serde_json::to_vec_pretty(&summary)?)?;
        write_atomically(&out.join("curves.svg"), self.curves(runs)?.as_bytes())?;
        print!("\n{}", table(runs));
        println!("\ncurves and summary: {}", out.display());
        Ok(())
    }

    /// Test error and loss over the steps, all optimizers.
    fn curves(&self, runs: &[Run]) -> Result<String> {
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (1000, 420)).into_drawing_area();
            root.fill(&WHITE).map_err(drawing)?;
            let title = format!("{} on {}", self.model, self.data.name);
            let root = root.titled(&title, ("sans-serif", 18)).map_err(drawing)?;
            let (left, right) = root.split_horizontally(500);
            panel(&left, "test error (%)", runs, &[("", |row| row.test_error)])?;
            let losses: &[Series] = &[(" test", |row| row.test_loss), (" training", |row| row.train_loss)];
            panel(&right, "cross-entropy", runs, losses)?;
            root.present().map_err(drawing)?;
        }
        Ok(svg)
    }
}

/// A quantity of the rows, and what the legend adds to the optimizer's name. All but the first are drawn pale.
type Series = (&'static str, fn(&Evaluation) -> f64);

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn panel(area: &Area, label: &str, runs: &[Run], series: &[Series]) -> Result<()> {
    let rows = || runs.iter().flat_map(|run| &run.evaluations);
    let last_step = rows().map(|row| row.step).max().unwrap_or(1).max(1);
    let values = rows().flat_map(|row| series.iter().map(move |(_, value)| value(row)));
    let largest = values.filter(|value| value.is_finite()).fold(1e-9, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(0..last_step, 0.0..largest * 1.05)
        .map_err(drawing)?;
    chart.configure_mesh().light_line_style(WHITE).x_desc("step").y_desc(label).draw().map_err(drawing)?;
    for (index, run) in runs.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        for (number, (suffix, value)) in series.iter().enumerate() {
            let style = color.mix(if number == 0 { 1.0 } else { 0.4 }).stroke_width(2);
            let points =
                run.evaluations.iter().map(|row| (row.step, value(row))).filter(|(_, value)| value.is_finite());
            // A dot for each evaluation: a single one draws no line.
            chart.draw_series(points.clone().map(|point| Circle::new(point, 2, style.filled()))).map_err(drawing)?;
            chart
                .draw_series(LineSeries::new(points, style))
                .map_err(drawing)?
                .label(format!("{}{suffix}", run.kind.name()))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()
        .map_err(drawing)
}

fn drawing<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> anyhow::Error {
    anyhow!("curves.svg: {error}")
}

fn table(runs: &[Run]) -> String {
    let header = ["optimizer", "final test error", "best test error", "ms/step", "images/s", "state bytes"];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(runs.iter().map(|run| {
        [
            run.kind.name().to_owned(),
            percent(run.final_error()),
            percent(run.best_error()),
            format!("{:.1}", run.ms_per_step),
            format!("{:.0}", run.images_per_second()),
            run.state_bytes.to_string(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    rows.iter()
        .map(|row| {
            let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
            cells.join("  ") + "\n"
        })
        .collect()
}
