//! Downloads through the library: what arrives, what is asked for, and every way of going wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ocelli::error::{ErrorKind, Result};
use ocelli::hub::cache::{self, RepoCache};
use ocelli::hub::library::{Kind, Library};
use ocelli::hub::pull::{Patience, PullProgress, PullStage};
use ocelli::hub::{HubSettings, PullRequest, Pulled, pull};
use serde_json::json;

use super::server::*;
use crate::support::small_disk::{SmallDisk, fill};

const REPO: &str = "Qwen/Qwen3-VL-2B-Instruct";

pub fn settings(hub: &Hub, home: &Path) -> HubSettings {
    let (address, home) = (hub.address(), home.to_str().unwrap().to_owned());
    HubSettings::from_variables(&|name| match name {
        "HF_ENDPOINT" => Some(address.clone()),
        "HF_HOME" => Some(home.clone()),
        "HF_TOKEN" => Some("hf_secret".into()),
        _ => None,
    })
    .unwrap()
}

fn request() -> PullRequest {
    let patience = Patience {
        tries: 5,
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(50),
    };
    PullRequest { patience, ..PullRequest::new(REPO.parse().unwrap()) }
}

fn fetch(hub: &Hub, home: &Path) -> Result<Pulled> {
    pull(&settings(hub, home), &request(), &mut |_| (), &AtomicBool::new(false))
}

