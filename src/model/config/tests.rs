use super::*;
use serde_json::json;

/// The 2B model in the style of transformers 4.57, as on the hub.
fn two_b() -> Value {
    json!({
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "image_token_id": 151_655, "video_token_id": 151_656,
        "vision_start_token_id": 151_652, "vision_end_token_id": 151_653,
        "model_type": "qwen3_vl", "tie_word_embeddings": true,
        "text_config": {
            "attention_bias": false, "bos_token_id": 151_643, "eos_token_id": 151_645, "head_dim": 128,
            "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 6144,
            "max_position_embeddings": 262_144, "model_type": "qwen3_vl_text", "num_attention_heads": 16,
            "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-6,
            "rope_scaling": {"mrope_interleaved": true, "mrope_section": [24, 20, 20], "rope_type": "default"},
            "rope_theta": 5_000_000, "tie_word_embeddings": true, "vocab_size": 151_936
        },
        "vision_config": {
            "deepstack_visual_indexes": [5, 11, 17], "depth": 24, "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": 1024, "in_channels": 3, "intermediate_size": 4096, "model_type": "qwen3_vl",
            "num_heads": 16, "num_position_embeddings": 2304, "out_hidden_size": 2048, "patch_size": 16,
            "spatial_merge_size": 2, "temporal_patch_size": 2
        }
    })
}

fn parse(value: &Value) -> Result<ModelConfig> {
    ModelConfig::from_json(value.to_string().as_bytes())
}

/// Sets the value at `path` (`text_config.head_dim`); null removes it.
fn with(path: &str, value: Value) -> Value {
    let mut config = two_b();
    let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut place = &mut config;
    for part in parent.split('.').filter(|p| !p.is_empty()) {
        place = &mut place[part];
    }
    let map = place.as_object_mut().expect("an object");
    if value.is_null() {
        map.remove(key);
    } else {
        map.insert(key.to_owned(), value);
    }
    config
}

fn message(config: &Value) -> String {
    let error = parse(config).expect_err("this configuration must be refused").to_string();
    assert!(!error.contains('\n'), "one line: {error}");
    assert!(error.contains('('), "with advice: {error}");
    error
}

#[test]
fn the_2b_configuration_of_the_hub_is_read() {
    let config = parse(&two_b()).expect("valid");
    let (t, v) = (&config.text, &config.vision);
    assert_eq!((t.vocab_size, t.hidden_size, t.num_layers), (151_936, 2048, 28));
    assert_eq!((t.num_heads, t.num_kv_heads, t.head_dim, t.intermediate_size), (16, 8, 128, 6144));
    assert_eq!((t.rms_norm_eps.to_bits(), t.rope_theta.to_bits()), (1e-6_f32.to_bits(), 5e6_f64.to_bits()));
    assert_eq!((t.mrope_section, t.max_position_embeddings), ([24, 20, 20], 262_144));
    assert!(t.tie_word_embeddings && !t.tie_flags_disagree);
    assert_eq!((v.depth, v.hidden_size, v.num_heads, v.head_dim()), (24, 1024, 16, 64));
    assert_eq!((v.patch_elements(), v.merge_unit(), v.merged_size(), v.position_side()), (1536, 4, 4096, 48));
    assert_eq!(v.deepstack_indexes, [5, 11, 17]);
    assert_eq!(config.eos_token_ids, [151_645]);
    assert_eq!((config.image_token_id, config.video_token_id), (151_655, 151_656));
}

#[test]
fn the_style_of_transformers_5_gives_the_same_configuration() {
    let mut config = with("text_config.rope_scaling", Value::Null);
    let text = config["text_config"].as_object_mut().expect("an object");
    text.remove("rope_theta");
    text.insert(
        "rope_parameters".into(),
        json!({"mrope_interleaved": true, "mrope_section": [24, 20, 20], "rope_theta": 5_000_000.0, "rope_type": "default"}),
    );
    config["vision_config"]["model_type"] = "qwen3_vl_vision".into();
    config["dtype"] = "bfloat16".into();
    assert_eq!(parse(&config).expect("valid"), parse(&two_b()).expect("valid"));
}

