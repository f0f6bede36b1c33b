//! The sampler against its definition: the record of every token, the set each setting keeps, the
//! frequencies of the draws, ties, penalties, NaN.

use std::collections::BTreeMap;

use ocelli::gpu::{Gpu, Pacing, Recorder};
use ocelli::model::sampler::{Sampler, Sampling, TokenRecord};
use ocelli::model::text_decoder::RowInfo;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::support::gpu;

struct Bench {
    gpu: Gpu,
    recorder: Recorder,
    sampler: Sampler,
    rows: wgpu::Buffer,
    logits: wgpu::Buffer,
    vocab: usize,
}

impl Bench {
    fn new(vocab: usize) -> Self {
        let gpu = gpu();
        Self {
            recorder: Recorder::new(&gpu, Pacing::HEADLESS).unwrap(),
            sampler: Sampler::new(&gpu, vocab).unwrap(),
            rows: gpu.storage_buffer("rows", 8 * 32).unwrap(),
            logits: gpu.storage_buffer("logits", 8 * vocab * 4).unwrap(),
            vocab,
            gpu,
        }
    }

    /// Eight rows of the same logits, one for each slot, drawn with the given number of draws behind them.
    fn eight(&mut self, logits: &[f32], draws: u32) -> Vec<ocelli::Result<TokenRecord>> {
        assert_eq!(logits.len(), self.vocab);
        for slot in 0..8u32 {
            let row = RowInfo { slot, draws, position: [5, 9, 7], index: 40, ..RowInfo::default() };
            self.gpu.write(&self.rows, u64::from(slot) * 32, bytemuck::bytes_of(&row));
            self.gpu.write(
                &self.logits,
                u64::from(slot) * self.vocab as u64 * 4,
                bytemuck::cast_slice(logits),
            );
        }
        self.sampler.sample(&mut self.recorder, &self.rows, 0, &self.logits, 8).unwrap();
        self.recorder.finish().unwrap();
        let bytes = self.gpu.read_bytes(self.sampler.records(), 0, Sampler::records_bytes()).unwrap();
        (0..8).map(|b| Sampler::parse(&bytes, b)).collect()
    }

    fn set_all(&self, sampling: &Sampling, prompt: &[u32], generated: &[u32]) {
        for slot in 0..8 {
            let own = Sampling { seed: sampling.seed + slot as u64, ..*sampling };
            self.sampler.begin(slot, &own, prompt, generated);
        }
    }
}

fn random(n: usize, spread: f32) -> Vec<f32> {
    let mut runner = TestRunner::default();
    proptest::collection::vec(-spread..spread, n).new_tree(&mut runner).unwrap().current()
}

/// Ids by value, ties by id.
fn order(values: &[f64]) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..values.len()).collect();
    ids.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    ids
}

/// Probability of each token by the definition, in f64.
fn distribution(logits: &[f32], s: &Sampling, prompt: &[u32], generated: &[u32]) -> Vec<f64> {
    let mut v: Vec<f64> = logits.iter().map(|&l| f64::from(l)).collect();
    for (id, v) in v.iter_mut().enumerate() {
        let id = id as u32;
        if prompt.contains(&id) || generated.contains(&id) {
            let r = f64::from(s.repetition_penalty);
            *v = if *v > 0.0 { *v / r } else { *v * r };
        }
        if generated.contains(&id) {
            *v -= f64::from(s.presence_penalty);
        }
        *v /= f64::from(s.temperature);
    }
    let order = order(&v);
    let top = v[order[0]];
    let mut kept = vec![0.0; v.len()];
    let k = if s.top_k == 0 { v.len() } else { s.top_k as usize };
    let total: f64 = order.iter().take(k).map(|&i| (v[i] - top).exp()).sum();
    let mut mass = 0.0;
    for &i in order.iter().take(k) {
        let e = (v[i] - top).exp();
        if mass > 0.0 && (mass >= f64::from(s.top_p) * total || e < f64::from(s.min_p)) {
            break;
        }
        kept[i] = e;
        mass += e;
    }
    kept.iter().map(|e| e / mass).collect()
}

