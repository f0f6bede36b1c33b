//! The header of a GGUF file: read, and checked before anything trusts it.
//!
//! Layout (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>), little endian: `GGUF`, version (u32, 2 or 3),
//! number of tensors and of metadata entries (u64 each); the entries (key, type, value); the tensors (name, number of axes,
//! sizes from the fastest axis to the slowest, element type, offset); then, at the next multiple of
//! `general.alignment` (32), the data that the offsets count from. A string is a u64 length and its bytes. Every number
//! is compared with what the file can hold before memory is taken for it; lists stay in the file.

use std::collections::BTreeMap;
use std::ops::Range;

use super::blocks::Format;
use crate::error::{Error, Result};

const DOING: &str = "reading the header of";
const AGAIN: &str = "download the file again";
/// What every GGUF file begins with.
pub(super) const MAGIC: &[u8; 4] = b"GGUF";
/// More metadata entries or tensors than this no model has.
pub(super) const MAX_ENTRIES: u64 = 1 << 16;
/// Longest key or name (bytes); longest text (a chat template is some kilobytes).
const MAX_NAME_BYTES: u64 = 1 << 10;
const MAX_TEXT_BYTES: u64 = 1 << 24;
const MAX_AXES: u32 = 4;
/// More elements than this no list of a model has (a vocabulary has about 150,000). Longer lists are passed over, and
/// not read: an element may take a byte in the file, and many times that in memory.
pub(super) const MAX_LISTED: usize = 1 << 20;

/// The numbers that stand for types of metadata.
const TYPE_BOOL: u32 = 7;
const TYPE_TEXT: u32 = 8;
const TYPE_LIST: u32 = 9;

/// One value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Flag(bool),
    Text(String),
    List(List),
}

/// A list that stays in the file; all its elements lie inside.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct List {
    /// Type of the elements, as in the file.
    kind: u32,
    count: usize,
    range: Range<usize>,
}

/// One tensor, as the header describes it; every number is checked against the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Row-major shape, the slowest axis first (the file has them the other way round).
    pub(super) shape: Vec<usize>,
    pub(super) format: Format,
    /// Where its bytes are, counted from the beginning of the file. Empty for a format that is not read.
    pub(super) range: Range<usize>,
}

/// A header.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: BTreeMap<String, Entry>,
}

fn damaged(cause: impl std::fmt::Display) -> Error {
    Error::new(DOING, cause).help(AGAIN)
}

/// Reads and checks the header of a GGUF file, given as all its bytes. Errors do not name the file.
pub(super) fn read(file: &[u8]) -> Result<Header> {
    let mut cursor = Cursor { bytes: file, at: 0 };
    if cursor.take(4).ok() != Some(MAGIC) {
        return Err(Error::new(DOING, "it is no GGUF file").help("choose another file, or download it again"));
    }
    let version = cursor.u32()?;
    match version {
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 2 | 3) => {
            return Err(Error::new(DOING, "it is a big-endian GGUF file, which Ocelli does not read")
                .help("download the usual, little-endian one"));
        }
        _ => {
            let why = format!("its GGUF version is {version}, and Ocelli reads 2 and 3");
            return Err(Error::new(DOING, why).help("download a newer conversion of the model"));
        }
    }
    let (num_tensors, num_entries) = (cursor.u64()?, cursor.u64()?);
    for (what, count) in [("tensors", num_tensors), ("metadata entries", num_entries)] {
        if count > MAX_ENTRIES {
            return Err(damaged(format!("it claims {count} {what}, which cannot be right")));
        }
    }
    let mut metadata = BTreeMap::new();
    for _ in 0..num_entries {
        let key = cursor.name()?;
        let kind = cursor.u32()?;
        let value = cursor.value(kind).map_err(|e| e.at(format!("(key {key})")))?;
        if metadata.contains_key(&key) {
            return Err(damaged(format!("the key {key} is there twice")));
        }
        metadata.insert(key, value);
    }
    let mut raw = Vec::new();
    for _ in 0..num_tensors {
        raw.push(cursor.tensor()?);
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(Value::Unsigned(n)) if n.is_power_of_two() && (8..=1 << 20).contains(n) => *n,
        Some(other) => return Err(damaged(format!("general.alignment is {other:?}"))),
    };
    let start = (cursor.at as u64).next_multiple_of(alignment);
    Ok(Header { metadata, tensors: place(raw, start, alignment, file.len())? })
}

