//! Checkpoint files from end to end: good ones are opened, converted and read back; broken ones are refused with one
//! line that names file or tensor and says what to do, and never with a panic.

mod broken;
mod random;
mod sandbox;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use half::f16;
use ocelli::error::{Error, ErrorKind};
use ocelli::model::checkpoint::Checkpoint;
use ocelli::model::convert::{Progress, Stage, convert};
use ocelli::model::converted::{ConvertedModel, StoredData};
use ocelli::model::recipe::{BLOCK, Recipe, Storage, stored_tensors};
use ocelli::model::source::ModelSource;
use ocelli::model::synth::{Preset, synthesise};
use ocelli::model::tensor_names::{EMBEDDING, HEAD};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use sandbox::*;

/// Every stored tensor against the checkpoint it was made from: exact where the type keeps it, else within rounding.
fn assert_same_weights(hub: &Path, converted: &Path, recipe: Recipe) {
    let checkpoint = Checkpoint::open(hub).expect("opens");
    let model = ConvertedModel::open(converted).expect("opens");
    assert_eq!(model.recipe(), recipe);
    assert_eq!(model.config(), checkpoint.config());
    assert_eq!(model.generation(), checkpoint.generation());
    let plan = stored_tensors(model.config(), recipe).expect("a plan");
    assert_eq!(model.tensors().count(), plan.len());
    for stored in plan {
        let mut exact = Vec::new();
        let all = checkpoint.files().shape(&stored.source).expect("there")[0];
        checkpoint.files().read_f32(&stored.source, 0..all, &mut exact).expect("readable");
        if stored.storage == Storage::F32 {
            assert_eq!(model.vector(&stored.name).expect("readable"), exact, "{}", stored.name);
            continue;
        }
        let matrix = model.matrix(&stored.name).expect("readable");
        assert_eq!((matrix.rows * matrix.cols, matrix.bytes()), (exact.len(), stored.bytes()));
        let halves = |bytes: &[u8]| -> Vec<f32> {
            bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        };
        match matrix.data {
            StoredData::F16(data) => {
                for (found, wanted) in halves(data).iter().zip(&exact) {
                    assert_eq!(found.to_bits(), f16::from_f32(*wanted).to_f32().to_bits(), "{}", stored.name);
                }
            }
            StoredData::Int8 { quants, scales } => {
                let scales = halves(scales);
                assert_eq!(scales.len() * BLOCK, exact.len());
                for (at, (quant, wanted)) in quants.iter().zip(&exact).enumerate() {
                    let scale = scales[at / BLOCK];
                    let found = f32::from(i8::from_le_bytes([*quant])) * scale;
                    // Half a step, and what rounding the scale to f16 takes off at the ends.
                    assert!(
                        (found - wanted).abs() <= scale * 0.57 + 1e-6,
                        "{}: {found} {wanted}",
                        stored.name
                    );
                }
            }
            StoredData::F32(_) => panic!("{} is stored as f32", stored.name),
        }
    }
}

#[test]
fn every_recipe_keeps_the_weights_of_a_made_up_checkpoint() {
    let sandbox = Sandbox::new();
    for recipe in Recipe::ALL {
        let name = recipe.name();
        let report = sandbox.convert(name, recipe).expect("converts");
        assert_eq!(report.notes, Vec::<String>::new());
        assert_same_weights(&sandbox.hub(), &sandbox.path(name), recipe);
        let model = ConvertedModel::open(&sandbox.path(name)).expect("opens");
        assert_eq!(model.head_name(), if recipe == Recipe::Int8Hu { HEAD } else { EMBEDDING });
        model.verify(&mut |_, _| (), &AtomicBool::new(false)).expect("as written");
        for tensor in model.tensors() {
            model.release(&tensor.name);
        }
    }
}

#[test]
fn the_reference_implementations_checkpoints_convert_with_every_recipe() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (at, hub) in fixtures().into_iter().enumerate() {
        for recipe in Recipe::ALL {
            let destination = folder.path().join(format!("{at}-{recipe}"));
            run(&hub, &destination, recipe).unwrap_or_else(|e| panic!("{}: {e}", hub.display()));
            assert_same_weights(&hub, &destination, recipe);
        }
    }
}

