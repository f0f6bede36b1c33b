//! The program itself, on a display: started, typed into, killed, and robbed of its device. What it has done is read in its
//! database and in its log.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ocelli::chat::history::{History, NewMessage};
use ocelli::chat::message::Role;
use ocelli::chat::tree::MessageState;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::support::Dice;

/// Whatever is waited for may take this long: other tests work at the same time.
const PATIENCE: Duration = Duration::from_secs(150);
/// How often the database is looked into.
const LOOK: Duration = Duration::from_millis(50);

/// One window has the keyboard at a time. `None`, with the reason printed: there is no display, or no hand.
fn keyboard() -> Option<MutexGuard<'static, ()>> {
    static KEYBOARD: Mutex<()> = Mutex::new(());
    if std::env::var_os("DISPLAY").is_none_or(|display| display.is_empty()) {
        eprintln!("skipped: DISPLAY is not set (packaging/test.sh brings a display of its own)");
        return None;
    }
    let found = Command::new("xdotool").arg("version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no xdotool");
        return None;
    }
    Some(KEYBOARD.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The keys and windows of the display; gives what xdotool prints.
fn xdotool(arguments: &[&str]) -> String {
    let run = Command::new("xdotool").args(arguments).output().unwrap();
    String::from_utf8(run.stdout).unwrap()
}

/// Types a line and sends it.
fn type_line(text: &str) {
    xdotool(&["type", "--delay", "8", text]);
    xdotool(&["key", "Return"]);
}

/// The program, running. It is killed when this is dropped.
struct Program {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
    /// Lines of the log that have been waited for.
    read: usize,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            self.log.extend(self.lines.iter());
            eprintln!("the program's log:\n{}", self.log.join("\n"));
        }
    }
}

impl Program {
    /// Starts it and waits until it has its model and the keyboard.
    fn start(data: &Path, variables: &[(&str, &str)]) -> Self {
        let mut program = Self::begin(data, variables);
        program.wait_until_ready();
        program
    }

    fn begin(data: &Path, variables: &[(&str, &str)]) -> Self {
        Self::begin_by(&[], data, variables)
    }

    /// [`Program::begin`], by another program that is given these words before it.
    fn begin_by(by: &[String], data: &Path, variables: &[(&str, &str)]) -> Self {
        let program = env!("CARGO_BIN_EXE_ocelli");
        let mut command = Command::new(by.first().map_or(program, String::as_str));
        command.args(by.iter().skip(1)).args((!by.is_empty()).then_some(program));
        // The keys come through X.
        for name in ["OCELLI_MODEL", "OCELLI_ADAPTER", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"] {
            command.env_remove(name);
        }
        command.env("OCELLI_DATA", data).env("OCELLI_CACHE", data.join("cache"));
        command.env("OCELLI_LOG", "warn,ocelli::app=debug").envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (say, lines) = mpsc::channel();
        let reader = move || errors.lines().map_while(Result::ok).try_for_each(|line| say.send(line));
        std::thread::Builder::new().name("the program's log".into()).spawn(reader).unwrap();
        Self { child, lines, log: Vec::new(), read: 0 }
    }

