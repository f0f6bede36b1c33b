//! Room `hub`: the models of this machine, by name: those in the hub's cache, folders and files the user has named, what has
//! been converted of them, and the one in this program.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::cache::{self, Cached, RepoCache};
use super::checksum::verify_file;
use super::names::{RepoId, lies_inside, text_ggufs};
use super::settings::HubSettings;
use crate::bounded;
use crate::error::{Error, Result};
use crate::model::builtin;
use crate::model::converted::ConvertedModel;
use crate::model::recipe::Recipe;
use crate::model::source::{cache_folder, cached_place};

/// The file that keeps names, beside the conversations.
const NAMES_FILE: &str = "models.json";
/// No such file is larger.
const MAX_NAMES_BYTES: u64 = 4 << 20;

/// Where models and their names are kept.
#[derive(Clone, Debug)]
pub struct Library {
    /// The file of names; `None`: names are not kept.
    pub names: Option<PathBuf>,
    /// The hub's cache.
    pub hub_cache: PathBuf,
    /// Ocelli's cache, where conversions are.
    pub cache: PathBuf,
}

/// A name that the user gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Named {
    name: String,
    /// A path, or `owner/name` of a repository in the cache.
    place: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Names {
    models: Vec<Named>,
}

/// What kind of place a model is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// In this program.
    BuiltIn,
    /// In the hub's cache.
    Hub,
    /// A folder or file of the user's, imported under a name.
    Imported,
    /// A conversion whose source is not known any more.
    Conversion,
}

/// A model converted into Ocelli's cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conversion {
    /// How its weights are stored.
    pub recipe: Recipe,
    /// Where.
    pub folder: PathBuf,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// A model of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Model {
    /// What to call it.
    pub name: String,
    /// Its repository, where it is from a hub.
    pub repo: Option<String>,
    /// The commit, where it is from a hub.
    pub commit: Option<String>,
    /// What to open.
    pub place: PathBuf,
    /// What kind of place that is.
    pub kind: Kind,
    /// Bytes of its files, without conversions.
    pub bytes: u64,
    /// What has been converted of it.
    pub conversions: Vec<Conversion>,
    /// Is it still there? An imported folder may have been moved.
    pub is_there: bool,
}

/// A download that was begun and is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unfinished {
    /// The repository.
    pub repo: String,
    /// Bytes that are there.
    pub bytes: u64,
}

/// What was found when checksums were computed again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Files read.
    pub files: usize,
    /// Bytes read.
    pub bytes: u64,
    /// Files that are not what they were.
    pub damaged: Vec<PathBuf>,
}

impl Library {
    /// The library of this account; `data` is the folder of conversations and names (`None`: the system's place for them).
    ///
    /// # Errors
    /// A cache has no place.
    pub fn find(data: Option<&Path>) -> Result<Self> {
        Ok(Self {
            names: match data {
                Some(folder) => Some(folder.join(NAMES_FILE)),
                None => directories::ProjectDirs::from("", "", "ocelli")
                    .map(|dirs| dirs.data_dir().join(NAMES_FILE)),
            },
            hub_cache: HubSettings::from_environment()?.cache,
            cache: cache_folder()?,
        })
    }

