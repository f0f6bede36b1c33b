//! What a profile says: time, work and bytes by kernel and place, beside the device's ceilings (the roofline model: Williams,
//! Waterman and Patterson, 2009).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// How times are taken, and how that distorts them.
pub const METHOD: &str = "Each kernel is a pass of its own between two timestamps, the only ones that every system offers \
    (Metal times no single dispatches), and each submission is waited for. That slows things: a pass costs a few microseconds at \
    its ends and caches may be emptied between passes, so short kernels look longer than they are; kernels that would run \
    beside each other run one after the other; and the device idles between submissions. Trust a kernel's share more than the sum.";

/// The device's measured limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Bytes read from memory, GB/s (1e9).
    pub read_gb_s: f64,
    /// Multiply-adds in f32, two operations each, GFLOP/s (1e9). No kernel of ours multiplies in any other type: int8 and
    /// f16 weights are made f32 first.
    pub gflop_s: f64,
    /// How they were measured.
    pub how: String,
}

/// Sums over dispatches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Dispatches.
    pub count: u64,
    /// Of those, such whose timestamps were missing or reversed; nothing of them is in the sums below.
    pub untimed: u64,
    /// Time on the device, milliseconds.
    pub ms: f64,
    /// Floating-point operations ([`crate::gpu::Work::flops`]).
    pub flops: f64,
    /// Bytes that have to be moved ([`crate::gpu::Work::bytes`]).
    pub bytes: f64,
}

/// Which ceiling is lower for the work there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Reading and writing.
    Memory,
    /// Multiplying and adding.
    Compute,
}

impl Bound {
    /// Its word in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Compute => "compute",
        }
    }
}

impl Totals {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.untimed += other.untimed;
        self.ms += other.ms;
        self.flops += other.flops;
        self.bytes += other.bytes;
    }

    /// Microseconds of one dispatch, on average.
    #[must_use]
    pub fn us_each(&self) -> f64 {
        let timed = self.count.saturating_sub(self.untimed);
        if timed == 0 { 0.0 } else { self.ms * 1e3 / timed as f64 }
    }

    /// Bytes a second, GB/s; 0 without time.
    #[must_use]
    pub fn gb_s(&self) -> f64 {
        per_ms(self.bytes, self.ms)
    }

    /// Operations a second, GFLOP/s; 0 without time.
    #[must_use]
    pub fn gflop_s(&self) -> f64 {
        per_ms(self.flops, self.ms)
    }

    /// Operations for each byte moved; infinite where nothing is.
    #[must_use]
    pub fn intensity(&self) -> f64 {
        self.flops / self.bytes
    }

    /// The milliseconds this work would take at the ceilings: what is longer of moving and computing.
    #[must_use]
    pub fn least_ms(&self, ceilings: &Ceilings) -> f64 {
        let (memory, compute) = self.least(ceilings);
        memory.max(compute)
    }

    /// The share of what the ceilings allow, 0 to 1: of `min(gflop_s, intensity * read_gb_s)`, which for work without
    /// operations is the share of the bandwidth. It passes 1 where data comes out of caches, which are faster than memory.
    #[must_use]
    pub fn roofline_share(&self, ceilings: &Ceilings) -> f64 {
        if self.ms > 0.0 { self.least_ms(ceilings) / self.ms } else { 0.0 }
    }

    /// The ceiling that this work meets first.
    #[must_use]
    pub fn bound(&self, ceilings: &Ceilings) -> Bound {
        let (memory, compute) = self.least(ceilings);
        if compute > memory { Bound::Compute } else { Bound::Memory }
    }

    /// Milliseconds of moving and of computing at the ceilings.
    fn least(&self, ceilings: &Ceilings) -> (f64, f64) {
        (self.bytes / (ceilings.read_gb_s * 1e6), self.flops / (ceilings.gflop_s * 1e6))
    }
}

