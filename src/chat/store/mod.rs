//! Room `chat`: the thread that owns the database of conversations, so that the window never waits for a disk. Jobs go
//! in, events come out. What cannot be written now (a full disk, a file that another program holds) waits in its order
//! and is tried again until it can.
//!
//! The window numbers what it makes by itself, from [`FIRST_LOCAL_ID`] upwards and each higher than the one before,
//! and goes on using these numbers: whatever comes out has them, and not the database's, where there are any.

mod foresight;
mod ids;
pub(crate) mod shared_file;
mod worker;

use std::cell::Cell;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use super::history::{Conversation, ConversationId, Damage, Hit};
use super::message::Role;
use super::transfer::Format;
use super::tree::{Attachment, AttachmentKind, MessageId, MessageState, Tree};
use crate::error::{Error, Result};

/// The lowest number the window may give by itself; the database's are all below.
pub const FIRST_LOCAL_ID: i64 = 1 << 40;

/// Hits of a search, at most: the newest.
pub const MOST_HITS: usize = 300;

/// A file that comes with a message.
#[derive(Clone)]
pub struct FileToKeep {
    /// What it is.
    pub kind: AttachmentKind,
    /// What it is called.
    pub name: String,
    /// Its content.
    pub bytes: Arc<[u8]>,
}

impl fmt::Debug for FileToKeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} of {} bytes", self.kind, self.name, self.bytes.len())
    }
}

/// What the thread is to do.
#[derive(Clone, Debug)]
pub enum Job {
    /// Makes an empty conversation.
    Create {
        /// A new number.
        id: ConversationId,
        /// Its settings, a JSON object.
        settings: Value,
    },
    /// Keeps a new message, and shows it.
    Add {
        /// Where.
        conversation: ConversationId,
        /// A new number, higher than all before.
        id: MessageId,
        /// The message before it.
        parent: Option<MessageId>,
        /// Who says it.
        role: Role,
        /// Its text.
        text: String,
        /// What comes with it.
        attachments: Vec<FileToKeep>,
        /// How far it is.
        state: MessageState,
        /// What else is known of it.
        details: Value,
    },
    /// Keeps what a message says now.
    Update {
        /// Which.
        id: MessageId,
        /// Its whole text.
        text: String,
        /// How far it is.
        state: MessageState,
        /// What else is known of it.
        details: Value,
    },
    /// Keeps what an answer cost.
    KeepCosts {
        /// Which.
        id: MessageId,
        /// Packed.
        bytes: Arc<[u8]>,
        /// Behind what was kept before, which is not in memory; otherwise in its place.
        append: bool,
    },
    /// Keeps which messages are shown.
    Choose {
        /// Where.
        conversation: ConversationId,
        /// From a beginning on.
        path: Vec<MessageId>,
    },
    /// Gives a conversation a title.
    SetTitle {
        /// Which.
        id: ConversationId,
        /// The title.
        title: String,
        /// The user typed it: automatic ones do not replace it.
        own: bool,
    },
    /// Keeps a conversation on top, or not.
    SetPinned {
        /// Which.
        id: ConversationId,
        /// On top?
        pinned: bool,
    },
    /// Puts a conversation into a folder.
    SetFolder {
        /// Which.
        id: ConversationId,
        /// Its name; empty: none.
        folder: String,
    },
    /// Keeps a conversation's settings.
    SetSettings {
        /// Which.
        id: ConversationId,
        /// A JSON object.
        settings: Value,
    },
    /// Deletes a conversation, so that it can be had back.
    Delete(ConversationId),
    /// Has a deleted conversation back.
    Restore(ConversationId),
    /// Deletes messages, so that they can be had back.
    DeleteMessages(Vec<MessageId>),
    /// Has deleted messages back.
    RestoreMessages(Vec<MessageId>),
    /// Writes a file of preferences, a JSON object. What this window has not changed stays as another may have written it. A newer
    /// one for the same path replaces one that still waits.
    WritePreferences {
        /// The file.
        path: PathBuf,
        /// All of its text as this window knew it.
        before: String,
        /// All of its text as it is to be.
        text: String,
    },
    /// Says when every change of conversations before it is in the database. The sender is dropped unused when the
    /// store ends before that.
    Barrier(Sender<()>),
    /// Asks for a conversation: [`Event::Opened`], or [`Event::OpenFailed`]. Changes that still wait to be saved are in it.
    Open(ConversationId),
    /// Asks for a file: [`Event::File`].
    File(Attachment),
    /// Asks what an answer cost: [`Event::Costs`].
    Costs(MessageId),
    /// Asks where words are in what is saved: [`Event::Found`].
    Search {
        /// Comes back with the answer.
        serial: u64,
        /// The words.
        query: String,
    },
    /// Writes conversations to a file: [`Event::Exported`]. Changes that still wait to be saved are in it.
    Export {
        /// Which; `None`: all.
        conversations: Option<Vec<ConversationId>>,
        /// In which form.
        format: Format,
        /// The file.
        to: PathBuf,
    },
    /// Reads conversations from a file, all or none: [`Event::Imported`].
    Import {
        /// The file.
        from: PathBuf,
    },
}

