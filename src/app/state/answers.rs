//! Asking: from a draft, an edited message or an old question to an answer that comes in word by word.

mod coming_in;
mod requests;

use std::time::{Duration, Instant};

use serde_json::json;

use super::costs::Branch;
use super::{ModelState, State};
use crate::app::backend::Backend;
use crate::app::chat::{AnswerDetails, Attached, Draft, Editing, details, title_of};
use crate::app::progress::{Progress, Stage};
use crate::chat::history::ConversationId;
use crate::chat::message::Role;
use crate::chat::store::{FileToKeep, Job};
use crate::chat::tree::{Attachment, Entry, MessageId, MessageState};
use crate::costs::{About, Costs, Ledger};
use crate::engine::{Answer, AnswerEvent, Cancel, Request};
use crate::error::Error;
use crate::remote::ServerModel;

/// What has come of an answer is kept this often: a program that is killed loses no more than that.
const KEEP_EVERY: Duration = Duration::from_millis(500);

/// Why the draft cannot be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// There is no model.
    NoModel,
    /// The model is not there yet.
    ModelLoading,
    /// The conversation is not there yet.
    ChatLoading,
    /// An answer is under way here.
    Answering,
    /// Nothing was typed or added.
    Empty,
    /// There are pictures, and the model was opened without its vision tower.
    NoVision,
    /// The chat's answers come from a server that is not there any more.
    UnknownServer,
    /// No model of the server was chosen.
    NoServerModel,
}

/// What is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// A question that is not a message yet.
    Send,
    /// A changed message, which was this one before.
    SendEdit(MessageId),
    /// A message of the user, once more or for the first time.
    Answer(MessageId),
    /// The rest of an answer.
    Continue(MessageId),
}

/// Where a question came from: it goes back there if nothing at all is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fresh {
    /// It was there before.
    No,
    /// From the draft.
    Draft(MessageId),
    /// From changing a message.
    Edit { question: MessageId, original: MessageId },
}

/// Something that is asked as soon as its pictures are read.
#[derive(Debug)]
pub(super) struct Waiting {
    pub conversation: ConversationId,
    /// The question with its pictures, until it is a message.
    pub draft: Option<Draft>,
    intent: Intent,
    fresh: Fresh,
    /// The message that the question is to follow.
    parent: Option<MessageId>,
    /// Where it was to go when it was sent: what is chosen while its pictures are read is for the next one.
    answers_from: Option<ServerModel>,
    /// Its text is a sample's: it does not come back to where questions are typed.
    is_sample: bool,
    /// The answer begins with tokens of another.
    branch: Option<Branch>,
    progress: Progress,
}

/// An answer that is coming in.
#[derive(Debug)]
pub(super) struct Answering {
    pub conversation: ConversationId,
    /// The message it becomes.
    pub message: MessageId,
    fresh: Fresh,
    /// The message was made for it.
    is_new: bool,
    /// The end of what was shown before.
    shown: Option<MessageId>,
    /// What the message was before, where it was not.
    before: (MessageState, serde_json::Value),
    answer: Answer,
    progress: Progress,
    /// The message and the place in it of each picture and clip of the prompt.
    pictures: Vec<(MessageId, usize)>,
    /// What it begins with.
    start: String,
    /// What had been thought for what it begins with.
    thought_before: String,
    /// What the model elsewhere has thought so far.
    thinking: String,
    /// What its pieces before this one cost.
    pub(super) costs_before: Vec<Costs>,
    /// It goes on, and what its pieces before cost is not in memory.
    appends: bool,
    /// What it costs.
    pub(super) ledger: Option<Ledger>,
    kept: Instant,
}

impl Answering {
    /// Has nothing come, where the message's text is this? A thought is something.
    fn is_silent(&self, text: &str) -> bool {
        text == self.start && self.thinking.is_empty()
    }
}

impl State {
    pub(super) fn progress_of(&self, conversation: ConversationId) -> Option<&Progress> {
        let waiting = self.waiting.iter().find(|w| w.conversation == conversation).map(|w| &w.progress);
        let answering = self.answering.iter().find(|a| a.conversation == conversation);
        answering.map(|a| &a.progress).or(waiting)
    }

    /// Is an answer coming in, in any conversation that is not on the screen?
    #[must_use]
    pub fn is_answering(&self, conversation: ConversationId) -> bool {
        self.progress_of(conversation).is_some()
    }

