//! Looking inside a step, against what transformers says of it: attentions and the logit lens of every layer, through the
//! engine and on the model itself; with reuse and without, beside other sessions, in every form of cache.

mod oracle;

use std::sync::{Arc, Mutex};

use ocelli::engine::trace::encode_pictures;
use ocelli::engine::{
    Answer, AnswerEvent, Engine, Inside, LoadEvent, LoadRequest, PicturePlace, Request, Selection, Step,
    StopReason,
};
use ocelli::error::Error;
use ocelli::gpu::{Gpu, GpuOptions, KernelEdit, Tuning};
use ocelli::model::kv_cache::KvFormat;
use ocelli::model::loaded::LoadOptions;
use ocelli::model::recipe::Recipe;
use ocelli::model::runner::Runner;
use ocelli::model::sampler::Sampling;

use self::oracle::{Errors, Looked, check_ids, errors};
use crate::engine::{ROOM, collect, greedy, ids, start, start_on};
use crate::support::*;

/// Largest error of a probability in f32; the worst measured is 1.4e-6, of f32's own sums. A wrong scale or head: 0.4 and more.
const ATTENTION_MAX: f64 = 1e-5;
/// Largest error of a log-probability or an entropy in f32; the worst measured is 3.7e-5, of logits with a standard deviation of 4.
const LENS_MAX: f64 = 2e-4;

/// The answer whose tokens are looked into is the oracle's greedy one in f32, whatever the recipe.
fn step_of(case: &Case, token: usize) -> Step {
    Step { answer: case.greedy(Recipe::F32).into(), token }
}

fn question(case: &Case, token: usize) -> Request {
    Request { inside: Some(step_of(case, token)), ..request(case) }
}

fn end_of(answer: &Answer) -> Result<Arc<Inside>, Error> {
    for event in &answer.events {
        match event {
            AnswerEvent::Inside(inside) => return Ok(inside),
            AnswerEvent::Failed(error) => return Err(error),
            AnswerEvent::Token(_) | AnswerEvent::Scored(_) => panic!("nothing is to be answered"),
            AnswerEvent::Finished(summary) => {
                assert_eq!(summary.reason, StopReason::Cancelled);
                return Err(Error::cancelled("looking"));
            }
            _ => {}
        }
    }
    panic!("the end is missing")
}

fn look(engine: &Engine, case: &Case, token: usize) -> Arc<Inside> {
    end_of(&engine.ask(question(case, token))).unwrap()
}

#[test]
fn attention_and_lens_of_a_step_are_those_of_transformers_in_f32() {
    let mut worst = Errors::default();
    let mut steps = 0;
    for (checkpoint, looked) in Looked::all() {
        let engine = start(checkpoint, Recipe::F32, ROOM);
        for token in looked.tokens(Recipe::F32) {
            let inside = look(&engine, &looked.case, token);
            let found = errors(&inside, &looked, Recipe::F32, token);
            println!("{} token {token}: {found}", looked.case.name);
            assert!(found.within(ATTENTION_MAX, LENS_MAX), "{} {token}: {found:?}", looked.case.name);
            check_ids(&inside, &looked, Recipe::F32, token, 4e-4);
            worst = worst.worst(found);
            steps += 1;
        }
    }
    println!("f32, {steps} steps: {worst}");
    assert!(steps >= 12, "{steps} steps");
}

/// What differs is the cache, in f16: a key's rounding moves a score by 1e-3 of it, and these models' scores
/// reach 20. The worst measured: 3.5e-4 and 1.3e-2.
#[test]
fn attention_and_lens_are_near_transformers_with_the_same_weights_and_a_cache_in_f16() {
    for recipe in [Recipe::Int8Hu, Recipe::F16] {
        let mut worst = Errors::default();
        for (checkpoint, looked) in Looked::all() {
            for token in looked.tokens(recipe) {
                let inside = look(&start(checkpoint, recipe, ROOM), &looked.case, token);
                let found = errors(&inside, &looked, recipe, token);
                assert!(found.within(2e-3, 0.05), "{} {recipe}: {found:?}", looked.case.name);
                worst = worst.worst(found);
            }
        }
        println!("{recipe}: {worst}");
        assert!(worst.attention > 0.0, "nothing was compared");
    }
}

