//! Any bytes as a GGUF file: an error at most.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli::model::gguf::{check_header, decode_blocks};

fuzz_target!(|bytes: &[u8]| {
    // The first byte decides whether the rest is the whole file, what follows the magic, or blocks of some type.
    let Some((first, rest)) = bytes.split_first() else { return };
    let outcome = match first % 4 {
        0 => check_header(rest),
        1 => {
            let mut decoded = Vec::new();
            decode_blocks(u32::from(first / 4), rest, &mut decoded);
            return;
        }
        _ => check_header(&[b"GGUF\x03\0\0\0", rest].concat()),
    };
    if let Err(error) = outcome {
        assert!(!error.to_string().contains('\n'));
    }
});
