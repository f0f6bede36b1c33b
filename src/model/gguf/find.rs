//! Finding GGUF files of Qwen3-VL that other programs have downloaded: LM Studio, llama.cpp and Ollama. Only when asked, and
//! nothing but headers is read.

use std::path::{Path, PathBuf};

use super::choose::{Shelves, named_vision, of_file};
use super::model::{open_vision, vision_inside};
use super::{Chosen, Format, Gguf, is_gguf, ollama, settings, split_name};

/// Folders below a given one that are entered; entries and GGUF files that are looked at.
const MOST_DEPTH: usize = 6;
const MOST_ENTRIES: usize = 20_000;
const MOST_FILES: usize = 500;

/// Where to look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Folders with `.gguf` files, at any depth.
    pub folders: Vec<PathBuf>,
    /// Folders of Ollama: with `manifests` and `blobs`.
    pub ollama: Vec<PathBuf>,
}

impl Places {
    /// Where LM Studio, llama.cpp and Ollama keep their models for this user.
    #[must_use]
    pub fn usual() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let dirs = directories::BaseDirs::new();
        let home = |tail: &str| dirs.as_ref().map(|dirs| dirs.home_dir().join(tail));
        let cache = |tail: &str| dirs.as_ref().map(|dirs| dirs.cache_dir().join(tail));
        let mut folders: Vec<PathBuf> = [
            home(".lmstudio/models"),
            home(".cache/lm-studio/models"),
            set("LLAMA_CACHE"),
            home(".cache/llama.cpp"),
            cache("llama.cpp"),
        ]
        .into_iter()
        .flatten()
        .collect();
        folders.sort();
        folders.dedup();
        Self {
            folders,
            ollama: set("OLLAMA_MODELS").or_else(|| home(".ollama/models")).into_iter().collect(),
        }
    }
}

/// A model that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// A name for people.
    pub name: String,
    /// The text file: what to open.
    pub text: PathBuf,
    /// The vision file that goes with it; without one the model can be loaded for texts only.
    pub vision: Option<PathBuf>,
    /// Element types of its matrices, most of them first: `Q4_K, Q6_K`.
    pub quantisation: String,
    /// Bytes of the files.
    pub bytes: u64,
    /// Why it cannot be opened, or not with pictures.
    pub trouble: Option<Trouble>,
}

/// What is wrong with a model that was found. Words for it are the window's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is a kind of Qwen3-VL that is not supported: this `general.architecture`, a mixture of experts.
    Architecture(String),
    /// It has tensors of this type, which is not read.
    Format(&'static str),
    /// Its vision file cannot be used, and why: what the program reports, in English.
    Vision(String),
    /// Its vision tower is in the text file, in Ollama's own layout: texts only.
    VisionInside,
    /// It has no vision file: texts only.
    VisionMissing,
}

/// Finds models of the architecture `qwen3vl`, sorted by name. Folders that are not there are passed over, and so are files
/// that cannot be read.
#[must_use]
pub fn find(places: &Places) -> Vec<Found> {
    let mut files = Vec::new();
    let mut entries = 0;
    for folder in &places.folders {
        walk(folder, MOST_DEPTH, &mut entries, &mut files);
    }
    let mut shelves = Shelves::default();
    let mut found: Vec<Found> = files
        .iter()
        .filter(|file| !named_vision(file) && is_gguf(file))
        .filter_map(|file| of_file(file, &mut shelves).ok())
        .chain(places.ollama.iter().flat_map(|folder| ollama::models(folder)).take(MOST_FILES))
        .filter_map(describe)
        .collect();
    found.sort_by(|a, b| (&a.name, &a.text).cmp(&(&b.name, &b.text)));
    found.dedup_by(|a, b| a.text == b.text && a.name == b.name);
    found
}

fn walk(folder: &Path, depth: usize, entries: &mut usize, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        *entries += 1;
        if *entries > MOST_ENTRIES || files.len() >= MOST_FILES {
            return;
        }
        let path = entry.path();
        // Links to folders are not followed: they may lead round and round.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if depth > 0 {
                walk(&path, depth - 1, entries, files);
            }
        } else if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
            && split_name(&path).is_none_or(|(_, number, _)| number == 1)
        {
            files.push(path);
        }
    }
}

/// Looks at the headers; `None` for another model, and for a file that is not there.
fn describe(chosen: Chosen) -> Option<Found> {
    let text = Gguf::open(&chosen.text).ok()?;
    if !text.architecture().starts_with("qwen3vl") {
        return None;
    }
    let vision = chosen.vision.as_deref().map(open_vision);
    let unread = text.tensors().find_map(|(_, entry)| match entry.format {
        Format::Other(_) => Some(entry.format.name()),
        _ => None,
    });
    let trouble = match (&vision, unread) {
        _ if text.architecture() != "qwen3vl" => Some(Trouble::Architecture(text.architecture().to_owned())),
        (_, Some(format)) => Some(Trouble::Format(format)),
        (Some(Err(error)), None) => Some(Trouble::Vision(error.to_string())),
        (None, None) if vision_inside(&text) => Some(Trouble::VisionInside),
        (None, None) => Some(Trouble::VisionMissing),
        (Some(Ok(_)), None) => None,
    };
    let files = text.paths().map(Path::to_owned).chain(chosen.vision.clone());
    let bytes = files.filter_map(|path| std::fs::metadata(path).ok()).map(|m| m.len()).sum();
    Some(Found {
        quantisation: settings::formats(&text),
        name: chosen.name,
        text: chosen.text,
        vision: chosen.vision,
        bytes,
        trouble,
    })
}
