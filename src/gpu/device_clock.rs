//! The device's clock beside the process's. The two begin at different moments and one may run a little faster. Whatever
//! is submitted begins on the device after that and ends before it is read back: each span that was timed on both clocks bounds the
//! difference between them from both sides, and the narrowest bounds hold until the clocks may have drifted apart.

/// The clocks drift apart by this share of the time that passes, at most: crystals are within 50 millionths of what they say.
const MOST_DRIFT: f64 = 100e-6;

/// What is known of the difference between the two clocks, process less device, nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceClock {
    known: Option<Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    least: f64,
    most: f64,
    taken: f64,
    /// When the bounds were taken, on the process's clock.
    at_ns: u64,
}

impl DeviceClock {
    /// Learns from a span: it was submitted at `submitted_ns` and had been read back by `read_ns` on the process's clock, and
    /// ran from `begin_ns` to `end_ns` on the device's.
    pub fn saw(&mut self, submitted_ns: u64, begin_ns: u64, end_ns: u64, read_ns: u64) {
        if end_ns < begin_ns || read_ns < submitted_ns || end_ns == 0 {
            return;
        }
        // What bounds from below was true when it was submitted, what bounds from above when it was read: the clocks drift in between.
        let at_begin = submitted_ns as f64 - begin_ns as f64;
        let least = at_begin - (read_ns - submitted_ns) as f64 * MOST_DRIFT;
        let most = read_ns as f64 - end_ns as f64;
        if most < least {
            // One of the four is wrong: a span cannot take longer on the device than from submitting to reading.
            return;
        }
        // What is taken keeps this span's begin behind its submission, and its end before its arrival.
        let at_begin = at_begin.min(most);
        let fresh = Known { least, most, taken: f64::midpoint(at_begin, most), at_ns: read_ns };
        self.known = Some(match self.known {
            None => fresh,
            Some(old) => {
                let drifted = read_ns.abs_diff(old.at_ns) as f64 * MOST_DRIFT;
                let (least, most) = ((old.least - drifted).max(least), (old.most + drifted).min(most));
                // Bounds that exclude each other: the machine slept, or the device was reset. What is new is true.
                if most < least {
                    fresh
                } else {
                    Known {
                        least,
                        most,
                        taken: old.taken.clamp(at_begin.clamp(least, most), most),
                        at_ns: read_ns,
                    }
                }
            }
        });
    }

    /// A time of the device on the process's clock; 0 as long as nothing is known.
    #[must_use]
    pub fn to_process(self, device_ns: u64) -> u64 {
        self.known.map_or(0, |known| (device_ns as f64 + known.taken).max(0.0) as u64)
    }

    /// How far [`DeviceClock::to_process`] may be off, nanoseconds; `None` as long as nothing is known.
    #[must_use]
    pub fn uncertainty_ns(&self) -> Option<f64> {
        self.known.map(|known| (known.taken - known.least).max(known.most - known.taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_said_before_anything_is_known() {
        let clock = DeviceClock::default();
        assert_eq!((clock.to_process(5), clock.uncertainty_ns()), (0, None));
    }

    #[test]
    fn a_clock_that_was_set_anew_is_believed_at_once() {
        let mut clock = DeviceClock::default();
        clock.saw(1_000_000, 10, 20_000, 1_030_000);
        clock.saw(2_000_000, 900_000_000, 900_020_000, 2_030_000);
        let begin = clock.to_process(900_000_000);
        assert!((2_000_000..2_010_000).contains(&begin), "{begin}");
    }

    #[test]
    fn times_that_cannot_be_are_not_learnt_from() {
        let mut clock = DeviceClock::default();
        for (submitted, begin, end, read) in [(5, 9, 8, 20), (20, 1, 2, 10), (5, 0, 0, 9), (5, 100, 300, 50)]
        {
            clock.saw(submitted, begin, end, read);
        }
        assert_eq!(clock.uncertainty_ns(), None);
    }

    /// A device 49 millionths fast, and a step that took 20.6 ms: what bounds from below is 8 ns too high at the step's end.
    #[test]
    fn bounds_of_a_long_step_know_of_the_drift_in_it() {
        let device = |ns: u64| (5e15 + ns as f64 * (1.0 + 4.886_285_905_877_467e-5)) as u64;
        let mut clock = DeviceClock::default();
        let (begin, end) = (2_000, 2_000 + 20_637_399);
        clock.saw(1_000, device(begin), device(end), end + 2_371_319);
        let off = (clock.to_process(device(end)) as f64 - end as f64).abs();
        assert!(off <= clock.uncertainty_ns().unwrap() + 2.0, "{off}");
    }

    proptest! {
        // A device whose clock runs up to 50 millionths fast or slow, with waits before and after each step.
        #[test]
        fn a_drifting_clock_is_followed_within_the_bounds_it_states(
            drift in -50e-6_f64..50e-6,
            offset in -4e15_f64..4e15,
            steps in prop::collection::vec((1_000_u64..40_000_000, 1_000_u64..400_000_000, 1_000_u64..3_000_000, 0_u64..900_000_000), 1..120),
        ) {
            // The device's clock stood 5e15 ns before the process's began: it never shows less than nothing.
            let device = |ns: u64| (5e15 + offset + ns as f64 * (1.0 + drift)) as u64;
            let (mut clock, mut now) = (DeviceClock::default(), 1_000_u64);
            for (wait, work, read, idle) in steps {
                let (begin, end) = (now + wait, now + wait + work);
                clock.saw(now, device(begin), device(end), end + read);
                let known = clock.uncertainty_ns().unwrap();
                // f64 holds these times to a nanosecond or two.
                prop_assert!((clock.to_process(device(begin)) as f64 - begin as f64).abs() <= known + work as f64 * 50e-6 + 8.0);
                prop_assert!((clock.to_process(device(end)) as f64 - end as f64).abs() <= known + 8.0);
                // What the clocks may drift in the step widens its bounds, whatever they do.
                let drifting = (wait + work + read) as f64 * MOST_DRIFT;
                prop_assert!(known <= (wait + read) as f64 + work as f64 * 50e-6 + drifting + 8.0);
                now = end + read + idle;
            }
        }
    }
}
