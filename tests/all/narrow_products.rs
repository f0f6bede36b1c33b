//! Products whose activations are made narrow first: two digits of int8 on any device, f16 on one with matrix units. Inputs are
//! such that narrowing them is exact, so the products are held against sums in f64; and what narrowing others costs has a bound.

use half::f16;
use ocelli::gpu::{Gpu, GpuOptions, KernelEdit, Pacing, Recorder, Tuning};
use ocelli::model::linear::{Epilogue, Linear, Product};
use ocelli::model::weights::WeightFormat;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::matrix_products::{EPILOGUES, Known, expected, known};

/// (rows of x, outputs, inputs, slices of the matrix)
const SHAPES: [(usize, usize, usize, &[usize]); 6] = [
    (9, 64, 32, &[64]),
    (65, 130, 96, &[64, 64, 2]),
    (150, 70, 224, &[70]),
    (64, 192, 128, &[192]),
    (300, 66, 2080, &[66]),
    (2, 66, 64, &[66]),
];

struct Draw(TestRunner);

impl Draw {
    fn floats(&mut self, n: usize) -> Vec<f32> {
        proptest::collection::vec(-1f32..1f32, n).new_tree(&mut self.0).unwrap().current()
    }

    /// Numbers that narrowing for these kernels has exactly: whole numbers of at most 127 times 2^-12…2^3 for each 32 of them (f16
    /// has eleven bits), or for integers 254 times one of at most 126 and another of at most 126; the first of each 32 is the largest.
    fn exact(&mut self, n: usize, tuning: Tuning) -> Vec<f32> {
        let two_digits = tuning == Tuning::PACKED;
        let digit = || proptest::collection::vec(-126i32..127, 32);
        let block = (-12i32..4, digit(), digit());
        let blocks =
            proptest::collection::vec(block, n.div_ceil(32)).new_tree(&mut self.0).unwrap().current();
        let values = blocks.into_iter().flat_map(|(power, mut high, low)| {
            let (high_is, low_is) = if two_digits { (254, 1) } else { (1, 0) };
            high[0] = if high[0] < 0 { -127 } else { 127 };
            let all = high.into_iter().zip(low).enumerate();
            all.map(move |(i, (high, low))| {
                let low = if i == 0 { 0 } else { low * low_is };
                (high * high_is + low) as f32 * 2f32.powi(power)
            })
            .collect::<Vec<f32>>()
        });
        values.take(n).collect()
    }
}

/// One product through the kernel for many rows, into poisoned memory.
fn product(
    gpu: &Gpu,
    linear: &mut Linear,
    k: &Known,
    x: &[f32],
    m: usize,
    epilogue: Epilogue,
    twice: bool,
) -> Vec<f32> {
    let mut recorder = Recorder::new(gpu, Pacing::HEADLESS).unwrap();
    let x_buffer = gpu.storage_buffer_with("x", bytemuck::cast_slice(x)).unwrap();
    let outputs = if epilogue == Epilogue::SwiGlu { k.matrix.rows / 2 } else { k.matrix.rows };
    let y = gpu.storage_buffer("y", m * outputs * 4).unwrap();
    gpu.fill(&y, 0x7fc0_0000);
    let product = Product::new(&x_buffer, &y, m).epilogue(epilogue);
    linear.record_many(&mut recorder, &k.matrix, &product).unwrap();
    if twice {
        // All rows but the first once more, on top of themselves.
        let again = Product::new(&x_buffer, &y, m - 1).at(1, 1).accumulate();
        linear.record_many(&mut recorder, &k.matrix, &again).unwrap();
    }
    recorder.finish().unwrap();
    gpu.read_f32(&y, 0, m * outputs).unwrap()
}

