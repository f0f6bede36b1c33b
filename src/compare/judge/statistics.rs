//! Room `compare`: ratings and verdicts in numbers, each with how sure it is: shares with Wilson's interval, means with
//! Student's t, wins between columns with the sign test, agreement with Cohen's kappa. Checked against scipy and
//! statsmodels.

mod agreement;
mod distributions;
mod wins;

#[cfg(test)]
mod tests;

use serde::Serialize;

pub use agreement::Agreement;
pub use distributions::sign_test;
pub use wins::{Record, Wins};

use self::distributions::{NORMAL_97_5, t_quantile};

/// From where to where a value lies, 95 times in 100.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// How many of how many: wins of comparisons, passes of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Proportion {
    /// So many did.
    pub yes: usize,
    /// Of so many.
    pub of: usize,
}

impl Proportion {
    /// Counts what is true: pass rates of verdicts.
    pub fn count(outcomes: impl IntoIterator<Item = bool>) -> Self {
        outcomes
            .into_iter()
            .fold(Self { yes: 0, of: 0 }, |all, yes| Self { yes: all.yes + usize::from(yes), of: all.of + 1 })
    }

    /// The share, from 0 to 1; `None`: of nothing.
    #[must_use]
    pub fn rate(self) -> Option<f64> {
        (self.of > 0).then(|| self.yes as f64 / self.of as f64)
    }

    /// Wilson's score interval at 95 % (Wilson 1927, JASA 22): unlike the simple one it stays between 0 and 1 and says
    /// something of 0 of 5. `None`: of nothing.
    #[must_use]
    pub fn interval(self) -> Option<Interval> {
        let (rate, n) = (self.rate()?, self.of as f64);
        let z2 = NORMAL_97_5 * NORMAL_97_5;
        let middle = (rate + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = NORMAL_97_5 / (1.0 + z2 / n) * (rate * (1.0 - rate) / n + z2 / (4.0 * n * n)).sqrt();
        // Of all and of none the ends are exact, whatever the rounding.
        let low = if self.yes == 0 { 0.0 } else { (middle - half).max(0.0) };
        let high = if self.yes >= self.of { 1.0 } else { (middle + half).min(1.0) };
        Some(Interval { low, high })
    }
}

/// A mean of values: stars, tokens, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// The values' standard deviation, with n − 1; 0 for one value.
    pub deviation: f64,
    /// How many values there are.
    pub count: usize,
}

impl Mean {
    /// Of these values; what is no finite number is left out. `None`: there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let count = finite().count();
        if count == 0 {
            return None;
        }
        let n = count as f64;
        // Divided first: a sum of large values could be infinite.
        let mean: f64 = finite().map(|value| value / n).sum();
        let squares: f64 = finite().map(|value| (value - mean).powi(2)).sum();
        let deviation = if count > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 };
        Some(Self { value: mean, deviation, count })
    }

    /// Where the mean of very many such values lies: Student's t interval at 95 %. `None`: of fewer than two values
    /// nobody can say.
    #[must_use]
    pub fn interval(self) -> Option<Interval> {
        let freedom = self.count.checked_sub(1).filter(|freedom| *freedom > 0)? as f64;
        let half = t_quantile(0.975, freedom) * self.deviation / (self.count as f64).sqrt();
        Some(Interval { low: self.value - half, high: self.value + half })
    }
}
