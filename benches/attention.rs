//! Decode attention alone, one layer of the 2B shape with random keys and values, beside the device's own read
//! bandwidth in the same run. `cargo bench --bench attention`; a pattern chooses rows: `-- f16`.
//!
//! The processor's time is given too where the system tells it: on a software device that other work shares it says
//! more than the clock.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use ocelli::gpu::{Gpu, GpuOptions, KernelKey, Pacing, Recorder, Work, measure_read_bandwidth};
use ocelli::model::kv_cache::PAGE_TOKENS;
use ocelli::model::text_decoder::{RowInfo, heads_together};

const HEADS: usize = 16;
const KV_HEADS: usize = 8;
const HEAD_DIM: usize = 128;
const REPEATS: usize = 20;

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

/// Seconds of this process's threads on a processor, all of them together.
fn processor_secs() -> Option<f64> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?.flatten();
    let of_thread = |text: String| text.split_whitespace().next()?.parse::<f64>().ok();
    let nanoseconds: f64 = threads
        .filter_map(|t| std::fs::read_to_string(t.path().join("schedstat")).ok().and_then(of_thread))
        .sum();
    Some(nanoseconds / 1e9)
}

fn main() {
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let gpu =
        Gpu::new(&GpuOptions { adapter: std::env::var("OCELLI_ADAPTER").ok(), ..GpuOptions::default() })
            .unwrap();
    let bandwidth = measure_read_bandwidth(&gpu).unwrap();
    println!("{}: read bandwidth {bandwidth:.2} GB/s", gpu.adapter_name());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
    let mut recorder = Recorder::new(&gpu, Pacing::HEADLESS).unwrap();
    for kv in ["f32", "f16", "int8"] {
        for context in [256usize, 4096, 32_768] {
            let label = format!("{kv} {context}");
            if !label.contains(&wanted) {
                continue;
            }
            let pages = context / PAGE_TOKENS;
            let elements = context * KV_HEADS * HEAD_DIM;
            // In int8 the scales lie between the quants: as numbers these bits are all near enough to one to be no slower.
            let (bytes, keep, set) = match kv {
                "f16" => (elements * 2, 0x83ff_83ff, 0x3800_3800),
                "int8" => (elements + elements / HEAD_DIM * 4, 0x807f_ffff, 0x3f00_0000),
                _ => (elements * 4, 0x807f_ffff, 0x3f00_0000),
            };
            let k = gpu.storage_buffer_with("k", &random(bytes, keep, set)).unwrap();
            let v = gpu.storage_buffer_with("v", &random(bytes, keep, set)).unwrap();
            let q_bytes = random(HEADS * HEAD_DIM * 4, 0x807f_ffff, 0x3f00_0000);
            let q = gpu.storage_buffer_with("q", &q_bytes).unwrap();
            let row = RowInfo { index: context as u32 - 1, ..RowInfo::default() };
            let row = gpu.storage_buffer_with("row", bytemuck::bytes_of(&row)).unwrap();
            let table: Vec<u32> = (0..pages).map(|i| ((i * 7 + 3) % pages) as u32).collect();
            let table = gpu.storage_buffer_with("page table", bytemuck::cast_slice(&table)).unwrap();
            let pieces = context.div_ceil(256);
            let partial = gpu.storage_buffer("partial", HEADS * pieces * (HEAD_DIM + 4) * 4).unwrap();
            let group = heads_together(HEADS, KV_HEADS);
            let key = KernelKey::new("attention_decode").with("KV", kv).with("HEAD_DIM", HEAD_DIM);
            let kernel = gpu.kernel(&key.with("GROUP", group)).unwrap();
            let scale = (1.0 / (HEAD_DIM as f32).sqrt()).to_bits();
            let params = [HEADS as u32, KV_HEADS as u32, pages as u32, pieces as u32, scale];
            let buffers = [&q, &k, &v, &row, &table, &partial];
            let groups = [pieces as u32, (HEADS / group) as u32, 1];
            let times = (65_536 / context).max(2);
            let mut once = || {
                let (start, processor) = (Instant::now(), processor_secs());
                for _ in 0..times {
                    recorder.dispatch(&kernel, &params, &buffers, groups, Work::UNCOUNTED).unwrap();
                }
                recorder.finish().unwrap();
                let processor = processor.zip(processor_secs()).map_or(f64::NAN, |(a, b)| (b - a) / cores);
                (start.elapsed().as_secs_f64() / times as f64, processor / times as f64)
            };
            once();
            let (mut secs, mut processor) = (f64::MAX, f64::MAX);
            for _ in 0..REPEATS {
                let (a, b) = once();
                secs = secs.min(a);
                processor = processor.min(b);
            }
            let gb_s = 2.0 * bytes as f64 / secs / 1e9;
            println!(
                "{label:<12} {:9.0} us a layer, {:9.0} of every core  {gb_s:6.2} GB/s of keys and values ({:3.0} % of reading)",
                secs * 1e6,
                processor * 1e6,
                gb_s / bandwidth * 100.0
            );
        }
    }
}
