//! Decode steps: several in flight while each session's next row is known on the device only, or one at a time where guesses
//! are verified and the processor has to see the outcome first.

use std::collections::VecDeque;
use std::time::Instant;

use super::Running;
use crate::clock;
use crate::engine::api::{AnswerEvent, Disturbance, StopReason, TokenEvent};
use crate::engine::session::Session;
use crate::engine::speculation::PassTimes;
use crate::engine::stop::Matched;
use crate::error::Result;
use crate::gpu::{Gpu, Readback, StepTimes};
use crate::model::kv_cache::PAGE_TOKENS;
use crate::model::linear::MAX_BATCH;
use crate::model::sampler::{Sampler, TokenRecord};
use crate::model::text_decoder::RowInfo;

/// Steps submitted and not read back, at most.
const STEPS_IN_FLIGHT: usize = 3;

/// A session's rows in a step: its next token, then guesses at those after it.
struct Part {
    slot: usize,
    session: u64,
    guesses: Vec<u32>,
    grew_page: bool,
}

/// A piece of a prompt.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    pub first: usize,
    pub tokens: usize,
}

/// A piece of a prompt that gives no token, submitted and not timed yet.
struct TimedChunk {
    readback: Readback,
    slot: usize,
    session: u64,
    chunk: Chunk,
}

struct Step {
    readback: Readback,
    parts: Vec<Part>,
    began: Instant,
    /// Nothing but this step ran on the device since the one before it, as of this number of interruptions; `None`: it ends a
    /// prefill, and its time says nothing of steps.
    undisturbed: Option<u64>,
    /// What came between it and the step before.
    disturbance: Disturbance,
    /// Whose other work ran between.
    interrupted_by: Vec<Option<u64>>,
    /// Bytes it reads at least.
    bytes: u64,
    /// It ends a prefill, with this piece.
    ends: Option<Chunk>,
}

impl Step {
    fn rows(&self) -> usize {
        self.parts.iter().map(|part| 1 + part.guesses.len()).sum()
    }

    fn verifies(&self) -> bool {
        self.parts.iter().any(|part| !part.guesses.is_empty())
    }
}

/// What is submitted and not read back, and how long such things take.
#[derive(Default)]
pub(super) struct Steps {
    in_flight: VecDeque<Step>,
    chunks: VecDeque<TimedChunk>,
    times: PassTimes,
    last_arrival: Option<Instant>,
    /// Pieces of prefill and of the vision tower so far, and how many there were when the last step was submitted.
    interruptions: u64,
    interruptions_before: u64,
    /// Whose work that was since the last step; `None`: nobody's.
    interrupted_by: Vec<Option<u64>>,
    /// Kernels compiled before the last step.
    compiled_before: u64,
}

impl Steps {
    pub fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    pub fn clear(&mut self, gpu: &Gpu) {
        self.in_flight.drain(..).for_each(|step| step.readback.discard(gpu));
        self.chunks.drain(..).for_each(|chunk| chunk.readback.discard(gpu));
    }

    /// Other work goes to the device, of this session if of any: times measured around it say nothing.
    pub fn interrupt(&mut self, session: Option<u64>) {
        self.interruptions += 1;
        if !self.interrupted_by.contains(&session) {
            self.interrupted_by.push(session);
        }
    }

    /// What came between the last step and the next, which is submitted now.
    fn disturbance(&mut self, compiled: u64) -> Disturbance {
        let disturbance = Disturbance {
            compiled: std::mem::replace(&mut self.compiled_before, compiled) != compiled,
            grew_page: false,
            // Said of each session of the step.
            interrupted: false,
        };
        self.interruptions_before = self.interruptions;
        disturbance
    }

    /// A piece of a prompt that gives no token.
    pub fn timed(&mut self, readback: Readback, slot: usize, session: u64, chunk: Chunk) {
        self.chunks.push_back(TimedChunk { readback, slot, session, chunk });
    }

    /// A prefill's end, which gives its session's first token.
    pub fn prefilled(
        &mut self,
        readback: Readback,
        slot: usize,
        session: u64,
        (chunk, bytes): (Chunk, u64),
        compiled: u64,
    ) {
        let parts = vec![Part { slot, session, guesses: Vec::new(), grew_page: false }];
        let disturbance = self.disturbance(compiled);
        self.in_flight.push_back(Step {
            readback,
            parts,
            began: Instant::now(),
            undisturbed: None,
            disturbance,
            interrupted_by: Vec::new(),
            bytes,
            ends: Some(chunk),
        });
    }

    fn submitted(&mut self, readback: Readback, parts: Vec<Part>, began: Instant, bytes: u64, compiled: u64) {
        let undisturbed = Some(self.interruptions_before);
        let disturbance = self.disturbance(compiled);
        self.in_flight.push_back(Step {
            readback,
            parts,
            began,
            undisturbed,
            disturbance,
            interrupted_by: std::mem::take(&mut self.interrupted_by),
            bytes,
            ends: None,
        });
    }