/// An int8 cache rounds keys to 1/127 of their largest element: logits move by up to 1.2 (`int8_cache.rs`). The worst
/// measured: 1.1e-2 and 0.24.
#[test]
fn attention_of_an_int8_cache_is_of_the_keys_as_they_are_stored() {
    let int8 = LoadOptions { kv: Some(KvFormat::Int8), ..ROOM };
    let mut worst = Errors::default();
    for (checkpoint, looked) in Looked::all() {
        let engine = start(checkpoint, Recipe::F32, int8);
        for token in looked.tokens(Recipe::F32) {
            let found = errors(&look(&engine, &looked.case, token), &looked, Recipe::F32, token);
            assert!(found.within(0.05, 0.8), "{} {token}: {found:?}", looked.case.name);
            worst = worst.worst(found);
        }
    }
    println!("int8 cache: {worst}");
}

/// The model alone, the cache and all activations poisoned before: hidden states, the lens' last layer, every family of kernels.
#[test]
fn hidden_states_are_those_of_transformers_and_the_last_lens_is_the_head_bit_for_bit() {
    let variants = [
        GpuOptions { tuning: Some(Tuning::PORTABLE), checked_kernels: true, ..GpuOptions::default() },
        GpuOptions { without_subgroups: true, without_f16: true, ..GpuOptions::default() },
        GpuOptions::default(),
    ];
    for (variant, options) in variants.into_iter().enumerate() {
        let gpu = Gpu::new(&options).unwrap();
        let mut worst = (0f64, 0f64);
        for (checkpoint, looked) in Looked::all() {
            if variant < 2 && checkpoint != "ladder" {
                continue;
            }
            let front_end = front_end(checkpoint);
            let mut model = load_on(&gpu, checkpoint, Recipe::F32);
            let prepared = front_end.prepare(&request(&looked.case), &|| false).unwrap();
            for token in looked.tokens(Recipe::F32) {
                let mut all = encode_pictures(&mut model, &prepared).unwrap();
                let mut thw = prepared.prompt.positions.thw.clone();
                let next = (all.len() as i64 + prepared.prompt.positions.rope_delta) as u32;
                all.extend(&looked.case.greedy(Recipe::F32)[..token]);
                thw.extend((0..token as u32).map(|i| [next + i; 3]));
                let last = all.len() - 1;
                let mut runner = Runner::new(&mut model);
                runner.prefill(&all[..last], &thw[..last], 100, None).unwrap();
                let row = runner.rows(&all[last..], &thw[last..])[0];
                let text = &model.config.text;
                let (layers, hidden, vocab) = (text.num_layers, text.hidden_size, text.vocab_size);
                let taps = model.text.make_step_taps(KvFormat::F32, all.len()).unwrap();
                model.tapped_step(row, &taps).unwrap();
                model.text.head(&mut model.recorder, 0, 1).unwrap();
                model.recorder.submit().unwrap();
                let own = gpu.read_f32(model.text.logits(), 0, vocab).unwrap();
                let left = gpu.read_f32(&taps.outputs, 0, layers * hidden).unwrap();
                let d = distance(&left, &looked.floats(Recipe::F32, token, "hidden"));
                assert!(d.max <= 1e-3, "{} token {token}: {d:?}", looked.case.name);
                let attention = taps.attention.as_ref().unwrap().read().unwrap();
                let e = distance(&attention, &looked.floats(Recipe::F32, token, "attention"));
                assert!(e.max <= ATTENTION_MAX, "{} token {token}: {e:?}", looked.case.name);
                worst = (worst.0.max(d.max), worst.1.max(e.max));
                model.text.head_of_layers(&mut model.recorder, &taps, 0, layers).unwrap();
                model.recorder.submit().unwrap();
                let lens = gpu.read_f32(model.text.logits(), (layers - 1) * vocab, vocab).unwrap();
                assert!(own.iter().zip(&lens).all(|(a, b)| a.to_bits() == b.to_bits()), "the last lens");
            }
        }
        println!("variant {variant}: hidden states {:.1e}, attention {:.1e}", worst.0, worst.1);
        assert!(worst.1 > 0.0, "nothing was compared");
    }
}

