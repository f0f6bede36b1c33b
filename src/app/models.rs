//! Room `app`: the models of this machine, and what is being done with them, without egui. Each piece of work has a thread of
//! its own; a frame only takes in what the threads have sent.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, LazyLock};
use std::thread;

use crate::error::{Error, ErrorKind, Result};
use crate::hub::library::{Library, Model, Unfinished, Verified};
use crate::hub::pull::{PullProgress, PullRequest};
use crate::hub::{HubSettings, catalogue, pull};
use crate::model::gguf::find::{self, Found};
use crate::model::loaded::LoadOptions;
use crate::model::memory::{MemoryPlan, Room};
use crate::model::recipe::Recipe;
use crate::model::synth::Preset;

/// Called from a thread when something has come.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Something to be done with a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Fetch it from the hub, or go on with it.
    Pull(PullRequest),
    /// Compute its checksums again.
    Verify(Box<Model>),
    /// Remove it.
    Remove(Box<Model>),
    /// Remove what was converted of it with this recipe.
    RemoveConversions(Box<Model>, Recipe),
    /// Take a folder or file into the list.
    Import(PathBuf),
    /// Give it another name.
    Rename(Box<Model>, String),
    /// Remove damaged files that were found.
    Discard(Vec<PathBuf>),
    /// Look for GGUF files that other programs have downloaded.
    Find,
}

/// How a piece of work stands.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It goes on.
    Running,
    /// It was told to stop and has.
    Paused,
    /// It went wrong.
    Failed(Error),
    /// It is done; bytes that became free, where that is what it was about.
    Done(Option<u64>),
    /// Checksums were computed.
    Verified(Verified),
    /// The model is there: what to open; and why the hub could not be asked, if it could not.
    Pulled(PathBuf, Option<Error>),
    /// Damaged files were removed, except these, which are the user's own.
    Discarded(Vec<PathBuf>),
    /// GGUF files of other programs.
    Found(Vec<Found>),
}

/// A piece of work.
#[derive(Debug)]
pub struct Task {
    /// Tells it from the others.
    pub id: u64,
    /// What is done.
    pub work: Work,
    /// How it stands.
    pub outcome: Outcome,
    /// How far a download is.
    pub pulling: Option<PullProgress>,
    /// How far other work is: bytes done and in all.
    pub bytes: Option<(u64, u64)>,
    /// The user has asked it to stop.
    pub stopping: bool,
    /// The model is opened once it is there.
    pub opens: bool,
    cancel: Arc<AtomicBool>,
    events: Receiver<Event>,
}

enum Event {
    Pulling(PullProgress),
    Bytes(u64, u64),
    Ended(Outcome),
}

/// What is on the disk.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Models that are complete.
    pub models: Vec<Model>,
    /// Downloads that were begun.
    pub unfinished: Vec<Unfinished>,
}

/// The models of this machine.
pub struct Models {
    places: Result<(Library, HubSettings)>,
    /// The environment is read again for each download: a token may have come meanwhile.
    reads_environment: bool,
    /// What is on the disk, as it was looked at last.
    pub listing: Result<Listing>,
    looking: Option<Receiver<Result<Listing>>>,
    look_again: bool,
    /// Work under way and its ends, until they are closed.
    pub tasks: Vec<Task>,
    /// Room for a model on the device; `None`: nobody says.
    pub room: Option<Room>,
    wake: Wake,
    next_id: u64,
}

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Models")
            .field("listing", &self.listing)
            .field("tasks", &self.tasks)
            .finish_non_exhaustive()
    }
}

impl Models {
    /// Of this account; nothing is looked at before [`Models::look`]. `data`: the folder of conversations and names.
    #[must_use]
    pub fn new(data: Option<&Path>, room: Option<Room>, wake: Wake) -> Self {
        let mut models = Self::in_places(
            Library::find(data).and_then(|library| Ok((library, HubSettings::from_environment()?))),
            room,
            wake,
        );
        models.reads_environment = true;
        models
    }

    /// In these places; for tests.
    #[must_use]
    pub fn in_places(places: Result<(Library, HubSettings)>, room: Option<Room>, wake: Wake) -> Self {
        Self {
            places,
            reads_environment: false,
            listing: Ok(Listing::default()),
            looking: None,
            look_again: false,
            tasks: Vec::new(),
            room,
            wake,
            next_id: 0,
        }
    }

    /// Where the hub is.
    #[must_use]
    pub fn hub(&self) -> Option<&HubSettings> {
        self.places.as_ref().ok().map(|(_, settings)| settings)
    }

    /// Looks at the disk again.
    pub fn look(&mut self) {
        if self.looking.is_some() {
            self.look_again = true;
            return;
        }
        let (say, hear) = mpsc::channel();
        match &self.places {
            Ok((library, _)) => {
                let (library, wake) = (library.clone(), self.wake.clone());
                let looked = move || {
                    let listing =
                        library.list().map(|models| Listing { models, unfinished: library.unfinished() });
                    drop(say.send(listing));
                    wake();
                };
                match thread::Builder::new().name("models".to_owned()).spawn(looked) {
                    Ok(_) => self.looking = Some(hear),
                    Err(e) => self.listing = Err(Error::new("looking for models", e)),
                }
            }
            Err(error) => self.listing = Err(error.clone()),
        }
    }

