//! Room: `model`. The shape of a Qwen3-VL checkpoint as its `config.json` states it, and the sampling
//! defaults of its `generation_config.json`. Pure reading and checking: no weights, no device.
//!
//! Both styles of `config.json` are read: transformers 4.57 (`rope_scaling` beside `rope_theta`) and 5.x
//! (`rope_parameters`). A size that is not in the file is an error, never a class default, because the
//! defaults of the reference code are wrong for every released model.

mod fields;

use std::borrow::Cow;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::builtin;
use fields::{Section, bad, parse_object, token_ids};

/// The configuration file of a checkpoint.
pub const CONFIG_FILE: &str = "config.json";
/// The file with the sampling defaults the checkpoint was released with.
pub const GENERATION_CONFIG_FILE: &str = "generation_config.json";

/// Largest JSON side file that is read whole (bytes). The real ones are a few kilobytes.
const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// Values in such a file, at most: a list of shards has one for each tensor.
pub(in crate::model) const MAX_VALUES: usize = 200_000;

const DOING: &str = "reading the model's configuration";
const ADVICE: &str = "use the config.json that came with these weights";

const MAX_VOCAB: usize = 1 << 22;
const MAX_WIDTH: usize = 1 << 17;
const MAX_LAYERS: usize = 512;
const MAX_HEADS: usize = 1024;
const MAX_HEAD_DIM: usize = 256;
const MAX_POSITIONS: usize = 1 << 26;

/// The text decoder: `text_config` of `config.json`. All sizes in elements.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Rows of the embedding table, padding rows included.
    pub vocab_size: usize,
    /// Width `H` of the residual stream.
    pub hidden_size: usize,
    /// Number of decoder layers.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Width of one head. `num_heads * head_dim` is not `hidden_size` in general.
    pub head_dim: usize,
    /// Width `I` of the MLP.
    pub intermediate_size: usize,
    /// Epsilon of every RMS norm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How many rotary frequencies belong to (t, h, w); they add up to `head_dim / 2`.
    pub mrope_section: [usize; 3],
    /// Longest context the model was trained for, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the head is the embedding table.
    pub tie_word_embeddings: bool,
    /// The file says "tied" at one level and "not tied" at the other; then the checkpoint decides, by
    /// holding a `lm_head.weight` or not.
    pub tie_flags_disagree: bool,
}

/// The vision tower: `vision_config` of `config.json`. All sizes in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisionConfig {
    /// Number of blocks.
    pub depth: usize,
    /// Width `D` of the stream.
    pub hidden_size: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Width of the MLP (4304 in the larger models: not a multiple of 32).
    pub intermediate_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Frames in a patch; always 2.
    pub temporal_patch_size: usize,
    /// Side of a merged token in patches.
    pub spatial_merge_size: usize,
    /// Colour channels; always 3.
    pub in_channels: usize,
    /// Rows of the learned position table, a square number.
    pub num_position_embeddings: usize,
    /// The blocks whose output feeds a `DeepStack` merger, in the order of the mergers.
    pub deepstack_indexes: Vec<usize>,
    /// Width of the merged tokens: the text decoder's `hidden_size`.
    pub out_hidden_size: usize,
}

impl VisionConfig {
    /// Width of one attention head; a multiple of 4 (72 in the larger models).
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads
    }

    /// Elements in one patch row of `pixel_values`: channels × frames × patch × patch (1536).
    #[must_use]
    pub fn patch_elements(&self) -> usize {
        self.in_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Patches in one merged token (4).
    #[must_use]
    pub fn merge_unit(&self) -> usize {
        self.spatial_merge_size * self.spatial_merge_size
    }

    /// Width of the mergers' input: `merge_unit * hidden_size`.
    #[must_use]
    pub fn merged_size(&self) -> usize {
        self.merge_unit() * self.hidden_size
    }

    /// Side of the square position table (48).
    #[must_use]
    pub fn position_side(&self) -> usize {
        self.num_position_embeddings.isqrt()
    }
}

/// Everything `config.json` says that the program uses.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The text decoder.
    pub text: TextConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// Id of `<|image_pad|>`.
    pub image_token_id: u32,
    /// Id of `<|video_pad|>`.
    pub video_token_id: u32,
    /// Id of `<|vision_start|>`.
    pub vision_start_token_id: u32,
    /// Id of `<|vision_end|>`.
    pub vision_end_token_id: u32,
    /// Ids that end an answer. From `generation_config.json` where it names them, else from `config.json`;
    /// empty when neither does.
    pub eos_token_ids: Vec<u32>,
}

