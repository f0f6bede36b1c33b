//! Any bytes as `config.json` and `generation_config.json`: an error at most, and no size that overflows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli::model::config::{GenerationDefaults, ModelConfig};
use ocelli::model::recipe::{Recipe, stored_tensors};

fuzz_target!(|bytes: &[u8]| {
    drop(GenerationDefaults::from_json(bytes));
    match ModelConfig::from_json(bytes) {
        Err(error) => assert!(!error.to_string().contains('\n')),
        Ok(config) => {
            for recipe in Recipe::ALL {
                for tensor in stored_tensors(&config, recipe).unwrap_or_default() {
                    assert!(tensor.bytes() > 0);
                }
            }
        }
    }
});
