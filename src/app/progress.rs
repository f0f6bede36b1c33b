//! Room `app`: how far an answer under way is, so that slow can be told from stuck. Plain data.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::engine::{AnswerEvent, PictureReport};

/// Tokens whose arrival makes the live rate.
const RATE_TOKENS: usize = 48;
/// With no token for this long, the wait itself counts in the live rate.
const STALL: Duration = Duration::from_millis(500);

/// What the engine is doing for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for pictures of the question to be read from their files.
    Reading,
    /// Making the prompt.
    Preparing,
    /// Encoding a picture: blocks of the tower.
    Vision {
        /// Its number, from 0.
        index: usize,
        /// Blocks done.
        done: usize,
        /// Blocks in all.
        total: usize,
    },
    /// Bringing the prompt into the cache: tokens.
    Prefill {
        /// Reused and computed so far.
        done: usize,
        /// The whole prompt.
        total: usize,
    },
    /// Tokens are coming.
    Writing,
    /// Waiting for a server elsewhere.
    Elsewhere,
    /// The model elsewhere thinks before it answers.
    Thinking,
}

/// An answer under way, in numbers.
#[derive(Clone, Debug)]
pub struct Progress {
    /// When the question was sent.
    pub asked: Instant,
    /// What is being done.
    pub stage: Stage,
    /// Pictures and clips in the prompt.
    pub pictures: usize,
    /// Pictures encoded or found, and of those the ones found.
    pub pictures_done: (usize, usize),
    /// Tokens of the prompt, once known.
    pub prompt_tokens: usize,
    /// Of those, found in the cache.
    pub reused_tokens: usize,
    /// Tokens of the answer so far; of an answer from elsewhere, the pieces it came in.
    pub tokens: usize,
    /// Time from the question to the first token, once it is there.
    pub first_token: Option<Duration>,
    /// The user has asked it to stop.
    pub stopping: bool,
    /// A server elsewhere answers: what is seen of it is seen from here.
    pub is_remote: bool,
    arrivals: VecDeque<Instant>,
}

impl Progress {
    /// A question with `pictures` pictures, sent at `asked`.
    #[must_use]
    pub fn new(pictures: usize, asked: Instant) -> Self {
        Self {
            asked,
            stage: Stage::Preparing,
            pictures,
            pictures_done: (0, 0),
            prompt_tokens: 0,
            reused_tokens: 0,
            tokens: 0,
            first_token: None,
            stopping: false,
            is_remote: false,
            arrivals: VecDeque::new(),
        }
    }

    /// Takes note of an event.
    pub fn see(&mut self, event: &AnswerEvent) {
        match event {
            AnswerEvent::Prepared { prompt_tokens, .. } => self.prompt_tokens = *prompt_tokens,
            &AnswerEvent::Vision { index, done, total } => self.stage = Stage::Vision { index, done, total },
            AnswerEvent::Picture(PictureReport { vision_secs, .. }) => {
                self.pictures_done.0 += 1;
                self.pictures_done.1 += usize::from(vision_secs.is_none());
            }
            &AnswerEvent::Prefill { done, total, reused } => {
                self.stage = Stage::Prefill { done, total };
                (self.prompt_tokens, self.reused_tokens) = (total, reused);
            }
            AnswerEvent::Token(token) => {
                self.stage = Stage::Writing;
                self.count(token.arrived);
            }
            AnswerEvent::RemoteToken(token) => {
                self.stage = Stage::Writing;
                self.count(token.arrived);
            }
            AnswerEvent::Thinking(_) => self.stage = Stage::Thinking,
            AnswerEvent::Encoded { .. }
            | AnswerEvent::Chunk { .. }
            | AnswerEvent::Text(_)
            | AnswerEvent::Finished(_)
            | AnswerEvent::Scored(_)
            | AnswerEvent::Inside(_)
            | AnswerEvent::RemoteFinished(_)
            | AnswerEvent::Failed(_) => {}
        }
    }

    fn count(&mut self, arrived: Instant) {
        self.tokens += 1;
        self.first_token.get_or_insert_with(|| arrived.saturating_duration_since(self.asked));
        if self.arrivals.len() == RATE_TOKENS {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back(arrived);
    }

    /// Tokens a second, of late; falls when tokens stay away. `None` before the second token.
    #[must_use]
    pub fn tokens_per_sec(&self, now: Instant) -> Option<f64> {
        let (first, last) = (self.arrivals.front()?, self.arrivals.back()?);
        let steps = self.arrivals.len() - 1;
        let silent = now.saturating_duration_since(*last);
        let until = if silent > STALL { now } else { *last };
        let secs = until.saturating_duration_since(*first).as_secs_f64();
        (steps > 0 && secs > 0.0).then(|| steps as f64 / secs)
    }

    /// How long nothing has come since the last token.
    #[must_use]
    pub fn silent(&self, now: Instant) -> Option<Duration> {
        self.arrivals.back().map(|last| now.saturating_duration_since(*last))
    }
}