    /// Looks again and again, until there is something.
    #[track_caller]
    fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "there is never {what}");
            let ended = self.listen(LOOK);
            assert!(!ended, "the program has ended before there was {what}");
        }
    }

    /// Takes in lines of the log for this long. True when there will be no more.
    fn listen(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.log.push(line),
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }

    /// Waits for a line of the log after the one waited for before.
    #[track_caller]
    fn wait_for_line(&mut self, text: &str) {
        let found = self.wait(&format!("a line with {text:?}"), |program| {
            let new = program.log.get(program.read..)?;
            Some(program.read + new.iter().position(|line| line.contains(text))?)
        });
        self.read = found + 1;
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        self.wait_for_line("the model is ready");
        let pid = self.child.id().to_string();
        let search = ["search", "--all", "--onlyvisible", "--pid", &pid, "--name", "Ocelli demo"];
        let window = self.wait("a window", |_| {
            xdotool(&search).lines().next().map(str::to_owned).filter(|id| !id.is_empty())
        });
        self.wait("the keyboard", |_| {
            xdotool(&["windowfocus", &window]);
            (xdotool(&["getwindowfocus"]).trim() == window).then_some(())
        });
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    fn wait_for_end(&mut self) {
        let start = Instant::now();
        while !self.listen(LOOK) {
            assert!(start.elapsed() < PATIENCE, "it never ends");
        }
        assert!(self.child.wait().unwrap().success());
    }

    /// Ends it as nothing can prevent.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A message in the database.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    conversation: i64,
    parent: Option<i64>,
    role: String,
    text: String,
    state: String,
    details: Value,
}

/// All messages there ever were, by their number; `None`: there is no database yet.
fn messages(data: &Path) -> Option<BTreeMap<i64, Kept>> {
    let path = data.join("conversations.sqlite");
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    let mut statement = connection
        .prepare("SELECT id, conversation, parent, role, text, state, details FROM messages")
        .ok()?;
    let kept = statement.query_map([], |row| {
        let details: String = row.get(6)?;
        Ok((
            row.get(0)?,
            Kept {
                conversation: row.get(1)?,
                parent: row.get(2)?,
                role: row.get(3)?,
                text: row.get(4)?,
                state: row.get(5)?,
                details: serde_json::from_str(&details).unwrap(),
            },
        ))
    });
    kept.and_then(Iterator::collect).ok()
}

/// The answers among them, in their order.
fn answers(data: &Path) -> Vec<(i64, Kept)> {
    messages(data).unwrap_or_default().into_iter().filter(|(_, kept)| kept.role == "assistant").collect()
}

/// The answer of this place, from 0, once it is complete.
fn complete(data: &Path, place: usize) -> Option<(i64, Kept)> {
    answers(data).into_iter().nth(place).filter(|(_, kept)| kept.state == "complete")
}

