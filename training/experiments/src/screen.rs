//! Lines for the user. A screen that is gone, or full, is no reason to stop.

use anyhow::{Result, bail};
use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

/// Why a line was lost, the first time.
static LOST: OnceLock<String> = OnceLock::new();

/// A line on standard output.
pub fn say(text: &str) {
    let mut stdout = std::io::stdout();
    let written = stdout.write_all(format!("{text}\n").as_bytes()).and_then(|()| stdout.flush());
    // A reader that has seen enough is no failure.
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = LOST.set(error.to_string());
    }
}

/// For programs whose lines are what was asked for.
///
/// # Errors
/// If some could not be written.
pub fn ensure_said() -> Result<()> {
    match LOST.get() {
        Some(error) => bail!("standard output: {error}"),
        None => Ok(()),
    }
}

/// A line on standard error: in one piece, since other processes may write there.
pub fn warn(text: &str) {
    let _ = std::io::stderr().write_all(format!("{}\n", line(text)).as_bytes());
}

/// A line, whatever is in the names and files that it cites: a space for what would move the cursor.
fn line(text: &str) -> String {
    text.trim_end().replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_file_says_does_not_move_the_cursor() {
        assert_eq!(super::line("run\r\n1: got '\u{1b}[2J\0'\n"), "run  1: got ' [2J '");
    }
}
