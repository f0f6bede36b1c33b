//! Time by kernel: with a profile each dispatch is a pass of its own between two timestamps, and each submission is waited for.
//! That slows things; the shares are what it is for.

use std::collections::BTreeMap;

use super::device::Gpu;
use crate::error::{Error, Result};

/// Dispatches in one submission, at most: two timestamps each.
pub(super) const MOST_DISPATCHES: usize = 1024;

/// What one kernel took in all.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct KernelTime {
    /// The kernel's variant and its workgroups.
    pub kernel: String,
    /// Dispatches.
    pub count: u64,
    /// Their time, milliseconds.
    pub ms: f64,
}

pub(super) struct Profile {
    pub(super) set: wgpu::QuerySet,
    pub(super) resolved: wgpu::Buffer,
    period_ns: f64,
    times: BTreeMap<String, (u64, f64)>,
}

impl Profile {
    pub(super) fn new(gpu: &Gpu) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        if !gpu.has_timestamps() {
            return Err(Error::new("timing kernels", "this adapter has no timestamps")
                .help("choose another adapter with --adapter"));
        }
        let queries = u32::try_from(2 * MOST_DISPATCHES).unwrap_or(2048);
        Ok(Self {
            set: gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("kernel times"),
                ty: wgpu::QueryType::Timestamp,
                count: queries,
            }),
            resolved: gpu.buffer(
                "kernel times",
                u64::from(queries) * 8,
                Usage::QUERY_RESOLVE | Usage::COPY_SRC,
            )?,
            period_ns: f64::from(gpu.queue().get_timestamp_period()),
            times: BTreeMap::new(),
        })
    }

    /// Reads what a submission of these kernels resolved.
    pub(super) fn read(&mut self, gpu: &Gpu, kernels: Vec<String>) -> Result<()> {
        let bytes = gpu.read_bytes(&self.resolved, 0, kernels.len() * 16)?;
        for (kernel, pair) in kernels.into_iter().zip(bytes.chunks_exact(16)) {
            let (begin, end) = pair.split_at(8);
            let ticks = |b: &[u8]| b.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
            let entry = self.times.entry(kernel).or_default();
            entry.0 += 1;
            entry.1 += ticks(end).saturating_sub(ticks(begin)) as f64 * self.period_ns / 1e6;
        }
        Ok(())
    }

    /// The sums so far, the longest first.
    pub(super) fn times(&self) -> Vec<KernelTime> {
        let mut all: Vec<_> = self
            .times
            .iter()
            .map(|(kernel, &(count, ms))| KernelTime { kernel: kernel.clone(), count, ms })
            .collect();
        all.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        all
    }
}
