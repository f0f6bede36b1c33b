//! The window without a screen: a person types, clicks and drops; scripted events play the engine.

#![expect(clippy::unwrap_used, reason = "a test's helpers say: this must be so")]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use egui::{ColorImage, Event, ImeEvent, Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use ocelli::app::{Backend, PictureState, State, WindowApp};
use ocelli::chat::message::Role;
use ocelli::engine::{
    Answer, AnswerEvent, Cancel, Load, LoadEvent, LoadRequest, ModelInfo, PictureReport, Request, StopReason,
    Summary, TokenEvent,
};
use ocelli::error::Error;
use ocelli::gpu::StepTimes;
use ocelli::model::config::GenerationDefaults;
use ocelli::model::loaded::MemoryPlan;
use ocelli::model::recipe::Recipe;
use ocelli::model::sampler::TokenRecord;

#[derive(Default)]
struct Script {
    loads: Vec<(LoadRequest, Sender<LoadEvent>, Cancel)>,
    asks: Vec<(Request, Sender<AnswerEvent>, Cancel)>,
}

/// The script, held by the test and by the window.
#[derive(Clone, Default)]
struct Played(Rc<RefCell<Script>>);

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

    fn unload(&mut self) {}
}

/// A window and the engine it believes in.
struct Window {
    harness: Harness<'static, WindowApp>,
    engine: Played,
    /// Something asked for a frame.
    repaint: Receiver<()>,
}

impl Window {
    fn open() -> Self {
        let engine = Played::default();
        let backend = Box::new(engine.clone());
        let harness = Harness::builder().with_size(egui::vec2(1000.0, 700.0)).with_max_steps(8).build_eframe(
            move |creation| {
                let state = State::new(4096, None);
                WindowApp::new(&creation.egui_ctx, backend, "test adapter".into(), state).unwrap()
            },
        );
        let (asked, repaint) = channel();
        harness.ctx.set_request_repaint_callback(move |_| {
            let _ = asked.send(());
        });
        Self { harness, engine, repaint }
    }

    /// A window with a model.
    fn ready() -> Self {
        let mut window = Self::open();
        window.harness.state_mut().open_model("/models/tiny".into());
        window.engine.0.borrow().loads[0].1.send(LoadEvent::Loaded(Box::new(info()))).unwrap();
        window.run();
        window
    }

    fn run(&mut self) {
        self.harness.run();
    }

    fn see(&self, text: &str) -> bool {
        self.harness.query_all_by_label_contains(text).next().is_some()
    }

    fn click(&mut self, label: &str) {
        self.harness.get_by_label(label).click();
        self.run();
    }

    fn type_text(&mut self, text: &str) {
        self.harness.event(Event::Text(text.into()));
        self.run();
    }

    fn press_enter(&mut self) {
        self.harness.key_press(Key::Enter);
        self.run();
    }

    fn say(&mut self, event: AnswerEvent) {
        self.engine.0.borrow().asks.last().unwrap().1.send(event).unwrap();
        self.run();
    }

    fn asked(&self) -> usize {
        self.engine.0.borrow().asks.len()
    }

    fn draft(&self) -> &str {
        &self.harness.state().state.draft.text
    }

    /// Draws until `done`, as the pictures' thread needs its time.
    fn wait_until(&mut self, done: impl Fn(&State) -> bool) {
        let start = Instant::now();
        while !done(&self.harness.state().state) {
            assert!(start.elapsed() < Duration::from_secs(20), "the window waits for ever");
            // A request that finds one pending is not told of: look now and then.
            let _ = self.repaint.recv_timeout(Duration::from_millis(50));
            self.harness.step();
        }
        self.run();
    }
}

fn info() -> ModelInfo {
    ModelInfo {
        name: "tiny".into(),
        folder: "/models/tiny".into(),
        recipe: Recipe::Int8Hu,
        context: 4096,
        load_secs: 0.5,
        memory: MemoryPlan { weights_bytes: 1_000_000, kv_bytes: 500_000, context: 4096 },
        defaults: GenerationDefaults::default(),
        image_tokens: (4, 1024),
        takes_clips: false,
    }
}

fn token(text: &str) -> AnswerEvent {
    let record =
        TokenRecord { id: 1, logprob: -0.5, index: 0, rank: 0, entropy: 1.0, alternatives: Vec::new() };
    let (times, arrived) = (StepTimes::default(), Instant::now());
    AnswerEvent::Token(Box::new(TokenEvent { text: text.into(), record, times, batch: 1, arrived }))
}

