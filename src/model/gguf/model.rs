//! A text file and a vision file, opened and checked: what a conversion reads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::settings::{self, Vision};
use super::tensors::{self, Source};
use super::vocabulary::Vocabulary;
use super::{Chosen, Gguf, Tensor};
use crate::error::{Error, ErrorKind, Result};
use crate::model::config::{CONFIG_FILE, GENERATION_CONFIG_FILE, GenerationDefaults, ModelConfig};
use crate::model::recipe::{Recipe, Storage, StoredTensor};
use crate::model::tensor_names::{checkpoint_tensors, is_vision, text_layer, vision_block};

const DOING: &str = "reading tensor";

/// Qwen3-VL in GGUF files, every tensor in its shape.
#[derive(Debug)]
pub(crate) struct GgufModel {
    text: Gguf,
    vision: Option<Gguf>,
    config: ModelConfig,
    sources: BTreeMap<String, Source>,
    files: Vec<(String, Vec<u8>)>,
    notes: Vec<String>,
}

impl GgufModel {
    /// Opens the files. Without a vision file that is an error, unless `text_only` says that pictures are not wanted.
    ///
    /// # Errors
    /// A file is damaged or of another model; a tensor is missing, of another shape than the metadata say, or in a format that
    /// is not read; the vision file is missing. For texts only a vision file that is of no use is none.
    pub(crate) fn open(chosen: &Chosen, text_only: bool) -> Result<Self> {
        let text = Gguf::open(&chosen.text)?;
        check_text(&text)?;
        let mut notes = Vec::new();
        let vision = vision_of(chosen, text_only, &mut notes)?;
        if vision.is_none() && !text_only {
            return Err(no_vision(&text));
        }
        let tokens = Vocabulary::read(&text)?;
        let tower = match &vision {
            Some(file) => {
                notes.push(format!("the vision tower is that of {}", name(file.path())));
                Vision::File(file)
            }
            None => {
                notes.push("there is no vision file: the model answers texts only".into());
                settings::without_vision(&text)?
            }
        };
        let json = settings::config(&text, &tower, &tokens, &mut notes)?;
        let generation_json = settings::generation(&text, &tokens, &json, &mut notes);
        let [image, video] = settings::preprocessors(&tower, &json, &mut notes);
        let template = settings::template(&text, &mut notes)?;
        let config_bytes = json.to_string().into_bytes();
        let generation_bytes = generation_json.to_string().into_bytes();
        let about = |e: Error| e.at_path(text.path()).help("download the file again");
        let mut config = ModelConfig::parse(&config_bytes).map_err(about)?;
        let generation = GenerationDefaults::from_json(&generation_bytes).map_err(about)?;
        config.apply_generation(&generation).map_err(about)?;
        let files = vec![
            (CONFIG_FILE.to_owned(), config_bytes),
            (GENERATION_CONFIG_FILE.to_owned(), generation_bytes),
            ("preprocessor_config.json".to_owned(), image.to_string().into_bytes()),
            ("video_preprocessor_config.json".to_owned(), video.to_string().into_bytes()),
            ("tokenizer.json".to_owned(), tokens.json),
            ("chat_template.jinja".to_owned(), template),
        ];
        let mut model = Self { text, vision, config, sources: BTreeMap::new(), files, notes };
        model.sources = model.check_tensors()?;
        Ok(model)
    }

