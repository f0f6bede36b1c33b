//! Room `chat`, template: a template is a program that came with a model, written by anyone. It has no functions that reach
//! anything outside (none reads files or the network), its steps and what it makes are counted (`minijinja`'s fuel), and here are the
//! bounds that fuel does not give:
//!
//! - `minijinja` works through expressions and values by recursion, also when they are dropped: a few kilobytes of `a.b.b.b…`, or
//!   lists put into lists, would end the program with a stack overflow. So sources are short, and all work is done on a thread whose
//!   stack holds the deepest that a source and the fuel can make. (Only what is touched of it takes memory.)
//! - Work that fuel does not count, such as comparing lists that hold each other many times, may take for ever: it is given up after
//!   [`PATIENCE`]. A thread cannot be ended, but this one is made to stand still where it next asks for memory, as all such work does
//!   all the time; the template is not used again.
//! - Texts multiplied by texts take any memory: the thread gets [`MOST_MEMORY_BYTES`] (`crate::bounded_memory`).
//! - A `namespace` that holds itself has no end at all. It can only come to that where the namespace itself, and not something in
//!   it, is used as a value: sources that do so are refused.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use minijinja::Value as Jinja;
use minijinja::value::ValueKind;

use crate::bounded_memory::Allowance;

/// Bytes of a template, at most. Those of released models have some thousands.
pub(super) const MOST_SOURCE_BYTES: usize = 64 << 10;
/// How long a template may be worked on. An ordinary one takes a millisecond.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often is looked whether it stands still.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes that it may take, the stack not counted: a context of the largest model and its prompt as text are a few megabytes.
const MOST_MEMORY_BYTES: usize = 256 << 20;
/// Bytes of stack. Lists as deep as the fuel makes them take some 600 MB when they are joined to a text, the worst there is
/// (`tests/all/bounds/templates.rs`).
const STACK_BYTES: usize = if cfg!(target_pointer_width = "64") { 1 << 30 } else { 64 << 20 };
/// Values that may be printed at once, those of lists in it counted each time they occur.
const MOST_PRINTED: usize = 1_000_000;

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It took too many steps, or too long.
    TooLong,
    /// It took too long, and its thread is still there: it must not be tried again.
    Stuck,
    /// It wanted more memory than it may have, and its thread stands still with what it has: it must not be tried again.
    TooLarge,
    /// What the template does wrong.
    Words(String),
}

impl From<minijinja::Error> for Failure {
    /// On the thread that has the stack for it: an error may hold the template's values.
    fn from(error: minijinja::Error) -> Self {
        match error.kind() {
            minijinja::ErrorKind::OutOfFuel => Self::TooLong,
            _ => Self::Words(error.to_string()),
        }
    }
}

/// Does the work where it may go deep, and gives it up when it takes too long.
pub(super) fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, minijinja::Error> + Send + 'static,
) -> Result<T, Failure> {
    let (sender, result) = sync_channel(1);
    let allowance = Allowance::new(MOST_MEMORY_BYTES);
    let watch = allowance.watch();
    let work = move || {
        allowance.hold();
        // Whoever waited may have given up.
        let _ = sender.send(work().map_err(Failure::from));
    };
    let thread = std::thread::Builder::new().name("template".into()).stack_size(STACK_BYTES);
    let thread = thread.spawn(work).map_err(|e| Failure::Words(e.to_string()))?;
    let begun = Instant::now();
    loop {
        match result.recv_timeout(LOOK) {
            Ok(outcome) => return outcome,
            Err(RecvTimeoutError::Timeout) if watch.is_spent() => return Err(Failure::TooLarge),
            Err(RecvTimeoutError::Timeout) if begun.elapsed() > PATIENCE => {
                watch.give_up();
                return Err(Failure::Stuck);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                drop(thread.join());
                return Err(Failure::Words("the template engine failed on it".to_owned()));
            }
        }
    }
}

/// Is the source one that is tried?
pub(super) fn check(source: &str) -> Result<(), String> {
    if source.len() > MOST_SOURCE_BYTES {
        return Err(format!("it has {} bytes, and a template may have {MOST_SOURCE_BYTES}", source.len()));
    }
    namespaces_stay_apart(source)
}

