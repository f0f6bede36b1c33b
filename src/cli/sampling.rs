//! The flags that say how tokens are chosen, shared by the subcommands that answer.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::model::config::GenerationDefaults;
use crate::model::sampler::Sampling;
use crate::remote::Choosing;

/// Settings given; those that are not are the model's own.
#[derive(clap::Args, Clone, Debug)]
pub struct SamplingArgs {
    /// Always the most likely token
    #[arg(long, conflicts_with_all = ["temperature", "top_p", "top_k", "min_p"])]
    pub greedy: bool,

    /// Flattens (above 1) or sharpens (below 1) the distribution; 0 is greedy
    #[arg(long, allow_negative_numbers = true)]
    pub temperature: Option<f32>,

    /// Keep the smallest set of tokens whose probability reaches this
    #[arg(long, allow_negative_numbers = true)]
    pub top_p: Option<f32>,

    /// Keep the k most likely tokens; 0: all
    #[arg(long, allow_negative_numbers = true)]
    pub top_k: Option<u32>,

    /// Keep tokens at least this likely against the most likely one
    #[arg(long, allow_negative_numbers = true)]
    pub min_p: Option<f32>,

    /// Taken off the logits of tokens the answer already holds
    #[arg(long, allow_negative_numbers = true)]
    pub presence_penalty: Option<f32>,

    /// Divides the logits of tokens that prompt or answer already hold
    #[arg(long, allow_negative_numbers = true)]
    pub repetition_penalty: Option<f32>,

    /// Makes the draws repeatable; without it each run draws anew and says its seed
    #[arg(long, allow_negative_numbers = true)]
    pub seed: Option<u64>,
}

impl SamplingArgs {
    /// What is wrong with the flags, found without a model.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn check(&self) -> Result<()> {
        self.over(Sampling::GREEDY).map(drop)
    }

    /// The settings given, for a server, to which the others are left.
    #[must_use]
    pub fn choosing(&self) -> Choosing {
        Choosing {
            temperature: if self.greedy { Some(0.0) } else { self.temperature },
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            presence_penalty: self.presence_penalty,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
        }
    }

    /// The settings given, over the model's own, with a seed drawn here if none is given and one is needed; was it?
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn resolve(&self, defaults: &GenerationDefaults) -> Result<(Sampling, bool)> {
        let mut sampling =
            self.over(if self.greedy { Sampling::GREEDY } else { Sampling::of_model(defaults) })?;
        let drawn = self.seed.is_none() && sampling.temperature > 0.0;
        if drawn {
            sampling.seed = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |d| u64::from(d.subsec_nanos()) ^ (d.as_secs() << 20));
        }
        Ok((sampling, drawn))
    }

    /// `own` with the flags in their places.
    fn over(&self, own: Sampling) -> Result<Sampling> {
        let sampling = self.choosing().over(own);
        sampling.check().map_err(|e| e.help("`ocelli generate --help` says what the settings do"))?;
        Ok(sampling)
    }
}

/// A limit on answers must leave room for one.
///
/// # Errors
/// It does not.
pub(super) fn check_max_tokens(max_tokens: Option<usize>) -> Result<()> {
    if max_tokens == Some(0) {
        return Err(
            Error::new("reading --max-tokens", "an answer of 0 tokens is none").help("give 1 or more")
        );
    }
    Ok(())
}
