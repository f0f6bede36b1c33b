//! Prompts: what the cache has of them is taken over, their pictures are encoded, the rest is prefilled chunk by chunk; an answer
//! that is given is measured on the way.

use super::steps::Chunk;
use super::{Running, out_of_pages};
use crate::engine::api::AnswerEvent;
use crate::engine::pages::{Cached, Wish};
use crate::engine::session::{Phase, Session};
use crate::error::{Error, Result};
use crate::model::linear::MAX_BATCH;
use crate::model::loaded::LoadedModel;
use crate::model::prompt::VisionSpan;
use crate::model::scorer::Scorer;
use crate::model::text_decoder::RowInfo;
use crate::model::vision_tower::Frame;
use std::time::Instant;

impl Running {
    /// The next picture or the next chunk of a session's prompt; false: it took no work of the device, and more is to come.
    pub(super) fn advance(&mut self, slot: usize) -> Result<bool> {
        let Some(mut session) = self.slots[slot].take() else { return Ok(true) };
        let result = match session.phase {
            Phase::Begin => self.take_over(slot, &mut session).map(|()| false),
            Phase::Pictures { next_span } => self.next_picture(&mut session, next_span),
            Phase::Prefill { next } if next == session.prefill_tokens() => {
                self.look_inside(slot, &mut session).map(|()| true)
            }
            Phase::Prefill { next } => self.next_chunk(slot, &mut session, next).map(|()| true),
            Phase::Decode | Phase::Told => Ok(true),
        };
        let told = session.phase == Phase::Told;
        self.slots[slot] = Some(session);
        if told && let Some(session) = self.slots[slot].take() {
            self.give_up(*session);
        }
        result
    }

    /// Takes over what the cache has of a session's prompt, from those that have ended and from those before it: prompts are
    /// prefilled one after the other, so what began together shares what it has in common, too.
    fn take_over(&mut self, slot: usize, session: &mut Session) -> Result<()> {
        // At least the prompt's last token must run, for its logits.
        let looks_inside = session.request.inside.is_some();
        let most =
            if looks_inside { session.tokens.len() } else { session.prepared.prompt.input_ids.len() } - 1;
        let wish = Wish { most, settled_only: session.request.reproducible && !looks_inside };
        let running: Vec<Cached<'_>> = self.slots.iter().flatten().map(|s| s.cached()).collect();
        let reuse = self.prefixes.reuse(&mut self.pool, &running, &session.keys, wish);
        session.pages = reuse.pages;
        if let Some(shared) = reuse.partial {
            match self.prefixes.take_page(&mut self.pool) {
                Some(own) => {
                    self.model.cache.copy_page(&mut self.model.recorder, shared, own);
                    session.pages.push(own);
                    self.pool.release(shared);
                }
                None => {
                    self.pool.release(shared);
                    return Err(out_of_pages(self.model.context()));
                }
            }
        }
        self.model.recorder.submit()?;
        self.model.cache.write_page_table(slot, 0, &session.pages);
        (session.reused, session.length, session.settled) = (reuse.tokens, reuse.tokens, reuse.settled);
        session.phase = Phase::Pictures { next_span: 0 };
        Ok(())
    }

    /// The next picture, encoded if it must be; was it?
    fn next_picture(&mut self, session: &mut Session, next_span: usize) -> Result<bool> {
        let Some(&span) = session.prepared.prompt.vision.get(next_span) else {
            if session.vision_secs > 0.0 {
                // From here on the time is prefill's.
                self.model.recorder.finish()?;
            }
            session.prefill_began = Instant::now();
            session.phase = Phase::Prefill { next: session.reused };
            let total = session.tokens.len();
            session.events.send(AnswerEvent::Prefill { done: session.reused, total, reused: session.reused });
            return Ok(false);
        };
        // All temporal patches of a clip are one entry of the arena, and one report.
        let spans: Vec<_> = session.prepared.prompt.vision[next_span..]
            .iter()
            .copied()
            .take_while(|s| (s.kind, s.index) == (span.kind, span.index))
            .collect();
        let index = session.prepared.prompt.vision[..next_span]
            .iter()
            .map(|s| (s.kind, s.index))
            .collect::<std::collections::HashSet<_>>()
            .len();
        session.phase = Phase::Pictures { next_span: next_span + spans.len() };
        let mut report = session.prepared.report(&span, index);
        let needed = spans.last().is_some_and(|s| s.start + s.len > session.reused);
        if needed {
            let key = *session.prepared.picture(&span).key();
            let first_slot = match self.model.arena.find(&key) {
                Some(first_slot) => first_slot,
                None => {
                    let start = Instant::now();
                    let first_slot = self.encode(session, &span, index)?;
                    let secs = start.elapsed().as_secs_f64();
                    session.vision_secs += secs;
                    report.vision_secs = Some(secs);
                    first_slot
                }
            };
            self.model.arena.pin(&key);
            session.pinned.push(key);
            let vocab = self.model.config.text.vocab_size;
            for span in &spans {
                for (row, token) in
                    (span.first_row()..).zip(&mut session.tokens[span.start..span.start + span.len])
                {
                    *token = u32::try_from(vocab + first_slot + row).unwrap_or(u32::MAX);
                }
            }
        }
        let encoded = report.vision_secs.is_some();
        session.events.send(AnswerEvent::Picture(report));
        Ok(encoded)
    }

