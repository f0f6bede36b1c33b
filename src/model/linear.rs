//! Matrix products: `y (+)= act(W x + b)` for one row, a batch of up to eight, or many.

mod narrowed;

use std::collections::HashMap;
use std::sync::Arc;

use self::narrowed::{Narrow, Narrowed};
use super::weights::{Matrix, WeightFormat};
use crate::error::Result;
use crate::gpu::{Gpu, Kernel, KernelKey, MatrixKernel, Recorder, Tuning, VectorKernel, Work};

/// What happens to a row of the product before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// Nothing but the bias.
    None,
    /// GELU in its tanh form (the tower's blocks).
    GeluTanh,
    /// GELU with the exact error function (the mergers).
    GeluErf,
    /// Rows come in pairs: `silu(gate) * up`; half as many outputs.
    SwiGlu,
}

impl Epilogue {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::GeluTanh => "gelu_tanh",
            Self::GeluErf => "gelu_erf",
            Self::SwiGlu => "swiglu",
        }
    }
}

/// Where a product reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// `[.., cols]` f32.
    pub x: &'a wgpu::Buffer,
    /// First row read.
    pub x_first_row: usize,
    /// `[.., outputs]` f32.
    pub y: &'a wgpu::Buffer,
    /// First row written.
    pub y_first_row: usize,
    /// Rows.
    pub rows: usize,
    /// Before writing.
    pub epilogue: Epilogue,
    /// Add to `y` instead of replacing it.
    pub accumulate: bool,
    /// Through the kernel for many rows, however few there are: what a row gives does not depend on how many are with it.
    pub as_many: bool,
}

impl<'a> Product<'a> {
    /// All of `rows` rows from `x` to `y`, nothing added.
    #[must_use]
    pub fn new(x: &'a wgpu::Buffer, y: &'a wgpu::Buffer, rows: usize) -> Self {
        let (x_first_row, y_first_row, epilogue) = (0, 0, Epilogue::None);
        Self { x, x_first_row, y, y_first_row, rows, epilogue, accumulate: false, as_many: false }
    }

    /// With an epilogue.
    #[must_use]
    pub fn epilogue(mut self, epilogue: Epilogue) -> Self {
        self.epilogue = epilogue;
        self
    }

    /// Through the kernel for many rows if `as_many`, whatever their number.
    #[must_use]
    pub fn as_many(mut self, as_many: bool) -> Self {
        self.as_many = as_many;
        self
    }

    /// Adding to `y`.
    #[must_use]
    pub fn accumulate(mut self) -> Self {
        self.accumulate = true;
        self
    }

    /// Reading from row `x_first_row`, writing from `y_first_row`.
    #[must_use]
    pub fn at(mut self, x_first_row: usize, y_first_row: usize) -> Self {
        self.x_first_row = x_first_row;
        self.y_first_row = y_first_row;
        self
    }
}

/// Rows up to which the matrix-vector kernel is used; also the most sessions in a step.
pub const MAX_BATCH: usize = 8;

const HAS_BIAS: u32 = 1;
const ACCUMULATE: u32 = 2;
/// Rows of the matrix a workgroup of `matvec_lanes` takes.
const LANES_VECTOR_ROWS: usize = 128;
/// Groups of eight rows in a tile of `matmul_lanes`, and columns of a lane.
const LANES_TILE: (usize, usize) = (4, 4);
/// In place of a batch: the kernel for many rows, for few of them. A row's sum is the same in both.
const FEW_OF_MANY: usize = usize::MAX;

/// Rows that are made narrow at a time, at most: eight tiles of 64.
const NARROW_ROWS: usize = 512;
/// Subgroups of `matmul_cooperative` by rows and columns, for subgroups of 8, 16, 32 and 64 lanes.
const GRIDS: [(u32, usize, usize); 4] = [(8, 4, 4), (16, 2, 4), (32, 2, 2), (64, 1, 2)];

/// What multiplies many rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Tiles,
    Lanes,
    Cooperative,
    Packed,
}

