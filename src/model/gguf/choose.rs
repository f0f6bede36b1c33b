//! From a path that a person names to a text file and the vision file that belongs to it.

use std::path::{Path, PathBuf};

use super::{Gguf, is_gguf, ollama, part_path, settings, split_name};
use crate::error::{Error, Result};

const DOING: &str = "looking for the model";
/// GGUF files of one folder that are looked at.
const MOST_FILES: usize = 512;

/// What to convert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// A name for people.
    pub(crate) name: String,
    /// The text file, or its first part.
    pub(crate) text: PathBuf,
    /// The vision file, if there is one.
    pub(crate) vision: Option<PathBuf>,
}

/// What is at `path`, if it is a GGUF file, or a folder with GGUF files and neither a hub checkpoint's weights nor a
/// converted model.
///
/// # Errors
/// It is a vision file, or a folder with none or several text files; a file is damaged.
pub(crate) fn choose(path: &Path) -> Result<Option<Chosen>> {
    if is_gguf(path) {
        return of_file(path).map(Some);
    }
    let others = ["ocelli.json", "model.safetensors", "model.safetensors.index.json"];
    if !path.is_dir() || others.iter().any(|name| path.join(name).exists()) {
        return Ok(None);
    }
    let files = gguf_files(path);
    let texts: Vec<&PathBuf> = files.iter().filter(|file| !named_vision(file)).collect();
    match texts.as_slice() {
        [] if files.is_empty() => Ok(None),
        [] => Err(Error::new(DOING, format!("there is the vision file {} only", name_of(&files)))
            .at_path(path)
            .help("put the text file of the same model beside it")),
        [text] => of_file(text).map(Some),
        several => {
            let names: Vec<String> =
                several.iter().map(|file| name_of(std::slice::from_ref(*file))).collect();
            let more = names.len().saturating_sub(8);
            let mut list = names.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
            if more > 0 {
                list = format!("{list} and {more} more");
            }
            Err(Error::new(DOING, format!("there are several GGUF text files: {list}"))
                .at_path(path)
                .help("name one of these files"))
        }
    }
}

fn of_file(path: &Path) -> Result<Chosen> {
    let text = match split_name(path) {
        Some((stem, _, count)) => part_path(path, &stem, 1, count),
        None => path.to_owned(),
    };
    let opened = Gguf::open(&text)?;
    if opened.architecture() == "clip" {
        return Err(Error::new(DOING, "this is a model's vision file")
            .at_path(path)
            .help("name the text file; its vision file is found beside it"));
    }
    if let Some(found) = ollama::of_blob(&text) {
        return Ok(found);
    }
    let name = text.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let vision = beside(&opened, &text);
    Ok(Chosen { name, text, vision })
}

/// The vision file beside a text file that fits it best: of the same widths, of the most alike name, and of those f16
/// first, which is how the tower is kept.
fn beside(text: &Gguf, path: &Path) -> Option<PathBuf> {
    let here = stem(path);
    let mut found: Vec<(usize, usize, PathBuf)> = gguf_files(path.parent()?)
        .into_iter()
        .filter(|file| named_vision(file))
        .filter_map(|file| {
            let opened = Gguf::open(&file).ok()?;
            let fits = opened.number("clip.vision.projection_dim") == text.number("qwen3vl.embedding_length");
            if opened.architecture() != "clip" || !fits {
                return None;
            }
            let there = stem(&file).replace("mmproj", "");
            let there = there.trim_matches(['-', '_', '.']);
            // In a shared folder the beginning of the name may come before the word.
            let alike = here.bytes().zip(there.bytes()).take_while(|(a, b)| a == b).count();
            let formats = settings::formats(&opened);
            let rank =
                ["F16", "F32", "BF16"].iter().position(|first| formats.starts_with(first)).unwrap_or(3);
            Some((usize::MAX - alike, rank, file))
        })
        .collect();
    found.sort();
    found.into_iter().next().map(|(_, _, file)| file)
}

/// A file's name for comparing, without its ending and the element type.
fn stem(path: &Path) -> String {
    let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().to_lowercase());
    for ending in ["q8_0", "bf16", "f16", "f32"] {
        if let Some(rest) = name.strip_suffix(ending) {
            return rest.trim_end_matches(['-', '_', '.']).to_owned();
        }
    }
    name
}

/// GGUF files of a folder by name, sorted; of a split file the first part only.
fn gguf_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf")))
        .filter(|path| split_name(path).is_none_or(|(_, number, _)| number == 1))
        .filter(|path| path.is_file())
        .take(MOST_FILES)
        .collect();
    files.sort();
    files
}

/// Whether a file's name says that it is a vision file.
pub(super) fn named_vision(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().to_lowercase().contains("mmproj"))
}

fn name_of(files: &[PathBuf]) -> String {
    let name = files.first().and_then(|file| file.file_name());
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