#[test]
fn the_record_holds_log_probability_rank_entropy_and_the_twenty_most_likely() {
    for vocab in [37, 1000, 20_011] {
        let mut bench = Bench::new(vocab);
        bench.set_all(&Sampling::GREEDY, &[], &[]);
        let logits = random(vocab, 9.0);
        let exact: Vec<f64> = logits.iter().map(|&v| f64::from(v)).collect();
        let order = order(&exact);
        let log_mass = exact.iter().map(|v| (v - exact[order[0]]).exp()).sum::<f64>().ln() + exact[order[0]];
        let entropy: f64 = exact.iter().map(|v| (log_mass - v) * (v - log_mass).exp()).sum();
        for record in bench.eight(&logits, 3) {
            let record = record.unwrap();
            assert_eq!(record.id as usize, order[0]);
            assert_eq!((record.rank, record.index), (0, 40));
            assert!((f64::from(record.logprob) - (exact[order[0]] - log_mass)).abs() < 1e-4);
            assert!((f64::from(record.entropy) - entropy).abs() < 1e-3, "{} for {entropy}", record.entropy);
            assert_eq!(record.alternatives.len(), 20);
            for (&(id, logprob), &want) in record.alternatives.iter().zip(&order) {
                assert_eq!(id as usize, want);
                assert!((f64::from(logprob) - (exact[want] - log_mass)).abs() < 1e-4);
            }
        }
        // A rank that is not 0: a token far down, made certain by a penalty on all before it.
        let before: Vec<u32> = order[..9].iter().map(|&i| i as u32).collect();
        bench.set_all(&Sampling { presence_penalty: 50.0, ..Sampling::GREEDY }, &[], &before);
        for record in bench.eight(&logits, 3) {
            let record = record.unwrap();
            assert_eq!((record.id as usize, record.rank), (order[9], 9));
        }
    }
}

#[test]
fn equal_logits_go_to_the_lowest_id_however_many_there_are() {
    let vocab = 5000;
    let mut bench = Bench::new(vocab);
    bench.set_all(&Sampling::GREEDY, &[], &[]);
    let mut logits = vec![-1.5f32; vocab];
    logits[4000] = 2.0;
    logits[700] = 2.0;
    for record in bench.eight(&logits, 0) {
        let record = record.unwrap();
        let ids: Vec<u32> = record.alternatives.iter().map(|a| a.0).collect();
        assert_eq!(record.id, 700);
        assert_eq!(ids[..2], [700, 4000]);
        assert_eq!(ids[2..], (0..18).collect::<Vec<u32>>());
    }
}

#[test]
fn a_nan_among_the_logits_is_an_error_and_no_token() {
    let mut bench = Bench::new(300);
    bench.set_all(&Sampling::GREEDY, &[], &[]);
    let mut logits = random(300, 3.0);
    logits[123] = f32::NAN;
    for record in bench.eight(&logits, 0) {
        assert!(record.unwrap_err().to_string().contains("NaN"));
    }
}

/// Draws many tokens; every one must be possible, and the frequencies those of the definition (a chi-square
/// of more than five deviations would come about once in a million runs).
fn check_draws(sampling: Sampling, prompt: &[u32], generated: &[u32]) {
    let vocab = 600;
    let mut bench = Bench::new(vocab);
    let mut logits = random(vocab, 2.0);
    // A few clear favourites, so that small sets are kept too.
    for (i, v) in [7.0, 6.5, 6.0, 6.2, 5.0, 4.5].into_iter().enumerate() {
        logits[i * 83 + 5] = v;
    }
    let want = distribution(&logits, &sampling, prompt, generated);
    let mut counts: BTreeMap<usize, u32> = BTreeMap::new();
    let rounds = 300;
    for round in 0..rounds {
        // Penalties count what is drawn: the counts are set anew each time.
        bench.set_all(&Sampling { seed: 1000 + 8 * round, ..sampling }, prompt, generated);
        for record in bench.eight(&logits, round as u32) {
            *counts.entry(record.unwrap().id as usize).or_default() += 1;
        }
    }
    let n = f64::from(8 * rounds as u32);
    let possible = |i: usize| want[i] > 0.0;
    assert!(counts.keys().all(|&i| possible(i)), "{sampling:?}: {counts:?}");
    // Tokens expected fewer than five times are counted together.
    let (mut chi, mut bins, mut rest_want, mut rest_got) = (0.0, 0.0, 0.0, 0.0);
    for (i, &p) in want.iter().enumerate() {
        let (expected, got) = (p * n, f64::from(counts.get(&i).copied().unwrap_or(0)));
        if expected >= 5.0 {
            chi += (got - expected).powi(2) / expected;
            bins += 1.0;
        } else {
            rest_want += expected;
            rest_got += got;
        }
    }
    if rest_want >= 5.0 {
        chi += (rest_got - rest_want).powi(2) / rest_want;
        bins += 1.0;
    }
    let deviations = (chi - (bins - 1.0)) / (2.0 * f64::max(bins - 1.0, 1.0)).sqrt();
    assert!(bins >= 2.0, "{sampling:?} keeps too little to test");
    assert!(deviations < 5.0, "{sampling:?}: chi-square {chi:.1} over {bins} bins");
}