fn summary(text: &str, reason: StopReason) -> AnswerEvent {
    AnswerEvent::Finished(Box::new(Summary {
        reason,
        text: text.into(),
        ids: vec![1; 3],
        prompt_tokens: 1234,
        reused_tokens: 34,
        vision_secs: 0.25,
        prefill_secs: 2.0,
        ttft_secs: 2.5,
        decode_secs: 1.0,
    }))
}

/// A picture file in a folder that goes away with the test.
fn picture_file() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cat.png");
    image::RgbImage::from_pixel(40, 30, image::Rgb([200, 120, 40])).save(&path).unwrap();
    (folder, path)
}

#[test]
fn an_empty_window_says_what_to_do_and_sends_nothing() {
    let mut window = Window::open();
    window.run();
    assert!(window.see("Open a model to begin"));
    window.type_text("hello");
    window.press_enter();
    assert_eq!(window.asked(), 0);
    assert_eq!(window.draft(), "hello");
    assert!(window.see("Open a model first."));
}

#[test]
fn loading_shows_how_far_it_is_and_can_be_cancelled() {
    let mut window = Window::open();
    window.harness.state_mut().open_model("/models/tiny".into());
    window.engine.0.borrow().loads[0]
        .1
        .send(LoadEvent::Uploading { done_bytes: 300_000_000, total_bytes: 2_000_000_000 })
        .unwrap();
    window.run();
    assert!(
        window.harness.query_all_by_value("Loading 300 MB of 2.00 GB").next().is_some()
            || window.see("300 MB of 2.00 GB")
    );
    window.click("Cancel");
    assert!(window.engine.0.borrow().loads[0].2.is_cancelled());
}

#[test]
fn typing_and_enter_send_the_question_and_tokens_appear_as_they_come() {
    let mut window = Window::ready();
    window.type_text("What is it?");
    window.press_enter();
    assert_eq!(window.asked(), 1);
    {
        let script = window.engine.0.borrow();
        let messages = &script.asks[0].0.messages;
        assert_eq!(messages.len(), 1);
        assert_eq!((messages[0].role, messages[0].plain_text()), (Role::User, "What is it?".to_owned()));
    }
    assert_eq!(window.draft(), "");
    window.say(AnswerEvent::Prefill { done: 100, total: 400, reused: 64 });
    assert!(window.see("Reading the prompt: 100 of 400 tokens, 64 reused"));
    window.say(AnswerEvent::Vision { index: 0, done: 3, total: 24 });
    assert!(window.see("block 3 of 24"));
    window.say(token("A small"));
    assert!(window.see("A small"));
    window.say(token(" cat."));
    assert!(window.see("A small cat."));
    assert!(window.see("Writing: 2 tokens"));
    window.say(summary("A small cat.", StopReason::End));
    assert!(window.see("3 tokens · 2.0 tok/s · first token after 2.50 s · prompt of 1,234 tokens, 34 reused, 600 tok/s · pictures 0.25 s"));
    window.type_text("Sure?");
    window.click("Send");
    assert_eq!(window.engine.0.borrow().asks[1].0.messages.len(), 3);
}

#[test]
fn shift_enter_starts_a_new_line() {
    let mut window = Window::ready();
    window.type_text("one");
    window.harness.key_press_modifiers(Modifiers::SHIFT, Key::Enter);
    window.run();
    window.type_text("two");
    assert_eq!(window.draft(), "one\ntwo");
    assert_eq!(window.asked(), 0);
}

#[test]
fn enter_that_ends_a_composed_word_does_not_send() {
    let mut window = Window::ready();
    let preedit = |text: &str| Event::Ime(ImeEvent::Preedit { text: text.into(), active_range_chars: None });
    window.harness.event(preedit("neko"));
    window.run();
    window.press_enter();
    assert_eq!(window.asked(), 0);
    window.harness.event(Event::Ime(ImeEvent::Commit("cat".into())));
    window.run();
    assert_eq!(window.draft(), "cat");
    assert_eq!(window.asked(), 0);
    window.press_enter();
    assert_eq!(window.asked(), 1);
}

#[test]
fn stop_cancels_and_keeps_what_came() {
    let mut window = Window::ready();
    window.type_text("Tell a long story");
    window.press_enter();
    window.say(token("Once upon"));
    window.click("Stop");
    assert!(window.engine.0.borrow().asks[0].2.is_cancelled());
    assert!(window.see("Stopping…"));
    window.say(summary("Once upon", StopReason::Cancelled));
    assert!(window.see("Once upon"));
    assert!(window.see("stopped · 3 tokens"));
    assert!(window.harness.query_by_label("Stop").is_none());
}

