//! Room `chat`: the store's thread. Changes stand in a queue, and what is asked for is answered after an attempt to
//! empty it; the head of the queue leaves it only saved, or refused for good.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::ids::Ids;
use super::shared_file::{MOST_BYTES, merged};
use super::{Event, FIRST_LOCAL_ID, FileToKeep, Job};
use crate::bounded;
use crate::chat::history::{ConversationId, History, NewAttachment, NewMessage, now_ms};
use crate::chat::transfer::{self, disk_error, write_whole};
use crate::chat::tree::{MessageId, MessageState};
use crate::error::{Error, Result};
use crate::log;

/// What waits is tried again this often.
const RETRY: Duration = Duration::from_secs(2);
/// And this long after the window has gone.
const LAST: Duration = Duration::from_secs(3);
const LAST_RETRY: Duration = Duration::from_millis(50);
/// How long a write waits for another program: usually, and while it is known to hold the file.
const PATIENCE: Duration = Duration::from_millis(500);
const LITTLE_PATIENCE: Duration = Duration::from_millis(20);
/// Jobs between two lists of conversations, at most.
const BATCH: usize = 256;

/// What is deleted can be had back this long: 30 days.
const KEEP_DELETED_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// And this often it is looked whether something has been deleted for so long: a program may run for months.
const FORGET_EVERY: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_hours(1) };
const OPENING: &str = "opening the history of conversations";
const SAVING: &str = "saving the conversation";

/// Tells the window.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) events: Sender<Event>,
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Teller")
    }
}

impl Teller {
    pub(super) fn tell(&self, event: Event) {
        // Nobody listens while the program ends.
        if self.events.send(event).is_ok() {
            (self.wake)();
        }
    }
}

/// The thread.
pub(super) fn run(path: Option<&Path>, jobs: Receiver<Job>, teller: Teller) {
    let history = match log::guarded(OPENING, || open(path, &teller)) {
        Ok(history) => history,
        Err(error) => {
            teller.tell(Event::Unsaved(error.clone()));
            for job in jobs {
                refuse(job, &error, &teller);
            }
            return;
        }
    };
    let mut worker = Worker {
        history,
        teller,
        ids: Ids::default(),
        queue: VecDeque::new(),
        preferences: BTreeMap::new(),
        in_trouble: false,
        list_changed: true,
        forgot: Instant::now(),
    };
    worker.work(&jobs);
}

/// Answers a job where there is no history, not even one in memory.
fn refuse(job: Job, error: &Error, teller: &Teller) {
    let error = error.clone();
    teller.tell(match job {
        Job::Open(conversation) => Event::OpenFailed { conversation, error },
        Job::File(attachment) => Event::File { hash: attachment.hash, result: Err(error) },
        Job::Costs(id) => Event::Costs { id, result: Err(error) },
        Job::Search { .. } | Job::Export { .. } | Job::Import { .. } => Event::Failed(error),
        Job::WritePreferences { path, before, text } => match write_preferences(&path, &before, &text) {
            Ok(()) => return,
            Err(error) => Event::Failed(error),
        },
        // That nothing is saved is said.
        _ => return,
    });
}

fn open(path: Option<&Path>, teller: &Teller) -> Result<History> {
    let opened = path.map(History::open);
    let history = match opened {
        Some(Ok(opened)) => {
            if let Some(damage) = opened.damage {
                teller.tell(Event::Damaged(damage));
            }
            opened.history
        }
        Some(Err(error)) => {
            teller.tell(Event::Unsaved(error));
            History::in_memory()?
        }
        None => History::in_memory()?,
    };
    history.wait_at_most(PATIENCE)?;
    Ok(history)
}

/// Why a change is not saved.
enum Refusal {
    /// It may be, later.
    Later(Error),
    /// It never can be.
    Never(Error),
}

