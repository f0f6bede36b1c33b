//! The pictures in `docs/screenshots`: the window on the real engine with the demo model. `packaging/screenshots.sh` draws
//! them anew. This is no test of what they show: a person is to look at them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use egui::{Event, Key, Modifiers, Theme};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use image::ImageEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use ocelli::app::models::Models;
use ocelli::app::texts::{Language, set_language};
use ocelli::app::{
    AnswerDetails, Draft, ModelState, Outcome, Places, Preferences, Sample, State, WindowApp, details,
};
use ocelli::costs::colour::Metric;
use ocelli::costs::write::Plot;
use ocelli::engine::Engine;
use ocelli::model::builtin;
use ocelli::model::memory::Room;

use crate::hub::pulling;
use crate::hub::server::{COMMIT, Hub};
use crate::support::gpu;

/// Text that needs more than the letters of English.
const LANGUAGES: &str = "Grüße, ¿qué tal?, Příliš žluťoučký kůň, Ελληνικά, Русский язык — 中文字符和标点，日本語のテキスト、한국어 문장.\n\n\
    Emoji: 🙂 🚀 🐈 ❤ ✅ 👩‍🚀 🇩🇪. Combining marks: é ñ ô ȩ̃ Z̃. Signs: ← → ⏎ ≤ ∑ √ ½ … „so“ – so.\n\n\
    Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft\u{200b}Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz";

/// A comparison with boxes, something that fails, and a column that cannot be answered.
const BOXES: &str = r#"
title = "Wo ist der Stern? 星はどこですか"
[shared]
prompt = "Give the box of the {{thing}}."
pictures = ["sample:shapes.png"]
temperature = 0.0
max_tokens = 64
[[columns]]
name = "klein 小"
picture_size = 96
[[columns]]
name = "groß 大"
picture_size = 384
reference = "A star."
[[columns]]
name = "ohne Bild"
pictures = ["fehlt.png"]
[variables]
thing = ["blue star", "green triangle"]
[[assertions]]
name = "Box des Sterns"
box = [420, 480, 620, 880]
"#;

/// A picture as a file that is as small as may be. What a window draws is opaque.
pub fn small_png(picture: image::RgbaImage) -> Vec<u8> {
    let picture = image::DynamicImage::from(picture).to_rgb8();
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Best, FilterType::Adaptive)
        .write_image(&picture, picture.width(), picture.height(), image::ExtendedColorType::Rgb8)
        .unwrap();
    png
}

/// The window, its engine, and where its pictures go.
pub(crate) struct Stage {
    pub harness: Harness<'static, WindowApp>,
    woken: Receiver<()>,
    to: PathBuf,
}

impl Stage {
    pub fn open() -> Self {
        Self::open_in(Places::default())
    }

    /// With conversations and comparisons kept there.
    pub fn open_in(places: Places) -> Self {
        let (wake, woken) = mpsc::channel();
        let wake = Arc::new(move || {
            let _ = wake.send(());
        });
        let engine = Engine::start(gpu(), wake).unwrap();
        // No fonts but those in the program: the pictures are the same on every system.
        let harness = Harness::builder().with_size(egui::vec2(1280.0, 800.0)).allow_missing_glyphs();
        let harness = harness.with_render_cursor(false).with_max_steps(8).build_eframe(move |creation| {
            let state = State::new(2048, None);
            let preferences = Preferences { language: Some(Language::English), ..Preferences::default() };
            let ctx = &creation.egui_ctx;
            WindowApp::new(ctx, Box::new(engine), "this device".into(), state, places, preferences).unwrap()
        });
        let to = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/screenshots");
        fs::create_dir_all(&to).unwrap();
        let mut stage = Self { harness, woken, to };
        stage.theme(Theme::Light);
        stage.harness.state_mut().open_model(builtin::NAME.into());
        stage.wait_until("the model", |state| matches!(state.model, ModelState::Ready(_)));
        stage
    }

    pub fn state(&self) -> &State {
        &self.harness.state().state
    }

    /// Draws until `done`.
    pub fn wait_until(&mut self, what: &str, done: impl Fn(&State) -> bool) {
        let start = Instant::now();
        while !done(&self.harness.state().state) {
            assert!(start.elapsed() < Duration::from_mins(2), "the window waits for ever: {what}");
            self.wait_a_little();
        }
        self.harness.run_steps(3);
    }

    /// Draws once more, after what other threads may be doing.
    pub fn wait_a_little(&mut self) {
        let _ = self.woken.recv_timeout(Duration::from_millis(20));
        self.harness.step();
    }

