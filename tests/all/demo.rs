//! The demo model inside the program: what it answers to a fixed set of picture questions, through the program as a
//! user runs it, on every kernel variant, and with its weights in every form; and the window's first click.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use ocelli::app::texts::Language;
use ocelli::app::{
    AnswerDetails, ModelState, PictureState, Places, Preferences, QuestionDetails, Sample, State, WindowApp,
    details,
};
use ocelli::chat::message::{ImageSource, Message, Part, Role};
use ocelli::chat::openai::conversation_from;
use ocelli::engine::{AnswerEvent, Engine, LoadEvent, LoadRequest, Request};
use ocelli::gpu::{Gpu, GpuOptions};
use ocelli::model::builtin;
use ocelli::model::kv_cache::KvFormat;
use ocelli::model::loaded::LoadOptions;
use ocelli::model::recipe::Recipe;
use ocelli::model::source::ModelSource;
use serde_json::{Value, json};

use crate::commands::{Place, Run};
use crate::support::*;

/// What an answer must be.
enum Wanted {
    Text(String),
    /// One of the boxes in the answer has this label and overlaps this one by that much.
    Box {
        label: String,
        corners: [f64; 4],
        iou: f64,
    },
}

struct Turn {
    question: String,
    wanted: Wanted,
}

/// Pictures and what is asked of them, turn by turn.
struct Item {
    pictures: Vec<PathBuf>,
    turns: Vec<Turn>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/demo")
}

