//! The example of the README, run as a user runs it.

#[path = "common/programs.rs"]
mod programs;

use programs::*;
use std::process::Command;

#[test]
fn quickstart_runs() {
    let text = stdout(&run(&mut Command::new(example("quickstart"))));
    let losses: Vec<f64> = text.lines().filter_map(|line| line.split("loss ").nth(1)?.parse().ok()).collect();
    assert!(losses.len() == 5 && losses.windows(2).all(|pair| pair[1] < pair[0]), "{text}");
}
