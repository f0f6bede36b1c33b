//! Room: `model`. A converted model: the folder that the engine loads from, memory-mapped.
//!
//! The folder holds the checkpoint's configuration, tokenizer and template files as they came; safetensors files
//! `model-00001-of-0000N.safetensors`; and `ocelli.json`, the [`Manifest`], which is written last, so that a folder
//! without it is not a converted model. Tensors have the hub's names:
//!
//! - an int8 matrix `[N, K]` is `<name>` I8 `[N, K]` and `<name>_scale` F16 `[N, K / 32]`; the weight at (n, k) is
//!   `quant[n][k] * scale[n][k / 32]`;
//! - an f16 or f32 matrix is `<name>` F16 or F32 `[N, K]`; the patch embedding is flattened to `[D, 1536]`;
//! - norms, biases and the vision tower's position table are F32.
//!
//! Which matrix is stored how is the [`Recipe`]'s business.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::model::builtin;
use crate::model::checkpoint::{Dtype, TensorFiles, decode_f32};
use crate::model::config::{GenerationDefaults, ModelConfig, read_side_file};
use crate::model::mapped_file::MappedFile;
use crate::model::recipe::{BLOCK, Recipe, Storage, StoredTensor, check_finite, stored_tensors};
use crate::model::tensor_names::{EMBEDDING, HEAD, is_vision};

/// The file that makes a folder a converted model.
pub const MANIFEST_FILE: &str = "ocelli.json";
/// [`Manifest::format`] of every converted model.
pub const FORMAT_NAME: &str = "ocelli-model";
/// [`Manifest::version`] that this program writes, and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;

const DOING: &str = "opening the converted model";
const CONVERT_AGAIN: &str = "convert the checkpoint again";

/// The contents of `ocelli.json`. No times and no paths, so that converting the same checkpoint gives the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_NAME`].
    pub format: String,
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// How the weights are stored.
    pub recipe: Recipe,
    /// Whether the checkpoint's head is its embedding table.
    pub tied: bool,
    /// There is no vision tower: the model was made of a GGUF text file alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub text_only: bool,
    /// What it was made from.
    pub source: SourceRecord,
    /// The safetensors files, in order.
    pub weights: Vec<FileRecord>,
    /// The files copied as they came.
    pub files: Vec<FileRecord>,
}

/// What a converted model was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// In words: sizes and element types of the checkpoint.
    pub description: String,
    /// Number of its tensors that were used.
    pub tensors: usize,
    /// Bytes of all its tensors.
    pub bytes: u64,
}

/// One file of a converted model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Plain file name.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of its contents, in hexadecimal.
    pub sha256: String,
}

/// The elements of a [`StoredMatrix`], little endian, row-major, borrowed from the mapped file.
#[derive(Clone, Copy, Debug)]
pub enum StoredData<'a> {
    /// Blocks of 32 along a row share a scale.
    Int8 {
        /// i8 `[rows, cols]`.
        quants: &'a [u8],
        /// f16 `[rows, cols / 32]`, all finite and not negative.
        scales: &'a [u8],
    },
    /// f16 `[rows, cols]`, all finite.
    F16(&'a [u8]),
    /// f32 `[rows, cols]`, all finite.
    F32(&'a [u8]),
}

/// A weight matrix `[rows, cols]` = `[out, in]` as stored.
#[derive(Clone, Copy, Debug)]
pub struct StoredMatrix<'a> {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// The elements.
    pub data: StoredData<'a>,
}

impl StoredMatrix<'_> {
    /// Bytes of the elements, scales included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self.data {
            StoredData::Int8 { quants, scales } => quants.len() + scales.len(),
            StoredData::F16(data) | StoredData::F32(data) => data.len(),
        }
    }
}

/// A converted model, opened and checked: every tensor is there in the type and shape its recipe asks for.
#[derive(Debug)]
pub struct ConvertedModel {
    config: ModelConfig,
    generation: GenerationDefaults,
    manifest: Manifest,
    files: TensorFiles,
    plan: BTreeMap<String, StoredTensor>,
}

impl ConvertedModel {
    /// Whether `folder` claims to be a converted model: it holds an `ocelli.json`.
    #[must_use]
    pub fn is_converted(folder: &Path) -> bool {
        builtin::is_file(&folder.join(MANIFEST_FILE))
    }

