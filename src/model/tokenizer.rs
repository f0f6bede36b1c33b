//! Room `model`: text to token ids and ids to bytes, as Qwen's byte-level BPE has it. Also
//! keeps apart the special tokens a chat template writes and text that merely looks like one.
//! Reads `tokenizer.json`; touches no GPU.

mod check;

use crate::error::{Error, Result};
use crate::model::builtin;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use tokenizers::{Model as _, ModelWrapper, Normalizer as _, OffsetType, PreTokenizer as _};
use tokenizers::{NormalizedString, PreTokenizedString};

/// A `tokenizer.json` larger than this is not one, in bytes.
pub(in crate::model) const MAX_FILE_BYTES: u64 = 100 << 20;
const DOING: &str = "reading the tokenizer";

/// The token ids that the model's config names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialIds {
    /// `image_token_id`: one per merged token of a picture.
    pub image_pad: u32,
    /// `video_token_id`: one per merged token of a clip.
    pub video_pad: u32,
    /// `vision_start_token_id`.
    pub vision_start: u32,
    /// `vision_end_token_id`.
    pub vision_end: u32,
    /// Ids that end an answer.
    pub eos: Vec<u32>,
    /// Rows of the embedding; ids are below it.
    pub vocab_size: u32,
}

/// A token that is matched as a whole before any text is split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedToken {
    /// Its id.
    pub id: u32,
    /// Its text, never empty.
    pub text: String,
    /// Whether it is a control token (`<|im_end|>`), and not only atomic text (`<think>`).
    pub special: bool,
}

/// Which added tokens may not be written by a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literals {
    /// None of them: text of a user, a system prompt or a tool.
    All,
    /// Only control tokens: text of the assistant, whose `<think>` and `<tool_call>` are tokens.
    Special,
}

/// The added tokens of a tokenizer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddedTokens {
    /// Longest text first.
    tokens: Vec<AddedToken>,
    /// The characters they begin with; few, and asked for at every character of a text.
    firsts: Vec<char>,
}

impl AddedTokens {
    /// A set of added tokens; empty texts are left out.
    #[must_use]
    pub fn new(mut tokens: Vec<AddedToken>) -> Self {
        tokens.retain(|t| !t.text.is_empty());
        tokens.sort_by(|a, b| b.text.len().cmp(&a.text.len()).then(a.id.cmp(&b.id)));
        let mut firsts: Vec<char> = tokens.iter().filter_map(|t| t.text.chars().next()).collect();
        firsts.sort_unstable();
        firsts.dedup();
        Self { tokens, firsts }
    }

    /// All of them, longest text first.
    pub fn iter(&self) -> impl Iterator<Item = &AddedToken> {
        self.tokens.iter()
    }

    /// The longest added token that `text` begins with.
    fn at_start(&self, text: &str) -> Option<&AddedToken> {
        self.tokens.iter().find(|t| text.starts_with(&t.text))
    }

    /// Puts `mark` after the first character of everything in `text` that is, or could be the beginning
    /// of, an added token, so that no template can make one of it. [`MarkedText`] takes the marks out again.
    #[must_use]
    pub fn mark<'t>(&self, text: &'t str, mark: char, literals: Literals) -> Cow<'t, str> {
        let forged = |rest: &str| {
            self.tokens
                .iter()
                .filter(|t| t.special || literals == Literals::All)
                // The second case: what follows this text in the prompt could complete it.
                .any(|t| rest.starts_with(&t.text) || t.text.starts_with(rest))
        };
        let mut out = String::new();
        let mut copied = 0;
        for (at, first) in text.char_indices() {
            if self.firsts.contains(&first) && forged(&text[at..]) {
                let behind = at + first.len_utf8();
                out.push_str(&text[copied..behind]);
                out.push(mark);
                copied = behind;
            }
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(&text[copied..]);
        Cow::Owned(out)
    }

    /// The added tokens of a rendered prompt and the text between them, without marks.
    #[must_use]
    pub fn split(&self, prompt: &MarkedText) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut run = String::new();
        let mut rest = prompt.text.as_str();
        while let Some(first) = rest.chars().next() {
            if self.firsts.contains(&first)
                && let Some(token) = self.at_start(rest)
            {
                if !run.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut run)));
                }
                pieces.push(Piece::Token(token.id));
                rest = &rest[token.text.len()..];
                continue;
            }
            if prompt.mark != Some(first) {
                run.push(first);
            }
            rest = &rest[first.len_utf8()..];
        }
        if !run.is_empty() {
            pieces.push(Piece::Text(run));
        }
        pieces
    }
}