/// Sums of |x w|: what roundings of the factors are relative to.
fn sizes(k: &Known, x: &[f32], m: usize) -> Vec<f64> {
    let (rows, cols) = (k.matrix.rows, k.matrix.cols);
    let size = |m: usize, n: usize| -> f64 {
        (0..cols).map(|c| (f64::from(x[m * cols + c]) * k.values[n * cols + c]).abs()).sum()
    };
    (0..m).flat_map(|m| (0..rows).map(move |n| (m, n))).map(|(m, n)| size(m, n)).collect()
}

fn check(gpu: &Gpu, formats: &[WeightFormat]) {
    if let Some(wrong) = first_wrong(gpu, formats) {
        panic!("{wrong}");
    }
}

/// The first element that is not what it must be, over all shapes and epilogues.
fn first_wrong(gpu: &Gpu, formats: &[WeightFormat]) -> Option<String> {
    let tuning = gpu.tuning();
    let mut draw = Draw(TestRunner::deterministic());
    let mut linear = Linear::new(gpu).unwrap();
    for &format in formats {
        for epilogue in EPILOGUES {
            for &(m, rows, cols, slices) in &SHAPES {
                let cols = if format == WeightFormat::Int8 { cols } else { cols + 56 };
                let weights: Vec<f32> =
                    draw.floats(rows * cols).iter().map(|w| w / (cols as f32).sqrt()).collect();
                let k = known(gpu, format, rows, cols, epilogue != Epilogue::SwiGlu, &weights, slices);
                let x = draw.exact(m * cols, tuning);
                let twice = epilogue == Epilogue::None;
                let got = product(gpu, &mut linear, &k, &x, m, epilogue, twice);
                let sizes = sizes(&k, &x, m);
                let outputs = got.len() / m;
                for (i, (got, want)) in got.iter().zip(expected(&k, &x, m, epilogue)).enumerate() {
                    let want = if twice && i >= outputs { 2.0 * want } else { want };
                    let error = (f64::from(*got) - want).abs();
                    // Of int8 weights matrix units see f16: half a unit in the last place of each.
                    let rounded = tuning == Tuning::COOPERATIVE && format == WeightFormat::Int8;
                    let relative = if rounded { 1.0 / 2048.0 } else { 1e-6 };
                    let size = if epilogue == Epilogue::SwiGlu {
                        let (n, row) = (i % outputs, i / outputs);
                        let at = row * rows + 2 * n;
                        // The product of two sums, and the slope of SiLU is at most 1.1.
                        1.1 * (sizes[at] * (1.0 + sizes[at + 1]) + sizes[at + 1])
                    } else {
                        2.2 * sizes[i]
                    };
                    let most = relative * size + 2e-5 * (1.0 + want.abs());
                    // What is no number is no less than anything.
                    if error.is_nan() || error > most {
                        return Some(format!(
                            "{tuning:?} {format:?} {epilogue:?} {m}x{rows}x{cols} [{i}]: {got} for {want}, size {size}"
                        ));
                    }
                }
            }
        }
    }
    linear.free();
    None
}

#[test]
fn packed_integers_give_the_sums_in_every_storage_and_epilogue() {
    for checked_kernels in [false, true] {
        for without_f16 in [false, true] {
            let tuning = Some(Tuning::PACKED);
            let options = GpuOptions { tuning, checked_kernels, without_f16, ..GpuOptions::default() };
            check(&Gpu::new(&options).unwrap(), &[WeightFormat::Int8, WeightFormat::F16]);
        }
    }
}

