//! Weights on the device: matrices in row slices that fit the adapter's bindings, and small vectors.

use super::converted::{ConvertedModel, StoredData, StoredMatrix};
use super::recipe::{BLOCK, Storage};
use crate::error::{Error, Result};
use crate::gpu::Gpu;

/// How a matrix's numbers are stored on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    /// int8 in blocks of 32 columns with an f16 scale each.
    Int8,
    /// IEEE half.
    F16,
    /// IEEE single.
    F32,
}

impl WeightFormat {
    /// The form of what is stored so.
    #[must_use]
    pub fn of_storage(storage: Storage) -> Self {
        match storage {
            Storage::Int8 => Self::Int8,
            Storage::F16 => Self::F16,
            Storage::F32 => Self::F32,
        }
    }

    /// The word for it in the kernels' defines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }

    fn of(data: &StoredData<'_>) -> Self {
        match data {
            StoredData::Int8 { .. } => Self::Int8,
            StoredData::F16(_) => Self::F16,
            StoredData::F32(_) => Self::F32,
        }
    }

    /// Bytes of the numbers of `cols` columns, scales apart.
    fn row_bytes(self, cols: usize) -> usize {
        match self {
            Self::Int8 => cols,
            Self::F16 => cols * 2,
            Self::F32 => cols * 4,
        }
    }

    /// Bytes a row costs to read, scales included.
    #[must_use]
    pub fn row_cost_bytes(self, cols: usize) -> usize {
        self.row_bytes(cols) + if self == Self::Int8 { cols / BLOCK * 2 } else { 0 }
    }
}

/// Rows `first_row..first_row + rows` of a matrix, in buffers of their own.
#[derive(Debug)]
pub struct MatrixSlice {
    /// First row of the whole matrix in this slice.
    pub first_row: usize,
    /// Rows in this slice.
    pub rows: usize,
    /// The numbers, row-major.
    pub data: wgpu::Buffer,
    /// The scales, row-major, for int8.
    pub scales: Option<wgpu::Buffer>,
}

/// A `[rows, cols]` matrix on the device, `y = W x + b`.
#[derive(Debug)]
pub struct Matrix {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Storage.
    pub format: WeightFormat,
    /// Consecutive row ranges, each within one binding.
    pub slices: Vec<MatrixSlice>,
    /// `[rows]` f32, where the layer has one.
    pub bias: Option<wgpu::Buffer>,
}

impl Matrix {
    /// Bytes read when the whole matrix is used once.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows * self.format.row_cost_bytes(self.cols)
    }
}

/// How the rows of stored matrices become the rows of one on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stacking {
    /// One after the other: q, k, v.
    Concatenated,
    /// Row by row in turn: gate, up.
    Interleaved,
}

/// Reads a converted model onto the device, keeping what is in flight small.
pub struct Uploader<'a> {
    gpu: &'a Gpu,
    model: &'a ConvertedModel,
    in_flight: usize,
    /// What the queue was given before and may still be at.
    submitted: Option<wgpu::SubmissionIndex>,
    done: u64,
    progress: &'a mut dyn FnMut(u64) -> Result<()>,
    staging: Vec<u8>,
}

impl std::fmt::Debug for Uploader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uploader").field("done_bytes", &self.done).finish_non_exhaustive()
    }
}

/// Bytes handed to the queue before it is told to begin. While it works on them, the next are read.
const FLUSH_BYTES: usize = 32 << 20;
/// Bytes that may be on their way to the device at a time.
pub const IN_FLIGHT_BYTES: usize = 2 * (FLUSH_BYTES + STAGING_BYTES);
/// The disk is asked for this much before it is needed.
const AHEAD_BYTES: usize = 256 << 20;
/// Bytes assembled on the host at a time.
const STAGING_BYTES: usize = 8 << 20;
/// Slices hold a multiple of this many rows: whole tiles of the matmul, whole pairs of gate and up.
const SLICE_ROWS: usize = 64;

impl<'a> Uploader<'a> {
    /// Starts; `progress` is told the bytes done and stops the upload with an error.
    pub fn new(
        gpu: &'a Gpu,
        model: &'a ConvertedModel,
        progress: &'a mut dyn FnMut(u64) -> Result<()>,
    ) -> Self {
        Self { gpu, model, in_flight: 0, submitted: None, done: 0, progress, staging: Vec::new() }
    }

