//! Room `model`: ids back to text while they arrive, never half a character. Pure CPU.

use crate::model::tokenizer::Tokenizer;
use std::sync::Arc;

/// Turns a stream of ids into text. What it has given out never changes, and the parts together are
/// [`Tokenizer::decode`] of all ids.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    skip_special: bool,
    /// The beginning of a character whose end has not arrived; at most three bytes between calls.
    pending: Vec<u8>,
}

impl Detokenizer {
    /// `skip_special` leaves control tokens (`<|im_end|>`) out of the text; `<think>` stays.
    #[must_use]
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, pending: Vec::new() }
    }

    /// The text that is certain after this id; empty while a character is incomplete. Bytes that can be no
    /// character become U+FFFD. Ids without a token add nothing.
    pub fn push(&mut self, id: u32) -> String {
        if self.skip_special && self.tokenizer.is_special(id) {
            return String::new();
        }
        self.pending.extend_from_slice(self.tokenizer.token_bytes(id).unwrap_or_default());
        self.take(false)
    }

    /// What is left: U+FFFD for a character that was never finished. Ready for another stream afterwards.
    pub fn finish(&mut self) -> String {
        self.take(true)
    }

    fn take(&mut self, last: bool) -> String {
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        while !rest.is_empty() {
            let (good, bad) = match std::str::from_utf8(rest) {
                Ok(_) => (rest.len(), Some(0)),
                Err(e) => (e.valid_up_to(), e.error_len()),
            };
            text.push_str(&String::from_utf8_lossy(&rest[..good]));
            rest = &rest[good..];
            match bad {
                Some(0) => {}
                Some(n) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[n..];
                }
                None if last => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &[];
                }
                None => break,
            }
        }
        let left = rest.len();
        self.pending.drain(..self.pending.len() - left);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tokenizer::tests::small;
    use proptest::prelude::*;

    fn detokenizer(skip_special: bool) -> Detokenizer {
        Detokenizer::new(Arc::new(small()), skip_special)
    }

    #[test]
    fn a_character_is_held_back_until_it_is_whole() {
        let mut d = detokenizer(false);
        let parts: Vec<String> = "a👁é".bytes().map(|b| d.push(u32::from(b))).collect();
        assert_eq!(parts, ["a", "", "", "", "👁", "", "é"]);
        assert_eq!(d.finish(), "");
    }

    #[test]
    fn broken_bytes_become_the_replacement_character_as_python_has_it() {
        // b"\xf0\x9f\x91a\xff\xe2\x82" decodes in Python with errors="replace" to "\ufffda\ufffd\ufffd".
        let mut d = detokenizer(false);
        let mut parts: Vec<String> =
            b"\xf0\x9f\x91a\xff\xe2\x82".iter().map(|&b| d.push(u32::from(b))).collect();
        parts.push(d.finish());
        assert_eq!(parts, ["", "", "", "\u{fffd}a", "\u{fffd}", "", "", "\u{fffd}"]);
        assert_eq!(d.push(u32::from(b'x')), "x");
    }

    #[test]
    fn control_tokens_are_left_out_on_request() {
        let ids = [258, 97, 264, 259];
        let text = |skip| {
            let mut d = detokenizer(skip);
            ids.iter().map(|&id| d.push(id)).collect::<String>()
        };
        assert_eq!(
            (text(false).as_str(), text(true).as_str()),
            ("<|im_start|>a<think><|im_end|>", "a<think>")
        );
    }

    proptest! {
        #[test]
        fn the_parts_together_are_the_whole(ids in prop::collection::vec(0_u32..270, 0..60), skip: bool) {
            let mut d = detokenizer(skip);
            let mut text: String = ids.iter().map(|&id| d.push(id)).collect();
            prop_assert!(d.pending.len() <= 3);
            text += &d.finish();
            prop_assert_eq!(text, d.tokenizer.decode(&ids, skip));
        }
    }
}
