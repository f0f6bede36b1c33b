//! Room: `model`. The names and shapes of a checkpoint's tensors, and nothing else.
//!
//! The canonical name of a tensor is the one it has on the hub: `model.language_model.…`, `model.visual.…`,
//! `lm_head.weight`. Files with other prefixes are read under the canonical name ([`canonical_name`]).

use crate::model::config::{ModelConfig, TextConfig, VisionConfig};

/// The embedding table `[V, H]`.
pub const EMBEDDING: &str = "model.language_model.embed_tokens.weight";
/// The head `[V, H]`; a tied checkpoint has none, and uses [`EMBEDDING`].
pub const HEAD: &str = "lm_head.weight";
/// The text decoder's last norm `[H]`.
pub const FINAL_NORM: &str = "model.language_model.norm.weight";
/// The patch embedding, `[D, 3, 2, 16, 16]` on the hub and `[D, 1536]` when converted.
pub const PATCH_EMBED: &str = "model.visual.patch_embed.proj.weight";
/// The patch embedding's bias `[D]`.
pub const PATCH_EMBED_BIAS: &str = "model.visual.patch_embed.proj.bias";
/// The learned position table `[num_position_embeddings, D]`.
pub const POSITION_TABLE: &str = "model.visual.pos_embed.weight";

/// The name of a tensor of text layer `layer`: `text_layer(3, "mlp.up_proj.weight")`.
#[must_use]
pub fn text_layer(layer: usize, tail: &str) -> String {
    format!("model.language_model.layers.{layer}.{tail}")
}

/// The name of a tensor of vision block `block`: `vision_block(3, "attn.qkv.bias")`.
#[must_use]
pub fn vision_block(block: usize, tail: &str) -> String {
    format!("model.visual.blocks.{block}.{tail}")
}

/// The name of a tensor of the final merger: `merger("linear_fc1.weight")`.
#[must_use]
pub fn merger(tail: &str) -> String {
    format!("model.visual.merger.{tail}")
}

/// The name of a tensor of `DeepStack` merger `index` (its place in the list, not a block number).
#[must_use]
pub fn deepstack_merger(index: usize, tail: &str) -> String {
    format!("model.visual.deepstack_merger_list.{index}.{tail}")
}

/// Whether a tensor belongs to the vision tower or its mergers.
#[must_use]
pub fn is_vision(name: &str) -> bool {
    name.starts_with("model.visual.")
}

/// What a tensor is for; the recipe decides by this how it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// A linear weight of a text layer, `[out, in]`.
    Body,
    /// The head, `[V, H]`.
    Head,
    /// The embedding table, `[V, H]`.
    Embedding,
    /// A linear weight of the vision tower or its mergers, `[out, in]`.
    Vision,
    /// A norm's weight or a bias, `[n]`.
    Vector,
    /// The vision tower's learned position table, `[positions, D]`.
    PositionTable,
}

/// One tensor a checkpoint must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Canonical name.
    pub name: String,
    /// Shape as on the hub, row-major.
    pub shape: Vec<usize>,
    /// What it is for.
    pub kind: TensorKind,
}

/// Every tensor that a checkpoint of this configuration must hold, in the order of the forward pass: embedding,
/// text layers, final norm, vision tower, and the head last (where it is not tied).
#[must_use]
pub fn checkpoint_tensors(config: &ModelConfig) -> Vec<TensorSpec> {
    let mut list = List(Vec::new());
    list.text(&config.text);
    list.vision(&config.vision);
    if !config.text.tie_word_embeddings {
        list.add(HEAD, &[config.text.vocab_size, config.text.hidden_size], TensorKind::Head);
    }
    list.0
}

struct List(Vec<TensorSpec>);

impl List {
    /// The text decoder, without the head.
    fn text(&mut self, t: &TextConfig) {
        let h = t.hidden_size;
        let (q, kv) = (t.num_heads * t.head_dim, t.num_kv_heads * t.head_dim);
        self.add(EMBEDDING, &[t.vocab_size, h], TensorKind::Embedding);
        for n in 0..t.num_layers {
            self.add(text_layer(n, "input_layernorm.weight"), &[h], TensorKind::Vector);
            self.add(text_layer(n, "self_attn.q_proj.weight"), &[q, h], TensorKind::Body);
            self.add(text_layer(n, "self_attn.k_proj.weight"), &[kv, h], TensorKind::Body);
            self.add(text_layer(n, "self_attn.v_proj.weight"), &[kv, h], TensorKind::Body);
            self.add(text_layer(n, "self_attn.q_norm.weight"), &[t.head_dim], TensorKind::Vector);
            self.add(text_layer(n, "self_attn.k_norm.weight"), &[t.head_dim], TensorKind::Vector);
            self.add(text_layer(n, "self_attn.o_proj.weight"), &[h, q], TensorKind::Body);
            self.add(text_layer(n, "post_attention_layernorm.weight"), &[h], TensorKind::Vector);
            self.add(text_layer(n, "mlp.gate_proj.weight"), &[t.intermediate_size, h], TensorKind::Body);
            self.add(text_layer(n, "mlp.up_proj.weight"), &[t.intermediate_size, h], TensorKind::Body);
            self.add(text_layer(n, "mlp.down_proj.weight"), &[h, t.intermediate_size], TensorKind::Body);
        }
        self.add(FINAL_NORM, &[h], TensorKind::Vector);
    }