/// A tensor as it stands in the file: name, shape from the slowest axis, type, offset.
struct Raw {
    name: String,
    shape: Vec<u64>,
    format: Format,
    offset: u64,
}

/// Finds each tensor's bytes, and that they overlap no others.
fn place(raw: Vec<Raw>, start: u64, alignment: u64, file_bytes: usize) -> Result<BTreeMap<String, Entry>> {
    let mut tensors = BTreeMap::new();
    let mut spans = Vec::new();
    for tensor in raw {
        let bad = |cause: String| damaged(format!("tensor {}: {cause}", tensor.name));
        if !tensor.offset.is_multiple_of(alignment) {
            return Err(bad(format!("its offset {} is not a multiple of {alignment}", tensor.offset)));
        }
        let too_large = || bad(format!("its shape {:?} is too large to be right", tensor.shape));
        let elements =
            tensor.shape.iter().try_fold(1_u64, |all, n| all.checked_mul(*n)).ok_or_else(too_large)?;
        let shape: Vec<usize> = tensor
            .shape
            .iter()
            .map(|n| usize::try_from(*n).map_err(|_| too_large()))
            .collect::<Result<_>>()?;
        let mut range = 0..0;
        if let Some((block_elements, block_bytes)) = tensor.format.block() {
            let row = tensor.shape.last().copied().unwrap_or(1);
            if !row.is_multiple_of(block_elements as u64) {
                let name = tensor.format.name();
                return Err(bad(format!(
                    "its rows of {row} are not whole {name} blocks of {block_elements}"
                )));
            }
            let bytes =
                (elements / block_elements as u64).checked_mul(block_bytes as u64).ok_or_else(too_large)?;
            let begin = start.checked_add(tensor.offset).ok_or_else(too_large)?;
            let end = begin.checked_add(bytes).ok_or_else(too_large)?;
            if end > file_bytes as u64 {
                return Err(bad(format!(
                    "the file is truncated: {} of its {end} bytes are missing",
                    end - file_bytes as u64
                )));
            }
            let inside = |n: u64| usize::try_from(n).map_err(|_| too_large());
            range = inside(begin)?..inside(end)?;
            spans.push((range.start, range.end, tensor.name.clone()));
        }
        let entry = Entry { shape, format: tensor.format, range };
        if tensors.insert(tensor.name.clone(), entry).is_some() {
            return Err(damaged(format!("tensor {} is there twice", tensor.name)));
        }
    }
    spans.sort();
    for (one, next) in spans.iter().zip(spans.iter().skip(1)) {
        if one.1 > next.0 {
            return Err(damaged(format!("tensors {} and {} overlap", one.2, next.2)));
        }
    }
    Ok(tensors)
}

impl List {
    /// The number of elements.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The texts of a list of texts; `None` for another list, and for one of more than [`MAX_LISTED`].
    pub(super) fn texts<'a>(
        &self,
        file: &'a [u8],
    ) -> Option<impl Iterator<Item = Result<&'a str>> + use<'a>> {
        let fits = self.kind == TYPE_TEXT && self.count <= MAX_LISTED;
        let bytes = file.get(self.range.clone()).filter(|_| fits)?;
        let mut cursor = Cursor { bytes, at: 0 };
        let text = move || {
            let length = cursor.u64()?;
            std::str::from_utf8(cursor.take(length)?).map_err(|_| damaged("a text in it is not UTF-8"))
        };
        Some(std::iter::repeat_with(text).take(self.count))
    }

    /// The numbers of a list of numbers or flags, in f64; `None` for another list, and for one of more than [`MAX_LISTED`].
    pub(super) fn numbers(&self, file: &[u8]) -> Option<Vec<f64>> {
        let fits = self.kind != TYPE_TEXT && self.count <= MAX_LISTED;
        let bytes = file.get(self.range.clone()).filter(|_| fits)?;
        let mut cursor = Cursor { bytes, at: 0 };
        let number = |_| match cursor.value(self.kind).ok()? {
            #[expect(clippy::cast_precision_loss, reason = "sizes, flags and factors: far below 2^53")]
            Value::Unsigned(n) => Some(n as f64),
            #[expect(clippy::cast_precision_loss, reason = "sizes, flags and factors: far below 2^53")]
            Value::Signed(n) => Some(n as f64),
            Value::Float(n) => Some(n),
            Value::Flag(flag) => Some(f64::from(u8::from(flag))),
            Value::Text(_) | Value::List(_) => None,
        };
        (0..self.count).map(number).collect()
    }
}

