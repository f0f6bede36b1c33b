//! The step that chose one token of an answer, run once more with taps: its attention, and the head on every layer's output.

use super::Running;
use crate::engine::api::AnswerEvent;
use crate::engine::inside::{PicturePlace, Replayed};
use crate::engine::session::{Phase, Session};
use crate::error::{Error, Result};
use crate::model::linear::MAX_BATCH;
use crate::model::text_decoder::RowInfo;
use std::sync::Arc;

const DOING: &str = "looking inside an answer";

impl Running {
    /// Runs a session's last row, before which all is in the cache, and lays it open, which ends the session. The step is a
    /// decode step of that row alone; no sampler takes part in it, and other sessions' steps go before it and after it.
    pub(super) fn look_inside(&mut self, slot: usize, session: &mut Session) -> Result<()> {
        let Some(step) = session.request.inside.clone() else { return Ok(()) };
        let length = session.tokens.len();
        let (Some(&token), Some(&position)) =
            (session.tokens.last(), session.prepared.prompt.positions.thw.last())
        else {
            return Ok(());
        };
        self.make_room(slot, session, length)?;
        let model = &mut self.model;
        let taps = model.text.make_step_taps(model.cache.format, length)?;
        let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let row =
            RowInfo { token, position, index: word(length - 1), slot: word(slot), ..RowInfo::default() };
        model.tapped_step(row, &taps)?;
        let (layers, vocab) = (model.config.text.num_layers, model.config.text.vocab_size);
        let mut logits = Vec::with_capacity(layers);
        for first in (0..layers).step_by(MAX_BATCH) {
            if session.cancel.is_cancelled() {
                return Err(Error::cancelled(DOING));
            }
            let count = MAX_BATCH.min(layers - first);
            model.text.head_of_layers(&mut model.recorder, &taps, first, count)?;
            model.recorder.submit()?;
            let values = model.gpu.read_f32(model.text.logits(), 0, count * vocab)?;
            logits.extend(values.chunks_exact(vocab).map(<[f32]>::to_vec));
        }
        session.length = length;
        let attention = match &taps.attention {
            Some(tap) => tap.read()?,
            None => Vec::new(),
        };
        drop(taps);
        // Its bind groups keep the taps' buffers alive.
        model.recorder.forget();
        let replayed = Replayed {
            step,
            heads: model.config.text.num_heads,
            input_ids: session.prepared.prompt.input_ids.clone(),
            reused_tokens: session.reused,
            pictures: PicturePlace::all(&session.prepared),
            attention,
            logits,
        };
        let (front_end, events) = (self.front_end.clone(), session.events.clone());
        std::thread::Builder::new()
            .name("inside".into())
            .spawn(move || {
                events.send(match replayed.finish(&front_end) {
                    Ok(inside) => AnswerEvent::Inside(Arc::new(inside)),
                    Err(error) => AnswerEvent::Failed(error),
                });
            })
            .map_err(|e| Error::new(DOING, e))?;
        session.phase = Phase::Told;
        Ok(())
    }
}
