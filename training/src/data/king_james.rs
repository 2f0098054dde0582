//! The King James Bible, whose words a model is to foretell: one verse a line, as `scripts/texts` writes it.

use super::text::{END, Vocabulary, ensure_enough, read_lines, windows};
use super::{Dataset, Split};
use crate::models::language::VOCABULARY;
use anyhow::Result;
use experiments::benchmark::Benchmark;
use std::path::Path;

const FILE: &str = "verses.txt";

/// The words of a sample: as far as the BNG paper's first networks see back (§4.4).
const LENGTH: usize = 40;
/// The verses of a part: each tenth of these is for the test.
const PART: usize = 100;

/// Reads the verses in `folder`. The vocabulary is that of the verses to train on.
pub fn read(folder: &Path) -> Result<Dataset> {
    let path = folder.join(FILE);
    let verses = read_lines(&path)?;
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (number, part) in verses.chunks(PART).enumerate() {
        let is_test = number % 10 == 9;
        if is_test { &mut test } else { &mut train }.extend(part.iter().map(String::as_str));
    }
    let vocabulary = Vocabulary::new(train.iter().copied(), VOCABULARY as usize);
    let numbered = |verses: &[&str]| -> Split {
        let numbers = verses.iter().flat_map(|verse| vocabulary.numbers(verse).chain([END]));
        windows(&numbers.collect::<Vec<_>>(), LENGTH)
    };
    let (train, test) = (numbered(&train), numbered(&test));
    let inputs = ensure_enough(&path, &train, &test, Benchmark::KingJames.samples())?;
    Ok(Dataset::new(Benchmark::KingJames.name(), VOCABULARY, inputs, train, test))
}
