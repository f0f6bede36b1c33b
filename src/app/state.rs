//! Room `app`: what is true in the window, and what happens to it: commands from the user, events from the
//! engine and from the history. Knows nothing of egui, so that all of it can be tested without drawing.

mod answers;
mod attachments;
mod comparisons;
mod costs;
mod elsewhere;
mod inside;
mod library;
mod messages;
mod profiling;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use super::backend::Backend;
use super::chat::{Chat, Files, Hash};
use super::comparing::{Comparing, Told};
use super::progress::Progress;
use super::settings::Settings;
use crate::chat::history::{Conversation, ConversationId, Hit};
use crate::chat::store::{FIRST_LOCAL_ID, Job};
use crate::chat::tree::MessageId;
use crate::engine::{Cancel, Load, LoadEvent, LoadRequest, ModelInfo, PromptPreview};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::Pacing;
use crate::model::builtin;
use crate::model::kv_cache::KvFormat;
use crate::model::loaded::{LoadOptions, MemoryPlan};
use crate::model::recipe::Recipe;

pub use answers::Obstacle;
pub use attachments::ReadFile;
pub use costs::Shelf;
pub use elsewhere::{Elsewhere, ModelList};
pub use inside::{Looking, Outcome};
pub use library::News;
pub use messages::{Undo, Undoable};
pub use profiling::Profiling;

/// What a load is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadStep {
    /// Opening files.
    Opening,
    /// Converting a hub checkpoint.
    Converting,
    /// Bringing weights to the device.
    Uploading,
}

/// How a load goes.
#[derive(Debug)]
pub struct Loading {
    /// The folder.
    pub folder: PathBuf,
    /// What is being done.
    pub step: LoadStep,
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

/// Something to read on the screen until it is closed.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Tells it from the others.
    pub id: u64,
    /// What to read.
    pub text: String,
    /// Something went wrong; otherwise it is news.
    pub is_error: bool,
}

/// What a search has found.
#[derive(Debug, Default)]
pub struct Search {
    /// What is looked for; empty: nothing.
    pub query: String,
    /// Where it was found, newest first.
    pub hits: Vec<Hit>,
    /// The search that is under way or was done last.
    serial: u64,
    asked: String,
}

/// The prompt as the model would get it.
#[derive(Debug)]
pub enum Preview {
    /// Being made.
    Making(Receiver<Result<PromptPreview>>, Cancel),
    /// There.
    Made(Box<PromptPreview>),
    /// It cannot be made.
    Failed(Error),
}

/// What is true in the window.
#[derive(Debug)]
pub struct State {
    /// The model.
    pub model: ModelState,
    /// The folder opened last, for opening it again.
    pub last_folder: Option<PathBuf>,
    /// The conversation on the screen.
    pub chat: Chat,
    /// Conversations that are not on the screen and have something in memory that the history has not.
    others: HashMap<ConversationId, Chat>,
    /// All conversations of the history: pinned ones first, then the ones changed last.
    pub list: Vec<Conversation>,
    /// The search in the history.
    pub search: Search,
    /// Things to read.
    pub notices: Vec<Notice>,
    /// What can be undone, the latest last.
    pub undo: Vec<Undoable>,
    /// Files of messages in memory.
    pub files: Files,
    /// Files that the history has been asked for.
    requested: HashSet<Hash>,
    /// Files that have come and whose pixels are not read yet.
    pub(super) fresh_files: Vec<(Hash, String)>,
    /// Settings for new conversations: the ones used last.
    pub usual_settings: Settings,
    /// The prompt, where it is being looked at.
    pub preview: Option<Preview>,
    /// Work for the history.
    pub(super) jobs: Vec<Job>,
    /// A message to bring into sight.
    pub(super) bring_into_sight: Option<MessageId>,
    /// As soon as there is a list, the conversation that was changed then is to be shown, milliseconds since 1970, or the one changed
    /// last where there is none.
    pub(super) show_changed_at: Option<i64>,
    /// How the first model is asked for, where it is otherwise than others.
    pub(super) first_as: Option<(Option<Recipe>, bool)>,
    /// The model is gone because the device is.
    pub device_lost: bool,
    /// The model went with a fault in the program, and is to be loaded again.
    model_fell: bool,
    /// How the model was asked for: its recipe, and for texts only?
    opened_as: (Option<Recipe>, bool),
    sample: Option<ChosenSample>,
    /// Files that cannot be had from the history, and why.
    pub lost_files: HashMap<Hash, Error>,
    /// Servers that can answer instead of the model.
    pub elsewhere: Elsewhere,
    /// The settings were changed by the user: new conversations take them over.
    pub(super) settings_touched: bool,
    /// Models are loaded without their vision towers.
    pub text_only: bool,
    /// How keys and values of models are stored; `None`: as the recipe has it.
    pub kv: Option<KvFormat>,
    /// A model whose vision file is missing: it can be opened for texts only.
    pub without_vision: Option<PathBuf>,
    /// Bytes a model may take at most; `None`: what adapter and machine report.
    pub memory_limit_bytes: Option<u64>,
    /// The comparison, since it was first looked at.
    pub comparing: Option<Box<Comparing>>,
    /// It is on the screen instead of the chat.
    pub shows_comparison: bool,
    /// What there is to tell of it.
    pub(super) comparison_news: Vec<Told>,
    /// What answers cost.
    pub shelf: Shelf,
    /// Profile mode, and the device's limits.
    pub profiling: Profiling,
    /// The token that is looked into.
    pub looking: Option<Looking>,
    recipe: Option<Recipe>,
    context: usize,
    waiting: Vec<answers::Waiting>,
    answering: Vec<answers::Answering>,
    next_id: u64,
    next_local: i64,
}

