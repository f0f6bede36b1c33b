//! What one row attends to in every layer. Attention itself keeps no scores: they are computed once more, from the row's
//! turned query and the keys as they are stored, for whoever looks into that step.

use std::sync::Arc;

use super::config::TextConfig;
use super::kv_cache::{KvCache, KvFormat, PAGE_TOKENS};
use super::linear::word;
use super::memory::Room;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Gpu, Kernel, KernelKey, Recorder, Work};

const DOING: &str = "looking into a token's attention";

/// Room on the device for the attention of one row, and the kernels that fill it.
#[derive(Debug)]
pub struct AttentionTap {
    gpu: Gpu,
    scores: Arc<Kernel>,
    softmax: Arc<Kernel>,
    /// Per layer, `[heads, length]` f32. Apart, so that no layer is bound by what all of them take.
    layers: Vec<wgpu::Buffer>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    length: usize,
}

impl AttentionTap {
    /// Room for the row at the end of a sequence of `length` tokens, whose keys are stored as `kv`.
    ///
    /// # Errors
    /// A kernel does not compile, or memory is short ([`ErrorKind::DoesNotFit`]).
    pub fn new(gpu: &Gpu, text: &TextConfig, kv: KvFormat, length: usize) -> Result<Self> {
        let bytes = text.num_heads * length * 4;
        if let Some(room) = Room::of(gpu) {
            check_room((text.num_layers * bytes) as u64, gpu.allocated_bytes(), &room)?;
        }
        let scores = KernelKey::new("attention_scores").with("KV", kv.name()).with("HEAD_DIM", text.head_dim);
        let mut tap = Self {
            gpu: gpu.clone(),
            scores: gpu.kernel(&scores)?,
            softmax: gpu.kernel(&KernelKey::new("softmax_rows"))?,
            layers: Vec::with_capacity(text.num_layers),
            heads: text.num_heads,
            kv_heads: text.num_kv_heads,
            head_dim: text.head_dim,
            length,
        };
        for layer in 0..text.num_layers {
            // What is not had is not left counted: the tap's own end counts its buffers off.
            tap.layers.push(gpu.storage_buffer(&format!("a row's attention in layer {layer}"), bytes)?);
        }
        Ok(tap)
    }

    /// Records the attention of the pass's first row in a layer: `q` has its turned query, and its key is in the cache.
    /// `rows` are the pass's [`super::text_decoder::RowInfo`].
    ///
    /// # Errors
    /// The device failed.
    pub fn record(
        &self,
        recorder: &mut Recorder,
        cache: &KvCache,
        layer: usize,
        q: &wgpu::Buffer,
        rows: &wgpu::Buffer,
    ) -> Result<()> {
        let Some(to) = self.layers.get(layer) else { return Ok(()) };
        let scale = (1.0 / (self.head_dim as f64).sqrt()) as f32;
        let params =
            [word(self.heads), word(self.kv_heads), cache.max_pages(), word(self.length), scale.to_bits()];
        let buffers = [q, &cache.k[layer], rows, &cache.page_table, to];
        let groups = [word(self.length.div_ceil(PAGE_TOKENS)), word(self.heads), 1];
        let scores = self.heads * self.length;
        // Without the keys: a look is no part of a profiled step.
        let work = Work::new(2 * scores * self.head_dim, scores * 4);
        let cost = work.flops;
        recorder.dispatch(&self.scores, &params, &buffers, groups, work.costing(cost))?;
        let work = Work::new(5 * scores, 8 * scores).costing((40 * scores) as f64);
        recorder.dispatch(&self.softmax, &[word(self.length)], &[to], [word(self.heads), 1, 1], work)
    }

    /// All of it, once what was recorded has been submitted: `[layers, heads, length]`, each row's sum 1.
    ///
    /// # Errors
    /// The device failed, or a weight is no number.
    pub fn read(&self) -> Result<Vec<f32>> {
        let count = self.heads * self.length;
        let mut all = Vec::with_capacity(self.layers.len() * count);
        for layer in &self.layers {
            all.extend(self.gpu.read_f32(layer, 0, count)?);
        }
        if all.iter().any(|weight| !weight.is_finite()) {
            return Err(Error::new(DOING, "it is not numbers (NaN)").help(
                "the weights are damaged or the driver miscomputes: verify the model, or try --adapter",
            ));
        }
        Ok(all)
    }
}

impl Drop for AttentionTap {
    fn drop(&mut self) {
        self.gpu.uncount_bytes(self.layers.iter().map(wgpu::Buffer::size).sum());
    }
}

/// Is there room for `bytes` more, where `taken` are taken already?
fn check_room(bytes: u64, taken: u64, room: &Room) -> Result<()> {
    // Of the machine's own memory, what is taken is no more available.
    let left = if room.is_shared { room.bytes } else { room.bytes.saturating_sub(taken) };
    if bytes <= left {
        return Ok(());
    }
    let megabytes = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
    let why = format!("it takes {} of memory and {} are left", megabytes(bytes), megabytes(left));
    Err(Error::new(DOING, why)
        .help("look into a shorter conversation, or load the model with a smaller --context")
        .kind(ErrorKind::DoesNotFit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_beside_what_is_taken_is_refused_with_the_numbers() {
        let room = Room::limited(1_000_000_000);
        check_room(58_000_000, 942_000_000, &room).expect("it fits to the byte");
        let error = check_room(58_000_001, 942_000_000, &room).expect_err("a byte too much");
        assert_eq!(error.get_kind(), ErrorKind::DoesNotFit);
        assert!(error.to_string().contains("58 MB of memory and 58 MB are left"), "{error}");
        let shared = Room { is_shared: true, ..room };
        check_room(58_000_001, 942_000_000, &shared).expect("what is available is not what is taken");
    }
}
