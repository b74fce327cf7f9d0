#![no_main]
//! `cargo fuzz run token`: see src/provider/fuzz.rs for what it holds to.

libfuzzer_sys::fuzz_target!(|input: &[u8]| hookonce::provider::fuzz::token(input));
