//! Room `hub`: the models Ocelli knows by itself. Sizes follow from the models' shapes; the hub says the exact ones.

use super::names::RepoId;
use crate::model::config::ModelConfig;
use crate::model::recipe::{Recipe, stored_tensors};
use crate::model::synth::Preset;
use crate::model::tensor_names::{TensorKind, checkpoint_tensors};

/// A model of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its repository.
    pub repo: &'static str,
    /// Its shapes.
    pub size: Preset,
    /// Does it think aloud before it answers?
    pub thinks: bool,
    /// Is it a repository of GGUF files?
    pub is_gguf: bool,
    /// Its licence.
    pub licence: &'static str,
}

const fn entry(repo: &'static str, size: Preset, thinks: bool, is_gguf: bool) -> Entry {
    Entry { repo, size, thinks, is_gguf, licence: "Apache-2.0" }
}

/// The models, the smallest first; those to begin with before those for special wishes.
pub const MODELS: [Entry; 12] = [
    entry("Qwen/Qwen3-VL-2B-Instruct", Preset::TwoB, false, false),
    entry("Qwen/Qwen3-VL-4B-Instruct", Preset::FourB, false, false),
    entry("Qwen/Qwen3-VL-8B-Instruct", Preset::EightB, false, false),
    entry("Qwen/Qwen3-VL-2B-Thinking", Preset::TwoB, true, false),
    entry("Qwen/Qwen3-VL-4B-Thinking", Preset::FourB, true, false),
    entry("Qwen/Qwen3-VL-8B-Thinking", Preset::EightB, true, false),
    entry("Qwen/Qwen3-VL-2B-Instruct-GGUF", Preset::TwoB, false, true),
    entry("Qwen/Qwen3-VL-4B-Instruct-GGUF", Preset::FourB, false, true),
    entry("Qwen/Qwen3-VL-8B-Instruct-GGUF", Preset::EightB, false, true),
    entry("Qwen/Qwen3-VL-2B-Thinking-GGUF", Preset::TwoB, true, true),
    entry("Qwen/Qwen3-VL-4B-Thinking-GGUF", Preset::FourB, true, true),
    entry("Qwen/Qwen3-VL-8B-Thinking-GGUF", Preset::EightB, true, true),
];

impl Entry {
    /// Its repository's name.
    ///
    /// # Errors
    /// Never, for those of the catalogue (tested).
    pub fn repo_id(&self) -> crate::error::Result<RepoId> {
        self.repo.parse()
    }

    /// Its shapes.
    #[must_use]
    pub fn config(&self) -> ModelConfig {
        self.size.config()
    }

    /// Bytes to download, about: bf16 weights or, of GGUFs, the text in `Q8_0` and the vision tower in f16.
    #[must_use]
    pub fn download_bytes(&self) -> u64 {
        let tensors = checkpoint_tensors(&self.config());
        let bytes = |kind: TensorKind, elements: u64| match kind {
            // 32 numbers in 34 bytes.
            TensorKind::Body | TensorKind::Head | TensorKind::Embedding if self.is_gguf => elements * 34 / 32,
            _ => elements * 2,
        };
        tensors.iter().map(|t| bytes(t.kind, t.shape.iter().product::<usize>() as u64)).sum()
    }

    /// Bytes on the disk of the model converted with `recipe`, about.
    #[must_use]
    pub fn converted_bytes(&self, recipe: Recipe) -> u64 {
        let tensors = stored_tensors(&self.config(), recipe).unwrap_or_default();
        tensors.iter().map(|tensor| tensor.bytes() as u64).sum()
    }
}

/// The entry of a repository.
#[must_use]
pub fn find(repo: &RepoId) -> Option<&'static Entry> {
    MODELS.iter().find(|entry| entry.repo.eq_ignore_ascii_case(repo.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_has_a_repository_and_sizes_near_those_published() {
        for entry in &MODELS {
            assert_eq!(entry.repo_id().expect("a name").as_str(), entry.repo);
            assert_eq!(find(&entry.repo_id().expect("a name")), Some(entry));
        }
        let gigabytes = |index: usize| MODELS[index].download_bytes() as f64 / 1e9;
        // As on the hub: 4.26, 8.88, 17.53; of the GGUFs 1.83 + 0.82, 4.28 + 0.84, 8.71 + 1.16.
        for (index, published) in [(0, 4.26), (1, 8.88), (2, 17.53), (6, 2.65), (7, 5.12), (8, 9.87)] {
            let bytes = gigabytes(index);
            assert!((bytes / published - 1.0).abs() < 0.02, "{}: {bytes} GB", MODELS[index].repo);
        }
    }
}