pub(super) struct Worker {
    pub(super) history: History,
    teller: Teller,
    pub(super) ids: Ids,
    /// Changes of conversations, and barriers.
    pub(super) queue: VecDeque<Job>,
    /// As they were, and as they are to be.
    preferences: BTreeMap<PathBuf, (String, String)>,
    /// The window knows that saving fails.
    in_trouble: bool,
    list_changed: bool,
    /// When what was deleted long ago was last forgotten.
    forgot: Instant,
}

impl Worker {
    fn work(&mut self, jobs: &Receiver<Job>) {
        self.guarded(Self::forget);
        self.guarded(Self::list);
        loop {
            let rest = if self.is_done() { FORGET_EVERY } else { RETRY };
            let mut next = match jobs.recv_timeout(rest) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut taken = 0;
            while let Some(job) = next {
                self.guarded(|worker| worker.take(job));
                taken += 1;
                next = if taken < BATCH { jobs.try_recv().ok() } else { None };
            }
            self.guarded(Self::save);
            self.guarded(Self::list);
            if self.forgot.elapsed() >= FORGET_EVERY && self.is_done() {
                self.guarded(Self::forget);
            }
        }
        let until = Instant::now() + LAST;
        self.guarded(Self::save);
        while !self.is_done() && Instant::now() < until {
            thread::park_timeout(LAST_RETRY);
            self.guarded(Self::save);
        }
        if !self.is_done() {
            tracing::error!("{} changes of conversations could not be saved", self.queue.len());
        }
    }

    /// A fault in one step ends that step, and not the thread by which everything is saved.
    fn guarded(&mut self, step: impl FnOnce(&mut Self)) {
        if let Err(panic) = log::catching(SAVING, || step(self)) {
            self.teller.tell(Event::Failed(panic));
        }
    }

    fn forget(&mut self) {
        self.forgot = Instant::now();
        if let Err(error) = self.history.forget_deleted(now_ms() - KEEP_DELETED_MS) {
            tracing::warn!("what was deleted long ago stays for now: {error}");
        }
    }

    /// Is everything saved?
    fn is_done(&self) -> bool {
        self.queue.is_empty() && self.preferences.is_empty()
    }

    fn list(&mut self) {
        if !std::mem::take(&mut self.list_changed) {
            return;
        }
        match self.history.conversations() {
            Ok(mut list) => {
                for conversation in &mut list {
                    conversation.id = self.ids.conversation(conversation.id);
                }
                self.teller.tell(Event::Listed(list));
            }
            Err(error) => self.teller.tell(Event::Failed(error)),
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::WritePreferences { path, before, text } => {
                // Of one that still waits, nothing is in the file yet.
                let waits = self.preferences.remove(&path);
                let before = waits.map_or(before, |(before, _)| before);
                self.preferences.insert(path, (before, text));
            }
            Job::Open(_)
            | Job::File(_)
            | Job::Costs(_)
            | Job::Search { .. }
            | Job::Export { .. }
            | Job::Import { .. } => {
                self.save();
                let opened = match job {
                    Job::Open(id) => Some(id),
                    _ => None,
                };
                let answered = log::guarded("reading the history", || self.answer(job));
                let event = answered.unwrap_or_else(|error| match opened {
                    Some(conversation) => Event::OpenFailed { conversation, error },
                    None => Event::Failed(error),
                });
                self.teller.tell(event);
            }
            Job::Update { id, .. } => {
                // A message's newer text takes the place of one that still waits.
                if matches!(self.queue.back(), Some(Job::Update { id: last, .. }) if *last == id) {
                    self.queue.pop_back();
                }
                self.queue.push_back(job);
            }
            _ => self.queue.push_back(job),
        }
    }

