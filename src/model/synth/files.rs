//! The small files of a made-up checkpoint, as the hub's 2B, 4B and 8B have them.

use serde_json::{Value, json};

use super::tokenizer::{ADDED, added_id};
use crate::model::config::ModelConfig;

/// The prompt format, shared by every made-up checkpoint.
pub(super) const CHAT_TEMPLATE: &str = include_str!("../../../assets/chat_template.jinja");

/// `config.json` in the style of transformers 4.57.
pub(super) fn config_json(config: &ModelConfig, base: usize) -> Value {
    let (t, v) = (&config.text, &config.vision);
    json!({
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "image_token_id": config.image_token_id,
        "model_type": "qwen3_vl",
        "text_config": {
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": base,
            "dtype": "bfloat16",
            "eos_token_id": added_id(base, "<|im_end|>"),
            "head_dim": t.head_dim,
            "hidden_act": "silu",
            "hidden_size": t.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": t.intermediate_size,
            "max_position_embeddings": t.max_position_embeddings,
            "model_type": "qwen3_vl_text",
            "num_attention_heads": t.num_heads,
            "num_hidden_layers": t.num_layers,
            "num_key_value_heads": t.num_kv_heads,
            // In f32 1e-6 is not quite 1e-6; the file says what is meant.
            "rms_norm_eps": 1e-6,
            "rope_scaling": {"mrope_interleaved": true, "mrope_section": t.mrope_section, "rope_type": "default"},
            "rope_theta": t.rope_theta,
            "tie_word_embeddings": t.tie_word_embeddings,
            "use_cache": true,
            "vocab_size": t.vocab_size
        },
        "tie_word_embeddings": t.tie_word_embeddings,
        "transformers_version": "4.57.0.dev0",
        "video_token_id": config.video_token_id,
        "vision_config": {
            "deepstack_visual_indexes": v.deepstack_indexes,
            "depth": v.depth,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": v.hidden_size,
            "in_channels": v.in_channels,
            "initializer_range": 0.02,
            "intermediate_size": v.intermediate_size,
            "model_type": "qwen3_vl",
            "num_heads": v.num_heads,
            "num_position_embeddings": v.num_position_embeddings,
            "out_hidden_size": v.out_hidden_size,
            "patch_size": v.patch_size,
            "spatial_merge_size": v.spatial_merge_size,
            "temporal_patch_size": v.temporal_patch_size
        },
        "vision_end_token_id": config.vision_end_token_id,
        "vision_start_token_id": config.vision_start_token_id
    })
}

/// The other JSON files, by name.
pub(super) fn other_json(config: &ModelConfig, base: usize) -> Vec<(&'static str, Value)> {
    vec![
        (
            "generation_config.json",
            json!({
                "bos_token_id": base, "pad_token_id": base, "do_sample": true,
                "eos_token_id": config.eos_token_ids, "top_k": 20, "top_p": 0.8,
                "repetition_penalty": 1.0, "temperature": 0.7, "transformers_version": "4.56.0"
            }),
        ),
        (
            "preprocessor_config.json",
            json!({
                "size": {"longest_edge": 16_777_216, "shortest_edge": 65_536},
                "patch_size": config.vision.patch_size, "temporal_patch_size": config.vision.temporal_patch_size,
                "merge_size": config.vision.spatial_merge_size,
                "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
                "processor_class": "Qwen3VLProcessor", "image_processor_type": "Qwen2VLImageProcessorFast"
            }),
        ),
        (
            "video_preprocessor_config.json",
            json!({
                "size": {"longest_edge": 25_165_824, "shortest_edge": 4096},
                "patch_size": config.vision.patch_size, "temporal_patch_size": config.vision.temporal_patch_size,
                "merge_size": config.vision.spatial_merge_size,
                "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
                "processor_class": "Qwen3VLProcessor", "video_processor_type": "Qwen3VLVideoProcessor"
            }),
        ),
        ("tokenizer_config.json", tokenizer_config(config, base)),
        ("chat_template.json", json!({"chat_template": CHAT_TEMPLATE})),
    ]
}

