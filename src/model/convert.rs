//! Room: `model`. A hub checkpoint or GGUF files made into a converted model (see [`crate::model::converted`] for the
//! format), or a converted int8 model into one of f16 or f32.
//!
//! Tensors pass through in pieces of half a million elements, on several threads, and are hashed as they are written;
//! so the memory needed does not depend on the size of the model (about 100 MB at most, with the scales of one
//! matrix). The result is written to a hidden folder beside the destination, read back, compared with its checksums,
//! and only then given its name. Converting the same checkpoint twice gives the same bytes.

mod origin;
pub(crate) mod partial;
mod tokenizer_check;
pub(crate) mod workers;
pub(crate) mod writer;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use half::slice::HalfFloatSliceExt;

use crate::error::{Error, Result};
use crate::model::builtin;
use crate::model::checkpoint::Dtype;
use crate::model::config::{CONFIG_FILE, GENERATION_CONFIG_FILE};
use crate::model::converted::{
    ConvertedModel, FORMAT_NAME, FORMAT_VERSION, FileRecord, MANIFEST_FILE, Manifest, SourceRecord,
};
use crate::model::disk::check_disk;
use crate::model::recipe::{
    BLOCK, Recipe, Storage, StoredTensor, check_finite, quantise_rows, stored_tensors, to_f16_rows,
};
use crate::model::tensor_names::is_vision;
use crate::model::tokenizer::Tokenizer;
pub(crate) use origin::can_multiply_out;

use origin::Origin;
use partial::{PartialFolder, gigabytes};
use writer::{Planned, ShardWriter, copy_file, cut_into_shards, shard_name, write_file};

const DOING: &str = "converting";

/// Largest file of weights, in bytes of data. A tensor that is larger gets a file of its own.
pub const MAX_SHARD_BYTES: u64 = 2_000_000_000;

/// Elements of one piece of work.
const PIECE_ELEMENTS: usize = 1 << 19;

/// Files that must be in a checkpoint besides the weights.
pub(crate) const NEEDED_FILES: [&str; 2] = [CONFIG_FILE, "tokenizer.json"];

/// Files that are copied where they exist.
pub(crate) const OTHER_FILES: [&str; 10] = [
    GENERATION_CONFIG_FILE,
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "chat_template.jinja",
    "LICENSE",
];

/// How far a conversion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// What is being done.
    pub stage: Stage,
    /// Bytes written (or read back) so far.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// The tensor at hand; empty while verifying.
    pub tensor: &'a str,
}

/// The two halves of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the checkpoint and writing the converted model.
    Converting,
    /// Reading back what was written.
    Verifying,
}

/// What a conversion did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Bytes of weights in the checkpoint.
    pub read_bytes: u64,
    /// Bytes of weights in the converted model.
    pub written_bytes: u64,
    /// What was odd about the checkpoint, one sentence each.
    pub notes: Vec<String>,
}

/// How to convert; made from a recipe, or from nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// How weights are stored.
    pub recipe: Recipe,
    /// GGUF files without a vision file become a model that answers texts only, instead of an error.
    pub text_only: bool,
}

impl From<Recipe> for How {
    fn from(recipe: Recipe) -> Self {
        Self { recipe, text_only: false }
    }
}

