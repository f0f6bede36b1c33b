//! Profiles: parts add up to the whole, work is what the model's sizes say, tokens stay the same, and what cannot be timed is said.

use std::sync::Arc;

use ocelli::engine::{Engine, LoadEvent, LoadRequest, Speculation};
use ocelli::gpu::{Gpu, GpuOptions, GroupBy, Pacing, ProfileReport, Recorder, Totals};
use ocelli::model::linear::{Linear, Product};
use ocelli::model::loaded::{LoadOptions, LoadedModel};
use ocelli::model::recipe::Recipe;
use ocelli::model::sampler::{Sampler, Sampling};
use ocelli::model::stages::{DECODE, PREFILL, VISION};
use ocelli::model::text_decoder::RowInfo;
use ocelli::model::vision_tower::Frame;
use ocelli::model::weights::{Matrix, MatrixSlice, WeightFormat};

use crate::commands::Place;
use crate::engine::{ROOM, collect, greedy, start, start_on};
use crate::support::*;

/// 512 tokens for each of eight slots.
const ROOMY: LoadOptions = LoadOptions { context: 4096, ..ROOM };

/// Prefills a slot with tokens of no meaning and chooses the first token after them, as a session does.
fn prefill(model: &mut LoadedModel, slot: usize, tokens: usize) {
    let vocab = model.config.text.vocab_size;
    let pages_each = model.cache.pages / 8;
    let pages: Vec<u32> = (slot * pages_each..(slot + 1) * pages_each).map(|p| p as u32).collect();
    model.cache.write_page_table(slot, 0, &pages);
    model.sampler.begin(slot, &Sampling::GREEDY, &[], &[]);
    let rows: Vec<RowInfo> = (0..tokens)
        .map(|i| RowInfo {
            token: ((i * 31 + slot * 7 + 1) % vocab) as u32,
            position: [i as u32; 3],
            index: i as u32,
            slot: slot as u32,
            ..RowInfo::default()
        })
        .collect();
    let mut last = 0;
    for chunk in rows.chunks(model.text.max_rows()) {
        model.prefill(chunk, None).unwrap();
        last = chunk.len() - 1;
    }
    model.text.head(&mut model.recorder, last, 1).unwrap();
    model.sampler.sample(&mut model.recorder, model.text.rows(), last, model.text.logits(), 1).unwrap();
    model.recorder.finish().unwrap();
}

/// Steps of these slots; the milliseconds of all by the steps' own times.
fn decode(model: &mut LoadedModel, slots: &[usize], length: usize, steps: usize) -> f64 {
    let mut ring = Recorder::record_ring(Sampler::records_bytes());
    let mut ms = 0.0;
    for step in 0..steps {
        model.decode_step(slots, length + step + 1).unwrap();
        let readback = model.recorder.submit_and_read(&mut ring, model.sampler.records()).unwrap();
        let mut record = readback.wait(&model.gpu).unwrap();
        let times = model.recorder.split_times(&mut record, &readback);
        ring.recycle(readback);
        assert!(times.end_ns > times.begin_ns, "{times:?}");
        ms += (times.end_ns - times.begin_ns) as f64 / 1e6;
        for b in 0..slots.len() {
            Sampler::parse(&record, b).unwrap();
        }
    }
    ms
}

fn kind(report: &ProfileReport, part: &str, kind: &str) -> Totals {
    let groups = report.groups(part, GroupBy::Kind);
    groups.iter().find(|group| group.kind == kind).unwrap_or_else(|| panic!("{kind} in {groups:?}")).totals
}

/// Outputs, inputs and whether it is added to what is there, of each product of a layer of the text model, by kind.
fn products(model: &LoadedModel) -> [(&'static str, usize, usize, bool); 4] {
    let text = &model.config.text;
    let attended = text.num_heads * text.head_dim;
    [
        ("q, k, v", attended + 2 * text.num_kv_heads * text.head_dim, text.hidden_size, false),
        ("output", text.hidden_size, attended, true),
        ("gate and up", 2 * text.intermediate_size, text.hidden_size, false),
        ("down", text.hidden_size, text.intermediate_size, true),
    ]
}

#[track_caller]
fn same(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-9 * b.abs().max(1e-9), "{a} {b}");
}

