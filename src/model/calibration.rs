//! Which kernels for matrix products are the fastest on a device: measured once, kept by adapter and driver.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::Value;

use super::linear::{Epilogue, Linear, Product};
use super::source::cache_folder;
use super::weights::{Matrix, MatrixSlice, WeightFormat};
use crate::bounded;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Gpu, MatrixKernel, Pacing, Recorder, Tuning, VectorKernel};

/// What one choice reached.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Candidate {
    /// The choice.
    pub kernel: String,
    /// How the weights are stored.
    pub weights: &'static str,
    /// The product measured: rows of x, outputs, inputs.
    pub shape: [usize; 3],
    /// The best run, milliseconds; null: the driver refused it, or its results were not those of the plain kernel.
    pub ms: Option<f64>,
}

/// The shapes of Qwen3-VL-2B: one row through its largest matrix, and a chunk of a prompt through a square one.
const VECTOR_SHAPE: [usize; 3] = [1, 12288, 2048];
const MATRIX_SHAPE: [usize; 3] = [128, 2048, 2048];
/// Where those take no time: more than most cards' caches hold, and a whole chunk through its largest matrix.
const FAST_VECTOR_SHAPE: [usize; 3] = [1, 49152, 2048];
const FAST_MATRIX_SHAPE: [usize; 3] = [256, 12288, 2048];
/// A device is fast if the plain kernel takes less than this for `MATRIX_SHAPE`, milliseconds.
const FAST_MS: f64 = 5.0;
/// Runs of each choice.
const ROUNDS: usize = 8;
/// A run is so many products that they take about this long, seconds: starting it counts little.
const RUN_SECS: f64 = 0.004;
/// The plain choice stays unless another one takes less than this of its time.
const CLEARLY: f64 = 0.95;
/// Products are not divided: their time is what counts.
const WHOLE: Pacing = Pacing { piece_secs: 100.0, outstanding: 2 };
/// Results of other kernels may differ by so much of the largest: matrix units take a quarter of it, and one digit of int8 in place
/// of two would take four times as much.
const SAME: f32 = 0.001;
/// A kernel that a measurement ended with this often is left out.
const MOST_TRIES: usize = 2;

/// Measures every choice this device can run and returns the fastest of those that are right; takes a second or two, most of it
/// the driver compiling. Changes nothing: see [`Gpu::set_tuning`] and [`remember`].
///
/// # Errors
/// Memory is short, the device was lost, or `stop` is set.
pub fn calibrate(gpu: &Gpu, stop: &AtomicBool) -> Result<(Tuning, Vec<Candidate>)> {
    calibrate_all_but(gpu, stop, &[], &mut |_| {})
}

