//! What each fuzz target does with its bytes. The targets in `fuzz_targets` run these for as long as one likes; the ordinary tests
//! (`tests/all/fuzz_regressions.rs`) run them once over every kept file, on a stable compiler.
//!
//! A body ends: with a panic, an endless loop or too much memory it has found something. What a reader refuses must be
//! refused in one line that says something.

mod comparison;
mod config;
mod costs;
mod gguf;
mod grounding;
mod history;
mod hub;
mod import;
mod judge;
mod messages;
mod picture;
mod preferences;
mod results;
mod safetensors;
mod server;
mod template;
mod tokenizer;

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

/// A target's name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const ALL: [Target; 17] = [
    ("comparison", comparison::run),
    ("config", config::run),
    ("costs", costs::run),
    ("gguf", gguf::run),
    ("grounding", grounding::run),
    ("history", history::run),
    ("hub", hub::run),
    ("import", import::run),
    ("judge", judge::run),
    ("messages", messages::run),
    ("picture", picture::run),
    ("preferences", preferences::run),
    ("results", results::run),
    ("safetensors", safetensors::run),
    ("server", server::run),
    ("template", template::run),
    ("tokenizer", tokenizer::run),
];

/// Runs the target of this name.
pub fn run(name: &str, data: &[u8]) {
    let target = ALL.iter().find(|(known, _)| *known == name);
    target.unwrap_or_else(|| panic!("there is no target {name}")).1(data);
}

/// What was read; what was refused must be refused in a line.
fn read<T, E: Display>(outcome: Result<T, E>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) => {
            let said = error.to_string();
            assert!(!said.contains('\n') && said.contains(": "), "{said:?}");
            None
        }
    }
}

/// The first byte, which chooses among a reader's doors, and the rest.
fn choice(data: &[u8], doors: u8) -> Option<(u8, &[u8])> {
    let (first, rest) = data.split_first()?;
    Some((first % doors, rest))
}

/// The two parts of an input that stand on either side of its first zero byte.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}

/// A file with small pieces of it written over: each six bytes of `edits` are a place (24 bits), a length and two bytes that are
/// repeated. Bytes alone hardly ever make a whole file of these forms.
fn patched(file: &[u8], edits: &[u8], most: usize) -> Vec<u8> {
    let mut file = file.to_vec();
    let most = most.min(file.len());
    for edit in edits.chunks_exact(6) {
        let at = u32::from_le_bytes([edit[0], edit[1], edit[2], 0]) as usize % most.max(1);
        let length = usize::from(edit[3] % 16) + 1;
        for (n, byte) in file.iter_mut().skip(at).take(length).enumerate() {
            *byte = edit[4 + n % 2];
        }
    }
    // What is left over cuts the file off.
    if let Some([low, high]) = edits.chunks_exact(6).remainder().first_chunk::<2>() {
        file.truncate(file.len().saturating_sub(usize::from(u16::from_le_bytes([*low, *high]))));
    }
    file
}

/// A JSON value with another laid over it, as RFC 7396 has it: what is in an object replaces, null takes away.
fn merged(value: &mut serde_json::Value, over: serde_json::Value) {
    match (value, over) {
        (serde_json::Value::Object(map), serde_json::Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    map.remove(&key);
                } else {
                    merged(map.entry(key).or_insert(serde_json::Value::Null), value);
                }
            }
        }
        (value, over) => *value = over,
    }
}

/// A folder for readers that want paths, gone afterwards. `run.sh` sets TMPDIR to a place in memory.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file in it.
    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, bytes).expect("writable");
        path
    }
}