    /// The message that is coming in, in the conversation on the screen.
    #[must_use]
    pub fn message_under_way(&self) -> Option<MessageId> {
        self.answering.iter().find(|a| a.conversation == self.chat.id).map(|a| a.message)
    }

    /// Why nothing can be asked in this conversation now; `None`: something can.
    #[must_use]
    pub fn cannot_ask(&self) -> Option<Obstacle> {
        if !self.answers_here() {
            if self.chat.is_loading {
                return Some(Obstacle::ChatLoading);
            }
            let under_way = self.progress().is_some().then_some(Obstacle::Answering);
            return self.elsewhere.obstacle(&self.chat).or(under_way);
        }
        match &self.model {
            ModelState::None => Some(Obstacle::NoModel),
            ModelState::Loading(_) => Some(Obstacle::ModelLoading),
            ModelState::Ready(_) if self.chat.is_loading => Some(Obstacle::ChatLoading),
            ModelState::Ready(_) => self.progress().is_some().then_some(Obstacle::Answering),
        }
    }

    /// Why the draft cannot be sent now; `None`: it can.
    #[must_use]
    pub fn cannot_send(&self) -> Option<Obstacle> {
        let sees = self.local_model().is_none_or(|info| info.takes_pictures);
        self.cannot_ask().or_else(|| {
            if self.chat.draft.is_empty() {
                Some(Obstacle::Empty)
            } else {
                (!sees && !self.chat.draft.pictures.is_empty()).then_some(Obstacle::NoVision)
            }
        })
    }

    /// Tokens of the conversation in the model's context, as far as known.
    #[must_use]
    pub fn context_used(&self) -> usize {
        if let Some(progress) = self.progress().filter(|p| p.prompt_tokens > 0) {
            return progress.prompt_tokens + progress.tokens;
        }
        let ids = self.chat.tree.path().iter().rev().filter_map(|id| self.chat.tree.get(*id));
        let figures = ids
            .filter(|e| e.role == Role::Assistant)
            .take(4)
            .find_map(|e| details::<AnswerDetails>(e).figures);
        figures.map_or(0, |figures| figures.prompt_tokens + figures.new_tokens)
    }

    /// Sends the draft, as soon as its pictures are read. What cannot be sent stays where it is.
    pub fn send(&mut self, backend: &mut dyn Backend, now: Instant) {
        if self.cannot_send().is_none() {
            self.send_draft(false, backend, now);
        }
    }

    fn send_draft(&mut self, is_sample: bool, backend: &mut dyn Backend, now: Instant) {
        if let Some(error) = Self::unreadable(&self.chat.draft) {
            self.report(&error);
            return;
        }
        let parent = self.chat.tree.path().last().copied();
        let draft = std::mem::take(&mut self.chat.draft);
        let waiting =
            Waiting { draft: Some(draft), parent, is_sample, ..self.waiting_for(Intent::Send, now) };
        self.waiting.push(waiting);
        self.try_waiting(backend, now);
    }

    /// Asks a question of the draft's pictures at once. What is typed waits for the next one.
    pub fn ask_sample(&mut self, question: String, backend: &mut dyn Backend, now: Instant) {
        if self.cannot_send().is_none() {
            let typed = std::mem::replace(&mut self.chat.draft.text, question);
            self.send_draft(true, backend, now);
            // Also where nothing was sent: what a person typed is worth more than a sample's question.
            if self.chat.draft.pictures.is_empty() || !typed.is_empty() {
                self.chat.draft.text = typed;
            }
        }
    }

    /// Sends the message that is being changed, as a branch of its own.
    pub fn send_edit(&mut self, backend: &mut dyn Backend, now: Instant) {
        if self.cannot_ask().is_some() {
            return;
        }
        let Some(editing) = self.chat.editing.take_if(|editing| !editing.draft.is_empty()) else { return };
        if let Some(error) = Self::unreadable(&editing.draft) {
            self.report(&error);
            self.chat.editing = Some(editing);
            return;
        }
        let Editing { message, draft } = editing;
        let parent = self.chat.tree.get(message).and_then(|entry| entry.parent);
        let waiting =
            Waiting { draft: Some(draft), parent, ..self.waiting_for(Intent::SendEdit(message), now) };
        self.waiting.push(waiting);
        self.try_waiting(backend, now);
    }

