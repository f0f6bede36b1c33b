//! Conversations in the OpenAI form.

use std::path::Path;

use ocelli::chat::openai::parse_conversation;

use super::read;

/// The text of a file of messages.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(conversation) = read(parse_conversation(text, Path::new("/nowhere"))) else { return };
    assert!(!conversation.messages.is_empty());
    for message in &conversation.messages {
        let _ = (message.plain_text(), message.images().count(), message.videos().count());
    }
}