/// Bytes of one element of a metadata type; `None` for texts, lists and unknown types.
fn scalar_bytes(kind: u32) -> Option<usize> {
    Some(match kind {
        0 | 1 | TYPE_BOOL => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

/// Reads forwards, never beyond the end.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(count).ok().and_then(|count| rest.get(..count)).ok_or_else(|| {
            let missing = count.saturating_sub(rest.len() as u64);
            damaged(format!("the file is truncated: its header goes on for {missing} bytes at least"))
        })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N as u64)?;
        bytes.first_chunk::<N>().copied().ok_or_else(|| damaged("the file is truncated"))
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self, most: u64) -> Result<&'a str> {
        let length = self.u64()?;
        if length > most {
            return Err(damaged(format!("a text of {length} bytes in it cannot be right")));
        }
        std::str::from_utf8(self.take(length)?).map_err(|_| damaged("a text in it is not UTF-8"))
    }

    fn name(&mut self) -> Result<String> {
        self.text(MAX_NAME_BYTES).map(str::to_owned)
    }

    fn value(&mut self, kind: u32) -> Result<Value> {
        Ok(match kind {
            0 => Value::Unsigned(u64::from(self.array::<1>()?[0])),
            1 => Value::Signed(i64::from(i8::from_le_bytes(self.array()?))),
            2 => Value::Unsigned(u64::from(u16::from_le_bytes(self.array()?))),
            3 => Value::Signed(i64::from(i16::from_le_bytes(self.array()?))),
            4 => Value::Unsigned(u64::from(self.u32()?)),
            5 => Value::Signed(i64::from(i32::from_le_bytes(self.array()?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.array()?))),
            TYPE_BOOL => match self.array::<1>()? {
                [0] => Value::Flag(false),
                [1] => Value::Flag(true),
                [other] => return Err(damaged(format!("a flag is {other}, neither 0 nor 1"))),
            },
            TYPE_TEXT => Value::Text(self.text(MAX_TEXT_BYTES)?.to_owned()),
            TYPE_LIST => Value::List(self.list()?),
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            other => return Err(damaged(format!("there is no metadata type {other}"))),
        })
    }

    fn list(&mut self) -> Result<List> {
        let (kind, count) = (self.u32()?, self.u64()?);
        let start = self.at;
        if kind == TYPE_TEXT {
            for _ in 0..count {
                self.text(MAX_TEXT_BYTES)?;
            }
        } else {
            let size = scalar_bytes(kind)
                .ok_or_else(|| damaged(format!("there is no list of the metadata type {kind}")))?;
            let bytes = count.checked_mul(size as u64);
            self.take(bytes.ok_or_else(|| damaged(format!("a list of {count} cannot be right")))?)?;
        }
        // Each element has taken a byte at least.
        let count =
            usize::try_from(count).map_err(|_| damaged(format!("a list of {count} cannot be right")))?;
        Ok(List { kind, count, range: start..self.at })
    }

    fn tensor(&mut self) -> Result<Raw> {
        let name = self.name()?;
        let axes = self.u32()?;
        if axes == 0 || axes > MAX_AXES {
            return Err(damaged(format!("tensor {name} has {axes} axes")));
        }
        let mut shape = (0..axes).map(|_| self.u64()).collect::<Result<Vec<u64>>>()?;
        shape.reverse();
        Ok(Raw { name, shape, format: Format::of(self.u32()?), offset: self.u64()? })
    }
}