/// What the thread has to say.
#[derive(Debug)]
pub enum Event {
    /// The conversations there are, after each change of them.
    Listed(Vec<Conversation>),
    /// A conversation that was asked for.
    Opened {
        /// Which.
        conversation: ConversationId,
        /// Its messages.
        tree: Tree,
        /// Its settings.
        settings: Value,
    },
    /// A conversation that was asked for cannot be had.
    OpenFailed {
        /// Which.
        conversation: ConversationId,
        /// Why.
        error: Error,
    },
    /// A file that was asked for.
    File {
        /// Which.
        hash: [u8; 32],
        /// Its bytes.
        result: Result<Arc<[u8]>>,
    },
    /// What an answer cost.
    Costs {
        /// Which.
        id: MessageId,
        /// Packed; `None`: nothing was kept of it.
        result: Result<Option<Arc<[u8]>>>,
    },
    /// Where the words are.
    Found {
        /// The search's own.
        serial: u64,
        /// The newest first, a few hundred at most.
        hits: Vec<Hit>,
    },
    /// A file is written.
    Exported {
        /// Where.
        to: PathBuf,
        /// How many are in it.
        conversations: usize,
    },
    /// A file is read; these are new.
    Imported(Vec<ConversationId>),
    /// The database cannot be used, and why: nothing is saved from now on in this run of the program.
    Unsaved(Error),
    /// A damaged database was set aside.
    Damaged(Damage),
    /// What was to be saved waits; said once for each trouble.
    SavingFails(Error),
    /// The trouble is over: everything is saved.
    SavingWorks,
    /// A job that cannot be done, now or later.
    Failed(Error),
}

/// The thread's other end. Dropping it waits until everything is saved or, where the disk refuses, three seconds.
#[derive(Debug)]
pub struct Store {
    jobs: Option<Sender<Job>>,
    events: Receiver<Event>,
    thread: Option<JoinHandle<()>>,
    /// What the store itself has to say: that the thread is gone.
    own: worker::Teller,
    is_gone: Cell<bool>,
}

impl Store {
    /// Starts the thread with the database at `path` (`None`: in memory, nothing is kept). One that cannot be opened
    /// is not touched: then nothing is kept either, and [`Event::Unsaved`] says so. `wake` is called after each event.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(path: Option<PathBuf>, wake: Arc<dyn Fn() + Send + Sync>) -> Result<Self> {
        let (jobs, to_do) = mpsc::channel();
        let (say, events) = mpsc::channel();
        let teller = worker::Teller { events: say, wake };
        let own = teller.clone();
        let thread = thread::Builder::new()
            .name("conversations".into())
            .spawn(move || worker::run(path.as_deref(), to_do, teller))
            .map_err(|e| {
                Error::new("starting the thread that saves conversations", e).help("close other programs")
            })?;
        Ok(Self { jobs: Some(jobs), events, thread: Some(thread), own, is_gone: Cell::new(false) })
    }

    /// Hands a job over; it is done after all before it. Should the thread have ended, which only a fault in the program
    /// can do, [`Event::Unsaved`] says so, once.
    pub fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs
            && jobs.send(job).is_err()
            && !self.is_gone.replace(true)
        {
            let error = Error::new("saving conversations", "a fault in Ocelli itself has ended it")
                .help("copy what you need, and start the program again; please report it, with what Copy diagnostics gives");
            tracing::error!("{error}");
            self.own.tell(Event::Unsaved(error));
        }
    }

    /// The events since the last call. Does not wait.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        self.events.try_iter()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that saves conversations has panicked");
        }
    }
}

#[cfg(test)]
mod tests;
