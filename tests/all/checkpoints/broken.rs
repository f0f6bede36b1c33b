//! Every way of being broken: refused with one line that names file or tensor and says what to do.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use ocelli::model::checkpoint::Checkpoint;
use ocelli::model::converted::{ConvertedModel, MANIFEST_FILE};
use ocelli::model::recipe::{Recipe, stored_tensors};
use ocelli::model::synth::Preset;
use ocelli::model::tensor_names::{EMBEDDING, HEAD, checkpoint_tensors};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::sandbox::*;

/// Breaks a fresh checkpoint in one way; opening it, and converting it, must fail and say so.
#[track_caller]
fn refused(wanted: &[&str], damage: impl FnOnce(&Sandbox)) {
    let sandbox = Sandbox::new();
    damage(&sandbox);
    assert_reads_well(&Checkpoint::open(&sandbox.hub()).expect_err("must not open"), wanted);
    assert_reads_well(&sandbox.convert("out", Recipe::Int8Hu).expect_err("must not convert"), wanted);
    assert_eq!(names(sandbox.0.path()), ["hub"], "nothing is left behind");
}

#[test]
fn missing_and_truncated_files_are_named_with_what_is_missing() {
    refused(&["config.json", "comes with the weights"], |s| {
        fs::remove_file(s.hub().join("config.json")).expect("removed");
    });
    refused(&["hub", "neither model.safetensors nor"], |s| {
        fs::remove_file(s.hub().join(WEIGHTS)).expect("removed");
    });
    refused(&["hub", "model.gguf", "GGUF file"], |s| {
        fs::rename(s.hub().join(WEIGHTS), s.hub().join("model.gguf")).expect("renamed");
    });
    refused(&["adapter_model.safetensors", "LoRA"], |s| {
        fs::rename(s.hub().join(WEIGHTS), s.hub().join("adapter_model.safetensors")).expect("renamed");
    });
    refused(&[WEIGHTS, "truncated: 1000 of its"], |s| {
        let length = fs::metadata(s.hub().join(WEIGHTS)).expect("there").len();
        truncate(&s.hub().join(WEIGHTS), length - 1000);
    });
    refused(&[WEIGHTS, "bytes are missing"], |s| truncate(&s.hub().join(WEIGHTS), 2000));
    refused(&[WEIGHTS, "only 5 bytes"], |s| truncate(&s.hub().join(WEIGHTS), 5));
    refused(&[WEIGHTS, "empty"], |s| truncate(&s.hub().join(WEIGHTS), 0));
    refused(&["config.json", "not valid JSON"], |s| truncate(&s.hub().join("config.json"), 300));
    refused(&["config.json", "not valid JSON"], |s| truncate(&s.hub().join("config.json"), 0));
    refused(&["generation_config.json", "not valid JSON"], |s| {
        truncate(&s.hub().join("generation_config.json"), 9);
    });
}

#[test]
fn absurd_headers_are_refused() {
    let with_header = |length: u64, header: &str| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        move |s: &Sandbox| fs::write(s.hub().join(WEIGHTS), &bytes).expect("writable")
    };
    refused(&[WEIGHTS, "header of 1152921504606846976 bytes"], with_header(1 << 60, "{}"));
    refused(&[WEIGHTS, "header's 90000000 bytes are missing"], with_header(90_000_000, "{}"));
    let header = format!(
        "{{\"{Q_PROJ}\":{{\"dtype\":\"BF16\",\"shape\":[4294967296,4294967296,4],\"data_offsets\":[0,8]}}}}"
    );
    refused(&[WEIGHTS, Q_PROJ, "too large to be right"], with_header(header.len() as u64, &header));
    let header = format!(
        "{{\"{Q_PROJ}\":{{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,9000000000000000000]}}}}"
    );
    refused(&[WEIGHTS, Q_PROJ, "takes 8 bytes"], with_header(header.len() as u64, &header));
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    refused(&[WEIGHTS, "not a list of tensors"], with_header(deep.len() as u64, &deep));
    refused(&[WEIGHTS, "not a list of tensors"], with_header(6, "GGUF\u{3}\0"));
}

