//! Room: `model`. From what a person names — a folder, a GGUF file — to a converted model that can be loaded.
//!
//! A hub checkpoint is converted once, into the user's cache, under a key made of everything that the result depends
//! on. A changed file, another recipe or another format version gives another key.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::model::builtin;
use crate::model::config::{CONFIG_FILE, read_side_file};
use crate::model::convert::partial::remove_all_stale;
use crate::model::convert::{How, Progress, can_multiply_out, convert};
use crate::model::converted::{ConvertedModel, FORMAT_VERSION, MANIFEST_FILE, hex};
use crate::model::gguf::{self, Chosen};
use crate::model::recipe::Recipe;

/// The environment variable that overrides the cache folder.
pub const CACHE_VARIABLE: &str = "OCELLI_CACHE";

const DOING: &str = "looking for the model";

/// A model found and ready to load.
#[derive(Debug)]
pub struct ModelSource {
    /// The name to show: the folder's, or the full one of the model in this program.
    pub name: String,
    /// The folder or GGUF file that was named.
    pub folder: PathBuf,
    /// The folder with its tokenizer, template and preprocessor files: the same, or of GGUF files the converted model's.
    pub files: PathBuf,
    /// The converted model: that folder itself, or its conversion in the cache.
    pub model: ConvertedModel,
    /// What was odd about the checkpoint when it was converted just now, one sentence each.
    pub notes: Vec<String>,
}

/// What is wanted of a model; made from a recipe or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How its weights are to be stored; `None`: `int8hu`, or whatever a converted folder holds.
    pub recipe: Option<Recipe>,
    /// Texts will do: GGUF files may lack the vision file.
    pub text_only: bool,
}

impl From<Option<Recipe>> for Wanted {
    fn from(recipe: Option<Recipe>) -> Self {
        Self { recipe, text_only: false }
    }
}

