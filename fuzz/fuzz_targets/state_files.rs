//! `fuzz::state_files::load` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::state_files::load(input);
});
