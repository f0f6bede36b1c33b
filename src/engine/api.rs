//! What goes into the engine and what comes out: requests, and the events they lead to.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use super::inside::{Inside, Step};
use crate::chat::message::Message;
use crate::error::Error;
use crate::gpu::StepTimes;
use crate::model::config::GenerationDefaults;
use crate::model::loaded::{LoadOptions, MemoryPlan};
use crate::model::preprocessor::{Preprocessors, TokenRange};
use crate::model::prompt::VideoPrompt;
use crate::model::recipe::Recipe;
use crate::model::sampler::{Sampling, TokenRecord};
use crate::model::source::Wanted;
use crate::model::tokenizer::Tokenizer;

/// Stops one piece of work when asked; cloned freely.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the work to stop; it does at the next chance, within one submitted piece.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Has it been asked to?
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag itself, for code that takes one.
    #[must_use]
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }
}

/// A model to load: a hub folder or a GGUF file (converted once into the user's cache), a converted folder, or the model in
/// this program.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    /// The folder or GGUF file, or [`crate::model::builtin::NAME`].
    pub folder: PathBuf,
    /// The recipe to convert with; `None`: `int8hu`, or whatever a converted folder holds.
    pub recipe: Option<Recipe>,
    /// Room to make.
    pub options: LoadOptions,
}

impl LoadRequest {
    /// How the model's files are to be found and made.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        Wanted { recipe: self.recipe, text_only: self.options.text_only }
    }
}

/// A loaded model, for people.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// The folder's name.
    pub name: String,
    /// Where it was loaded from.
    pub folder: PathBuf,
    /// How its weights are stored.
    pub recipe: Recipe,
    /// Tokens a session may have.
    pub context: usize,
    /// Seconds the load took, conversion included.
    pub load_secs: f64,
    /// Memory announced before loading.
    pub memory: MemoryPlan,
    /// Bytes of the buffers it made, counted after loading.
    pub measured_bytes: u64,
    /// The model's own sampling defaults.
    pub defaults: GenerationDefaults,
    /// Image tokens of one picture: what the model's own limits allow.
    pub image_tokens: (usize, usize),
    /// Can it take pictures? Not without its vision tower.
    pub takes_pictures: bool,
    /// Can it take clips?
    pub takes_clips: bool,
    /// What was odd about the files when they were converted just now, or was taken for what they lack; one sentence each.
    pub notes: Vec<String>,
    /// Bytes of weights that a step reads.
    pub weights_bytes_per_step: usize,
    /// Bytes the KV cache takes for a token of context, in all layers.
    pub kv_bytes_per_token: usize,
    /// The adapter it runs on.
    pub adapter: String,
    /// Has the adapter timestamps? Otherwise steps are timed from submitting to reading.
    pub has_timestamps: bool,
    /// Its tokens' texts.
    pub tokenizer: Arc<Tokenizer>,
    /// How pictures and clips are resized: what one will cost is known before it is sent.
    pub preprocessors: Preprocessors,
}

/// How a load goes.
#[derive(Clone, Debug)]
pub enum LoadEvent {
    /// A hub folder is being converted.
    Converting {
        /// Bytes done.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// What the load will take.
    Plan(MemoryPlan),
    /// Weights are on their way to the device.
    Uploading {
        /// Bytes done.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// It is there.
    Loaded(Box<ModelInfo>),
    /// It is not, and why.
    Failed(Error),
}

/// Guessing the next tokens from the sequence itself, and checking several guesses in one pass (prompt lookup). Tokens are
/// the same, bit for bit, and what is said of them too; only their times differ. Where a penalty depends on the tokens already
/// said, nothing is guessed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// One token a pass.
    Off,
    /// Where what was measured so far says that it is faster.
    #[default]
    Auto,
    /// In every pass, as many as fit, faster or not; for tests.
    #[doc(hidden)]
    Always {
        /// The answer, where it is known; otherwise guesses are looked up, or the last token again.
        answer: Option<Arc<[u32]>>,
        /// Each such guess is spoilt; 0: none.
        wrong_every: usize,
    },
}

impl Speculation {
    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
            Self::Always { .. } => "always",
        }
    }
}

