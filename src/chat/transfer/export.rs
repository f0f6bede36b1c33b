//! Room `chat`: conversations as one JSON file that loses nothing. One picture at a time is in memory.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{EXPORTING, FORMAT, Source, VERSION, disk_error, hex, write_whole};
use crate::chat::history::Conversation;
use crate::chat::tree::{Attachment, MessageId, Tree};
use crate::error::Result;

pub(super) fn json(history: &dyn Source, list: &[Conversation], to: &Path) -> Result<()> {
    write_whole(to, EXPORTING, |out| {
        let disk = |e: io::Error| disk_error(EXPORTING, to, &e);
        let mut files: BTreeMap<[u8; 32], Attachment> = BTreeMap::new();
        write!(out, "{{\"format\": \"{FORMAT}\", \"version\": {VERSION}, \"conversations\": [")
            .map_err(disk)?;
        for (i, conversation) in list.iter().enumerate() {
            let tree = history.tree(conversation.id)?;
            for attachment in tree.entries().flat_map(|entry| &entry.attachments) {
                files.entry(attachment.hash).or_insert_with(|| attachment.clone());
            }
            out.write_all(if i == 0 { b"\n" } else { b",\n" }).map_err(disk)?;
            serde_json::to_writer(&mut *out, &value_of(conversation, &tree)).map_err(|e| disk(e.into()))?;
        }
        out.write_all(b"\n], \"files\": {").map_err(disk)?;
        for (i, (hash, attachment)) in files.iter().enumerate() {
            let bytes = history.file(attachment)?;
            let comma = if i == 0 { "" } else { "," };
            write!(out, "{comma}\n\"{}\": \"", hex(hash)).map_err(disk)?;
            // A multiple of three, so that only the last piece is padded.
            for piece in bytes.chunks(3 << 14) {
                out.write_all(STANDARD.encode(piece).as_bytes()).map_err(disk)?;
            }
            out.write_all(b"\"").map_err(disk)?;
        }
        out.write_all(b"\n}}\n").map_err(disk)
    })
}

/// Messages are numbered from 1 in each conversation, in the order they were made.
fn value_of(conversation: &Conversation, tree: &Tree) -> Value {
    let numbers: HashMap<MessageId, u64> = tree.entries().map(|entry| entry.id).zip(1_u64..).collect();
    let number = |id: Option<MessageId>| id.and_then(|id| numbers.get(&id).copied());
    let messages: Vec<Value> = tree
        .entries()
        .map(|entry| {
            let attachments: Vec<Value> = entry
                .attachments
                .iter()
                .map(|a| json!({"kind": a.kind.name(), "name": a.name, "sha256": hex(&a.hash)}))
                .collect();
            json!({
                "id": number(Some(entry.id)),
                "parent": number(entry.parent),
                "role": entry.role.as_str(),
                "text": entry.text,
                "state": entry.state.name(),
                "details": entry.details,
                "created_ms": entry.created_ms,
                "chosen": number(entry.chosen),
                "attachments": attachments,
            })
        })
        .collect();
    json!({
        "title": conversation.title,
        "title_is_own": conversation.title_is_own,
        "pinned": conversation.pinned,
        "folder": conversation.folder,
        "settings": conversation.settings,
        "created_ms": conversation.created_ms,
        "changed_ms": conversation.changed_ms,
        "chosen_beginning": number(tree.chosen_beginning()),
        "messages": messages,
    })
}