    /// Compares the tensors with what the configuration asks for, and finds each.
    fn check_tensors(&mut self) -> Result<BTreeMap<String, Source>> {
        let mut sources = BTreeMap::new();
        for spec in checkpoint_tensors(&self.config) {
            if self.vision.is_none() && is_vision(&spec.name) {
                continue;
            }
            let source = Source::of(&spec.name, &self.config.vision)
                .ok_or_else(|| Error::new(DOING, "GGUF files have no such tensor").at(&spec.name))?;
            let file = self.file(&source)?;
            let source = source.in_file(file);
            tensors::checked(file, &source, &spec.name, &spec.shape)?;
            sources.insert(spec.name, source);
        }
        // A layer more than the metadata know: not an oddity, but half a model.
        let (layers, blocks) = (self.config.text.num_layers, self.config.vision.depth);
        for beyond in
            [text_layer(layers, "mlp.up_proj.weight"), vision_block(blocks, "mlp.linear_fc1.weight")]
        {
            if let Some(source) = Source::of(&beyond, &self.config.vision)
                && let Ok(file) = self.file(&source)
                && let Some(extra) = source.names.iter().find(|name| file.tensor(name).is_some())
            {
                return Err(Error::new(DOING, "it is there although block_count ends before it")
                    .at(extra)
                    .at_path(file.path())
                    .help("the metadata and the weights do not belong together: download the file again"));
            }
        }
        let used: std::collections::BTreeSet<&str> =
            sources.values().flat_map(|source| source.names.iter().map(String::as_str)).collect();
        let all = [Some(&self.text), self.vision.as_ref()].into_iter().flatten().flat_map(Gguf::tensors);
        let extra: Vec<&str> = all.map(|(name, _)| name).filter(|name| !used.contains(name)).collect();
        if let Some(first) = extra.first() {
            self.notes.push(format!("{} tensors are not used, the first being {first}", extra.len()));
        }
        Ok(sources)
    }

    fn file(&self, source: &Source) -> Result<&Gguf> {
        if !source.vision {
            return Ok(&self.text);
        }
        self.vision.as_ref().ok_or_else(|| no_vision(&self.text))
    }

    fn parts(&self, name: &str) -> Result<(&Gguf, Vec<Tensor<'_>>)> {
        let source = self.sources.get(name).ok_or_else(|| Error::new(DOING, "it is missing").at(name))?;
        let file = self.file(source)?;
        Ok((file, source.names.iter().filter_map(|name| file.tensor(name)).collect()))
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Whether there is a vision tower.
    pub(crate) fn has_vision(&self) -> bool {
        self.vision.is_some()
    }

    /// The text file.
    pub(crate) fn path(&self) -> &Path {
        self.text.path()
    }

    /// The small files of a checkpoint, by name.
    pub(crate) fn side_files(&self) -> &[(String, Vec<u8>)] {
        &self.files
    }

    /// Bytes of all tensors.
    pub(crate) fn total_bytes(&self) -> u64 {
        let all = [Some(&self.text), self.vision.as_ref()].into_iter().flatten().flat_map(Gguf::tensors);
        all.map(|(_, entry)| entry.range.len() as u64).sum()
    }

    /// The element type of a tensor, in ggml's words.
    pub(crate) fn type_name(&self, name: &str) -> Result<&'static str> {
        Ok(self.parts(name)?.1.first().map_or("unknown", |part| part.entry.format.name()))
    }

    /// What is odd about the files, or to be known about the result, one sentence each.
    pub(crate) fn notes(&self, recipe: Recipe, plan: &[StoredTensor]) -> Vec<String> {
        let mut notes = self.notes.clone();
        let (mut exact, mut again, mut rounded) = (0, BTreeMap::<&str, usize>::new(), 0);
        for tensor in plan {
            let Ok(kind) = self.type_name(&tensor.source) else { continue };
            match (tensor.storage, kind) {
                (Storage::Int8, "Q8_0") => exact += 1,
                (Storage::Int8, "Q4_K" | "Q5_K" | "Q6_K") => *again.entry(kind).or_default() += 1,
                (Storage::F16, "Q8_0" | "Q4_K" | "Q5_K" | "Q6_K") => rounded += 1,
                _ => {}
            }
        }
        if exact > 0 {
            notes.push(format!("{exact} int8 matrices are the file's Q8_0 blocks, bit for bit"));
        }
        if !again.is_empty() {
            let kinds: Vec<String> = again.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            notes.push(format!(
                "{} matrices were multiplied out and rounded again to int8, so they take more room and differ a little from the file's",
                kinds.join(" and ")
            ));
        }
        if rounded > 0 {
            notes.push(format!(
                "{rounded} quantised matrices were multiplied out and rounded to f16 ({recipe})"
            ));
        }
        notes
    }

