#![no_main]
//! `cargo fuzz run json`: see src/provider/fuzz.rs for what it holds to.

libfuzzer_sys::fuzz_target!(|input: &[u8]| hookonce::provider::fuzz::json(input));
