//! A question on its way through the engine: what is waiting, what is running, what has come.

use std::time::Instant;

use super::Events;
use super::api::{AnswerEvent, Cancel, Request, Score, StopReason, Summary};
use super::front_end::Prepared;
use super::pages::{Cached, TokenKey};
use super::speculation::Guesser;
use super::stop::StopMatcher;
use crate::error::Result;
use crate::log;
use crate::model::detokenizer::Detokenizer;
use crate::model::picture_arena::PictureKey;
use crate::model::prompt::Prompt;
use crate::model::scorer::Scorer;
use crate::model::text_decoder::RowInfo;

/// A request whose prompt has been made, and how that went.
pub(super) struct Waiting {
    pub request: Request,
    pub prepared: Result<Prepared>,
    pub events: Events<AnswerEvent>,
    pub cancel: Cancel,
    pub asked: Instant,
    /// Which model the prompt was made for.
    pub generation: u64,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing has begun: it is not known yet what the cache will have when it does.
    Begin,
    /// Pictures before this run of pads are encoded or not needed.
    Pictures { next_span: usize },
    /// Tokens before this one are in the cache.
    Prefill { next: usize },
    /// Tokens are being decoded.
    Decode,
    /// What was asked of a given answer is told: how likely it is, or what is inside a step of it.
    Told,
}

/// Tells whoever asked where a session is dropped by a panic.
pub(super) struct LastWords(pub Events<AnswerEvent>);

impl Drop for LastWords {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.send(AnswerEvent::Failed(log::panicking("answering")));
        }
    }
}

/// A session in a slot.
pub(super) struct Session {
    pub id: u64,
    pub request: Request,
    pub prepared: Prepared,
    pub events: Events<AnswerEvent>,
    /// Dropped with the session.
    pub _last_words: LastWords,
    pub cancel: Cancel,
    pub phase: Phase,
    /// Prompt, then the answer's tokens.
    pub keys: Vec<TokenKey>,
    pub pages: Vec<u32>,
    /// Extension ids and text ids of the prompt, as the kernels see them, and of the answer that is measured, all but its
    /// last, or of the one that is looked into, as far as the step saw it.
    pub tokens: Vec<u32>,
    /// Tokens at the beginning that the cache holds bit for bit as a prefill of this prompt alone writes them.
    pub settled: usize,
    /// Pictures kept in the arena for this session.
    pub pinned: Vec<PictureKey>,
    pub reused: usize,
    /// Tokens whose keys and values are in the cache once all that is submitted has run.
    pub length: usize,
    pub generated: Vec<u32>,
    /// Tokens chosen by submitted steps whose records have not come.
    pub in_flight: usize,
    pub max_tokens: usize,
    pub guesser: Guesser,
    pub detokenizer: Detokenizer,
    pub stops: StopMatcher,
    pub text: String,
    pub asked: Instant,
    pub prefill_began: Instant,
    pub first_token: Option<Instant>,
    pub last_token: Instant,
    pub vision_secs: f64,
    /// Where a given answer is measured.
    pub scorer: Option<Scorer>,
}

/// The M-RoPE position of the `n`-th token after a prompt.
pub(super) fn position_after(prompt: &Prompt, n: usize) -> [u32; 3] {
    let last = prompt.positions.thw.last().and_then(|thw| thw.iter().max()).copied().unwrap_or_default();
    [last + 1 + u32::try_from(n).unwrap_or(u32::MAX); 3]
}

impl Session {
    /// Is a given answer measured, instead of one made?
    pub fn is_scoring(&self) -> bool {
        !self.prepared.reference.is_empty()
    }

    /// Tokens that are prefilled; where a step is looked into, that of the last row runs apart.
    pub fn prefill_tokens(&self) -> usize {
        self.tokens.len() - usize::from(self.request.inside.is_some())
    }

    /// What of it is in the cache.
    pub fn cached(&self) -> Cached<'_> {
        let valid = self.length.min(self.keys.len());
        Cached { keys: &self.keys[..valid], pages: &self.pages, settled: self.settled }
    }

    /// Text that is certain is shown and kept.
    pub fn say(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// May another step be submitted?
    pub fn wants_step(&self, context: usize) -> bool {
        self.phase == Phase::Decode
            && self.generated.len() + self.in_flight < self.max_tokens
            && self.length < context
            && !self.cancel.is_cancelled()
    }

    /// Guesses that could still be of use behind the token that comes next.
    pub fn room_for_guesses(&self, context: usize) -> usize {
        let said = self.generated.len() + self.in_flight;
        let most = self.max_tokens.min(context - self.prepared.prompt.input_ids.len().min(context));
        most.saturating_sub(said + 1)
    }

    /// The row of the latest token, which is not in the cache yet; nothing is in flight. `None`: there is no token.
    pub fn next_row(&self, slot: usize) -> Option<RowInfo> {
        let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let token = *self.generated.last()?;
        let position = position_after(&self.prepared.prompt, self.generated.len() - 1);
        let index = self.prepared.prompt.input_ids.len() + self.generated.len() - 1;
        Some(RowInfo {
            token,
            position,
            index: word(index),
            slot: word(slot),
            draws: word(self.generated.len()),
            verify: 0,
        })
    }

    /// Tells how likely the given answer is, which ends the session.
    pub fn scored(&mut self, logprobs: Vec<f32>) {
        self.phase = Phase::Told;
        self.events.send(AnswerEvent::Scored(Box::new(Score {
            ids: self.prepared.reference.clone(),
            logprobs,
            prompt_tokens: self.prepared.prompt.input_ids.len(),
            reused_tokens: self.reused,
        })));
    }

    /// Tells the end.
    pub fn finish(&mut self, reason: StopReason) {
        if reason != StopReason::StopString {
            let mut rest = String::new();
            let tail = self.detokenizer.finish();
            match self.stops.push(&tail) {
                super::stop::Matched::Text(text) | super::stop::Matched::Stop(text) => rest.push_str(&text),
            }
            rest.push_str(&self.stops.finish());
            if !rest.is_empty() {
                self.say(&rest.clone());
                self.events.send(AnswerEvent::Text(rest));
            }
        }
        let first = self.first_token.unwrap_or(self.last_token);
        let summary = Summary {
            reason,
            text: std::mem::take(&mut self.text),
            ids: self.generated.clone(),
            drafted_tokens: self.guesser.drafted,
            accepted_tokens: self.guesser.accepted,
            prompt_tokens: self.prepared.prompt.input_ids.len(),
            reused_tokens: self.reused,
            vision_secs: self.vision_secs,
            prefill_secs: self.first_token.map_or(0.0, |t| (t - self.prefill_began).as_secs_f64()),
            ttft_secs: self.first_token.map_or(0.0, |t| (t - self.asked).as_secs_f64()),
            decode_secs: (self.last_token - first).as_secs_f64(),
        };
        self.events.send(AnswerEvent::Finished(Box::new(summary)));
    }
}