/// Billions a second.
fn per_ms(amount: f64, ms: f64) -> f64 {
    if ms > 0.0 { amount / ms / 1e6 } else { 0.0 }
}

/// One kernel at one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelRow {
    /// Vision, prefill, decode.
    pub part: String,
    /// The layer; `None`: outside of layers.
    pub layer: Option<u32>,
    /// What is computed.
    pub kind: String,
    /// The kernel's file and variant.
    pub kernel: String,
    /// Its workgroups.
    pub workgroups: [u32; 3],
    /// Its sums.
    #[serde(flatten)]
    pub totals: Totals,
}

/// The steps of a part: chunks of prompts, steps of decoding, frames of pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartTime {
    /// Vision, prefill, decode.
    pub part: String,
    /// Steps.
    pub steps: u64,
    /// From each step's first begin to its last end, milliseconds, added up.
    pub whole_ms: f64,
    /// Of that, in kernels.
    pub kernels_ms: f64,
    /// Of that, between them: `whole_ms - kernels_ms`. Below zero where kernels ran beside each other.
    pub gaps_ms: f64,
    /// Of the gaps, between two submissions of a step: the processor reads the times and records what follows. The
    /// rest are the ends of passes, and copies.
    pub between_submissions_ms: f64,
    /// How long kernels ran beside each other: taken off the gaps.
    pub overlap_ms: f64,
    /// Copies between kernels; their time is in the gaps.
    pub copies: u64,
    /// Dispatches whose timestamps were missing or reversed; their time is in the gaps.
    pub untimed: u64,
}

/// What rows are put together by; those of different parts never are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupBy {
    /// The kernel's variant and what it computes.
    #[default]
    Kernel,
    /// What is computed.
    Kind,
    /// The layer.
    Layer,
}

/// Rows put together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Their part.
    pub part: String,
    /// Their layer, where they are grouped by it; `None`: outside of layers.
    pub layer: Option<u32>,
    /// What they compute; empty where they are grouped by layer.
    pub kind: String,
    /// Their kernel, where they are grouped by it; otherwise empty.
    pub kernel: String,
    /// Their sums.
    #[serde(flatten)]
    pub totals: Totals,
}

/// A profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileReport {
    /// The adapter's name.
    pub adapter: String,
    /// Its driver and version.
    pub driver: String,
    /// [`METHOD`].
    pub method: String,
    /// Each kernel at each place, the longest first.
    pub rows: Vec<KernelRow>,
    /// The parts, in the order they first ran.
    pub parts: Vec<PartTime>,
    /// The device's limits, where they were measured.
    pub ceilings: Option<Ceilings>,
}

impl ProfileReport {
    /// The rows of a part put together, the longest first, layers in their order.
    #[must_use]
    pub fn groups(&self, part: &str, by: GroupBy) -> Vec<Group> {
        let mut places: HashMap<(Option<u32>, &str, &str), usize> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        for row in self.rows.iter().filter(|row| row.part == part) {
            let key = match by {
                GroupBy::Kernel => (None, row.kind.as_str(), row.kernel.as_str()),
                GroupBy::Kind => (None, row.kind.as_str(), ""),
                GroupBy::Layer => (row.layer, "", ""),
            };
            let place = *places.entry(key).or_insert_with(|| {
                groups.push(Group {
                    part: part.to_owned(),
                    layer: key.0,
                    kind: key.1.to_owned(),
                    kernel: key.2.to_owned(),
                    totals: Totals::default(),
                });
                groups.len() - 1
            });
            groups[place].totals.add(&row.totals);
        }
        match by {
            // Outside of layers last.
            GroupBy::Layer => groups.sort_by_key(|group| group.layer.unwrap_or(u32::MAX)),
            _ => groups.sort_by(|a, b| b.totals.ms.total_cmp(&a.totals.ms)),
        }
        groups
    }