    /// Opens the converted model in `folder`. Weights are mapped, not read; use [`ConvertedModel::verify`] to compare
    /// checksums.
    ///
    /// # Errors
    /// No or another version's `ocelli.json`; a file that is missing, of another size, or damaged; a tensor that is
    /// missing or of another type or shape than configuration and recipe say. The error names file or tensor.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = read_manifest(folder)?;
        for record in manifest.weights.iter().chain(&manifest.files) {
            check_size(folder, record)?;
        }
        let mut config = ModelConfig::read(folder)?;
        let generation = GenerationDefaults::read(folder)?;
        config.apply_generation(&generation).map_err(|e| e.at_path(folder))?;
        config.text.tie_word_embeddings = manifest.tied;
        let names: Vec<String> = manifest.weights.iter().map(|record| record.name.clone()).collect();
        let files = TensorFiles::open(folder, &names)?;
        let mut plan = BTreeMap::new();
        for tensor in stored_tensors(&config, manifest.recipe).map_err(|e| e.at_path(folder))? {
            if manifest.text_only && is_vision(&tensor.name) {
                continue;
            }
            check_stored(&files, &tensor).map_err(|e| e.help(CONVERT_AGAIN))?;
            plan.insert(tensor.name.clone(), tensor);
        }
        Ok(Self { config, generation, manifest, files, plan })
    }

    /// The configuration, with the end ids of the generation defaults.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The sampling defaults the checkpoint was released with.
    #[must_use]
    pub fn generation(&self) -> &GenerationDefaults {
        &self.generation
    }

    /// How the weights are stored.
    #[must_use]
    pub fn recipe(&self) -> Recipe {
        self.manifest.recipe
    }

    /// Whether there is a vision tower.
    #[must_use]
    pub fn has_vision(&self) -> bool {
        !self.manifest.text_only
    }

    /// What `ocelli.json` says.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The folder, which also holds the tokenizer, template and preprocessor files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.files.folder()
    }

    /// Name of the matrix that makes logits: `lm_head.weight`, or the embedding table where it serves as head.
    #[must_use]
    pub fn head_name(&self) -> &'static str {
        if self.plan.contains_key(HEAD) { HEAD } else { EMBEDDING }
    }

    /// Every stored tensor, sorted by name (scales are part of their matrix).
    pub fn tensors(&self) -> impl Iterator<Item = &StoredTensor> {
        self.plan.values()
    }

    /// Bytes of all weights as stored.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.plan.values().map(|t| t.bytes() as u64).sum()
    }

    /// Bytes of the weights without the vision tower's.
    #[must_use]
    pub fn text_bytes(&self) -> u64 {
        self.plan.values().filter(|t| !is_vision(&t.name)).map(|t| t.bytes() as u64).sum()
    }

    fn stored(&self, name: &str) -> Result<&StoredTensor> {
        self.plan.get(name).ok_or_else(|| {
            Error::new("reading tensor", "this model has no such tensor").at(name).at_path(self.folder())
        })
    }

    /// The matrix of this canonical name, checked for damage: reading it looks at every scale and every f16 or f32
    /// element once.
    ///
    /// # Errors
    /// There is no such matrix, or a value in it is not finite; the error names it.
    pub fn matrix(&self, name: &str) -> Result<StoredMatrix<'_>> {
        let stored = self.stored(name)?;
        let (rows, cols) = (stored.rows(), stored.cols());
        let main = self.files.tensor(name)?.bytes;
        let data = match stored.storage {
            Storage::Int8 => {
                let scale_name = stored.scale_name();
                let scales = self.files.tensor(&scale_name)?.bytes;
                // Above 0x7c00 are infinity, NaN and everything negative; a scale is none of these.
                if let Some(at) = find_u16(scales, |bits| bits >= 0x7c00) {
                    return Err(self.damaged(&scale_name, at, cols / BLOCK, "scale", scales));
                }
                StoredData::Int8 { quants: main, scales }
            }
            Storage::F16 => {
                if let Some(at) = find_u16(main, |bits| bits & 0x7c00 == 0x7c00) {
                    return Err(self.damaged(name, at, cols, "weight", main));
                }
                StoredData::F16(main)
            }
            Storage::F32 => {
                self.floats(name, main, cols, |_| ())?;
                StoredData::F32(main)
            }
        };
        Ok(StoredMatrix { rows, cols, data })
    }

    /// A tensor that is stored as f32 (norm, bias, position table; everything in the recipe `f32`), row-major.
    ///
    /// # Errors
    /// There is no such tensor, it is stored otherwise, or a value in it is not finite.
    pub fn vector(&self, name: &str) -> Result<Vec<f32>> {
        let stored = self.stored(name)?;
        if stored.storage != Storage::F32 {
            let cause = format!("it is stored as {:?}, and cannot be read as a vector", stored.storage);
            return Err(Error::new("reading tensor", cause).at(name));
        }
        let mut values = Vec::with_capacity(stored.rows() * stored.cols());
        let bytes = self.files.tensor(name)?.bytes;
        self.floats(name, bytes, stored.cols(), |piece| values.extend_from_slice(piece))?;
        Ok(values)
    }

    /// How a tensor is stored.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn storage(&self, name: &str) -> Result<Storage> {
        Ok(self.stored(name)?.storage)
    }

    /// Replaces the contents of `out` by rows `rows` of a tensor, as f32: exactly what the kernels compute with, int8
    /// multiplied by its scale. A vector's rows are its elements.
    ///
    /// # Errors
    /// There is no such tensor, or it has fewer rows.
    pub fn read_f32(&self, name: &str, rows: std::ops::Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let stored = self.stored(name)?;
        if stored.storage != Storage::Int8 {
            return self.files.read_f32(name, rows, out);
        }
        let cols = stored.cols();
        let mut scales = Vec::new();
        self.files.read_f32(&stored.scale_name(), rows.clone(), &mut scales)?;
        // As many rows as the scales have, and so there.
        let quants =
            self.files.tensor(name)?.bytes.get(rows.start * cols..rows.end * cols).unwrap_or_default();
        out.clear();
        for (block, scale) in quants.as_chunks::<BLOCK>().0.iter().zip(scales) {
            out.extend(block.iter().map(|quant| f32::from(quant.cast_signed()) * scale));
        }
        Ok(())
    }

    /// Hands out little-endian f32 elements piece by piece, checked to be finite.
    fn floats(&self, name: &str, bytes: &[u8], cols: usize, mut take: impl FnMut(&[f32])) -> Result<()> {
        const PIECE: usize = 1 << 16;
        let mut piece = Vec::with_capacity(PIECE.min(bytes.len() / 4));
        for (index, bytes) in bytes.chunks(PIECE * 4).enumerate() {
            decode_f32(Dtype::F32, bytes, &mut piece);
            if let Err(fault) = check_finite(&piece, piece.len()) {
                let at = index * PIECE + fault.column;
                return Err(self.not_finite(name, at, cols, "value", fault.value));
            }
            take(&piece);
        }
        Ok(())
    }

    fn damaged(&self, name: &str, at: usize, cols: usize, what: &str, data: &[u8]) -> Error {
        let bits = data.as_chunks::<2>().0.get(at).map_or(0, |b| u16::from_le_bytes(*b));
        self.not_finite(name, at, cols, what, half::f16::from_bits(bits).to_f32())
    }

    fn not_finite(&self, name: &str, at: usize, cols: usize, what: &str, value: f32) -> Error {
        let (row, column) = (at / cols.max(1), at % cols.max(1));
        let error =
            Error::new("reading tensor", format!("its {what} at row {row}, column {column} is {value}"))
                .at(name)
                .help(format!("the file is damaged: {CONVERT_AGAIN}"));
        match self.files.file_of(name) {
            Some(path) => error.at_path(path),
            None => error,
        }
    }

    /// Tells the system that this tensor and what follows it in the file, `ahead_bytes` in all, will be needed soon.
    pub fn prefetch(&self, name: &str, ahead_bytes: usize) {
        self.files.prefetch(name, ahead_bytes);
    }

    /// Tells the system that this tensor's bytes have been used and need not stay in memory. They can still be read.
    pub fn release(&self, name: &str) {
        if let Some(stored) = self.plan.get(name) {
            self.files.release(name, 0..usize::MAX);
            if stored.storage == Storage::Int8 {
                self.files.release(&stored.scale_name(), 0..usize::MAX);
            }
        }
    }

    /// Reads every file and compares it with its checksum. `progress` gets bytes done and bytes in all.
    ///
    /// # Errors
    /// The first file that differs, by name; cancelled.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64), cancel: &AtomicBool) -> Result<()> {
        let records = || self.manifest.weights.iter().chain(&self.manifest.files);
        let total = records().map(|record| record.bytes).sum();
        let mut done = 0;
        for record in records() {
            let path = self.folder().join(&record.name);
            let mut step = |bytes: u64| {
                done += bytes;
                progress(done, total);
            };
            let (_, sha256) = hash_file(&path, "verifying", cancel, &mut step)?;
            if sha256 != record.sha256 {
                return Err(Error::new("verifying", "its contents are not what was written at conversion")
                    .at_path(&path)
                    .help(CONVERT_AGAIN));
            }
        }
        Ok(())
    }
}

