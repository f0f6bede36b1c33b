//! The block formats of GGUF tensors that are read, and their decoding to f32.
//!
//! The formats are ggml's (`ggml-common.h`, `ggml-quants.c`, and in numpy `gguf/quants.py`); products are rounded in
//! the order those round them, so that the values are theirs bit for bit.

use half::f16;

use crate::model::checkpoint::{Dtype, decode_f32};

/// Elements of a `Q8_0` block: our own int8 block.
pub(super) const Q8_0_ELEMENTS: usize = 32;
/// Its bytes: a scale in f16, then 32 signed bytes.
pub(super) const Q8_0_BYTES: usize = 34;
/// Elements of a K-quant's block.
const K_ELEMENTS: usize = 256;
const Q4_K_BYTES: usize = 144;
const Q5_K_BYTES: usize = 176;
const Q6_K_BYTES: usize = 210;

/// An element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Format {
    F32,
    F16,
    Bf16,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
    /// One that is not read, by its number.
    Other(u32),
}

impl Format {
    /// From the number in the file.
    pub(super) fn of(number: u32) -> Self {
        match number {
            0 => Self::F32,
            1 => Self::F16,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            other => Self::Other(other),
        }
    }

    /// ggml's name.
    pub(super) fn name(self) -> &'static str {
        /// By number; those without a name were removed from the format or never written to files.
        const NAMES: [&str; 40] = [
            "F32", "F16", "Q4_0", "Q4_1", "", "", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K",
            "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S",
            "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16", "", "", "", "TQ1_0", "TQ2_0", "",
            "", "", "MXFP4",
        ];
        let number = match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Bf16 => 30,
            Self::Other(number) => number as usize,
        };
        NAMES.get(number).copied().filter(|name| !name.is_empty()).unwrap_or("unknown")
    }

    /// Elements and bytes of a block; `None` for a format that is not read.
    pub(super) fn block(self) -> Option<(usize, usize)> {
        Some(match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (Q8_0_ELEMENTS, Q8_0_BYTES),
            Self::Q4K => (K_ELEMENTS, Q4_K_BYTES),
            Self::Q5K => (K_ELEMENTS, Q5_K_BYTES),
            Self::Q6K => (K_ELEMENTS, Q6_K_BYTES),
            Self::Other(_) => return None,
        })
    }

    /// Appends the elements of whole blocks as f32; nothing of a format that is not read.
    pub(super) fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::F32 => plain(Dtype::F32, bytes, out),
            Self::F16 => plain(Dtype::F16, bytes, out),
            Self::Bf16 => plain(Dtype::Bf16, bytes, out),
            Self::Q8_0 => bytes.as_chunks().0.iter().for_each(|block| q8_0(block, out)),
            Self::Q4K => bytes.as_chunks().0.iter().for_each(|block| q4_k(block, out)),
            Self::Q5K => bytes.as_chunks().0.iter().for_each(|block| q5_k(block, out)),
            Self::Q6K => bytes.as_chunks().0.iter().for_each(|block| q6_k(block, out)),
            Self::Other(_) => {}
        }
    }
}

fn plain(dtype: Dtype, bytes: &[u8], out: &mut Vec<f32>) {
    if out.is_empty() {
        decode_f32(dtype, bytes, out);
    } else {
        let mut piece = Vec::new();
        decode_f32(dtype, bytes, &mut piece);
        out.append(&mut piece);
    }
}

fn half(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
}

/// `w = d * q`.
fn q8_0(block: &[u8; Q8_0_BYTES], out: &mut Vec<f32>) {
    let [low, high, quants @ ..] = block;
    let d = half(*low, *high);
    out.extend(quants.iter().map(|q| d * f32::from(q.cast_signed())));
}

/// `w = d * scale * q - dmin * min`, for eight runs of 32. Bytes: d, dmin (f16), twelve bytes with eight scales and eight
/// mins of six bits, 128 bytes with four-bit q (the low halves of 32 bytes are one run, the high halves the next).
fn q4_k(block: &[u8; Q4_K_BYTES], out: &mut Vec<f32>) {
    let (packed, quants) = block.split_at(16);
    runs_of_32(packed, &[0; 32], quants, out);
}

/// As [`q4_k`], with a fifth bit of q: that of run r is bit r of 32 bytes before the four-bit ones.
fn q5_k(block: &[u8; Q5_K_BYTES], out: &mut Vec<f32>) {
    let (packed, rest) = block.split_at(16);
    let (fifth, quants) = rest.split_at(32);
    runs_of_32(packed, fifth, quants, out);
}

fn runs_of_32(packed: &[u8], fifth: &[u8], quants: &[u8], out: &mut Vec<f32>) {
    let [d0, d1, m0, m1, packed @ ..] = packed else { return };
    let (d, dmin) = (half(*d0, *d1), half(*m0, *m1));
    let at = |i: usize| packed.get(i).copied().unwrap_or(0);
    for (pair, bytes) in quants.as_chunks::<32>().0.iter().enumerate() {
        for high in [false, true] {
            let run = 2 * pair + usize::from(high);
            let (scale, min) = if run < 4 {
                (at(run) & 63, at(run + 4) & 63)
            } else {
                // The upper two bits are those that the first four scales and mins leave free.
                ((at(run + 4) & 15) | (at(run - 4) >> 6 << 4), (at(run + 4) >> 4) | (at(run) >> 6 << 4))
            };
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            out.extend(bytes.iter().zip(fifth).map(|(byte, fifth)| {
                let four = if high { byte >> 4 } else { byte & 15 };
                let q = four | ((fifth >> run) & 1) << 4;
                scale * f32::from(q) - min
            }));
        }
    }
}

/// `w = d * scale * (q - 32)`, for sixteen runs of 16. Bytes: 128 with the low four bits of q, 64 with the high two,
/// sixteen signed scales, d (f16). Each half of 128 elements is four rows of 32; row r takes its low bits from the low
/// (r < 2) or high halves of bytes `32 * (r % 2)..`, its high bits from bits `2 * r` of the half's 32 bytes.
fn q6_k(block: &[u8; Q6_K_BYTES], out: &mut Vec<f32>) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, d) = rest.split_at(16);
    let d = half(d.first().copied().unwrap_or(0), d.get(1).copied().unwrap_or(0));
    for (side, (low, high)) in low.as_chunks::<64>().0.iter().zip(high.as_chunks::<32>().0).enumerate() {
        for row in 0..4 {
            let low = low.iter().skip(32 * (row % 2));
            for (i, (low, high)) in low.zip(high).enumerate() {
                let four = if row < 2 { low & 15 } else { low >> 4 };
                let q = four | ((high >> (2 * row)) & 3) << 4;
                let scale = scales.get(8 * side + 2 * row + i / 16).copied().unwrap_or(0).cast_signed();
                out.push(d * f32::from(scale) * (f32::from(q) - 32.0));
            }
        }
    }
}
