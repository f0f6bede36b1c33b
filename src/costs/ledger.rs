//! From the events of an answer to what it cost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::{ChunkCost, Costs, FrameCost, PictureCost, Times, TokenCost};
use crate::clock;
use crate::engine::{AnswerEvent, ModelInfo, RemoteToken, TokenEvent};
use crate::model::tokenizer::Tokenizer;

/// Ids of tokens that a server tells as text begin here: no vocabulary is as large.
const MADE_UP: u32 = 1 << 31;
/// Frames kept of one answer, at most: an hour at sixty a second.
const MOST_FRAMES: usize = 216_000;

/// What is to be known of an answer before it begins.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// See [`Costs`] for these.
    pub model: String,
    /// The adapter; empty: a server.
    pub adapter: String,
    /// It has timestamps.
    pub has_device_times: bool,
    /// Bytes of weights a step reads.
    pub weights_bytes: u64,
    /// Bytes of the KV cache for a token.
    pub kv_bytes_per_token: u64,
    /// Measured read bandwidth, GB/s.
    pub bandwidth_gb_s: Option<f32>,
    /// Where tokens' bytes come from.
    pub tokenizer: Option<Arc<Tokenizer>>,
}

impl From<&ModelInfo> for About {
    fn from(info: &ModelInfo) -> Self {
        Self {
            model: info.name.clone(),
            adapter: info.adapter.clone(),
            has_device_times: info.has_timestamps,
            weights_bytes: info.weights_bytes_per_step as u64,
            kv_bytes_per_token: info.kv_bytes_per_token as u64,
            bandwidth_gb_s: None,
            tokenizer: Some(info.tokenizer.clone()),
        }
    }
}

/// Gathers the costs of one answer while it comes.
#[derive(Debug)]
pub struct Ledger {
    costs: Costs,
    asked_ns: u64,
    tokenizer: Option<Arc<Tokenizer>>,
    /// Ids made up for texts of a server.
    made_up: HashMap<String, u32>,
    /// Tokens before this one were painted.
    painted: usize,
}

impl Ledger {
    /// Of an answer that was asked at `asked`, behind `start_bytes` bytes of text.
    #[must_use]
    pub fn new(about: About, asked: Instant, start_bytes: usize) -> Self {
        let asked_ns = clock::ns_at(asked);
        let costs = Costs {
            model: about.model,
            adapter: about.adapter,
            has_device_times: about.has_device_times,
            weights_bytes: about.weights_bytes,
            kv_bytes_per_token: about.kv_bytes_per_token,
            bandwidth_gb_s: about.bandwidth_gb_s,
            asked_us: clock::unix_us(asked_ns),
            start_bytes: u32::try_from(start_bytes).unwrap_or(u32::MAX),
            ..Costs::default()
        };
        Self { costs, asked_ns, tokenizer: about.tokenizer, made_up: HashMap::new(), painted: 0 }
    }

    /// The device's bandwidth was measured.
    pub fn bandwidth_is(&mut self, gb_s: f32) {
        if !self.costs.adapter.is_empty() {
            self.costs.bandwidth_gb_s.get_or_insert(gb_s);
        }
    }

    /// What has come so far.
    #[must_use]
    pub fn costs(&self) -> &Costs {
        &self.costs
    }

    /// The end: all that came.
    #[must_use]
    pub fn into_costs(mut self) -> Costs {
        if self.costs.finished == 0 {
            self.costs.finished = self.since(clock::now_ns());
        }
        self.costs
    }

    fn since(&self, ns: u64) -> u64 {
        ns.saturating_sub(self.asked_ns).max(1)
    }

