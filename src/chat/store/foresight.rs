//! Room `chat`: conversations as they will be when everything is saved: what the database has, and what still waits.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::worker::Worker;
use super::{FileToKeep, Job};
use crate::chat::history::{Conversation, ConversationId, now_ms};
use crate::chat::transfer::Source;
use crate::chat::tree::{Attachment, Entry, MessageId, Tree};
use crate::error::{Error, Result};

/// What is deleted, and what is had back, once everything is saved.
struct Deleted<T>(HashMap<T, bool>);

impl<T: Copy + Eq + Hash> Deleted<T> {
    fn nothing() -> Self {
        Self(HashMap::new())
    }

    fn note(&mut self, ids: impl IntoIterator<Item = T>, is_deleted: bool) {
        self.0.extend(ids.into_iter().map(|id| (id, is_deleted)));
    }

    fn those(&self, deleted: bool) -> impl Iterator<Item = T> {
        self.0.iter().filter(move |(_, is_deleted)| **is_deleted == deleted).map(|(id, _)| *id)
    }
}

impl Worker {
    /// The number that comes out: the window's where there is one.
    pub(super) fn local(&self, id: ConversationId) -> ConversationId {
        self.ids.database_conversation(id).map_or(id, |id| self.ids.conversation(id))
    }

    fn local_message(&self, id: MessageId) -> MessageId {
        self.ids.database_message(id).map_or(id, |id| self.ids.message(id))
    }

    /// A conversation's messages and settings.
    pub(super) fn opened(&self, id: ConversationId) -> Result<(Tree, Value)> {
        if self.queue.is_empty() {
            let id = self.ids.database_conversation(id).ok_or_else(none_such)?;
            return Ok((self.ids.tree(&self.history.tree(id)?), self.history.settings(id)?));
        }
        let local = self.local(id);
        let all = Source::conversations(self)?;
        let found = all.into_iter().find(|conversation| conversation.id == local).ok_or_else(none_such)?;
        Ok((self.tree(local)?, found.settings))
    }

    /// Does to a tree that was read what a waiting change will do in the database; messages are deleted last.
    fn foresee(&self, job: &Job, opened: ConversationId, tree: &mut Tree) {
        match job {
            Job::Add { conversation, id, parent, role, text, attachments, state, details }
                if self.local(*conversation) == opened =>
            {
                tree.add(Entry {
                    id: *id,
                    parent: parent.map(|id| self.local_message(id)),
                    role: *role,
                    text: text.clone(),
                    attachments: attachments.iter().map(attachment_of).collect(),
                    state: *state,
                    details: details.clone(),
                    created_ms: now_ms(),
                    chosen: None,
                });
            }
            Job::Update { id, text, state, details } => {
                if let Some(entry) = tree.get_mut(self.local_message(*id)) {
                    entry.text.clone_from(text);
                    entry.state = *state;
                    entry.details = details.clone();
                }
            }
            Job::Choose { conversation, path } if self.local(*conversation) == opened => {
                if let Some(last) = path.last() {
                    tree.choose(self.local_message(*last));
                }
            }
            _ => {}
        }
    }

    /// Does the same to the list.
    fn foresee_list(&self, job: &Job, list: &mut Vec<Conversation>) {
        let mut change = |id: ConversationId, how: &dyn Fn(&mut Conversation)| {
            let id = self.local(id);
            list.iter_mut().filter(|conversation| conversation.id == id).for_each(how);
        };
        match job {
            Job::Create { id, settings } => {
                let now = now_ms();
                list.insert(
                    0,
                    Conversation {
                        id: *id,
                        title: String::new(),
                        title_is_own: false,
                        pinned: false,
                        folder: String::new(),
                        settings: settings.clone(),
                        created_ms: now,
                        changed_ms: now,
                        messages: 0,
                    },
                );
            }
            Job::SetTitle { id, title, own } => change(*id, &|conversation| {
                if *own || !conversation.title_is_own {
                    conversation.title.clone_from(title);
                    conversation.title_is_own = *own;
                }
            }),
            Job::SetPinned { id, pinned } => change(*id, &|conversation| conversation.pinned = *pinned),
            Job::SetFolder { id, folder } => {
                change(*id, &|conversation| conversation.folder.clone_from(folder));
            }
            Job::SetSettings { id, settings } => {
                change(*id, &|conversation| conversation.settings.clone_from(settings));
            }
            Job::Add { conversation, .. } => change(*conversation, &|conversation| {
                conversation.messages += 1;
                conversation.changed_ms = conversation.changed_ms.max(now_ms());
            }),
            _ => {}
        }
    }

