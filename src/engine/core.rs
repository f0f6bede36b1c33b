//! What the engine's thread does: it takes commands, brings prompts into the cache piece by piece, and
//! keeps a few decode steps in flight for all sessions at once.

mod look_inside;
mod prefill;
mod profiling;
mod steps;
mod warming;

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use self::steps::Steps;
use self::warming::Warming;
use super::api::{
    AnswerEvent, Cancel, LoadEvent, LoadRequest, ModelInfo, PromptPreview, Request, Speculation, StopReason,
};
use super::front_end::{FrontEnd, Prepared};
use super::pages::{PagePool, PrefixCache};
use super::session::{LastWords, Phase, Session, Waiting, position_after};
use super::speculation::Guesser;
use super::stop::StopMatcher;
use super::{Command, Events};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Gpu, ReadbackRing, Recorder};
use crate::log;
use crate::model::calibration;
use crate::model::convert::Progress;
use crate::model::detokenizer::Detokenizer;
use crate::model::kv_cache::PAGE_TOKENS;
use crate::model::linear::MAX_BATCH;
use crate::model::loaded::{LoadedModel, MemoryPlan};
use crate::model::sampler::Sampler;
use crate::model::source::ModelSource;
use crate::model::text_decoder::TextDecoder;

/// A loaded model and everything that belongs to it.
struct Running {
    model: LoadedModel,
    front_end: Arc<FrontEnd>,
    pool: PagePool,
    prefixes: PrefixCache,
    slots: [Option<Box<Session>>; MAX_BATCH],
    steps: Steps,
    ring: ReadbackRing,
    /// For what is only timed.
    times_ring: ReadbackRing,
    next_id: u64,
    /// Bytes in buffers before it was loaded.
    bytes_before: u64,
    /// Ends with the model.
    _warming: Warming,
}

// Its buffers go with it, and so does what later steps made: nobody else makes any on the engine's device.
impl Drop for Running {
    fn drop(&mut self) {
        let gpu = &self.model.gpu;
        gpu.uncount_bytes(gpu.allocated_bytes().saturating_sub(self.bytes_before));
    }
}

/// The engine's state.
pub(super) struct Core {
    gpu: Gpu,
    own: mpsc::Sender<Command>,
    running: Option<Running>,
    waiting: VecDeque<Waiting>,
    /// Counts loads, so that a prompt made for another model is not run.
    generation: u64,
    /// Are kernels timed?
    profiling: bool,
}

impl Core {
    pub fn new(gpu: Gpu, own: mpsc::Sender<Command>) -> Self {
        Self { gpu, own, running: None, waiting: VecDeque::new(), generation: 0, profiling: false }
    }

