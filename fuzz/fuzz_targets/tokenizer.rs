//! `tokenizer.json`, and what is then made of text.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ocelli_fuzz::run("tokenizer", data));
