//! The window with scripted events in place of the engine, shared by the tests of what it does and of how it looks.

#![expect(clippy::unwrap_used, reason = "a test's helpers say: this must be so")]

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use egui::{Event, Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use ocelli::app::texts::Language;
use ocelli::app::{Backend, Places, Preferences, State, WindowApp};
use ocelli::clock;
use ocelli::engine::{
    Answer, AnswerEvent, Cancel, Disturbance, Load, LoadEvent, LoadRequest, ModelInfo, PromptPreview,
    Request, StopReason, Summary, TokenEvent,
};
use ocelli::error::Result;
use ocelli::gpu::StepTimes;
use ocelli::model::builtin;
use ocelli::model::config::GenerationDefaults;
use ocelli::model::loaded::MemoryPlan;
use ocelli::model::preprocessor::{PreprocessorConfig, Preprocessors};
use ocelli::model::recipe::Recipe;
use ocelli::model::sampler::TokenRecord;
use ocelli::model::tokenizer::Tokenizer;

pub type PreviewSender = Sender<Result<PromptPreview>>;

#[derive(Default)]
pub struct Script {
    pub previews: Vec<(Request, PreviewSender)>,
    pub loads: Vec<(LoadRequest, Sender<LoadEvent>, Cancel)>,
    pub asks: Vec<(Request, Sender<AnswerEvent>, Cancel)>,
}

/// The script, held by the test and by the window.
#[derive(Clone, Default)]
pub struct Played(pub Rc<RefCell<Script>>);

impl Backend for Played {
    fn load(&mut self, request: LoadRequest) -> Load {
        let (sender, events) = channel();
        let cancel = Cancel::default();
        self.0.borrow_mut().loads.push((request, sender, cancel.clone()));
        Load { events, cancel }
    }

    fn ask(&mut self, request: Request) -> Answer {
        let (sender, events) = channel();
        let cancel = Cancel::default();
        self.0.borrow_mut().asks.push((request, sender, cancel.clone()));
        Answer { events, cancel }
    }

    fn preview(&mut self, request: Request, _: Cancel) -> Receiver<Result<PromptPreview>> {
        let (sender, receiver) = channel();
        self.0.borrow_mut().previews.push((request, sender));
        receiver
    }

    fn unload(&mut self) {}

    fn set_profiling(&mut self, _: bool) -> Receiver<Result<()>> {
        channel().1
    }

    fn profile(&mut self) -> Receiver<Result<ocelli::gpu::ProfileReport>> {
        channel().1
    }

    fn ceilings(&mut self) -> Receiver<Result<ocelli::gpu::Ceilings>> {
        channel().1
    }
}

/// A window and the engine it believes in.
pub struct Window {
    pub harness: Harness<'static, WindowApp>,
    pub engine: Played,
    /// Something asked for a frame.
    pub repaint: Receiver<()>,
}

impl Window {
    pub fn open() -> Self {
        Self::open_with(Places::default(), Preferences::default())
    }

    /// A window that keeps its conversations in this folder.
    pub fn open_in(folder: &Path) -> Self {
        Self::open_with(Places::find(Some(folder)).unwrap(), Preferences::default())
    }

    pub fn open_with(places: Places, preferences: Preferences) -> Self {
        let language = preferences.language.or(Some(Language::English));
        let preferences = Preferences { language, ..preferences };
        let engine = Played::default();
        let backend = Box::new(engine.clone());
        let harness = Harness::builder().with_size(egui::vec2(1000.0, 900.0)).with_max_steps(8).build_eframe(
            move |creation| {
                let state = State::new(4096, None);
                let ctx = &creation.egui_ctx;
                WindowApp::new(ctx, backend, "test adapter".into(), state, places, preferences).unwrap()
            },
        );
        let (asked, repaint) = channel();
        harness.ctx.set_request_repaint_callback(move |_| {
            let _ = asked.send(());
        });
        Self { harness, engine, repaint }
    }

    /// A window with a model.
    pub fn ready() -> Self {
        Self::open().with_model()
    }

    pub fn with_model(self) -> Self {
        let mut window = self;
        window.harness.state_mut().open_model("/models/tiny".into());
        window.engine.0.borrow().loads[0].1.send(LoadEvent::Loaded(Box::new(info()))).unwrap();
        window.run();
        window
    }

    pub fn run(&mut self) {
        self.harness.run();
    }

    pub fn see(&self, text: &str) -> bool {
        self.harness.query_all_by_label_contains(text).next().is_some()
    }

    pub fn click(&mut self, label: &str) {
        self.harness.get_by_label(label).click();
        self.run();
    }

    pub fn type_text(&mut self, text: &str) {
        self.harness.event(Event::Text(text.into()));
        self.run();
    }

    pub fn press_enter(&mut self) {
        self.harness.key_press(Key::Enter);
        self.run();
    }

    pub fn say(&mut self, event: AnswerEvent) {
        self.engine.0.borrow().asks.last().unwrap().1.send(event).unwrap();
        self.run();
    }

    pub fn asked(&self) -> usize {
        self.engine.0.borrow().asks.len()
    }

    pub fn draft(&self) -> &str {
        &self.state().chat.draft.text
    }

    pub fn state(&self) -> &State {
        &self.harness.state().state
    }

    /// The texts of the messages shown.
    pub fn shown(&self) -> Vec<String> {
        self.state().chat.shown().map(|entry| entry.text.clone()).collect()
    }

    /// Asks and has it answered.
    pub fn exchange(&mut self, question: &str, answer: &str) {
        self.type_text(question);
        self.press_enter();
        self.say(summary(answer, StopReason::End));
    }

    pub fn press(&mut self, modifiers: Modifiers, key: Key) {
        self.harness.key_press_modifiers(modifiers, key);
        self.run();
    }

    /// Clicks the last one of that name.
    pub fn click_last(&mut self, label: &str) {
        self.harness.get_all_by_label(label).last().unwrap().click();
        self.run();
    }

    /// Draws until `done`, as the pictures' thread needs its time.
    pub fn wait_until(&mut self, done: impl Fn(&State) -> bool) {
        self.wait_for(|app| done(&app.state));
    }

    /// Draws until `done`.
    pub fn wait_for(&mut self, done: impl Fn(&WindowApp) -> bool) {
        let start = Instant::now();
        while !done(self.harness.state()) {
            assert!(start.elapsed() < Duration::from_secs(20), "the window waits for ever");
            // A request that finds one pending is not told of: look now and then.
            let _ = self.repaint.recv_timeout(Duration::from_millis(50));
            self.harness.step();
        }
        self.run();
    }
}

/// The demo model's.
pub fn tokenizer() -> Arc<Tokenizer> {
    static READ: OnceLock<Arc<Tokenizer>> = OnceLock::new();
    READ.get_or_init(|| Arc::new(Tokenizer::from_folder(builtin::folder()).unwrap())).clone()
}

pub fn info() -> ModelInfo {
    ModelInfo {
        name: "tiny".into(),
        folder: "/models/tiny".into(),
        recipe: Recipe::Int8Hu,
        context: 4096,
        load_secs: 0.5,
        measured_bytes: 1_600_000,
        memory: MemoryPlan {
            weights_bytes: 1_000_000,
            kv_bytes: 500_000,
            working_bytes: 100_000,
            passing_bytes: 50_000,
            context: 4096,
        },
        defaults: GenerationDefaults::default(),
        image_tokens: (4, 1024),
        takes_pictures: true,
        notes: Vec::new(),
        takes_clips: false,
        weights_bytes_per_step: 1_000_000,
        kv_bytes_per_token: 100,
        adapter: "a test".into(),
        has_timestamps: true,
        tokenizer: tokenizer(),
        preprocessors: Preprocessors {
            image: PreprocessorConfig {
                patch_size: 16,
                temporal_patch_size: 2,
                merge_size: 2,
                min_pixels: 4 * 1024,
                max_pixels: 1024 * 1024,
            },
            video: None,
        },
    }
}

pub fn token(text: &str) -> AnswerEvent {
    let record =
        TokenRecord { id: 1, logprob: -0.5, index: 0, rank: 0, entropy: 1.0, alternatives: Vec::new() };
    let (times, arrived) = (StepTimes::default(), Instant::now());
    AnswerEvent::Token(Box::new(TokenEvent {
        text: text.into(),
        record,
        times,
        decoded_ns: clock::ns_at(arrived),
        bytes: 0,
        disturbance: Disturbance::default(),
        ends_prefill: false,
        batch: 1,
        drafted: false,
        arrived,
    }))
}

pub fn summary(text: &str, reason: StopReason) -> AnswerEvent {
    AnswerEvent::Finished(Box::new(Summary {
        reason,
        text: text.into(),
        ids: vec![1; 3],
        drafted_tokens: 0,
        accepted_tokens: 0,
        prompt_tokens: 1234,
        reused_tokens: 34,
        vision_secs: 0.25,
        prefill_secs: 2.0,
        ttft_secs: 2.5,
        decode_secs: 1.0,
    }))
}

/// A picture file in a folder that goes away with the test.
pub fn picture_file() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cat.png");
    image::RgbImage::from_pixel(40, 30, image::Rgb([200, 120, 40])).save(&path).unwrap();
    (folder, path)
}
