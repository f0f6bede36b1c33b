//! The steps that the oracle laid open (`tests/oracle/inside.py`), and how far ours are from them.

use ocelli::engine::Inside;
use ocelli::model::recipe::Recipe;

use crate::support::*;

/// The steps that the oracle looked into in one case.
pub struct Looked {
    pub case: Case,
    bytes: Vec<u8>,
}

impl Looked {
    pub fn read(checkpoint: &str, name: &str) -> Self {
        let path = fixtures().join(checkpoint).join("inside").join(format!("{name}.safetensors"));
        Self { case: Case::read(checkpoint, name), bytes: std::fs::read(path).unwrap() }
    }

    pub fn all() -> Vec<(&'static str, Self)> {
        let cases = [
            ("mono", "wide"),
            ("mono", "long_text"),
            ("ladder", "wide"),
            ("plain", "mixed"),
            ("deep", "two_pictures"),
        ];
        cases.into_iter().map(|(checkpoint, name)| (checkpoint, Self::read(checkpoint, name))).collect()
    }

    /// The tokens looked into with a recipe's weights.
    pub fn tokens(&self, recipe: Recipe) -> Vec<usize> {
        let all = safetensors::SafeTensors::deserialize(&self.bytes).unwrap();
        let mut tokens: Vec<usize> = all
            .names()
            .into_iter()
            .filter_map(|name| {
                name.strip_prefix(recipe.name())?.strip_prefix('.')?.strip_suffix(".attention")?.parse().ok()
            })
            .collect();
        tokens.sort_unstable();
        tokens
    }

    pub fn floats(&self, recipe: Recipe, token: usize, what: &str) -> Vec<f32> {
        let all = safetensors::SafeTensors::deserialize(&self.bytes).unwrap();
        let t = all.tensor(&format!("{}.{token}.{what}", recipe.name())).unwrap();
        assert_eq!(t.dtype(), safetensors::Dtype::F32);
        t.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    pub fn whole(&self, recipe: Recipe, token: usize, what: &str) -> Vec<u32> {
        let all = safetensors::SafeTensors::deserialize(&self.bytes).unwrap();
        let t = all.tensor(&format!("{}.{token}.{what}", recipe.name())).unwrap();
        assert_eq!(t.dtype(), safetensors::Dtype::I64);
        t.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect()
    }
}

/// The largest errors against the oracle.
#[derive(Clone, Copy, Debug, Default)]
pub struct Errors {
    /// Of a probability.
    pub attention: f64,
    /// Of a log-probability, or of an entropy.
    pub lens: f64,
}

impl std::fmt::Display for Errors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "attention {:.1e}, lens {:.1e}", self.attention, self.lens)
    }
}

impl Errors {
    pub fn worst(self, other: Self) -> Self {
        Self { attention: self.attention.max(other.attention), lens: self.lens.max(other.lens) }
    }

    pub fn within(self, attention: f64, lens: f64) -> bool {
        self.attention <= attention && self.lens <= lens
    }
}

/// Compares all there is, and asserts what must hold however near it is.
pub fn errors(inside: &Inside, looked: &Looked, recipe: Recipe, token: usize) -> Errors {
    let name = format!("{} {recipe} token {token}", looked.case.name);
    let answer = looked.case.greedy(Recipe::F32);
    let all_ids = [looked.case.ids(), answer[..token].to_vec()].concat();
    assert_eq!(inside.tokens.iter().map(|(id, _)| *id).collect::<Vec<_>>(), all_ids, "{name}");
    assert_eq!((inside.token, inside.chosen.0), (token, answer[token]), "{name}");
    assert_eq!(inside.prompt_tokens, looked.case.ids().len(), "{name}");
    let length = inside.length();
    assert_eq!(inside.attention.len(), inside.layers * inside.heads * length, "{name}");
    for row in inside.attention.chunks_exact(length) {
        let sum: f64 = row.iter().map(|&w| f64::from(w)).sum();
        assert!((sum - 1.0).abs() < 1e-5 && row.iter().all(|w| *w >= 0.0), "{name}: a row's sum is {sum}");
    }
    let floats = |what| looked.floats(recipe, token, what);
    let attention = distance(&inside.attention, &floats("attention")).max;
    assert_eq!(inside.lens.len(), inside.layers, "{name}");
    let per_layer: Vec<f32> = inside.lens.iter().flat_map(|l| [l.entropy, l.chosen_logprob]).collect();
    let want: Vec<f32> =
        floats("entropy").iter().zip(floats("chosen_logprob")).flat_map(|(&e, p)| [e, p]).collect();
    let top: Vec<f32> = inside.lens.iter().flat_map(|l| l.top.iter().map(|t| t.logprob)).collect();
    let lens = distance(&per_layer, &want).max.max(distance(&top, &floats("top_logprobs")).max);
    Errors { attention, lens }
}

/// The ids that the lens names and the chosen token's rank, wherever the oracle's own distances say that they are certain.
pub fn check_ids(inside: &Inside, looked: &Looked, recipe: Recipe, token: usize, margin: f32) {
    let logprobs = looked.floats(recipe, token, "top_logprobs");
    let (top, ranks) = (looked.whole(recipe, token, "top_ids"), looked.whole(recipe, token, "chosen_rank"));
    let mut certain = 0;
    for (layer, lens) in inside.lens.iter().enumerate() {
        let (logprobs, top) = (&logprobs[layer * 10..][..10], &top[layer * 10..][..10]);
        for i in 0..9 {
            let alone =
                logprobs[i] - logprobs[i + 1] > margin && (i == 0 || logprobs[i - 1] - logprobs[i] > margin);
            if alone {
                certain += 1;
                assert_eq!(lens.top[i].id, top[i], "{} token {token} layer {layer}", looked.case.name);
            }
            if alone && top[i] == inside.chosen.0 {
                assert_eq!((lens.chosen_rank, ranks[layer]), (i as u32, i as u32));
            }
        }
        // Farther down, neighbours are near each other.
        assert!(lens.chosen_rank.abs_diff(ranks[layer]) <= 1 + ranks[layer] / 20, "layer {layer}");
    }
    assert!(certain >= 2 * inside.layers, "{}: only {certain} ids are certain", looked.case.name);
}
