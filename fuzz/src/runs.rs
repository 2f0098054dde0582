//! What is read of runs: run.json, curve.csv, and options from a file.

use crate::{folder, taken, write};
use anyhow::Context;
use experiments::curve::{CURVE_FILE, read_curve};
use experiments::experiment::MLP_MNIST;
use experiments::record::{RECORD_FILE, Record};
use training::cli::options::Options;
use training::cli::{command, config};
use training::trainer::curve::Curve;

/// The record of a run, which comes back as it was. Conditions get the digest that they have: without it nearly all that the
/// fuzzer thinks of would be refused for that alone.
pub fn run_json(input: &[u8]) -> bool {
    let folder = folder();
    let own = serde_json::from_slice::<Record>(input).ok().map(|mut record| {
        record.id = record.conditions.id();
        serde_json::to_vec(&record).expect("a record is JSON")
    });
    write(&folder.path().join(RECORD_FILE), own.as_deref().unwrap_or(input));
    let Some(record) = taken(Record::load(folder.path()), folder.path()) else { return false };
    let text = serde_json::to_string(&record).expect("a record is JSON");
    let again = Record::parse(&text).unwrap_or_else(|error| panic!("{error:#}: {text}"));
    assert_eq!(serde_json::to_string(&again).expect("a record is JSON"), text);
    assert!(again.is_like(&record) && again.is_finished() == record.is_finished());
    true
}

/// With the id of its conditions.
const RECORD: &str = include_str!("../seeds/run.json");
const RECORD_1: &str = include_str!("../seeds/run_of_format_1.json");

/// A record of each format.
pub fn run_json_seeds() -> Vec<Vec<u8>> {
    vec![RECORD.into(), RECORD_1.into()]
}

/// The curve of a run, which a run goes on with.
pub fn curve_csv(input: &[u8]) -> bool {
    let folder = folder();
    let path = folder.path().join(CURVE_FILE);
    write(&path, input);
    let run = folder.path().join("run");
    std::fs::create_dir(&run).expect("a folder in memory");
    let Some(curve) = taken(Curve::restore(folder.path(), &run), &path) else { return false };
    let again = read_curve(&run.join(CURVE_FILE)).expect("what has been written is read again");
    // As text, where no number is equal to itself.
    assert_eq!(format!("{again:?}"), format!("{:?}", curve.rows()));
    true
}

/// With and without validation.
pub fn curve_csv_seeds() -> Vec<Vec<u8>> {
    let columns = "step,epoch,train_loss,test_loss,test_error,seconds";
    let plain = format!("{columns}\n0,0,NaN,2.3,90.5,0\n100,0.16666666666666666,1.5,1e-3,12.25,3.5\n");
    let validated = format!("{columns},validation_loss,validation_error\n300,0.5,0.25,0.5,8,1.5,0.75,9\n");
    vec![plain.into(), validated.into()]
}

/// A file of options, or the record of a run that keeps its own.
pub fn options_toml(input: &[u8]) -> bool {
    let Some((first, input)) = input.split_first() else { return false };
    let folder = folder();
    let path = folder.path().join(if first % 2 == 0 { RECORD_FILE } else { "run.toml" });
    write(&path, input);
    let command = command::<Options>(&[&MLP_MNIST], "sgd,svgd");
    let own = command.clone().get_matches_from(["mlp_mnist"]);
    // Who calls it names the file.
    let words = config::words_of_file(&command, &own, &path).with_context(|| path.display().to_string());
    let Some(words) = taken(words, &path) else { return false };
    // clap's errors are its own.
    command.try_get_matches_from(std::iter::once("mlp_mnist".to_owned()).chain(words)).is_ok()
}

/// Options of each type, and a record.
pub fn options_toml_seeds() -> Vec<Vec<u8>> {
    let toml = "1steps = 100\nlr = { sgd = 0.1, svgd = 0.5 }\noptimizer = [\"sgd\", \"svgd\"]\nseeds = \"0..3\"\namp = true\n\
                weight-decay = 1e-4\n";
    vec![toml.into(), [b"0", RECORD.as_bytes()].concat()]
}
