use super::*;
use proptest::prelude::*;

/// Round half to even, written out in f64.
fn half_even(x: f64) -> f64 {
    let below = x.floor();
    match (x - below).partial_cmp(&0.5) {
        Some(std::cmp::Ordering::Less) => below,
        Some(std::cmp::Ordering::Greater) => below + 1.0,
        _ if below.rem_euclid(2.0) == 0.0 => below,
        _ => below + 1.0,
    }
}

/// The nearest f16, ties to even, found by looking through all of them.
fn nearest_f16(x: f64) -> f16 {
    // 65536 would be the next value after 65504, were the exponent range larger.
    let value = |bits: u16| if bits == 0x7c00 { 65536.0 } else { f16::from_bits(bits).to_f64() };
    let (mut low, mut high) = (0_u16, 0x7c00_u16);
    while high - low > 1 {
        let middle = u16::midpoint(low, high);
        if value(middle) <= x { low = middle } else { high = middle }
    }
    let (below, above) = (x - value(low), value(high) - x);
    let up = above < below || (above.to_bits() == below.to_bits() && high % 2 == 0);
    f16::from_bits(if up { high } else { low })
}

/// The quantiser as its definition reads.
fn reference(block: &[f32]) -> (f16, Vec<i8>) {
    let absmax = block.iter().fold(0.0_f32, |max, w| max.max(w.abs()));
    // absmax / 127 is rounded to f32 and then to f16, as every reference implementation computes it.
    #[expect(clippy::cast_possible_truncation)]
    let quotient = f64::from((f64::from(absmax) / 127.0) as f32);
    let scale = nearest_f16(quotient);
    let one = |w: &f32| {
        if scale == f16::ZERO {
            return 0;
        }
        // w / scale in f32, which for a quotient of two f32 is the f64 quotient rounded once.
        #[expect(clippy::cast_possible_truncation)]
        let quotient = f64::from((f64::from(*w) / scale.to_f64()) as f32);
        #[expect(clippy::cast_possible_truncation)]
        let q = half_even(quotient).clamp(-127.0, 127.0) as i8;
        q
    };
    (scale, block.iter().map(one).collect())
}

fn quantise(weights: &[f32], cols: usize) -> Result<(Vec<i8>, Vec<u16>), WeightFault> {
    let (mut quants, mut scales) = (Vec::new(), Vec::new());
    quantise_rows(weights, cols, &mut quants, &mut scales)?;
    Ok((quants, scales))
}