    fn waiting_for(&self, intent: Intent, now: Instant) -> Waiting {
        Waiting {
            conversation: self.chat.id,
            draft: None,
            intent,
            fresh: Fresh::No,
            parent: None,
            answers_from: self.chat.settings.answers_from.clone(),
            is_sample: false,
            branch: None,
            progress: reading(now),
        }
    }

    /// Asks for another answer beside this one.
    pub fn regenerate(&mut self, answer: MessageId, backend: &mut dyn Backend, now: Instant) {
        let question = self.chat.tree.get(answer).and_then(|entry| match entry.role {
            Role::Assistant => entry.parent,
            _ => Some(answer),
        });
        if let Some(question) = question.filter(|_| self.cannot_ask().is_none()) {
            self.ask(Intent::Answer(question), backend, now);
        }
    }

    /// Has the model go on with an answer from its end. One that others follow stays as it is: a version beside it goes on.
    pub fn continue_answer(&mut self, answer: MessageId, backend: &mut dyn Backend, now: Instant) {
        let is_answer = self.chat.tree.get(answer).is_some_and(|entry| entry.role == Role::Assistant);
        if is_answer && self.cannot_ask().is_none() {
            self.ask(Intent::Continue(answer), backend, now);
        }
    }

    /// The message that goes on, and whether it was made for that: one that others follow is left alone, a copy goes on.
    fn goes_on(&mut self, conversation: ConversationId, answer: MessageId) -> (MessageId, bool) {
        let chat = self.chat_of(conversation);
        let followed = chat.filter(|chat| !chat.tree.followers(Some(answer)).is_empty());
        let Some(entry) = followed.and_then(|chat| chat.tree.get(answer)).cloned() else {
            return (answer, false);
        };
        let copy =
            self.add_entry(conversation, entry.parent, entry.role, entry.text, Vec::new(), entry.state);
        if let Some(copy) = self.chat_mut(conversation).and_then(|chat| chat.tree.get_mut(copy)) {
            copy.details = entry.details;
        }
        (copy, true)
    }

    /// Begins in the conversation on the screen; waits where pictures are missing.
    fn ask(&mut self, intent: Intent, backend: &mut dyn Backend, now: Instant) {
        self.ask_with(intent, None, backend, now);
    }

    /// [`State::ask`], for an answer that may begin with tokens of another.
    pub(super) fn ask_with(
        &mut self,
        intent: Intent,
        branch: Option<Branch>,
        backend: &mut dyn Backend,
        now: Instant,
    ) {
        let waiting = Waiting { branch, ..self.waiting_for(intent, now) };
        self.waiting.push(waiting);
        self.try_waiting(backend, now);
    }

    /// Asks what was waiting and can be asked now.
    pub(super) fn try_waiting(&mut self, backend: &mut dyn Backend, now: Instant) {
        for waiting in std::mem::take(&mut self.waiting) {
            if let Some(still) = self.try_ask(waiting, backend, now) {
                self.waiting.push(still);
            }
        }
    }

    /// Gives back what has to wait longer.
    fn try_ask(&mut self, mut waiting: Waiting, backend: &mut dyn Backend, now: Instant) -> Option<Waiting> {
        let conversation = waiting.conversation;
        self.chat_of(conversation)?;
        if let Some(draft) = &waiting.draft {
            waiting.progress.pictures = draft.pictures.len();
            if draft.is_reading() {
                return Some(waiting);
            }
            let attachments = attachments_of(draft);
            if let Some(error) = Self::unreadable(draft).or_else(|| self.lost_file(&attachments)) {
                self.report(&error);
                self.give_back(waiting);
                return None;
            }
            if !self.want_files(&attachments) {
                return Some(waiting);
            }
        }
        if let Some(draft) = waiting.draft.take() {
            let parent = waiting.parent.filter(|parent| {
                self.chat_of(conversation).is_some_and(|chat| chat.tree.get(*parent).is_some())
            });
            let attachments = attachments_of(&draft);
            let state = MessageState::Complete;
            let question = self.add_entry(conversation, parent, Role::User, draft.text, attachments, state);
            waiting.fresh = match waiting.intent {
                Intent::SendEdit(original) => Fresh::Edit { question, original },
                _ => Fresh::Draft(question),
            };
            waiting.intent = Intent::Answer(question);
        }
        match self.request(conversation, waiting.intent, waiting.answers_from.as_ref()) {
            Ok(Some((mut request, pictures))) => {
                if let Some(branch) = &waiting.branch {
                    request.answer_start = Some(branch.start.clone()).filter(|start| !start.is_empty());
                    request.answer_ids.clone_from(&branch.ids);
                }
                self.begin(&waiting, request, pictures, backend, now);
                None
            }
            Ok(None) => Some(waiting),
            Err(error) => {
                self.report(&error);
                self.take_back(conversation, waiting.fresh);
                None
            }
        }
    }