impl std::str::FromStr for Speculation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Off, Self::Auto];
        all.into_iter().find(|mode| mode.name() == text).ok_or_else(|| "write off or auto".to_owned())
    }
}

/// A question.
#[derive(Clone, Debug)]
pub struct Request {
    /// The conversation, the question last.
    pub messages: Vec<Message>,
    /// Text that the answer begins with; the model goes on from its end. It is no part of the answer's events.
    pub answer_start: Option<String>,
    /// Tokens that the answer begins with, behind [`Request::answer_start`]: what the model had said, exactly, so that the cache has them.
    /// They are no part of the answer's events; the end of a character that they began with is.
    pub answer_ids: Vec<u32>,
    /// Tools offered to the model, in the template's own form (a JSON array).
    pub tools: Option<serde_json::Value>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens of the answer, at most; `None`: what the context leaves.
    pub max_tokens: Option<usize>,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// Image tokens a picture may take; `None`: the model's own limits.
    pub image_tokens: Option<TokenRange>,
    /// How a clip is written into the prompt.
    pub video_prompt: VideoPrompt,
    /// Write "Picture 1: " and so on before each.
    pub add_vision_id: bool,
    /// Go on past the model's end tokens; for measuring.
    pub ignore_end: bool,
    /// Are tokens guessed ahead?
    pub speculation: Speculation,
    /// The answer is, bit for bit, what it would be were nothing else ever asked: of what the cache has, only that is taken over
    /// which a prefill of this prompt alone would have written, and a prefill of a few tokens runs as one of many does. The
    /// next token of a conversation then comes later: its last answer is prefilled again.
    pub reproducible: bool,
    /// It takes its turn after all requests that are not: somebody waits for those.
    pub background: bool,
    /// Nothing is answered: an answer that is given is measured ([`AnswerEvent::Scored`]), as text, without special tokens.
    pub reference: Option<String>,
    /// Nothing is answered: the step that chose one token of an answer to this question is run once more and laid open
    /// ([`AnswerEvent::Inside`]). What the cache has is taken over, also where the request is `reproducible`.
    pub inside: Option<Step>,
}

impl Request {
    /// A question with the given messages, greedy, nothing else set.
    #[must_use]
    pub fn new(messages: Vec<Message>) -> Self {
        Self {
            messages,
            answer_start: None,
            answer_ids: Vec::new(),
            tools: None,
            sampling: Sampling::GREEDY,
            max_tokens: None,
            stop: Vec::new(),
            image_tokens: None,
            video_prompt: VideoPrompt::default(),
            add_vision_id: false,
            ignore_end: false,
            speculation: Speculation::default(),
            reproducible: false,
            background: false,
            reference: None,
            inside: None,
        }
    }
}

/// A picture (or a clip) as the model sees it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PictureReport {
    /// Its number in the prompt, from 0, over pictures and clips.
    pub index: usize,
    /// Is it a clip?
    pub is_clip: bool,
    /// Width and height after resizing, pixels.
    pub resized: (u32, u32),
    /// Grid (t, h, w) in patches.
    pub grid: [u32; 3],
    /// Image tokens.
    pub tokens: usize,
    /// Seconds in the vision tower; `None`: reused, nothing was computed.
    pub vision_secs: Option<f64>,
}

/// What came between a step and the one before it, or with it: why it may have taken longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Disturbance {
    /// Kernels were compiled.
    pub compiled: bool,
    /// The session's cache grew by a page.
    pub grew_page: bool,
    /// A piece of another prompt, or a picture, ran on the device.
    pub interrupted: bool,
}

