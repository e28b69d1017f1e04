//! One program for each line of `TARGETS`: which one, says the name that Cargo builds it under.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| exhibit_fuzz::run(env!("CARGO_BIN_NAME"), bytes));