    /// Draws until something of this name is there.
    pub fn wait_for_label(&mut self, label: &str) {
        let start = Instant::now();
        while self.harness.query_all_by_label(label).next().is_none() {
            assert!(start.elapsed() < Duration::from_mins(2), "the window waits for ever: {label}");
            self.wait_a_little();
        }
    }

    pub fn theme(&mut self, theme: Theme) {
        self.harness.ctx.set_theme(theme);
        self.harness.run_steps(3);
    }

    pub fn press(&mut self, modifiers: Modifiers, key: Key) {
        self.harness.key_press_modifiers(modifiers, key);
        self.harness.run_steps(3);
    }

    pub fn type_text(&mut self, text: &str) {
        self.harness.event(Event::Text(text.into()));
        self.harness.run_steps(3);
    }

    /// Clicks the last one of that name, without a pointer: nothing stays pointed at.
    #[track_caller]
    pub fn click(&mut self, label: &str) {
        self.harness.get_all_by_label(label).last().unwrap().click_accesskit();
        self.harness.run_steps(3);
    }

    fn wait_for_answer(&mut self) {
        self.wait_until("an answer", |state| {
            state.progress().is_none()
                && state.chat.last().is_some_and(|last| details::<AnswerDetails>(last).figures.is_some())
        });
    }

    /// A new chat about a sample picture.
    pub fn ask_sample(&mut self, sample: &Sample, question: &str) {
        self.press(Modifiers::COMMAND, Key::N);
        self.click(&format!("Sample: {}", sample.title));
        self.wait_until("a picture", |state| !state.chat.draft.is_empty() && !state.chat.draft.is_reading());
        self.click(question);
        self.wait_for_answer();
    }

    fn ask(&mut self, question: &str) {
        self.type_text(question);
        self.press(Modifiers::NONE, Key::Enter);
        self.wait_for_answer();
    }

    /// Draws the window into a file, small.
    pub fn shoot(&mut self, name: &str) {
        for _ in 0..10 {
            self.wait_a_little();
        }
        let picture = self.harness.render().unwrap();
        fs::write(self.to.join(name).with_extension("png"), small_png(picture)).unwrap();
    }

    /// The models window: a checkpoint of the true size that is there (its weights are a hole), and a download under way from a hub of the
    /// tests.
    fn models(&mut self, home: &Path) {
        let hub = Hub::with_model(&[120]);
        hub.speed.store(3_000_000, Ordering::Relaxed);
        let library = pulling::library(home);
        let folder = library.hub_cache.join("models--Qwen--Qwen3-VL-2B-Instruct/snapshots").join(COMMIT);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), r#"{"model_type": "qwen3_vl"}"#).unwrap();
        fs::File::create(folder.join("model.safetensors")).unwrap().set_len(4_255_000_000).unwrap();
        // What is shown is where it would come from and go to; what comes, comes from the tests' hub.
        let download = pulling::settings(&hub, home);
        let mut shown = download.clone();
        "https://huggingface.co".clone_into(&mut shown.endpoint);
        shown.cache = "~/.cache/huggingface/hub".into();
        let room = Some(Room { of_bytes: 12_000_000_000, ..Room::limited(10_800_000_000) });
        let places = |settings| Models::in_places(Ok((library.clone(), settings)), room, Arc::new(|| ()));
        self.harness.state_mut().models = places(download);
        self.press(Modifiers::COMMAND, Key::M);
        self.harness.get_all_by_label("Any other repository:").last().unwrap().focus();
        self.harness.run_steps(2);
        self.type_text("someone/small-qwen3-vl");
        self.click("Download this repository");
        let start = Instant::now();
        while self.harness.state().models.pulling().is_none_or(|progress| progress.left_secs.is_none()) {
            assert!(start.elapsed() < Duration::from_mins(1));
            self.wait_a_little();
        }
        let tasks = std::mem::take(&mut self.harness.state_mut().models.tasks);
        self.harness.state_mut().models = places(shown.clone());
        self.harness.state_mut().models.tasks = tasks;
        self.harness.state_mut().models.look();
        self.shoot("models");
        self.theme(Theme::Dark);
        set_language(&self.harness.ctx, Language::German);
        self.shoot_fine("models-german-fine");
        set_language(&self.harness.ctx, Language::English);
        self.theme(Theme::Light);
        self.press(Modifiers::NONE, Key::Escape);
        let nothing = pulling::library(&home.join("nothing"));
        self.harness.state_mut().models = Models::in_places(Ok((nothing, shown)), room, Arc::new(|| ()));
        self.harness.run_steps(3);
        self.shoot("welcome");
        self.shoot_fine("welcome-fine");
    }

    /// From now on, the screen has so many pixels per point.
    fn screen_of(&mut self, scale: f32) {
        let viewport = self.harness.input_mut().viewports.get_mut(&egui::ViewportId::ROOT).unwrap();
        viewport.native_pixels_per_point = Some(scale);
        self.harness.run_steps(3);
    }

    /// The same at two pixels per point.
    pub fn shoot_fine(&mut self, name: &str) {
        self.screen_of(2.0);
        self.shoot(name);
        self.screen_of(1.0);
    }
}

