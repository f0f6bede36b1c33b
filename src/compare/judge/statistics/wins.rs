//! Room `compare`: which column wins against which. Each group of cells (the answers of all columns to one question) is
//! ranked for itself: the same stars for two questions say nothing of one another.

use std::cmp::Ordering;

use serde::Serialize;

use super::{Proportion, sign_test};
use crate::compare::judge::Rating;

/// Comparisons between columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wins {
    columns: usize,
    /// How often the column of the row was better than that of the column.
    better: Vec<usize>,
    /// How often they were equally good; the same both ways round.
    tied: Vec<usize>,
    /// How often the column alone was the best of a group.
    first: Vec<usize>,
    /// In how many groups the column was compared with another.
    compared: Vec<usize>,
}

/// How one column fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Record {
    /// It was better.
    pub wins: usize,
    /// It was equally good.
    pub ties: usize,
    /// It was worse.
    pub losses: usize,
}

impl Record {
    /// Wins of all comparisons that one side won; ties are left out.
    #[must_use]
    pub fn win_rate(self) -> Proportion {
        Proportion { yes: self.wins, of: self.wins + self.losses }
    }

    /// How likely so uneven a record is if neither side is better (two-sided sign test).
    #[must_use]
    pub fn p_value(self) -> f64 {
        sign_test(self.wins, self.losses)
    }
}

impl Wins {
    /// No comparisons yet between so many columns.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        let pairs = columns.saturating_mul(columns);
        Self {
            columns,
            better: vec![0; pairs],
            tied: vec![0; pairs],
            first: vec![0; columns],
            compared: vec![0; columns],
        }
    }

    /// Adds a group by its ratings, one a column; `None` and what cannot be compared are left out.
    pub fn add_ratings(&mut self, group: &[Option<&Rating>]) {
        self.add(group, |a, b| a.against(b));
    }

    /// Adds a group by values where more is better (stars, a score of a judge); what is no number is left out.
    pub fn add_scores(&mut self, group: &[Option<f64>]) {
        self.add(group, f64::partial_cmp);
    }

    /// Adds a group by ranks, 1 for the best; several may share one.
    pub fn add_ranks(&mut self, group: &[Option<u32>]) {
        self.add(group, |a, b| Some(b.cmp(a)));
    }

    /// `against` says how the first fared against the second.
    fn add<T>(&mut self, group: &[Option<T>], against: impl Fn(&T, &T) -> Option<Ordering>) {
        let there: Vec<(usize, &T)> = group
            .iter()
            .take(self.columns)
            .enumerate()
            .filter_map(|(column, cell)| Some((column, cell.as_ref()?)))
            .collect();
        for (a, of_a) in &there {
            let (mut compared, mut always_better) = (false, true);
            for (b, of_b) in there.iter().filter(|(b, _)| b != a) {
                let Some(fared) = against(of_a, of_b) else { continue };
                compared = true;
                always_better &= fared == Ordering::Greater;
                let counts = match fared {
                    Ordering::Greater => &mut self.better,
                    Ordering::Equal => &mut self.tied,
                    // Counted when the other looks at this one.
                    Ordering::Less => continue,
                };
                if let Some(count) = counts.get_mut(a * self.columns + b) {
                    *count += 1;
                }
            }
            let counts = [(&mut self.compared, compared), (&mut self.first, compared && always_better)];
            for (count, counts) in counts {
                if let Some(count) = count.get_mut(*a).filter(|_| counts) {
                    *count += 1;
                }
            }
        }
    }

    /// How column `a` fared against column `b`. All nothing for columns that there are not.
    #[must_use]
    pub fn between(&self, a: usize, b: usize) -> Record {
        if a >= self.columns || b >= self.columns {
            return Record::default();
        }
        let count =
            |counts: &[usize], a: usize, b: usize| counts.get(a * self.columns + b).copied().unwrap_or(0);
        Record {
            wins: count(&self.better, a, b),
            ties: count(&self.tied, a, b),
            losses: count(&self.better, b, a),
        }
    }

    /// How a column fared against all others. With more than two columns its comparisons within a group hang together, so the
    /// interval of this record's rate is too narrow: use [`Wins::firsts`] to say how sure it is.
    #[must_use]
    pub fn total(&self, column: usize) -> Record {
        (0..self.columns).map(|other| self.between(column, other)).fold(Record::default(), |all, one| {
            Record { wins: all.wins + one.wins, ties: all.ties + one.ties, losses: all.losses + one.losses }
        })
    }

    /// In how many of the groups in which it was compared a column alone was the best.
    #[must_use]
    pub fn firsts(&self, column: usize) -> Proportion {
        let of = |counts: &[usize]| counts.get(column).copied().unwrap_or(0);
        Proportion { yes: of(&self.first), of: of(&self.compared) }
    }
}
