//! Assertions: patterns, JSON schemas, boxes; and what differs between two answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ocelli_fuzz::run("judge", data));