    /// Replaces the contents of `out` by rows of a tensor, as f32; a vector's rows are its elements.
    pub(crate) fn read_f32(&self, name: &str, rows: &Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let (file, parts) = self.parts(name)?;
        tensors::read_f32(name, &parts, rows, out).map_err(|e| e.at_path(file.path()))?;
        tensors::release(&parts, rows);
        Ok(())
    }

    /// Appends the int8 quants and f16 scales of rows of a Q8_0 tensor as they are; false for another format.
    pub(crate) fn read_int8(
        &self,
        name: &str,
        rows: &Range<usize>,
        quants: &mut Vec<u8>,
        scales: &mut Vec<u8>,
    ) -> Result<bool> {
        let (file, parts) = self.parts(name)?;
        let read =
            tensors::read_int8(name, &parts, rows, quants, scales).map_err(|e| e.at_path(file.path()))?;
        if read {
            tensors::release(&parts, rows);
        }
        Ok(read)
    }
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Whether Ollama put the vision tower into the text file, under names of its own.
pub(super) fn vision_inside(text: &Gguf) -> bool {
    text.tensors().any(|(name, _)| name.starts_with("v."))
}

/// Whether the text file is one of a dense Qwen3-VL.
fn check_text(text: &Gguf) -> Result<()> {
    let advice = "Ocelli runs the dense Qwen3-VL models: 2B, 4B, 8B and 32B";
    Err(match text.architecture() {
        "qwen3vl" => return Ok(()),
        "" => text.error("general.architecture is missing").help(advice),
        "clip" => text.error("this is a model's vision file").help("name the text file"),
        "qwen3vlmoe" => text
            .error("it is a mixture-of-experts model (30B-A3B, 235B-A22B), which is not supported")
            .help(advice),
        other => text.error(format!("it is a model of the architecture {other}")).help(advice),
    })
}

/// The chosen vision file, opened and checked, if there is one. Where texts will do, one that is damaged, gone or another
/// model's is none, and `notes` says so.
///
/// # Errors
/// It is of no use, and pictures are wanted: of the kind [`ErrorKind::NoVision`], since texts would do without it.
pub(crate) fn vision_of(chosen: &Chosen, text_only: bool, notes: &mut Vec<String>) -> Result<Option<Gguf>> {
    match chosen.vision.as_deref().map(open_vision).transpose() {
        Err(error) if text_only => {
            notes.push(format!("the vision file is left out: {error}"));
            Ok(None)
        }
        opened => opened.map_err(|error| error.kind(ErrorKind::NoVision)),
    }
}

/// Opens a vision file of Qwen3-VL.
pub(super) fn open_vision(path: &Path) -> Result<Gguf> {
    let file = Gguf::open(path)?;
    check_vision(&file)?;
    Ok(file)
}

fn check_vision(file: &Gguf) -> Result<()> {
    let found = (
        file.architecture(),
        file.text("clip.projector_type").or_else(|| file.text("clip.vision.projector_type")),
    );
    if found == ("clip", Some("qwen3vl_merger")) {
        return Ok(());
    }
    let why = format!(
        "it is no vision file of Qwen3-VL: architecture {}, projector {}",
        found.0,
        found.1.unwrap_or("missing")
    );
    Err(file.error(why).help("use the mmproj file that was published with the text file"))
}

fn no_vision(text: &Gguf) -> Error {
    if vision_inside(text) {
        return text
            .error("its vision tower is inside the text file, in Ollama's own layout, which is not read")
            .help("download the two GGUF files that are published for llama.cpp, or load it for texts only (--text-only)")
            .kind(ErrorKind::NoVision);
    }
    text.error("its vision file is missing, without which it sees no pictures").help(
        "put the mmproj file that was published with it into the same folder, or load it for texts only (--text-only)",
    )
    .kind(ErrorKind::NoVision)
}
