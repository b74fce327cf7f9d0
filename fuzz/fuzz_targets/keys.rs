#![no_main]
//! `cargo fuzz run keys`: see src/provider/fuzz.rs for what it holds to.

libfuzzer_sys::fuzz_target!(|input: &[u8]| hookonce::provider::fuzz::keys(input));
