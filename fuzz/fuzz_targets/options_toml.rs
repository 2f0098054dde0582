//! `fuzz::runs::options_toml` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::runs::options_toml(input);
});
