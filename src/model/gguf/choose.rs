//! From a path that a person names to a text file and the vision file that belongs to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::model::open_vision;
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
    let mut shelves = Shelves::default();
    if is_gguf(path) {
        return of_file(path, &mut shelves).map(Some);
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
        [text] => of_file(text, &mut shelves).map(Some),
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

/// A vision file of Qwen3-VL, and what of it is compared.
#[derive(Debug)]
struct Candidate {
    path: PathBuf,
    /// Width of the rows it makes.
    width: Option<u64>,
    /// Its name without `mmproj` and the element type.
    stem: String,
    /// Place of its element type among those to be taken first.
    rank: usize,
}

/// The vision files of each folder that was looked at: a folder with many text files has as many of these, and each is
/// opened once, not once for every text file.
#[derive(Debug, Default)]
pub(super) struct Shelves(BTreeMap<PathBuf, Vec<Candidate>>);

impl Shelves {
    fn of(&mut self, folder: &Path) -> &[Candidate] {
        self.0.entry(folder.to_owned()).or_insert_with(|| {
            gguf_files(folder).into_iter().filter(|file| named_vision(file)).filter_map(candidate).collect()
        })
    }
}

/// `None` for a file that is damaged or another model's: the width alone may be that of a Qwen2.5-VL, too.
fn candidate(path: PathBuf) -> Option<Candidate> {
    let opened = open_vision(&path).ok()?;
    let formats = settings::formats(&opened);
    let rank = ["F16", "F32", "BF16"].iter().position(|first| formats.starts_with(first)).unwrap_or(3);
    let stem = stem(&path).replace("mmproj", "").trim_matches(['-', '_', '.']).to_owned();
    Some(Candidate { path, width: opened.number("clip.vision.projection_dim"), stem, rank })
}

/// A text file, or a part of one, with the vision file beside it.
pub(super) fn of_file(path: &Path, shelves: &mut Shelves) -> Result<Chosen> {
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
    let vision = beside(&opened, &text, shelves);
    Ok(Chosen { name, text, vision })
}

/// The vision file beside a text file that fits it best: of the same widths, of the most alike name, and of those f16
/// first, which is how the tower is kept.
fn beside(text: &Gguf, path: &Path, shelves: &mut Shelves) -> Option<PathBuf> {
    let here = stem(path);
    let width = text.number("qwen3vl.embedding_length");
    let fitting = shelves.of(path.parent()?).iter().filter(|candidate| candidate.width == width);
    // In a shared folder the beginning of the name may come before the word.
    let alike = |there: &str| here.bytes().zip(there.bytes()).take_while(|(a, b)| a == b).count();
    let best = fitting.min_by_key(|candidate| {
        (std::cmp::Reverse(alike(&candidate.stem)), candidate.rank, candidate.path.clone())
    });
    best.map(|candidate| candidate.path.clone())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_vision_files_are_opened_once_for_all_its_text_files() {
        let temporary = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/fixtures/gguf/mono-Q8_0");
        let at = |name: &str| temporary.path().join(name);
        for name in ["one.gguf", "two.gguf"] {
            std::fs::copy(from.join("mono-Q8_0.gguf"), at(name)).unwrap();
        }
        std::fs::copy(from.join("mmproj-mono-Q8_0.gguf"), at("mmproj.gguf")).unwrap();
        let mut shelves = Shelves::default();
        assert_eq!(of_file(&at("one.gguf"), &mut shelves).unwrap().vision, Some(at("mmproj.gguf")));
        // What is gone cannot be opened again.
        std::fs::remove_file(at("mmproj.gguf")).unwrap();
        assert_eq!(of_file(&at("two.gguf"), &mut shelves).unwrap().vision, Some(at("mmproj.gguf")));
        assert_eq!(of_file(&at("two.gguf"), &mut Shelves::default()).unwrap().vision, None);
    }
}
