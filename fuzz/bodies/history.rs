//! The database of conversations: files that are none, and a sound one with pieces written over.

use ocelli::chat::history::History;

use super::{Folder, choice, patched, read};

/// A history of two conversations with a picture and costs, made by `seeds.py`.
const SOUND: &[u8] = include_bytes!("../seeds/history.db");
/// A log that such a history may have beside it.
const LOG: &[u8] = include_bytes!("../seeds/history.db-wal");

/// The first byte says whether the rest is a whole file, or pieces written over a sound one or over its log.
pub fn run(data: &[u8]) {
    let Some((door, rest)) = choice(data, 4) else { return };
    let folder = Folder::new();
    let path = match door {
        0 => folder.put("history.db", rest),
        1 | 2 => folder.put("history.db", &patched(SOUND, rest, SOUND.len())),
        _ => {
            folder.put("history.db-wal", &patched(LOG, rest, LOG.len()));
            folder.put("history.db", SOUND)
        }
    };
    let Some(mut opened) = read(History::open(&path)) else { return };
    let Some(list) = read(opened.history.conversations()) else { return };
    read(opened.history.search("cat", 20));
    for conversation in list.iter().take(5) {
        let Some(tree) = read(opened.history.tree(conversation.id)) else { continue };
        let _ = tree.path().len();
        for entry in tree.entries().take(20) {
            read(opened.history.costs(entry.id));
            for attachment in &entry.attachments {
                read(opened.history.file(attachment));
            }
        }
        read(opened.history.set_title(conversation.id, "new", true));
        read(opened.history.delete(conversation.id));
    }
    read(opened.history.forget_deleted(i64::MAX));
}