#[test]
fn kernels_and_gaps_add_up_to_the_steps_and_to_the_steps_own_times() {
    let mut model = load_with(&gpu(), "ladder", Recipe::Int8Hu, ROOMY);
    for slot in 0..2 {
        prefill(&mut model, slot, 40);
    }
    decode(&mut model, &[0, 1], 40, 1);
    model.recorder.set_profiling(true).unwrap();
    prefill(&mut model, 2, 300);
    let steps_ms = decode(&mut model, &[0, 1], 41, 3);
    let report = model.recorder.profile().unwrap();
    model.recorder.set_profiling(false).unwrap();
    assert!(model.recorder.profile().is_none());
    let names: Vec<(&str, u64)> = report.parts.iter().map(|p| (p.part.as_str(), p.steps)).collect();
    assert_eq!(names, [(PREFILL, 300usize.div_ceil(model.text.max_rows()) as u64), (DECODE, 3)]);
    for part in &report.parts {
        same(part.kernels_ms + part.gaps_ms, part.whole_ms);
        same(report.totals(&part.part).ms, part.kernels_ms);
        assert_eq!((part.untimed, part.copies), (0, 0), "{part:?}");
        assert!(part.kernels_ms > 0.0 && part.overlap_ms <= part.kernels_ms, "{part:?}");
        for by in [GroupBy::Kernel, GroupBy::Kind, GroupBy::Layer] {
            let all: f64 = report.groups(&part.part, by).iter().map(|group| group.totals.ms).sum();
            same(all, part.kernels_ms);
        }
    }
    // The times that each token carries: the same timestamps, in whole nanoseconds.
    let whole = report.parts[1].whole_ms;
    assert!((steps_ms - whole).abs() < 1e-5 * whole, "{steps_ms} ms by the steps, {whole} ms by the profile");
    // Each is where the model's code says it is: nine kernels a layer, and one that adds a picture's features in the first ones.
    let layers = report.groups(DECODE, GroupBy::Layer);
    assert_eq!(layers.len(), model.config.text.num_layers + 1);
    for group in &layers {
        let expected = match group.layer {
            Some(n) if (n as usize) < model.arena.levels() => 10,
            Some(_) => 9,
            // The state, embeddings of tokens and of pictures, the last norm, the head and the sampler.
            None => 6,
        };
        assert_eq!(group.totals.count, 3 * expected, "{group:?}");
    }
}

/// A pass has a beginning and an end of its own, some microseconds: beside the kernels of small models that is much, beside
/// those of real ones next to nothing. Six products of a real size for eight sessions.
#[test]
fn where_kernels_have_something_to_do_they_are_more_than_97_percent_of_a_step() {
    let gpu = gpu();
    let (rows, cols, sessions) = (6144usize, 2048usize, 8usize);
    let random = |bytes: usize, keep: u32, set: u32| -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let words = (0..bytes / 4).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 32) as u32 & keep | set).to_le_bytes()
        });
        words.collect()
    };
    let data = gpu.storage_buffer_with("weights", &random(rows * cols, u32::MAX, 0)).unwrap();
    let scales = random(rows * cols / 16, 0x03ff_03ff, 0x1c00_1c00);
    let scales = Some(gpu.storage_buffer_with("scales", &scales).unwrap());
    let slices = vec![MatrixSlice { first_row: 0, rows, data, scales }];
    let matrix = Matrix { rows, cols, format: WeightFormat::Int8, slices, bias: None };
    let x = random(sessions * cols * 4, 0x807f_ffff, 0x3f00_0000);
    let x = gpu.storage_buffer_with("x", &x).unwrap();
    let y = gpu.storage_buffer("y", sessions * rows * 4).unwrap();
    let mut linear = Linear::new(&gpu).unwrap();
    let mut recorder = Recorder::new(&gpu, Pacing { piece_secs: 10.0, outstanding: 1 }).unwrap();
    // Who else wants the processor may come between two kernels of a step; not of every one.
    let best = (0..6).map(|_| {
        recorder.set_profiling(true).unwrap();
        recorder.begin_step(DECODE);
        for _ in 0..6 {
            linear.record(&mut recorder, &matrix, &Product::new(&x, &y, sessions)).unwrap();
        }
        recorder.finish().unwrap();
        let report = recorder.profile().unwrap();
        let part = &report.parts[0];
        let (steps, count) = (part.steps, report.totals(DECODE).count);
        assert_eq!((report.parts.len(), steps, count), (1, 1, 6));
        part.kernels_ms / part.whole_ms
    });
    let best = best.fold(0.0, f64::max);
    assert!(best > 0.97, "kernels are {best} of the best step");
}