    /// The vision tower and its mergers.
    fn vision(&mut self, v: &VisionConfig) {
        let d = v.hidden_size;
        let patch = [d, v.in_channels, v.temporal_patch_size, v.patch_size, v.patch_size];
        self.add(PATCH_EMBED, &patch, TensorKind::Vision);
        self.add(PATCH_EMBED_BIAS, &[d], TensorKind::Vector);
        self.add(POSITION_TABLE, &[v.num_position_embeddings, d], TensorKind::PositionTable);
        for n in 0..v.depth {
            let block = |tail: &str| vision_block(n, tail);
            self.norm(&block("norm1"), d);
            self.linear(&block("attn.qkv"), 3 * d, d);
            self.linear(&block("attn.proj"), d, d);
            self.norm(&block("norm2"), d);
            self.linear(&block("mlp.linear_fc1"), v.intermediate_size, d);
            self.linear(&block("mlp.linear_fc2"), d, v.intermediate_size);
        }
        let merged = v.merged_size();
        self.norm(&merger("norm"), d);
        self.linear(&merger("linear_fc1"), merged, merged);
        self.linear(&merger("linear_fc2"), v.out_hidden_size, merged);
        for i in 0..v.deepstack_indexes.len() {
            self.norm(&deepstack_merger(i, "norm"), merged);
            self.linear(&deepstack_merger(i, "linear_fc1"), merged, merged);
            self.linear(&deepstack_merger(i, "linear_fc2"), v.out_hidden_size, merged);
        }
    }

    fn add(&mut self, name: impl Into<String>, shape: &[usize], kind: TensorKind) {
        self.0.push(TensorSpec { name: name.into(), shape: shape.to_vec(), kind });
    }

    /// A vision linear layer with its bias.
    fn linear(&mut self, name: &str, out: usize, input: usize) {
        self.add(format!("{name}.weight"), &[out, input], TensorKind::Vision);
        self.add(format!("{name}.bias"), &[out], TensorKind::Vector);
    }

    /// A layer norm: weight and bias.
    fn norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), &[width], TensorKind::Vector);
        self.add(format!("{name}.bias"), &[width], TensorKind::Vector);
    }
}

/// The canonical name of a tensor found under `raw` in a file: with the prefixes of older exports replaced.
/// A name that is none of the model's comes back unchanged.
#[must_use]
pub fn canonical_name(raw: &str) -> String {
    const PREFIXES: [(&str, &str); 9] = [
        // The first match wins: longer prefixes stand before those they begin with.
        ("model.language_model.", "model.language_model."),
        ("model.visual.", "model.visual."),
        ("language_model.lm_head.", "lm_head."),
        ("language_model.model.", "model.language_model."),
        ("language_model.", "model.language_model."),
        ("visual.", "model.visual."),
        ("model.lm_head.", "lm_head."),
        ("model.layers.", "model.language_model.layers."),
        ("model.", "model.language_model."),
    ];
    for (from, to) in PREFIXES {
        if let Some(rest) = raw.strip_prefix(from) {
            return format!("{to}{rest}");
        }
    }
    raw.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_older_exports_are_read_under_the_hub_name() {
        for (raw, wanted) in [
            (
                "model.language_model.layers.3.mlp.up_proj.weight",
                "model.language_model.layers.3.mlp.up_proj.weight",
            ),
            (
                "language_model.layers.3.mlp.up_proj.weight",
                "model.language_model.layers.3.mlp.up_proj.weight",
            ),
            ("language_model.model.norm.weight", FINAL_NORM),
            ("model.layers.0.input_layernorm.weight", "model.language_model.layers.0.input_layernorm.weight"),
            ("model.embed_tokens.weight", EMBEDDING),
            ("model.norm.weight", FINAL_NORM),
            ("model.visual.pos_embed.weight", POSITION_TABLE),
            ("visual.pos_embed.weight", POSITION_TABLE),
            ("lm_head.weight", HEAD),
            ("language_model.lm_head.weight", HEAD),
            ("something.else", "something.else"),
        ] {
            assert_eq!(canonical_name(raw), wanted, "{raw}");
            assert_eq!(canonical_name(wanted), wanted, "canonical names stay");
        }
    }
}