/// Converts the hub checkpoint in `source` into the new folder `destination`. A converted int8 model can be converted
/// to `f16` and `f32`: its weights are then multiplied out, and its int8 head stays a matrix of its own. `source` may also be
/// a GGUF text file, or a folder with one, and its vision file; its Q8_0 blocks become ours bit for bit.
///
/// `progress` is called on this thread, a few hundred times. Setting `cancel` from another thread stops it soon.
///
/// # Errors
/// The checkpoint cannot be opened (see [`crate::model::checkpoint::Checkpoint::open`]), its tokenizer does not belong to
/// it, it has weights the recipe cannot hold, the destination exists, or a file cannot be written or reads back
/// differently; cancelled. The destination does not exist then.
pub fn convert(
    source: &Path,
    destination: &Path,
    how: impl Into<How>,
    progress: &mut dyn FnMut(&Progress<'_>),
    cancel: &AtomicBool,
) -> Result<Report> {
    let How { recipe, text_only } = how.into();
    let origin = Origin::open(source, recipe, text_only, DOING)?;
    check_side_files(&origin)?;
    let mut plan = stored_tensors(origin.config(), recipe)?;
    plan.retain(|tensor| origin.has_vision() || !is_vision(&tensor.name));
    check_disk(destination, plan.iter().map(|tensor| tensor.bytes() as u64).sum(), DOING)?;
    let partial = PartialFolder::create(destination, DOING)?;

    let weights = write_weights(&origin, &plan, partial.path(), progress, cancel)?;
    let mut files = Vec::new();
    for (name, bytes) in origin.side_files().unwrap_or_default() {
        files.push(write_file(&partial.path().join(name), DOING, bytes)?);
    }
    let copied = NEEDED_FILES.into_iter().chain(OTHER_FILES).filter(|_| origin.side_files().is_none());
    for name in copied {
        let from = source.join(name);
        if builtin::is_file(&from) {
            files.push(copy_file(&from, &partial.path().join(name), DOING)?);
        }
    }
    let manifest = Manifest {
        format: FORMAT_NAME.to_owned(),
        version: FORMAT_VERSION,
        recipe,
        tied: origin.config().text.tie_word_embeddings,
        text_only: !origin.has_vision(),
        source: describe(&origin, &plan)?,
        weights,
        files,
    };
    let mut json = serde_json::to_string_pretty(&manifest)
        .map_err(|e| Error::new(DOING, e).at(MANIFEST_FILE))?
        .into_bytes();
    json.push(b'\n');
    write_file(&partial.path().join(MANIFEST_FILE), DOING, &json)?;

    let written = ConvertedModel::open(partial.path())?;
    let mut verifying = |done_bytes, total_bytes| {
        progress(&Progress { stage: Stage::Verifying, done_bytes, total_bytes, tensor: "" });
    };
    written
        .verify(&mut verifying, cancel)
        .map_err(|e| e.help("the disk did not keep what was written: check it, or choose another one"))?;
    let written_bytes = written.weight_bytes();
    // Some systems do not rename a folder with mapped files.
    drop(written);
    partial.finish()?;
    Ok(Report { read_bytes: origin.total_bytes(), written_bytes, notes: origin.notes(recipe, &plan) })
}

fn check_side_files(origin: &Origin) -> Result<()> {
    let folder = origin.folder();
    if let Some(files) = origin.side_files() {
        for (_, json) in files.iter().filter(|(name, _)| name == "tokenizer.json") {
            tokenizer_check::check_read(json.as_slice(), origin.config())
                .and_then(|()| Tokenizer::from_json(json).map(drop))
                .map_err(|e| e.at_path(folder).help("the file is damaged: download it again"))?;
        }
        return Ok(());
    }
    for name in NEEDED_FILES {
        if !builtin::is_file(&folder.join(name)) {
            return Err(Error::new(DOING, format!("{name} is missing"))
                .at_path(folder)
                .help("download the checkpoint again, with all its files"));
        }
    }
    tokenizer_check::check(&folder.join("tokenizer.json"), origin.config())
}

/// What the checkpoint is, without a name or a path: those may differ where the bytes do not.
fn describe(origin: &Origin, plan: &[StoredTensor]) -> Result<SourceRecord> {
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    let mut sources: Vec<&str> = plan.iter().map(|tensor| tensor.source.as_str()).collect();
    sources.sort_unstable();
    sources.dedup();
    for name in &sources {
        *types.entry(origin.type_name(name)?).or_default() += 1;
    }
    let types: Vec<String> = types.iter().map(|(dtype, count)| format!("{count} {dtype}")).collect();
    let (t, v) = (&origin.config().text, &origin.config().vision);
    let description = format!(
        "Qwen3-VL, {} layers of {}, vision tower {} blocks of {}, vocabulary {}; tensors: {}",
        t.num_layers,
        t.hidden_size,
        v.depth,
        v.hidden_size,
        t.vocab_size,
        types.join(", ")
    );
    Ok(SourceRecord { description, tensors: sources.len(), bytes: origin.total_bytes() })
}

/// Some rows of one tensor, the unit of work.
struct Job {
    tensor: usize,
    rows: Range<usize>,
}

/// The stored bytes of a job.
struct Made {
    data: Vec<u8>,
    scales: Vec<u8>,
}

/// What a thread keeps between jobs, so as not to ask for memory each time.
#[derive(Default)]
struct Scratch {
    weights: Vec<f32>,
    quants: Vec<i8>,
    scales: Vec<u16>,
    halves: Vec<half::f16>,
}

fn write_weights(
    origin: &Origin,
    plan: &[StoredTensor],
    folder: &Path,
    progress: &mut dyn FnMut(&Progress<'_>),
    cancel: &AtomicBool,
) -> Result<Vec<FileRecord>> {
    let starts = cut_into_shards(plan.iter().map(|tensor| tensor.bytes() as u64), MAX_SHARD_BYTES);
    let total_bytes: u64 = plan.iter().map(|tensor| tensor.bytes() as u64).sum();
    let jobs: Vec<Job> = plan.iter().enumerate().flat_map(|(index, tensor)| cut(index, tensor)).collect();

    let (mut records, mut shard, mut scales, mut done_bytes) = (Vec::new(), None, Vec::new(), 0);
    let make =
        |job: usize, scratch: &mut Scratch| make_rows(origin, &plan[jobs[job].tensor], &jobs[job], scratch);
    workers::in_order(jobs.len(), DOING, cancel, make, |job, made| {
        let job = &jobs[job];
        let tensor = &plan[job.tensor];
        if job.rows.start == 0 && starts.binary_search(&job.tensor).is_ok() {
            end_shard(shard.take(), &mut records)?;
            let next = starts.get(records.len() + 1).copied().unwrap_or(plan.len());
            let planned: Vec<Planned> = plan[job.tensor..next].iter().flat_map(planned).collect();
            let path = folder.join(shard_name(records.len(), starts.len()));
            let note = "weights converted by ocelli; see ocelli.json";
            shard = Some(ShardWriter::create(&path, DOING, &planned, note, total_bytes)?);
        }
        if let Some(writer) = shard.as_mut() {
            writer.write(&made.data)?;
            scales.extend_from_slice(&made.scales);
            if job.rows.end == tensor.rows() {
                writer.write(&scales)?;
                scales.clear();
            }
        }
        done_bytes += (made.data.len() + made.scales.len()) as u64;
        progress(&Progress { stage: Stage::Converting, done_bytes, total_bytes, tensor: &tensor.name });
        Ok(())
    })?;
    end_shard(shard, &mut records)?;
    Ok(records)
}

fn end_shard(shard: Option<ShardWriter>, records: &mut Vec<FileRecord>) -> Result<()> {
    if let Some(shard) = shard {
        records.push(shard.finish()?);
    }
    Ok(())
}

/// Cuts a tensor into jobs of whole rows.
fn cut(index: usize, tensor: &StoredTensor) -> impl Iterator<Item = Job> + use<> {
    let rows = tensor.rows();
    let step = (PIECE_ELEMENTS / tensor.cols().max(1)).max(1);
    (0..rows).step_by(step).map(move |start| Job { tensor: index, rows: start..(start + step).min(rows) })
}

/// The tensors in the file that one stored tensor becomes.
fn planned(tensor: &StoredTensor) -> Vec<Planned> {
    let one = |dtype| Planned { name: tensor.name.clone(), dtype, shape: tensor.shape.clone() };
    match tensor.storage {
        Storage::F16 => vec![one(Dtype::F16)],
        Storage::F32 => vec![one(Dtype::F32)],
        Storage::Int8 => {
            let shape = vec![tensor.rows(), tensor.cols() / BLOCK];
            vec![one(Dtype::I8), Planned { name: tensor.scale_name(), dtype: Dtype::F16, shape }]
        }
    }
}

/// Reads the rows of a job and stores them as the recipe says.
fn make_rows(origin: &Origin, tensor: &StoredTensor, job: &Job, scratch: &mut Scratch) -> Result<Made> {
    let cols = tensor.cols();
    // A vector is one row here, and as many rows as it has elements in the file.
    let rows = if tensor.shape.len() == 1 { 0..cols } else { job.rows.clone() };
    let mut made = Made { data: Vec::new(), scales: Vec::new() };
    if tensor.storage == Storage::Int8
        && origin.read_int8(&tensor.source, &rows, &mut made.data, &mut made.scales)?
    {
        return Ok(made);
    }
    origin.read_f32(&tensor.source, rows, &mut scratch.weights)?;
    let result = match tensor.storage {
        Storage::Int8 => {
            scratch.quants.clear();
            scratch.scales.clear();
            quantise_rows(&scratch.weights, cols, &mut scratch.quants, &mut scratch.scales).map(|()| {
                made.data.extend(scratch.quants.iter().map(|q| q.to_le_bytes()[0]));
                made.scales = little_endian(&scratch.scales);
            })
        }
        Storage::F16 => {
            scratch.halves.clear();
            to_f16_rows(&scratch.weights, cols, &mut scratch.halves).map(|()| {
                made.data = little_endian(scratch.halves.reinterpret_cast());
            })
        }
        Storage::F32 => check_finite(&scratch.weights, cols).map(|()| {
            made.data.resize(scratch.weights.len() * 4, 0);
            for (out, weight) in made.data.as_chunks_mut::<4>().0.iter_mut().zip(&scratch.weights) {
                *out = weight.to_le_bytes();
            }
        }),
    };
    result.map_err(|fault| fault.shifted(job.rows.start).error(&tensor.source).at_path(origin.folder()))?;
    Ok(made)
}

fn little_endian(values: &[u16]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * 2];
    for (out, value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(values) {
        *out = value.to_le_bytes();
    }
    bytes
}

/// For a report to a person: "4.26 GB of weights became 2.17 GB".
impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of weights became {}", gigabytes(self.read_bytes), gigabytes(self.written_bytes))
    }
}