/// A rendered prompt in which added tokens are real ones, except where a mark breaks them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkedText {
    text: String,
    mark: Option<char>,
}

impl MarkedText {
    /// `text`, in which every `mark` was put by [`AddedTokens::mark`].
    #[must_use]
    pub fn new(text: String, mark: Option<char>) -> Self {
        Self { text, mark }
    }

    /// The text without marks, as transformers renders it.
    #[must_use]
    pub fn plain(&self) -> String {
        match self.mark {
            Some(mark) => self.text.replace(mark, ""),
            None => self.text.clone(),
        }
    }
}

/// A part of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// An added token.
    Token(u32),
    /// Text, encoded without looking for added tokens. Never empty, never next to another text.
    Text(String),
}

/// The tokenizer of a checkpoint.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    added: AddedTokens,
    /// Id → index into `added.tokens`.
    added_by_id: HashMap<u32, usize>,
    /// The bytes of all ids one after another, and where each begins.
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// When the file is missing, too large, malformed, or not a byte-level BPE.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let fail = |cause: &dyn fmt::Display| {
            Error::new(DOING, cause).at_path(&path).help("download or convert the model again")
        };
        let size = builtin::facts(&path).map_err(|e| fail(&e))?.len;
        if size > MAX_FILE_BYTES {
            return Err(fail(&format!("{size} bytes are too many for a tokenizer")));
        }
        let json = builtin::read(&path, MAX_FILE_BYTES).map_err(|e| fail(&e))?;
        Self::from_json(&json).map_err(|e| e.at_path(&path).help("download or convert the model again"))
    }

    /// As [`Tokenizer::from_folder`], from the bytes of `tokenizer.json`.
    ///
    /// # Errors
    /// When they are malformed or not a byte-level BPE.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        check::check(json)?;
        let inner = tokenizers::Tokenizer::from_bytes(json).map_err(|e| Error::new(DOING, e))?;
        if !matches!(inner.get_model(), ModelWrapper::BPE(_)) {
            return Err(Error::new(DOING, "its model is not BPE, which Qwen3-VL's is"));
        }
        let mut added = Vec::new();
        for (id, token) in inner.get_added_tokens_decoder() {
            if token.lstrip || token.rstrip || token.single_word {
                let what = "it matches with the space around it (lstrip, rstrip, single_word), which is not supported";
                return Err(Error::new(DOING, what).at(format!("added token {:?}", token.content)));
            }
            added.push(AddedToken { id, text: token.content, special: token.special });
        }
        let added = AddedTokens::new(added);
        let added_by_id = added.iter().enumerate().map(|(i, t)| (t.id, i)).collect();
        let (bytes, starts) = byte_table(&inner, &added)?;
        Ok(Self { inner, added, added_by_id, bytes, starts })
    }

    /// One more than the largest id. The model's embedding may have more rows.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.starts.len() - 1
    }

    /// The added tokens.
    #[must_use]
    pub fn added(&self) -> &AddedTokens {
        &self.added
    }

    /// The added token with this id.
    #[must_use]
    pub fn added_token(&self, id: u32) -> Option<&AddedToken> {
        self.added_by_id.get(&id).map(|&i| &self.added.tokens[i])
    }

    /// Whether the id is a control token, which a reader is not shown.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.added_token(id).is_some_and(|t| t.special)
    }

    /// The id of a token by its text in the vocabulary (`<|im_end|>`, `Ġthe`).
    #[must_use]
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The bytes an id stands for: of an added token its text. They may be part of a character. `None` for
    /// ids without a token (the padding rows of the embedding).
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let range = *self.starts.get(id)?..*self.starts.get(id + 1)?;
        Some(&self.bytes[range]).filter(|bytes| !bytes.is_empty())
    }

    /// The ids of `text`, where what looks like an added token is one: as transformers encodes.
    ///
    /// # Errors
    /// When the text cannot be split.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_pieces(&self.added.split(&MarkedText::new(text.to_owned(), None)))
    }

    /// The ids of `text`, where nothing is an added token.
    ///
    /// # Errors
    /// When the text cannot be split.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// The ids of pieces.
    ///
    /// # Errors
    /// When a text cannot be split.
    pub fn encode_pieces(&self, pieces: &[Piece]) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Token(id) => ids.push(*id),
                Piece::Text(text) => self.encode_into(text, &mut ids)?,
            }
        }
        Ok(ids)
    }

    /// The text of `ids`; broken characters become U+FFFD. `skip_special` leaves control tokens out.
    #[must_use]
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let bytes: Vec<u8> = ids
            .iter()
            .filter(|&&id| !(skip_special && self.is_special(id)))
            .filter_map(|&id| self.token_bytes(id))
            .flatten()
            .copied()
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Checks that the ids in the model's config are this tokenizer's.
    ///
    /// # Errors
    /// When one is no added token, or the embedding has fewer rows than there are ids.
    pub fn check(&self, ids: &SpecialIds) -> Result<()> {
        const DOING: &str = "checking the tokenizer against config.json";
        const HELP: &str = "the files belong to different models; download the model again";
        let vision = [
            ("image_token_id", ids.image_pad),
            ("video_token_id", ids.video_pad),
            ("vision_start_token_id", ids.vision_start),
            ("vision_end_token_id", ids.vision_end),
        ];
        for (name, id) in vision.into_iter().chain(ids.eos.iter().map(|&id| ("eos_token_id", id))) {
            if self.added_token(id).is_none() {
                return Err(
                    Error::new(DOING, format!("{name} {id} is no added token of tokenizer.json")).help(HELP)
                );
            }
        }
        for (i, (name, id)) in vision.iter().enumerate() {
            if let Some((other, _)) = vision[..i].iter().find(|(_, other)| other == id) {
                return Err(Error::new(DOING, format!("{name} and {other} are both {id}")).help(HELP));
            }
        }
        if ids.eos.is_empty() {
            return Err(Error::new(DOING, "there is no eos_token_id, so no answer would end").help(HELP));
        }
        let (rows, tokens) = (ids.vocab_size, self.vocab_size());
        if tokens > rows as usize {
            return Err(
                Error::new(DOING, format!("it has {tokens} tokens, and vocab_size is {rows}")).help(HELP)
            );
        }
        Ok(())
    }

    fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let fail = |e: tokenizers::Error| Error::new("splitting text into tokens", e).quoting();
        let mut text = NormalizedString::from(text);
        if let Some(normalizer) = self.inner.get_normalizer() {
            normalizer.normalize(&mut text).map_err(fail)?;
        }
        let mut words = PreTokenizedString::from(text);
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut words).map_err(fail)?;
        }
        let model = self.inner.get_model();
        words.tokenize(|word| model.tokenize(word.get())).map_err(fail)?;
        ids.extend_from_slice(words.into_encoding(None, 0, OffsetType::None).map_err(fail)?.get_ids());
        Ok(())
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokenizer of {} ids, {} added", self.vocab_size(), self.added.tokens.len())
    }
}

