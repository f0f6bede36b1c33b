//! Which kernels for matrix products are the fastest on a device: measured once, kept by adapter and driver.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::linear::{Linear, Product};
use super::source::cache_folder;
use super::weights::{Matrix, MatrixSlice, WeightFormat};
use crate::bounded;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, MatrixKernel, Pacing, Recorder, Tuning, VectorKernel};

/// What one choice reached.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Candidate {
    /// The choice.
    pub kernel: String,
    /// The product measured: rows of x, outputs, inputs.
    pub shape: [usize; 3],
    /// The best run, milliseconds.
    pub ms: f64,
}

/// The shapes of Qwen3-VL-2B: one row through its largest matrix, and a chunk of a prompt through a square one.
const VECTOR_SHAPE: [usize; 3] = [1, 12288, 2048];
const MATRIX_SHAPE: [usize; 3] = [128, 2048, 2048];
/// Runs of each choice.
const ROUNDS: usize = 8;

/// Measures every choice this device can run, in int8, and returns the fastest; takes a second or a few, most of it the
/// driver compiling. Changes nothing: see [`Gpu::set_tuning`] and [`remember`].
///
/// # Errors
/// Memory is short or the device failed.
pub fn calibrate(gpu: &Gpu) -> Result<(Tuning, Vec<Candidate>)> {
    let vectors = [VectorKernel::Strided { rows: 4 }, VectorKernel::Strided { rows: 8 }, VectorKernel::Lanes]
        .map(|vector| Tuning { vector, ..Tuning::PORTABLE });
    let matrices =
        [MatrixKernel::Tiles, MatrixKernel::Lanes, MatrixKernel::Packed, MatrixKernel::Cooperative]
            .map(|matrix| Tuning { matrix, ..Tuning::PORTABLE });
    let mut seen = Vec::new();
    let mut fastest = |choices: &[Tuning], shape: [usize; 3], name: &dyn Fn(&Tuning) -> String| {
        let product = Measured::new(gpu, shape)?;
        let choices: Vec<Tuning> = choices.iter().copied().filter(|choice| choice.is_possible(gpu)).collect();
        let times = product.best_of(gpu, &choices)?;
        product.free(gpu);
        let found = times.iter().zip(&choices).min_by(|a, b| a.0.total_cmp(b.0)).map(|(_, &choice)| choice);
        seen.extend(choices.iter().zip(times).map(|(choice, ms)| Candidate {
            kernel: name(choice),
            shape,
            ms,
        }));
        Ok::<_, Error>(found.unwrap_or(Tuning::PORTABLE))
    };
    let vector = fastest(&vectors, VECTOR_SHAPE, &|t| format!("{:?}", t.vector))?.vector;
    let matrix = fastest(&matrices, MATRIX_SHAPE, &|t| format!("{:?}", t.matrix))?.matrix;
    Ok((Tuning { vector, matrix }, seen))
}

/// A product of random int8 weights, ready to run again and again.
struct Measured {
    matrix: Matrix,
    x: wgpu::Buffer,
    y: wgpu::Buffer,
    rows: usize,
}

impl Measured {
    fn new(gpu: &Gpu, [rows, outputs, inputs]: [usize; 3]) -> Result<Self> {
        let data = gpu.storage_buffer("calibration weights", outputs * inputs)?;
        let scales = gpu.storage_buffer("calibration scales", outputs * inputs / 16)?;
        let x = gpu.storage_buffer("calibration input", rows * inputs * 4)?;
        let y = gpu.storage_buffer("calibration output", rows * outputs * 4)?;
        // Speed does not depend on what the numbers are, as long as they are numbers.
        gpu.fill(&data, 0x1357_9bdf);
        gpu.fill(&scales, 0x2c00_2c00);
        gpu.fill(&x, 0x3f00_0000);
        let slice = MatrixSlice { first_row: 0, rows: outputs, data, scales: Some(scales) };
        let matrix = Matrix {
            rows: outputs,
            cols: inputs,
            format: WeightFormat::Int8,
            slices: vec![slice],
            bias: None,
        };
        Ok(Self { matrix, x, y, rows })
    }

    /// Milliseconds of each choice's best run. The choices take turns, so that what else the machine does meets all of
    /// them; the first runs, which compile, do not count.
    fn best_of(&self, gpu: &Gpu, choices: &[Tuning]) -> Result<Vec<f64>> {
        let mut recorder = Recorder::new(gpu, Pacing::HEADLESS)?;
        let mut linears =
            choices.iter().map(|&choice| Linear::with(gpu, choice)).collect::<Result<Vec<_>>>()?;
        let mut best = vec![f64::INFINITY; choices.len()];
        // Several in one submission, so that submitting does not count.
        let repeats = if self.rows == 1 { 4 } else { 1 };
        for round in 0..=ROUNDS {
            for (linear, best) in linears.iter_mut().zip(&mut best) {
                let began = Instant::now();
                for _ in 0..repeats {
                    linear.record(&mut recorder, &self.matrix, &Product::new(&self.x, &self.y, self.rows))?;
                }
                recorder.finish()?;
                if round > 0 {
                    *best = best.min(began.elapsed().as_secs_f64() * 1e3 / f64::from(repeats));
                }
            }
        }
        linears.iter().for_each(Linear::free);
        recorder.free();
        Ok(best)
    }

