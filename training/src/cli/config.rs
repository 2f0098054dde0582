//! Options from a file: a TOML of their names, or the run.json of a run; and the options of this process as such a file has them.

use crate::data::Dataset;
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::parser::ValueSource;
use clap::{Arg, ArgGroup, ArgMatches, Command};
use experiments::experiment::Experiment;
use experiments::optimizer::{OptimizerKind, Rule};
use experiments::record::{Options, RECORD_FILE, Record};
use experiments::screen::warn;
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::OnceLock;

/// Of how to go about it, not of what to do: a record does not keep these.
const NOT_KEPT: [&str; 6] = ["config", "jobs", "part", "resume", "overwrite", "max-time"];
/// What a file has no say in.
const NOT_IN_FILES: [&str; 4] = ["config", "part", "help", "version"];

/// The options of this process.
#[derive(Debug, Default)]
struct Given {
    /// By its command line or its file, but for those that are [not kept](NOT_KEPT).
    options: Options,
    /// Whether the command line says which data.
    has_data: bool,
}

static GIVEN: OnceLock<Given> = OnceLock::new();

/// The options that this process was given, by its command line or its file.
pub fn given() -> Options {
    GIVEN.get().map(|given| given.options.clone()).unwrap_or_default()
}

/// Parses the command line, and the file that its --config names. What both have is the command line's; and what cannot stand
/// beside an option of the command line, such as another length, is left out.
pub fn matches(command: Command) -> ArgMatches {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let own = command.clone().get_matches_from(&arguments);
    let has_data = is_given(&own, "data");
    let matches = match own.get_one::<PathBuf>("config") {
        None => own,
        Some(path) => {
            let from_file = words_of_file(&command, &own, path).unwrap_or_else(|error| {
                warn(&format!("error: --config {}: {error:#}", path.display()));
                exit(i32::from(WRONG_OPTION))
            });
            let (program, rest) = arguments.split_at(1);
            let from_file = from_file.into_iter().map(OsString::from);
            let all = program.iter().cloned().chain(from_file).chain(rest.iter().cloned());
            command.clone().try_get_matches_from(all).unwrap_or_else(|error| {
                warn(&format!("with --config {}:", path.display()));
                error.exit()
            })
        }
    };
    let _ = GIVEN.set(Given { options: kept(&command, &matches), has_data });
    matches
}

/// What clap's own errors end with.
pub const WRONG_OPTION: u8 = 2;

/// Options as the words of a command line.
pub fn words(options: &Options) -> Result<Vec<String>> {
    let words = options.iter().map(|(name, value)| word(name, value));
    Ok(words.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn word(name: &str, value: &Value) -> Result<Option<String>> {
    let scalar = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => bail!("{name}: expected a number or a text, got {value}"),
    };
    let text = match value {
        Value::Bool(true) => return Ok(Some(format!("--{name}"))),
        Value::Bool(false) => return Ok(None),
        Value::Array(values) => values.iter().map(scalar).collect::<Result<Vec<_>>>()?.join(","),
        Value::Object(values) => {
            let pair = |(name, value): (&String, &Value)| Ok(format!("{name}={}", scalar(value)?));
            values.iter().map(pair).collect::<Result<Vec<_>>>()?.join(",")
        }
        _ => scalar(value)?,
    };
    Ok(Some(format!("--{name}={text}")))
}

/// The options in a file as words of a command line, but for those that `own`, the command line, has a say in.
pub fn words_of_file(command: &Command, own: &ArgMatches, path: &Path) -> Result<Vec<String>> {
    let (mut options, mut optimizers) = match record(path)? {
        Some(record) => (of_record(&record)?, Some(vec![record.conditions.optimizer])),
        None => (read_toml(path)?, None),
    };
    for (name, value) in &options {
        let argument =
            argument(command, name).filter(|_| !NOT_IN_FILES.contains(&name.as_str())).with_context(|| {
                format!("'{name}' is no option: expected the long names of --help, without their dashes")
            })?;
        ensure_type(name, argument, value)?;
    }
    options.retain(|name, _| argument(command, name).is_some_and(|argument| !is_overruled(command, own, argument)));
    if is_given(own, "optimizers") {
        optimizers = Some(own.get_many("optimizers").into_iter().flatten().copied().collect());
    }
    if let Some(optimizers) = optimizers {
        options = for_optimizers(options, &optimizers);
    }
    words(&options)
}

fn read_toml(path: &Path) -> Result<Options> {
    let text = std::fs::read_to_string(path).context("cannot be read")?;
    toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count();
        anyhow!("line {line}: expected TOML, such as steps = 100: {}", error.message())
    })
}

/// The record of a run, where the file is one.
pub fn record(path: &Path) -> Result<Option<Record>> {
    if path.extension().is_none_or(|extension| extension != "json") {
        return Ok(None);
    }
    Record::parse(&std::fs::read_to_string(path).context("cannot be read")?).map(Some)
}

/// The options of a run, of which its data are where they were, with what those beside it made use of.
fn of_record(record: &Record) -> Result<Options> {
    let Record { seed, conditions, origin, .. } = record;
    ensure!(
        !origin.options.is_empty(),
        "expected the {RECORD_FILE} of a run that keeps its options; this one does not, as those of programs of before"
    );
    let mut options = alone(origin.options.clone(), conditions.optimizer, *seed);
    if let (Some(data), Some(folder)) = (options.get_mut("data"), &origin.data_folder) {
        *data = folder.as_str().into();
    }
    Ok(options)
}

