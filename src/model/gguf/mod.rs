//! Room: `model`. Qwen3-VL from GGUF files, as published for llama.cpp: a text file (`general.architecture` `qwen3vl`) and
//! a vision file beside it (`mmproj…`, architecture `clip`). Seen here as everything a hub checkpoint gives, so that
//! [`crate::model::convert`] makes the same kind of folder of either.

mod blocks;
mod choose;
pub mod find;
mod header;
mod model;
mod ollama;
mod settings;
mod tensors;
mod vocabulary;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::Digest;

use crate::error::{Error, Result};
use crate::model::mapped_file::MappedFile;
use blocks::Format;
use header::{Entry, Header, Value};

pub(crate) use choose::{Chosen, choose};
pub(crate) use model::{GgufModel, vision_of};

const DOING: &str = "reading the GGUF file";
const UNREAD_FORMAT: &str = "download the Q8_0 file of the same model (also read: F32, F16, BF16, Q4_K, Q5_K and Q6_K, so Q4_K_M and Q5_K_M too)";

/// Checks the header of a GGUF file that is in memory whole, and returns the number of its tensors.
///
/// # Errors
/// The file is truncated, damaged, or no GGUF file of a version that is read.
pub fn check_header(file: &[u8]) -> Result<usize> {
    header::read(file).map(|header| header.tensors.len())
}

/// Replaces the contents of `out` by the elements of whole blocks of the ggml type `number`, as f32; false for a type
/// that is not read.
pub fn decode_blocks(number: u32, bytes: &[u8], out: &mut Vec<f32>) -> bool {
    out.clear();
    let format = Format::of(number);
    format.decode(bytes, out);
    format.block().is_some()
}

/// Opens a model in GGUF files and reads the first rows of every tensor. A door for `fuzz/`: elsewhere a conversion does this.
///
/// # Errors
/// A file is damaged, or of another model.
#[doc(hidden)]
pub fn read_whole(text: &Path, vision: Option<&Path>) -> Result<()> {
    let chosen = Chosen { name: String::new(), text: text.to_owned(), vision: vision.map(Path::to_owned) };
    let model = GgufModel::open(&chosen, vision.is_none())?;
    let (mut values, mut quants, mut scales) = (Vec::new(), Vec::new(), Vec::new());
    for tensor in crate::model::tensor_names::checkpoint_tensors(model.config()) {
        let rows = 0..tensor.shape.first().copied().unwrap_or(0).min(2);
        if model.has_vision() || !crate::model::tensor_names::is_vision(&tensor.name) {
            model.read_f32(&tensor.name, &rows, &mut values)?;
            model.read_int8(&tensor.name, &rows, &mut quants, &mut scales)?;
        }
    }
    Ok(())
}

/// An opened GGUF file, or the parts of one that was split.
#[derive(Debug)]
pub(crate) struct Gguf {
    parts: Vec<(MappedFile, Header)>,
}

/// A tensor where it lies.
#[derive(Clone, Copy, Debug)]
struct Tensor<'a> {
    entry: &'a Entry,
    file: &'a MappedFile,
}

