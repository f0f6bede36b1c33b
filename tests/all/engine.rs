//! The engine's thread: answers do not depend on chunks, partners, reuse or kernel variants; they stop
//! when they should; what does not fit is refused.

use std::path::Path;
use std::sync::Arc;

use ocelli::chat::message::{ImageSource, Message, Part, Role};
use ocelli::engine::trace::{encode_pictures, trace};
use ocelli::engine::{
    Answer, AnswerEvent, Engine, LoadEvent, LoadRequest, Request, StopReason, Summary, TokenEvent,
};
use ocelli::error::Error;
use ocelli::gpu::{Gpu, GpuOptions, Pacing};
use ocelli::model::builtin;
use ocelli::model::loaded::LoadOptions;
use ocelli::model::recipe::Recipe;
use ocelli::model::runner::Runner;
use ocelli::model::sampler::Sampling;

use crate::support::*;

pub(crate) fn start(checkpoint: &str, recipe: Recipe, options: LoadOptions) -> Engine {
    start_on(&gpu(), checkpoint, recipe, options)
}

pub(crate) fn start_on(gpu: &Gpu, checkpoint: &str, recipe: Recipe, options: LoadOptions) -> Engine {
    let engine = Engine::start(gpu.clone(), Arc::new(|| {})).unwrap();
    let folder = converted(checkpoint, recipe).folder().to_owned();
    let load = engine.load(LoadRequest { folder, recipe: None, options });
    match load.events.iter().last().unwrap() {
        LoadEvent::Loaded(_) => engine,
        other => panic!("{other:?}"),
    }
}

pub(crate) const ROOM: LoadOptions = LoadOptions {
    context: 2048,
    up_to: false,
    prefill_rows: 128,
    pacing: Pacing::HEADLESS,
    memory_limit_bytes: None,
    text_only: false,
    kv: None,
};

