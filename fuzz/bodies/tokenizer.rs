//! `tokenizer.json`, and what is then made of text.

use ocelli::model::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use super::{choice, halves, merged, read};

/// Text that every tokenizer must split.
const TEXT: &str = "Hello, wörld! 12345 \u{301}e\u{301}\r\n\n  <|im_start|>user 中文🦀";

/// The first byte says whether the rest is a whole file, or an object laid over a sound one with text behind a zero byte.
pub fn run(data: &[u8]) {
    let Some((door, rest)) = choice(data, 2) else { return };
    if door == 0 {
        if let Some(tokenizer) = read(Tokenizer::from_json(rest)) {
            encode(&tokenizer, TEXT);
        }
        return;
    }
    let (patch, text) = halves(rest);
    let Ok(patch) = serde_json::from_slice(patch) else { return };
    let mut whole = sound();
    merged(&mut whole, patch);
    if let Some(tokenizer) = read(Tokenizer::from_json(whole.to_string().as_bytes())) {
        encode(&tokenizer, TEXT);
        encode(&tokenizer, &String::from_utf8_lossy(text));
    }
}

fn encode(tokenizer: &Tokenizer, text: &str) {
    for ids in [tokenizer.encode(text), tokenizer.encode_plain(text)] {
        let Some(ids) = read(ids) else { continue };
        for &id in &ids {
            assert!((id as usize) < tokenizer.vocab_size().max(1), "{id} is no id");
        }
        let _ = tokenizer.decode(&ids, true);
    }
}

/// A byte-level BPE with a few merges.
fn sound() -> Value {
    let mut vocab = Map::new();
    let mut next = 0x100_u32;
    for byte in 0..=255_u8 {
        let letter = match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).expect("a letter")
            }
        };
        vocab.insert(letter.to_string(), byte.into());
    }
    vocab.insert("ab".into(), 256.into());
    vocab.insert("abc".into(), 257.into());
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 258, "content": "<|im_start|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\p{L}+|\\p{N}|\\s+(?!\\S)|\\s+"}, "behavior": "Isolated", "invert": false},
            byte_level,
        ]},
        "post_processor": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": ["a b", "ab c"]},
    })
}
