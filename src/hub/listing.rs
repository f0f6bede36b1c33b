//! Room `hub`: what a repository holds at a revision, and which of it a model needs.

use std::io::Read;
use std::path::PathBuf;

use serde::Deserialize;

use super::checksum::Checksum;
use super::http::{Client, Failure};
use super::names::{RepoId, Revision, escape, hex_digits, is_text_gguf, is_vision_gguf, safe_path};
use crate::error::{Error, Result};
use crate::model::convert::{NEEDED_FILES, OTHER_FILES};

const DOING: &str = "asking the hub about";
/// No list of files is longer.
const MAX_LISTING_BYTES: u64 = 16 << 20;
/// No file of a model is larger, and no repository has more that are looked at: their sizes can be added up.
const MAX_FILE_BYTES: u64 = 1 << 42;
const MAX_FILES: usize = 4096;
/// Files of weights that are fetched together, at most: each needs a few open files.
const MAX_SHARDS: usize = 60;
/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// Its path in the repository.
    pub name: String,
    /// The same as a path on this disk.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What its bytes add up to; also its name in the cache.
    pub checksum: Checksum,
}

/// A repository at one commit.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub commit: String,
    pub files: Vec<RemoteFile>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default, rename = "blobId")]
    blob_id: Option<String>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// Asks for the files of a repository.
pub(super) fn ask(client: &Client, repo: &RepoId, revision: &Revision) -> Result<Listing, Failure> {
    let path = format!("/api/models/{repo}/revision/{}?blobs=true", revision.in_address());
    let response = client.get(&path, None, DOING, repo.as_str())?;
    let mut text = String::new();
    let mut body = response.into_body().into_reader().take(MAX_LISTING_BYTES);
    body.read_to_string(&mut text).map_err(|e| {
        Failure::Passing(Error::new(DOING, format!("the answer broke off: {e}")).at(repo), None)
    })?;
    read(&text).map_err(|cause| Failure::Final(Error::new(DOING, cause).at(repo)))
}

/// Reads the hub's answer.
pub(super) fn read(text: &str) -> Result<Listing, String> {
    let answer: Answer = serde_json::from_str(text).map_err(|e| format!("its answer makes no sense: {e}"))?;
    let commit = hex_digits(&answer.sha, 40).ok_or("its answer names no commit")?;
    let mut files = Vec::new();
    for sibling in answer.siblings {
        // What cannot be a file of ours is not asked for, whatever it is.
        let Some(path) = safe_path(&sibling.rfilename) else { continue };
        let (checksum, bytes) = match sibling.lfs {
            Some(lfs) => (hex_digits(&lfs.sha256, 64).map(Checksum::Sha256), Some(lfs.size)),
            None => (
                sibling.blob_id.as_deref().and_then(|id| hex_digits(id, 40)).map(Checksum::Git),
                sibling.size,
            ),
        };
        if bytes.is_some_and(|bytes| bytes > MAX_FILE_BYTES) {
            return Err(format!(
                "it says that {} has {} bytes",
                sibling.rfilename,
                bytes.unwrap_or_default()
            ));
        }
        if files.len() == MAX_FILES {
            return Err(format!("it names more than {MAX_FILES} files"));
        }
        if let (Some(checksum), Some(bytes)) = (checksum, bytes) {
            files.push(RemoteFile { name: sibling.rfilename, path, bytes, checksum });
        }
    }
    Ok(Listing { commit, files })
}

/// Is it one of the files, besides the weights, that a conversion takes?
fn is_side_file(name: &str) -> bool {
    NEEDED_FILES.contains(&name) || OTHER_FILES.contains(&name)
}

impl RemoteFile {
    /// Where it is on the hub.
    pub(super) fn address(&self, repo: &RepoId, commit: &str) -> String {
        format!("/{repo}/resolve/{commit}/{}", escape(&self.name, "/"))
    }
}