#[test]
fn the_tie_flag_counts_at_either_level_and_a_contradiction_is_remembered() {
    for (path, tied) in [("tie_word_embeddings", true), ("text_config.tie_word_embeddings", true)] {
        assert_eq!(parse(&with(path, Value::Null)).expect("valid").text.tie_word_embeddings, tied);
    }
    let both = with("text_config.tie_word_embeddings", false.into());
    let text = parse(&both).expect("valid").text;
    assert!(text.tie_word_embeddings && text.tie_flags_disagree);
    let mut none = with("tie_word_embeddings", Value::Null);
    none["text_config"]["tie_word_embeddings"] = Value::Null;
    assert!(!parse(&none).expect("valid").text.tie_word_embeddings);
}

#[test]
fn every_size_must_be_stated_and_the_error_names_the_key() {
    let keys = [
        "text_config.vocab_size",
        "text_config.hidden_size",
        "text_config.num_hidden_layers",
        "text_config.num_attention_heads",
        "text_config.num_key_value_heads",
        "text_config.head_dim",
        "text_config.intermediate_size",
        "text_config.rms_norm_eps",
        "text_config.rope_theta",
        "text_config.max_position_embeddings",
        "vision_config.depth",
        "vision_config.hidden_size",
        "vision_config.num_heads",
        "vision_config.intermediate_size",
        "vision_config.patch_size",
        "vision_config.temporal_patch_size",
        "vision_config.spatial_merge_size",
        "vision_config.in_channels",
        "vision_config.num_position_embeddings",
        "vision_config.deepstack_visual_indexes",
        "vision_config.out_hidden_size",
        "image_token_id",
        "video_token_id",
        "vision_start_token_id",
        "vision_end_token_id",
        "text_config",
        "vision_config",
        "model_type",
    ];
    for key in keys {
        let error = message(&with(key, Value::Null));
        assert!(error.contains(&format!("{key} is missing")), "{key}: {error}");
        let error = message(&with(key, json!("a word")));
        assert!(error.contains(key.rsplit('.').next().unwrap_or(key)), "{key}: {error}");
    }
}

#[test]
fn a_missing_mrope_section_is_filled_in_for_the_released_head_only() {
    let config = with("text_config.rope_scaling.mrope_section", Value::Null);
    assert_eq!(parse(&config).expect("valid").text.mrope_section, [24, 20, 20]);
    let config = with("text_config.rope_scaling", Value::Null);
    assert_eq!(parse(&config).expect("valid").text.mrope_section, [24, 20, 20]);
    let mut config = config;
    config["text_config"]["head_dim"] = 64.into();
    assert!(message(&config).contains("mrope_section is missing"));
}

#[test]
fn what_the_program_cannot_run_is_refused_by_name() {
    for (path, value, wanted) in [
        ("model_type", json!("qwen3_vl_moe"), "mixture-of-experts"),
        ("model_type", json!("qwen2_5_vl"), "qwen2_5_vl is not supported"),
        ("model_type", json!("llama"), "llama is not supported"),
        ("quantization_config", json!({"quant_method": "fp8"}), "already quantised (fp8)"),
        ("text_config.num_experts", json!(128), "mixture-of-experts"),
        ("text_config.hidden_act", json!("gelu"), "only silu"),
        ("vision_config.hidden_act", json!("quick_gelu"), "only gelu_pytorch_tanh"),
        ("text_config.attention_bias", json!(true), "attention_bias"),
        ("text_config.rope_scaling.rope_type", json!("yarn"), "yarn is not supported"),
        ("text_config.rope_scaling.mrope_interleaved", json!(false), "mrope_interleaved"),
        ("vision_config.temporal_patch_size", json!(1), "only 2"),
        ("vision_config.in_channels", json!(4), "only 3"),
    ] {
        let error = message(&with(path, value));
        assert!(error.contains(wanted), "{path}: {error}");
    }
}

