//! Room `app`: what becomes of a window whose device is lost. It leaves what the next one needs, draws nothing more, and
//! closes; `window::run` opens the next one on a new device.
//!
//! A loss that is found in the middle of a frame makes egui_wgpu panic, and winit's event loop cannot be run again after a
//! panic: then the program starts itself anew, in its own place where the system can do that.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::state::State;
use crate::chat::message::Role;
use crate::chat::tree::MessageState;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::recipe::Recipe;

/// What a window leaves for the next one, from one start of the program to the next: an argument, as a variable would be handed on to
/// programs that this one starts.
const LEFT_ARGUMENT: &str = "--after-loss=";
/// For tests: what happens to the first window, and the variable that says when; see [`LoseWhen`].
const VARIABLES: [(&str, What); 3] = [
    ("OCELLI_TEST_LOSE_DEVICE", What::Lose),
    ("OCELLI_TEST_PANIC", What::Panic),
    ("OCELLI_TEST_CHOOSE_ADAPTER", What::Choose),
];
/// An answer that is under way when the device is lost has this long to end by itself, with what has come of it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a window that lost its device leaves for the next one.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct Left {
    /// The model that was open or being opened.
    pub model: Option<PathBuf>,
    /// How it was asked for: its recipe, and for texts only?
    pub opened_as: (Option<Recipe>, bool),
    /// The conversation that was on the screen: when it was changed last, milliseconds since 1970.
    pub chat: Option<i64>,
    /// Devices lost and panics caught until now.
    pub losses: u32,
    /// What a panic said that ended the window.
    pub panic: Option<String>,
    /// An adapter was chosen for the next window.
    pub is_chosen: bool,
    /// Its full name; `None`: the best one.
    pub adapter: Option<String>,
    /// The window was closed so that another opens.
    #[serde(skip)]
    pub opens_again: bool,
}

impl Left {
    /// What the program left for itself when it started anew.
    pub fn from_start() -> Option<Self> {
        let left = std::env::args_os()
            .find_map(|argument| Some(argument.to_str()?.strip_prefix(LEFT_ARGUMENT)?.to_owned()));
        serde_json::from_str(&left?).ok()
    }

    /// Notes what the window shows now.
    pub fn see(&mut self, state: &State) {
        if self.model != state.last_folder {
            self.model.clone_from(&state.last_folder);
        }
        self.opened_as = state.opened_as();
        let listed = state.list.iter().find(|listed| listed.id == state.chat.id);
        self.chat = state.chat.is_kept.then(|| listed.map_or(0, |listed| listed.changed_ms));
    }
}

/// What a test does to a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Its device is destroyed.
    Lose,
    /// It panics, with a device that is fine.
    Panic,
    /// Its adapter is chosen in the settings.
    Choose,
}

/// When a test does that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoseWhen {
    /// `answering`: words of an answer are coming in.
    Answering,
    /// `answered`: an answer is complete.
    Answered,
    /// A number: that many milliseconds after the model was ready.
    Ready(Duration),
}

impl LoseWhen {
    fn read(text: &str) -> Option<Self> {
        match text {
            "answering" => Some(Self::Answering),
            "answered" => Some(Self::Answered),
            _ => text.parse().ok().map(Duration::from_millis).map(Self::Ready),
        }
    }
}

/// A window's device, as far as it may be lost.
#[derive(Debug)]
pub(super) struct DeviceWatch {
    gpu: Gpu,
    left: Rc<RefCell<Left>>,
    found: Option<Instant>,
    ready: Option<Instant>,
    lose_when: Option<LoseWhen>,
    /// What a test does then.
    what: What,
}

