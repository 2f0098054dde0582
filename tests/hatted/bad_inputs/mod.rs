//! Bad input by the hundred, to all that is public: each gets a typed error whose text says what to do, nothing has changed
//! after it, and the next good call works. What each error says in detail is in errors.rs and its like.

mod files;
mod layers;
mod operators;
mod optimizers;

use crate::common::*;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::path::Path;
use tch::Tensor;
use tch_svgd::{Error, Result};

/// How many inputs were tried, and with how many something was wrong, which is printed.
#[derive(Default)]
struct Trial {
    tried: usize,
    faults: usize,
}

/// What is called badly.
struct Subject<'a> {
    /// What its errors name before an argument or a setting, as `svgd::linear: argument `.
    says: &'a str,
    /// What no failed call may change.
    state: &'a dyn Fn() -> Vec<Tensor>,
    /// A call with nothing wrong.
    good: &'a dyn Fn() -> Result<()>,
}

impl Trial {
    /// The call is refused, for the sake of what is named `name`; of any argument where that is empty.
    #[track_caller]
    fn refused<T>(&mut self, subject: &Subject<'_>, name: &str, bad: impl FnOnce() -> Result<T>) {
        let place = Location::caller();
        self.judged(subject, &format!("{place}: {}'{name}'", subject.says), bad, |error| {
            lacks(&error.to_string(), subject.says, name)
        });
    }

    /// The file is refused, by an error that names it.
    #[track_caller]
    fn refused_file<T>(&mut self, subject: &Subject<'_>, file: &Path, bad: impl FnOnce() -> Result<T>) {
        let place = Location::caller();
        let case = format!("{place}: {}{}", subject.says, file.display());
        self.judged(subject, &case, bad, |error| match error {
            Error::State { path, message } if path == file => lacks(message, "", ""),
            // The system's own words.
            Error::Io { path, .. } if path == file => None,
            _ => Some("the file"),
        });
    }

    fn judged<T>(
        &mut self,
        subject: &Subject<'_>,
        case: &str,
        bad: impl FnOnce() -> Result<T>,
        lacks: impl FnOnce(&Error) -> Option<&'static str>,
    ) {
        self.tried += 1;
        if std::env::var_os("SHOW").is_some() {
            eprintln!("{case}");
        }
        let before: Vec<_> = (subject.state)().iter().map(Tensor::copy).collect();
        let fault = match catch_unwind(AssertUnwindSafe(bad)) {
            Err(_) => Some("a panic".to_owned()),
            Ok(Ok(_)) => Some("no error".to_owned()),
            Ok(Err(error @ (Error::Torch(_) | Error::Tch(_)))) => Some(format!("libtorch's own words: {error:.200}")),
            Ok(Err(error)) => lacks(&error).map(|missing| format!("{missing} is not in: {error}")),
        };
        self.found(case, fault);
        let after = (subject.state)();
        if before.len() != after.len() || !before.iter().zip(&after).all(|(before, after)| same_bits(before, after)) {
            self.found(case, Some("the state has changed".to_owned()));
        }
        let fault = match catch_unwind(AssertUnwindSafe(subject.good)) {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("a good call after it: {error}")),
            Err(_) => Some("a good call after it panics".to_owned()),
        };
        self.found(case, fault);
    }

    fn found(&mut self, case: &str, fault: Option<String>) {
        if let Some(fault) = fault {
            println!("{case}: {fault}");
            self.faults += 1;
        }
    }
}

/// What a text has not: who says it and of what, what was expected, what came, and what to do.
fn lacks(text: &str, says: &str, name: &str) -> Option<&'static str> {
    let quoted = if name.is_empty() { format!("{says}'") } else { format!("{says}'{name}'") };
    let rest = if says.is_empty() { Some(text) } else { text.split_once(&quoted).map(|(_, rest)| rest) };
    let Some(rest) = rest else { return Some("the name") };
    let Some((_, rest)) = rest.split_once("expected ") else { return Some("what was expected") };
    let Some((_, rest)) = rest.split_once("got ") else { return Some("what came") };
    let Some((got, advice)) = rest.rsplit_once("; ") else { return Some("what to do") };
    let raw = text.contains('\x1f') || text.contains("frame #");
    if got.is_empty() || advice.is_empty() || raw { Some("a sentence") } else { None }
}

#[test]
fn two_hundred_bad_inputs_are_errors_that_say_what_to_do_and_change_nothing() {
    let mut trial = Trial::default();
    operators::try_all(&mut trial);
    layers::try_all(&mut trial);
    optimizers::try_all(&mut trial);
    files::try_all(&mut trial);
    let Trial { tried, faults } = trial;
    println!("{tried} bad inputs");
    assert_eq!(faults, 0, "of {tried} bad inputs");
    assert!(tried >= 200, "{tried} bad inputs");
}
