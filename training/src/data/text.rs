//! Words and their numbers.

use super::{Inputs, Split};
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::path::Path;
use tch::Tensor;

/// Padding, where a text is shorter than a sample.
pub const PAD: i64 = 0;
/// A word that is none of the vocabulary.
pub const UNKNOWN: i64 = 1;
/// The end of a line.
pub const END: i64 = 2;
/// The numbers that are no words.
const SPECIAL: usize = 3;

/// The words of a line, in lower case: letters, digits and apostrophes together; all else parts them.
pub fn words(line: &str) -> impl Iterator<Item = String> {
    let parts = line.split(|c: char| !c.is_alphanumeric() && c != '\'').map(|word| word.trim_matches('\''));
    parts.filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// The most frequent words of a text, numbered from 3 on.
pub struct Vocabulary(HashMap<String, i64>);

impl Vocabulary {
    /// Of at most `size` numbers, with those that are no words.
    pub fn new<'a>(lines: impl IntoIterator<Item = &'a str>, size: usize) -> Self {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for word in lines.into_iter().flat_map(words) {
            *counts.entry(word).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        // Of words that are as frequent the first of the alphabet: the map has no order of its own.
        counts.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then(a.cmp(b)));
        let words = counts.into_iter().take(size - SPECIAL).zip(SPECIAL as i64..);
        Self(words.map(|((word, _), number)| (word, number)).collect())
    }

    /// The numbers of a line's words.
    pub fn numbers(&self, line: &str) -> impl Iterator<Item = i64> {
        words(line).map(|word| self.0.get(&word).copied().unwrap_or(UNKNOWN))
    }
}

/// The lines of a text file.
pub fn read_lines(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let text = String::from_utf8(text).with_context(|| format!("{}: expected text in UTF-8", path.display()))?;
    Ok(text.trim_start_matches('\u{feff}').lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
}

/// Samples of `length` words, each with the words that follow its own as labels: text that is read on and on.
pub fn windows(numbers: &[i64], length: usize) -> Split {
    let (inputs, labels): (Vec<i64>, Vec<i64>) = numbers
        .windows(length + 1)
        .step_by(length)
        .flat_map(|window| window[..length].iter().copied().zip(window[1..].iter().copied()))
        .unzip();
    let shape = [-1, length as i64];
    Split { inputs: Tensor::from_slice(&inputs).view(shape), labels: Tensor::from_slice(&labels).view(shape) }
}

/// A sample for each line, of its first `length` words, padded behind; and a label for each.
pub fn padded(lines: &[(Vec<i64>, i64)], length: usize) -> Split {
    let inputs: Vec<i64> =
        lines.iter().flat_map(|(line, _)| (0..length).map(|at| line.get(at).copied().unwrap_or(PAD))).collect();
    let labels: Vec<i64> = lines.iter().map(|&(_, label)| label).collect();
    Split { inputs: Tensor::from_slice(&inputs).view([-1, length as i64]), labels: Tensor::from_slice(&labels) }
}

/// The samples' name, where there are some to train on and to test.
pub fn ensure_enough(path: &Path, train: &Split, test: &Split, samples: &'static str) -> Result<Inputs> {
    ensure!(
        !train.is_empty() && !test.is_empty(),
        "{}: expected {samples} to train on and to test, got {} and {}; check the file",
        path.display(),
        train.len(),
        test.len()
    );
    Ok(Inputs::Words(samples))
}
