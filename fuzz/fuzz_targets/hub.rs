//! What a hub answers, names, and notes of downloads that were begun.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ocelli_fuzz::run("hub", data));