    /// What was to be sent goes back to where it was typed.
    fn give_back(&mut self, waiting: Waiting) {
        let Some(mut draft) = waiting.draft else {
            self.take_back(waiting.conversation, waiting.fresh);
            return;
        };
        if waiting.is_sample {
            draft.text.clear();
        }
        let original = match waiting.intent {
            Intent::SendEdit(original) => Some(original),
            _ => None,
        };
        self.put_back(waiting.conversation, draft, original);
    }

    fn put_back(&mut self, conversation: ConversationId, draft: Draft, original: Option<MessageId>) {
        let is_here = self.chat.id == conversation;
        let Some(chat) = self.chat_mut(conversation) else { return };
        match original {
            Some(message) if chat.editing.is_none() && chat.tree.get(message).is_some() => {
                chat.tree.choose(message);
                chat.editing = Some(Editing { message, draft });
            }
            _ => chat.draft.take_back(draft),
        }
        if !is_here && chat.is_kept {
            // Nobody looks at its draft now: what was typed must not go with the window.
            let settings = chat.settings_to_keep();
            chat.kept_settings = settings.clone();
            self.jobs.push(Job::SetSettings { id: conversation, settings });
        }
    }

    /// Adds a message, on the screen and in the history.
    pub(super) fn add_entry(
        &mut self,
        conversation: ConversationId,
        parent: Option<MessageId>,
        role: Role,
        text: String,
        attachments: Vec<Attachment>,
        state: MessageState,
    ) -> MessageId {
        let id = MessageId(self.new_local());
        let file = |attachment: &Attachment| {
            let Some(file) = self.files.get(&attachment.hash) else {
                tracing::error!("{} is not in memory and cannot be kept", attachment.name);
                return None;
            };
            let bytes = std::sync::Arc::clone(&file.bytes);
            Some(FileToKeep { kind: attachment.kind, name: attachment.name.clone(), bytes })
        };
        let files = attachments.iter().filter_map(file).collect();
        let first_picture = attachments.first().map(|attachment| attachment.name.clone());
        let entry = Entry {
            id,
            parent,
            role,
            text: text.clone(),
            attachments,
            state,
            details: serde_json::Value::Null,
            created_ms: crate::chat::history::now_ms(),
            chosen: None,
        };
        let mut jobs = Vec::new();
        if let Some(chat) = self.chat_mut(conversation) {
            let is_first = chat.tree.is_empty();
            if !chat.is_kept {
                chat.is_kept = true;
                chat.kept_settings = chat.settings_to_keep();
                jobs.push(Job::Create { id: conversation, settings: chat.kept_settings.clone() });
            }
            chat.tree.add(entry);
            if is_first {
                let title = title_of(&text, first_picture.as_deref());
                jobs.push(Job::SetTitle { id: conversation, title, own: false });
            }
        }
        jobs.push(Job::Add {
            conversation,
            id,
            parent,
            role,
            text,
            attachments: files,
            state,
            details: serde_json::Value::Null,
        });
        self.jobs.append(&mut jobs);
        id
    }

    /// Keeps what a message is now.
    pub(super) fn keep(&mut self, conversation: ConversationId, id: MessageId) {
        if let Some(entry) = self.chat_of(conversation).and_then(|chat| chat.tree.get(id)) {
            let job = Job::Update {
                id,
                text: entry.text.clone(),
                state: entry.state,
                details: entry.details.clone(),
            };
            self.jobs.push(job);
        }
    }

