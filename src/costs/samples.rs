//! Made-up costs for tests.

use super::{ChunkCost, Costs, FrameCost, PictureCost, Times, TokenCost};

/// splitmix64.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most.max(1)
    }
}

/// An answer of so many tokens to a picture and a prompt of two pieces, with frames every 16 ms. Times are whole microseconds.
pub(crate) fn answer(tokens: usize, seed: u64) -> Costs {
    let mut random = Random(seed);
    let mut now = 3_000_000;
    let mut step = |random: &mut Random, device_us: u64, sampled: bool| {
        let recorded = now;
        let submitted = recorded + 1000 * (100 + random.below(200));
        let begin = submitted + 1000 * (1 + random.below(50));
        let end = begin + 1000 * (device_us + random.below(device_us / 8));
        let sampling = if sampled { end - 1000 * (1 + device_us / 20) } else { 0 };
        let read = end + 1000 * (20 + random.below(60));
        now = read;
        Times { recorded, submitted, begin, sampling, end, read, decoded: 0, painted: 0 }
    };
    let picture = PictureCost { index: 0, times: step(&mut random, 40_000, false) };
    let first = ChunkCost { first: 0, tokens: 256, times: step(&mut random, 30_000, false) };
    let second = ChunkCost { first: 256, tokens: 44, times: step(&mut random, 9_000, true) };
    let mut costs = Costs {
        model: "made up".into(),
        adapter: "a device".into(),
        has_device_times: true,
        weights_bytes: 1_700_000_000,
        kv_bytes_per_token: 114_688,
        bandwidth_gb_s: Some(200.0),
        asked_us: 1_700_000_000_000_000,
        prepared: 2_500_000,
        prompt_tokens: 300,
        pictures: vec![picture],
        chunks: vec![first, second],
        ..Costs::default()
    };
    for n in 0..tokens {
        let mut times = if n == 0 { second.times } else { step(&mut random, 9_000, true) };
        times.decoded = times.read + 5_000;
        times.painted = times.decoded + 1000 * (1 + random.below(16_000));
        let id = u32::try_from(random.below(500)).unwrap();
        let index = 299 + u32::try_from(n).unwrap();
        let alternatives: Vec<(u32, f32)> = (0..20)
            .map(|k: u16| (u32::try_from(random.below(150_000)).unwrap(), -f32::from(k) / 4.0))
            .collect();
        let pieces = alternatives.iter().map(|&(id, _)| id).chain([id]);
        for id in pieces {
            costs.pieces.entry(id).or_insert_with(|| format!(" w{id}").into_bytes());
        }
        costs.tokens.push(TokenCost {
            id,
            text_bytes: u32::try_from(costs.pieces[&id].len()).unwrap(),
            logprob: -(random.below(3000) as f32) / 1000.0,
            rank: u32::try_from(random.below(4)).unwrap(),
            entropy: random.below(4000) as f32 / 1000.0,
            alternatives,
            index,
            batch: 1,
            bytes: costs.weights_bytes + costs.kv_bytes_per_token * u64::from(index + 1),
            ends_prefill: n == 0,
            grew_page: n > 0 && index % 64 == 0,
            times,
            ..TokenCost::default()
        });
    }
    costs.finished = costs.tokens.last().map_or(60_000_000, |token| token.times.decoded + 4_000);
    costs.frames = (0..costs.finished / 16_000_000)
        .map(|n| FrameCost { begin: n * 16_000_000, end: n * 16_000_000 + 2_000_000 })
        .collect();
    costs
}
