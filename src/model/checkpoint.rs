//! Room: `model`. A checkpoint as Hugging Face lays it out: one folder with `config.json` and safetensors files,
//! memory-mapped. It is opened only when every tensor that the configuration asks for is there in its shape.

mod files;
mod header;

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde_json::Value;

pub(crate) use files::decode_f32;
pub use files::{Dtype, TensorFiles, TensorView};

use crate::bounded;
use crate::error::{Error, Result};
use crate::model::config::{CONFIG_FILE, GenerationDefaults, MAX_VALUES, ModelConfig, read_side_file};
use crate::model::tensor_names::{HEAD, checkpoint_tensors, deepstack_merger, text_layer, vision_block};

const SINGLE_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";
const DOING: &str = "opening the checkpoint";

/// Checks the header of a safetensors file that is in memory whole, and returns the number of its tensors.
///
/// # Errors
/// The file is truncated or damaged; the error counts missing bytes and names the tensor.
pub fn check_header(file: &[u8]) -> Result<usize> {
    header::read(file).map(|entries| entries.len())
}

/// A hub checkpoint whose tensors have been checked against its configuration.
#[derive(Debug)]
pub struct Checkpoint {
    config: ModelConfig,
    generation: GenerationDefaults,
    files: TensorFiles,
    notes: Vec<String>,
}

impl Checkpoint {
    /// Opens the checkpoint in `folder`: `config.json`, and `model.safetensors` or the shards that
    /// `model.safetensors.index.json` names. Weights are mapped, not read.
    ///
    /// # Errors
    /// A file is missing, damaged or of an unsupported model; a tensor is missing, has another shape than the
    /// configuration says, an element type other than bf16, f16 and f32, or is there twice.
    pub fn open(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            let what =
                if folder.exists() { "this is a file, not a folder" } else { "there is no such folder" };
            return Err(Error::new(DOING, what)
                .at_path(folder)
                .help("give the folder of a Qwen3-VL checkpoint, as on the Hugging Face hub"));
        }
        let mut config = ModelConfig::read(folder)?;
        let generation = GenerationDefaults::read(folder)?;
        config.apply_generation(&generation).map_err(|e| e.at_path(folder))?;
        let names = weight_files(folder)?;
        let files = TensorFiles::open(folder, &names)?;
        if config.text.tie_flags_disagree && files.contains(HEAD) {
            config.text.tie_word_embeddings = false;
        }
        let notes = check_tensors(&config, &files)?;
        Ok(Self { config, generation, files, notes })
    }

    /// The configuration, with the end ids of the generation defaults.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The sampling defaults it was released with.
    #[must_use]
    pub fn generation(&self) -> &GenerationDefaults {
        &self.generation
    }

    /// Its tensors by canonical name.
    #[must_use]
    pub fn files(&self) -> &TensorFiles {
        &self.files
    }

    /// The folder it was opened from.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.files.folder()
    }

    /// What is odd about it without being wrong, one sentence each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// The names of the files with the weights, in `folder`.
fn weight_files(folder: &Path) -> Result<Vec<String>> {
    if folder.join(SINGLE_FILE).exists() {
        return Ok(vec![SINGLE_FILE.to_owned()]);
    }
    let index = folder.join(INDEX_FILE);
    if !index.exists() {
        return Err(no_weights(folder));
    }
    let doing = "reading the list of shards";
    let bytes = read_side_file(&index, doing)?;
    let bad = |cause: String| Error::new(doing, cause).at_path(&index).help("download the file again");
    let root =
        bounded::json(&bytes, MAX_VALUES).map_err(|e| bad(format!("the file is not valid JSON: {e}")))?;
    let map = root
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| bad("weight_map is missing".into()))?;
    // Sorted, and each once.
    let mut shards: BTreeMap<&str, &str> = BTreeMap::new();
    for (tensor, shard) in map {
        let shard = shard.as_str().ok_or_else(|| bad(format!("the shard of {tensor} is not a file name")))?;
        if !stays_in_folder(shard) {
            return Err(bad(format!(
                "the shard {shard} of {tensor} would lie outside the checkpoint's folder"
            )));
        }
        shards.entry(shard).or_insert(tensor);
    }
    if shards.is_empty() {
        return Err(bad("weight_map is empty".into()));
    }
    for (shard, tensor) in &shards {
        if !folder.join(shard).exists() {
            return Err(Error::new(DOING, format!("the shard {shard} (with {tensor}) is missing"))
                .at_path(folder)
                .help("download the checkpoint again: it has several weight files"));
        }
    }
    Ok(shards.into_keys().map(str::to_owned).collect())
}

