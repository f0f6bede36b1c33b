//! Room `remote`: one answer from a server, from the question to its end, on a thread of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{Call, ERROR_BYTES, Head, Outgoing, Piece, refusal};
use super::keys::{Key, Keys};
use super::reply::{self, Finish, Said, Usage, refusal_words};
use super::request::{ALTERNATIVES, Choosing, body};
use super::server::Server;
use super::sse;
use crate::engine::{
    Answer, AnswerEvent, Cancel, Events, RemoteSummary, RemoteToken, Request, StopReason, Wake,
};
use crate::error::{Error, ErrorKind, Result};

const DOING: &str = "asking the server";
/// After the end of an answer its figures may come, and nothing else is waited for.
const FIGURES: Duration = Duration::from_secs(3);

/// A question for a server.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which server.
    pub server: Server,
    /// Which of its models.
    pub model: String,
    /// The question; its `sampling` gives way to `choosing`.
    pub request: Request,
    /// How tokens are to be chosen.
    pub choosing: Choosing,
    /// Where its key is.
    pub keys: Keys,
    /// How long to wait and how much to take.
    pub limits: Limits,
}

/// What an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until its first byte: a large prompt may stand in a queue and then takes its time.
    pub first: Duration,
    /// Between two pieces.
    pub idle: Duration,
    /// Bytes in all.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { first: Duration::from_mins(30), idle: Duration::from_mins(5), bytes: 256 << 20 }
    }
}

/// Asks. The events are those of an engine's answer: `Thinking` and `RemoteToken`, then `RemoteFinished` or `Failed`. Setting
/// the answer's `cancel` ends it within a tenth of a second, whatever the server does.
#[must_use]
pub fn ask(ask: Ask, wake: Wake) -> Answer {
    let (events, receiver) = Events::channel(wake);
    let cancel = Cancel::default();
    let mut answering = Answering::new(ask, events, cancel.clone());
    let failed = answering.events.clone();
    let run = move || answering.run();
    if let Err(error) = std::thread::Builder::new().name("answer from a server".into()).spawn(run) {
        failed.send(AnswerEvent::Failed(Error::new(DOING, error)));
    }
    Answer { events: receiver, cancel }
}

/// What not every server knows and is asked for all the same: a server that refuses it is asked again without.
#[derive(Clone, Copy)]
struct Extras {
    logprobs: bool,
    usage: bool,
}

struct Answering {
    ask: Ask,
    events: Events<AnswerEvent>,
    cancel: Cancel,
    extras: Extras,
    /// The question as it is sent, written once.
    body: Arc<Mutex<Option<Value>>>,
    asked: Instant,
    text: String,
    thinking: String,
    pieces: usize,
    /// Tokens with a log-probability, and pieces without: where there are none of these, the tokens are counted.
    told: (usize, usize),
    first: Option<Instant>,
    last: Option<Instant>,
    finish: Option<Finish>,
    usage: Usage,
    model: Option<String>,
    /// The key it was sent with, so that it can be hidden in what comes back.
    key: Arc<Mutex<Option<Key>>>,
}

impl Answering {
    fn new(ask: Ask, events: Events<AnswerEvent>, cancel: Cancel) -> Self {
        Self {
            ask,
            events,
            cancel,
            extras: Extras { logprobs: true, usage: true },
            body: Arc::default(),
            asked: Instant::now(),
            text: String::new(),
            thinking: String::new(),
            pieces: 0,
            told: (0, 0),
            first: None,
            last: None,
            finish: None,
            usage: Usage::default(),
            model: None,
            key: Arc::default(),
        }
    }

    fn run(&mut self) {
        let outcome = loop {
            match self.attempt() {
                Ok(true) => break Ok(self.reason()),
                // Without what it refused.
                Ok(false) => {}
                Err(error) if error.get_kind() == ErrorKind::Cancelled => break Ok(StopReason::Cancelled),
                Err(error) => break Err(error),
            }
        };
        let event = match outcome {
            Ok(reason) => AnswerEvent::RemoteFinished(Box::new(self.summary(reason))),
            Err(error) => AnswerEvent::Failed(error),
        };
        self.events.send(event);
    }

