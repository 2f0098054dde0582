//! Runs side by side, each in a process of its own: what libtorch has once in a process, threads and generator, is each run's own.

use super::{Outcome, Part, config};
use crate::trainer::Wishes;
use anyhow::{Context, Result, ensure};
use experiments::record::{DIVERGED, Record};
use experiments::screen::{say, warn};
use rustix::process::{Pid, Signal, getpid, kill_process};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

const INTERRUPTED: i32 = super::signals::INTERRUPTED as i32;
const OUT_OF_TIME: i32 = super::OUT_OF_TIME as i32;

/// Between looks at the processes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Part {
    fn name(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

struct Running {
    part: Part,
    child: Child,
    /// It has said something: it listens to signals.
    listens: Arc<AtomicBool>,
    lines: JoinHandle<()>,
}

/// Trains them, so many at once. `more` are words of the command line besides those of this process.
pub fn train_all(parts: Vec<Part>, at_once: usize, more: &[String], wishes: &Wishes) -> Result<Outcome> {
    let odd = std::env::args_os().find(|word| word.to_str().is_none());
    ensure!(odd.is_none(), "--jobs: expected options in UTF-8, got {:?}", odd.unwrap_or_default());
    let mut outcome = Outcome::default();
    let mut waiting: VecDeque<Part> = parts.into();
    let mut running: Vec<Running> = Vec::new();
    let mut told = false;
    while !running.is_empty() || !waiting.is_empty() {
        let stop = wishes.stop.load(Ordering::Relaxed);
        if stop {
            outcome.waiting.extend(waiting.drain(..).map(|part| part.name()));
        }
        while running.len() < at_once
            && let Some(part) = waiting.pop_front()
        {
            match start(&part, more) {
                Ok((child, listens, lines)) => running.push(Running { part, child, listens, lines }),
                Err(error) => {
                    warn(&format!("{}: {error:#}", part.name()));
                    outcome.failed.push(part.name());
                }
            }
        }
        if stop && !told {
            tell(running.iter(), Signal::TERM);
            told = true;
        }
        if wishes.checkpoint.swap(false, Ordering::Relaxed) {
            // One that begins has nothing to write yet, and would end of it.
            tell(running.iter().filter(|running| running.listens.load(Ordering::Relaxed)), Signal::USR1);
        }
        let mut index = 0;
        while index < running.len() {
            match running[index].child.try_wait()? {
                None => index += 1,
                Some(status) => {
                    let Running { part, lines, .. } = running.remove(index);
                    let _ = lines.join();
                    match was_asked_too_early(status) && !stop {
                        true => waiting.push_front(part),
                        false => ended(&mut outcome, &part, status, stop),
                    }
                }
            }
        }
        sleep(LOOK_EVERY);
    }
    Ok(outcome)
}

fn tell<'a>(running: impl Iterator<Item = &'a Running>, signal: Signal) {
    for Running { child, .. } in running {
        // One that has just ended does not hear it.
        let _ = kill_process(Pid::from_child(child), signal);
    }
}

fn start(part: &Part, more: &[String]) -> Result<(Child, Arc<AtomicBool>, JoinHandle<()>)> {
    let options = config::of_run(config::given(), part.optimizer, part.seed);
    let mut command = Command::new(program()?);
    // The name that the user has given, for the record.
    #[cfg(unix)]
    if let Some(name) = std::env::args_os().next() {
        std::os::unix::process::CommandExt::arg0(&mut command, name);
    }
    command.arg(format!("--part={}", getpid().as_raw_nonzero()));
    command.args(config::words(&options)?).args(more).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot be started")?;
    let stdout = child.stdout.take().context("its lines")?;
    let listens = Arc::new(AtomicBool::new(false));
    let told = listens.clone();
    let lines = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            told.store(true, Ordering::Relaxed);
            say(&line);
        }
    });
    Ok((child, listens, lines))
}

/// The program that this process runs, even where its file has another content by now.
fn program() -> Result<PathBuf> {
    match cfg!(target_os = "linux") {
        true => Ok("/proc/self/exe".into()),
        false => std::env::current_exe().context("the program's own path"),
    }
}

/// In a process that trains a part: when the one that has started it is killed, it stops with a checkpoint.
pub fn end_with(parent: i32) -> Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    // It may have been killed before.
    let is_there = rustix::process::getppid().is_some_and(|pid| pid.as_raw_nonzero().get() == parent);
    ensure!(is_there, "the program that has started this one is gone");
    Ok(())
}

/// Whether a wish for a checkpoint, which all processes of a group get, has ended one that was being loaded. It has nothing to
/// lose, and begins again.
fn was_asked_too_early(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::USR1.as_raw())
}

fn ended(outcome: &mut Outcome, part: &Part, status: ExitStatus, stop: bool) {
    let name = part.name();
    match status.code() {
        Some(0) => {}
        Some(OUT_OF_TIME) => outcome.stopped.push(name),
        // As this process was, which says so, or by somebody who knew its number.
        None | Some(INTERRUPTED) if stop => {}
        Some(INTERRUPTED) => outcome.failed.push(format!("{name} (interrupted)")),
        None => outcome.failed.push(format!("{name} ({status})")),
        _ => {
            let note = Record::load(&part.folder).ok().and_then(|record| record.progress.note);
            outcome.failed.push(match note.filter(|note| note.starts_with(DIVERGED)) {
                Some(note) => format!("{name} ({note})"),
                None => name,
            });
        }
    }
}
