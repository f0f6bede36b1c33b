//! A file of preferences that several windows keep: each writes what it has changed, and leaves the rest as the others have it.

use serde_json::{Map, Value};

use crate::bounded;

/// Bytes of the file, at most: a question that was typed and not sent is in it too.
pub(crate) const MOST_BYTES: u64 = 16 << 20;
/// Values in it, at most.
pub(crate) const MOST_VALUES: usize = 100_000;

/// What is to be written by a window that knew the file as `before`, wants it as `now`, and finds it as `there`. All are JSON objects; where one is
/// not, it is `now`.
pub(super) fn merged(before: &str, now: &str, there: &str) -> String {
    let (Some(before), Some(mut wanted), Some(mut there)) = (object(before), object(now), object(there))
    else {
        return now.to_owned();
    };
    for (key, value) in &mut wanted {
        if before.get(key) == Some(value)
            && let Some(theirs) = there.remove(key)
        {
            *value = theirs;
        }
    }
    serde_json::to_string_pretty(&wanted).unwrap_or_else(|_| now.to_owned())
}

fn object(text: &str) -> Option<Map<String, Value>> {
    match bounded::json(text.as_bytes(), MOST_VALUES) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_window_writes_what_it_has_changed() {
        let read = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
        let before = r#"{"zoom": 1.0, "servers": [], "theme": "dark"}"#;
        let there = r#"{"zoom": 1.0, "servers": ["theirs"], "theme": "light", "of a newer version": 1}"#;
        let now = r#"{"zoom": 1.5, "servers": [], "theme": "system"}"#;
        let made = read(&merged(before, now, there));
        assert_eq!(made, read(r#"{"zoom": 1.5, "servers": ["theirs"], "theme": "system"}"#));
        for there in ["", "nonsense", "[]"] {
            assert_eq!(merged(before, now, there), now);
        }
        assert_eq!(merged("", now, there), now);
    }
}
