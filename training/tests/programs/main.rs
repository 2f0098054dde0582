//! The training programs, run as a user runs them.

mod common;
mod matlab;
#[path = "../../../tests/common/programs.rs"]
mod programs;

#[cfg(unix)]
mod checkpoints;
mod config;
mod data;
mod examples;
// A library is preloaded.
#[cfg(target_os = "linux")]
mod faults;
#[cfg(unix)]
mod folders;
mod images;
#[cfg(unix)]
mod jobs;
mod log;
mod options;
mod recipe;
mod trained;
