//! Sentences of film reviews from Rotten Tomatoes, as Hutto & Gilbert (2014) had them rated: lines of a number, a rating and
//! a sentence, parted by tabs.

use super::text::{Vocabulary, ensure_enough, padded, read_lines};
use super::{Dataset, Split};
use crate::models::sentences::VOCABULARY;
use anyhow::{Context, Result};
use experiments::benchmark::Benchmark;
use std::path::Path;

const FILE: &str = "movieReviewSnippets_GroundTruth.txt";

/// The words of a sample: the longest sentence has fewer.
const LENGTH: usize = 64;

/// Reads the sentences in `folder`, without those whose rating is 0, which are neither for nor against; each tenth is for
/// the test. The vocabulary is that of those to train on.
pub fn read(folder: &Path) -> Result<Dataset> {
    let path = folder.join(FILE);
    let lines = read_lines(&path)?;
    let (mut train, mut test, mut count) = (Vec::new(), Vec::new(), 0);
    for (index, line) in lines.iter().enumerate() {
        let expected = "expected a number, a rating and a sentence, parted by tabs";
        let (rating, sentence) =
            parse(line).with_context(|| format!("{}, line {}: {expected}, got '{line}'", path.display(), index + 1))?;
        if rating != 0.0 {
            count += 1;
            if count % 10 == 0 { &mut test } else { &mut train }.push((sentence, i64::from(rating > 0.0)));
        }
    }
    let vocabulary = Vocabulary::new(train.iter().map(|&(sentence, _)| sentence), VOCABULARY as usize);
    let numbered = |sentences: &[(&str, i64)]| -> Split {
        let lines = sentences.iter().map(|&(sentence, label)| (vocabulary.numbers(sentence).collect(), label));
        padded(&lines.collect::<Vec<_>>(), LENGTH)
    };
    let (train, test) = (numbered(&train), numbered(&test));
    let inputs = ensure_enough(&path, &train, &test, Benchmark::Sentences.samples())?;
    Ok(Dataset::new(Benchmark::Sentences.name(), 2, inputs, train, test))
}

/// The rating, above 0 where it is for the film, and the sentence.
fn parse(line: &str) -> Option<(f64, &str)> {
    let (_, rest) = line.split_once('\t')?;
    let (rating, sentence) = rest.split_once('\t')?;
    Some((rating.trim().parse().ok().filter(|rating: &f64| rating.is_finite())?, sentence))
}
