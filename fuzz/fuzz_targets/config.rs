//! `config.json`, `generation_config.json` and the preprocessors' files.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ocelli_fuzz::run("config", data));