impl ModelConfig {
    /// Reads and checks `config.json` in `folder`, without the other files.
    ///
    /// # Errors
    /// The file is missing, is not JSON, is of another model type, misses a key, or contradicts itself;
    /// the error names the key.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG_FILE);
        let bytes = read_side_file(&path, DOING)?;
        Self::from_json(&bytes).map_err(|e| e.at_path(&path))
    }

    /// Parses the bytes of a `config.json`.
    ///
    /// # Errors
    /// As [`ModelConfig::read`], without the path.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes).map_err(|e| e.help(ADVICE))
    }

    /// [`ModelConfig::from_json`] without its advice.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let root = parse_object(DOING, bytes)?;
        check_model_type(&root)?;
        if let Some(quantisation) = root.get("quantization_config") {
            let method = quantisation.get("quant_method").and_then(Value::as_str).unwrap_or("unknown");
            return Err(bad(format!("quantization_config: the weights are already quantised ({method})"))
                .help("use the original bf16 checkpoint; Ocelli quantises it itself"));
        }
        let top = Section::top(DOING, &root);
        let text_section = top.section("text_config")?;
        let vision_section = top.section("vision_config")?;
        let config = Self {
            text: read_text(&top, &text_section)?,
            vision: read_vision(&vision_section)?,
            image_token_id: top.token_id("image_token_id")?,
            video_token_id: top.token_id("video_token_id")?,
            vision_start_token_id: top.token_id("vision_start_token_id")?,
            vision_end_token_id: top.token_id("vision_end_token_id")?,
            eos_token_ids: match text_section.get("eos_token_id").or_else(|| top.get("eos_token_id")) {
                Some(value) => token_ids(DOING, "eos_token_id", value)?,
                None => Vec::new(),
            },
        };
        config.check()?;
        Ok(config)
    }

    /// Replaces the end-of-answer ids by those of the generation defaults, where they name any.
    ///
    /// # Errors
    /// An id lies outside the vocabulary.
    pub fn apply_generation(&mut self, defaults: &GenerationDefaults) -> Result<()> {
        if !defaults.eos_token_ids.is_empty() {
            self.eos_token_ids.clone_from(&defaults.eos_token_ids);
        }
        self.check_ids().map_err(|e| {
            e.at(GENERATION_CONFIG_FILE).help("use the generation_config.json that came with these weights")
        })
    }

    /// The relations between sizes that the kernels and the formulas rely on.
    fn check(&self) -> Result<()> {
        let (t, v) = (&self.text, &self.vision);
        multiple("text_config.hidden_size", t.hidden_size, 8)?;
        multiple("text_config.intermediate_size", t.intermediate_size, 8)?;
        multiple("text_config.head_dim", t.head_dim, 2)?;
        multiple("text_config.num_attention_heads * head_dim", t.num_heads * t.head_dim, 8)?;
        if !t.num_heads.is_multiple_of(t.num_kv_heads) {
            return Err(bad(format!(
                "text_config.num_attention_heads {} is not a multiple of num_key_value_heads {}",
                t.num_heads, t.num_kv_heads
            )));
        }
        if t.mrope_section.iter().sum::<usize>() != t.head_dim / 2 {
            return Err(bad(format!(
                "mrope_section {:?} adds up to {}, not to half of head_dim {}",
                t.mrope_section,
                t.mrope_section.iter().sum::<usize>(),
                t.head_dim
            )));
        }
        if !v.hidden_size.is_multiple_of(v.num_heads) {
            return Err(bad(format!(
                "vision_config.hidden_size {} is not a multiple of num_heads {}",
                v.hidden_size, v.num_heads
            )));
        }
        multiple("vision_config.hidden_size", v.hidden_size, 8)?;
        multiple("vision_config.intermediate_size", v.intermediate_size, 8)?;
        multiple("vision_config.hidden_size / num_heads", v.head_dim(), 4)?;
        at_most("vision_config.hidden_size / num_heads", v.head_dim(), MAX_HEAD_DIM)?;
        exactly("vision_config.temporal_patch_size", v.temporal_patch_size, 2)?;
        exactly("vision_config.in_channels", v.in_channels, 3)?;
        multiple("the patch row (channels * frames * patch * patch)", v.patch_elements(), 8)?;
        at_most("spatial_merge_size² * hidden_size", v.merged_size(), MAX_WIDTH)?;
        if v.position_side() * v.position_side() != v.num_position_embeddings {
            return Err(bad(format!(
                "vision_config.num_position_embeddings {} is not a square number",
                v.num_position_embeddings
            )));
        }
        if v.out_hidden_size != t.hidden_size {
            return Err(bad(format!(
                "vision_config.out_hidden_size {} differs from text_config.hidden_size {}",
                v.out_hidden_size, t.hidden_size
            )));
        }
        self.check_deepstack()?;
        self.check_ids()
    }

    fn check_deepstack(&self) -> Result<()> {
        let indexes = &self.vision.deepstack_indexes;
        if let Some(index) = indexes.iter().find(|i| **i >= self.vision.depth) {
            return Err(bad(format!(
                "vision_config.deepstack_visual_indexes names block {index} of {}",
                self.vision.depth
            )));
        }
        if let Some((a, b)) = indexes.iter().zip(indexes.iter().skip(1)).find(|(a, b)| a >= b) {
            return Err(bad(format!(
                "vision_config.deepstack_visual_indexes is not ascending: {a} before {b}"
            )));
        }
        if indexes.len() > self.text.num_layers {
            return Err(bad(format!(
                "vision_config.deepstack_visual_indexes has {} entries for {} text layers",
                indexes.len(),
                self.text.num_layers
            )));
        }
        Ok(())
    }

    fn check_ids(&self) -> Result<()> {
        let named = [
            ("image_token_id", self.image_token_id),
            ("video_token_id", self.video_token_id),
            ("vision_start_token_id", self.vision_start_token_id),
            ("vision_end_token_id", self.vision_end_token_id),
        ];
        let eos = self.eos_token_ids.iter().map(|id| ("eos_token_id", *id));
        for (key, id) in named.into_iter().chain(eos) {
            if id as usize >= self.text.vocab_size {
                return Err(bad(format!("{key} {id} is outside the vocabulary of {}", self.text.vocab_size)));
            }
        }
        if self.image_token_id == self.video_token_id {
            return Err(bad(format!("image_token_id and video_token_id are both {}", self.image_token_id)));
        }
        Ok(())
    }
}

