//! Room `compare`: what differs between two texts, word by word, as pieces to draw one after the other. Words are cut by
//! Unicode's rules (UAX #29), so that Chinese and Japanese, which have no spaces, differ by characters and not by
//! paragraphs. White space is no word: texts that differ in it alone are alike, and are told to be.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use similar::{Algorithm, DiffOp, capture_diff_slices_deadline};
use unicode_segmentation::UnicodeSegmentation;

/// How long [`Difference::between`] looks for the shortest difference.
pub const TIME_LIMIT: Duration = Duration::from_millis(200);

/// What became of a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is in both.
    Same,
    /// It is in the old text alone.
    Removed,
    /// It is in the new text alone.
    Added,
}

/// A piece of one text or of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What became of it.
    pub change: Change,
    /// What it says.
    pub text: String,
    /// Is it white space and nothing else?
    pub blank: bool,
}

/// What differs between two texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// In the order to draw them in. All that are the same or removed make the old text, all that are the same or added
    /// the new one.
    pub pieces: Vec<Piece>,
    /// Words that are in both at the same place of the order, as a share of all words of both, from 0 to 1; 1 for two texts
    /// without words.
    pub similarity: f64,
    /// Words of the old text that are not in the new one.
    pub removed_words: usize,
    /// Words of the new text that are not in the old one.
    pub added_words: usize,
}

/// A word, or a mark of punctuation, and the white space before it.
#[derive(Clone, Copy)]
struct Token<'a> {
    blank: &'a str,
    word: &'a str,
}

impl Difference {
    /// Compares two texts within [`TIME_LIMIT`]: beyond it, what is not yet compared counts as replaced.
    #[must_use]
    pub fn between(old: &str, new: &str) -> Self {
        Self::within(old, new, TIME_LIMIT)
    }

    /// Compares two texts within this time (cutting them into words takes a little beside it, which grows with their length).
    #[must_use]
    pub fn within(old: &str, new: &str, limit: Duration) -> Self {
        let ((old_tokens, old_end), (new_tokens, new_end)) = (tokens(old), tokens(new));
        let mut numbers = HashMap::new();
        let (old_numbers, new_numbers) =
            (number(&old_tokens, &mut numbers), number(&new_tokens, &mut numbers));
        let deadline = Instant::now().checked_add(limit);
        let steps = capture_diff_slices_deadline(Algorithm::Myers, &old_numbers, &new_numbers, deadline);

        let mut pieces = Pieces::default();
        let mut same = 0;
        for step in &steps {
            if let DiffOp::Equal { old_index, new_index, len } = *step {
                same += len;
                let olds = old_tokens.iter().skip(old_index);
                for (old, new) in olds.zip(new_tokens.iter().skip(new_index)).take(len) {
                    pieces.blanks(old.blank, new.blank);
                    pieces.push(Change::Same, old.word);
                }
                continue;
            }
            let removed = old_tokens.get(step.old_range()).unwrap_or_default();
            let added = new_tokens.get(step.new_range()).unwrap_or_default();
            pieces.replaced(removed, added);
        }
        pieces.blanks(old_end, new_end);

        let all = old_tokens.len() + new_tokens.len();
        Self {
            pieces: pieces.0,
            similarity: if all == 0 { 1.0 } else { (2 * same) as f64 / all as f64 },
            removed_words: old_tokens.len() - same,
            added_words: new_tokens.len() - same,
        }
    }

    /// Are the texts the same, white space included?
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.pieces.iter().all(|piece| piece.change == Change::Same)
    }

    /// Do they differ, but in white space alone?
    #[must_use]
    pub fn is_blank(&self) -> bool {
        !self.is_none() && self.removed_words == 0 && self.added_words == 0
    }
}

/// A text as words with the white space before each, and the white space at its end.
fn tokens(text: &str) -> (Vec<Token<'_>>, &str) {
    let mut tokens = Vec::new();
    let mut blank_from = 0;
    for (start, word) in text.split_word_bound_indices() {
        if is_blank(word) {
            continue;
        }
        tokens.push(Token { blank: text.get(blank_from..start).unwrap_or_default(), word });
        blank_from = start + word.len();
    }
    (tokens, text.get(blank_from..).unwrap_or_default())
}

/// Words as numbers, the same for the same: cheaper to compare.
fn number<'a>(tokens: &[Token<'a>], numbers: &mut HashMap<&'a str, usize>) -> Vec<usize> {
    tokens
        .iter()
        .map(|token| {
            let next = numbers.len();
            *numbers.entry(token.word).or_insert(next)
        })
        .collect()
}

fn is_blank(text: &str) -> bool {
    text.chars().all(char::is_whitespace)
}

#[derive(Default)]
struct Pieces(Vec<Piece>);

impl Pieces {
    /// Adds a piece, to the last one where that is of the same kind.
    fn push(&mut self, change: Change, text: &str) {
        if text.is_empty() {
            return;
        }
        let blank = is_blank(text);
        match self.0.last_mut() {
            // What is blank stays apart where it is a difference, and is part of the text where it is none.
            Some(last) if last.change == change && (last.blank == blank || change == Change::Same) => {
                last.text.push_str(text);
                last.blank &= blank;
            }
            _ => self.0.push(Piece { change, text: text.to_owned(), blank }),
        }
    }

    /// White space before a word that is in both texts, or at their ends.
    fn blanks(&mut self, old: &str, new: &str) {
        if old == new {
            self.push(Change::Same, old);
        } else {
            self.push(Change::Removed, old);
            self.push(Change::Added, new);
        }
    }

    /// Words of the old text that stand where others stand in the new one.
    fn replaced(&mut self, removed: &[Token<'_>], added: &[Token<'_>]) {
        // White space before both stays: only words were replaced.
        let shared = match (removed.first(), added.first()) {
            (Some(old), Some(new)) if old.blank == new.blank => old.blank,
            _ => "",
        };
        self.push(Change::Same, shared);
        for (change, tokens) in [(Change::Removed, removed), (Change::Added, added)] {
            let Some((first, rest)) = tokens.split_first() else { continue };
            // As one piece, with the white space in it.
            let mut text = first.blank.strip_prefix(shared).unwrap_or(first.blank).to_owned();
            text.push_str(first.word);
            for token in rest {
                text.push_str(token.blank);
                text.push_str(token.word);
            }
            self.push(change, &text);
        }
    }
}

#[cfg(test)]
mod tests;
