//! Room `chat`: a list of messages in the form of `OpenAI` as one conversation without branches.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{DOING, MAX_PICTURE};
use crate::bounded;
use crate::chat::history::{Conversation, ConversationId, Importer, now_ms};
use crate::chat::message::{ImageSource, Message, Part, Role, VideoSource};
use crate::chat::openai;
use crate::chat::tree::{Attachment, AttachmentKind, Entry, MessageId, MessageState};
use crate::error::{Error, Result};

/// Adds the conversation, with the file's name as title. A system message at its beginning becomes the system prompt
/// of its settings; pictures come before the text of their message.
pub(super) fn insert(
    importer: &Importer<'_>,
    conversation: openai::Conversation,
    from: &Path,
) -> Result<Vec<ConversationId>> {
    let now = now_ms();
    let mut settings = Map::new();
    let mut messages = conversation.messages;
    if messages.first().is_some_and(|first| first.role == Role::System) {
        settings.insert("system_prompt".to_owned(), messages.remove(0).plain_text().into());
    }
    if let Some(tools) = conversation.tools {
        settings.insert("tools".to_owned(), tools);
    }
    let about = Conversation {
        id: ConversationId(0),
        title: from.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
        title_is_own: false,
        pinned: false,
        folder: String::new(),
        settings: Value::Object(settings),
        created_ms: now,
        changed_ms: now,
        messages: 0,
    };
    let id = importer.conversation(&about)?;
    let mut parent = None;
    for (n, message) in messages.iter().enumerate() {
        let entry = entry_of(importer, message, parent, now).map_err(|e| e.at(format!("message {n}")))?;
        parent = Some(importer.message(id, &entry)?);
    }
    Ok(vec![id])
}

fn entry_of(
    importer: &Importer<'_>,
    message: &Message,
    parent: Option<MessageId>,
    now: i64,
) -> Result<Entry> {
    let mut attachments = Vec::new();
    let mut keep = |kind: AttachmentKind, source: &ImageSource| -> Result<()> {
        let (name, bytes) = bytes_of(source)?;
        attachments.push(Attachment { kind, name, hash: importer.file(&bytes)? });
        Ok(())
    };
    for part in &message.parts {
        match part {
            Part::Text(_) | Part::Video(VideoSource::Clip(_)) => {}
            Part::Image(source) => keep(AttachmentKind::Image, source)?,
            Part::Video(VideoSource::Animation { file, .. }) => keep(AttachmentKind::Animation, file)?,
            Part::Video(VideoSource::Frames { frames, .. }) => {
                frames.iter().try_for_each(|frame| keep(AttachmentKind::Frame, frame))?;
            }
        }
    }
    let mut details = Map::new();
    let mut note = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            details.insert(key.to_owned(), value);
        }
    };
    note("tool_calls", message.tool_calls.clone());
    note("tool_call_id", message.tool_call_id.as_ref().map(|id| json!(id)));
    note("name", message.name.as_ref().map(|name| json!(name)));
    note("reasoning", message.reasoning.as_ref().map(|reasoning| json!(reasoning)));
    Ok(Entry {
        id: MessageId(0),
        parent,
        role: message.role,
        text: message.plain_text(),
        attachments,
        state: MessageState::Complete,
        details: if details.is_empty() { Value::Null } else { Value::Object(details) },
        created_ms: now,
        chosen: None,
    })
}

fn bytes_of(source: &ImageSource) -> Result<(String, Vec<u8>)> {
    match source {
        ImageSource::Bytes { name, bytes } => Ok((name.clone(), bytes.to_vec())),
        ImageSource::Path(path) => {
            let fail = |cause: String| {
                Error::new(DOING, cause)
                    .at_path(path)
                    .help("put the picture there, or take it out of the list")
            };
            let bytes = bounded::file(path, MAX_PICTURE).map_err(|e| fail(e.to_string()))?;
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            Ok((name, bytes))
        }
        ImageSource::Picture(_) => Err(Error::new(DOING, "it is decoded already").help("give the file")),
    }
}
