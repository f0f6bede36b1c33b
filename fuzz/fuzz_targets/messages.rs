//! Any text as a conversation in the OpenAI form: an error at most.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ocelli::chat::openai::parse_conversation;

fuzz_target!(|text: &str| {
    if let Err(error) = parse_conversation(text, Path::new("/nowhere")) {
        assert!(!error.to_string().contains('\n'));
    }
});
