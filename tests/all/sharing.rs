//! Requests that begin alike share what they have in common, also while they run side by side; answers asked for reproducibly
//! do not depend on it, bit for bit; given answers are measured.

use std::path::Path;
use std::sync::Arc;

use ocelli::chat::message::{ImageSource, Message, Part, Role};
use ocelli::engine::{Answer, AnswerEvent, Engine, LoadEvent, LoadRequest, Request, Score};
use ocelli::gpu::{Gpu, GpuOptions, Tuning};
use ocelli::model::builtin;
use ocelli::model::loaded::LoadOptions;
use ocelli::model::recipe::Recipe;
use ocelli::model::runner::Runner;
use ocelli::model::sampler::Sampling;

use crate::engine::{ROOM, Told, collect, greedy, ids, start, start_on};
use crate::support::*;

fn reproducible(case: &Case, tokens: usize) -> Request {
    Request { reproducible: true, ..greedy(case, tokens) }
}

fn assert_same(a: &Told, b: &Told, what: &str) {
    assert_eq!(ids(a), ids(b), "{what}");
    for (n, (x, y)) in a.tokens.iter().zip(&b.tokens).enumerate() {
        assert_eq!(x.record.logprob.to_bits(), y.record.logprob.to_bits(), "{what}: token {n}");
        assert_eq!(x.record.alternatives, y.record.alternatives, "{what}: token {n}");
    }
}

#[test]
fn what_begins_together_shares_its_prompt_and_encodes_its_picture_once() {
    let engine = start("ladder", Recipe::Int8Hu, ROOM);
    let case = Case::read("ladder", "square");
    let answers: Vec<Answer> = (0..4u64)
        .map(|seed| {
            let sampling = Sampling { temperature: 1.0, seed, ..Sampling::GREEDY };
            engine.ask(Request { sampling, ..reproducible(&case, 40) })
        })
        .collect();
    let told: Vec<Told> = answers.iter().map(collect).collect();
    let mut reused: Vec<usize> = told.iter().map(|t| t.end.as_ref().unwrap().reused_tokens).collect();
    // Prompts are made on threads of their own: any of them may be the first.
    reused.sort_unstable();
    let prompt = told[0].end.as_ref().unwrap().prompt_tokens;
    assert_eq!(reused, [0, prompt - 1, prompt - 1, prompt - 1]);
    let encoded = told.iter().flat_map(|t| &t.vision).filter(|secs| secs.is_some()).count();
    assert_eq!(encoded, 1);
    let most = told.iter().flat_map(|t| &t.tokens).map(|t| t.batch).max().unwrap();
    assert_eq!(most, 4, "they decode in one step");
    let different: std::collections::HashSet<Vec<u32>> = told.iter().map(ids).collect();
    assert!(different.len() > 1, "seeds make no difference");
}

#[test]
fn a_question_in_front_does_not_wait_for_all_that_is_in_the_background() {
    let engine = start("ladder", Recipe::Int8Hu, LoadOptions { context: 4096, ..ROOM });
    let case = Case::read("ladder", "text");
    // Long ones: a busy machine takes a while to make the prompt of the question in front.
    let background = |_| engine.ask(Request { background: true, ..greedy(&case, 300) });
    let behind: Vec<Answer> = (0..24).map(background).collect();
    // One of them has begun; which, is as chance has it: prompts are made on threads.
    let has_begun = |answer: &Answer| answer.events.try_recv().is_ok();
    while !behind.iter().any(has_begun) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let front = engine.ask(greedy(&case, 2));
    assert_eq!(ids(&collect(&front)).len(), 2);
    let left = behind
        .iter()
        .filter(|answer| !answer.events.try_iter().any(|event| matches!(event, AnswerEvent::Finished(_))));
    assert!(left.count() >= 8, "it came after nearly all of them");
    for answer in &behind {
        answer.cancel.cancel();
    }
}

