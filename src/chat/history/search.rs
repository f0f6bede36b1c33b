//! Room `chat`: full-text search over all messages that are not deleted.

use rusqlite::{Connection, params};

use super::{ConversationId, History, READING, failed};
use crate::chat::tree::MessageId;
use crate::error::Result;

/// Fewer characters than a trigram has: no index helps, the text itself is looked through.
const TRIGRAM: usize = 3;
/// Marks around what was found; no text has them by accident (they are private-use characters).
const FROM: char = '\u{e000}';
const TO: char = '\u{e001}';
/// Characters shown on each side of what was found where no index cuts the excerpt.
const AROUND: usize = 40;

/// A message in which the words were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its conversation.
    pub conversation: ConversationId,
    /// The message.
    pub message: MessageId,
    /// A piece of its text, cut into (text, found) runs.
    pub excerpt: Vec<(String, bool)>,
}

impl History {
    /// The messages that hold every word of the query, newest first, at most `limit`. Case does not matter, and a part
    /// of a word is enough.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn search(&self, query: &str, limit: usize) -> Result<Vec<Hit>> {
        let words: Vec<&str> = query.split_whitespace().collect();
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = if words.iter().all(|word| word.chars().count() >= TRIGRAM) {
            indexed(&self.connection, &words, limit)
        } else {
            looked_through(&self.connection, &words, limit)
        };
        found.map_err(|e| failed(READING, &e))
    }
}

fn indexed(connection: &Connection, words: &[&str], limit: i64) -> rusqlite::Result<Vec<Hit>> {
    // Each word as a quoted string: nothing in it is FTS5's own language.
    let query: Vec<String> = words.iter().map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
    let sql = "SELECT m.conversation, m.id, snippet(words, 0, ?2, ?3, '…', 48)
        FROM words JOIN messages m ON m.id = words.rowid JOIN conversations c ON c.id = m.conversation
        WHERE words MATCH ?1 AND m.deleted_ms IS NULL AND c.deleted_ms IS NULL ORDER BY m.id DESC LIMIT ?4";
    connection
        .prepare_cached(sql)?
        .query_map(params![query.join(" "), FROM.to_string(), TO.to_string(), limit], |row| {
            Ok(Hit {
                conversation: ConversationId(row.get(0)?),
                message: MessageId(row.get(1)?),
                excerpt: runs(&row.get::<_, String>(2)?),
            })
        })?
        .collect()
}

fn looked_through(connection: &Connection, words: &[&str], limit: i64) -> rusqlite::Result<Vec<Hit>> {
    let condition = " AND m.text LIKE ? ESCAPE '\\'".repeat(words.len());
    let sql = format!(
        "SELECT m.conversation, m.id, m.text FROM messages m JOIN conversations c ON c.id = m.conversation
        WHERE m.deleted_ms IS NULL AND c.deleted_ms IS NULL{condition} ORDER BY m.id DESC LIMIT {limit}"
    );
    let patterns = words.iter().map(|word| {
        let escaped = word.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        format!("%{escaped}%")
    });
    connection
        .prepare(&sql)?
        .query_map(rusqlite::params_from_iter(patterns), |row| {
            let text: String = row.get(2)?;
            Ok(Hit {
                conversation: ConversationId(row.get(0)?),
                message: MessageId(row.get(1)?),
                excerpt: cut(&text, words.first().copied().unwrap_or_default()),
            })
        })?
        .collect()
}

/// The runs of a text with marks in it.
fn runs(marked: &str) -> Vec<(String, bool)> {
    let mut out = Vec::new();
    for (index, piece) in marked.split(FROM).enumerate() {
        let (found, rest) = match (index, piece.split_once(TO)) {
            (0, _) => ("", piece),
            (_, Some(pair)) => pair,
            (_, None) => (piece, ""),
        };
        for (text, is_found) in [(found, true), (rest, false)] {
            if !text.is_empty() {
                out.push((text.to_owned(), is_found));
            }
        }
    }
    out
}

/// The first place of a word in a text, with what stands around it.
fn cut(text: &str, word: &str) -> Vec<(String, bool)> {
    let characters: Vec<char> = text.chars().collect();
    let wanted: Vec<char> = word.chars().collect();
    let same = |a: &char, b: &char| a == b || a.to_lowercase().eq(b.to_lowercase());
    let at = characters
        .windows(wanted.len().max(1))
        .position(|window| window.iter().zip(&wanted).all(|(a, b)| same(a, b)))
        .unwrap_or(0);
    let end = (at + wanted.len()).min(characters.len());
    let from = at.saturating_sub(AROUND);
    let to = (end + AROUND).min(characters.len());
    let piece =
        |range: std::ops::Range<usize>| -> String { characters.get(range).unwrap_or(&[]).iter().collect() };
    let before = if from > 0 { format!("…{}", piece(from..at)) } else { piece(from..at) };
    let after = if to < characters.len() { format!("{}…", piece(end..to)) } else { piece(end..to) };
    [(before, false), (piece(at..end), true), (after, false)]
        .into_iter()
        .filter(|(text, _)| !text.is_empty())
        .collect()
}
