//! Changing what is there: editing, branches, and undoing.

use std::time::{Duration, Instant};

use serde_json::json;

use super::State;
use super::answers::attachments_of;
use crate::app::chat::{AnswerDetails, Editing, Hash, details};
use crate::chat::history::ConversationId;
use crate::chat::message::Role;
use crate::chat::store::Job;
use crate::chat::tree::{Entry, MessageId, MessageState};

/// How long something can be undone by the button on the screen.
const UNDO_FOR: Duration = Duration::from_secs(12);

/// What was deleted.
#[derive(Clone, Debug)]
pub enum Undo {
    /// A conversation.
    Conversation(ConversationId),
    /// Messages of one.
    Branch(ConversationId, Vec<Entry>),
}

/// Something that can be undone.
#[derive(Clone, Debug)]
pub struct Undoable {
    /// Tells it from others.
    pub id: u64,
    /// What.
    pub undo: Undo,
    /// What it is called: a title.
    pub name: String,
    /// Until then.
    pub until: Instant,
}

impl Undoable {
    pub(super) fn hashes(&self) -> Vec<Hash> {
        match &self.undo {
            Undo::Conversation(_) => Vec::new(),
            Undo::Branch(_, entries) => {
                entries.iter().flat_map(|entry| entry.attachments.iter().map(|a| a.hash)).collect()
            }
        }
    }
}

impl State {
    /// Begins to change a message in its place.
    pub fn edit(&mut self, id: MessageId) {
        if self.message_under_way() == Some(id) {
            return;
        }
        if self.chat.editing.as_ref().is_some_and(|editing| editing.message == id) {
            return;
        }
        self.end_edit();
        if let Some(entry) = self.chat.tree.get(id).cloned() {
            self.want_files(&entry.attachments);
            let draft = self.draft_of(&entry);
            self.chat.editing = Some(Editing { message: id, draft });
        }
    }

    /// Begins to change the last message of the user.
    pub fn edit_last(&mut self) {
        if let Some(id) = self.chat.last_question().map(|entry| entry.id) {
            self.edit(id);
        }
    }

    /// Ends a change that nobody has said is unwanted: what was typed goes to the question.
    pub(super) fn end_edit(&mut self) {
        let Some(editing) = self.chat.editing.take() else { return };
        let text = editing.draft.text.trim();
        let is_changed = self.chat.tree.get(editing.message).is_none_or(|entry| entry.text.trim() != text);
        if is_changed && !text.is_empty() {
            self.chat.draft.take_back(editing.draft);
        }
    }

    /// A message that is no longer shown cannot be changed.
    pub(super) fn end_hidden_edit(&mut self) {
        let tree = &self.chat.tree;
        if self.chat.editing.as_ref().is_some_and(|editing| !tree.path().contains(&editing.message)) {
            self.end_edit();
        }
    }

    /// Leaves the message as it was.
    pub fn cancel_edit(&mut self) {
        self.chat.editing = None;
    }

    /// Keeps the changed message as a branch beside the old one, without asking anything. Gives the new message.
    pub fn save_edit(&mut self) -> Option<MessageId> {
        let draft = &self.chat.editing.as_ref()?.draft;
        if draft.is_reading() || draft.is_empty() {
            return None;
        }
        let attachments = attachments_of(draft);
        if let Some(error) = Self::unreadable(draft).or_else(|| self.lost_file(&attachments)) {
            self.report(&error);
            return None;
        }
        if !self.want_files(&attachments) {
            return None;
        }
        let editing = self.chat.editing.take()?;
        let entry = self.chat.tree.get(editing.message)?.clone();
        let (conversation, state) = (self.chat.id, MessageState::Complete);
        let id =
            self.add_entry(conversation, entry.parent, entry.role, editing.draft.text, attachments, state);
        if entry.role == Role::Assistant {
            let mut about: AnswerDetails = details(&entry);
            (about.is_edited, about.figures, about.error) = (true, None, None);
            if let Some(entry) = self.chat.tree.get_mut(id) {
                entry.details = json!(about);
            }
            self.keep(conversation, id);
        }
        Some(id)
    }

    /// Shows the branch through this message.
    pub fn show_branch(&mut self, id: MessageId) {
        self.end_edit();
        self.chat.tree.choose(id);
        let path = self.chat.tree.path_to(id);
        self.jobs.push(Job::Choose { conversation: self.chat.id, path });
    }

    /// Deletes a message and all that follows it; it can be undone.
    pub fn delete_branch(&mut self, id: MessageId, now: Instant) {
        if self.message_under_way().is_some_and(|at| self.chat.tree.branch(id).contains(&at)) {
            self.settle(self.chat.id);
        }
        let removed = self.remove_entries(self.chat.id, id);
        let Some(first) = removed.first() else { return };
        if self.chat.editing.as_ref().is_some_and(|e| removed.iter().any(|entry| entry.id == e.message)) {
            self.chat.editing = None;
        }
        let name = crate::app::chat::title_of(&first.text, None);
        self.push_undo(Undo::Branch(self.chat.id, removed), name, now);
    }

    pub(super) fn push_undo(&mut self, undo: Undo, name: String, now: Instant) {
        let id = self.new_id();
        self.undo.push(Undoable { id, undo, name, until: now + UNDO_FOR });
    }

    /// Takes a deletion back; `None`: the latest.
    pub fn undo(&mut self, id: Option<u64>) {
        let at = match id {
            Some(id) => self.undo.iter().position(|undoable| undoable.id == id),
            None => self.undo.len().checked_sub(1),
        };
        let Some(at) = at.filter(|at| *at < self.undo.len()) else { return };
        let branch_of = |undo: &Undo| match undo {
            Undo::Branch(conversation, _) => Some(*conversation),
            Undo::Conversation(_) => None,
        };
        // What was deleted later in the same conversation comes back first: it may be what this one hangs on.
        let conversation = self.undo.get(at).and_then(|undoable| branch_of(&undoable.undo));
        let mut all = vec![at];
        if conversation.is_some() {
            all.extend((at + 1..self.undo.len()).filter(|i| {
                self.undo.get(*i).is_some_and(|undoable| branch_of(&undoable.undo) == conversation)
            }));
        }
        for at in all.into_iter().rev() {
            match self.undo.remove(at).undo {
                Undo::Conversation(id) => self.jobs.push(Job::Restore(id)),
                Undo::Branch(conversation, entries) => {
                    self.jobs.push(Job::RestoreMessages(entries.iter().map(|entry| entry.id).collect()));
                    if let Some(chat) = self.chat_mut(conversation) {
                        chat.tree.restore(entries);
                    }
                }
            }
        }
    }
}