/// A generator of numbers for schedules: repeatable, and good enough for them.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Questions with common beginnings: a conversation's later turns, the same picture, other settings.
fn questions(checkpoint: &str) -> Vec<(String, Request)> {
    let mut all = Vec::new();
    for (n, name) in ["two_turns", "square", "text", "tiny", "mixed"].iter().enumerate() {
        let case = Case::read(checkpoint, name);
        for variant in 0..3 {
            let mut request = reproducible(&case, 10 + 3 * variant);
            if variant == 1 {
                request.sampling =
                    Sampling { temperature: 0.8, top_p: 0.9, seed: n as u64, ..Sampling::GREEDY };
            }
            if variant == 2 {
                // The answer begins with what others say: their own tokens stand in the cache, decoded.
                request.answer_start = Some("a b c".into());
            }
            all.push((format!("{name} {variant}"), request));
        }
    }
    all
}

#[test]
fn reproducible_answers_are_those_of_an_engine_that_was_asked_nothing_else() {
    // Small pages' worth of room too: what is dropped to make room must not matter.
    let narrow = [(Tuning::PACKED, 2048), (Tuning::COOPERATIVE, 2048)];
    for (tuning, context) in [(Tuning::PORTABLE, 2048), (Tuning::SOFTWARE, 1024)].into_iter().chain(narrow) {
        if !tuning.is_possible(&gpu()) {
            continue;
        }
        let gpu = Gpu::new(&GpuOptions { tuning: Some(tuning), ..GpuOptions::default() }).unwrap();
        let room = LoadOptions { context, ..ROOM };
        let all = questions("ladder");
        let alone: Vec<Told> = all
            .iter()
            .map(|(_, request)| collect(&start_on(&gpu, "ladder", Recipe::Int8Hu, room).ask(request.clone())))
            .collect();
        let engine = start_on(&gpu, "ladder", Recipe::Int8Hu, room);
        let mut numbers = Numbers(7);
        let mut shared = 0;
        for _ in 0..12 {
            // Up to six at once, some of them stopped early or given up before they begin.
            let picked: Vec<usize> = (0..=numbers.below(6)).map(|_| numbers.below(all.len())).collect();
            let answers: Vec<(usize, bool, Answer)> = picked
                .into_iter()
                .map(|at| {
                    let mut request = all[at].1.clone();
                    let fate = numbers.below(6);
                    if fate == 0 {
                        request.max_tokens = Some(1 + numbers.below(4));
                    }
                    // What is asked in the ordinary way leaves other bits in the cache.
                    request.reproducible = numbers.below(4) > 0;
                    let counts = fate > 1 && request.reproducible;
                    let answer = engine.ask(request);
                    if fate == 1 {
                        answer.cancel.cancel();
                    }
                    (at, counts, answer)
                })
                .collect();
            for (at, counts, answer) in answers {
                let told = collect(&answer);
                if let (true, Ok(end)) = (counts, &told.end) {
                    shared += end.reused_tokens;
                    assert_same(&alone[at], &told, &all[at].0);
                }
            }
        }
        assert!(shared > 100, "only {shared} tokens were shared");
    }
}

fn score(engine: &Engine, request: Request) -> Result<Score, ocelli::error::Error> {
    for event in &engine.ask(request).events {
        match event {
            AnswerEvent::Scored(score) => return Ok(*score),
            AnswerEvent::Failed(error) => return Err(error),
            AnswerEvent::Finished(_) | AnswerEvent::Token(_) => panic!("nothing is to be answered"),
            _ => {}
        }
    }
    panic!("the end is missing")
}

