//! GGUF files that are damaged, or of another model: each is refused in one line that says what is wrong.

use std::path::Path;

use ocelli::model::convert::How;
use ocelli::model::gguf::check_header;
use ocelli::model::gguf::find::{Places, Trouble, find};
use ocelli::model::recipe::Recipe;
use proptest::prelude::*;

use super::file::File;
use super::{converted_to, pair};

/// What is said of a text file with these bytes, beside a good vision file.
fn said(bytes: &[u8], how: How) -> String {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("x.gguf");
    std::fs::write(&path, bytes).unwrap();
    std::fs::copy(pair("mono-Q8_0").1, temporary.path().join("mmproj.gguf")).unwrap();
    let error = converted_to(&path, &temporary.path().join("out"), how).expect_err("refused").to_string();
    assert!(!error.contains('\n') && error.contains(".gguf"), "{error}");
    error
}

#[test]
fn a_damaged_header_is_refused_in_one_line() {
    let good = File::read(&pair("mono-Q8_0").0).bytes();
    assert!(check_header(&good).is_ok());
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let huge = u64::MAX.to_le_bytes();
    for (what, bytes, words) in [
        ("version 1", with(4, &1_u32.to_le_bytes()), "version is 1"),
        ("version 9", with(4, &9_u32.to_le_bytes()), "version is 9"),
        ("big endian", with(4, &3_u32.to_be_bytes()), "big-endian"),
        ("tensors without end", with(8, &huge), "claims 18446744073709551615 tensors"),
        ("keys without end", with(16, &huge), "claims 18446744073709551615 metadata entries"),
        ("more keys", with(16, &60_000_u64.to_le_bytes()), "cannot be right"),
        ("a long key", with(24, &huge), "a text of 18446744073709551615 bytes"),
        ("an odd type", with(24 + 8 + 20, &77_u32.to_le_bytes()), "no metadata type 77"),
        ("an empty rest", good[..24].to_vec(), "truncated"),
        ("half", good[..good.len() / 2].to_vec(), "truncated"),
        ("data cut off", good[..good.len() - 2000].to_vec(), "truncated"),
    ] {
        let error = said(&bytes, Recipe::Int8Hu.into());
        assert!(error.contains(words), "{what}: {error}");
    }
}

