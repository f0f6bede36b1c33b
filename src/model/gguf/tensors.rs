//! Where the hub's tensors are in a text and a vision file, and reading them.
//!
//! Names are llama.cpp's (`gguf/constants.py`, `gguf/tensor_mapping.py`, and its converter's Qwen3-VL classes). No tensor of
//! Qwen3-VL is permuted there; the patch embedding is cut into its two frames, and `DeepStack` mergers are numbered by
//! the block they follow.

use std::ops::Range;

use super::blocks::{Format, Q8_0_BYTES};
use super::{Gguf, Tensor, UNREAD_FORMAT};
use crate::error::{Error, Result};
use crate::model::config::VisionConfig;
use crate::model::tensor_names::{
    EMBEDDING, FINAL_NORM, HEAD, PATCH_EMBED, PATCH_EMBED_BIAS, POSITION_TABLE,
};

const DOING: &str = "reading tensor";

/// Tensors of a GGUF file that one tensor of the hub is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// They are in the vision file.
    pub(super) vision: bool,
    /// One, or several, whose rows come one after the other (q, k, v); of the patch embedding the two frames.
    pub(super) names: Vec<String>,
}

impl Source {
    /// The source of a tensor by its hub name; `None` for a name that is none of the model's.
    pub(super) fn of(name: &str, config: &VisionConfig) -> Option<Self> {
        let text = |name: &str| Self { vision: false, names: vec![name.to_owned()] };
        let vision = |name: &str| Self { vision: true, names: vec![name.to_owned()] };
        Some(match name {
            EMBEDDING => text("token_embd.weight"),
            HEAD => text("output.weight"),
            FINAL_NORM => text("output_norm.weight"),
            PATCH_EMBED_BIAS => vision("v.patch_embd.bias"),
            POSITION_TABLE => vision("v.position_embd.weight"),
            PATCH_EMBED => {
                let names = ["v.patch_embd.weight", "v.patch_embd.weight.1"].map(str::to_owned).to_vec();
                Self { vision: true, names }
            }
            _ => {
                if let Some(rest) = name.strip_prefix("model.language_model.layers.") {
                    let (layer, tail) = numbered(rest)?;
                    return Some(text(&format!("blk.{layer}.{}", text_tail(tail)?)));
                }
                let rest = name.strip_prefix("model.visual.")?;
                let found = if let Some(rest) = rest.strip_prefix("blocks.") {
                    let (block, tail) = numbered(rest)?;
                    format!("v.blk.{block}.{}", block_tail(tail)?)
                } else if let Some(rest) = rest.strip_prefix("deepstack_merger_list.") {
                    let (index, tail) = numbered(rest)?;
                    let block = config.deepstack_indexes.get(index)?;
                    format!("v.deepstack.{block}.{}", tail.replace("linear_", ""))
                } else {
                    let (part, which) = rest.strip_prefix("merger.")?.split_once('.')?;
                    let place = match part {
                        "norm" => "v.post_ln",
                        "linear_fc1" => "mm.0",
                        "linear_fc2" => "mm.2",
                        _ => return None,
                    };
                    format!("{place}.{which}")
                };
                vision(&found)
            }
        })
    }

    /// The same, with q, k and v by themselves where `file` has no tensor with all three.
    pub(super) fn in_file(self, file: &Gguf) -> Self {
        match self.names.as_slice() {
            [fused] if fused.contains(".attn_qkv.") && file.tensor(fused).is_none() => {
                let each = ["attn_q", "attn_k", "attn_v"].map(|one| fused.replace("attn_qkv", one));
                if each.iter().all(|one| file.tensor(one).is_some()) {
                    return Self { names: each.to_vec(), ..self };
                }
                self
            }
            _ => self,
        }
    }
}

fn numbered(rest: &str) -> Option<(usize, &str)> {
    let (number, tail) = rest.split_once('.')?;
    Some((number.parse().ok()?, tail))
}