    /// A stored `[n]` f32 vector.
    ///
    /// # Errors
    /// The tensor is missing or not finite, or memory is short.
    pub fn vector(&mut self, name: &str) -> Result<wgpu::Buffer> {
        let values = self.model.vector(name)?;
        let buffer = self.gpu.storage_buffer_with(name, bytemuck::cast_slice(&values))?;
        self.flushed(values.len() * 4)?;
        Ok(buffer)
    }

    /// Several stored vectors, one after the other.
    ///
    /// # Errors
    /// As [`Uploader::vector`].
    pub fn vectors(&mut self, names: &[String]) -> Result<wgpu::Buffer> {
        let mut values = Vec::new();
        for name in names {
            values.extend(self.model.vector(name)?);
        }
        let label = names.first().map_or("vectors", String::as_str);
        let buffer = self.gpu.storage_buffer_with(label, bytemuck::cast_slice(&values))?;
        self.flushed(values.len() * 4)?;
        Ok(buffer)
    }

    /// One stored matrix, with the bias of the same name if the model has it.
    ///
    /// # Errors
    /// A tensor is missing, or memory is short.
    pub fn matrix(&mut self, name: &str, bias: Option<&str>) -> Result<Matrix> {
        let mut matrix = self.stacked(&[name.to_owned()], Stacking::Concatenated)?;
        matrix.bias = bias.map(|name| self.vector(name)).transpose()?;
        Ok(matrix)
    }

    /// Rows `rows` of a stored matrix, and of its bias, as a matrix of its own.
    ///
    /// # Errors
    /// As [`Uploader::matrix`].
    pub fn matrix_rows(&mut self, name: &str, bias: &str, rows: std::ops::Range<usize>) -> Result<Matrix> {
        let model = self.model;
        model.prefetch(name, AHEAD_BYTES);
        let stored = model.matrix(name)?;
        let values = model.vector(bias)?;
        let (Some(bias_rows), true) = (values.get(rows.clone()), rows.end <= stored.rows) else {
            let why = format!("rows {}..{} are wanted of {}", rows.start, rows.end, stored.rows);
            return Err(Error::new("reading tensor", why).at(name));
        };
        let first = rows.start;
        let mut matrix = self.build(name, rows.len(), &stored, |row| (&stored, first + row))?;
        matrix.bias = Some(self.gpu.storage_buffer_with(bias, bytemuck::cast_slice(bias_rows))?);
        self.flushed(rows.len() * 4)?;
        Ok(matrix)
    }

    /// Several stored matrices of equal width and storage as one.
    ///
    /// # Errors
    /// A tensor is missing, they do not fit together, or memory is short.
    pub fn stacked(&mut self, names: &[String], stacking: Stacking) -> Result<Matrix> {
        let model = self.model;
        for name in names {
            model.prefetch(name, AHEAD_BYTES);
        }
        let parts = names.iter().map(|name| model.matrix(name)).collect::<Result<Vec<_>>>()?;
        let (Some(first), Some(name)) = (parts.first(), names.first()) else {
            return Err(Error::new("uploading weights", "no tensor is named"));
        };
        let even = stacking == Stacking::Concatenated || parts.iter().all(|p| p.rows == first.rows);
        let alike = parts
            .iter()
            .all(|p| p.cols == first.cols && WeightFormat::of(&p.data) == WeightFormat::of(&first.data));
        if !even || !alike {
            return Err(
                Error::new("uploading weights", "its shape or storage differs from its partners'").at(name)
            );
        }
        let rows = parts.iter().map(|p| p.rows).sum();
        let matrix = match stacking {
            Stacking::Interleaved => {
                self.build(name, rows, first, |row| (&parts[row % parts.len()], row / parts.len()))
            }
            Stacking::Concatenated => {
                let mut starts = Vec::new();
                let mut start = 0;
                for part in &parts {
                    starts.push(start);
                    start += part.rows;
                }
                self.build(name, rows, first, |row| {
                    let part = starts.partition_point(|&s| s <= row) - 1;
                    (&parts[part], row - starts[part])
                })
            }
        }?;
        // What is on the device need not stay in the machine's memory too.
        for name in names {
            model.release(name);
        }
        Ok(matrix)
    }

