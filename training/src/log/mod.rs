//! Files that tell of a run while it is trained, for other programs to read.

mod json_lines;
mod tensorboard;

use crate::trainer::observer::{Begun, Observer, Tested};
use anyhow::{Context, Error, Result};
use clap::ValueEnum;
use experiments::run::Run;
use experiments::screen::warn;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// log.jsonl: an object for each event, a line each.
    Jsonl,
    /// TensorBoard's event files.
    Tensorboard,
}

/// What is told.
#[derive(Debug)]
enum Event<'a> {
    Begin(&'a Begun),
    Test(&'a Tested<'a>),
    Checkpoint { step: usize },
    Message(&'a str),
    End { run: &'a Run },
}

/// A file of one form.
trait Writer: Sized {
    /// Opens it in the folder of a run.
    fn open(run: &Begun) -> Result<Self>;
    fn write(&mut self, event: &Event, at: SystemTime) -> Result<()>;
}

/// A log of this form.
pub fn observer(format: Format) -> Box<dyn Observer> {
    match format {
        Format::Jsonl => Box::new(Log::<json_lines::JsonLines>::default()),
        Format::Tensorboard => Box::new(Log::<tensorboard::EventFile>::default()),
    }
}

/// A log in the folder of a run. When it cannot be written it says so once, and no more.
struct Log<W> {
    state: State<W>,
    folder: PathBuf,
}

enum State<W> {
    /// The run has not begun; what was said so far.
    Before(Vec<String>),
    Open(W),
    Failed,
}

impl<W> Default for Log<W> {
    fn default() -> Self {
        Self { state: State::Before(Vec::new()), folder: PathBuf::new() }
    }
}

impl<W: Writer> Log<W> {
    fn write(&mut self, event: &Event) {
        if let State::Open(writer) = &mut self.state
            && let Err(error) = writer.write(event, SystemTime::now())
        {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: Error) {
        warn(&format!("{}: the log cannot be written, and is given up: {error:#}", self.folder.display()));
        self.state = State::Failed;
    }
}

impl<W: Writer> Observer for Log<W> {
    fn on_begin(&mut self, run: &Begun) {
        self.folder.clone_from(&run.folder);
        let before = match std::mem::replace(&mut self.state, State::Failed) {
            State::Before(texts) => texts,
            _ => Vec::new(),
        };
        match W::open(run) {
            Ok(writer) => self.state = State::Open(writer),
            Err(error) => return self.fail(error),
        }
        self.write(&Event::Begin(run));
        for text in &before {
            self.write(&Event::Message(text));
        }
    }

    fn on_test(&mut self, test: &Tested) {
        self.write(&Event::Test(test));
    }

    fn on_checkpoint(&mut self, step: usize, _folder: &Path) {
        self.write(&Event::Checkpoint { step });
    }

    fn on_message(&mut self, text: &str) {
        match &mut self.state {
            State::Before(texts) => texts.push(text.to_owned()),
            _ => self.write(&Event::Message(text)),
        }
    }

    fn on_end(&mut self, _name: &str, run: &Run) {
        self.write(&Event::End { run });
    }
}

/// A file's name for an error.
fn named<T, E: Into<anyhow::Error>>(result: Result<T, E>, path: &Path) -> Result<T> {
    result.map_err(Into::into).with_context(|| path.display().to_string())
}
