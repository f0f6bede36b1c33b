//! Whether a `tokenizer.json` belongs to a configuration: a light look at its ids, long before it is used.

use std::fmt;
use std::io::{BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, Result};
use crate::model::builtin;
use crate::model::config::ModelConfig;
use crate::model::tokenizer::MAX_FILE_BYTES;

const DOING: &str = "checking the tokenizer";

#[derive(Deserialize)]
struct Tokenizer {
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u64,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    vocab: LargestId,
}

/// The largest id of a vocabulary, without the vocabulary.
struct LargestId(u64);

impl<'de> Deserialize<'de> for LargestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = LargestId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vocabulary")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LargestId, A::Error> {
                let mut largest = 0;
                while let Some((IgnoredAny, id)) = map.next_entry::<IgnoredAny, u64>()? {
                    largest = largest.max(id);
                }
                Ok(LargestId(largest))
            }

            // The list form of other kinds of tokenizer: ids are positions.
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<LargestId, A::Error> {
                let mut count: u64 = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(LargestId(count.saturating_sub(1)))
            }
        }
        deserializer.deserialize_any(Walk)
    }
}

/// Checks that every id fits the embedding table, and that the picture tokens have the ids the configuration gives.
///
/// # Errors
/// The file is missing or no tokenizer, or contradicts the configuration.
pub(super) fn check(path: &Path, config: &ModelConfig) -> Result<()> {
    let help = "use the tokenizer.json that came with these weights";
    builtin::open(path)
        .map_err(|e| Error::new(DOING, e))
        .and_then(|file| check_read(file.take(MAX_FILE_BYTES), config))
        .map_err(|e| e.at_path(path).help(help))
}

/// [`check`] of the bytes of a `tokenizer.json`.
pub(super) fn check_read(file: impl Read, config: &ModelConfig) -> Result<()> {
    let bad = |cause: String| Error::new(DOING, cause);
    let tokenizer: Tokenizer = serde_json::from_reader(BufReader::with_capacity(1 << 18, file))
        .map_err(|e| bad(format!("the file is not a tokenizer: {e}")))?;
    let largest = tokenizer.added_tokens.iter().map(|added| added.id).fold(tokenizer.model.vocab.0, u64::max);
    let rows = config.text.vocab_size;
    if largest >= rows as u64 {
        return Err(bad(format!("it has ids up to {largest}, but the model's vocabulary has {rows} rows")));
    }
    for (token, key, wanted) in [
        ("<|image_pad|>", "image_token_id", config.image_token_id),
        ("<|video_pad|>", "video_token_id", config.video_token_id),
        ("<|vision_start|>", "vision_start_token_id", config.vision_start_token_id),
        ("<|vision_end|>", "vision_end_token_id", config.vision_end_token_id),
    ] {
        for added in tokenizer.added_tokens.iter().filter(|added| added.content == token) {
            if added.id != u64::from(wanted) {
                return Err(bad(format!(
                    "{token} has id {}, but {key} in config.json is {wanted}",
                    added.id
                )));
            }
        }
        if !tokenizer.added_tokens.iter().any(|added| added.id == u64::from(wanted)) {
            return Err(bad(format!("{token} is not in it; {key} in config.json is {wanted}")));
        }
    }
    Ok(())
}
