//! Long life: a seeded person who chats, sends pictures, stops, changes, branches, deletes, compares and changes models for as long as
//! is asked, in the window on the real engine, with the history on disk. Now and then everything is let come to rest and measured.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable;
use ocelli::app::comparing::Comparing;
use ocelli::app::{ModelState, Places, State};
use ocelli::chat::message::Role;
use ocelli::compare::Comparison;
use ocelli::model::builtin;
use ocelli::model::recipe::Recipe;

use crate::costs::processor_secs;
use crate::screenshots::Stage;
use crate::support::*;

/// What is measured when everything is at rest, with the demo model loaded.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "they are printed")]
struct Sample {
    minutes: f64,
    resident_mib: f64,
    buffers_mib: f64,
    reserved_mib: f64,
    files: usize,
    threads: usize,
    /// Of the same question each time.
    token_ms: f64,
    /// The processor's from that question to rest (prompt, tokens, the window's frames) for each token of the answer: what else the
    /// machine does hardly shows in it.
    processor_ms: f64,
}

const MIB: f64 = 1_048_576.0;

fn status(name: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

struct Person {
    stage: Stage,
    dice: Dice,
    pictures: Vec<PathBuf>,
    models: Vec<PathBuf>,
    begun: Instant,
    /// The actions there are.
    chosen: Vec<usize>,
    done: [u64; ACTIONS.len()],
    errors: Vec<String>,
}

const ACTIONS: [&str; 15] = [
    "asked",
    "asked of pictures",
    "waited",
    "stopped",
    "regenerated",
    "continued",
    "edited",
    "new chats",
    "chats changed",
    "chats deleted",
    "deletions undone",
    "models changed",
    "compared",
    "costs shown or hidden",
    "searched",
];
const QUESTIONS: [&str; 6] = [
    "What is on it?",
    "Where is the star?",
    "What can you do?",
    "How many circles are there?",
    "Und links davon?",
    "左边是什么？",
];
/// More chats than this are deleted.
const MOST_CHATS: usize = 12;

const COMPARISON: &str = r#"
[shared]
prompt = "What colour is the {{thing}}?"
pictures = ["sample:shapes.png"]
max_tokens = 16
[[columns]]
name = "plain"
[[columns]]
name = "sharp"
picture_size = 384
[variables]
thing = ["star", "circle", "square"]
"#;

fn is_at_rest(state: &State) -> bool {
    let compares = state.comparing.as_deref().is_some_and(Comparing::is_busy);
    !state.is_busy() && !compares && !matches!(state.model, ModelState::Loading(_))
}

impl Person {
    fn click(&mut self, label: &str) -> bool {
        let Some(found) = self.stage.harness.query_all_by_label(label).last() else { return false };
        found.click();
        self.stage.harness.run_steps(2);
        true
    }

    fn press(&mut self, modifiers: Modifiers, key: Key) {
        self.stage.harness.key_press_modifiers(modifiers, key);
        self.stage.harness.run_steps(2);
    }

    fn send(&mut self, question: &str) {
        question.clone_into(&mut self.stage.harness.state_mut().state.chat.draft.text);
        self.stage.harness.run_steps(1);
        self.click("Send");
    }

    fn a_moment(&mut self) {
        let until = Instant::now() + Duration::from_millis(self.dice.below(700));
        while Instant::now() < until {
            self.stage.wait_a_little();
        }
    }

    fn rest(&mut self) {
        self.stage.wait_until("rest", is_at_rest);
    }

    fn act(&mut self) {
        let ctrl_shift = Modifiers::COMMAND | Modifiers::SHIFT;
        let action = *self.dice.of(&self.chosen.clone());
        self.done[action] += 1;
        match action {
            0 => {
                let question = *self.dice.of(&QUESTIONS);
                self.send(question);
            }
            1 => {
                let files: Vec<PathBuf> =
                    (0..=self.dice.below(3)).map(|_| self.dice.of(&self.pictures).clone()).collect();
                self.stage.harness.state_mut().add_pictures(files);
                self.stage.wait_until("pictures", |state| !state.chat.draft.is_reading());
                let question = *self.dice.of(&QUESTIONS);
                self.send(question);
            }
            2 => self.rest(),
            3 => self.press(Modifiers::NONE, Key::Escape),
            4 => self.press(Modifiers::COMMAND, Key::R),
            5 => self.press(ctrl_shift, Key::Enter),
            6 => {
                self.press(Modifiers::NONE, Key::ArrowUp);
                if let Some(editing) = &mut self.stage.harness.state_mut().state.chat.editing {
                    editing.draft.text.push_str(" And why?");
                }
                self.press(Modifiers::NONE, Key::Enter);
            }
            7 => self.press(Modifiers::COMMAND, Key::N),
            8 => {
                let key = *self.dice.of(&[Key::PageUp, Key::PageDown]);
                self.press(Modifiers::COMMAND, key);
            }
            9 => self.press(ctrl_shift, Key::D),
            10 => self.press(ctrl_shift, Key::U),
            11 => {
                let model = self.dice.of(&self.models).clone();
                self.stage.harness.state_mut().open_model(model);
                if self.dice.below(3) > 0 {
                    self.rest();
                }
            }
            12 => self.compare(),
            13 => self.press(Modifiers::COMMAND, Key::J),
            _ => {
                self.stage.harness.state_mut().state.search.query = "star".into();
                self.stage.harness.run_steps(3);
                self.stage.harness.state_mut().state.search.query.clear();
            }
        }
        self.a_moment();
        while self.stage.state().list.len() > MOST_CHATS {
            let before = self.stage.state().list.len();
            self.press(Modifiers::COMMAND, Key::PageDown);
            self.press(ctrl_shift, Key::D);
            if self.stage.state().list.len() >= before {
                break;
            }
        }
        let notices = std::mem::take(&mut self.stage.harness.state_mut().state.notices);
        self.errors.extend(notices.into_iter().filter(|notice| notice.is_error).map(|notice| notice.text));
    }

    fn compare(&mut self) {
        self.rest();
        self.stage.harness.state_mut().show_comparison();
        let comparison = Comparison::parse(COMPARISON).unwrap();
        if let Some(comparing) = self.stage.harness.state_mut().state.comparing.as_deref_mut() {
            comparing.replace(comparison, None);
        }
        self.stage.harness.run_steps(2);
        self.stage.harness.state_mut().run_comparison();
        if self.dice.below(2) == 0 {
            self.stage.wait_until("the comparison", is_at_rest);
        } else {
            self.a_moment();
            self.click("Stop");
            self.rest();
        }
        self.press(Modifiers::COMMAND, Key::T);
    }

    fn sample(&mut self) -> Sample {
        self.press(Modifiers::NONE, Key::Escape);
        self.rest();
        self.stage.harness.state_mut().open_model(builtin::NAME.into());
        self.rest();
        self.press(Modifiers::COMMAND, Key::N);
        let used = processor_secs();
        self.send("What can you do?");
        self.rest();
        let used = processor_secs() - used;
        let answer = self.stage.state().chat.last().filter(|last| last.role == Role::Assistant);
        let figures =
            answer.and_then(|answer| ocelli::app::details::<ocelli::app::AnswerDetails>(answer).figures);
        let gpu = gpu();
        Sample {
            minutes: self.begun.elapsed().as_secs_f64() / 60.0,
            resident_mib: status("VmRSS") / 1024.0,
            buffers_mib: gpu.allocated_bytes() as f64 / MIB,
            reserved_mib: gpu.reserved_bytes().unwrap_or(0) as f64 / MIB,
            files: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            threads: status("Threads") as usize,
            token_ms: figures.map_or(0.0, |figures| 1e3 / figures.decode_tok_s()),
            processor_ms: figures.map_or(0.0, |figures| 1e3 * used / figures.new_tokens.max(1) as f64),
        }
    }
}

#[test]
#[ignore = "takes as long as OCELLI_SOAK_MINUTES says, an hour if it says nothing"]
fn soak() {
    let number =
        |name: &str, usual: f64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (minutes, seed) = (number("OCELLI_SOAK_MINUTES", 60.0), number("OCELLI_TEST_SEED", 60.0) as u64);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut dice = Dice(seed);
    let pictures = (0..6)
        .map(|n| {
            let (width, height) = (32 + dice.below(500) as u32, 32 + dice.below(400) as u32);
            let path = data.join(format!("picture-{n}.png"));
            let pixel = |x: u32, y: u32| image::Rgb([(x * 7 + n) as u8, (y * 3) as u8, (x ^ y) as u8]);
            image::RgbImage::from_fn(width, height, pixel).save(&path).unwrap();
            path
        })
        .collect();
    let models = vec![
        builtin::NAME.into(),
        converted("mono", Recipe::Int8Hu).folder().to_owned(),
        converted("ladder", Recipe::F16).folder().to_owned(),
    ];
    let mut person = Person {
        stage: Stage::open_in(Places::find(Some(data)).unwrap()),
        dice,
        pictures,
        models,
        begun: Instant::now(),
        // To look for what one of them leaves behind: `OCELLI_SOAK_ACTIONS=0,11`.
        chosen: std::env::var("OCELLI_SOAK_ACTIONS").map_or((0..ACTIONS.len()).collect(), |chosen| {
            chosen.split(',').map(|n| n.parse().unwrap()).collect()
        }),
        done: [0; ACTIONS.len()],
        errors: Vec::new(),
    };
    let end = person.begun + Duration::from_secs_f64(minutes * 60.0);
    let mut samples = Vec::new();
    let mut next_sample = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        person.act();
        if Instant::now() >= next_sample {
            let sample = person.sample();
            println!("{sample:.1?}");
            samples.push(sample);
            next_sample = Instant::now() + Duration::from_secs_f64((minutes * 1.5).clamp(5.0, 60.0));
        }
    }
    samples.push(person.sample());
    let done: Vec<String> = ACTIONS.iter().zip(person.done).map(|(what, n)| format!("{what} {n}")).collect();
    println!("seed {seed}: {}", done.join(", "));
    let mut errors = std::mem::take(&mut person.errors);
    errors.sort();
    let kinds = errors.chunk_by(|a, b| a == b).map(|same| (same.len(), same[0].clone())).collect::<Vec<_>>();
    println!("errors shown: {kinds:#?}");
    let bytes = fs::metadata(data.join("conversations.sqlite")).unwrap().len();
    let conversations = person.stage.state().list.len();
    drop(person);
    // Answers of chats that were deleted while they came in are told to have stopped when the history is opened next.
    drop(ocelli::chat::history::History::open(&data.join("conversations.sqlite")).unwrap());
    let database = rusqlite::Connection::open(data.join("conversations.sqlite")).unwrap();
    let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    let count = |query: &str| database.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    let foreign = count("SELECT count(*) FROM pragma_foreign_key_check");
    let streaming = count("SELECT count(*) FROM messages WHERE state = 'streaming'");
    println!("{conversations} conversations at the end, database of {:.1} MiB, {sound}", bytes as f64 / MIB);
    assert_eq!((sound.as_str(), foreign, streaming), ("ok", 0, 0));
    // What was there when the first quarter had passed, when every kind of thing had been done, is what there is at the end.
    let (first, last) = (samples[samples.len() / 4], samples[samples.len() - 1]);
    println!("from {first:.1?}\nto   {last:.1?}");
    let grown = |of: fn(&Sample) -> f64| of(&last) - of(&first);
    assert!(grown(|s| s.buffers_mib) < 1.0, "buffers");
    assert!(grown(|s| s.files as f64) < 8.0 && grown(|s| s.threads as f64) < 8.0, "files or threads");
    assert!(grown(|s| s.resident_mib) < 0.1 * first.resident_mib + 30.0, "memory");
}

