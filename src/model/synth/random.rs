//! Random weights from a counter: element `i` of a tensor is a pure function of seed, name and `i`, so that threads
//! and pieces can come in any order and give the same bytes.

/// The numbers of one tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    key: u64,
}

impl Numbers {
    /// The numbers of the tensor `name` under `seed`.
    pub(super) fn new(seed: u64, name: &str) -> Self {
        // FNV-1a spreads names over keys; the mixer makes neighbouring seeds unrelated.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Self { key: mix(mix(seed ^ 0x4f63_656c_6c69_0001).wrapping_add(hash)) }
    }

    /// 64 random bits for element `index`.
    pub(super) fn bits(self, index: u64) -> u64 {
        // splitmix64: the state after `index` steps, mixed (Steele, Lea, Flood 2014).
        mix(self.key.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Element `index` of a nearly normal distribution of mean 0 and standard deviation 1, within ±3.47.
    pub(super) fn normal(self, index: u64) -> f32 {
        // The sum of four uniform 16-bit numbers (Irwin-Hall): mean 4 * 32767.5, variance 4 * (2^32 - 1) / 12.
        const MEAN: i32 = 131_070;
        const INVERSE_DEVIATION: f32 = 1.0 / 37_837.227;
        let bytes = self.bits(index).to_le_bytes();
        let sum: i32 = bytes.as_chunks::<2>().0.iter().map(|pair| i32::from(u16::from_le_bytes(*pair))).sum();
        #[expect(clippy::cast_precision_loss, reason = "18 bits")]
        let value = (sum - MEAN) as f32 * INVERSE_DEVIATION;
        value
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_have_mean_0_and_deviation_1_and_depend_on_seed_and_name() {
        const COUNT: u32 = 1_000_000;
        let numbers = Numbers::new(7, "a.weight");
        let (mut sum, mut squares, mut largest) = (0.0_f64, 0.0_f64, 0.0_f64);
        for index in 0..COUNT {
            let x = f64::from(numbers.normal(u64::from(index)));
            (sum, squares, largest) = (sum + x, squares + x * x, largest.max(x.abs()));
        }
        let (mean, deviation) = (sum / f64::from(COUNT), (squares / f64::from(COUNT)).sqrt());
        assert!(mean.abs() < 0.005 && (deviation - 1.0).abs() < 0.005, "{mean} {deviation}");
        assert!((3.0..3.47).contains(&largest), "{largest}");
        for other in [Numbers::new(8, "a.weight"), Numbers::new(7, "b.weight")] {
            assert!((0..100).all(|i| other.bits(i) != numbers.bits(i)));
        }
        // Reckoned apart, so that a change of the generator, and with it of every made-up checkpoint, is seen.
        assert_eq!(numbers.bits(3), 0xa663_2734_387e_5bf5);
    }
}
