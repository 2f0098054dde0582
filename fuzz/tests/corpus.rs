//! What fuzzing has found stays found: each input of corpus/ again, and some thousand changes of good files.

use fuzz::{SEPARATOR, TARGETS, Target};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Changes of each target's inputs; with TIMES=1000 that many times more.
const CHANGES: usize = 300;

/// What numbers and lengths are mistaken at.
const WORDS: [&[u8]; 12] = [
    &[0],
    &[0xff],
    &[0xff; 4],
    &[0; 8],
    &[0x7f, 0xff, 0xff, 0xff],
    b"-1",
    b"18446744073709551615",
    b"1e999",
    b"null",
    b"\n",
    b"\"",
    SEPARATOR,
];

fn changed(input: &[u8], others: &[Vec<u8>], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=bytes.len());
        let end = random.random_range(at..=bytes.len().min(at + 16));
        match random.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] = random.random(),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => drop(bytes.splice(at..end, WORDS.choose(random).expect("words").iter().copied())),
            _ => {
                let other = others.choose(random).expect("inputs");
                let from = random.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file of the corpus").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.display().to_string(), std::fs::read(path).expect("a file"))).collect()
}

/// How the names of good files begin.
const SEED: &str = "seed ";

fn try_one(target: &Target, name: &str, input: &[u8]) {
    let run = || {
        let is_taken = (target.run)(input);
        assert!(is_taken || !name.starts_with(SEED), "a good file is refused");
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        let kept = std::env::temp_dir().join(format!("fuzz-{}", target.name));
        std::fs::write(&kept, input).expect("room for the input");
        eprintln!("{}: {name}: the input is kept as {}", target.name, kept.display());
        std::panic::resume_unwind(panic);
    }
}

fn holds(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let seeds = (target.seeds)().into_iter().enumerate().map(|(number, seed)| (format!("{SEED}{number}"), seed));
    let inputs: Vec<(String, Vec<u8>)> = seeds.chain(corpus(target)).collect();
    for (name, input) in &inputs {
        try_one(target, name, input);
    }
    let times: usize = std::env::var("TIMES").map_or(1, |times| times.parse().expect("TIMES: a number"));
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let others: Vec<_> = inputs.iter().map(|(_, input)| input.clone()).collect();
    for number in 0..CHANGES * times {
        let (name, input) = inputs.choose(&mut random).expect("a seed");
        let input = changed(input, &others, &mut random);
        try_one(target, &format!("change {number}, of {name}"), &input);
    }
}

macro_rules! held {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            holds(stringify!($name));
        })*

        #[test]
        fn every_target_is_tried() {
            assert_eq!(TARGETS.map(|target| target.name), [$(stringify!($name)),*]);
        }
    };
}

held!(state_files, idx, cifar, svhn, texts, image, run_json, curve_csv, options_toml);
