//! Shared by the tests that run the model: the device, oracle fixtures and comparisons.
#![allow(dead_code, clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod loopback;
pub mod small_disk;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock};

use ocelli::gpu::{Gpu, GpuOptions, Tuning};
use ocelli::model::converted::ConvertedModel;
use ocelli::model::kv_cache::KvFormat;
use ocelli::model::loaded::{LoadOptions, LoadedModel};
use ocelli::model::recipe::Recipe;
use serde_json::Value;

/// Numbers that look like chance and are the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }
}

/// The oracle's checkpoints.
pub const CHECKPOINTS: [&str; 4] = ["mono", "ladder", "plain", "deep"];

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/fixtures")
}

/// One device for all tests of a binary that want nothing special of it.
pub fn gpu() -> Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        let gpu = Gpu::new(&GpuOptions::default()).expect("the tests need a Vulkan, Metal or DX12 adapter");
        // A card would be calibrated by the first engine, in the middle of other tests.
        gpu.set_tuning(Tuning::default_for(&gpu));
        gpu
    })
    .clone()
}

/// A fixture checkpoint, converted once for each recipe into a folder of the build.
pub fn converted(checkpoint: &str, recipe: Recipe) -> ConvertedModel {
    static FOLDERS: OnceLock<Mutex<HashMap<(String, Recipe), PathBuf>>> = OnceLock::new();
    let folders = FOLDERS.get_or_init(Mutex::default);
    let mut folders = folders.lock().unwrap();
    let folder = folders.entry((checkpoint.to_owned(), recipe)).or_insert_with(|| {
        let base = tempfile::Builder::new().prefix("ocelli-test-").tempdir().unwrap().keep();
        let folder = base.join(checkpoint);
        let source = fixtures().join(checkpoint).join("model");
        ocelli::model::convert::convert(&source, &folder, recipe, &mut |_| {}, &AtomicBool::new(false))
            .unwrap();
        folder
    });
    ConvertedModel::open(folder).unwrap()
}

pub fn load_on(gpu: &Gpu, checkpoint: &str, recipe: Recipe) -> LoadedModel {
    load_with(gpu, checkpoint, recipe, LoadOptions { context: 1024, up_to: false, ..LoadOptions::default() })
}

pub fn load_with(gpu: &Gpu, checkpoint: &str, recipe: Recipe, options: LoadOptions) -> LoadedModel {
    let model = LoadedModel::load(gpu, &converted(checkpoint, recipe), &options, &mut |_, _| Ok(())).unwrap();
    // Whatever is read before it is written must be seen.
    const NAN: u32 = 0x7fc0_0000;
    const TWO_HALF_NANS: u32 = 0x7e00_7e00;
    model.text.fill(NAN);
    // In int8 that is the scales.
    model.cache.fill(if model.cache.format == KvFormat::F16 { TWO_HALF_NANS } else { NAN });
    model
}

pub fn load(checkpoint: &str, recipe: Recipe) -> LoadedModel {
    load_on(&gpu(), checkpoint, recipe)
}

/// A recorded case.
pub struct Case {
    pub name: String,
    pub json: Value,
    tensors: Option<Vec<u8>>,
}

impl Case {
    pub fn read(checkpoint: &str, name: &str) -> Self {
        let folder = fixtures().join(checkpoint).join("cases");
        let json =
            serde_json::from_slice(&std::fs::read(folder.join(format!("{name}.json"))).unwrap()).unwrap();
        let tensors = std::fs::read(folder.join(format!("{name}.safetensors"))).ok();
        Self { name: format!("{checkpoint}/{name}"), json, tensors }
    }

    /// The names of all cases of a checkpoint that have tensors.
    pub fn names(checkpoint: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(fixtures().join(checkpoint).join("cases"))
            .unwrap()
            .filter_map(|e| {
                let name = e.unwrap().file_name().into_string().unwrap();
                name.strip_suffix(".safetensors").map(str::to_owned)
            })
            .collect();
        names.sort();
        names
    }

    pub fn tensor(&self, name: &str) -> Option<Vec<f32>> {
        let all = safetensors::SafeTensors::deserialize(self.tensors.as_ref()?).unwrap();
        let t = all.tensor(name).ok()?;
        assert_eq!(t.dtype(), safetensors::Dtype::F32);
        Some(t.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
    }

    pub fn indices(&self, name: &str) -> Option<Vec<usize>> {
        let all = safetensors::SafeTensors::deserialize(self.tensors.as_ref()?).unwrap();
        let t = all.tensor(name).ok()?;
        Some(t.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as usize).collect())
    }

    pub fn ids(&self) -> Vec<u32> {
        numbers(&self.json["input_ids"])
    }

    pub fn positions(&self) -> Vec<[u32; 3]> {
        let [t, h, w] = [0, 1, 2].map(|i| numbers(&self.json["position_ids"][i]));
        (0..t.len()).map(|i| [t[i], h[i], w[i]]).collect()
    }

    /// The oracle's greedy tokens: of the f32 model, or of a recipe's dequantised weights.
    pub fn greedy(&self, recipe: Recipe) -> Vec<u32> {
        match recipe {
            Recipe::F32 => numbers(&self.json["greedy"]),
            _ => numbers(&self.json["recipes"][recipe.name()]["greedy"]),
        }
    }

    pub fn logits(&self, recipe: Recipe) -> Vec<f32> {
        match recipe {
            Recipe::F32 => self.tensor("logits"),
            _ => self.tensor(&format!("logits_{}", recipe.name())),
        }
        .unwrap()
    }
}

pub fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| u32::try_from(v.as_u64().unwrap()).unwrap()).collect()
}

/// How far two vectors are apart.
#[derive(Clone, Copy, Debug)]
pub struct Distance {
    pub cosine: f64,
    pub max: f64,
}

pub fn distance(a: &[f32], b: &[f32]) -> Distance {
    assert_eq!(a.len(), b.len());
    let (mut dot, mut aa, mut bb, mut max) = (0f64, 0f64, 0f64, 0f64);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y) = (f64::from(x), f64::from(y));
        dot += x * y;
        aa += x * x;
        bb += y * y;
        // A NaN must not pass for a small difference.
        let d = (x - y).abs();
        max = if d.is_nan() { f64::INFINITY } else { max.max(d) };
    }
    Distance { cosine: dot / (aa.sqrt() * bb.sqrt()), max }
}

/// The request of a recorded case: its messages, pictures read from the fixtures.
pub fn request(case: &Case) -> ocelli::engine::Request {
    let text = serde_json::json!({ "messages": case.json["messages"] }).to_string();
    let conversation = ocelli::chat::openai::parse_conversation(&text, &fixtures()).unwrap();
    let mut request = ocelli::engine::Request::new(conversation.messages);
    let options = &case.json["options"];
    request.tools = options.get("tools").cloned();
    request.add_vision_id = options["add_vision_id"].as_bool().unwrap_or(false);
    if options["video_form"] == "5.x" {
        request.video_prompt = ocelli::model::prompt::VideoPrompt::V5;
    }
    request
}

/// The tokenizer, template and preprocessing of a fixture checkpoint.
pub fn front_end(checkpoint: &str) -> ocelli::engine::FrontEnd {
    let folder = fixtures().join(checkpoint).join("model");
    let config = ocelli::model::config::ModelConfig::read(&folder).unwrap();
    ocelli::engine::FrontEnd::from_folder(&folder, &config).unwrap()
}
