//! What answers cost, packed, and everything that is worked out of it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ocelli_fuzz::run("costs", data));
