//! Attention against sums in f64 at the sizes of long chats and large pictures: dense, paged and causal, in
//! one dispatch and in many, and decoding in pieces. Pages are shuffled, what is not to be read is NaN.

use half::f16;
use ocelli::gpu::{Gpu, KernelKey, Pacing, Recorder, Work};
use ocelli::model::flash::Flash;
use ocelli::model::kv_cache::KvFormat;
use ocelli::model::text_decoder::{RowInfo, heads_together};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::support::gpu;

const FIRST: u32 = 1;
const LAST: u32 = 2;
const PAGE: usize = 64;

fn random(n: usize) -> Vec<f32> {
    let mut runner = TestRunner::default();
    proptest::collection::vec(-2f32..2f32, n).new_tree(&mut runner).unwrap().current()
}

fn upload(gpu: &Gpu, values: &[f32]) -> wgpu::Buffer {
    gpu.storage_buffer_with("values", bytemuck::cast_slice(values)).unwrap()
}

/// softmax(scale q . k) v over the first `keys` keys, in f64. `k`, `v`: `[keys][dim]`.
fn reference(q: &[f32], k: &[Vec<f32>], v: &[Vec<f32>], keys: usize) -> Vec<f64> {
    let scale = 1.0 / (q.len() as f64).sqrt();
    let score = |k: &[f32]| q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() * scale;
    let scores: Vec<f64> = k[..keys].iter().map(|k| score(k)).collect();
    let top = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
    let total: f64 = weights.iter().sum();
    (0..q.len())
        .map(|d| weights.iter().zip(v).map(|(w, v)| w * f64::from(v[d])).sum::<f64>() / total)
        .collect()
}

fn close(got: &[f32], want: &[f64], what: &str) {
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(error <= 2e-5, "{what} [{i}]: {got} for {want}");
    }
}

#[test]
fn dense_attention_is_right_over_thousands_of_keys_however_it_is_divided() {
    let gpu = gpu();
    let mut recorder = Recorder::new(&gpu, Pacing::HEADLESS).unwrap();
    for dim in [64usize, 72, 128] {
        let (rows, heads) = (6000usize, 2usize);
        let [q, k, v] = [0; 3].map(|_| random(rows * heads * dim));
        let [q_buffer, k_buffer, v_buffer] = [&q, &k, &v].map(|values| upload(&gpu, values));
        for (key, row_step) in Flash::choices(&gpu, "dense", dim) {
            let kernel = gpu.kernel(&key).unwrap();
            let mut run = |step: usize| {
                let o = gpu.storage_buffer("o", rows * heads * dim * 4).unwrap();
                let state = gpu.storage_buffer("state", rows * heads * 8).unwrap();
                gpu.fill(&o, 0x7fc0_0000);
                gpu.fill(&state, 0x7fc0_0000);
                // Rows in the middle, as a tile of a large picture.
                let (first_row, count) = (3000u32, 70u32);
                for first in (0..rows).step_by(step) {
                    let keys = step.min(rows - first);
                    let flags =
                        if first == 0 { FIRST } else { 0 } | if first + keys == rows { LAST } else { 0 };
                    let scale = (1.0 / (dim as f32).sqrt()).to_bits();
                    let params = [count, first_row, 2, 2, first as u32, keys as u32, 0, scale, flags];
                    let buffers = [&q_buffer, &k_buffer, &v_buffer, &o, &state];
                    let groups = [count.div_ceil(row_step as u32), 2, 1];
                    recorder.dispatch(&kernel, &params, &buffers, groups, Work::UNCOUNTED).unwrap();
                }
                recorder.finish().unwrap();
                gpu.read_f32(&o, 3000 * heads * dim, 70 * heads * dim).unwrap()
            };
            let whole = run(rows);
            let divided = run(1024);
            assert!(
                whole.iter().zip(&divided).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{} {dim}: division shows",
                key.file()
            );
            for (row, head) in [(0, 0), (31, 1), (69, 0)] {
                let take = |values: &[f32], row: usize| values[(row * heads + head) * dim..][..dim].to_vec();
                let keys: Vec<_> = (0..rows).map(|r| take(&k, r)).collect();
                let values: Vec<_> = (0..rows).map(|r| take(&v, r)).collect();
                let want = reference(&take(&q, 3000 + row), &keys, &values, rows);
                close(&take(&whole, row), &want, &format!("{} dim {dim} row {row} head {head}", key.file()));
            }
        }
    }
}

/// A cache of one layer with the pages of a session in random order, the rest NaN.
struct Paged {
    k: wgpu::Buffer,
    v: wgpu::Buffer,
    table: wgpu::Buffer,
    max_pages: usize,
    /// `[kv_head][key][dim]`, as the device reads them.
    keys: Vec<Vec<Vec<f32>>>,
    values: Vec<Vec<Vec<f32>>>,
}

