//! Room `app`: frames and their times. For `OCELLI_LOG=ocelli::app=trace`, how many there are each second: does the window
//! keep drawing while the engine works? For `OCELLI_LOG=ocelli::app=debug`, a summary when the window is closed.

use std::time::{Duration, Instant};

const REPORT_EVERY: Duration = Duration::from_secs(1);
/// A longer time without a frame, the engine idle, is one in which nothing was to be drawn (but a cursor that blinks).
const LONGEST_IDLE_GAP: Duration = Duration::from_millis(250);
/// The first bucket of times ends here, and each other one this much later than the one before.
const FIRST_MS: f64 = 0.02;
const GROWTH: f64 = 1.04;

/// Times, counted in buckets, so that a window that is open for weeks keeps no more than one of a minute.
#[derive(Debug, Default)]
struct Times {
    buckets: Vec<u32>,
    count: u32,
    longest: Duration,
}

impl Times {
    fn add(&mut self, time: Duration) {
        let bucket = ((time.as_secs_f64() * 1e3 / FIRST_MS).max(1.0).ln() / GROWTH.ln()).ceil() as usize;
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        self.count = self.count.saturating_add(1);
        self.longest = self.longest.max(time);
    }

    /// A time that this share of them does not exceed, in milliseconds, at most 4 % too long.
    fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = (f64::from(self.count) * share).ceil().max(1.0);
        let mut seen = 0.0;
        let bucket = self.buckets.iter().position(|count| {
            seen += f64::from(*count);
            seen >= wanted
        });
        let end = FIRST_MS * GROWTH.powf(bucket.unwrap_or(0) as f64);
        end.min(self.longest.as_secs_f64() * 1e3)
    }

    fn report(&self, what: &str) {
        if self.count > 0 {
            tracing::debug!(
                "{what}: {} of them, median {:.1} ms, 99th percentile {:.1} ms, longest {:.1} ms",
                self.count,
                self.quantile_ms(0.5),
                self.quantile_ms(0.99),
                self.longest.as_secs_f64() * 1e3
            );
        }
    }
}

/// What is measured while the engine works, and while it does not.
#[derive(Debug, Default)]
struct Side {
    gaps: Times,
    layouts: Times,
    frames: Times,
}

/// Frames since the last report, and all of them.
#[derive(Debug, Default)]
pub(super) struct FrameMeter {
    since: Option<Instant>,
    last: Option<Instant>,
    frames: u32,
    longest_gap: Duration,
    idle: Side,
    busy: Side,
}

impl FrameMeter {
    fn side(&mut self, busy: bool) -> &mut Side {
        if busy { &mut self.busy } else { &mut self.idle }
    }

    /// A frame is drawn now; `busy`: the engine works.
    pub fn frame(&mut self, now: Instant, busy: bool) {
        if let Some(last) = self.last {
            let gap = now.saturating_duration_since(last);
            self.longest_gap = self.longest_gap.max(gap);
            if busy || gap <= LONGEST_IDLE_GAP {
                self.side(busy).gaps.add(gap);
            }
        }
        self.last = Some(now);
        self.frames += 1;
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= REPORT_EVERY {
            let (secs, longest_ms) = (elapsed.as_secs_f64(), self.longest_gap.as_secs_f64() * 1e3);
            let per_sec = f64::from(self.frames) / secs;
            tracing::trace!(busy, "{per_sec:.1} frames/s, longest gap {longest_ms:.0} ms");
            (self.since, self.frames, self.longest_gap) = (Some(now), 0, Duration::ZERO);
        }
    }

    /// The frame took `layout` to lay out, and the one before `whole_secs` altogether, without waiting for the screen.
    pub fn drawn(&mut self, layout: Duration, whole_secs: Option<f32>, busy: bool) {
        let side = self.side(busy);
        side.layouts.add(layout);
        if let Some(whole) = whole_secs.and_then(|secs| Duration::try_from_secs_f32(secs).ok()) {
            side.frames.add(whole);
        }
    }

    /// Says how it was, once.
    pub fn report(&mut self) {
        for (name, side) in
            [("idle", std::mem::take(&mut self.idle)), ("busy", std::mem::take(&mut self.busy))]
        {
            side.gaps.report(&format!("engine {name}, gaps between frames"));
            side.layouts.report(&format!("engine {name}, laying out a frame"));
            side.frames.report(&format!("engine {name}, laying out and painting a frame"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close_and_the_longest_is_exact() {
        let mut times = Times::default();
        for n in 1..=1000 {
            times.add(Duration::from_micros(n * 100));
        }
        let (median, most) = (times.quantile_ms(0.5), times.quantile_ms(0.99));
        assert!((50.0..52.1).contains(&median) && (99.0..=100.0).contains(&most), "{median} {most}");
        assert_eq!(times.longest, Duration::from_millis(100));
        assert!(Times::default().quantile_ms(0.5).abs() < 1e-9);
    }
}