/// Every file in a folder, with its bytes through links.
fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files.extend(all_files(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

fn assert_right(hub: &Hub, pulled: &Pulled) {
    for (name, bytes) in &hub.state.lock().unwrap().files {
        let path = pulled.model.join(name);
        if name == "README.md" {
            assert!(!path.exists());
        } else {
            assert!(fs::read(&path).unwrap() == *bytes, "{name}");
        }
    }
}

/// No name in the cache that looks like a whole file is one that is not.
fn assert_nothing_looks_finished(home: &Path) {
    assert_eq!(cache::list(&home.join("hub")), []);
    for path in all_files(home) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.len() == 64 {
            assert_eq!(sha256(&fs::read(&path).unwrap()), name);
        } else if name.len() == 40 {
            assert_eq!(git_sha1(&fs::read(&path).unwrap()), name);
        }
    }
}

#[test]
fn a_model_arrives_in_the_hubs_own_layout_and_is_not_fetched_again() {
    let (hub, home) = (Hub::with_model(&[40, 1]), tempfile::tempdir().unwrap());
    let mut seen: Vec<PullProgress> = Vec::new();
    let pulled = pull(
        &settings(&hub, home.path()),
        &request(),
        &mut |p| seen.push(p.clone()),
        &AtomicBool::new(false),
    )
    .unwrap();
    assert_right(&hub, &pulled);
    assert_eq!(pulled.commit, COMMIT);
    assert_eq!(hub.sent_bytes(), hub.total_bytes(), "every byte once");
    assert_eq!(pulled.received_bytes, hub.total_bytes());
    assert!(seen.windows(2).all(|pair| pair[0].done_bytes <= pair[1].done_bytes));
    let last = seen.last().unwrap();
    assert_eq!((last.done_bytes, last.done_files), (hub.total_bytes(), 4));

    let repo = home.path().join("hub/models--Qwen--Qwen3-VL-2B-Instruct");
    assert_eq!(pulled.model, repo.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    let config = &hub.state.lock().unwrap().files["config.json"].clone();
    assert!(repo.join("blobs").join(git_sha1(config)).is_file());
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(pulled.model.join("config.json")).unwrap(),
        Path::new("../../blobs").join(git_sha1(config))
    );
    assert!(all_files(home.path()).iter().all(|path| !path.to_string_lossy().contains("ocelli-")));

    let again = fetch(&hub, home.path()).unwrap();
    assert_eq!((again.received_bytes, again.model.as_path()), (0, pulled.model.as_path()));
    assert_eq!(hub.sent_bytes(), hub.total_bytes());
    // What another tool has brought counts as well, whatever is in refs.
    fs::remove_dir_all(repo.join("refs")).unwrap();
    fs::remove_dir_all(repo.join("snapshots")).unwrap();
    assert_right(&hub, &fetch(&hub, home.path()).unwrap());
    assert_eq!(hub.sent_bytes(), hub.total_bytes());
}

#[test]
fn large_files_come_in_parts_over_several_connections_and_the_token_goes_to_the_hub_alone() {
    let (hub, storage, home) = (Hub::with_model(&[70]), Hub::start(), tempfile::tempdir().unwrap());
    storage.state.lock().unwrap().files = hub.state.lock().unwrap().files.clone();
    hub.state.lock().unwrap().elsewhere = Some(storage.port);
    let pulled = fetch(&hub, home.path()).unwrap();
    assert_right(&hub, &pulled);
    let parts: Vec<_> = storage.asked().into_iter().filter(|asked| asked.path.contains("model-")).collect();
    assert_eq!(parts.len(), 3, "parts of 32 MiB: {parts:?}");
    assert!(hub.asked().iter().all(|asked| asked.has_token));
    assert!(storage.asked().iter().all(|asked| !asked.has_token), "another host must not see the token");
    assert_eq!(storage.sent_bytes(), hub.total_bytes());
}

#[test]
fn what_came_before_a_pause_is_not_fetched_again() {
    let (hub, home) = (Hub::with_model(&[48]), tempfile::tempdir().unwrap());
    hub.speed.store(30_000_000, Ordering::Relaxed);
    let mut pauses = 0;
    loop {
        let cancel = AtomicBool::new(false);
        let mut first = None;
        let mut look = |progress: &PullProgress| {
            if progress.stage == PullStage::Fetching {
                let start = *first.get_or_insert(progress.done_bytes);
                cancel.store(progress.done_bytes > start + (8 << 20), Ordering::Relaxed);
            }
        };
        let begun = Instant::now();
        match pull(&settings(&hub, home.path()), &request(), &mut look, &cancel) {
            Ok(pulled) => {
                assert_right(&hub, &pulled);
                break;
            }
            Err(error) => assert_eq!(error.get_kind(), ErrorKind::Cancelled, "{error}"),
        }
        pauses += 1;
        assert!(pauses < 20 && begun.elapsed() < Duration::from_secs(20));
        assert_nothing_looks_finished(home.path());
    }
    assert!(pauses >= 2, "{pauses}");
    // What was on its way, for four connections and each pause; 8 MiB came between two pauses.
    let twice = hub.sent_bytes() - hub.total_bytes();
    assert!(twice < pauses * 4 * (512 << 10), "{twice} bytes were sent twice in {pauses} pauses");
}

#[test]
fn what_breaks_off_lies_or_stumbles_is_tried_again_and_every_byte_is_right() {
    let (hub, home) = (Hub::with_model(&[33, 2]), tempfile::tempdir().unwrap());
    hub.fault([
        Fault::Status(500, &[]),
        Fault::CutAfter(100),
        Fault::CutAfter(3 << 20),
        Fault::Hangup,
        Fault::Status(429, &[("retry-after", "0")]),
        Fault::LyingLength(5000),
        Fault::WrongPart,
        Fault::Status(503, &[]),
        Fault::CutAfter(0),
        Fault::Stall(1 << 20, Duration::from_millis(300)),
    ]);
    let mut troubles = Vec::new();
    let mut look = |progress: &PullProgress| troubles.extend(progress.trouble.clone());
    let pulled = pull(&settings(&hub, home.path()), &request(), &mut look, &AtomicBool::new(false)).unwrap();
    assert_right(&hub, &pulled);
    assert!(hub.state.lock().unwrap().faults.is_empty());
}

#[test]
fn a_hub_that_sends_no_parts_is_read_from_the_beginning() {
    let (hub, home) = (Hub::with_model(&[70]), tempfile::tempdir().unwrap());
    hub.state.lock().unwrap().no_ranges = true;
    hub.fault([Fault::CutAfter(20_000_000), Fault::CutAfter(40_000_000)]);
    let pulled = fetch(&hub, home.path()).unwrap();
    assert_right(&hub, &pulled);
    let whole = hub.asked().iter().filter(|asked| asked.path.contains("model-")).count();
    assert!(whole <= 8, "it was asked {whole} times for a file that it sends whole each time");
}

#[test]
fn a_wrong_checksum_is_fetched_once_more_and_then_refused() {
    let (hub, home) = (Hub::with_model(&[1]), tempfile::tempdir().unwrap());
    hub.fault([Fault::WrongByte]);
    assert_right(&hub, &fetch(&hub, home.path()).unwrap());

    let home = tempfile::tempdir().unwrap();
    hub.state.lock().unwrap().always_wrong = true;
    let error = fetch(&hub, home.path()).unwrap_err().to_string();
    assert!(error.contains("checksum is wrong, twice"), "{error}");
    assert_nothing_looks_finished(home.path());
    hub.state.lock().unwrap().always_wrong = false;
    assert_right(&hub, &fetch(&hub, home.path()).unwrap());
}

#[test]
fn refusals_say_what_to_do() {
    let (hub, home) = (Hub::with_model(&[1]), tempfile::tempdir().unwrap());
    for (status, code, words) in [
        (401, "", "check the name, and the token"),
        (401, "RepoNotFound", "no such repository"),
        (403, "GatedRepo", "ask for access"),
        (401, "GatedRepo", "ask for access"),
        (404, "", "check the name"),
        (404, "RevisionNotFound", "no such revision"),
        (429, "", "patience"),
        (500, "", "in trouble"),
        (418, "", "refuses"),
    ] {
        hub.state.lock().unwrap().refuse = Some((status, code));
        let error = fetch(&hub, home.path()).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(REPO), "{status} {code}: {error}");
        assert!(!error.contains("hf_secret"), "{error}");
    }
    drop(hub);
    let gone = Hub::with_model(&[1]);
    let settings = settings(&gone, home.path());
    drop(gone);
    let error = pull(&settings, &request(), &mut |_| (), &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("check the network"), "{error}");
    assert_eq!(all_files(home.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_hub_that_is_silent_can_be_left_at_once() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (hub, home) = (Hub::start(), tempfile::tempdir().unwrap());
    let mut settings = settings(&hub, home.path());
    settings.endpoint = format!("http://{}", silent.local_addr().unwrap());
    let cancel = AtomicBool::new(false);
    let start = Instant::now();
    let mut look = |_: &PullProgress| {
        if start.elapsed() > Duration::from_millis(300) {
            cancel.store(true, Ordering::Relaxed);
        }
    };
    let error = pull(&settings, &request(), &mut look, &cancel).unwrap_err();
    assert_eq!(error.get_kind(), ErrorKind::Cancelled);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn hostile_names_in_the_listing_write_nothing_anywhere() {
    let (hub, home) = (Hub::with_model(&[1]), tempfile::tempdir().unwrap());
    let entry = |name: &str, id: &str| json!({"rfilename": name, "size": 26, "blobId": id});
    let good = "a".repeat(40);
    for (sha, siblings) in [
        (
            COMMIT.to_owned(),
            vec![entry("../../../evil.safetensors", &good), entry("/tmp/evil.safetensors", &good)],
        ),
        (COMMIT.to_owned(), vec![entry("config.json", "../../evil"), entry("tokenizer.json", &good)]),
        ("../../evil".to_owned(), vec![entry("config.json", &good)]),
        (
            COMMIT.to_owned(),
            vec![entry("C:\\evil.safetensors", &good), entry("a\\..\\evil.safetensors", &good)],
        ),
    ] {
        hub.state.lock().unwrap().listing = Some(json!({"sha": sha, "siblings": siblings}));
        let error = fetch(&hub, home.path()).unwrap_err();
        assert_eq!(all_files(home.path()), Vec::<PathBuf>::new(), "{error}");
    }
    assert_eq!(hub.sent_bytes(), 0);
}

#[test]
fn a_disk_without_room_is_refused_with_numbers_and_one_that_fills_loses_nothing() {
    let Some(disk) = SmallDisk::mount(24 << 20) else { return };
    let hub = Hub::with_model(&[40]);
    let error = fetch(&hub, disk.path()).unwrap_err().to_string();
    assert!(error.contains("42 MB are needed") && error.contains("free some space"), "{error}");
    assert_eq!(hub.sent_bytes(), 0);

    let hub = Hub::with_model(&[10]);
    hub.speed.store(2_000_000, Ordering::Relaxed);
    let filler = disk.path().join("filler");
    let mut filled = false;
    let mut look = |progress: &PullProgress| {
        if progress.done_bytes > 1_000_000 && !filled {
            filled = true;
            fill(&filler);
            hub.speed.store(0, Ordering::Relaxed);
        }
    };
    let error = pull(&settings(&hub, disk.path()), &request(), &mut look, &AtomicBool::new(false))
        .unwrap_err()
        .to_string();
    assert!(error.contains("free ") && error.contains("what has come is kept"), "{error}");
    assert_nothing_looks_finished(disk.path());
    let before = hub.sent_bytes();
    fs::remove_file(&filler).unwrap();
    assert_right(&hub, &fetch(&hub, disk.path()).unwrap());
    assert!(hub.sent_bytes() - before < hub.total_bytes() - 900_000, "it went on where it was");
}

#[test]
fn another_program_that_fetches_the_same_file_is_waited_for() {
    let (hub, home) = (Hub::with_model(&[1]), tempfile::tempdir().unwrap());
    let bytes = hub.state.lock().unwrap().files["model-00001-of-00001.safetensors"].clone();
    let locks = home.path().join("hub/.locks/models--Qwen--Qwen3-VL-2B-Instruct");
    fs::create_dir_all(&locks).unwrap();
    let lock = fs::File::create(locks.join(format!("{}.lock", sha256(&bytes)))).unwrap();
    lock.lock().unwrap();
    let mut waited = false;
    let mut look = |progress: &PullProgress| {
        if progress.stage == PullStage::Waiting && !waited {
            waited = true;
            lock.unlock().unwrap();
        }
    };
    let pulled = pull(&settings(&hub, home.path()), &request(), &mut look, &AtomicBool::new(false)).unwrap();
    assert_right(&hub, &pulled);
    assert!(waited);
}

#[test]
fn offline_and_without_a_network_the_cache_is_used_and_that_is_said() {
    let (hub, home) = (Hub::with_model(&[1]), tempfile::tempdir().unwrap());
    let mut settings = settings(&hub, home.path());
    settings.offline = true;
    let never = AtomicBool::new(false);
    let error = pull(&settings, &request(), &mut |_| (), &never).unwrap_err().to_string();
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
    assert_eq!(hub.asked().len(), 0);
    settings.offline = false;
    let pulled = pull(&settings, &request(), &mut |_| (), &never).unwrap();
    let asked = hub.asked().len();
    settings.offline = true;
    let cached = pull(&settings, &request(), &mut |_| (), &never).unwrap();
    assert_eq!((cached.model, cached.not_asked), (pulled.model.clone(), None));
    assert_eq!(hub.asked().len(), asked);
    drop(hub);
    settings.offline = false;
    let cached = pull(&settings, &request(), &mut |_| (), &never).unwrap();
    assert!(cached.not_asked.is_some() && cached.model == pulled.model);
}

#[test]
fn a_gguf_and_its_vision_file_are_chosen_from_many() {
    let (hub, home) = (Hub::start(), tempfile::tempdir().unwrap());
    for name in ["M-Q8_0.gguf", "M-F16.gguf", "mmproj-M-F16.gguf", "mmproj-M-Q8_0.gguf"] {
        hub.state.lock().unwrap().files.insert(name.into(), random_bytes(1000, 7));
    }
    let pulled = fetch(&hub, home.path()).unwrap();
    assert!(pulled.model.ends_with("M-Q8_0.gguf") && pulled.model.is_file());
    let there: Vec<_> = all_files(pulled.model.parent().unwrap());
    assert_eq!(there.len(), 2);
    assert!(there.iter().any(|path| path.ends_with("mmproj-M-F16.gguf")));
}

pub fn library(home: &Path) -> Library {
    Library {
        names: Some(home.join("models.json")),
        hub_cache: home.join("hub"),
        cache: home.join("ocelli-cache"),
    }
}

#[test]
fn a_damaged_file_is_found_and_only_it_is_fetched_again() {
    let (hub, home) = (Hub::with_model(&[3, 2]), tempfile::tempdir().unwrap());
    let pulled = fetch(&hub, home.path()).unwrap();
    let library = library(home.path());
    let never = AtomicBool::new(false);
    let verified = library.verify(&library.named(REPO).unwrap(), &mut |_, _| (), &never).unwrap();
    assert_eq!((verified.damaged.len(), verified.files, verified.bytes), (0, 4, hub.total_bytes()));
    let blob = fs::canonicalize(pulled.model.join("model-00002-of-00002.safetensors")).unwrap();
    let mut bytes = fs::read(&blob).unwrap();
    bytes[1 << 20] ^= 4;
    fs::write(&blob, &bytes).unwrap();
    let verified = library.verify(&library.named(REPO).unwrap(), &mut |_, _| (), &never).unwrap();
    assert_eq!(verified.damaged, std::slice::from_ref(&blob));
    // Never what lies elsewhere.
    let outside = tempfile::NamedTempFile::new().unwrap();
    library.discard(&[blob.clone(), outside.path().to_owned()]).unwrap();
    assert!(!blob.exists() && outside.path().exists());
    assert_eq!(cache::list(&home.path().join("hub")), [], "without a file it is no model");
    let before = hub.sent_bytes();
    assert_right(&hub, &fetch(&hub, home.path()).unwrap());
    assert_eq!(hub.sent_bytes() - before, bytes.len() as u64);
}

#[test]
fn a_name_never_means_another_model_than_the_one_that_is_listed() {
    let (hub, home) = (Hub::with_model(&[1]), tempfile::tempdir().unwrap());
    let own = home.path().join("own/Qwen3-VL-2B-Instruct");
    fs::create_dir_all(&own).unwrap();
    for (name, bytes) in &hub.state.lock().unwrap().files {
        fs::write(own.join(name), bytes).unwrap();
    }
    let library = library(home.path());
    // Imported first, under the name that a repository has for short; then that repository comes.
    assert_eq!(library.import(&own, None).unwrap(), "Qwen3-VL-2B-Instruct");
    let pulled = fetch(&hub, home.path()).unwrap();
    let imported = library.named("Qwen3-VL-2B-Instruct").unwrap();
    assert_eq!((imported.kind.clone(), imported.place.clone()), (Kind::Imported, own.clone()));
    library.remove(&imported).unwrap();
    assert!(own.join("config.json").is_file() && pulled.model.join("config.json").is_file());
    // Two owners with a model of one name.
    let mut other = request();
    other.repo = "unsloth/Qwen3-VL-2B-Instruct".parse().unwrap();
    pull(&settings(&hub, home.path()), &other, &mut |_| (), &AtomicBool::new(false)).unwrap();
    let error = library.named("Qwen3-VL-2B-Instruct").unwrap_err().to_string();
    assert!(error.contains("unsloth/Qwen3-VL-2B-Instruct") && error.contains(REPO), "{error}");
    // Its own name is free for a repository that was given another one.
    library.rename(&library.named(REPO).unwrap(), "eyes").unwrap();
    library.rename(&library.named("eyes").unwrap(), REPO).unwrap();
    assert_eq!(library.named(REPO).unwrap().name, REPO);
}

#[test]
fn a_snapshot_that_another_tool_is_still_filling_is_no_model() {
    let (hub, home) = (Hub::with_model(&[1, 1, 1]), tempfile::tempdir().unwrap());
    let pulled = fetch(&hub, home.path()).unwrap();
    let listed = || cache::list(&home.path().join("hub")).len();
    assert_eq!(listed(), 1);
    for name in ["model-00002-of-00003.safetensors", "tokenizer.json"] {
        let (path, aside) = (pulled.model.join(name), home.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        assert_eq!(listed(), 0, "{name} is missing");
        fs::rename(&aside, &path).unwrap();
    }
    assert_eq!(listed(), 1);
}

#[test]
fn models_are_found_by_name_renamed_imported_and_removed() {
    let (hub, home) = (Hub::with_model(&[1]), tempfile::tempdir().unwrap());
    let pulled = fetch(&hub, home.path()).unwrap();
    let library = library(home.path());
    for name in [REPO, "qwen3-vl-2b-instruct"] {
        assert_eq!(library.resolve(Path::new(name)).unwrap(), pulled.model);
    }
    assert_eq!(library.resolve(Path::new("demo")).unwrap(), Path::new("demo"));
    library.rename(&library.named(REPO).unwrap(), "my eyes").unwrap();
    assert_eq!(library.resolve(Path::new("My Eyes")).unwrap(), pulled.model);
    assert!(library.rename(&library.named("demo").unwrap(), "other").is_err());

    let own = home.path().join("own");
    fs::create_dir(&own).unwrap();
    let error = library.import(&own, None).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
    for (name, bytes) in &hub.state.lock().unwrap().files {
        fs::write(own.join(name), bytes).unwrap();
    }
    assert!(
        library
            .import(&own, Some("my eyes"))
            .unwrap_err()
            .to_string()
            .contains("another model has this name")
    );
    assert!(library.import(&own, Some("demo")).is_err());
    assert!(
        library.import(&own, Some("Qwen3-VL-2B-Instruct")).is_err(),
        "the repository is called so for short"
    );
    assert_eq!(library.import(&own, None).unwrap(), "own");
    assert_eq!(library.import(&own, Some("second")).unwrap(), "second", "one name a place");
    assert_eq!(library.resolve(Path::new("second")).unwrap(), own);

    let names: Vec<_> = library.list().unwrap().into_iter().map(|model| (model.name, model.kind)).collect();
    assert_eq!(names[1..], [("my eyes".to_owned(), Kind::Hub), ("second".to_owned(), Kind::Imported)]);
    let error = library.resolve(Path::new("nothing")).unwrap_err().to_string();
    assert!(error.contains("my eyes") && error.contains("second"), "{error}");
    let error = library.resolve(Path::new("Qwen/Qwen3-VL-4B-Instruct")).unwrap_err().to_string();
    assert!(error.contains("ocelli models pull Qwen/Qwen3-VL-4B-Instruct"), "{error}");

    let named = |name: &str| library.named(name).unwrap();
    assert!(library.remove(&named("demo")).is_err());
    library.remove(&named("second")).unwrap();
    assert!(own.join("config.json").is_file(), "the user's own files stay");
    // A download that is running keeps its files.
    let locks = home.path().join("hub/.locks/models--Qwen--Qwen3-VL-2B-Instruct");
    let lock = fs::File::create(locks.join("x.lock")).unwrap();
    lock.lock().unwrap();
    assert!(library.remove(&named("my eyes")).unwrap_err().to_string().contains("pause the download"));
    lock.unlock().unwrap();
    let freed = library.remove(&named("my eyes")).unwrap();
    assert_eq!(freed, hub.total_bytes());
    assert!(!RepoCache::new(&home.path().join("hub"), &REPO.parse().unwrap()).folder().exists());
    assert_eq!(library.list().unwrap().len(), 1);
    fs::write(home.path().join("models.json"), "{").unwrap();
    assert!(library.list().unwrap_err().to_string().contains("no model is lost"));
}
