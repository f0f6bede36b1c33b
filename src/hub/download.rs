//! Room `hub`: fetching files: several connections, each on a segment at a time; retries; a checksum that grows behind
//! them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ureq::Body;
use ureq::http::{Response, StatusCode};

use super::http::{Client, Failure};
use super::listing::RemoteFile;
use super::names::RepoId;
use super::partial::PartialFile;
use crate::error::{Error, Result};

const DOING: &str = "downloading";
/// Bytes read, written and noted at a time: what a killed program fetches twice, at most, for each connection.
const CHUNK_BYTES: usize = 256 << 10;
/// How often everybody looks whether they should stop.
const LOOK: Duration = Duration::from_millis(100);

/// How often what fails is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Failures in a row, without a byte in between, until it is given up.
    pub tries: u32,
    /// Pause after the first of them; each next one is twice as long.
    pub first_pause: Duration,
    /// No pause is longer, except where the hub asks for it.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { tries: 8, first_pause: Duration::from_millis(500), longest_pause: Duration::from_secs(20) }
    }
}

impl Patience {
    /// The pause after so many failures in a row.
    pub(super) fn pause(&self, failures: u32, asked: Option<Duration>) -> Duration {
        // Nobody waits longer than this for a hub that wants to be left alone: the user is told instead.
        const MOST_ASKED: Duration = Duration::from_mins(5);
        let doubled = self.first_pause.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.longest_pause).max(asked.unwrap_or_default().min(MOST_ASKED))
    }
}

/// A file to fetch.
#[derive(Debug)]
pub(super) struct Fetch {
    pub remote: RemoteFile,
    pub blob: PathBuf,
    partial: PartialFile,
    /// Which segments have a connection.
    claimed: Vec<AtomicBool>,
    /// Held by the one that reads the file from its beginning, where the hub sends no parts.
    whole: Mutex<()>,
    /// The hub has sent the whole file where a part was asked for: it is asked for one at a time.
    no_parts: AtomicBool,
    verified: AtomicBool,
}

impl Fetch {
    /// Opens or makes room for the partial file.
    pub(super) fn new(remote: RemoteFile, blob: PathBuf) -> Result<Self> {
        let partial = PartialFile::open(&blob, remote.bytes)?;
        let claimed = (0..partial.segments()).map(|_| AtomicBool::new(false)).collect();
        Ok(Self {
            remote,
            blob,
            partial,
            claimed,
            whole: Mutex::new(()),
            no_parts: AtomicBool::new(false),
            verified: AtomicBool::new(false),
        })
    }

    /// Bytes that are on the disk.
    pub(super) fn done_bytes(&self) -> u64 {
        self.partial.total_done()
    }

    /// Is it complete and right?
    pub(super) fn is_verified(&self) -> bool {
        self.verified.load(Ordering::Acquire)
    }

    fn claim(&self, segment: usize) -> Option<Claim<'_>> {
        let flag = self.claimed.get(segment)?;
        (!flag.swap(true, Ordering::AcqRel)).then_some(Claim(flag))
    }
}

/// A segment that is this thread's to write.
struct Claim<'a>(&'a AtomicBool);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A download under way. Its threads end by themselves, soon after it is dropped or fails.
#[derive(Debug)]
pub(super) struct Download {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    repo: RepoId,
    commit: String,
    patience: Patience,
    files: Vec<Fetch>,
    queue: Mutex<VecDeque<(usize, usize)>>,
    stop: AtomicBool,
    failure: Mutex<Option<Error>>,
    /// What is being waited for, if anything.
    trouble: Mutex<Option<Error>>,
    received: AtomicU64,
    /// Rung when bytes have come.
    bytes_bell: Bell,
    /// Rung when a file is done or wrong, and when everything stops.
    state_bell: Bell,
    /// Held until the last thread has ended: nobody else may touch these files before.
    _locks: Vec<File>,
}

