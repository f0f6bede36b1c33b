//! The licences of what the program is made of. Most of them ask that their text travels with it: so it is in it.
//! `packaging/licences.py` gathers the texts; `packaging/check-licences.sh` notices when they are out of date.

use std::io::Read;

use flate2::read::GzDecoder;

use crate::error::{Error, Result};

const PACKED: &[u8] = include_bytes!("../assets/licences.txt.gz");

/// This program's own licence, in a sentence.
pub const OWN: &str = "Copyright The Ocelli authors. MIT or Apache-2.0, as you prefer.";

/// The notices and licence texts of everything in the program, as one text to read.
///
/// # Errors
/// The program's file is damaged.
pub fn third_party() -> Result<String> {
    let mut text = String::new();
    GzDecoder::new(PACKED).read_to_string(&mut text).map_err(|e| {
        Error::new("reading the licences in this program", e).help("install the program again")
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_note_is_named_with_its_text() {
        let text = third_party().unwrap();
        for name in ["eframe 0.", "wgpu 30.", "tokenizers 0.", "SQLite", "Rust standard library"] {
            assert!(text.lines().any(|line| line.trim_start().starts_with(name)), "{name}");
        }
        for words in
            ["Apache License", "Permission is hereby granted, free of charge", "SIL OPEN FONT LICENSE"]
        {
            assert!(text.contains(words), "{words}");
        }
        let longest = text.lines().map(str::len).max();
        assert!(longest.is_some_and(|bytes| bytes < 2_000), "a line of {longest:?} bytes");
    }
}