/// Sample pictures as files, eight of them.
fn eight_pictures(folder: &Path, samples: &[Sample]) -> Vec<PathBuf> {
    let one = |(place, sample): (usize, &Sample)| {
        let path = folder.join(format!("{}-{}", place + 1, sample.file));
        fs::write(&path, sample.bytes().unwrap()).unwrap();
        path
    };
    samples.iter().cycle().take(8).enumerate().map(one).collect()
}

/// The example comparison: run, with differences; then as it is written.
fn comparison(stage: &mut Stage) {
    stage.harness.state_mut().show_comparison();
    stage.harness.state_mut().run_comparison();
    stage.wait_until("the comparison", |state| {
        state.comparing.as_ref().is_some_and(|c| c.plan.is_some() && !c.is_busy())
    });
    let looking = |stage: &mut Stage, hide: bool| {
        if let Some(comparing) = &mut stage.harness.state_mut().state.comparing {
            (comparing.looking.hide_editor, comparing.looking.against) = (hide, Some(0));
        }
        stage.harness.run_steps(3);
    };
    looking(stage, true);
    stage.shoot("comparison");
    stage.click("What each token cost, the columns beside each other");
    stage.shoot("comparison-costs");
    stage.click("Close");
    stage.theme(Theme::Dark);
    stage.shoot_fine("comparison-fine");
    looking(stage, false);
    stage.shoot("comparison-fields");
    stage.theme(Theme::Light);
    let boxes = ocelli::compare::Comparison::parse(BOXES).unwrap();
    if let Some(comparing) = &mut stage.harness.state_mut().state.comparing {
        comparing.replace(boxes, None);
    }
    stage.harness.state_mut().run_comparison();
    stage.wait_until("the boxes", |state| {
        state.comparing.as_ref().is_some_and(|c| c.results.len() == 6 && !c.is_busy())
    });
    looking(stage, true);
    set_language(&stage.harness.ctx, Language::German);
    stage.shoot("comparison-boxes-german");
    set_language(&stage.harness.ctx, Language::English);
    stage.harness.state_mut().state.shows_comparison = false;
    stage.harness.run_steps(3);
}

/// What every token cost: colours, lanes, plots.
fn costs(stage: &mut Stage) {
    let samples = Sample::all().unwrap();
    let sample = |file: &str| samples.iter().find(|sample| sample.file == file).unwrap();
    stage.ask_sample(sample("shapes.png"), "Give the box of the blue star.");
    stage.ask("Give the box of the green triangle.");
    stage.harness.state_mut().preferences.colour_by = Some(Metric::Probability);
    stage.press(Modifiers::COMMAND, Key::J);
    stage.harness.get_all_by_label_contains("Timeline of").last().unwrap().focus();
    stage.harness.run_steps(2);
    for _ in 0..4 {
        stage.press(Modifiers::NONE, Key::ArrowRight);
    }
    stage.shoot("costs");
    stage.theme(Theme::Dark);
    for key in [Key::W, Key::W, Key::W] {
        stage.press(Modifiers::NONE, key);
    }
    for _ in 0..6 {
        stage.press(Modifiers::SHIFT, Key::ArrowRight);
    }
    stage.shoot_fine("costs-fine");
    stage.click("Plots");
    stage.shoot("costs-plots");
    stage.theme(Theme::Light);
    stage.harness.state_mut().choose_plot(Plot::Parts);
    set_language(&stage.harness.ctx, Language::German);
    stage.shoot("costs-parts-german");
    set_language(&stage.harness.ctx, Language::English);

    stage.harness.run_steps(2);
    stage.click("Inside");
    stage.wait_until("a look inside", |state| {
        state.looking.as_ref().is_some_and(|looking| matches!(looking.outcome, Outcome::There(_)))
    });
    stage.shoot("costs-inside");

    stage.click("Kernels");
    stage.click("Profile mode");
    stage.wait_until("profile mode", |state| state.profiling.is_on);
    stage.harness.get_by_label("Question").focus();
    stage.harness.run_steps(2);
    stage.ask("Give the box of the blue star.");
    stage.wait_until("a profile", |state| {
        state
            .profiling
            .report
            .as_ref()
            .is_some_and(|report| report.parts.iter().any(|part| part.part == "decode"))
    });
    stage.theme(Theme::Dark);
    stage.shoot_fine("costs-kernels");
    stage.theme(Theme::Light);
    stage.click("Profile mode");
}

