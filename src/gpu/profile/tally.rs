//! Adds up what a profile times: by kernel and place, and by part of the work with its steps and their gaps. Works in the device's
//! own ticks, whole numbers: what is added up is exactly what lies between a step's first begin and its last end.

use std::collections::HashMap;
use std::sync::Arc;

use super::report::{KernelRow, PartTime, Totals};
use crate::gpu::work::{Scope, Work};

/// A dispatch that was timed.
#[derive(Clone, Debug)]
pub(in crate::gpu) struct Timed {
    /// The kernel's variant.
    pub kernel: Arc<str>,
    pub workgroups: [u32; 3],
    pub scope: Scope,
    pub work: Work,
    /// Dispatches of the same step have the same number.
    pub step: u64,
    /// Copies that were recorded between the dispatch before and this one.
    pub copies: u64,
}

#[derive(Default)]
struct Sums {
    count: u64,
    untimed: u64,
    ticks: i64,
    flops: f64,
    bytes: f64,
}

/// Sums over the steps of a part, in ticks.
#[derive(Default)]
struct Part {
    name: &'static str,
    steps: u64,
    whole: i64,
    kernels: i64,
    between_submissions: i64,
    overlap: i64,
    copies: u64,
    untimed: u64,
}

/// The step that is under way.
struct Step {
    number: u64,
    part: usize,
    /// The end of its last kernel, and the submission that was in.
    last: Option<(u64, u64)>,
    /// Has a kernel of it been seen before?
    begun: bool,
}

#[derive(Default)]
pub(in crate::gpu) struct Tally {
    rows: HashMap<(Scope, Arc<str>, [u32; 3]), Sums>,
    parts: Vec<Part>,
    step: Option<Step>,
    submissions: u64,
}

impl Tally {
    /// Takes in a submission: its dispatches in their order, with the begin and end of each in ticks.
    pub fn take(&mut self, dispatches: Vec<Timed>, ticks: impl Iterator<Item = (u64, u64)>) {
        self.submissions += 1;
        for (dispatch, (begin, end)) in dispatches.into_iter().zip(ticks) {
            self.take_one(dispatch, begin, end);
        }
    }

    fn take_one(&mut self, timed: Timed, begin: u64, end: u64) {
        let index = match self.parts.iter().position(|part| part.name == timed.scope.part) {
            Some(index) => index,
            None => {
                self.parts.push(Part { name: timed.scope.part, ..Part::default() });
                self.parts.len() - 1
            }
        };
        let same = |step: &Step| step.number == timed.step && step.part == index;
        if !self.step.as_ref().is_some_and(same) {
            self.step = Some(Step { number: timed.step, part: index, last: None, begun: false });
            self.parts[index].steps += 1;
        }
        let (part, step) = (&mut self.parts[index], self.step.as_mut());
        let row = self.rows.entry((timed.scope, timed.kernel, timed.workgroups)).or_default();
        row.count += 1;
        // Zero is what an unwritten query resolves to; some drivers reverse the two where the clock is changed.
        if begin == 0 || end < begin {
            row.untimed += 1;
            part.untimed += 1;
            return;
        }
        let took = difference(end, begin);
        row.ticks += took;
        row.flops += timed.work.flops;
        row.bytes += timed.work.bytes;
        part.kernels += took;
        part.whole += took;
        let Some(step) = step else { return };
        if step.begun {
            part.copies += timed.copies;
        }
        step.begun = true;
        if let Some((before, submission)) = step.last {
            let gap = difference(begin, before);
            part.whole += gap;
            if submission != self.submissions {
                part.between_submissions += gap;
            } else if gap < 0 {
                part.overlap -= gap;
            }
        }
        step.last = Some((end, self.submissions));
    }