/// The bytes of all ids, and where each begins (one entry more than ids).
fn byte_table(inner: &tokenizers::Tokenizer, added: &AddedTokens) -> Result<(Vec<u8>, Vec<usize>)> {
    /// More ids than any embedding has rows: a wrong id must not fill the memory.
    const MAX_ID: u32 = 1 << 22;
    let model = inner.get_model();
    let chars = byte_chars();
    if let Some(byte) =
        (0_u8..=255).find(|&b| model.token_to_id(&chars[usize::from(b)].to_string()).is_none())
    {
        let what = format!(
            "byte {byte:#04x} has no token, so some text could not be written; it is no byte-level BPE"
        );
        return Err(Error::new(DOING, what));
    }
    let bytes_of: HashMap<char, u8> = chars.iter().copied().zip(0_u8..=255).collect();

    let mut tokens: HashMap<u32, Vec<u8>> = HashMap::new();
    for (token, id) in model.get_vocab() {
        let bytes = token.chars().map(|c| bytes_of.get(&c).copied()).collect::<Option<Vec<u8>>>();
        tokens.insert(id, bytes.unwrap_or_else(|| token.into_bytes()));
    }
    tokens.extend(added.iter().map(|t| (t.id, t.text.clone().into_bytes())));
    let last = tokens.keys().copied().max().unwrap_or(0);
    if last > MAX_ID {
        return Err(Error::new(DOING, format!("id {last} is too large")));
    }
    let mut tokens: Vec<(u32, Vec<u8>)> = tokens.into_iter().collect();
    tokens.sort_unstable();
    let (mut bytes, mut starts) = (Vec::new(), Vec::with_capacity(last as usize + 2));
    for (id, token) in tokens {
        // Ids without a token stand for nothing.
        starts.resize(id as usize + 1, bytes.len());
        bytes.extend(token);
    }
    starts.resize(last as usize + 2, bytes.len());
    Ok((bytes, starts))
}

