//! Room `costs`: what every token of an answer cost, and what it was chosen from. An answer's events become [`Costs`]
//! ([`Ledger`]), which are kept as a few bytes a token ([`pack`]), read into figures and plots, and written out for other programs.
//! Knows nothing of the GPU and draws nothing.

mod clocks;
pub mod colour;
mod figures;
mod ledger;
mod packed;
mod parts;
mod stalls;
pub mod write;

pub use clocks::{Stage, Times};
pub use figures::{Figures, floor_ms, histogram, rate_over_time};
pub use ledger::{About, Ledger};
pub use packed::{pack, unpack};
pub use parts::{Part, PartTime, parts};
pub use stalls::{Cause, Stall, stalls};

use std::collections::BTreeMap;
use std::ops::Range;

/// What is known of one answer, or of one piece of it where it was gone on with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Costs {
    /// The model's name.
    pub model: String,
    /// The adapter it ran on; empty: a server elsewhere, of which only arrivals are known.
    pub adapter: String,
    /// The adapter has timestamps; otherwise the device's times are from submitting to reading.
    pub has_device_times: bool,
    /// Bytes of weights that a step reads; 0: not known.
    pub weights_bytes: u64,
    /// Bytes the KV cache takes for a token of context; 0: not known.
    pub kv_bytes_per_token: u64,
    /// The device's own measured read bandwidth, GB/s (1e9), where it was measured.
    pub bandwidth_gb_s: Option<f32>,
    /// When it was asked, microseconds since 1970 (UTC). All other times are nanoseconds since then; 0: not known.
    pub asked_us: i64,
    /// The prompt was made.
    pub prepared: u64,
    /// Its end was told.
    pub finished: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of those, found in the cache.
    pub reused_tokens: u32,
    /// Bytes of the message's text before its first token.
    pub start_bytes: u32,
    /// The tokens were taken from another answer, of which this is a branch: their times are of that one.
    pub is_copied: bool,
    /// Frames of pictures and clips that went through the vision tower, in order.
    pub pictures: Vec<PictureCost>,
    /// Pieces of the prompt, in order.
    pub chunks: Vec<ChunkCost>,
    /// Tokens, in order.
    pub tokens: Vec<TokenCost>,
    /// Frames that the window drew meanwhile, in order.
    pub frames: Vec<FrameCost>,
    /// The bytes of all tokens in [`Costs::tokens`], alternatives too. Tokens that a server told as text have made-up ids.
    pub pieces: BTreeMap<u32, Vec<u8>>,
}

/// A frame of a picture in the vision tower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureCost {
    /// The picture's number in the prompt, from 0.
    pub index: u32,
    /// When.
    pub times: Times,
}

/// A piece of the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkCost {
    /// Its first token's place in the prompt.
    pub first: u32,
    /// Its tokens.
    pub tokens: u32,
    /// When. The last one's are those of the first token's step, too.
    pub times: Times,
}

/// A frame of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCost {
    /// It began to be laid out.
    pub begin: u64,
    /// It was handed over.
    pub end: u64,
}

/// A token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenCost {
    /// Its id.
    pub id: u32,
    /// Bytes of the answer's text that came with it; 0 while a character is incomplete.
    pub text_bytes: u32,
    /// Natural log-probability in the unmodified distribution; NaN: not known.
    pub logprob: f32,
    /// Tokens more likely than it; `u32::MAX`: not known.
    pub rank: u32,
    /// Entropy of the distribution, nats; NaN: not known.
    pub entropy: f32,
    /// The most likely tokens and their log-probabilities, the likeliest first.
    pub alternatives: Vec<(u32, f32)>,
    /// Place in the sequence of the token it was made from: so many keys and values came before.
    pub index: u32,
    /// Sessions in its step.
    pub batch: u32,
    /// Bytes its step had to read at least; 0: not known.
    pub bytes: u64,
    /// It had been guessed, and came with a pass that ran anyway.
    pub drafted: bool,
    /// The user chose it.
    pub forced: bool,
    /// The last piece of the prompt was the same step.
    pub ends_prefill: bool,
    /// Kernels were compiled before its step.
    pub compiled: bool,
    /// The cache grew by a page for it.
    pub grew_page: bool,
    /// A piece of another prompt, or a picture, ran before its step.
    pub interrupted: bool,
    /// When.
    pub times: Times,
}

