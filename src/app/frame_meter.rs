//! Room `app`: counts drawn frames, for `OCELLI_LOG=ocelli::app=trace`: does the window keep drawing while the
//! engine works?

use std::time::{Duration, Instant};

const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Frames since the last report.
#[derive(Debug, Default)]
pub(super) struct FrameMeter {
    since: Option<Instant>,
    last: Option<Instant>,
    frames: u32,
    longest_gap: Duration,
}

impl FrameMeter {
    /// A frame is drawn now; `busy`: the engine works.
    pub fn frame(&mut self, now: Instant, busy: bool) {
        if let Some(last) = self.last {
            self.longest_gap = self.longest_gap.max(now.saturating_duration_since(last));
        }
        self.last = Some(now);
        self.frames += 1;
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= REPORT_EVERY {
            let (secs, longest_ms) = (elapsed.as_secs_f64(), self.longest_gap.as_secs_f64() * 1e3);
            let per_sec = f64::from(self.frames) / secs;
            tracing::trace!(busy, "{per_sec:.1} frames/s, longest gap {longest_ms:.0} ms");
            *self = Self { since: Some(now), last: Some(now), ..Self::default() };
        }
    }
}
