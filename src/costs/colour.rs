//! How remarkable a token is, from 0 to 1, so that a text can be coloured by it: one hue, the stronger the more remarkable, so that who sees
//! few colours sees it as well.

use super::Costs;

/// What tokens are coloured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// How long the reader waited for it.
    Latency,
    /// How likely it was.
    Probability,
    /// How undecided the model was.
    Entropy,
    /// How many tokens were likelier.
    Rank,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Latency, Self::Probability, Self::Entropy, Self::Rank];
}

/// Nats from which on the model counts as quite undecided: a choice among some fifty equally likely tokens.
const MOST_ENTROPY: f64 = 4.0;
/// The rank that is as remarkable as any higher one: behind all alternatives that are kept.
const MOST_RANK: f64 = 20.0;

/// A metric over the tokens of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Which.
    pub metric: Metric,
    /// The value that is not remarkable.
    pub least: f64,
    /// The value that is as remarkable as any beyond it.
    pub most: f64,
}

impl Scale {
    /// The scale for an answer: that of latency reaches from its fast tokens to its slowest but one in a hundred.
    #[must_use]
    pub fn new(metric: Metric, costs: &[&Costs]) -> Self {
        let (least, most) = match metric {
            Metric::Probability => (1.0, 0.0),
            Metric::Entropy => (0.0, MOST_ENTROPY),
            Metric::Rank => (0.0, MOST_RANK),
            Metric::Latency => {
                let all = costs.iter().flat_map(|c| (1..c.tokens.len()).filter_map(|n| c.latency_ms(n)));
                let mut all: Vec<f64> = all.collect();
                all.sort_by(f64::total_cmp);
                let at = |share: f64| all.get((all.len() as f64 * share) as usize).or(all.last()).copied();
                let (least, most) = (at(0.05).unwrap_or(0.0), at(0.99).unwrap_or(1.0));
                // Where all take about the same, differences are noise, and no token is remarkable.
                (least, most.max(least * 1.5 + 1e-3))
            }
        };
        Self { metric, least, most }
    }

    /// A token's value; `None`: not known.
    #[must_use]
    pub fn value(&self, costs: &Costs, token: usize) -> Option<f64> {
        let cost = costs.tokens.get(token)?;
        let value = match self.metric {
            // The first one of all waits for the prompt.
            Metric::Latency if token == 0 || costs.is_copied => return None,
            Metric::Latency => costs.latency_ms(token)?,
            Metric::Probability => f64::from(cost.probability()),
            Metric::Entropy => f64::from(cost.entropy),
            Metric::Rank if cost.rank == u32::MAX => return None,
            Metric::Rank => f64::from(cost.rank),
        };
        (!value.is_nan()).then_some(value)
    }

    /// How remarkable a value is, 0 to 1.
    #[must_use]
    pub fn strength(&self, value: f64) -> f64 {
        let share = match self.metric {
            // The first few ranks differ most.
            Metric::Rank => (1.0 + value.max(0.0)).ln() / (1.0 + self.most).ln(),
            _ => (value - self.least) / (self.most - self.least),
        };
        share.clamp(0.0, 1.0)
    }

    /// The value that is this remarkable: what a legend says along its length.
    #[must_use]
    pub fn value_at(&self, strength: f64) -> f64 {
        match self.metric {
            Metric::Rank => ((1.0 + self.most).ln() * strength).exp() - 1.0,
            _ => self.least + (self.most - self.least) * strength,
        }
    }
}