#[test]
fn shards_old_names_and_other_types_give_the_same_model() {
    let plain = Sandbox::new();
    plain.convert("out", Recipe::Int8Hu).expect("converts");
    let wanted = contents(&plain.path("out"));
    let weights = |files: &BTreeMap<String, Vec<u8>>| files["model-00001-of-00001.safetensors"].clone();

    let sharded = Sandbox::new();
    sharded.shard();
    sharded.convert("out", Recipe::Int8Hu).expect("converts");
    assert_eq!(contents(&sharded.path("out")), wanted);

    for (from, to) in [
        ("model.", ""),
        ("model.language_model.", "model."),
        ("model.language_model.", "language_model.model."),
    ] {
        let renamed = Sandbox::new();
        renamed.edit(|tensors| {
            *tensors = std::mem::take(tensors)
                .into_iter()
                .map(|(name, tensor)| {
                    (name.strip_prefix(from).map_or(name.clone(), |rest| format!("{to}{rest}")), tensor)
                })
                .collect();
        });
        renamed.convert("out", Recipe::Int8Hu).expect("converts");
        assert_eq!(contents(&renamed.path("out")), wanted, "{from} as {to}");
    }

    // bf16 widened to f32 holds the same numbers.
    let wide = Sandbox::new();
    wide.edit(|tensors| {
        for (dtype, _, bytes) in tensors.values_mut() {
            *bytes = bytes.chunks_exact(2).flat_map(|b| [0, 0, b[0], b[1]]).collect();
            *dtype = Dtype::F32;
        }
    });
    wide.convert("out", Recipe::Int8Hu).expect("converts");
    assert_eq!(weights(&contents(&wide.path("out"))), weights(&wanted));
}

#[test]
fn a_checkpoint_with_a_head_of_its_own_keeps_it() {
    let sandbox = Sandbox::new();
    sandbox.edit(|tensors| {
        let mut head = tensors[EMBEDDING].clone();
        head.2.rotate_left(512);
        tensors.insert(HEAD.into(), head);
    });
    // Said to be tied: the head in the file is not used, as in the reference.
    let notes = sandbox.convert("tied", Recipe::F16).expect("converts").notes;
    assert!(notes.len() == 1 && notes[0].contains(HEAD), "{notes:?}");
    assert_eq!(ConvertedModel::open(&sandbox.path("tied")).expect("opens").head_name(), EMBEDDING);
    // The two places disagree: the file decides.
    sandbox.edit_json("config.json", |config| config["text_config"]["tie_word_embeddings"] = false.into());
    for recipe in Recipe::ALL {
        sandbox.convert(recipe.name(), recipe).expect("converts");
        assert_eq!(ConvertedModel::open(&sandbox.path(recipe.name())).expect("opens").head_name(), HEAD);
        assert_same_weights(&sandbox.hub(), &sandbox.path(recipe.name()), recipe);
    }
}

/// The elements of a stored tensor in f32, worked out apart from the program: int8 times scale.
fn values(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).expect("there");
    let (data, cols) = (tensor.data(), *tensor.shape().last().expect("not a scalar"));
    match tensor.dtype() {
        Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => data.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::I8 => {
            let scales = values(file, &format!("{name}_scale"));
            let scale = |at: usize| scales[at / cols * (cols / BLOCK) + at % cols / BLOCK];
            data.iter().enumerate().map(|(at, b)| f32::from(i8::from_le_bytes([*b])) * scale(at)).collect()
        }
        other => panic!("{other} in a converted model"),
    }
}

