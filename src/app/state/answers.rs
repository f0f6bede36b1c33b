//! Asking: from a draft, an edited message or an old question to an answer that comes in word by word.

use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{ModelState, State, engine_gone};
use crate::app::backend::Backend;
use crate::app::chat::{AnswerDetails, Figures, QuestionDetails, details, message, title_of, units};
use crate::app::chat::{Attached, Chat, Draft, Editing, PictureState};
use crate::app::progress::{Progress, Stage};
use crate::chat::history::ConversationId;
use crate::chat::message::{Message, Role};
use crate::chat::store::{FileToKeep, Job};
use crate::chat::tree::{Attachment, Entry, MessageId, MessageState};
use crate::engine::{Answer, AnswerEvent, PictureReport, Request, StopReason, Summary};
use crate::error::{Error, ErrorKind, Result};

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
}

/// What is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// The draft.
    Send,
    /// The message that is being changed.
    SendEdit,
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
    intent: Intent,
    fresh: Fresh,
    progress: Progress,
}

/// An answer that is coming in.
#[derive(Debug)]
pub(super) struct Answering {
    pub conversation: ConversationId,
    /// The message it becomes.
    message: MessageId,
    fresh: Fresh,
    /// The message was made for it.
    is_new: bool,
    answer: Answer,
    progress: Progress,
    /// The message and the place in it of each picture and clip of the prompt.
    pictures: Vec<(MessageId, usize)>,
    /// What it begins with.
    start: String,
    kept: Instant,
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
        self.cannot_ask().or_else(|| self.chat.draft.is_empty().then_some(Obstacle::Empty))
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
            self.ask(Intent::Send, Fresh::No, backend, now);
        }
    }

    /// Asks a question of the draft's pictures at once. What is typed waits for the next one.
    pub fn ask_sample(&mut self, question: String, backend: &mut dyn Backend, now: Instant) {
        if self.cannot_send().is_none() {
            self.kept_text = std::mem::replace(&mut self.chat.draft.text, question);
            self.send(backend, now);
        }
    }

    /// Sends the message that is being changed, as a branch of its own.
    pub fn send_edit(&mut self, backend: &mut dyn Backend, now: Instant) {
        let is_there = self.chat.editing.as_ref().is_some_and(|editing| !editing.draft.is_empty());
        if is_there && self.cannot_ask().is_none() {
            self.ask(Intent::SendEdit, Fresh::No, backend, now);
        }
    }

    /// Asks for another answer beside this one.
    pub fn regenerate(&mut self, answer: MessageId, backend: &mut dyn Backend, now: Instant) {
        let question = self.chat.tree.get(answer).and_then(|entry| match entry.role {
            Role::Assistant => entry.parent,
            _ => Some(answer),
        });
        if let Some(question) = question.filter(|_| self.cannot_ask().is_none()) {
            self.ask(Intent::Answer(question), Fresh::No, backend, now);
        }
    }

    /// Has the model go on with an answer from its end.
    pub fn continue_answer(&mut self, answer: MessageId, backend: &mut dyn Backend, now: Instant) {
        let is_answer = self.chat.tree.get(answer).is_some_and(|entry| entry.role == Role::Assistant);
        if is_answer && self.cannot_ask().is_none() {
            self.ask(Intent::Continue(answer), Fresh::No, backend, now);
        }
    }

    /// Begins in the conversation on the screen; waits where pictures are missing.
    fn ask(&mut self, intent: Intent, fresh: Fresh, backend: &mut dyn Backend, now: Instant) {
        let conversation = self.chat.id;
        self.waiting.push(Waiting { conversation, intent, fresh, progress: reading(now) });
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
        if let Intent::Send | Intent::SendEdit = waiting.intent {
            let chat = self.chat_mut(conversation)?;
            let draft = match waiting.intent {
                Intent::Send => &mut chat.draft,
                _ => &mut chat.editing.as_mut()?.draft,
            };
            if draft.is_reading() {
                waiting.progress.pictures = draft.pictures.len();
                return Some(waiting);
            }
            if let Some(error) = Self::unreadable(draft) {
                self.give_text_back();
                self.report(&error);
                return None;
            }
            let draft = std::mem::take(draft);
            let (question, fresh) = if waiting.intent == Intent::Send {
                let parent = chat.tree.path().last().copied();
                chat.draft.text.clear();
                let question = self.add_question(conversation, parent, draft);
                self.give_text_back();
                (question, Fresh::Draft(question))
            } else {
                let original = chat.editing.take()?.message;
                let parent = chat.tree.get(original).and_then(|entry| entry.parent);
                let question = self.add_question(conversation, parent, draft);
                (question, Fresh::Edit { question, original })
            };
            waiting.intent = Intent::Answer(question);
            waiting.fresh = fresh;
        }
        match self.request(conversation, waiting.intent) {
            Ok(Some((request, pictures))) => {
                self.begin(&waiting, request, pictures, backend, now);
                None
            }
            Ok(None) => Some(waiting),
            Err(error) => {
                self.report(&error);
                None
            }
        }
    }

    fn give_text_back(&mut self) {
        if !self.kept_text.is_empty() {
            let text = std::mem::take(&mut self.kept_text);
            self.chat.draft.text = text;
        }
    }

    /// Keeps a question. Its pictures are read.
    fn add_question(
        &mut self,
        conversation: ConversationId,
        parent: Option<MessageId>,
        draft: Draft,
    ) -> MessageId {
        let attachments: Vec<Attachment> = draft
            .pictures
            .iter()
            .filter_map(|p| Some(Attachment { kind: p.kind, name: p.name.clone(), hash: p.hash()? }))
            .collect();
        self.add_entry(conversation, parent, Role::User, draft.text, attachments, MessageState::Complete)
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
        let files = attachments
            .iter()
            .filter_map(|attachment| {
                let bytes = std::sync::Arc::clone(&self.files.get(&attachment.hash)?.bytes);
                Some(FileToKeep { kind: attachment.kind, name: attachment.name.clone(), bytes })
            })
            .collect();
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

    /// The request for an answer, with the place of each of its pictures; `None`: files are on their way.
    #[expect(clippy::type_complexity, reason = "a pair, and whether it is there yet")]
    fn request(
        &mut self,
        conversation: ConversationId,
        intent: Intent,
    ) -> Result<Option<(Request, Vec<(MessageId, usize)>)>> {
        let gone = || Error::new("asking", "the message is gone").help("send it again");
        let (last, start) = match intent {
            Intent::Continue(answer) => {
                let entry =
                    self.chat_of(conversation).and_then(|chat| chat.tree.get(answer)).ok_or_else(gone)?;
                (entry.parent.ok_or_else(gone)?, Some(entry.text.clone()).filter(|text| !text.is_empty()))
            }
            Intent::Answer(question) => (question, None),
            Intent::Send | Intent::SendEdit => return Err(gone()),
        };
        let chat = self.chat_of(conversation).ok_or_else(gone)?;
        let path = chat.tree.path_to(last);
        if path.is_empty() {
            return Err(gone());
        }
        let Some((messages, pictures)) = self.messages(conversation, &path) else { return Ok(None) };
        let chat = self.chat_mut(conversation).ok_or_else(gone)?;
        let mut request = request_of(chat, messages);
        request.answer_start = start;
        Ok(Some((request, pictures)))
    }

    /// The messages of a path as the engine gets them; `None`: files are on their way.
    #[expect(clippy::type_complexity, reason = "a pair, and whether it is there yet")]
    fn messages(
        &mut self,
        conversation: ConversationId,
        path: &[MessageId],
    ) -> Option<(Vec<Message>, Vec<(MessageId, usize)>)> {
        let chat = self.chat_of(conversation)?;
        let entries: Vec<&Entry> = path.iter().filter_map(|id| chat.tree.get(*id)).collect();
        let wanted: Vec<Attachment> = entries.iter().flat_map(|entry| entry.attachments.clone()).collect();
        if !self.want_files(&wanted) {
            return None;
        }
        let chat = self.chat_of(conversation)?;
        let (mut messages, mut pictures) = (Vec::new(), Vec::new());
        let system = chat.settings.system_prompt.trim();
        if !system.is_empty() {
            messages.push(Message::text(Role::System, system));
        }
        for entry in path.iter().filter_map(|id| chat.tree.get(*id)) {
            if entry.role == Role::Assistant && entry.text.is_empty() {
                continue;
            }
            messages.push(message(entry, &self.files)?);
            pictures.extend((0..units(&entry.attachments).len()).map(|place| (entry.id, place)));
        }
        Some((messages, pictures))
    }

    /// The request that sending now would make.
    pub(super) fn preview_request(&mut self) -> Result<Request> {
        const DOING: &str = "making the prompt";
        let reading = || Error::new(DOING, "its pictures are still being read").help("try again in a moment");
        let conversation = self.chat.id;
        let path = self.chat.tree.path().to_vec();
        let (mut messages, _) = self.messages(conversation, &path).ok_or_else(reading)?;
        let draft = &self.chat.draft;
        if !draft.is_empty() {
            if draft.is_reading() {
                return Err(reading());
            }
            let entry = Entry {
                id: MessageId(0),
                parent: None,
                role: Role::User,
                text: draft.text.clone(),
                attachments: draft
                    .pictures
                    .iter()
                    .filter_map(|p| Some(Attachment { kind: p.kind, name: p.name.clone(), hash: p.hash()? }))
                    .collect(),
                state: MessageState::Complete,
                details: serde_json::Value::Null,
                created_ms: 0,
                chosen: None,
            };
            messages.push(message(&entry, &self.files).ok_or_else(reading)?);
        }
        if messages.iter().all(|message| message.role == Role::System) {
            return Err(Error::new(DOING, "there is no question yet").help("type one"));
        }
        Ok(request_of(&mut self.chat, messages))
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
        if let Some(info) = self.model_info() {
            about.model.clone_from(&info.name);
        }
        let start = request.answer_start.clone().unwrap_or_default();
        let (answer_id, is_new) = match waiting.intent {
            Intent::Continue(answer) => (answer, false),
            Intent::Answer(question) => {
                let text = String::new();
                let state = MessageState::Streaming;
                (self.add_entry(conversation, Some(question), Role::Assistant, text, Vec::new(), state), true)
            }
            Intent::Send | Intent::SendEdit => return,
        };
        if let Some(entry) = self.chat_mut(conversation).and_then(|chat| chat.tree.get_mut(answer_id)) {
            entry.state = MessageState::Streaming;
            about.is_edited = details::<AnswerDetails>(entry).is_edited;
            entry.details = json!(about);
        }
        self.keep(conversation, answer_id);
        let progress = Progress::new(pictures.len(), now);
        let answer = backend.ask(request);
        let (message, fresh) = (answer_id, waiting.fresh);
        let answering =
            Answering { conversation, message, fresh, is_new, answer, progress, pictures, start, kept: now };
        self.answering.push(answering);
    }

    /// Asks the answer of the conversation on the screen to stop; that it has is told by an event.
    pub fn stop(&mut self) {
        self.stop_in(self.chat.id);
    }

    pub(super) fn stop_in(&mut self, conversation: ConversationId) {
        let (waiting, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|w| w.conversation == conversation);
        self.waiting = others;
        for waiting in waiting {
            self.give_text_back();
            self.take_back(conversation, waiting.fresh);
        }
        for answering in self.answering.iter_mut().filter(|a| a.conversation == conversation) {
            answering.answer.cancel.cancel();
            answering.progress.stopping = true;
        }
    }

    pub(in crate::app) fn stop_all(&mut self) {
        let all = self.waiting.iter().map(|w| w.conversation);
        let all: Vec<_> = all.chain(self.answering.iter().map(|a| a.conversation)).collect();
        for conversation in all {
            self.stop_in(conversation);
        }
    }

    pub(super) fn poll_answers(&mut self, now: Instant) {
        let mut under_way = std::mem::take(&mut self.answering);
        under_way.retain_mut(|answering| self.poll_answer(answering, now));
        under_way.append(&mut self.answering);
        self.answering = under_way;
    }

    /// Takes in what has come of one answer; false when it has ended.
    fn poll_answer(&mut self, answering: &mut Answering, now: Instant) -> bool {
        let mut came = false;
        loop {
            let event = match answering.answer.events.try_recv() {
                Ok(event) => event,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => AnswerEvent::Failed(engine_gone("answering")),
            };
            answering.progress.see(&event);
            match event {
                AnswerEvent::Prepared { .. } | AnswerEvent::Vision { .. } | AnswerEvent::Prefill { .. } => {}
                AnswerEvent::Picture(report) => self.picture_seen(answering, report),
                AnswerEvent::Token(token) => came |= self.append(answering, &token.text),
                AnswerEvent::Text(text) => came |= self.append(answering, &text),
                AnswerEvent::Finished(summary) => {
                    self.finished(answering, &summary);
                    return false;
                }
                AnswerEvent::Failed(error) => {
                    self.failed(answering, &error);
                    return false;
                }
            }
        }
        if came && now.saturating_duration_since(answering.kept) >= KEEP_EVERY {
            answering.kept = now;
            self.keep(answering.conversation, answering.message);
        }
        true
    }

    fn append(&mut self, answering: &Answering, text: &str) -> bool {
        let entry = self.chat_mut(answering.conversation).and_then(|c| c.tree.get_mut(answering.message));
        if let Some(entry) = entry {
            entry.text.push_str(text);
        }
        !text.is_empty()
    }

    fn picture_seen(&mut self, answering: &Answering, report: PictureReport) {
        let Some(&(id, place)) = answering.pictures.get(report.index) else { return };
        let Some(chat) = self.chat_mut(answering.conversation) else { return };
        let Some(entry) = chat.tree.get_mut(id) else { return };
        let mut seen: QuestionDetails = details(entry);
        seen.pictures.resize(seen.pictures.len().max(place + 1), None);
        if let Some(slot) = seen.pictures.get_mut(place) {
            *slot = Some(report);
        }
        entry.details = json!(seen);
        self.keep(answering.conversation, id);
    }

    fn finished(&mut self, answering: &Answering, summary: &Summary) {
        tracing::debug!("an answer has ended");
        let nothing = summary.text.is_empty() && summary.reason == StopReason::Cancelled;
        if nothing && answering.is_new {
            self.nothing_came(answering);
            return;
        }
        let entry = self.chat_mut(answering.conversation).and_then(|c| c.tree.get_mut(answering.message));
        if let Some(entry) = entry {
            entry.text = format!("{}{}", answering.start, summary.text);
            entry.state = match summary.reason {
                StopReason::End | StopReason::StopString => MessageState::Complete,
                StopReason::MaxTokens | StopReason::ContextFull | StopReason::Cancelled => {
                    MessageState::Stopped
                }
            };
            let mut about: AnswerDetails = details(entry);
            (about.figures, about.error) = (Some(Figures::from(summary)), None);
            entry.details = json!(about);
        }
        self.keep(answering.conversation, answering.message);
    }

    fn failed(&mut self, answering: &Answering, error: &Error) {
        match error.get_kind() {
            ErrorKind::Cancelled => {}
            ErrorKind::DeviceLost => self.lose_device(error),
            _ => self.report(error),
        }
        let entry = self.chat_mut(answering.conversation).and_then(|c| c.tree.get_mut(answering.message));
        let Some(entry) = entry else { return };
        if entry.text.is_empty() && answering.is_new {
            self.nothing_came(answering);
            return;
        }
        let is_cancelled = error.get_kind() == ErrorKind::Cancelled;
        entry.state = if is_cancelled { MessageState::Stopped } else { MessageState::Failed };
        let mut about: AnswerDetails = details(entry);
        about.error = (!is_cancelled).then(|| error.to_string());
        entry.details = json!(about);
        self.keep(answering.conversation, answering.message);
    }

    /// An answer without a word is taken away, and its question goes back to where it was typed: nothing is lost.
    fn nothing_came(&mut self, answering: &Answering) {
        if answering.fresh == Fresh::No {
            self.remove_entries(answering.conversation, answering.message);
        }
        self.take_back(answering.conversation, answering.fresh);
    }

    fn take_back(&mut self, conversation: ConversationId, fresh: Fresh) {
        let (question, original) = match fresh {
            Fresh::No => return,
            Fresh::Draft(question) => (question, None),
            Fresh::Edit { question, original } => (question, Some(original)),
        };
        let Some(entry) = self.remove_entries(conversation, question).into_iter().next() else { return };
        let draft = self.draft_of(&entry);
        let Some(chat) = self.chat_mut(conversation) else { return };
        match original {
            Some(message) => {
                chat.tree.choose(message);
                chat.editing.get_or_insert(Editing { message, draft });
            }
            None => chat.draft.take_back(draft),
        }
    }

    /// Takes a branch out of a conversation, on the screen and in the history.
    pub(super) fn remove_entries(&mut self, conversation: ConversationId, first: MessageId) -> Vec<Entry> {
        let Some(chat) = self.chat_mut(conversation) else { return Vec::new() };
        let removed = chat.tree.remove_branch(first);
        self.jobs.push(Job::DeleteMessages(removed.iter().map(|entry| entry.id).collect()));
        removed
    }

    /// A message as a draft.
    pub(super) fn draft_of(&mut self, entry: &Entry) -> Draft {
        let mut pictures = Vec::new();
        for attachment in &entry.attachments {
            let (width, height) = self.files.get(&attachment.hash).map_or((0, 0), |file| file.size);
            pictures.push(Attached {
                id: self.new_id(),
                name: attachment.name.clone(),
                kind: attachment.kind,
                state: PictureState::Ready(attachment.hash, width, height),
            });
        }
        Draft { text: entry.text.clone(), pictures }
    }
}

fn reading(now: Instant) -> Progress {
    let mut progress = Progress::new(0, now);
    progress.stage = Stage::Reading;
    progress
}

/// A request with the conversation's settings; draws its seed.
fn request_of(chat: &mut Chat, messages: Vec<Message>) -> Request {
    let settings = &mut chat.settings;
    Request {
        sampling: settings.next_sampling(),
        max_tokens: settings.token_limit(),
        image_tokens: settings.image_token_range(),
        stop: settings.stop_strings(),
        ..Request::new(messages)
    }
}
