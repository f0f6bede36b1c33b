//! The database of conversations: files that are none, and a sound one with pieces written over.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ocelli_fuzz::run("history", data));
