//! Room `compare`: small pieces of the sentences that a verdict is told in, and how words and characters are counted.

use unicode_segmentation::UnicodeSegmentation;

/// How many characters of a text are shown in a sentence.
const SHOWN: usize = 60;

/// The beginning of a text, on one line, without quotes.
pub(super) fn excerpt(text: &str) -> String {
    // A character of a text is at most a few bytes, and what is shown is looked at alone.
    let mut shown = String::new();
    for (n, character) in text.trim().chars().enumerate() {
        if n == SHOWN {
            shown.push('…');
            break;
        }
        shown.push(if character.is_control() { ' ' } else { character });
    }
    shown
}

/// The beginning of a text in quotes.
pub(super) fn quoted(text: &str) -> String {
    if text.trim().is_empty() && !text.is_empty() {
        return "white space".to_owned();
    }
    format!("\"{}\"", excerpt(text))
}

/// Texts in quotes: the first few of them.
pub(super) fn quoted_all(texts: &[&str]) -> String {
    const NAMED: usize = 4;
    let mut named: Vec<String> = texts.iter().take(NAMED).map(|text| quoted(text)).collect();
    if texts.len() > NAMED {
        named.push(format!("{} more", texts.len() - NAMED));
    }
    match named.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => "nothing".to_owned(),
    }
}

/// "1 word", "3 words".
pub(super) fn counted(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// Words by Unicode's rules (UAX #29): "can't" is one; of Chinese and Japanese each character is one.
pub(super) fn words(text: &str) -> usize {
    text.unicode_words().count()
}

/// Characters as people see them (grapheme clusters), white space around the text not counted.
pub(super) fn characters(text: &str) -> usize {
    text.trim().graphemes(true).count()
}

/// Sentences as one, with a capital letter and a full stop.
pub(super) fn sentence(parts: &[String]) -> String {
    let joined = parts.join("; ");
    let mut letters = joined.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", letters.as_str())
}