    /// A step's records are there: how long did it take? From the arrival of those before it, or from its own beginning where
    /// that was later, which is when the device had nothing to do.
    fn arrived(&mut self, step: &Step) {
        let now = Instant::now();
        let since = self.last_arrival.map_or(step.began, |last| last.max(step.began));
        self.last_arrival = Some(now);
        if step.undisturbed == Some(self.interruptions) {
            self.times.measured(step.rows(), step.verifies(), (now - since).as_secs_f64());
        }
    }
}

/// What the next step is.
enum Next {
    /// A token for each session.
    Plain,
    /// None yet: what is in flight decides.
    Wait,
    /// With guesses, by slot.
    Verify([Vec<u32>; MAX_BATCH]),
}

impl Running {
    /// Submits a decode step for every session that wants one; false when none does, or it is not time.
    pub(super) fn step(&mut self) -> Result<bool> {
        if self.steps.in_flight.len() >= STEPS_IN_FLIGHT {
            return Ok(false);
        }
        let mut guesses = match self.next_step() {
            Next::Wait => return Ok(false),
            Next::Plain => Default::default(),
            Next::Verify(guesses) => guesses,
        };
        let began = Instant::now();
        let context = self.model.context();
        let (mut parts, mut rows) = (Vec::new(), Vec::new());
        let (mut longest, mut cached) = (0, 0);
        for (slot, guesses) in guesses.iter_mut().enumerate() {
            let Some(mut session) = self.slots[slot].take() else { continue };
            let ready = session.wants_step(context);
            let length = session.length + 1;
            let pages = session.pages.len();
            let no_room = ready && self.make_room(slot, &mut session, length).is_err();
            if no_room {
                // No page is left even after dropping what was kept: the answer ends here, not the others'.
                session.max_tokens = session.generated.len() + session.in_flight;
            } else if ready {
                session.length += 1;
                // Guesses take no page of their own: one that is not needed may be missed elsewhere.
                guesses.truncate(session.pages.len() * PAGE_TOKENS - session.length);
                let guesses = std::mem::take(guesses);
                rows.extend(rows_of(&session, slot, &guesses));
                session.in_flight += 1;
                longest = longest.max(session.length);
                cached += session.length + guesses.len();
                let grew_page = session.pages.len() > pages;
                parts.push(Part { slot, session: session.id, guesses, grew_page });
            }
            // With nothing in flight there is no record that would end it.
            let over = no_room && session.in_flight == 0;
            self.slots[slot] = Some(session);
            if over {
                self.end(slot, StopReason::ContextFull);
            }
        }
        if parts.is_empty() {
            return Ok(false);
        }
        if parts.iter().all(|part| part.guesses.is_empty()) {
            let slots: Vec<usize> = parts.iter().map(|part| part.slot).collect();
            self.model.decode_step(&slots, longest)?;
        } else {
            self.model.verify_step(&rows)?;
        }
        let readback = self.model.recorder.submit_and_read(&mut self.ring, self.model.sampler.records())?;
        let bytes = self.model.bytes_per_token(cached) as u64;
        self.steps.submitted(readback, parts, began, bytes, self.model.gpu.kernels_compiled());
        Ok(true)
    }

    /// Decides whether guesses are verified next. They are made from all of a session's tokens, so nothing may be in flight;
    /// waiting for that costs the device a moment without work, no more.
    fn next_step(&mut self) -> Next {
        if self.steps.in_flight.iter().any(Step::verifies) {
            // Only the outcome says what each session's next row is.
            return Next::Wait;
        }
        let context = self.model.context();
        let ends = &self.front_end.special.eos;
        let mut made: [Vec<u32>; MAX_BATCH] = Default::default();
        let (mut slots, mut wishes) = (Vec::new(), Vec::new());
        let mut always = false;
        for (slot, made) in made.iter_mut().enumerate() {
            let Some(session) = self.slots[slot].as_deref().filter(|s| s.wants_step(context)) else {
                continue;
            };
            let most = session.room_for_guesses(context).min(MAX_BATCH - 1);
            let ahead = session.in_flight;
            *made = session.guesser.guess(&session.keys, if most > 0 { ahead + most } else { 0 }, ends);
            slots.push(slot);
            wishes.push(session.guesser.wish(made.len().saturating_sub(ahead), ahead));
            always |= session.guesser.always();
        }
        let share = if always { deal(&slots, &made) } else { self.steps.times.share(&wishes) };
        let verify = share.iter().any(|&guesses| guesses > 0);
        let wait = verify && !self.steps.is_empty();
        for (&slot, &guesses) in slots.iter().zip(&share) {
            made[slot].truncate(guesses);
            if let Some(session) = self.slots[slot].as_deref_mut() {
                session.guesser.waits(wait && guesses > 0, verify);
            }
        }
        match (verify, wait) {
            (false, _) => Next::Plain,
            (true, true) => Next::Wait,
            (true, false) => Next::Verify(made),
        }
    }