/// The same without some kernels; `trying` is told of each before a driver compiles and runs it for the first time.
fn calibrate_all_but(
    gpu: &Gpu,
    stop: &AtomicBool,
    without: &[MatrixKernel],
    trying: &mut dyn FnMut(MatrixKernel),
) -> Result<(Tuning, Vec<Candidate>)> {
    let plain = Tuning::PORTABLE;
    let vectors = [VectorKernel::Strided { rows: 4 }, VectorKernel::Strided { rows: 8 }, VectorKernel::Lanes]
        .map(|vector| Tuning { vector, ..plain });
    let matrices: Vec<Tuning> =
        [MatrixKernel::Tiles, MatrixKernel::Lanes, MatrixKernel::Packed, MatrixKernel::Cooperative]
            .into_iter()
            .filter(|matrix| !without.contains(matrix))
            .map(|matrix| Tuning { matrix, matrix_f16: Some(matrix), ..plain })
            .collect();
    let mut seen = Vec::new();
    let mut fastest = |choices: &[Tuning], format: WeightFormat, shape, name: &dyn Fn(&Tuning) -> String| {
        let choices: Vec<Tuning> = choices.iter().copied().filter(|choice| choice.is_possible(gpu)).collect();
        let product = Measured::new(gpu, format, shape)?;
        let times = product.best_of(gpu, &choices, stop, trying);
        product.free(gpu);
        let times = times?;
        seen.extend(choices.iter().zip(&times).map(|(choice, &ms)| Candidate {
            kernel: name(choice),
            weights: format.name(),
            shape,
            ms: ms.is_finite().then_some(ms),
        }));
        let usual = times.first().copied().unwrap_or(f64::INFINITY);
        let best = times.iter().zip(&choices).min_by(|a, b| a.0.total_cmp(b.0));
        let best = best.filter(|(ms, _)| **ms < usual * CLEARLY).map_or(plain, |(_, &choice)| choice);
        Ok::<_, Error>((if compiles(gpu, best, format)? { best } else { plain }, usual))
    };
    let of_matrix = |tuning: &Tuning| format!("{:?}", tuning.matrix);
    let (mut best, usual) = fastest(&matrices, WeightFormat::Int8, MATRIX_SHAPE, &of_matrix)?;
    let is_fast = usual < FAST_MS;
    if is_fast {
        best = fastest(&matrices, WeightFormat::Int8, FAST_MATRIX_SHAPE, &of_matrix)?.0;
    }
    // Integers are multiplied by integers only.
    let floats: Vec<Tuning> =
        matrices.iter().copied().filter(|choice| choice.matrix != MatrixKernel::Packed).collect();
    let shape = if is_fast { FAST_MATRIX_SHAPE } else { MATRIX_SHAPE };
    let of_floats = fastest(&floats, WeightFormat::F16, shape, &of_matrix)?.0;
    let shape = if is_fast { FAST_VECTOR_SHAPE } else { VECTOR_SHAPE };
    let of_one = fastest(&vectors, WeightFormat::Int8, shape, &|t| format!("{:?}", t.vector))?.0;
    let matrix_f16 = Some(of_floats.matrix);
    Ok((Tuning { vector: of_one.vector, matrix: best.matrix, matrix_f16 }, seen))
}

