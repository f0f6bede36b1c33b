//! Room `hub`: a model fetched from a hub, or taken from the cache where it is there already.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::cache::RepoCache;
pub use super::download::Patience;
use super::download::{Download, Fetch};
use super::http::{Client, Failure};
use super::listing::{Listing, RemoteFile, ask};
use super::names::{RepoId, Revision, is_text_gguf, text_ggufs};
use super::partial::already_there;
use super::settings::HubSettings;
use super::space::{free_on_disk, words};
use crate::error::{Error, Result};

const DOING: &str = "downloading";
/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);
/// Speed is an average over this time.
const WINDOW: Duration = Duration::from_secs(4);
/// What is left free on the disk.
const RESERVE_BYTES: u64 = 64 << 20;

/// What to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    /// The repository.
    pub repo: RepoId,
    /// The branch, tag or commit.
    pub revision: Revision,
    /// Of a repository with GGUFs: which of them, by its quantisation (`Q8_0`) or its file's name.
    pub quantisation: Option<String>,
    /// Connections at a time.
    pub connections: usize,
    /// How often what fails is tried again.
    pub patience: Patience,
}

impl PullRequest {
    /// The newest files of a repository.
    #[must_use]
    pub fn new(repo: RepoId) -> Self {
        Self {
            repo,
            revision: Revision::default(),
            quantisation: None,
            connections: 4,
            patience: Patience::default(),
        }
    }
}

/// What a download is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullStage {
    /// It asks the hub what there is.
    Asking,
    /// Another program is fetching the same file.
    Waiting,
    /// Bytes come.
    Fetching,
    /// All bytes are there; checksums are being finished.
    Verifying,
}

/// How far a download is.
#[derive(Clone, Debug, PartialEq)]
pub struct PullProgress {
    /// What it is doing.
    pub stage: PullStage,
    /// Bytes on the disk, those of earlier days with them.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Files complete and verified.
    pub done_files: usize,
    /// Files in all.
    pub total_files: usize,
    /// Bytes a second, lately; `None` at the beginning.
    pub bytes_per_sec: Option<f64>,
    /// Seconds left at that speed.
    pub left_secs: Option<f64>,
    /// What goes wrong just now, while it is tried again.
    pub trouble: Option<String>,
}

/// A model that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// What to open: the snapshot's folder, or a GGUF in it.
    pub model: PathBuf,
    /// The commit.
    pub commit: String,
    /// Bytes of its files.
    pub total_bytes: u64,
    /// Bytes that came over the network this time.
    pub received_bytes: u64,
    /// The hub could not be asked, and why: this is what the cache has.
    pub not_asked: Option<Error>,
}

/// Fetches a model into the hub's cache. What is there already, complete or in part, is not fetched again. `progress` is
/// called on this thread, ten times a second. `cancel` stops it within a moment; what has come is kept.
///
/// # Errors
/// The hub cannot be reached or refuses; the disk is full; what comes is not what the hub promises; cancelled.
pub fn pull(
    settings: &HubSettings,
    request: &PullRequest,
    progress: &mut dyn FnMut(&PullProgress),
    cancel: &AtomicBool,
) -> Result<Pulled> {
    let cache = RepoCache::new(&settings.cache, &request.repo);
    let mut report = Report { progress, cancel, shown: PullProgress::nothing(), samples: VecDeque::new() };
    if settings.offline {
        return from_cache(&cache, request, None).ok_or_else(|| {
            Error::new(DOING, "HF_HUB_OFFLINE is set, and it is not in the cache")
                .at(&request.repo)
                .help("unset HF_HUB_OFFLINE to download it")
        });
    }
    let client = Client::new(settings);
    let listing = match ask_patiently(&client, request, &mut report) {
        Ok(listing) => listing,
        Err(Failure::Passing(error, _)) => {
            return from_cache(&cache, request, Some(error.clone())).ok_or(error);
        }
        Err(Failure::Final(error)) => return Err(error),
    };
    let listing = listing.choose(&request.repo, request.quantisation.as_deref())?;
    fetch(&client, &cache, request, listing, &mut report)
}

