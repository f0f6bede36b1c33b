//! Room `hub`: the folder that all tools of the hub share: `models--owner--name/{blobs,snapshots,refs}`.
//!
//! A file lies in `blobs` under its checksum; `snapshots/<commit>/<name>` is a link to it; `refs/<branch>` names the commit. Where
//! the system has no links for users (Windows), the snapshot holds the file itself, as the hub's own tools do it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::checksum::Checksum;
use super::names::{RepoId, Revision, hex_digits, is_text_gguf};
use super::partial::is_part;
use crate::bounded;
use crate::error::{Error, Result};

/// How long a removal waits for downloads to let go of their files.
const LET_GO: Duration = Duration::from_secs(1);
/// Bytes of a file that names a commit, at most.
const MAX_REF_BYTES: u64 = 1 << 10;
/// Bytes of a model's configuration or list of shards, and values in it, at most.
const MAX_SIDE_BYTES: u64 = 16 << 20;
const MAX_VALUES: usize = 200_000;

/// One repository's folder in a cache.
#[derive(Clone, Debug)]
pub struct RepoCache {
    cache: PathBuf,
    repo: RepoId,
}

/// A model that is in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Whose it is.
    pub repo: RepoId,
    /// The commit.
    pub commit: String,
    /// Its snapshot.
    pub folder: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
}

impl RepoCache {
    /// The place of `repo` in `cache`, whether it is there or not.
    #[must_use]
    pub fn new(cache: &Path, repo: &RepoId) -> Self {
        Self { cache: cache.to_owned(), repo: repo.clone() }
    }

    /// The repository's folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.cache.join(self.repo.folder())
    }

    /// Where a file lies, or will.
    #[must_use]
    pub fn blob(&self, checksum: &Checksum) -> PathBuf {
        self.folder().join("blobs").join(checksum.digits())
    }

    /// The files of a commit.
    #[must_use]
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit)
    }

    /// The lock that the hub's tools take while they fetch a file.
    pub(super) fn lock(&self, checksum: &Checksum) -> PathBuf {
        self.cache.join(".locks").join(self.repo.folder()).join(format!("{}.lock", checksum.digits()))
    }

    /// The commit a revision stands for, as it was when it was fetched last.
    #[must_use]
    pub fn commit_of(&self, revision: &Revision) -> Option<String> {
        let path = self.folder().join("refs").join(revision.as_str());
        let text = bounded::file(&path, MAX_REF_BYTES).and_then(bounded::text).unwrap_or_default();
        hex_digits(text.trim(), 40).or_else(|| hex_digits(revision.as_str(), 40))
    }

    /// The snapshot of a revision, if it is there with all that a model needs.
    #[must_use]
    pub fn find(&self, revision: &Revision) -> Option<Cached> {
        let commit = self.commit_of(revision)?;
        let folder = self.snapshot(&commit);
        let bytes = model_bytes(&folder)?;
        Some(Cached { repo: self.repo.clone(), commit, folder, bytes })
    }

    /// Makes the folders for a download.
    pub(super) fn make(&self) -> Result<()> {
        let fail = |path: &Path, e: io::Error| {
            Error::new("making folders for the model", e)
                .at_path(path)
                .help("make this folder writable, or set HF_HUB_CACHE to another one")
        };
        for folder in [self.folder().join("blobs"), self.cache.join(".locks").join(self.repo.folder())] {
            fs::create_dir_all(&folder).map_err(|e| fail(&folder, e))?;
        }
        // Programs that make backups leave such folders out.
        let tag = self.cache.join("CACHEDIR.TAG");
        if !tag.exists() {
            drop(fs::write(tag, "Signature: 8a477f597d28d172789f06886806bc55\n"));
        }
        Ok(())
    }

    /// Gives a complete file its name in a snapshot.
    pub(super) fn publish(&self, commit: &str, name: &Path, checksum: &Checksum) -> Result<()> {
        let blob = self.blob(checksum);
        let pointer = self.snapshot(commit).join(name);
        let fail = |e: io::Error| Error::new("putting the file into its place", e).at_path(&pointer);
        let length = |path: &Path| fs::metadata(path).map(|m| m.len()).ok();
        if pointer.exists() && (length(&blob).is_none() || length(&blob) == length(&pointer)) {
            return Ok(());
        }
        if let Some(parent) = pointer.parent() {
            fs::create_dir_all(parent).map_err(fail)?;
        }
        // A link to a file that is gone.
        drop(fs::remove_file(&pointer));
        let up = "../".repeat(name.components().count() + 1);
        let target = PathBuf::from(format!("{up}blobs/{}", checksum.digits()));
        if link(&target, &pointer).is_ok() {
            return Ok(());
        }
        // Where nobody may make links the snapshot has a file of its own: another name of the same one, or a copy.
        fs::hard_link(&blob, &pointer).or_else(|_| fs::copy(&blob, &pointer).map(|_| ())).map_err(fail)
    }

    /// Notes that a revision stands for a commit.
    pub(super) fn note_revision(&self, revision: &Revision, commit: &str) -> Result<()> {
        let path = self.folder().join("refs").join(revision.as_str());
        if revision.as_str() == commit {
            return Ok(());
        }
        let fail = |e: io::Error| Error::new("noting the revision", e).at_path(&path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(fail)?;
        }
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&temporary, commit).and_then(|()| fs::rename(&temporary, &path)).map_err(fail)
    }

    /// Complete files of the repository, with what each must add up to.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn blobs(&self) -> Result<Vec<(PathBuf, Checksum)>> {
        let folder = self.folder().join("blobs");
        let entries = fs::read_dir(&folder)
            .map_err(|e| Error::new("looking for the model's files", e).at_path(&folder))?;
        let mut blobs: Vec<_> = entries
            .flatten()
            .filter_map(|entry| Some((entry.path(), Checksum::of_name(entry.file_name().to_str()?)?)))
            .collect();
        blobs.sort();
        Ok(blobs)
    }

    /// Bytes of downloads that are not complete.
    #[must_use]
    pub fn unfinished_bytes(&self) -> u64 {
        let entries = fs::read_dir(self.folder().join("blobs")).into_iter().flatten().flatten();
        entries
            .filter(|entry| is_part(&entry.file_name().to_string_lossy()))
            .filter_map(|entry| allocated(&entry.path()))
            .sum()
    }

    /// Removes the repository from the cache, unfinished downloads with it.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove(&self) -> Result<()> {
        let folder = self.folder();
        let _locks = self.lock_all()?;
        fs::remove_dir_all(&folder).map_err(|e| Error::new("removing", e).at_path(&folder))
    }

    /// All locks of the repository that downloads may have taken. The files stay: another process may wait for one.
    fn lock_all(&self) -> Result<Vec<fs::File>> {
        let folder = self.cache.join(".locks").join(self.repo.folder());
        let mut locks = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(file) = fs::File::options().write(true).open(entry.path()) else { continue };
            // A download that has just ended lets go in a moment.
            let until = Instant::now() + LET_GO;
            while matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)) {
                if Instant::now() < until {
                    std::thread::park_timeout(Duration::from_millis(20));
                    continue;
                }
                return Err(Error::new("removing", "a download of it is running")
                    .at(&self.repo)
                    .help("pause the download first"));
            }
            locks.push(file);
        }
        Ok(locks)
    }

    /// Bytes of all that is there of the repository: every commit's files, unfinished ones too.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        let entries = fs::read_dir(self.folder().join("blobs")).into_iter().flatten().flatten();
        let sizes =
            entries.filter_map(|entry| Some(allocated(&entry.path())?.min(entry.metadata().ok()?.len())));
        sizes.sum()
    }
}