    /// Fills the slices of a matrix whose row `r` is the stored row `source(r)`.
    fn build<'m>(
        &mut self,
        name: &str,
        rows: usize,
        like: &StoredMatrix<'m>,
        source: impl Fn(usize) -> (&'m StoredMatrix<'m>, usize),
    ) -> Result<Matrix>
    where
        'a: 'm,
    {
        let (cols, format) = (like.cols, WeightFormat::of(&like.data));
        let row_bytes = format.row_bytes(cols);
        let scale_bytes = format.row_cost_bytes(cols) - row_bytes;
        let most = self.gpu.max_binding_bytes() / row_bytes.max(1);
        let per_slice = if rows <= most { rows } else { most / SLICE_ROWS * SLICE_ROWS };
        if per_slice == 0 {
            let why = format!(
                "{SLICE_ROWS} of its rows do not fit into one binding of {}",
                self.gpu.adapter_name()
            );
            return Err(Error::new("uploading weights", why)
                .at(name)
                .help("use a smaller recipe or another adapter"));
        }
        let mut slices = Vec::new();
        let mut first_row = 0;
        while first_row < rows {
            let count = per_slice.min(rows - first_row);
            let data = self.gpu.storage_buffer(name, count * row_bytes)?;
            let scales = match format {
                WeightFormat::Int8 => Some(self.gpu.storage_buffer(name, count * scale_bytes)?),
                _ => None,
            };
            // An even number of rows at a time: a row of scales may end in the middle of a word.
            let step = (STAGING_BYTES / (row_bytes + scale_bytes)).max(2) / 2 * 2;
            let mut at = 0;
            while at < count {
                let chunk = step.min(count - at);
                let range = first_row + at..first_row + at + chunk;
                self.write_part(&data, at, range.clone(), row_bytes, |row| {
                    let (part, row) = source(row);
                    let bytes = match part.data {
                        StoredData::Int8 { quants: b, .. } | StoredData::F16(b) | StoredData::F32(b) => b,
                    };
                    &bytes[row * row_bytes..(row + 1) * row_bytes]
                })?;
                if let Some(scales) = &scales {
                    self.write_part(scales, at, range.clone(), scale_bytes, |row| {
                        let (part, row) = source(row);
                        match part.data {
                            StoredData::Int8 { scales, .. } => {
                                &scales[row * scale_bytes..(row + 1) * scale_bytes]
                            }
                            _ => &[],
                        }
                    })?;
                }
                at += chunk;
            }
            slices.push(MatrixSlice { first_row, rows: count, data, scales });
            first_row += count;
        }
        Ok(Matrix { rows, cols, format, slices, bias: None })
    }

    fn write_part<'m>(
        &mut self,
        buffer: &wgpu::Buffer,
        at: usize,
        rows: std::ops::Range<usize>,
        row_bytes: usize,
        bytes_of: impl Fn(usize) -> &'m [u8],
    ) -> Result<()> {
        let (offset, bytes) = ((at * row_bytes) as u64, rows.len() * row_bytes);
        // Straight from the file's pages into the memory that the device copies from.
        let whole_words = std::num::NonZeroU64::new(bytes as u64).filter(|n| n.get().is_multiple_of(4));
        if let Some(mut view) =
            whole_words.and_then(|size| self.gpu.queue().write_buffer_with(buffer, offset, size))
        {
            for (n, row) in rows.enumerate() {
                view.slice(n * row_bytes..(n + 1) * row_bytes).copy_from_slice(bytes_of(row));
            }
            drop(view);
            return self.flushed(bytes);
        }
        let mut staging = std::mem::take(&mut self.staging);
        staging.clear();
        for row in rows {
            staging.extend_from_slice(bytes_of(row));
        }
        self.gpu.write(buffer, offset, &staging);
        self.staging = staging;
        self.flushed(bytes)
    }

    /// Counts bytes written; now and then lets the device take them, so that staging memory stays small.
    fn flushed(&mut self, bytes: usize) -> Result<()> {
        self.in_flight += bytes;
        self.done += bytes as u64;
        if self.in_flight >= FLUSH_BYTES {
            self.in_flight = 0;
            let now = self.gpu.queue().submit([]);
            // The one before must be done: its copies are freed then.
            if let Some(before) = self.submitted.replace(now) {
                self.gpu.wait_for("uploading weights", &before)?;
            }
            self.gpu.check()?;
        }
        (self.progress)(self.done)
    }
}
