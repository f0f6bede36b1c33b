//! The paged KV cache on the device: per layer one buffer of keys and one of values, in pages of 64 tokens
//! that any session's page table may name. Which page belongs to whom is the engine's business.

use std::fmt;
use std::str::FromStr;

use super::config::TextConfig;
use super::linear::{MAX_BATCH, word};
use super::recipe::Recipe;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};

/// Tokens in a page.
pub const PAGE_TOKENS: usize = 64;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvFormat {
    /// IEEE half.
    F16,
    /// Symmetric int8 with an f32 scale for each token and KV head, keys and values apart.
    Int8,
    /// IEEE single, for the `f32` recipe.
    F32,
}

impl KvFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F16, Self::Int8, Self::F32];

    /// Where nobody chose: f16, and with weights in f32 as exactly as they are.
    #[must_use]
    pub fn default_for(recipe: Recipe) -> Self {
        if recipe == Recipe::F32 { Self::F32 } else { Self::F16 }
    }

    /// The word for it, on the command line and in the kernels' defines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::F32 => "f32",
        }
    }

    /// Bytes of a token's keys, or of its values, in one KV head of `head_dim` elements: in int8 with their scale.
    pub(super) fn head_bytes(self, head_dim: usize) -> usize {
        match self {
            Self::F16 => 2 * head_dim,
            Self::Int8 => head_dim + 4,
            Self::F32 => 4 * head_dim,
        }
    }

    /// Bytes of one page in one layer's keys.
    fn page_bytes(self, config: &TextConfig) -> usize {
        PAGE_TOKENS * config.num_kv_heads * self.head_bytes(config.head_dim)
    }
}

impl fmt::Display for KvFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for KvFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or_else(|| {
            let why = format!("keys and values cannot be stored as {text}");
            Error::new("reading the form of the KV cache", why).help("choose f16, int8 or f32")
        })
    }
}

/// Keys and values of all layers, and the page tables of the sessions in a step.
#[derive(Debug)]
pub struct KvCache {
    gpu: Gpu,
    /// Per layer, `[pages, kv_heads, 64, head_dim]`; in int8 each head's part of a page ends with its 64 scales in f32.
    pub k: Vec<wgpu::Buffer>,
    /// Per layer, as `k`.
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
        2 * config.num_layers * format.page_bytes(config)
    }

    /// Bytes beside the pages: their tables, and one page on its way.
    #[must_use]
    pub fn table_bytes(config: &TextConfig, format: KvFormat, pages: usize) -> usize {
        MAX_BATCH * pages * 4 + format.page_bytes(config)
    }

    /// A cache of `pages` pages.
    ///
    /// # Errors
    /// A layer's pages do not fit into one binding, or memory is short.
    pub fn new(gpu: &Gpu, config: &TextConfig, format: KvFormat, pages: usize) -> Result<Self> {
        let page_bytes = format.page_bytes(config);
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

    /// Copies a whole page in every layer, in int8 with its scales: a fork that ends in the middle of a page writes into its own copy.
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