    /// Hands the records that have come to their sessions; false when there are none.
    pub(super) fn take_records(&mut self) -> Result<bool> {
        let mut any = false;
        while let Some(step) = self.steps.in_flight.front() {
            let Some(bytes) = step.readback.try_read(&self.model.gpu)? else { break };
            if let Some(step) = self.steps.in_flight.pop_front() {
                self.steps.arrived(&step);
                self.records(bytes, &step)?;
                self.ring.recycle(step.readback);
                any = true;
            }
        }
        self.take_chunks()?;
        Ok(any)
    }

    /// Tells the times of pieces of prompts that have run.
    fn take_chunks(&mut self) -> Result<()> {
        while let Some(timed) = self.steps.chunks.front() {
            let Some(mut bytes) = timed.readback.try_read(&self.model.gpu)? else { break };
            if let Some(timed) = self.steps.chunks.pop_front() {
                let times = self.model.recorder.split_times(&mut bytes, &timed.readback);
                self.times_ring.recycle(timed.readback);
                self.tell_chunk(timed.slot, timed.session, timed.chunk, times);
            }
        }
        Ok(())
    }

    fn tell_chunk(&self, slot: usize, session: u64, Chunk { first, tokens }: Chunk, times: StepTimes) {
        if let Some(session) = self.slots[slot].as_deref().filter(|s| s.id == session) {
            session.events.send(AnswerEvent::Chunk { first, tokens, times });
        }
    }

    /// Hands a step's records to its sessions; those of sessions that have ended meanwhile are dropped.
    fn records(&mut self, mut bytes: Vec<u8>, step: &Step) -> Result<()> {
        let times = self.model.recorder.split_times(&mut bytes, &step.readback);
        if let Some(chunk) = step.ends {
            // Those before it have arrived, too.
            self.take_chunks()?;
            if let [part] = step.parts.as_slice() {
                self.tell_chunk(part.slot, part.session, chunk, times);
            }
        }
        let mut row = 0;
        for part in &step.parts {
            let first = row;
            row += 1 + part.guesses.len();
            // A row is right if all guesses up to its own token are: those rows' tokens are what plain decoding says.
            let mut said: Vec<Result<TokenRecord>> = Vec::new();
            for n in 0..=part.guesses.len() {
                let record = Sampler::parse(&bytes, first + n);
                let right = record.as_ref().ok().map(|r| r.id) == part.guesses.get(n).copied();
                said.push(record);
                if !right {
                    break;
                }
            }
            self.part_said(part, said, times, step)?;
        }
        Ok(())
    }

    /// What a session's rows of a step say, all but the last as guessed.
    fn part_said(
        &mut self,
        part: &Part,
        said: Vec<Result<TokenRecord>>,
        times: StepTimes,
        step: &Step,
    ) -> Result<()> {
        let (slot, count) = (part.slot, said.len());
        let is_here = |s: &Option<Box<Session>>| s.as_ref().is_some_and(|s| s.id == part.session);
        if let Some(session) = self.slots[slot].as_mut().filter(|s| s.id == part.session)
            && !part.guesses.is_empty()
        {
            session.guesser.verified(part.guesses.len(), count - 1);
        }
        for (n, record) in said.into_iter().enumerate() {
            if !is_here(&self.slots[slot]) {
                return Ok(());
            }
            if n > 0
                && let Some(session) = self.slots[slot].as_deref_mut()
            {
                session.length += 1;
                session.in_flight += 1;
            }
            match record {
                Ok(record) => {
                    let about = TokenEvent {
                        text: String::new(),
                        record,
                        times: divide(times, n, count),
                        decoded_ns: 0,
                        bytes: step.bytes / count.max(1) as u64,
                        disturbance: match n {
                            0 => Disturbance {
                                grew_page: part.grew_page,
                                interrupted: step.interrupted_by.iter().any(|by| *by != Some(part.session)),
                                ..step.disturbance
                            },
                            _ => Disturbance::default(),
                        },
                        ends_prefill: step.ends.is_some(),
                        batch: step.parts.len(),
                        drafted: n + 1 < count,
                        arrived: Instant::now(),
                    };
                    self.record(slot, about);
                }
                Err(error) => self.fail_slot(slot, &error)?,
            }
        }
        // Rows that the processor gave left the slot's state alone.
        if !part.guesses.is_empty()
            && let Some(session) = self.slots[slot].as_deref().filter(|s| s.id == part.session)
            && let Some(row) = session.next_row(slot)
        {
            self.model.sampler.set_state(slot, &row);
        }
        Ok(())
    }