/// Refuses the record of another experiment.
pub fn ensure_of(record: &Record, experiment: &Experiment) -> Result<()> {
    let (of, expected) = (&record.conditions.experiment, experiment.name);
    ensure!(of == expected, "--config: expected the {RECORD_FILE} of a run of {expected}, got one of {of}");
    Ok(())
}

/// Refuses other data than those of the run, unless the command line says which.
pub fn ensure_same_data(record: &Record, data: &Dataset) -> Result<()> {
    let before = &record.conditions.data;
    ensure!(
        before.digest.as_ref().is_none_or(|digest| *digest == data.digest)
            || GIVEN.get().is_some_and(|own| own.has_data),
        "--config: expected the data of that run, {}, got {}; say where they are with --data",
        before.name,
        data.name
    );
    Ok(())
}

/// Of the options of several runs, those of one.
pub fn of_run(options: Options, optimizer: OptimizerKind, seed: u64) -> Options {
    alone(for_optimizers(options, &[optimizer]), optimizer, seed)
}

fn alone(mut options: Options, optimizer: OptimizerKind, seed: u64) -> Options {
    options.insert("optimizer".to_owned(), optimizer.name().into());
    options.insert("seeds".to_owned(), seed.into());
    options
}

/// Without what only other optimizers make use of.
fn for_optimizers(mut options: Options, optimizers: &[OptimizerKind]) -> Options {
    let is_used = |has: fn(Rule) -> bool| optimizers.iter().any(|optimizer| has(optimizer.rule()));
    // A name that is none at all stays, to be refused.
    let is_one = |name: &str| name.parse().map_or(true, |optimizer| optimizers.contains(&optimizer));
    let is_for_one =
        |rate: &Value| rate.as_str().and_then(|text| text.split_once('=')).is_none_or(|(name, _)| is_one(name));
    options.retain(|name, value| match (name.as_str(), value) {
        ("momentum", _) => is_used(Rule::has_momentum),
        ("betas", _) => is_used(Rule::has_betas),
        ("scale", _) => optimizers.iter().any(|optimizer| optimizer.is_virtual()),
        ("lr", Value::Array(rates)) => {
            rates.retain(is_for_one);
            !rates.is_empty()
        }
        ("lr", Value::Object(rates)) => {
            rates.retain(|name, _| is_one(name));
            !rates.is_empty()
        }
        _ => true,
    });
    options
}

fn argument<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|argument| {
        let aliases = argument.get_all_aliases().unwrap_or_default();
        argument.get_long() == Some(name) || aliases.contains(&name)
    })
}

/// What a command line cannot be mistaken in.
fn ensure_type(name: &str, argument: &Arg, value: &Value) -> Result<()> {
    let takes_many = argument.get_value_delimiter().is_some();
    let expected = match (argument.get_action().takes_values(), value) {
        (false, Value::Bool(_)) | (true, Value::String(_) | Value::Number(_)) => return Ok(()),
        (true, Value::Array(_) | Value::Object(_)) if takes_many && !is_time(value) => return Ok(()),
        (false, _) => "true or false",
        (true, _) if is_time(value) => "a text, in quotes",
        (true, _) if takes_many => "values in [ ], or a table",
        (true, _) => "a number or a text",
    };
    bail!("{name}: expected {expected}, got {value}")
}

/// What TOML takes for a date or a time, as serde has it.
fn is_time(value: &Value) -> bool {
    value.as_object().is_some_and(|table| table.keys().any(|key| key.starts_with("$__toml")))
}

fn is_given(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}

/// Whether the command line has this option, or one that it cannot stand beside.
fn is_overruled(command: &Command, own: &ArgMatches, argument: &Arg) -> bool {
    let id = argument.get_id();
    // Each struct of options is a group, too, whose members go together.
    let is_exclusive =
        |group: &&ArgGroup| !(*group).clone().is_multiple() && group.get_args().any(|member| member == id);
    let exclusive = command.get_groups().filter(is_exclusive);
    let mut alternatives = exclusive.flat_map(|group| group.get_args()).map(clap::Id::as_str);
    // Either of two may be the one that says it.
    let conflicts = |one: &Arg, other: &Arg| {
        command.get_arg_conflicts_with(one).iter().any(|conflict| conflict.get_id() == other.get_id())
    };
    let mut given = command.get_arguments().filter(|other| is_given(own, other.get_id().as_str()));
    is_given(own, id.as_str())
        || alternatives.any(|id| is_given(own, id))
        || given.any(|other| conflicts(argument, other) || conflicts(other, argument))
}

fn kept(command: &Command, matches: &ArgMatches) -> Options {
    let mut options = Options::new();
    for argument in command.get_arguments() {
        let (id, name) = (argument.get_id().as_str(), argument.get_long().unwrap_or_default());
        if !is_given(matches, id) || NOT_KEPT.contains(&name) {
            continue;
        }
        let mut texts = matches.get_raw(id).into_iter().flatten().map(|text| Value::from(text.to_string_lossy()));
        let value = match (argument.get_action().takes_values(), argument.get_value_delimiter()) {
            (false, _) => Value::Bool(true),
            (true, Some(_)) => Value::Array(texts.collect()),
            (true, None) => texts.next_back().unwrap_or_default(),
        };
        options.insert(name.to_owned(), value);
    }
    options
}