impl Gguf {
    /// Maps the file, and the other parts if it is the first of several (`…-00001-of-0000N.gguf`).
    ///
    /// # Errors
    /// A file is missing, truncated or no GGUF file; the error names it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut paths = vec![path.to_owned()];
        if let Some((stem, _, count)) = split_name(path) {
            paths.clear();
            paths.extend((1..=count).map(|n| part_path(path, &stem, n, count)));
        }
        let mut gguf = Self { parts: Vec::new() };
        let mut names = BTreeSet::new();
        for path in paths {
            let file = MappedFile::open(&path)?;
            let header = header::read(&file).map_err(|e| e.at_path(&path))?;
            for name in header.tensors.keys() {
                if !names.insert(name.clone()) {
                    return Err(Error::new(DOING, format!("tensor {name} is in another part too"))
                        .at_path(&path)
                        .help("download all parts again"));
                }
            }
            // What one file may have, all of them together may.
            if names.len() as u64 > header::MAX_ENTRIES {
                let why = format!("with it there are {} tensors, which cannot be right", names.len());
                return Err(Error::new(DOING, why).at_path(&path).help("download all parts again"));
            }
            gguf.parts.push((file, header));
        }
        let parts = gguf.number("split.count").unwrap_or(1).max(1);
        if parts != gguf.parts.len() as u64 {
            let why =
                format!("it is one of {parts} parts, and its name does not end in -00001-of-{parts:05}.gguf");
            return Err(Error::new(DOING, why)
                .at_path(path)
                .help("put all parts in one folder, under the names they were published with"));
        }
        Ok(gguf)
    }

    /// The file, or its first part.
    fn path(&self) -> &Path {
        self.parts.first().map_or(Path::new(""), |(file, _)| file.path())
    }

    /// All files.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|(file, _)| file.path())
    }

    /// An error about this file.
    fn error(&self, cause: impl std::fmt::Display) -> Error {
        Error::new(DOING, cause).at_path(self.path())
    }

    fn value(&self, key: &str) -> Option<(&Value, &[u8])> {
        let (file, header) = self.parts.first()?;
        Some((header.metadata.get(key)?, file))
    }

    /// A text of the metadata.
    fn text(&self, key: &str) -> Option<&str> {
        match self.value(key)?.0 {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number that is not negative.
    fn number(&self, key: &str) -> Option<u64> {
        match self.value(key)?.0 {
            Value::Unsigned(n) => Some(*n),
            Value::Signed(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// A finite number.
    fn float(&self, key: &str) -> Option<f64> {
        match self.value(key)?.0 {
            Value::Float(n) if n.is_finite() => Some(*n),
            _ => None,
        }
    }

    /// A list of numbers or flags.
    fn numbers(&self, key: &str) -> Option<Vec<f64>> {
        match self.value(key)? {
            (Value::List(list), file) => list.numbers(file),
            _ => None,
        }
    }

    /// A list of texts.
    fn texts(&self, key: &str) -> Option<impl Iterator<Item = Result<&str>>> {
        match self.value(key)? {
            (Value::List(list), file) => list.texts(file),
            _ => None,
        }
    }

    /// The number of elements of a list.
    fn list_len(&self, key: &str) -> Option<usize> {
        match self.value(key)?.0 {
            Value::List(list) => Some(list.len()),
            _ => None,
        }
    }

    /// Hashes what tells this file from another of equal name, size and time: the header, and the beginnings of tensors
    /// spread over the whole. Fine-tunes of one model often share the embedding, so the beginning of the data alone
    /// would not do; and to read everything takes as long as a conversion.
    pub(crate) fn fingerprint(&self, hash: &mut sha2::Sha256) {
        const SAMPLES: usize = 64;
        const SAMPLE_BYTES: usize = 4 << 10;
        for (file, header) in &self.parts {
            let data = header.tensors.values().map(|entry| &entry.range).filter(|range| !range.is_empty());
            let data: Vec<_> = data.collect();
            let start = data.iter().map(|range| range.start).min().unwrap_or(file.len());
            let mut field = |range: Range<usize>| {
                let bytes = file.get(range).unwrap_or_default();
                hash.update((bytes.len() as u64).to_le_bytes());
                hash.update(bytes);
            };
            field(0..start);
            for range in data.iter().step_by(data.len().div_ceil(SAMPLES).max(1)) {
                field(range.start..range.end.min(range.start + SAMPLE_BYTES));
            }
        }
    }

    /// The architecture; empty where the file does not say.
    fn architecture(&self) -> &str {
        self.text("general.architecture").unwrap_or_default()
    }

    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.parts.iter().find_map(|(file, header)| {
            let entry = header.tensors.get(name)?;
            Some(Tensor { entry, file })
        })
    }

    /// Names and places of all tensors.
    fn tensors(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.parts
            .iter()
            .flat_map(|(_, header)| header.tensors.iter().map(|(name, entry)| (name.as_str(), entry)))
    }
}

/// Beginning of the name, number and count of parts, of a part of a split file.
fn split_name(path: &Path) -> Option<(String, u32, u32)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (rest, number) = rest.rsplit_once('-')?;
    let parse = |text: &str| text.parse::<u32>().ok().filter(|n| text.len() == 5 && *n > 0);
    let (number, count) = (parse(number)?, parse(count)?);
    (number <= count && count <= 999).then(|| (rest.to_owned(), number, count))
}

fn part_path(path: &Path, stem: &str, number: u32, count: u32) -> PathBuf {
    path.with_file_name(format!("{stem}-{number:05}-of-{count:05}.gguf"))
}

/// Whether the file begins as a GGUF file does.
pub(crate) fn is_gguf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    std::fs::metadata(path).is_ok_and(|m| m.is_file())
        && std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && &magic == header::MAGIC
}
