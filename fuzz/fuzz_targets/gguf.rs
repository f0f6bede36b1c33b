//! GGUF files: headers, blocks, and a whole small model with pieces written over.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ocelli_fuzz::run("gguf", data));
