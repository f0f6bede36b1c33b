//! Room: `model`. How weights are stored: the four recipes and the int8 quantiser. Pure arithmetic.
//!
//! int8 is symmetric, in blocks of 32 along the input: `scale = f16(absmax / 127)`, `q = round_half_even(w / scale)`
//! clamped to ±127, and the weight read back is `q * scale`. Absmax, so nothing is clipped.

use std::fmt;
use std::str::FromStr;

use half::f16;
use half::slice::HalfFloatSliceExt;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::tensor_names::{EMBEDDING, HEAD, TensorKind, TensorSpec, checkpoint_tensors};

/// Weights that share one scale, consecutive along the input.
pub const BLOCK: usize = 32;

/// The largest finite f16.
pub const F16_MAX: f32 = 65504.0;

/// How the weights of a converted model are stored.
///
/// | recipe | text layers | head | embedding | vision | norms, biases, position table |
/// |---|---|---|---|---|---|
/// | `int8hu` | int8 | int8, its own | f16 | f16 | f32 |
/// | `int8lin` | int8 | f16 (the embedding where tied) | f16 | f16 | f32 |
/// | `f16` | f16 | f16 (the embedding where tied) | f16 | f16 | f32 |
/// | `f32` | f32 | f32 (the embedding where tied) | f32 | f32 | f32 |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// int8 body and an untied int8 head: the fewest bytes per token.
    #[default]
    Int8Hu,
    /// int8 body; the head stays f16, and tied where the checkpoint ties it.
    Int8Lin,
    /// Everything f16.
    F16,
    /// Everything f32: for checking numerics.
    F32,
}

impl Recipe {
    /// All recipes, smallest first.
    pub const ALL: [Self; 4] = [Self::Int8Hu, Self::Int8Lin, Self::F16, Self::F32];

    /// The name on the command line and in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8Hu => "int8hu",
            Self::Int8Lin => "int8lin",
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }

    /// How a tensor of this kind is stored.
    #[must_use]
    pub fn storage(self, kind: TensorKind) -> Storage {
        match (kind, self) {
            (TensorKind::Vector | TensorKind::PositionTable, _) | (_, Self::F32) => Storage::F32,
            (TensorKind::Body, Self::Int8Hu | Self::Int8Lin) | (TensorKind::Head, Self::Int8Hu) => {
                Storage::Int8
            }
            (TensorKind::Body | TensorKind::Head | TensorKind::Embedding | TensorKind::Vision, _) => {
                Storage::F16
            }
        }
    }

    /// Whether the converted model holds a `lm_head.weight` of its own.
    #[must_use]
    pub fn has_own_head(self, tied: bool) -> bool {
        !tied || self == Self::Int8Hu
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Recipe {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|r| r.name() == text).ok_or_else(|| {
            Error::new("reading the recipe", format!("there is no recipe named {text}"))
                .help("choose int8hu, int8lin, f16 or f32")
        })
    }
}

/// How the elements of one stored tensor are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// i8 quants `[N, K]` and, under the name with `_scale` added, f16 scales `[N, K / 32]`.
    Int8,
    /// f16.
    F16,
    /// f32.
    F32,
}

/// One tensor of a converted model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// Canonical name, also its name in the converted files.
    pub name: String,
    /// Name of the checkpoint's tensor it is made from: the same, except for the int8 head of a tied model.
    pub source: String,
    /// Stored shape: `[N, K]` of a matrix (the patch embedding is flattened), `[n]` of a vector.
    pub shape: Vec<usize>,
    /// What it is for.
    pub kind: TensorKind,
    /// How it is stored.
    pub storage: Storage,
}

impl StoredTensor {
    fn new(spec: &TensorSpec, recipe: Recipe) -> Self {
        let shape = match spec.shape.as_slice() {
            [rows, rest @ ..] if rest.len() > 1 => vec![*rows, rest.iter().product()],
            shape => shape.to_vec(),
        };
        Self {
            name: spec.name.clone(),
            source: spec.name.clone(),
            shape,
            kind: spec.kind,
            storage: recipe.storage(spec.kind),
        }
    }

    /// Rows `N`; a vector has one.
    #[must_use]
    pub fn rows(&self) -> usize {
        if self.shape.len() > 1 { self.shape[0] } else { 1 }
    }

