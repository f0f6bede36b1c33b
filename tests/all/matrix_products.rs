//! Matrix products against sums in f64: every storage and epilogue, shapes that fill no tile, few rows and
//! many, slices. Outputs are poisoned first.

use half::f16;
use ocelli::gpu::{Gpu, GpuOptions, Pacing, Recorder, Tuning, VectorKernel};
use ocelli::model::linear::{Epilogue, Linear, Product};
use ocelli::model::recipe::quantise_rows;
use ocelli::model::weights::{Matrix, MatrixSlice, WeightFormat};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// A matrix on the device and its values as the device must read them.
pub struct Known {
    pub matrix: Matrix,
    pub values: Vec<f64>,
    bias: Option<Vec<f32>>,
}

pub fn known(
    gpu: &Gpu,
    format: WeightFormat,
    rows: usize,
    cols: usize,
    bias: bool,
    values: &[f32],
    slices: &[usize],
) -> Known {
    let mut exact = Vec::new();
    let (mut data, mut scales) = (Vec::new(), Vec::new());
    match format {
        WeightFormat::F32 => {
            exact.extend(values.iter().map(|&v| f64::from(v)));
            data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        }
        WeightFormat::F16 => {
            for &v in values {
                let h = f16::from_f32(v);
                exact.push(h.to_f64());
                data.extend(h.to_le_bytes());
            }
        }
        WeightFormat::Int8 => {
            let (mut quants, mut scale) = (Vec::new(), Vec::new());
            quantise_rows(values, cols, &mut quants, &mut scale).unwrap();
            for (i, &q) in quants.iter().enumerate() {
                exact.push(f64::from(q) * f16::from_bits(scale[i / 32]).to_f64());
                data.push(q as u8);
            }
            scales.extend(scale.iter().flat_map(|s| s.to_le_bytes()));
        }
    }
    let (row_bytes, scale_bytes) = (data.len() / rows, scales.len() / rows);
    let mut first_row = 0;
    let mut parts = Vec::new();
    for &count in slices {
        let part = |bytes: &[u8], width: usize| {
            gpu.storage_buffer_with("matrix", &bytes[first_row * width..(first_row + count) * width]).unwrap()
        };
        parts.push(MatrixSlice {
            first_row,
            rows: count,
            data: part(&data, row_bytes),
            scales: (scale_bytes > 0).then(|| part(&scales, scale_bytes)),
        });
        first_row += count;
    }
    assert_eq!(first_row, rows);
    let bias: Option<Vec<f32>> = bias.then(|| (0..rows).map(|i| (i as f32 * 0.37).sin()).collect());
    let buffer = bias.as_ref().map(|b| gpu.storage_buffer_with("bias", bytemuck::cast_slice(b)).unwrap());
    Known { matrix: Matrix { rows, cols, format, slices: parts, bias: buffer }, values: exact, bias }
}

fn erf(x: f64) -> f64 {
    // Abramowitz & Stegun 7.1.5, the series, until it stands still.
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    if x.abs() > 5.0 { x.signum() } else { sum * 2.0 / std::f64::consts::PI.sqrt() }
}

pub fn expected(k: &Known, x: &[f32], m: usize, epilogue: Epilogue) -> Vec<f64> {
    let (rows, cols) = (k.matrix.rows, k.matrix.cols);
    let sum = |m: usize, n: usize| -> f64 {
        let dot: f64 = (0..cols).map(|c| f64::from(x[m * cols + c]) * k.values[n * cols + c]).sum();
        dot + k.bias.as_ref().map_or(0.0, |b| f64::from(b[n]))
    };
    let mut out = Vec::new();
    for m in 0..m {
        match epilogue {
            Epilogue::None => out.extend((0..rows).map(|n| sum(m, n))),
            Epilogue::GeluErf => out.extend((0..rows).map(|n| {
                let v = sum(m, n);
                0.5 * v * (1.0 + erf(v / 2f64.sqrt()))
            })),
            Epilogue::GeluTanh => out.extend((0..rows).map(|n| {
                let v = sum(m, n);
                0.5 * v * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3))).tanh())
            })),
            Epilogue::SwiGlu => out.extend((0..rows / 2).map(|n| {
                let (gate, up) = (sum(m, 2 * n), sum(m, 2 * n + 1));
                gate / (1.0 + (-gate).exp()) * up
            })),
        }
    }
    out
}

pub const EPILOGUES: [Epilogue; 4] =
    [Epilogue::None, Epilogue::GeluTanh, Epilogue::GeluErf, Epilogue::SwiGlu];

