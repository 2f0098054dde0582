//! Block-normalized gradients on sentences (BNG paper, §4.5): a one-layer convolutional network tells whether a film review is
//! for the film, by momentum, Adam and AdaGrad as they are and on normalized gradients.
//!
//!     scripts/texts && cargo run --release --bin bng_sentences -- --epochs 5 --seeds 0..5

use experiments::experiment::BNG_SENTENCES;
use std::process::ExitCode;
use training::cli;

fn main() -> ExitCode {
    cli::main(&BNG_SENTENCES, &cli::parse(&[&BNG_SENTENCES], "momentum,momentum-ng,adam,adam-ng,adagrad,adagrad-ng"))
}