/// Position of the first little-endian u16 that is `wrong`.
fn find_u16(bytes: &[u8], wrong: impl Fn(u16) -> bool) -> Option<usize> {
    let (values, _) = bytes.as_chunks::<2>();
    // A branch for every 4096 values only, so that the inner loop is vectorised.
    values.chunks(4096).enumerate().find_map(|(index, chunk)| {
        let wrong = |b: &[u8; 2]| wrong(u16::from_le_bytes(*b));
        if !chunk.iter().fold(false, |any, b| any | wrong(b)) {
            return None;
        }
        chunk.iter().position(wrong).map(|at| index * 4096 + at)
    })
}

/// Size and SHA-256 (hexadecimal) of a file. `step` gets the bytes of each piece read.
pub(crate) fn hash_file(
    path: &Path,
    doing: &str,
    cancel: &AtomicBool,
    step: &mut dyn FnMut(u64),
) -> Result<(u64, String)> {
    const PIECE: usize = 1 << 20;
    // An empty file cannot be mapped, and needs no mapping.
    if std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() == 0) {
        return Ok((0, hex(&Sha256::digest(b""))));
    }
    let file = MappedFile::open(path)?;
    let mut hash = Sha256::new();
    for (index, piece) in file.chunks(PIECE).enumerate() {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::cancelled(doing).at_path(path));
        }
        hash.update(piece);
        file.release(index * PIECE..index * PIECE + piece.len());
        step(piece.len() as u64);
    }
    Ok((file.len() as u64, hex(&hash.finalize())))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn read_manifest(folder: &Path) -> Result<Manifest> {
    #[derive(Deserialize)]
    struct Version {
        format: String,
        version: u32,
    }
    let path = folder.join(MANIFEST_FILE);
    if !builtin::is_file(&path) {
        return Err(Error::new(DOING, format!("there is no {MANIFEST_FILE} in it"))
            .at_path(folder)
            .help("choose a folder made by ocelli convert"));
    }
    let bytes = read_side_file(&path, DOING)?;
    let bad = |cause: String| Error::new(DOING, cause).at_path(&path).help(CONVERT_AGAIN);
    // The version first: the rest may look different in another one.
    let version: Version =
        serde_json::from_slice(&bytes).map_err(|e| bad(format!("the file is not a manifest: {e}")))?;
    if version.format != FORMAT_NAME {
        return Err(bad(format!("its format is {}, not {FORMAT_NAME}", version.format)));
    }
    if version.version != FORMAT_VERSION {
        return Err(bad(format!(
            "it was written in format version {}, and this program reads version {FORMAT_VERSION}",
            version.version
        )));
    }
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|e| bad(format!("the file is not a manifest: {e}")))?;
    for record in manifest.weights.iter().chain(&manifest.files) {
        let plain = Path::new(&record.name).file_name().is_some_and(|name| name == record.name.as_str());
        if !plain || record.name.contains(['/', '\\', ':']) {
            return Err(bad(format!("{} is not a plain file name", record.name)));
        }
    }
    Ok(manifest)
}

