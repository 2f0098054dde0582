//! What fuzzing has found stays found: each input of corpus/ again, and some thousand changes of good files.

use fuzz::{SEPARATOR, TARGETS, Target};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

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

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = corpora().join(target.name);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file of the corpus").path()).collect();
    paths.sort();
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    paths.into_iter().map(|path| (name(&path), std::fs::read(path).expect("a file"))).collect()
}

/// How the names of inputs begin that a parser takes, as seeds are, and of those that it refuses.
const TAKEN: &str = "taken_";
const REFUSED: &str = "refused_";

fn try_one(target: &Target, name: &str, input: &[u8]) {
    let run = || {
        let is_taken = (target.run)(input);
        for (beginning, wanted) in [(TAKEN, true), (REFUSED, false)] {
            assert!(!name.starts_with(beginning) || is_taken == wanted, "{name}: the parser takes it: {is_taken}");
        }
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(target.name);
        let as_kept = std::fs::write(&kept, input).map(|()| kept.display().to_string());
        eprintln!("{}: {name}: the input is kept: {as_kept:?}", target.name);
        std::panic::resume_unwind(panic);
    }
}

fn holds(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let seeds = (target.seeds)().into_iter().enumerate().map(|(number, seed)| (format!("{TAKEN}seed_{number}"), seed));
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
            for folder in std::fs::read_dir(corpora()).expect("the folder of the corpora") {
                let name = folder.expect("a folder").file_name();
                assert!(TARGETS.iter().any(|target| target.name == name), "{name:?} is no target's");
            }
        }
    };
}

held!(state_files, idx, cifar, svhn, texts, image, run_json, curve_csv, options_toml);