/// How the checkpoint's authors suggest to sample: `generation_config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationDefaults {
    /// Sample, rather than always take the most likely token.
    pub do_sample: bool,
    /// Divides the logits.
    pub temperature: f32,
    /// Smallest set of tokens whose probability reaches this is kept; 1 keeps all.
    pub top_p: f32,
    /// At most this many tokens are kept; 0 keeps all.
    pub top_k: u32,
    /// Above 1 makes tokens that were already seen less likely.
    pub repetition_penalty: f32,
    /// Ids that end an answer; empty when the file does not name any.
    pub eos_token_ids: Vec<u32>,
}

impl Default for GenerationDefaults {
    /// Greedy: what is done for a checkpoint without a `generation_config.json`.
    fn default() -> Self {
        Self {
            do_sample: false,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            repetition_penalty: 1.0,
            eos_token_ids: Vec::new(),
        }
    }
}

impl GenerationDefaults {
    /// Reads `generation_config.json` in `folder`; [`GenerationDefaults::default`] where there is none.
    ///
    /// # Errors
    /// The file cannot be read, is not JSON, or a value is out of its range.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(GENERATION_CONFIG_FILE);
        if builtin::facts(&path).is_err() {
            return Ok(Self::default());
        }
        let bytes = read_side_file(&path, "reading the generation defaults")?;
        Self::from_json(&bytes)
            .map_err(|e| e.at_path(&path).help("use the generation_config.json that came with these weights"))
    }

    /// Parses the bytes of a `generation_config.json`. A key that is absent or null keeps its default.
    ///
    /// # Errors
    /// Not a JSON object, or a value out of its range.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let doing = "reading the generation defaults";
        let root = parse_object(doing, bytes)?;
        let top = Section::top(doing, &root);
        let mut defaults = Self::default();
        let number = |key: &str, default: f32, low: f32, high: f32| match top.float(key)? {
            None => Ok(default),
            #[expect(clippy::cast_possible_truncation, reason = "the range is checked after rounding")]
            Some(value) if (low..=high).contains(&(value as f32)) => Ok(value as f32),
            Some(value) => Err(Error::new(doing, format!("{key} {value} is not between {low} and {high}"))),
        };
        defaults.temperature = number("temperature", defaults.temperature, 0.0, 100.0)?;
        defaults.top_p = number("top_p", defaults.top_p, f32::MIN_POSITIVE, 1.0)?;
        defaults.repetition_penalty =
            number("repetition_penalty", defaults.repetition_penalty, f32::MIN_POSITIVE, 100.0)?;
        if let Some(value) = top.get("top_k") {
            defaults.top_k = value
                .as_u64()
                .and_then(|k| u32::try_from(k).ok())
                .ok_or_else(|| Error::new(doing, format!("top_k is {value}, not a number of tokens")))?;
        }
        if let Some(value) = top.get("do_sample") {
            defaults.do_sample = value
                .as_bool()
                .ok_or_else(|| Error::new(doing, format!("do_sample is {value}, not true or false")))?;
        }
        if let Some(value) = top.get("eos_token_id") {
            defaults.eos_token_ids = token_ids(doing, "eos_token_id", value)?;
        }
        Ok(defaults)
    }
}