fn from_cache(cache: &RepoCache, request: &PullRequest, not_asked: Option<Error>) -> Option<Pulled> {
    let found = cache.find(&request.revision)?;
    let model =
        gguf_in(&found.folder, request.quantisation.as_deref()).unwrap_or_else(|| found.folder.clone());
    Some(Pulled { model, commit: found.commit, total_bytes: found.bytes, received_bytes: 0, not_asked })
}

/// The text GGUF of a snapshot, where it has one: that of the quantisation, if there are several.
fn gguf_in(folder: &Path, quantisation: Option<&str>) -> Option<PathBuf> {
    let wanted = quantisation.unwrap_or("Q8_0").to_ascii_lowercase();
    let texts = text_ggufs(folder);
    let is_wanted = |path: &&PathBuf| path.to_string_lossy().to_ascii_lowercase().contains(&wanted);
    texts.iter().find(is_wanted).or(texts.first()).cloned()
}

fn ask_patiently(
    client: &Client,
    request: &PullRequest,
    report: &mut Report<'_>,
) -> Result<Listing, Failure> {
    // The same question on a thread of its own: a hub that says nothing must not keep anybody from cancelling.
    let (say, hear) = mpsc::channel();
    // Hung up when nobody waits for the answer any more.
    let (_still_wanted, hung_up) = mpsc::channel::<()>();
    let (asking, what) = (client.clone(), request.clone());
    let asked = thread::Builder::new().name("hub".to_owned()).spawn(move || {
        let mut failures = 0;
        loop {
            let answer = ask(&asking, &what.repo, &what.revision);
            let pause = match &answer {
                Err(Failure::Passing(_, wait)) => {
                    failures += 1;
                    (failures < what.patience.tries.min(4)).then(|| what.patience.pause(failures, *wait))
                }
                _ => None,
            };
            let goes_on = pause.is_some();
            let heard = say.send((answer, goes_on)).is_ok();
            if !heard
                || !goes_on
                || hung_up.recv_timeout(pause.unwrap_or_default()) != Err(RecvTimeoutError::Timeout)
            {
                break;
            }
        }
    });
    asked.map_err(|e| Failure::Final(Error::new(DOING, format!("the system refuses a thread: {e}"))))?;
    loop {
        report.tell().map_err(Failure::Final)?;
        match hear.recv_timeout(TICK) {
            Ok((Err(failure), true)) => report.shown.trouble = Some(failure.into_error().to_string()),
            Ok((answer, _)) => return answer,
            Err(RecvTimeoutError::Timeout) => {}
            Err(e) => return Err(Failure::Final(Error::new(DOING, e))),
        }
    }
}

fn fetch(
    client: &Client,
    cache: &RepoCache,
    request: &PullRequest,
    listing: Listing,
    report: &mut Report<'_>,
) -> Result<Pulled> {
    cache.make()?;
    let mut locks = Vec::new();
    let mut missing: Vec<RemoteFile> = Vec::new();
    let mut files = listing.files;
    files.sort_by_key(|file| file.bytes);
    let total_bytes = files.iter().map(|file| file.bytes).sum();
    report.shown.total_bytes = total_bytes;
    report.shown.total_files = files.len();
    for file in &files {
        let (blob, pointer) = (cache.blob(&file.checksum), cache.snapshot(&listing.commit).join(&file.path));
        let is_there = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|m| m.len() == file.bytes);
        let is_known = missing.iter().any(|other| other.checksum == file.checksum);
        if !is_known && !is_there(&blob) && !is_there(&pointer) {
            locks.extend(take_lock(&cache.lock(&file.checksum), report)?);
            // Whoever held the lock may have brought it.
            if !is_there(&blob) {
                missing.push(file.clone());
            }
        }
    }
    // Two files of the same bytes are one.
    let there: u64 = total_bytes - missing.iter().map(|file| file.bytes).sum::<u64>();
    let begun = |file: &RemoteFile| already_there(&cache.blob(&file.checksum), file.bytes);
    let needed: u64 = missing.iter().map(|file| file.bytes - begun(file)).sum();
    check_room(cache, request, needed)?;
    let whole = files.len() - missing.len();
    let fetches = missing
        .into_iter()
        .map(|file| {
            let blob = cache.blob(&file.checksum);
            Fetch::new(file, blob)
        })
        .collect::<Result<Vec<_>>>()?;
    let download = Download::start(
        client,
        &request.repo,
        &listing.commit,
        fetches,
        locks,
        request.connections,
        request.patience,
    )?;
    loop {
        report.follow(&download, there, whole)?;
        if let Some(result) = download.result() {
            result?;
            break;
        }
        download.wait(TICK);
    }
    let received_bytes = download.received_bytes();
    for file in &files {
        cache.publish(&listing.commit, &file.path, &file.checksum)?;
    }
    cache.note_revision(&request.revision, &listing.commit)?;
    report.follow(&download, there, whole)?;
    let snapshot = cache.snapshot(&listing.commit);
    let is_text = |file: &&RemoteFile| is_text_gguf(&file.name);
    let model = files.iter().find(is_text).map_or(snapshot.clone(), |file| snapshot.join(&file.path));
    Ok(Pulled { model, commit: listing.commit, total_bytes, received_bytes, not_asked: None })
}

