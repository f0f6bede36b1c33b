//! `config.json`, `generation_config.json` and the preprocessors' files.

use ocelli::model::config::{GenerationDefaults, ModelConfig};
use ocelli::model::loaded::LoadOptions;
use ocelli::model::memory::MemoryPlan;
use ocelli::model::preprocessor::{Preprocessors, TokenRange};
use ocelli::model::recipe::{Recipe, stored_tensors};
use serde_json::Value;

use super::{Folder, choice, merged, read};

const CONFIG: &[u8] = include_bytes!("../../tests/oracle/fixtures/mono/model/config.json");
const PREPROCESSOR: &[u8] = include_bytes!("../../tests/oracle/fixtures/mono/model/preprocessor_config.json");
const VIDEO: &[u8] = include_bytes!("../../tests/oracle/fixtures/mono/model/video_preprocessor_config.json");
/// The largest table of tensors that is worth making, in rows of layers.
const MOST_LAYERS: usize = 64;

/// The first byte chooses the file, and whether the rest is all of it or laid over a sound one.
pub fn run(data: &[u8]) {
    let Some((door, rest)) = choice(data, 7) else { return };
    match door {
        0 => drop(read(GenerationDefaults::from_json(rest))),
        1 => configuration(rest),
        2 => over(CONFIG, rest, configuration),
        3 => preprocessors(&[("preprocessor_config.json", rest)]),
        4 => over(PREPROCESSOR, rest, |bytes| preprocessors(&[("preprocessor_config.json", bytes)])),
        5 => preprocessors(&[("processor_config.json", rest)]),
        _ => over(VIDEO, rest, |bytes| {
            preprocessors(&[
                ("preprocessor_config.json", PREPROCESSOR),
                ("video_preprocessor_config.json", bytes),
            ]);
        }),
    }
}

fn over(sound: &[u8], patch: &[u8], then: impl FnOnce(&[u8])) {
    let Ok(patch) = serde_json::from_slice(patch) else { return };
    let mut whole: Value = serde_json::from_slice(sound).expect("sound");
    merged(&mut whole, patch);
    then(whole.to_string().as_bytes());
}

fn configuration(bytes: &[u8]) {
    let Some(config) = read(ModelConfig::from_json(bytes)) else { return };
    if config.text.num_layers > MOST_LAYERS || config.vision.depth > MOST_LAYERS {
        return;
    }
    for recipe in Recipe::ALL {
        for tensor in read(stored_tensors(&config, recipe)).unwrap_or_default() {
            assert!(tensor.bytes() > 0);
        }
        if let Some(plan) = read(MemoryPlan::of_config(&config, recipe, &LoadOptions::default())) {
            assert!(plan.peak_bytes() >= plan.loaded_bytes());
        }
    }
}

fn preprocessors(files: &[(&str, &[u8])]) {
    let folder = Folder::new();
    for (name, bytes) in files {
        folder.put(name, bytes);
    }
    let Some(both) = read(Preprocessors::from_folder(folder.path())) else { return };
    let sizes = [1, 2, 17, 448, 4096, u32::MAX];
    for (height, width) in sizes.iter().flat_map(|h| sizes.map(|w| (*h, w))) {
        read(both.image.image_size(height, width));
        if let Ok(video) = both.video() {
            read(video.pixels.video_size(5, height, width));
        }
    }
    read(both.image.with_tokens(TokenRange { min_tokens: 1, max_tokens: u32::MAX }, 2));
}