#[track_caller]
fn assert_sound(data: &Path) {
    let connection = Connection::open(data.join("conversations.sqlite")).unwrap();
    let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[test]
fn questions_typed_are_answered_and_kept_and_the_second_reuses_the_first() {
    let Some(_keyboard) = keyboard() else { return };
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let mut program = Program::start(data, &[]);
    type_line("What can you do?");
    let (first, answer) = program.wait("an answer", |_| complete(data, 0));
    assert!(!answer.text.is_empty() && answer.details["figures"]["reused_tokens"] == 0, "{answer:?}");
    program.wait_for_line("an answer has ended");
    type_line("And what else?");
    let (_, answer) = program.wait("the second answer", |_| complete(data, 1));
    assert!(answer.details["figures"]["reused_tokens"].as_u64().unwrap() > 0, "{answer:?}");
    let all = messages(data).unwrap();
    let question = &all[&answer.parent.unwrap()];
    assert_eq!((question.text.as_str(), question.parent), ("And what else?", Some(first)));
    assert_eq!(all[&question.parent.unwrap()].conversation, answer.conversation);
    assert_eq!(all.len(), 4);
}

#[test]
fn a_program_killed_while_it_answers_keeps_what_had_come_of_the_answer() {
    let Some(_keyboard) = keyboard() else { return };
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let mut program = Program::start(data, &[]);
    type_line("What can you do?");
    // (A fast device is done before words are kept.)
    program.wait("words", |_| answers(data).pop().filter(|(_, kept)| !kept.text.is_empty()));
    program.kill();
    let before = messages(data).unwrap();
    let (id, cut) = answers(data).pop().unwrap();
    println!("killed when the answer was {}: {:?}", cut.state, cut.text);
    assert_sound(data);

    let mut program = Program::start(data, &[]);
    let (_, found) = program.wait("the answer as it was left", |_| {
        answers(data).pop().filter(|(_, kept)| kept.state != "streaming")
    });
    assert_eq!(found.state, if cut.state == "complete" { "complete" } else { "stopped" });
    assert_eq!(found.text, cut.text);
    let question = cut.parent.unwrap();
    assert_eq!(before[&question].text, "What can you do?");
    assert_eq!(messages(data).unwrap()[&question], before[&question]);
    type_line("What can you do?");
    let (next, answer) = program.wait("the next answer", |_| complete(data, 1));
    assert!(next > id && !answer.text.is_empty());
    program.kill();
    assert_sound(data);
}

/// Robs the program of its device at this time, and asks a second question of the window that opens then.
fn lose_device(when: &str) -> Option<(Kept, Kept, Vec<String>)> {
    let _keyboard = keyboard()?;
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let mut program = Program::start(data, &[("OCELLI_TEST_LOSE_DEVICE", when)]);
    type_line("What can you do?");
    program.wait_for_line("a test loses the device");
    program.wait_for_line("the device was lost");
    program.wait_until_ready();
    let (first, cut) = answers(data).into_iter().next().unwrap();
    type_line("And what else?");
    let (second, answer) = program.wait("an answer on the new device", |_| {
        answers(data).into_iter().find(|(id, kept)| *id > first && kept.state == "complete")
    });
    assert!(!answer.text.is_empty());
    // The window that opened has the conversation of the one that closed.
    let question = messages(data).unwrap()[&answer.parent.unwrap()].clone();
    assert_eq!((question.text.as_str(), question.parent), ("And what else?", Some(first)), "answer {second}");
    let log = program.log.clone();
    program.kill();
    assert_sound(data);
    Some((cut, answer, log))
}

#[test]
fn an_idle_window_whose_device_is_lost_opens_again_on_a_new_one() {
    let Some((cut, answer, log)) = lose_device("answered") else { return };
    assert_eq!((cut.state.as_str(), cut.text), ("complete", answer.text), "{log:?}");
    assert!(log.iter().all(|line| !line.contains("panicked")), "{log:?}");
}

#[test]
fn a_device_lost_in_the_middle_of_an_answer_is_replaced_and_the_words_are_kept() {
    let Some((cut, answer, log)) = lose_device("answering") else { return };
    println!("{}: {:?}\n{}", cut.state, cut.text, log.join("\n"));
    assert!(["stopped", "failed"].contains(&cut.state.as_str()), "{cut:?}");
    assert!(answer.text.starts_with(&cut.text), "{cut:?}");
}

#[test]
fn an_answer_that_broke_off_with_the_device_goes_on_from_its_last_kept_word() {
    let Some(_keyboard) = keyboard() else { return };
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let mut program = Program::start(data, &[("OCELLI_TEST_LOSE_DEVICE", "answering")]);
    type_line("What can you do?");
    program.wait_for_line("a test loses the device");
    program.wait_until_ready();
    let (id, cut) = answers(data).pop().unwrap();
    if cut.state == "complete" {
        eprintln!("skipped: the answer was there before the device was gone");
        return;
    }
    xdotool(&["key", "ctrl+shift+Return"]);
    let (_, whole) = program.wait("the whole answer", |_| complete(data, 0));
    assert_eq!(answers(data).len(), 1);
    assert!(
        whole.text.starts_with(&cut.text) && whole.text.len() > cut.text.len(),
        "{id}: {cut:?} {whole:?}"
    );
    program.kill();
    assert_sound(data);
}

/// All that the log's files hold.
fn log_files(data: &Path) -> String {
    let files = std::fs::read_dir(data.join("logs")).unwrap();
    files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn a_window_that_panics_opens_again_with_all_that_was_written_and_says_so_in_the_log() {
    let Some(_keyboard) = keyboard() else { return };
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let mut program = Program::start(data, &[("OCELLI_TEST_PANIC", "answering")]);
    type_line("What can you do?");
    program.wait_for_line("a test has the window panic");
    program.wait_until_ready();
    let (first, cut) = answers(data).pop().unwrap();
    assert!(!cut.text.is_empty() && cut.state != "streaming", "{cut:?}");
    type_line("And what else?");
    program.wait("an answer in the new window", |_| {
        answers(data).into_iter().find(|(id, kept)| *id > first && kept.state == "complete")
    });
    program.kill();
    assert_sound(data);
    let log = log_files(data);
    assert!(log.contains("a test asked for it") && log.contains("device_loss.rs:"), "{log}");
    // What people write and are answered is in no log.
    assert!(!log.contains("What can you do") && !log.contains(&cut.text), "{log}");
}

#[test]
fn an_adapter_that_was_chosen_and_is_gone_is_no_reason_to_stay_closed() {
    let Some(_keyboard) = keyboard() else { return };
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    std::fs::write(data.join("preferences.json"), r#"{"adapter": "A card that was pulled out"}"#).unwrap();
    let mut program = Program::start(data, &[]);
    assert!(program.log.iter().any(|line| line.contains("A card that was pulled out")), "{:?}", program.log);
    type_line("What can you do?");
    program.wait("an answer", |_| complete(data, 0));
}

#[test]
fn a_window_whose_adapter_is_changed_opens_again_with_its_chat() {
    let Some(_keyboard) = keyboard() else { return };
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let mut program = Program::start(data, &[("OCELLI_TEST_CHOOSE_ADAPTER", "answered")]);
    type_line("What can you do?");
    program.wait_for_line("a test chooses an adapter");
    program.wait_until_ready();
    let (first, _) = complete(data, 0).unwrap();
    type_line("And what else?");
    let (_, next) = program.wait("an answer on the other adapter", |_| complete(data, 1));
    assert_eq!(messages(data).unwrap()[&next.parent.unwrap()].parent, Some(first));
    assert!(program.log.iter().all(|line| !line.contains("lost") && !line.contains("panicked")));
    program.kill();
    assert_sound(data);
}

/// Asleep in the middle of an answer, as far as a program can tell: it stands still and time goes on.
#[cfg(unix)]
#[test]
fn a_program_that_was_asleep_in_the_middle_of_an_answer_goes_on() {
    let Some(_keyboard) = keyboard() else { return };
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let mut program = Program::start(data, &[]);
    type_line("What can you do?");
    program.wait("words", |_| answers(data).pop().filter(|(_, kept)| !kept.text.is_empty()));
    let pid = program.child.id().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-STOP");
    std::thread::sleep(Duration::from_secs(3));
    signal("-CONT");
    let (first, _) = program.wait("the answer's end", |_| complete(data, 0));
    type_line("And what else?");
    let (_, next) = program.wait("the next answer", |_| complete(data, 1));
    assert_eq!(messages(data).unwrap()[&next.parent.unwrap()].parent, Some(first));
    program.kill();
    assert_sound(data);
}

/// Starts the window by these words, asks it a question, waits for the answer and closes it; false: there is no display.
pub fn with_window(by: &[String], data: &Path) -> bool {
    let Some(_keyboard) = keyboard() else { return false };
    let mut program = Program::begin_by(by, data, &[]);
    program.wait_for_line("the model is ready");
    let window = program.wait("a window", |_| {
        let found = xdotool(&["search", "--all", "--onlyvisible", "--name", "Ocelli demo"]);
        found.lines().next().map(str::to_owned).filter(|id| !id.is_empty())
    });
    program.wait("the keyboard", |_| {
        xdotool(&["windowfocus", &window]);
        (xdotool(&["getwindowfocus"]).trim() == window).then_some(())
    });
    type_line("What can you do?");
    program.wait("an answer", |_| complete(data, 0));
    xdotool(&["key", "ctrl+q"]);
    program.wait_for_end();
    true
}

/// Everything that was there is there, with the same words; answers that were coming in may have grown.
#[track_caller]
fn assert_nothing_is_lost(seen: &BTreeMap<i64, Kept>, now: &BTreeMap<i64, Kept>) {
    for (id, before) in seen {
        let after = now.get(id).unwrap_or_else(|| panic!("message {id} is gone: {before:?}"));
        let same = if before.state == "streaming" {
            after.text.starts_with(&before.text)
        } else {
            after.text == before.text && after.state == before.state
        };
        assert!(same && after.parent == before.parent, "{before:?} has become {after:?}");
    }
}

#[test]
fn whatever_was_kept_is_kept_after_kills_at_any_moment() {
    let Some(_keyboard) = keyboard() else { return };
    let kills: u64 = std::env::var("OCELLI_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let seed: u64 = std::env::var("OCELLI_TEST_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    println!("OCELLI_TEST_SEED={seed}");
    let mut dice = Dice(seed);
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let mut seen = BTreeMap::new();
    let (mut streaming, mut edits) = (0, 0);
    for kill in 0..kills {
        let mut program = Program::start(data, &[]);
        let before = answers(data).len();
        type_line(&format!("Question {kill}?"));
        // The first time in an edit, then at either.
        if kill == 0 || dice.below(2) == 0 {
            edits += 1;
            program.wait("an answer", |_| complete(data, before));
            program.wait_for_line("an answer has ended");
            xdotool(&["key", "Up"]);
            program.wait_for_line("a message is being changed");
            type_line(" Edited.");
        }
        let (start, moment) = (Instant::now(), Duration::from_millis(dice.below(5000)));
        while start.elapsed() < moment {
            program.listen(LOOK.min(moment.saturating_sub(start.elapsed())));
            let now = messages(data).unwrap();
            assert_nothing_is_lost(&seen, &now);
            seen = now;
        }
        program.kill();
        let now = messages(data).unwrap();
        assert_nothing_is_lost(&seen, &now);
        streaming += usize::from(now.values().any(|kept| kept.state == "streaming"));
        assert_sound(data);
        seen = now;
    }
    let edited = seen.values().filter(|kept| kept.text.ends_with("? Edited.")).count();
    println!(
        "{kills} kills, {streaming} of them in the middle of an answer; {edits} edits sent, {edited} kept; {} messages",
        seen.len()
    );
}

/// For measurements: a conversation of 5000 messages in the folder that OCELLI_DATA names.
#[test]
#[ignore = "makes a file for packaging/measure-window.sh"]
fn make_long_conversation() {
    let folder = std::env::var_os("OCELLI_DATA").expect("OCELLI_DATA names the folder");
    std::fs::create_dir_all(&folder).unwrap();
    let mut history = History::open(&Path::new(&folder).join("conversations.sqlite")).unwrap().history;
    let conversation = history.create(&json!({})).unwrap();
    history.set_title(conversation, "5000 messages", true).unwrap();
    let mut dice = Dice(5000);
    let mut parent = None;
    for n in 0..5000 {
        let role = if n % 2 == 0 { Role::User } else { Role::Assistant };
        let mut text = format!("Message {n}. ");
        for _ in 0..10 + dice.below(60) {
            text += ["circle", "**square**", "red", "of the", "`left`", "and", "below", "two"]
                [dice.below(8) as usize];
            text += " ";
        }
        if n % 7 == 1 {
            text += "\n\n1. first\n2. second\n\n| shape | colour |\n|---|---|\n| circle | red |\n| square | blue |\n";
        }
        if n % 11 == 1 {
            text += "\n\n```rust\nfn main() {\n    println!(\"a circle\");\n}\n```\n";
        }
        let state = MessageState::Complete;
        let message = NewMessage { parent, role, text: &text, attachments: &[], state, details: Value::Null };
        parent = Some(history.add(conversation, &message).unwrap().id);
    }
}
