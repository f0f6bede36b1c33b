//! Room `chat`: the window's numbers and the database's.

use std::collections::HashMap;

use super::FIRST_LOCAL_ID;
use crate::chat::history::ConversationId;
use crate::chat::tree::{Entry, MessageId, Tree};

/// The pairs of one kind of number.
#[derive(Debug, Default)]
struct Pairs {
    to_database: HashMap<i64, i64>,
    to_local: HashMap<i64, i64>,
}

impl Pairs {
    fn add(&mut self, local: i64, database: i64) {
        self.to_database.insert(local, database);
        self.to_local.insert(database, local);
    }

    /// `None`: the window's own, and not in the database (yet).
    fn database(&self, id: i64) -> Option<i64> {
        if id < FIRST_LOCAL_ID { Some(id) } else { self.to_database.get(&id).copied() }
    }

    fn local(&self, id: i64) -> i64 {
        self.to_local.get(&id).copied().unwrap_or(id)
    }
}

/// All pairs since the start.
#[derive(Debug, Default)]
pub(super) struct Ids {
    conversations: Pairs,
    messages: Pairs,
}

impl Ids {
    pub(super) fn add_conversation(&mut self, local: ConversationId, database: ConversationId) {
        self.conversations.add(local.0, database.0);
    }

    pub(super) fn add_message(&mut self, local: MessageId, database: MessageId) {
        self.messages.add(local.0, database.0);
    }

    pub(super) fn database_conversation(&self, id: ConversationId) -> Option<ConversationId> {
        self.conversations.database(id.0).map(ConversationId)
    }

    pub(super) fn database_message(&self, id: MessageId) -> Option<MessageId> {
        self.messages.database(id.0).map(MessageId)
    }

    pub(super) fn conversation(&self, id: ConversationId) -> ConversationId {
        ConversationId(self.conversations.local(id.0))
    }

    pub(super) fn message(&self, id: MessageId) -> MessageId {
        MessageId(self.messages.local(id.0))
    }

    /// The tree with the window's numbers.
    pub(super) fn tree(&self, tree: &Tree) -> Tree {
        let entries = tree.entries().map(|entry| Entry {
            id: self.message(entry.id),
            parent: entry.parent.map(|id| self.message(id)),
            chosen: entry.chosen.map(|id| self.message(id)),
            ..entry.clone()
        });
        Tree::new(entries, tree.chosen_beginning().map(|id| self.message(id)))
    }
}