/// Does the driver compile this choice for weights of this format in every variant that models want? (What it compiles is kept.)
fn compiles(gpu: &Gpu, choice: Tuning, format: WeightFormat) -> Result<bool> {
    for epilogue in [Epilogue::None, Epilogue::SwiGlu, Epilogue::GeluTanh, Epilogue::GeluErf] {
        for key in Linear::tuned_keys(gpu, choice, format, epilogue, 0) {
            if let Err(error) = gpu.kernel(&key) {
                if error.get_kind() == ErrorKind::DoesNotFit || gpu.find_out_if_lost() {
                    return Err(error);
                }
                tracing::warn!("{choice:?} is left out: {error}");
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// A product of random weights, ready to run again and again.
struct Measured {
    matrix: Matrix,
    x: wgpu::Buffer,
    y: wgpu::Buffer,
    rows: usize,
}

/// Random bits where `keep` has ones, `set` elsewhere.
fn random(bytes: usize, keep: u32, set: u32) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut all = Vec::with_capacity(bytes);
    while all.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend((((state >> 32) as u32 & keep) | set).to_le_bytes());
    }
    all.truncate(bytes);
    all
}

impl Measured {
    fn new(gpu: &Gpu, format: WeightFormat, [rows, outputs, inputs]: [usize; 3]) -> Result<Self> {
        let before = gpu.allocated_bytes();
        let made = Self::with(gpu, format, [rows, outputs, inputs]);
        if made.is_err() {
            gpu.uncount_bytes(gpu.allocated_bytes().saturating_sub(before));
        }
        made
    }

    fn with(gpu: &Gpu, format: WeightFormat, [rows, outputs, inputs]: [usize; 3]) -> Result<Self> {
        // Numbers of both signs that f16 holds easily, so that a wrong place is a wrong sum; of weights that are only read fast, any.
        let (bytes, scales) = match format {
            WeightFormat::Int8 => (outputs * inputs, outputs * inputs / 16),
            WeightFormat::F16 => (outputs * inputs * 2, 0),
            WeightFormat::F32 => (outputs * inputs * 4, 0),
        };
        let data = if rows == 1 {
            let data = gpu.storage_buffer("calibration weights", bytes)?;
            gpu.fill(&data, 0x1357_9bdf);
            data
        } else {
            let (keep, set) = match format {
                WeightFormat::Int8 => (u32::MAX, 0),
                WeightFormat::F16 => (0x83ff_83ff, 0x3800_3800),
                WeightFormat::F32 => (0x807f_ffff, 0x3f00_0000),
            };
            gpu.storage_buffer_with("calibration weights", &random(bytes, keep, set))?
        };
        let scales = if scales > 0 {
            let random = random(scales, 0x07ff_07ff, 0x2000_2000);
            Some(gpu.storage_buffer_with("calibration scales", &random)?)
        } else {
            None
        };
        let x = random(rows * inputs * 4, 0x80ff_ffff, 0x3f00_0000);
        let x = gpu.storage_buffer_with("calibration input", &x)?;
        let y = gpu.storage_buffer("calibration output", rows * outputs * 4)?;
        let slices = vec![MatrixSlice { first_row: 0, rows: outputs, data, scales }];
        let matrix = Matrix { rows: outputs, cols: inputs, format, slices, bias: None };
        Ok(Self { matrix, x, y, rows })
    }

    /// Milliseconds of each choice's best run; infinite for one that the driver refuses or that is not right. The choices take
    /// turns, so that what else the machine does meets all of them; the first runs, which compile, do not count.
    fn best_of(
        &self,
        gpu: &Gpu,
        choices: &[Tuning],
        stop: &AtomicBool,
        trying: &mut dyn FnMut(MatrixKernel),
    ) -> Result<Vec<f64>> {
        let before = gpu.allocated_bytes();
        let best = (|| {
            let mut runs = Runs { of: self, gpu, stop, recorder: Recorder::new(gpu, WHOLE)? };
            let linears = choices.iter().map(|&choice| Linear::with(gpu, choice));
            let mut linears = linears.collect::<Result<Vec<_>>>()?;
            runs.best(&mut linears, choices, trying)
        })();
        gpu.uncount_bytes(gpu.allocated_bytes().saturating_sub(before));
        best
    }

    fn free(&self, gpu: &Gpu) {
        let slices = self.matrix.slices.iter();
        let weights: u64 =
            slices.map(|s| s.data.size() + s.scales.as_ref().map_or(0, wgpu::Buffer::size)).sum();
        gpu.uncount_bytes(weights + self.x.size() + self.y.size());
    }
}

/// Runs of one product by several kernels.
struct Runs<'a> {
    of: &'a Measured,
    gpu: &'a Gpu,
    stop: &'a AtomicBool,
    recorder: Recorder,
}

impl Runs<'_> {
    /// Seconds of one of `times` products in a row.
    fn run(&mut self, linear: &mut Linear, times: usize) -> Result<f64> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::cancelled(DOING));
        }
        let began = Instant::now();
        for _ in 0..times {
            let product = Product::new(&self.of.x, &self.of.y, self.of.rows);
            linear.record(&mut self.recorder, &self.of.matrix, &product)?;
        }
        self.recorder.finish()?;
        Ok(began.elapsed().as_secs_f64() / times as f64)
    }

    /// What the kernel makes, and how long it takes once it is compiled.
    fn first(&mut self, linear: &mut Linear) -> Result<(Vec<f32>, f64)> {
        // What is not written is seen.
        self.gpu.fill(&self.of.y, 0x7fc0_0000);
        self.run(linear, 1)?;
        let y = self.gpu.read_f32(&self.of.y, 0, self.of.rows * self.of.matrix.rows)?;
        let secs = self.run(linear, 1)?;
        // Where starting a product takes as long as the product.
        Ok((y, if secs < 0.001 { self.run(linear, 16)? } else { secs }))
    }

    /// The error of a choice that is left out for it; any other ends the measurement.
    fn leave_out(&mut self, choice: Tuning, error: Error) -> Result<()> {
        let kind = error.get_kind();
        if matches!(kind, ErrorKind::Cancelled | ErrorKind::DoesNotFit) || self.gpu.find_out_if_lost() {
            return Err(error);
        }
        // What it has recorded is not to run with the next one.
        self.recorder.forget();
        tracing::warn!("{choice:?} is left out: {error}");
        Ok(())
    }

    fn best(
        &mut self,
        linears: &mut [Linear],
        choices: &[Tuning],
        trying: &mut dyn FnMut(MatrixKernel),
    ) -> Result<Vec<f64>> {
        let mut right: Option<Vec<f32>> = None;
        let mut best = vec![f64::INFINITY; choices.len()];
        let mut times = vec![0; choices.len()];
        for (n, linear) in linears.iter_mut().enumerate() {
            trying(choices[n].matrix);
            let (y, secs) = match self.first(linear) {
                Ok(first) => first,
                Err(error) => {
                    self.leave_out(choices[n], error)?;
                    continue;
                }
            };
            // The first one that gives numbers is the plain one, unless the driver cannot run it.
            if y.iter().all(|v| v.is_finite()) && is_same(right.get_or_insert_with(|| y.clone()), &y) {
                times[n] = ((RUN_SECS / secs) as usize).clamp(1, 64);
            } else {
                tracing::warn!("{:?} is left out: this driver runs it wrongly", choices[n]);
            }
        }
        for _ in 0..ROUNDS {
            for (n, linear) in linears.iter_mut().enumerate() {
                if times[n] == 0 {
                    continue;
                }
                match self.run(linear, times[n]) {
                    Ok(secs) => best[n] = best[n].min(secs * 1e3),
                    Err(error) => {
                        self.leave_out(choices[n], error)?;
                        (best[n], times[n]) = (f64::INFINITY, 0);
                    }
                }
            }
        }
        Ok(best)
    }
}