#[test]
fn an_answer_just_given_is_looked_into_from_the_cache_and_says_what_it_said() {
    for (checkpoint, recipe, kv) in [
        ("ladder", Recipe::F32, KvFormat::F32),
        ("plain", Recipe::Int8Hu, KvFormat::F16),
        ("deep", Recipe::Int8Hu, KvFormat::Int8),
    ] {
        let room = LoadOptions { kv: Some(kv), ..ROOM };
        let engine = start(checkpoint, recipe, room);
        let case = Case::read(checkpoint, "mixed");
        let told = collect(&engine.ask(greedy(&case, 24)));
        let prompt = told.end.as_ref().unwrap().prompt_tokens;
        for token in [0, 1, 12, 23] {
            let step = Step { answer: ids(&told).into(), token };
            let question = Request { inside: Some(step), reproducible: token == 12, ..request(&case) };
            let inside = end_of(&engine.ask(question.clone())).unwrap();
            // All but the row that is looked into.
            assert_eq!(inside.reused_tokens, prompt + token - 1, "{checkpoint} token {token}");
            let (record, last) = (&told.tokens[token].record, inside.lens.last().unwrap());
            // The prompt's last row went through the kernels for many rows when the answer was given.
            let near = if token == 0 { 5e-3 } else { 1e-5 };
            let off = |a: f32, b: f32| f64::from((a - b).abs());
            assert!(off(last.chosen_logprob, record.logprob) < near, "{checkpoint} token {token}");
            assert!(off(last.entropy, record.entropy) < 10.0 * near, "{checkpoint} token {token}");
            assert_eq!(last.chosen_rank, record.rank, "{checkpoint} token {token}");
            for (lens, (_, logprob)) in last.top.iter().zip(&record.alternatives) {
                assert!(off(lens.logprob, *logprob) < near, "{checkpoint} token {token}");
            }

            // Once more: the same, bit for bit. From nothing: the same but for rounding.
            let again = end_of(&engine.ask(question.clone())).unwrap();
            assert!(*again == *inside, "{checkpoint} token {token}: looked into twice");
            if ![1, 23].contains(&token) {
                continue;
            }
            let fresh = end_of(&start(checkpoint, recipe, room).ask(question)).unwrap();
            assert_eq!(fresh.reused_tokens, 0);
            let most = distance(&fresh.attention, &inside.attention).max;
            // A key that is rounded to the next value of the cache, f16 or int8, is another key.
            let near = match kv {
                KvFormat::F32 => ATTENTION_MAX,
                KvFormat::F16 => 5e-3,
                KvFormat::Int8 => 0.05,
            };
            println!("{checkpoint} {recipe} {kv} token {token}: {most:.1e} from nothing");
            assert!(most <= near, "{checkpoint} token {token}: {most}");
        }
    }
}

#[test]
fn an_answer_under_way_beside_it_stays_bit_for_bit_what_it_was() {
    let case = Case::read("ladder", "two_turns");
    let sampling = Sampling { temperature: 0.9, seed: 11, ..Sampling::GREEDY };
    let long = Request { sampling, ..greedy(&case, 400) };
    // An engine of its own: what has its prompt in the cache prefills one row, by other kernels.
    let alone = collect(&start("ladder", Recipe::F32, ROOM).ask(long.clone()));
    let engine = start("ladder", Recipe::F32, ROOM);
    let looked = Looked::read("ladder", "wide");
    let tokens = looked.tokens(Recipe::F32);

    let under_way = engine.ask(long);
    let mut records = Vec::new();
    let mut looks = Vec::new();
    for event in &under_way.events {
        let AnswerEvent::Token(token) = event else { continue };
        // Asked while tokens come, which have slot 0: these have others.
        if records.len() % 60 == 5 {
            let token = tokens[looks.len() % tokens.len()];
            looks.push((token, engine.ask(question(&looked.case, token))));
        }
        records.push(token.record);
    }
    assert_eq!(records.len(), alone.tokens.len());
    for (at, (a, b)) in records.iter().zip(&alone.tokens).enumerate() {
        assert_eq!((a.id, a.logprob.to_bits()), (b.record.id, b.record.logprob.to_bits()), "token {at}");
    }
    assert!(looks.len() >= 6);
    for (token, look) in looks {
        let found = errors(&end_of(&look).unwrap(), &looked, Recipe::F32, token);
        assert!(found.within(ATTENTION_MAX, LENS_MAX), "token {token}: {found:?}");
    }
}

