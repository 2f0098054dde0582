//! What a trained model takes images for.
//!
//!     cargo run --release --bin predict -- runs/resnet20_cifar10/svgd-seed0 photo.jpg

use anyhow::{Context, Result};
use clap::Parser;
use experiments::record::Record;
use experiments::screen::{ensure_said, say, warn};
use std::path::PathBuf;
use std::process::ExitCode;
use tch::{Device, Kind};
use training::cli::options::{WeightsChoice, data_of};
use training::data::{Augmentation, Inputs, images};
use training::trained::Trained;

/// Classify images (PNG or JPEG) by the model of a run.
///
/// An image is scaled to the size that the model was trained on, and made grey where that was. The exit status is 1 where one
/// could not be read.
#[derive(Parser, Debug)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// The folder of the run, with run.json.
    run: PathBuf,

    /// The images.
    #[arg(required = true)]
    images: Vec<PathBuf>,

    /// A folder with the data whose classes these are [default: the run tells].
    #[arg(long, value_name = "DIR|digits|auto")]
    data: Option<training::data::DataSource>,

    /// Which weights: of the best test, or of the last checkpoint.
    #[arg(long, default_value = "best")]
    weights: WeightsChoice,

    /// How many classes to name.
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(i64).range(1..))]
    top: i64,
}

fn main() -> ExitCode {
    predict(&Arguments::parse()).and_then(|code| ensure_said().map(|()| code)).unwrap_or_else(|error| {
        warn(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn predict(arguments: &Arguments) -> Result<ExitCode> {
    let record = Record::load(&arguments.run)?;
    let benchmark = record.experiment()?.benchmark;
    let [channels, side] = benchmark.image_shape().with_context(|| {
        let samples = &record.conditions.data.samples;
        format!("{}: expected a run on images, got one on {samples}", arguments.run.display())
    })?;
    let names = match (&arguments.data, record.conditions.data.classes) {
        (None, names) if !names.is_empty() => names,
        // A run of before, or other names.
        (source, _) => data_of(&arguments.run, source.as_ref())?.class_names(benchmark),
    };
    let inputs = Inputs::Images(Augmentation { crops: false, flips: false });
    let trained =
        Trained::load(&arguments.run, arguments.weights.into(), names.len() as i64, Device::cuda_if_available())?;
    let mut status = ExitCode::SUCCESS;
    for path in &arguments.images {
        let image = match images::read_one(path, channels, side) {
            Ok(image) => image,
            Err(error) => {
                warn(&format!("{error:#}"));
                status = ExitCode::FAILURE;
                continue;
            }
        };
        let shares = trained.logits(inputs, &image).softmax(-1, Kind::Float).get(0);
        let (shares, classes) = shares.topk(arguments.top.min(names.len() as i64), 0, true, true);
        let name = |at: i64| &names[classes.int64_value(&[at]) as usize];
        let answers =
            (0..shares.size()[0]).map(|at| format!("{} {:.1} %", name(at), 100.0 * shares.double_value(&[at])));
        say(&format!("{}: {}", path.display(), answers.collect::<Vec<_>>().join(", ")));
    }
    Ok(status)
}