    /// Asks once; false: the server refused one of the extras, which are fewer now.
    fn attempt(&mut self) -> Result<bool> {
        let (ask, body, cancel, key) =
            (self.ask.clone(), Arc::clone(&self.body), self.cancel.clone(), Arc::clone(&self.key));
        let extras = self.extras;
        let call =
            Call::start(&self.ask.server, DOING, move || outgoing(&ask, extras, &body, &key, &cancel))?;
        let Some(Piece::Head(head)) = call.next(&self.cancel, self.ask.limits.first)? else {
            return Err(self.error("it says nothing"));
        };
        if !(200..300).contains(&head.status) {
            return self.refused(&call, &head).map(|()| false);
        }
        self.take_in(&call)?;
        Ok(true)
    }

    fn error(&self, why: &str) -> Error {
        Error::new(DOING, why).at(&self.ask.server.name).help("look after the server, then ask again")
    }

    fn key(&self) -> Option<Key> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `Ok`: ask again, without what it refused.
    fn refused(&mut self, call: &Call, head: &Head) -> Result<()> {
        let key = self.key();
        let page = match call.rest(ERROR_BYTES, &self.cancel, self.ask.limits.idle) {
            Err(error) if error.get_kind() == ErrorKind::Cancelled => return Err(error),
            page => page.unwrap_or_default(),
        };
        let said = refusal_words(&page, key.as_ref());
        if matches!(head.status, 400 | 422) {
            let lower = String::from_utf8_lossy(&page).to_lowercase();
            if self.extras.logprobs && lower.contains("logprob") {
                self.extras.logprobs = false;
                return Ok(());
            }
            if self.extras.usage && lower.contains("stream_options") {
                self.extras.usage = false;
                return Ok(());
            }
        }
        Err(refusal(DOING, &self.ask.server.name, head, &said, key.is_some()))
    }

    /// Takes in what comes. Once the server has said why it ended, the answer is whole, whatever happens then.
    fn take_in(&mut self, call: &Call) -> Result<()> {
        match self.listen(call) {
            Err(error) if error.get_kind() != ErrorKind::Cancelled && self.finish.is_some() => {
                tracing::debug!("after the end of an answer: {}", error.for_log());
                self.ended(false)
            }
            outcome => outcome,
        }
    }

    fn listen(&mut self, call: &Call) -> Result<()> {
        let key = self.key();
        let mut stream = sse::Events::default();
        // A server that does not stream sends one object; one that does begins otherwise.
        let mut whole: Option<Vec<u8>> = None;
        let (mut is_first, mut total) = (true, 0);
        let mut finished: Option<Instant> = None;
        loop {
            let mut patience = if is_first { self.ask.limits.first } else { self.ask.limits.idle };
            if self.finish.is_some() {
                let waited = finished.get_or_insert_with(Instant::now).elapsed();
                if waited >= FIGURES {
                    break;
                }
                patience = patience.min(FIGURES.saturating_sub(waited));
            }
            let Some(piece) = call.next(&self.cancel, patience)? else { break };
            let Piece::Bytes(bytes) = piece else { continue };
            total += bytes.len();
            if total > self.ask.limits.bytes {
                return Err(self.error("its answer has no end"));
            }
            if is_first && bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if std::mem::replace(&mut is_first, false)
                && bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
            {
                whole = Some(Vec::new());
            }
            match &mut whole {
                Some(whole) => whole.extend_from_slice(&bytes),
                None => {
                    for data in stream.take(&bytes).map_err(|e| e.at(&self.ask.server.name))? {
                        if data.trim() == "[DONE]" {
                            return self.ended(true);
                        }
                        self.hear(&data, key.as_ref())?;
                    }
                }
            }
        }
        if let Some(whole) = whole {
            self.hear(&String::from_utf8_lossy(&whole), key.as_ref())?;
        } else if let Some(data) = stream.end() {
            if data.trim() == "[DONE]" {
                return self.ended(true);
            }
            // A last event without its blank line may be whole, or cut off.
            if serde_json::from_str::<Value>(&data).is_ok() {
                self.hear(&data, key.as_ref())?;
            }
        }
        self.ended(false)
    }

    /// `done`: the server has said that nothing more comes, which is all that some say.
    fn ended(&self, done: bool) -> Result<()> {
        match &self.finish {
            Some(Finish::Other(reason)) => {
                Err(self.error(&format!("it ended the answer because of: {reason}")).quoting())
            }
            Some(_) => Ok(()),
            None if self.pieces == 0 => Err(self.error("it says nothing")),
            None if done => Ok(()),
            None => Err(self.error("the answer was cut off in its middle")),
        }
    }

