//! The logit lens: what a layer's output would say if the model ended there. The final norm and the head are applied to it
//! as to the last layer's (nostalgebraist, 2020: "interpreting GPT: the logit lens"); here their logits become figures. Pure CPU.

use std::cmp::Ordering;

use crate::error::{Error, Result};

/// What the logits of one layer say.
#[derive(Clone, Debug, PartialEq)]
pub struct Lens {
    /// The most likely ids with their natural log-probabilities, best first; of equal ones the lower id.
    pub top: Vec<(u32, f32)>,
    /// Entropy of the distribution, nats.
    pub entropy: f32,
    /// Natural log-probability of the token that was chosen in the end.
    pub chosen_logprob: f32,
    /// How many tokens are more likely than that one here.
    pub chosen_rank: u32,
}

impl Lens {
    /// Of logits `[vocab]`, with the `most` likely ids; `chosen` is an id of the vocabulary.
    ///
    /// # Errors
    /// A logit is no number, or `chosen` is beyond the vocabulary.
    pub fn of(logits: &[f32], chosen: u32, most: usize) -> Result<Self> {
        const DOING: &str = "looking at a layer's logits";
        let Some(&own) = logits.get(chosen as usize) else {
            return Err(Error::new(DOING, format!("token {chosen} is beyond the vocabulary")));
        };
        if logits.iter().any(|l| !l.is_finite()) {
            return Err(Error::new(DOING, "they are not numbers (NaN)").help(
                "the weights are damaged or the driver miscomputes: verify the model, or try --adapter",
            ));
        }
        let highest = logits.iter().copied().fold(f32::MIN, f32::max);
        let (mut mass, mut weighted) = (0f64, 0f64);
        for &logit in logits {
            let above = f64::from(logit) - f64::from(highest);
            let weight = above.exp();
            mass += weight;
            weighted += weight * above;
        }
        let log_mass = mass.ln();
        let logprob = |logit: f32| (f64::from(logit) - f64::from(highest) - log_mass) as f32;
        let better = |&a: &u32, &b: &u32| -> Ordering {
            logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b))
        };
        let mut ids: Vec<u32> = (0..u32::try_from(logits.len()).unwrap_or(u32::MAX)).collect();
        if most < ids.len() {
            ids.select_nth_unstable_by(most, better);
            ids.truncate(most);
        }
        ids.sort_unstable_by(better);
        Ok(Self {
            top: ids.into_iter().map(|id| (id, logprob(logits[id as usize]))).collect(),
            entropy: (log_mass - weighted / mass) as f32,
            chosen_logprob: logprob(own),
            chosen_rank: u32::try_from(logits.iter().filter(|&&l| l > own).count()).unwrap_or(u32::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lens_has_the_best_ids_their_log_probabilities_and_the_entropy() {
        // Probabilities 1/8, 1/2, 1/8, 1/4: entropy 1.75 bits.
        let logits = [0.0f32, 2.0, 0.0, 1.0].map(|bits| bits * 2f32.ln() + 300.0);
        let lens = Lens::of(&logits, 2, 3).expect("numbers");
        assert_eq!(lens.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 3, 0]);
        for (&(_, logprob), p) in lens.top.iter().zip([0.5f32, 0.25, 0.125]) {
            assert!((logprob - p.ln()).abs() < 1e-4, "{logprob}");
        }
        assert!((lens.entropy - 1.75 * 2f32.ln()).abs() < 1e-4, "{}", lens.entropy);
        assert!((lens.chosen_logprob - 0.125f32.ln()).abs() < 1e-4);
        assert_eq!(lens.chosen_rank, 2, "its equal is not more likely");
        assert_eq!(Lens::of(&logits, 1, 10).expect("numbers").top.len(), 4, "no more than there are");
        assert_eq!(Lens::of(&logits, 1, 0).expect("numbers").top, []);
    }

    #[test]
    fn logits_that_are_no_numbers_and_ids_beyond_the_vocabulary_are_errors() {
        assert!(Lens::of(&[1.0, f32::NAN], 0, 1).is_err());
        assert!(Lens::of(&[1.0, f32::INFINITY], 0, 1).is_err());
        assert!(Lens::of(&[1.0, 2.0], 2, 1).is_err());
    }
}
