//! What a model will take, said before it is taken, and what to do where it is more than there is.
//!
//! The plan adds up the very sizes that loading asks for; a test holds it against what the device counts afterwards.

use super::config::ModelConfig;
use super::converted::ConvertedModel;
use super::kv_cache::{KvCache, KvFormat, PAGE_TOKENS};
use super::loaded::LoadOptions;
use super::picture_arena::PictureArena;
use super::recipe::{Recipe, StoredTensor, stored_tensors};
use super::sampler::Sampler;
use super::tensor_names::is_vision;
use super::text_decoder::TextDecoder;
use super::weights::IN_FLIGHT_BYTES;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::memory::machine_memory;
use crate::gpu::{Gpu, RECORDER_BYTES};

/// Contexts worth offering where the one asked for does not fit, tokens.
const CONTEXTS: [usize; 10] = [131_072, 65_536, 32_768, 16_384, 8192, 4096, 2048, 1024, 512, 256];
/// Of a device's memory this share is for a model; the rest is the desktop's, the driver's, and for pictures on their way.
const USABLE_SHARE: f64 = 0.9;

/// What loading will take, said before it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MemoryPlan {
    /// Weights.
    pub weights_bytes: u64,
    /// KV cache for the chosen context.
    pub kv_bytes: u64,
    /// Activations, tables, logits, encoded pictures: what is there from the beginning.
    pub working_bytes: u64,
    /// While loading: copies of weights on their way.
    pub passing_bytes: u64,
    /// Tokens of context those are for.
    pub context: usize,
}

impl MemoryPlan {
    /// For a model and the room to make.
    #[must_use]
    pub fn new(model: &ConvertedModel, options: &LoadOptions) -> Self {
        let weights = if options.text_only { model.text_bytes() } else { model.weight_bytes() };
        Self::of_weights(model.config(), model.recipe(), weights, options)
    }

    /// For a model of this configuration that is not there yet.
    ///
    /// # Errors
    /// The recipe cannot hold it.
    pub fn of_config(config: &ModelConfig, recipe: Recipe, options: &LoadOptions) -> Result<Self> {
        let is_wanted = |tensor: &&StoredTensor| !options.text_only || !is_vision(&tensor.name);
        let weights = stored_tensors(config, recipe)?
            .iter()
            .filter(is_wanted)
            .map(|tensor| tensor.bytes() as u64)
            .sum();
        Ok(Self::of_weights(config, recipe, weights, options))
    }

    fn of_weights(config: &ModelConfig, recipe: Recipe, weights_bytes: u64, options: &LoadOptions) -> Self {
        let format = options.kv_format(recipe);
        let pages = options.context.div_ceil(PAGE_TOKENS);
        let context = pages * PAGE_TOKENS;
        let working = TextDecoder::working_bytes(&config.text, options.prefill_rows, context)
            + PictureArena::first_bytes(config)
            + Sampler::state_bytes(config.text.vocab_size)
            + KvCache::table_bytes(&config.text, format, pages)
            + RECORDER_BYTES;
        Self {
            weights_bytes,
            kv_bytes: (pages * KvCache::bytes_per_page(&config.text, format)) as u64,
            working_bytes: working as u64,
            passing_bytes: IN_FLIGHT_BYTES as u64,
            context,
        }
    }

    /// What is on the device once the model is loaded.
    #[must_use]
    pub fn loaded_bytes(&self) -> u64 {
        self.weights_bytes + self.kv_bytes + self.working_bytes
    }

    /// The most that is taken on the way there.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.loaded_bytes() + self.passing_bytes
    }
}

/// Room for a model: what the adapter and the machine report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Room {
    /// Bytes a model may take, at its peak.
    pub bytes: u64,
    /// Bytes the adapter or the machine has in all.
    pub of_bytes: u64,
    /// Is it the machine's own memory, which other programs use as well?
    pub is_shared: bool,
    /// Does the processor do the work of a device? Then what fits may still be far too slow.
    pub is_software: bool,
}

impl Room {
    /// What the driver and the system say; `None` where they say nothing.
    #[must_use]
    pub fn of(gpu: &Gpu) -> Option<Self> {
        let machine = machine_memory();
        let adapter = gpu.adapter_memory(machine.map(|memory| memory.total_bytes))?;
        let room =
            Self::new(adapter.total_bytes, adapter.is_shared, machine.map(|memory| memory.available_bytes));
        Some(Self { is_software: gpu.is_software(), ..room })
    }

    /// So much and no more.
    #[must_use]
    pub fn limited(bytes: u64) -> Self {
        Self { bytes, of_bytes: bytes, is_shared: false, is_software: false }
    }

    /// From the adapter's memory and, where that is the machine's, what is available of it now.
    #[must_use]
    pub fn new(adapter_bytes: u64, is_shared: bool, available_bytes: Option<u64>) -> Self {
        let usable = (adapter_bytes as f64 * USABLE_SHARE) as u64;
        let bytes = if is_shared { usable.min(available_bytes.unwrap_or(usable)) } else { usable };
        Self { bytes, of_bytes: adapter_bytes, is_shared, is_software: false }
    }
}

