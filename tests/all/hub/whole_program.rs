//! `ocelli models` as a user runs it, killed at any moment.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::server::*;

const REPO: &str = "Qwen/Qwen3-VL-2B-Instruct";

fn ocelli(hub: &Hub, home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli"));
    for name in ["HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HUGGINGFACE_HUB_CACHE", "OCELLI_MODEL"] {
        command.env_remove(name);
    }
    command
        .env("HF_ENDPOINT", hub.address())
        .env("HF_HOME", home)
        .env("OCELLI_DATA", home.join("data"))
        .env("OCELLI_CACHE", home.join("cache"))
        .stdin(Stdio::null());
    command
}

/// OCELLI_TEST_KILLS=50 for the figures in docs/measurements.md; a few in every run of the tests.
#[test]
fn a_download_that_is_killed_again_and_again_arrives_whole() {
    let kills: u64 = std::env::var("OCELLI_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let (hub, home) = (Hub::with_model(&[100, 1]), tempfile::tempdir().unwrap());
    // So that the kills are spread over the whole file.
    let bytes_a_kill = hub.total_bytes() / (kills + 1);
    let mut seed = 7_u64;
    for _ in 0..kills {
        hub.speed.store(25_000_000, Ordering::Relaxed);
        let before = hub.sent_bytes();
        let mut child = ocelli(&hub, home.path())
            .args(["models", "pull", REPO])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let until = bytes_a_kill * (seed >> 33) % (bytes_a_kill * 2).max(1);
        while hub.sent_bytes() - before < until && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    hub.speed.store(0, Ordering::Relaxed);
    let output = ocelli(&hub, home.path()).args(["models", "pull", REPO]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = String::from_utf8(output.stdout).unwrap();
    for (name, bytes) in hub.state.lock().unwrap().files.iter().filter(|(name, _)| *name != "README.md") {
        assert!(fs::read(Path::new(folder.trim()).join(name)).unwrap() == *bytes, "{name}");
    }
    let twice = hub.sent_bytes() - hub.total_bytes();
    eprintln!("{kills} kills: {twice} of {} bytes were sent twice", hub.total_bytes());
    // For four connections: 256 KiB that were not written yet, and what was on the way. Fetching everything again would be half of it and more.
    assert!(twice <= kills * 4 * (512 << 10), "{twice}");
}

#[test]
fn the_command_lists_pulls_verifies_and_removes() {
    let (hub, home) = (Hub::with_model(&[1]), tempfile::tempdir().unwrap());
    let run = |args: &[&str]| {
        let output = ocelli(&hub, home.path()).args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let (_, out, _) = run(&["models", "list", "--catalogue"]);
    assert!(
        out.contains("Qwen/Qwen3-VL-2B-Instruct ") && out.contains("4.26 GB") && out.contains("Apache-2.0"),
        "{out}"
    );
    let (ok, out, err) = run(&["models", "pull", "https://huggingface.co/Qwen/Qwen3-VL-2B-Instruct"]);
    assert!(ok && out.trim().ends_with(COMMIT) && err.contains("1 MB of them fetched now"), "{out}{err}");
    let (_, out, _) = run(&["models", "list"]);
    assert!(out.contains("Ocelli demo") && out.contains("commit 01234567"), "{out}");
    let (_, out, _) = run(&["models", "list", "--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()[1]["repo"], REPO);
    let (ok, _, err) = run(&["models", "verify", REPO]);
    assert!(ok && err.contains("all are what they should be"), "{err}");
    // It is no real model, and that is said of the right folder: the name was understood.
    let (ok, _, err) = run(&["generate", "--model", REPO, "Hi"]);
    assert!(!ok && err.contains(COMMIT), "{err}");
    let (ok, _, err) = run(&["models", "remove", REPO]);
    assert!(ok && err.contains("1 MB are free again"), "{err}");
    let (ok, _, err) = run(&["models", "verify", REPO]);
    assert!(!ok && err.contains("ocelli models pull") && err.lines().count() == 1, "{err}");
    let (ok, _, err) = run(&["models", "pull", "nonsense"]);
    assert!(!ok && err.contains("owner/name"), "{err}");
}