/// Wakes threads that wait for something to change.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<u64>,
    condition: Condvar,
}

impl Bell {
    fn ring(&self) {
        *lock(&self.rung) += 1;
        self.condition.notify_all();
    }

    /// Waits until it rings or the time is over.
    fn wait(&self, time: Duration) {
        let rung = lock(&self.rung);
        let before = *rung;
        drop(self.condition.wait_timeout_while(rung, time, |now| *now == before));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Download {
    /// Starts `connections` threads, and one for the checksums.
    pub(super) fn start(
        client: &Client,
        repo: &RepoId,
        commit: &str,
        files: Vec<Fetch>,
        locks: Vec<File>,
        connections: usize,
        patience: Patience,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            client: client.clone(),
            repo: repo.clone(),
            commit: commit.to_owned(),
            patience,
            files,
            queue: Mutex::default(),
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
            trouble: Mutex::new(None),
            received: AtomicU64::new(0),
            bytes_bell: Bell::default(),
            state_bell: Bell::default(),
            _locks: locks,
        });
        for file in 0..shared.files.len() {
            shared.enqueue(file);
        }
        // From here on, dropping it stops the threads that have begun.
        let download = Self { shared };
        let spawn = |name: &str, work: fn(&Shared)| {
            let shared = Arc::clone(&download.shared);
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || work(&shared))
                .map_err(|e| Error::new(DOING, format!("the system refuses a thread: {e}")))
        };
        for _ in 0..connections.max(1) {
            spawn("download", Shared::fetch_all)?;
        }
        spawn("checksum", Shared::verify_all)?;
        Ok(download)
    }

    pub(super) fn files(&self) -> &[Fetch] {
        &self.shared.files
    }

    /// Waits until a file is done, everything has failed, or the time is over.
    pub(super) fn wait(&self, time: Duration) {
        self.shared.state_bell.wait(time);
    }

    /// Bytes that came over the network.
    pub(super) fn received_bytes(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// What is going wrong just now, while it is tried again.
    pub(super) fn trouble(&self) -> Option<Error> {
        lock(&self.shared.trouble).clone()
    }

    /// Everything is there and right, or why not; `None` while it goes on.
    pub(super) fn result(&self) -> Option<Result<()>> {
        if let Some(error) = lock(&self.shared.failure).clone() {
            return Some(Err(error));
        }
        self.files().iter().all(Fetch::is_verified).then_some(Ok(()))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.shared.halt();
        // Whoever waits for bytes of the network is told at once.
        self.shared.client.shut_down();
    }
}

/// The part must be the one that was asked for, of a file that is as long as the hub said.
fn check_range(response: &Response<Body>, fetch: &Fetch, first: u64) -> Result<(), Failure> {
    let header = response.headers().get("content-range").and_then(|value| value.to_str().ok());
    let parsed = header.and_then(|text| {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        Some((range.split_once('-')?.0.trim().parse::<u64>().ok()?, total.trim().parse::<u64>().ok()))
    });
    match parsed {
        Some((start, total)) if start == first && total.is_none_or(|total| total == fetch.remote.bytes) => {
            Ok(())
        }
        _ => Err(Failure::Passing(
            Error::new(
                DOING,
                format!(
                    "the hub sent another part than the one it was asked for, or of another file ({})",
                    header.unwrap_or("no content-range")
                ),
            )
            .at(&fetch.remote.name),
            None,
        )),
    }
}

impl Shared {
    fn enqueue(&self, file: usize) {
        let Some(fetch) = self.files.get(file) else { return };
        let open = (0..fetch.partial.segments())
            .filter(|segment| fetch.partial.done(*segment) < fetch.partial.segment(*segment).1);
        lock(&self.queue).extend(open.map(|segment| (file, segment)));
        self.state_bell.ring();
    }

    fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn fail(&self, error: Error) {
        lock(&self.failure).get_or_insert(error);
        self.halt();
    }