/// Keys or values of a head as a cache of this form can hold them, and the scale they have there.
fn stored(kv: KvFormat, row: Vec<f32>) -> (Vec<f32>, f32) {
    match kv {
        KvFormat::F32 => (row, 1.0),
        KvFormat::F16 => (row.into_iter().map(|v| f16::from_f32(v).to_f32()).collect(), 1.0),
        KvFormat::Int8 => {
            let scale = row.iter().fold(0f32, |most, v| most.max(v.abs())) / 127.0;
            (row.into_iter().map(|v| (v / scale).round_ties_even() * scale).collect(), scale)
        }
    }
}

/// One head's part of a page: `[64][dim]` elements, `[64]` scales.
fn part_bytes(kv: KvFormat, elements: &[f32], scales: &[f32]) -> Vec<u8> {
    match kv {
        KvFormat::F32 => elements.iter().flat_map(|v| v.to_le_bytes()).collect(),
        KvFormat::F16 => elements.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        KvFormat::Int8 => {
            let dim = elements.len() / PAGE;
            let quants = elements.iter().enumerate().map(|(i, v)| (v / scales[i / dim]).round_ties_even());
            // What a token that is not there has for quants is nothing to be read.
            let bytes = quants.map(|q| if q.is_nan() { 0x7f } else { (q as i8).cast_unsigned() });
            bytes.chain(scales.iter().flat_map(|scale| scale.to_le_bytes())).collect()
        }
    }
}

fn paged(gpu: &Gpu, kv: KvFormat, kv_heads: usize, dim: usize, length: usize) -> Paged {
    let max_pages = length.div_ceil(PAGE) + 5;
    // 7 divides no number of pages used here, so this is a permutation that keeps nothing in place.
    let page_of = |i: usize| (i * 7 + 3) % max_pages;
    assert!(!max_pages.is_multiple_of(7));
    let make = || {
        let mut all = vec![f32::NAN; max_pages * kv_heads * PAGE * dim];
        let mut scales = vec![f32::NAN; max_pages * kv_heads * PAGE];
        let mut heads = vec![Vec::new(); kv_heads];
        for index in 0..length {
            for (head, list) in heads.iter_mut().enumerate() {
                // Scales that differ by far from token to token, so that one in the wrong place shows.
                let size = random(1)[0] / 2.0;
                let (row, scale) = stored(kv, random(dim).iter().map(|v| v * size).collect());
                let at = (page_of(index / PAGE) * kv_heads + head) * PAGE + index % PAGE;
                all[at * dim..][..dim].copy_from_slice(&row);
                scales[at] = scale;
                list.push(row);
            }
        }
        let parts = all.chunks(PAGE * dim).zip(scales.chunks(PAGE));
        let bytes: Vec<u8> = parts.flat_map(|(part, scales)| part_bytes(kv, part, scales)).collect();
        (gpu.storage_buffer_with("cache", &bytes).unwrap(), heads)
    };
    let ((k, keys), (v, values)) = (make(), make());
    // The session is in slot 3.
    let mut table = vec![u32::MAX / 8; 8 * max_pages];
    for i in 0..length.div_ceil(PAGE) {
        table[3 * max_pages + i] = page_of(i) as u32;
    }
    let table = gpu.storage_buffer_with("page table", bytemuck::cast_slice(&table)).unwrap();
    Paged { k, v, table, max_pages, keys, values }
}

