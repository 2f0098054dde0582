//! The mechanism: what holds for every method, and how it is seen from outside.

#[path = "../common/mod.rs"]
mod common;

mod autocast;
mod bad_inputs;
mod claims;
mod dispatcher;
mod errors;
mod leaks;
mod state;
mod threads;