/// Kernels by tuning, and each of them with naga's checks of every index.
#[test]
fn products_equal_sums_in_f64_for_every_storage_epilogue_and_shape() {
    let rows_of_eight = Tuning { vector: VectorKernel::Strided { rows: 8 }, ..Tuning::PORTABLE };
    for tuning in [Tuning::PORTABLE, rows_of_eight, Tuning::SOFTWARE] {
        for checked_kernels in [false, true] {
            let options = GpuOptions { tuning: Some(tuning), checked_kernels, ..GpuOptions::default() };
            // The checks are the same in all epilogues.
            let epilogues = if checked_kernels { &EPILOGUES[..1] } else { &EPILOGUES[..] };
            check_products(&Gpu::new(&options).unwrap(), tuning, epilogues);
        }
    }
    let without_subgroups = GpuOptions { without_subgroups: true, ..GpuOptions::default() };
    let gpu = Gpu::new(&without_subgroups).unwrap();
    assert_eq!(gpu.tuning(), Tuning::PORTABLE, "what wants subgroups is not chosen without them");
    check_products(&gpu, Tuning::PORTABLE, &EPILOGUES);
}

fn check_products(gpu: &Gpu, tuning: Tuning, epilogues: &[Epilogue]) {
    if !tuning.is_possible(gpu) {
        eprintln!("this device has no subgroups of 8 to 32 lanes: {tuning:?} is not tested");
        return;
    }
    assert_eq!(gpu.tuning(), tuning);
    let mut linear = Linear::new(gpu).unwrap();
    let mut recorder = Recorder::new(gpu, Pacing::HEADLESS).unwrap();
    let mut runner = TestRunner::deterministic();
    let mut draw = |n: usize| -> Vec<f32> {
        let strategy = proptest::collection::vec(-1f32..1f32, n);
        strategy.new_tree(&mut runner).unwrap().current()
    };
    // (rows of x, outputs, inputs, slices): one row, a batch, a batch that fills no power of two, tiles and rests.
    let shapes: &[(usize, usize, usize, &[usize])] = &[
        (1, 130, 96, &[130]),
        (1, 300, 64, &[300]),
        (3, 66, 64, &[64, 2]),
        (8, 4, 160, &[4]),
        (9, 64, 32, &[64]),
        (65, 130, 96, &[64, 64, 2]),
        (150, 70, 224, &[70]),
    ];
    for format in [WeightFormat::Int8, WeightFormat::F16, WeightFormat::F32] {
        for epilogue in epilogues.iter().copied() {
            for &(m, rows, cols, slices) in shapes {
                // What is no multiple of 32 but of 8 is stored in f16 and f32 only.
                let cols = if format == WeightFormat::Int8 { cols } else { cols + 56 };
                let k =
                    known(gpu, format, rows, cols, epilogue != Epilogue::SwiGlu, &draw(rows * cols), slices);
                let x = draw(m * cols);
                let x_buffer = gpu.storage_buffer_with("x", bytemuck::cast_slice(&x)).unwrap();
                let outputs = if epilogue == Epilogue::SwiGlu { rows / 2 } else { rows };
                let y = gpu.storage_buffer("y", m * outputs * 4).unwrap();
                gpu.fill(&y, 0x7fc0_0000);
                linear
                    .record(&mut recorder, &k.matrix, &Product::new(&x_buffer, &y, m).epilogue(epilogue))
                    .unwrap();
                recorder.finish().unwrap();
                let got = gpu.read_f32(&y, 0, m * outputs).unwrap();
                for (i, (got, want)) in got.iter().zip(expected(&k, &x, m, epilogue)).enumerate() {
                    let error = (f64::from(*got) - want).abs();
                    // SwiGLU multiplies two sums, each as large as ten, and so their errors.
                    let tolerance = if epilogue == Epilogue::SwiGlu { 2e-4 } else { 2e-5 };
                    assert!(
                        error <= tolerance * (1.0 + want.abs()),
                        "{tuning:?} {format:?} {epilogue:?} {m}x{rows}x{cols} [{i}]: {got} for {want}"
                    );
                }
                // Adding to what is there, at an offset.
                if epilogue == Epilogue::None && m > 1 {
                    let twice = Product::new(&x_buffer, &y, m - 1).at(1, 1).accumulate();
                    linear.record(&mut recorder, &k.matrix, &twice).unwrap();
                    recorder.finish().unwrap();
                    let again = gpu.read_f32(&y, 0, m * outputs).unwrap();
                    for (i, (again, once)) in again.iter().zip(&got).enumerate() {
                        let want = if i < outputs { *once } else { 2.0 * once };
                        assert!(
                            (again - want).abs() <= 4e-5 * (1.0 + want.abs()),
                            "{format:?} accumulate [{i}]: {again} for {want}"
                        );
                    }
                }
            }
        }
    }
}