#[test]
fn what_a_load_takes_is_what_was_announced() {
    // A device of its own: others make buffers on the shared one meanwhile.
    let gpu = Gpu::new(&GpuOptions::default()).unwrap();
    for (checkpoint, recipe) in
        [("mono", Recipe::Int8Hu), ("ladder", Recipe::Int8Lin), ("deep", Recipe::F16), ("plain", Recipe::F32)]
    {
        let engine = Engine::start(gpu.clone(), Arc::new(|| {})).unwrap();
        let folder = converted(checkpoint, recipe).folder().to_owned();
        let load = engine.load(LoadRequest { folder, recipe: None, options: ROOM });
        let Some(LoadEvent::Loaded(info)) = load.events.iter().last() else { panic!("{checkpoint}") };
        let (planned, measured) = (info.memory.loaded_bytes() as f64, info.measured_bytes as f64);
        assert!((planned / measured - 1.0).abs() < 0.01, "{checkpoint}: {planned} planned, {measured} taken");
        assert!(info.memory.working_bytes > 100_000 && info.memory.kv_bytes > 100_000);
    }
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_the_nearest_setting_that_does() {
    let engine = Engine::start(gpu(), Arc::new(|| {})).unwrap();
    let folder = converted("mono", Recipe::Int8Hu).folder().to_owned();
    let ask = |memory_limit_bytes| {
        let options = LoadOptions { memory_limit_bytes, ..ROOM };
        engine
            .load(LoadRequest { folder: folder.clone(), recipe: None, options })
            .events
            .iter()
            .last()
            .unwrap()
    };
    let LoadEvent::Failed(error) = ask(Some(1_000_000)) else { panic!("it cannot fit") };
    assert_eq!(error.get_kind(), ocelli::error::ErrorKind::DoesNotFit);
    assert!(error.to_string().contains("smaller model"), "{error}");
    let LoadEvent::Loaded(info) = ask(None) else { panic!("it fits") };
    let peak = info.memory.peak_bytes();
    let LoadEvent::Failed(error) = ask(Some(peak - 1)) else { panic!("it is a byte short") };
    assert!(error.to_string().contains("a context of 1024 tokens fits"), "{error}");
    let LoadEvent::Loaded(_) = ask(Some(peak)) else { panic!("it fits to the byte") };
}

pub(crate) struct Told {
    pub tokens: Vec<TokenEvent>,
    pub text: String,
    pub vision: Vec<Option<f64>>,
    pub end: Result<Summary, Error>,
}

pub(crate) fn collect(answer: &Answer) -> Told {
    let mut told = Told {
        tokens: Vec::new(),
        text: String::new(),
        vision: Vec::new(),
        end: Err(Error::new("", "no end")),
    };
    for event in &answer.events {
        match event {
            AnswerEvent::Token(t) => {
                told.text.push_str(&t.text);
                told.tokens.push(*t);
            }
            AnswerEvent::Text(t) => told.text.push_str(&t),
            AnswerEvent::Picture(p) => told.vision.push(p.vision_secs),
            AnswerEvent::Finished(s) => told.end = Ok(*s),
            AnswerEvent::Failed(e) => told.end = Err(e),
            _ => {}
        }
    }
    if let Ok(summary) = &told.end {
        assert_eq!(summary.text, told.text, "the summary says what the events said");
        assert_eq!(summary.ids, told.tokens.iter().map(|t| t.record.id).collect::<Vec<_>>());
    }
    told
}

pub(crate) fn ids(told: &Told) -> Vec<u32> {
    told.end.as_ref().unwrap().ids.clone()
}

pub(crate) fn greedy(case: &Case, tokens: usize) -> Request {
    let mut request = request(case);
    request.max_tokens = Some(tokens);
    request.ignore_end = true;
    request
}

#[test]
fn eight_sessions_in_a_step_say_bit_for_bit_what_each_says_alone() {
    let names = ["square", "text", "wide", "two_turns", "tiny", "video", "unicode_system", "two_pictures"];
    for recipe in [Recipe::F32, Recipe::Int8Hu] {
        let cases: Vec<Case> = names.iter().map(|n| Case::read("ladder", n)).collect();
        let sampled = |i: usize| {
            let mut r = greedy(&cases[i], 24);
            if i % 2 == 1 {
                r.sampling = Sampling {
                    temperature: 0.9,
                    top_p: 0.95,
                    top_k: 20,
                    presence_penalty: 0.7,
                    seed: i as u64,
                    ..Sampling::GREEDY
                };
            }
            r
        };
        let engine = start("ladder", recipe, ROOM);
        let alone: Vec<Told> = (0..cases.len()).map(|i| collect(&engine.ask(sampled(i)))).collect();
        // A fresh engine: nothing may come from the cache of the first.
        let engine = start("ladder", recipe, ROOM);
        let answers: Vec<Answer> = (0..cases.len()).map(|i| engine.ask(sampled(i))).collect();
        let together: Vec<Told> = answers.iter().map(collect).collect();
        let most = together.iter().flat_map(|t| &t.tokens).map(|t| t.batch).max().unwrap();
        assert!(most >= 6, "only {most} sessions ever shared a step");
        for (i, (a, b)) in alone.iter().zip(&together).enumerate() {
            assert_eq!(ids(a), ids(b), "{recipe}: {}", cases[i].name);
            for (x, y) in a.tokens.iter().zip(&b.tokens) {
                assert_eq!(
                    x.record.logprob.to_bits(),
                    y.record.logprob.to_bits(),
                    "{recipe}: {}",
                    cases[i].name
                );
                assert_eq!(x.record.alternatives, y.record.alternatives, "{recipe}: {}", cases[i].name);
            }
        }
        if recipe == Recipe::F32 {
            for (case, told) in cases.iter().zip(&alone).step_by(2) {
                assert_eq!(ids(told), case.greedy(recipe), "{}", case.name);
            }
        }
    }
}

#[test]
fn chunk_sizes_do_not_change_the_answer() {
    for checkpoint in ["plain", "deep"] {
        let front_end = front_end(checkpoint);
        let mut model = load(checkpoint, Recipe::F32);
        for name in ["mixed", "two_pictures", "long_text"] {
            let case = Case::read(checkpoint, name);
            let prepared = front_end.prepare(&request(&case), &|| false).unwrap();
            for chunk in [1, 7, 64, 100, 256] {
                if chunk == 1 && name == "long_text" {
                    continue;
                }
                let t = trace(&mut model, &prepared, 24, chunk).unwrap();
                let d = distance(&t.tensors["logits"].values, &case.logits(Recipe::F32));
                assert!(
                    d.cosine >= 0.999_999_9 && d.max <= 1e-3,
                    "{} in chunks of {chunk}: {d:?}",
                    case.name
                );
                assert_eq!(
                    t.greedy.iter().map(|r| r.id).collect::<Vec<_>>(),
                    case.greedy(Recipe::F32),
                    "{} {chunk}",
                    case.name
                );
            }
        }
    }
}

#[test]
fn every_kernel_variant_and_sliced_weights_give_the_same_answer() {
    // The smallest bindings that still hold an activation: every matrix and the embedding fall into slices.
    let variants = [
        GpuOptions { without_subgroups: true, ..GpuOptions::default() },
        GpuOptions { without_f16: true, ..GpuOptions::default() },
        GpuOptions { without_subgroups: true, without_f16: true, ..GpuOptions::default() },
        GpuOptions { max_binding_bytes: Some(640 << 10), ..GpuOptions::default() },
    ];
    for options in variants {
        let gpu = Gpu::new(&options).unwrap();
        for recipe in Recipe::ALL {
            let checkpoint = "ladder";
            let front_end = front_end(checkpoint);
            let mut model =
                load_with(&gpu, checkpoint, recipe, LoadOptions { context: 512, prefill_rows: 64, ..ROOM });
            for name in ["mixed", "text"] {
                let case = Case::read(checkpoint, name);
                let prepared = front_end.prepare(&request(&case), &|| false).unwrap();
                let t = trace(&mut model, &prepared, 24, 64).unwrap();
                let d = distance(&t.tensors["logits"].values, &case.logits(recipe));
                let (cosine, max) = if recipe == Recipe::F32 { (0.999_999_9, 1e-3) } else { (0.9999, 0.25) };
                assert!(d.cosine >= cosine && d.max <= max, "{} {recipe} {options:?}: {d:?}", case.name);
                assert_eq!(
                    t.greedy.iter().map(|r| r.id).collect::<Vec<_>>(),
                    case.greedy(recipe),
                    "{} {recipe} {options:?}",
                    case.name
                );
            }
        }
    }
}

pub(crate) fn user(text: &str) -> Message {
    Message::text(Role::User, text)
}

pub(crate) fn picture(name: &str) -> Part {
    Part::Image(ImageSource::Path(fixtures().join("pictures").join(name)))
}

#[test]
fn a_follow_up_reuses_the_pages_and_the_picture_before_it_and_answers_the_same() {
    let engine = start("mono", Recipe::F32, ROOM);
    let question =
        Message::new(Role::User, vec![picture("wide.png"), Part::Text("What is in the picture?".into())]);
    let ask = |engine: &Engine, messages: Vec<Message>| {
        let mut request = Request::new(messages);
        request.max_tokens = Some(40);
        request.ignore_end = true;
        collect(&engine.ask(request))
    };
    let first = ask(&engine, vec![question.clone()]);
    assert!(first.vision[0].is_some(), "the first time it is encoded");
    let again = ask(&engine, vec![question.clone()]);
    let summary = again.end.as_ref().unwrap();
    assert_eq!(summary.reused_tokens, summary.prompt_tokens - 1, "the same question again needs one token");
    assert_eq!(again.vision, [None]);
    assert_eq!(ids(&again), ids(&first));

    // Two branches from the same place, each against an engine that has nothing to reuse.
    for text in ["And the colours?", "Count the shapes, please."] {
        let messages = vec![question.clone(), Message::text(Role::Assistant, "A shape."), user(text)];
        let warm = ask(&engine, messages.clone());
        let fresh = ask(&start("mono", Recipe::F32, ROOM), messages);
        assert_eq!(ids(&warm), ids(&fresh), "{text}");
        assert_eq!(warm.vision, [None]);
        assert!(warm.end.unwrap().reused_tokens > 64, "{text}");
        assert_eq!(fresh.end.unwrap().reused_tokens, 0);
    }

    // The same words about another picture of the same size share nothing from the picture on.
    let other =
        Message::new(Role::User, vec![picture("odd.png"), Part::Text("What is in the picture?".into())]);
    let told = ask(&engine, vec![other]);
    assert!(told.end.unwrap().reused_tokens < 10);
    assert!(told.vision[0].is_some());
}

#[test]
fn an_answer_goes_on_from_what_it_is_told_to_begin_with() {
    // The demo model says something with words; cut before one of them, it has to find the same rest.
    let engine = Engine::start(gpu(), Arc::new(|| ())).unwrap();
    let load = engine.load(LoadRequest { folder: builtin::NAME.into(), recipe: None, options: ROOM });
    assert!(load.events.iter().any(|event| matches!(event, LoadEvent::Loaded(_))));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/pictures/shapes.png");
    let question = Message::new(
        Role::User,
        vec![Part::Image(ImageSource::Path(file)), Part::Text("Describe the picture.".into())],
    );
    let whole = collect(&engine.ask(Request::new(vec![question.clone()]))).end.unwrap();
    let cuts: Vec<usize> = whole.text.match_indices(' ').map(|(at, _)| at).collect();
    assert!(cuts.len() > 3, "{}", whole.text);
    for cut in [cuts[0], cuts[cuts.len() / 2], cuts[cuts.len() - 1]] {
        let (start, rest) = whole.text.split_at(cut);
        let request = Request { answer_start: Some(start.into()), ..Request::new(vec![question.clone()]) };
        let told = collect(&engine.ask(request)).end.unwrap();
        assert_eq!(told.text, rest, "after {start:?}");
        assert!(told.reused_tokens > told.prompt_tokens / 2, "the pages before it are used again");
    }
}

#[test]
fn a_full_cache_drops_what_is_oldest_and_goes_on_right() {
    // Room for one of these prompts and a half: every question throws the last one out.
    let small = LoadOptions { context: 320, ..ROOM };
    let engine = start("plain", Recipe::F32, small);
    for name in ["square", "wide", "two_turns", "square", "tiny", "wide"] {
        let case = Case::read("plain", name);
        assert_eq!(ids(&collect(&engine.ask(greedy(&case, 24)))), case.greedy(Recipe::F32), "{name}");
    }
}

#[test]
fn decoding_continues_exactly_where_a_longer_prefill_would_be() {
    // 24 tokens decoded one by one leave the cache as prefilling them does.
    let case = Case::read("deep", "square");
    let front_end = front_end("deep");
    let mut model = load("deep", Recipe::F32);
    let prepared = front_end.prepare(&request(&case), &|| false).unwrap();
    let ids = encode_pictures(&mut model, &prepared).unwrap();
    let mut all = ids.clone();
    let mut thw = prepared.prompt.positions.thw.clone();
    let next = (ids.len() as i64 + prepared.prompt.positions.rope_delta) as u32;
    all.extend(case.greedy(Recipe::F32));
    thw.extend((0..24).map(|i| [next + i; 3]));
    let scores = Runner::new(&mut model).score(&all, &thw, 100).unwrap();
    let t = trace(&mut model, &prepared, 24, 100).unwrap();
    for (i, record) in t.greedy.iter().enumerate() {
        let row = &scores[ids.len() - 1 + i];
        let top = row.iter().copied().fold(f32::MIN, f32::max);
        let log_mass = row.iter().map(|v| f64::from(v - top).exp()).sum::<f64>().ln();
        let logprob = f64::from(row[record.id as usize] - top) - log_mass;
        assert!(
            (logprob - f64::from(record.logprob)).abs() < 1e-3,
            "token {i}: {logprob} {}",
            record.logprob
        );
    }
}

#[test]
fn an_answer_stops_at_its_end_token_a_stop_string_its_limit_and_when_cancelled() {
    let case = Case::read("mono", "text");
    let want = case.greedy(Recipe::F32);
    let engine = start("mono", Recipe::F32, ROOM);
    let full = collect(&engine.ask(greedy(&case, 24)));
    assert_eq!(full.end.as_ref().unwrap().reason, StopReason::MaxTokens);
    assert_eq!(ids(&full), want);

    // A stop string taken from the middle of what it says.
    let text: Vec<char> = full.text.chars().collect();
    let stop: String = text[text.len() / 2..text.len() / 2 + 3].iter().collect();
    let mut request = greedy(&case, 24);
    request.stop = vec![stop.clone()];
    let told = collect(&engine.ask(request));
    assert_eq!(told.end.as_ref().unwrap().reason, StopReason::StopString);
    assert_eq!(told.text, full.text[..full.text.find(&stop).unwrap()]);

    // Cancelled from within: the partial answer stays.
    let mut request = greedy(&case, 1500);
    request.sampling = Sampling { temperature: 1.0, seed: 5, ..Sampling::GREEDY };
    let answer = engine.ask(request);
    let mut tokens = 0;
    let mut summary = None;
    for event in &answer.events {
        match event {
            AnswerEvent::Token(_) => {
                tokens += 1;
                if tokens == 5 {
                    answer.cancel.cancel();
                }
            }
            AnswerEvent::Finished(s) => summary = Some(*s),
            _ => {}
        }
    }
    let summary = summary.unwrap();
    assert_eq!(summary.reason, StopReason::Cancelled);
    assert!((5..100).contains(&summary.ids.len()), "{} tokens", summary.ids.len());

    // The context is full: said, not garbage.
    let engine = start("mono", Recipe::F32, LoadOptions { context: 128, ..ROOM });
    let mut request = greedy(&case, 10_000);
    request.max_tokens = None;
    let told = collect(&engine.ask(request));
    let summary = told.end.unwrap();
    assert_eq!(summary.reason, StopReason::ContextFull);
    assert_eq!(summary.prompt_tokens + summary.ids.len(), 128);
}

#[test]
fn end_tokens_stop_and_are_not_shown() {
    // At this temperature every token is about equally likely: an end token comes within some hundreds.
    let config = ocelli::model::config::ModelConfig::read(&fixtures().join("mono/model")).unwrap();
    let engine = start("mono", Recipe::F32, ROOM);
    let case = Case::read("mono", "text");
    for seed in 0..20 {
        let mut request = greedy(&case, 1500);
        request.ignore_end = false;
        request.sampling = Sampling { temperature: 100.0, seed, ..Sampling::GREEDY };
        let summary = collect(&engine.ask(request)).end.unwrap();
        assert!(summary.ids.iter().all(|id| !config.eos_token_ids.contains(id)));
        assert!(!summary.text.contains("<|im_end|>"));
        if summary.reason == StopReason::End {
            assert!(summary.ids.len() < 1500);
            return;
        }
    }
    panic!("no end token in 30,000 tokens drawn at random");
}

#[test]
fn what_does_not_fit_is_refused_with_the_numbers_and_the_engine_goes_on() {
    let engine = start("mono", Recipe::F32, LoadOptions { context: 256, ..ROOM });
    let case = Case::read("mono", "long_text");
    let error = collect(&engine.ask(greedy(&case, 10))).end.unwrap_err().to_string();
    assert!(error.contains("633") && error.contains("256") && error.contains("--context"), "{error}");
    let mut bad = greedy(&case, 10);
    bad.sampling.top_p = 0.0;
    let error = collect(&engine.ask(bad)).end.unwrap_err().to_string();
    assert!(error.contains("top-p"), "{error}");
    let missing = Message::new(Role::User, vec![picture("no-such.png"), Part::Text("?".into())]);
    let error = collect(&engine.ask(Request::new(vec![missing]))).end.unwrap_err().to_string();
    assert!(error.contains("no-such.png"), "{error}");
    let case = Case::read("mono", "text");
    assert_eq!(ids(&collect(&engine.ask(greedy(&case, 24)))), case.greedy(Recipe::F32));
}

#[test]
fn a_cancelled_load_and_a_question_without_a_model_end_with_a_word() {
    let engine = Engine::start(gpu(), Arc::new(|| {})).unwrap();
    let error = collect(&engine.ask(Request::new(vec![user("hello")]))).end.unwrap_err().to_string();
    assert!(error.contains("no model is loaded"), "{error}");
    let folder = converted("deep", Recipe::F32).folder().to_owned();
    let load = engine.load(LoadRequest { folder, recipe: None, options: ROOM });
    load.cancel.cancel();
    let last = load.events.iter().last().unwrap();
    assert!(matches!(&last, LoadEvent::Failed(e) if e.to_string().contains("cancelled")), "{last:?}");
}

#[test]
fn short_pieces_for_a_window_give_the_same_answer() {
    let options = LoadOptions { pacing: Pacing { piece_secs: 0.0005, outstanding: 1 }, ..ROOM };
    let engine = start("deep", Recipe::F32, options);
    for name in ["mixed", "long_text"] {
        let case = Case::read("deep", name);
        assert_eq!(ids(&collect(&engine.ask(greedy(&case, 24)))), case.greedy(Recipe::F32), "{name}");
    }
}
