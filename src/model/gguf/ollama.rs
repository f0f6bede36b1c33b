//! Ollama's folder of models: `manifests/HOST/OWNER/NAME/TAG` are JSON files whose layers name files in `blobs/` by their
//! SHA-256.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Chosen;
use crate::bounded;
use crate::model::config::{MAX_VALUES, read_side_file};

const MODEL: &str = "application/vnd.ollama.image.model";
const PROJECTOR: &str = "application/vnd.ollama.image.projector";
/// A manifest is at most this deep below `manifests`, and at most so many are read.
const MOST_DEPTH: usize = 6;
const MOST_MANIFESTS: usize = 2000;

/// The model whose text file is this blob; `None` for a file that is none of Ollama's, or of no manifest.
pub(super) fn of_blob(path: &Path) -> Option<Chosen> {
    let blobs = path.parent()?;
    if blobs.file_name()? != "blobs" || !path.file_name()?.to_string_lossy().starts_with("sha256-") {
        return None;
    }
    models(blobs.parent()?).into_iter().find(|model| model.text == path)
}

/// All models that the manifests in `folder` name.
pub(super) fn models(folder: &Path) -> Vec<Chosen> {
    let manifests = folder.join("manifests");
    let mut files = Vec::new();
    walk(&manifests, MOST_DEPTH, &mut files);
    files.sort();
    files.iter().filter_map(|file| read(folder, &manifests, file)).collect()
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if files.len() >= MOST_MANIFESTS {
            return;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => walk(&entry.path(), depth - 1, files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

fn read(folder: &Path, manifests: &Path, file: &Path) -> Option<Chosen> {
    let bytes = read_side_file(file, "reading Ollama's manifest").ok()?;
    let manifest = bounded::json(&bytes, MAX_VALUES).ok()?;
    let layers = manifest.get("layers")?.as_array()?;
    let blob = |media: &str| {
        let layer =
            layers.iter().find(|layer| layer.get("mediaType").and_then(Value::as_str) == Some(media))?;
        let hash = layer.get("digest")?.as_str()?.strip_prefix("sha256:")?;
        let plain = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| folder.join("blobs").join(format!("sha256-{hash}")))
    };
    // `registry.ollama.ai/library/qwen3-vl/2b` is qwen3-vl:2b to people.
    let parts: Vec<String> =
        file.strip_prefix(manifests).ok()?.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let (tag, rest) = parts.split_last()?;
    let shown: Vec<&str> = match rest {
        [_, library, name] if library == "library" => vec![name],
        [_, rest @ ..] => rest.iter().map(String::as_str).collect(),
        [] => Vec::new(),
    };
    Some(Chosen { name: format!("{}:{tag}", shown.join("/")), text: blob(MODEL)?, vision: blob(PROJECTOR) })
}