impl ModelSource {
    /// Opens the model in `folder`, or the one in this program (see [`builtin::is_meant`]). A converted model is opened as it is. A hub checkpoint is opened from the cache, or
    /// first converted into it with `recipe` ([`Recipe::Int8Hu`] where none is given), which takes a minute or so:
    /// `progress` and `cancel` are those of [`convert`]. So is a converted int8 model where f16 or f32 is asked for, and so are GGUF
    /// files: `folder` is the text file, or holds one.
    ///
    /// # Errors
    /// There is no such folder or no model in it; a converted model has another recipe than the one asked for; anything
    /// that opening or converting it meets.
    pub fn resolve(
        folder: &Path,
        wanted: impl Into<Wanted>,
        progress: &mut dyn FnMut(&Progress<'_>),
        cancel: &AtomicBool,
    ) -> Result<Self> {
        let wanted = wanted.into();
        let cache = match cache_folder() {
            // What is in the program needs none.
            Err(_) if builtin::is_meant(folder) && wanted.recipe.is_none() => PathBuf::new(),
            cache => cache?,
        };
        Self::resolve_in(&cache, folder, wanted, progress, cancel)
    }

    /// [`ModelSource::resolve`] with another cache folder.
    ///
    /// # Errors
    /// As there.
    pub fn resolve_in(
        cache: &Path,
        folder: &Path,
        wanted: impl Into<Wanted>,
        progress: &mut dyn FnMut(&Progress<'_>),
        cancel: &AtomicBool,
    ) -> Result<Self> {
        let Wanted { recipe, text_only } = wanted.into();
        let folder = if builtin::is_meant(folder) { builtin::folder() } else { folder };
        let built_in = builtin::is_meant(folder);
        if !built_in && let Some(chosen) = gguf::choose(folder)? {
            let how = How { recipe: recipe.unwrap_or_default(), text_only };
            let cached = cached_gguf(cache, &chosen, how)?;
            let (model, notes) = open_cached(&cached, &chosen.text, how, progress, cancel)?;
            let files = model.folder().to_owned();
            return Ok(Self { name: chosen.name, folder: folder.to_owned(), files, model, notes });
        }
        if !built_in && !folder.is_dir() {
            let what =
                if folder.exists() { "this is a file, and no GGUF file" } else { "there is no such folder" };
            return Err(Error::new(DOING, what).at_path(folder).help(
                "give the folder of a Qwen3-VL checkpoint, or of a model made by ocelli convert, or a GGUF file; \
                 or demo, the small model inside this program",
            ));
        }
        let converted =
            if ConvertedModel::is_converted(folder) { Some(ConvertedModel::open(folder)?) } else { None };
        let (model, notes) = match converted {
            Some(model) if recipe.is_none_or(|asked| asked == model.recipe()) => (model, Vec::new()),
            other => {
                let recipe = recipe.unwrap_or_default();
                if let Some(model) = &other {
                    check_can_become(model, recipe)?;
                }
                open_cached(&cached_folder(cache, folder, recipe)?, folder, recipe.into(), progress, cancel)?
            }
        };
        let name = if built_in { builtin::FULL_NAME.to_owned() } else { model_name(folder) };
        Ok(Self { name, folder: folder.to_owned(), files: folder.to_owned(), model, notes })
    }
}

fn check_can_become(model: &ConvertedModel, asked: Recipe) -> Result<()> {
    if can_multiply_out(model.recipe(), asked) {
        return Ok(());
    }
    let cause = format!("the model is converted with the recipe {}, not {asked}", model.recipe());
    Err(Error::new(DOING, cause)
        .at_path(model.folder())
        .help("leave the recipe out, or name the checkpoint it was made from, or convert that one with `ocelli convert`"))
}

fn open_cached(
    cached: &Path,
    folder: &Path,
    how: How,
    progress: &mut dyn FnMut(&Progress<'_>),
    cancel: &AtomicBool,
) -> Result<(ConvertedModel, Vec<String>)> {
    if ConvertedModel::is_converted(cached) {
        match ConvertedModel::open(cached) {
            Ok(model) => return Ok((model, Vec::new())),
            // Damaged, and it is ours: make it again.
            Err(_) => std::fs::remove_dir_all(cached).map_err(|e| {
                Error::new("removing a damaged model from the cache", e)
                    .at_path(cached)
                    .help("remove it by hand")
            })?,
        }
    }
    if let Some(all) = cached.parent() {
        remove_all_stale(all);
    }
    match convert(folder, cached, how, progress, cancel) {
        Ok(report) => Ok((ConvertedModel::open(cached)?, report.notes)),
        // Another process may have been converting the same checkpoint, and been faster.
        Err(_) if ConvertedModel::is_converted(cached) => Ok((ConvertedModel::open(cached)?, Vec::new())),
        Err(e) => Err(e),
    }
}

/// Where the conversion of a hub checkpoint is, or would be, in the cache folder `cache`.
///
/// # Errors
/// There is no configuration in `folder`.
pub fn cached_folder(cache: &Path, folder: &Path, recipe: Recipe) -> Result<PathBuf> {
    Ok(named_in_cache(cache, &model_name(folder), recipe, &cache_key(folder, recipe)?))
}

/// The same for whatever lies at `place`: a checkpoint's folder, a GGUF file, or a folder with one.
///
/// # Errors
/// There is no model.
pub fn cached_place(cache: &Path, place: &Path, recipe: Recipe) -> Result<PathBuf> {
    match gguf::choose(place)? {
        Some(chosen) => cached_gguf(cache, &chosen, How { recipe, text_only: false }),
        None => cached_folder(cache, place, recipe),
    }
}

fn named_in_cache(cache: &Path, name: &str, recipe: Recipe, key: &str) -> PathBuf {
    // The name in front is for people who look into their cache.
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' })
        .take(60)
        .collect();
    cache.join("converted").join(format!("{}-{recipe}-{key}", name.trim_start_matches('.')))
}

/// Where the conversion of GGUF files is, or would be: the key is of the files' names, sizes and times, and of samples of
/// what is in them, since archives that can be made again give their files one and the same time.
fn cached_gguf(cache: &Path, chosen: &Chosen, how: How) -> Result<PathBuf> {
    /// To be raised where the same files are to give another result.
    const VERSION: u32 = 1;
    let mut hash = Sha256::new();
    let mut files = vec![gguf::Gguf::open(&chosen.text)?];
    files.extend(gguf::vision_of(chosen, how.text_only, &mut Vec::new())?);
    // Texts only makes a difference where there is nothing else.
    let text_only = how.text_only && files.len() == 1;
    let paths: Vec<&Path> = files.iter().flat_map(gguf::Gguf::paths).collect();
    hash.update(format!("gguf {VERSION} {FORMAT_VERSION} {} {text_only} {}", how.recipe, paths.len()));
    for path in paths {
        let metadata = std::fs::metadata(path).map_err(|e| Error::new(DOING, e).at_path(path))?;
        let time = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let name = model_name(path);
        let nanoseconds = time.map_or(0, |t| t.as_nanos());
        hash.update(format!("{} {name} {} {nanoseconds} ", name.len(), metadata.len()));
    }
    for file in &files {
        file.fingerprint(&mut hash);
    }
    Ok(named_in_cache(cache, &chosen.name, how.recipe, &hex(&hash.finalize()[..8])))
}

/// The folder in which Ocelli keeps what it can make again: `OCELLI_CACHE`, or the system's place for caches.
///
/// # Errors
/// The system has no such place and the variable is not set.
pub fn cache_folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(CACHE_VARIABLE).filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(folder));
    }
    directories::ProjectDirs::from("", "", "ocelli").map(|dirs| dirs.cache_dir().to_owned()).ok_or_else(
        || {
            Error::new("looking for the cache folder", "this account has no home folder")
                .help(format!("set {CACHE_VARIABLE} to a folder"))
        },
    )
}