    /// Runs the tower over all frames of a picture or clip; the first slot of its rows.
    fn encode(&mut self, session: &Session, span: &VisionSpan, index: usize) -> Result<usize> {
        let picture = session.prepared.picture(span);
        let grid = picture.grid();
        let (gh, gw) = (grid.h as usize, grid.w as usize);
        let frames = grid.t as usize;
        let model = &mut self.model;
        let Some(vision) = &mut model.vision else {
            return Err(LoadedModel::no_vision("encoding a picture"));
        };
        let key = *picture.key();
        let first_slot = model.arena.allocate(&mut model.recorder, key, picture.num_tokens())?;
        for t in 0..frames {
            let patches = grid.frame_patches();
            let frame = Frame {
                gh,
                gw,
                pixels: &|rows| picture.pixel_values(t * patches + rows.start..t * patches + rows.end),
            };
            let slot = first_slot + t * picture.tokens_per_frame();
            let mut progress = |done: usize, total: usize| {
                session.events.send(AnswerEvent::Vision {
                    index,
                    done: t * total + done,
                    total: frames * total,
                });
                if session.cancel.is_cancelled() {
                    Err(Error::cancelled("encoding a picture"))
                } else {
                    Ok(())
                }
            };
            let encoded = vision
                .encode(&mut model.recorder, &model.arena, &frame, slot, &mut progress)
                .and_then(|()| model.recorder.submit_and_time(&mut self.times_ring))
                .and_then(|readback| {
                    model.recorder.finish()?;
                    let mut bytes = readback.wait(&model.gpu)?;
                    let times = model.recorder.split_times(&mut bytes, &readback);
                    self.times_ring.recycle(readback);
                    Ok(times)
                });
            match encoded {
                Ok(times) => session.events.send(AnswerEvent::Encoded { index, times }),
                Err(error) => {
                    model.arena.remove(&key);
                    return Err(error);
                }
            }
        }
        Ok(first_slot)
    }

    fn next_chunk(&mut self, slot: usize, session: &mut Session, next: usize) -> Result<()> {
        let total = session.tokens.len();
        let end = session.prefill_tokens().min(next + self.model.text.max_rows());
        self.make_room(slot, session, end)?;
        let rows: Vec<RowInfo> = (next..end)
            .map(|i| RowInfo {
                token: session.tokens[i],
                position: session.prepared.prompt.positions.thw[i],
                index: u32::try_from(i).unwrap_or(u32::MAX),
                slot: u32::try_from(slot).unwrap_or(0),
                ..RowInfo::default()
            })
            .collect();
        let model = &mut self.model;
        // A pass of a few rows runs the kernels of steps, whose sums are rounded otherwise.
        let reproducible = session.request.reproducible || rows.len() > MAX_BATCH;
        if reproducible {
            model.prefill_reproducibly(&rows)?;
        } else {
            model.prefill(&rows, None)?;
        }
        session.length = end;
        if reproducible && session.settled == next {
            session.settled = end;
        }
        session.phase = Phase::Prefill { next: end };
        let chunk = Chunk { first: next, tokens: end - next };
        if session.is_scoring() {
            self.score(session, next, end)?;
        }
        let model = &mut self.model;
        if end == total && !session.is_scoring() {
            let last = rows.len() - 1;
            model.text.head(&mut model.recorder, last, 1)?;
            model.recorder.mark();
            model.sampler.sample(&mut model.recorder, model.text.rows(), last, model.text.logits(), 1)?;
            let readback = model.recorder.submit_and_read(&mut self.ring, model.sampler.records())?;
            let bytes = model.bytes_per_token(end) as u64;
            let compiled = model.gpu.kernels_compiled();
            self.steps.prefilled(readback, slot, session.id, (chunk, bytes), compiled);
            session.in_flight += 1;
            session.phase = Phase::Decode;
        } else {
            let readback = model.recorder.submit_and_time(&mut self.times_ring)?;
            self.steps.timed(readback, slot, session.id, chunk);
        }
        session.events.send(AnswerEvent::Prefill { done: end, total, reused: session.reused });
        if session.is_scoring() && end == total {
            let logprobs = match &session.scorer {
                Some(scorer) => scorer.read()?,
                None => Vec::new(),
            };
            session.scored(logprobs);
        }
        Ok(())
    }

    /// Records, behind the pass of tokens `next..end`, the log-probabilities of those of the given answer that follow them.
    fn score(&mut self, session: &mut Session, next: usize, end: usize) -> Result<()> {
        let model = &mut self.model;
        let vocab = model.config.text.vocab_size;
        // The row before the answer's first token.
        let before = session.prepared.prompt.input_ids.len() - 1;
        if session.scorer.is_none() {
            session.scorer = Some(Scorer::new(&model.gpu, vocab, &session.prepared.reference)?);
        }
        let Some(scorer) = &session.scorer else { return Ok(()) };
        for first in (next.max(before)..end).step_by(MAX_BATCH) {
            let rows = MAX_BATCH.min(end - first);
            model.text.head(&mut model.recorder, first - next, rows)?;
            scorer.score(&mut model.recorder, model.text.logits(), first - before, rows)?;
        }
        Ok(())
    }
}