/// Weights whose magnitudes go from below f16's smallest to above its largest.
fn weights() -> impl Strategy<Value = Vec<f32>> {
    (-30_i32..18).prop_flat_map(|exponent| {
        let scale = 2.0_f32.powi(exponent);
        prop::collection::vec((-1.0_f32..1.0).prop_map(move |w| w * scale), BLOCK * 4)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_quantiser_agrees_with_its_definition_in_f64(weights in weights()) {
        let (quants, scales) = quantise(&weights, BLOCK * 2).expect("finite and in range");
        for (index, block) in weights.chunks(BLOCK).enumerate() {
            let (scale, expected) = reference(block);
            prop_assert_eq!(scales[index], scale.to_bits());
            prop_assert_eq!(&quants[index * BLOCK..][..BLOCK], &expected[..]);
        }
    }

    #[test]
    fn what_is_read_back_is_within_half_a_step_of_the_weight(weights in weights()) {
        let (quants, scales) = quantise(&weights, BLOCK).expect("finite and in range");
        for (index, w) in weights.iter().enumerate() {
            let scale = f16::from_bits(scales[index / BLOCK]).to_f32();
            let back = f32::from(quants[index]) * scale;
            // Half a step, and where the scale was rounded down, what that takes off at ±127.
            let allowed = scale * 0.5 + w.abs() * 0.001 + 127.0 * 2.0_f32.powi(-25);
            prop_assert!((back - w).abs() <= allowed, "{} came back as {}", w, back);
        }
    }

    #[test]
    fn any_bits_are_quantised_or_refused_and_nothing_panics(bits in prop::collection::vec(any::<u32>(), BLOCK * 2)) {
        let weights: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let finite = weights.iter().all(|w| w.is_finite());
        match quantise(&weights, BLOCK * 2) {
            Ok(_) => prop_assert!(finite),
            Err(fault) => prop_assert!(fault.reason == FaultReason::ScaleTooLarge || !fault.value.is_finite()),
        }
        let mut halves = Vec::new();
        let _ = to_f16_rows(&weights, BLOCK, &mut halves);
        prop_assert_eq!(check_finite(&weights, BLOCK).is_ok(), finite);
    }
}

#[test]
fn halves_go_to_the_even_neighbour() {
    // absmax 127 makes the scale exactly 1.
    let mut block = [0.0_f32; BLOCK];
    block[0] = 127.0;
    for (at, w) in [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 125.5, 126.5, 0.499, 0.501].into_iter().enumerate() {
        block[at + 1] = w;
    }
    let (quants, scales) = quantise(&block, BLOCK).expect("in range");
    assert_eq!(scales, [f16::ONE.to_bits()]);
    assert_eq!(&quants[..11], [127, 0, 2, 2, 0, -2, -2, 126, 126, 0, 1]);
}

#[test]
fn a_block_of_zeros_has_scale_zero_and_quants_zero() {
    let (quants, scales) = quantise(&[0.0; BLOCK], BLOCK).expect("in range");
    assert_eq!((quants, scales), (vec![0; BLOCK], vec![0]));
    // So small that the scale rounds to zero.
    let (quants, scales) = quantise(&[1e-7; BLOCK], BLOCK).expect("in range");
    assert_eq!((quants, scales), (vec![0; BLOCK], vec![0]));
}

#[test]
fn a_scale_rounded_down_never_gives_more_than_127() {
    // 1.4 of the smallest f16 rounds to 1 of it, so the weights are 178 steps.
    let w = 127.0 * 1.4 * f16::from_bits(1).to_f32();
    let (quants, scales) = quantise(&[w; BLOCK], BLOCK).expect("in range");
    assert_eq!((quants, scales), (vec![127; BLOCK], vec![1]));
    let (quants, _) = quantise(&[-w; BLOCK], BLOCK).expect("in range");
    assert_eq!(quants, vec![-127; BLOCK]);
}

#[test]
fn a_weight_that_cannot_be_stored_is_named_with_its_place() {
    for (value, reason) in [
        (f32::NAN, FaultReason::NotFinite),
        (f32::NEG_INFINITY, FaultReason::NotFinite),
        (65520.0 * 127.0, FaultReason::ScaleTooLarge),
    ] {
        let mut weights = vec![0.5; BLOCK * 6];
        weights[BLOCK * 2 + 3] = value;
        let fault = quantise(&weights, BLOCK * 2).expect_err("must be refused").shifted(100);
        assert_eq!((fault.row, fault.column, fault.reason), (101, 3, reason));
        let error = fault.error("a.weight").to_string();
        assert!(error.starts_with("converting tensor a.weight: the weight"), "{error}");
        assert!(error.contains("row 101, column 3") && error.contains('('), "{error}");
    }
    let mut halves = Vec::new();
    let fault = to_f16_rows(&[1.0, 2.0, 65505.0, 4.0], 2, &mut halves).expect_err("must be refused");
    assert_eq!((fault.row, fault.column, fault.reason), (1, 0, FaultReason::TooLargeForF16));
    to_f16_rows(&[65504.0, -65504.0], 2, &mut halves).expect("in range");
    assert_eq!(halves, [f16::MAX, f16::MIN]);
}

#[test]
fn the_names_of_the_recipes_read_back() {
    for recipe in Recipe::ALL {
        assert_eq!(recipe.to_string().parse::<Recipe>(), Ok(recipe));
        assert_eq!(serde_json::to_string(&recipe).ok(), Some(format!("\"{recipe}\"")));
    }
    let error = "int4".parse::<Recipe>().expect_err("there is none").to_string();
    assert!(error.contains("int4") && error.contains("int8hu"), "{error}");
}
