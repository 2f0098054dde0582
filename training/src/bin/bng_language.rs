//! Block-normalized gradients on a recurrent network (BNG paper, §4.4): an LSTM that foretells the words of the King James
//! Bible, by Adam as it is and on normalized gradients.
//!
//!     scripts/texts && cargo run --release --bin bng_language -- --epochs 2
//!
//! The perplexity is e to the loss; an error is a word that another was thought likelier than. Each sample of 40 words begins
//! with a state of zeros.

use experiments::experiment::BNG_LANGUAGE;
use std::process::ExitCode;
use training::cli;

fn main() -> ExitCode {
    cli::main(&BNG_LANGUAGE, &cli::parse(&[&BNG_LANGUAGE], "adam,adam-ng"))
}