/// Are these the same sums, but for rounding?
fn is_same(right: &[f32], y: &[f32]) -> bool {
    let largest = right.iter().fold(0f32, |most, v| most.max(v.abs()));
    right.len() == y.len() && right.iter().zip(y).all(|(a, b)| (a - b).abs() <= SAME * largest)
}

const DOING: &str = "measuring which kernels are the fastest";
const FILE: &str = "tuning.json";
/// Bytes of it that are read, at most: a few hundred a device.
const MOST_BYTES: u64 = 1 << 20;

/// The file of measured choices, in the folder of what can be made again.
fn file() -> Result<PathBuf> {
    Ok(cache_folder()?.join(FILE))
}

/// A driver's update and the program's measure anew, and so does a device that is opened with other units.
fn name_of(gpu: &Gpu) -> String {
    let summary = gpu.summary();
    let units = gpu.cooperative_matrix().map_or("none".to_owned(), |side| side.to_string());
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "{} | {} | {} | matrix units {units} | Ocelli {version}",
        summary.name, summary.backend, summary.driver
    )
}

/// What stands in a choice's place while it is measured: what may end the program, or the device.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Trying {
    /// What runs for the first time now.
    trying: Option<MatrixKernel>,
    /// What ran when an earlier measurement ended without an end.
    ended_with: Vec<MatrixKernel>,
}