#[test]
fn two_digits_of_int8_lose_no_more_than_half_a_step_of_the_lower_one() {
    let options = GpuOptions { tuning: Some(Tuning::PACKED), ..GpuOptions::default() };
    let gpu = Gpu::new(&options).unwrap();
    let mut draw = Draw(TestRunner::deterministic());
    let mut linear = Linear::new(&gpu).unwrap();
    let (m, rows, cols) = (70, 66, 256);
    let weights = draw.floats(rows * cols);
    let k = known(&gpu, WeightFormat::Int8, rows, cols, false, &weights, &[rows]);
    let mut x = draw.floats(m * cols);
    // A block of zeros, one far larger than its neighbours, one far smaller.
    x[..32].fill(0.0);
    x[32..64].iter_mut().for_each(|v| *v *= 1e6);
    x[64..96].iter_mut().for_each(|v| *v *= 1e-20);
    let got = product(&gpu, &mut linear, &k, &x, m, Epilogue::None, false);
    let want = expected(&k, &x, m, Epilogue::None);
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        let (row, n) = (i / rows, i % rows);
        let bound: f64 = (0..cols / 32)
            .map(|block| {
                let x = &x[row * cols + block * 32..][..32];
                let most = x.iter().fold(0f32, |most, v| most.max(v.abs()));
                let w = &k.values[n * cols + block * 32..][..32];
                f64::from(most) / 127.0 * (0.505 / 254.0) * w.iter().map(|w| w.abs()).sum::<f64>()
            })
            .sum();
        let error = (f64::from(*got) - want).abs();
        assert!(error <= bound + 1e-5 * (1.0 + want.abs()), "[{i}]: {got} for {want}, bound {bound}");
    }
    linear.free();
}

#[test]
fn what_is_no_number_stays_none_in_its_row_and_nowhere_else() {
    for tuning in [Tuning::PACKED, Tuning::COOPERATIVE] {
        let gpu = Gpu::new(&GpuOptions { tuning: Some(tuning), ..GpuOptions::default() }).unwrap();
        if !tuning.is_possible(&gpu) {
            eprintln!("this device has no matrix units: {tuning:?} is not tested");
            continue;
        }
        let mut draw = Draw(TestRunner::deterministic());
        let mut linear = Linear::new(&gpu).unwrap();
        let (m, rows, cols) = (20, 66, 96);
        let weights = draw.floats(rows * cols);
        let k = known(&gpu, WeightFormat::Int8, rows, cols, false, &weights, &[rows]);
        let mut x = draw.floats(m * cols);
        x[3 * cols + 40] = f32::NAN;
        x[7 * cols + 90] = f32::INFINITY;
        let got = product(&gpu, &mut linear, &k, &x, m, Epilogue::None, false);
        for (i, got) in got.iter().enumerate() {
            assert_eq!(got.is_finite(), ![3, 7].contains(&(i / rows)), "{tuning:?} [{i}]: {got}");
        }
        linear.free();
    }
}

#[test]
fn matrix_units_give_the_sums_of_what_was_rounded() {
    let options = GpuOptions { tuning: Some(Tuning::COOPERATIVE), ..GpuOptions::default() };
    for checked_kernels in [false, true] {
        let gpu = Gpu::new(&GpuOptions { checked_kernels, ..options.clone() }).unwrap();
        let Some(side) = gpu.cooperative_matrix() else {
            assert_ne!(
                gpu.tuning(),
                Tuning::COOPERATIVE,
                "what needs matrix units is not chosen without them"
            );
            eprintln!("this device has no matrix units: their kernel is not tested");
            return;
        };
        eprintln!("{side}x{side}, {} lanes", gpu.subgroup_lanes());
        check(&gpu, &[WeightFormat::Int8, WeightFormat::F16, WeightFormat::F32]);
    }
    // As if fewer subgroups ran than the tile has places for: they come more than once.
    let edit = |find, replace| KernelEdit { file: "matmul_cooperative", find, replace };
    let kernel_edits = vec![
        edit("first += subgroups", "first += 3u"),
        edit(
            "let is_mine = first + subgroup < GRID;",
            "let is_mine = subgroup < 3u && first + subgroup < GRID;",
        ),
    ];
    let gpu = Gpu::new(&GpuOptions { kernel_edits, ..options.clone() }).unwrap();
    check(&gpu, &[WeightFormat::F16]);
    let without = GpuOptions { without_cooperative_matrix: true, ..options };
    assert_eq!(Gpu::new(&without).unwrap().cooperative_matrix(), None);
}

