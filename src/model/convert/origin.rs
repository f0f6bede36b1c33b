//! What a conversion reads: a hub checkpoint, GGUF files, or a converted int8 model whose weights are multiplied out again.

use std::ops::Range;
use std::path::Path;

use crate::error::{Error, Result};
use crate::model::checkpoint::Checkpoint;
use crate::model::config::ModelConfig;
use crate::model::converted::ConvertedModel;
use crate::model::gguf::{self, GgufModel};
use crate::model::recipe::{Recipe, Storage, StoredTensor};
use crate::model::tensor_names::HEAD;

/// What is converted.
#[derive(Debug)]
pub(super) enum Origin {
    /// As on the hub.
    Hub(Box<Checkpoint>),
    /// GGUF files of llama.cpp.
    Gguf(Box<GgufModel>),
    /// An int8 model, and its configuration; its head is its own there if it is in the files.
    Int8(Box<ConvertedModel>, Box<ModelConfig>),
}

/// Whether a model converted with `from` can be converted to `to`: int8 to what holds its values.
pub(crate) fn can_multiply_out(from: Recipe, to: Recipe) -> bool {
    matches!(from, Recipe::Int8Hu | Recipe::Int8Lin) && matches!(to, Recipe::F16 | Recipe::F32)
}

impl Origin {
    /// Opens what is in `folder`, or a GGUF file, for converting it with `recipe`. `text_only`: GGUF files may lack the
    /// vision tower.
    ///
    /// # Errors
    /// None of the three, or one that this recipe cannot be made from.
    pub fn open(folder: &Path, recipe: Recipe, text_only: bool, doing: &str) -> Result<Self> {
        if let Some(chosen) = gguf::choose(folder)? {
            return Ok(Self::Gguf(Box::new(GgufModel::open(&chosen, text_only)?)));
        }
        if !ConvertedModel::is_converted(folder) {
            return Ok(Self::Hub(Box::new(Checkpoint::open(folder)?)));
        }
        let model = ConvertedModel::open(folder)?;
        if !can_multiply_out(model.recipe(), recipe) {
            let why = format!("this model is converted already, to {}", model.recipe());
            return Err(Error::new(doing, why).at_path(folder).help(
                "use it as it is, or convert the checkpoint it was made from; only int8 can be converted again, to f16 or f32",
            ));
        }
        let mut config = model.config().clone();
        // An int8 head was rounded from the embedding: it is not the embedding any more.
        config.text.tie_word_embeddings = model.head_name() != HEAD;
        Ok(Self::Int8(Box::new(model), Box::new(config)))
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        match self {
            Self::Hub(checkpoint) => checkpoint.config(),
            Self::Gguf(model) => model.config(),
            Self::Int8(_, config) => config,
        }
    }

    /// The folder, or the GGUF text file.
    pub fn folder(&self) -> &Path {
        match self {
            Self::Hub(checkpoint) => checkpoint.folder(),
            Self::Gguf(model) => model.path(),
            Self::Int8(model, _) => model.folder(),
        }
    }

    /// Bytes of its weights.
    pub fn total_bytes(&self) -> u64 {
        match self {
            Self::Hub(checkpoint) => checkpoint.files().total_bytes(),
            Self::Gguf(model) => model.total_bytes(),
            Self::Int8(model, _) => model.weight_bytes(),
        }
    }

    /// What is odd about it, or to be known about the result, one sentence each.
    pub fn notes(&self, recipe: Recipe, plan: &[StoredTensor]) -> Vec<String> {
        match self {
            Self::Hub(checkpoint) => checkpoint.notes().to_vec(),
            Self::Gguf(model) => model.notes(recipe, plan),
            Self::Int8(model, config) => {
                let exact = match recipe {
                    Recipe::F32 => "exact in f32, so it computes with the same weights",
                    _ => "rounded to f16, which holds eleven of their up to eighteen bits",
                };
                let mut notes = vec![format!(
                    "the weights are those of {}, multiplied out (int8 times f16 scale; {exact}), not those of the original checkpoint",
                    model.recipe()
                )];
                if !config.text.tie_word_embeddings && model.manifest().tied {
                    notes.push(format!("{HEAD} stays a matrix of its own, as in {}", model.recipe()));
                }
                notes
            }
        }
    }

    /// The element type of a tensor, in words.
    pub fn type_name(&self, name: &str) -> Result<&'static str> {
        match self {
            Self::Hub(checkpoint) => Ok(checkpoint.files().tensor(name)?.dtype.name()),
            Self::Gguf(model) => model.type_name(name),
            Self::Int8(model, _) => Ok(match model.storage(name)? {
                Storage::Int8 => "I8",
                Storage::F16 => "F16",
                Storage::F32 => "F32",
            }),
        }
    }

    /// Replaces the contents of `out` by rows of a tensor, as f32.
    pub fn read_f32(&self, name: &str, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        match self {
            Self::Hub(checkpoint) => {
                checkpoint.files().read_f32(name, rows.clone(), out)?;
                checkpoint.files().release(name, rows);
                Ok(())
            }
            Self::Gguf(model) => model.read_f32(name, &rows, out),
            Self::Int8(model, _) => model.read_f32(name, rows, out),
        }
    }

    /// Appends rows of a tensor that is in int8 blocks like ours already, bit for bit: quants and scales. False, and nothing
    /// appended, for any other.
    pub fn read_int8(
        &self,
        name: &str,
        rows: &Range<usize>,
        quants: &mut Vec<u8>,
        scales: &mut Vec<u8>,
    ) -> Result<bool> {
        match self {
            Self::Gguf(model) => model.read_int8(name, rows, quants, scales),
            Self::Hub(_) | Self::Int8(..) => Ok(false),
        }
    }

    /// Whether it has a vision tower.
    pub fn has_vision(&self) -> bool {
        match self {
            Self::Hub(_) => true,
            Self::Gguf(model) => model.has_vision(),
            Self::Int8(model, _) => model.has_vision(),
        }
    }

    /// The small files of a model that are not on the disk as such, by name.
    pub fn side_files(&self) -> Option<&[(String, Vec<u8>)]> {
        match self {
            Self::Gguf(model) => Some(model.side_files()),
            Self::Hub(_) | Self::Int8(..) => None,
        }
    }
}