    /// Begins work. A download of the same repository that has ended goes on in its place.
    pub fn begin(&mut self, work: Work, opens: bool) {
        if let Work::Pull(request) = &work {
            let same = |task: &Task| matches!(&task.work, Work::Pull(other) if other.repo == request.repo);
            if self.tasks.iter().any(|task| same(task) && matches!(task.outcome, Outcome::Running)) {
                return;
            }
            self.tasks.retain(|task| !same(task));
        }
        self.next_id += 1;
        let (say, events) = mpsc::channel();
        let cancel = Arc::new(AtomicBool::new(false));
        let mut task = Task {
            id: self.next_id,
            work: work.clone(),
            outcome: Outcome::Running,
            pulling: None,
            bytes: None,
            stopping: false,
            opens,
            cancel: cancel.clone(),
            events,
        };
        let begun = self.places.clone().and_then(|(library, settings)| {
            let (wake, reads_environment) = (self.wake.clone(), self.reads_environment);
            thread::Builder::new()
                .name("model work".to_owned())
                .spawn(move || {
                    let now = if reads_environment { HubSettings::from_environment() } else { Ok(settings) };
                    let settings = match now {
                        Ok(settings) => settings,
                        Err(error) => {
                            drop(say.send(Event::Ended(Outcome::Failed(error))));
                            return wake();
                        }
                    };
                    let outcome = carry_out(&library, &settings, &work, &say, &wake, &cancel);
                    drop(say.send(Event::Ended(outcome)));
                    wake();
                })
                .map_err(|e| Error::new("starting the work", e))
        });
        if let Err(error) = begun {
            task.outcome = Outcome::Failed(error);
        }
        self.tasks.push(task);
    }

    /// Asks work to stop; what has come of a download is kept.
    pub fn stop(&mut self, id: u64) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) {
            task.cancel.store(true, Ordering::Relaxed);
            task.stopping = true;
        }
    }

    /// Does work again that stopped or failed.
    pub fn again(&mut self, id: u64) {
        if let Some(at) = self.tasks.iter().position(|task| task.id == id) {
            let task = self.tasks.remove(at);
            self.begin(task.work, task.opens);
        }
    }

    /// Takes the end of work off the screen.
    pub fn close(&mut self, id: u64) {
        self.tasks.retain(|task| task.id != id || matches!(task.outcome, Outcome::Running));
    }

    /// Is anything going on?
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.looking.is_some() || self.tasks.iter().any(|task| matches!(task.outcome, Outcome::Running))
    }

    /// The download under way, if there is one.
    #[must_use]
    pub fn pulling(&self) -> Option<&PullProgress> {
        let mut running = self.tasks.iter().filter(|task| matches!(task.outcome, Outcome::Running));
        running.find_map(|task| task.pulling.as_ref())
    }

    /// Takes in what has come. Gives models to be opened, where `may_open` says that this disturbs nobody.
    pub fn poll(&mut self, may_open: bool) -> Vec<PathBuf> {
        let mut to_open = Vec::new();
        let mut changed = false;
        for task in &mut self.tasks {
            loop {
                match task.events.try_recv() {
                    Ok(Event::Pulling(progress)) => task.pulling = Some(progress),
                    Ok(Event::Bytes(done, total)) => task.bytes = Some((done, total)),
                    Ok(Event::Ended(outcome)) => {
                        if let (Outcome::Pulled(model, None), true) = (&outcome, task.opens) {
                            if may_open {
                                to_open.push(model.clone());
                            } else {
                                // Somebody is at work: a button offers it.
                                task.opens = false;
                            }
                        }
                        task.outcome = outcome;
                        task.stopping = false;
                        changed = true;
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        if matches!(task.outcome, Outcome::Running) {
                            let error =
                                Error::new("working on a model", "the thread has ended").help("try again");
                            task.outcome = Outcome::Failed(error);
                        }
                        break;
                    }
                }
            }
        }
        if let Some(looking) = &self.looking {
            match looking.try_recv() {
                Ok(listing) => {
                    self.listing = listing;
                    self.looking = None;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.looking = None,
            }
        }
        if changed || (self.look_again && self.looking.is_none()) {
            self.look_again = false;
            self.look();
        }
        // What is done and needs no reading is gone.
        self.tasks.retain(|task| {
            !matches!(&task.outcome, Outcome::Done(None))
                && !matches!(&task.outcome, Outcome::Discarded(left) if left.is_empty())
        });
        to_open
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.cancel.store(true, Ordering::Relaxed);
        }
    }
}

