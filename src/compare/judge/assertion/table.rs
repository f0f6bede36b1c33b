//! Room `compare`: a table of an assertion as it is written, TOML or JSON: its keys are known, its values are of the
//! right kind. What is not is refused with words for the person who wrote it.

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Every key of an assertion, in the order they are told in.
pub(super) const KEYS: [&str; 18] = [
    "contains",
    "lacks",
    "equals",
    "regex",
    "ignore_case",
    "json",
    "json_schema",
    "min_words",
    "max_words",
    "max_characters",
    "max_tokens",
    "box",
    "min_iou",
    "label",
    "stops_by_itself",
    "name",
    "columns",
    "not",
];

const READING: &str = "reading an assertion";

/// An error about an assertion as it is written.
pub(super) fn refused(cause: impl std::fmt::Display) -> Error {
    Error::new(READING, cause).quoting()
}

/// A table all of whose keys are known.
#[derive(Clone, Copy)]
pub(super) struct Table<'a>(&'a Map<String, Value>);

impl<'a> Table<'a> {
    /// Refuses keys that no assertion has.
    pub(super) fn new(map: &'a Map<String, Value>) -> Result<Self> {
        match map.keys().find(|key| !KEYS.contains(&key.as_str())) {
            None => Ok(Self(map)),
            Some(unknown) => {
                let meant = nearest(unknown).map(|key| format!("did you mean `{key}`? ")).unwrap_or_default();
                Err(refused(format!("there is no key `{}`", super::words::excerpt(unknown)))
                    .help(format!("{meant}the keys are {}", KEYS.join(", "))))
            }
        }
    }

    pub(super) fn has(self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key)
    }

    /// The value of a key, read by `read`; `wanted` says what it should be.
    fn read<T>(self, key: &str, wanted: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => {
                let value = super::words::excerpt(&value.to_string());
                Err(refused(format!("`{key}` is {value}")).help(format!("it must be {wanted}")))
            }
        }
    }

    pub(super) fn boolean(self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", Value::as_bool)
    }

    pub(super) fn count(self, key: &str) -> Result<Option<usize>> {
        self.read(key, "a whole number, 0 or more", |value| usize::try_from(value.as_u64()?).ok())
    }

    /// A text, perhaps empty.
    pub(super) fn text(self, key: &str) -> Result<Option<String>> {
        self.read(key, "a text", |value| value.as_str().map(str::to_owned))
    }

    /// One text or several, none of them empty: an empty one is part of every answer.
    pub(super) fn texts(self, key: &str) -> Result<Option<Vec<String>>> {
        self.read(key, "a text or a list of texts, none of them empty", |value| match value {
            Value::String(text) => not_empty(vec![text.clone()]),
            _ => not_empty(strings(value)?),
        })
    }

    /// A list of names.
    pub(super) fn names(self, key: &str) -> Result<Option<Vec<String>>> {
        self.read(key, "a list of names, at least one", |value| not_empty(strings(value)?))
    }

    /// A share above 0, up to 1.
    pub(super) fn share(self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number above 0, up to 1", |value| {
            value.as_f64().filter(|share| *share > 0.0 && *share <= 1.0)
        })
    }

    /// Left, top, right, bottom in thousandths.
    pub(super) fn corners(self, key: &str) -> Result<Option<[f64; 4]>> {
        let wanted = "[left, top, right, bottom] from 0 to 1000 of the picture's sides, whatever its size in pixels, with \
                      left < right and top < bottom";
        self.read(key, wanted, |value| {
            let list: Vec<f64> = value.as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?;
            let corners: [f64; 4] = list.try_into().ok()?;
            let [left, top, right, bottom] = corners;
            let inside = corners.iter().all(|n| (0.0..=crate::chat::grounding::FULL_SCALE).contains(n));
            (inside && left < right && top < bottom).then_some(corners)
        })
    }

    /// Refuses a key that says nothing without one of the others.
    pub(super) fn needs(self, key: &str, others: &[&str]) -> Result<()> {
        if !self.has(key) || others.iter().any(|other| self.has(other)) {
            return Ok(());
        }
        let others = others.join("`, `");
        Err(refused(format!("`{key}` alone says nothing")).help(format!("it belongs beside `{others}`")))
    }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

fn not_empty(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty() && list.iter().all(|text| !text.is_empty())).then_some(list)
}

/// The key that a wrong one was most likely meant to be; `None`: it is like none of them.
fn nearest(wrong: &str) -> Option<&'static str> {
    let wrong: Vec<char> = wrong.to_lowercase().replace('-', "_").chars().take(64).collect();
    KEYS.iter()
        .map(|key| (slips(&wrong, &key.chars().collect::<Vec<_>>()), *key))
        .min_by_key(|(slips, _)| *slips)
        .filter(|(slips, key)| *slips <= 1 + key.len() / 4)
        .map(|(_, key)| key)
}

/// Letters to put in, leave out or replace to make one word of the other (Levenshtein's distance).
fn slips(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = replaced.min(*cell + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_levenshteins_distance() {
        // The textbook's pairs (Wagner and Fischer 1974; "kitten" to "sitting" is 3).
        for (a, b, expected) in
            [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2), ("a", "a", 0)]
        {
            let [a, b] = [a, b].map(|word| word.chars().collect::<Vec<_>>());
            assert_eq!(slips(&a, &b), expected, "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_wrong_key_is_led_to_the_one_that_was_meant_and_a_strange_one_to_none() {
        for (wrong, meant) in [
            ("contain", Some("contains")),
            ("Contains", Some("contains")),
            ("min-words", Some("min_words")),
            ("mxa_tokens", Some("max_tokens")),
            ("bbox", Some("box")),
            ("jsonschema", Some("json_schema")),
            ("temperature", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong), meant, "{wrong}");
        }
        assert_eq!(nearest(&"contains".repeat(100_000)), None);
    }
}
