//! The header of a safetensors file: read, and checked before anything trusts it.
//!
//! Layout (<https://huggingface.co/docs/safetensors>): eight bytes with the header's length `n` (u64, little endian),
//! `n` bytes of JSON `{"name": {"dtype", "shape", "data_offsets": [begin, end]}, …}`, then the data, which the
//! tensors cover without gaps or overlaps. The checks here come first because they can name the tensor and count the
//! missing bytes; the `safetensors` crate then has the last word on the same header.

use std::fmt;
use std::ops::Range;

use safetensors::tensor::Metadata;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, Result};

/// Largest header accepted, as in the reference implementation (bytes).
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// More axes than this no tensor of a model has, and more tensors no file of one.
const MAX_AXES: usize = 16;
const MAX_TENSORS: usize = 1 << 16;
const LENGTH_BYTES: usize = 8;
const DOING: &str = "reading the header of";
const AGAIN: &str = "download the file again";

/// One tensor of a file, as its header describes it; every number is checked against the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Name as in the file.
    pub(super) name: String,
    /// Element type as written in the header ("BF16").
    pub(super) dtype: safetensors::Dtype,
    /// Row-major shape.
    pub(super) shape: Vec<usize>,
    /// Where its bytes are, counted from the beginning of the file.
    pub(super) range: Range<usize>,
}