    /// The sums of a part.
    #[must_use]
    pub fn totals(&self, part: &str) -> Totals {
        let mut all = Totals::default();
        self.rows.iter().filter(|row| row.part == part).for_each(|row| all.add(&row.totals));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CEILINGS: Ceilings = Ceilings { read_gb_s: 10.0, gflop_s: 100.0, how: String::new() };

    fn totals(ms: f64, flops: f64, bytes: f64) -> Totals {
        Totals { count: 2, untimed: 0, ms, flops, bytes }
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 * b.abs().max(1.0)
    }

    #[test]
    fn rates_and_shares_follow_from_work_and_time() {
        // 1e6 operations and 1e6 bytes in 1 ms: intensity 1, so the roof is 10 GFLOP/s, of which 1 is reached.
        let memory = totals(1.0, 1e6, 1e6);
        assert!(close(memory.gb_s(), 1.0) && close(memory.gflop_s(), 1.0) && close(memory.intensity(), 1.0));
        assert!(close(memory.roofline_share(&CEILINGS), 0.1) && close(memory.us_each(), 500.0));
        assert_eq!(memory.bound(&CEILINGS), Bound::Memory);
        // Intensity 100 is past the ridge at 10: the roof is the peak.
        let compute = totals(1.0, 5e7, 5e5);
        assert!(close(compute.roofline_share(&CEILINGS), 0.5));
        assert_eq!(compute.bound(&CEILINGS), Bound::Compute);
        let roof = CEILINGS.gflop_s.min(compute.intensity() * CEILINGS.read_gb_s);
        assert!(close(compute.roofline_share(&CEILINGS), compute.gflop_s() / roof));
        // Without operations: the share of the bandwidth.
        assert!(close(totals(1.0, 0.0, 4e6).roofline_share(&CEILINGS), 0.4));
        let nothing = Totals { untimed: 2, ..totals(0.0, 0.0, 0.0) };
        assert_eq!((nothing.us_each(), nothing.gb_s(), nothing.gflop_s()), (0.0, 0.0, 0.0));
        assert!(nothing.roofline_share(&CEILINGS).abs() < 1e-300);
    }

    #[test]
    fn rows_are_put_together_by_kernel_kind_and_layer_and_never_over_parts() {
        let row = |part: &str, layer, kind: &str, kernel: &str, ms| KernelRow {
            part: part.to_owned(),
            layer,
            kind: kind.to_owned(),
            kernel: kernel.to_owned(),
            workgroups: [1, 1, 1],
            totals: totals(ms, 1.0, 2.0),
        };
        let report = ProfileReport {
            adapter: String::new(),
            driver: String::new(),
            method: METHOD.to_owned(),
            rows: vec![
                row("decode", Some(1), "down", "matvec", 4.0),
                row("decode", Some(0), "down", "matvec", 3.0),
                row("decode", Some(0), "norm", "rms_norm", 1.0),
                row("decode", None, "norm", "rms_norm", 0.5),
                row("prefill", Some(0), "down", "matvec", 9.0),
            ],
            parts: Vec::new(),
            ceilings: Some(CEILINGS),
        };
        let ms = |by| -> Vec<f64> { report.groups("decode", by).iter().map(|g| g.totals.ms).collect() };
        assert_eq!(ms(GroupBy::Kind), [7.0, 1.5]);
        assert_eq!(ms(GroupBy::Kernel), [7.0, 1.5]);
        let layers = report.groups("decode", GroupBy::Layer);
        assert_eq!(layers.iter().map(|g| g.layer).collect::<Vec<_>>(), [Some(0), Some(1), None]);
        assert_eq!(ms(GroupBy::Layer), [4.0, 4.0, 0.5]);
        assert!(close(report.totals("decode").ms, 8.5) && report.totals("decode").count == 8);
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains("\"ms\":4.0") && !text.contains("totals"), "{text}");
        assert_eq!(serde_json::from_str::<ProfileReport>(&text).unwrap(), report);
    }
}
