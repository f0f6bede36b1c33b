//! What the program says of itself while it runs: on standard error, in a file that is never larger than a few megabytes, and, for
//! diagnostics, the last things that went wrong. A panic is one of them, with where it was.
//!
//! Nothing here may hold what people write or show: `tracing` calls say what was done, to which file or tensor, and how long it took.

mod rotating;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

use self::rotating::Rotating;
use crate::bounded_memory;
use crate::error::{Error, ErrorKind, Result, without_quotes};

/// The variable with what is said, as `tracing_subscriber::EnvFilter` reads it.
pub const VARIABLE: &str = "OCELLI_LOG";
/// Without it: what goes wrong, and of the libraries that draw what they themselves call an error.
const ON_TERMINAL: &str = "warn,wgpu_hal=error,wgpu_core=error,ocelli::panic=off";
/// What the file gets besides: what was done.
const IN_FILE: &str = "info,wgpu_hal=error,wgpu_core=error";
/// The file in its folder; older ones are `ocelli.log.1` and so on.
const FILE: &str = "ocelli.log";
/// A file of this many bytes is put aside.
const MOST_BYTES: u64 = 1 << 20;
/// Files put aside, at most.
const MOST_FILES: usize = 4;
/// Bytes of a line, at most: a library's error may quote a whole file.
const MOST_LINE: usize = 4096;
/// Things that went wrong that are remembered.
const REMEMBERED: usize = 40;

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// When.
    pub at: SystemTime,
    /// `WARN`, `ERROR`, `PANIC`.
    pub level: &'static str,
    /// What, on one line.
    pub text: String,
}

static INCIDENTS: Mutex<VecDeque<Incident>> = Mutex::new(VecDeque::new());

fn incidents() -> MutexGuard<'static, VecDeque<Incident>> {
    INCIDENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last things that went wrong, oldest first.
#[must_use]
pub fn last_incidents() -> Vec<Incident> {
    incidents().iter().cloned().collect()
}

fn remember(level: &'static str, text: &str) {
    let mut all = incidents();
    if all.len() == REMEMBERED {
        all.pop_front();
    }
    all.push_back(Incident { at: SystemTime::now(), level, text: shortened(text) });
}

/// On one line, and not longer than a line may be.
fn shortened(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > MOST_LINE {
        line.truncate(line.floor_char_boundary(MOST_LINE));
        line.push('…');
    }
    line
}

/// Begins to log: to standard error and, where there is a folder, to a file in it. What cannot be written there is said on standard
/// error, and the program goes on. Only the first call does anything.
pub fn begin(folder: Option<&Path>) {
    let on_terminal = || EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(ON_TERMINAL));
    let in_file = || EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(IN_FILE));
    let file = folder.map(|folder| (folder, open(folder)));
    let (file, failed) = match file {
        Some((_, Ok(file))) => (Some(file), None),
        Some((folder, Err(error))) => (None, Some((folder, error))),
        None => (None, None),
    };
    let file = file.map(|file| {
        let lines =
            fmt::layer().with_ansi(false).with_thread_names(true).with_writer(Mutex::new(Lines(file)));
        lines.with_filter(in_file())
    });
    let terminal = fmt::layer().with_writer(io::stderr).with_filter(on_terminal());
    let begun = tracing_subscriber::registry().with(terminal).with(file).with(Remembering).try_init();
    if begun.is_ok()
        && let Some((folder, error)) = failed
    {
        tracing::warn!("the log cannot be written in {}: {error}", folder.display());
    }
}

/// The file's folder, made if need be.
fn open(folder: &Path) -> io::Result<Rotating> {
    std::fs::create_dir_all(folder)?;
    Rotating::open(folder.join(FILE), MOST_BYTES, MOST_FILES)
}

/// Where the log of a window with this folder is.
#[must_use]
pub fn folder_in(data: &Path) -> PathBuf {
    data.join("logs")
}

