//! How likely a given answer is: log-probabilities of tokens that are known, from the logits of the rows before them.

use std::sync::Arc;

use super::linear::word;
use super::stages;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Kernel, KernelKey, Recorder, Work};

/// The tokens of one answer and their log-probabilities, on the device.
#[derive(Debug)]
pub struct Scorer {
    gpu: Gpu,
    kernel: Arc<Kernel>,
    vocab: usize,
    targets: wgpu::Buffer,
    logprobs: wgpu::Buffer,
    count: usize,
}

impl Scorer {
    /// Room for the answer `ids`.
    ///
    /// # Errors
    /// An id is none of the vocabulary's, the kernel does not compile, or memory is short.
    pub fn new(gpu: &Gpu, vocab: usize, ids: &[u32]) -> Result<Self> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
            return Err(Error::new("measuring an answer", format!("token {id} is beyond the vocabulary")));
        }
        Ok(Self {
            gpu: gpu.clone(),
            kernel: gpu.kernel(&KernelKey::new("token_logprob"))?,
            vocab,
            targets: gpu.storage_buffer_with("an answer's tokens", bytemuck::cast_slice(ids))?,
            logprobs: gpu.storage_buffer("an answer's log-probabilities", ids.len() * 4)?,
            count: ids.len(),
        })
    }

    /// Records: rows `0..rows` of `logits` are those before the answer's tokens `first..`.
    ///
    /// # Errors
    /// The device failed.
    pub fn score(
        &self,
        recorder: &mut Recorder,
        logits: &wgpu::Buffer,
        first: usize,
        rows: usize,
    ) -> Result<()> {
        let params = [word(self.vocab), word(first)];
        let buffers = [logits, &self.targets, &self.logprobs];
        recorder.at(None, stages::SCORING);
        let all = rows * self.vocab;
        let work = Work::new(3 * all, 4 * all).costing((10 * all) as f64);
        recorder.dispatch(&self.kernel, &params, &buffers, [word(rows), 1, 1], work)
    }

    /// All log-probabilities, once what was recorded has been submitted.
    ///
    /// # Errors
    /// The device failed, or a logit was no number.
    pub fn read(&self) -> Result<Vec<f32>> {
        let logprobs = self.gpu.read_f32(&self.logprobs, 0, self.count)?;
        if logprobs.iter().any(|p| !p.is_finite()) {
            return Err(Error::new("measuring an answer", "the logits are not numbers (NaN)").help(
                "the weights are damaged or the driver miscomputes: verify the model, or try --adapter",
            ));
        }
        Ok(logprobs)
    }
}

impl Drop for Scorer {
    fn drop(&mut self) {
        self.gpu.uncount_bytes(self.targets.size() + self.logprobs.size());
    }
}
