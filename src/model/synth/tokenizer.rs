//! A `tokenizer.json` of a real size with a made-up vocabulary: a byte-level BPE whose merges are pairs and triples of
//! printable characters, so that text goes in and out unchanged and random ids come out as readable gibberish.

use std::fmt::Write;

use serde_json::{Value, json};

/// The added tokens of Qwen3-VL in the order of their ids, and whether they are special.
pub(super) const ADDED: [(&str, bool); 26] = [
    ("<|endoftext|>", true),
    ("<|im_start|>", true),
    ("<|im_end|>", true),
    ("<|object_ref_start|>", true),
    ("<|object_ref_end|>", true),
    ("<|box_start|>", true),
    ("<|box_end|>", true),
    ("<|quad_start|>", true),
    ("<|quad_end|>", true),
    ("<|vision_start|>", true),
    ("<|vision_end|>", true),
    ("<|vision_pad|>", true),
    ("<|image_pad|>", true),
    ("<|video_pad|>", true),
    ("<tool_call>", false),
    ("</tool_call>", false),
    ("<|fim_prefix|>", false),
    ("<|fim_middle|>", false),
    ("<|fim_suffix|>", false),
    ("<|fim_pad|>", false),
    ("<|repo_name|>", false),
    ("<|file_sep|>", false),
    ("<tool_response>", false),
    ("</tool_response>", false),
    ("<think>", false),
    ("</think>", false),
];

/// How text is cut before the merges.
const SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The characters that merges are made of, the frequent ones first: those have the lowest ranks.
const CHARACTERS: &str =
    " etaoinshrdlucmfwypvbgkjqxz.,'-ETAOINSHRDLUCMFWYPVBGKJQXZ0123456789!?;:\"()/_*#<>[]{}=+&%$@|\\^`~";

/// The id of an added token when the base vocabulary has `base` entries.
pub(super) fn added_id(base: usize, content: &str) -> Option<usize> {
    ADDED.iter().position(|(token, _)| *token == content).map(|at| base + at)
}

/// The text of a `tokenizer.json` with ids `0..base` for bytes and merges, and the added tokens from `base` on.
pub(super) fn tokenizer_json(base: usize) -> String {
    let bytes = byte_characters();
    let letter = |c: char| u8::try_from(c).map_or('?', |byte| bytes[usize::from(byte)]);
    let alphabet: Vec<char> = CHARACTERS.chars().map(letter).collect();

    // Two lists of JSON text, filled side by side: the vocabulary and the merges.
    let (mut vocab, mut merges) = (String::with_capacity(base * 24), String::with_capacity(base * 12));
    let mut by_id: Vec<char> = bytes.to_vec();
    by_id.sort_unstable_by_key(|c| order(*c));
    for (id, c) in by_id.iter().enumerate() {
        entry(&mut vocab, &c.to_string(), id);
    }
    for (id, (left, right)) in (by_id.len()..base).zip(pairs(&alphabet).chain(triples(&alphabet))) {
        let separator = if merges.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(merges, "{separator}{}", json!(format!("{left} {right}")));
        entry(&mut vocab, &format!("{left}{right}"), id);
    }
    let added: Vec<Value> = ADDED
        .iter()
        .enumerate()
        .map(|(at, (content, special))| {
            json!({"id": base + at, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special})
        })
        .collect();
    let level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let split =
        json!({"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": false});
    let pre = json!({"type": "Sequence", "pretokenizers": [split, level]});
    format!(
        "{{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":{},\
         \"normalizer\":{{\"type\":\"NFC\"}},\"pre_tokenizer\":{pre},\"post_processor\":{level},\"decoder\":{level},\
         \"model\":{{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":\"\",\
         \"end_of_word_suffix\":\"\",\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,\
         \"vocab\":{{{vocab}}},\"merges\":[{merges}]}}}}\n",
        Value::Array(added)
    )
}

fn entry(list: &mut String, token: &str, id: usize) {
    let separator = if list.is_empty() { "" } else { "," };
    // Writing to a string cannot fail.
    let _ = write!(list, "{separator}{}:{id}", json!(token));
}

/// All pairs of the alphabet, those of frequent characters first: shell by shell of the larger index.
fn pairs(alphabet: &[char]) -> impl Iterator<Item = (String, char)> {
    let count = alphabet.len();
    (0..count).flat_map(move |n| {
        let shell = (0..=n).map(move |j| (n, j)).chain((0..n).map(move |i| (i, n)));
        shell.map(|(i, j)| (alphabet[i].to_string(), alphabet[j]))
    })
}

/// All triples, as a pair and one more character, again shell by shell.
fn triples(alphabet: &[char]) -> impl Iterator<Item = (String, char)> {
    let count = alphabet.len();
    (0..count).flat_map(move |n| {
        (0..=n).flat_map(move |i| (0..=n).map(move |j| (i, j))).flat_map(move |(i, j)| {
            // Inside the square of smaller indices only the last character reaches the shell.
            let first = if i == n || j == n { 0 } else { n };
            (first..=n).map(move |k| (format!("{}{}", alphabet[i], alphabet[j]), alphabet[k]))
        })
    })
}

/// GPT-2's printable stand-in for each byte: printable Latin-1 stands for itself, the rest is moved up from 256.
fn byte_characters() -> [char; 256] {
    let mut next = 256;
    std::array::from_fn(|byte| {
        let byte = u32::try_from(byte).unwrap_or(0);
        let code = if matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) {
            byte
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).unwrap_or('?')
    })
}

/// Ids of the bytes follow the code of the stand-in, as in the real vocabulary.
fn order(c: char) -> u32 {
    u32::from(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::Tokenizer;

    #[test]
    fn a_vocabulary_of_the_real_size_loads_and_text_comes_back_unchanged() {
        const BASE: usize = 151_643;
        let tokenizer: Tokenizer = tokenizer_json(BASE).parse().expect("a valid tokenizer");
        assert_eq!(tokenizer.get_vocab_size(true), BASE + ADDED.len());
        for (content, id) in [
            ("<|endoftext|>", 151_643),
            ("<|im_end|>", 151_645),
            ("<|image_pad|>", 151_655),
            ("</think>", 151_668),
        ] {
            assert_eq!(tokenizer.token_to_id(content), Some(id), "{content}");
        }
        for text in [
            "The quick brown fox, 1234 times!\n\n",
            "  naïve 東京 🦊\t'll",
            "<|im_start|>user\nhi<|im_end|>\n",
        ] {
            let ids = tokenizer.encode(text, false).expect("encodes");
            assert_eq!(tokenizer.decode(ids.get_ids(), false).expect("decodes"), text);
        }
        let ids = tokenizer.encode("the cat sat on the mat", false).expect("encodes");
        assert!(ids.len() <= 11, "merges are used: {:?}", ids.get_tokens());
    }

    #[test]
    fn every_id_of_a_small_vocabulary_is_there_once() {
        let json: Value = serde_json::from_str(&tokenizer_json(992)).expect("valid JSON");
        let mut ids: Vec<u64> =
            json["model"]["vocab"].as_object().expect("a map").values().filter_map(Value::as_u64).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..992).collect::<Vec<u64>>());
        assert_eq!(json["model"]["merges"].as_array().map(Vec::len), Some(992 - 256));
    }
}