    /// A session's next token, all but its text.
    fn record(&mut self, slot: usize, mut token: TokenEvent) {
        let context = self.model.context();
        let id = token.record.id;
        let is_end = self.front_end.special.eos.contains(&id);
        let Some(session) = self.slots[slot].as_deref_mut() else { return };
        session.in_flight -= 1;
        session.first_token.get_or_insert(token.arrived);
        session.last_token = token.arrived;
        if is_end && !session.request.ignore_end {
            self.end(slot, StopReason::End);
            return;
        }
        session.keys.push(u64::from(id));
        session.generated.push(id);
        session.guesser.saw(&session.keys);
        session.guesser.accepted += usize::from(token.drafted);
        let piece = session.detokenizer.push(id);
        let (text, stopped) = match session.stops.push(&piece) {
            Matched::Text(text) => (text, false),
            Matched::Stop(text) => (text, true),
        };
        session.say(&text);
        (token.text, token.decoded_ns) = (text, clock::now_ns());
        session.events.send(AnswerEvent::Token(Box::new(token)));
        let full = session.prepared.prompt.input_ids.len() + session.generated.len() >= context;
        if stopped {
            self.end(slot, StopReason::StopString);
        } else if session.generated.len() >= session.max_tokens {
            let asked = session.request.max_tokens.is_some_and(|most| session.generated.len() >= most);
            self.end(slot, if asked { StopReason::MaxTokens } else { StopReason::ContextFull });
        } else if full {
            self.end(slot, StopReason::ContextFull);
        }
    }
}

/// The rows of a session's next token and of the guesses after it.
fn rows_of(session: &Session, slot: usize, guesses: &[u32]) -> Vec<RowInfo> {
    let Some(first) = session.next_row(slot) else { return Vec::new() };
    let first = RowInfo { verify: u32::from(!guesses.is_empty()), ..first };
    let guessed = (1..).zip(guesses).map(|(n, &token)| RowInfo {
        token,
        position: first.position.map(|at| at + n),
        index: first.index + n,
        draws: first.draws + n,
        ..first
    });
    std::iter::once(first).chain(guessed).collect()
}

/// Rows for guesses whatever they are worth, dealt in turn.
fn deal(slots: &[usize], made: &[Vec<u32>; MAX_BATCH]) -> Vec<usize> {
    let mut share = vec![0; slots.len()];
    let mut left = MAX_BATCH - slots.len();
    let mut dealt = true;
    while dealt {
        dealt = false;
        for (share, &slot) in share.iter_mut().zip(slots) {
            if left > 0 && *share < made[slot].len() {
                *share += 1;
                left -= 1;
                dealt = true;
            }
        }
    }
    share
}

/// The `n`-th of `count` equal parts of a step's time on the device or, where that is not known, from submitting to reading.
fn divide(times: StepTimes, n: usize, count: usize) -> StepTimes {
    let part = |begin: u64, end: u64| {
        let at = |n: usize| begin + end.saturating_sub(begin) * n as u64 / count.max(1) as u64;
        (at(n), if n + 1 == count { end } else { at(n + 1) })
    };
    if times.end_ns == 0 {
        let (submitted_ns, read_ns) = part(times.submitted_ns, times.read_ns);
        return StepTimes { submitted_ns, read_ns, ..times };
    }
    let (begin_ns, end_ns) = part(times.begin_ns, times.end_ns);
    // The sampler ran once, at the end of the pass.
    let mark_ns = if n + 1 == count && times.mark_ns >= begin_ns { times.mark_ns } else { 0 };
    StepTimes { begin_ns, mark_ns, end_ns, ..times }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_verify_passes_tokens_add_up_to_the_passes() {
        let times = StepTimes { begin_ns: 1000, mark_ns: 1990, end_ns: 2001, ..StepTimes::default() };
        let parts: Vec<StepTimes> = (0..7).map(|n| divide(times, n, 7)).collect();
        assert_eq!((parts[0].begin_ns, parts[6].end_ns), (1000, 2001));
        assert!(parts.windows(2).all(|w| w[0].end_ns == w[1].begin_ns));
        assert_eq!(divide(times, 0, 1), times);
        assert_eq!(divide(StepTimes::default(), 2, 3), StepTimes::default());
    }

    #[test]
    fn rows_are_dealt_in_turn_until_eight_are_in_the_pass() {
        let mut made: [Vec<u32>; MAX_BATCH] = Default::default();
        made[1] = vec![0; 7];
        made[4] = vec![0; 1];
        made[6] = vec![0; 7];
        assert_eq!(deal(&[1, 4, 6], &made), [2, 1, 2]);
        assert_eq!(deal(&[1], &made), [7]);
        assert_eq!(deal(&[0, 1, 2, 3, 4, 5, 6, 7], &made), [0; 8]);
    }
}
