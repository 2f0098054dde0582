//! Runs side by side, each in a process of its own: what libtorch has once in a process, threads and generator, is each run's own.

use super::{Outcome, Part, config};
use crate::screen::{say, warn};
use crate::trainer::Wishes;
use anyhow::{Context, Result};
use experiments::record::{DIVERGED, Record};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

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
    lines: JoinHandle<()>,
}

/// Trains them, so many at once. `more` are words of the command line besides those of this process.
pub fn train_all(parts: Vec<Part>, at_once: usize, more: &[String], wishes: &Wishes) -> Result<Outcome> {
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
                Ok((child, lines)) => running.push(Running { part, child, lines }),
                Err(error) => {
                    warn(&format!("{}: {error:#}", part.name()));
                    outcome.failed.push(part.name());
                }
            }
        }
        if stop && !told {
            tell(&running, Signal::TERM);
            told = true;
        }
        if wishes.checkpoint.swap(false, Ordering::Relaxed) {
            tell(&running, Signal::USR1);
        }
        let mut index = 0;
        while index < running.len() {
            match running[index].child.try_wait()? {
                None => index += 1,
                Some(status) => {
                    let Running { part, lines, .. } = running.remove(index);
                    let _ = lines.join();
                    ended(&mut outcome, &part, status.code());
                }
            }
        }
        sleep(LOOK_EVERY);
    }
    Ok(outcome)
}

fn tell(running: &[Running], signal: Signal) {
    for Running { child, .. } in running {
        // One that has just ended does not hear it.
        let _ = kill_process(Pid::from_child(child), signal);
    }
}

fn start(part: &Part, more: &[String]) -> Result<(Child, JoinHandle<()>)> {
    let options = config::of_run(config::given(), part.optimizer, part.seed);
    let mut command = Command::new(std::env::current_exe().context("the program's own path")?);
    command.args(config::words(&options)?).arg("--part").args(more).stdin(Stdio::null()).stdout(Stdio::piped());
    // Of a group of its own: the terminal's signals come from here, once.
    let mut child = command.process_group(0).spawn().context("cannot be started")?;
    let stdout = child.stdout.take().context("its lines")?;
    let lines =
        std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| say(&line)));
    Ok((child, lines))
}

/// In a process that trains a part: when the one that has started it is killed, it stops with a checkpoint.
pub fn end_with_parent() -> Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    Ok(())
}

fn ended(outcome: &mut Outcome, part: &Part, code: Option<i32>) {
    let name = part.name();
    match code {
        Some(0) => {}
        Some(code) if code == i32::from(super::OUT_OF_TIME) => outcome.stopped.push(name),
        Some(code) if code == i32::from(super::signals::INTERRUPTED) => {}
        _ => {
            let note = Record::load(&part.folder).ok().and_then(|record| record.progress.note);
            outcome.failed.push(match note.filter(|note| note.starts_with(DIVERGED)) {
                Some(note) => format!("{name} ({note})"),
                None => name,
            });
        }
    }
}
