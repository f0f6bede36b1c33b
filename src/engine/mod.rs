//! The engine room: one thread that owns the model and its sessions. Requests go in, events come out;
//! nobody else touches the model.

mod api;
mod core;
mod front_end;
mod inside;
mod lookup;
mod pages;
mod session;
mod speculation;
mod stop;
pub mod trace;

pub use api::{
    Answer, AnswerEvent, Cancel, Disturbance, Load, LoadEvent, LoadRequest, ModelInfo, PictureReport,
    PromptPreview, RemoteSummary, RemoteToken, Request, Score, Speculation, StopReason, Summary, TokenEvent,
};
pub use front_end::{FrontEnd, Prepared};
pub use inside::{HeatMap, Inside, LENS_TOKENS, LayerLens, LensToken, PicturePlace, Selection, Step};
pub use pages::{Cached, PagePool, PrefixCache, Reuse, TokenKey, Wish};
pub use stop::{Matched, StopMatcher};

use std::sync::{Arc, mpsc};

use crate::error::Error;
use crate::gpu::{Ceilings, Gpu, ProfileReport};

/// Called after each event, so that a window can repaint.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Sends events and wakes whoever waits for them.
#[derive(Clone)]
pub(crate) struct Events<T> {
    sender: mpsc::Sender<T>,
    wake: Wake,
}

impl<T> Events<T> {
    /// Events, and where they are received.
    pub(crate) fn channel(wake: Wake) -> (Self, mpsc::Receiver<T>) {
        let (sender, receiver) = mpsc::channel();
        (Self { sender, wake }, receiver)
    }

    /// A receiver that is gone has lost interest; that is no error.
    pub(crate) fn send(&self, event: T) {
        let _ = self.sender.send(event);
        (self.wake)();
    }
}

enum Command {
    Load(Box<LoadRequest>, Events<LoadEvent>, Cancel),
    Ask(Box<Request>, Events<AnswerEvent>, Cancel),
    Preview(Box<Request>, Events<Result<PromptPreview, Error>>, Cancel),
    /// A request's prompt is made (or not), off the engine's thread.
    Prepared(Box<session::Waiting>),
    /// Begins to time kernels, or ends it.
    SetProfiling(bool, Events<Result<(), Error>>),
    Profile(Events<Result<ProfileReport, Error>>),
    Ceilings(Events<Result<Ceilings, Error>>),
    Unload,
    /// The last handle is gone.
    Quit,
}

/// A handle on the engine's thread; cloning shares it. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct Engine(Arc<Handle>);

struct Handle {
    commands: mpsc::Sender<Command>,
    wake: Wake,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Quit);
        // The thread lets go of the device. If the process ended meanwhile, the driver's exit handlers would run
        // while the driver is being unloaded: a segmentation fault. (`wake` may drop the last handle over there.)
        if let Some(thread) = self.thread.take().filter(|t| t.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// Starts the thread. `wake` is called after each event, from any thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(gpu: Gpu, wake: Wake) -> Result<Self, Error> {
        let (commands, receiver) = mpsc::channel();
        // For the threads that make prompts; `Quit` ends the thread although it keeps a sender itself.
        let own = commands.clone();
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || core::Core::new(gpu, own).run(&receiver))
            .map_err(|e| Error::new("starting the engine", e))?;
        Ok(Self(Arc::new(Handle { commands, wake, thread: Some(thread) })))
    }

    /// Loads a model in place of the one there is.
    #[must_use]
    pub fn load(&self, request: LoadRequest) -> Load {
        let (events, receiver) = self.events();
        let cancel = Cancel::default();
        self.send(Command::Load(Box::new(request), events, cancel.clone()));
        Load { events: receiver, cancel }
    }

    /// Asks a question.
    #[must_use]
    pub fn ask(&self, request: Request) -> Answer {
        let (events, receiver) = self.events();
        let cancel = Cancel::default();
        self.send(Command::Ask(Box::new(request), events, cancel.clone()));
        Answer { events: receiver, cancel }
    }

    /// Makes the prompt that a request would have, for a person to read; setting `cancel` stops it.
    #[must_use]
    pub fn preview(&self, request: Request, cancel: Cancel) -> mpsc::Receiver<Result<PromptPreview, Error>> {
        let (events, receiver) = self.events();
        self.send(Command::Preview(Box::new(request), events, cancel));
        receiver
    }

    /// Switches profile mode on, from nothing, or off, at any time, also while answers are under way: each kernel is timed
    /// on its own, which slows things ([`crate::gpu::METHOD`]) and changes no token. It stays for models loaded later. The answer is
    /// an error where the adapter has no timestamps, and nothing has changed then. The first time the device's ceilings are
    /// measured, which takes a second or two on a slow one.
    #[must_use]
    pub fn set_profiling(&self, on: bool) -> mpsc::Receiver<Result<(), Error>> {
        let (events, receiver) = self.events();
        self.send(Command::SetProfiling(on, events));
        receiver
    }

    /// What the device can do at most, measured the first time it is asked for, which takes a second or two on a slow one.
    #[must_use]
    pub fn ceilings(&self) -> mpsc::Receiver<Result<Ceilings, Error>> {
        let (events, receiver) = self.events();
        self.send(Command::Ceilings(events));
        receiver
    }

    /// What profile mode has timed since it was switched on or the model was loaded; an error while it is off.
    #[must_use]
    pub fn profile(&self) -> mpsc::Receiver<Result<ProfileReport, Error>> {
        let (events, receiver) = self.events();
        self.send(Command::Profile(events));
        receiver
    }

    /// Frees the model; answers under way end.
    pub fn unload(&self) {
        self.send(Command::Unload);
    }

    fn events<T>(&self) -> (Events<T>, mpsc::Receiver<T>) {
        Events::channel(self.0.wake.clone())
    }

    fn send(&self, command: Command) {
        // Without a thread the receiver of the events sees a closed channel.
        let _ = self.0.commands.send(command);
    }
}
