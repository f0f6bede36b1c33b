//! GGUF files against the hub checkpoints they were written from by `tests/oracle/make_gguf.py`.

mod broken;
mod file;
mod finding;
mod texts_only;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ocelli::engine::FrontEnd;
use ocelli::engine::trace::trace;
use ocelli::error::Result;
use ocelli::model::convert::{How, Report, convert};
use ocelli::model::converted::{ConvertedModel, StoredData};
use ocelli::model::gguf::decode_blocks;
use ocelli::model::loaded::{LoadOptions, LoadedModel};
use ocelli::model::preprocessor::Preprocessors;
use ocelli::model::recipe::{Recipe, Storage};
use ocelli::model::tokenizer::Tokenizer;
use serde_json::Value;

use crate::support::*;
use file::File;

/// A pair of files: `mono-F32` and so on.
pub fn pair(name: &str) -> (PathBuf, PathBuf) {
    let folder = fixtures().join("gguf").join(name);
    (folder.join(format!("{name}.gguf")), folder.join(format!("mmproj-{name}.gguf")))
}

pub fn converted_to(source: &Path, folder: &Path, how: impl Into<How>) -> Result<Report> {
    convert(source, folder, how, &mut |_| (), &AtomicBool::new(false))
}

/// Converts a pair into a temporary folder.
fn of_pair(name: &str, recipe: Recipe) -> (tempfile::TempDir, ConvertedModel, Report) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("converted");
    let report = converted_to(&pair(name).0, &folder, recipe).unwrap();
    let model = ConvertedModel::open(&folder).unwrap();
    (temporary, model, report)
}

pub fn load_model(model: &ConvertedModel) -> LoadedModel {
    let options = LoadOptions { context: 1024, up_to: false, ..LoadOptions::default() };
    LoadedModel::load(&gpu(), model, &options, &mut |_, _| Ok(())).unwrap()
}

fn weights(model: &ConvertedModel) -> Vec<Vec<u8>> {
    let files = model.manifest().weights.iter();
    files.map(|record| std::fs::read(model.folder().join(&record.name)).unwrap()).collect()
}

#[test]
fn a_pair_becomes_the_very_weights_and_settings_of_the_hub_checkpoint() {
    for (name, checkpoint, recipes) in [
        ("mono-F32", "mono", [Recipe::F32, Recipe::F16, Recipe::Int8Hu].as_slice()),
        ("ladder-F16", "ladder", &[Recipe::F16, Recipe::Int8Lin, Recipe::Int8Hu]),
    ] {
        for &recipe in recipes {
            let (_folder, ours, _) = of_pair(name, recipe);
            let hub = converted(checkpoint, recipe);
            assert!(weights(&ours) == weights(&hub), "{name} {recipe}: other bytes");
            assert_eq!(ours.config(), hub.config(), "{name} {recipe}");
            assert_eq!(ours.generation(), hub.generation(), "{name} {recipe}");
            let mut wanted = Preprocessors::from_folder(hub.folder()).unwrap();
            if checkpoint == "ladder" {
                // It has limits of its own, which the GGUF format has no place for.
                (wanted.image.min_pixels, wanted.image.max_pixels) = (65536, 16_777_216);
            }
            assert_eq!(Preprocessors::from_folder(ours.folder()).unwrap(), wanted, "{name} {recipe}");
        }
    }
}

