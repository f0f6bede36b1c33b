//! What every token cost: the times of its stages are in order and add up, whatever came between; answers branch off at a
//! token without computing again what they share; files of it hold what was told.

use std::fs;
use std::time::Instant;

use ocelli::chat::message::{Message, Role};
use ocelli::clock;
use ocelli::costs::{About, Costs, Ledger, Part, Times, parts};
use ocelli::engine::{AnswerEvent, Engine, LoadEvent, LoadRequest, ModelInfo, Request, Speculation};
use ocelli::gpu::{Gpu, GpuOptions, Pacing, Recorder};
use ocelli::model::builtin;
use ocelli::model::loaded::LoadOptions;
use ocelli::model::recipe::Recipe;
use std::sync::Arc;

use crate::commands::Place;
use crate::engine::{ROOM, greedy};
use crate::support::*;

fn start(checkpoint: &str, recipe: Recipe, options: LoadOptions) -> (Engine, ModelInfo) {
    let engine = Engine::start(gpu(), Arc::new(|| {})).unwrap();
    let folder = converted(checkpoint, recipe).folder().to_owned();
    let load = engine.load(LoadRequest { folder, recipe: None, options });
    match load.events.iter().last().unwrap() {
        LoadEvent::Loaded(info) => (engine, *info),
        other => panic!("{other:?}"),
    }
}