/// Whether a file name from an index is a plain relative path without `..`. Symbolic links are followed: the hub's own
/// cache is made of them.
fn stays_in_folder(name: &str) -> bool {
    let path = Path::new(name);
    !name.is_empty()
        && !name.contains(['\\', ':', '\0'])
        && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// Says what is in the folder instead of weights.
fn no_weights(folder: &Path) -> Error {
    let mut other = None;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let lower = name.to_lowercase();
        let kind = match lower.rsplit('.').next() {
            Some("safetensors") if lower.starts_with("adapter") => {
                "a LoRA adapter, which must be merged first"
            }
            Some("safetensors") => "a safetensors file of another name, or a shard without its index file",
            Some("gguf") => "a GGUF file, which is opened by its own name",
            Some("bin" | "pt" | "pth") => "PyTorch weights, which Ocelli does not read",
            _ => continue,
        };
        other = Some(format!("; there is {name}: {kind}"));
        if lower.ends_with(".safetensors") {
            break;
        }
    }
    let cause = format!("it has neither {SINGLE_FILE} nor {INDEX_FILE}{}", other.unwrap_or_default());
    Error::new(DOING, cause).at_path(folder).help(format!(
        "choose a folder with {CONFIG_FILE} and safetensors weights, as on the Hugging Face hub"
    ))
}

/// Compares the tensors with what the configuration asks for; what is left over becomes a note.
fn check_tensors(config: &ModelConfig, files: &TensorFiles) -> Result<Vec<String>> {
    let specs = checkpoint_tensors(config);
    let missing: Vec<&str> =
        specs.iter().map(|s| s.name.as_str()).filter(|name| !files.contains(name)).collect();
    if let Some(first) = missing.first() {
        let cause = match missing.len() {
            1 => "it is missing".to_owned(),
            more => format!("it is missing, and so are {} others of {}", more - 1, specs.len()),
        };
        let help = if *first == HEAD {
            "if the model uses its embedding as its head, tie_word_embeddings in config.json must be true"
        } else {
            "download the checkpoint again; it must be a complete Qwen3-VL model"
        };
        return Err(Error::new("reading tensor", cause).at(first).at_path(files.folder()).help(help));
    }
    for spec in &specs {
        let view = files.expect_shape(&spec.name, &spec.shape)?;
        if view.dtype == Dtype::I8 {
            return Err(Error::new("reading tensor", "its element type I8 is not supported in a checkpoint")
                .at(&spec.name)
                .at_path(files.folder())
                .help("use a checkpoint with bf16, f16 or f32 weights, such as the original one"));
        }
    }
    // A layer more than the configuration knows: not an oddity, but half a model.
    for (key, count, first_beyond) in [
        (
            "num_hidden_layers",
            config.text.num_layers,
            text_layer(config.text.num_layers, "mlp.up_proj.weight"),
        ),
        ("depth", config.vision.depth, vision_block(config.vision.depth, "attn.qkv.weight")),
        (
            "the length of deepstack_visual_indexes",
            config.vision.deepstack_indexes.len(),
            deepstack_merger(config.vision.deepstack_indexes.len(), "linear_fc1.weight"),
        ),
    ] {
        if files.contains(&first_beyond) {
            return Err(Error::new(
                "reading tensor",
                format!("it is there although {key} in {CONFIG_FILE} is {count}"),
            )
            .at(&first_beyond)
            .at_path(files.folder())
            .help("config.json and the weights do not belong together"));
        }
    }
    let known: std::collections::HashSet<&str> = specs.iter().map(|s| s.name.as_str()).collect();
    let extra: Vec<&str> = files.names().filter(|name| !known.contains(name)).collect();
    let mut notes = Vec::new();
    if config.text.tie_word_embeddings && extra.contains(&HEAD) {
        notes.push(format!("{HEAD} is ignored: the configuration says that the head is the embedding table"));
    }
    let others: Vec<&str> = extra.into_iter().filter(|name| *name != HEAD).collect();
    if let Some(first) = others.first() {
        notes.push(format!(
            "{} tensors are not part of the model and are ignored, the first being {first}",
            others.len()
        ));
    }
    Ok(notes)
}
