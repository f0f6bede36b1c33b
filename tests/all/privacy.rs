//! `docs/privacy.md`, proved: what the program asks of the system for the network is read in its system calls. It connects to nobody
//! who was not asked for, and waits for nobody's connections.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::commands::{Place, Run};
use crate::end_to_end::with_window;

/// Is there an strace, and may it trace? Where not, the reason is printed.
fn can_trace() -> bool {
    let traced =
        Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let can = traced.is_ok_and(|status| status.success());
    if !can {
        eprintln!(
            "skipped: strace is missing (packaging/debian-setup.sh --tests brings it) or may not trace"
        );
    }
    can
}

/// The words that put a command under strace.
fn strace(to: &Path) -> Vec<String> {
    let words = ["strace", "--follow-forks", "-qq", "--trace=%network", "-o"];
    words.iter().map(|word| (*word).to_owned()).chain([to.display().to_string()]).collect()
}

/// Runs a command of the program so; what it did with sockets.
fn traced(place: &Place, arguments: &[&str]) -> (Run, String) {
    let to = place.path("calls");
    let plain = place.command(arguments);
    let words = strace(&to);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(plain.get_program()).args(plain.get_args());
    command.current_dir(plain.get_current_dir().unwrap()).stdin(Stdio::null());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let run = Run::of(&mut command);
    (run, fs::read_to_string(&to).unwrap())
}

/// Lines that reach beyond this machine's own sockets, or wait for somebody.
fn reaching_out(calls: &str) -> Vec<&str> {
    let names = ["AF_INET", "AF_PACKET", "AF_BLUETOOTH", "AF_VSOCK", "listen(", "accept"];
    calls.lines().filter(|line| names.iter().any(|name| line.contains(name))).collect()
}

#[test]
fn commands_reach_nobody_but_the_server_they_are_given() {
    if !can_trace() {
        return;
    }
    let place = Place::new();
    for arguments in [
        &["generate", "--max-tokens", "4", "What can you do?"] as &[&str],
        &["devices"],
        &["models", "list"],
        &["compare", "example"],
    ] {
        let (run, calls) = traced(&place, arguments);
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        assert_eq!(reaching_out(&calls), Vec::<&str>::new(), "{arguments:?}");
    }
    // Does the test see a connection where there is one? Nobody listens at this port.
    let server = ["generate", "--server", "http://127.0.0.1:9", "--server-model", "none", "Hello"];
    let (run, calls) = traced(&place, &server);
    assert_eq!(run.status, Some(1));
    let out = reaching_out(&calls);
    let connects: Vec<_> = out.iter().filter(|line| line.contains("connect(")).collect();
    assert!(!connects.is_empty(), "{calls}");
    assert!(
        connects.iter().all(|line| line.contains("127.0.0.1") && line.contains("htons(9)")),
        "{connects:?}"
    );
    assert!(!calls.contains("listen("), "{calls}");
}

#[test]
fn the_window_reaches_nobody() {
    if !can_trace() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let calls = folder.path().join("calls");
    // It opens, loads its model, is asked a question, answers, and is closed.
    if with_window(&strace(&calls), folder.path()) {
        let calls = fs::read_to_string(&calls).unwrap();
        assert!(calls.contains("AF_UNIX"), "it has talked to the display: {calls}");
        assert_eq!(reaching_out(&calls), Vec::<&str>::new());
    }
}
