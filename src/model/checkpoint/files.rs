//! A set of safetensors files, seen as one table of tensors by canonical name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::header::{self, Entry};
use crate::error::{Error, Result};
use crate::model::mapped_file::MappedFile;
use crate::model::tensor_names::canonical_name;

/// The element types that weights are read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dtype {
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
    /// IEEE single precision.
    F32,
    /// Signed byte: the quants of a converted model.
    I8,
}

impl Dtype {
    /// Bytes of one element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::I8 => 1,
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// The name in a safetensors header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::F32 => "F32",
            Self::I8 => "I8",
        }
    }

    fn of(dtype: safetensors::Dtype) -> Option<Self> {
        match dtype {
            safetensors::Dtype::BF16 => Some(Self::Bf16),
            safetensors::Dtype::F16 => Some(Self::F16),
            safetensors::Dtype::F32 => Some(Self::F32),
            safetensors::Dtype::I8 => Some(Self::I8),
            _ => None,
        }
    }
}

/// One tensor where it lies in its file.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// Row-major shape as in the file.
    pub shape: &'a [usize],
    /// The elements, little endian, not necessarily aligned to their size.
    pub bytes: &'a [u8],
}

impl TensorView<'_> {
    /// Length of the first axis; 1 for a scalar.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements in one row: the product of the other axes.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.shape.iter().skip(1).product()
    }
}

/// A set of mapped safetensors files.
#[derive(Debug)]
pub struct TensorFiles {
    folder: PathBuf,
    files: Vec<MappedFile>,
    tensors: BTreeMap<String, Place>,
    /// How far into each file the system has been told that bytes will be needed.
    asked_for: Vec<AtomicUsize>,
}

#[derive(Debug)]
struct Place {
    file: usize,
    entry: Entry,
}

const DOING: &str = "reading tensor";

impl TensorFiles {
    /// Maps the named files of `folder` and reads their headers.
    ///
    /// # Errors
    /// A file is missing, truncated or no safetensors file; two tensors have the same canonical name. The error names
    /// the file, and the tensor where it is about one.
    pub fn open(folder: &Path, names: &[String]) -> Result<Self> {
        let mut set = Self {
            folder: folder.to_owned(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            asked_for: Vec::new(),
        };
        for (index, name) in names.iter().enumerate() {
            let path = folder.join(name);
            let file = MappedFile::open(&path)?;
            for entry in header::read(&file).map_err(|e| e.at_path(&path))? {
                let canonical = canonical_name(&entry.name);
                if let Some(other) = set.tensors.get(&canonical) {
                    let other_file = names.get(other.file).map_or("", String::as_str);
                    let cause = format!(
                        "it is there twice: as {} in {other_file} and as {} in {name}",
                        other.entry.name, entry.name
                    );
                    return Err(Error::new(DOING, cause)
                        .at(&canonical)
                        .at_path(folder)
                        .help("download the checkpoint again into an empty folder"));
                }
                set.tensors.insert(canonical, Place { file: index, entry });
            }
            set.files.push(file);
            set.asked_for.push(AtomicUsize::new(0));
        }
        Ok(set)
    }

    /// The folder the files are in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Canonical names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this canonical name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Name of the file that holds the tensor `name`, where there is one.
    #[must_use]
    pub fn file_of(&self, name: &str) -> Option<&Path> {
        let place = self.tensors.get(name)?;
        Some(self.files.get(place.file)?.path())
    }

    /// The shape of tensor `name`, whatever its element type is.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|place| place.entry.shape.as_slice())
    }

