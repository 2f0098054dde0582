//! Block-normalized gradients on a recurrent network (BNG paper, §4.4): an LSTM that foretells the words of the King James
//! Bible, by Adam as it is and on normalized gradients.
//!
//!     scripts/texts && cargo run --release --example bng_language -- --epochs 2
//!
//! The perplexity is e to the loss; an error is a word that another was thought likelier than. Each sample of 40 words begins
//! with a state of zeros.

mod support;

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches};
use std::process::ExitCode;
use support::experiment::BNG_LANGUAGE;
use support::models::language::Language;
use support::options::Options;

fn main() -> Result<ExitCode> {
    let command = Options::command().mut_arg("optimizers", |argument| argument.default_value("adam,adam-ng"));
    let options = Options::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    support::run::<Language>(&BNG_LANGUAGE, &options)
}
