//! Attention of many rows at once: which kernel it runs on.

use std::sync::Arc;

use crate::error::Result;
use crate::gpu::{Gpu, Kernel, KernelKey, MatrixKernel, Work};

/// The kernel for attention of many rows, ready for one cache format and head size.
#[derive(Clone, Debug)]
pub struct Flash {
    /// Compiled.
    pub kernel: Arc<Kernel>,
    /// Rows of one head that a workgroup takes.
    pub rows_in_workgroup: usize,
}

/// One dispatch of attention of many rows, for [`Flash::work`].
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Rows, of each head.
    pub rows: usize,
    /// Query heads.
    pub heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Bytes of the piece's keys and values, of all heads.
    pub kv_bytes: usize,
    /// Pairs of a row and a key of the piece that it sees.
    pub seen: usize,
    /// Are these the first keys of the rows?
    pub first: bool,
    /// Are these the last?
    pub last: bool,
}

impl Flash {
    /// What a dispatch does: a product with each key seen and one with its value, and the sums carried on from the piece before
    /// and to the one after.
    #[must_use]
    pub fn work(piece: Piece) -> Work {
        let elements = piece.rows * piece.heads * piece.head_dim;
        let state = 2 * piece.rows * piece.heads;
        let carried_in = if piece.first { 0 } else { elements + state };
        let carried_out = if piece.last { 0 } else { state };
        let bytes = piece.kv_bytes + 4 * (2 * elements + carried_in + carried_out);
        Work::new(4 * piece.seen * piece.heads * piece.head_dim, bytes)
    }

    /// Compiles what this device runs for keys and values stored as `kv` (f16, int8, f32 or dense).
    ///
    /// # Errors
    /// The kernel does not compile.
    pub fn new(gpu: &Gpu, kv: &'static str, head_dim: usize) -> Result<Self> {
        let (key, rows_in_workgroup) = Self::choices(gpu, kv, head_dim).swap_remove(0);
        Ok(Self { kernel: gpu.kernel(&key)?, rows_in_workgroup })
    }

    /// The key of what this device runs.
    #[must_use]
    pub fn key(gpu: &Gpu, kv: &'static str, head_dim: usize) -> KernelKey {
        Self::choices(gpu, kv, head_dim).swap_remove(0).0
    }

    /// All that this device can run, with the rows of a workgroup, what it does run first; they do the same.
    #[must_use]
    pub fn choices(gpu: &Gpu, kv: &'static str, head_dim: usize) -> Vec<(KernelKey, usize)> {
        let key = |file| KernelKey::new(file).with("KV", kv).with("HEAD_DIM", head_dim);
        let mut choices = vec![(key("attention_flash"), 32)];
        if gpu.fits_lanes() {
            let lanes = gpu.subgroup_lanes() as usize;
            let lanes_key = key("attention_lanes")
                .with("LANES", lanes)
                .with("OWN", (head_dim / 4).div_ceil(lanes))
                .with("WIDE", u8::from(gpu.has_int64()));
            // The tower's goes with its products, whose weights are f16.
            let tuning = gpu.tuning();
            let matrix = tuning.matrix_f16.filter(|_| kv == "dense").unwrap_or(tuning.matrix);
            let first = usize::from(matrix != MatrixKernel::Lanes);
            choices.insert(first, (lanes_key, 32 / lanes * 8));
        }
        choices
    }
}
