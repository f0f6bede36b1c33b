//! Tokens that took much longer than those around them, and why, as far as it is known.

use super::Costs;

/// Why a token came late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A kernel was compiled for its step.
    Compiling,
    /// Another prompt or a picture ran on the device.
    OtherPrompt,
    /// More sessions shared its step than the one before.
    LargerBatch,
    /// The window's frame took long and the device waited, or worked for it.
    WindowFrame,
    /// The cache grew by a page.
    NewPage,
    /// The device itself was slower for many steps on end: it is too warm, or saves power.
    Slower,
    /// None of these.
    Unknown,
}

impl Cause {
    /// Its name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Compiling => "compiling a kernel",
            Self::OtherPrompt => "another prompt",
            Self::LargerBatch => "a larger batch",
            Self::WindowFrame => "a window frame",
            Self::NewPage => "a new page",
            Self::Slower => "a slower device",
            Self::Unknown => "unknown",
        }
    }
}

/// A token that came late.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stall {
    /// Its place in the answer.
    pub token: usize,
    /// What it took, milliseconds.
    pub ms: f64,
    /// What tokens around it take, milliseconds.
    pub usual_ms: f64,
    /// Why.
    pub cause: Cause,
}

/// A token is late that takes this many times as long as usual.
const LATE: f64 = 1.6;
/// Tokens before and after that tell what is usual.
const AROUND: usize = 16;
/// Steps on end that have to be slow before the device is said to be.
const SLOW_STEPS: usize = 8;

/// The tokens of an answer that came late, in order.
#[must_use]
pub fn stalls(costs: &Costs) -> Vec<Stall> {
    if costs.is_copied {
        return Vec::new();
    }
    let latencies: Vec<f64> = (0..costs.tokens.len()).map(|n| costs.latency_ms(n).unwrap_or(0.0)).collect();
    let mut found = Vec::new();
    for token in 1..latencies.len() {
        let usual_ms = usual(&latencies, token);
        let ms = latencies[token];
        if usual_ms > 0.0 && ms > LATE * usual_ms && ms - usual_ms > 0.5 {
            found.push(Stall { token, ms, usual_ms, cause: cause(costs, token, usual_ms) });
        }
    }
    found.extend(slow_runs(costs));
    found.sort_by_key(|stall| stall.token);
    found.dedup_by_key(|stall| stall.token);
    found
}

/// The median of the latencies around a token, its own left out; the first token's says nothing.
fn usual(latencies: &[f64], token: usize) -> f64 {
    let from = token.saturating_sub(AROUND).max(1);
    let to = (token + 1 + AROUND).min(latencies.len());
    let mut around: Vec<f64> = (from..to).filter(|&n| n != token).map(|n| latencies[n]).collect();
    around.sort_by(f64::total_cmp);
    around.get(around.len() / 2).copied().unwrap_or(0.0)
}

fn cause(costs: &Costs, token: usize, usual_ms: f64) -> Cause {
    let Some(late) = costs.tokens.get(token) else { return Cause::Unknown };
    let before = token.checked_sub(1).and_then(|n| costs.tokens.get(n));
    if late.compiled {
        return Cause::Compiling;
    }
    if late.interrupted {
        return Cause::OtherPrompt;
    }
    if before.is_some_and(|before| late.batch > before.batch) {
        return Cause::LargerBatch;
    }
    let from = before.map_or(0, |before| before.times.arrival());
    let window: u64 = overlapping(costs, from, late.times.arrival());
    if window as f64 / 1e6 > usual_ms * (LATE - 1.0) {
        return Cause::WindowFrame;
    }
    if late.grew_page { Cause::NewPage } else { Cause::Unknown }
}

/// Nanoseconds that frames took between two moments. Frames are in order.
fn overlapping(costs: &Costs, from: u64, to: u64) -> u64 {
    let first = costs.frames.partition_point(|frame| frame.end <= from);
    let frames = costs.frames[first..].iter().take_while(|frame| frame.begin < to);
    frames.map(|frame| frame.end.min(to).saturating_sub(frame.begin.max(from))).sum()
}

/// Where the device's own time a step, at the same batch, rose for many steps on end by more than the longer context explains.
fn slow_runs(costs: &Costs) -> Vec<Stall> {
    let steps: Vec<(f64, f64)> = costs
        .tokens
        .iter()
        .map(|t| {
            let usable = !t.ends_prefill && !t.drafted && t.times.end > 0;
            // Per byte, a longer context costs no more.
            let ms = if usable { t.times.device_ns() as f64 / 1e6 } else { 0.0 };
            (ms, ms / t.bytes.max(1) as f64)
        })
        .collect();
    let mut known: Vec<f64> = steps.iter().map(|s| s.1).filter(|&per_byte| per_byte > 0.0).collect();
    known.sort_by(f64::total_cmp);
    let Some(&median) = known.get(known.len() / 2) else { return Vec::new() };
    let mut found = Vec::new();
    let mut run = 0;
    for (token, &(ms, per_byte)) in steps.iter().enumerate() {
        run = if per_byte > LATE * median { run + 1 } else { 0 };
        if run == SLOW_STEPS {
            let first = token + 1 - SLOW_STEPS;
            found.push(Stall { token: first, ms, usual_ms: ms * median / per_byte, cause: Cause::Slower });
        }
    }
    found
}
