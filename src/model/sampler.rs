//! Sampling on the device: settings, per-slot state and the record of each chosen token.

use std::sync::Arc;

use super::config::GenerationDefaults;
use super::linear::{MAX_BATCH, word};
use super::stages;
use super::text_decoder::RowInfo;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Kernel, KernelKey, Recorder, Work};

/// How the next token is chosen. The order is Hugging Face's: repetition penalty, presence penalty,
/// temperature, top-k, top-p, min-p.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sampling {
    /// 0: greedy.
    pub temperature: f32,
    /// Keep the smallest set of tokens whose probability reaches this; 1: all.
    pub top_p: f32,
    /// Keep the k most likely; 0: all.
    pub top_k: u32,
    /// Keep tokens at least this likely against the most likely; 0: all.
    pub min_p: f32,
    /// Taken off the logits of tokens already generated.
    pub presence_penalty: f32,
    /// Divides (or multiplies, below zero) the logits of tokens already in the prompt or the answer; 1: off.
    pub repetition_penalty: f32,
    /// The draws depend on this and nothing else.
    pub seed: u64,
}

impl Sampling {
    /// Always the most likely token.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        presence_penalty: 0.0,
        repetition_penalty: 1.0,
        seed: 0,
    };

    /// As the model's authors suggest; without a seed and penalties of theirs.
    #[must_use]
    pub fn of_model(defaults: &GenerationDefaults) -> Self {
        Self {
            temperature: if defaults.do_sample { defaults.temperature } else { 0.0 },
            top_p: defaults.top_p,
            top_k: defaults.top_k,
            repetition_penalty: defaults.repetition_penalty,
            ..Self::GREEDY
        }
    }

    /// # Errors
    /// A setting is out of its range; the message names it.
    pub fn check(&self) -> Result<()> {
        let bad = |name: &str, value: f32, range: &str| {
            Err(Error::new("reading the sampling settings", format!("{name} is {value} and must be {range}")))
        };
        if !(0.0..=100.0).contains(&self.temperature) {
            return bad("temperature", self.temperature, "between 0 and 100");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad("top-p", self.top_p, "above 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return bad("min-p", self.min_p, "between 0 and 1");
        }
        if !(-100.0..=100.0).contains(&self.presence_penalty) {
            return bad("presence penalty", self.presence_penalty, "between -100 and 100");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty <= 100.0) {
            return bad("repetition penalty", self.repetition_penalty, "above 0 and at most 100");
        }
        Ok(())
    }

    /// Does the choice depend on which tokens came before?
    #[expect(clippy::float_cmp, reason = "off means exactly these values, in the kernel too")]
    pub(crate) fn has_penalties(&self) -> bool {
        self.presence_penalty != 0.0 || self.repetition_penalty != 1.0
    }
}

/// Alternatives recorded with each token.
pub const ALTERNATIVES: usize = 20;
const RECORD_WORDS: usize = 48;
/// Words of one slot's settings.
const SETTINGS_WORDS: usize = 8;

/// What a step left behind for one session.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRecord {
    /// The chosen token.
    pub id: u32,
    /// Its log-probability in the unmodified distribution.
    pub logprob: f32,
    /// Place in the sequence of the row that produced it.
    pub index: u32,
    /// How many tokens were more likely.
    pub rank: u32,
    /// Entropy of the distribution, nats.
    pub entropy: f32,
    /// The most likely tokens with their log-probabilities.
    pub alternatives: Vec<(u32, f32)>,
}

/// The sampler's kernel and state, a row for each slot.
#[derive(Debug)]
pub struct Sampler {
    gpu: Gpu,
    vocab: usize,
    sample: Arc<Kernel>,
    begin_step: Arc<Kernel>,
    settings: wgpu::Buffer,
    counts: wgpu::Buffer,
    states: wgpu::Buffer,
    records: wgpu::Buffer,
}

impl Sampler {
    /// State for eight slots.
    ///
    /// # Errors
    /// A kernel does not compile, or memory is short.
    pub fn new(gpu: &Gpu, vocab: usize) -> Result<Self> {
        Ok(Self {
            gpu: gpu.clone(),
            vocab,
            sample: gpu.kernel(&KernelKey::new("sample"))?,
            begin_step: gpu.kernel(&KernelKey::new("begin_step"))?,
            settings: gpu.storage_buffer("sampling settings", MAX_BATCH * SETTINGS_WORDS * 4)?,
            counts: gpu.storage_buffer("token counts", MAX_BATCH * vocab * 4)?,
            states: gpu.storage_buffer("session states", MAX_BATCH * size_of::<RowInfo>())?,
            records: gpu.storage_buffer("token records", MAX_BATCH * RECORD_WORDS * 4)?,
        })
    }

    /// Bytes of the state.
    #[must_use]
    pub fn state_bytes(vocab: usize) -> usize {
        MAX_BATCH * (SETTINGS_WORDS * 4 + vocab * 4 + size_of::<RowInfo>() + RECORD_WORDS * 4)
    }