    /// The sums so far, for ticks of `tick_ns` nanoseconds; rows with the longest first.
    pub fn sums(&self, tick_ns: f64) -> (Vec<KernelRow>, Vec<PartTime>) {
        let ms = |ticks: i64| ticks as f64 * tick_ns / 1e6;
        let mut rows: Vec<KernelRow> = self
            .rows
            .iter()
            .map(|((scope, kernel, workgroups), sums)| KernelRow {
                part: scope.part.to_owned(),
                layer: scope.layer,
                kind: scope.kind.to_owned(),
                kernel: kernel.as_ref().to_owned(),
                workgroups: *workgroups,
                totals: Totals {
                    count: sums.count,
                    untimed: sums.untimed,
                    ms: ms(sums.ticks),
                    flops: sums.flops,
                    bytes: sums.bytes,
                },
            })
            .collect();
        let place = |row: &KernelRow| (row.layer, row.kernel.clone(), row.workgroups);
        rows.sort_by(|a, b| b.totals.ms.total_cmp(&a.totals.ms).then_with(|| place(a).cmp(&place(b))));
        let parts = self.parts.iter().map(|part| PartTime {
            part: part.name.to_owned(),
            steps: part.steps,
            whole_ms: ms(part.whole),
            kernels_ms: ms(part.kernels),
            gaps_ms: ms(part.whole - part.kernels),
            between_submissions_ms: ms(part.between_submissions),
            overlap_ms: ms(part.overlap),
            copies: part.copies,
            untimed: part.untimed,
        });
        (rows, parts.collect())
    }
}

/// `a - b`; ticks since the device was switched on are far below 2^63.
fn difference(a: u64, b: u64) -> i64 {
    i64::try_from(a).unwrap_or(i64::MAX) - i64::try_from(b).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: f64 = 1e6;

    fn timed(part: &'static str, step: u64, layer: Option<u32>, copies: u64) -> Timed {
        Timed {
            kernel: "kernel".into(),
            workgroups: [2, 1, 1],
            scope: Scope { part, layer, kind: "norm" },
            work: Work::new(100, 10),
            step,
            copies,
        }
    }

    #[test]
    fn kernels_and_gaps_are_the_whole_of_each_step_and_nothing_between_steps_counts() {
        let mut tally = Tally::default();
        let first = vec![timed("a", 1, None, 5), timed("a", 1, Some(0), 2)];
        tally.take(first, [(10, 14), (15, 20)].into_iter());
        // The same step in another submission, then another step of the same part.
        tally.take(vec![timed("a", 1, Some(0), 0), timed("a", 2, None, 1)], [(50, 51), (90, 91)].into_iter());
        tally.take(vec![timed("b", 3, None, 0)], [(200, 203)].into_iter());
        let (rows, parts) = tally.sums(MS);
        let [a, b] = parts.as_slice() else { panic!("{parts:?}") };
        assert_eq!((a.steps, b.steps), (2, 1));
        assert_eq!((a.whole_ms, a.kernels_ms, a.gaps_ms, a.between_submissions_ms), (42.0, 11.0, 31.0, 30.0));
        assert_eq!((b.whole_ms, b.kernels_ms, b.gaps_ms), (3.0, 3.0, 0.0));
        assert_eq!((a.copies, a.untimed, a.overlap_ms), (2, 0, 0.0), "copies before a step are not in it");
        assert_eq!(rows.len(), 3);
        let layer = rows.iter().find(|row| row.layer == Some(0)).unwrap();
        assert_eq!((layer.totals.count, layer.totals.ms), (2, 6.0));
        assert_eq!((layer.totals.flops, layer.totals.bytes), (200.0, 20.0));
    }

    #[test]
    fn kernels_that_run_beside_each_other_are_said_to() {
        let mut tally = Tally::default();
        tally.take(vec![timed("a", 1, None, 0), timed("a", 1, None, 0)], [(10, 20), (15, 30)].into_iter());
        let (_, parts) = tally.sums(MS);
        assert_eq!(
            (parts[0].whole_ms, parts[0].kernels_ms, parts[0].gaps_ms, parts[0].overlap_ms),
            (20.0, 25.0, -5.0, 5.0)
        );
    }

    #[test]
    fn a_kernel_whose_times_are_missing_or_reversed_is_counted_and_adds_nothing() {
        let mut tally = Tally::default();
        let all = (0..4).map(|_| timed("a", 1, None, 0)).collect();
        tally.take(all, [(10, 20), (0, 0), (40, 30), (50, 50)].into_iter());
        let (rows, parts) = tally.sums(MS);
        let (row, part) = (&rows[0].totals, &parts[0]);
        assert_eq!((row.count, row.untimed, row.ms, row.flops), (4, 2, 10.0, 200.0));
        assert_eq!((part.untimed, part.whole_ms, part.kernels_ms, part.gaps_ms), (2, 40.0, 10.0, 30.0));
    }
}