    /// Columns `K`: the input width of a matrix, the length of a vector.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }

    /// Name of the tensor with the scales, `<name>_scale`. Only int8 tensors have one.
    #[must_use]
    pub fn scale_name(&self) -> String {
        scale_name(&self.name)
    }

    /// Bytes of the data, scales included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let elements = self.rows() * self.cols();
        match self.storage {
            Storage::Int8 => elements + elements / BLOCK * 2,
            Storage::F16 => elements * 2,
            Storage::F32 => elements * 4,
        }
    }
}

/// Name of the tensor with the scales of the int8 tensor `name`.
#[must_use]
pub fn scale_name(name: &str) -> String {
    format!("{name}_scale")
}

/// Every tensor of a model converted with `recipe`, in the order it is written: the forward pass, the head last.
///
/// # Errors
/// An int8 recipe and a text matrix whose input is not a multiple of 32; the error names the tensor.
pub fn stored_tensors(config: &ModelConfig, recipe: Recipe) -> Result<Vec<StoredTensor>> {
    let mut list: Vec<_> =
        checkpoint_tensors(config).iter().map(|spec| StoredTensor::new(spec, recipe)).collect();
    if config.text.tie_word_embeddings && recipe.has_own_head(true) {
        let kind = TensorKind::Head;
        list.push(StoredTensor {
            name: HEAD.to_owned(),
            source: EMBEDDING.to_owned(),
            shape: vec![config.text.vocab_size, config.text.hidden_size],
            kind,
            storage: recipe.storage(kind),
        });
    }
    for tensor in &list {
        if tensor.storage == Storage::Int8 && !tensor.cols().is_multiple_of(BLOCK) {
            return Err(Error::new(
                format!("planning the recipe {recipe}"),
                format!("its shape {:?} cannot be cut into blocks of {BLOCK} along the input", tensor.shape),
            )
            .at(&tensor.name)
            .help("use the recipe f16"));
        }
    }
    Ok(list)
}

/// A weight that cannot be stored, and where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightFault {
    /// Row, counted from the first one that was handed in.
    pub row: usize,
    /// Column.
    pub column: usize,
    /// The weight.
    pub value: f32,
    /// What is wrong with it.
    pub reason: FaultReason,
}

/// Why a weight cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultReason {
    /// NaN or infinite.
    NotFinite,
    /// Beyond ±65504, the range of f16.
    TooLargeForF16,
    /// The block's absmax / 127 is beyond the range of f16.
    ScaleTooLarge,
}

impl WeightFault {
    /// The same fault in a chunk that starts at row `first_row` of its tensor.
    #[must_use]
    pub fn shifted(mut self, first_row: usize) -> Self {
        self.row += first_row;
        self
    }

    /// The error a person reads; `tensor` is the name.
    #[must_use]
    pub fn error(&self, tensor: &str) -> Error {
        let what = match self.reason {
            FaultReason::NotFinite => "is not a finite number",
            FaultReason::TooLargeForF16 => "is beyond the range of f16 (±65504)",
            FaultReason::ScaleTooLarge => "is so large that its block's scale is beyond the range of f16",
        };
        let help = match self.reason {
            FaultReason::NotFinite => "the checkpoint is damaged: download it again",
            FaultReason::TooLargeForF16 | FaultReason::ScaleTooLarge => "use the recipe f32",
        };
        let cause = format!("the weight {} at row {}, column {} {what}", self.value, self.row, self.column);
        Error::new("converting tensor", cause).at(tensor).help(help)
    }
}