    /// Saves what waits, in its order, as far as it goes.
    fn save(&mut self) {
        let mut trouble = None;
        while let Some(job) = self.queue.pop_front() {
            // What panics once would panic again: it is told, and what comes after it is saved.
            let applied = log::catching(SAVING, || self.apply(&job));
            match applied.unwrap_or_else(|panic| Err(Refusal::Never(panic))) {
                Ok(()) => {}
                Err(Refusal::Never(error)) => self.teller.tell(Event::Failed(error)),
                Err(Refusal::Later(error)) => {
                    self.queue.push_front(job);
                    trouble = Some(error);
                    break;
                }
            }
        }
        let teller = &self.teller;
        self.preferences.retain(|path, (before, text)| {
            match log::catching(SAVING, || write_preferences(path, before, text)) {
                Ok(Ok(())) => false,
                Ok(Err(error)) => {
                    trouble.get_or_insert(error);
                    true
                }
                Err(panic) => {
                    teller.tell(Event::Failed(panic));
                    false
                }
            }
        });
        match trouble {
            Some(error) if !self.in_trouble => {
                self.in_trouble = true;
                self.wait_at_most(LITTLE_PATIENCE);
                self.teller.tell(Event::SavingFails(error));
            }
            None if self.in_trouble => {
                self.in_trouble = false;
                self.wait_at_most(PATIENCE);
                self.teller.tell(Event::SavingWorks);
            }
            _ => {}
        }
    }

    fn wait_at_most(&self, time: Duration) {
        if let Err(error) = self.history.wait_at_most(time) {
            tracing::warn!("{error}");
        }
    }

    fn apply(&mut self, job: &Job) -> Result<(), Refusal> {
        let done = match job {
            Job::Create { id, settings } => {
                is_local(id.0)?;
                self.history.create(settings).map(|new| self.ids.add_conversation(*id, new))
            }
            Job::Add { conversation, id, parent, role, text, attachments, state, details } => {
                is_local(id.0)?;
                let conversation = self.conversation(*conversation)?;
                let parent = parent.map(|parent| self.message(parent)).transpose()?;
                let attachments: Vec<NewAttachment<'_>> = attachments.iter().map(new_attachment).collect();
                let message = NewMessage {
                    parent,
                    role: *role,
                    text,
                    attachments: &attachments,
                    state: *state,
                    details: details.clone(),
                };
                self.history.add(conversation, &message).map(|entry| self.ids.add_message(*id, entry.id))
            }
            Job::Update { id, text, state, details } => {
                let id = self.message(*id)?;
                self.history.update(id, text, *state, details)
            }
            Job::KeepCosts { id, bytes, append } => {
                let id = self.message(*id)?;
                self.history.keep_costs(id, bytes, *append)
            }
            Job::Choose { conversation, path } => {
                let conversation = self.conversation(*conversation)?;
                let path = self.messages(path)?;
                self.history.choose(conversation, &path)
            }
            Job::SetTitle { id, title, own } => {
                let id = self.conversation(*id)?;
                self.history.set_title(id, title, *own)
            }
            Job::SetPinned { id, pinned } => {
                let id = self.conversation(*id)?;
                self.history.set_pinned(id, *pinned)
            }
            Job::SetFolder { id, folder } => {
                let id = self.conversation(*id)?;
                self.history.set_folder(id, folder)
            }
            Job::SetSettings { id, settings } => {
                let id = self.conversation(*id)?;
                self.history.set_settings(id, settings)
            }
            Job::Delete(id) => {
                let id = self.conversation(*id)?;
                self.history.delete(id)
            }
            Job::Restore(id) => {
                let id = self.conversation(*id)?;
                self.history.restore(id)
            }
            Job::DeleteMessages(ids) => {
                let ids = self.messages(ids)?;
                self.history.delete_messages(&ids)
            }
            Job::RestoreMessages(ids) => {
                let ids = self.messages(ids)?;
                self.history.restore_messages(&ids)
            }
            Job::Barrier(reached) => {
                // Nobody may be waiting any more.
                reached.send(()).ok();
                return Ok(());
            }
            // Answered, or kept elsewhere: never in the queue.
            Job::WritePreferences { .. }
            | Job::Open(_)
            | Job::File(_)
            | Job::Costs(_)
            | Job::Search { .. }
            | Job::Export { .. }
            | Job::Import { .. } => return Ok(()),
        };
        match done {
            Ok(()) => {
                self.list_changed |= changes_list(job);
                Ok(())
            }
            Err(error) if self.history.may_pass() => Err(Refusal::Later(error)),
            Err(error) => Err(Refusal::Never(error)),
        }
    }

