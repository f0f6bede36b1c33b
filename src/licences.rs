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

/// The versions of these packages in the program, each with its name.
#[must_use]
pub fn versions_of(names: &[&str]) -> Vec<String> {
    let text = third_party().unwrap_or_default();
    let named = |name: &&str| {
        let line = text.lines().map(str::trim_start).find(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') && rest.contains('.'))
        })?;
        let version = line.split_whitespace().nth(1)?.trim_end_matches(',');
        Some(format!("{name} {version}"))
    };
    names.iter().filter_map(named).collect()
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
        let versions = versions_of(&["wgpu", "egui", "no-such-package"]);
        assert!(
            versions.len() == 2 && versions[0].starts_with("wgpu 30.") && versions[1].starts_with("egui 0.")
        );
        let longest = text.lines().map(str::len).max();
        assert!(longest.is_some_and(|bytes| bytes < 2_000), "a line of {longest:?} bytes");
    }
}