#[test]
fn planted_faults_in_narrow_products_are_seen() {
    let packed = [
        ("narrow_rows", "* 254.0", "* 127.0"),
        ("narrow_rows", "select(most, most / 127.0, is_finite)", "select(most, most / 128.0, is_finite)"),
        ("matmul_packed", "part_#{h}_#{i} *= 254", "part_#{h}_#{i} *= 253"),
        ("matmul_packed", "x_scales[x_at + block]", "x_scales[x_at]"),
        ("matmul_packed", "w_tile[k * 16u + tx]", "w_tile[(k ^ 1u) * 16u + tx]"),
        ("matmul_packed", "m < p.m && n < p.rows", "m < p.m && n + 1u < p.rows"),
    ];
    let cooperative = [
        ("narrow_rows", "(exponent - 10u) << 23u", "(exponent - 9u) << 23u"),
        ("matmul_cooperative", "x_scales[m] / W_FACTOR));", "x_scales[0] / W_FACTOR));"),
        ("matmul_cooperative", "let b_#{j} = coopLoad<", "let b_#{j} = coopLoadT<"),
        ("matmul_cooperative", "let k_own = local % 2u * 16u", "let k_own = local % 2u * 8u"),
        ("matmul_cooperative", "f32(scales[(row * p.cols + k) / 32u])", "f32(scales[row * p.cols / 32u])"),
        ("matmul_cooperative", "m < p.m && n < p.rows", "m < p.m && n + 1u < p.rows"),
    ];
    for (tuning, faults) in [(Tuning::PACKED, packed), (Tuning::COOPERATIVE, cooperative)] {
        for (file, find, replace) in faults {
            let kernel_edits = vec![KernelEdit { file, find, replace }];
            let options = GpuOptions { tuning: Some(tuning), kernel_edits, ..GpuOptions::default() };
            let gpu = Gpu::new(&options).unwrap();
            if !tuning.is_possible(&gpu) {
                eprintln!("this device has no matrix units: their faults are not tested");
                break;
            }
            let wrong = first_wrong(&gpu, &[WeightFormat::Int8]);
            println!("{file}: {replace}: {wrong:?}");
            assert!(wrong.is_some(), "{file}: nobody sees {replace}");
        }
    }
}

/// Rows far too large for f16 and far too small come out like all others: each has a scale of its own.
#[test]
fn rows_that_f16_cannot_hold_go_through_matrix_units_all_the_same() {
    let options = GpuOptions { tuning: Some(Tuning::COOPERATIVE), ..GpuOptions::default() };
    let gpu = Gpu::new(&options).unwrap();
    if gpu.cooperative_matrix().is_none() {
        eprintln!("this device has no matrix units: their kernel is not tested");
        return;
    }
    let mut draw = Draw(TestRunner::deterministic());
    let mut linear = Linear::new(&gpu).unwrap();
    let (m, rows, cols) = (16, 64, 128);
    let weights: Vec<f32> = draw.floats(rows * cols).iter().map(|w| f16::from_f32(*w).to_f32()).collect();
    let k = known(&gpu, WeightFormat::F16, rows, cols, false, &weights, &[rows]);
    let mut x = draw.floats(m * cols);
    for (row, size) in [(2, 1e9f32), (3, 1e-9), (4, 0.0)] {
        x[row * cols..(row + 1) * cols].iter_mut().for_each(|v| *v *= size);
    }
    let got = product(&gpu, &mut linear, &k, &x, m, Epilogue::None, false);
    let sizes = sizes(&k, &x, m);
    for (i, (got, want)) in got.iter().zip(expected(&k, &x, m, Epilogue::None)).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(error <= sizes[i] / 2000.0, "[{i}]: {got} for {want}, size {}", sizes[i]);
    }
    linear.free();
}
