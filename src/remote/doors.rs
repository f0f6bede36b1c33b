//! Room `remote`: doors for `fuzz/`. What a server sends is read by functions that need a connection; here it is bytes.

use super::{models, reply, sse};
use crate::error::Result;

const DOING: &str = "asking the server";

/// Reads a stream of events that comes in pieces of so many bytes, as an answer is read; gives its text.
///
/// # Errors
/// A line has no end, an event makes no sense, or the server reports an error.
pub fn hear(stream: &[u8], piece: usize) -> Result<String> {
    let (mut events, mut text) = (sse::Events::default(), String::new());
    for bytes in stream.chunks(piece.max(1)) {
        for data in events.take(bytes)? {
            text.push_str(&reply::read(DOING, "server", None, &data)?.text);
        }
    }
    if let Some(data) = events.end() {
        text.push_str(&reply::read(DOING, "server", None, &data)?.text);
    }
    Ok(text)
}

/// The names of models in a server's list.
#[must_use]
pub fn hear_models(page: &[u8]) -> Option<Vec<String>> {
    models::read(page).map(|listed| listed.models)
}

/// What is shown of a refusal.
#[must_use]
pub fn hear_refusal(page: &[u8]) -> String {
    reply::refusal_words(page, None)
}