#[test]
fn an_error_is_shown_and_the_question_is_there_to_send_again() {
    let mut window = Window::ready();
    window.type_text("What is it?");
    window.press_enter();
    window.say(AnswerEvent::Failed(Error::new(
        "answering",
        "the prompt has 9000 tokens and the context holds 4096",
    )));
    assert!(window.see("the context holds 4096"));
    assert_eq!(window.draft(), "What is it?");
    window.click("Close");
    assert!(!window.see("the context holds 4096"));
    window.press_enter();
    assert_eq!(window.asked(), 2);
}

#[test]
fn pictures_are_read_shown_sent_and_can_be_removed() {
    let mut window = Window::ready();
    let (_folder, path) = picture_file();
    window.harness.state_mut().add_pictures(vec![path.clone(), path, "/no/such/dog.png".into()]);
    window.wait_until(|state| state.draft.pictures.iter().all(|p| !matches!(p.state, PictureState::Reading)));
    assert!(window.see("40×30"));
    assert!(window.see("cannot be read"));
    window.press_enter();
    assert_eq!(window.asked(), 0);
    assert!(window.see("remove the picture, then send again"));
    window.click("Remove dog.png");
    window.harness.get_all_by_label("Remove cat.png").next().unwrap().click();
    window.run();
    window.type_text("What is it?");
    window.press_enter();
    assert_eq!(window.engine.0.borrow().asks[0].0.messages[0].images().count(), 1);
    let report = PictureReport {
        index: 0,
        is_clip: false,
        resized: (64, 64),
        grid: [1, 4, 4],
        tokens: 4,
        vision_secs: None,
    };
    window.say(AnswerEvent::Picture(report));
    assert!(window.see("seen at 64×64, 4 tokens, reused, 0 s"));
}

#[test]
fn a_pasted_picture_is_added() {
    let mut window = Window::ready();
    let pixels = ColorImage::from_rgb([5, 4], &[90; 60]);
    window.harness.event(Event::PasteImage(Arc::new(pixels)));
    window.run();
    window.wait_until(
        |state| matches!(state.draft.pictures[..], [ref p] if matches!(p.state, PictureState::Ready(5, 4))),
    );
    assert!(window.see("pasted picture"));
}

#[derive(Debug)]
struct Dropped(std::path::PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &std::path::Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("nobody reads it here".into())
    }
}

#[test]
fn a_dropped_picture_is_added_and_a_dropped_folder_is_a_model() {
    let mut window = Window::ready();
    let (folder, path) = picture_file();
    window.harness.input_mut().hovered_files =
        vec![egui::HoveredFile { path: Some(path.clone()), ..Default::default() }];
    window.harness.run_steps(2);
    window.harness.input_mut().hovered_files.clear();
    for path in [path, folder.path().to_path_buf()] {
        window.harness.input_mut().dropped_files = vec![Arc::new(Dropped(path))];
        window.run();
    }
    window.wait_until(|state| {
        state.draft.pictures.len() == 1 && state.last_folder.as_deref() == Some(folder.path())
    });
    assert_eq!(window.engine.0.borrow().loads.len(), 2);
}

#[test]
fn enter_in_the_instructions_is_a_new_line() {
    let mut window = Window::ready();
    window.click("Settings");
    window.harness.get_by_role_and_label(egui::Role::MultilineTextInput, "Instructions").focus();
    window.run();
    window.type_text("Be");
    window.press_enter();
    window.type_text("brief.");
    assert_eq!(window.harness.state().state.settings.system_prompt, "Be\nbrief.");
}

#[test]
fn the_settings_have_names_and_work() {
    let mut window = Window::ready();
    window.click("Settings");
    window.run();
    window.click("Sample");
    assert!(!window.harness.state().state.settings.greedy);
    window.click("Use the model's own settings");
    assert!(window.harness.state().state.settings.greedy);
    window.click("Light");
    assert!(!window.harness.ctx.global_style().visuals.dark_mode);
    // Every widget a person can act on has a name; the harness checks it after each run.
    assert_eq!(window.harness.unnamed_widgets(), Vec::<String>::new());
}

#[test]
fn a_new_chat_forgets_the_conversation_and_keeps_the_model() {
    let mut window = Window::ready();
    window.type_text("one");
    window.press_enter();
    window.say(summary("1", StopReason::End));
    window.click("New chat");
    assert!(window.see("Ask about pictures"));
    window.type_text("two");
    window.press_enter();
    assert_eq!(window.engine.0.borrow().asks[1].0.messages.len(), 1);
}