impl Way {
    /// What runs for weights of this format. Matrix units have no f32, and integers are multiplied by integers only.
    fn of(tuning: Tuning, format: WeightFormat) -> Self {
        let matrix = tuning.matrix_f16.filter(|_| format == WeightFormat::F16).unwrap_or(tuning.matrix);
        match (matrix, format) {
            (MatrixKernel::Lanes, _) => Self::Lanes,
            (MatrixKernel::Cooperative, WeightFormat::Int8 | WeightFormat::F16) => Self::Cooperative,
            (MatrixKernel::Packed, WeightFormat::Int8) => Self::Packed,
            _ => Self::Tiles,
        }
    }

    fn narrow(self) -> Option<Narrow> {
        match self {
            Self::Cooperative => Some(Narrow::F16),
            Self::Packed => Some(Narrow::Int8),
            Self::Tiles | Self::Lanes => None,
        }
    }

    /// Rows and columns of a workgroup's tile.
    fn tile(self, few: bool) -> (usize, usize) {
        match self {
            // A workgroup of 64 lanes.
            Self::Lanes => (if few { 8 } else { LANES_TILE.0 * 8 }, LANES_TILE.1 * 64),
            _ => (64, 64),
        }
    }
}

/// The kernels of matrix products, ready for one model's formats.
#[derive(Debug)]
pub struct Linear {
    gpu: Gpu,
    tuning: Tuning,
    kernels: HashMap<(WeightFormatKey, Epilogue, usize), Arc<Kernel>>,
    no_bias: wgpu::Buffer,
    /// Of one kind: no recipe has products of many rows in both.
    narrowed: Option<Narrowed>,
}

type WeightFormatKey = &'static str;