/// Refuses sources that use a namespace as a value, as in `ns.a = ns`. By words, wherever they stand: what is code and what is a
/// string need not be told apart then, and cannot be told wrongly.
fn namespaces_stay_apart(source: &str) -> Result<(), String> {
    let words = words(source);
    let mut names = Vec::new();
    for (n, (at, word)) in words.iter().enumerate() {
        if *word != "namespace" {
            continue;
        }
        // `set NAME = namespace(`
        let name = n.checked_sub(1).and_then(|before| words.get(before));
        let set = n.checked_sub(2).and_then(|before| words.get(before));
        let made = source.get(at + word.len()..).unwrap_or_default().trim_start().starts_with('(');
        match (set, name) {
            (Some((_, "set")), Some((name_at, name)))
                if made
                    && source.get(name_at + name.len()..*at).is_some_and(|between| between.trim() == "=") =>
            {
                names.push(*name);
            }
            _ => return Err("it uses `namespace` otherwise than in {% set NAME = namespace(…) %}".to_owned()),
        }
    }
    for (at, word) in words.iter().filter(|(_, word)| names.contains(word)) {
        let before = source.get(..*at).unwrap_or_default().trim_end();
        let behind = source.get(at + word.len()..).unwrap_or_default().trim_start();
        let is_of_something_else = before.ends_with('.');
        let is_given_a_value = behind.starts_with('=') && !behind.starts_with("==");
        if !is_of_something_else && !is_given_a_value && !behind.starts_with(['.', '[']) {
            return Err(format!("it uses the namespace `{word}` itself, and not something in it"));
        }
    }
    Ok(())
}

/// Words as Jinja has names, and where they begin.
fn words(source: &str) -> Vec<(usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = Vec::new();
    let mut begin = None;
    for (at, c) in source.char_indices().chain([(source.len(), ' ')]) {
        match (begin, is_part(c)) {
            (None, true) => begin = Some(at),
            (Some(from), false) => {
                words.extend(source.get(from..at).map(|word| (from, word)));
                begin = None;
            }
            _ => {}
        }
    }
    words
}

/// Is that little enough to be printed? A list may hold another twice, and that another: few of them are beyond measure.
pub(super) fn is_printable(value: &Jinja) -> bool {
    let is_container = |value: &Jinja| matches!(value.kind(), ValueKind::Seq | ValueKind::Map);
    if !is_container(value) {
        return true;
    }
    let (mut todo, mut seen) = (vec![value.clone()], 0);
    while let Some(value) = todo.pop() {
        let Ok(items) = value.try_iter() else { continue };
        for item in items {
            seen += 1;
            if seen > MOST_PRINTED {
                return false;
            }
            if value.kind() == ValueKind::Map {
                todo.extend(value.get_item(&item).ok().filter(is_container));
            }
            if is_container(&item) {
                todo.push(item);
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_may_be_used_for_what_they_hold() {
        for source in [
            "{% set ns = namespace(a=1) %}{% set ns.a = ns.a + 1 %}{{ ns['a'] }}{{ x.ns }}{{ f(ns=1) }}",
            "{%- set a=namespace( ) -%}{%set b = namespace(x=a.y)%}{% set b . x = 2 %}",
            "no such thing",
        ] {
            assert_eq!(check(source), Ok(()), "{source}");
        }
        for source in [
            "{% set ns = namespace() %}{% set ns.a = ns %}",
            "{% set ns = namespace() %}{% set b = ns %}",
            "{% set ns = namespace() %}{{ [ns] }}",
            "{% set ns = namespace() %}{{ ns == 1 }}",
            "{% set make = namespace %}",
            "{% set ns = [namespace()] %}",
            "{{ f(namespace()) }}",
            "{% set a, ns = 1, namespace() %}",
            "{% for ns in [namespace()] %}{% endfor %}",
        ] {
            assert!(check(source).is_err(), "{source}");
        }
        assert!(check(&" ".repeat(MOST_SOURCE_BYTES + 1)).is_err());
    }
}