    fn free(&self, gpu: &Gpu) {
        let slices = self.matrix.slices.iter();
        let weights: u64 =
            slices.map(|s| s.data.size() + s.scales.as_ref().map_or(0, wgpu::Buffer::size)).sum();
        gpu.uncount_bytes(weights + self.x.size() + self.y.size());
    }
}

const FILE: &str = "tuning.json";
/// Bytes of it that are read, at most: a few hundred a device.
const MOST_BYTES: u64 = 1 << 20;

/// The file of measured choices, in the folder of what can be made again.
fn file() -> Result<PathBuf> {
    Ok(cache_folder()?.join(FILE))
}

/// A driver's update measures anew.
fn name_of(gpu: &Gpu) -> String {
    let summary = gpu.summary();
    format!("{} | {} | {}", summary.name, summary.backend, summary.driver)
}

fn read(file: &Path) -> BTreeMap<String, Tuning> {
    let text = bounded::file(file, MOST_BYTES).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Has the device run what was measured on this adapter and driver, if anything was ([`Gpu::is_tuned`]). A damaged file counts
/// as nothing.
pub fn apply_remembered(gpu: &Gpu) {
    if let Some(tuning) = file().ok().and_then(|file| read(&file).remove(&name_of(gpu))) {
        gpu.set_tuning(tuning);
    }
}

/// Has a card that nothing was measured on yet measure which kernels are the fastest (a fraction of a second, most of it the
/// driver compiling), take them and keep the choice. A software device runs its defaults: they were measured, and what else
/// the processor does would mislead it. What fails is logged, and the defaults run.
pub fn settle(gpu: &Gpu) {
    if gpu.is_tuned() || gpu.summary().is_software() {
        return;
    }
    if let Err(error) = file().and_then(|file| settle_in(&file, gpu)) {
        tracing::warn!("{error}");
    }
}

fn settle_in(file: &Path, gpu: &Gpu) -> Result<()> {
    let (tuning, candidates) = calibrate(gpu)?;
    for candidate in candidates {
        tracing::info!("{:.2} ms for {:?} by {}", candidate.ms, candidate.shape, candidate.kernel);
    }
    gpu.set_tuning(tuning);
    remember_in(file, gpu, tuning)
}

/// Keeps what was measured on this adapter and driver.
///
/// # Errors
/// The file cannot be written.
pub fn remember(gpu: &Gpu, tuning: Tuning) -> Result<PathBuf> {
    let file = file()?;
    remember_in(&file, gpu, tuning)?;
    Ok(file)
}

fn remember_in(file: &Path, gpu: &Gpu, tuning: Tuning) -> Result<()> {
    const DOING: &str = "keeping the measured choice of kernels";
    let mut all = read(file);
    all.insert(name_of(gpu), tuning);
    let text = serde_json::to_vec_pretty(&all).map_err(|e| Error::new(DOING, e))?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Error::new(DOING, e).at_path(folder))?;
    }
    // Whole or not at all: another program may be reading it.
    let part = file.with_extension("part");
    std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, file)).map_err(|e| {
        Error::new(DOING, e).at_path(file).help("set OCELLI_CACHE to a folder that can be written")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuOptions;

    #[test]
    fn what_was_measured_is_taken_and_kept_for_this_adapter_and_driver() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("made on the way").join(FILE);
        let gpu = Gpu::new(&GpuOptions::default()).expect("a device");
        assert!(!gpu.is_tuned());
        settle_in(&file, &gpu).expect("measured");
        assert!(gpu.is_tuned() && gpu.tuning().is_possible(&gpu));
        let kept = read(&file);
        assert_eq!(kept.get(&name_of(&gpu)), Some(&gpu.tuning()), "{kept:?}");
        // Others' choices stay.
        let before = std::fs::read_to_string(&file).expect("the file");
        let other = before.replacen(&gpu.summary().name, "another card", 1);
        std::fs::write(&file, other).expect("written");
        remember_in(&file, &gpu, Tuning::PORTABLE).expect("kept");
        let kept = read(&file);
        assert_eq!((kept.len(), kept.get(&name_of(&gpu))), (2, Some(&Tuning::PORTABLE)), "{kept:?}");
        assert!(gpu.allocated_bytes() < 1 << 20, "{} bytes are left", gpu.allocated_bytes());
    }

    #[test]
    fn a_software_device_is_not_measured_by_itself() {
        let gpu = Gpu::new(&GpuOptions::default()).expect("a device");
        if gpu.summary().is_software() {
            settle(&gpu);
            assert!(!gpu.is_tuned());
        }
    }
}