/// `u32` of a size that was checked against the device's limits when its buffer was made.
pub(super) fn word(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Linear {
    /// An empty set; kernels are compiled when first used.
    ///
    /// # Errors
    /// Memory is short.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Self::with(gpu, gpu.tuning())
    }

    /// The same with a choice of kernels that this device can run ([`Tuning::is_possible`]).
    ///
    /// # Errors
    /// Memory is short.
    pub fn with(gpu: &Gpu, tuning: Tuning) -> Result<Self> {
        Ok(Self {
            gpu: gpu.clone(),
            tuning,
            kernels: HashMap::new(),
            no_bias: gpu.storage_buffer("no bias", 16)?,
            narrowed: None,
        })
    }

    /// Takes its buffers off the device's count, before it is dropped.
    pub fn free(&self) {
        self.gpu.uncount_bytes(self.no_bias.size());
        if let Some(narrowed) = &self.narrowed {
            narrowed.free();
        }
    }

    /// The keys of the kernels that a product of `batch` rows (0: many) takes on this device.
    #[must_use]
    pub fn keys(gpu: &Gpu, format: WeightFormat, epilogue: Epilogue, batch: usize) -> Vec<KernelKey> {
        Self::tuned_keys(gpu, gpu.tuning(), format, epilogue, batch)
    }

    /// The same for a choice of kernels.
    pub(super) fn tuned_keys(
        gpu: &Gpu,
        tuning: Tuning,
        format: WeightFormat,
        epilogue: Epilogue,
        batch: usize,
    ) -> Vec<KernelKey> {
        let narrow = Way::of(tuning, format).narrow().filter(|_| batch == 0);
        let product = Self::tuned_key(gpu, tuning, format, epilogue, batch);
        narrow.map(Narrow::key).into_iter().chain([product]).collect()
    }

    fn tuned_key(
        gpu: &Gpu,
        tuning: Tuning,
        format: WeightFormat,
        epilogue: Epilogue,
        batch: usize,
    ) -> KernelKey {
        let with =
            |file| KernelKey::new(file).with("WEIGHTS", format.name()).with("EPILOGUE", epilogue.name());
        let wide = u8::from(gpu.has_int64());
        if batch == 0 || batch == FEW_OF_MANY {
            return match Way::of(tuning, format) {
                Way::Tiles => with("matmul"),
                Way::Lanes => with("matmul_lanes")
                    .with("GROUPS", if batch == 0 { LANES_TILE.0 } else { 1 })
                    .with("COLUMNS", LANES_TILE.1)
                    .with("WIDE", wide),
                Way::Packed => KernelKey::new("matmul_packed").with("EPILOGUE", epilogue.name()),
                Way::Cooperative => {
                    let size = gpu.cooperative_matrix().unwrap_or(16) as usize;
                    let lanes = gpu.subgroup_lanes();
                    let (_, m, n) = GRIDS.into_iter().find(|grid| grid.0 >= lanes).unwrap_or(GRIDS[3]);
                    with("matmul_cooperative")
                        .with("SIZE", size)
                        .with("GRID_M", m)
                        .with("GRID_N", n)
                        .with("FM", 64 / size / m)
                        .with("FN", 64 / size / n)
                }
            };
        }
        match tuning.vector {
            VectorKernel::Strided { rows } => with("matvec").with("BATCH", batch).with("ROWS", rows),
            VectorKernel::Lanes => with("matvec_lanes").with("BATCH", batch).with("WIDE", wide),
        }
    }

    /// The kernel for `batch` rows (0: many), compiled once.
    fn kernel(&mut self, format: WeightFormat, epilogue: Epilogue, batch: usize) -> Result<Arc<Kernel>> {
        let place = (format.name(), epilogue, batch);
        if let Some(kernel) = self.kernels.get(&place) {
            return Ok(kernel.clone());
        }
        let key = Self::tuned_key(&self.gpu, self.tuning, format, epilogue, batch);
        let kernel = self.gpu.kernel(&key)?;
        self.kernels.insert(place, kernel.clone());
        Ok(kernel)
    }

    /// Records a product; few rows go through the matrix-vector kernel if they begin at row 0.
    ///
    /// # Errors
    /// A kernel does not compile, or the device failed.
    pub fn record(&mut self, recorder: &mut Recorder, w: &Matrix, product: &Product<'_>) -> Result<()> {
        if product.rows == 0 {
            return Ok(());
        }
        let few = product.rows <= MAX_BATCH && !product.as_many;
        if few && product.x_first_row == 0 && product.y_first_row == 0 {
            self.record_matvec(recorder, w, product)
        } else {
            self.record_many(recorder, w, product)
        }
    }

    fn flags(w: &Matrix, product: &Product<'_>) -> u32 {
        (if w.bias.is_some() { HAS_BIAS } else { 0 }) | (if product.accumulate { ACCUMULATE } else { 0 })
    }

    fn y_stride(w: &Matrix, product: &Product<'_>) -> usize {
        if product.epilogue == Epilogue::SwiGlu { w.rows / 2 } else { w.rows }
    }

    /// What `rows` rows through `columns` rows of the matrix do: the weights with their scales, the input, the bias and the output,
    /// which is read too where it is added to. The epilogue's operations are not counted: two multiplied sizes say it all.
    fn work(w: &Matrix, product: &Product<'_>, rows: usize, columns: usize) -> Work {
        let outputs = rows * if product.epilogue == Epilogue::SwiGlu { columns / 2 } else { columns };
        let outputs = outputs * if product.accumulate { 2 } else { 1 };
        let bias = if w.bias.is_some() { columns } else { 0 };
        let weights = columns * w.format.row_cost_bytes(w.cols);
        Work::new(2 * rows * columns * w.cols, weights + 4 * (rows * w.cols + outputs + bias))
    }

    fn record_matvec(&mut self, recorder: &mut Recorder, w: &Matrix, product: &Product<'_>) -> Result<()> {
        let kernel = self.kernel(w.format, product.epilogue, product.rows.next_power_of_two())?;
        let bias = w.bias.as_ref().unwrap_or(&self.no_bias);
        let rows_in_workgroup = match self.tuning.vector {
            VectorKernel::Lanes => LANES_VECTOR_ROWS,
            // With subgroups at their largest a workgroup has the fewest of them: enough groups whatever size runs.
            VectorKernel::Strided { rows } if self.gpu.has_subgroups() => {
                rows as usize * (64 / self.gpu.max_subgroup_size().min(64) as usize).max(1)
            }
            VectorKernel::Strided { rows } => rows as usize,
        };
        for slice in &w.slices {
            let workgroups = slice.rows.div_ceil(rows_in_workgroup);
            let (gx, gy) = (workgroups.min(32768), workgroups.div_ceil(32768));
            let params = [
                word(slice.rows),
                word(w.cols),
                word(slice.first_row),
                word(Self::y_stride(w, product)),
                word(product.rows),
                Self::flags(w, product),
                word(gx),
            ];
            let mut buffers = vec![product.x, &slice.data, bias, product.y];
            buffers.extend(slice.scales.as_ref());
            let work = Self::work(w, product, product.rows, slice.rows);
            // Few rows are nothing beside the weights.
            let weights = slice.rows * w.format.row_cost_bytes(w.cols);
            let work = work.costing(work.flops + (3 * weights) as f64);
            recorder.dispatch(&kernel, &params, &buffers, [word(gx), word(gy), 1], work)?;
        }
        Ok(())
    }

    /// Records a product through the kernel for many rows, however few there are: the result does not
    /// depend on where it is written.
    ///
    /// # Errors
    /// As [`Linear::record`].
    pub fn record_many(&mut self, recorder: &mut Recorder, w: &Matrix, product: &Product<'_>) -> Result<()> {
        let few = product.rows <= MAX_BATCH;
        let kernel = self.kernel(w.format, product.epilogue, if few { FEW_OF_MANY } else { 0 })?;
        let bias = w.bias.as_ref().unwrap_or(&self.no_bias);
        // Divide the rows (in whole tiles), then the columns, so that no dispatch is longer than a piece.
        let way = Way::of(self.tuning, w.format);
        let (tile_rows, tile_columns) = way.tile(few);
        // Matrix units are several times as fast as what else runs, and pieces are divided by one speed.
        let operation_cost = if way == Way::Cooperative { 0.5 } else { 2.0 };
        let tile_cost = operation_cost * (tile_rows * tile_columns * w.cols) as f64;
        let tiles = (recorder.piece_cost() / tile_cost).max(1.0) as usize;
        let m_step = (tiles.clamp(1, 8) * tile_rows).min(product.rows);
        let m_tiles = m_step.div_ceil(tile_rows);
        let n_step = (tiles / m_tiles).max(1);
        let mut m0 = 0;
        while m0 < product.rows {
            let m = m_step.min(product.rows - m0);
            let narrowed = match way.narrow() {
                Some(to) => {
                    Some(narrow(&mut self.narrowed, recorder, &self.gpu, to, w.cols, product, (m0, m))?)
                }
                None => None,
            };
            for slice in &w.slices {
                let n_tiles = slice.rows.div_ceil(tile_columns);
                let mut tile = 0;
                while tile < n_tiles {
                    let count = n_step.min(n_tiles - tile);
                    let params = [
                        word(m),
                        word(slice.rows),
                        word(w.cols),
                        word(slice.first_row),
                        word(Self::y_stride(w, product)),
                        // Narrow rows begin at 0.
                        if narrowed.is_some() { 0 } else { word(product.x_first_row + m0) },
                        word(product.y_first_row + m0),
                        Self::flags(w, product),
                        word(tile),
                    ];
                    let x = narrowed.map_or(product.x, |narrowed| &narrowed.rows);
                    let mut buffers = vec![x, &slice.data, bias, product.y];
                    buffers.extend(narrowed.map(|narrowed| &narrowed.scales));
                    buffers.extend(slice.scales.as_ref());
                    let columns = (count * tile_columns).min(slice.rows - tile * tile_columns);
                    // A tile takes as long with few rows in it.
                    let cost = tile_cost * (count * m.div_ceil(tile_rows)) as f64;
                    let mut work = Self::work(w, product, m, columns);
                    if narrowed.is_some() {
                        // Two bytes an element in place of four.
                        work.bytes -= (2 * m * w.cols) as f64;
                    }
                    let work = work.costing(cost);
                    let groups = [word(count), word(m.div_ceil(tile_rows)), 1];
                    recorder.dispatch(&kernel, &params, &buffers, groups, work)?;
                    tile += count;
                }
            }
            m0 += m;
        }
        Ok(())
    }
}

/// Makes rows `m0…m0 + m` of the product's input narrow, in memory that is made when it is first wanted.
fn narrow<'a>(
    place: &'a mut Option<Narrowed>,
    recorder: &mut Recorder,
    gpu: &Gpu,
    to: Narrow,
    cols: usize,
    product: &Product<'_>,
    (m0, m): (usize, usize),
) -> Result<&'a Narrowed> {
    if let Some(old) = place.take_if(|narrowed| !narrowed.holds(to, m, cols)) {
        old.free();
    }
    let narrowed = match place {
        Some(narrowed) => narrowed,
        None => place.insert(Narrowed::new(gpu, to, NARROW_ROWS, cols)?),
    };
    narrowed.record(recorder, product.x, product.x_first_row + m0, m, cols)?;
    Ok(narrowed)
}