#[test]
fn the_tokenizer_made_of_a_gguf_file_gives_the_ids_of_the_original() {
    for (name, checkpoint) in [("mono-F32", "mono"), ("ladder-F16", "ladder")] {
        let (_folder, ours, _) = of_pair(name, Recipe::F16);
        let tokenizer = Tokenizer::from_folder(ours.folder()).unwrap();
        let original = Tokenizer::from_folder(&fixtures().join(checkpoint).join("model")).unwrap();
        let added =
            |t: &Tokenizer| t.added().iter().map(|a| (a.id, a.text.clone(), a.special)).collect::<Vec<_>>();
        assert_eq!(added(&tokenizer), added(&original), "{name}");
        assert_eq!(tokenizer.vocab_size(), original.vocab_size());
        let cases: Value = serde_json::from_slice(
            &std::fs::read(fixtures().join(checkpoint).join("tokenizer_cases.json")).unwrap(),
        )
        .unwrap();
        let strings = cases["strings"].as_array().unwrap();
        assert!(strings.len() > 20);
        for case in strings {
            let text = case["text"].as_str().unwrap();
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(ids, numbers(&case["ids"]), "{name}: {text:?}");
            assert_eq!(
                tokenizer.decode(&ids, true),
                case["decoded_skip_special"].as_str().unwrap(),
                "{name}"
            );
        }
    }
}

#[test]
fn every_prompt_and_every_answer_is_that_of_transformers_in_f32() {
    let (_folder, ours, _) = of_pair("mono-F32", Recipe::F32);
    let front_end = FrontEnd::from_folder(ours.folder(), ours.config()).unwrap();
    let (mut from_gguf, mut from_hub) = (load_model(&ours), load("mono", Recipe::F32));
    for name in ["text", "square", "two_pictures", "video", "unicode_system"] {
        let case = Case::read("mono", name);
        let prepared = front_end.prepare(&request(&case), &|| false).unwrap();
        assert_eq!(prepared.prompt.input_ids, case.ids(), "{name}");
        let traced = trace(&mut from_gguf, &prepared, 24, 128).unwrap();
        let hub = trace(&mut from_hub, &prepared, 24, 128).unwrap();
        assert_eq!(traced.tensors["logits"].values, hub.tensors["logits"].values, "{name}: bit for bit");
        let d = distance(&traced.tensors["logits"].values, &case.logits(Recipe::F32));
        assert!(d.cosine >= 0.999_999_9 && d.max <= 1e-3, "{name}: {d:?}");
        let greedy: Vec<u32> = traced.greedy.iter().map(|r| r.id).collect();
        assert_eq!(greedy, case.greedy(Recipe::F32), "{name}");
    }
}

/// Where llama.cpp's converter puts a matrix of the text model.
fn gguf_name(hub: &str, file: &File) -> String {
    let Some(rest) = hub.strip_prefix("model.language_model.layers.") else {
        return match hub {
            // A head that is tied to the embedding has no tensor of its own.
            "lm_head.weight" if file.tensors.iter().any(|t| t.name == "output.weight") => {
                "output.weight".into()
            }
            "lm_head.weight" | "model.language_model.embed_tokens.weight" => "token_embd.weight".into(),
            other => panic!("{other}"),
        };
    };
    let (layer, tail) = rest.split_once('.').unwrap();
    let part = match tail {
        "self_attn.q_proj.weight" => "attn_q",
        "self_attn.k_proj.weight" => "attn_k",
        "self_attn.v_proj.weight" => "attn_v",
        "self_attn.o_proj.weight" => "attn_output",
        "mlp.gate_proj.weight" => "ffn_gate",
        "mlp.up_proj.weight" => "ffn_up",
        "mlp.down_proj.weight" => "ffn_down",
        other => panic!("{other}"),
    };
    format!("blk.{layer}.{part}.weight")
}

/// The int8 matrices of a converted model whose blocks are not in the file as they are, under the name that belongs to them.
fn not_taken_over(model: &ConvertedModel, file: &File) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut count = 0;
    for tensor in model.tensors().filter(|tensor| tensor.storage == Storage::Int8) {
        let StoredData::Int8 { quants, scales } = model.matrix(&tensor.name).unwrap().data else {
            panic!("{} is int8", tensor.name)
        };
        let blocks: Vec<u8> = quants
            .chunks(32)
            .zip(scales.chunks(2))
            .flat_map(|(quants, scale)| scale.iter().chain(quants).copied().collect::<Vec<u8>>())
            .collect();
        count += 1;
        let name = gguf_name(&tensor.name, file);
        if !file.tensors.iter().any(|t| t.name == name && t.kind == 8 && t.data == blocks) {
            wrong.push(tensor.name.clone());
        }
    }
    assert_eq!(count, 2 * 7 + 1, "the matrices of two layers, and the head");
    wrong
}