    pub fn run(mut self, commands: &mpsc::Receiver<Command>) {
        loop {
            let idle = self.waiting.is_empty() && self.running.as_ref().is_none_or(Running::is_idle);
            let command = if idle { commands.recv().ok() } else { commands.try_recv().ok() };
            match command {
                Some(Command::Quit) => break,
                Some(command) => {
                    if let Err(error) = log::catching("answering", || self.command(command)) {
                        self.fall(&error);
                    }
                    continue;
                }
                None if idle => break,
                None => {}
            }
            let turned = log::catching("answering", || {
                self.admit();
                self.running.as_mut().map_or(Ok(()), Running::turn)
            });
            match turned {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    if let Err(panic) = log::catching("answering", || self.fail_all(&error)) {
                        self.fall(&panic);
                    }
                }
                Err(panic) => self.fall(&panic),
            }
        }
    }

    fn fail_all(&mut self, error: &Error) {
        if let Some(running) = &mut self.running {
            running.fail_all(error);
        }
        if error.get_kind() == ErrorKind::DeviceLost {
            self.running = None;
        }
    }

    /// A panic was caught: nobody knows what the model's state is, so there is none any more.
    fn fall(&mut self, error: &Error) {
        let Some(mut running) = self.running.take() else { return };
        for session in running.slots.iter_mut().filter_map(Option::take) {
            session.events.send(AnswerEvent::Failed(error.clone()));
        }
        self.generation += 1;
        if let Err(again) = log::catching("letting go of the model", || drop(running)) {
            tracing::error!("{}", again.for_log());
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Load(request, events, cancel) => {
                self.unload();
                let before = self.gpu.allocated_bytes();
                let loaded = log::guarded("loading the model", || self.load(&request, &events, &cancel));
                match loaded {
                    Ok(info) => events.send(LoadEvent::Loaded(Box::new(info))),
                    Err(error) => {
                        self.gpu.uncount_bytes(self.gpu.allocated_bytes().saturating_sub(before));
                        events.send(LoadEvent::Failed(error));
                    }
                }
            }
            Command::Ask(request, events, cancel) => self.ask(*request, events, cancel),
            Command::Preview(request, events, cancel) => self.preview(*request, events, cancel),
            Command::Prepared(waiting) => self.waiting.push_back(*waiting),
            Command::SetProfiling(on, events) => {
                let set = log::guarded("switching profile mode", || self.set_profiling(on));
                events.send(set);
            }
            Command::Profile(events) => {
                events.send(log::guarded("adding up a profile", || self.profile()));
            }
            Command::Ceilings(events) => {
                let measured = log::guarded("measuring the device", || self.ceilings());
                events.send(measured);
            }
            Command::Unload => self.unload(),
            Command::Quit => {}
        }
    }

    fn unload(&mut self) {
        let gone = Error::new("answering", "the model was unloaded").kind(ErrorKind::Cancelled);
        if let Some(mut running) = self.running.take() {
            running.fail_all(&gone);
        }
        for waiting in self.waiting.drain(..) {
            waiting.events.send(AnswerEvent::Failed(gone.clone()));
        }
        self.generation += 1;
    }

    fn load(
        &mut self,
        request: &LoadRequest,
        events: &Events<LoadEvent>,
        cancel: &Cancel,
    ) -> Result<ModelInfo> {
        self.gpu.check()?;
        // Once for a card; its time is not the model's.
        calibration::settle(&self.gpu, cancel.flag())?;
        let start = Instant::now();
        let mut converting = |p: &Progress<'_>| {
            events.send(LoadEvent::Converting { done_bytes: p.done_bytes, total_bytes: p.total_bytes });
        };
        let source = ModelSource::resolve(&request.folder, request.wanted(), &mut converting, cancel.flag())?;
        let options = request.options.for_model(&source.model);
        let plan = MemoryPlan::new(&source.model, &options);
        events.send(LoadEvent::Plan(plan));
        let mut front_end = FrontEnd::from_folder(&source.files, source.model.config())?;
        front_end.takes_pictures = source.model.has_vision() && !options.text_only;
        let mut last_told = Instant::now();
        let mut uploading = |done_bytes: u64, total_bytes: u64| {
            if cancel.is_cancelled() {
                return Err(Error::cancelled("loading the model"));
            }
            if done_bytes == total_bytes || last_told.elapsed() > Duration::from_millis(30) {
                last_told = Instant::now();
                events.send(LoadEvent::Uploading { done_bytes, total_bytes });
            }
            Ok(())
        };
        let before = self.gpu.allocated_bytes();
        let model = LoadedModel::load(&self.gpu, &source.model, &options, &mut uploading)?;
        let info = ModelInfo {
            name: source.name.clone(),
            folder: source.folder.clone(),
            recipe: model.recipe,
            context: model.context(),
            load_secs: start.elapsed().as_secs_f64(),
            memory: plan,
            measured_bytes: self.gpu.allocated_bytes().saturating_sub(before),
            defaults: model.generation.clone(),
            image_tokens: front_end.image_tokens(),
            takes_pictures: front_end.takes_pictures,
            takes_clips: front_end.takes_pictures && front_end.preprocessors.video().is_ok(),
            weights_bytes_per_step: model.text.bytes_per_step(),
            kv_bytes_per_token: model.kv_bytes_per_token(),
            adapter: self.gpu.adapter_name().to_owned(),
            has_timestamps: self.gpu.has_timestamps(),
            tokenizer: front_end.tokenizer.clone(),
            preprocessors: front_end.preprocessors,
            notes: source.notes,
        };
        let later = TextDecoder::later_kernel_keys(&self.gpu, model.recipe);
        let mut running = Running {
            pool: PagePool::new(model.cache.pages),
            prefixes: PrefixCache::default(),
            slots: Default::default(),
            steps: Steps::default(),
            ring: Recorder::record_ring(Sampler::records_bytes()),
            times_ring: Recorder::record_ring(0),
            front_end: Arc::new(front_end),
            model,
            next_id: 0,
            bytes_before: before,
            _warming: Warming::begin(&self.gpu, later),
        };
        if self.profiling {
            running.set_profiling(true)?;
        }
        self.running = Some(running);
        Ok(info)
    }

    /// Makes a prompt to be read, on a thread of its own.
    fn preview(&self, request: Request, events: Events<Result<PromptPreview>>, cancel: Cancel) {
        let doing = "making the prompt";
        let Some(running) = &self.running else {
            events.send(Err(Error::new(doing, "no model is loaded").help("open a model first")));
            return;
        };
        let (front_end, refused) = (running.front_end.clone(), events.clone());
        let made = std::thread::Builder::new().name("preview".into()).spawn(move || {
            let made = log::guarded(doing, || front_end.preview(&request, &|| cancel.is_cancelled()));
            events.send(made);
        });
        if let Err(error) = made {
            refused.send(Err(Error::new(doing, error)));
        }
    }

    /// Makes the prompt on a thread of its own.
    fn ask(&self, request: Request, events: Events<AnswerEvent>, cancel: Cancel) {
        let doing = "answering";
        let Some(running) = &self.running else {
            events.send(AnswerEvent::Failed(
                Error::new(doing, "no model is loaded").help("open a model folder first"),
            ));
            return;
        };
        let (front_end, own, generation) = (running.front_end.clone(), self.own.clone(), self.generation);
        let asked = Instant::now();
        let refused = events.clone();
        let made = std::thread::Builder::new().name("prompt".into()).spawn(move || {
            let prepared = request.sampling.check().and_then(|()| {
                log::guarded(doing, || front_end.prepare(&request, &|| cancel.is_cancelled()))
            });
            let waiting = Waiting { request, prepared, events, cancel, asked, generation };
            let _ = own.send(Command::Prepared(Box::new(waiting)));
        });
        if let Err(error) = made {
            refused.send(AnswerEvent::Failed(Error::new(doing, error)));
        }
    }

    /// Gives waiting requests a slot, in order; those in the background last.
    fn admit(&mut self) {
        let Some(running) = &mut self.running else {
            for waiting in self.waiting.drain(..) {
                let gone = Error::new("answering", "the model was unloaded").kind(ErrorKind::Cancelled);
                waiting.events.send(AnswerEvent::Failed(gone));
            }
            return;
        };
        while let Some(slot) = running.slots.iter().position(Option::is_none) {
            let in_front = self.waiting.iter().position(|waiting| !waiting.request.background);
            let Some(waiting) = self.waiting.remove(in_front.unwrap_or(0)) else { return };
            let events = waiting.events.clone();
            if waiting.generation != self.generation {
                events.send(AnswerEvent::Failed(
                    Error::new("answering", "the model was changed meanwhile")
                        .help("ask again")
                        .kind(ErrorKind::ModelChanged),
                ));
                continue;
            }
            if let Err(error) = running.begin(slot, waiting) {
                events.send(AnswerEvent::Failed(error));
            }
        }
    }
}

