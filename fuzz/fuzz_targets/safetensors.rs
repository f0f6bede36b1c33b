//! Headers of safetensors files, and the list of shards beside them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ocelli_fuzz::run("safetensors", data));