#[test]
fn int8_multiplied_out_to_f32_is_the_same_weights_bit_for_bit_and_to_f16_the_nearest() {
    let sandbox = Sandbox::new();
    for int8 in [Recipe::Int8Hu, Recipe::Int8Lin] {
        let from = sandbox.path(int8.name());
        sandbox.convert(int8.name(), int8).expect("converts");
        let own_head = int8 == Recipe::Int8Hu;
        let int8_bytes = fs::read(from.join(CONVERTED)).expect("readable");
        let int8_file = SafeTensors::deserialize(&int8_bytes).expect("valid");
        for recipe in [Recipe::F32, Recipe::F16] {
            let to = sandbox.path(&format!("{int8} to {recipe}"));
            let report = run(&from, &to, recipe).expect("converts");
            assert!(
                report.notes[0].contains(int8.name()) && report.notes[0].contains("multiplied out"),
                "{report:?}"
            );
            assert_eq!(
                report.notes.len(),
                1 + usize::from(own_head),
                "the head is spoken of: {:?}",
                report.notes
            );
            let model = ConvertedModel::open(&to).expect("opens");
            assert_eq!(
                (model.recipe(), model.head_name()),
                (recipe, if own_head { HEAD } else { EMBEDDING })
            );
            let bytes = fs::read(to.join(CONVERTED)).expect("readable");
            let file = SafeTensors::deserialize(&bytes).expect("valid");
            let scales = int8_file.names().iter().filter(|name| name.ends_with("_scale")).count();
            assert_eq!(file.len(), int8_file.len() - scales);
            for name in file.names() {
                let wanted = values(&int8_file, name);
                let found = values(&file, name);
                let rounds = file.tensor(name).expect("there").dtype() == Dtype::F16;
                assert!(!rounds || recipe == Recipe::F16, "{name}");
                assert_eq!(found.len(), wanted.len());
                for (found, wanted) in found.iter().zip(wanted) {
                    let wanted = if rounds { f16::from_f32(wanted).to_f32() } else { wanted };
                    assert_eq!(found.to_bits(), wanted.to_bits(), "{name}");
                }
            }
        }
        let error = run(&from, &sandbox.path("no"), Recipe::Int8Lin).expect_err("int8 to int8");
        assert_reads_well(&error, &["converted already", int8.name(), "only int8 can be converted again"]);
    }
}

#[test]
fn tensors_that_are_not_the_models_are_ignored_with_a_note() {
    let sandbox = Sandbox::new();
    sandbox.edit(|tensors| {
        tensors.insert("model.visual.position_ids".into(), (Dtype::I64, vec![2], vec![0; 16]));
    });
    let notes = sandbox.convert("out", Recipe::F16).expect("converts").notes;
    assert!(notes.len() == 1 && notes[0].contains("model.visual.position_ids"), "{notes:?}");
}

#[test]
fn converting_again_gives_the_same_bytes() {
    let (one, two) = (Sandbox::new(), Sandbox::new());
    assert_eq!(contents(&one.hub()), contents(&two.hub()), "the seed determines a made-up checkpoint");
    for recipe in Recipe::ALL {
        one.convert(recipe.name(), recipe).expect("converts");
        let elsewhere = two.path("hub elsewhere");
        if !elsewhere.exists() {
            fs::rename(two.hub(), &elsewhere).expect("renamed");
        }
        run(&elsewhere, &two.path(recipe.name()), recipe).expect("converts");
        assert_eq!(contents(&one.path(recipe.name())), contents(&two.path(recipe.name())), "{recipe}");
    }
}

#[test]
fn a_stopped_conversion_leaves_nothing() {
    let sandbox = Sandbox::new();
    for stop_at in [(Stage::Converting, 0), (Stage::Converting, 50), (Stage::Verifying, 0)] {
        let cancel = AtomicBool::new(false);
        let mut seen = 0;
        let mut progress = |p: &Progress<'_>| {
            assert!(p.done_bytes <= p.total_bytes);
            assert!(!sandbox.path("out").exists(), "not before it is complete");
            if p.stage == stop_at.0 && p.done_bytes * 100 >= p.total_bytes * stop_at.1 {
                cancel.store(true, Ordering::Relaxed);
            }
            seen += 1;
        };
        let error = convert(&sandbox.hub(), &sandbox.path("out"), Recipe::Int8Hu, &mut progress, &cancel);
        assert_eq!(error.expect_err("cancelled").get_kind(), ErrorKind::Cancelled);
        assert!(seen > 0);
        assert_eq!(names(sandbox.0.path()), ["hub"]);
    }
    let cancel = AtomicBool::new(true);
    let error = synthesise(Preset::Tiny, 1, &sandbox.path("random"), &mut |_| (), &cancel);
    assert_eq!(error.expect_err("cancelled").get_kind(), ErrorKind::Cancelled);
    assert_eq!(names(sandbox.0.path()), ["hub"]);
}