#[test]
fn tensors_that_do_not_fit_the_configuration_are_named_with_both_shapes() {
    refused(&[Q_PROJ, "is missing"], |s| s.edit(|t| drop(t.remove(Q_PROJ))));
    refused(&[HEAD, "is missing", "tie_word_embeddings"], |s| {
        s.edit_json("config.json", |c| {
            c["tie_word_embeddings"] = false.into();
            c["text_config"]["tie_word_embeddings"] = false.into();
        });
    });
    refused(&["layers.4.input_layernorm.weight", "10 others"], |s| {
        s.edit_json("config.json", |c| c["text_config"]["num_hidden_layers"] = 5.into());
    });
    refused(&[NORM, "[36, 2]", "[72]"], |s| s.edit(|t| t.get_mut(NORM).expect("there").1 = vec![36, 2]));
    refused(&["[256, 128]", "do not belong together"], |s| {
        s.edit_json("config.json", |c| c["text_config"]["num_attention_heads"] = 8.into());
    });
    // The vocabulary of the configuration is not the embedding's.
    refused(&[EMBEDDING, "[1024, 128]", "[1032, 128]"], |s| {
        s.edit_json("config.json", |c| c["text_config"]["vocab_size"] = 1032.into());
    });
    refused(&[NORM, "F64 is not supported"], |s| {
        s.edit(|t| drop(t.insert(NORM.into(), (Dtype::F64, vec![72], vec![0; 576]))));
    });
    refused(&[Q_PROJ, "F8_E4M3 is not supported"], |s| {
        s.edit(|t| {
            let (dtype, shape, bytes) = t.get_mut(Q_PROJ).expect("there");
            (*dtype, *bytes) = (Dtype::F8_E4M3, vec![0; shape.iter().product()]);
        });
    });
    refused(&[Q_PROJ, "I8 is not supported"], |s| {
        s.edit(|t| {
            let (dtype, shape, bytes) = t.get_mut(Q_PROJ).expect("there");
            (*dtype, *bytes) = (Dtype::I8, vec![0; shape.iter().product()]);
        });
    });
    refused(&["element type F9_Z is not known", WEIGHTS], |s| {
        let path = s.hub().join(WEIGHTS);
        let mut bytes = fs::read(&path).expect("readable");
        let at = bytes.windows(6).position(|w| w == b"\"BF16\"").expect("there");
        bytes[at..at + 6].copy_from_slice(b"\"F9_Z\"");
        fs::write(path, bytes).expect("writable");
    });
    refused(&["model.visual.pos_embed.weight", "twice", "as visual.pos_embed.weight"], |s| {
        s.edit(|t| {
            let copy = t["model.visual.pos_embed.weight"].clone();
            t.insert("visual.pos_embed.weight".into(), copy);
        });
    });
}

#[test]
fn other_models_are_refused_by_name() {
    refused(&["qwen3_vl_moe", "mixture-of-experts"], |s| {
        s.edit_json("config.json", |c| c["model_type"] = "qwen3_vl_moe".into());
    });
    refused(&["qwen2_5_vl is not supported"], |s| {
        s.edit_json("config.json", |c| c["model_type"] = "qwen2_5_vl".into());
    });
    refused(&["fp8"], |s| {
        s.edit_json("config.json", |c| c["quantization_config"] = json!({"quant_method": "fp8"}));
    });
    refused(&["generation_config.json in", "eos_token_id 5000 is outside the vocabulary"], |s| {
        s.edit_json("generation_config.json", |c| c["eos_token_id"] = json!([5000]));
    });
}

/// The same for a checkpoint in three shards; the damage gets its folder.
#[track_caller]
fn shards_refused(wanted: &[&str], damage: impl FnOnce(&Path)) {
    refused(wanted, |sandbox| {
        sandbox.shard();
        damage(&sandbox.hub());
    });
}