    fn halt(&self) {
        self.stop.store(true, Ordering::Release);
        self.state_bell.ring();
        self.bytes_bell.ring();
    }

    /// Waits, unless everything stops.
    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.should_stop()
            && let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero())
        {
            self.state_bell.wait(rest.min(LOOK));
        }
    }

    /// A connection's thread: takes segments until all files are verified.
    fn fetch_all(&self) {
        while !self.should_stop() && !self.files.iter().all(Fetch::is_verified) {
            let next = lock(&self.queue).pop_front();
            match next {
                Some((file, segment)) => {
                    let Some(fetch) = self.files.get(file) else { continue };
                    if let Err(error) = self.fetch_patiently(fetch, segment) {
                        self.fail(error);
                    } else if fetch.partial.done(segment) < fetch.partial.segment(segment).1 {
                        // Another connection has it just now, and may leave it undone.
                        lock(&self.queue).push_back((file, segment));
                        self.state_bell.wait(LOOK);
                    }
                }
                // A file whose checksum is wrong comes back into the queue.
                None => self.state_bell.wait(LOOK),
            }
        }
    }

    fn fetch_patiently(&self, fetch: &Fetch, segment: usize) -> Result<()> {
        let mut failures = 0;
        loop {
            let before = fetch.partial.done(segment);
            let failure = match self.fetch(fetch, segment) {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if self.should_stop() {
                return Ok(());
            }
            let (error, asked) = match failure {
                Failure::Final(error) => return Err(error),
                Failure::Passing(error, asked) => (error, asked),
            };
            failures = if fetch.partial.done(segment) > before { 1 } else { failures + 1 };
            if failures >= self.patience.tries {
                return Err(error);
            }
            tracing::debug!("{error}; trying again");
            *lock(&self.trouble) = Some(error);
            self.pause(self.patience.pause(failures, asked));
        }
    }

    /// Fetches what is missing of a segment.
    fn fetch(&self, fetch: &Fetch, segment: usize) -> Result<(), Failure> {
        let (start, length) = fetch.partial.segment(segment);
        let name = &fetch.remote.name;
        let address = fetch.remote.address(&self.repo, &self.commit);
        if fetch.no_parts.load(Ordering::Acquire) {
            let Ok(_alone) = fetch.whole.try_lock() else { return Ok(()) };
            if fetch.partial.done(segment) >= length {
                return Ok(());
            }
            let response = self.client.get(&address, None, DOING, name)?;
            return self.read_whole(fetch, response);
        }
        let claim = fetch.claim(segment);
        let done = fetch.partial.done(segment);
        if claim.is_none() || done >= length {
            return Ok(());
        }
        let (first, last) = (start + done, start + length - 1);
        let response = self.client.get(&address, Some((first, last)), DOING, name)?;
        if response.status() == StatusCode::PARTIAL_CONTENT {
            check_range(&response, fetch, first)?;
            *lock(&self.trouble) = None;
            let mut at = first;
            return self.read(fetch, response, |bytes| {
                at += bytes.len() as u64;
                fetch.partial.write(segment, bytes)?;
                Ok(at > last)
            });
        }
        // The hub sends the whole file, whatever it is asked for: then one connection takes all of it.
        fetch.no_parts.store(true, Ordering::Release);
        drop(claim);
        let Ok(_alone) = fetch.whole.try_lock() else { return Ok(()) };
        self.read_whole(fetch, response)
    }

    /// Reads a file from its beginning and keeps what is missing.
    fn read_whole(&self, fetch: &Fetch, response: Response<Body>) -> Result<(), Failure> {
        let mut at = 0_u64;
        let mut segment = 0;
        let mut claim = fetch.claim(0);
        let all = fetch.remote.bytes;
        *lock(&self.trouble) = None;
        self.read(fetch, response, |mut bytes| {
            while !bytes.is_empty() && segment < fetch.partial.segments() {
                let (start, length) = fetch.partial.segment(segment);
                let here = usize::try_from(start + length - at).unwrap_or(usize::MAX).min(bytes.len());
                let (now, later) = bytes.split_at(here);
                // Only what goes on where the segment ends: it may have been begun anew meanwhile.
                let skip = (start + fetch.partial.done(segment)).checked_sub(at);
                if claim.is_some()
                    && let Some(skip) = skip.and_then(|skip| usize::try_from(skip).ok())
                    && let Some(new) = now.get(skip..)
                {
                    fetch.partial.write(segment, new)?;
                }
                at += now.len() as u64;
                bytes = later;
                if at == start + length {
                    segment += 1;
                    drop(claim.take());
                    claim = fetch.claim(segment);
                }
            }
            Ok(at >= all)
        })
    }

    /// Reads a body in chunks until `take` has enough.
    fn read(
        &self,
        fetch: &Fetch,
        response: Response<Body>,
        mut take: impl FnMut(&[u8]) -> Result<bool>,
    ) -> Result<(), Failure> {
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let mut filled = 0;
            let mut ended = None;
            while filled < buffer.len() && ended.is_none() {
                match body.read(buffer.get_mut(filled..).unwrap_or_default()) {
                    Ok(0) => ended = Some("it ended too early".to_owned()),
                    Ok(count) => filled += count,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => ended = Some(e.to_string()),
                }
                if self.should_stop() {
                    return Ok(());
                }
            }
            self.received.fetch_add(filled as u64, Ordering::Relaxed);
            let enough = take(buffer.get(..filled).unwrap_or_default()).map_err(Failure::Final)?;
            self.bytes_bell.ring();
            if enough {
                return Ok(());
            }
            if let Some(why) = ended {
                let error = Error::new(DOING, format!("the connection broke off: {why}"))
                    .at(&fetch.remote.name)
                    .help("go on later: what has come is kept");
                return Err(Failure::Passing(error, None));
            }
        }
    }

    /// The thread of the checksums: follows each file as it grows, from its beginning.
    fn verify_all(&self) {
        for (index, fetch) in self.files.iter().enumerate() {
            for attempt in 0.. {
                match self.verify(fetch) {
                    _ if self.should_stop() => return,
                    Ok(Some(true)) => {
                        if let Err(error) = fetch.partial.finish(&fetch.blob) {
                            return self.fail(error);
                        }
                        fetch.verified.store(true, Ordering::Release);
                        self.state_bell.ring();
                        break;
                    }
                    Ok(Some(false)) if attempt == 0 => {
                        tracing::warn!("{} came with a wrong checksum; fetching it again", fetch.remote.name);
                        if let Err(error) = fetch.partial.begin_anew() {
                            return self.fail(error);
                        }
                        self.enqueue(index);
                    }
                    Ok(Some(false)) => {
                        drop(fetch.partial.begin_anew());
                        return self.fail(
                            Error::new(DOING, "its checksum is wrong, twice: what comes is not what the hub promises")
                                .at(&fetch.remote.name)
                                .help("something between here and the hub changes files: try another network, or another day"),
                        );
                    }
                    Ok(None) => return,
                    Err(error) => return self.fail(error),
                }
            }
        }
    }

    /// `None`: everything stops.
    fn verify(&self, fetch: &Fetch) -> Result<Option<bool>> {
        let mut sum = fetch.remote.checksum.begin(fetch.remote.bytes);
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        while at < fetch.remote.bytes {
            if self.should_stop() {
                return Ok(None);
            }
            let there = usize::try_from(fetch.partial.front() - at).unwrap_or(usize::MAX);
            let count = there.min(buffer.len());
            if count == 0 {
                self.bytes_bell.wait(LOOK);
                continue;
            }
            let part = buffer.get_mut(..count).unwrap_or_default();
            fetch.partial.read(part, at)?;
            sum.add(part);
            at += count as u64;
        }
        Ok(Some(sum.end() == fetch.remote.checksum))
    }
}