/// One token of an answer.
#[derive(Clone, Debug)]
pub struct TokenEvent {
    /// The text it completes; may be empty (half a character, or the beginning of a stop string).
    pub text: String,
    /// The token and what it was chosen from.
    pub record: TokenRecord,
    /// When its step was where. Tokens of one verify pass divide its time on the device among them, so that the times of all
    /// tokens add up to the device's.
    pub times: StepTimes,
    /// When its text was there, nanoseconds of [`crate::clock`].
    pub decoded_ns: u64,
    /// Bytes its step had to read at least: weights, and the keys and values of its sessions. Tokens of one verify pass divide them.
    pub bytes: u64,
    /// What came between.
    pub disturbance: Disturbance,
    /// The last piece of the prompt and this token were one step.
    pub ends_prefill: bool,
    /// Sessions in that step.
    pub batch: usize,
    /// Was it guessed beforehand, and the guess found right? It cost a row of a pass that ran anyway.
    pub drafted: bool,
    /// When the record reached the engine.
    pub arrived: Instant,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model said so.
    #[default]
    End,
    /// A stop string.
    StopString,
    /// The limit of the request.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// The user.
    Cancelled,
}

/// Figures of a finished answer.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Summary {
    /// Why it ended.
    pub reason: StopReason,
    /// The answer's text.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Guesses that were verified.
    pub drafted_tokens: usize,
    /// Of those, tokens of the answer.
    pub accepted_tokens: usize,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of those, found in the cache.
    pub reused_tokens: usize,
    /// Seconds in the vision tower.
    pub vision_secs: f64,
    /// Seconds of prefill.
    pub prefill_secs: f64,
    /// Seconds from the request to the first token.
    pub ttft_secs: f64,
    /// Seconds from the first token to the last.
    pub decode_secs: f64,
}

impl Summary {
    /// Prompt tokens computed a second.
    #[must_use]
    pub fn prefill_tok_s(&self) -> f64 {
        (self.prompt_tokens - self.reused_tokens) as f64 / self.prefill_secs.max(1e-9)
    }

    /// Tokens decoded a second, the first one (which prefill made) not counted.
    #[must_use]
    pub fn decode_tok_s(&self) -> f64 {
        self.ids.len().saturating_sub(1) as f64 / self.decode_secs.max(1e-9)
    }
}

/// How likely a given answer is: its tokens' log-probabilities, each after the prompt and those before it.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Score {
    /// The answer's tokens; the end of the turn is not one of them.
    pub ids: Vec<u32>,
    /// Their natural log-probabilities in the unmodified distribution.
    pub logprobs: Vec<f32>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of those, found in the cache.
    pub reused_tokens: usize,
}

impl Score {
    /// The log-probability of the whole answer.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.logprobs.iter().map(|&p| f64::from(p)).sum()
    }

    /// The mean over its tokens.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum() / self.logprobs.len().max(1) as f64
    }

    /// `exp(-mean)`.
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        (-self.mean()).exp()
    }
}

/// A piece of an answer from a server elsewhere: one token where the server tells log-probabilities, otherwise whatever it
/// sent at once. It has no id and no times of the device; `arrived` is when it was read here.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteToken {
    /// The text it adds; may be empty (half a character).
    pub text: String,
    /// Its natural log-probability; `None`: not told.
    pub logprob: Option<f32>,
    /// The most likely tokens at its place with their log-probabilities, as text; empty: not told.
    pub alternatives: Vec<(String, f32)>,
    /// When it was read.
    pub arrived: Instant,
}

