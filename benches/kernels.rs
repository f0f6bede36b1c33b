//! Kernels alone, beside the device's own read bandwidth in the same run: matrix products of the 2B model's
//! shapes with random weights. `cargo bench --bench kernels`; a pattern chooses rows: `-- int8`.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use ocelli::gpu::{Gpu, GpuOptions, Pacing, Recorder, measure_read_bandwidth};
use ocelli::model::linear::{Epilogue, Linear, Product};
use ocelli::model::weights::{Matrix, MatrixSlice, WeightFormat};

/// Random bits where `keep` has ones, `set` elsewhere: exponents are fixed, since numbers near zero are slow on
/// processors and say nothing.
fn random(bytes: usize, keep: u32, set: u32) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let words = (0..bytes.div_ceil(4)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 32) as u32 & keep | set).to_le_bytes()
    });
    words.take(bytes).collect()
}

fn main() {
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let gpu =
        Gpu::new(&GpuOptions { adapter: std::env::var("OCELLI_ADAPTER").ok(), ..GpuOptions::default() })
            .unwrap();
    let bandwidth = measure_read_bandwidth(&gpu).unwrap();
    println!("{}: read bandwidth {bandwidth:.2} GB/s", gpu.adapter_name());
    let mut linear = Linear::new(&gpu).unwrap();
    let mut recorder = Recorder::new(&gpu, Pacing::HEADLESS).unwrap();
    for (format, name) in
        [(WeightFormat::Int8, "int8"), (WeightFormat::F16, "f16"), (WeightFormat::F32, "f32")]
    {
        let (n, k) = (6144usize, 2048usize);
        let (bytes, keep, set) = match format {
            WeightFormat::Int8 => (n * k, u32::MAX, 0),
            WeightFormat::F16 => (n * k * 2, 0x83ff_83ff, 0x3800_3800),
            WeightFormat::F32 => (n * k * 4, 0x807f_ffff, 0x3f00_0000),
        };
        let scales = (format == WeightFormat::Int8).then(|| {
            gpu.storage_buffer_with("scales", &random(n * k / 16, 0x03ff_03ff, 0x1c00_1c00)).unwrap()
        });
        let data = gpu.storage_buffer_with("weights", &random(bytes, keep, set)).unwrap();
        let matrix = Matrix {
            rows: n,
            cols: k,
            format,
            slices: vec![MatrixSlice { first_row: 0, rows: n, data, scales }],
            bias: None,
        };
        for m in [1usize, 2, 4, 8, 64, 512] {
            let label = format!("{name} {m}x{n}x{k}");
            if !label.contains(&wanted) {
                continue;
            }
            let x = gpu.storage_buffer_with("x", &random(m * k * 4, 0x807f_ffff, 0x3f00_0000)).unwrap();
            let y = gpu.storage_buffer("y", m * n * 4).unwrap();
            let mut once = |times: usize| {
                let start = Instant::now();
                for _ in 0..times {
                    linear
                        .record(&mut recorder, &matrix, &Product::new(&x, &y, m).epilogue(Epilogue::None))
                        .unwrap();
                }
                recorder.finish().unwrap();
                start.elapsed().as_secs_f64() / times as f64
            };
            once(1);
            let secs = (0..5).map(|_| once(2)).fold(f64::MAX, f64::min);
            let gb_s = matrix.bytes() as f64 / secs / 1e9;
            let gflop_s = (2 * m * n * k) as f64 / secs / 1e9;
            println!(
                "{label:<20} {:8.2} ms  {gb_s:7.2} GB/s ({:3.0} % of reading)  {gflop_s:8.1} GFLOP/s",
                secs * 1e3,
                gb_s / bandwidth * 100.0
            );
        }
    }
}
