//! Room `hub`: names from outside — repositories, revisions, files, checksums — checked before they become paths or
//! addresses.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};

const DOING: &str = "reading the model's name";

/// `owner/name` on a hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoId(String);

impl RepoId {
    /// `owner/name`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the owner.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The folder's name in a cache: `models--owner--name`.
    #[must_use]
    pub fn folder(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }

    /// The repository of a folder in a cache, if it is one of a model.
    #[must_use]
    pub fn of_folder(folder: &str) -> Option<Self> {
        let (owner, name) = folder.strip_prefix("models--")?.split_once("--")?;
        format!("{owner}/{name}").parse().ok()
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for RepoId {
    type Err = Error;

    /// `owner/name`, or the address of its page.
    fn from_str(text: &str) -> Result<Self> {
        let trimmed = text.trim().trim_end_matches('/');
        let path = match trimmed.split_once("://") {
            Some(("hf", rest)) => rest,
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => trimmed,
        };
        let mut parts = path.split('/');
        let is_part = |part: &str| {
            (1..=96).contains(&part.len())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
                && !part.contains("--")
                && !part.contains("..")
        };
        let (owner, name) = (parts.next(), parts.next());
        let rest: Vec<&str> = parts.collect();
        // An address may lead on, to the list of files.
        let is_address = trimmed.contains("://");
        let is_plain = rest.is_empty() || is_address && rest == ["tree", "main"];
        if is_address && !is_plain {
            return Err(Error::new(DOING, "this address is of a revision or of a file")
                .at(format!("{trimmed:?}"))
                .help("give owner/name, and --revision or --quantisation with it"));
        }
        match (owner, name) {
            (Some(owner), Some(name))
                if is_plain
                    && is_part(owner)
                    && is_part(name)
                    && !["datasets", "spaces", "models", "api"].contains(&owner) =>
            {
                Ok(Self(format!("{owner}/{name}")))
            }
            _ => Err(Error::new(DOING, "that is no repository of a hub")
                .at(format!("{trimmed:?}"))
                .help("a repository is owner/name, for instance Qwen/Qwen3-VL-2B-Instruct")),
        }
    }
}

/// A branch, a tag or a commit of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision(String);

impl Default for Revision {
    fn default() -> Self {
        Self("main".to_owned())
    }
}

impl Revision {
    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As one part of an address.
    #[must_use]
    pub fn in_address(&self) -> String {
        escape(&self.0, "")
    }
}

impl FromStr for Revision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if safe_path(text).is_some() && text.len() <= 200 {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new("reading the revision", "that is no branch, tag or commit").at(format!("{text:?}")))
    }
}

/// A path of a file inside a repository as a relative path on this disk; `None` for one that could lead anywhere else: absolute,
/// with `..`, a drive, a backslash, a control character, a name that Windows keeps for devices, or a hidden one.
#[must_use]
pub fn safe_path(path: &str) -> Option<PathBuf> {
    const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
    if path.is_empty() || path.len() > 400 {
        return None;
    }
    let mut safe = PathBuf::new();
    for part in path.split('/') {
        let stem = part.split('.').next().unwrap_or("").to_ascii_lowercase();
        let is_port = stem.len() == 4
            && (stem.starts_with("com") || stem.starts_with("lpt"))
            && stem.ends_with(|c: char| c.is_ascii_digit());
        let is_bad = part.is_empty()
            || part.starts_with('.')
            || part.ends_with(['.', ' '])
            || part.chars().any(|c| c.is_control() || "\\:*?\"<>|".contains(c))
            || DEVICES.contains(&stem.as_str())
            || is_port;
        if is_bad {
            return None;
        }
        safe.push(part);
    }
    Some(safe)
}

/// Is this the name of a GGUF with a text model?
#[must_use]
pub fn is_text_gguf(name: &str) -> bool {
    is_gguf(name) && !is_vision_gguf(name)
}

/// Is this the name of a GGUF with a vision tower?
#[must_use]
pub fn is_vision_gguf(name: &str) -> bool {
    is_gguf(name) && name.to_ascii_lowercase().contains("mmproj")
}

fn is_gguf(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
}

/// The text GGUFs of a folder, sorted by name.
#[must_use]
pub fn text_ggufs(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_text_gguf))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

/// A checksum in hexadecimal of `digits` digits, in small letters: safe as a file's name.
#[must_use]
pub fn hex_digits(text: &str, digits: usize) -> Option<String> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}

/// A text as part of an address: everything but letters, digits, `-_.~` and the characters in `keep` in percent form.
#[must_use]
pub fn escape(text: &str, keep: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "-_.~".contains(c) || (byte < 128 && keep.contains(c)) {
            out.push(c);
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

/// Does `path` lie inside `folder` once links are followed?
#[must_use]
pub fn lies_inside(folder: &Path, path: &Path) -> bool {
    match (folder.canonicalize(), path.canonicalize()) {
        (Ok(folder), Ok(path)) => path.starts_with(folder),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repositories_are_named_as_on_the_hub_or_by_their_address() {
        for text in [
            "Qwen/Qwen3-VL-2B-Instruct",
            " Qwen/Qwen3-VL-2B-Instruct/ ",
            "https://huggingface.co/Qwen/Qwen3-VL-2B-Instruct",
            "https://huggingface.co/Qwen/Qwen3-VL-2B-Instruct/tree/main",
            "hf://Qwen/Qwen3-VL-2B-Instruct",
        ] {
            let repo: RepoId = text.parse().expect(text);
            assert_eq!(repo.as_str(), "Qwen/Qwen3-VL-2B-Instruct");
            assert_eq!(repo.folder(), "models--Qwen--Qwen3-VL-2B-Instruct");
            assert_eq!(RepoId::of_folder(&repo.folder()), Some(repo));
        }
        for text in
            ["", "Qwen", "a/b/c", "../etc", "a/..", "a/b--c", "a/ b", "/a", "a\\b/c", ".a/b", "a/b\nc"]
        {
            if let Ok(repo) = text.parse::<RepoId>() {
                panic!("{text:?} became {repo}");
            }
        }
    }

    #[test]
    fn paths_that_lead_out_of_a_folder_are_none() {
        assert_eq!(safe_path("a/b.safetensors"), Some(Path::new("a").join("b.safetensors")));
        for path in [
            "../a",
            "a/../b",
            "/etc/passwd",
            "a//b",
            "a/",
            "",
            ".",
            "..",
            "C:/a",
            "a\\b",
            "a/.ssh",
            "nul",
            "COM1.txt",
            "a\0b",
            "a\nb",
            "a.",
            "~/a/../..",
            "con.json",
        ] {
            assert_eq!(safe_path(path), None, "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_becomes_a_path_outside(text in "[a./\\\\:~ -]{0,12}") {
            if let Some(path) = safe_path(&text) {
                prop_assert!(path.components().all(|c| matches!(c, std::path::Component::Normal(_))));
            }
        }
    }

    #[test]
    fn a_revision_with_a_slash_is_one_part_of_an_address() {
        let revision: Revision = "refs/pr/3".parse().expect("a revision");
        assert_eq!(revision.in_address(), "refs%2Fpr%2F3");
        assert!("../main".parse::<Revision>().is_err());
        assert_eq!(escape("a b/ü", "/"), "a%20b/%C3%BC");
    }
}