    fn conversation(&self, id: ConversationId) -> Result<ConversationId, Refusal> {
        self.ids.database_conversation(id).ok_or_else(|| unknown("its conversation could not be saved"))
    }

    fn message(&self, id: MessageId) -> Result<MessageId, Refusal> {
        self.ids
            .database_message(id)
            .ok_or_else(|| unknown("a message that it belongs to could not be saved"))
    }

    fn messages(&self, ids: &[MessageId]) -> Result<Vec<MessageId>, Refusal> {
        ids.iter().map(|id| self.message(*id)).collect()
    }

    fn answer(&mut self, job: Job) -> Result<Event> {
        Ok(match job {
            Job::Open(id) => {
                let (tree, settings) = self.opened(id)?;
                Event::Opened { conversation: self.local(id), tree, settings }
            }
            Job::File(attachment) => {
                let waiting = self.waiting_file(&attachment);
                let result = match waiting {
                    Some(bytes) => Ok(bytes),
                    None => self.history.file(&attachment).map(Arc::from),
                };
                Event::File { hash: attachment.hash, result }
            }
            Job::Costs(id) => Event::Costs { id, result: self.costs(id) },
            Job::Search { serial, query } => {
                let mut hits = self.history.search(&query, super::MOST_HITS)?;
                for hit in &mut hits {
                    hit.conversation = self.ids.conversation(hit.conversation);
                    hit.message = self.ids.message(hit.message);
                }
                Event::Found { serial, hits }
            }
            Job::Export { conversations, format, to } => {
                let chosen: Option<Vec<ConversationId>> =
                    conversations.map(|ids| ids.into_iter().map(|id| self.local(id)).collect());
                // With what still waits to be saved: who saves chats from a full disk wants just that.
                let count = transfer::export(&*self, chosen.as_deref(), format, &to)?;
                Event::Exported { to, conversations: count }
            }
            Job::Import { from } => {
                let ids = transfer::import(&mut self.history, &from)?;
                self.list_changed = true;
                Event::Imported(ids)
            }
            // Not which: it holds what somebody wrote.
            _ => return Err(Error::new("answering the window", "this job asks for nothing")),
        })
    }
}

/// Does the list of conversations look different afterwards?
fn changes_list(job: &Job) -> bool {
    !matches!(
        job,
        Job::Update { state: MessageState::Streaming, .. }
            | Job::Choose { .. }
            | Job::KeepCosts { .. }
            | Job::SetSettings { .. }
            | Job::Barrier(_)
    )
}

fn is_local(id: i64) -> Result<(), Refusal> {
    if id >= FIRST_LOCAL_ID { Ok(()) } else { Err(unknown("its number is not one of the window's own")) }
}

fn unknown(why: &str) -> Refusal {
    Refusal::Never(Error::new(SAVING, why).help("copy what you need, and begin a new conversation"))
}

fn new_attachment(file: &FileToKeep) -> NewAttachment<'_> {
    NewAttachment { kind: file.kind, name: &file.name, bytes: &file.bytes }
}

fn write_preferences(path: &Path, before: &str, text: &str) -> Result<()> {
    const DOING: &str = "saving the preferences";
    let there = bounded::file(path, MOST_BYTES).and_then(bounded::text).unwrap_or_default();
    let text = merged(before, text, &there);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| disk_error(DOING, folder, &e))?;
    }
    write_whole(path, DOING, |out| out.write_all(text.as_bytes()).map_err(|e| disk_error(DOING, path, &e)))
}
