//! The device's ceilings: how fast it reads, and how fast it multiplies and adds.

use std::time::Instant;

use super::bandwidth::measure_read_bandwidth;
use super::device::Gpu;
use super::kernels::KernelKey;
use super::profile::Ceilings;
use super::recorder::{Pacing, Recorder};
use super::work::Work;
use crate::error::Result;

/// Operations of one invocation in one round of `flops_peak.wgsl`.
const OPERATIONS: f64 = 2.0 * 16.0 * 12.0;
const LANES: f64 = 64.0;
/// A run is long enough once it takes this long, seconds: starting it counts no more.
const LONG_ENOUGH_SECS: f64 = 0.02;
/// The most workgroups and rounds of one dispatch, for devices that no number of them keeps busy for so long.
const MOST: (u32, u32) = (8192, 4096);
const RUNS: usize = 5;

/// Multiply-adds in f32 a second, two operations each, in GFLOP/s (1e9): the best of a few runs of tens of milliseconds.
///
/// # Errors
/// Memory is short or the device failed.
pub fn measure_peak_flops(gpu: &Gpu) -> Result<f64> {
    let kernel = gpu.kernel(&KernelKey::new("flops_peak"))?;
    let sink = gpu.storage_buffer("multiply-add sink", 256)?;
    let mut recorder = Recorder::new(gpu, Pacing::HEADLESS)?;
    let mut run = |groups: u32, rounds: u32| -> Result<(f64, f64)> {
        let params = [rounds, 0.5f32.to_bits(), 0.75f32.to_bits()];
        let began = Instant::now();
        recorder.dispatch(&kernel, &params, &[&sink], [groups, 1, 1], Work::UNCOUNTED)?;
        recorder.finish()?;
        let secs = began.elapsed().as_secs_f64();
        Ok((secs, f64::from(groups) * f64::from(rounds) * LANES * OPERATIONS))
    };
    // First as many workgroups as fill any device, then more rounds. The first run compiles.
    let (mut groups, mut rounds) = (256, 16);
    run(groups, rounds)?;
    let mut best = 0f64;
    let mut long_runs = 0;
    while long_runs < RUNS {
        let (secs, operations) = run(groups, rounds)?;
        best = best.max(operations / secs / 1e9);
        if secs >= LONG_ENOUGH_SECS || (groups, rounds) == MOST {
            long_runs += 1;
        } else if groups < MOST.0 {
            groups *= 2;
        } else {
            rounds = (rounds * 2).min(MOST.1);
        }
    }
    recorder.free();
    gpu.uncount_bytes(sink.size());
    Ok(best)
}

impl Gpu {
    /// The device's ceilings, measured the first time they are asked for (a second or two on a slow device). What else
    /// the device does meanwhile makes them lower.
    ///
    /// # Errors
    /// Memory is short or the device failed; the next call tries again.
    pub fn ceilings(&self) -> Result<Ceilings> {
        if let Some(known) = self.known_ceilings() {
            return Ok(known);
        }
        let ceilings = Ceilings {
            read_gb_s: measure_read_bandwidth(self)?,
            gflop_s: measure_peak_flops(self)?,
            how: "reading: a kernel that reads a buffer of up to 256 MiB and keeps nothing; computing: a kernel of independent f32 \
                  multiply-adds in registers; each the best of a few runs"
                .to_owned(),
        };
        self.keep_ceilings(&ceilings);
        Ok(ceilings)
    }
}