#[test]
fn draws_have_the_frequencies_of_temperature_top_k_top_p_min_p_and_penalties() {
    let base = Sampling { temperature: 1.0, ..Sampling::GREEDY };
    check_draws(base, &[], &[]);
    check_draws(Sampling { temperature: 0.6, top_p: 0.9, ..base }, &[], &[]);
    check_draws(Sampling { temperature: 1.3, top_k: 5, ..base }, &[], &[]);
    check_draws(Sampling { temperature: 0.7, top_p: 0.8, top_k: 20, ..base }, &[], &[]);
    check_draws(Sampling { top_k: 100, top_p: 0.95, ..base }, &[], &[]);
    check_draws(Sampling { min_p: 0.2, ..base }, &[], &[]);
    check_draws(Sampling { min_p: 0.1, top_k: 30, ..base }, &[], &[]);
    let (prompt, generated) = ([5, 88, 90], [171, 5]);
    check_draws(
        Sampling { presence_penalty: 1.5, repetition_penalty: 1.2, top_k: 20, ..base },
        &prompt,
        &generated,
    );
    check_draws(Sampling { presence_penalty: 0.5, repetition_penalty: 1.1, ..base }, &prompt, &generated);
}

#[test]
fn a_draw_depends_on_seed_and_number_and_on_nothing_else() {
    let mut bench = Bench::new(400);
    let logits = random(400, 1.0);
    let sampling = Sampling { temperature: 1.0, seed: 77, ..Sampling::GREEDY };
    for slot in 0..8 {
        bench.sampler.begin(slot, &sampling, &[], &[]);
    }
    let ids = |records: Vec<ocelli::Result<TokenRecord>>| {
        records.into_iter().map(|r| r.unwrap().id).collect::<Vec<_>>()
    };
    let first = ids(bench.eight(&logits, 11));
    assert!(first.iter().all(|&id| id == first[0]), "the slot does not matter");
    assert_eq!(ids(bench.eight(&logits, 11)), first);
    let others: Vec<u32> = (12..40).map(|draws| ids(bench.eight(&logits, draws))[0]).collect();
    assert!(others.iter().any(|&id| id != first[0]), "the next draw is another");
}

/// At the real vocabulary's size every invocation runs its longest loops; Mesa 22 would go wrong past 65,535
/// iterations without a word.
#[test]
fn thresholds_are_right_over_the_real_vocabulary() {
    let vocab = 151_936;
    let mut bench = Bench::new(vocab);
    let mut logits = random(vocab, 2.0);
    for (i, v) in [16.0, 15.5, 15.0, 14.8, 14.0, 13.0].into_iter().enumerate() {
        logits[i * 25_000 + 11] = v;
    }
    for sampling in [
        Sampling { temperature: 1.0, top_p: 0.8, top_k: 100, seed: 3, ..Sampling::GREEDY },
        Sampling { temperature: 0.9, top_p: 0.95, presence_penalty: 1.0, seed: 4, ..Sampling::GREEDY },
        Sampling { temperature: 0.7, top_p: 0.8, top_k: 20, seed: 5, ..Sampling::GREEDY },
    ] {
        let generated = [11, 25_011];
        let want = distribution(&logits, &sampling, &[], &generated);
        let kept = want.iter().filter(|&&p| p > 0.0).count();
        assert!((2..7).contains(&kept), "{kept} kept");
        let mut seen = std::collections::BTreeSet::new();
        for draw in 0..4 {
            bench.set_all(&sampling, &[], &generated);
            for record in bench.eight(&logits, draw) {
                let id = record.unwrap().id as usize;
                assert!(want[id] > 0.0, "{sampling:?}: {id}");
                seen.insert(id);
            }
        }
        assert!(seen.len() > 1, "{sampling:?} always draws {seen:?}");
    }
}