/// Asks, and gathers what it cost.
fn ask(engine: &Engine, info: &ModelInfo, request: Request) -> (Costs, String) {
    let mut ledger = Ledger::new(About::from(info), Instant::now(), 0);
    let answer = engine.ask(request);
    let mut text = String::new();
    for event in &answer.events {
        ledger.see(&event);
        match event {
            AnswerEvent::Finished(summary) => text = summary.text,
            AnswerEvent::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    (ledger.into_costs(), text)
}

fn in_order(times: &Times) {
    let stages = [times.recorded, times.submitted, times.begin, times.end, times.read];
    assert!(stages.iter().all(|&ns| ns > 0), "{times:?}");
    assert!(stages.windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
}

fn ids(costs: &Costs) -> Vec<u32> {
    costs.tokens.iter().map(|token| token.id).collect()
}

#[test]
fn every_stage_of_an_answer_is_timed_and_in_order() {
    let (engine, info) = start("ladder", Recipe::Int8Hu, LoadOptions { prefill_rows: 64, ..ROOM });
    let case = Case::read("ladder", "square");
    // A step for each token.
    let request = Request { speculation: Speculation::Off, ..greedy(&case, 70) };
    let (costs, text) = ask(&engine, &info, request);
    assert_eq!(costs.tokens.len(), 70);
    // Pieces of the prompt: all of it, none twice.
    let mut next = 0;
    for chunk in &costs.chunks {
        assert_eq!(chunk.first, next);
        next += chunk.tokens;
        in_order(&chunk.times);
    }
    assert_eq!((next, costs.reused_tokens), (costs.prompt_tokens, 0));
    assert!(costs.chunks.len() > 1, "the prompt has one piece");
    assert_eq!(costs.pictures.len(), 1);
    in_order(&costs.pictures[0].times);
    assert!(costs.pictures[0].times.end <= costs.chunks[0].times.begin);
    for (n, token) in costs.tokens.iter().enumerate() {
        in_order(&token.times);
        let t = token.times;
        assert!(t.begin <= t.sampling && t.sampling <= t.end, "{n}: {t:?}");
        assert!(t.read <= t.decoded, "{n}: {t:?}");
        assert_eq!(token.ends_prefill, n == 0);
        assert_eq!(token.index, costs.prompt_tokens - 1 + u32::try_from(n).unwrap());
        // What a step reads: the weights, and keys and values of all tokens up to its own.
        let cached = u64::from(token.index) + 1;
        assert_eq!(token.bytes, costs.weights_bytes + costs.kv_bytes_per_token * cached, "{n}");
        assert_eq!(token.alternatives[0].0, token.id, "greedy");
        // A page holds 64 tokens.
        assert_eq!(token.grew_page, n > 0 && token.index % 64 == 0, "{n}");
    }
    // Steps run one after the other on the device. (Where one ends and the next begins is known as well as the clocks are.)
    assert!(costs.tokens.windows(2).all(|pair| pair[0].times.begin < pair[1].times.begin));
    // The text is that of the tokens, in their places.
    let shown = costs.tokens.iter().filter(|token| !info.tokenizer.is_special(token.id));
    let whole: Vec<u8> = shown.flat_map(|token| costs.piece(token.id).to_vec()).collect();
    assert_eq!(String::from_utf8_lossy(&whole), text);
    assert_eq!(costs.text_end(), text.len());
}

#[test]
fn steps_and_gaps_add_up_to_the_answer_within_three_percent() {
    // Both paces: whole steps, and short pieces as for a window.
    for pacing in [Pacing::HEADLESS, Pacing::WINDOW] {
        let (engine, info) =
            start("ladder", Recipe::Int8Hu, LoadOptions { pacing, prefill_rows: 64, ..ROOM });
        let case = Case::read("ladder", "square");
        let asked = clock::now_ns();
        let (costs, _) = ask(&engine, &info, greedy(&case, 120));
        let took = clock::now_ns() - asked;
        let parts = parts(&costs);
        let sum: u64 = parts.iter().map(|part| part.ns).sum();
        assert!(sum.abs_diff(took) < took * 3 / 100, "{sum} of {took}");
        let of = |part: Part| parts.iter().find(|time| time.part == part).unwrap().ns;
        // Each part is what its own steps took: nothing is counted twice, nothing is lost.
        let device = |all: &mut dyn Iterator<Item = Times>| all.map(|times| times.device_ns()).sum::<u64>();
        let steps = device(&mut costs.tokens[1..].iter().map(|token| token.times));
        let chunks = device(&mut costs.chunks.iter().map(|chunk| chunk.times));
        let vision = device(&mut costs.pictures.iter().map(|picture| picture.times));
        let counted = of(Part::Decode) + of(Part::Prefill) + of(Part::Vision) + of(Part::Sampling);
        assert!(
            counted.abs_diff(steps + chunks + vision) < took / 100,
            "{counted} {steps} {chunks} {vision}"
        );
        // What latencies say together is the time from the first token to the last.
        let latencies: f64 = (1..costs.tokens.len()).map(|n| costs.latency_ms(n).unwrap()).sum();
        let decoded = |n: usize| costs.tokens[n].times.decoded as f64 / 1e6;
        assert!((latencies - (decoded(119) - decoded(0))).abs() < 1e-6);
    }
}

#[test]
fn a_prompt_that_goes_on_in_the_middle_of_a_page_is_timed_from_its_own_beginning() {
    let (engine, info) = start("ladder", Recipe::Int8Hu, ROOM);
    let case = Case::read("ladder", "text");
    let (first, _) = ask(&engine, &info, greedy(&case, 9));
    assert_ne!((first.prompt_tokens + 8) % 64, 0);
    std::thread::sleep(std::time::Duration::from_millis(30));
    // The same prompt, and all that was said: its last page is copied before the prefill, which must not begin its times.
    let (again, _) = ask(&engine, &info, Request { answer_ids: ids(&first), ..greedy(&case, 4) });
    assert!(
        again.reused_tokens > again.prompt_tokens - 3,
        "{} of {}",
        again.reused_tokens,
        again.prompt_tokens
    );
    again.chunks.iter().for_each(|chunk| in_order(&chunk.times));
}

#[test]
fn an_answer_branches_off_at_a_token_and_computes_nothing_twice() {
    for (checkpoint, case) in [("ladder", "square"), ("mono", "mixed")] {
        let (engine, info) = start(checkpoint, Recipe::Int8Hu, ROOM);
        let case = Case::read(checkpoint, case);
        let (whole, text) = ask(&engine, &info, greedy(&case, 40));
        let all = ids(&whole);
        let n = all.len() / 2;
        // The token that was chosen, once more: the same answer follows.
        let (same, rest) =
            ask(&engine, &info, Request { answer_ids: all[..n].to_vec(), ..greedy(&case, all.len() - n) });
        assert_eq!(ids(&same), all[n..], "{checkpoint}");
        let begins = whole.beginning(n).text_end();
        assert_eq!(rest, text[begins..], "{checkpoint}");
        assert_eq!(same.prompt_tokens as usize, whole.prompt_tokens as usize + n);
        assert_eq!(same.reused_tokens, same.prompt_tokens - 1, "{checkpoint}: pages are shared");
        assert!(same.pictures.is_empty(), "the picture is not encoded again");
        // Another one: it is there for the tokens after it, as if it had been in the prompt.
        let other = whole.tokens[n].alternatives[1].0;
        let mut ids_before = all[..n].to_vec();
        ids_before.push(other);
        let branch = Request { answer_ids: ids_before.clone(), ..greedy(&case, 8) };
        let (branched, _) = ask(&engine, &info, branch.clone());
        let (alone, info_alone) = start(checkpoint, Recipe::Int8Hu, ROOM);
        let (fresh, _) = ask(&alone, &info_alone, branch);
        assert_eq!((fresh.reused_tokens, ids(&fresh)), (0, ids(&branched)), "{checkpoint}");
    }
}

#[test]
fn a_character_that_the_given_tokens_began_with_goes_on() {
    let (engine, info) = start("ladder", Recipe::F32, ROOM);
    let case = Case::read("ladder", "text");
    // The first two of an emoji's four bytes, as tokens of one byte each.
    let begun: Vec<u32> = "🐈".bytes().take(2).map(|byte| byte_token(&info, byte)).collect();
    let (costs, text) = ask(&engine, &info, Request { answer_ids: begun.clone(), ..greedy(&case, 6) });
    let mut bytes = "🐈".as_bytes()[..2].to_vec();
    let shown = costs.tokens.iter().filter(|token| !info.tokenizer.is_special(token.id));
    bytes.extend(shown.flat_map(|token| costs.piece(token.id).to_vec()));
    assert_eq!(text, String::from_utf8_lossy(&bytes));
}

fn byte_token(info: &ModelInfo, byte: u8) -> u32 {
    let count = u32::try_from(info.tokenizer.vocab_size()).unwrap();
    (0..count).find(|&id| info.tokenizer.token_bytes(id) == Some(&[byte])).unwrap()
}

#[test]
fn tokens_that_are_none_are_refused() {
    let (engine, info) = start("ladder", Recipe::F32, ROOM);
    let case = Case::read("ladder", "text");
    for id in [u32::MAX, u32::try_from(info.tokenizer.vocab_size()).unwrap() + 100_000] {
        let answer = engine.ask(Request { answer_ids: vec![id], ..greedy(&case, 2) });
        match answer.events.iter().last().unwrap() {
            AnswerEvent::Failed(error) => assert!(error.to_string().contains("no token"), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_ran_between_two_steps_is_told() {
    let (engine, info) = start("ladder", Recipe::Int8Hu, LoadOptions { context: 4096, ..ROOM });
    let case = Case::read("ladder", "text");
    let mut ledger = Ledger::new(About::from(&info), Instant::now(), 0);
    let long = engine.ask(greedy(&case, 400));
    // Well under way.
    let mut seen = 0;
    while seen < 20 {
        let event = long.events.recv().unwrap();
        seen += usize::from(matches!(event, AnswerEvent::Token(_)));
        ledger.see(&event);
    }
    let other = engine.ask(greedy(&Case::read("ladder", "square"), 5));
    other.events.iter().for_each(drop);
    long.events.iter().for_each(|event| ledger.see(&event));
    let costs = ledger.into_costs();
    assert!(costs.tokens.iter().skip(1).any(|token| token.interrupted), "the other prompt is not seen");
    assert!(costs.tokens[1..15].iter().all(|token| !token.interrupted));
    assert!(costs.tokens.iter().any(|token| token.batch == 2) && costs.tokens[5].batch == 1);
}

#[test]
fn generate_writes_what_every_token_cost() {
    let place = Place::new();
    let model = builtin::NAME;
    for name in ["t.json", "t.csv", "t.jsonl", "t.svg"] {
        let path = place.path(name);
        let path = path.to_str().unwrap();
        let arguments = [
            "generate",
            "--model",
            model,
            "--greedy",
            "--max-tokens",
            "12",
            "--json",
            "--trace-out",
            path,
            "Hello",
        ];
        let told = place.fine(&arguments).json();
        let text = fs::read_to_string(path).unwrap();
        let tokens = told["ids"].as_array().unwrap().len();
        match name {
            "t.json" => {
                let trace: serde_json::Value = serde_json::from_str(&text).unwrap();
                let events = trace["traceEvents"].as_array().unwrap();
                let decoded = events.iter().filter(|e| e["ph"] == "X" && e["args"]["n"].is_u64()).count();
                assert_eq!(decoded, tokens - 1);
                assert!(trace["otherData"]["bandwidth_gb_s"].as_f64().unwrap() > 0.1);
            }
            "t.csv" => assert_eq!(csv::Reader::from_reader(text.as_bytes()).records().count(), tokens),
            "t.jsonl" => {
                let ids: Vec<u64> = text
                    .lines()
                    .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
                    .filter(|line| line["kind"] == "token")
                    .map(|line| line["id"].as_u64().unwrap())
                    .collect();
                assert_eq!(serde_json::json!(ids), told["ids"]);
            }
            _ => assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n")),
        }
    }
    let wrong = place.run(&["generate", "--model", model, "--trace-out", "x.txt", "Hello"]);
    assert!(wrong.status != Some(0) && wrong.stderr.contains(".csv"), "{}", wrong.stderr);
}

#[test]
fn without_timestamps_steps_are_timed_from_submitting_to_reading() {
    let options = GpuOptions { without_timestamps: true, ..GpuOptions::default() };
    let engine = Engine::start(Gpu::new(&options).unwrap(), Arc::new(|| {})).unwrap();
    let folder = converted("ladder", Recipe::Int8Hu).folder().to_owned();
    let load = engine.load(LoadRequest { folder, recipe: None, options: ROOM });
    let Some(LoadEvent::Loaded(info)) = load.events.iter().last() else { panic!("not loaded") };
    let (costs, _) = ask(&engine, &info, greedy(&Case::read("ladder", "square"), 12));
    assert!(!costs.has_device_times);
    for token in &costs.tokens {
        let t = token.times;
        assert_eq!((t.begin, t.sampling, t.end), (0, 0, 0));
        assert!(t.device_ns() > 0 && t.device() == Some((t.submitted, t.read)));
    }
    assert_eq!(parts(&costs).iter().map(|part| part.ns).sum::<u64>(), costs.finished);
}

#[test]
fn a_span_without_work_has_no_times_of_the_device_and_is_not_waited_for() {
    let gpu = gpu();
    let mut recorder = Recorder::new(&gpu, Pacing::HEADLESS).unwrap();
    let mut ring = Recorder::record_ring(0);
    for _ in 0..3 {
        let readback = recorder.submit_and_time(&mut ring).unwrap();
        let mut bytes = readback.wait(&gpu).unwrap();
        let times = recorder.split_times(&mut bytes, &readback);
        assert_eq!((times.begin_ns, times.mark_ns, times.end_ns), (0, 0, 0));
        assert!(times.submitted_ns <= times.read_ns);
        ring.recycle(readback);
    }
}

/// Seconds of processor that this process has used; 0 where the system does not tell.
pub fn processor_secs() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // After the name and the state, which is no number: user and system time are the 11th and 12th, in hundredths.
    fields.get(10..12).map_or(0.0, |times| times.iter().sum::<f64>() / 100.0)
}

/// How much recording costs: one engine answers in pairs, once as it always does and its events gathered, once with its steps left
/// untimed and nobody who gathers; which comes first alternates. (Two copies of a model are not equally fast: they would tell
/// nothing below some percent.) A step is the time from a token to the next one at the asker's; the middle one of an answer is
/// hardly disturbed by others on the machine. Where the device is software, the processor's time is what recording costs, too.
/// `OCELLI_TEST_MODEL` names the model, `OCELLI_TEST_ROUNDS` how many pairs, `OCELLI_TEST_TOKENS` how long answers are.
#[test]
#[ignore = "a measurement, for docs/measurements.md"]
fn recording_costs_little() {
    let folder = std::env::var("OCELLI_TEST_MODEL").unwrap_or_else(|_| builtin::NAME.into());
    let number = |name: &str, usual: usize| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let (rounds, tokens) = (number("OCELLI_TEST_ROUNDS", 15), number("OCELLI_TEST_TOKENS", 100));
    let gpu = Gpu::new(&GpuOptions::default()).unwrap();
    let engine = Engine::start(gpu.clone(), Arc::new(|| {})).unwrap();
    let options = LoadOptions { context: 1024, ..LoadOptions::default() };
    let load = engine.load(LoadRequest { folder: folder.into(), recipe: None, options });
    let info = match load.events.iter().last().unwrap() {
        LoadEvent::Loaded(info) => *info,
        other => panic!("{other:?}"),
    };
    // The middle one and the mean of an answer's steps, and the processor's time a token: milliseconds.
    let run = |records: bool| {
        gpu.leave_untimed(!records);
        let messages = vec![Message::text(Role::User, "Tell me about a red circle and a blue star")];
        let request = Request {
            max_tokens: Some(tokens),
            ignore_end: true,
            speculation: Speculation::Off,
            ..Request::new(messages)
        };
        let mut ledger = records.then(|| Ledger::new(About::from(&info), Instant::now(), 0));
        let used = processor_secs();
        let answer = engine.ask(request);
        let (mut steps, mut before) = (vec![], None::<Instant>);
        for event in &answer.events {
            if let Some(ledger) = &mut ledger {
                ledger.see(&event);
            }
            match event {
                AnswerEvent::Token(told) => {
                    assert_eq!(told.times.begin_ns > 0, records && gpu.has_timestamps());
                    let now = Instant::now();
                    steps.extend(before.replace(now).map(|before| (now - before).as_secs_f64() * 1e3));
                }
                AnswerEvent::Finished(_) => break,
                AnswerEvent::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
        let processor_ms = (processor_secs() - used) * 1e3 / tokens as f64;
        steps.sort_by(f64::total_cmp);
        [steps[steps.len() / 2], steps.iter().sum::<f64>() / steps.len() as f64, processor_ms]
    };
    // Both ways warm up.
    let _ = (run(true), run(false));
    let pairs: Vec<([f64; 3], [f64; 3])> = (0..rounds)
        .map(|round| {
            let first = run(round % 2 == 0);
            let second = run(round % 2 == 1);
            if round % 2 == 0 { (first, second) } else { (second, first) }
        })
        .collect();
    for (n, what) in ["median step", "mean step", "processor time a token"].iter().enumerate() {
        let ratios: Vec<f64> = pairs.iter().map(|(with, without)| (with[n] / without[n]).ln()).collect();
        let mean = ratios.iter().sum::<f64>() / rounds as f64;
        let variance = ratios.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (rounds as f64 - 1.0);
        let error = (variance / rounds as f64).sqrt();
        let with = pairs.iter().map(|(with, _)| with[n]).sum::<f64>() / rounds as f64;
        let without = pairs.iter().map(|(_, without)| without[n]).sum::<f64>() / rounds as f64;
        println!(
            "{what}: with {with:.3} ms, without {without:.3} ms, ratio {:.4} +- {error:.4} (standard error, {rounds} pairs)",
            mean.exp(),
        );
    }
}