#[test]
fn a_file_that_contradicts_itself_or_is_of_another_model_is_refused_in_one_line() {
    type Change = fn(&mut File);
    let changes: [(Change, &str); 27] = [
        (|f| f.set_text("general.architecture", "llama"), "architecture llama"),
        (|f| f.set_text("general.architecture", "qwen3vlmoe"), "mixture-of-experts"),
        (|f| f.keys.retain(|k| k.name != "general.architecture"), "general.architecture is missing"),
        (|f| f.keys.push(f.keys[0].clone()), "is there twice"),
        (|f| f.set_number("general.alignment", 24), "general.alignment"),
        (|f| f.set_number("qwen3vl.block_count", 3), "blk.2.attn_norm.weight"),
        (|f| f.set_number("qwen3vl.block_count", 1), "block_count ends before it"),
        (|f| f.set_number("qwen3vl.block_count", 0), "num_hidden_layers"),
        (|f| f.set_number("qwen3vl.block_count", u32::MAX), "num_hidden_layers"),
        (|f| f.set_number("qwen3vl.embedding_length", 128), "vision file is missing"),
        (|f| f.set_number("qwen3vl.attention.head_count", 0), "num_attention_heads"),
        (|f| f.set_number("qwen3vl.attention.head_count_kv", 3), "num_key_value_heads"),
        (
            |f| f.set_text("qwen3vl.attention.head_count", "four"),
            "attention.head_count is missing, or no number",
        ),
        (|f| f.set_number("qwen3vl.n_deepstack_layers", 2), "DeepStack levels"),
        (|f| f.set_text("qwen3vl.rope.scaling.type", "yarn"), "yarn"),
        (|f| f.set_text("tokenizer.ggml.model", "llama"), "tokenizer.ggml.model is llama"),
        (|f| f.set_text("tokenizer.ggml.pre", "gpt-2"), "tokenizer.ggml.pre is gpt-2"),
        (|f| f.set_text("tokenizer.ggml.tokens", "x"), "tokenizer.ggml.tokens is missing"),
        (|f| f.keys.retain(|k| k.name != "tokenizer.ggml.merges"), "tokenizer.ggml.merges is missing"),
        (|f| f.set_number("tokenizer.ggml.eos_token_id", 99_999), "outside the vocabulary"),
        (
            |f| {
                f.set(
                    "tokenizer.ggml.token_type",
                    9,
                    [5_u64.to_le_bytes()[..4].to_vec(), vec![0; 8]].concat(),
                );
            },
            "token types",
        ),
        (|f| f.tensors.retain(|t| t.name != "blk.1.attn_k.weight"), "blk.1.attn_k.weight"),
        (|f| f.tensors.retain(|t| t.name != "token_embd.weight"), "token_embd.weight is missing"),
        (|f| f.tensor("blk.1.attn_k.weight").sizes = vec![128, 64], "its shape is [64, 128]"),
        (|f| f.tensor("blk.1.attn_k.weight").sizes = vec![8, 8 * 128], "not whole Q8_0 blocks"),
        (|f| f.tensor("blk.1.attn_k.weight").sizes = vec![1 << 40, 1 << 40], "too large"),
        (|f| f.tensor("output_norm.weight").name = "token_embd.weight".into(), "there twice"),
    ];
    for (change, words) in changes {
        let mut file = File::read(&pair("mono-Q8_0").0);
        change(&mut file);
        let error = said(&file.bytes(), Recipe::Int8Hu.into());
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn a_format_that_is_not_read_is_named_with_what_to_download_instead() {
    let mut file = super::file::k_quants();
    let tensor = file.tensor("blk.0.ffn_up.weight");
    (tensor.kind, tensor.data) = (23, vec![0; 512 * 136]);
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("x.gguf");
    file.write(&path);
    let how = How { recipe: Recipe::Int8Hu, text_only: true };
    let error = converted_to(&path, &temporary.path().join("out"), how).unwrap_err().to_string();
    assert!(error.contains("blk.0.ffn_up.weight") && error.contains("IQ4_XS is not read"), "{error}");
    assert!(error.contains("download the Q8_0 file"), "{error}");
}

#[test]
fn weights_that_are_no_numbers_are_refused_by_name() {
    for (name, at, value, words) in [
        ("blk.0.attn_v.weight", 0, vec![0, 0x7e], "has the scale NaN"),
        ("blk.0.attn_v.weight", 34, vec![0, 0x80], "has the scale -0"),
        ("blk.1.ffn_norm.weight", 4, vec![0, 0, 0x80, 0x7f], "is not a finite number"),
    ] {
        let mut file = File::read(&pair("mono-Q8_0").0);
        file.tensor(name).data[at..at + value.len()].copy_from_slice(&value);
        let error = said(&file.bytes(), Recipe::Int8Hu.into());
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_vision_file_with_less_in_it_is_refused() {
    type Change = fn(&mut File);
    let changes: [(Change, &str); 4] = [
        (|f| f.tensors.retain(|t| t.name != "v.patch_embd.weight.1"), "v.patch_embd.weight.1"),
        (|f| f.tensors.retain(|t| t.name != "v.deepstack.0.fc1.weight"), "v.deepstack.0.fc1.weight"),
        (|f| f.set_number("clip.vision.block_count", 1), "block_count ends before it"),
        (|f| f.keys.retain(|k| k.name != "clip.vision.is_deepstack_layers"), "is_deepstack_layers"),
    ];
    for (change, words) in changes {
        let temporary = tempfile::tempdir().unwrap();
        let (text, vision) = pair("mono-Q8_0");
        std::fs::copy(&text, temporary.path().join("x.gguf")).unwrap();
        let mut file = File::read(&vision);
        change(&mut file);
        file.write(&temporary.path().join("mmproj-x.gguf"));
        let source: &Path = temporary.path();
        let error = converted_to(source, &source.join("out"), Recipe::Int8Hu).expect_err(words).to_string();
        assert!(error.contains(words) && error.contains("mmproj-x.gguf") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_text_file_alone_that_claims_more_levels_of_features_than_layers_is_refused() {
    let texts = How { recipe: Recipe::Int8Hu, text_only: true };
    for (kind, value) in [
        (4, u32::MAX.to_le_bytes().to_vec()),
        (10, u64::MAX.to_le_bytes().to_vec()),
        (4, 3_u32.to_le_bytes().to_vec()),
    ] {
        let mut file = File::read(&pair("mono-Q8_0").0);
        file.set("qwen3vl.n_deepstack_layers", kind, value);
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("x.gguf");
        file.write(&path);
        let error = converted_to(&path, &temporary.path().join("out"), texts).unwrap_err().to_string();
        assert!(error.contains("n_deepstack_layers is") && error.contains("2 layers"), "{error}");
    }
}

#[test]
fn tensors_of_any_size_in_a_format_that_is_not_read_are_counted_without_an_overflow() {
    let mut file = File::read(&pair("mono-Q8_0").0);
    for name in ["huge", "vast"] {
        let sizes = vec![1 << 40, 1 << 23];
        file.tensors.push(super::file::Tensor { name: name.into(), sizes, kind: 23, data: Vec::new() });
    }
    let temporary = tempfile::tempdir().unwrap();
    file.write(&temporary.path().join("x.gguf"));
    let found = find(&Places { folders: vec![temporary.path().to_owned()], ollama: Vec::new() });
    assert_eq!(found[0].quantisation, "IQ4_XS, Q8_0");
    assert_eq!(found[0].trouble, Some(Trouble::Format("IQ4_XS")));
}

#[test]
fn a_list_longer_than_any_vocabulary_is_refused_before_it_takes_memory() {
    let count = (1_u64 << 22) + 1;
    let list = |kind: u32, bytes_each: usize| {
        let mut value = kind.to_le_bytes().to_vec();
        value.extend(count.to_le_bytes());
        value.resize(value.len() + count as usize * bytes_each, 0);
        value
    };
    for (key, kind, bytes_each, words) in [
        ("tokenizer.ggml.tokens", 8, 8, "tokenizer.ggml.tokens has 4194305 elements"),
        ("tokenizer.ggml.merges", 8, 8, "tokenizer.ggml.merges has 4194305 elements"),
        ("tokenizer.ggml.token_type", 0, 1, "tokenizer.ggml.token_type has 4194305 elements"),
    ] {
        let mut file = File::read(&pair("mono-Q8_0").0);
        file.set(key, 9, list(kind, bytes_each));
        let error = said(&file.bytes(), Recipe::Int8Hu.into());
        assert!(error.contains(words), "{error}");
    }
    // Any other list of numbers is as if it were not there.
    let mut file = File::read(&pair("mono-Q8_0").0);
    file.set("qwen3vl.rope.dimension_sections", 9, list(0, 1));
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("x.gguf");
    file.write(&path);
    let how = How { recipe: Recipe::Int8Hu, text_only: true };
    let out = temporary.path().join("out");
    match converted_to(&path, &out, how) {
        Ok(report) => {
            assert!(report.notes.join(" ").contains("no rope.dimension_sections"), "{:?}", report.notes);
        }
        Err(error) => assert!(error.to_string().contains("mrope_section"), "{error}"),
    }
}

#[test]
fn parts_of_a_split_file_share_no_tensor_and_have_together_no_more_than_one_file_may() {
    let temporary = tempfile::tempdir().unwrap();
    let part = |n: usize| temporary.path().join(format!("x-{n:05}-of-00002.gguf"));
    let error = || {
        let out = temporary.path().join("out");
        converted_to(&part(1), &out, How { recipe: Recipe::Int8Hu, text_only: true }).unwrap_err().to_string()
    };
    let mut first = File::read(&pair("mono-Q8_0").0);
    first.set_number("split.count", 2);
    let mut second = first.clone();
    second.tensors.drain(1..);
    first.write(&part(1));
    second.write(&part(2));
    assert!(error().contains("is in another part too"), "{}", error());
    for (file, n) in [(&mut first, 1), (&mut second, 2)] {
        let empty = |i: u32| super::file::Tensor {
            name: format!("more.{n}.{i}"),
            sizes: vec![0],
            kind: 0,
            data: Vec::new(),
        };
        file.tensors.retain(|_| n == 1);
        file.tensors.extend((0..40_000).map(empty));
        file.write(&part(n));
    }
    let error = error();
    assert!(error.contains("x-00002-of-00002.gguf") && error.contains("cannot be right"), "{error}");
}

/// Changes to try: a few hundred in every run of the tests, OCELLI_TEST_CASES for more.
fn cases() -> ProptestConfig {
    let asked = std::env::var("OCELLI_TEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig::with_cases(asked.unwrap_or(400))
}

proptest! {
    #![proptest_config(cases())]
    /// The header without its data, so that what is changed is what is read.
    #[test]
    fn a_changed_header_is_read_or_refused_and_never_more(
        changes in prop::collection::vec((0_usize..6000, any::<u8>()), 1..6),
        cut in prop::option::of(0_usize..6000),
        words in prop::collection::vec((0_usize..6000, prop::sample::select(vec![0_u64, 1, 255, 1 << 31, 1 << 40, u64::MAX])), 0..3),
    ) {
        static GOOD: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut bytes = GOOD.get_or_init(|| {
            let mut file = File::read(&pair("mono-Q8_0").0);
            file.keys.retain(|key| key.value.len() < 2000);
            file.bytes()
        }).clone();
        for (at, value) in changes {
            bytes[at] = value;
        }
        for (at, word) in words {
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        if let Some(cut) = cut {
            bytes.truncate(cut);
        }
        if let Err(error) = check_header(&bytes) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn any_bytes_behind_the_magic_are_read_or_refused(rest in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = [b"GGUF\x03\0\0\0".as_slice(), &rest].concat();
        if let Err(error) = check_header(&bytes) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}
