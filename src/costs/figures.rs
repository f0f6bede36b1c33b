//! Figures of some tokens of an answer, and series for plots.

use std::ops::Range;

use super::Costs;

/// Figures of a selection of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Figures {
    /// Tokens.
    pub count: usize,
    /// Of their latencies, milliseconds.
    pub median_ms: f64,
    /// 95 of 100 took no longer.
    pub p95_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub most_ms: f64,
    /// Their sum.
    pub total_ms: f64,
    /// Tokens a second over the sum.
    pub tok_s: f64,
    /// The median of their times on the device, milliseconds; 0: not known.
    pub device_median_ms: f64,
    /// Their mean probability; NaN: not known.
    pub mean_probability: f64,
    /// Their perplexity, `exp(-mean log-probability)`; NaN: not known.
    pub perplexity: f64,
}

impl Figures {
    /// Those of tokens `range` of an answer. The first token of all, which waits for the whole prompt, has no latency here unless it
    /// is alone.
    #[must_use]
    pub fn of(costs: &Costs, range: Range<usize>) -> Self {
        let range = range.start.min(costs.tokens.len())..range.end.min(costs.tokens.len());
        let alone = range.len() == 1;
        let latencies = sorted(range.clone().filter(|&n| n > 0 || alone).filter_map(|n| costs.latency_ms(n)));
        let tokens = costs.tokens.get(range.clone()).unwrap_or_default();
        let device = sorted(tokens.iter().map(|t| t.times.device_ns() as f64 / 1e6).filter(|&ms| ms > 0.0));
        let logprobs: Vec<f64> =
            tokens.iter().map(|t| f64::from(t.logprob)).filter(|p| !p.is_nan()).collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let total_ms = latencies.iter().sum::<f64>();
        Self {
            count: range.len(),
            median_ms: quantile(&latencies, 0.5),
            p95_ms: quantile(&latencies, 0.95),
            p99_ms: quantile(&latencies, 0.99),
            most_ms: latencies.last().copied().unwrap_or(0.0),
            total_ms,
            tok_s: if total_ms > 0.0 { latencies.len() as f64 / total_ms * 1e3 } else { 0.0 },
            device_median_ms: quantile(&device, 0.5),
            mean_probability: mean(&logprobs.iter().map(|p| p.exp()).collect::<Vec<_>>()),
            perplexity: (-mean(&logprobs)).exp(),
        }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The smallest value that this share of them does not exceed; 0 of none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = ((sorted.len() as f64 * share).ceil() as usize).max(1) - 1;
    sorted.get(at).copied().unwrap_or(0.0)
}

/// The least time a decode step of one session with so many tokens in its cache can take, milliseconds: its bytes at the device's
/// measured bandwidth. `None`: not known.
#[must_use]
pub fn floor_ms(costs: &Costs, cached_tokens: u32) -> Option<f64> {
    let gb_s = f64::from(costs.bandwidth_gb_s?);
    let bytes =
        costs.weights_bytes.saturating_add(costs.kv_bytes_per_token.saturating_mul(cached_tokens.into()));
    (gb_s > 0.0 && costs.weights_bytes > 0).then(|| bytes as f64 / gb_s / 1e6)
}

/// How many latencies lie in each of `bins` bins of equal width: `(begin ms, end ms, count)`. Those beyond the 99.5th percentile are in the last
/// bin, so that one stall does not squeeze the rest.
#[must_use]
pub fn histogram(costs: &Costs, bins: usize) -> Vec<(f64, f64, usize)> {
    let latencies = sorted((1..costs.tokens.len()).filter_map(|n| costs.latency_ms(n)));
    let (Some(&least), most) = (latencies.first(), quantile(&latencies, 0.995)) else { return Vec::new() };
    let bins = bins.clamp(1, 512);
    let width = ((most - least) / bins as f64).max(1e-6);
    let mut counts = vec![0; bins];
    for ms in latencies {
        counts[(((ms - least) / width) as usize).min(bins - 1)] += 1;
    }
    let edge = |n: usize| least + width * n as f64;
    counts.into_iter().enumerate().map(|(n, count)| (edge(n), edge(n + 1), count)).collect()
}

/// Tokens a second over time: `(seconds since the question, tok/s)`, each over the tokens of the `window_secs` before it; at most
/// `points` of them.
#[must_use]
pub fn rate_over_time(costs: &Costs, window_secs: f64, points: usize) -> Vec<(f64, f64)> {
    let at: Vec<f64> = costs.tokens.iter().map(|t| t.times.arrival() as f64 / 1e9).collect();
    let every = at.len().div_ceil(points.max(1)).max(1);
    let mut first = 0;
    let mut rates = Vec::new();
    for (n, &now) in at.iter().enumerate().skip(1) {
        while at.get(first).is_some_and(|&then| now - then > window_secs) && first + 1 < n {
            first += 1;
        }
        let past = now - at.get(first).copied().unwrap_or(now);
        if n % every == 0 && past > 0.0 {
            rates.push((now, (n - first) as f64 / past));
        }
    }
    rates
}
