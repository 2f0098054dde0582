//! Options from a file: a TOML of their names, or the run.json of a run; and the options of this process as such a file has them.

use crate::screen::warn;
use anyhow::{Context, Result, bail, ensure};
use clap::parser::ValueSource;
use clap::{Arg, ArgGroup, ArgMatches, Command};
use experiments::optimizer::OptimizerKind;
use experiments::record::{Options, RECORD_FILE, Record};
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::OnceLock;

/// Of how to go about it, not of what to do: a record does not keep these.
const NOT_KEPT: [&str; 5] = ["config", "jobs", "part", "resume", "overwrite"];

static GIVEN: OnceLock<Options> = OnceLock::new();

/// The options that this process was given, by its command line or its file.
pub fn given() -> Options {
    GIVEN.get().cloned().unwrap_or_default()
}

/// Parses the command line, and the file that its --config names. What both have is the command line's; and what cannot stand
/// beside an option of the command line, such as another length, is left out.
pub fn matches(command: Command) -> ArgMatches {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let mut matches = command.clone().get_matches_from(&arguments);
    if let Some(path) = matches.get_one::<PathBuf>("config").cloned() {
        let from_file = words_of_file(&command, &matches, &path).unwrap_or_else(|error| {
            warn(&format!("error: --config {}: {error:#}", path.display()));
            exit(WRONG_OPTION)
        });
        let (program, rest) = arguments.split_at(1);
        let all = program.iter().cloned().chain(from_file.into_iter().map(OsString::from)).chain(rest.iter().cloned());
        matches = command.clone().try_get_matches_from(all).unwrap_or_else(|error| {
            warn(&format!("with --config {}:", path.display()));
            error.exit()
        });
    }
    let _ = GIVEN.set(kept(&command, &matches));
    matches
}

/// What clap's own errors end with.
const WRONG_OPTION: i32 = 2;

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

fn words_of_file(command: &Command, matches: &ArgMatches, path: &Path) -> Result<Vec<String>> {
    let mut options = read(path)?;
    for name in options.keys() {
        let is_known = argument(command, name).is_some() && name != "config";
        ensure!(is_known, "'{name}' is no option: expected the long names of --help, without their dashes");
    }
    options.retain(|name, _| argument(command, name).is_some_and(|argument| !is_overruled(command, matches, argument)));
    words(&options)
}

fn read(path: &Path) -> Result<Options> {
    let text = std::fs::read_to_string(path).context("cannot be read")?;
    if !is_record(path) {
        return toml::from_str(&text).context("expected TOML, such as steps = 100");
    }
    let Record { seed, conditions, origin, .. } = Record::parse(&text)?;
    ensure!(
        !origin.options.is_empty(),
        "expected the {RECORD_FILE} of a run that keeps its options; this one does not, as those of programs of before"
    );
    Ok(of_run(origin.options, conditions.optimizer, seed))
}

/// Refuses the run.json of another experiment.
pub fn ensure_of(path: &Path, experiment: &str) -> Result<()> {
    if is_record(path) {
        let of = Record::parse(&std::fs::read_to_string(path)?)?.conditions.experiment;
        ensure!(of == experiment, "--config {}: expected a run of {experiment}, got one of {of}", path.display());
    }
    Ok(())
}

fn is_record(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

/// Of the options of several runs, those of one: what only other optimizers make use of is left out.
pub fn of_run(mut options: Options, optimizer: OptimizerKind, seed: u64) -> Options {
    options.insert("optimizer".to_owned(), optimizer.name().into());
    options.insert("seeds".to_owned(), seed.into());
    let rule = optimizer.rule();
    options.retain(|name, value| match (name.as_str(), value) {
        ("momentum", _) => rule.has_momentum(),
        ("betas", _) => rule.has_betas(),
        ("lr", Value::Array(rates)) => {
            let is_own = |text: &str| text.split_once('=').is_none_or(|(name, _)| name.trim() == optimizer.name());
            rates.retain(|rate| rate.as_str().is_none_or(is_own));
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

/// Whether the command line has this option, or one that it cannot stand beside.
fn is_overruled(command: &Command, matches: &ArgMatches, argument: &Arg) -> bool {
    let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let id = argument.get_id();
    // Each struct of options is a group, too, whose members go together.
    let is_exclusive =
        |group: &&ArgGroup| !(*group).clone().is_multiple() && group.get_args().any(|member| member == id);
    let exclusive = command.get_groups().filter(is_exclusive);
    let mut alternatives = exclusive.flat_map(|group| group.get_args()).map(clap::Id::as_str);
    is_given(id.as_str())
        || alternatives.any(is_given)
        || command.get_arg_conflicts_with(argument).iter().any(|other| is_given(other.get_id().as_str()))
}

fn kept(command: &Command, matches: &ArgMatches) -> Options {
    let mut options = Options::new();
    for argument in command.get_arguments() {
        let (id, name) = (argument.get_id().as_str(), argument.get_long().unwrap_or_default());
        if matches.value_source(id) != Some(ValueSource::CommandLine) || NOT_KEPT.contains(&name) {
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
