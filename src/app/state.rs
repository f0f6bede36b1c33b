//! Room `app`: what is true in the window, and what happens to it: commands from the user, events from the
//! engine. Knows nothing of egui, so that all of it can be tested without drawing.

use std::path::{Path, PathBuf};
use std::sync::mpsc::TryRecvError;
use std::time::Instant;

use super::backend::Backend;
use super::conversation::{Attachment, Draft, PictureState, Reply, ReplyEnd, Turn, messages};
use super::progress::{Progress, Stage};
use super::settings::Settings;
use crate::chat::message::ImageSource;
use crate::engine::{
    Answer, AnswerEvent, Load, LoadEvent, LoadRequest, ModelInfo, PictureReport, Request, Summary,
};
use crate::error::{Error, ErrorKind};
use crate::gpu::Pacing;
use crate::model::builtin;
use crate::model::loaded::{LoadOptions, MemoryPlan};
use crate::model::recipe::Recipe;

/// What the user can ask of the window. Pushed while drawing, carried out after.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Ask for a model folder.
    ChooseModel,
    /// Load this one.
    OpenModel(PathBuf),
    /// Stop the load.
    CancelLoad,
    /// Ask for pictures.
    ChoosePictures,
    /// Take a picture out of the draft.
    RemovePicture(u64),
    /// Put this sample's picture into the draft.
    UseSample(usize),
    /// Ask this of the draft's pictures at once.
    AskSample(String),
    /// Send the draft.
    Send,
    /// Stop the answer.
    Stop,
    /// Ask the last question once more.
    AskAgain,
    /// Forget the conversation.
    NewChat,
    /// Close an error.
    Dismiss(u64),
    /// Take the model's own sampling settings.
    UseModelDefaults,
}

/// How a load goes.
#[derive(Debug)]
pub struct Loading {
    /// The folder.
    pub folder: PathBuf,
    /// What is being done, and its bytes: done, in all.
    pub step: &'static str,
    /// Bytes done and in all; `None`: not known yet.
    pub bytes: Option<(u64, u64)>,
    /// What it will take.
    pub plan: Option<MemoryPlan>,
    /// The user has asked it to stop.
    pub stopping: bool,
    load: Load,
}

/// The model.
#[derive(Debug, Default)]
pub enum ModelState {
    /// None.
    #[default]
    None,
    /// On its way.
    Loading(Box<Loading>),
    /// There.
    Ready(Box<ModelInfo>),
}

/// A sample picture that was put into the draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ChosenSample {
    index: usize,
    picture: u64,
}

/// An error on the screen until it is closed.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Tells it from the others.
    pub id: u64,
    /// What to read.
    pub text: String,
}

#[derive(Debug)]
struct Answering {
    answer: Answer,
    progress: Progress,
    /// Pictures of the prompt, in order.
    pictures: Vec<u64>,
}

#[derive(Debug, Default)]
enum Activity {
    #[default]
    Idle,
    /// Send was pressed before the draft's pictures were read.
    Reading(Progress),
    Answering(Box<Answering>),
}

/// What is true in the window.
#[derive(Debug, Default)]
pub struct State {
    /// The model.
    pub model: ModelState,
    /// The folder opened last, for opening it again.
    pub last_folder: Option<PathBuf>,
    /// The conversation.
    pub turns: Vec<Turn>,
    /// The question in the making.
    pub draft: Draft,
    /// How answers are to be made.
    pub settings: Settings,
    /// Errors to read.
    pub notices: Vec<Notice>,
    /// Tokens of the conversation in the model's context, as far as known.
    pub context_used: usize,
    sample: Option<ChosenSample>,
    /// What was typed when a sample's question was asked; it comes back to the draft.
    kept_text: String,
    recipe: Option<Recipe>,
    context: usize,
    activity: Activity,
    next_id: u64,
}

impl State {
    /// Nothing opened yet; models are to be loaded with room for `context` tokens.
    #[must_use]
    pub fn new(context: usize, recipe: Option<Recipe>) -> Self {
        Self { recipe, context, ..Self::default() }
    }

    /// The loaded model.
    #[must_use]
    pub fn model_info(&self) -> Option<&ModelInfo> {
        match &self.model {
            ModelState::Ready(info) => Some(info),
            ModelState::None | ModelState::Loading(_) => None,
        }
    }