#[test]
fn pictures_and_clips_are_found_on_their_grids_and_texts_are_those_of_the_prompt() {
    let looked = Looked::read("plain", "mixed");
    let inside = look(&start("plain", Recipe::F32, ROOM), &looked.case, 5);
    let config = ocelli::model::config::ModelConfig::read(&fixtures().join("plain/model")).unwrap();
    let prompt = looked.case.ids();
    let places_of = |pad: u32| (0..prompt.len()).filter(|&i| prompt[i] == pad).collect::<Vec<_>>();
    let (image, clip) = (&inside.pictures[0], &inside.pictures[1]);
    assert_eq!((image.index, image.is_clip, image.rows, image.cols), (0, false, 4, 5));
    assert_eq!((clip.index, clip.is_clip, clip.rows, clip.cols), (1, true, 4, 5));
    assert_eq!((image.frames.len(), clip.frames.len()), (1, 2));
    assert_eq!(image.resized, (160, 128));
    let tokens = |place: &PicturePlace| -> Vec<usize> {
        place.frames.iter().flat_map(|&first| first..first + place.rows * place.cols).collect()
    };
    assert_eq!(tokens(image), places_of(config.image_token_id));
    assert_eq!(tokens(clip), places_of(config.video_token_id));

    // The heat map of one head is that head's attention in transformers, token by token.
    let want = looked.floats(Recipe::F32, 5, "attention");
    let length = inside.length();
    for (layer, head) in [(0, 0), (1, 1), (2, 0)] {
        let row = &want[(layer * inside.heads + head) * length..][..length];
        let selection = Selection::new(Some(layer), Some(head));
        for (at, place) in inside.pictures.iter().enumerate() {
            let map = inside.heat_map(at, &selection).unwrap();
            let of_row: Vec<f32> = tokens(place).iter().map(|&token| row[token]).collect();
            assert!(distance(&map.weights, &of_row).max <= ATTENTION_MAX);
            assert!(map.share() > 0.0 && map.share() < 1.0);
        }
    }
    assert!((inside.weights(&Selection::ALL).iter().sum::<f32>() - 1.0).abs() < 1e-5);

    let prompt: String =
        inside.tokens[..inside.prompt_tokens].iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(prompt, looked.case.json["prompt_text"].as_str().unwrap());
    let front_end = front_end("plain");
    for token in inside.lens.iter().flat_map(|lens| &lens.top) {
        assert_eq!(token.text, front_end.text_of(token.id));
    }
    assert_eq!(inside.chosen.1, front_end.text_of(inside.chosen.0));
}

#[test]
fn what_cannot_be_looked_into_is_said_and_the_engine_goes_on() {
    let gpu = Gpu::new(&GpuOptions::default()).unwrap();
    let engine = Engine::start(gpu.clone(), Arc::new(|| {})).unwrap();
    let case = Case::read("mono", "wide");
    let fails = |request: Request| end_of(&engine.ask(request)).unwrap_err().to_string();
    assert!(fails(question(&case, 0)).contains("no model is loaded"));
    let folder = converted("mono", Recipe::F32).folder().to_owned();
    let load = engine.load(LoadRequest { folder, recipe: None, options: ROOM });
    assert!(matches!(load.events.iter().last(), Some(LoadEvent::Loaded(_))));

    let error = fails(question(&case, 24));
    assert!(error.contains("token 24") && error.contains("the answer has 24"), "{error}");
    let with =
        |ids: &[u32], token| Request { inside: Some(Step { answer: ids.into(), token }), ..request(&case) };
    assert!(fails(with(&[], 0)).contains("the answer has 0"));
    assert!(fails(with(&[1, 704], 1)).contains("token 704 is beyond the vocabulary"));
    let both = Request { reference: Some("a".into()), ..question(&case, 0) };
    assert!(fails(both).contains("measures an answer"));
    let error = fails(with(&vec![5; 3000], 2999));
    assert!(error.contains("the context holds 2048"), "{error}");

    // It takes memory for as long as it lasts.
    let before = gpu.allocated_bytes();
    let inside = look(&engine, &case, 3);
    assert_eq!(inside.length(), case.ids().len() + 3);
    assert_eq!(collect(&engine.ask(greedy(&case, 24))).tokens.len(), 24);
    let pictures_and_rings = gpu.allocated_bytes() - before;
    look(&engine, &case, 20);
    assert_eq!(gpu.allocated_bytes() - before, pictures_and_rings, "what it took is given back");
}

