//! `fuzz::runs::curve_csv` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::runs::curve_csv(input);
});
