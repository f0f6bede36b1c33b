//! Room `model`, tokenizer: what is looked at in a `tokenizer.json` before the `tokenizers` crate gets it: how much it becomes in
//! memory, and how long its patterns may take.

use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::DOING;
use crate::bounded::{self, Values};
use crate::error::{Error, Result};

/// Values in the file, at most: Qwen's 150,000 tokens and as many merges make 600,000.
const MOST_VALUES: usize = 3_000_000;
/// Values in the parts that say how text is cut, at most.
const MOST_IN_PARTS: usize = 20_000;
/// Pieces of such a part (a normaliser, a pre-tokenizer), at most: each may have a pattern.
const MOST_PIECES: usize = 32;
/// Bytes of a pattern, and of the program that it becomes, at most.
const MOST_PATTERN: usize = 4096;
const MOST_PROGRAM: usize = 1 << 20;
/// The one look-ahead that Qwen's pattern has, as an alternative of its own: it costs no more than the spaces are long.
const LOOK_AHEAD: &str = r"\s+(?!\S)|";
/// The parts that are read.
const PARTS: [&str; 4] = ["normalizer", "pre_tokenizer", "post_processor", "decoder"];

/// Refuses what would take too much memory or time, and what is not JSON: `tokenizers` panics where a part of it is not.
pub(super) fn check(json: &[u8]) -> Result<()> {
    bounded::check_json(json, MOST_VALUES).map_err(|e| Error::new(DOING, e))?;
    let mut read = serde_json::Deserializer::from_slice(json);
    let parts = read.deserialize_map(Parts).map_err(|e| Error::new(DOING, e))?;
    for part in &parts {
        let mut pieces = 0;
        let mut todo = vec![part];
        while let Some(value) = todo.pop() {
            match value {
                Value::Object(map) => {
                    pieces += usize::from(map.contains_key("type"));
                    if let Some(Value::String(pattern)) = map.get("Regex") {
                        check_pattern(pattern)?;
                    }
                    todo.extend(map.values());
                }
                Value::Array(list) => todo.extend(list),
                _ => {}
            }
        }
        if pieces > MOST_PIECES {
            return Err(Error::new(DOING, format!("it cuts text in {pieces} steps, which cannot be right")));
        }
    }
    Ok(())
}

/// `tokenizers` tries patterns by backtracking where they look ahead or back, which may take for ever; without that the time is
/// that of the text.
fn check_pattern(pattern: &str) -> Result<()> {
    let shown: String = pattern.chars().take(60).collect();
    let refused = |why: String| Err(Error::new(DOING, why).at(format!("pattern {shown:?}")));
    if pattern.len() > MOST_PATTERN {
        return refused(format!("it has {} bytes, and {MOST_PATTERN} are possible", pattern.len()));
    }
    // What stands on either side of the look-ahead is a pattern for itself: so that is no part of one.
    let sides = match pattern.split_once(LOOK_AHEAD) {
        Some((before, behind)) if before.is_empty() || before.ends_with('|') => {
            [before.strip_suffix('|').unwrap_or_default(), behind]
        }
        _ => [pattern, ""],
    };
    for side in sides {
        if let Err(e) = regex::RegexBuilder::new(side).size_limit(MOST_PROGRAM).build() {
            return refused(format!("it could take for ever ({e})"));
        }
    }
    Ok(())
}

/// Reads the parts of the outermost object.
struct Parts;

impl<'de> Visitor<'de> for Parts {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the parts of a tokenizer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Value>, A::Error> {
        let values = Values::at_most(MOST_IN_PARTS);
        let mut parts = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if PARTS.contains(&key.as_str()) {
                parts.push(map.next_value_seed(&values)?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pre_tokenizer: &Value) -> Result<()> {
        check(serde_json::json!({"pre_tokenizer": pre_tokenizer}).to_string().as_bytes())
    }

    fn split(pattern: &str) -> Value {
        serde_json::json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
    }

    #[test]
    fn patterns_that_explode_are_refused_and_qwens_is_not() {
        let qwen = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        with(&split(qwen)).unwrap();
        for pattern in [
            r"(?=(a+)+b)a",
            r"(a*)*\1b",
            r"(?:a?){30}a{30}(?!\S)",
            r"(?:\s+(?!\S)|a?){30}a{30}",
            r"(?:a?|\s+(?!\S)|b){30}a{30}",
            r"(?<!a+)b",
            r"(?>a+)b",
            r"\w{1000}{1000}",
            &"a".repeat(MOST_PATTERN + 1),
        ] {
            let error = with(&split(pattern)).unwrap_err().to_string();
            assert!(error.contains("pattern"), "{error}");
        }
    }

    #[test]
    fn what_becomes_too_much_is_refused() {
        let many = vec![split("a"); MOST_PIECES + 1];
        assert!(
            with(&serde_json::json!({"pretokenizers": many})).unwrap_err().to_string().contains("33 steps")
        );
        assert!(with(&vec![0; MOST_IN_PARTS].into()).unwrap_err().to_string().contains("more than 20000"));
        let wide = format!("[{}]", vec!["[]"; MOST_VALUES].join(","));
        assert!(check(wide.as_bytes()).unwrap_err().to_string().contains("more than 3000000"));
    }
}