#[test]
fn absurd_or_contradicting_sizes_are_refused() {
    for (path, value, wanted) in [
        ("text_config.hidden_size", json!(0), "hidden_size is 0"),
        ("text_config.hidden_size", json!(2044), "multiple of 8"),
        ("text_config.hidden_size", json!(1_u64 << 60), "cannot be right"),
        ("text_config.hidden_size", json!(-5), "not a whole number"),
        ("text_config.hidden_size", json!(2056), "out_hidden_size 2048 differs"),
        ("text_config.num_hidden_layers", json!(100_000), "cannot be right"),
        ("text_config.num_key_value_heads", json!(5), "not a multiple of num_key_value_heads 5"),
        ("text_config.head_dim", json!(130), "adds up to 64"),
        ("text_config.head_dim", json!(512), "cannot be right"),
        ("text_config.rms_norm_eps", json!(2.0), "rms_norm_eps"),
        ("text_config.rope_theta", json!(0), "rope_theta"),
        ("text_config.rope_scaling.mrope_section", json!([24, 20]), "2 entries"),
        ("text_config.rope_scaling.mrope_section", json!([24, 20, 21]), "adds up to 65"),
        ("text_config.vocab_size", json!(1000), "outside the vocabulary of 1000"),
        ("vision_config.num_heads", json!(3), "not a multiple of num_heads 3"),
        ("vision_config.num_position_embeddings", json!(2305), "not a square"),
        ("vision_config.deepstack_visual_indexes", json!([5, 24]), "block 24 of 24"),
        ("vision_config.deepstack_visual_indexes", json!([5, 5]), "not ascending"),
        ("vision_config.intermediate_size", json!(4100), "multiple of 8"),
        ("video_token_id", json!(151_655), "both 151655"),
        ("image_token_id", json!(999_999), "outside the vocabulary"),
        ("text_config.eos_token_id", json!("stop"), "not a token id"),
    ] {
        let error = message(&with(path, value));
        assert!(error.contains(wanted), "{path}: {error}");
    }
}

#[test]
fn generation_defaults_are_read_and_their_end_ids_win() {
    let json =
        br#"{"bos_token_id":151643,"do_sample":true,"eos_token_id":[151645,151643],"pad_token_id":151643,
        "repetition_penalty":1.0,"temperature":0.7,"top_k":20,"top_p":0.8,"transformers_version":"4.57.0"}"#;
    let defaults = GenerationDefaults::from_json(json).expect("valid");
    assert_eq!((defaults.do_sample, defaults.top_k), (true, 20));
    assert_eq!(
        (defaults.temperature.to_bits(), defaults.top_p.to_bits()),
        (0.7_f32.to_bits(), 0.8_f32.to_bits())
    );
    let mut config = parse(&two_b()).expect("valid");
    config.apply_generation(&defaults).expect("ids in the vocabulary");
    assert_eq!(config.eos_token_ids, [151_645, 151_643]);
    let outside = GenerationDefaults { eos_token_ids: vec![200_000], ..defaults };
    assert!(config.apply_generation(&outside).is_err());
}

#[test]
fn generation_defaults_out_of_range_are_refused() {
    for (json, wanted) in [
        (r#"{"temperature": -1}"#, "temperature -1"),
        (r#"{"temperature": 1e39}"#, "temperature"),
        (r#"{"top_p": 1.5}"#, "top_p"),
        (r#"{"top_k": -3}"#, "top_k"),
        (r#"{"do_sample": "yes"}"#, "do_sample"),
        (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
        (r#"{"eos_token_id": [1.5]}"#, "eos_token_id"),
        ("[]", "not an object"),
        ("{", "not valid JSON"),
    ] {
        let error = GenerationDefaults::from_json(json.as_bytes()).expect_err(json).to_string();
        assert!(error.contains(wanted), "{json}: {error}");
    }
}
