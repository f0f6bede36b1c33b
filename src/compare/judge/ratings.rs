//! Room `compare`: what a person thought of an answer, and the order in which answers are shown so that nobody knows
//! whose they are until they are rated.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a person thought of an answer. A thumb or a number of stars that there is not is refused when it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Rating {
    /// Down (−1) or up (+1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thumb: Option<i8>,
    /// From 1 to 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stars: Option<u8>,
    /// In words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A rating as it stands in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    thumb: Option<i8>,
    stars: Option<u8>,
    #[serde(default)]
    note: String,
}

impl TryFrom<Written> for Rating {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { thumb, stars, note } = written;
        if let Some(thumb) = thumb.filter(|thumb| ![-1, 1].contains(thumb)) {
            return Err(format!("a thumb is -1 (down) or 1 (up), not {thumb}"));
        }
        if let Some(stars) = stars.filter(|stars| !(1..=5).contains(stars)) {
            return Err(format!("there are 1 to 5 stars, not {stars}"));
        }
        Ok(Self { thumb, stars, note })
    }
}

impl Rating {
    /// Is there nothing in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Was the answer liked, as a yes or no to hold against an assertion? The thumb says it; without one 4 and 5 stars do,
    /// or 1 and 2. `None`: 3 stars, or nothing, say neither.
    #[must_use]
    pub fn liked(&self) -> Option<bool> {
        match (self.thumb, self.stars) {
            (Some(thumb), _) => Some(thumb > 0),
            (None, Some(3) | None) => None,
            (None, Some(stars)) => Some(stars > 3),
        }
    }

    /// Which of two answers was liked better: by stars where both have some, then by thumbs. `None`: they have nothing in
    /// common to compare.
    #[must_use]
    pub fn against(&self, other: &Self) -> Option<Ordering> {
        let stars = self.stars.zip(other.stars).map(|(a, b)| a.cmp(&b));
        let thumbs = self.thumb.zip(other.thumb).map(|(a, b)| a.cmp(&b));
        match (stars, thumbs) {
            // As many stars: a thumb may still tell them apart.
            (Some(Ordering::Equal), Some(thumbs)) => Some(thumbs),
            (stars, thumbs) => stars.or(thumbs),
        }
    }
}

/// In which order the answers of a group (one row of a comparison, say) are shown: which column stands at each place. The
/// same for the same seed, group and number of columns, on every machine and in every version; over many groups each order
/// comes equally often.
#[must_use]
pub fn blind_order(seed: u64, group: &str, columns: usize) -> Vec<usize> {
    let mut numbers = Numbers::new(seed, group);
    let mut order: Vec<usize> = (0..columns).collect();
    // Fisher and Yates, as Durstenfeld wrote it (CACM 7, 1964): from the back, each with one at or before it.
    for last in (1..columns).rev() {
        order.swap(last, numbers.below(last as u64 + 1));
    }
    order
}

/// Numbers from SHA-256 of seed, group and a counter: few are needed, and nothing about them depends on a library's version.
struct Numbers<'a> {
    seed: u64,
    group: &'a str,
    counter: u64,
}

impl<'a> Numbers<'a> {
    fn new(seed: u64, group: &'a str) -> Self {
        Self { seed, group, counter: 0 }
    }

