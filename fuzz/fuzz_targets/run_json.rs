//! `fuzz::runs::run_json` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::runs::run_json(input);
});