impl DeviceWatch {
    /// Watches over this device; `left` is what the window leaves.
    pub fn new(gpu: Gpu, left: Rc<RefCell<Left>>) -> Self {
        // A window that was opened for another adapter is no loss.
        static IS_LATER: AtomicBool = AtomicBool::new(false);
        let is_first = left.borrow().losses == 0 && !IS_LATER.swap(true, Ordering::Relaxed);
        let asked = VARIABLES.iter().filter(|_| is_first).find_map(|&(name, what)| {
            let when = LoseWhen::read(&std::env::var(name).ok()?)?;
            Some((when, what))
        });
        let (lose_when, what) = (asked.map(|(when, _)| when), asked.map_or(What::Lose, |(_, what)| what));
        Self { gpu, left, found: None, ready: None, lose_when, what }
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The next window opens on this adapter, or on the best one, at once.
    pub fn choose(&mut self, adapter: Option<String>) {
        let mut left = self.left.borrow_mut();
        (left.adapter, left.is_chosen, left.opens_again) = (adapter, true, true);
    }

    /// Is there nothing to draw on any more?
    pub fn is_lost(&self) -> bool {
        self.gpu.is_lost()
    }

    /// Notes what would have to be left now. True when the window is to close; an answer under way may still end before.
    pub fn must_leave(&mut self, state: &State, now: Instant) -> bool {
        let busy = state.is_busy() && !state.device_lost;
        let mut left = self.left.borrow_mut();
        left.see(state);
        if !self.gpu.is_lost() {
            return left.opens_again;
        }
        let found = *self.found.get_or_insert(now);
        left.opens_again = !busy || now.saturating_duration_since(found) >= LAST_WORDS;
        left.opens_again
    }

    /// For tests: does what one has asked for when it is time. Gives how long it is until then, if that is known.
    #[expect(clippy::panic, reason = "a test asks for it")]
    pub fn lose_if_asked(&mut self, state: &State, now: Instant) -> Option<Duration> {
        let when = self.lose_when.filter(|_| state.model_info().is_some())?;
        let answer = state.chat.last().filter(|last| last.role == Role::Assistant && !last.text.is_empty());
        let wait = match when {
            LoseWhen::Answering => Duration::from_secs(u64::from(answer.is_none())),
            LoseWhen::Answered => {
                let is_complete = answer.is_some_and(|answer| answer.state == MessageState::Complete);
                Duration::from_secs(u64::from(!is_complete))
            }
            LoseWhen::Ready(after) => {
                after.saturating_sub(now.saturating_duration_since(*self.ready.get_or_insert(now)))
            }
        };
        if wait.is_zero() {
            self.lose_when = None;
            match self.what {
                What::Panic => {
                    tracing::debug!("a test has the window panic");
                    panic!("a test asked for it");
                }
                What::Choose => {
                    tracing::debug!("a test chooses an adapter");
                    self.choose(Some(self.gpu.summary().full_name()));
                }
                What::Lose => {
                    tracing::debug!("a test loses the device");
                    self.gpu.lose();
                }
            }
            return None;
        }
        Some(wait)
    }
}

/// Starts the program anew with the same arguments, in place of this one where the system can do that.
///
/// # Errors
/// It cannot be started.
pub(super) fn start_anew(left: &Left) -> Result<()> {
    const DOING: &str = "starting anew";
    let fail = |e: std::io::Error| Error::new(DOING, e).help("start the program again");
    let text = serde_json::to_string(left).map_err(|e| Error::new(DOING, e))?;
    let mut command = Command::new(own_file(std::env::current_exe().map_err(fail)?));
    let is_left = |argument: &std::ffi::OsString| {
        argument.to_str().is_some_and(|argument| argument.starts_with(LEFT_ARGUMENT))
    };
    command.args(std::env::args_os().skip(1).filter(|argument| !is_left(argument)));
    command.arg(format!("{LEFT_ARGUMENT}{text}"));
    start(&mut command).map_err(fail)
}

/// Linux says of a program whose file was replaced, as by an update, that it was deleted; the new one is in its place.
fn own_file(file: PathBuf) -> PathBuf {
    let replaced = file.to_str().and_then(|name| name.strip_suffix(" (deleted)")).map(PathBuf::from);
    replaced.filter(|_| !file.exists()).unwrap_or(file)
}

#[cfg(all(unix, not(target_os = "macos")))]
fn start(command: &mut Command) -> std::io::Result<()> {
    Err(std::os::unix::process::CommandExt::exec(command))
}

/// (A program of macOS that has opened a window cannot be replaced by another in its place.)
#[cfg(not(all(unix, not(target_os = "macos"))))]
fn start(command: &mut Command) -> std::io::Result<()> {
    command.spawn().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_updated_is_started_from_where_it_was() {
        let gone = PathBuf::from("/usr/bin/no-such-program (deleted)");
        assert_eq!(own_file(gone), PathBuf::from("/usr/bin/no-such-program"));
        let own = std::env::current_exe().unwrap();
        assert_eq!(own_file(own.clone()), own);
    }
}
