//! The device's own read bandwidth, measured: the floor every decode step is compared with.

use std::time::Instant;

use super::device::Gpu;
use super::kernels::KernelKey;
use super::recorder::{Pacing, Recorder};
use super::work::Work;
use crate::error::Result;

/// Bytes read per second by a kernel that does nothing but read, in GB/s (1e9), the best of a few runs.
///
/// # Errors
/// Memory is short or the device failed.
pub fn measure_read_bandwidth(gpu: &Gpu) -> Result<f64> {
    let bytes = (256usize << 20).min(gpu.max_binding_bytes());
    let mut best = read_bandwidth(gpu, bytes, false)?;
    if gpu.has_int64() {
        best = best.max(read_bandwidth(gpu, bytes, true)?);
    }
    Ok(best)
}

/// With loads of 16 bytes, or of 8 in one integer, which is faster where a load is an instruction a lane and a word.
fn read_bandwidth(gpu: &Gpu, bytes: usize, wide: bool) -> Result<f64> {
    let kernel = gpu.kernel(&KernelKey::new("read_bandwidth").with("WIDE", u8::from(wide)))?;
    let source = gpu.storage_buffer("bandwidth source", bytes)?;
    let sink = gpu.storage_buffer("bandwidth sink", 4096)?;
    gpu.fill(&source, 0x3f80_0001);
    let mut recorder = Recorder::new(gpu, Pacing::HEADLESS)?;
    let vectors = u32::try_from(bytes / 16).unwrap_or(u32::MAX);
    // Each invocation reads 16 vectors of 16 bytes.
    let workgroups = vectors.div_ceil(256 * 16);
    let (x, y) = (workgroups.min(4096), workgroups.div_ceil(4096));
    let mut best = 0f64;
    for _ in 0..6 {
        recorder.finish()?;
        let start = Instant::now();
        let repeats = 4;
        for _ in 0..repeats {
            recorder.dispatch(
                &kernel,
                &[vectors, x],
                &[&source, &sink],
                [x, y, 1],
                Work::new(0, bytes).costing(1.0),
            )?;
        }
        recorder.finish()?;
        best = best.max(bytes as f64 * f64::from(repeats) / start.elapsed().as_secs_f64() / 1e9);
    }
    recorder.free();
    gpu.uncount_bytes(source.size() + sink.size());
    Ok(best)
}