/// A file that gets whole lines, none of them long.
struct Lines(Rotating);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if line.len() > MOST_LINE {
            self.0.write_all(&line[..MOST_LINE])?;
            self.0.write_all(b"\n")?;
        } else {
            self.0.write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Remembers warnings and errors.
struct Remembering;

impl<S: Subscriber> Layer<S> for Remembering {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARN",
            _ => return,
        };
        // A panic is remembered by the hook, with a level of its own.
        if event.metadata().target() == PANIC {
            return;
        }
        let mut said = Said(String::new());
        event.record(&mut said);
        remember(level, &said.0);
    }
}

struct Said(String);

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let named = if field.name() == "message" { String::new() } else { format!(" {}=", field.name()) };
        let _ = write!(self.0, "{named}{value:?}");
    }
}

/// The target of panics in the log.
const PANIC: &str = "ocelli::panic";

/// Has panics logged and remembered, besides what is done of them anyway. Only the first call does anything.
pub fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // A thread that may not have more memory would stand still in here, with what others wait for.
            bounded_memory::lift();
            let at = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
            let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
            let said = without_quotes(message_of(info.payload()));
            let text = format!("{said} (at {at}, in the thread {thread})");
            remember("PANIC", &text);
            tracing::error!(target: PANIC, "panicked: {text}\n{}", std::backtrace::Backtrace::force_capture());
            before(info);
        }));
    });
}

/// What a panic says.
fn message_of(payload: &dyn std::any::Any) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

/// Does the work, and makes an error of a panic in it. What the work has changed may be half done: whoever calls this throws it away.
///
/// # Errors
/// The work panicked.
pub fn catching<T>(doing: &str, work: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| panicked(doing, &*payload))
}

/// [`catching`], of work that may fail as it is.
///
/// # Errors
/// What the work says, or that it panicked.
pub fn guarded<T>(doing: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catching(doing, work)?
}

/// The error of work that ended in a panic; `payload` is what `catch_unwind` gave.
#[must_use]
pub fn panicked(doing: &str, payload: &(dyn std::any::Any + Send)) -> Error {
    fault(doing, &format!(": {}", message_of(payload)))
}

/// The error of work that a panic is just ending.
#[must_use]
pub fn panicking(doing: &str) -> Error {
    fault(doing, "")
}

fn fault(doing: &str, why: &str) -> Error {
    Error::new(doing, format!("a fault in Ocelli itself{why}"))
        .help("nothing that was kept is lost; please report it, with what Copy diagnostics gives")
        .kind(ErrorKind::Panicked)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_log_is_rotated_and_old_files_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = Lines(open(folder.path()).unwrap());
        let line = [b'x'; 1000];
        for _ in 0..10 * MOST_BYTES / line.len() as u64 {
            lines.write_all(&line).unwrap();
        }
        lines.write_all(&vec![b'y'; MOST_BYTES as usize]).unwrap();
        let files = std::fs::read_dir(folder.path()).unwrap();
        let sizes: Vec<u64> = files.map(|file| file.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 1 + MOST_FILES, "{sizes:?}");
        assert!(sizes.iter().all(|&size| size < MOST_BYTES + 2 * MOST_LINE as u64), "{sizes:?}");
    }

    // One test: incidents are the process's.
    #[test]
    fn incidents_are_lines_and_the_oldest_go_and_a_panic_is_one_with_its_place() {
        for n in 0..REMEMBERED + 5 {
            remember("WARN", &format!("number {n}\n of many {}", "é".repeat(MOST_LINE)));
        }
        let all = last_incidents();
        assert_eq!(all.len(), REMEMBERED);
        assert!(all.iter().all(|i| i.text.len() < MOST_LINE + 4 && !i.text.contains('\n')));
        note_panics();
        let error = catching("testing", || panic!("a test's panic {}", 41 + 1)).unwrap_err();
        assert_eq!(error.get_kind(), ErrorKind::Panicked);
        assert!(error.to_string().contains("a test's panic 42"), "{error}");
        let panic = last_incidents().into_iter().find(|i| i.level == "PANIC").unwrap();
        assert!(panic.text.contains("a test's panic 42") && panic.text.contains("log.rs:"), "{panic:?}");
    }
}
