//! Conversations in the OpenAI form.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ocelli_fuzz::run("messages", data));