/// Where does memory go that nobody gives back? Each thing alone, many times.
#[test]
#[ignore = "for looking into what the soak finds"]
fn what_grows() {
    let rss = || status("VmRSS") / 1024.0;
    let without_timestamps = std::env::var_os("OCELLI_TEST_PLAIN").is_some();
    let options = ocelli::gpu::GpuOptions { without_timestamps, ..Default::default() };
    let gpu = ocelli::gpu::Gpu::new(&options).unwrap();
    let engine = ocelli::engine::Engine::start(gpu.clone(), std::sync::Arc::new(|| {})).unwrap();
    let load = || {
        let request = ocelli::engine::LoadRequest {
            folder: builtin::NAME.into(),
            recipe: None,
            options: ocelli::model::loaded::LoadOptions { context: 2048, ..Default::default() },
        };
        engine.load(request).events.iter().for_each(drop);
    };
    load();
    println!("begin {:.1}", rss());
    for n in 0..60 {
        load();
        if n % 10 == 9 {
            println!("load {n} {:.1}", rss());
        }
    }
    for n in 0..300 {
        let question = ocelli::chat::message::Message::text(Role::User, format!("What can you do {n}?"));
        let request =
            ocelli::engine::Request { max_tokens: Some(20), ..ocelli::engine::Request::new(vec![question]) };
        let end = engine.ask(request).events.iter().last();
        assert!(matches!(end, Some(ocelli::engine::AnswerEvent::Finished(_))), "{end:?}");
        if n % 50 == 49 {
            println!("ask {n} {:.1}", rss());
        }
    }
    for n in 0..100 {
        drop(ocelli::model::tokenizer::Tokenizer::from_folder(builtin::folder()).unwrap());
        if n % 25 == 24 {
            println!("tokenizer {n} {:.1}", rss());
        }
    }
    let mut stage = Stage::open();
    println!("stage {:.1}", rss());
    for n in 0..600 {
        stage.harness.step();
        if n % 100 == 99 {
            println!("step {n} {:.1}", rss());
        }
    }
    for n in 0..600 {
        stage.harness.state_mut().state.chat.draft.text = format!("Text number {n} with äöü {}", n * 7919);
        stage.harness.step();
        if n % 100 == 99 {
            println!("step with other text {n} {:.1}", rss());
        }
    }
}
