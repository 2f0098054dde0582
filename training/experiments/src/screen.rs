//! Lines for the user. A screen that is gone, or full, is no reason to stop.

use std::io::Write;

/// A line on standard output.
pub fn say(text: &str) {
    let _ = std::io::stdout().write_all(format!("{text}\n").as_bytes());
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
