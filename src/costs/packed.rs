//! Costs as bytes, to be kept with a message: columns of numbers that differ little from one token to the next, deflated. About a
//! hundred bytes a token, most of them the twenty alternatives.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use super::{ChunkCost, Costs, FrameCost, PictureCost, Times, TokenCost};
use crate::error::{Error, Result};

/// The first byte, before the length (32 bits, little-endian) of what is deflated; others are of newer programs.
const VERSION: u8 = 1;
/// Unpacked, at most: a hundred thousand tokens take a quarter of it. A few bytes may claim to be many.
const MOST_BYTES: u64 = 48 << 20;
/// Pieces of an answer, at most: one that holds nothing takes thirty bytes packed, and a thousand unpacked.
const MOST_PIECES: usize = 10_000;
/// Steps of a log-probability of an alternative, which is shown and not computed with, in one nat.
const STEPS: f32 = 2048.0;
/// Alternatives kept of a token; a server may tell more.
const MOST_ALTERNATIVES: usize = 100;
const DOING: &str = "reading what an answer cost";

#[derive(Serialize, Deserialize)]
struct Packed {
    model: String,
    adapter: String,
    has_device_times: bool,
    weights_bytes: u64,
    kv_bytes_per_token: u64,
    bandwidth_gb_s: Option<f32>,
    asked_us: i64,
    prepared: u64,
    finished: u64,
    prompt_tokens: u32,
    reused_tokens: u32,
    start_bytes: u32,
    is_copied: bool,
    pictures: Vec<u32>,
    picture_times: Column,
    chunks: Vec<(u32, u32)>,
    chunk_times: Column,
    ids: Vec<u32>,
    text_bytes: Vec<u32>,
    logprobs: Vec<f32>,
    ranks: Vec<u32>,
    entropies: Vec<f32>,
    alternatives: Vec<u8>,
    alternative_ids: Vec<u32>,
    alternative_steps: Vec<u16>,
    indices: Vec<i64>,
    batches: Vec<u32>,
    bytes: Vec<i64>,
    flags: Vec<u8>,
    token_times: Column,
    frames: Vec<i64>,
    pieces: BTreeMap<u32, Vec<u8>>,
}

/// Eight moments of each of several things, microseconds: each less the one before it, the first less the first of the thing before.
/// [`UNKNOWN`] stands for "not known".
#[derive(Serialize, Deserialize)]
struct Column(Vec<i64>);

const UNKNOWN: i64 = i64::MIN / 2;

impl Column {
    fn of(all: impl Iterator<Item = Times>) -> Self {
        let mut deltas = Vec::new();
        let mut first = 0;
        for t in all {
            let moments = [t.recorded, t.submitted, t.begin, t.sampling, t.end, t.read, t.decoded, t.painted];
            let mut last = first;
            let mut is_first = true;
            for ns in moments {
                if ns == 0 {
                    deltas.push(UNKNOWN);
                    continue;
                }
                let us = signed(ns.div_ceil(1000));
                deltas.push(us - last);
                last = us;
                if std::mem::take(&mut is_first) {
                    first = us;
                }
            }
        }
        Self(deltas)
    }

