//! Lines for the user. A screen that is gone, or full, is no reason to stop.

use std::io::Write;

/// A line on standard output.
pub fn say(text: &str) {
    let _ = std::io::stdout().write_all(format!("{text}\n").as_bytes());
}

/// A line on standard error: in one piece, since other processes may write there.
pub fn warn(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}
