//! Which of several kernels for the same product runs on this device. Defaults by kind of device; a calibration
//! (`model::calibration`) replaces them by what was measured.

use super::device::Gpu;
use super::kernels::KernelKey;
use super::recorder::{Pacing, Recorder};
use super::work::Work;
use crate::error::Result;

/// The kernel for products of one to eight rows: decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VectorKernel {
    /// `matvec`: lanes stride over the columns of this many rows of the matrix, 4 or 8.
    Strided {
        /// Rows of the matrix a subgroup takes at once.
        rows: u32,
    },
    /// `matvec_lanes`: a lane has rows of the matrix of its own. Subgroups of eight lanes or more.
    Lanes,
}

/// The kernel for products of many rows: prefill and the vision tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MatrixKernel {
    /// `matmul`: tiles of 64 by 64 through workgroup memory.
    Tiles,
    /// `matmul_lanes`: tiles in registers, rows broadcast over a subgroup. Subgroups of eight lanes or more.
    Lanes,
    /// `matmul_packed`: int8 weights by activations in two digits of int8, four products an instruction where the device has
    /// one. Products of other weights run on `matmul`.
    Packed,
    /// `matmul_cooperative`: the device's matrix units, factors rounded to f16 ([`Gpu::cooperative_matrix`]). Products of f32
    /// weights run on `matmul`.
    Cooperative,
}

/// The kernels a device runs matrix products on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Tuning {
    /// For one to eight rows.
    pub vector: VectorKernel,
    /// For many rows.
    pub matrix: MatrixKernel,
    /// For many rows and f16 weights (the vision tower's), where it is another one.
    #[serde(default)]
    pub matrix_f16: Option<MatrixKernel>,
}

impl Tuning {
    /// What every device can run.
    pub const PORTABLE: Self =
        Self { vector: VectorKernel::Strided { rows: 4 }, matrix: MatrixKernel::Tiles, matrix_f16: None };
    /// For software devices, where a load is one instruction a lane and a broadcast none.
    pub const SOFTWARE: Self =
        Self { vector: VectorKernel::Lanes, matrix: MatrixKernel::Lanes, matrix_f16: None };

    /// Integers, four an instruction; a device without such an instruction runs them, too.
    pub const PACKED: Self = Self { matrix: MatrixKernel::Packed, ..Self::PORTABLE };
    /// For graphics cards with matrix units.
    pub const COOPERATIVE: Self = Self { matrix: MatrixKernel::Cooperative, ..Self::PORTABLE };

    /// The default for a device. Matrix units and integers are taken where they were measured to be right and faster.
    #[must_use]
    pub fn default_for(gpu: &Gpu) -> Self {
        if gpu.summary().is_software() && gpu.fits_lanes() { Self::SOFTWARE } else { Self::PORTABLE }
    }

    /// Can this device run these kernels?
    #[must_use]
    pub fn is_possible(self, gpu: &Gpu) -> bool {
        let matrices = [Some(self.matrix), self.matrix_f16];
        let lanes = self.vector == VectorKernel::Lanes || matrices.contains(&Some(MatrixKernel::Lanes));
        let rows = !matches!(self.vector, VectorKernel::Strided { rows } if rows != 4 && rows != 8);
        let units = matrices.contains(&Some(MatrixKernel::Cooperative));
        let matrix = !units || gpu.cooperative_matrix().is_some();
        rows && matrix && (!lanes || gpu.fits_lanes())
    }
}

/// Lanes of a subgroup as the device runs them; 1 without subgroups.
pub(super) fn probe_subgroup_size(gpu: &Gpu) -> Result<u32> {
    if !gpu.has_subgroups() {
        return Ok(1);
    }
    let kernel = gpu.kernel(&KernelKey::new("subgroup_size"))?;
    let size = gpu.storage_buffer("subgroup size", 4)?;
    let mut recorder = Recorder::new(gpu, Pacing::HEADLESS)?;
    recorder.dispatch(&kernel, &[0], &[&size], [1, 1, 1], Work::UNCOUNTED)?;
    recorder.finish()?;
    let bytes = gpu.read_bytes(&size, 0, 4)?;
    recorder.free();
    gpu.uncount_bytes(size.size());
    Ok(bytes.first_chunk().map_or(1, |b| u32::from_le_bytes(*b)))
}
