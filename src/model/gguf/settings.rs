//! The small files of a hub checkpoint, made from a GGUF file's metadata. What the metadata lack is Qwen3-VL's published
//! value, and said in a note.

use serde_json::{Value, json};

use super::vocabulary::Vocabulary;
use super::{Format, Gguf};
use crate::error::{Error, Result};
use crate::model::builtin;
use crate::model::config::read_side_file;

/// The vision tower's file, or what stands for one in a model without.
pub(super) enum Vision<'a> {
    File(&'a Gguf),
    /// None; the text model adds DeepStack features of this many levels.
    Without(usize),
}

/// Reads sizes, and says what is missing.
struct Keys<'a> {
    file: &'a Gguf,
    prefix: &'static str,
}

impl Keys<'_> {
    fn missing(&self, key: &str) -> Error {
        self.file
            .error(format!("{}.{key} is missing, or no number", self.prefix))
            .help("download the file again, or another conversion of the model")
    }

    fn size(&self, key: &str) -> Result<u64> {
        self.file.number(&format!("{}.{key}", self.prefix)).ok_or_else(|| self.missing(key))
    }

    fn optional(&self, key: &str) -> Option<u64> {
        self.file.number(&format!("{}.{key}", self.prefix))
    }

    fn float(&self, key: &str) -> Result<f64> {
        self.file.float(&format!("{}.{key}", self.prefix)).ok_or_else(|| self.missing(key))
    }
}

/// More levels of `DeepStack` features than this no model has.
const MOST_LEVELS: u64 = 512;

/// Number of levels of DeepStack features that the text file says it adds.
fn deepstack_levels(text: &Gguf) -> Option<u64> {
    text.number("qwen3vl.n_deepstack_layers")
}

/// What stands for the vision tower of a text file without one.
///
/// # Errors
/// The text file says it adds more levels of features than it has layers. A vision file's flags would contradict that;
/// here nothing else does, before a list of so many levels is made.
pub(super) fn without_vision(text: &Gguf) -> Result<Vision<'static>> {
    let levels = deepstack_levels(text).unwrap_or(0);
    let layers = text.number("qwen3vl.block_count").unwrap_or(0);
    match usize::try_from(levels) {
        Ok(count) if levels <= layers.min(MOST_LEVELS) => Ok(Vision::Without(count)),
        _ => Err(text
            .error(format!("qwen3vl.n_deepstack_layers is {levels}, and there are {layers} layers"))
            .help("download the file again, or another conversion of the model")),
    }
}

