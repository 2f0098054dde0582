//! The training programs, built by cargo and run as a user runs them.

#[path = "../common/matlab.rs"]
mod matlab;
#[path = "../common/programs.rs"]
mod programs;
#[path = "../common/versions.rs"]
mod versions;

#[cfg(unix)]
mod checkpoints;
mod examples;
mod report;