impl Listing {
    /// The files of the model: of a hub checkpoint all it needs; of a repository with GGUFs one text file, that of
    /// `quantisation` (`Q8_0` without one) or of that name, and the vision file that goes with it.
    pub(super) fn choose(mut self, repo: &RepoId, quantisation: Option<&str>) -> Result<Self> {
        let error = |cause: String| Error::new("choosing files of", cause).at(repo);
        let ggufs: Vec<RemoteFile> =
            self.files.iter().filter(|f| is_text_gguf(&f.name) || is_vision_gguf(&f.name)).cloned().collect();
        let has_checkpoint = self.files.iter().any(|f| f.name.ends_with(".safetensors"));
        if has_checkpoint && quantisation.is_none() {
            self.files.retain(|file| {
                is_side_file(&file.name)
                    || (!file.name.contains('/')
                        && (file.name.ends_with(".safetensors")
                            || file.name == "model.safetensors.index.json"))
            });
            for needed in NEEDED_FILES {
                if !self.files.iter().any(|file| file.name == needed) {
                    return Err(error(format!(
                        "it has no {needed}, so it is no checkpoint that Ocelli can load"
                    ))
                    .help("choose the repository of a Qwen3-VL model"));
                }
            }
            if self.files.len() > MAX_SHARDS + NEEDED_FILES.len() + OTHER_FILES.len() {
                return Err(error(format!("its weights are in more than {MAX_SHARDS} files")));
            }
            return Ok(self);
        }
        if ggufs.is_empty() {
            return Err(error("there are no weights in it, neither safetensors nor GGUF".to_owned())
                .help("choose the repository of a Qwen3-VL model"));
        }
        let wanted = quantisation.unwrap_or("Q8_0").to_ascii_lowercase();
        let stem = |file: &RemoteFile| file.name.to_ascii_lowercase().trim_end_matches(".gguf").to_owned();
        let mut texts: Vec<&RemoteFile> = ggufs.iter().filter(|file| is_text_gguf(&file.name)).collect();
        texts.sort_by_key(|file| file.name.len());
        let is_wanted = |file: &&RemoteFile| {
            let stem = stem(file);
            stem == wanted
                || file.name.to_ascii_lowercase() == wanted
                || stem.ends_with(&format!("-{wanted}"))
                || stem.ends_with(&format!(".{wanted}"))
        };
        let Some(text) = texts.iter().copied().find(is_wanted) else {
            if texts.iter().any(|file| stem(file).contains(&format!("{wanted}-00001-of-"))) {
                return Err(error(format!("its {wanted} is cut into several files")).help(
                    "download its parts by hand into one folder, then `ocelli models import` the first",
                ));
            }
            let names: Vec<&str> = texts.iter().map(|file| file.name.as_str()).take(12).collect();
            return Err(error(format!(
                "it has no GGUF of the quantisation {wanted}; it has {}",
                names.join(", ")
            ))
            .help("name one of these"));
        };
        // The tower is never below f16: the f16 file first, then what is nearest.
        let order = ["f16", "bf16", "f32", "q8_0"];
        let rank = |file: &RemoteFile| {
            let stem = stem(file);
            let parts: Vec<&str> = stem.split(['-', '.']).collect();
            order.iter().position(|kind| parts.contains(kind))
        };
        let vision = ggufs
            .iter()
            .filter(|file| is_vision_gguf(&file.name))
            .min_by_key(|file| rank(file).unwrap_or(order.len()));
        let chosen: Vec<RemoteFile> = [Some(text), vision].into_iter().flatten().cloned().collect();
        self.files = chosen;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listing(files: &[&str]) -> Listing {
        let siblings: Vec<_> = files
            .iter()
            .map(|name| json!({"rfilename": name, "size": 5, "blobId": "a".repeat(40)}))
            .collect();
        read(&json!({"sha": "b".repeat(40), "siblings": siblings}).to_string()).expect("a listing")
    }

    fn chosen(files: &[&str], quantisation: Option<&str>) -> Vec<String> {
        let repo = "Qwen/Some".parse().expect("a name");
        let chosen = listing(files).choose(&repo, quantisation).expect("a choice");
        chosen.files.into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn of_a_checkpoint_all_that_a_model_needs_is_taken_and_nothing_else() {
        let files = [
            ".gitattributes",
            "README.md",
            "config.json",
            "tokenizer.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "chat_template.json",
            "onnx/model.safetensors",
            "merges.txt",
            "../../evil.safetensors",
            "/etc/passwd",
        ];
        let mut names = chosen(&files, None);
        names.sort();
        assert_eq!(
            names,
            [
                "chat_template.json",
                "config.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "tokenizer.json",
            ]
        );
        let repo = "Qwen/Some".parse().expect("a name");
        let error = listing(&["model.safetensors"]).choose(&repo, None).expect_err("no configuration");
        assert!(error.to_string().contains("config.json"), "{error}");
        assert!(listing(&["README.md"]).choose(&repo, None).is_err());
    }

    #[test]
    fn of_ggufs_one_text_file_and_its_vision_file_are_taken() {
        let files = [
            "Qwen3VL-2B-Instruct-F16.gguf",
            "Qwen3VL-2B-Instruct-Q4_K_M.gguf",
            "Qwen3VL-2B-Instruct-Q8_0.gguf",
            "mmproj-Qwen3VL-2B-Instruct-Q8_0.gguf",
            "mmproj-Qwen3VL-2B-Instruct-F16.gguf",
            "README.md",
        ];
        let vision = "mmproj-Qwen3VL-2B-Instruct-F16.gguf";
        assert_eq!(chosen(&files, None), ["Qwen3VL-2B-Instruct-Q8_0.gguf", vision]);
        assert_eq!(chosen(&files, Some("f16")), ["Qwen3VL-2B-Instruct-F16.gguf", vision]);
        let bf16 = ["M-Q8_0.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf"];
        assert_eq!(chosen(&bf16, None), ["M-Q8_0.gguf", "mmproj-F16.gguf"]);
        let split =
            listing(&["M-Q8_0-00001-of-00002.gguf"]).choose(&"Qwen/Some".parse().expect("a name"), None);
        assert!(split.expect_err("parts").to_string().contains("several files"));
        assert_eq!(chosen(&files, Some("Q4_K_M")), ["Qwen3VL-2B-Instruct-Q4_K_M.gguf", vision]);
        let repo = "Qwen/Some".parse().expect("a name");
        let error = listing(&files).choose(&repo, Some("Q2_K")).expect_err("none").to_string();
        assert!(error.contains("Q4_K_M.gguf"), "{error}");
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_an_error() {
        let huge = json!({"sha": "c".repeat(40), "siblings": [
            {"rfilename": "a.safetensors", "size": u64::MAX, "blobId": "d".repeat(40)},
        ]});
        assert!(read(&huge.to_string()).is_err());
        for text in ["", "[]", "{\"sha\": \"../..\"}", "{\"sha\": 5}", "<html>"] {
            assert!(read(text).is_err(), "{text}");
        }
        let odd = json!({"sha": "c".repeat(40), "siblings": [
            {"rfilename": "config.json", "size": 1, "blobId": "../../x"},
            {"rfilename": "a.safetensors", "lfs": {"sha256": "zz", "size": 1}},
        ]});
        assert!(read(&odd.to_string()).expect("a listing").files.is_empty());
    }
}
