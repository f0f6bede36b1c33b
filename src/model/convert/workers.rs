//! Work cut into jobs, done on several threads, and taken up in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;

use crate::error::{Error, Result};

/// More threads than this only wait for the disk.
const MAX_THREADS: usize = 8;

/// Runs `make(job, scratch)` for jobs `0..count` on several threads, and hands the results to `take` on this thread in
/// the order of the jobs, whatever the number of threads. A thread is at most two results ahead, so memory is bounded
/// by `MAX_THREADS * (3 results + scratch)`.
///
/// # Errors
/// The first error, in the order of the jobs, of `make` or `take`; cancelled.
pub(crate) fn in_order<T: Send, S: Default>(
    count: usize,
    doing: &str,
    cancel: &AtomicBool,
    make: impl Fn(usize, &mut S) -> Result<T> + Sync,
    mut take: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, MAX_THREADS);
    let make = &make;
    std::thread::scope(|scope| {
        let mut receivers = Vec::with_capacity(threads);
        for thread in 0..threads {
            let (sender, receiver) = sync_channel(1);
            receivers.push(receiver);
            scope.spawn(move || {
                let mut scratch = S::default();
                for job in (thread..count).step_by(threads) {
                    if cancel.load(Ordering::Relaxed) {
                        return;
                    }
                    let result = make(job, &mut scratch);
                    let last = result.is_err();
                    // Nobody receives any more when another job has failed.
                    if sender.send(result).is_err() || last {
                        return;
                    }
                }
            });
        }
        for job in 0..count {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::cancelled(doing));
            }
            match receivers[job % threads].recv() {
                Ok(result) => take(job, result?)?,
                // A thread stops without a result only when cancelled.
                Err(_) => return Err(Error::cancelled(doing)),
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_wins() {
        let cancel = AtomicBool::new(false);
        let mut seen = Vec::new();
        let make = |job: usize, scratch: &mut usize| {
            *scratch += 1;
            if job == 70 || job == 71 { Err(Error::new("working", job)) } else { Ok(job * 2) }
        };
        let result = in_order(100, "working", &cancel, make, |job, value| {
            seen.push((job, value));
            Ok(())
        });
        assert_eq!(result.expect_err("job 70 fails").to_string(), "working: 70");
        assert_eq!(seen, (0..70).map(|job| (job, job * 2)).collect::<Vec<_>>());
    }

    #[test]
    fn cancelling_stops_the_work() {
        let cancel = AtomicBool::new(false);
        let mut taken = 0;
        let result = in_order(
            1_000_000,
            "working",
            &cancel,
            |job, (): &mut ()| Ok(job),
            |_, _| {
                taken += 1;
                cancel.store(taken == 10, Ordering::Relaxed);
                Ok(())
            },
        );
        assert_eq!(result.expect_err("cancelled").get_kind(), crate::error::ErrorKind::Cancelled);
        assert_eq!(taken, 10);
    }
}
