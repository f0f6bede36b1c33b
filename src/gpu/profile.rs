//! Time by kernel: with a profile each dispatch is a pass of its own between two timestamps, and each submission is waited for.
//! That slows things ([`METHOD`] says how); the shares are what it is for.

mod report;
mod tally;

pub use report::{Bound, Ceilings, Group, GroupBy, KernelRow, METHOD, PartTime, ProfileReport, Totals};
pub(super) use tally::Timed;

use super::device::Gpu;
use crate::error::Result;
use tally::Tally;

/// Dispatches in one submission, at most: two timestamps each.
pub(super) const MOST_DISPATCHES: usize = 1024;
const QUERIES: u32 = 2 * MOST_DISPATCHES as u32;

pub(super) struct Profile {
    pub(super) set: wgpu::QuerySet,
    /// `[dispatches]` (begin, end), 64 bits each.
    pub(super) resolved: wgpu::Buffer,
    tick_ns: f64,
    tally: Tally,
    /// Copies since the last dispatch.
    pub(super) copies: u64,
}

impl Profile {
    pub(super) fn new(gpu: &Gpu) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        gpu.check_timestamps()?;
        Ok(Self {
            set: gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("kernel times"),
                ty: wgpu::QueryType::Timestamp,
                count: QUERIES,
            }),
            resolved: gpu.buffer(
                "kernel times",
                u64::from(QUERIES) * 8,
                Usage::QUERY_RESOLVE | Usage::COPY_SRC,
            )?,
            tick_ns: f64::from(gpu.queue().get_timestamp_period()),
            tally: Tally::default(),
            copies: 0,
        })
    }

    /// Takes its buffer off the device's count, before it is dropped.
    pub(super) fn free(&self, gpu: &Gpu) {
        gpu.uncount_bytes(self.resolved.size());
    }

    /// Reads what a submission of these dispatches resolved; waits for it.
    pub(super) fn read(&mut self, gpu: &Gpu, dispatches: Vec<Timed>) -> Result<()> {
        if dispatches.is_empty() {
            return Ok(());
        }
        let bytes = gpu.read_bytes(&self.resolved, 0, dispatches.len() * 16)?;
        let ticks = |b: &[u8]| b.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        let pairs = bytes.chunks_exact(16).map(|pair| (ticks(&pair[..8]), ticks(&pair[8..])));
        self.tally.take(dispatches, pairs);
        Ok(())
    }

    /// What there is so far, without the ceilings.
    pub(super) fn report(&self, gpu: &Gpu) -> ProfileReport {
        let (rows, parts) = self.tally.sums(self.tick_ns);
        ProfileReport {
            adapter: gpu.adapter_name().to_owned(),
            driver: gpu.summary().driver.clone(),
            method: METHOD.to_owned(),
            rows,
            parts,
            ceilings: None,
        }
    }
}
