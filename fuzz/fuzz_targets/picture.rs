//! Pictures and animations: what their headers say, and what they hold.
#![no_main]

use libfuzzer_sys::fuzz_target;

// Decoders that panic on a damaged file are caught by the program, and must not end the fuzzing; what is not caught does.
fuzz_target!(init: std::panic::set_hook(Box::new(|_| ())), |data: &[u8]| ocelli_fuzz::run("picture", data));