impl Running {
    fn is_idle(&self) -> bool {
        self.steps.is_empty() && self.slots.iter().all(Option::is_none)
    }

    /// Puts a request into a slot.
    fn begin(&mut self, slot: usize, waiting: Waiting) -> Result<()> {
        let Waiting { request, prepared, events, cancel, asked, .. } = waiting;
        let mut prepared: Prepared = prepared?;
        let prompt_tokens = prepared.prompt.input_ids.len();
        let given: &[u32] = match &request.inside {
            Some(step) => step.before(),
            // What an answer that is measured ends with has nothing after it.
            None => &prepared.reference[..prepared.reference.len().saturating_sub(1)],
        };
        let total = prompt_tokens + given.len();
        let context = self.model.context();
        events
            .send(AnswerEvent::Prepared { prompt_tokens, prompt_text: prepared.prompt.text.as_str().into() });
        if prompt_tokens == 0 {
            return Err(Error::new("answering", "the prompt is empty").help("type a question"));
        }
        if total >= context {
            let why =
                format!("the prompt has {total} tokens and the context holds {context}, the answer included");
            return Err(Error::new("answering", why)
                .help("load the model with a larger --context, give pictures fewer image tokens, or shorten the chat")
                .kind(ErrorKind::DoesNotFit));
        }
        // What the answer begins with counts as said, for the penalty on what was said before.
        let said = request.answer_start.as_deref().unwrap_or_default();
        let mut said = self.front_end.tokenizer.encode_plain(said)?;
        said.extend(&request.answer_ids);
        let mut detokenizer = Detokenizer::new(self.front_end.tokenizer.clone(), true);
        // A character that the given tokens began with goes on.
        request.answer_ids.iter().for_each(|&id| drop(detokenizer.push(id)));
        let tokens = [prepared.prompt.input_ids.as_slice(), given].concat();
        prepared.keys.extend(given.iter().map(|&id| u64::from(id)));
        let positions = (0..given.len()).map(|n| position_after(&prepared.prompt, n));
        let positions: Vec<[u32; 3]> = positions.collect();
        prepared.prompt.positions.thw.extend(positions);
        self.model.recorder.submit()?;
        let now = Instant::now();
        let max_tokens = request.max_tokens.unwrap_or(usize::MAX).max(1);
        self.model.sampler.begin(slot, &request.sampling, &prepared.prompt.input_ids, &said);
        // A penalty would have to count guesses that are not tokens yet.
        let penalties = request.sampling.has_penalties();
        let speculation = if penalties { Speculation::Off } else { request.speculation.clone() };
        self.next_id += 1;
        self.slots[slot] = Some(Box::new(Session {
            id: self.next_id,
            phase: Phase::Begin,
            keys: prepared.keys.clone(),
            pages: Vec::new(),
            tokens,
            settled: 0,
            pinned: Vec::new(),
            reused: 0,
            length: 0,
            generated: Vec::new(),
            in_flight: 0,
            max_tokens,
            guesser: Guesser::new(speculation),
            detokenizer,
            stops: StopMatcher::new(&request.stop),
            text: String::new(),
            asked,
            prefill_began: now,
            first_token: None,
            last_token: now,
            vision_secs: 0.0,
            scorer: None,
            request,
            prepared,
            _last_words: LastWords(events.clone()),
            events,
            cancel,
        }));
        Ok(())
    }