#[test]
fn a_look_that_is_stopped_ends_without_a_result() {
    // Whoever is woken by the first word of it stops it: the lock is held until there is something to stop.
    let stop: Arc<Mutex<Option<ocelli::engine::Cancel>>> = Arc::default();
    let woken = stop.clone();
    let wake = Arc::new(move || {
        if let Some(cancel) = &*woken.lock().unwrap() {
            cancel.cancel();
        }
    });
    let engine = Engine::start(gpu(), wake).unwrap();
    let folder = converted("mono", Recipe::F32).folder().to_owned();
    let load = engine.load(LoadRequest { folder, recipe: None, options: ROOM });
    assert!(matches!(load.events.iter().last(), Some(LoadEvent::Loaded(_))));
    let case = Case::read("mono", "long_text");
    let answer = {
        let mut stop = stop.lock().unwrap();
        let answer = engine.ask(question(&case, 2));
        *stop = Some(answer.cancel.clone());
        answer
    };
    assert!(end_of(&answer).unwrap_err().to_string().contains("cancelled"));
    *stop.lock().unwrap() = None;
    assert_eq!(look(&engine, &case, 2).length(), case.ids().len() + 2, "the next one is answered");
}

/// Mistakes in the kernels that only a look uses; attention itself is right in all of them.
#[test]
fn planted_faults_in_what_is_shown_are_seen() {
    const FAULTS: &[(&str, bool, &str, &str, &str)] = &[
        (
            "query heads on the wrong KV head",
            false,
            "attention_scores",
            "let kv_head = head / (p.heads / p.kv_heads);",
            "let kv_head = head % p.kv_heads;",
        ),
        ("scores without the scale", false, "attention_scores", "sum * p.scale", "sum"),
        (
            "the key of the token before",
            false,
            "attention_scores",
            "kv_vector(slot, j, kv_head);",
            "kv_vector(slot, max(j, 1u) - 1u, kv_head);",
        ),
        ("its own key left out", false, "attention_scores", "j >= p.length", "j + 1u >= p.length"),
        (
            "heads of the whole layer as one row",
            false,
            "softmax_rows",
            "let at = row.x * p.width;",
            "let at = row.x * 0u;",
        ),
        ("softmax of half the keys", false, "softmax_rows", "i += 64u", "i += 128u"),
        (
            "int8: the scale of the token before",
            true,
            "attention_scores",
            "kv_scale(slot, j, kv_head)",
            "kv_scale(slot, max(j, 1u) - 1u, kv_head)",
        ),
    ];
    let looked = Looked::read("ladder", "wide");
    let token = 23;
    // The int8 cache against itself: the unchanged kernels' look.
    let off = |int8: bool, edits: Vec<KernelEdit>| -> f64 {
        let options = GpuOptions { kernel_edits: edits, ..GpuOptions::default() };
        let kv = if int8 { KvFormat::Int8 } else { KvFormat::F32 };
        let room = LoadOptions { kv: Some(kv), ..ROOM };
        let inside =
            look(&start_on(&Gpu::new(&options).unwrap(), "ladder", Recipe::F32, room), &looked.case, token);
        distance(&inside.attention, &looked.floats(Recipe::F32, token, "attention")).max
    };
    assert!(off(false, Vec::new()) <= ATTENTION_MAX);
    let int8 = off(true, Vec::new());
    for &(name, is_int8, file, find, replace) in FAULTS {
        let found = off(is_int8, vec![KernelEdit { file, find, replace }]);
        println!("| {name} | {found:.1e} |");
        let gate = if is_int8 { (2.0 * int8).max(0.05) } else { 1000.0 * ATTENTION_MAX };
        assert!(found > gate, "{name}: {found:.1e} against a gate of {gate:.1e}");
    }
}