#[test]
fn operations_and_bytes_are_what_the_models_sizes_say() {
    for (checkpoint, recipe) in
        [("ladder", Recipe::Int8Hu), ("mono", Recipe::Int8Lin), ("plain", Recipe::F16), ("deep", Recipe::F32)]
    {
        let mut model = load(checkpoint, recipe);
        let (layers, hidden) = (model.config.text.num_layers, model.config.text.hidden_size);
        let vocab = model.config.text.vocab_size;
        for batch in [1usize, 3] {
            let slots: Vec<usize> = (0..batch).collect();
            for &slot in &slots {
                prefill(&mut model, slot, 20);
            }
            model.recorder.set_profiling(true).unwrap();
            decode(&mut model, &slots, 20, 2);
            let report = model.recorder.profile().unwrap();
            model.recorder.set_profiling(false).unwrap();
            let mut weights = 0.0;
            let head = ("head", vocab, hidden, false);
            let all = products(&model).into_iter().map(|product| (product, layers)).chain([(head, 1)]);
            for ((name, outputs, inputs, adds), times) in all {
                let totals = kind(&report, DECODE, name);
                let times = (2 * times) as f64;
                same(totals.flops, times * (2 * batch * outputs * inputs) as f64);
                let written = if name == "gate and up" { outputs / 2 } else { outputs };
                let moved = batch * (inputs + written * if adds { 2 } else { 1 });
                weights += totals.bytes - times * (4 * moved) as f64;
            }
            same(weights, 2.0 * model.text.bytes_per_step() as f64);
            // Keys and values of all before, once for each session: 21 and 22 tokens.
            let attention = kind(&report, DECODE, "attention").bytes;
            let cache = model.kv_bytes_per_token() * batch * (21 + 22);
            // What goes in and comes out, and between the two kernels a maximum, a sum and a head of values, written and read.
            let text = &model.config.text;
            let row = 4 * text.num_heads * (2 * text.head_dim + 2 * (text.head_dim + 2));
            same(attention, (cache + 2 * batch * layers * row) as f64);
        }
    }
}

#[test]
fn operations_of_prefill_and_of_the_tower_are_what_their_sizes_say_however_they_are_divided() {
    let mut model = load_with(&gpu(), "ladder", Recipe::Int8Hu, ROOMY);
    let tokens = 150;
    model.recorder.set_profiling(true).unwrap();
    prefill(&mut model, 0, tokens);
    let vision = model.config.vision.clone();
    let (gh, gw) = (12usize, 8usize);
    let patches = gh * gw;
    let pixels = |rows: std::ops::Range<usize>| {
        let width = vision.patch_elements();
        (rows.start * width..rows.end * width).map(|i| ((i * 37 % 101) as f32) / 50.0 - 1.0).collect()
    };
    let tokens_of_picture = patches / vision.merge_unit();
    let slot = model.arena.allocate(&mut model.recorder, [7; 32], tokens_of_picture).unwrap();
    let frame = Frame { gh, gw, pixels: &pixels };
    let tower = model.vision.as_mut().unwrap();
    tower.encode(&mut model.recorder, &model.arena, &frame, slot, &mut |_, _| Ok(())).unwrap();
    model.recorder.finish().unwrap();
    let report = model.recorder.profile().unwrap();
    for (name, outputs, inputs, _) in products(&model) {
        let expected = model.config.text.num_layers * 2 * tokens * outputs * inputs;
        same(kind(&report, PREFILL, name).flops, expected as f64);
    }
    // A token sees itself and all before it.
    let text = &model.config.text;
    let seen = tokens * (tokens + 1) / 2;
    let expected = text.num_layers * 4 * text.num_heads * text.head_dim * seen;
    same(kind(&report, PREFILL, "attention").flops, expected as f64);

    let (d, depth) = (vision.hidden_size, vision.depth);
    same(kind(&report, VISION, "patches").flops, (2 * patches * d * vision.patch_elements()) as f64);
    same(kind(&report, VISION, "q, k, v").flops, (depth * 3 * 2 * patches * d * d) as f64);
    same(kind(&report, VISION, "output").flops, (depth * 2 * patches * d * d) as f64);
    for name in ["up", "down"] {
        same(kind(&report, VISION, name).flops, (depth * 2 * patches * d * vision.intermediate_size) as f64);
    }
    same(kind(&report, VISION, "attention").flops, (depth * 4 * patches * patches * d) as f64);
    // Each block has the same kernels; after some a merger takes what DeepStack wants.
    let blocks = report.groups(VISION, GroupBy::Layer);
    let of = |n: usize| blocks.iter().find(|g| g.layer == Some(n as u32)).unwrap().totals.count;
    let plain = (0..depth).map(of).min().unwrap();
    for n in 0..depth {
        let more = if vision.deepstack_indexes.contains(&n) { 3 } else { 0 };
        assert_eq!(of(n), plain + more, "block {n}");
    }
}

