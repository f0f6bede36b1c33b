//! Room `chat`: conversations on disk, in one SQLite file. Each change is a transaction of its own in a write-ahead
//! log, so a program killed at any moment loses at most the words that were just coming in. One connection, one
//! thread: the window talks to it through a thread of its own.
//!
//! What is deleted is only marked, and can be had back until [`History::forget_deleted`].

mod import;
mod open;
mod schema;
mod search;
mod trouble;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub(in crate::chat) use import::Importer;
pub use open::{Damage, Opened};
pub use search::Hit;
use trouble::{changed, failed, may_pass};

use super::message::Role;
use super::tree::{Attachment, AttachmentKind, Entry, MessageId, MessageState, Tree};
use crate::bounded;
use crate::error::{Error, Result};

/// A conversation's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId(pub i64);

/// A conversation as a list shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// Its number.
    pub id: ConversationId,
    /// Its title; empty before the first question.
    pub title: String,
    /// The title was typed by the user.
    pub title_is_own: bool,
    /// It stays on top of the list.
    pub pinned: bool,
    /// The folder it is in; empty: none.
    pub folder: String,
    /// System prompt, sampling and the rest, as the window keeps them: a JSON object.
    pub settings: Value,
    /// When it was made, milliseconds since 1970 (UTC).
    pub created_ms: i64,
    /// When it was changed last, milliseconds since 1970 (UTC).
    pub changed_ms: i64,
    /// Its messages on all branches.
    pub messages: usize,
}

/// A file that comes with a new message.
#[derive(Clone, Copy, Debug)]
pub struct NewAttachment<'a> {
    /// What it is.
    pub kind: AttachmentKind,
    /// What it is called.
    pub name: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
}

/// A message to be kept.
#[derive(Clone, Debug)]
pub struct NewMessage<'a> {
    /// The message it follows; `None`: it begins the conversation.
    pub parent: Option<MessageId>,
    /// Who says it.
    pub role: Role,
    /// Its text.
    pub text: &'a str,
    /// What comes with it.
    pub attachments: &'a [NewAttachment<'a>],
    /// How far it is.
    pub state: MessageState,
    /// What else is known of it.
    pub details: Value,
}

/// The open database.
#[derive(Debug)]
pub struct History {
    connection: Connection,
    /// The last write failed for a reason that may pass.
    may_pass: bool,
    /// What was forgotten may still be in the write-ahead log.
    log_remembers: bool,
}

/// Now, in milliseconds since 1970 (UTC).
pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// Values in the settings of a conversation, or in the details of a message: an answer has some for each of its pictures.
const MOST_VALUES: usize = 1_000_000;
const SAVING: &str = "saving the conversation";
const READING: &str = "reading the saved conversations";
const FORGETTING: &str = "removing what was deleted from the history";