#[test]
fn shards_are_checked_before_anything_is_read() {
    shards_refused(&["model-00002-of-00003.safetensors", "is missing"], |hub| {
        fs::remove_file(hub.join(shard_name(1))).expect("removed");
    });
    shards_refused(&["hub", "a shard without its index file"], |hub| {
        fs::remove_file(hub.join(INDEX)).expect("removed");
    });
    for (text, wanted) in
        [("{", "not valid JSON"), ("{}", "weight_map is missing"), (r#"{"weight_map":{}}"#, "is empty")]
    {
        shards_refused(&[INDEX, wanted], |hub| fs::write(hub.join(INDEX), text).expect("writable"));
    }
    for outside in ["../secret.safetensors", "/etc/passwd", "a/../../b", "..\\b", "C:b", ""] {
        shards_refused(&[INDEX, Q_PROJ, "outside the checkpoint's folder"], |hub| {
            edit_json(&hub.join(INDEX), |v| v["weight_map"][Q_PROJ] = outside.into());
        });
    }
    shards_refused(&[INDEX, Q_PROJ, "not a file name"], |hub| {
        edit_json(&hub.join(INDEX), |v| v["weight_map"][Q_PROJ] = 7.into());
    });
    shards_refused(
        &["twice", "model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"],
        |hub| {
            fs::copy(hub.join(shard_name(0)), hub.join(shard_name(2))).expect("copied");
        },
    );
    shards_refused(&["model-00002-of-00003.safetensors", "not a safetensors file"], |hub| {
        // Every shard is there, and one of them is something else.
        fs::write(hub.join(shard_name(1)), [b'x'; 41]).expect("writable");
    });
}

/// Damage that only conversion sees, because only it reads weights and tokenizer.
#[track_caller]
fn not_converted(recipe: Recipe, wanted: &[&str], damage: impl FnOnce(&Sandbox)) {
    let sandbox = Sandbox::new();
    damage(&sandbox);
    Checkpoint::open(&sandbox.hub()).expect("opens");
    assert_reads_well(&sandbox.convert("out", recipe).expect_err("must not convert"), wanted);
    assert_eq!(names(sandbox.0.path()), ["hub"], "nothing is left behind");
}

/// Sets one bf16 element.
fn poke(sandbox: &Sandbox, tensor: &str, element: usize, value: f32) {
    sandbox.edit(|tensors| {
        let bytes = half::bf16::from_f32(value).to_le_bytes();
        tensors.get_mut(tensor).expect("there").2[element * 2..][..2].copy_from_slice(&bytes);
    });
}

#[test]
fn weights_that_a_recipe_cannot_hold_are_named_with_their_place() {
    for recipe in Recipe::ALL {
        not_converted(recipe, &[Q_PROJ, "NaN", "row 3, column 5", "damaged"], |s| {
            poke(s, Q_PROJ, 3 * 128 + 5, f32::NAN);
        });
        not_converted(recipe, &[NORM, "inf", "column 7"], |s| poke(s, NORM, 7, f32::INFINITY));
        not_converted(recipe, &[EMBEDDING, "NaN", "row 1000, column 0"], |s| {
            poke(s, EMBEDDING, 128_000, f32::NAN);
        });
    }
    let fc1 = "model.visual.blocks.0.mlp.linear_fc1.weight";
    not_converted(Recipe::Int8Lin, &[fc1, "range of f16", "recipe f32"], |s| poke(s, fc1, 72, 70000.0));
    not_converted(Recipe::F16, &[Q_PROJ, "range of f16", "recipe f32"], |s| poke(s, Q_PROJ, 0, -1e5));
    not_converted(Recipe::Int8Hu, &[Q_PROJ, "scale is beyond", "recipe f32"], |s| poke(s, Q_PROJ, 0, 1e7));
    // f32 holds them.
    let sandbox = Sandbox::new();
    poke(&sandbox, Q_PROJ, 0, 1e7);
    sandbox.convert("out", Recipe::F32).expect("converts");
}

#[test]
fn a_tokenizer_that_does_not_belong_to_the_weights_is_refused() {
    let file = "tokenizer.json";
    not_converted(Recipe::F16, &["tokenizer.json is missing"], |s| {
        fs::remove_file(s.hub().join(file)).expect("removed");
    });
    not_converted(Recipe::F16, &[file, "not a tokenizer"], |s| truncate(&s.hub().join(file), 500));
    not_converted(Recipe::F16, &[file, "ids up to 151668", "has 1024 rows"], |s| {
        s.edit_json(file, |t| t["added_tokens"][25]["id"] = 151_668.into());
    });
    not_converted(Recipe::F16, &[file, "ids up to 1024"], |s| {
        s.edit_json(file, |t| t["model"]["vocab"]["zzzz"] = 1024.into());
    });
    not_converted(
        Recipe::F16,
        &[file, "<|image_pad|> has id 1005", "image_token_id in config.json is 1004"],
        |s| {
            s.edit_json(file, |t| {
                t["added_tokens"][12]["id"] = 1005.into();
                t["added_tokens"][13]["id"] = 1004.into();
            });
        },
    );
}

#[test]
fn a_text_width_that_has_no_blocks_is_refused_for_int8_only() {
    let mut config = Preset::Tiny.config();
    config.text.intermediate_size = 232;
    for recipe in [Recipe::Int8Hu, Recipe::Int8Lin] {
        let error = stored_tensors(&config, recipe).expect_err("must be refused");
        assert_reads_well(&error, &["layers.0.mlp.down_proj.weight", "[128, 232]", "recipe f16"]);
    }
    for recipe in [Recipe::F16, Recipe::F32] {
        assert_eq!(stored_tensors(&config, recipe).expect("a plan").len(), checkpoint_tensors(&config).len());
    }
}

/// Breaks a converted model in one way; opening it must fail and say so.
#[track_caller]
fn converted_refused(wanted: &[&str], damage: impl FnOnce(&Path)) {
    let sandbox = Sandbox::new();
    sandbox.convert("out", Recipe::Int8Hu).expect("converts");
    damage(&sandbox.path("out"));
    let error = ConvertedModel::open(&sandbox.path("out")).expect_err("must not open");
    assert_reads_well(&error, wanted);
}

/// Where a tensor's data is in a safetensors file.
fn data_start(path: &Path, tensor: &str) -> usize {
    let bytes = fs::read(path).expect("readable");
    let file = SafeTensors::deserialize(&bytes).expect("valid");
    file.tensor(tensor).expect("there").data().as_ptr() as usize - bytes.as_ptr() as usize
}

fn overwrite(path: &Path, at: usize, new: &[u8]) {
    let mut bytes = fs::read(path).expect("readable");
    bytes[at..at + new.len()].copy_from_slice(new);
    fs::write(path, bytes).expect("writable");
}

#[test]
fn a_broken_converted_model_is_refused() {
    converted_refused(&[CONVERTED, "truncated", "convert the checkpoint again"], |out| {
        truncate(&out.join(CONVERTED), 5000);
    });
    converted_refused(&[CONVERTED, "cannot be read"], |out| {
        fs::remove_file(out.join(CONVERTED)).expect("removed");
    });
    converted_refused(&["tokenizer.json", "instead of"], |out| truncate(&out.join("tokenizer.json"), 5));
    converted_refused(&["no ocelli.json"], |out| fs::remove_file(out.join(MANIFEST_FILE)).expect("removed"));
    converted_refused(&[MANIFEST_FILE, "not a manifest"], |out| truncate(&out.join(MANIFEST_FILE), 50));
    let manifest = |change: &'static dyn Fn(&mut Value)| {
        move |out: &Path| edit_json(&out.join(MANIFEST_FILE), |v| change(v))
    };
    converted_refused(&[MANIFEST_FILE, "version 9"], manifest(&|m| m["version"] = 9.into()));
    converted_refused(&[MANIFEST_FILE, "its format is zip"], manifest(&|m| m["format"] = "zip".into()));
    converted_refused(&[MANIFEST_FILE, "int4"], manifest(&|m| m["recipe"] = "int4".into()));
    converted_refused(
        &[MANIFEST_FILE, "../x is not a plain"],
        manifest(&|m| m["files"][0]["name"] = "../x".into()),
    );
    converted_refused(&["stored as I8", "asks for F16"], manifest(&|m| m["recipe"] = "f16".into()));
    converted_refused(
        &["is missing", "convert the checkpoint again"],
        manifest(&|m| m["weights"] = json!([])),
    );
    converted_refused(&[EMBEDDING, "[1024, 128]", "[1016, 128]"], |out| {
        let length = fs::metadata(out.join("config.json")).expect("there").len();
        edit_json(&out.join("config.json"), |c| c["text_config"]["vocab_size"] = 1016.into());
        // The same size as before, or the manifest would complain first.
        let mut text = fs::read(out.join("config.json")).expect("readable");
        text.resize(usize::try_from(length).expect("small"), b' ');
        fs::write(out.join("config.json"), text).expect("writable");
    });
}

#[test]
fn damage_inside_the_weights_is_found_when_they_are_read() {
    let sandbox = Sandbox::new();
    sandbox.convert("out", Recipe::Int8Hu).expect("converts");
    let path = sandbox.path("out").join(CONVERTED);
    let fc2 = "model.visual.merger.linear_fc2.weight";
    let scale = format!("{Q_PROJ}_scale");
    for (tensor, offset, bits, read, wanted) in [
        (scale.as_str(), 26, 0x7e00_u16, Q_PROJ, ["_scale", "scale at row 3, column 1 is NaN"]),
        (scale.as_str(), 0, 0x7c00, Q_PROJ, ["_scale", "is inf"]),
        (scale.as_str(), 2, 0xbc00, Q_PROJ, ["_scale", "is -1"]),
        (EMBEDDING, 258, 0xfc00, EMBEDDING, [EMBEDDING, "row 1, column 1 is -inf"]),
        (fc2, 0, 0x7e01, fc2, [fc2, "row 0, column 0 is NaN"]),
        (NORM, 6, 0x7fc0, NORM, [NORM, "column 1 is NaN"]),
    ] {
        let intact = fs::read(&path).expect("readable");
        overwrite(&path, data_start(&path, tensor) + offset, &bits.to_le_bytes());
        let model = ConvertedModel::open(&sandbox.path("out")).expect("opens: it is not looked at");
        let error = if tensor == NORM { model.vector(read).map(drop) } else { model.matrix(read).map(drop) };
        assert_reads_well(
            &error.expect_err(tensor),
            &[&wanted[..], &[CONVERTED, "convert the checkpoint again"]].concat(),
        );
        let error = model.verify(&mut |_, _| (), &AtomicBool::new(false)).expect_err("the checksum differs");
        assert_reads_well(&error, &[CONVERTED, "not what was written"]);
        drop(model);
        fs::write(&path, intact).expect("writable");
    }
    let model = ConvertedModel::open(&sandbox.path("out")).expect("opens");
    assert!(model.matrix("model.no_such").is_err() && model.vector("model.no_such").is_err());
    assert!(model.vector(Q_PROJ).expect_err("it is no vector").to_string().contains(Q_PROJ));
}