    fn next(&mut self) -> u64 {
        let mut hash = Sha256::new();
        hash.update(b"ocelli blind order 1");
        hash.update(self.seed.to_le_bytes());
        hash.update(self.counter.to_le_bytes());
        hash.update(self.group.as_bytes());
        self.counter += 1;
        hash.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// From 0 to below `bound`, all equally often: what would make the small ones more frequent is drawn again.
    fn below(&mut self, bound: u64) -> usize {
        let fair = u64::MAX - u64::MAX % bound;
        loop {
            let number = self.next();
            if number < fair {
                return (number % bound) as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rated(thumb: Option<i8>, stars: Option<u8>) -> Rating {
        Rating { thumb, stars, note: String::new() }
    }

    #[test]
    fn a_rating_is_written_short_and_read_back() {
        let rating = Rating { thumb: Some(-1), stars: None, note: "cut off".into() };
        let text = serde_json::to_string(&rating).unwrap();
        assert_eq!(text, r#"{"thumb":-1,"note":"cut off"}"#);
        assert_eq!(serde_json::from_str::<Rating>(&text).unwrap(), rating);
        let text = toml::to_string(&rated(None, Some(4))).unwrap();
        assert_eq!(text, "stars = 4\n");
        assert_eq!(toml::from_str::<Rating>(&text).unwrap(), rated(None, Some(4)));
        assert!(serde_json::from_str::<Rating>("{}").unwrap().is_empty());
    }

    #[test]
    fn stars_and_thumbs_that_there_are_not_are_refused_with_what_there_is() {
        for (text, why) in [
            (r#"{"stars": 0}"#, "1 to 5 stars, not 0"),
            (r#"{"stars": 6}"#, "1 to 5 stars, not 6"),
            (r#"{"thumb": 0}"#, "-1 (down) or 1 (up), not 0"),
            (r#"{"thumbs": 1}"#, "unknown field"),
            (r#"{"stars": 300}"#, "invalid value"),
        ] {
            let error = serde_json::from_str::<Rating>(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn stars_decide_thumbs_decide_between_equal_stars_and_nothing_in_common_decides_nothing() {
        let (up, down) = (Some(1), Some(-1));
        assert_eq!(rated(down, Some(4)).against(&rated(up, Some(3))), Some(Ordering::Greater));
        assert_eq!(rated(down, Some(3)).against(&rated(up, Some(3))), Some(Ordering::Less));
        assert_eq!(rated(None, Some(3)).against(&rated(up, Some(3))), Some(Ordering::Equal));
        assert_eq!(rated(up, None).against(&rated(down, Some(1))), Some(Ordering::Greater));
        assert_eq!(rated(up, None).against(&rated(None, Some(1))), None);
        assert_eq!(rated(None, None).against(&rated(up, Some(5))), None);
    }

    #[test]
    fn an_answer_is_liked_by_thumb_or_else_by_stars_and_three_stars_say_neither() {
        assert_eq!(rated(Some(-1), Some(5)).liked(), Some(false));
        assert_eq!(rated(Some(1), None).liked(), Some(true));
        let by_stars = [1, 2, 3, 4, 5].map(|stars| rated(None, Some(stars)).liked());
        assert_eq!(by_stars, [Some(false), Some(false), None, Some(true), Some(true)]);
        assert_eq!(rated(None, None).liked(), None);
    }

    #[test]
    fn every_order_comes_equally_often_over_many_groups() {
        // 6 orders of 3 columns; chi-square with 5 degrees of freedom is below 20.5 in 999 of 1000 fair draws
        // (scipy.stats.chi2.ppf(0.999, 5) = 20.515), and the draw here is fixed.
        const GROUPS: usize = 12_000;
        for seed in [0, 1, 7_777_777] {
            let mut seen = std::collections::BTreeMap::new();
            for group in 0..GROUPS {
                *seen.entry(blind_order(seed, &format!("row {group}"), 3)).or_insert(0_usize) += 1;
            }
            assert_eq!(seen.len(), 6);
            let expected = GROUPS as f64 / 6.0;
            let chi: f64 = seen.values().map(|n| (*n as f64 - expected).powi(2) / expected).sum();
            assert!(chi < 20.515, "seed {seed}: {chi}, {seen:?}");
        }
    }

    #[test]
    fn another_seed_or_group_is_another_order_and_the_same_is_the_same_for_ever() {
        // Worked out with Python's hashlib: a comparison that is opened again must hide the same columns.
        assert_eq!(blind_order(1, "row 1", 8), blind_order(1, "row 1", 8));
        assert_eq!(blind_order(42, "a cat", 5), [1, 3, 0, 4, 2]);
        let orders: std::collections::HashSet<_> =
            (0..50).flat_map(|n| [blind_order(n, "a", 12), blind_order(0, &format!("b{n}"), 12)]).collect();
        assert_eq!(orders.len(), 100);
        assert!(blind_order(1, "", 0).is_empty());
        assert_eq!(blind_order(1, "", 1), [0]);
    }

    proptest::proptest! {
        #[test]
        fn an_order_has_every_column_once(seed: u64, group in "\\PC{0,20}", columns in 0_usize..40) {
            let mut order = blind_order(seed, &group, columns);
            order.sort_unstable();
            proptest::prop_assert_eq!(order, (0..columns).collect::<Vec<_>>());
        }
    }
}
