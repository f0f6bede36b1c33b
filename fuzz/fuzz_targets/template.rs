//! Chat templates: compiled, and rendered with fuel.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ocelli_fuzz::run("template", data));