#[test]
fn tokens_are_the_same_with_profile_mode_also_where_it_changes_in_the_middle() {
    let case = Case::read("mono", &Case::names("mono")[0]);
    let mut request = greedy(&case, 24);
    request.reproducible = true;
    // A pass with guesses is a step of several tokens.
    request.speculation = Speculation::Off;
    request.sampling = Sampling { temperature: 0.8, seed: 5, ..Sampling::GREEDY };
    let engine = start("mono", Recipe::Int8Hu, ROOM);
    let error = engine.profile().recv().unwrap().unwrap_err();
    assert!(error.to_string().contains("profile mode is off"), "{error}");
    let records = |told: crate::engine::Told| {
        told.end.unwrap();
        told.tokens.iter().map(|t| (t.record.id, t.record.logprob.to_bits())).collect::<Vec<_>>()
    };
    let plain = records(collect(&engine.ask(request.clone())));
    assert_eq!(plain.len(), 24);

    engine.set_profiling(true).recv().unwrap().unwrap();
    let told = collect(&engine.ask(request.clone()));
    assert!(told.tokens.iter().all(|t| t.times.end_ns > t.times.begin_ns), "steps have times of their own");
    let told_ms: f64 =
        told.tokens[1..].iter().map(|t| (t.times.end_ns - t.times.begin_ns) as f64 / 1e6).sum();
    assert_eq!(records(told), plain);
    let report = engine.profile().recv().unwrap().unwrap();
    let decode = report.parts.iter().find(|part| part.part == DECODE).unwrap();
    // What ran past the end is dropped and told by nobody.
    assert!(decode.steps >= 23 && decode.whole_ms >= 0.999 * told_ms, "{decode:?} {told_ms}");
    let ceilings = report.ceilings.as_ref().unwrap();
    assert!(ceilings.read_gb_s > 0.0 && ceilings.gflop_s > 0.0 && !ceilings.how.is_empty());
    assert!(report.rows.iter().all(|row| row.part != ocelli::gpu::UNNAMED), "all of it has a name");

    // Off and on again while an answer is under way: from nothing each time.
    let answer = engine.ask(request.clone());
    engine.set_profiling(false).recv().unwrap().unwrap();
    engine.set_profiling(true).recv().unwrap().unwrap();
    assert_eq!(records(collect(&answer)), plain);
    let again = engine.profile().recv().unwrap().unwrap();
    let steps = again.parts.iter().find(|part| part.part == DECODE).map_or(0, |part| part.steps);
    assert!(steps < decode.steps + 4, "{steps}");
    engine.set_profiling(false).recv().unwrap().unwrap();
    assert_eq!(records(collect(&engine.ask(request))), plain);
    assert!(engine.profile().recv().unwrap().is_err());
}

