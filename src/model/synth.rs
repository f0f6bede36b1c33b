//! Room: `model`. Checkpoints with random weights and the exact shapes of the real ones, in the hub's layout (bf16), so
//! that speed and memory can be measured where no real weights are. Only shapes are real: the answers mean nothing.

mod files;
mod random;
mod tokenizer;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

use half::bf16;
use half::slice::HalfFloatSliceExt;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::model::checkpoint::Dtype;
use crate::model::config::{CONFIG_FILE, ModelConfig, TextConfig, VisionConfig};
use crate::model::convert::partial::PartialFolder;
use crate::model::convert::writer::{Planned, ShardWriter, cut_into_shards, shard_name, write_file};
use crate::model::convert::{MAX_SHARD_BYTES, Progress, Stage, workers};
use crate::model::tensor_names::{FINAL_NORM, TensorKind, TensorSpec, checkpoint_tensors};
use random::Numbers;

const DOING: &str = "making a random checkpoint";

/// Elements of one piece of work.
const PIECE_ELEMENTS: u64 = 1 << 20;

/// The sizes of a made-up checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Qwen3-VL-2B: 4.26 GB, tied, one file.
    TwoB,
    /// Qwen3-VL-4B: 8.9 GB, tied, sharded.
    FourB,
    /// Qwen3-VL-8B: 17.5 GB, a head of its own, sharded.
    EightB,
    /// A few megabytes, with everything the others have, in small.
    Tiny,
}

impl Preset {
    /// All presets.
    pub const ALL: [Self; 4] = [Self::TwoB, Self::FourB, Self::EightB, Self::Tiny];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TwoB => "2b",
            Self::FourB => "4b",
            Self::EightB => "8b",
            Self::Tiny => "tiny",
        }
    }

    /// Ids of bytes and merges; the added tokens follow.
    fn base_ids(self) -> usize {
        if self == Self::Tiny { 992 } else { 151_643 }
    }

    /// The configuration.
    #[must_use]
    pub fn config(self) -> ModelConfig {
        let base = self.base_ids();
        let id =
            |content| tokenizer::added_id(base, content).and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
        ModelConfig {
            text: self.text(),
            vision: self.vision(),
            image_token_id: id("<|image_pad|>"),
            video_token_id: id("<|video_pad|>"),
            vision_start_token_id: id("<|vision_start|>"),
            vision_end_token_id: id("<|vision_end|>"),
            eos_token_ids: vec![id("<|im_end|>"), id("<|endoftext|>")],
        }
    }

    fn text(self) -> TextConfig {
        let (hidden_size, num_layers, num_heads, num_kv_heads, head_dim, intermediate_size) = match self {
            Self::TwoB => (2048, 28, 16, 8, 128, 6144),
            Self::FourB => (2560, 36, 32, 8, 128, 9728),
            Self::EightB => (4096, 36, 32, 8, 128, 12288),
            // heads * head_dim differs from the hidden size, as in the 4B.
            Self::Tiny => (128, 4, 4, 2, 64, 224),
        };
        TextConfig {
            vocab_size: if self == Self::Tiny { 1024 } else { 151_936 },
            hidden_size,
            num_layers,
            num_heads,
            num_kv_heads,
            head_dim,
            intermediate_size,
            rms_norm_eps: 1e-6,
            rope_theta: 5e6,
            mrope_section: if self == Self::Tiny { [12, 10, 10] } else { [24, 20, 20] },
            max_position_embeddings: 262_144,
            tie_word_embeddings: self != Self::EightB,
            tie_flags_disagree: false,
        }
    }

    fn vision(self) -> VisionConfig {
        let (depth, hidden_size, num_heads, intermediate_size, deepstack, positions) = match self {
            Self::TwoB | Self::FourB => (24, 1024, 16, 4096, [5, 11, 17], 2304),
            Self::EightB => (27, 1152, 16, 4304, [8, 16, 24], 2304),
            // A head of 36 and an MLP of 152: no multiples of 32, as in the 8B.
            Self::Tiny => (4, 72, 2, 152, [0, 1, 3], 144),
        };
        VisionConfig {
            depth,
            hidden_size,
            num_heads,
            intermediate_size,
            patch_size: 16,
            temporal_patch_size: 2,
            spatial_merge_size: 2,
            in_channels: 3,
            num_position_embeddings: positions,
            deepstack_indexes: deepstack.to_vec(),
            out_hidden_size: self.text().hidden_size,
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|p| p.name() == text).ok_or_else(|| {
            Error::new("reading the preset", format!("there is no preset named {text}"))
                .help("choose 2b, 4b, 8b or tiny")
        })
    }
}