    fn hear(&mut self, data: &str, key: Option<&Key>) -> Result<()> {
        if data.trim().is_empty() {
            return Ok(());
        }
        let said = reply::read(DOING, &self.ask.server.name, key, data)?;
        let now = Instant::now();
        self.finish = said.finish.clone().or(self.finish.take());
        self.model = said.model.clone().or(self.model.take());
        if let Some(usage) = said.usage {
            self.usage = Usage {
                prompt: usage.prompt.or(self.usage.prompt),
                cached: usage.cached.or(self.usage.cached),
                new: usage.new.or(self.usage.new),
            };
        }
        if !said.text.is_empty() || !said.thinking.is_empty() || !said.told.is_empty() {
            self.pieces += 1;
            self.first.get_or_insert(now);
            self.last = Some(now);
            match said.told.len() {
                0 => self.told.1 += 1,
                n => self.told.0 += n,
            }
        }
        if !said.thinking.is_empty() {
            self.thinking.push_str(&said.thinking);
            self.events.send(AnswerEvent::Thinking(said.thinking.clone()));
        }
        self.text.push_str(&said.text);
        for token in tokens(said, now) {
            self.events.send(AnswerEvent::RemoteToken(Box::new(token)));
        }
        Ok(())
    }

    fn reason(&self) -> StopReason {
        match self.finish {
            Some(Finish::Length) if self.ask.request.max_tokens.is_some() => StopReason::MaxTokens,
            Some(Finish::Length) => StopReason::ContextFull,
            Some(Finish::StopString) => StopReason::StopString,
            _ => StopReason::End,
        }
    }

    fn summary(&mut self, reason: StopReason) -> RemoteSummary {
        let counted = Some(self.told.0).filter(|n| *n > 0 && self.told.1 == 0);
        let since = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64();
        RemoteSummary {
            reason,
            text: std::mem::take(&mut self.text),
            thinking: std::mem::take(&mut self.thinking),
            model: self.model.take(),
            prompt_tokens: self.usage.prompt,
            cached_tokens: self.usage.cached,
            new_tokens: self.usage.new.or(counted),
            pieces: self.pieces,
            ttft_secs: self.first.map(|first| since(self.asked, first)),
            decode_secs: self
                .first
                .zip(self.last)
                .filter(|_| self.pieces > 1)
                .map(|(first, last)| since(first, last)),
            total_secs: self.asked.elapsed().as_secs_f64(),
        }
    }
}

/// The request's bytes and key, found on the network's thread.
fn outgoing(
    ask: &Ask,
    extras: Extras,
    body_once: &Mutex<Option<Value>>,
    key_seen: &Mutex<Option<Key>>,
    cancel: &Cancel,
) -> Result<Outgoing> {
    let key = ask.keys.get(&ask.server)?;
    key_seen.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&key);
    let mut held = body_once.lock().unwrap_or_else(PoisonError::into_inner);
    let mut json = match held.take() {
        Some(json) => json,
        None => body(&ask.request, &ask.model, &ask.choosing, cancel)?,
    };
    if let Some(map) = json.as_object_mut() {
        for name in ["logprobs", "top_logprobs", "stream_options"] {
            map.remove(name);
        }
        if extras.logprobs {
            map.insert("logprobs".to_owned(), true.into());
            map.insert("top_logprobs".to_owned(), ALTERNATIVES.into());
        }
        if extras.usage {
            map.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
    }
    let bytes = serde_json::to_vec(&json).map_err(|e| Error::new(DOING, e))?;
    *held = Some(json);
    Ok(Outgoing { url: ask.server.endpoint("chat/completions"), key, body: Some(bytes) })
}

/// A piece as tokens: one for each that the server tells of, where together they are the piece's text.
fn tokens(said: Said, arrived: Instant) -> Vec<RemoteToken> {
    if said.told.is_empty() {
        let plain = RemoteToken { text: said.text, logprob: None, alternatives: Vec::new(), arrived };
        return if plain.text.is_empty() { Vec::new() } else { vec![plain] };
    }
    let fits = said.told.iter().map(|told| told.text.as_str()).collect::<String>() == said.text;
    // Otherwise (half a character, text held back) the text goes with the first.
    let mut whole = Some(said.text);
    let one = |told: reply::Told| RemoteToken {
        text: if fits { told.text } else { whole.take().unwrap_or_default() },
        logprob: Some(told.logprob),
        alternatives: told.alternatives,
        arrived,
    };
    said.told.into_iter().map(one).collect()
}