    /// Bytes of all tensors together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.tensors.values().map(|place| place.entry.range.len() as u64).sum()
    }

    fn place(&self, name: &str) -> Result<(&MappedFile, &Place)> {
        self.tensors
            .get(name)
            .and_then(|place| Some((self.files.get(place.file)?, place)))
            .ok_or_else(|| Error::new(DOING, "it is missing").at(name).at_path(&self.folder))
    }

    /// The tensor of this canonical name.
    ///
    /// # Errors
    /// It is missing, or of an element type that no weights are read in; the error names it and its file.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        let (file, place) = self.place(name)?;
        let entry = &place.entry;
        let dtype = Dtype::of(entry.dtype).ok_or_else(|| {
            Error::new(DOING, format!("its element type {} is not supported", entry.dtype))
                .at(name)
                .at_path(file.path())
                .help("use a checkpoint with bf16, f16 or f32 weights, such as the original one")
        })?;
        let bytes = file
            .get(entry.range.clone())
            .ok_or_else(|| Error::new(DOING, "it lies outside the file").at(name).at_path(file.path()))?;
        Ok(TensorView { dtype, shape: &entry.shape, bytes })
    }

    /// The tensor of this name, which must have this shape.
    ///
    /// # Errors
    /// As [`TensorFiles::tensor`], and when the shape is another one; the error gives both.
    pub fn expect_shape(&self, name: &str, shape: &[usize]) -> Result<TensorView<'_>> {
        let view = self.tensor(name)?;
        if view.shape == shape {
            return Ok(view);
        }
        let cause = format!("its shape is {:?}, but the configuration asks for {shape:?}", view.shape);
        let error =
            Error::new(DOING, cause).at(name).help("config.json and the weights do not belong together");
        Err(match self.file_of(name) {
            Some(path) => error.at_path(path),
            None => error,
        })
    }

    /// Replaces the contents of `out` by rows `rows` of a tensor, as f32. A row is everything behind the first axis.
    /// Values are not looked at: NaN comes back as NaN.
    ///
    /// # Errors
    /// As [`TensorFiles::tensor`]; the tensor is int8, or has fewer rows.
    pub fn read_f32(&self, name: &str, rows: std::ops::Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let view = self.tensor(name)?;
        let row_bytes = view.cols() * view.dtype.bytes();
        let bytes = rows
            .start
            .checked_mul(row_bytes)
            .zip(rows.end.checked_mul(row_bytes))
            .and_then(|(start, end)| view.bytes.get(start..end))
            .ok_or_else(|| {
                Error::new(DOING, format!("rows {rows:?} are asked for, of {}", view.rows())).at(name)
            })?;
        if decode_f32(view.dtype, bytes, out) {
            Ok(())
        } else {
            Err(Error::new(DOING, "its int8 values mean nothing without scales").at(name))
        }
    }

    /// Tells the system that a tensor and what follows it in its file, `ahead_bytes` in all, will be needed soon. Asked for
    /// tensor by tensor, it goes on in steps of half that.
    pub fn prefetch(&self, name: &str, ahead_bytes: usize) {
        let Ok((file, place)) = self.place(name) else { return };
        let start = place.entry.range.start;
        let Some(asked) = self.asked_for.get(place.file) else { return };
        if start.saturating_add(ahead_bytes / 2) > asked.load(Ordering::Relaxed) {
            let from = start.max(asked.load(Ordering::Relaxed).min(start + ahead_bytes));
            asked.store(start + ahead_bytes, Ordering::Relaxed);
            file.will_need(from..start + ahead_bytes);
        }
    }

    /// Tells the system that the bytes of these rows are not needed for now (see [`MappedFile::release`]).
    pub fn release(&self, name: &str, rows: std::ops::Range<usize>) {
        if let (Ok((file, place)), Ok(view)) = (self.place(name), self.tensor(name)) {
            let row_bytes = view.cols() * view.dtype.bytes();
            let start = place.entry.range.start;
            let at =
                |row: usize| row.saturating_mul(row_bytes).saturating_add(start).min(place.entry.range.end);
            file.release(at(rows.start)..at(rows.end));
        }
    }
}

/// Replaces the contents of `out` by little-endian elements as f32; false for int8, which has no value of its own.
pub(crate) fn decode_f32(dtype: Dtype, bytes: &[u8], out: &mut Vec<f32>) -> bool {
    out.clear();
    match dtype {
        Dtype::F32 => out.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))),
        Dtype::Bf16 => {
            out.extend(bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_bits()).map(|b| {
                // bf16 is the upper half of f32.
                f32::from_bits(u32::from(b) << 16)
            }));
        }
        Dtype::F16 => {
            // By pieces, so that the conversion works on slices, which use the processor's instructions.
            let mut piece = [f16::ZERO; 1024];
            for chunk in bytes.as_chunks::<2>().0.chunks(1024) {
                for (half, bytes) in piece.iter_mut().zip(chunk) {
                    *half = f16::from_le_bytes(*bytes);
                }
                let start = out.len();
                out.resize(start + chunk.len(), 0.0);
                piece[..chunk.len()].convert_to_f32_slice(&mut out[start..]);
            }
        }
        Dtype::I8 => return false,
    }
    true
}
