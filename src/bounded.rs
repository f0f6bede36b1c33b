//! What comes from outside, with a bound on what it becomes in memory: files read whole, and JSON as values. A pipe or a device
//! in a file's place would never end, and a few bytes of JSON (`{},`) become a hundred in memory.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads a file whole that has at most so many bytes.
///
/// # Errors
/// It cannot be read, is no regular file, or is larger.
pub fn file(path: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
    // Looked at before it is opened: opening a pipe would wait for its other end.
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        let what = if about.is_dir() { "it is a folder (Is a directory)" } else { "it is not a file" };
        return Err(io::Error::other(what));
    }
    if about.len() > most_bytes {
        return Err(too_large(most_bytes));
    }
    // It may grow while it is read, and some files of the system have no length of their own.
    stream(path, most_bytes)
}

/// Reads what a person has named by hand: a file of at most so many bytes, or a pipe, whose end is theirs to bring.
///
/// # Errors
/// It cannot be read, or is larger.
pub fn stream(path: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes { Err(too_large(most_bytes)) } else { Ok(bytes) }
}

fn too_large(most_bytes: u64) -> io::Error {
    let (size, unit) =
        if most_bytes < 1 << 20 { (most_bytes >> 10, "KiB") } else { (most_bytes >> 20, "MiB") };
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {size} {unit}"))
}

/// Bytes as text.
///
/// # Errors
/// They are not UTF-8.
pub fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8"))
}

/// JSON as a value that holds at most so many values. `serde_json` refuses to nest deeper than 127 levels.
///
/// # Errors
/// It is not JSON, or holds more.
pub fn json(bytes: &[u8], most_values: usize) -> serde_json::Result<Value> {
    let mut read = serde_json::Deserializer::from_slice(bytes);
    let value = Values::at_most(most_values).deserialize(&mut read)?;
    read.end()?;
    Ok(value)
}

/// Is that JSON that holds at most so many values? For readers that make something of their own of each.
///
/// # Errors
/// It is not JSON, or holds more.
pub fn check_json(bytes: &[u8], most_values: usize) -> serde_json::Result<()> {
    let values = Values::at_most(most_values);
    let mut read = serde_json::Deserializer::from_slice(bytes);
    Counted(&values).deserialize(&mut read)?;
    read.end()
}

/// Counts values and keeps none.
struct Counted<'a>(&'a Values);

impl<'de> DeserializeSeed<'de> for Counted<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Counted<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while all.next_element_seed(Counted(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while all.next_key::<IgnoredAny>()?.is_some() {
            all.next_value_seed(Counted(self.0))?;
        }
        Ok(())
    }
}

/// Reads values, of which there are so many left. One may read several pieces of a file.
#[derive(Debug)]
pub struct Values {
    most: usize,
    left: Cell<usize>,
}

impl Values {
    /// Of so many values.
    #[must_use]
    pub fn at_most(most: usize) -> Self {
        Self { most, left: Cell::new(most) }
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(E::custom(format_args!("it holds more than {} values", self.most))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &Values {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> DeserializeSeed<'de> for Values {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        (&self).deserialize(deserializer)
    }
}

impl<'de> Visitor<'de> for &Values {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = all.next_element_seed(self)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = all.next_key::<String>()? {
            map.insert(key, all.next_value_seed(self)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_serde_json_reads() {
        for text in [
            r#"{"b": [1, -2, 2.5, 1e300, 18446744073709551615, true, null, "x\u00e9"], "a": {}, "b": {"c": [[]]}}"#,
            "7",
            "\"\"",
        ] {
            let wanted: Value = serde_json::from_str(text).unwrap();
            let found = json(text.as_bytes(), 100).unwrap();
            // In the same order too.
            assert_eq!(found.to_string(), wanted.to_string());
        }
        for text in ["", "[", "[1,]", "{\"a\"}", "1 2", "nul", "\"\u{1}\"", "\"\\ud800\""] {
            let wanted = serde_json::from_str::<Value>(text).unwrap_err().to_string();
            assert_eq!(json(text.as_bytes(), 100).unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn more_values_and_deeper_ones_are_refused() {
        assert!(json(b"[1, 2, 3]", 4).is_ok());
        let error = json(b"[1, 2, 3]", 3).unwrap_err().to_string();
        assert!(error.contains("more than 3 values"), "{error}");
        let counted = |text: &str, most| check_json(text.as_bytes(), most);
        assert!(counted(r#"{"a": [1, null], "b": "x"}"#, 5).is_ok());
        assert!(counted(r#"{"a": [1, null], "b": "x"}"#, 4).unwrap_err().to_string().contains("more than 4"));
        assert!(counted("[1] 2", 9).is_err() && counted("{\"a\": \"\\ud800\"}", 9).is_err());
        assert!(json("[".repeat(1000).as_bytes(), 10_000).unwrap_err().to_string().contains("recursion"));
    }

    #[test]
    fn larger_files_and_what_is_no_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, [b'x'; 2048]).unwrap();
        assert_eq!(file(&path, 2048).unwrap().len(), 2048);
        assert!(file(&path, 1024).unwrap_err().to_string().contains("larger than 1 KiB"));
        assert!(file(folder.path(), 9).unwrap_err().to_string().contains("folder"));
        assert!(text(vec![0xff]).unwrap_err().to_string().contains("UTF-8"));
        if cfg!(unix) {
            let zero = Path::new("/dev/zero");
            assert!(file(zero, 9).unwrap_err().to_string().contains("not a file"));
            assert!(stream(zero, 1 << 20).unwrap_err().to_string().contains("larger than 1 MiB"));
        }
        if cfg!(target_os = "linux") {
            // Has no length, and is there all the same.
            assert!(file(Path::new("/proc/self/maps"), 9).is_err());
        }
    }
}