/// A hash of what a conversion depends on: the configuration's bytes; name, size and time of every file in the folder;
/// the recipe and the format's version.
fn cache_key(folder: &Path, recipe: Recipe) -> Result<String> {
    let fail = |e: std::io::Error| Error::new(DOING, e).at_path(folder);
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        // With its length before it, so that two fields cannot run into one.
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    field(&FORMAT_VERSION.to_le_bytes());
    field(recipe.name().as_bytes());
    field(&read_side_file(&folder.join(CONFIG_FILE), DOING)?);
    if builtin::is_meant(folder) {
        // It holds the checksums of all the others.
        field(&read_side_file(&folder.join(MANIFEST_FILE), DOING)?);
        return Ok(hex(&hash.finalize()[..8]));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        // Through links: the hub's cache is made of them. What cannot be read cannot matter, or fails later by name.
        let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        if metadata.is_file() && !name.starts_with('.') {
            let time = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
            files.push((name, metadata.len(), time.map_or(0, |t| t.as_nanos())));
        }
    }
    files.sort();
    for (name, bytes, nanoseconds) in files {
        field(name.as_bytes());
        field(&bytes.to_le_bytes());
        field(&nanoseconds.to_le_bytes());
    }
    Ok(hex(&hash.finalize()[..8]))
}

/// What to call what lies there: the repository's name for a snapshot in the hub's cache, otherwise the last part of the path; for `.` and the like, of
/// the path it stands for.
#[must_use]
pub fn model_name(folder: &Path) -> String {
    // models--Qwen--Qwen3-VL-2B-Instruct/snapshots/<commit>
    let parent = folder.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"));
    let repository = parent.and_then(Path::parent).and_then(Path::file_name).and_then(|name| name.to_str());
    let name = repository.and_then(|name| name.strip_prefix("models--")?.split("--").last());
    if let Some(name) = name {
        return name.to_owned();
    }
    let absolute = std::fs::canonicalize(folder);
    let named = folder.file_name().or_else(|| absolute.as_ref().ok().and_then(|path| path.file_name()));
    named.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_in_the_hubs_cache_is_called_like_its_repository() {
        let folder = Path::new("/h/hub/models--Qwen--Qwen3-VL-2B-Instruct/snapshots/0123abc");
        assert_eq!(model_name(folder), "Qwen3-VL-2B-Instruct");
        assert_eq!(model_name(Path::new("/h/own")), "own");
        assert_eq!(model_name(Path::new("/h/x.gguf")), "x.gguf");
    }
}
