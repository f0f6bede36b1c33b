//! Files that may be anything: an error at most, never a panic.

use std::fs;

use ocelli::model::checkpoint::TensorFiles;
use ocelli::model::config::{GenerationDefaults, ModelConfig};
use ocelli::model::recipe::{Recipe, stored_tensors};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use super::sandbox::Sandbox;

/// A tiny valid safetensors file to be damaged at random.
fn small_file() -> Vec<u8> {
    let data = [7_u8; 24];
    let views = [
        ("a", TensorView::new(Dtype::BF16, vec![2, 3], &data[..12]).expect("fits")),
        ("b", TensorView::new(Dtype::F32, vec![3], &data[..12]).expect("fits")),
    ];
    safetensors::serialize(views, None).expect("serialised")
}

/// Reads everything in a file that may be anything.
fn read_all(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("temporary folder");
    fs::write(folder.path().join("f"), bytes).expect("writable");
    match TensorFiles::open(folder.path(), &["f".to_owned()]) {
        Err(error) => assert!(!error.to_string().contains('\n')),
        Ok(files) => {
            let mut values = Vec::new();
            for name in files.names() {
                let rows = files.shape(name).and_then(|shape| shape.first().copied()).unwrap_or(1);
                if files.read_f32(name, 0..rows, &mut values).is_ok() {
                    assert_eq!(values.len(), files.shape(name).map_or(0, |shape| shape.iter().product()));
                }
                assert!(
                    files.read_f32(name, 0..usize::MAX, &mut values).is_err()
                        || rows == 0
                        || values.is_empty()
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_never_more_than_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_all(&bytes);
        let _ = ModelConfig::from_json(&bytes);
        let _ = GenerationDefaults::from_json(&bytes);
    }

    #[test]
    fn a_header_with_changed_bytes_is_never_more_than_an_error(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = small_file();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read_all(&bytes);
    }

    #[test]
    fn a_header_with_random_numbers_is_never_more_than_an_error(
        shape in prop::collection::vec(prop_oneof![0_u64..9, any::<u64>()], 0..5),
        offsets in (prop_oneof![0_u64..99, any::<u64>()], prop_oneof![0_u64..99, any::<u64>()]),
        dtype in prop::sample::select(vec!["BF16", "F32", "F4", "I8", "F6_E2M3", "BOOL", "X", ""]),
        length in prop::option::of(any::<u64>()),
    ) {
        let header = json!({"w": {"dtype": dtype, "shape": shape, "data_offsets": [offsets.0, offsets.1]}}).to_string();
        let mut bytes = length.unwrap_or(header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&[1; 64]);
        read_all(&bytes);
    }

    #[test]
    fn a_configuration_with_changed_bytes_is_never_more_than_an_error(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = TINY_CONFIG.with(Clone::clone);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        check_any_config(&bytes);
    }

    #[test]
    fn a_configuration_with_random_numbers_is_never_more_than_an_error(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![0_u64..300, any::<u64>()]), 1..4),
    ) {
        let mut config: Value = serde_json::from_slice(&TINY_CONFIG.with(Clone::clone)).expect("JSON");
        for (at, value) in changes {
            let section = if value % 2 == 0 { "text_config" } else { "vision_config" };
            let map = config[section].as_object_mut().expect("an object");
            let key = map.keys().nth(at.index(map.len())).expect("there").clone();
            map.insert(key, value.into());
        }
        check_any_config(config.to_string().as_bytes());
    }
}

thread_local! {
    static TINY_CONFIG: Vec<u8> = fs::read(Sandbox::new().hub().join("config.json")).expect("readable");
}

/// Whatever is accepted must be small enough to reckon with.
fn check_any_config(bytes: &[u8]) {
    match ModelConfig::from_json(bytes) {
        Err(error) => assert!(!error.to_string().contains('\n')),
        Ok(config) => {
            for recipe in Recipe::ALL {
                if let Ok(plan) = stored_tensors(&config, recipe) {
                    assert!(plan.iter().all(|tensor| tensor.bytes() > 0));
                }
            }
        }
    }
}
