#![no_main]
//! `cargo fuzz run header`: see crates/scheme/src/fuzz.rs for what it holds to.

libfuzzer_sys::fuzz_target!(|input: &[u8]| hookonce_scheme::fuzz::header(input));