    /// Takes in an event.
    pub fn see(&mut self, event: &AnswerEvent) {
        let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        match event {
            AnswerEvent::Prepared { prompt_tokens, .. } => {
                self.costs.prompt_tokens = word(*prompt_tokens);
                self.costs.prepared = self.since(clock::now_ns());
            }
            AnswerEvent::Prefill { reused, .. } => self.costs.reused_tokens = word(*reused),
            AnswerEvent::Encoded { index, times } => self
                .costs
                .pictures
                .push(PictureCost { index: word(*index), times: Times::of_step(times, self.asked_ns) }),
            AnswerEvent::Chunk { first, tokens, times } => self.costs.chunks.push(ChunkCost {
                first: word(*first),
                tokens: word(*tokens),
                times: Times::of_step(times, self.asked_ns),
            }),
            AnswerEvent::Token(token) => self.token(token),
            AnswerEvent::RemoteToken(token) => self.remote_token(token),
            AnswerEvent::Text(text) => {
                if let Some(last) = self.costs.tokens.last_mut() {
                    last.text_bytes = last.text_bytes.saturating_add(word(text.len()));
                }
            }
            AnswerEvent::Finished(_) | AnswerEvent::RemoteFinished(_) | AnswerEvent::Failed(_) => {
                self.costs.finished = self.since(clock::now_ns());
            }
            AnswerEvent::Vision { .. }
            | AnswerEvent::Picture(_)
            | AnswerEvent::Thinking(_)
            | AnswerEvent::Inside(_)
            | AnswerEvent::Scored(_) => {}
        }
    }

    /// The window has drawn all tokens that have come, in a frame that took so long.
    pub fn drawn(&mut self, begin_ns: u64, end_ns: u64) {
        let (begin, end) = (self.since(begin_ns), self.since(end_ns));
        if self.costs.frames.len() < MOST_FRAMES && self.costs.finished == 0 {
            self.costs.frames.push(FrameCost { begin, end });
        }
        for token in self.costs.tokens.iter_mut().skip(self.painted) {
            token.times.painted = end;
        }
        self.painted = self.costs.tokens.len();
    }

    fn token(&mut self, token: &TokenEvent) {
        let record = &token.record;
        if let Some(tokenizer) = &self.tokenizer {
            let alternatives = record.alternatives.iter().map(|&(id, _)| id);
            for id in std::iter::once(record.id).chain(alternatives) {
                self.costs
                    .pieces
                    .entry(id)
                    .or_insert_with(|| tokenizer.token_bytes(id).unwrap_or_default().to_vec());
            }
        }
        let mut times = Times::of_step(&token.times, self.asked_ns);
        times.decoded = self.since(token.decoded_ns);
        self.costs.tokens.push(TokenCost {
            id: record.id,
            text_bytes: u32::try_from(token.text.len()).unwrap_or(u32::MAX),
            logprob: record.logprob,
            rank: record.rank,
            entropy: record.entropy,
            alternatives: record.alternatives.clone(),
            index: record.index,
            batch: u32::try_from(token.batch).unwrap_or(0),
            bytes: token.bytes,
            drafted: token.drafted,
            forced: false,
            ends_prefill: token.ends_prefill,
            compiled: token.disturbance.compiled,
            grew_page: token.disturbance.grew_page,
            interrupted: token.disturbance.interrupted,
            times,
        });
    }

    fn remote_token(&mut self, token: &RemoteToken) {
        let arrived = self.since(clock::ns_at(token.arrived));
        let alternatives = token.alternatives.iter().map(|(text, p)| (self.made_up(text), *p)).collect();
        let token = TokenCost {
            id: self.made_up(&token.text),
            text_bytes: u32::try_from(token.text.len()).unwrap_or(u32::MAX),
            logprob: token.logprob.unwrap_or(f32::NAN),
            rank: rank_among(token),
            entropy: f32::NAN,
            alternatives,
            batch: 1,
            times: Times { read: arrived, decoded: arrived, ..Times::default() },
            ..TokenCost::default()
        };
        self.costs.tokens.push(token);
    }

    fn made_up(&mut self, text: &str) -> u32 {
        if let Some(&id) = self.made_up.get(text) {
            return id;
        }
        let id = MADE_UP + u32::try_from(self.made_up.len()).unwrap_or(0);
        self.made_up.insert(text.to_owned(), id);
        self.costs.pieces.insert(id, text.as_bytes().to_vec());
        id
    }
}

/// Its place among the alternatives that a server tells.
fn rank_among(token: &RemoteToken) -> u32 {
    let Some(own) = token.logprob.filter(|_| !token.alternatives.is_empty()) else { return u32::MAX };
    let above = token.alternatives.iter().filter(|(text, p)| *p > own && *text != token.text).count();
    u32::try_from(above).unwrap_or(u32::MAX)
}