/// Figures of an answer from a server elsewhere. All times are as seen from here: the way there and back and the queue are
/// in them. What the server does not tell is `None`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct RemoteSummary {
    /// Why it ended.
    pub reason: StopReason,
    /// The answer's text.
    pub text: String,
    /// What the model thought before it, where the server tells that apart.
    pub thinking: String,
    /// The model's name, as the server gives it.
    pub model: Option<String>,
    /// Tokens of the prompt, as the server counts them.
    pub prompt_tokens: Option<usize>,
    /// Of those, found in the server's cache.
    pub cached_tokens: Option<usize>,
    /// Tokens of the answer, as the server counts them, or one for each log-probability told.
    pub new_tokens: Option<usize>,
    /// Pieces that the answer came in.
    pub pieces: usize,
    /// Seconds from the question to the first piece; `None`: none came.
    pub ttft_secs: Option<f64>,
    /// Seconds from the first piece to the last; `None`: fewer than two came.
    pub decode_secs: Option<f64>,
    /// Seconds from the question to the end.
    pub total_secs: f64,
}

impl RemoteSummary {
    /// Tokens a second as they arrived here, the first one not counted; `None`: not known, or they came all at once, which says
    /// nothing of how fast they were made.
    #[must_use]
    pub fn tok_s(&self) -> Option<f64> {
        const AT_ONCE_SECS: f64 = 0.05;
        let later = self.new_tokens?.checked_sub(1).filter(|n| *n > 0)?;
        self.decode_secs.filter(|secs| *secs > AT_ONCE_SECS).map(|secs| later as f64 / secs)
    }
}

/// What happens to a question.
#[derive(Clone, Debug)]
pub enum AnswerEvent {
    /// The prompt is made; these are its tokens.
    Prepared {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// The prompt's text, pads expanded.
        prompt_text: Arc<str>,
    },
    /// A picture is being encoded: blocks of the tower done, of all frames.
    Vision {
        /// Its number.
        index: usize,
        /// Blocks done.
        done: usize,
        /// Blocks in all.
        total: usize,
    },
    /// A picture is encoded, or was already.
    Picture(PictureReport),
    /// Prompt tokens in the cache.
    Prefill {
        /// Reused and computed so far.
        done: usize,
        /// The whole prompt.
        total: usize,
        /// Reused.
        reused: usize,
    },
    /// A frame of a picture or clip has gone through the vision tower.
    Encoded {
        /// The picture's number.
        index: usize,
        /// When.
        times: StepTimes,
    },
    /// A piece of the prompt is in the cache.
    Chunk {
        /// Its first token's place.
        first: usize,
        /// Its tokens.
        tokens: usize,
        /// When. Those of the last piece are its token's, too.
        times: StepTimes,
    },
    /// A token.
    Token(Box<TokenEvent>),
    /// Text that was held back and turned out to belong to the answer.
    Text(String),
    /// A piece of an answer that a server elsewhere makes (`crate::remote`).
    RemoteToken(Box<RemoteToken>),
    /// What the model elsewhere thinks before it answers; no part of the answer.
    Thinking(String),
    /// The end.
    Finished(Box<Summary>),
    /// The end of a request with a [`Request::reference`].
    Scored(Box<Score>),
    /// The end of a request with a [`Request::inside`].
    Inside(Arc<Inside>),
    /// The end of an answer that came from a server elsewhere.
    RemoteFinished(Box<RemoteSummary>),
    /// It could not be answered; what had come stays true.
    Failed(Error),
}

/// A prompt as the model would get it, made without asking anything.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptPreview {
    /// Its text, pads expanded.
    pub text: String,
    /// Its tokens: the id, and the text it stands for (bytes that are half a character: U+FFFD).
    pub tokens: Vec<(u32, String)>,
    /// Its pictures and clips, in order.
    pub pictures: Vec<PictureReport>,
}

/// An answer under way: its events, and the means to stop it.
#[derive(Debug)]
pub struct Answer {
    /// Events in order; closed after `Finished` or `Failed`.
    pub events: mpsc::Receiver<AnswerEvent>,
    /// Stops it.
    pub cancel: Cancel,
}

/// A load under way.
#[derive(Debug)]
pub struct Load {
    /// Events in order; closed after `Loaded` or `Failed`.
    pub events: mpsc::Receiver<LoadEvent>,
    /// Stops it.
    pub cancel: Cancel,
}
