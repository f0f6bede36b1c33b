//! The tokenizer of a GGUF file as the `tokenizer.json` it was made from: the same ids for the same text.

use serde_json::{Map, Value, json};

use super::Gguf;
use super::header::MAX_LISTED;
use crate::error::{Error, Result};

/// How Qwen cuts text before BPE.
const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Kinds of tokens in `tokenizer.ggml.token_type`.
const NORMAL: u32 = 1;
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;

/// Added tokens of Qwen that are no control tokens, although GGUF files call them so because of their look.
const NO_CONTROL: [&str; 6] =
    ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"];

const HELP: &str = "download the file again, or another conversion of the model";

/// A tokenizer.
#[derive(Debug)]
pub(super) struct Vocabulary {
    /// The bytes of `tokenizer.json`.
    pub(super) json: Vec<u8>,
    /// Added tokens by text.
    added: Map<String, Value>,
}

impl Vocabulary {
    /// Reads the metadata `tokenizer.ggml.*`.
    ///
    /// # Errors
    /// It is missing, malformed, or not Qwen's kind of tokenizer.
    pub(super) fn read(file: &Gguf) -> Result<Self> {
        let bad = |cause: String| file.error(cause).help(HELP);
        for (key, wanted) in [("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.pre", "qwen2")] {
            match file.text(key) {
                Some(found) if found == wanted => {}
                found => {
                    let found = found.unwrap_or("missing");
                    return Err(bad(format!("{key} is {found}, and Qwen3-VL's is {wanted}")));
                }
            }
        }
        for key in ["tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges"] {
            if let Some(count) = file.list_len(key).filter(|count| *count > MAX_LISTED) {
                return Err(bad(format!("{key} has {count} elements, which cannot be right")));
            }
        }
        let missing = |key: &str| bad(format!("{key} is missing, or no list of the right kind"));
        let tokens = file.texts("tokenizer.ggml.tokens").ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
        let types =
            file.numbers("tokenizer.ggml.token_type").ok_or_else(|| missing("tokenizer.ggml.token_type"))?;
        let merges = file.texts("tokenizer.ggml.merges").ok_or_else(|| missing("tokenizer.ggml.merges"))?;
        let (mut vocab, mut added, mut listed) = (Map::new(), Map::new(), Vec::new());
        let mut count = 0;
        for (id, token) in tokens.enumerate() {
            let token = token.map_err(|e| e.at_path(file.path()))?;
            count = id + 1;
            let kind = types.get(id).copied().unwrap_or(0.0);
            let is = |wanted: u32| kind.to_bits() == f64::from(wanted).to_bits();
            let place = if is(NORMAL) {
                &mut vocab
            } else if is(CONTROL) || is(USER_DEFINED) {
                // Rows of the embedding without a token.
                if token == format!("[PAD{id}]") {
                    continue;
                }
                listed.push(json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": is(CONTROL) && !NO_CONTROL.contains(&token),
                }));
                &mut added
            } else {
                continue;
            };
            if place.insert(token.to_owned(), id.into()).is_some() {
                return Err(bad(format!("the token {token:?} is there twice")));
            }
        }
        if types.len() != count {
            return Err(bad(format!("there are {count} tokens and {} token types", types.len())));
        }
        let merges: Vec<&str> =
            merges.collect::<Result<_>>().map_err(|e: Error| e.at_path(file.path()).help(HELP))?;
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": listed,
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": false},
                byte_level,
            ]},
            "post_processor": byte_level,
            "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": merges,
            },
        });
        Ok(Self { json: tokenizer.to_string().into_bytes(), added })
    }

    /// The id of an added token.
    pub(super) fn id(&self, token: &str) -> Option<u64> {
        self.added.get(token).and_then(Value::as_u64)
    }
}
