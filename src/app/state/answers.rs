//! Asking: from a draft, an edited message or an old question to an answer that comes in word by word.

use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use serde_json::json;

use super::costs::{Branch, Ended};
use super::{ModelState, State, engine_gone};
use crate::app::backend::Backend;
use crate::app::chat::{
    AnswerDetails, Figures, QuestionDetails, RemoteFigures, details, message, title_of, units,
};
use crate::app::chat::{Attached, Chat, Draft, Editing, PictureState};
use crate::app::progress::{Progress, Stage};
use crate::chat::history::ConversationId;
use crate::chat::message::{Message, Role};
use crate::chat::store::{FileToKeep, Job};
use crate::chat::tree::{Attachment, Entry, MessageId, MessageState};
use crate::costs::{About, Costs, Ledger};
use crate::engine::{Answer, AnswerEvent, Cancel, PictureReport, Request, StopReason};
use crate::error::{Error, ErrorKind, Result};
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
            if self.chat.draft.pictures.is_empty() {
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

    /// The request for an answer, with the place of each of its pictures; `None`: files are on their way.
    #[expect(clippy::type_complexity, reason = "a pair, and whether it is there yet")]
    pub(super) fn request(
        &mut self,
        conversation: ConversationId,
        intent: Intent,
        answers_from: Option<&ServerModel>,
    ) -> Result<Option<(Request, Vec<(MessageId, usize)>)>> {
        let gone = || Error::new("asking", "the message is gone").help("send it again");
        let (last, start) = match intent {
            Intent::Continue(answer) => {
                let entry =
                    self.chat_of(conversation).and_then(|chat| chat.tree.get(answer)).ok_or_else(gone)?;
                (entry.parent.ok_or_else(gone)?, Some(entry.text.clone()).filter(|text| !text.is_empty()))
            }
            Intent::Answer(question) => (question, None),
            Intent::Send | Intent::SendEdit(_) => return Err(gone()),
        };
        let chat = self.chat_of(conversation).ok_or_else(gone)?;
        let path = chat.tree.path_to(last);
        if path.is_empty() {
            return Err(gone());
        }
        let attachments: Vec<Attachment> =
            path.iter().filter_map(|id| chat.tree.get(*id)).flat_map(|e| e.attachments.clone()).collect();
        if let Some(error) = self.lost_file(&attachments) {
            return Err(error);
        }
        if let Some(server) = answers_from.filter(|_| start.is_some()) {
            self.elsewhere.check_goes_on(server)?;
        }
        let as_files = answers_from.is_some();
        let Some((messages, pictures)) = self.messages(conversation, &path, as_files) else {
            return Ok(None);
        };
        let chat = self.chat_mut(conversation).ok_or_else(gone)?;
        let mut request = request_of(chat, messages);
        request.answer_start = start;
        Ok(Some((request, pictures)))
    }

    /// The messages of a path as the engine gets them, or with their pictures `as_files` as servers do; `None`: files are on
    /// their way.
    #[expect(clippy::type_complexity, reason = "a pair, and whether it is there yet")]
    fn messages(
        &mut self,
        conversation: ConversationId,
        path: &[MessageId],
        as_files: bool,
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
            messages.push(message(entry, &self.files, as_files)?);
            // The template shows those of users and tools only.
            if matches!(entry.role, Role::User | Role::Tool) {
                pictures.extend((0..units(&entry.attachments).len()).map(|place| (entry.id, place)));
            }
        }
        Some((messages, pictures))
    }

    /// The request that sending now would make.
    pub(super) fn preview_request(&mut self) -> Result<Request> {
        const DOING: &str = "making the prompt";
        let reading = || Error::new(DOING, "its pictures are still being read").help("try again in a moment");
        if !self.answers_here() {
            let why = "answers of this chat come from a server, which makes the prompt itself";
            return Err(
                Error::new(DOING, why).help("choose this machine in the settings to see its own prompt")
            );
        }
        let conversation = self.chat.id;
        let path = self.chat.tree.path().to_vec();
        let shown: Vec<Attachment> = self.chat.shown().flat_map(|e| e.attachments.clone()).collect();
        if let Some(error) = self.lost_file(&shown) {
            return Err(error);
        }
        let (mut messages, _) = self.messages(conversation, &path, false).ok_or_else(reading)?;
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
                attachments: attachments_of(draft),
                state: MessageState::Complete,
                details: serde_json::Value::Null,
                created_ms: 0,
                chosen: None,
            };
            messages.push(message(&entry, &self.files, false).ok_or_else(reading)?);
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

    /// Asks the answer of the conversation on the screen to stop; that it has is told by an event.
    pub fn stop(&mut self) {
        self.stop_in(self.chat.id);
    }

    pub(super) fn stop_in(&mut self, conversation: ConversationId) {
        let (waiting, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|w| w.conversation == conversation);
        self.waiting = others;
        for waiting in waiting {
            self.give_back(waiting);
        }
        for answering in self.answering.iter_mut().filter(|a| a.conversation == conversation) {
            answering.answer.cancel.cancel();
            answering.progress.stopping = true;
        }
    }

    /// Stops what the model of this machine answers or is to answer; what servers say goes on.
    pub(super) fn stop_here(&mut self) {
        let waiting = self.waiting.iter().filter(|w| w.answers_from.is_none()).map(|w| w.conversation);
        let answering = self.answering.iter().filter(|a| !a.progress.is_remote).map(|a| a.conversation);
        let all: Vec<_> = waiting.chain(answering).collect();
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
            if let Some(ledger) = &mut answering.ledger {
                ledger.see(&event);
            }
            match event {
                // No answer of a chat is scored, nor looked into.
                AnswerEvent::Prepared { .. }
                | AnswerEvent::Encoded { .. }
                | AnswerEvent::Chunk { .. }
                | AnswerEvent::Vision { .. }
                | AnswerEvent::Prefill { .. }
                | AnswerEvent::Scored(_)
                | AnswerEvent::Inside(_) => {}
                AnswerEvent::Picture(report) => self.picture_seen(answering, report),
                AnswerEvent::Token(token) => came |= self.append(answering, &token.text),
                AnswerEvent::Text(text) => came |= self.append(answering, &text),
                AnswerEvent::RemoteToken(token) => came |= self.append(answering, &token.text),
                AnswerEvent::Thinking(text) => {
                    answering.thinking.push_str(&text);
                    came = true;
                }
                AnswerEvent::Finished(summary) => {
                    let figures = Figures::from(&*summary);
                    self.finished(answering, &summary.text, summary.reason, |about| {
                        about.figures = Some(figures);
                    });
                    self.end_of_costs(answering);
                    return false;
                }
                AnswerEvent::RemoteFinished(summary) => {
                    self.finished(answering, &summary.text, summary.reason, |about| {
                        about.remote = Some(RemoteFigures::from(&*summary));
                        about.thinking = joined(&answering.thought_before, &summary.thinking);
                    });
                    self.end_of_costs(answering);
                    return false;
                }
                AnswerEvent::Failed(error) => {
                    self.failed(answering, &error);
                    self.end_of_costs(answering);
                    return false;
                }
            }
        }
        if came && now.saturating_duration_since(answering.kept) >= KEEP_EVERY {
            answering.kept = now;
            self.thought(answering);
            self.keep(answering.conversation, answering.message);
        }
        true
    }

    /// What it cost is kept, where anything came of it.
    fn end_of_costs(&mut self, answering: &mut Answering) {
        let (conversation, message) = (answering.conversation, answering.message);
        let before = std::mem::take(&mut answering.costs_before);
        let is_there = self.chat_of(conversation).is_some_and(|chat| chat.tree.get(message).is_some());
        match answering.ledger.take().filter(|_| is_there) {
            Some(ledger) if !before.is_empty() || !ledger.costs().tokens.is_empty() => {
                let append = answering.appends && !ledger.costs().tokens.is_empty();
                self.shelf.ended(Ended { conversation, message, before, ledger, append });
            }
            _ => self.shelf.gone(message),
        }
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

    /// Writes down what the model elsewhere has thought so far.
    fn thought(&mut self, answering: &Answering) {
        if answering.thinking.is_empty() {
            return;
        }
        let entry = self.chat_mut(answering.conversation).and_then(|c| c.tree.get_mut(answering.message));
        if let Some(entry) = entry {
            let about: AnswerDetails = details(entry);
            entry.details = json!(AnswerDetails {
                thinking: joined(&answering.thought_before, &answering.thinking),
                ..about
            });
        }
    }

    fn finished(
        &mut self,
        answering: &Answering,
        text: &str,
        reason: StopReason,
        figures: impl FnOnce(&mut AnswerDetails),
    ) {
        tracing::debug!("an answer has ended");
        let nothing = text.is_empty() && answering.thinking.is_empty() && reason == StopReason::Cancelled;
        if nothing {
            self.nothing_came(answering);
            return;
        }
        let entry = self.chat_mut(answering.conversation).and_then(|c| c.tree.get_mut(answering.message));
        if let Some(entry) = entry {
            entry.text = format!("{}{text}", answering.start);
            entry.state = match reason {
                StopReason::End | StopReason::StopString => MessageState::Complete,
                StopReason::MaxTokens | StopReason::ContextFull | StopReason::Cancelled => {
                    MessageState::Stopped
                }
            };
            let mut about: AnswerDetails = details(entry);
            about.error = None;
            figures(&mut about);
            entry.details = json!(about);
        }
        self.keep(answering.conversation, answering.message);
    }

    fn failed(&mut self, answering: &Answering, error: &Error) {
        self.thought(answering);
        match error.get_kind() {
            ErrorKind::Cancelled => {}
            ErrorKind::DeviceLost => self.lose_device(error),
            ErrorKind::Panicked => {
                // A request that panicked before it reached the model has taken nothing with it; loading again does no harm.
                self.model_fell = true;
                self.report(error);
            }
            _ => self.report(error),
        }
        let entry = self.chat_mut(answering.conversation).and_then(|c| c.tree.get_mut(answering.message));
        let Some(entry) = entry else { return };
        if answering.is_silent(&entry.text) {
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

    /// An answer without a word or a thought is taken away, and its question goes back to where it was typed: nothing is lost. One that was
    /// to be gone on with is as it was.
    fn nothing_came(&mut self, answering: &Answering) {
        if !answering.is_new {
            let entry = self.chat_mut(answering.conversation).and_then(|c| c.tree.get_mut(answering.message));
            if let Some(entry) = entry {
                entry.text.clone_from(&answering.start);
                (entry.state, entry.details) = answering.before.clone();
            }
            self.keep(answering.conversation, answering.message);
            return;
        }
        if answering.fresh == Fresh::No {
            let chat = self.chat_of(answering.conversation);
            let was_shown = chat.is_some_and(|chat| chat.tree.path().contains(&answering.message));
            self.remove_entries(answering.conversation, answering.message);
            // Not whatever version is the last now.
            let chat = self.chat_mut(answering.conversation).filter(|_| was_shown);
            if let Some((chat, shown)) = chat.zip(answering.shown) {
                chat.tree.choose(shown);
                let path = chat.tree.path_to(shown);
                self.jobs.push(Job::Choose { conversation: answering.conversation, path });
            }
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
        self.put_back(conversation, draft, original);
    }

    /// Ends the answers of a conversation now, as they are: what has come is kept.
    pub(in crate::app) fn settle(&mut self, conversation: ConversationId) {
        self.stop_in(conversation);
        let (ending, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.answering).into_iter().partition(|a| a.conversation == conversation);
        self.answering = others;
        for mut answering in ending {
            self.thought(&answering);
            self.end_of_costs(&mut answering);
            let entry = self.chat_mut(conversation).and_then(|c| c.tree.get_mut(answering.message));
            let Some(entry) = entry else { continue };
            if answering.is_silent(&entry.text) {
                self.nothing_came(&answering);
            } else {
                entry.state = MessageState::Stopped;
                self.keep(conversation, answering.message);
            }
        }
    }

    /// As [`Self::settle`], everywhere: the window is closing.
    pub(in crate::app) fn settle_all(&mut self) {
        let all: Vec<_> = self.answering.iter().map(|a| a.conversation).collect();
        let waiting: Vec<_> = self.waiting.iter().map(|w| w.conversation).collect();
        for conversation in all.into_iter().chain(waiting) {
            self.settle(conversation);
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

/// The thoughts of an answer that was gone on with, first those of its beginning.
fn joined(before: &str, thinking: &str) -> String {
    let between = if before.is_empty() || thinking.is_empty() { "" } else { "\n\n" };
    format!("{before}{between}{thinking}")
}

/// The answer of a server that is not there any more.
fn no_server() -> Answer {
    let (sender, events) = std::sync::mpsc::channel();
    let error = Error::new("asking the server", "it is not among the servers any more")
        .help("choose in the settings where answers come from");
    let _ = sender.send(AnswerEvent::Failed(error));
    Answer { events, cancel: Cancel::default() }
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
