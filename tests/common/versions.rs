//! The pair of build/versions.txt that the tests are built with.
#![allow(dead_code)] // each test file uses its own part

#[path = "../../build/libtorch.rs"]
pub mod libtorch;

pub use libtorch::{Pair, known_pairs};

/// The version of tch in Cargo.lock.
pub fn locked_tch() -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let (_, rest) = lock.split_once("name = \"tch\"\nversion = \"").expect("Cargo.lock has tch");
    rest.split('"').next().unwrap()
}

/// What the table says of that tch.
pub fn locked_pair() -> Pair {
    let (series, _) = locked_tch().rsplit_once('.').unwrap();
    let pair = known_pairs().into_iter().find(|pair| pair.tch == series);
    pair.unwrap_or_else(|| panic!("tch {series} of Cargo.lock is not in build/versions.txt"))
}
