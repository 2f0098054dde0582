//! Block-normalized gradients on sentences (BNG paper, §4.5): a one-layer convolutional network tells whether a film review is
//! for the film, by momentum, Adam and AdaGrad as they are and on normalized gradients.
//!
//!     scripts/texts && cargo run --release --example bng_sentences -- --epochs 5 --seeds 0..5

mod support;

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches};
use std::process::ExitCode;
use support::experiment::BNG_SENTENCES;
use support::models::sentences::SentenceNet;
use support::options::Options;

fn main() -> Result<ExitCode> {
    let command = Options::command().mut_arg("optimizers", |argument| {
        argument.default_value("momentum,momentum-ng,adam,adam-ng,adagrad,adagrad-ng")
    });
    let options = Options::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    support::run::<SentenceNet>(&BNG_SENTENCES, &options)
}