/// Logits and answers of the int8 model, against the file's weights multiplied out to f32.
fn distances_to_the_weights_of(text: &Path) -> Vec<Distance> {
    let temporary = tempfile::tempdir().unwrap();
    let load = |recipe: Recipe| {
        let folder = temporary.path().join(recipe.name());
        converted_to(text, &folder, recipe).unwrap();
        let model = ConvertedModel::open(&folder).unwrap();
        (FrontEnd::from_folder(&folder, model.config()).unwrap(), load_model(&model))
    };
    let ((front_end, mut int8), (_, mut f32)) = (load(Recipe::Int8Hu), load(Recipe::F32));
    let mut distances = Vec::new();
    for name in ["text", "square", "two_turns"] {
        let prepared = front_end.prepare(&request(&Case::read("mono", name)), &|| false).unwrap();
        let int8 = trace(&mut int8, &prepared, 1, 128).unwrap();
        let f32 = trace(&mut f32, &prepared, 1, 128).unwrap();
        let d = distance(&int8.tensors["logits"].values, &f32.tensors["logits"].values);
        assert!(d.cosine >= 0.9999 && d.max <= 0.25, "{name}: {d:?}");
        distances.push(d);
    }
    distances
}

#[test]
fn q8_0_blocks_are_taken_bit_for_bit_and_computed_with() {
    let (_folder, model, report) = of_pair("mono-Q8_0", Recipe::Int8Hu);
    let (text, _) = pair("mono-Q8_0");
    assert_eq!(not_taken_over(&model, &File::read(&text)), Vec::<String>::new());
    let notes = report.notes.join("\n");
    assert!(notes.contains("15 int8 matrices are the file's Q8_0 blocks, bit for bit"), "{notes}");
    println!("{:?}", distances_to_the_weights_of(&text));
}

#[test]
fn quants_of_minus_128_are_taken_and_computed_with_too() {
    let temporary = tempfile::tempdir().unwrap();
    let (text, vision) = pair("mono-Q8_0");
    let mut file = File::read(&text);
    for tensor in file.tensors.iter_mut().filter(|t| t.kind == 8 && t.name.starts_with("blk.")) {
        for block in tensor.data.chunks_mut(34) {
            // The largest in size, at either end, as its negative neighbour.
            let at = (2..34).max_by_key(|&i| block[i].cast_signed().unsigned_abs()).unwrap();
            block[at] = 0x80;
        }
    }
    let changed = temporary.path().join("mono.gguf");
    file.write(&changed);
    std::fs::copy(vision, temporary.path().join("mmproj.gguf")).unwrap();
    let folder = temporary.path().join("converted");
    converted_to(&changed, &folder, Recipe::Int8Hu).unwrap();
    assert_eq!(not_taken_over(&ConvertedModel::open(&folder).unwrap(), &file), Vec::<String>::new());
    println!("{:?}", distances_to_the_weights_of(&changed));
}

#[test]
fn blocks_decode_to_the_very_numbers_of_the_public_package() {
    let bytes = |text: &Value| -> Vec<u8> {
        let text = text.as_str().unwrap();
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
    };
    let recorded: Value =
        serde_json::from_slice(&std::fs::read(fixtures().join("gguf/blocks.json")).unwrap()).unwrap();
    for (kind, count) in [("Q8_0", 24 * 32), ("Q4_K", 24 * 256), ("Q5_K", 24 * 256), ("Q6_K", 24 * 256)] {
        let case = &recorded[kind];
        let mut ours = Vec::new();
        let number = u32::try_from(case["type"].as_u64().unwrap()).unwrap();
        assert!(decode_blocks(number, &bytes(&case["blocks"]), &mut ours));
        let wanted: Vec<u32> =
            bytes(&case["f32"]).chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(wanted.len(), count);
        assert_eq!(ours.iter().map(|w| w.to_bits()).collect::<Vec<_>>(), wanted, "{kind}");
    }
    assert!(!decode_blocks(23, &[0; 136], &mut Vec::new()), "IQ4_XS is not read");
}