#[test]
#[ignore = "draws the pictures of costs in docs/screenshots"]
fn costs_screenshots() {
    costs(&mut Stage::open());
}

#[test]
#[ignore = "draws the pictures of comparisons in docs/screenshots"]
fn comparison_screenshots() {
    comparison(&mut Stage::open());
}

#[test]
#[ignore = "draws the pictures in docs/screenshots"]
fn screenshots() {
    let samples = Sample::all().unwrap();
    let sample = |file: &str| samples.iter().find(|sample| sample.file == file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open();
    stage.models(folder.path());

    for (file, question) in [
        ("letter.png", "What letter is this?"),
        ("count.png", "How many hearts are there?"),
        ("inside.png", "What is inside the square?"),
        ("cross.png", "What is this?"),
    ] {
        stage.ask_sample(sample(file), question);
    }
    stage.theme(Theme::Dark);
    stage.ask_sample(sample("shapes.png"), "Give the box of the blue star.");
    stage.shoot("boxes");
    stage.shoot_fine("boxes-fine");

    stage.click("Enlarge shapes.png");
    stage.wait_for_label("As the model saw it");
    stage.click("As the model saw it");
    stage.click("Tokens");
    stage.shoot("large-view");
    stage.press(Modifiers::NONE, Key::Escape);

    stage.theme(Theme::Light);
    stage.press(Modifiers::COMMAND, Key::F);
    stage.type_text("star");
    stage.wait_until("what was found", |state| !state.search.hits.is_empty());
    stage.shoot("search");
    stage.press(Modifiers::NONE, Key::Escape);

    stage.ask_sample(sample("count.png"), "How many hearts are there?");
    stage.click("Change this question; the old one stays beside it");
    stage.press(Modifiers::COMMAND, Key::A);
    stage.type_text("How many things are there?");
    stage.click("Send");
    stage.wait_for_answer();
    stage.harness.get_by_label("Question").focus();
    stage.harness.run_steps(2);
    stage.ask("Is there a blue heart?");
    stage.click("Change this question; the old one stays beside it");
    stage.shoot("editing");
    stage.click("Cancel");

    stage.press(Modifiers::COMMAND, Key::K);
    stage.type_text("chat");
    stage.shoot("palette");
    stage.press(Modifiers::NONE, Key::Escape);

    stage.press(Modifiers::COMMAND, Key::P);
    stage.wait_for_label("Tokens");
    stage.click("Tokens");
    stage.shoot("prompt-tokens");
    stage.click("Close");

    stage.press(Modifiers::COMMAND, Key::Comma);
    set_language(&stage.harness.ctx, Language::German);
    stage.harness.run_steps(3);
    stage.shoot("settings-german");
    set_language(&stage.harness.ctx, Language::English);
    stage.press(Modifiers::COMMAND, Key::Comma);

    let file = folder.path().join("languages.json");
    let messages = serde_json::json!([
        {"role": "user", "content": LANGUAGES},
        {"role": "assistant", "content": format!("## Überschrift 标题 🚀\n\n{LANGUAGES}\n\n| Wort | 字 |\n|---|---|\n| größer | 大 |")},
    ]);
    fs::write(&file, messages.to_string()).unwrap();
    stage.harness.state_mut().import(file);
    stage.wait_until("the import", |state| {
        state.chat.shown().next().is_some_and(|first| first.text == LANGUAGES)
    });
    stage.harness.state_mut().state.notices.clear();

    stage.press(Modifiers::COMMAND, Key::N);
    let paths = eight_pictures(folder.path(), &samples);
    stage.harness.state_mut().add_pictures(paths);
    stage.wait_until("eight pictures", |state| {
        state.chat.draft.pictures.len() == 8 && !state.chat.draft.is_reading()
    });
    stage.type_text("Which of these pictures are alike?");
    stage.shoot("eight-pictures");

    comparison(&mut stage);

    stage.theme(Theme::Dark);
    stage.harness.state_mut().state.chat.draft = Draft::default();
    stage.harness.state_mut().add_pictures(vec!["/pictures/holiday.jpg".into()]);
    stage.wait_until("a bad picture", |state| !state.chat.draft.is_reading());
    stage.type_text("What is in this picture?");
    stage.press(Modifiers::NONE, Key::Enter);
    stage.harness.state_mut().open_model("/models/Qwen3-VL-2B-Instruct".into());
    stage
        .wait_until("two errors", |state| state.notices.iter().filter(|notice| notice.is_error).count() == 2);
    stage.shoot("errors");
    assert!(matches!(stage.state().model, ModelState::None));
}
