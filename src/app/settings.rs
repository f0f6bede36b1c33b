//! Room `app`: what the user has chosen for the answers. Plain data; drawn by `settings_ui`.

use std::hash::{BuildHasher, RandomState};

use crate::engine::ModelInfo;
use crate::model::config::GenerationDefaults;
use crate::model::preprocessor::TokenRange;
use crate::model::sampler::Sampling;

/// Image tokens of one picture at most, where the model itself would allow more than the context can bear.
const USUAL_IMAGE_TOKENS: u32 = 2048;

/// How answers are to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Instructions before the conversation; blank: none.
    pub system_prompt: String,
    /// Always the most likely token; the values of `sampling` then wait.
    pub greedy: bool,
    /// Temperature and the rest, used unless `greedy`. The penalties count in both modes.
    pub sampling: Sampling,
    /// Take another seed for each answer.
    pub new_seed: bool,
    /// End answers after `max_tokens`.
    pub limit_tokens: bool,
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
    /// Use `image_tokens` instead of the model's own limits.
    pub choose_image_tokens: bool,
    /// Image tokens a picture may take.
    pub image_tokens: TokenRange,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            system_prompt: String::new(),
            greedy: true,
            sampling: sampling_of(&GenerationDefaults::default()),
            new_seed: true,
            limit_tokens: false,
            max_tokens: 1024,
            choose_image_tokens: false,
            image_tokens: TokenRange { min_tokens: 4, max_tokens: USUAL_IMAGE_TOKENS },
        }
    }
}

fn sampling_of(defaults: &GenerationDefaults) -> Sampling {
    Sampling {
        temperature: defaults.temperature,
        top_p: defaults.top_p,
        top_k: defaults.top_k,
        repetition_penalty: defaults.repetition_penalty,
        ..Sampling::GREEDY
    }
}

impl Settings {
    /// Takes over how the model's authors suggest to sample.
    pub fn use_defaults_of(&mut self, defaults: &GenerationDefaults) {
        self.greedy = !defaults.do_sample;
        self.sampling = Sampling { seed: self.sampling.seed, ..sampling_of(defaults) };
    }

    /// Fits the choices to a model that was just loaded.
    pub fn model_loaded(&mut self, info: &ModelInfo) {
        self.use_defaults_of(&info.defaults);
        let least = u32::try_from(info.image_tokens.0).unwrap_or(u32::MAX).max(1);
        let most = u32::try_from(info.image_tokens.1).unwrap_or(u32::MAX).max(least);
        // One large photograph must not fill the context; the limit is shown and can be taken away.
        let bearable = u32::try_from(info.context / 4).unwrap_or(u32::MAX).clamp(1, USUAL_IMAGE_TOKENS);
        self.choose_image_tokens = most > bearable;
        self.image_tokens = TokenRange {
            min_tokens: least.min(bearable),
            max_tokens: most.min(bearable).max(least.min(bearable)),
        };
    }

    /// The sampling of the next answer; draws its seed.
    pub fn next_sampling(&mut self) -> Sampling {
        if self.greedy {
            return Sampling {
                presence_penalty: self.sampling.presence_penalty,
                repetition_penalty: self.sampling.repetition_penalty,
                ..Sampling::GREEDY
            };
        }
        if self.new_seed {
            // The hasher's keys are the standard library's own randomness; six digits can be read and typed.
            self.sampling.seed = RandomState::new().hash_one(0) % 1_000_000;
        }
        self.sampling
    }

    /// The limit of the next answer.
    #[must_use]
    pub fn token_limit(&self) -> Option<usize> {
        self.limit_tokens.then_some(self.max_tokens)
    }

    /// The image tokens of the next question.
    #[must_use]
    pub fn image_token_range(&self) -> Option<TokenRange> {
        self.choose_image_tokens.then_some(self.image_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_keeps_the_penalties_and_nothing_else() {
        let mut settings = Settings { greedy: true, ..Settings::default() };
        settings.sampling =
            Sampling { temperature: 0.9, top_k: 7, presence_penalty: 1.5, ..settings.sampling };
        assert_eq!(settings.next_sampling(), Sampling { presence_penalty: 1.5, ..Sampling::GREEDY });
    }

    #[test]
    fn a_fixed_seed_stays_and_a_new_one_is_drawn_otherwise() {
        let mut settings = Settings { greedy: false, new_seed: false, ..Settings::default() };
        settings.sampling.seed = 42;
        assert_eq!(settings.next_sampling().seed, 42);
        settings.new_seed = true;
        let seeds: std::collections::HashSet<u64> = (0..8).map(|_| settings.next_sampling().seed).collect();
        assert!(seeds.len() > 4, "{seeds:?}");
        assert_eq!(settings.next_sampling().seed, settings.sampling.seed);
    }

    #[test]
    fn the_models_own_defaults_are_taken_over() {
        let mut settings = Settings::default();
        let defaults = GenerationDefaults {
            do_sample: true,
            temperature: 0.7,
            top_p: 0.8,
            top_k: 20,
            ..GenerationDefaults::default()
        };
        settings.use_defaults_of(&defaults);
        assert!(!settings.greedy);
        assert_eq!(
            (settings.sampling.temperature, settings.sampling.top_p, settings.sampling.top_k),
            (0.7, 0.8, 20)
        );
    }
}