fn text_tail(tail: &str) -> Option<&'static str> {
    Some(match tail {
        "input_layernorm.weight" => "attn_norm.weight",
        "self_attn.q_proj.weight" => "attn_q.weight",
        "self_attn.k_proj.weight" => "attn_k.weight",
        "self_attn.v_proj.weight" => "attn_v.weight",
        "self_attn.q_norm.weight" => "attn_q_norm.weight",
        "self_attn.k_norm.weight" => "attn_k_norm.weight",
        "self_attn.o_proj.weight" => "attn_output.weight",
        "post_attention_layernorm.weight" => "ffn_norm.weight",
        "mlp.gate_proj.weight" => "ffn_gate.weight",
        "mlp.up_proj.weight" => "ffn_up.weight",
        "mlp.down_proj.weight" => "ffn_down.weight",
        _ => return None,
    })
}

fn block_tail(tail: &str) -> Option<String> {
    const PARTS: [(&str, &str); 6] = [
        ("norm1", "ln1"),
        ("norm2", "ln2"),
        ("attn.qkv", "attn_qkv"),
        ("attn.proj", "attn_out"),
        ("mlp.linear_fc1", "ffn_up"),
        ("mlp.linear_fc2", "ffn_down"),
    ];
    let (part, which) = tail.rsplit_once('.')?;
    PARTS.iter().find(|(from, _)| *from == part).map(|(_, to)| format!("{to}.{which}"))
}

/// The tensors of a source, checked to have together the shape of the hub's tensor, and formats that are read.
pub(super) fn checked<'a>(
    file: &'a Gguf,
    source: &Source,
    name: &str,
    shape: &[usize],
) -> Result<Vec<Tensor<'a>>> {
    let error = |gguf_name: &str, cause: String| Error::new(DOING, cause).at(gguf_name).at_path(file.path());
    let mut tensors = Vec::new();
    let mut rows = 0;
    for gguf_name in &source.names {
        let tensor = file.tensor(gguf_name).ok_or_else(|| {
            error(gguf_name, "it is missing".into())
                .help("download the file again; it must be a complete Qwen3-VL model")
        })?;
        if let Format::Other(number) = tensor.entry.format {
            let cause = match tensor.entry.format.name() {
                "unknown" => format!("its element type {number} is not known"),
                known => format!("its element type {known} is not read"),
            };
            return Err(error(gguf_name, cause).help(UNREAD_FORMAT));
        }
        // A frame of the patch embedding lacks the axis of frames.
        let mut wanted = shape.to_vec();
        if name == PATCH_EMBED && wanted.len() == 5 {
            wanted.remove(2);
        }
        let found = &tensor.entry.shape;
        let stacked = source.names.len() == 3;
        let same = if stacked { found.get(1..) == wanted.get(1..) } else { *found == wanted };
        if !same {
            let cause = format!("its shape is {found:?}, but the metadata ask for {wanted:?}");
            return Err(error(gguf_name, cause).help("download the file again"));
        }
        rows += found.first().copied().unwrap_or(0);
        tensors.push(tensor);
    }
    if source.names.len() == 3 && Some(&rows) != shape.first() {
        let cause = format!("q, k and v have {rows} rows, but the metadata ask for {:?}", shape.first());
        return Err(error(&source.names.join(", "), cause).help("download the file again"));
    }
    Ok(tensors)
}

impl Tensor<'_> {
    /// Rows as counted by a conversion: of a vector its elements.
    fn rows(&self) -> usize {
        self.entry.shape.first().copied().unwrap_or(0)
    }

    /// The bytes of some rows; `None` outside the tensor, and where rows are no whole blocks.
    fn bytes(&self, rows: &Range<usize>) -> Option<&[u8]> {
        let (block_elements, block_bytes) = self.entry.format.block()?;
        let cols: usize = self.entry.shape.iter().skip(1).product();
        let at = |row: usize| {
            let elements = row.checked_mul(cols)?;
            elements
                .is_multiple_of(block_elements)
                .then_some(elements / block_elements)?
                .checked_mul(block_bytes)
        };
        let whole = self.file.get(self.entry.range.clone())?;
        whole.get(at(rows.start)?..at(rows.end)?)
    }

    /// Appends some rows as f32.
    fn decode(&self, rows: &Range<usize>, out: &mut Vec<f32>) -> Option<()> {
        self.entry.format.decode(self.bytes(rows)?, out);
        Some(())
    }

    fn release(&self, rows: &Range<usize>) {
        if let (Some(before), Some(bytes)) = (self.bytes(&(0..rows.start)), self.bytes(rows)) {
            let start = self.entry.range.start + before.len();
            self.file.release(start..start + bytes.len());
        }
    }
}