    /// Is the loaded model the one in this program?
    #[must_use]
    pub fn is_demo(&self) -> bool {
        self.model_info().is_some_and(|info| builtin::is_meant(&info.folder))
    }

    /// What the window is called: as the model is, the demo by its full name.
    #[must_use]
    pub fn title(&self) -> String {
        match self.model_info() {
            Some(_) if self.is_demo() => builtin::FULL_NAME.to_owned(),
            Some(info) => format!("{} · Ocelli", info.name),
            None => "Ocelli".to_owned(),
        }
    }

    /// How far the answer under way is.
    #[must_use]
    pub fn progress(&self) -> Option<&Progress> {
        match &self.activity {
            Activity::Idle => None,
            Activity::Reading(progress) => Some(progress),
            Activity::Answering(answering) => Some(&answering.progress),
        }
    }

    /// Is there something that changes by itself on the screen?
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.progress().is_some() || matches!(self.model, ModelState::Loading(_))
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Shows an error until it is closed.
    pub fn report(&mut self, error: &Error) {
        let id = self.new_id();
        tracing::info!("{error}");
        self.notices.push(Notice { id, text: error.to_string() });
    }

    /// Closes an error.
    pub fn dismiss(&mut self, id: u64) {
        self.notices.retain(|notice| notice.id != id);
    }

    /// Loads a model in place of the one there is. The conversation stays.
    pub fn open_model(&mut self, folder: &Path, backend: &mut dyn Backend) {
        self.stop();
        if let ModelState::Loading(loading) = &self.model {
            loading.load.cancel.cancel();
        }
        // Models are changed in the window: the context is made to fit each.
        let options = LoadOptions { context: self.context, pacing: Pacing::WINDOW, ..LoadOptions::default() };
        let load = backend.load(LoadRequest { folder: folder.to_path_buf(), recipe: self.recipe, options });
        self.last_folder = Some(folder.to_path_buf());
        self.model = ModelState::Loading(Box::new(Loading {
            folder: folder.to_path_buf(),
            step: "Opening",
            bytes: None,
            plan: None,
            stopping: false,
            load,
        }));
    }

    /// Asks the load to stop; that it has is told by an event.
    pub fn cancel_load(&mut self) {
        if let ModelState::Loading(loading) = &mut self.model {
            loading.load.cancel.cancel();
            loading.stopping = true;
        }
    }

    /// Adds a picture to the draft; [`State::picture_read`] says when it is there.
    pub fn add_picture(&mut self, name: String) -> u64 {
        let id = self.new_id();
        self.draft.pictures.push(Attachment {
            id,
            name,
            state: PictureState::Reading,
            source: None,
            report: None,
        });
        id
    }

    /// A picture has been read, or not. One that was removed meanwhile is nobody's concern.
    pub fn picture_read(&mut self, id: u64, result: Result<(ImageSource, u32, u32), Error>) {
        let Some(picture) = self.draft.pictures.iter_mut().find(|p| p.id == id) else { return };
        match result {
            Ok((source, width, height)) => {
                picture.source = Some(source);
                picture.state = PictureState::Ready(width, height);
            }
            Err(error) => picture.state = PictureState::Failed(error),
        }
    }

    /// Takes a picture out of the draft.
    pub fn remove_picture(&mut self, id: u64) {
        self.draft.pictures.retain(|p| p.id != id);
    }

    /// The picture of sample `index` is in the draft, in place of another sample's.
    pub fn sample_added(&mut self, index: usize, picture: u64) {
        if let Some(before) = self.sample.replace(ChosenSample { index, picture }) {
            self.remove_picture(before.picture);
        }
    }

    /// The sample whose picture is in the draft.
    #[must_use]
    pub fn chosen_sample(&self) -> Option<usize> {
        let chosen = self.sample?;
        self.draft.pictures.iter().any(|p| p.id == chosen.picture).then_some(chosen.index)
    }

    /// Asks a question of the draft's pictures at once. What is typed waits for the next one.
    pub fn ask_sample(&mut self, question: String, backend: &mut dyn Backend, now: Instant) {
        if self.cannot_send().is_none() {
            self.kept_text = std::mem::replace(&mut self.draft.text, question);
            self.send(backend, now);
        }
    }