#[test]
fn a_mix_of_k_quants_is_multiplied_out_and_said_to_be() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("mix-Q4_K_M.gguf");
    let file = file::k_quants();
    file.write(&path);
    let convert = |recipe: Recipe| {
        let folder = temporary.path().join(recipe.name());
        let report = converted_to(&path, &folder, How { recipe, text_only: true }).unwrap();
        (ConvertedModel::open(&folder).unwrap(), report.notes.join("\n"))
    };
    let (exact, _) = convert(Recipe::F32);
    let mut seen = [0; 2];
    for (hub, gguf) in [
        ("model.language_model.embed_tokens.weight", "token_embd.weight"),
        ("model.language_model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight"),
        ("model.language_model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"),
    ] {
        let tensor = file.tensors.iter().find(|t| t.name == gguf).unwrap();
        let mut wanted = Vec::new();
        assert!(decode_blocks(tensor.kind, &tensor.data, &mut wanted));
        assert!(exact.vector(hub).unwrap() == wanted, "{hub}");
        seen[usize::from(tensor.kind == 14)] += 1;
    }
    assert_eq!(seen, [1, 2], "both kinds");
    let (int8, notes) = convert(Recipe::Int8Hu);
    assert!(
        notes.contains("5 Q4_K and 3 Q6_K matrices were multiplied out and rounded again to int8"),
        "{notes}"
    );
    let (mut exact, mut int8) = (load_model(&exact), load_model(&int8));
    let front_end = FrontEnd::from_folder(&temporary.path().join("f32"), &exact.config).unwrap();
    let prepared = front_end.prepare(&request(&Case::read("mono", "text")), &|| false).unwrap();
    let logits =
        |model: &mut LoadedModel| trace(model, &prepared, 1, 128).unwrap().tensors["logits"].values.clone();
    let d = distance(&logits(&mut int8), &logits(&mut exact));
    println!("{d:?}");
    assert!(d.cosine >= 0.999, "{d:?}");
}

#[test]
fn a_split_file_is_read_by_the_name_of_any_of_its_parts() {
    let temporary = tempfile::tempdir().unwrap();
    let (text, vision) = pair("mono-Q8_0");
    std::fs::copy(vision, temporary.path().join("mmproj.gguf")).unwrap();
    let part = |n: usize| temporary.path().join(format!("mono-{n:05}-of-00002.gguf"));
    let whole = File::read(&text);
    let (mut first, mut second) = (whole.clone(), whole.clone());
    second.keys.retain(|key| key.name == "general.architecture");
    second.tensors = first.tensors.split_off(9);
    for file in [&mut first, &mut second] {
        file.set_number("split.count", 2);
    }
    first.write(&part(1));
    second.write(&part(2));
    let (_folder, one, _) = of_pair("mono-Q8_0", Recipe::Int8Hu);
    for (name, path) in [("1", part(1)), ("2", part(2)), ("folder", temporary.path().to_owned())] {
        let folder = temporary.path().join(format!("converted-{name}"));
        converted_to(&path, &folder, Recipe::Int8Hu).unwrap();
        assert!(weights(&ConvertedModel::open(&folder).unwrap()) == weights(&one), "{name}");
    }
    std::fs::remove_file(part(2)).unwrap();
    let error =
        converted_to(&part(1), &temporary.path().join("none"), Recipe::Int8Hu).unwrap_err().to_string();
    assert!(error.contains("mono-00002-of-00002.gguf") && error.contains("missing"), "{error}");
}