/// Checks that a model fits before anything is taken.
///
/// # Errors
/// It does not: the error has the numbers, and the nearest setting that does fit.
pub fn check_room(
    config: &ModelConfig,
    recipe: Recipe,
    options: &LoadOptions,
    plan: &MemoryPlan,
    room: &Room,
) -> Result<()> {
    if plan.peak_bytes() <= room.bytes {
        return Ok(());
    }
    let gigabytes = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
    let cause = format!(
        "it needs {} (weights {}, KV cache for {} tokens {}, working memory {}, while loading {}) and {} of {} can be used",
        gigabytes(plan.peak_bytes()),
        gigabytes(plan.weights_bytes),
        plan.context,
        gigabytes(plan.kv_bytes),
        gigabytes(plan.working_bytes),
        gigabytes(plan.passing_bytes),
        gigabytes(room.bytes),
        gigabytes(room.of_bytes),
    );
    let mut help = match nearest(config, recipe, options, room) {
        Some((fitting, context)) if fitting == recipe => format!("a context of {context} tokens fits (--context {context})"),
        Some((fitting, context)) => {
            format!("the recipe {fitting} with a context of {context} tokens fits (--recipe {fitting} --context {context})")
        }
        None => "no recipe of this model fits: take a smaller model, close other programs, or choose another adapter".to_owned(),
    };
    let smaller_cache = LoadOptions { kv: Some(KvFormat::Int8), ..*options };
    let plan = MemoryPlan::of_config(config, recipe, &smaller_cache);
    if plan.is_ok_and(|plan| plan.peak_bytes() <= room.bytes) {
        help += "; or all of it with the KV cache in int8 (--kv int8)";
    }
    Err(Error::new("loading the model", cause).help(help).kind(ErrorKind::DoesNotFit))
}

/// The setting nearest to the one asked for that fits: a shorter context first, then a smaller recipe.
#[must_use]
pub fn nearest(
    config: &ModelConfig,
    recipe: Recipe,
    options: &LoadOptions,
    room: &Room,
) -> Option<(Recipe, usize)> {
    let smaller = Recipe::ALL.into_iter().rev().skip_while(|other| *other != recipe);
    for recipe in smaller {
        // Also the context that was asked for: a smaller recipe may be all that is needed.
        let shorter = CONTEXTS.into_iter().filter(|context| *context < options.context);
        for context in std::iter::once(options.context).chain(shorter) {
            let options = LoadOptions { context, ..*options };
            let plan = MemoryPlan::of_config(config, recipe, &options).ok()?;
            if plan.peak_bytes() <= room.bytes {
                return Some((recipe, context));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::synth::Preset;

    fn room(gigabytes: f64) -> Room {
        let bytes = (gigabytes * 1e9) as u64;
        Room::limited(bytes)
    }

    #[test]
    fn what_does_not_fit_is_refused_with_numbers_and_the_nearest_that_does() {
        let config = Preset::TwoB.config();
        let options = LoadOptions { context: 32_768, ..LoadOptions::default() };
        let plan = MemoryPlan::of_config(&config, Recipe::Int8Hu, &options).expect("a plan");
        check_room(&config, Recipe::Int8Hu, &options, &plan, &room(16.0)).expect("fits");
        let refuse = |gigabytes, recipe| {
            let plan = MemoryPlan::of_config(&config, recipe, &options).expect("a plan");
            let error =
                check_room(&config, recipe, &options, &plan, &room(gigabytes)).expect_err("does not fit");
            assert_eq!(error.get_kind(), ErrorKind::DoesNotFit);
            error.to_string()
        };
        let error = refuse(6.0, Recipe::Int8Hu);
        assert!(
            error.contains("KV cache for 32768 tokens 3.76 GB")
                && error.contains("--context 16384); or all of it with the KV cache in int8 (--kv int8)"),
            "{error}"
        );
        let in_int8 = LoadOptions { kv: Some(KvFormat::Int8), ..options };
        let plan = MemoryPlan::of_config(&config, Recipe::Int8Hu, &in_int8).expect("a plan");
        assert_eq!(plan.kv_bytes, 32_768 * 28 * 2 * 8 * (128 + 4), "a scale of four bytes a token and head");
        check_room(&config, Recipe::Int8Hu, &in_int8, &plan, &room(6.0)).expect("fits");
        let error = refuse(4.4, Recipe::F16);
        assert!(error.contains("--recipe int8lin --context 8192"), "{error}");
        assert!(refuse(1.0, Recipe::Int8Hu).contains("smaller model"));
    }

    #[test]
    fn shared_memory_counts_as_far_as_it_is_available() {
        assert_eq!(Room::new(1000, false, Some(10)).bytes, 900);
        assert_eq!(Room::new(1000, true, Some(500)).bytes, 500);
        assert_eq!(Room::new(1000, true, Some(5000)).bytes, 900);
        assert_eq!(Room::new(1000, true, None).bytes, 900);
    }
}
