//! Room `hub`: the checksum of a file, which on a hub is also its name: SHA-256 of large files, git's SHA-1 of small ones.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::names::hex_digits;
use crate::error::{Error, Result};
use crate::model::converted::hex;

/// What a file's bytes must add up to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Checksum {
    /// SHA-256 of the bytes, 64 digits.
    Sha256(String),
    /// SHA-1 of `blob <length>\0` and the bytes, 40 digits: git's.
    Git(String),
}

impl Checksum {
    /// From a blob's name: 64 or 40 hexadecimal digits.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        hex_digits(name, 64).map(Self::Sha256).or_else(|| hex_digits(name, 40).map(Self::Git))
    }

    /// Its digits.
    #[must_use]
    pub fn digits(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::Git(digits) => digits,
        }
    }

    /// Begins to add up a file of `size_bytes`.
    #[must_use]
    pub fn begin(&self, size_bytes: u64) -> Adder {
        match self {
            Self::Sha256(_) => Adder::Sha256(Sha256::new()),
            Self::Git(_) => {
                let mut sum = Sha1::new();
                sum.update(format!("blob {size_bytes}\0"));
                Adder::Git(sum)
            }
        }
    }
}

/// A checksum on its way.
#[derive(Clone, Debug)]
pub enum Adder {
    /// Plain.
    Sha256(Sha256),
    /// Git's.
    Git(Sha1),
}

impl Adder {
    /// Takes the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(sum) => sum.update(bytes),
            Self::Git(sum) => sum.update(bytes),
        }
    }

    /// What they added up to.
    #[must_use]
    pub fn end(self) -> Checksum {
        match self {
            Self::Sha256(sum) => Checksum::Sha256(hex(&sum.finalize())),
            Self::Git(sum) => Checksum::Git(hex(&sum.finalize())),
        }
    }
}

/// Reads a file and says whether it is what its checksum says. `progress` is told the bytes read of this file.
///
/// # Errors
/// It cannot be read; cancelled.
pub fn verify_file(
    path: &Path,
    checksum: &Checksum,
    progress: &mut dyn FnMut(u64),
    cancel: &AtomicBool,
) -> Result<bool> {
    const DOING: &str = "verifying";
    let fail = |e: std::io::Error| Error::new(DOING, e).at_path(path);
    let mut file = File::open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    let mut sum = checksum.begin(size);
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::cancelled(DOING));
        }
        let count = file.read(&mut buffer).map_err(fail)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        sum.add(bytes);
        done += count as u64;
        progress(done);
    }
    Ok(sum.end() == *checksum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_what_git_and_sha256sum_say() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "hello\n").expect("writable");
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        // git hash-object
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        for digits in [sha256, git] {
            let checksum = Checksum::of_name(&digits.to_uppercase()).expect("a checksum");
            assert!(verify_file(&path, &checksum, &mut |_| (), &AtomicBool::new(false)).expect("readable"));
        }
        std::fs::write(&path, "hello!").expect("writable");
        let checksum = Checksum::of_name(git).expect("a checksum");
        assert!(!verify_file(&path, &checksum, &mut |_| (), &AtomicBool::new(false)).expect("readable"));
        assert_eq!(Checksum::of_name("../../../etc/passwd"), None);
    }
}