impl History {
    /// All conversations that are not deleted: pinned ones first, then the ones changed last.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn conversations(&self) -> Result<Vec<Conversation>> {
        self.conversations_and(&[])
    }

    /// Those that are not deleted, and of the deleted ones these.
    pub(in crate::chat) fn conversations_and(&self, deleted: &[ConversationId]) -> Result<Vec<Conversation>> {
        let sql = "SELECT id, title, title_is_own, pinned, folder, settings, created_ms, changed_ms,
                (SELECT count(*) FROM messages m WHERE m.conversation = c.id AND m.deleted_ms IS NULL)
            FROM conversations c WHERE deleted_ms IS NULL OR id IN (SELECT value FROM json_each(?1))
            ORDER BY pinned DESC, changed_ms DESC, id DESC";
        let deleted = list_of(deleted.iter().map(|id| id.0));
        let read = |connection: &Connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_map([deleted], conversation_of)?.collect::<rusqlite::Result<Vec<_>>>()
        };
        read(&self.connection).map_err(|e| failed(READING, &e))
    }

    /// The settings of a conversation.
    ///
    /// # Errors
    /// The database cannot be read, or has no such conversation.
    pub fn settings(&self, id: ConversationId) -> Result<Value> {
        self.connection
            .prepare_cached("SELECT settings FROM conversations WHERE id = ?1 AND deleted_ms IS NULL")
            .and_then(|mut s| s.query_row([id.0], |row| row.get::<_, String>(0)).optional())
            .map_err(|e| failed(READING, &e))?
            .map(|text| json_of(&text))
            .ok_or_else(|| Error::new(READING, "this one was deleted").help("choose one in the list"))
    }

    /// Did the last write fail for a reason that may pass: a full disk, another program that holds the file?
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.may_pass
    }

    /// How long a write waits for another program that is writing.
    ///
    /// # Errors
    /// SQLite refuses it.
    pub fn wait_at_most(&self, time: Duration) -> Result<()> {
        self.connection.busy_timeout(time).map_err(|e| failed(SAVING, &e))
    }

    /// Makes an empty conversation.
    ///
    /// # Errors
    /// It cannot be saved.
    pub fn create(&mut self, settings: &Value) -> Result<ConversationId> {
        let now = now_ms();
        self.write(|c| {
            c.prepare_cached(
                "INSERT INTO conversations (settings, created_ms, changed_ms) VALUES (?1, ?2, ?2)",
            )?
            .execute(params![settings.to_string(), now])?;
            Ok(ConversationId(c.last_insert_rowid()))
        })
    }

    /// The messages of a conversation.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn tree(&self, id: ConversationId) -> Result<Tree> {
        self.tree_and(id, &[])
    }

    /// Those that are not deleted, and of the deleted ones these.
    pub(in crate::chat) fn tree_and(&self, id: ConversationId, deleted: &[MessageId]) -> Result<Tree> {
        let deleted = list_of(deleted.iter().map(|id| id.0));
        let read = |connection: &Connection| -> rusqlite::Result<Tree> {
            let mut entries = connection
                .prepare_cached(
                    "SELECT id, parent, role, text, state, details, created_ms, chosen FROM messages
                    WHERE conversation = ?1 AND (deleted_ms IS NULL OR id IN (SELECT value FROM json_each(?2)))
                    ORDER BY id",
                )?
                .query_map(params![id.0, deleted], entry_of)?
                .collect::<rusqlite::Result<Vec<Entry>>>()?;
            let mut attachments = connection.prepare_cached(
                "SELECT a.message, a.kind, a.name, a.hash FROM attachments a JOIN messages m ON m.id = a.message
                WHERE m.conversation = ?1 AND (m.deleted_ms IS NULL OR m.id IN (SELECT value FROM json_each(?2)))
                ORDER BY a.message, a.place",
            )?;
            let mut rows = attachments.query(params![id.0, deleted])?;
            while let Some(row) = rows.next()? {
                let message = MessageId(row.get(0)?);
                let kind: String = row.get(1)?;
                let attachment = Attachment {
                    kind: AttachmentKind::from_name(&kind).unwrap_or(AttachmentKind::Image),
                    name: row.get(2)?,
                    hash: row.get(3)?,
                };
                if let Ok(at) = entries.binary_search_by_key(&message, |entry| entry.id)
                    && let Some(entry) = entries.get_mut(at)
                {
                    entry.attachments.push(attachment);
                }
            }
            let chosen: Option<Option<i64>> = connection
                .prepare_cached("SELECT chosen_beginning FROM conversations WHERE id = ?1")?
                .query_row([id.0], |row| row.get(0))
                .optional()?;
            Ok(Tree::new(entries, chosen.flatten().map(MessageId)))
        };
        read(&self.connection).map_err(|e| failed(READING, &e))
    }

    /// Keeps a new message, and shows it.
    ///
    /// # Errors
    /// It cannot be saved; then nothing of it is.
    pub fn add(&mut self, conversation: ConversationId, message: &NewMessage<'_>) -> Result<Entry> {
        let now = now_ms();
        self.write(|c| {
            c.prepare_cached(
                "INSERT INTO messages (conversation, parent, role, text, state, details, created_ms)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                conversation.0,
                message.parent.map(|id| id.0),
                message.role.as_str(),
                message.text,
                message.state.name(),
                message.details.to_string(),
                now
            ])?;
            let id = MessageId(c.last_insert_rowid());
            let mut attachments = Vec::with_capacity(message.attachments.len());
            for (place, file) in (0_i64..).zip(message.attachments) {
                let hash: [u8; 32] = Sha256::digest(file.bytes).into();
                c.prepare_cached("INSERT OR IGNORE INTO files (hash, bytes) VALUES (?1, ?2)")?
                    .execute(params![hash, file.bytes])?;
                c.prepare_cached(
                    "INSERT INTO attachments (message, place, kind, name, hash) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![id.0, place, file.kind.name(), file.name, hash])?;
                attachments.push(Attachment { kind: file.kind, name: file.name.to_owned(), hash });
            }
            choose(c, conversation, message.parent, id)?;
            touch(c, conversation, now)?;
            Ok(Entry {
                id,
                parent: message.parent,
                role: message.role,
                text: message.text.to_owned(),
                attachments,
                state: message.state,
                details: message.details.clone(),
                created_ms: now,
                chosen: None,
            })
        })
    }

    /// Keeps what a message says now.
    ///
    /// # Errors
    /// It cannot be saved; then it stays as it was.
    pub fn update(&mut self, id: MessageId, text: &str, state: MessageState, details: &Value) -> Result<()> {
        let now = now_ms();
        self.write(|c| {
            let rows = c
                .prepare_cached("UPDATE messages SET text = ?2, state = ?3, details = ?4 WHERE id = ?1")?
                .execute(params![id.0, text, state.name(), details.to_string()])?;
            changed(rows)?;
            c.prepare_cached(
                "UPDATE conversations SET changed_ms = max(changed_ms, ?2)
                WHERE id = (SELECT conversation FROM messages WHERE id = ?1)",
            )?
            .execute(params![id.0, now])?;
            Ok(())
        })
    }

    /// Keeps which messages are shown: `path` is the chain from a beginning.
    ///
    /// # Errors
    /// It cannot be saved.
    pub fn choose(&mut self, conversation: ConversationId, path: &[MessageId]) -> Result<()> {
        self.write(|c| {
            let mut parent = None;
            for id in path {
                choose(c, conversation, parent, *id)?;
                parent = Some(*id);
            }
            Ok(())
        })
    }

    /// Gives a conversation a title. An automatic one does not replace one that was typed.
    ///
    /// # Errors
    /// It cannot be saved.
    pub fn set_title(&mut self, id: ConversationId, title: &str, own: bool) -> Result<()> {
        self.write(|c| {
            c.prepare_cached(
                "UPDATE conversations SET title = ?2, title_is_own = ?3 WHERE id = ?1 AND title_is_own <= ?3",
            )?
            .execute(params![id.0, title, own])?;
            Ok(())
        })
    }

    /// Keeps a conversation on top of the list, or not.
    ///
    /// # Errors
    /// It cannot be saved.
    pub fn set_pinned(&mut self, id: ConversationId, pinned: bool) -> Result<()> {
        self.set(id, "UPDATE conversations SET pinned = ?2 WHERE id = ?1", &pinned)
    }

    /// Puts a conversation into a folder; the empty name takes it out of one.
    ///
    /// # Errors
    /// It cannot be saved.
    pub fn set_folder(&mut self, id: ConversationId, folder: &str) -> Result<()> {
        self.set(id, "UPDATE conversations SET folder = ?2 WHERE id = ?1", &folder)
    }

    /// Keeps a conversation's settings.
    ///
    /// # Errors
    /// They cannot be saved.
    pub fn set_settings(&mut self, id: ConversationId, settings: &Value) -> Result<()> {
        self.set(id, "UPDATE conversations SET settings = ?2 WHERE id = ?1", &settings.to_string())
    }

    /// Deletes a conversation, so that it can be had back.
    ///
    /// # Errors
    /// It cannot be saved.
    pub fn delete(&mut self, id: ConversationId) -> Result<()> {
        self.set(id, "UPDATE conversations SET deleted_ms = ?2 WHERE id = ?1", &now_ms())
    }

    /// Has a deleted conversation back.
    ///
    /// # Errors
    /// It cannot be saved.
    pub fn restore(&mut self, id: ConversationId) -> Result<()> {
        self.set(id, "UPDATE conversations SET deleted_ms = ?2 WHERE id = ?1", &None::<i64>)
    }

    /// Deletes messages (a branch), so that they can be had back.
    ///
    /// # Errors
    /// It cannot be saved; then none is deleted.
    pub fn delete_messages(&mut self, ids: &[MessageId]) -> Result<()> {
        self.mark_messages(ids, Some(now_ms()))
    }

    /// Has deleted messages back.
    ///
    /// # Errors
    /// It cannot be saved; then none is back.
    pub fn restore_messages(&mut self, ids: &[MessageId]) -> Result<()> {
        self.mark_messages(ids, None)
    }

    fn mark_messages(&mut self, ids: &[MessageId], deleted_ms: Option<i64>) -> Result<()> {
        self.write(|c| {
            let mut statement = c.prepare_cached("UPDATE messages SET deleted_ms = ?2 WHERE id = ?1")?;
            for id in ids {
                statement.execute(params![id.0, deleted_ms])?;
            }
            Ok(())
        })
    }

    /// Forgets for good what was deleted before this time (milliseconds since 1970), and the files nothing has any
    /// more: afterwards none of it is in the database's files. True if there was something.
    ///
    /// # Errors
    /// It cannot be saved; then nothing is forgotten. Or the write-ahead log cannot be emptied: the next call tries again.
    pub fn forget_deleted(&mut self, before_ms: i64) -> Result<bool> {
        let forgotten = self.write(|c| {
            // By hand and not by the cascade, so that the index over words is told of each message.
            let messages = c.execute(
                "DELETE FROM messages WHERE deleted_ms < ?1
                OR conversation IN (SELECT id FROM conversations WHERE deleted_ms < ?1)",
                [before_ms],
            )?;
            let conversations = c.execute("DELETE FROM conversations WHERE deleted_ms < ?1", [before_ms])?;
            let files =
                c.execute("DELETE FROM files WHERE hash NOT IN (SELECT hash FROM attachments)", [])?;
            if messages > 0 {
                // The index only notes which words are out, and has them until its parts are merged. (Its own `secure-delete`
                // takes them out at once, which makes each piece of an answer that comes in a hundred times as slow to save.)
                c.execute("INSERT INTO words (words) VALUES ('optimize')", [])?;
            }
            Ok(messages + conversations + files > 0)
        })?;
        self.log_remembers |= forgotten;
        if self.log_remembers {
            self.empty_log()?;
            self.log_remembers = false;
        }
        Ok(forgotten)
    }

    /// Brings the write-ahead log into the database, and makes it an empty file.
    fn empty_log(&self) -> Result<()> {
        let busy: bool = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .map_err(|e| failed(FORGETTING, &e))?;
        if busy {
            return Err(Error::new(FORGETTING, "another program is reading the file")
                .help("close it, for instance a second Ocelli or a backup"));
        }
        Ok(())
    }

    /// The bytes of a file that came with a message.
    ///
    /// # Errors
    /// The database cannot be read, or has no such file.
    pub fn file(&self, attachment: &Attachment) -> Result<Vec<u8>> {
        const DOING: &str = "reading a saved picture";
        let bytes: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT bytes FROM files WHERE hash = ?1")
            .and_then(|mut s| s.query_row([attachment.hash], |row| row.get(0)).optional())
            .map_err(|e| failed(DOING, &e).at(&attachment.name))?;
        bytes.ok_or_else(|| {
            Error::new(DOING, "it is not in the database").at(&attachment.name).help("add the picture again")
        })
    }

    /// Keeps what an answer cost, packed: behind what was kept of it before (`append`), or in its place.
    ///
    /// # Errors
    /// It cannot be saved.
    pub fn keep_costs(&mut self, message: MessageId, bytes: &[u8], append: bool) -> Result<()> {
        self.write(|c| {
            let before: Option<Vec<u8>> = c
                .prepare_cached("SELECT bytes FROM costs WHERE message = ?1")?
                .query_row([message.0], |row| row.get(0))
                .optional()?;
            let before = before.filter(|_| append).unwrap_or_default();
            c.prepare_cached("INSERT OR REPLACE INTO costs (message, bytes) VALUES (?1, ?2)")?
                .execute(params![message.0, [before.as_slice(), bytes].concat()])?;
            Ok(())
        })
    }

    /// What an answer cost, packed; `None`: nothing was kept of it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn costs(&self, message: MessageId) -> Result<Option<Vec<u8>>> {
        self.connection
            .prepare_cached("SELECT bytes FROM costs WHERE message = ?1")
            .and_then(|mut s| s.query_row([message.0], |row| row.get(0)).optional())
            .map_err(|e| failed("reading what an answer cost", &e))
    }

    fn set(&mut self, id: ConversationId, sql: &str, value: &dyn rusqlite::ToSql) -> Result<()> {
        self.write(|c| changed(c.prepare_cached(sql)?.execute(params![id.0, value])?))
    }

    /// One transaction: all of it, or nothing.
    fn write<T>(&mut self, change: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let run = |connection: &mut Connection| {
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        let result = run(&mut self.connection);
        self.may_pass = result.as_ref().is_err_and(may_pass);
        result.map_err(|e| failed(SAVING, &e))
    }
}