#[test]
fn paged_attention_is_right_over_a_long_cache_in_prefill_and_in_decoding() {
    let gpu = gpu();
    let mut recorder = Recorder::new(&gpu, Pacing::HEADLESS).unwrap();
    for (format, dim, heads, kv_heads, length) in [
        (KvFormat::F32, 64usize, 4usize, 2usize, 1100usize),
        (KvFormat::F16, 128, 4, 2, 4500),
        (KvFormat::F32, 128, 8, 2, 257),
        (KvFormat::F16, 64, 3, 3, 256),
        (KvFormat::F16, 64, 8, 1, 321),
        (KvFormat::F16, 128, 6, 2, 41),
        (KvFormat::Int8, 128, 4, 2, 4500),
        (KvFormat::Int8, 64, 3, 3, 256),
        (KvFormat::Int8, 64, 8, 1, 321),
        (KvFormat::Int8, 128, 6, 2, 41),
    ] {
        let cache = paged(&gpu, format, kv_heads, dim, length);
        let kv = format.name();
        let scale = (1.0 / (dim as f32).sqrt()).to_bits();
        let rows = 40usize;
        let first_index = length - rows;
        let q = random(rows * heads * dim);
        let q_buffer = upload(&gpu, &q);
        let infos: Vec<RowInfo> = (0..rows)
            .map(|r| RowInfo { index: (first_index + r) as u32, slot: 3, ..RowInfo::default() })
            .collect();
        let row_buffer = gpu.storage_buffer_with("rows", bytemuck::cast_slice(&infos)).unwrap();
        let o = gpu.storage_buffer("o", rows * heads * dim * 4).unwrap();
        let state = gpu.storage_buffer("state", rows * heads * 8).unwrap();
        let flash = |key: &KernelKey, row_step: usize, recorder: &mut Recorder| {
            gpu.fill(&o, 0x7fc0_0000);
            let kernel = gpu.kernel(key).unwrap();
            for first in (0..length).step_by(512) {
                let keys = 512.min(length - first);
                let flags =
                    if first == 0 { FIRST } else { 0 } | if first + keys == length { LAST } else { 0 };
                let params = [
                    rows as u32,
                    0,
                    heads as u32,
                    kv_heads as u32,
                    first as u32,
                    keys as u32,
                    cache.max_pages as u32,
                    scale,
                    flags,
                ];
                let buffers = [&q_buffer, &cache.k, &cache.v, &o, &state, &row_buffer, &cache.table];
                let groups = [rows.div_ceil(row_step) as u32, heads as u32, 1];
                recorder.dispatch(&kernel, &params, &buffers, groups, Work::UNCOUNTED).unwrap();
            }
            recorder.finish().unwrap();
            gpu.read_f32(&o, 0, rows * heads * dim).unwrap()
        };
        let prefilled: Vec<_> = Flash::choices(&gpu, kv, dim)
            .into_iter()
            .map(|(key, row_step)| (key.file(), flash(&key, row_step, &mut recorder)))
            .collect();

        // The last row again, as a decode step would run it.
        let last = rows - 1;
        let max_pieces = length.div_ceil(256) + 2;
        let one_q = upload(&gpu, &q[last * heads * dim..]);
        let one_row = gpu.storage_buffer_with("row", bytemuck::bytes_of(&infos[last])).unwrap();
        let partial = gpu.storage_buffer("partial", heads * max_pieces * (dim + 4) * 4).unwrap();
        gpu.fill(&partial, 0x7fc0_0000);
        let group = heads_together(heads, kv_heads);
        let decode = gpu
            .kernel(
                &KernelKey::new("attention_decode").with("KV", kv).with("HEAD_DIM", dim).with("GROUP", group),
            )
            .unwrap();
        let reduce = gpu.kernel(&KernelKey::new("attention_reduce").with("HEAD_DIM", dim)).unwrap();
        let params = [heads as u32, kv_heads as u32, cache.max_pages as u32, max_pieces as u32, scale];
        let buffers = [&one_q, &cache.k, &cache.v, &one_row, &cache.table, &partial];
        let groups = [length.div_ceil(256) as u32, (heads / group) as u32, 1];
        recorder.dispatch(&decode, &params, &buffers, groups, Work::UNCOUNTED).unwrap();
        let params = [heads as u32, max_pieces as u32];
        recorder
            .dispatch(&reduce, &params, &[&partial, &one_row, &o], [heads as u32, 1, 1], Work::UNCOUNTED)
            .unwrap();
        recorder.finish().unwrap();
        let decoded = gpu.read_f32(&o, 0, heads * dim).unwrap();

        for head in 0..heads {
            let kv_head = head / (heads / kv_heads);
            for row in [0, 1, 17, last] {
                let at = (row * heads + head) * dim;
                let keys = first_index + row + 1;
                let want = reference(&q[at..at + dim], &cache.keys[kv_head], &cache.values[kv_head], keys);
                for (file, prefilled) in &prefilled {
                    let what = format!("{file} {kv} dim {dim} row {row} head {head}");
                    close(&prefilled[at..at + dim], &want, &what);
                }
                if row == last {
                    close(
                        &decoded[head * dim..][..dim],
                        &want,
                        &format!("decode {kv} dim {dim} head {head}"),
                    );
                }
            }
        }
    }
}