    fn times(&self) -> Vec<Times> {
        let mut first = 0i64;
        let things = self.0.chunks_exact(8).map(|deltas| {
            let mut last = first;
            let mut is_first = true;
            let mut moments = [0u64; 8];
            for (moment, &delta) in moments.iter_mut().zip(deltas) {
                if delta == UNKNOWN {
                    continue;
                }
                last = last.saturating_add(delta);
                *moment = u64::try_from(last).unwrap_or(0).saturating_mul(1000);
                if std::mem::take(&mut is_first) {
                    first = last;
                }
            }
            let [recorded, submitted, begin, sampling, end, read, decoded, painted] = moments;
            Times { recorded, submitted, begin, sampling, end, read, decoded, painted }
        });
        things.collect()
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Numbers as what each differs by from the one before.
fn deltas(numbers: impl Iterator<Item = u64>) -> Vec<i64> {
    let mut last = 0;
    numbers
        .map(|n| {
            let n = signed(n);
            n.wrapping_sub(std::mem::replace(&mut last, n))
        })
        .collect()
}

fn summed(deltas: &[i64]) -> Vec<u64> {
    let mut last = 0i64;
    let sums = deltas.iter().map(|delta| {
        last = last.wrapping_add(*delta);
        u64::try_from(last).unwrap_or(0)
    });
    sums.collect()
}

fn flags(token: &TokenCost) -> u8 {
    let bits =
        [token.drafted, token.forced, token.ends_prefill, token.compiled, token.grew_page, token.interrupted];
    bits.iter().rev().fold(0, |all, &bit| all << 1 | u8::from(bit))
}

impl From<&Costs> for Packed {
    fn from(c: &Costs) -> Self {
        let tokens = || c.tokens.iter();
        let alternatives = || tokens().flat_map(|token| token.alternatives.iter().take(MOST_ALTERNATIVES));
        Self {
            model: c.model.clone(),
            adapter: c.adapter.clone(),
            has_device_times: c.has_device_times,
            weights_bytes: c.weights_bytes,
            kv_bytes_per_token: c.kv_bytes_per_token,
            bandwidth_gb_s: c.bandwidth_gb_s,
            asked_us: c.asked_us,
            prepared: c.prepared,
            finished: c.finished,
            prompt_tokens: c.prompt_tokens,
            reused_tokens: c.reused_tokens,
            start_bytes: c.start_bytes,
            is_copied: c.is_copied,
            pictures: c.pictures.iter().map(|picture| picture.index).collect(),
            picture_times: Column::of(c.pictures.iter().map(|picture| picture.times)),
            chunks: c.chunks.iter().map(|chunk| (chunk.first, chunk.tokens)).collect(),
            chunk_times: Column::of(c.chunks.iter().map(|chunk| chunk.times)),
            ids: tokens().map(|token| token.id).collect(),
            text_bytes: tokens().map(|token| token.text_bytes).collect(),
            logprobs: tokens().map(|token| token.logprob).collect(),
            ranks: tokens().map(|token| token.rank).collect(),
            entropies: tokens().map(|token| token.entropy).collect(),
            alternatives: tokens().map(|t| t.alternatives.len().min(MOST_ALTERNATIVES) as u8).collect(),
            alternative_ids: alternatives().map(|&(id, _)| id).collect(),
            alternative_steps: alternatives().map(|&(_, p)| (-p * STEPS).round_ties_even() as u16).collect(),
            indices: deltas(tokens().map(|token| u64::from(token.index))),
            batches: tokens().map(|token| token.batch).collect(),
            bytes: deltas(tokens().map(|token| token.bytes)),
            flags: tokens().map(flags).collect(),
            token_times: Column::of(tokens().map(|token| token.times)),
            frames: deltas(c.frames.iter().flat_map(|frame| [frame.begin / 1000, frame.end / 1000])),
            pieces: c.pieces.clone(),
        }
    }
}

impl Packed {
    fn costs(self) -> Result<Costs> {
        let count = self.ids.len();
        let columns = [
            self.text_bytes.len(),
            self.logprobs.len(),
            self.ranks.len(),
            self.entropies.len(),
            self.alternatives.len(),
            self.indices.len(),
            self.batches.len(),
            self.bytes.len(),
            self.flags.len(),
            self.token_times.0.len() / 8,
        ];
        let listed = self.alternatives.iter().map(|&n| usize::from(n)).sum::<usize>();
        let agree = columns.iter().all(|&n| n == count)
            && self.alternative_ids.len() == listed
            && self.alternative_steps.len() == listed
            && self.picture_times.0.len() == 8 * self.pictures.len()
            && self.chunk_times.0.len() == 8 * self.chunks.len();
        if !agree {
            return Err(damaged("its columns are not equally long"));
        }
        let (indices, bytes) = (summed(&self.indices), summed(&self.bytes));
        let mut alternatives = self.alternative_ids.iter().zip(&self.alternative_steps);
        let times = self.token_times.times();
        let mut tokens = Vec::with_capacity(count);
        for n in 0..count {
            let bit = |place: u32| self.flags[n] >> place & 1 == 1;
            tokens.push(TokenCost {
                id: self.ids[n],
                text_bytes: self.text_bytes[n],
                logprob: self.logprobs[n],
                rank: self.ranks[n],
                entropy: self.entropies[n],
                alternatives: alternatives
                    .by_ref()
                    .take(self.alternatives[n].into())
                    .map(|(&id, &steps)| (id, -f32::from(steps) / STEPS))
                    .collect(),
                index: u32::try_from(indices[n]).unwrap_or(u32::MAX),
                batch: self.batches[n],
                bytes: bytes[n],
                drafted: bit(0),
                forced: bit(1),
                ends_prefill: bit(2),
                compiled: bit(3),
                grew_page: bit(4),
                interrupted: bit(5),
                times: times[n],
            });
        }
        let moments = summed(&self.frames);
        let frames = moments
            .chunks_exact(2)
            .map(|pair| FrameCost { begin: pair[0].saturating_mul(1000), end: pair[1].saturating_mul(1000) });
        let pictures = self.pictures.iter().zip(self.picture_times.times());
        let chunks = self.chunks.iter().zip(self.chunk_times.times());
        Ok(Costs {
            frames: frames.collect(),
            pictures: pictures.map(|(&index, times)| PictureCost { index, times }).collect(),
            chunks: chunks.map(|(&(first, tokens), times)| ChunkCost { first, tokens, times }).collect(),
            tokens,
            model: self.model,
            adapter: self.adapter,
            has_device_times: self.has_device_times,
            weights_bytes: self.weights_bytes,
            kv_bytes_per_token: self.kv_bytes_per_token,
            bandwidth_gb_s: self.bandwidth_gb_s,
            asked_us: self.asked_us,
            prepared: self.prepared,
            finished: self.finished,
            prompt_tokens: self.prompt_tokens,
            reused_tokens: self.reused_tokens,
            start_bytes: self.start_bytes,
            is_copied: self.is_copied,
            pieces: self.pieces,
        })
    }
}

fn damaged(why: impl std::fmt::Display) -> Error {
    Error::new(DOING, why).help("the message itself is whole; ask again to see what it costs")
}

/// The costs of a message's pieces as bytes.
///
/// # Errors
/// Memory is short.
pub fn pack(pieces: &[Costs]) -> Result<Vec<u8>> {
    let packed: Vec<Packed> = pieces.iter().map(Packed::from).collect();
    let raw = postcard::to_allocvec(&packed).map_err(|e| Error::new("keeping what an answer cost", e))?;
    let failed = |e: &dyn std::fmt::Display| Error::new("keeping what an answer cost", e.to_string());
    let mut deflated = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    let deflated = deflated.write_all(&raw).and_then(|()| deflated.finish()).map_err(|e| failed(&e))?;
    let length = u32::try_from(deflated.len()).map_err(|e| failed(&e))?;
    Ok([&[VERSION], length.to_le_bytes().as_slice(), &deflated].concat())
}

/// What [`pack`] made, also several times one behind the other. Times come back in whole microseconds, alternatives' log-probabilities in steps of 1/2048 nat.
///
/// # Errors
/// The bytes are damaged, or of a newer program.
pub fn unpack(bytes: &[u8]) -> Result<Vec<Costs>> {
    if bytes.is_empty() {
        return Err(damaged("there is nothing"));
    }
    let (mut all, mut rest) = (Vec::new(), bytes);
    let mut room = MOST_BYTES;
    while let Some((&version, behind)) = rest.split_first() {
        if version != VERSION {
            return Err(Error::new(DOING, format!("it is of version {version}")).help("use a newer program"));
        }
        let (length, behind) = behind.split_first_chunk().ok_or_else(|| damaged("it ends too early"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (deflated, behind) =
            behind.split_at_checked(length).ok_or_else(|| damaged("it ends too early"))?;
        let mut raw = Vec::new();
        let read =
            flate2::read::DeflateDecoder::new(deflated).take(room).read_to_end(&mut raw).map_err(damaged)?;
        room -= read as u64;
        let (count, mut pieces) = postcard::take_from_bytes::<usize>(&raw).map_err(damaged)?;
        if count > MOST_PIECES - all.len() {
            return Err(damaged(format!("it is in {count} pieces")));
        }
        for _ in 0..count {
            let (packed, behind) = postcard::take_from_bytes::<Packed>(pieces).map_err(damaged)?;
            all.push(packed.costs()?);
            pieces = behind;
        }
        if !pieces.is_empty() {
            return Err(damaged(format!("{} bytes of it are left over", pieces.len())));
        }
        rest = behind;
    }
    Ok(all)
}