fn carry_out(
    library: &Library,
    settings: &HubSettings,
    work: &Work,
    say: &Sender<Event>,
    wake: &Wake,
    cancel: &AtomicBool,
) -> Outcome {
    let tell = |event| {
        drop(say.send(event));
        wake();
    };
    let result = match work {
        Work::Pull(request) => {
            pull(settings, request, &mut |progress| tell(Event::Pulling(progress.clone())), cancel)
                .map(|pulled| Outcome::Pulled(pulled.model, pulled.not_asked))
        }
        Work::Verify(name) => {
            let mut told = 0;
            let mut show = |done: u64, total: u64| {
                // A hundred times is often enough.
                if done == total || done >= told + total / 100 {
                    told = done;
                    tell(Event::Bytes(done, total));
                }
            };
            library.verify(name, &mut show, cancel).map(Outcome::Verified)
        }
        Work::Remove(name) => library.remove(name).map(|bytes| Outcome::Done(Some(bytes))),
        Work::RemoveConversions(model, recipe) => {
            Library::remove_conversions(model, Some(*recipe)).map(|bytes| Outcome::Done(Some(bytes)))
        }
        Work::Import(path) => library.import(path, None).map(|_| Outcome::Done(None)),
        Work::Rename(name, new_name) => library.rename(name, new_name).map(|()| Outcome::Done(None)),
        Work::Find => Ok(Outcome::Found(find::find(&find::Places::usual()))),
        Work::Discard(paths) => library.discard(paths).map(Outcome::Discarded),
    };
    result.unwrap_or_else(|error| match error.get_kind() {
        ErrorKind::Cancelled => Outcome::Paused,
        _ => Outcome::Failed(error),
    })
}

/// How a model of the catalogue stands to this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It fits.
    Fits,
    /// It fits, and is the largest that does with ease.
    Recommended,
    /// It does not.
    TooLarge,
    /// Nobody says how much memory there is.
    Unknown,
}

/// What a model of the catalogue takes.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Bytes to download, about.
    pub download_bytes: u64,
    /// Memory when it runs as usual: int8, with the usual context.
    pub plan: Option<MemoryPlan>,
}

/// What this model of the catalogue takes. Adding up a model's tensors takes too long for every frame: it is done once.
#[must_use]
pub fn taken(entry: &catalogue::Entry) -> Taken {
    static ALL: LazyLock<Vec<Taken>> = LazyLock::new(|| {
        let of = |entry: &catalogue::Entry| Taken {
            download_bytes: entry.download_bytes(),
            plan: MemoryPlan::of_config(&entry.config(), Recipe::default(), &LoadOptions::default()).ok(),
        };
        catalogue::MODELS.iter().map(of).collect()
    });
    let known = catalogue::MODELS.iter().position(|known| known == entry).and_then(|place| ALL.get(place));
    known.copied().unwrap_or(Taken { download_bytes: 0, plan: None })
}

/// Does it fit? Recommended is the largest Instruct model that leaves a quarter of the room free; on a software device the
/// smallest, because a processor takes minutes for what the others say.
#[must_use]
pub fn fit(entry: &catalogue::Entry, room: Option<&Room>) -> Fit {
    let (Some(room), Some(plan)) = (room, taken(entry).plan) else { return Fit::Unknown };
    let with_ease = |entry: &catalogue::Entry| {
        taken(entry).plan.is_some_and(|plan| plan.peak_bytes() <= room.bytes / 4 * 3)
    };
    let best = catalogue::MODELS
        .iter()
        .filter(|entry| !entry.thinks && !entry.is_gguf && with_ease(entry))
        .max_by_key(|entry| (!room.is_software || entry.size == Preset::TwoB, taken(entry).download_bytes));
    if best == Some(entry) {
        Fit::Recommended
    } else if plan.peak_bytes() <= room.bytes {
        Fit::Fits
    } else {
        Fit::TooLarge
    }
}

/// The model to offer first: the recommended one, or the smallest.
#[must_use]
pub fn first_choice(room: Option<&Room>) -> &'static catalogue::Entry {
    let recommended = catalogue::MODELS.iter().find(|entry| fit(entry, room) == Fit::Recommended);
    recommended.unwrap_or(&catalogue::MODELS[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(gigabytes: u64) -> Room {
        Room::limited(gigabytes * 1_000_000_000)
    }

    #[test]
    fn the_largest_model_that_fits_with_ease_is_recommended() {
        let best = |gigabytes| first_choice(Some(&room(gigabytes))).repo;
        assert_eq!(best(6), "Qwen/Qwen3-VL-2B-Instruct");
        assert_eq!(best(12), "Qwen/Qwen3-VL-4B-Instruct");
        assert_eq!(best(24), "Qwen/Qwen3-VL-8B-Instruct");
        let software = Room { is_software: true, ..room(24) };
        assert_eq!(first_choice(Some(&software)).repo, "Qwen/Qwen3-VL-2B-Instruct");
        assert_eq!(first_choice(None).repo, "Qwen/Qwen3-VL-2B-Instruct");
        assert_eq!(fit(&catalogue::MODELS[2], Some(&room(6))), Fit::TooLarge);
        assert_eq!(fit(&catalogue::MODELS[2], Some(&room(13))), Fit::Fits);
        assert_eq!(fit(&catalogue::MODELS[0], None), Fit::Unknown);
    }
}
