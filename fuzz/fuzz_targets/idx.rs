//! `fuzz::data::idx` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::data::idx(input);
});