/// `config.json`.
///
/// # Errors
/// A size is missing, or the two files do not belong together.
pub(super) fn config(
    text: &Gguf,
    vision: &Vision<'_>,
    tokens: &Vocabulary,
    notes: &mut Vec<String>,
) -> Result<Value> {
    let keys = Keys { file: text, prefix: "qwen3vl" };
    let hidden = keys.size("embedding_length")?;
    let heads = keys.size("attention.head_count")?;
    let head_dim = match keys.optional("attention.key_length") {
        Some(dim) => dim,
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    if keys.optional("attention.value_length").is_some_and(|dim| dim != head_dim) {
        return Err(
            text.error("qwen3vl.attention.value_length differs from key_length, which no Qwen3-VL model has")
        );
    }
    if let Some(scaling) = text.text("qwen3vl.rope.scaling.type").filter(|kind| *kind != "none") {
        let why = format!("qwen3vl.rope.scaling.type is {scaling}, which is not supported");
        return Err(text.error(why).help("use the file without a context extension"));
    }
    let sections = text.numbers("qwen3vl.rope.dimension_sections").unwrap_or_else(|| {
        notes.push("the text file has no rope.dimension_sections: Qwen3-VL's [24, 20, 20] are taken".into());
        vec![24.0, 20.0, 20.0]
    });
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked as whole and small")]
    let sections: Vec<u64> = sections
        .iter()
        .take(3)
        .map(|n| if n.fract() == 0.0 && (0.0..=1e6).contains(n) { *n as u64 } else { u64::from(u32::MAX) })
        .collect();
    let theta = keys.float("rope.freq_base").or_else(|e| match text.value("qwen3vl.rope.freq_base") {
        Some(_) => Err(e),
        None => {
            notes.push("the text file has no rope.freq_base: Qwen3-VL's 5000000 is taken".into());
            Ok(5e6)
        }
    })?;
    let embedding = text.tensor("token_embd.weight").ok_or_else(|| {
        text.error("the tensor token_embd.weight is missing").help("download the file again")
    })?;
    let id = |token: &str| {
        tokens.id(token).ok_or_else(|| {
            text.error(format!("its tokenizer has no {token}")).help("use a conversion of Qwen3-VL itself")
        })
    };
    let eos = text.number("tokenizer.ggml.eos_token_id").map_or_else(|| id("<|im_end|>"), Ok)?;
    Ok(json!({
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "image_token_id": id("<|image_pad|>")?,
        "video_token_id": id("<|video_pad|>")?,
        "vision_start_token_id": id("<|vision_start|>")?,
        "vision_end_token_id": id("<|vision_end|>")?,
        "tie_word_embeddings": text.tensor("output.weight").is_none(),
        "text_config": {
            "model_type": "qwen3_vl_text",
            "hidden_act": "silu",
            "vocab_size": embedding.entry.shape.first().copied().unwrap_or(0),
            "hidden_size": hidden,
            "num_hidden_layers": keys.size("block_count")?,
            "num_attention_heads": heads,
            "num_key_value_heads": keys.size("attention.head_count_kv")?,
            "head_dim": head_dim,
            "intermediate_size": keys.size("feed_forward_length")?,
            "rms_norm_eps": keys.float("attention.layer_norm_rms_epsilon")?,
            "max_position_embeddings": keys.size("context_length")?,
            "eos_token_id": eos,
            "rope_theta": theta,
            "rope_scaling": {"rope_type": "default", "mrope_interleaved": true, "mrope_section": sections},
        },
        "vision_config": match vision {
            Vision::File(file) => vision_config(file, text, hidden, notes)?,
            Vision::Without(levels) => json!({
                "hidden_act": "gelu_pytorch_tanh", "depth": 27.max(*levels), "hidden_size": 1152, "num_heads": 16,
                "intermediate_size": 4304, "patch_size": 16, "temporal_patch_size": 2, "spatial_merge_size": 2,
                "in_channels": 3, "num_position_embeddings": 2304, "out_hidden_size": hidden,
                "deepstack_visual_indexes": (0..*levels).collect::<Vec<_>>(),
            }),
        },
    }))
}

fn vision_config(file: &Gguf, text: &Gguf, hidden: u64, notes: &mut Vec<String>) -> Result<Value> {
    let keys = Keys { file, prefix: "clip.vision" };
    let flags =
        file.numbers("clip.vision.is_deepstack_layers").ok_or_else(|| keys.missing("is_deepstack_layers"))?;
    let deepstack: Vec<usize> =
        flags.iter().enumerate().filter(|(_, flag)| **flag != 0.0).map(|(block, _)| block).collect();
    let positions = file.tensor("v.position_embd.weight").ok_or_else(|| {
        file.error("the tensor v.position_embd.weight is missing").help("download the file again")
    })?;
    let width = keys.size("projection_dim")?;
    let levels = deepstack_levels(text).unwrap_or(deepstack.len() as u64);
    if width != hidden || levels != deepstack.len() as u64 {
        let why = format!(
            "it makes rows of {width} and {} DeepStack levels, and the text file asks for {hidden} and {levels}",
            deepstack.len()
        );
        return Err(file.error(why).help("use the vision file that was published with the text file"));
    }
    let merge = keys.optional("spatial_merge_size").unwrap_or_else(|| {
        notes.push("the vision file has no spatial_merge_size: Qwen3-VL's 2 is taken".into());
        2
    });
    Ok(json!({
        "hidden_act": "gelu_pytorch_tanh",
        "depth": keys.size("block_count")?,
        "hidden_size": keys.size("embedding_length")?,
        "num_heads": keys.size("attention.head_count")?,
        "intermediate_size": keys.size("feed_forward_length")?,
        "patch_size": keys.size("patch_size")?,
        "temporal_patch_size": 2,
        "spatial_merge_size": merge,
        "in_channels": 3,
        "num_position_embeddings": positions.entry.shape.first().copied().unwrap_or(0),
        "deepstack_visual_indexes": deepstack,
        "out_hidden_size": width,
    }))
}

/// `generation_config.json`.
pub(super) fn generation(text: &Gguf, tokens: &Vocabulary, config: &Value, notes: &mut Vec<String>) -> Value {
    // As the hub's files have them: the end of a turn, then the end of a text.
    let mut eos: Vec<u64> =
        config.pointer("/text_config/eos_token_id").and_then(Value::as_u64).into_iter().collect();
    eos.extend(tokens.id("<|endoftext|>").filter(|id| !eos.contains(id)));
    let float = |key: &str, usual: f64| text.float(&format!("general.sampling.{key}")).unwrap_or(usual);
    let lacking: Vec<&str> = ["top_k", "top_p", "temp"]
        .into_iter()
        .filter(|key| text.value(&format!("general.sampling.{key}")).is_none())
        .collect();
    if !lacking.is_empty() {
        notes.push(format!(
            "sampling settings that the text file lacks ({}) are those of Qwen3-VL Instruct: temperature 0.7, top_p 0.8, top_k 20",
            lacking.join(", ")
        ));
    }
    let temperature = float("temp", 0.7);
    json!({
        "do_sample": temperature > 0.0,
        "eos_token_id": eos,
        "temperature": temperature,
        "top_p": float("top_p", 0.8),
        "top_k": text.number("general.sampling.top_k").unwrap_or(20),
        "repetition_penalty": float("penalty_repeat", 1.0),
    })
}

/// `preprocessor_config.json` and `video_preprocessor_config.json`.
pub(super) fn preprocessors(vision: &Vision<'_>, config: &Value, notes: &mut Vec<String>) -> [Value; 2] {
    let sizes = config.get("vision_config");
    let size = |key: &str| sizes.and_then(|sizes| sizes.get(key)).cloned().unwrap_or_default();
    let half = || vec![0.5; 3];
    let (mut mean, mut deviation, mut pixels) = (half(), half(), [65536, 16_777_216]);
    if let Vision::File(file) = vision {
        mean = file.numbers("clip.vision.image_mean").unwrap_or(mean);
        deviation = file.numbers("clip.vision.image_std").unwrap_or(deviation);
        let said =
            ["clip.vision.image_min_pixels", "clip.vision.image_max_pixels"].map(|key| file.number(key));
        match said {
            [Some(min), Some(max)] => pixels = [min, max],
            _ => notes.push(
                "the vision file does not limit pictures' sizes: Qwen3-VL's 64 to 16384 image tokens are taken".into(),
            ),
        }
    }
    let of = |[min, max]: [u64; 2]| {
        json!({
            "size": {"shortest_edge": min, "longest_edge": max},
            "patch_size": size("patch_size"), "temporal_patch_size": 2, "merge_size": size("spatial_merge_size"),
            "image_mean": mean, "image_std": deviation,
        })
    };
    [of(pixels), of([4096, 25_165_824])]
}

/// `chat_template.jinja`.
///
/// # Errors
/// There is none, and the program's own cannot be read.
pub(super) fn template(text: &Gguf, notes: &mut Vec<String>) -> Result<Vec<u8>> {
    if let Some(template) = text.text("tokenizer.chat_template") {
        return Ok(template.as_bytes().to_vec());
    }
    notes.push("the text file has no chat template: Qwen3-VL Instruct's form is taken".into());
    let path = builtin::folder().join("chat_template.json");
    let bytes = read_side_file(&path, "reading the chat template")?;
    let parsed: Option<Value> = serde_json::from_slice(&bytes).ok();
    let source = parsed.as_ref().and_then(|json| json.get("chat_template")?.as_str());
    source
        .map(|source| source.as_bytes().to_vec())
        .ok_or_else(|| Error::new("reading the chat template", "it is malformed").at_path(&path))
}

/// The formats of a file's matrices, by bytes, largest first: `Q4_K, Q6_K`.
pub(super) fn formats(file: &Gguf) -> String {
    let mut sizes: std::collections::BTreeMap<Format, u64> = std::collections::BTreeMap::new();
    for (_, entry) in file.tensors().filter(|(_, entry)| entry.shape.len() > 1) {
        // A tensor of a format that is not read may claim any size: nothing of it was looked for in the file.
        let elements = entry.shape.iter().fold(1_u64, |all, n| all.saturating_mul(*n as u64));
        let sum = sizes.entry(entry.format).or_default();
        *sum = sum.saturating_add(elements);
    }
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_by_key(|(_, elements)| std::cmp::Reverse(*elements));
    sizes.iter().map(|(format, _)| format.name()).collect::<Vec<_>>().join(", ")
}