/// Writes a checkpoint with random weights into the new folder `destination`, and returns the bytes of its weights.
/// Preset and seed determine every byte.
///
/// `progress` is called on this thread; setting `cancel` from another stops it soon.
///
/// # Errors
/// The destination exists, or a file cannot be written; cancelled. The destination does not exist then.
pub fn synthesise(
    preset: Preset,
    seed: u64,
    destination: &Path,
    progress: &mut dyn FnMut(&Progress<'_>),
    cancel: &AtomicBool,
) -> Result<u64> {
    let config = preset.config();
    let specs = checkpoint_tensors(&config);
    let planned: Vec<Planned> = specs
        .iter()
        .map(|spec| Planned { name: spec.name.clone(), dtype: Dtype::Bf16, shape: spec.shape.clone() })
        .collect();
    let total_bytes: u64 = planned.iter().map(Planned::bytes).sum();
    let partial = PartialFolder::create(destination, DOING)?;
    let folder = partial.path();

    let limit = if preset == Preset::TwoB { u64::MAX } else { MAX_SHARD_BYTES };
    let starts = cut_into_shards(planned.iter().map(Planned::bytes), limit);
    let name = |index: usize| match starts.len() {
        1 => "model.safetensors".to_owned(),
        count => shard_name(index, count),
    };
    let jobs: Vec<Job> = specs.iter().enumerate().flat_map(|(index, spec)| cut(index, spec)).collect();
    let values: Vec<Values> = specs.iter().map(|spec| Values::new(spec, seed, &config)).collect();

    let (mut shards, mut shard, mut done_bytes) = (0, None::<ShardWriter>, 0);
    let make = |job: usize, scratch: &mut Vec<f32>| {
        Ok(values[jobs[job].tensor].bf16_bytes(jobs[job].elements.clone(), scratch))
    };
    workers::in_order(jobs.len(), DOING, cancel, make, |job, bytes| {
        let job = &jobs[job];
        if job.elements.start == 0 && starts.binary_search(&job.tensor).is_ok() {
            if let Some(complete) = shard.take() {
                complete.finish()?;
            }
            let next = starts.get(shards + 1).copied().unwrap_or(specs.len());
            let path = folder.join(name(shards));
            let note = "random weights made by ocelli synth";
            shard = Some(ShardWriter::create(&path, DOING, &planned[job.tensor..next], note, total_bytes)?);
            shards += 1;
        }
        if let Some(writer) = shard.as_mut() {
            writer.write(&bytes)?;
        }
        done_bytes += bytes.len() as u64;
        progress(&Progress {
            stage: Stage::Converting,
            done_bytes,
            total_bytes,
            tensor: &specs[job.tensor].name,
        });
        Ok(())
    })?;
    if let Some(complete) = shard.take() {
        complete.finish()?;
    }
    write_small_files(preset, seed, &config, folder)?;
    if starts.len() > 1 {
        let mut map = Map::new();
        for (index, spec) in specs.iter().enumerate() {
            let shard = starts.partition_point(|start| *start <= index).saturating_sub(1);
            map.insert(spec.name.clone(), name(shard).into());
        }
        let index = json!({"metadata": {"total_size": total_bytes}, "weight_map": map});
        write_json(folder, "model.safetensors.index.json", &index)?;
    }
    partial.finish()?;
    Ok(total_bytes)
}

fn write_small_files(preset: Preset, seed: u64, config: &ModelConfig, folder: &Path) -> Result<()> {
    let base = preset.base_ids();
    write_json(folder, CONFIG_FILE, &files::config_json(config, base))?;
    for (name, value) in files::other_json(config, base) {
        write_json(folder, name, &value)?;
    }
    write_file(&folder.join("tokenizer.json"), DOING, tokenizer::tokenizer_json(base).as_bytes())?;
    write_file(&folder.join("README.md"), DOING, files::readme(preset.name(), seed).as_bytes())?;
    Ok(())
}

fn write_json(folder: &Path, name: &str, value: &Value) -> Result<()> {
    let text = format!("{value:#}\n");
    write_file(&folder.join(name), DOING, text.as_bytes()).map(drop)
}

/// A run of elements of one tensor.
struct Job {
    tensor: usize,
    elements: Range<u64>,
}

fn cut(index: usize, spec: &TensorSpec) -> impl Iterator<Item = Job> + use<> {
    let count: u64 = spec.shape.iter().map(|n| *n as u64).product();
    let step = usize::try_from(PIECE_ELEMENTS).unwrap_or(usize::MAX);
    (0..count)
        .step_by(step)
        .map(move |start| Job { tensor: index, elements: start..(start + PIECE_ELEMENTS).min(count) })
}

/// The distribution of one tensor's elements: `offset + deviation * normal`, with a random sign where asked.
struct Values {
    numbers: Numbers,
    offset: f32,
    deviation: f32,
    random_sign: bool,
}

impl Values {
    /// Chosen so that activations neither vanish nor grow from layer to layer, and logits have a deviation of about 3.
    fn new(spec: &TensorSpec, seed: u64, config: &ModelConfig) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "sizes are small")]
        let inverse_root = |n: usize| 1.0 / (n.max(1) as f32).sqrt();
        let inputs: usize = spec.shape.iter().skip(1).product();
        let name = spec.name.as_str();
        // What is added to the residual stream grows with the number of additions.
        let residual = |layers: usize| inverse_root(2 * layers);
        let (offset, deviation) = match spec.kind {
            TensorKind::Embedding | TensorKind::Head => (0.0, 3.0 * inverse_root(config.text.hidden_size)),
            TensorKind::Body if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") => {
                (0.0, inverse_root(inputs) * residual(config.text.num_layers))
            }
            TensorKind::Vision
                if name.ends_with("attn.proj.weight") || name.ends_with("mlp.linear_fc2.weight") =>
            {
                (0.0, inverse_root(inputs) * residual(config.vision.depth))
            }
            TensorKind::Body | TensorKind::Vision => (0.0, inverse_root(inputs)),
            TensorKind::PositionTable => (0.0, 0.1),
            TensorKind::Vector if name.ends_with("bias") => (0.0, 0.02),
            TensorKind::Vector => (1.0, 0.1),
        };
        // With a tied head a last norm of one sign would repeat the last token for ever.
        Self { numbers: Numbers::new(seed, name), offset, deviation, random_sign: name == FINAL_NORM }
    }

    fn bf16_bytes(&self, elements: Range<u64>, scratch: &mut Vec<f32>) -> Vec<u8> {
        scratch.clear();
        scratch.extend(elements.map(|index| {
            let value = self.offset + self.deviation * self.numbers.normal(index);
            // The lowest bit hardly shows in the value: good enough for a sign.
            if self.random_sign && self.numbers.bits(index) & 1 == 1 { -value } else { value }
        }));
        let mut halves = vec![bf16::ZERO; scratch.len()];
        halves.convert_from_f32_slice(scratch);
        let mut bytes = vec![0; scratch.len() * 2];
        for (out, half) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(&halves) {
            *out = half.to_le_bytes();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_that_is_written_is_the_one_that_is_meant() {
        for preset in Preset::ALL {
            let config = preset.config();
            let text = files::config_json(&config, preset.base_ids()).to_string();
            let mut read = ModelConfig::from_json(text.as_bytes()).expect("valid");
            read.eos_token_ids.clone_from(&config.eos_token_ids);
            assert_eq!(read, config, "{preset}");
            assert_eq!(preset.to_string().parse::<Preset>(), Ok(preset));
        }
        assert!("3b".parse::<Preset>().is_err());
    }

    #[test]
    fn the_presets_have_the_size_of_the_released_files() {
        for (preset, gigabytes) in [(Preset::TwoB, 4.255), (Preset::FourB, 8.876), (Preset::EightB, 17.534)] {
            let elements: usize =
                checkpoint_tensors(&preset.config()).iter().map(|s| s.shape.iter().product::<usize>()).sum();
            #[expect(clippy::cast_precision_loss)]
            let found = elements as f64 * 2e-9;
            assert!((found - gigabytes).abs() < 0.01, "{preset}: {found}");
        }
    }
}
