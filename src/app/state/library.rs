//! Many conversations: opening, listing, searching, keeping.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::{State, Undo};
use crate::app::chat::{Chat, Draft};
use crate::app::settings::Settings;
use crate::chat::history::{Conversation, ConversationId, Damage};
use crate::chat::store::{Event, Job};
use crate::chat::transfer::Format;
use crate::chat::tree::{MessageId, Tree};

impl Chat {
    /// What is kept besides the messages: the settings, and what was typed and not sent.
    #[must_use]
    pub(super) fn settings_to_keep(&self) -> Value {
        let mut settings = json!(self.settings);
        if let Value::Object(object) = &mut settings {
            // A seed drawn for one answer is kept with that answer.
            if self.settings.new_seed
                && let Some(sampling) = object.get_mut("sampling").and_then(Value::as_object_mut)
            {
                sampling.insert("seed".into(), 0.into());
            }
            if !self.draft.text.is_empty() {
                object.insert("draft".into(), self.draft.text.clone().into());
            }
        }
        settings
    }

    fn is_blank(&self) -> bool {
        self.tree.is_empty() && !self.is_loading
    }
}

impl State {
    /// Begins an empty conversation with the same settings; the model stays.
    pub fn new_chat(&mut self) {
        if self.chat.is_blank() {
            return;
        }
        // What was typed into a new chat and not sent is nowhere else: that one comes back.
        let unsent = self.others.values().find(|chat| !chat.is_kept && !chat.draft.is_empty()).map(|c| c.id);
        if let Some(chat) = unsent.and_then(|id| self.others.remove(&id)) {
            self.show(chat);
            return;
        }
        let mut settings = self.chat.settings.clone();
        if let Some(info) = self.model_info() {
            settings.fit(info);
        }
        let id = ConversationId(self.new_local());
        self.show(Chat::new(id, settings));
    }

    /// Puts a conversation on the screen and keeps the one that was there where that is needed.
    fn show(&mut self, chat: Chat) {
        self.keep_settings();
        self.close_preview();
        let before = std::mem::replace(&mut self.chat, chat);
        self.others.insert(before.id, before);
        if let Some(info) = self.model_info().cloned() {
            self.chat.settings.fit(&info);
        }
        self.forget_others();
        self.forget_files();
    }

    /// Lets go of conversations that are not on the screen and have nothing that the history has not.
    pub(super) fn forget_others(&mut self) {
        if self.others.is_empty() {
            return;
        }
        // Pictures that wait in a draft, an edit, or an answer under way are nowhere else.
        let needed: Vec<ConversationId> = self
            .others
            .values()
            .filter(|chat| {
                !chat.draft.pictures.is_empty()
                    || chat.editing.is_some()
                    || self.is_answering(chat.id)
                    || self.undo.iter().any(|u| matches!(u.undo, Undo::Branch(id, _) if id == chat.id))
                    || ((!chat.is_kept || chat.is_loading) && !chat.draft.is_empty())
            })
            .map(|chat| chat.id)
            .collect();
        let before = self.others.len();
        self.others.retain(|id, _| needed.contains(id));
        if self.others.len() != before {
            self.forget_files();
        }
    }

    /// What was typed into a new chat and not sent: it is in no conversation yet.
    #[must_use]
    pub fn unsent_text(&self) -> &str {
        let new = |chat: &&Chat| !chat.is_kept && !chat.draft.text.is_empty();
        let chats = std::iter::once(&self.chat).chain(self.others.values());
        chats.filter(new).map(|chat| chat.draft.text.as_str()).next().unwrap_or_default()
    }

    /// Opens a conversation of the list; `message`: one to bring into sight.
    pub fn open_chat(&mut self, id: ConversationId, message: Option<MessageId>) {
        self.bring_into_sight = message;
        if self.chat.id != id {
            let chat = match self.others.remove(&id) {
                Some(chat) => chat,
                None => {
                    self.jobs.push(Job::Open(id));
                    let mut chat = Chat::new(id, self.usual_settings.clone());
                    (chat.is_kept, chat.is_loading) = (true, true);
                    chat
                }
            };
            self.show(chat);
        }
        self.sight_message();
    }