fn check_size(folder: &Path, record: &FileRecord) -> Result<()> {
    let path: PathBuf = folder.join(&record.name);
    let bad = |cause: String| Err(Error::new(DOING, cause).at_path(&path).help(CONVERT_AGAIN));
    match builtin::facts(&path) {
        Ok(facts) if facts.len == record.bytes => Ok(()),
        Ok(facts) => bad(format!(
            "the file has {} bytes instead of {}, so it was truncated or replaced",
            facts.len, record.bytes
        )),
        Err(e) => bad(format!("the file cannot be read: {e}")),
    }
}

/// Checks type and shape of one stored tensor, and of its scales.
fn check_stored(files: &TensorFiles, tensor: &StoredTensor) -> Result<()> {
    let expect = |name: &str, shape: &[usize], dtype: Dtype| {
        let view = files.expect_shape(name, shape)?;
        if view.dtype == dtype {
            return Ok(());
        }
        let cause =
            format!("it is stored as {}, but its recipe asks for {}", view.dtype.name(), dtype.name());
        Err(Error::new("reading tensor", cause).at(name).at_path(files.folder()))
    };
    match tensor.storage {
        Storage::F16 => expect(&tensor.name, &tensor.shape, Dtype::F16),
        Storage::F32 => expect(&tensor.name, &tensor.shape, Dtype::F32),
        Storage::Int8 => {
            expect(&tensor.name, &tensor.shape, Dtype::I8)?;
            expect(&tensor.scale_name(), &[tensor.rows(), tensor.cols() / BLOCK], Dtype::F16)
        }
    }
}