#[test]
fn profile_mode_is_kept_for_the_next_model() {
    let engine = Engine::start(gpu(), Arc::new(|| {})).unwrap();
    engine.set_profiling(true).recv().unwrap().unwrap();
    assert!(engine.profile().recv().unwrap().unwrap_err().to_string().contains("no model is loaded"));
    let folder = converted("mono", Recipe::Int8Hu).folder().to_owned();
    let load = engine.load(LoadRequest { folder, recipe: None, options: ROOM });
    assert!(matches!(load.events.iter().last(), Some(LoadEvent::Loaded(_))));
    let case = Case::read("mono", &Case::names("mono")[0]);
    collect(&engine.ask(greedy(&case, 3))).end.unwrap();
    assert!(!engine.profile().recv().unwrap().unwrap().rows.is_empty());
}

#[test]
fn without_timestamps_profile_mode_is_refused_and_nothing_else_changes() {
    let gpu = Gpu::new(&GpuOptions { without_timestamps: true, ..GpuOptions::default() }).unwrap();
    let engine = start_on(&gpu, "mono", Recipe::Int8Hu, ROOM);
    let error = engine.set_profiling(true).recv().unwrap().unwrap_err();
    assert!(error.to_string().contains("this adapter has no timestamps"), "{error}");
    assert!(engine.profile().recv().unwrap().is_err());
    let case = Case::read("mono", &Case::names("mono")[0]);
    let told = collect(&engine.ask(greedy(&case, 4)));
    assert!(told.tokens.len() == 4 && told.tokens.iter().all(|t| t.times.end_ns == 0));
    let options = LoadOptions { context: 1024, up_to: false, ..LoadOptions::default() };
    let mut model = load_with(&gpu, "mono", Recipe::Int8Hu, options);
    assert!(model.recorder.set_profiling(true).is_err() && model.recorder.profile().is_none());
    prefill(&mut model, 0, 20);
}

#[test]
fn the_command_prints_tables_and_json_and_draws_the_roofline() {
    let place = Place::new();
    place.fine(&["synth", "--preset", "tiny", "model"]);
    let small =
        ["profile", "--model", "model", "--prompt-tokens", "16", "--new-tokens", "3", "--context", "256"];
    let small = [&small[..], &["--image-size", "96x64", "--batch", "2"]].concat();
    let run = place.fine(&[&small[..], &["--json", "--svg", "roof.svg"]].concat());
    let json = run.json();
    let report: ProfileReport = serde_json::from_value(json.clone()).unwrap();
    let parts: Vec<(&str, u64)> = report.parts.iter().map(|p| (p.part.as_str(), p.steps)).collect();
    assert_eq!(parts, [(VISION, 1), (PREFILL, 1), (DECODE, 3)]);
    assert_eq!(json["beside"].as_array().unwrap().len(), 3);
    assert!(json["beside"][2]["plain_device_ms"].as_f64().unwrap() > 0.0, "{json}");
    assert_eq!(
        (&json["batch"], &json["new_tokens"], &json["image_tokens"]),
        (&2.into(), &3.into(), &6.into())
    );
    assert!(report.method.contains("slows") && report.ceilings.is_some());
    // Six rows of the prompt are the picture's: they are looked up in the arena, and added to in each level.
    let rows = kind(&report, PREFILL, "picture rows");
    assert!(rows.flops > 0.0 && rows.bytes > 0.0);
    let svg = String::from_utf8(place.files()["roof.svg"].clone()).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("GB/s reading") && svg.contains(">attention<"));

    let text = place.fine(&small).text().to_owned();
    for word in [
        "vision: 1 step",
        "decode: 3 steps",
        "bound by",
        "gate and up",
        "sampling",
        "matvec",
        "layer  0",
        "ceilings:",
        "slows",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let by = place.fine(&[&small[..], &["--by", "kind", "--sort", "count"]].concat()).text().to_owned();
    assert!(!by.contains("matvec") && !by.contains("layer  0") && by.contains("rope and cache"), "{by}");
    for (flags, why) in
        [(["--by", "day"], "write kernel, kind or layer"), (["--sort", "x"], "write ms, gb_s")]
    {
        let refused = place.run(&[&small[..], &flags].concat());
        assert!(refused.status == Some(1) && refused.stderr.contains(why), "{}", refused.stderr);
    }
}