    /// Shows the branch of the message that is to be brought into sight.
    fn sight_message(&mut self) {
        if let Some(id) = self.bring_into_sight
            && self.chat.tree.get(id).is_some()
            && !self.chat.tree.path().contains(&id)
        {
            self.show_branch(id);
        }
    }

    /// The conversation's place in the list.
    #[must_use]
    pub fn listed(&self, id: ConversationId) -> Option<&Conversation> {
        self.list.iter().find(|conversation| conversation.id == id)
    }

    /// Gives a conversation a title of the user's.
    pub fn rename(&mut self, id: ConversationId, title: &str) {
        let title = title.trim().to_owned();
        if let Some(conversation) = self.list.iter_mut().find(|c| c.id == id).filter(|_| !title.is_empty()) {
            conversation.title.clone_from(&title);
            self.jobs.push(Job::SetTitle { id, title, own: true });
        }
    }

    /// Keeps a conversation on top of the list, or not.
    pub fn pin(&mut self, id: ConversationId, pinned: bool) {
        self.jobs.push(Job::SetPinned { id, pinned });
    }

    /// Puts a conversation into a folder; an empty name takes it out.
    pub fn set_folder(&mut self, id: ConversationId, folder: &str) {
        self.jobs.push(Job::SetFolder { id, folder: folder.trim().to_owned() });
    }

    /// The conversations in the order of the list on the screen: pinned ones, folders by name, the rest. Empty ones are not
    /// shown, but for the one that is open.
    #[must_use]
    pub fn in_order(&self) -> Vec<&Conversation> {
        let shown = self.list.iter().filter(|c| c.messages > 0 || c.id == self.chat.id);
        let mut order: Vec<&Conversation> = shown.collect();
        // The sort is stable: within a group the history's own order stays.
        order.sort_by(|a, b| {
            let group = |c: &Conversation| match (c.pinned, c.folder.is_empty()) {
                (true, _) => 0,
                (false, false) => 1,
                (false, true) => 2,
            };
            let folder = |c: &Conversation| if c.pinned { String::new() } else { c.folder.to_lowercase() };
            group(a).cmp(&group(b)).then_with(|| folder(a).cmp(&folder(b))).then_with(|| {
                let folder = |c: &Conversation| if c.pinned { String::new() } else { c.folder.clone() };
                folder(a).cmp(&folder(b))
            })
        });
        order
    }

    /// All folders, by name.
    #[must_use]
    pub fn folders(&self) -> Vec<&str> {
        let mut folders: Vec<&str> =
            self.list.iter().map(|c| c.folder.as_str()).filter(|folder| !folder.is_empty()).collect();
        folders.sort_unstable();
        folders.dedup();
        folders
    }

    /// Deletes a conversation; it can be undone.
    pub fn delete_chat(&mut self, id: ConversationId, now: Instant) {
        self.settle(id);
        self.search.hits.retain(|hit| hit.conversation != id);
        let name = self.listed(id).map(|c| c.title.clone()).unwrap_or_default();
        self.others.remove(&id);
        self.list.retain(|conversation| conversation.id != id);
        self.jobs.push(Job::Delete(id));
        self.push_undo(Undo::Conversation(id), name, now);
        if self.chat.id == id {
            let draft = std::mem::take(&mut self.chat.draft);
            let (id, settings) = (ConversationId(self.new_local()), self.chat.settings.clone());
            self.chat = Chat { draft, ..Chat::new(id, settings) };
            self.close_preview();
            self.forget_files();
        }
    }

    /// Are settings or draft of the conversation on the screen others than those kept?
    #[must_use]
    pub(in crate::app) fn settings_changed(&self) -> bool {
        let is_kept = self.chat.is_kept && !self.chat.is_loading;
        self.settings_touched || (is_kept && self.chat.settings_to_keep() != self.chat.kept_settings)
    }

    /// Keeps settings and draft of the conversation on the screen where they have changed.
    pub fn keep_settings(&mut self) {
        if self.chat.is_loading {
            return;
        }
        if self.settings_touched {
            self.usual_settings.clone_from(&self.chat.settings);
            self.settings_touched = false;
        }
        let settings = self.chat.settings_to_keep();
        if self.chat.is_kept && settings != self.chat.kept_settings {
            self.jobs.push(Job::SetSettings { id: self.chat.id, settings: settings.clone() });
            self.chat.kept_settings = settings;
        }
    }

