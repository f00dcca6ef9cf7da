//! Runs the check of `check.rs` under cargo-fuzz.

#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::decode_keeps_its_promises(input));