    /// What an answer cost.
    pub(super) fn costs(&self, message: MessageId) -> Result<Option<Arc<[u8]>>> {
        let mut all = match self.ids.database_message(message) {
            Some(id) => self.history.costs(id)?,
            None => None,
        };
        for job in &self.queue {
            if let Job::KeepCosts { id, bytes, append } = job
                && *id == message
            {
                let before = all.take().filter(|_| *append).unwrap_or_default();
                all = Some([before.as_slice(), bytes].concat());
            }
        }
        Ok(all.map(Arc::from))
    }

    /// The bytes of a file that still waits with its message.
    pub(super) fn waiting_file(&self, attachment: &Attachment) -> Option<Arc<[u8]>> {
        let files = self.queue.iter().flat_map(|job| match job {
            Job::Add { attachments, .. } => attachments.as_slice(),
            _ => &[],
        });
        files
            .filter(|file| file.name == attachment.name)
            .find(|file| attachment_of(file).hash == attachment.hash)
            .map(|file| Arc::clone(&file.bytes))
    }
}

impl Source for Worker {
    fn conversations(&self) -> Result<Vec<Conversation>> {
        let mut deleted = Deleted::nothing();
        for job in &self.queue {
            match job {
                Job::Delete(id) => deleted.note([self.local(*id)], true),
                Job::Restore(id) => deleted.note([self.local(*id)], false),
                _ => {}
            }
        }
        let back: Vec<ConversationId> =
            deleted.those(false).filter_map(|id| self.ids.database_conversation(id)).collect();
        let mut list = self.history.conversations_and(&back)?;
        for conversation in &mut list {
            conversation.id = self.ids.conversation(conversation.id);
        }
        for job in &self.queue {
            self.foresee_list(job, &mut list);
        }
        let gone: HashSet<ConversationId> = deleted.those(true).collect();
        list.retain(|conversation| !gone.contains(&conversation.id));
        list.sort_by_key(|conversation| !conversation.pinned);
        Ok(list)
    }

    fn tree(&self, id: ConversationId) -> Result<Tree> {
        let mut deleted = Deleted::nothing();
        for job in &self.queue {
            match job {
                Job::DeleteMessages(ids) => deleted.note(ids.iter().map(|id| self.local_message(*id)), true),
                Job::RestoreMessages(ids) => {
                    deleted.note(ids.iter().map(|id| self.local_message(*id)), false);
                }
                _ => {}
            }
        }
        let back: Vec<MessageId> =
            deleted.those(false).filter_map(|id| self.ids.database_message(id)).collect();
        let mut tree = match self.ids.database_conversation(id) {
            Some(id) => self.ids.tree(&self.history.tree_and(id, &back)?),
            None => Tree::default(),
        };
        let id = self.local(id);
        for job in &self.queue {
            self.foresee(job, id, &mut tree);
        }
        for id in deleted.those(true) {
            tree.remove_branch(id);
        }
        Ok(tree)
    }

    fn file(&self, attachment: &Attachment) -> Result<Vec<u8>> {
        match self.waiting_file(attachment) {
            Some(bytes) => Ok(bytes.to_vec()),
            None => self.history.file(attachment),
        }
    }
}

fn none_such() -> Error {
    Error::new("opening a conversation", "there is none of this number").help("choose one in the list")
}

fn attachment_of(file: &FileToKeep) -> Attachment {
    Attachment { kind: file.kind, name: file.name.clone(), hash: Sha256::digest(&file.bytes).into() }
}