    /// Looks for what is typed into the search field, where that has changed.
    pub fn search_changed(&mut self) {
        let query = self.search.query.trim().to_owned();
        if query == self.search.asked {
            return;
        }
        self.search.serial += 1;
        self.search.asked.clone_from(&query);
        if query.is_empty() {
            self.search.hits.clear();
        } else {
            self.jobs.push(Job::Search { serial: self.search.serial, query });
        }
    }

    /// Writes conversations to a file: one, or all.
    pub fn export(&mut self, conversation: Option<ConversationId>, format: Format, to: PathBuf) {
        self.jobs.push(Job::Export { conversations: conversation.map(|id| vec![id]), format, to });
    }

    /// Reads conversations from a file.
    pub fn import(&mut self, from: PathBuf) {
        self.jobs.push(Job::Import { from });
    }

    /// Takes in what the history says. Gives news in words of the program for those events that are news.
    pub fn history_event(&mut self, event: Event) -> Option<News> {
        match event {
            Event::Listed(list) => {
                self.list = list;
                if let Some(changed_ms) = self.show_changed_at.filter(|_| !self.list.is_empty()) {
                    self.show_changed_at = None;
                    let that = self.list.iter().find(|conversation| conversation.changed_ms == changed_ms);
                    let newest = self.list.iter().max_by_key(|conversation| conversation.changed_ms);
                    if let Some(id) = that.or(newest).map(|conversation| conversation.id) {
                        self.open_chat(id, None);
                    }
                }
            }
            Event::Opened { conversation, tree, settings } => self.opened(conversation, tree, &settings),
            Event::File { hash, result } => self.file_came(hash, result),
            Event::Costs { id, result } => self.costs_came(id, result),
            Event::Found { serial, hits } => {
                if serial == self.search.serial {
                    self.search.hits = hits;
                }
            }
            Event::Exported { to, conversations } => return Some(News::Exported(to, conversations)),
            Event::Imported(ids) => {
                if let Some(first) = ids.first() {
                    self.open_chat(*first, None);
                }
                return Some(News::Imported(ids.len()));
            }
            Event::Unsaved(error) => return Some(News::Unsaved(error.to_string())),
            Event::Damaged(damage) => return Some(News::Damaged(damage)),
            Event::SavingFails(error) => return Some(News::SavingFails(error.to_string())),
            Event::SavingWorks => return Some(News::SavingWorks),
            Event::Failed(error) => self.report(&error),
            Event::OpenFailed { conversation, error } => {
                self.report(&error);
                self.others.remove(&conversation);
                if self.chat.id == conversation && self.chat.is_loading {
                    // What is typed from now on must not go into a conversation that is not there.
                    let draft = std::mem::take(&mut self.chat.draft);
                    let id = ConversationId(self.new_local());
                    self.chat = Chat { draft, ..Chat::new(id, self.usual_settings.clone()) };
                }
            }
        }
        None
    }

    fn opened(&mut self, conversation: ConversationId, tree: Tree, settings: &Value) {
        let is_here = self.chat.id == conversation;
        let info = self.model_info().cloned();
        let Some(chat) = self.chat_mut(conversation).filter(|chat| chat.is_loading) else { return };
        chat.is_loading = false;
        chat.tree = tree;
        if let Ok(kept) = serde_json::from_value::<Settings>(settings.clone()) {
            chat.settings = kept;
        }
        if let Some(info) = info {
            chat.settings.fit(&info);
        }
        let draft = settings.get("draft").and_then(Value::as_str).unwrap_or_default();
        if chat.draft.is_empty() {
            chat.draft = Draft { text: draft.to_owned(), pictures: Vec::new() };
        }
        chat.kept_settings = chat.settings_to_keep();
        if is_here {
            self.sight_message();
        }
    }
}

/// News of the history that the window puts into words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Conversations were written to a file.
    Exported(PathBuf, usize),
    /// So many were read from one.
    Imported(usize),
    /// Nothing is saved in this run of the program, and why.
    Unsaved(String),
    /// The database was damaged.
    Damaged(Damage),
    /// Messages cannot be saved just now, and why.
    SavingFails(String),
    /// Everything is saved again.
    SavingWorks,
}