    /// Sets up a slot for an answer: its settings and, for penalties, which tokens its prompt and the part of
    /// the answer already there hold. Queued after all that is submitted.
    pub fn begin(&self, slot: usize, sampling: &Sampling, prompt: &[u32], generated: &[u32]) {
        let words: [u32; SETTINGS_WORDS] = [
            sampling.temperature.to_bits(),
            sampling.top_p.to_bits(),
            sampling.min_p.to_bits(),
            sampling.repetition_penalty.to_bits(),
            sampling.presence_penalty.to_bits(),
            sampling.top_k,
            (sampling.seed & 0xffff_ffff) as u32,
            (sampling.seed >> 32) as u32,
        ];
        self.gpu.write(&self.settings, (slot * SETTINGS_WORDS * 4) as u64, bytemuck::cast_slice(&words));
        if sampling.has_penalties() {
            let mut counts = vec![0u32; self.vocab];
            for &id in prompt {
                if let Some(count) = counts.get_mut(id as usize) {
                    *count |= 0x8000_0000;
                }
            }
            for &id in generated {
                if let Some(count) = counts.get_mut(id as usize) {
                    *count += 1;
                }
            }
            self.gpu.write(&self.counts, (slot * self.vocab * 4) as u64, bytemuck::cast_slice(&counts));
        }
    }

    /// Sets a slot's next row, for a session that goes on without a prefill.
    pub fn set_state(&self, slot: usize, row: &RowInfo) {
        self.gpu.write(&self.states, (slot * size_of::<RowInfo>()) as u64, bytemuck::bytes_of(row));
    }

    /// Records: `rows[b] = states[active[b]]`.
    ///
    /// # Errors
    /// The device failed.
    pub fn begin_step(&self, recorder: &mut Recorder, rows: &wgpu::Buffer, active: &[usize]) -> Result<()> {
        let mut params = [0u32; MAX_BATCH];
        for (to, &slot) in params.iter_mut().zip(active) {
            *to = word(slot);
        }
        recorder.at(None, stages::STEP_STATE);
        let work = Work::new(0, 2 * active.len() * size_of::<RowInfo>()).costing(1.0);
        recorder.dispatch(&self.begin_step, &params, &[&self.states, rows], [word(active.len()), 1, 1], work)
    }

    /// Records the choice for `batch` rows of logits, which came from rows `first_row..` of `rows`.
    ///
    /// # Errors
    /// The device failed.
    pub fn sample(
        &self,
        recorder: &mut Recorder,
        rows: &wgpu::Buffer,
        first_row: usize,
        logits: &wgpu::Buffer,
        batch: usize,
    ) -> Result<()> {
        let params = [word(self.vocab), word(first_row)];
        let buffers = [rows, logits, &self.settings, &self.counts, &self.states, &self.records];
        recorder.at(None, stages::SAMPLING);
        let all = batch * self.vocab;
        // At least the maximum, the sum of exponentials and the entropy, in one reading; filters and penalties come on top.
        let work = Work::new(5 * all, 4 * all).costing((40 * all) as f64);
        recorder.dispatch(&self.sample, &params, &buffers, [word(batch), 1, 1], work)
    }

    /// `[8]` records of the last [`Sampler::sample`].
    #[must_use]
    pub fn records(&self) -> &wgpu::Buffer {
        &self.records
    }

    /// Bytes of all records.
    #[must_use]
    pub fn records_bytes() -> usize {
        MAX_BATCH * RECORD_WORDS * 4
    }

    /// Reads record `b` out of bytes copied from [`Sampler::records`].
    ///
    /// # Errors
    /// The logits held a NaN, or the bytes are too few.
    pub fn parse(bytes: &[u8], b: usize) -> Result<TokenRecord> {
        let doing = "reading the model's answer";
        let words: Vec<u32> = bytes
            .chunks_exact(4)
            .skip(b * RECORD_WORDS)
            .take(RECORD_WORDS)
            .map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]))
            .collect();
        if words.len() < RECORD_WORDS {
            return Err(Error::new(doing, "the device returned too few bytes"));
        }
        if words[2] != 0 {
            return Err(Error::new(doing, "the logits are not numbers (NaN)").help(
                "the weights are damaged or the driver miscomputes: verify the model, or try --adapter",
            ));
        }
        let alternatives = (0..ALTERNATIVES)
            .map(|i| (words[8 + i], f32::from_bits(words[8 + ALTERNATIVES + i])))
            .filter(|&(id, _)| id != u32::MAX)
            .collect();
        Ok(TokenRecord {
            id: words[0],
            logprob: f32::from_bits(words[1]),
            index: words[3],
            rank: words[4],
            entropy: f32::from_bits(words[5]),
            alternatives,
        })
    }
}