fn tokenizer_config(config: &ModelConfig, base: usize) -> Value {
    let decoder: serde_json::Map<String, Value> = ADDED
        .iter()
        .enumerate()
        .map(|(at, (content, special))| {
            let token = json!({"content": content, "lstrip": false, "normalized": false, "rstrip": false,
                "single_word": false, "special": special});
            ((base + at).to_string(), token)
        })
        .collect();
    let special: Vec<&str> =
        ADDED.iter().skip(1).filter(|(_, special)| *special).map(|(content, _)| *content).collect();
    json!({
        "add_bos_token": false,
        "add_prefix_space": false,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": special,
        "bos_token": null,
        "clean_up_tokenization_spaces": false,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": config.text.max_position_embeddings,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": false,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": null
    })
}

/// `README.md`: so that nobody takes the folder for a model.
pub(super) fn readme(preset: &str, seed: u64) -> String {
    format!(
        "# Random weights\n\nMade by `ocelli synth --preset {preset} --seed {seed}`. The tensors have the names, types and \
         shapes of a Qwen3-VL checkpoint of\nthis size, and random values: this is for measuring speed and memory. What it \
         answers means nothing.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_jinja(value: &Value) -> minijinja::Value {
        match value {
            Value::Array(list) => list.iter().map(to_jinja).collect(),
            Value::Object(map) => {
                let map: std::collections::BTreeMap<_, _> =
                    map.iter().map(|(k, v)| (k.clone(), to_jinja(v))).collect();
                map.into()
            }
            Value::String(text) => text.as_str().into(),
            Value::Bool(flag) => (*flag).into(),
            other => other.as_i64().into(),
        }
    }

    fn render(context: &Value) -> String {
        minijinja::Environment::new().render_str(CHAT_TEMPLATE, to_jinja(context)).expect("it renders")
    }

    #[test]
    fn the_template_puts_pictures_and_turns_where_the_spec_has_them() {
        let messages = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "image"}, {"type": "text", "text": "What is "}, {"image_url": {"url": "x"}},
                {"type": "video"}, {"text": "this? "}]},
            {"role": "assistant", "content": "A cat."},
            {"role": "system", "content": "dropped"},
            {"role": "user", "content": " And now? "}
        ]);
        let image = "<|vision_start|><|image_pad|><|vision_end|>";
        let video = "<|vision_start|><|video_pad|><|vision_end|>";
        let tail =
            "<|im_end|>\n<|im_start|>assistant\nA cat.<|im_end|>\n<|im_start|>user\n And now? <|im_end|>\n";
        let head = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n";
        assert_eq!(
            render(&json!({"messages": messages, "add_generation_prompt": true})),
            format!("{head}{image}What is {image}{video}this? {tail}<|im_start|>assistant\n")
        );
        assert_eq!(
            render(&json!({"messages": messages, "add_vision_id": true})),
            format!("{head}Picture 1: {image}What is Picture 2: {image}Video 1: {video}this? {tail}")
        );
    }

    #[test]
    fn the_template_shows_tools_calls_and_results() {
        let messages = json!([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "Let me see.", "tool_calls": [
                {"function": {"name": "look", "arguments": {"at": "sky"}}}, {"name": "ask", "arguments": "{}"}]},
            {"role": "tool", "content": "blue"},
            {"role": "tool", "content": [{"type": "image"}]}
        ]);
        let text = render(&json!({"messages": messages, "tools": [{"name": "look"}]}));
        assert!(text.starts_with("<|im_start|>system\n# Tools\n\nYou may call one or more functions"));
        assert!(text.contains("XML tags:\n<tools>\n{\"name\":"));
        assert!(text.contains("</tool_call><|im_end|>\n<|im_start|>user\nWeather?<|im_end|>\n"));
        assert!(
            text.contains(
                "assistant\nLet me see.\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\":"
            )
        );
        assert!(text.contains(
            "}\n</tool_call>\n<tool_call>\n{\"name\": \"ask\", \"arguments\": {}}\n</tool_call><|im_end|>\n"
        ));
        assert!(text.ends_with(
            "<|im_start|>user\n<tool_response>\nblue\n</tool_response>\n<tool_response>\n\
             <|vision_start|><|image_pad|><|vision_end|>\n</tool_response><|im_end|>\n"
        ));
    }
}