#[test]
fn the_destination_must_be_new_and_the_source_a_checkpoint() {
    let sandbox = Sandbox::new();
    sandbox.convert("out", Recipe::F16).expect("converts");
    let before = contents(&sandbox.path("out"));
    assert_reads_well(&sandbox.convert("out", Recipe::F16).expect_err("exists"), &["out", "exists already"]);
    assert_reads_well(&sandbox.convert("hub", Recipe::F16).expect_err("exists"), &["hub", "exists already"]);
    assert_eq!(contents(&sandbox.path("out")), before);
    fs::write(sandbox.path("file"), b"x").expect("writable");
    assert_reads_well(&sandbox.convert("file", Recipe::F16).expect_err("a file"), &["file"]);
    let error = run(&sandbox.path("out"), &sandbox.path("again"), Recipe::F16).expect_err("converted");
    assert_reads_well(&error, &["out", "converted already"]);
    assert!(run(&sandbox.path("none"), &sandbox.path("again"), Recipe::F16).is_err());
    fs::create_dir(sandbox.path("empty")).expect("made");
    sandbox.convert("empty", Recipe::F16).expect("an empty folder may be there");
}

#[test]
fn a_model_is_converted_once_into_the_cache_and_again_when_it_changes() {
    let sandbox = Sandbox::new();
    let cache = sandbox.path("cache");
    let converted = |folder: &Path, recipe: Option<Recipe>| {
        let mut steps = 0;
        let never = AtomicBool::new(false);
        let source = ModelSource::resolve_in(&cache, folder, recipe, &mut |_| steps += 1, &never)?;
        Ok::<_, Error>((source, steps > 0))
    };
    let (first, worked) = converted(&sandbox.hub(), None).expect("converts");
    assert!(worked);
    assert_eq!((first.name.as_str(), first.model.recipe()), ("hub", Recipe::Int8Hu));
    let place = first.model.folder().to_owned();
    assert!(place.starts_with(&cache));
    let (second, worked) = converted(&sandbox.hub(), Some(Recipe::Int8Hu)).expect("opens");
    assert!(!worked && second.model.folder() == place);
    let (other, worked) = converted(&sandbox.hub(), Some(Recipe::F16)).expect("converts");
    assert!(worked && other.model.recipe() == Recipe::F16);

    // A damaged one is made again; so is one whose source has changed.
    drop((first, second));
    truncate(&place.join(CONVERTED), 100);
    assert!(converted(&sandbox.hub(), None).expect("converts").1);
    sandbox.edit_json("generation_config.json", |c| c["top_k"] = 33.into());
    let (changed, worked) = converted(&sandbox.hub(), None).expect("converts");
    assert!(worked && changed.model.folder() != place && changed.model.generation().top_k == 33);

    // A converted folder is used as it is; int8 is multiplied out once, into the cache too.
    let (direct, worked) = converted(&place, None).expect("opens");
    assert!(!worked && direct.model.folder() == place);
    let (exact, worked) = converted(&place, Some(Recipe::F32)).expect("converts");
    assert!(worked && exact.model.recipe() == Recipe::F32 && exact.model.head_name() == HEAD);
    assert!(exact.model.folder() != place && exact.model.folder().starts_with(&cache));
    assert!(!converted(&place, Some(Recipe::F32)).expect("opens").1);
    let error = converted(&place, Some(Recipe::Int8Lin)).expect_err("another recipe");
    assert_reads_well(&error, &["int8hu, not int8lin", "ocelli convert"]);
    assert_reads_well(
        &converted(&sandbox.path("none"), None).expect_err("none"),
        &["none", "no such folder", "convert"],
    );
    assert_reads_well(
        &converted(&sandbox.0.path().join("cache"), None).expect_err("no model"),
        &["config.json"],
    );
}
