//! The process's clock: nanoseconds since it was first asked, the same for every thread. All times that are recorded of tokens, steps
//! and frames are of it.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// When the clock began, on the clocks it is made of.
static BEGAN: OnceLock<(Instant, SystemTime)> = OnceLock::new();

fn began() -> (Instant, SystemTime) {
    *BEGAN.get_or_init(|| (Instant::now(), SystemTime::now()))
}

/// Now, in nanoseconds since the clock began.
#[must_use]
pub fn now_ns() -> u64 {
    let (began, _) = began();
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A moment in nanoseconds since the clock began; 0 for what was before it.
#[must_use]
pub fn ns_at(moment: Instant) -> u64 {
    let (began, _) = began();
    u64::try_from(moment.saturating_duration_since(began).as_nanos()).unwrap_or(u64::MAX)
}

/// A time of this clock in microseconds since 1970 (UTC), as the system's clock stood when this one began.
#[must_use]
pub fn unix_us(ns: u64) -> i64 {
    let (_, began) = began();
    let since = began.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(0));
    since.saturating_add(i64::try_from(ns / 1000).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_forward_and_agrees_with_instants_and_the_calendar() {
        let first = now_ns();
        let moment = Instant::now();
        let second = now_ns();
        assert!(first <= ns_at(moment) && ns_at(moment) <= second);
        let calendar = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        let off = i128::from(unix_us(now_ns())) - i128::try_from(calendar).unwrap();
        assert!(off.abs() < 60_000_000, "{off} us");
    }
}
