//! Room `compare`: the rows of a report, and which of them are shown where there are more than a browser opens.

use std::collections::BTreeMap;

use super::words::{count, counted};
use crate::compare::plan::Plan;
use crate::compare::result::CellResult;

/// Rows shown, at most.
const MAX_GROUPS: usize = 2000;
/// Cells shown, at most.
const MAX_CELLS: usize = 10_000;
/// Bytes of answers and prompts shown, at most: about a quarter of what the report then has.
const MAX_BYTES: usize = 16 << 20;

/// The cells of a row that differ in their columns only.
pub(super) struct Group<'a> {
    pub row: usize,
    pub repeat: usize,
    /// By column; `None`: it has not run.
    pub cells: Vec<Option<&'a CellResult>>,
}

/// What makes a row worth reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Interest {
    /// A cell has no answer, or an assertion failed.
    Failing,
    /// Answers differ.
    Differing,
    /// All answers are the same, and all that was asserted holds.
    Usual,
}

impl Group<'_> {
    pub(super) fn interest(&self) -> Interest {
        let there = || self.cells.iter().copied().flatten();
        if there().any(|cell| !cell.passed()) {
            return Interest::Failing;
        }
        let mut answers = there().map(|cell| cell.answer.trim());
        let first = answers.next();
        if answers.all(|answer| Some(answer) == first) { Interest::Usual } else { Interest::Differing }
    }

    fn bytes(&self) -> usize {
        self.cells.iter().flatten().map(|cell| cell.answer.len() + cell.prompt.len()).sum()
    }
}

/// All rows in order.
pub(super) fn groups<'a>(plan: &Plan, results: &'a [CellResult]) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<(usize, usize), Vec<Option<&CellResult>>> = BTreeMap::new();
    for result in results {
        if let Some(column) = plan.columns.iter().position(|column| column.name == result.column) {
            groups.entry(result.group()).or_insert_with(|| vec![None; plan.columns.len()])[column] =
                Some(result);
        }
    }
    groups.into_iter().map(|((row, repeat), cells)| Group { row, repeat, cells }).collect()
}

/// Takes away what is too much, the least interesting first; in words, what that was.
pub(super) fn keep_most_interesting(groups: &mut Vec<Group<'_>>) -> Option<String> {
    keep(groups, MAX_GROUPS, MAX_CELLS, MAX_BYTES)
}

fn keep(groups: &mut Vec<Group<'_>>, most: usize, most_cells: usize, most_bytes: usize) -> Option<String> {
    let all = groups.len();
    // The sort is stable: within an interest rows stay in order.
    let mut order: Vec<(Interest, usize)> =
        groups.iter().enumerate().map(|(at, group)| (group.interest(), at)).collect();
    order.sort_unstable();
    let (mut cells, mut bytes) = (0, 0);
    let fits = |(_, at): &&(Interest, usize)| {
        cells += groups[*at].cells.len();
        bytes += groups[*at].bytes();
        cells <= most_cells && bytes <= most_bytes
    };
    // One row is shown in any case.
    let kept = order.iter().take(most).take_while(fits).count().max(1).min(all);
    if kept == all {
        return None;
    }
    let of = |kind: Interest| {
        let in_all = order.iter().filter(|(interest, _)| *interest == kind).count();
        let shown = order[..kept].iter().filter(|(interest, _)| *interest == kind).count();
        (shown, in_all)
    };
    let part = |kind: Interest, what: &str| {
        let (shown, in_all) = of(kind);
        format!("{} of {} {what}", count(shown), counted(in_all, "row"))
    };
    let words = format!(
        "{} of {} are shown: {}, {}, {}. The others are in the table (--csv) and in the file of results (--out).",
        count(kept),
        counted(all, "row"),
        part(Interest::Failing, "that failed"),
        part(Interest::Differing, "whose answers differ"),
        part(Interest::Usual, "of the rest")
    );
    let mut kept: Vec<usize> = order[..kept].iter().map(|(_, at)| *at).collect();
    kept.sort_unstable();
    let mut at = 0;
    groups.retain(|_| {
        at += 1;
        kept.binary_search(&(at - 1)).is_ok()
    });
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(answer: &str, error: Option<&str>) -> CellResult {
        CellResult { answer: answer.into(), error: error.map(str::to_owned), ..CellResult::default() }
    }

    #[test]
    fn rows_that_failed_come_first_then_those_that_differ_and_their_order_stays() {
        let (a, b, gone) = (cell("a", None), cell("b", None), cell("", Some("gone")));
        let group = |row, x, y| Group { row, repeat: 0, cells: vec![Some(x), y] };
        let all = || {
            vec![
                group(0, &a, Some(&a)),
                group(1, &a, Some(&b)),
                group(2, &a, None),
                group(3, &a, Some(&gone)),
                group(4, &b, Some(&a)),
            ]
        };
        let rows = |most, cells, bytes| {
            let mut groups = all();
            let words = keep(&mut groups, most, cells, bytes);
            (groups.iter().map(|group| group.row).collect::<Vec<_>>(), words)
        };
        assert_eq!(rows(5, 99, 99), (vec![0, 1, 2, 3, 4], None));
        assert_eq!(rows(3, 99, 99).0, [1, 3, 4]);
        assert_eq!(rows(4, 99, 99).0, [0, 1, 3, 4]);
        let words = rows(2, 99, 99).1.unwrap();
        assert!(
            words.starts_with(
                "2 of 5 rows are shown: 1 of 1 row that failed, 1 of 2 rows whose answers differ, 0 of 2 rows"
            ),
            "{words}"
        );
        assert_eq!(rows(5, 4, 99).0, [1, 3]);
        assert_eq!(rows(5, 99, 3).0, [1, 3]);
        assert_eq!(rows(5, 0, 0).0, [3], "one is shown in any case");
    }
}