fn corners(value: &Value) -> Option<[f64; 4]> {
    let numbers: Vec<f64> = value.as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

fn items() -> Vec<Item> {
    let list: Vec<Value> =
        serde_json::from_slice(&fs::read(folder().join("questions.json")).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let turn = |turn: &Value| -> Option<Turn> {
        let wanted = match text(&turn["answer"]) {
            Some(answer) => Wanted::Text(answer),
            None => Wanted::Box {
                label: text(&turn["box"]["label"])?,
                corners: corners(&turn["box"]["bbox_2d"])?,
                iou: turn["iou"].as_f64().unwrap_or(0.5),
            },
        };
        Some(Turn { question: text(&turn["question"])?, wanted })
    };
    let item = |item: &Value| -> Option<Item> {
        let names = match &item["picture"] {
            Value::Array(names) => names.iter().map(text).collect::<Option<Vec<_>>>()?,
            name => vec![text(name)?],
        };
        Some(Item {
            pictures: names.into_iter().map(|name| folder().join(name)).collect(),
            turns: item["turns"].as_array()?.iter().map(turn).collect::<Option<_>>()?,
        })
    };
    let items: Vec<Item> =
        list.iter().map(|value| item(value).unwrap_or_else(|| panic!("not an item: {value}"))).collect();
    assert!(!items.is_empty() && items.iter().all(|item| !item.turns.is_empty()));
    items
}

impl Item {
    /// One message of the user for each turn, the pictures in the first.
    fn messages(&self) -> Vec<Value> {
        let mut pictures = self.pictures.iter().map(|path| json!({"type": "image", "image": path})).collect();
        let message = |turn: &Turn| {
            let mut parts: Vec<Value> = std::mem::take(&mut pictures);
            parts.push(json!({"type": "text", "text": turn.question}));
            json!({"role": "user", "content": parts})
        };
        self.turns.iter().map(message).collect()
    }

    fn check(&self, answers: &[String], how: &str) -> Vec<String> {
        assert_eq!(answers.len(), self.turns.len(), "{how}");
        let wrong = self.turns.iter().zip(answers).filter(|(turn, answer)| !turn.wanted.is_met(answer));
        wrong
            .map(|(turn, answer)| format!("{how}: {:?} {:?}: {answer}", self.pictures, turn.question))
            .collect()
    }
}

impl Wanted {
    fn is_met(&self, answer: &str) -> bool {
        match self {
            Self::Text(text) => text == answer,
            Self::Box { label, corners, iou } => boxes(answer)
                .iter()
                .any(|(found_label, found)| found_label == label && overlap(*found, *corners) >= *iou),
        }
    }
}

/// Labels and corners of the boxes in an answer, which is JSON, perhaps between fences of Markdown.
fn boxes(answer: &str) -> Vec<(String, [f64; 4])> {
    let inside = answer.find(['[', '{']).zip(answer.rfind([']', '}'])).and_then(|(a, b)| answer.get(a..=b));
    let parsed: Value = inside.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null);
    let list = match parsed {
        Value::Array(list) => list,
        one => vec![one],
    };
    list.iter().filter_map(|b| Some((b["label"].as_str()?.to_owned(), corners(&b["bbox_2d"])?))).collect()
}

/// Intersection over union of two boxes (left, top, right, bottom).
fn overlap(a: [f64; 4], b: [f64; 4]) -> f64 {
    let area = |b: [f64; 4]| (b[2] - b[0]).max(0.0) * (b[3] - b[1]).max(0.0);
    let common = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    let all = area(a) + area(b) - common;
    if all > 0.0 { common / all } else { 0.0 }
}

#[track_caller]
fn assert_right(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn boxes_are_read_out_of_answers_and_compared_by_their_overlap() {
    assert!((overlap([0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0]) - 1.0 / 3.0).abs() < 1e-9);
    assert!((overlap([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]) - 1.0).abs() < 1e-9);
    assert!(overlap([0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 3.0, 3.0]) == 0.0 && overlap([0.0; 4], [0.0; 4]) == 0.0);
    let answer = "```json\n[{\"bbox_2d\": [10, 20, 110, 120], \"label\": \"red circle\"}]\n```";
    let wanted =
        |label: &str, iou| Wanted::Box { label: label.into(), corners: [10.0, 20.0, 110.0, 100.0], iou };
    assert!(wanted("red circle", 0.75).is_met(answer) && !wanted("red circle", 0.85).is_met(answer));
    assert!(!wanted("blue circle", 0.1).is_met(answer) && !wanted("red circle", 0.1).is_met("no box"));
}

#[test]
fn without_a_model_the_demo_answers_under_its_full_name() {
    let place = Place::new();
    let items = items();
    let lines: String =
        items.iter().map(|item| json!({"messages": item.messages()}).to_string() + "\n").collect();
    fs::write(place.path("questions.jsonl"), lines).unwrap();
    let run = place.fine(&["batch", "questions.jsonl", "--greedy", "--max-tokens", "200"]);
    assert!(run.stderr.contains(&format!("this is {}", builtin::FULL_NAME)), "{}", run.stderr);
    let mut wrong = Vec::new();
    for (item, line) in items.iter().zip(run.text().lines()) {
        let line: Value = serde_json::from_str(line).unwrap();
        let answers: Vec<String> = serde_json::from_value(line["answers"].clone()).unwrap();
        wrong.append(&mut item.check(&answers, "batch"));
    }
    assert_right(&wrong);

    // The same through `generate`, by name.
    let single = items.iter().find(|item| item.pictures.len() == 1).unwrap();
    let picture = single.pictures[0].to_str().unwrap();
    let arguments = ["generate", "--model", "demo", "--greedy", "--max-tokens", "200", "--image", picture];
    let run: Run = place.fine(&[&arguments[..], &[&single.turns[0].question]].concat());
    assert!(run.stderr.contains(&format!("{} (int8hu) loaded in", builtin::FULL_NAME)), "{}", run.stderr);
    assert!(single.turns[0].wanted.is_met(run.text().trim_end_matches('\n')), "{}", run.text());
    assert!(place.files().keys().all(|name| !name.starts_with("cache")), "it needs no cache");
}

/// Asks all items at once, each turn after the answer to the one before.
fn ask_all(engine: &Engine, items: &[Item], how: &str) -> Vec<String> {
    let conversation =
        |item: &Item| conversation_from(Value::Array(item.messages()), Path::new("")).unwrap().messages;
    let asked: Vec<Vec<Message>> = items.iter().map(conversation).collect();
    let mut said: Vec<Vec<String>> = vec![Vec::new(); items.len()];
    for turn in 0..items.iter().map(|item| item.turns.len()).max().unwrap() {
        let ask = |(index, messages): (usize, &Vec<Message>)| {
            if turn >= messages.len() {
                return None;
            }
            let answers = said[index].iter().map(|text| Message::text(Role::Assistant, text.as_str()));
            let mut told: Vec<Message> = messages
                .iter()
                .cloned()
                .zip(answers)
                .flat_map(|(question, answer)| [question, answer])
                .collect();
            told.push(messages[turn].clone());
            Some((index, engine.ask(Request { max_tokens: Some(200), ..Request::new(told) })))
        };
        let answers: Vec<_> = asked.iter().enumerate().filter_map(ask).collect();
        for (index, answer) in answers {
            match answer.events.iter().last().unwrap() {
                AnswerEvent::Finished(summary) => said[index].push(summary.text),
                other => panic!("{how}: {other:?}"),
            }
        }
    }
    items.iter().zip(&said).flat_map(|(item, answers)| item.check(answers, how)).collect()
}

#[test]
fn its_answers_are_the_same_on_every_kernel_variant_and_with_its_weights_in_every_form() {
    let items = items();
    let cache = tempfile::tempdir().unwrap();
    let folders: Vec<PathBuf> = [Recipe::Int8Hu, Recipe::F16, Recipe::F32]
        .map(|recipe| {
            let never = AtomicBool::new(false);
            let demo = Path::new(builtin::NAME);
            let source =
                ModelSource::resolve_in(cache.path(), demo, Some(recipe), &mut |_| (), &never).unwrap();
            assert_eq!((source.name.as_str(), source.model.recipe()), (builtin::FULL_NAME, recipe));
            source.model.folder().to_owned()
        })
        .into();
    let plain = GpuOptions::default;
    let mut wrong = Vec::new();
    for (variant, gpu) in [
        ("all features", gpu()),
        ("without subgroups", Gpu::new(&GpuOptions { without_subgroups: true, ..plain() }).unwrap()),
        ("without f16", Gpu::new(&GpuOptions { without_f16: true, ..plain() }).unwrap()),
        (
            "without both",
            Gpu::new(&GpuOptions { without_subgroups: true, without_f16: true, ..plain() }).unwrap(),
        ),
    ] {
        let engine = Engine::start(gpu, Arc::new(|| {})).unwrap();
        // Every variant with the weights as they ship; the other forms, and the KV cache in int8, where all features are. (What
        // the variants make of f16 and f32 weights and of that cache is held against the oracle in parity.rs and int8_cache.rs.)
        let mut forms: Vec<_> = folders.iter().map(|folder| (folder, None)).collect();
        forms.push((&folders[0], Some(KvFormat::Int8)));
        forms.truncate(if variant == "all features" { forms.len() } else { 1 });
        for (folder, kv) in forms {
            let options = LoadOptions { context: 4096, kv, ..LoadOptions::default() };
            let load = engine.load(LoadRequest { folder: folder.clone(), recipe: None, options });
            let loaded = load.events.iter().last().unwrap();
            let LoadEvent::Loaded(info) = loaded else { panic!("{variant}: {loaded:?}") };
            wrong.append(&mut ask_all(&engine, &items, &format!("{variant}, {}, {kv:?}", info.recipe)));
        }
    }
    assert_right(&wrong);
}

/// Draws until `done`.
#[test]
fn the_questions_that_the_window_offers_are_answered_right() {
    let right = [
        ("shapes.png", "Describe the picture.", "A red circle, a blue star and a green triangle."),
        ("shapes.png", "What colour is the star?", "Blue."),
        ("shapes.png", "Where is the star relative to the circle?", "Below."),
        ("shapes.png", "Give the box of the blue star.", "\"label\": \"blue star\""),
        ("count.png", "How many hearts are there?", "Three."),
        ("count.png", "How many things are there?", "Five."),
        ("count.png", "Is there a blue heart?", "No."),
        ("count.png", "How many yellow squares are there?", "Two."),
        ("inside.png", "What is inside the square?", "A yellow heart."),
        ("inside.png", "Where is the cross?", "At the bottom right."),
        ("inside.png", "Is the cross inside the square?", "No."),
        ("inside.png", "Describe the picture.", "A yellow heart inside a purple square and an orange cross."),
        ("letter.png", "What letter is this?", "K."),
        ("letter.png", "What colour is the letter?", "Orange."),
        ("cross.png", "What is this?", "A black cross."),
        ("cross.png", "Is there a circle?", "No."),
        (
            "cross.png",
            "Locate the cross, output its bbox coordinates in JSON format.",
            "\"label\": \"cross\"",
        ),
        ("cross.png", "Who are you?", "I am Ocelli's demo model"),
    ];
    let engine = Engine::start(gpu(), Arc::new(|| ())).unwrap();
    let options = LoadOptions { context: 512, ..LoadOptions::default() };
    let load = engine.load(LoadRequest { folder: builtin::NAME.into(), recipe: None, options });
    assert!(load.events.iter().any(|event| matches!(event, LoadEvent::Loaded(_))));
    let mut asked = 0;
    for sample in Sample::all().unwrap() {
        for question in &sample.questions {
            let (_, _, wanted) =
                right.iter().find(|(file, asked, _)| (*file, *asked) == (&sample.file, question)).unwrap();
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/pictures").join(&sample.file);
            let parts = vec![Part::Image(ImageSource::Path(file)), Part::Text(question.clone())];
            let answer = engine.ask(Request::new(vec![Message::new(Role::User, parts)]));
            let Some(AnswerEvent::Finished(summary)) = answer.events.iter().last() else {
                panic!("{question}")
            };
            assert!(summary.text.contains(wanted), "{}: {question} {}", sample.file, summary.text);
            asked += 1;
        }
    }
    assert_eq!(asked, right.len());
}

fn wait_until(
    harness: &mut Harness<'_, WindowApp>,
    woken: &Receiver<()>,
    what: &str,
    done: impl Fn(&State) -> bool,
) {
    let start = Instant::now();
    while !done(&harness.state().state) {
        assert!(start.elapsed() < Duration::from_mins(2), "the window waits for ever: {what}");
        // Pictures are read by a thread that does not wake.
        let _ = woken.recv_timeout(Duration::from_millis(20));
        harness.step();
    }
    harness.run_steps(2);
}

#[test]
fn the_first_clicks_in_the_window_show_what_the_demo_can_do() {
    let (wake, woken) = mpsc::channel();
    let engine = Engine::start(
        gpu(),
        Arc::new(move || {
            let _ = wake.send(());
        }),
    )
    .unwrap();
    // What the model says is up to it.
    let harness = Harness::builder().with_size(egui::vec2(1280.0, 800.0)).allow_missing_glyphs();
    let mut harness = harness.with_max_steps(8).build_eframe(move |creation| {
        let state = State::new(512, None);
        let preferences = Preferences { language: Some(Language::English), ..Preferences::default() };
        let ctx = &creation.egui_ctx;
        WindowApp::new(ctx, Box::new(engine), "test adapter".into(), state, Places::default(), preferences)
            .unwrap()
    });
    harness.state_mut().open_model(builtin::NAME.into());
    wait_until(&mut harness, &woken, "the model", |state| matches!(state.model, ModelState::Ready(_)));
    assert_eq!(harness.state().state.title(), builtin::FULL_NAME);
    assert!(harness.query_all_by_label(builtin::FULL_NAME).count() >= 2, "in the bar and in the middle");
    assert!(harness.query_all_by_label_contains("Qwen3-VL-2B-Instruct").next().is_some());
    assert_eq!(harness.unnamed_widgets(), Vec::<String>::new());

    let samples = Sample::all().unwrap();
    let [first, second, ..] = &samples[..] else { panic!("two samples at least") };
    // By the keyboard, then another with a click: the second takes the first one's place.
    harness.get_by_label(&format!("Sample: {}", first.title)).focus();
    harness.run_steps(2);
    harness.key_press(egui::Key::Space);
    harness.run_steps(3);
    assert!(harness.query_by_label(&first.questions[0]).is_some());
    harness.get_by_label(&format!("Sample: {}", second.title)).click();
    harness.run_steps(3);
    wait_until(
        &mut harness,
        &woken,
        "the picture",
        |state| matches!(&state.chat.draft.pictures[..], [only] if matches!(only.state, PictureState::Ready(..))),
    );
    assert_eq!(harness.state().state.chat.draft.pictures[0].name, second.file);

    // What is typed already stays for the next question.
    harness.state_mut().state.chat.draft.text = "typed before".into();
    harness.get_by_label(&second.questions[0]).click();
    harness.run_steps(3);
    wait_until(&mut harness, &woken, "the first words", |state| {
        state.chat.last().is_some_and(|last| last.role == Role::Assistant && !last.text.is_empty())
    });
    assert_eq!(harness.state().state.chat.shown().next().unwrap().text, second.questions[0]);
    assert_eq!(harness.state().state.chat.draft.text, "typed before");
    wait_until(&mut harness, &woken, "the end", |state| {
        state.chat.last().is_some_and(|last| details::<AnswerDetails>(last).figures.is_some())
    });
    let state = &harness.state().state;
    assert!(!state.chat.last().unwrap().text.is_empty(), "{:?}", state.notices);
    let question = state.chat.shown().next().unwrap();
    assert!(details::<QuestionDetails>(question).pictures[0].is_some());
}
