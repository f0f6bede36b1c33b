//! One sequence, run step by step with everything in between laid open: what `trace` and the numerics
//! tests stand on. The engine proper, with its sessions and batches, is another room.

use super::kv_cache::PAGE_TOKENS;
use super::linear::MAX_BATCH;
use super::loaded::LoadedModel;
use super::sampler::{Sampler, Sampling, TokenRecord};
use super::text_decoder::{LayerTaps, RowInfo};
use crate::error::Result;

/// A single sequence in slot 0 of a model.
#[derive(Debug)]
pub struct Runner<'a> {
    /// The model it runs on.
    pub model: &'a mut LoadedModel,
    /// Tokens in the cache.
    pub length: usize,
}

impl<'a> Runner<'a> {
    /// Begins at an empty cache, pages in order.
    #[must_use]
    pub fn new(model: &'a mut LoadedModel) -> Self {
        let pages: Vec<u32> = (0..model.cache.pages).filter_map(|p| u32::try_from(p).ok()).collect();
        model.cache.write_page_table(0, 0, &pages);
        Self { model, length: 0 }
    }

    /// The rows of tokens (extension ids for pictures) at positions that follow what is in the cache.
    #[must_use]
    pub fn rows(&self, tokens: &[u32], positions: &[[u32; 3]]) -> Vec<RowInfo> {
        tokens
            .iter()
            .zip(positions)
            .zip(self.length..)
            .map(|((&token, &position), index)| RowInfo {
                token,
                position,
                index: u32::try_from(index).unwrap_or(u32::MAX),
                ..RowInfo::default()
            })
            .collect()
    }

    /// Prefills in chunks of at most `chunk` tokens; the taps see the last one.
    ///
    /// # Errors
    /// The device failed.
    pub fn prefill(
        &mut self,
        tokens: &[u32],
        positions: &[[u32; 3]],
        chunk: usize,
        taps: Option<&LayerTaps>,
    ) -> Result<usize> {
        let rows = self.rows(tokens, positions);
        let chunk = chunk.clamp(1, self.model.text.max_rows());
        let mut last = 0;
        for part in rows.chunks(chunk) {
            self.model.prefill(part, taps)?;
            last = part.len();
        }
        self.length += rows.len();
        Ok(last)
    }

    /// The logits of row `row` of the last pass, `[vocab]`.
    ///
    /// # Errors
    /// The device failed.
    pub fn logits(&mut self, row: usize) -> Result<Vec<f32>> {
        let vocab = self.model.config.text.vocab_size;
        self.model.text.head(&mut self.model.recorder, row, 1)?;
        self.model.recorder.submit()?;
        self.model.gpu.read_f32(self.model.text.logits(), 0, vocab)
    }

    /// Prefills and returns the logits of every position, `[tokens][vocab]`: a teacher-forced pass.
    ///
    /// # Errors
    /// The device failed.
    pub fn score(&mut self, tokens: &[u32], positions: &[[u32; 3]], chunk: usize) -> Result<Vec<Vec<f32>>> {
        let vocab = self.model.config.text.vocab_size;
        let mut all = Vec::with_capacity(tokens.len());
        let chunk = chunk.clamp(1, self.model.text.max_rows());
        let rows = self.rows(tokens, positions);
        for part in rows.chunks(chunk) {
            self.model.prefill(part, None)?;
            // The head's own norm overwrites nothing the layers still need: rows are taken eight at a time.
            for first in (0..part.len()).step_by(MAX_BATCH) {
                let count = MAX_BATCH.min(part.len() - first);
                self.model.text.head(&mut self.model.recorder, first, count)?;
                self.model.recorder.submit()?;
                let values = self.model.gpu.read_f32(self.model.text.logits(), 0, count * vocab)?;
                all.extend(values.chunks_exact(vocab).map(<[f32]>::to_vec));
            }
        }
        self.length += rows.len();
        Ok(all)
    }

    /// Chooses a token from the last logits and then `count - 1` more by decoding, as the engine does.
    /// `last_row` is the row of the last pass whose logits are meant.
    ///
    /// # Errors
    /// The device failed.
    pub fn generate(
        &mut self,
        last_row: usize,
        count: usize,
        sampling: &Sampling,
        prompt: &[u32],
    ) -> Result<Vec<TokenRecord>> {
        let mut records = Vec::with_capacity(count);
        let bytes = Sampler::records_bytes();
        let model = &mut *self.model;
        model.recorder.submit()?;
        model.sampler.begin(0, sampling, prompt, &[]);
        model.text.head(&mut model.recorder, last_row, 1)?;
        model.sampler.sample(&mut model.recorder, model.text.rows(), last_row, model.text.logits(), 1)?;
        for step in 0..count {
            if step > 0 {
                self.length += 1;
                model.decode_step(&[0], self.length)?;
            }
            model.recorder.submit()?;
            records.push(Sampler::parse(&model.gpu.read_bytes(model.sampler.records(), 0, bytes)?, 0)?);
        }
        Ok(records)
    }

    /// The most tokens that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.model.cache.pages * PAGE_TOKENS - self.length
    }
}