/// Replaces the contents of `out` by rows of a tensor of the hub. `parts` are those of [`checked`].
pub(super) fn read_f32(
    name: &str,
    parts: &[Tensor<'_>],
    rows: &Range<usize>,
    out: &mut Vec<f32>,
) -> Result<()> {
    out.clear();
    let read = match parts {
        [one, two] if name == PATCH_EMBED => frames(one, two, rows, out),
        _ => each(parts, rows, |part, rows| part.decode(&rows, out)),
    };
    read.ok_or_else(|| Error::new(DOING, format!("rows {rows:?} are asked for, and it has fewer")).at(name))
}

/// The quants and scales of rows of a tensor that is Q8_0 throughout, appended as a converted model stores them: the
/// very bits of the file. False, and nothing read, where it is of another format.
pub(super) fn read_int8(
    name: &str,
    parts: &[Tensor<'_>],
    rows: &Range<usize>,
    quants: &mut Vec<u8>,
    scales: &mut Vec<u8>,
) -> Result<bool> {
    if name == PATCH_EMBED || parts.iter().any(|part| part.entry.format != Format::Q8_0) {
        return Ok(false);
    }
    let mut wrong = None;
    let read = each(parts, rows, |part, rows| {
        for block in part.bytes(&rows)?.as_chunks::<Q8_0_BYTES>().0 {
            let [low, high, q @ ..] = block;
            let scale = u16::from_le_bytes([*low, *high]);
            // Infinity, NaN and what is negative: no quantiser makes them, and no converted model may hold them.
            if scale >= 0x7c00 {
                wrong.get_or_insert(scale);
            }
            scales.extend([*low, *high]);
            quants.extend(q);
        }
        Some(())
    });
    read.ok_or_else(|| Error::new(DOING, format!("rows {rows:?} are asked for, and it has fewer")).at(name))?;
    match wrong {
        None => Ok(true),
        Some(bits) => {
            let scale = half::f16::from_bits(bits);
            Err(Error::new(DOING, format!("a Q8_0 block in rows {rows:?} has the scale {scale}"))
                .at(name)
                .help("the file is damaged: download it again"))
        }
    }
}

/// Tells the system that these rows have been used.
pub(super) fn release(parts: &[Tensor<'_>], rows: &Range<usize>) {
    // The two frames of the patch embedding have the same rows; they are small.
    each(parts, rows, |part, rows| {
        part.release(&rows);
        Some(())
    });
}

/// Hands out `rows` of tensors whose rows come one after the other, part by part.
fn each<'a>(
    parts: &[Tensor<'a>],
    rows: &Range<usize>,
    mut take: impl FnMut(&Tensor<'a>, Range<usize>) -> Option<()>,
) -> Option<()> {
    let mut first = 0;
    for part in parts {
        let end = first + part.rows();
        let (from, to) = (rows.start.max(first), rows.end.min(end));
        if from < to {
            take(part, from - first..to - first)?;
        }
        first = end;
    }
    (rows.end <= first).then_some(())
}

/// Rows `[channels, 2, patch, patch]` of the patch embedding, of two tensors `[channels, patch, patch]` a row.
fn frames(one: &Tensor<'_>, two: &Tensor<'_>, rows: &Range<usize>, out: &mut Vec<f32>) -> Option<()> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    one.decode(rows, &mut a)?;
    two.decode(rows, &mut b)?;
    let plane: usize = one.entry.shape.iter().skip(2).product();
    for (a, b) in a.chunks(plane.max(1)).zip(b.chunks(plane.max(1))) {
        out.extend_from_slice(a);
        out.extend_from_slice(b);
    }
    Some(())
}
