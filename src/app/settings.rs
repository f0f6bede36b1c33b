//! Room `app`: what the user has chosen for the answers. Plain data; drawn by `settings_ui`.

use std::hash::{BuildHasher, RandomState};

use crate::engine::ModelInfo;
use crate::model::config::GenerationDefaults;
use crate::model::preprocessor::TokenRange;
use crate::model::sampler::Sampling;
use crate::remote::ServerModel;

/// Image tokens of one picture at most, where the model itself would allow more than the context can bear.
const USUAL_IMAGE_TOKENS: u32 = 2048;

/// How answers are to be made.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Instructions before the conversation; blank: none.
    pub system_prompt: String,
    /// The user has chosen how tokens are chosen; otherwise each model's own way is taken.
    pub own_sampling: bool,
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
    /// The answer ends before the first of these, one a line; `\n` stands for a new line.
    pub stop_lines: String,
    /// The user has chosen the image tokens; otherwise a bearable number is taken for each model.
    pub own_image_tokens: bool,
    /// Use `image_tokens` instead of the model's own limits.
    pub choose_image_tokens: bool,
    /// Image tokens a picture may take.
    pub image_tokens: TokenRange,
    /// The server and model that answer; `None`: the model of this machine.
    pub answers_from: Option<ServerModel>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            system_prompt: String::new(),
            own_sampling: false,
            greedy: true,
            sampling: sampling_of(&GenerationDefaults::default()),
            new_seed: true,
            limit_tokens: false,
            max_tokens: 1024,
            stop_lines: String::new(),
            own_image_tokens: false,
            choose_image_tokens: false,
            image_tokens: TokenRange { min_tokens: 4, max_tokens: USUAL_IMAGE_TOKENS },
            answers_from: None,
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
        self.own_sampling = false;
        self.greedy = !defaults.do_sample;
        self.sampling = Sampling { seed: self.sampling.seed, ..sampling_of(defaults) };
    }

    /// Fits what the user has not chosen to a model, and what they have to its limits.
    pub fn fit(&mut self, info: &ModelInfo) {
        if !self.own_sampling {
            self.use_defaults_of(&info.defaults);
        }
        let least = u32::try_from(info.image_tokens.0).unwrap_or(u32::MAX).max(1);
        let most = u32::try_from(info.image_tokens.1).unwrap_or(u32::MAX).max(least);
        if self.own_image_tokens {
            return;
        }
        // One large photograph must not fill the context; the limit is shown and can be taken away.
        let bearable = u32::try_from(info.context / 4).unwrap_or(u32::MAX).clamp(1, USUAL_IMAGE_TOKENS);
        self.choose_image_tokens = most > bearable;
        self.image_tokens = TokenRange {
            min_tokens: least.min(bearable),
            max_tokens: most.min(bearable).max(least.min(bearable)),
        };
    }

    /// Texts that end an answer.
    #[must_use]
    pub fn stop_strings(&self) -> Vec<String> {
        let lines = self.stop_lines.lines().filter(|line| !line.is_empty());
        lines.map(|line| line.replace("\\n", "\n").replace("\\t", "\t")).collect()
    }

    /// What Qwen recommends for questions about pictures and for text alone (the model's page): the presets that are
    /// always there.
    #[must_use]
    pub fn recommended(with_pictures: bool) -> Sampling {
        let (temperature, top_p, top_k, presence_penalty) =
            if with_pictures { (0.7, 0.8, 20, 1.5) } else { (1.0, 1.0, 40, 2.0) };
        Sampling { temperature, top_p, top_k, presence_penalty, ..Sampling::GREEDY }
    }

    /// Takes one of the recommended presets.
    pub fn use_recommended(&mut self, with_pictures: bool) {
        (self.own_sampling, self.greedy) = (true, false);
        self.sampling = Sampling { seed: self.sampling.seed, ..Self::recommended(with_pictures) };
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
    fn stop_strings_are_lines_with_escapes() {
        let settings = Settings { stop_lines: "END\n\n\\n\\n##".into(), ..Settings::default() };
        assert_eq!(settings.stop_strings(), ["END", "\n\n##"]);
    }

    #[test]
    fn settings_are_read_from_older_and_stranger_files() {
        let settings: Settings = serde_json::from_str(r#"{"greedy": false, "unknown": 3}"#).unwrap();
        assert_eq!(settings, Settings { greedy: false, ..Settings::default() });
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
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