/// Reads and checks the header of a whole safetensors file, given as its bytes. Errors do not name the file.
pub(super) fn read(file: &[u8]) -> Result<Vec<Entry>> {
    let damaged = |cause: String| Error::new(DOING, cause).help(AGAIN);
    let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(damaged(format!("the file has only {} bytes", file.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES {
        return Err(Error::new(
            DOING,
            format!("it claims a header of {length} bytes, which cannot be right"),
        )
        .help("this is not a safetensors file, or it is damaged: download it again"));
    }
    let header = usize::try_from(length).ok().and_then(|n| rest.get(..n)).ok_or_else(|| {
        let missing = length.saturating_sub(rest.len() as u64);
        damaged(format!("the file is truncated: {missing} of the header's {length} bytes are missing"))
    })?;
    let data_start = LENGTH_BYTES + header.len();
    let raw: RawHeader = serde_json::from_slice(header)
        .map_err(|e| damaged(format!("the header is not a list of tensors: {e}")))?;

    let mut entries = Vec::with_capacity(raw.0.len());
    for (name, info) in raw.0 {
        let entry = check_entry(&name, &info, data_start).map_err(|e| {
            let shown: String = name.chars().take(200).collect();
            Error::new(DOING, format!("tensor {shown}: {e}")).help(AGAIN)
        })?;
        entries.push(entry);
    }
    // Empty tensors may share an offset with their neighbour: the end decides then.
    entries.sort_by(|a, b| (a.range.start, a.range.end, &a.name).cmp(&(b.range.start, b.range.end, &b.name)));
    let mut end = data_start;
    for entry in &entries {
        if entry.range.start != end {
            let (start, end) = (entry.range.start - data_start, end - data_start);
            return Err(damaged(format!(
                "tensor {} begins at byte {start} of the data, but the one before it ends at {end}",
                entry.name
            )));
        }
        end = entry.range.end;
    }
    if end > file.len() {
        let missing = end - file.len();
        return Err(damaged(format!("the file is truncated: {missing} of its {end} bytes are missing")));
    }
    if end < file.len() {
        let extra = file.len() - end;
        return Err(damaged(format!("the file has {extra} bytes more than its header describes")));
    }
    if let Err(e) = serde_json::from_slice::<Metadata>(header) {
        return Err(damaged(format!("the header is not valid: {e}")));
    }
    Ok(entries)
}

/// Checks one tensor's numbers for themselves; the result's range counts from the beginning of the file.
fn check_entry(name: &str, info: &RawEntry, data_start: usize) -> Result<Entry, String> {
    let dtype = safetensors::Dtype::deserialize(serde_json::Value::String(info.dtype.clone()))
        .map_err(|_| format!("its element type {} is not known", info.dtype))?;
    let overflow = || format!("its shape {:?} is too large to be right", info.shape);
    let shape: Vec<usize> =
        info.shape.iter().map(|n| usize::try_from(*n)).collect::<Result<_, _>>().map_err(|_| overflow())?;
    let bits = shape.iter().try_fold(dtype.bitsize(), |bits, n| bits.checked_mul(*n)).ok_or_else(overflow)?;
    let [begin, end] = info.data_offsets;
    let length = end
        .checked_sub(begin)
        .ok_or_else(|| format!("its data ends at {end}, before it begins at {begin}"))?;
    if !bits.is_multiple_of(8) || (bits / 8) as u64 != length {
        return Err(format!(
            "shape {:?} of {} takes {} bytes, but the header gives it {length}",
            info.shape,
            info.dtype,
            bits.div_ceil(8)
        ));
    }
    let place = |offset: u64| {
        usize::try_from(offset).ok().and_then(|n| n.checked_add(data_start)).ok_or_else(overflow)
    };
    Ok(Entry { name: name.to_owned(), dtype, range: place(begin)?..place(end)?, shape })
}

#[derive(serde::Deserialize)]
struct RawEntry {
    dtype: String,
    #[serde(deserialize_with = "shape")]
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The sizes of a tensor's axes; a long list is not kept.
fn shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    struct Axes;
    impl<'de> Visitor<'de> for Axes {
        type Value = Vec<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of sizes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Vec<u64>, A::Error> {
            let mut sizes = Vec::new();
            while let Some(size) = all.next_element()? {
                if sizes.len() == MAX_AXES {
                    return Err(A::Error::custom(format_args!("a tensor has more than {MAX_AXES} axes")));
                }
                sizes.push(size);
            }
            Ok(sizes)
        }
    }
    deserializer.deserialize_seq(Axes)
}

/// The header in the order of the file. Not a map, so that a name given twice is seen.
struct RawHeader(Vec<(String, RawEntry)>);

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a tensor's dtype, shape and data_offsets under each name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut entries = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("{name} appears twice")));
            }
            if entries.len() == MAX_TENSORS {
                return Err(A::Error::custom(format_args!("it has more than {MAX_TENSORS} tensors")));
            }
            if name == "__metadata__" {
                map.next_value::<serde::de::IgnoredAny>()?;
            } else {
                let value = map.next_value()?;
                entries.push((name, value));
            }
        }
        Ok(RawHeader(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    const TWO: &str = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;

    #[test]
    fn a_header_is_read_in_the_order_of_the_data() {
        let bytes = file(TWO, 16);
        let entries = read(&bytes).expect("valid");
        let data = 8 + TWO.len();
        assert_eq!(entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            (entries[1].range.clone(), entries[1].shape.as_slice()),
            (data + 4..data + 16, [2, 3].as_slice())
        );
    }

    #[test]
    fn every_kind_of_damage_is_told_apart() {
        let entry = |text: &str| file(&format!("{{\"w\":{text}}}"), 16);
        for (bytes, wanted) in [
            (vec![1, 2, 3], "has only 3 bytes"),
            (u64::MAX.to_le_bytes().to_vec(), "claims a header of 18446744073709551615 bytes"),
            (100_u64.to_le_bytes().to_vec(), "100 of the header's 100 bytes are missing"),
            (file("[]", 0), "not a list of tensors"),
            (file("{\"w\":", 0), "not a list of tensors"),
            (file(TWO, 9), "truncated: 7 of its"),
            (file(TWO, 20), "has 4 bytes more"),
            (entry(r#"{"dtype":"F7","shape":[8],"data_offsets":[0,16]}"#), "tensor w: its element type F7"),
            (
                entry(r#"{"dtype":"F16","shape":[9],"data_offsets":[0,16]}"#),
                "takes 18 bytes, but the header gives it 16",
            ),
            (entry(r#"{"dtype":"F16","shape":[8],"data_offsets":[16,0]}"#), "before it begins"),
            (entry(r#"{"dtype":"F16","shape":[8],"data_offsets":[4,20]}"#), "begins at byte 4"),
            (
                entry(r#"{"dtype":"F16","shape":[4294967296,4294967296],"data_offsets":[0,16]}"#),
                "too large to be right",
            ),
            (entry(r#"{"dtype":"F16","shape":[-1],"data_offsets":[0,16]}"#), "not a list of tensors"),
            (
                file(
                    r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                    8,
                ),
                "w appears twice",
            ),
        ] {
            let error = read(&bytes).expect_err(wanted).to_string();
            assert!(error.contains(wanted), "{error} should contain {wanted}");
            assert!(error.contains("download"), "{error}");
        }
    }
}
