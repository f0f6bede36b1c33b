//! What a server answers: streams of events, whole answers, lists of models, refusals.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ocelli_fuzz::run("server", data));
