//! What a hub answers, names, and notes of downloads that were begun.

use std::path::Component;

use ocelli::hub::cache::model_bytes;
use ocelli::hub::checksum::Checksum;
use ocelli::hub::names::{RepoId, Revision, escape, safe_path};
use ocelli::hub::{resume, wanted_files};

use super::{Folder, choice, read};

/// Bytes of the file of which a note speaks.
const FILE_BYTES: u64 = 5000;

/// The first byte says whether the rest is a list of files, names, a note, or an index of shards in a folder.
pub fn run(data: &[u8]) {
    let Some((door, rest)) = choice(data, 4) else { return };
    match door {
        0 => listing(rest),
        1 => names(rest),
        2 => note(rest),
        _ => {
            let folder = Folder::new();
            folder.put("tokenizer.json", b"{}");
            folder.put("config.json", br#"{"model_type": "qwen3_vl"}"#);
            folder.put("a-00001-of-00002.safetensors", b"");
            folder.put("model.safetensors.index.json", rest);
            let _ = model_bytes(folder.path());
        }
    }
}

fn listing(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for quantisation in [None, Some("Q8_0"), Some("f16")] {
        for path in read(wanted_files(text, quantisation)).unwrap_or_default() {
            assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{}", path.display());
        }
    }
}

fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(repo) = read(text.parse::<RepoId>()) {
        assert_eq!(RepoId::of_folder(&repo.folder()), Some(repo));
    }
    if let Some(path) = safe_path(text) {
        assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{}", path.display());
    }
    if let Some(revision) = read(text.parse::<Revision>()) {
        assert!(!revision.in_address().contains('/'));
    }
    if let Some(checksum) = Checksum::of_name(text) {
        assert!(checksum.digits().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    assert!(escape(text, "/").is_ascii());
}

fn note(data: &[u8]) {
    let folder = Folder::new();
    folder.put("blob.ocelli-note", data);
    folder.put("blob.ocelli-part", &[7; FILE_BYTES as usize]);
    let there =
        read(resume(&folder.path().join("blob"), FILE_BYTES)).expect("a damaged note means beginning anew");
    assert!(there <= FILE_BYTES);
}
