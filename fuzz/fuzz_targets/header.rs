//! Any bytes as a safetensors file: an error at most.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli::model::checkpoint::check_header;

fuzz_target!(|bytes: &[u8]| {
    // The first byte decides whether the rest is the whole file, or a header whose length is right.
    let Some((first, rest)) = bytes.split_first() else { return };
    let outcome = if first % 2 == 0 {
        check_header(rest)
    } else {
        let mut file = (rest.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(rest);
        check_header(&file)
    };
    if let Err(error) = outcome {
        assert!(!error.to_string().contains('\n'));
    }
});
