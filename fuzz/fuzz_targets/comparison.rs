//! Comparison files, their values, and the cells that they make.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ocelli_fuzz::run("comparison", data));
