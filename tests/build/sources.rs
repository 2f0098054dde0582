//! What is compiled (build/sources.txt).

#[path = "../../build/sources.rs"]
mod listed;

use std::collections::BTreeSet;
use std::path::Path;

const GROUPS: [&str; 7] = ["operators", "bridge", "loops", "loops-x86_64", "kernels", "cuda-operators", "cuda-bridge"];

/// The sources below this folder, from the root of the crate.
fn sources_below(folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
        let name = format!("{folder}/{}", entry.unwrap().file_name().display());
        if name.ends_with(".cpp") || name.ends_with(".cu") {
            found.insert(name);
        } else if Path::new(env!("CARGO_MANIFEST_DIR")).join(&name).is_dir() {
            found.extend(sources_below(&name));
        }
    }
    found
}

#[test]
fn every_source_is_compiled_once() {
    let listed: Vec<_> = listed::of(&GROUPS).map(|source| source.path.to_owned()).collect();
    let there: BTreeSet<_> = ["cpp", "cuda"].into_iter().flat_map(sources_below).collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), there);
    assert_eq!(listed.len(), there.len(), "one is listed twice");
}

#[test]
fn every_line_is_of_a_group_that_is_explained() {
    let words = |line: &'static str| line.split_whitespace().next();
    let table = include_str!("../../build/sources.txt");
    let groups: BTreeSet<_> = table.lines().filter(|line| !line.starts_with('#')).filter_map(words).collect();
    assert_eq!(groups, GROUPS.into_iter().chain(["flags"]).collect());
}

#[test]
fn loops_have_the_flags_that_give_every_instruction_set_the_same_bits() {
    assert!(listed::flags("loops").any(|flag| flag == "-ffp-contract=off"));
    let of_avx512 = listed::of(&["loops-x86_64"]).find(|source| source.path.contains("avx512")).unwrap();
    assert!(of_avx512.flags.contains(&"-mavx512f"));
    assert_eq!(listed::of(&["loops"]).next().unwrap().flags, Vec::<&str>::new());
}