/// Quantises whole rows of `cols` weights to int8 in blocks of 32, appending to `quants` (one each weight) and
/// `scales` (f16 bits, one each block).
///
/// # Errors
/// A weight that is not finite, or so large that the scale overflows f16. Then `quants` and `scales` hold an
/// unspecified part of the result. `cols` must be a multiple of 32 that divides `weights.len()`; blocks never
/// span rows then, and nothing else is asked of it.
pub fn quantise_rows(
    weights: &[f32],
    cols: usize,
    quants: &mut Vec<i8>,
    scales: &mut Vec<u16>,
) -> Result<(), WeightFault> {
    debug_assert!(cols.is_multiple_of(BLOCK) && weights.len().is_multiple_of(cols.max(1)));
    let (blocks, _) = weights.as_chunks::<BLOCK>();
    let quants_before = quants.len();
    quants.resize(quants_before + blocks.len() * BLOCK, 0);
    let (out, _) = quants[quants_before..].as_chunks_mut::<BLOCK>();
    scales.reserve(blocks.len());
    for (index, (block, out)) in blocks.iter().zip(out).enumerate() {
        let Some(scale) = block_scale(block) else { return Err(block_fault(block, index * BLOCK, cols)) };
        scales.push(scale.to_bits());
        quantise_block(block, scale.to_f32(), out);
    }
    Ok(())
}

/// `f16(absmax / 127)`, or nothing where a weight is not finite or the scale would be infinite.
fn block_scale(block: &[f32; BLOCK]) -> Option<f16> {
    // The bits of |w| order as the values do, with infinity and NaN above all others.
    let largest = block.iter().fold(0, |max, w| max.max(w.to_bits() & 0x7fff_ffff));
    let absmax = f32::from_bits(largest);
    let scale = f16::from_f32(absmax / 127.0);
    (absmax.is_finite() && scale.is_finite()).then_some(scale)
}

fn quantise_block(block: &[f32; BLOCK], scale: f32, out: &mut [i8; BLOCK]) {
    // 1.5 * 2^23: adding it leaves no fraction bits, so the addition itself rounds, half to even.
    const ROUND: f32 = 12_582_912.0;
    if scale == 0.0 {
        out.fill(0);
        return;
    }
    for (w, q) in block.iter().zip(out) {
        // Clamping to whole numbers before rounding gives the same as after it.
        let rounded = (w / scale).clamp(-127.0, 127.0) + ROUND;
        // The low byte of the mantissa is the number, in two's complement.
        *q = i8::from_le_bytes([rounded.to_bits().to_le_bytes()[0]]);
    }
}

/// Finds the weight to blame in a block that has no scale.
#[cold]
fn block_fault(block: &[f32; BLOCK], start: usize, cols: usize) -> WeightFault {
    let not_finite = block.iter().position(|w| !w.is_finite());
    let largest = (0..BLOCK).max_by(|a, b| block[*a].abs().total_cmp(&block[*b].abs())).unwrap_or(0);
    let at = not_finite.unwrap_or(largest);
    let reason = if not_finite.is_some() { FaultReason::NotFinite } else { FaultReason::ScaleTooLarge };
    WeightFault {
        row: (start + at) / cols.max(1),
        column: (start + at) % cols.max(1),
        value: block[at],
        reason,
    }
}

/// Converts rows of `cols` weights to f16 (round to nearest, ties to even), appending the bits to `out`.
///
/// # Errors
/// A weight that is not finite, or beyond ±65504.
pub fn to_f16_rows(weights: &[f32], cols: usize, out: &mut Vec<f16>) -> Result<(), WeightFault> {
    check_range(weights, cols, F16_MAX, FaultReason::TooLargeForF16)?;
    let before = out.len();
    out.resize(before + weights.len(), f16::ZERO);
    out[before..].convert_from_f32_slice(weights);
    Ok(())
}

/// Checks that every weight is finite.
///
/// # Errors
/// The first weight that is not.
pub fn check_finite(weights: &[f32], cols: usize) -> Result<(), WeightFault> {
    check_range(weights, cols, f32::MAX, FaultReason::NotFinite)
}

fn check_range(weights: &[f32], cols: usize, limit: f32, beyond: FaultReason) -> Result<(), WeightFault> {
    // A branch for every 4096 weights only, so that the inner loop is vectorised.
    for (index, chunk) in weights.chunks(4096).enumerate() {
        let inside = |w: &f32| (w.to_bits() & 0x7fff_ffff) <= limit.to_bits();
        if !chunk.iter().fold(true, |all, w| all & inside(w)) {
            let at = chunk.iter().position(|w| !inside(w)).unwrap_or(0);
            let (value, at) = (chunk[at], index * 4096 + at);
            let reason = if value.is_finite() { beyond } else { FaultReason::NotFinite };
            return Err(WeightFault { row: at / cols.max(1), column: at % cols.max(1), value, reason });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
