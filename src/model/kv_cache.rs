//! The paged KV cache on the device: per layer one buffer of keys and one of values, in pages of 64 tokens
//! that any session's page table may name. Which page belongs to whom is the engine's business.

use super::config::TextConfig;
use super::linear::{MAX_BATCH, word};
use crate::error::Result;
use crate::gpu::{Gpu, Recorder};

/// Tokens in a page.
pub const PAGE_TOKENS: usize = 64;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvFormat {
    /// IEEE half.
    F16,
    /// IEEE single, for the `f32` recipe.
    F32,
}

impl KvFormat {
    /// The word for it in the kernels' defines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// Keys and values of all layers, and the page tables of the sessions in a step.
#[derive(Debug)]
pub struct KvCache {
    gpu: Gpu,
    /// Per layer, `[pages, kv_heads, 64, head_dim]`.
    pub k: Vec<wgpu::Buffer>,
    /// Per layer, `[pages, kv_heads, 64, head_dim]`.
    pub v: Vec<wgpu::Buffer>,
    /// `[8, pages]`: each slot's pages in order.
    pub page_table: wgpu::Buffer,
    /// Pages in the cache, which is also the longest page table.
    pub pages: usize,
    /// Storage.
    pub format: KvFormat,
    page_bytes: usize,
    /// One page, on its way from one place of a buffer to another.
    passing: wgpu::Buffer,
}

impl KvCache {
    /// Bytes of one page in all layers, keys and values.
    #[must_use]
    pub fn bytes_per_page(config: &TextConfig, format: KvFormat) -> usize {
        2 * config.num_layers * PAGE_TOKENS * config.num_kv_heads * config.head_dim * format.bytes()
    }

    /// Bytes beside the pages: their tables, and one page on its way.
    #[must_use]
    pub fn table_bytes(config: &TextConfig, format: KvFormat, pages: usize) -> usize {
        MAX_BATCH * pages * 4 + PAGE_TOKENS * config.num_kv_heads * config.head_dim * format.bytes()
    }

    /// A cache of `pages` pages.
    ///
    /// # Errors
    /// A layer's pages do not fit into one binding, or memory is short.
    pub fn new(gpu: &Gpu, config: &TextConfig, format: KvFormat, pages: usize) -> Result<Self> {
        let page_bytes = PAGE_TOKENS * config.num_kv_heads * config.head_dim * format.bytes();
        let layer = |what: &str, i: usize| {
            gpu.storage_buffer(
                &format!("the KV cache ({what} of layer {i}, {} tokens)", pages * PAGE_TOKENS),
                pages * page_bytes,
            )
        };
        Ok(Self {
            gpu: gpu.clone(),
            k: (0..config.num_layers).map(|i| layer("keys", i)).collect::<Result<_>>()?,
            v: (0..config.num_layers).map(|i| layer("values", i)).collect::<Result<_>>()?,
            page_table: gpu.storage_buffer("page tables", MAX_BATCH * pages * 4)?,
            pages,
            format,
            page_bytes,
            passing: gpu.storage_buffer("a passing page of the KV cache", page_bytes)?,
        })
    }

    /// Bytes of one page in one layer's keys.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Writes entries `first..` of a slot's page table.
    pub fn write_page_table(&self, slot: usize, first: usize, pages: &[u32]) {
        self.gpu.write(
            &self.page_table,
            ((slot * self.pages + first) * 4) as u64,
            bytemuck::cast_slice(pages),
        );
    }

    /// Copies a whole page in every layer: a fork that ends in the middle of a page writes into its own copy.
    pub fn copy_page(&self, recorder: &mut Recorder, from: u32, to: u32) {
        let bytes = self.page_bytes as u64;
        for buffer in self.k.iter().chain(&self.v) {
            // A buffer cannot be copied onto itself.
            recorder.copy(buffer, u64::from(from) * bytes, &self.passing, 0, bytes);
            recorder.copy(&self.passing, 0, buffer, u64::from(to) * bytes, bytes);
        }
    }

    /// Fills keys and values with a word; tests poison them with NaN.
    pub fn fill(&self, value: u32) {
        for buffer in self.k.iter().chain(&self.v) {
            self.gpu.fill(buffer, value);
        }
    }

    /// `max_pages` as the kernels' parameter.
    #[must_use]
    pub fn max_pages(&self) -> u32 {
        word(self.pages)
    }
}