/// Reads a small file whole.
///
/// # Errors
/// It is missing, unreadable, or larger than any such file can be.
pub(crate) fn read_side_file(path: &Path, doing: &str) -> Result<Vec<u8>> {
    let fail = |e: std::io::Error| {
        let error = Error::new(doing, &e).at_path(path);
        if e.kind() == std::io::ErrorKind::NotFound {
            error.help("choose the folder of a Qwen3-VL checkpoint; this file comes with the weights")
        } else {
            error.help("it must be a file that you may read")
        }
    };
    let length = builtin::facts(path).map_err(fail)?.len;
    if length > MAX_CONFIG_BYTES {
        return Err(Error::new(doing, format!("the file has {length} bytes, far too many for what it is"))
            .at_path(path)
            .help("download it again"));
    }
    builtin::read(path, MAX_CONFIG_BYTES).map(Cow::into_owned).map_err(fail)
}

fn check_model_type(root: &Map<String, Value>) -> Result<()> {
    let found = root.get("model_type").and_then(Value::as_str).unwrap_or("");
    let advice = "Ocelli runs the dense Qwen3-VL models: 2B, 4B, 8B and 32B";
    match found {
        "qwen3_vl" => Ok(()),
        "" => Err(bad("model_type is missing").help(advice)),
        "qwen3_vl_moe" => Err(bad(
            "model_type qwen3_vl_moe is a mixture-of-experts model (30B-A3B, 235B-A22B), which is not supported",
        )
        .help(advice)),
        other => Err(bad(format!("model_type {other} is not supported")).help(advice)),
    }
}

fn read_text(top: &Section<'_>, text: &Section<'_>) -> Result<TextConfig> {
    text.only("hidden_act", "silu")?;
    for key in ["attention_bias", "use_sliding_window"] {
        if text.flag(key)? == Some(true) {
            return Err(bad(format!("text_config.{key} is true, which no Qwen3-VL model has")));
        }
    }
    if text.get("num_experts").and_then(Value::as_u64).unwrap_or(0) > 0 {
        return Err(bad("text_config.num_experts: a mixture-of-experts model is not supported"));
    }
    let head_dim = text.size("head_dim", MAX_HEAD_DIM)?;
    let (tied_top, tied_text) = (top.flag("tie_word_embeddings")?, text.flag("tie_word_embeddings")?);
    let config = TextConfig {
        vocab_size: text.size("vocab_size", MAX_VOCAB)?,
        hidden_size: text.size("hidden_size", MAX_WIDTH)?,
        num_layers: text.size("num_hidden_layers", MAX_LAYERS)?,
        num_heads: text.size("num_attention_heads", MAX_HEADS)?,
        num_kv_heads: text.size("num_key_value_heads", MAX_HEADS)?,
        head_dim,
        intermediate_size: text.size("intermediate_size", MAX_WIDTH)?,
        rms_norm_eps: read_eps(text)?,
        rope_theta: read_rope_theta(text)?,
        mrope_section: read_mrope(text, head_dim)?,
        max_position_embeddings: text.size("max_position_embeddings", MAX_POSITIONS)?,
        tie_word_embeddings: tied_top.unwrap_or(false) || tied_text.unwrap_or(false),
        tie_flags_disagree: matches!((tied_top, tied_text), (Some(a), Some(b)) if a != b),
    };
    at_most("num_attention_heads * head_dim", config.num_heads * head_dim, MAX_WIDTH)?;
    Ok(config)
}