    fn read_names(&self) -> Result<Names> {
        let Some(path) = &self.names else { return Ok(Names::default()) };
        let fail = |cause: &dyn std::fmt::Display| {
            Error::new("reading the names of models", cause)
                .at_path(path)
                .help("mend the file or move it away: no model is lost, only names")
        };
        match fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Names::default()),
            _ => {}
        }
        let text = bounded::file(path, MAX_NAMES_BYTES).and_then(bounded::text).map_err(|e| fail(&e))?;
        serde_json::from_str(&text).map_err(|e| fail(&e))
    }

    fn write_names(&self, names: &Names) -> Result<()> {
        const DOING: &str = "keeping the names of models";
        let Some(path) = &self.names else { return Ok(()) };
        let fail = |e: &dyn std::fmt::Display| Error::new(DOING, e).at_path(path);
        let text = serde_json::to_string_pretty(names).map_err(|e| fail(&e))?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| fail(&e))?;
        }
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&temporary, text + "\n").and_then(|()| fs::rename(&temporary, path)).map_err(|e| fail(&e))
    }

    /// All models of this machine.
    ///
    /// # Errors
    /// The file of names is damaged.
    pub fn list(&self) -> Result<Vec<Model>> {
        let names = self.read_names()?.models;
        let mut models = vec![Model {
            name: builtin::FULL_NAME.to_owned(),
            repo: None,
            commit: None,
            place: builtin::NAME.into(),
            kind: Kind::BuiltIn,
            bytes: 0,
            conversions: Vec::new(),
            is_there: true,
        }];
        let mut cached = cache::list(&self.hub_cache);
        // One row for each repository: the commit that its branch stands for, or any.
        cached.sort_by_key(|cached| (cached.repo.clone(), !self.is_newest(cached)));
        cached.dedup_by(|later, first| later.repo == first.repo);
        for cached in &cached {
            models.push(self.hub_model(cached, &names));
        }
        for named in names.iter().filter(|named| named.place.parse::<RepoId>().is_err()) {
            let place = PathBuf::from(&named.place);
            let bytes = if place.is_dir() {
                folder_bytes(&place)
            } else {
                fs::metadata(&place).map_or(0, |m| m.len())
            };
            models.push(Model {
                name: named.name.clone(),
                repo: None,
                commit: None,
                kind: Kind::Imported,
                bytes,
                conversions: self.conversions_of(&place),
                is_there: place.exists(),
                place,
            });
        }
        let known: Vec<PathBuf> =
            models.iter().flat_map(|model| model.conversions.iter().map(|c| c.folder.clone())).collect();
        for conversion in self.all_conversions() {
            if !known.contains(&conversion.folder) {
                let name = conversion.folder.file_name().map(|name| name.to_string_lossy().into_owned());
                models.push(Model {
                    name: name.unwrap_or_default(),
                    repo: None,
                    commit: None,
                    place: conversion.folder.clone(),
                    kind: Kind::Conversion,
                    bytes: conversion.bytes,
                    conversions: Vec::new(),
                    is_there: true,
                });
            }
        }
        Ok(models)
    }

    /// Downloads that were begun and are not complete.
    #[must_use]
    pub fn unfinished(&self) -> Vec<Unfinished> {
        let entries = fs::read_dir(&self.hub_cache).into_iter().flatten().flatten();
        let repos = entries.filter_map(|entry| entry.file_name().to_str().and_then(RepoId::of_folder));
        let mut all: Vec<Unfinished> = repos
            .map(|repo| Unfinished {
                bytes: RepoCache::new(&self.hub_cache, &repo).unfinished_bytes(),
                repo: repo.to_string(),
            })
            .filter(|unfinished| unfinished.bytes > 0)
            .collect();
        all.sort_by(|a, b| a.repo.cmp(&b.repo));
        all
    }

    fn is_newest(&self, cached: &Cached) -> bool {
        let newest = RepoCache::new(&self.hub_cache, &cached.repo).commit_of(&super::Revision::default());
        newest.as_deref() == Some(cached.commit.as_str())
    }

    fn hub_model(&self, cached: &Cached, names: &[Named]) -> Model {
        let repo = cached.repo.as_str();
        let name = names.iter().find(|named| named.place == repo).map(|named| named.name.clone());
        let place = text_gguf(&cached.folder).unwrap_or_else(|| cached.folder.clone());
        let total = RepoCache::new(&self.hub_cache, &cached.repo).total_bytes();
        Model {
            name: name.unwrap_or_else(|| repo.to_owned()),
            repo: Some(repo.to_owned()),
            commit: Some(cached.commit.clone()),
            conversions: self.conversions_of(&place),
            place,
            kind: Kind::Hub,
            bytes: total.max(cached.bytes),
            is_there: true,
        }
    }

    fn conversions_of(&self, place: &Path) -> Vec<Conversion> {
        let folders = Recipe::ALL
            .into_iter()
            .filter_map(|recipe| Some((recipe, cached_place(&self.cache, place, recipe).ok()?)));
        folders
            .filter(|(_, folder)| ConvertedModel::is_converted(folder))
            .map(|(recipe, folder)| Conversion { recipe, bytes: folder_bytes(&folder), folder })
            .collect()
    }

    fn all_conversions(&self) -> Vec<Conversion> {
        let entries = fs::read_dir(self.cache.join("converted")).into_iter().flatten().flatten();
        let mut all: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(|folder| ConvertedModel::is_converted(folder))
            .filter_map(|folder| {
                let recipe = ConvertedModel::open(&folder).ok()?.recipe();
                Some(Conversion { recipe, bytes: folder_bytes(&folder), folder })
            })
            .collect();
        all.sort_by(|a, b| a.folder.cmp(&b.folder));
        all
    }

    /// What a person means by a model's name: a path, `demo`, a name of this library, `owner/name` of a repository in the hub's cache,
    /// or the part behind the slash alone.
    ///
    /// # Errors
    /// There is no such model; the error names those there are. Or several repositories are called so.
    pub fn resolve(&self, model: &Path) -> Result<PathBuf> {
        if builtin::is_meant(model) || model.exists() {
            return Ok(model.to_owned());
        }
        match model.to_str() {
            Some(name) => self.named(name).map(|model| model.place),
            None => Ok(model.to_owned()),
        }
    }

    /// The model of this name: the name in the list, then `owner/name`, then the part behind the slash if only one has it. Never by what
    /// lies in the current folder.
    ///
    /// # Errors
    /// There is none, or several are called so.
    pub fn named(&self, name: &str) -> Result<Model> {
        const DOING: &str = "looking for the model";
        let wanted = name.trim().trim_end_matches('/');
        let models = self.list()?;
        if wanted.eq_ignore_ascii_case(builtin::NAME) {
            return models.into_iter().next().ok_or_else(|| Error::new(DOING, "it is not there").at(wanted));
        }
        let is = |text: Option<&str>| text.is_some_and(|text| text.eq_ignore_ascii_case(wanted));
        let short =
            |model: &Model| model.repo.as_deref().and_then(|repo| repo.split('/').nth(1)).map(str::to_owned);
        let exact = models.iter().find(|model| is(Some(&model.name)) || model.place == Path::new(wanted));
        if let Some(model) = exact.or_else(|| models.iter().find(|model| is(model.repo.as_deref()))) {
            return Ok(model.clone());
        }
        let alike: Vec<&Model> = models.iter().filter(|model| is(short(model).as_deref())).collect();
        match alike.as_slice() {
            [model] => return Ok((*model).clone()),
            [] => {}
            several => {
                let names: Vec<&str> = several.iter().filter_map(|model| model.repo.as_deref()).collect();
                return Err(Error::new(DOING, format!("several are called so: {}", names.join(", ")))
                    .at(wanted)
                    .help("give the whole name"));
            }
        }
        let names: Vec<&str> =
            models.iter().filter(|m| m.kind != Kind::BuiltIn).map(|m| m.name.as_str()).take(8).collect();
        let there =
            if names.is_empty() { "none but demo".to_owned() } else { format!("demo, {}", names.join(", ")) };
        let advice = match wanted.parse::<RepoId>() {
            Ok(repo) => format!("`ocelli models pull {repo}` downloads it; models here: {there}"),
            Err(_) => format!("give the folder of a model, a GGUF file or a name; models here: {there}"),
        };
        Err(Error::new(DOING, "there is no such folder, and no model of that name").at(wanted).help(advice))
    }

    /// Takes a folder or a file of the user's into the library, where it lies. Gives the name.
    ///
    /// # Errors
    /// It is no model that Ocelli can load; the name is taken.
    pub fn import(&self, place: &Path, name: Option<&str>) -> Result<String> {
        const DOING: &str = "importing the model";
        let fail = |cause: &dyn std::fmt::Display| Error::new(DOING, cause).at_path(place);
        let place = std::path::absolute(place).map_err(|e| fail(&e))?;
        let is_gguf =
            place.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf")) && place.is_file();
        if !is_gguf && !ConvertedModel::is_converted(&place) && cache::model_bytes(&place).is_none() {
            let cause = if place.exists() {
                "there is no complete Qwen3-VL checkpoint, no converted model and no GGUF in it"
            } else {
                "there is no such folder or file"
            };
            return Err(fail(&cause)
                .help("give the folder with config.json, tokenizer.json and all weights, or a .gguf file"));
        }
        let own = place.file_stem().filter(|_| is_gguf).or_else(|| place.file_name());
        let own = own.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
        let name = name.map_or(own, |name| name.trim().to_owned());
        let mut names = self.read_names()?;
        let text =
            place.to_str().ok_or_else(|| fail(&"its path is no Unicode text").help("rename it"))?.to_owned();
        names.models.retain(|named| named.place != text);
        self.check_name(&name, &names, None)?;
        names.models.push(Named { name: name.clone(), place: text });
        self.write_names(&names)?;
        Ok(name)
    }

    /// `own`: the repository that is being named; its own name is free for it.
    fn check_name(&self, name: &str, names: &Names, own: Option<&str>) -> Result<()> {
        let error = |cause: &str| Error::new("naming the model", cause).at(format!("{name:?}"));
        let is = |other: &str| other.eq_ignore_ascii_case(name);
        if name.is_empty()
            || name.len() > 100
            || name.chars().any(char::is_control)
            || is(builtin::NAME)
            || is(builtin::FULL_NAME)
        {
            return Err(
                error("that is no name for a model").help("use one of 1 to 100 letters, other than demo")
            );
        }
        let cached = cache::list(&self.hub_cache);
        let repos = cached.iter().map(|model| &model.repo).filter(|repo| Some(repo.as_str()) != own);
        let mut taken = repos.flat_map(|repo| [repo.as_str(), repo.name()]);
        if names.models.iter().any(|named| is(&named.name)) || taken.any(is) {
            return Err(error("another model has this name").help("choose another name"));
        }
        Ok(())
    }

    /// Gives a model another name; a repository that gets its own is called by it again.
    ///
    /// # Errors
    /// It cannot be renamed, or the name is taken.
    pub fn rename(&self, model: &Model, name: &str) -> Result<()> {
        let place = match (&model.kind, &model.repo) {
            (Kind::Hub, Some(repo)) => repo.clone(),
            (Kind::Imported, _) => model.place.to_string_lossy().into_owned(),
            _ => return Err(Error::new("naming the model", "this one keeps its name").at(&model.name)),
        };
        let name = name.trim();
        let mut names = self.read_names()?;
        names.models.retain(|named| named.place != place);
        if Some(name) != model.repo.as_deref() {
            self.check_name(name, &names, model.repo.as_deref())?;
            names.models.push(Named { name: name.to_owned(), place });
        }
        self.write_names(&names)
    }

    /// Removes a model as it was listed: a repository from the hub's cache, with all its commits and conversions; an imported one from the list,
    /// with its conversions, while the user's own files stay. Gives the bytes that became free.
    ///
    /// # Errors
    /// A download of it is running, or something cannot be removed.
    pub fn remove(&self, model: &Model) -> Result<u64> {
        let mut freed = 0;
        match (&model.kind, model.repo.as_deref().map(str::parse::<RepoId>)) {
            (Kind::BuiltIn, _) => {
                return Err(Error::new("removing", "it is part of this program").at(&model.name));
            }
            (Kind::Hub, Some(Ok(repo))) => {
                let cache = RepoCache::new(&self.hub_cache, &repo);
                freed += cache.total_bytes();
                cache.remove()?;
            }
            (Kind::Conversion, _) => {
                freed += model.bytes;
                remove_folder(&model.place)?;
            }
            _ => {}
        }
        freed += Self::remove_conversions(model, None)?;
        let mut names = self.read_names()?;
        let place = match &model.repo {
            Some(repo) => repo.clone(),
            None => model.place.to_string_lossy().into_owned(),
        };
        names.models.retain(|named| named.place != place);
        self.write_names(&names)?;
        Ok(freed)
    }

    /// Removes what has been converted of a model, with one recipe or all; it is made again when it is needed. Gives the bytes that
    /// became free.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove_conversions(model: &Model, recipe: Option<Recipe>) -> Result<u64> {
        let mut freed = 0;
        for conversion in &model.conversions {
            if recipe.is_none_or(|recipe| recipe == conversion.recipe) {
                remove_folder(&conversion.folder)?;
                freed += conversion.bytes;
            }
        }
        Ok(freed)
    }

    /// Computes the checksums of a model's files, and of its conversions, again. `progress` is told bytes done and in all.
    ///
    /// # Errors
    /// A file cannot be read, or cancelled. A damaged file is no error but part of the answer.
    pub fn verify(
        &self,
        found: &Model,
        progress: &mut dyn FnMut(u64, u64),
        cancel: &AtomicBool,
    ) -> Result<Verified> {
        let mut verified = Verified::default();
        let repo = found.repo.as_deref().map(str::parse::<RepoId>);
        let blobs = match repo {
            Some(Ok(repo)) => RepoCache::new(&self.hub_cache, &repo).blobs()?,
            _ => Vec::new(),
        };
        let mut folders: Vec<&Path> = found.conversions.iter().map(|c| c.folder.as_path()).collect();
        if ConvertedModel::is_converted(&found.place) {
            folders.push(&found.place);
        }
        if blobs.is_empty() && folders.is_empty() && found.kind != Kind::BuiltIn {
            return Err(Error::new(
                "verifying",
                "its files came without checksums, and nothing has been converted of it yet",
            )
            .at(&found.name)
            .help("compare it with its source by hand, or pull it from a hub"));
        }
        let sizes = blobs.iter().map(|(path, _)| fs::metadata(path).map_or(0, |m| m.len()));
        let total = sizes.sum::<u64>() + folders.iter().map(|folder| folder_bytes(folder)).sum::<u64>();
        let mut before = 0;
        for (path, checksum) in &blobs {
            let mut tell = |done| progress(before + done, total);
            if !verify_file(path, checksum, &mut tell, cancel)? {
                verified.damaged.push(path.clone());
            }
            before += fs::metadata(path).map_or(0, |m| m.len());
            verified.files += 1;
        }
        for folder in folders {
            let mut tell = |done: u64, _: u64| progress((before + done).min(total), total);
            match ConvertedModel::open(folder).and_then(|model| model.verify(&mut tell, cancel)) {
                Ok(()) => {}
                Err(error) if error.get_kind() == crate::error::ErrorKind::Cancelled => return Err(error),
                Err(error) => {
                    tracing::warn!("{error}");
                    verified.damaged.push(folder.to_owned());
                }
            }
            before += folder_bytes(folder);
            verified.files += fs::read_dir(folder).map_or(0, |entries| entries.flatten().count());
        }
        verified.bytes = before;
        Ok(verified)
    }

    /// Removes files that [`Library::verify`] found damaged, so that they are fetched, or made, again. Only what lies in the hub's
    /// cache or in Ocelli's own is touched. Gives those that were left alone.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn discard(&self, damaged: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let mut left = Vec::new();
        for path in damaged {
            if !lies_inside(&self.hub_cache, path) && !lies_inside(&self.cache, path) {
                left.push(path.clone());
                continue;
            }
            if path.is_dir() {
                remove_folder(path)?;
            } else {
                fs::remove_file(path).map_err(|e| Error::new("removing a damaged file", e).at_path(path))?;
            }
        }
        Ok(left)
    }
}

fn remove_folder(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).map_err(|e| Error::new("removing", e).at_path(folder))
}

/// The text GGUF of a folder without a checkpoint, where it has one: Q8_0, if there are several.
fn text_gguf(folder: &Path) -> Option<PathBuf> {
    if folder.join("config.json").exists() {
        return None;
    }
    let texts = text_ggufs(folder);
    let is_usual = |path: &&PathBuf| path.to_string_lossy().to_ascii_lowercase().ends_with("q8_0.gguf");
    texts.iter().find(is_usual).or(texts.first()).cloned()
}

/// Bytes of the files in a folder, through links.
fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| fs::metadata(entry.path()).ok())
        .filter(fs::Metadata::is_file)
        .map(|m| m.len())
        .sum()
}