/// GPT-2's printable character for each byte: itself where it is printable, else U+0100 and on.
fn byte_chars() -> [char; 256] {
    let mut next = 0x100_u32;
    let mut chars = ['\0'; 256];
    for (byte, slot) in (0_u8..=255).zip(&mut chars) {
        *slot = match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
        };
    }
    chars
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A byte-level BPE with two merges, special and plain added tokens.
    pub(crate) fn small() -> Tokenizer {
        let chars = byte_chars();
        let mut vocab = serde_json::Map::new();
        for (id, c) in chars.iter().enumerate() {
            vocab.insert(c.to_string(), id.into());
        }
        vocab.insert("ab".into(), 256.into());
        vocab.insert("<|".into(), 257.into());
        let added = [
            ("<|im_start|>", true),
            ("<|im_end|>", true),
            ("<|vision_start|>", true),
            ("<|vision_end|>", true),
            ("<|image_pad|>", true),
            ("<|video_pad|>", true),
            ("<think>", false),
            ("<thinking>", false),
        ];
        let added: Vec<_> = added
            .iter()
            .enumerate()
            .map(|(i, (text, special))| {
                serde_json::json!({"id": 258 + i, "content": text, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": special})
            })
            .collect();
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
            "post_processor": null, "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
                "vocab": vocab, "merges": ["a b", "< |"]}
        });
        Tokenizer::from_json(json.to_string().as_bytes()).unwrap()
    }

    pub(crate) fn small_ids() -> SpecialIds {
        SpecialIds {
            vision_start: 260,
            vision_end: 261,
            image_pad: 262,
            video_pad: 263,
            eos: vec![259],
            vocab_size: 300,
        }
    }

    const MARK: char = '\u{f0000}';

    #[test]
    fn a_damaged_decoder_is_an_error() {
        for decoder in [r#"{"type": "ByteLevel", "\ud800": 1}"#, "[1, 2", "{", r#"{"type": "Nonsense"}"#, "7"]
        {
            let json = format!(r#"{{"version": "1.0", "decoder": {decoder}, "model": {{"type": "BPE"}}}}"#);
            let e = Tokenizer::from_json(json.as_bytes()).unwrap_err().to_string();
            assert!(e.starts_with("reading the tokenizer: "), "{e}");
        }
    }

    #[test]
    fn a_tokenizer_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>(_: &T) {}
        shared(&small());
    }

    #[test]
    fn added_tokens_are_found_longest_first() {
        let t = small();
        assert_eq!(t.encode("ab<think>b<thinking>").unwrap(), [256, 264, 98, 265]);
        assert_eq!(t.encode("").unwrap(), [0_u32; 0]);
        assert_eq!(t.encode("<|im_end|>").unwrap(), [259]);
    }

    #[test]
    fn marked_literals_are_plain_text_in_one_run_with_their_neighbours() {
        let t = small();
        let user = "ab<|im_end|>ab";
        let marked = t.added().mark(user, MARK, Literals::All);
        let prompt = MarkedText::new(format!("<|im_start|>{marked}<|im_end|>"), Some(MARK));
        let mut want = vec![258];
        want.extend(t.encode_plain(user).unwrap());
        want.push(259);
        assert_eq!(t.encode_pieces(&t.added().split(&prompt)).unwrap(), want);
        assert_eq!(prompt.plain(), "<|im_start|>ab<|im_end|>ab<|im_end|>");
        assert!(!t.encode_plain(user).unwrap().contains(&259));
        assert!(t.encode_plain(user).unwrap().contains(&257), "the merge across the mark");
    }

    #[test]
    fn two_halves_of_a_token_in_two_parts_do_not_become_one() {
        let t = small();
        let parts: String = ["x <|im_", "end|>", " <", "think>"]
            .iter()
            .map(|part| t.added().mark(part, MARK, Literals::All).into_owned())
            .collect();
        let prompt = MarkedText::new(parts, Some(MARK));
        assert_eq!(t.added().split(&prompt), [Piece::Text("x <|im_end|> <think>".into())]);
    }

    #[test]
    fn the_assistant_may_think_but_not_end_its_turn() {
        let t = small();
        let marked = t.added().mark("<think>a<|im_end|>", MARK, Literals::Special).into_owned();
        let pieces = t.added().split(&MarkedText::new(marked, Some(MARK)));
        assert_eq!(pieces, [Piece::Token(264), Piece::Text("a<|im_end|>".into())]);
    }

    #[test]
    fn ordinary_text_is_not_marked() {
        let t = small();
        for text in ["", "a < b", "hello", "|>"] {
            assert!(matches!(t.added().mark(text, MARK, Literals::All), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn every_byte_and_added_token_gives_its_bytes() {
        let t = small();
        let all: Vec<u8> = (0..256).flat_map(|id| t.token_bytes(id).unwrap().to_vec()).collect();
        assert_eq!(all, (0..=255).collect::<Vec<u8>>());
        assert_eq!(t.token_bytes(256), Some(b"ab".as_slice()));
        assert_eq!(t.token_bytes(264), Some(b"<think>".as_slice()));
        assert_eq!((t.token_bytes(266), t.token_bytes(u32::MAX)), (None, None));
        assert_eq!(t.vocab_size(), 266);
    }

    #[test]
    fn decoding_may_leave_control_tokens_out() {
        let t = small();
        let ids = t.encode("<|im_start|>é<think>").unwrap();
        assert_eq!(t.decode(&ids, false), "<|im_start|>é<think>");
        assert_eq!(t.decode(&ids, true), "é<think>");
    }

    #[test]
    fn text_is_brought_to_nfc() {
        let t = small();
        assert_eq!(t.encode("e\u{301}").unwrap(), t.encode("\u{e9}").unwrap());
    }

    #[test]
    fn ids_of_another_model_are_refused() {
        let t = small();
        t.check(&small_ids()).unwrap();
        let said = |ids: SpecialIds| t.check(&ids).unwrap_err().to_string();
        assert!(said(SpecialIds { image_pad: 5, ..small_ids() }).contains("image_token_id 5"));
        assert!(said(SpecialIds { video_pad: 262, ..small_ids() }).contains("both 262"));
        assert!(said(SpecialIds { eos: vec![], ..small_ids() }).contains("no answer would end"));
        assert!(said(SpecialIds { eos: vec![9999], ..small_ids() }).contains("eos_token_id 9999"));
        assert!(said(SpecialIds { vocab_size: 265, ..small_ids() }).contains("266 tokens"));
    }

    #[test]
    fn missing_and_malformed_files_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let said = || Tokenizer::from_folder(dir.path()).unwrap_err().to_string();
        assert!(said().contains("tokenizer.json"));
        std::fs::write(dir.path().join("tokenizer.json"), "{").unwrap();
        assert!(said().contains("tokenizer.json"));
        let wordlevel = r#"{"version":"1.0","added_tokens":[],"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}"#;
        std::fs::write(dir.path().join("tokenizer.json"), wordlevel).unwrap();
        assert!(said().contains("not BPE"), "{}", said());
        let empty =
            r#"{"version":"1.0","added_tokens":[],"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}"#;
        std::fs::write(dir.path().join("tokenizer.json"), empty).unwrap();
        assert!(said().contains("no byte-level BPE"), "{}", said());
    }
}
