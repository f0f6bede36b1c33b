//! Rows of activations made narrow, in memory of their own, before kernels multiply them.

use std::sync::Arc;

use super::word;
use crate::error::Result;
use crate::gpu::{Gpu, Kernel, KernelKey, Recorder, Work};

/// Bytes of an element, either way.
const ELEMENT_BYTES: usize = 2;

/// What rows become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Narrow {
    /// f16, each row divided by a power of two of its own.
    F16,
    /// Two digits of int8, each 32 with a scale.
    Int8,
}

impl Narrow {
    pub(super) fn key(self) -> KernelKey {
        let to = match self {
            Self::F16 => "f16",
            Self::Int8 => "int8",
        };
        KernelKey::new("narrow_rows").with("TO", to)
    }

    fn scales(self, rows: usize, cols: usize) -> usize {
        match self {
            Self::F16 => rows,
            Self::Int8 => rows * cols.div_ceil(32),
        }
    }
}

/// Rows as they were made last, and their scales. Made with the first product that wants them, and again for
/// one of more columns.
#[derive(Debug)]
pub(super) struct Narrowed {
    gpu: Gpu,
    to: Narrow,
    kernel: Arc<Kernel>,
    /// `[rows, cols]` f16 or pairs of int8.
    pub(super) rows: wgpu::Buffer,
    /// f32, `[rows]` or `[rows, cols / 32]`.
    pub(super) scales: wgpu::Buffer,
}

impl Narrowed {
    /// Room for `rows` rows of `cols` elements.
    pub(super) fn new(gpu: &Gpu, to: Narrow, rows: usize, cols: usize) -> Result<Self> {
        let kernel = gpu.kernel(&to.key())?;
        let scales = gpu.storage_buffer("scales of narrow rows", to.scales(rows, cols) * 4)?;
        let rows = gpu
            .storage_buffer("narrow rows", rows * cols * ELEMENT_BYTES)
            .inspect_err(|_| gpu.uncount_bytes(scales.size()))?;
        Ok(Self { gpu: gpu.clone(), to, kernel, rows, scales })
    }

    pub(super) fn holds(&self, to: Narrow, rows: usize, cols: usize) -> bool {
        self.to == to
            && self.rows.size() >= (rows * cols * ELEMENT_BYTES) as u64
            && self.scales.size() >= (to.scales(rows, cols) * 4) as u64
    }

    /// Records that rows `first…first + rows` of `x`, `[.., cols]` f32, are made narrow.
    pub(super) fn record(
        &self,
        recorder: &mut Recorder,
        x: &wgpu::Buffer,
        first: usize,
        rows: usize,
        cols: usize,
    ) -> Result<()> {
        let bytes = rows * cols * (4 + ELEMENT_BYTES) + self.to.scales(rows, cols) * 4;
        recorder.dispatch(
            &self.kernel,
            &[word(cols), word(first)],
            &[x, &self.rows, &self.scales],
            [word(rows), 1, 1],
            Work::new(4 * rows * cols, bytes),
        )
    }

    pub(super) fn free(&self) {
        self.gpu.uncount_bytes(self.rows.size() + self.scales.size());
    }
}