    /// Is the picture still in the draft or the conversation?
    #[must_use]
    pub fn has_picture(&self, id: u64) -> bool {
        let questions = self.turns.iter().map(|turn| &turn.question);
        questions.chain([&self.draft]).any(|question| question.pictures.iter().any(|p| p.id == id))
    }

    /// Why the draft cannot be sent now; `None`: it can.
    #[must_use]
    pub fn cannot_send(&self) -> Option<&'static str> {
        match (&self.model, &self.activity) {
            (ModelState::None, _) => Some("Open a model first."),
            (ModelState::Loading(_), _) => Some("The model is still loading."),
            (_, Activity::Reading(_) | Activity::Answering(_)) => Some("An answer is under way."),
            (ModelState::Ready(_), Activity::Idle) if self.draft.is_empty() => {
                Some("Type a question or add a picture.")
            }
            (ModelState::Ready(_), Activity::Idle) => None,
        }
    }

    /// Sends the draft, as soon as its pictures are read. What cannot be sent stays where it is.
    pub fn send(&mut self, backend: &mut dyn Backend, now: Instant) {
        if self.cannot_send().is_some() {
            return;
        }
        if self.draft.pictures.iter().any(|p| matches!(p.state, PictureState::Reading)) {
            let mut progress = Progress::new(self.draft.pictures.len(), now);
            progress.stage = Stage::Reading;
            self.activity = Activity::Reading(progress);
            return;
        }
        let unreadable = self.draft.pictures.iter().find_map(|p| match &p.state {
            PictureState::Failed(error) => {
                Some(Error::new("sending the question", error).help("remove the picture, then send again"))
            }
            PictureState::Reading | PictureState::Ready(..) => None,
        });
        if let Some(error) = unreadable {
            self.report(&error);
            return;
        }
        let question = std::mem::take(&mut self.draft);
        self.draft.text = std::mem::take(&mut self.kept_text);
        self.ask(question, backend, now);
    }

    fn ask(&mut self, question: Draft, backend: &mut dyn Backend, now: Instant) {
        let sampling = self.settings.next_sampling();
        self.turns.push(Turn { question, reply: Reply { text: String::new(), sampling, end: None } });
        let request = Request {
            sampling,
            max_tokens: self.settings.token_limit(),
            image_tokens: self.settings.image_token_range(),
            ..Request::new(messages(&self.settings.system_prompt, &self.turns))
        };
        let pictures: Vec<u64> =
            self.turns.iter().flat_map(|turn| &turn.question.pictures).map(|picture| picture.id).collect();
        let progress = Progress::new(pictures.len(), now);
        self.activity =
            Activity::Answering(Box::new(Answering { answer: backend.ask(request), progress, pictures }));
    }

    /// Can the last question be asked once more?
    #[must_use]
    pub fn can_ask_again(&self) -> bool {
        matches!((&self.model, &self.activity), (ModelState::Ready(_), Activity::Idle))
            && !self.turns.is_empty()
    }

    /// Asks the last question once more, in place of its answer.
    pub fn ask_again(&mut self, backend: &mut dyn Backend, now: Instant) {
        if self.can_ask_again()
            && let Some(turn) = self.turns.pop()
        {
            self.ask(turn.question, backend, now);
        }
    }

    /// Takes the model's own sampling settings.
    pub fn use_model_defaults(&mut self) {
        if let ModelState::Ready(info) = &self.model {
            self.settings.use_defaults_of(&info.defaults);
        }
    }

    /// Asks the answer to stop; that it has is told by an event.
    pub fn stop(&mut self) {
        match &mut self.activity {
            Activity::Idle => {}
            Activity::Reading(_) => {
                self.activity = Activity::Idle;
                if !self.kept_text.is_empty() {
                    self.draft.text = std::mem::take(&mut self.kept_text);
                }
            }
            Activity::Answering(answering) => {
                answering.answer.cancel.cancel();
                answering.progress.stopping = true;
            }
        }
    }

    /// Forgets the conversation; the draft and the model stay.
    pub fn new_chat(&mut self) {
        self.stop();
        // Events that still come find no reply to change.
        self.activity = Activity::Idle;
        self.turns.clear();
        self.context_used = 0;
    }

    /// Takes in all that has come from the engine. Call it once a frame, hidden or not.
    pub fn poll(&mut self, backend: &mut dyn Backend, now: Instant) {
        self.poll_load();
        self.poll_answer();
        let read = self.draft.pictures.iter().all(|p| !matches!(p.state, PictureState::Reading));
        if read && matches!(self.activity, Activity::Reading(_)) {
            self.activity = Activity::Idle;
            self.send(backend, now);
        }
    }

    fn poll_load(&mut self) {
        while let ModelState::Loading(loading) = &mut self.model {
            let event = match loading.load.events.try_recv() {
                Ok(event) => event,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => LoadEvent::Failed(engine_gone("loading the model")),
            };
            match event {
                LoadEvent::Converting { done_bytes, total_bytes } => {
                    (loading.step, loading.bytes) = ("Converting", Some((done_bytes, total_bytes)));
                }
                LoadEvent::Plan(plan) => loading.plan = Some(plan),
                LoadEvent::Uploading { done_bytes, total_bytes } => {
                    (loading.step, loading.bytes) = ("Loading", Some((done_bytes, total_bytes)));
                }
                LoadEvent::Loaded(info) => {
                    self.settings.model_loaded(&info);
                    self.model = ModelState::Ready(info);
                }
                LoadEvent::Failed(error) => {
                    self.model = ModelState::None;
                    if error.get_kind() != ErrorKind::Cancelled {
                        self.report(&error);
                    }
                }
            }
        }
    }

    fn poll_answer(&mut self) {
        while let Activity::Answering(answering) = &mut self.activity {
            let event = match answering.answer.events.try_recv() {
                Ok(event) => event,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => AnswerEvent::Failed(engine_gone("answering")),
            };
            answering.progress.see(&event);
            let prompt_tokens = answering.progress.prompt_tokens;
            if prompt_tokens > 0 {
                self.context_used = prompt_tokens + answering.progress.tokens;
            }
            match event {
                AnswerEvent::Prepared { .. } | AnswerEvent::Vision { .. } | AnswerEvent::Prefill { .. } => {}
                AnswerEvent::Picture(report) => {
                    let id = answering.pictures.get(report.index).copied();
                    self.picture_seen(id, report);
                }
                AnswerEvent::Token(token) => self.append(&token.text),
                AnswerEvent::Text(text) => self.append(&text),
                AnswerEvent::Finished(summary) => self.finished(summary),
                AnswerEvent::Failed(error) => self.failed(&error),
            }
        }
    }

    fn picture_seen(&mut self, id: Option<u64>, report: PictureReport) {
        let pictures = self.turns.iter_mut().flat_map(|turn| &mut turn.question.pictures);
        if let Some(picture) = pictures.into_iter().find(|p| Some(p.id) == id) {
            picture.report = Some(report);
        }
    }

    fn append(&mut self, text: &str) {
        if let Some(turn) = self.turns.last_mut() {
            turn.reply.text.push_str(text);
        }
    }

    fn finished(&mut self, summary: Box<Summary>) {
        self.activity = Activity::Idle;
        self.context_used = summary.prompt_tokens + summary.ids.len();
        let stopped_early = summary.text.is_empty() && summary.reason == crate::engine::StopReason::Cancelled;
        if stopped_early {
            self.take_back_question();
        } else if let Some(turn) = self.turns.last_mut() {
            turn.reply.text.clone_from(&summary.text);
            turn.reply.end = Some(ReplyEnd::Finished(summary));
        }
    }

    fn failed(&mut self, error: &Error) {
        self.activity = Activity::Idle;
        if error.get_kind() != ErrorKind::Cancelled {
            self.report(error);
        }
        if error.get_kind() == ErrorKind::DeviceLost {
            self.model = ModelState::None;
        }
        match self.turns.last_mut() {
            Some(turn) if !turn.reply.text.is_empty() => turn.reply.end = Some(ReplyEnd::Broken),
            _ => self.take_back_question(),
        }
    }

    /// A question without any answer goes back to where it was typed, so that nothing is lost.
    fn take_back_question(&mut self) {
        if let Some(turn) = self.turns.pop() {
            self.draft.take_back(turn.question);
        }
    }
}

fn engine_gone(doing: &str) -> Error {
    Error::new(doing, "the engine has stopped").help("restart the program")
}

#[cfg(test)]
mod tests;