/// What is in the file, also what this version does not understand.
fn read(file: &Path) -> BTreeMap<String, Value> {
    let text = bounded::file(file, MOST_BYTES).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Has the device run what was measured on this adapter and driver, if anything was ([`Gpu::is_tuned`]). A damaged file counts
/// as nothing.
pub fn apply_remembered(gpu: &Gpu) {
    let kept = file().ok().and_then(|file| read(&file).remove(&name_of(gpu)));
    if let Some(tuning) = kept.and_then(|value| serde_json::from_value(value).ok()) {
        gpu.set_tuning(tuning);
    }
}

/// Has a card run what was measured on it; measures which kernels are the fastest where nothing was yet (a second or two, most of it
/// the driver compiling), and keeps the choice. A software device runs its defaults: they were measured, and what else
/// the processor does would mislead it. Where it fails the defaults run.
///
/// # Errors
/// The device was lost, or `stop` is set.
pub fn settle(gpu: &Gpu, stop: &AtomicBool) -> Result<()> {
    if gpu.is_tuned() || gpu.summary().is_software() {
        return Ok(());
    }
    apply_remembered(gpu);
    if gpu.is_tuned() { Ok(()) } else { settle_in(file().ok().as_deref(), gpu, stop) }
}

fn settle_in(file: Option<&Path>, gpu: &Gpu, stop: &AtomicBool) -> Result<()> {
    let keep = |value: Option<Value>| {
        if let Some(Err(error)) = file.map(|file| remember_in(file, gpu, value)) {
            tracing::warn!("{error}");
        }
    };
    let earlier = file.and_then(|file| read(file).remove(&name_of(gpu)));
    let mut state: Trying = earlier.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default();
    state.ended_with.extend(state.trying.take());
    let tries = |kernel: &MatrixKernel| state.ended_with.iter().filter(|ended| *ended == kernel).count();
    let without: Vec<MatrixKernel> =
        state.ended_with.iter().copied().filter(|kernel| tries(kernel) >= MOST_TRIES).collect();
    let mut told = |trying: Option<MatrixKernel>| {
        state.trying = trying.filter(|kernel| *kernel != MatrixKernel::Tiles);
        keep(serde_json::to_value(&state).ok());
    };
    match calibrate_all_but(gpu, stop, &without, &mut |kernel| told(Some(kernel))) {
        Ok((tuning, candidates)) => {
            for candidate in candidates {
                tracing::info!("{candidate:?}");
            }
            gpu.set_tuning(tuning);
            keep(serde_json::to_value(tuning).ok());
            Ok(())
        }
        // What was being tried then is tried once more at the next start.
        Err(error) if gpu.find_out_if_lost() => Err(error),
        Err(error) => {
            told(None);
            if error.get_kind() == ErrorKind::Cancelled {
                return Err(error);
            }
            tracing::warn!("{error}");
            gpu.set_tuning(Tuning::PORTABLE);
            Ok(())
        }
    }
}

/// Keeps what was measured on this adapter and driver.
///
/// # Errors
/// The file cannot be written.
pub fn remember(gpu: &Gpu, tuning: Tuning) -> Result<PathBuf> {
    let file = file()?;
    let value = serde_json::to_value(tuning).map_err(|e| Error::new(KEEPING, e))?;
    remember_in(&file, gpu, Some(value))?;
    Ok(file)
}

const KEEPING: &str = "keeping the measured choice of kernels";

/// Puts this into the file, in this adapter's place; `None` forgets.
fn remember_in(file: &Path, gpu: &Gpu, value: Option<Value>) -> Result<()> {
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    let mut all = read(file);
    match value {
        Some(value) => drop(all.insert(name_of(gpu), value)),
        None => drop(all.remove(&name_of(gpu))),
    }
    let text = serde_json::to_vec_pretty(&all).map_err(|e| Error::new(KEEPING, e))?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Error::new(KEEPING, e).at_path(folder))?;
    }
    // Whole or not at all: another program may be reading it, or writing its own.
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let part = file.with_extension(format!("{}-{number}.part", std::process::id()));
    std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, file)).map_err(|e| {
        Error::new(KEEPING, e).at_path(file).help("set OCELLI_CACHE to a folder that can be written")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{GpuOptions, KernelEdit};

    fn on(file: &Path) -> Vec<(String, Value)> {
        read(file).into_iter().collect()
    }

    #[test]
    fn what_was_measured_is_taken_and_kept_for_this_adapter_and_driver() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("made on the way").join(FILE);
        let gpu = Gpu::new(&GpuOptions::default()).expect("a device");
        assert!(!gpu.is_tuned());
        let before = gpu.allocated_bytes();
        settle_in(Some(&file), &gpu, &AtomicBool::new(false)).expect("measured");
        assert!(gpu.is_tuned() && gpu.tuning().is_possible(&gpu));
        assert_eq!(gpu.allocated_bytes(), before);
        let value = serde_json::to_value(gpu.tuning()).expect("a value");
        assert_eq!(on(&file), [(name_of(&gpu), value)]);
        // Others' choices stay, also of a version that knows more.
        let text = r#"{ "another card": { "vector": "of tomorrow" } }"#;
        std::fs::write(&file, text).expect("written");
        remember_in(&file, &gpu, Some(serde_json::to_value(Tuning::PORTABLE).expect("a value")))
            .expect("kept");
        assert_eq!(read(&file).len(), 2);
        remember_in(&file, &gpu, None).expect("forgotten");
        assert_eq!(on(&file)[0].0, "another card");
    }

    #[test]
    fn a_kernel_that_the_driver_refuses_or_runs_wrongly_is_left_out() {
        let edit = |find, replace| KernelEdit { file: "matmul_packed", find, replace };
        // Integers are far faster in appearance if only one block is multiplied; and one that cannot be compiled.
        for edit in
            [edit("block < blocks;", "block < 1u;"), edit("let tx = local % 16u;", "let tx = nothing;")]
        {
            let options = GpuOptions { kernel_edits: vec![edit], ..GpuOptions::default() };
            let gpu = Gpu::new(&options).expect("a device");
            let (tuning, candidates) = calibrate(&gpu, &AtomicBool::new(false)).expect("measured");
            assert_ne!(tuning.matrix, MatrixKernel::Packed);
            let packed = candidates.iter().find(|c| c.kernel == "Packed").expect("a candidate");
            assert_eq!(packed.ms, None);
            assert!(candidates.iter().filter(|c| c.kernel == "Tiles").all(|c| c.ms.is_some()));
            gpu.check().expect("the device is fine");
        }
    }

    #[test]
    fn measuring_that_is_broken_off_keeps_nothing_and_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(FILE);
        let gpu = Gpu::new(&GpuOptions::default()).expect("a device");
        let before = gpu.allocated_bytes();
        let error = settle_in(Some(&file), &gpu, &AtomicBool::new(true)).expect_err("broken off");
        assert_eq!(error.get_kind(), ErrorKind::Cancelled);
        assert!(!gpu.is_tuned() && gpu.allocated_bytes() == before);
        let kept: Vec<Trying> =
            on(&file).into_iter().map(|(_, value)| serde_json::from_value(value).expect("a state")).collect();
        assert_eq!(kept, [Trying::default()], "nothing is held against any kernel");
    }

    #[test]
    fn a_kernel_that_measuring_ended_with_is_tried_once_more_and_then_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(FILE);
        let gpu = Gpu::new(&GpuOptions::default()).expect("a device");
        let mut trying = Trying { trying: Some(MatrixKernel::Packed), ended_with: vec![] };
        let put = |state: &Trying| {
            remember_in(&file, &gpu, Some(serde_json::to_value(state).expect("a value"))).expect("kept");
        };
        put(&trying);
        // Broken off at once: what was being tried before is remembered.
        settle_in(Some(&file), &gpu, &AtomicBool::new(true)).expect_err("broken off");
        trying = serde_json::from_value(on(&file)[0].1.clone()).expect("a state");
        assert_eq!(trying, Trying { trying: None, ended_with: vec![MatrixKernel::Packed] });
        // A second time.
        trying.trying = Some(MatrixKernel::Packed);
        put(&trying);
        let mut tried = Vec::new();
        let without = [MatrixKernel::Packed];
        calibrate_all_but(&gpu, &AtomicBool::new(false), &without, &mut |kernel| tried.push(kernel))
            .expect("measured");
        assert!(tried.contains(&MatrixKernel::Tiles) && !tried.contains(&MatrixKernel::Packed), "{tried:?}");
        settle_in(Some(&file), &gpu, &AtomicBool::new(false)).expect("measured");
        let kept: Tuning = serde_json::from_value(on(&file)[0].1.clone()).expect("a choice");
        assert!(kept == gpu.tuning() && kept.matrix != MatrixKernel::Packed);
    }

    #[test]
    fn a_software_device_is_not_measured_by_itself() {
        let gpu = Gpu::new(&GpuOptions::default()).expect("a device");
        if gpu.summary().is_software() {
            settle(&gpu, &AtomicBool::new(false)).expect("nothing to do");
            assert!(!gpu.is_tuned());
        }
    }
}