    /// One turn of the loop: a piece of prefill for one session, a step for those that decode, and
    /// whatever records have come.
    fn turn(&mut self) -> Result<()> {
        for slot in 0..MAX_BATCH {
            if self.slots[slot].as_ref().is_some_and(|s| s.cancel.is_cancelled()) {
                self.end(slot, StopReason::Cancelled);
            }
        }
        let mut worked = false;
        let prefilling = (0..MAX_BATCH)
            .filter(|&slot| self.slots[slot].as_ref().is_some_and(|s| s.phase != Phase::Decode))
            .min_by_key(|&slot| self.slots[slot].as_ref().map(|s| s.id));
        if let Some(slot) = prefilling {
            worked = true;
            self.steps.interrupt(self.slots[slot].as_ref().map(|session| session.id));
            loop {
                match self.advance(slot) {
                    // What gives the device nothing to do takes no turn.
                    Ok(false) => {}
                    Ok(true) => break,
                    Err(error) => {
                        self.fail_slot(slot, &error)?;
                        break;
                    }
                }
            }
        }
        worked |= self.step()?;
        self.model.recorder.poll()?;
        worked |= self.take_records()?;
        if !worked && !self.steps.is_empty() {
            // Nothing to submit: sleep until the oldest piece is done.
            self.model.recorder.wait_a_piece()?;
        }
        Ok(())
    }