/// Row and head by head: the scale is the head's largest element over 127, each quant the nearest; what rows do not stand for
/// stays as it was; q is the same whatever the cache.
#[test]
fn an_int8_cache_holds_the_nearest_quants_of_the_keys_and_values_that_f32_holds() {
    let gpu = gpu();
    let mut recorder = Recorder::new(&gpu, Pacing::HEADLESS).unwrap();
    for dim in [64usize, 128] {
        let (heads, kv_heads, rows, max_pages, positions) = (4usize, 2usize, 70usize, 6usize, 100usize);
        let all_heads = heads + 2 * kv_heads;
        let mut qkv = random(rows * all_heads * dim);
        // A row of zeros, which no scale can make anything else of, and one of very large elements.
        qkv[5 * all_heads * dim..6 * all_heads * dim].fill(0.0);
        qkv[6 * all_heads * dim..7 * all_heads * dim].iter_mut().for_each(|v| *v *= 1e6);
        let turns: Vec<f32> =
            random(positions * dim / 2).into_iter().flat_map(|a| [a.cos(), a.sin()]).collect();
        let infos: Vec<RowInfo> = (0..rows as u32)
            .map(|r| RowInfo { position: [r, r / 2, r / 3], index: 30 + r, slot: 2, ..RowInfo::default() })
            .collect();
        let mut table = vec![u32::MAX / 8; 8 * max_pages];
        table[2 * max_pages..][..2].copy_from_slice(&[4, 1]);
        let table = gpu.storage_buffer_with("page table", bytemuck::cast_slice(&table)).unwrap();
        let row_buffer = gpu.storage_buffer_with("rows", bytemuck::cast_slice(&infos)).unwrap();
        let [qkv, norms, turns] = [&qkv, &random(2 * dim), &turns].map(|values| upload(&gpu, values));
        let mut run = |kv: KvFormat| {
            let kernel = gpu
                .kernel(&KernelKey::new("rope_and_cache").with("KV", kv.name()).with("HEAD_DIM", dim))
                .unwrap();
            let element_bytes = if kv == KvFormat::Int8 { 1 } else { 4 };
            let scale_bytes = if kv == KvFormat::Int8 { 4 } else { 0 };
            let bytes = max_pages * kv_heads * PAGE * (dim * element_bytes + scale_bytes);
            let q = gpu.storage_buffer("q", rows * heads * dim * 4).unwrap();
            let [k, v] = ["k", "v"].map(|label| gpu.storage_buffer(label, bytes).unwrap());
            for buffer in [&q, &k, &v] {
                gpu.fill(buffer, 0x7fc0_0000);
            }
            let params = [
                heads as u32,
                kv_heads as u32,
                max_pages as u32,
                (dim / 8) as u32,
                (dim / 8) as u32,
                1e-6f32.to_bits(),
                positions as u32,
            ];
            let buffers = [&row_buffer, &qkv, &norms, &turns, &table, &q, &k, &v];
            let groups = [all_heads as u32, rows as u32, 1];
            recorder.dispatch(&kernel, &params, &buffers, groups, Work::UNCOUNTED).unwrap();
            recorder.finish().unwrap();
            [&q, &k, &v].map(|b| gpu.read_bytes(b, 0, b.size() as usize).unwrap())
        };
        let word = |bytes: &[u8], at: usize| f32::from_le_bytes(bytes[at * 4..][..4].try_into().unwrap());
        let ([q, plain_k, plain_v], [q_too, k, v]) = (run(KvFormat::F32), run(KvFormat::Int8));
        assert_eq!(q, q_too, "dim {dim}");
        for (what, plain, int8) in [("k", &plain_k, &k), ("v", &plain_v, &v)] {
            for place in 0..max_pages * kv_heads * PAGE {
                let (part, token) = (place / PAGE, place % PAGE);
                let from = part * PAGE * (dim + 4);
                let quants = &int8[from + token * dim..][..dim];
                let scale = word(int8, (from + PAGE * dim) / 4 + token);
                let want: Vec<f32> = (0..dim).map(|d| word(plain, place * dim + d)).collect();
                let largest = want.iter().fold(0f32, |most, v| most.max(v.abs()));
                let what = format!("{what} dim {dim} part {part} token {token}");
                if want[0].is_nan() {
                    assert!(
                        scale.is_nan() && quants.chunks(4).all(|word| word == [0, 0, 0xc0, 0x7f]),
                        "{what}"
                    );
                    continue;
                }
                assert!((scale - largest / 127.0).abs() <= 1e-6 * scale, "{what}: {scale} for {largest}");
                for (quant, want) in quants.iter().map(|byte| f32::from(byte.cast_signed())).zip(want) {
                    assert!((quant * scale - want).abs() <= 0.5001 * scale, "{what}: {quant} for {want}");
                    assert!(quant.abs() <= 127.0 && (scale > 0.0 || quant == 0.0), "{what}: {quant}");
                }
                let most = quants.iter().map(|byte| byte.cast_signed().unsigned_abs()).max();
                assert_eq!(most, Some(if scale > 0.0 { 127 } else { 0 }), "{what}");
            }
        }
    }
}
