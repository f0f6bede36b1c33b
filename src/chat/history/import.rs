//! Room `chat`: many conversations put into the database at once, all or none.

use rusqlite::{Connection, TransactionBehavior, params};
use sha2::{Digest, Sha256};

use super::{Conversation, ConversationId, History, choose, failed, may_pass};
use crate::chat::tree::{Entry, MessageId};
use crate::error::Result;

const IMPORTING: &str = "saving the imported conversations";

/// Writes inside the one transaction of an import.
#[derive(Debug)]
pub(in crate::chat) struct Importer<'a> {
    connection: &'a Connection,
}

impl History {
    /// Runs `work` in one transaction: when it fails, nothing of it stays. A message may name a file that comes later.
    pub(in crate::chat) fn import<T>(&mut self, work: impl FnOnce(&Importer<'_>) -> Result<T>) -> Result<T> {
        self.may_pass = false;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .inspect_err(|e| self.may_pass = may_pass(e))
            .map_err(|e| failed(IMPORTING, &e))?;
        transaction.pragma_update(None, "defer_foreign_keys", true).map_err(|e| failed(IMPORTING, &e))?;
        let value = work(&Importer { connection: &transaction })?;
        transaction.commit().map_err(|e| failed(IMPORTING, &e))?;
        Ok(value)
    }
}

impl Importer<'_> {
    /// Adds a conversation; its own number is not taken over.
    pub(in crate::chat) fn conversation(&self, conversation: &Conversation) -> Result<ConversationId> {
        let sql = "INSERT INTO conversations (title, title_is_own, pinned, folder, settings, created_ms, changed_ms)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.run(|c| {
            c.prepare_cached(sql)?.execute(params![
                conversation.title,
                conversation.title_is_own,
                conversation.pinned,
                conversation.folder,
                conversation.settings.to_string(),
                conversation.created_ms,
                conversation.changed_ms
            ])?;
            Ok(ConversationId(c.last_insert_rowid()))
        })
    }

    /// Adds a message behind its parent, which is a new number already. Its own number and choice are not taken over.
    pub(in crate::chat) fn message(&self, conversation: ConversationId, entry: &Entry) -> Result<MessageId> {
        let sql = "INSERT INTO messages (conversation, parent, role, text, state, details, created_ms)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.run(|c| {
            c.prepare_cached(sql)?.execute(params![
                conversation.0,
                entry.parent.map(|id| id.0),
                entry.role.as_str(),
                entry.text,
                entry.state.name(),
                entry.details.to_string(),
                entry.created_ms
            ])?;
            let id = MessageId(c.last_insert_rowid());
            for (place, file) in (0_i64..).zip(&entry.attachments) {
                c.prepare_cached(
                    "INSERT INTO attachments (message, place, kind, name, hash) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![id.0, place, file.kind.name(), file.name, file.hash])?;
            }
            Ok(id)
        })
    }

    /// Shows a message among the followers of `parent`.
    pub(in crate::chat) fn choose(
        &self,
        conversation: ConversationId,
        parent: Option<MessageId>,
        id: MessageId,
    ) -> Result<()> {
        self.run(|c| choose(c, conversation, parent, id))
    }

    /// Adds a file; gives the SHA-256 of its bytes.
    pub(in crate::chat) fn file(&self, bytes: &[u8]) -> Result<[u8; 32]> {
        let hash: [u8; 32] = Sha256::digest(bytes).into();
        self.run(|c| {
            c.prepare_cached("INSERT OR IGNORE INTO files (hash, bytes) VALUES (?1, ?2)")?
                .execute(params![hash, bytes])?;
            Ok(())
        })?;
        Ok(hash)
    }

    /// Forgets files that no message has.
    pub(in crate::chat) fn forget_unused_files(&self) -> Result<()> {
        self.run(|c| {
            c.execute("DELETE FROM files WHERE hash NOT IN (SELECT hash FROM attachments)", [])?;
            Ok(())
        })
    }

    fn run<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(self.connection).map_err(|e| failed(IMPORTING, &e))
    }
}
