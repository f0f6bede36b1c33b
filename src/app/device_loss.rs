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

/// What a window leaves for the next one, from one start of the program to the next.
const LEFT_VARIABLE: &str = "OCELLI_AFTER_LOSS";
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
    /// There was a conversation on the screen.
    pub has_chat: bool,
    /// Devices lost and panics caught until now.
    pub losses: u32,
    /// What a panic said that ended the window.
    pub panic: Option<String>,
    /// The adapter that was chosen for the next window.
    pub adapter: Option<String>,
    /// The window was closed so that another opens.
    #[serde(skip)]
    pub opens_again: bool,
}

impl Left {
    /// What the program left for itself when it started anew.
    pub fn from_start() -> Option<Self> {
        serde_json::from_str(&std::env::var(LEFT_VARIABLE).ok()?).ok()
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
    chosen: Option<String>,
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
        Self { gpu, left, found: None, ready: None, lose_when, what, chosen: None }
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The next window opens on this adapter, at once.
    pub fn choose(&mut self, adapter: String) {
        self.chosen = Some(adapter);
    }

    /// Is there nothing to draw on any more?
    pub fn is_lost(&self) -> bool {
        self.gpu.is_lost()
    }

    /// Notes what would have to be left now. True when the window is to close; `busy`: an answer may still end.
    pub fn must_leave(&mut self, model: Option<&PathBuf>, has_chat: bool, busy: bool, now: Instant) -> bool {
        let mut left = self.left.borrow_mut();
        if left.model.as_ref() != model {
            left.model = model.cloned();
        }
        left.has_chat = has_chat;
        if let Some(adapter) = self.chosen.take() {
            (left.adapter, left.opens_again) = (Some(adapter), true);
        }
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
                    self.choose(self.gpu.adapter_name().to_owned());
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
    let mut command = Command::new(std::env::current_exe().map_err(fail)?);
    command.args(std::env::args_os().skip(1)).env(LEFT_VARIABLE, text);
    start(&mut command).map_err(fail)
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