fn read_eps(text: &Section<'_>) -> Result<f32> {
    let eps = text.require_float("rms_norm_eps")?;
    if !(1e-12..=1e-1).contains(&eps) {
        return Err(bad(format!("text_config.rms_norm_eps {eps} is not a small positive number")));
    }
    #[expect(clippy::cast_possible_truncation, reason = "in range; the kernels compute in f32")]
    Ok(eps as f32)
}

/// The rope settings of either style; they are looked for in both places.
fn rope_sections<'a>(text: &Section<'a>) -> Result<Vec<Section<'a>>> {
    ["rope_parameters", "rope_scaling"]
        .into_iter()
        .filter_map(|key| text.optional_section(key).transpose())
        .collect()
}

fn read_rope_theta(text: &Section<'_>) -> Result<f64> {
    let mut theta = text.float("rope_theta")?;
    for rope in rope_sections(text)? {
        theta = match theta {
            Some(found) => Some(found),
            None => rope.float("rope_theta")?,
        };
        for key in ["rope_type", "type"] {
            let kind = rope.text(key)?.unwrap_or("default");
            if !["default", "mrope"].contains(&kind) {
                return Err(bad(format!("{}.{key} {kind} is not supported", rope.name()))
                    .help("remove the context-extension setting from config.json"));
            }
        }
        if rope.flag("mrope_interleaved")? == Some(false) {
            return Err(bad(format!(
                "{}.mrope_interleaved is false, which no Qwen3-VL model has",
                rope.name()
            )));
        }
    }
    match theta {
        Some(theta) if (1.0..=1e12).contains(&theta) => Ok(theta),
        Some(theta) => Err(bad(format!("rope_theta {theta} is not between 1 and 1e12"))),
        None => Err(bad("text_config.rope_theta is missing, and so is rope_parameters.rope_theta")),
    }
}

fn read_mrope(text: &Section<'_>, head_dim: usize) -> Result<[usize; 3]> {
    for rope in rope_sections(text)? {
        if let Some(section) = rope.sizes("mrope_section", MAX_HEAD_DIM)? {
            return <[usize; 3]>::try_from(section).map_err(|found: Vec<usize>| {
                bad(format!("{}.mrope_section has {} entries instead of 3", rope.name(), found.len()))
            });
        }
    }
    // The reference falls back on the released models' value; that is right for their head only.
    if head_dim == 128 {
        return Ok([24, 20, 20]);
    }
    Err(bad(format!("mrope_section is missing, and its usual value does not fit head_dim {head_dim}")))
}

fn read_vision(vision: &Section<'_>) -> Result<VisionConfig> {
    vision.only("hidden_act", "gelu_pytorch_tanh")?;
    let deepstack = vision.sizes("deepstack_visual_indexes", MAX_LAYERS)?;
    Ok(VisionConfig {
        depth: vision.size("depth", MAX_LAYERS)?,
        hidden_size: vision.size("hidden_size", MAX_WIDTH)?,
        num_heads: vision.size("num_heads", MAX_HEADS)?,
        intermediate_size: vision.size("intermediate_size", MAX_WIDTH)?,
        patch_size: vision.size("patch_size", 128)?,
        temporal_patch_size: vision.size("temporal_patch_size", 128)?,
        spatial_merge_size: vision.size("spatial_merge_size", 16)?,
        in_channels: vision.size("in_channels", 128)?,
        num_position_embeddings: vision.size("num_position_embeddings", 1 << 20)?,
        deepstack_indexes: deepstack.ok_or_else(|| vision.missing("deepstack_visual_indexes"))?,
        out_hidden_size: vision.size("out_hidden_size", MAX_WIDTH)?,
    })
}

fn multiple(what: &str, value: usize, of: usize) -> Result<()> {
    if value.is_multiple_of(of) {
        return Ok(());
    }
    Err(bad(format!("{what} {value} is not a multiple of {of}, which the kernels need")))
}

fn at_most(what: &str, value: usize, limit: usize) -> Result<()> {
    if value <= limit {
        return Ok(());
    }
    Err(bad(format!("{what} is {value}; more than {limit} cannot be right")))
}

fn exactly(what: &str, value: usize, wanted: usize) -> Result<()> {
    if value == wanted {
        return Ok(());
    }
    Err(bad(format!("{what} is {value}; only {wanted} is supported")))
}

#[cfg(test)]
mod tests;