/// Tokens in a page of the cache.
const PAGE_TOKENS: u32 = 64;

impl TokenCost {
    /// Its probability; NaN: not known.
    #[must_use]
    pub fn probability(&self) -> f32 {
        self.logprob.exp()
    }

    /// Pages of the cache that its step read.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.index / PAGE_TOKENS + 1
    }

    /// GB/s (1e9) that its step read; `None`: not known.
    #[must_use]
    pub fn gb_s(&self) -> Option<f64> {
        let ns = self.times.device_ns();
        (self.bytes > 0 && ns > 0 && !self.ends_prefill).then(|| self.bytes as f64 / ns as f64)
    }
}

impl Costs {
    /// The bytes of a token.
    #[must_use]
    pub fn piece(&self, id: u32) -> &[u8] {
        self.pieces.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The text of a token, to be read; broken characters as U+FFFD.
    #[must_use]
    pub fn text_of(&self, id: u32) -> String {
        String::from_utf8_lossy(self.piece(id)).into_owned()
    }

    /// Milliseconds between a token and the one before it: what the reader waits. The first one's is from the question on.
    #[must_use]
    pub fn latency_ms(&self, token: usize) -> Option<f64> {
        let at = self.tokens.get(token)?.times.arrival();
        let before = match token.checked_sub(1) {
            Some(before) => self.tokens.get(before)?.times.arrival(),
            None => 0,
        };
        (at > 0).then(|| at.saturating_sub(before) as f64 / 1e6)
    }

    /// The place of each token in the message's text, bytes. Where a text is shorter than that, the user has changed it.
    #[must_use]
    pub fn text_ranges(&self) -> Vec<Range<usize>> {
        let mut at = self.start_bytes as usize;
        self.tokens
            .iter()
            .map(|token| {
                let begin = at;
                at += token.text_bytes as usize;
                begin..at
            })
            .collect()
    }

    /// Bytes of the message's text up to its last token.
    #[must_use]
    pub fn text_end(&self) -> usize {
        self.start_bytes as usize + self.tokens.iter().map(|token| token.text_bytes as usize).sum::<usize>()
    }

    /// The first `count` tokens with what came before them, for an answer that branches off there.
    #[must_use]
    pub fn beginning(&self, count: usize) -> Self {
        let mut beginning = Self { is_copied: true, ..self.clone() };
        beginning.tokens.truncate(count);
        beginning.frames.clear();
        beginning
    }

    /// Leaves those bytes of tokens that are needed.
    pub fn forget_unused_pieces(&mut self) {
        let ids = self
            .tokens
            .iter()
            .flat_map(|token| std::iter::once(token.id).chain(token.alternatives.iter().map(|&(id, _)| id)));
        let used: std::collections::HashSet<u32> = ids.collect();
        self.pieces.retain(|id, _| used.contains(id));
    }

    /// Bytes it takes in memory, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        // A token's bytes lie in a vector each, which the allocator rounds up, in a tree whose nodes are partly empty.
        const PIECE: usize = 64;
        let alternatives: usize = self.tokens.iter().map(|token| token.alternatives.capacity()).sum();
        size_of::<Self>()
            + self.tokens.capacity() * size_of::<TokenCost>()
            + alternatives * size_of::<(u32, f32)>()
            + self.frames.capacity() * size_of::<FrameCost>()
            + self.chunks.capacity() * size_of::<ChunkCost>()
            + self.pictures.capacity() * size_of::<PictureCost>()
            + self.pieces.len() * PIECE
    }
}

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