#[test]
fn a_given_answer_is_as_likely_as_the_logits_of_every_place_say() {
    for (recipe, name) in [(Recipe::F32, "two_pictures"), (Recipe::Int8Hu, "square"), (Recipe::F16, "text")] {
        let case = Case::read("ladder", name);
        // Longer than one pass of the head, and over the end of a chunk of prefill.
        let text = "a red circle and 17 small squares, 中文 too, beside a b c d e f g ".repeat(3);
        let question = Request { reference: Some(text.clone()), ..request(&case) };
        let front_end = front_end("ladder");
        let mut prepared = front_end.prepare(&question, &|| false).unwrap();
        let target = std::mem::take(&mut prepared.reference);
        assert_eq!(front_end.tokenizer.decode(&target, false), text);

        let mut model = load("ladder", recipe);
        let mut tokens = ocelli::engine::trace::encode_pictures(&mut model, &prepared).unwrap();
        let prompt = tokens.len();
        tokens.extend(&target[..target.len() - 1]);
        let mut positions = prepared.prompt.positions.thw.clone();
        let next = positions.last().unwrap().iter().max().unwrap() + 1;
        positions.extend((0..target.len() as u32 - 1).map(|n| [next + n; 3]));
        let logits = Runner::new(&mut model).score(&tokens, &positions, 64).unwrap();
        let expected: Vec<f64> = target
            .iter()
            .zip(&logits[prompt - 1..])
            .map(|(&id, row)| {
                let most = row.iter().copied().fold(f32::MIN, f32::max);
                let sum: f64 = row.iter().map(|&l| f64::from(l - most).exp()).sum();
                f64::from(row[id as usize] - most) - sum.ln()
            })
            .collect();

        let engine = start("ladder", recipe, ROOM);
        let first = score(&engine, question.clone()).unwrap();
        assert_eq!(first.ids, target, "{name}");
        let off = first.logprobs.iter().zip(&expected).map(|(&a, b)| (f64::from(a) - b).abs());
        // f32 sums in another order; the kernels of few rows and of many round otherwise.
        let most = off.fold(0.0, f64::max);
        assert!(most < 2e-4, "{recipe} {name}: {most}");
        let mean = expected.iter().sum::<f64>() / expected.len() as f64;
        assert!((first.mean() - mean).abs() < 1e-4 && (first.perplexity().ln() + mean).abs() < 1e-4);
        // Asked again, the prompt is there; so are answers after it.
        let again = score(&engine, Request { reproducible: true, ..question.clone() }).unwrap();
        assert_eq!(again.reused_tokens, prompt - 1);
        assert!(again.logprobs.iter().zip(&first.logprobs).all(|(a, b)| (a - b).abs() < 2e-4));
        let answer = collect(&engine.ask(greedy(&case, 8)));
        assert_eq!(ids(&answer), case.greedy(recipe)[..8], "{name}");
    }
}

#[test]
fn an_answer_that_the_model_gives_is_as_likely_as_it_said_while_giving_it() {
    // The demo model: what it says is text, which its tokenizer cuts into the same tokens again.
    let engine = Engine::start(gpu(), Arc::new(|| {})).unwrap();
    let folder = builtin::NAME.into();
    let load = engine.load(LoadRequest { folder, recipe: None, options: LoadOptions::default() });
    assert!(matches!(load.events.iter().last(), Some(LoadEvent::Loaded(_))));
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/pictures");
    for (file, question) in [("shapes.png", "What do you see?"), ("count.png", "Where is the circle?")] {
        let picture = Part::Image(ImageSource::Path(pictures.join(file)));
        let question = Message::new(Role::User, vec![picture, Part::Text(question.into())]);
        let mut request = Request::new(vec![question]);
        let told = collect(&engine.ask(request.clone()));
        request.reference = Some(told.text.clone());
        let scored = score(&engine, request).unwrap();
        assert_eq!(scored.ids, ids(&told), "{}", told.text);
        assert!(scored.ids.len() >= 4, "{}", told.text);
        for (token, logprob) in told.tokens.iter().zip(&scored.logprobs) {
            assert!((token.record.logprob - logprob).abs() < 1e-3, "{} {logprob}", token.record.logprob);
        }
    }
}

#[test]
fn an_empty_or_endless_answer_is_refused_and_a_cancelled_one_ends() {
    let engine = start("ladder", Recipe::Int8Hu, ROOM);
    let case = Case::read("ladder", "text");
    let ask = |text: &str| score(&engine, Request { reference: Some(text.into()), ..request(&case) });
    assert!(ask("").unwrap_err().to_string().contains("it is empty"));
    let error = ask(&"word ".repeat(4000)).unwrap_err().to_string();
    assert!(error.contains("the context holds 2048"), "{error}");
    let answer = engine.ask(Request { reference: Some("a ".repeat(700)), ..request(&case) });
    answer.cancel.cancel();
    assert!(answer.events.iter().last().is_some(), "it ends");
    assert!(ask("a").is_ok(), "others can still be measured");
}