impl State {
    /// Nothing opened yet; models are to be loaded with room for `context` tokens.
    #[must_use]
    pub fn new(context: usize, recipe: Option<Recipe>) -> Self {
        Self {
            model: ModelState::None,
            last_folder: None,
            chat: Chat::new(ConversationId(FIRST_LOCAL_ID), Settings::default()),
            others: HashMap::new(),
            list: Vec::new(),
            search: Search::default(),
            notices: Vec::new(),
            undo: Vec::new(),
            files: Files::new(),
            requested: HashSet::new(),
            fresh_files: Vec::new(),
            usual_settings: Settings::default(),
            preview: None,
            jobs: Vec::new(),
            bring_into_sight: None,
            show_changed_at: None,
            first_as: None,
            device_lost: false,
            model_fell: false,
            opened_as: (None, false),
            sample: None,
            lost_files: HashMap::new(),
            elsewhere: Elsewhere::default(),
            settings_touched: false,
            text_only: false,
            kv: None,
            without_vision: None,
            memory_limit_bytes: None,
            comparing: None,
            shows_comparison: false,
            comparison_news: Vec::new(),
            shelf: Shelf::default(),
            profiling: Profiling::default(),
            looking: None,
            recipe,
            context,
            waiting: Vec::new(),
            answering: Vec::new(),
            next_id: 0,
            next_local: FIRST_LOCAL_ID + 1,
        }
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

    /// How far the answer under way in the conversation on the screen is.
    #[must_use]
    pub fn progress(&self) -> Option<&Progress> {
        self.progress_of(self.chat.id)
    }

    /// Is there something that changes by itself on the screen?
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.answering.is_empty()
            || !self.waiting.is_empty()
            || matches!(self.model, ModelState::Loading(_))
            || matches!(self.preview, Some(Preview::Making(..)))
            || self.elsewhere.is_busy()
            || self.is_looking()
            || self.profiling.is_busy()
            || self.comparing.as_ref().is_some_and(|comparing| comparing.is_busy())
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn new_local(&mut self) -> i64 {
        self.next_local += 1;
        self.next_local
    }

    /// The conversation of this number, where it is in memory.
    #[must_use]
    pub fn chat_of(&self, id: ConversationId) -> Option<&Chat> {
        if self.chat.id == id { Some(&self.chat) } else { self.others.get(&id) }
    }

    fn chat_mut(&mut self, id: ConversationId) -> Option<&mut Chat> {
        if self.chat.id == id { Some(&mut self.chat) } else { self.others.get_mut(&id) }
    }

    /// Shows an error until it is closed. The same one twice is shown once. The log gets no words from outside.
    pub fn report(&mut self, error: &Error) {
        tracing::info!("{}", error.for_log());
        self.tell(error.to_string(), true);
    }

    /// Shows something to read until it is closed.
    pub fn tell(&mut self, text: String, is_error: bool) {
        self.notices.retain(|notice| notice.text != text);
        let id = self.new_id();
        self.notices.push(Notice { id, text, is_error });
    }

    /// Closes an error.
    pub fn dismiss(&mut self, id: u64) {
        self.notices.retain(|notice| notice.id != id);
    }

    /// Loads a model in place of the one there is. The conversation stays.
    pub fn open_model(&mut self, folder: &Path, backend: &mut dyn Backend) {
        let (recipe, text_only) = self.first_as.take().unwrap_or((self.recipe, self.text_only));
        self.open_model_as(folder, recipe, text_only, backend);
    }

    /// How the model was asked for: its recipe, and for texts only?
    pub(super) fn opened_as(&self) -> (Option<Recipe>, bool) {
        self.opened_as
    }

    /// [`State::open_model`] with this recipe, and perhaps without its vision tower.
    pub fn open_model_as(
        &mut self,
        folder: &Path,
        recipe: Option<Recipe>,
        text_only: bool,
        backend: &mut dyn Backend,
    ) {
        self.without_vision = None;
        self.stop_here();
        if let ModelState::Loading(loading) = &self.model {
            loading.load.cancel.cancel();
        }
        // Models are changed in the window: the context is made to fit each.
        let (context, memory_limit_bytes) = (self.context, self.memory_limit_bytes);
        let options = LoadOptions {
            context,
            text_only,
            kv: self.kv,
            memory_limit_bytes,
            pacing: Pacing::WINDOW,
            ..LoadOptions::default()
        };
        let load = backend.load(LoadRequest { folder: folder.to_path_buf(), recipe, options });
        self.last_folder = Some(folder.to_path_buf());
        self.opened_as = (recipe, text_only);
        self.model = ModelState::Loading(Box::new(Loading {
            folder: folder.to_path_buf(),
            step: LoadStep::Opening,
            bytes: None,
            plan: None,
            stopping: false,
            load,
        }));
    }

    /// Stores keys and values so from now on, and loads the model anew where there is one.
    pub fn use_kv(&mut self, kv: Option<KvFormat>, backend: &mut dyn Backend) {
        self.kv = kv;
        if !matches!(self.model, ModelState::None) {
            self.open_last(backend);
        }
    }

    /// Asks the load to stop; that it has is told by an event.
    pub fn cancel_load(&mut self) {
        if let ModelState::Loading(loading) = &mut self.model {
            loading.load.cancel.cancel();
            loading.stopping = true;
        }
    }

    /// Takes the model's own sampling settings.
    pub fn use_model_defaults(&mut self) {
        if let ModelState::Ready(info) = &self.model {
            self.chat.settings.use_defaults_of(&info.defaults);
        }
    }

    /// Takes in all that has come from the engine. Call it once a frame, hidden or not.
    pub fn poll(&mut self, backend: &mut dyn Backend, now: Instant) {
        self.poll_load();
        self.poll_answers(now);
        self.rise(backend);
        self.try_waiting(backend, now);
        self.poll_comparison(backend);
        self.poll_preview();
        self.poll_looking();
        self.poll_profiling();
        self.elsewhere.poll();
        self.end_hidden_edit();
        self.forget_others();
        self.undo.retain(|undoable| undoable.until > now);
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
                    (loading.step, loading.bytes) = (LoadStep::Converting, Some((done_bytes, total_bytes)));
                }
                LoadEvent::Plan(plan) => loading.plan = Some(plan),
                LoadEvent::Uploading { done_bytes, total_bytes } => {
                    (loading.step, loading.bytes) = (LoadStep::Uploading, Some((done_bytes, total_bytes)));
                }
                LoadEvent::Loaded(info) => {
                    self.chat.settings.fit(&info);
                    self.device_lost = false;
                    let notes = info.notes.clone();
                    self.model = ModelState::Ready(info);
                    for note in notes {
                        self.tell(note, false);
                    }
                }
                LoadEvent::Failed(error) => {
                    self.without_vision =
                        (error.get_kind() == ErrorKind::NoVision).then(|| loading.folder.clone());
                    self.model = ModelState::None;
                    match error.get_kind() {
                        ErrorKind::Cancelled => {}
                        ErrorKind::DeviceLost => self.lose_device(&error),
                        _ => self.report(&error),
                    }
                }
            }
        }
    }

    /// The device is gone: so is the model; the conversations are not.
    pub(super) fn lose_device(&mut self, error: &Error) {
        if !self.device_lost {
            self.report(error);
        }
        self.device_lost = true;
        self.model = ModelState::None;
    }

    /// A fault in the program took the model away: it is loaded again.
    fn rise(&mut self, backend: &mut dyn Backend) {
        if self.model_fell {
            self.open_last(backend);
        }
    }

    /// Opens the model that was opened last once more, in the same way.
    fn open_last(&mut self, backend: &mut dyn Backend) {
        self.model_fell = false;
        if let Some(folder) = self.last_folder.clone() {
            let (recipe, text_only) = self.opened_as;
            self.open_model_as(&folder, recipe, text_only, backend);
        }
    }

    /// Makes the prompt of the conversation for reading: as it would be sent now, the draft included.
    pub fn make_preview(&mut self, backend: &mut dyn Backend) {
        self.close_preview();
        self.preview = Some(match self.preview_request() {
            Ok(request) => {
                let cancel = Cancel::default();
                Preview::Making(backend.preview(request, cancel.clone()), cancel)
            }
            Err(error) => Preview::Failed(error),
        });
    }

    /// Is done with looking at the prompt.
    pub fn close_preview(&mut self) {
        if let Some(Preview::Making(_, cancel)) = self.preview.take() {
            cancel.cancel();
        }
    }

    fn poll_preview(&mut self) {
        if let Some(Preview::Making(receiver, _)) = &self.preview {
            self.preview = Some(match receiver.try_recv() {
                Ok(Ok(preview)) => Preview::Made(Box::new(preview)),
                Ok(Err(error)) => Preview::Failed(error),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => Preview::Failed(engine_gone("making the prompt")),
            });
        }
    }
}

fn engine_gone(doing: &str) -> Error {
    Error::new(doing, "what was to answer has stopped").help("open the model again, or restart the program")
}

#[cfg(test)]
mod tests;
