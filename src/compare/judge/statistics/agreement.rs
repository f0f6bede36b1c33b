//! Room `compare`: how far two judges agree: two people, or a person and the assertions.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Proportion;

/// How far two judges say the same of the same answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Of how many answers both said the same.
    pub same: Proportion,
    /// Cohen's kappa (1960, Educational and Psychological Measurement 20): 1 is full agreement, 0 what chance gives to
    /// judges with these habits. `None`: there is no answer that both judged, or both say one and the same of all, and
    /// then there is no chance to compare with.
    pub kappa: Option<f64>,
}

impl Agreement {
    /// Of pairs: what each said of one answer. Whatever can be ordered: stars, thumbs, passed or not.
    pub fn between<T: Ord>(pairs: impl IntoIterator<Item = (T, T)>) -> Self {
        let (mut first, mut second) = (BTreeMap::new(), BTreeMap::new());
        let same = Proportion::count(pairs.into_iter().map(|(a, b)| {
            let same = a == b;
            *first.entry(a).or_insert(0_usize) += 1;
            *second.entry(b).or_insert(0_usize) += 1;
            same
        }));
        let n = same.of as f64;
        // Kept whole until the last: whether chance alone gives full agreement must not hang on rounding.
        let by_chance: u128 =
            first.iter().map(|(said, n)| *n as u128 * second.get(said).map_or(0, |n| *n as u128)).sum();
        let all = same.of as u128 * same.of as u128;
        let kappa = (by_chance < all).then(|| {
            let expected = by_chance as f64 / (n * n);
            (same.yes as f64 / n - expected) / (1.0 - expected)
        });
        Self { same, kappa }
    }
}