    fn begin(
        &mut self,
        waiting: &Waiting,
        request: Request,
        pictures: Vec<(MessageId, usize)>,
        backend: &mut dyn Backend,
        now: Instant,
    ) {
        let conversation = waiting.conversation;
        let mut about = AnswerDetails { sampling: Some(request.sampling), ..AnswerDetails::default() };
        let own_sampling = self.chat_of(conversation).is_some_and(|chat| chat.settings.own_sampling);
        let chosen = waiting.answers_from.as_ref();
        if let Some(chosen) = chosen {
            chosen.model.trim().clone_into(&mut about.model);
            let server = self.elsewhere.server(&chosen.base_url);
            about.server = server.map_or_else(|| chosen.base_url.clone(), |server| server.name.clone());
            // Left to the server, it is not known here.
            about.sampling = about.sampling.filter(|_| own_sampling);
        } else if let Some(info) = self.model_info() {
            about.model.clone_from(&info.name);
        }
        let branch = waiting.branch.as_ref();
        let about_model = about.model.clone();
        let start = branch.map(|branch| branch.text.clone()).or_else(|| request.answer_start.clone());
        let start = start.unwrap_or_default();
        let shown = self.chat_of(conversation).and_then(|chat| chat.tree.path().last().copied());
        let (answer_id, is_new) = match waiting.intent {
            Intent::Continue(answer) => self.goes_on(conversation, answer),
            Intent::Answer(question) => {
                let text = start.clone();
                let state = MessageState::Streaming;
                (self.add_entry(conversation, Some(question), Role::Assistant, text, Vec::new(), state), true)
            }
            Intent::Send | Intent::SendEdit(_) => return,
        };
        let mut before = (MessageState::Stopped, serde_json::Value::Null);
        if let Some(entry) = self.chat_mut(conversation).and_then(|chat| chat.tree.get_mut(answer_id)) {
            before = (entry.state, entry.details.clone());
            entry.state = MessageState::Streaming;
            let old: AnswerDetails = details(entry);
            (about.is_edited, about.thinking) = (old.is_edited, old.thinking);
            entry.details = json!(about);
        }
        let thought_before = about.thinking;
        let costs_before = match (branch, waiting.intent) {
            (Some(branch), _) => branch.costs.clone(),
            // As long as what is known of it is in memory.
            (None, Intent::Continue(answer)) => {
                let known = self.costs_of(answer).into_iter().cloned();
                known.map(|costs| Costs { is_copied: costs.is_copied || is_new, ..costs }).collect()
            }
            _ => Vec::new(),
        };
        let whats_known = match (chosen, self.model_info()) {
            (None, Some(info)) => About { bandwidth_gb_s: self.shelf.bandwidth_gb_s, ..About::from(info) },
            _ => About { model: about_model, ..About::default() },
        };
        let ledger = Some(Ledger::new(whats_known, now, start.len()));
        self.shelf.began(conversation, answer_id);
        self.keep(conversation, answer_id);
        let mut progress = Progress::new(pictures.len(), now);
        let answer = match chosen {
            Some(chosen) => {
                (progress.stage, progress.is_remote) = (Stage::Elsewhere, true);
                self.elsewhere.ask(chosen, own_sampling, request).unwrap_or_else(no_server)
            }
            None => backend.ask(request),
        };
        let (message, fresh) = (answer_id, waiting.fresh);
        self.answering.push(Answering {
            conversation,
            message,
            fresh,
            is_new,
            shown,
            before,
            answer,
            progress,
            pictures,
            start,
            thought_before,
            thinking: String::new(),
            appends: matches!(waiting.intent, Intent::Continue(_)) && !is_new && costs_before.is_empty(),
            costs_before,
            ledger,
            kept: now,
        });
    }
}

/// A draft's pictures as a message has them.
pub(super) fn attachments_of(draft: &Draft) -> Vec<Attachment> {
    let attachment = |p: &Attached| Some(Attachment { kind: p.kind, name: p.name.clone(), hash: p.hash()? });
    draft.pictures.iter().filter_map(attachment).collect()
}

fn reading(now: Instant) -> Progress {
    let mut progress = Progress::new(0, now);
    progress.stage = Stage::Reading;
    progress
}

/// The answer of a server that is not there any more.
fn no_server() -> Answer {
    let (sender, events) = std::sync::mpsc::channel();
    let error = Error::new("asking the server", "it is not among the servers any more")
        .help("choose in the settings where answers come from");
    let _ = sender.send(AnswerEvent::Failed(error));
    Answer { events, cancel: Cancel::default() }
}