    /// Pages for the session's first `tokens` tokens, and their entries in its page table.
    fn make_room(&mut self, slot: usize, session: &mut Session, tokens: usize) -> Result<()> {
        let have = session.pages.len();
        for _ in have..tokens.div_ceil(PAGE_TOKENS) {
            let Some(page) = self.prefixes.take_page(&mut self.pool) else {
                return Err(out_of_pages(self.model.context()));
            };
            session.pages.push(page);
        }
        if session.pages.len() > have {
            // Writes are queued before what is submitted next and after what was submitted before.
            self.model.recorder.submit()?;
            self.model.cache.write_page_table(slot, have, &session.pages[have..]);
        }
        Ok(())
    }

    /// Ends a session; its pages are kept for whoever begins the same way.
    fn end(&mut self, slot: usize, reason: StopReason) {
        if let Some(mut session) = self.slots[slot].take() {
            session.finish(reason);
            self.give_up(*session);
        }
    }

    fn give_up(&mut self, mut session: Session) {
        for key in &session.pinned {
            self.model.arena.unpin(key);
        }
        // What steps in flight wrote past the last accepted token belongs to nobody.
        let valid = session.length.min(session.keys.len());
        session.keys.truncate(valid);
        let settled = session.settled;
        self.prefixes.keep(&mut self.pool, session.keys, session.pages, settled);
    }

    /// Ends one session with an error. A device that is lost or has failed ends all: what failed may have been another's work.
    fn fail_slot(&mut self, slot: usize, error: &Error) -> Result<()> {
        if matches!(error.get_kind(), ErrorKind::DeviceLost | ErrorKind::DeviceFailed) {
            return Err(error.clone());
        }
        if let Some(mut session) = self.slots[slot].take() {
            if error.get_kind() == ErrorKind::Cancelled {
                session.finish(StopReason::Cancelled);
            } else {
                session.events.send(AnswerEvent::Failed(error.clone()));
            }
            // Part of a chunk may be missing in the cache; `length` counts only what was submitted whole.
            self.give_up(*session);
        }
        self.model.recorder.forget();
        Ok(())
    }

    /// Ends all sessions with an error, and forgets what the cache and the arena have of them and of those before: nobody knows
    /// since when the device has not done what it was told.
    fn fail_all(&mut self, error: &Error) {
        for session in self.slots.iter_mut().filter_map(Option::take) {
            session.events.send(AnswerEvent::Failed(error.clone()));
            for key in &session.pinned {
                self.model.arena.unpin(key);
            }
            for page in session.pages {
                self.pool.release(page);
            }
        }
        self.prefixes.clear(&mut self.pool);
        self.model.arena.clear();
        self.steps.clear(&self.model.gpu);
        self.model.recorder.forget();
    }
}

fn out_of_pages(context: usize) -> Error {
    Error::new("answering", format!("all {context} tokens of the KV cache are in use by other answers"))
        .help("wait for them, or load the model with a larger --context")
        .kind(ErrorKind::DoesNotFit)
}