/// All Qwen3-VL models in a cache that are complete, each at the commits that are there.
#[must_use]
pub fn list(cache: &Path) -> Vec<Cached> {
    let mut all = Vec::new();
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let Some(repo) = entry.file_name().to_str().and_then(RepoId::of_folder) else { continue };
        for snapshot in fs::read_dir(entry.path().join("snapshots")).into_iter().flatten().flatten() {
            let Some(commit) = snapshot.file_name().to_str().and_then(|name| hex_digits(name, 40)) else {
                continue;
            };
            let folder = snapshot.path();
            if let Some(bytes) = model_bytes(&folder) {
                all.push(Cached { repo: repo.clone(), commit, folder, bytes });
            }
        }
    }
    all.sort_by(|a, b| (&a.repo, &a.commit).cmp(&(&b.repo, &b.commit)));
    all
}

/// Bytes of the model in a folder, if it is a Qwen3-VL checkpoint with all its shards, or GGUFs.
#[must_use]
pub fn model_bytes(folder: &Path) -> Option<u64> {
    let read = |name: &str| {
        let bytes = bounded::file(&folder.join(name), MAX_SIDE_BYTES).ok()?;
        bounded::json(&bytes, MAX_VALUES).ok()
    };
    let mut bytes = 0;
    let mut weights = 0;
    let mut names = Vec::new();
    let mut has_gguf = false;
    for entry in fs::read_dir(folder).ok()?.flatten() {
        // Through links: the file itself.
        let Ok(metadata) = fs::metadata(entry.path()) else { return None };
        let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
        bytes += metadata.len();
        weights += usize::from(name.ends_with(".safetensors"));
        names.push(name.clone());
        has_gguf |= is_text_gguf(&name);
    }
    if !shards_are_complete(&names) {
        return None;
    }
    if has_gguf && weights == 0 {
        return Some(bytes);
    }
    if !folder.join("tokenizer.json").is_file() {
        return None;
    }
    let config = read("config.json")?;
    if config.get("model_type")?.as_str()? != "qwen3_vl" {
        return None;
    }
    if folder.join("model.safetensors.index.json").exists() {
        let index = read("model.safetensors.index.json")?;
        let mut shards = index.get("weight_map")?.as_object()?.values().filter_map(|name| name.as_str());
        if !shards.all(|name| super::names::safe_path(name).is_some_and(|path| folder.join(path).is_file())) {
            return None;
        }
    }
    (weights > 0).then_some(bytes)
}

/// Of files called `…-00001-of-00004.…` all must be there.
fn shards_are_complete(names: &[String]) -> bool {
    names.iter().all(|name| {
        let Some((before, after)) = name.split_once("-of-") else { return true };
        let (Some((stem, first)), Some((count, end))) = (before.rsplit_once('-'), after.split_once('.'))
        else {
            return true;
        };
        match (first.parse::<usize>(), count.parse::<usize>()) {
            (Ok(_), Ok(all)) if all <= 10_000 => (1..=all).all(|n| {
                let width = first.len();
                names.contains(&format!("{stem}-{n:0width$}-of-{count}.{end}"))
            }),
            _ => true,
        }
    })
}

/// Bytes a file takes on the disk: one with holes takes less than its length.
fn allocated(path: &Path) -> Option<u64> {
    let metadata = fs::metadata(path).ok()?;
    #[cfg(unix)]
    let bytes = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
    #[cfg(not(unix))]
    let bytes = metadata.len();
    Some(bytes)
}

#[cfg(unix)]
fn link(target: &Path, pointer: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, pointer)
}

#[cfg(windows)]
fn link(target: &Path, pointer: &Path) -> io::Result<()> {
    let target: PathBuf = target.components().collect();
    std::os::windows::fs::symlink_file(target, pointer)
}
