//! Reading typed values out of a JSON object, with errors that name the key.

use serde_json::{Map, Value};

use crate::bounded;
use crate::error::{Error, Result};

/// An error about `config.json`; the caller adds the path and the usual advice.
pub(super) fn bad(cause: impl std::fmt::Display) -> Error {
    Error::new(super::DOING, cause)
}

/// Parses `bytes` as one JSON object.
pub(super) fn parse_object(doing: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    match bounded::json(bytes, super::MAX_VALUES) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Error::new(doing, "the file is JSON, but not an object").help("download it again")),
        Err(e) => {
            Err(Error::new(doing, format!("the file is not valid JSON: {e}")).help("download it again"))
        }
    }
}

/// One id or a list of ids.
pub(super) fn token_ids(doing: &str, key: &str, value: &Value) -> Result<Vec<u32>> {
    let one = |value: &Value| {
        value
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| Error::new(doing, format!("{key} holds {value}, which is not a token id")))
    };
    match value {
        Value::Array(list) => list.iter().map(one).collect(),
        single => Ok(vec![one(single)?]),
    }
}

/// A JSON object together with the name it is reported under.
pub(super) struct Section<'a> {
    doing: &'static str,
    name: String,
    map: &'a Map<String, Value>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn top(doing: &'static str, map: &'a Map<String, Value>) -> Self {
        Self { doing, name: String::new(), map }
    }

    /// The name of the object, as a path of keys.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn error(&self, cause: impl std::fmt::Display) -> Error {
        Error::new(self.doing, cause)
    }

    fn wrong(&self, key: &str, value: &Value, wanted: &str) -> Error {
        // A value may be a whole tree; the reader needs its beginning only.
        let shown: String = value.to_string().chars().take(60).collect();
        self.error(format!("{} is {shown}, not {wanted}", self.path(key)))
    }

    /// The error for an absent key.
    pub(super) fn missing(&self, key: &str) -> Error {
        self.error(format!("{} is missing", self.path(key)))
    }

    /// The value of `key`, unless absent or null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The object under `key`.
    pub(super) fn section(&self, key: &str) -> Result<Section<'a>> {
        self.optional_section(key)?.ok_or_else(|| self.missing(key))
    }

    /// The object under `key`, if there is one.
    pub(super) fn optional_section(&self, key: &str) -> Result<Option<Section<'a>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Section { doing: self.doing, name: self.path(key), map })),
            Some(other) => Err(self.wrong(key, other, "an object")),
        }
    }

    fn to_size(&self, key: &str, value: &Value, limit: usize) -> Result<usize> {
        let size = value.as_u64().ok_or_else(|| self.wrong(key, value, "a whole number"))?;
        match usize::try_from(size) {
            Ok(size) if size <= limit => Ok(size),
            _ => Err(self.error(format!("{} is {size}; more than {limit} cannot be right", self.path(key)))),
        }
    }

    /// A size that must be there, at least 1 and at most `limit`.
    pub(super) fn size(&self, key: &str, limit: usize) -> Result<usize> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        match self.to_size(key, value, limit)? {
            0 => Err(self.error(format!("{} is 0", self.path(key)))),
            size => Ok(size),
        }
    }

    /// A list of numbers, each at most `limit`, if it is there.
    pub(super) fn sizes(&self, key: &str, limit: usize) -> Result<Option<Vec<usize>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(list)) => {
                list.iter().map(|v| self.to_size(key, v, limit)).collect::<Result<_>>().map(Some)
            }
            Some(other) => Err(self.wrong(key, other, "a list of whole numbers")),
        }
    }

    /// A number that must be there.
    pub(super) fn require_float(&self, key: &str) -> Result<f64> {
        self.float(key)?.ok_or_else(|| self.missing(key))
    }

    /// A number, if it is there.
    pub(super) fn float(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| self.wrong(key, value, "a number")),
        }
    }

    /// True or false, if it is there.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => value.as_bool().map(Some).ok_or_else(|| self.wrong(key, value, "true or false")),
        }
    }

    /// A string, if it is there.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| self.wrong(key, value, "a text")),
        }
    }

    /// Fails when the string under `key` is there and is not `wanted`.
    pub(super) fn only(&self, key: &str, wanted: &str) -> Result<()> {
        match self.text(key)? {
            Some(found) if found != wanted => {
                Err(self.error(format!("{} is {found}; only {wanted} is supported", self.path(key))))
            }
            _ => Ok(()),
        }
    }

    /// A token id that must be there.
    pub(super) fn token_id(&self, key: &str) -> Result<u32> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        value
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| self.wrong(key, value, "a token id"))
    }
}