fn choose(
    c: &Connection,
    conversation: ConversationId,
    parent: Option<MessageId>,
    id: MessageId,
) -> rusqlite::Result<()> {
    match parent {
        Some(parent) => c
            .prepare_cached("UPDATE messages SET chosen = ?2 WHERE id = ?1")?
            .execute(params![parent.0, id.0])?,
        None => c
            .prepare_cached("UPDATE conversations SET chosen_beginning = ?2 WHERE id = ?1")?
            .execute(params![conversation.0, id.0])?,
    };
    Ok(())
}

fn touch(c: &Connection, id: ConversationId, now: i64) -> rusqlite::Result<()> {
    c.prepare_cached("UPDATE conversations SET changed_ms = max(changed_ms, ?2) WHERE id = ?1")?
        .execute(params![id.0, now])?;
    Ok(())
}

/// Numbers as SQL takes a list of them.
fn list_of(numbers: impl Iterator<Item = i64>) -> String {
    format!("[{}]", numbers.map(|n| n.to_string()).collect::<Vec<_>>().join(","))
}

/// JSON from a column; what is none (a hand in the database) is null, not an error.
fn json_of(text: &str) -> Value {
    bounded::json(text.as_bytes(), MOST_VALUES).unwrap_or(Value::Null)
}

fn conversation_of(row: &Row<'_>) -> rusqlite::Result<Conversation> {
    let messages: i64 = row.get(8)?;
    Ok(Conversation {
        id: ConversationId(row.get(0)?),
        title: row.get(1)?,
        title_is_own: row.get(2)?,
        pinned: row.get(3)?,
        folder: row.get(4)?,
        settings: json_of(&row.get::<_, String>(5)?),
        created_ms: row.get(6)?,
        changed_ms: row.get(7)?,
        messages: usize::try_from(messages).unwrap_or(0),
    })
}

fn entry_of(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let role: String = row.get(2)?;
    let state: String = row.get(4)?;
    Ok(Entry {
        id: MessageId(row.get(0)?),
        parent: row.get::<_, Option<i64>>(1)?.map(MessageId),
        role: match role.as_str() {
            "system" => Role::System,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            _ => Role::User,
        },
        text: row.get(3)?,
        attachments: Vec::new(),
        state: MessageState::from_name(&state).unwrap_or(MessageState::Stopped),
        details: json_of(&row.get::<_, String>(5)?),
        created_ms: row.get(6)?,
        chosen: row.get::<_, Option<i64>>(7)?.map(MessageId),
    })
}

#[cfg(test)]
mod tests;