/// Waits until no other program fetches this file. `None` where the file system has no locks.
fn take_lock(path: &Path, report: &mut Report<'_>) -> Result<Option<File>> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|e| Error::new(DOING, e).at_path(path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => {
                report.shown.stage = PullStage::Waiting;
                report.tell()?;
                // Nobody tells when another program is done.
                thread::park_timeout(TICK);
            }
            Err(std::fs::TryLockError::Error(_)) => return Ok(None),
        }
    }
}

fn check_room(cache: &RepoCache, request: &PullRequest, needed: u64) -> Result<()> {
    let folder = cache.folder();
    match free_on_disk(&folder) {
        Some(free) if needed > 0 && free < needed + RESERVE_BYTES.min(needed / 8) => Err(Error::new(
            DOING,
            format!("{} are needed on the disk and {} are free", words(needed), words(free)),
        )
        .at(&request.repo)
        .at_path(&folder)
        .help("free some space, or set HF_HUB_CACHE to a folder on another disk; what has come is kept")),
        _ => Ok(()),
    }
}

/// Tells how far it is, and hears whether to stop.
struct Report<'a> {
    progress: &'a mut dyn FnMut(&PullProgress),
    cancel: &'a AtomicBool,
    shown: PullProgress,
    /// When how many bytes had been received.
    samples: VecDeque<(Instant, u64)>,
}

impl PullProgress {
    fn nothing() -> Self {
        Self {
            stage: PullStage::Asking,
            done_bytes: 0,
            total_bytes: 0,
            done_files: 0,
            total_files: 0,
            bytes_per_sec: None,
            left_secs: None,
            trouble: None,
        }
    }
}

impl Report<'_> {
    fn tell(&mut self) -> Result<()> {
        (self.progress)(&self.shown);
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::cancelled(DOING));
        }
        Ok(())
    }

    fn follow(&mut self, download: &Download, there: u64, whole: usize) -> Result<()> {
        let now = Instant::now();
        let received = download.received_bytes();
        self.samples.push_back((now, received));
        while self.samples.len() > 2 && self.samples.front().is_some_and(|(time, _)| now - *time > WINDOW) {
            self.samples.pop_front();
        }
        let speed = self.samples.front().and_then(|(time, before)| {
            let secs = (now - *time).as_secs_f64();
            (secs > 0.5).then(|| (received - before) as f64 / secs)
        });
        let files = download.files();
        let shown = &mut self.shown;
        shown.done_bytes = there + files.iter().map(Fetch::done_bytes).sum::<u64>();
        shown.done_files = whole + files.iter().filter(|file| file.is_verified()).count();
        shown.stage =
            if shown.done_bytes < shown.total_bytes { PullStage::Fetching } else { PullStage::Verifying };
        shown.bytes_per_sec = speed;
        let left = shown.total_bytes.saturating_sub(shown.done_bytes) as f64;
        shown.left_secs = speed.filter(|speed| *speed > 1.0).map(|speed| left / speed);
        shown.trouble = download.trouble().map(|error| error.to_string());
        self.tell()
    }
}
