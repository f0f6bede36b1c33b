//! A small checkpoint to convert and to break, and what the tests ask of results and errors.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ocelli::error::{Error, Result};
use ocelli::model::convert::{Report, convert};
use ocelli::model::recipe::Recipe;
use ocelli::model::synth::{Preset, synthesise};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const WEIGHTS: &str = "model.safetensors";
pub const INDEX: &str = "model.safetensors.index.json";
pub const Q_PROJ: &str = "model.language_model.layers.1.self_attn.q_proj.weight";
/// The only weights file of the converted sandbox.
pub const CONVERTED: &str = "model-00001-of-00001.safetensors";
pub const NORM: &str = "model.visual.blocks.2.norm1.bias";

/// Tensors as type, shape and bytes, to be changed at will.
pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A small, complete checkpoint in a folder of its own.
pub struct Sandbox(pub TempDir);

impl Sandbox {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let never = AtomicBool::new(false);
        synthesise(Preset::Tiny, 1, &folder.path().join("hub"), &mut |_| (), &never).expect("made");
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn hub(&self) -> PathBuf {
        self.path("hub")
    }

    pub fn tensors(&self) -> Tensors {
        let bytes = fs::read(self.hub().join(WEIGHTS)).expect("readable");
        let file = SafeTensors::deserialize(&bytes).expect("valid");
        file.iter()
            .map(|(name, t)| (name.to_owned(), (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
            .collect()
    }

    pub fn set_tensors(&self, tensors: &Tensors) {
        write_tensors(&self.hub().join(WEIGHTS), tensors);
    }

    /// Changes the tensors of the single file.
    pub fn edit(&self, change: impl FnOnce(&mut Tensors)) {
        let mut tensors = self.tensors();
        change(&mut tensors);
        self.set_tensors(&tensors);
    }

    /// Changes a JSON file of the checkpoint.
    pub fn edit_json(&self, name: &str, change: impl FnOnce(&mut Value)) {
        edit_json(&self.hub().join(name), change);
    }

    /// Spreads the tensors over three shards with an index.
    pub fn shard(&self) {
        let tensors = self.tensors();
        fs::remove_file(self.hub().join(WEIGHTS)).expect("removable");
        let mut shards = [Tensors::new(), Tensors::new(), Tensors::new()];
        let mut map = serde_json::Map::new();
        for (at, (name, tensor)) in tensors.into_iter().enumerate() {
            map.insert(name.clone(), shard_name(at % 3).into());
            shards[at % 3].insert(name, tensor);
        }
        for (at, shard) in shards.iter().enumerate() {
            write_tensors(&self.hub().join(shard_name(at)), shard);
        }
        fs::write(self.hub().join(INDEX), json!({"metadata": {}, "weight_map": map}).to_string())
            .expect("writable");
    }

    pub fn convert(&self, destination: &str, recipe: Recipe) -> Result<Report> {
        run(&self.hub(), &self.path(destination), recipe)
    }
}

pub fn shard_name(at: usize) -> String {
    format!("model-{:05}-of-00003.safetensors", at + 1)
}

pub fn run(source: &Path, destination: &Path, recipe: Recipe) -> Result<Report> {
    convert(source, destination, recipe, &mut |_| (), &AtomicBool::new(false))
}

pub fn write_tensors(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).expect("shape and bytes fit"))
    });
    fs::write(path, safetensors::serialize(views, None).expect("serialised")).expect("writable");
}

pub fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).expect("readable")).expect("JSON");
    change(&mut value);
    fs::write(path, value.to_string()).expect("writable");
}

/// One line, with everything in `wanted`, and advice in brackets at the end.
#[track_caller]
pub fn assert_reads_well(error: &Error, wanted: &[&str]) {
    let text = error.to_string();
    assert!(!text.contains('\n'), "one line: {text}");
    assert!(text.ends_with(')') && text.contains(" ("), "with advice: {text}");
    for part in wanted {
        assert!(text.contains(part), "{text}\nshould contain: {part}");
    }
}

/// All files of a folder by name.
pub fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .map(|e| (e.file_name().to_string_lossy().into_owned(), fs::read(e.path()).expect("readable")))
        .collect()
}

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The checkpoints written by the reference implementation, where they are (a package of the source has none).
pub fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/fixtures");
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("model"))
        .filter(|path| path.join("config.json").exists())
        .collect();
    found.sort();
    found
}

pub fn truncate(path: &Path, bytes: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("opens");
    file.set_len(bytes).expect("truncates");
}
