//! Room `compare`: the pictures a comparison names: files, samples in this program, or what is in memory. Each is read once for its
//! hash; contents are read again when they are wanted, so that many pictures take no memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::samples;
use crate::bounded;
use crate::chat::message::ImageSource;
use crate::error::{Error, Result};

/// Bytes of a picture's file, at most.
const MAX_BYTES: u64 = 256 << 20;
/// What a sample's name begins with.
pub const SAMPLE: &str = "sample:";
/// What the name of a picture in memory begins with; its SHA-256 follows.
pub const MEMORY: &str = "sha256:";
const DOING: &str = "reading the picture";

/// Where pictures are.
#[derive(Debug)]
pub struct PictureFiles {
    base: PathBuf,
    /// Pictures of a chat: name and bytes, by what a comparison calls them.
    memory: HashMap<String, (String, Arc<[u8]>)>,
    hashes: Mutex<HashMap<String, Result<[u8; 32]>>>,
}

impl PictureFiles {
    /// Files whose relative names start at `base`.
    #[must_use]
    pub fn new(base: &Path) -> Self {
        Self { base: base.to_owned(), memory: HashMap::new(), hashes: Mutex::default() }
    }

    /// With pictures in memory, by what a comparison calls them: [`MEMORY`] and a hash.
    #[must_use]
    pub fn with_memory(base: &Path, memory: HashMap<String, (String, Arc<[u8]>)>) -> Self {
        Self { memory, ..Self::new(base) }
    }

    /// Where relative names start.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// A picture by what a comparison calls it. A file is not looked at yet.
    ///
    /// # Errors
    /// There is no such sample, and no such picture in memory.
    pub fn source(&self, name: &str) -> Result<ImageSource> {
        if let Some(sample) = name.strip_prefix(SAMPLE) {
            let Some(bytes) = samples::picture(sample) else {
                let known = samples::PICTURES.map(|(name, _)| name).join(", ");
                return Err(Error::new(DOING, "there is no such sample")
                    .at(name)
                    .help(format!("there are {known}")));
            };
            return Ok(ImageSource::Bytes { name: sample.to_owned(), bytes: bytes.into() });
        }
        if let Some((shown, bytes)) = self.memory.get(name) {
            return Ok(ImageSource::Bytes { name: shown.clone(), bytes: Arc::clone(bytes) });
        }
        if name.starts_with(MEMORY) {
            return Err(Error::new(DOING, "it is a picture of a chat and was not saved with the comparison")
                .at(name)
                .help("choose the picture's file again"));
        }
        Ok(ImageSource::Path(self.base.join(name)))
    }

    /// A picture's whole file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn bytes(&self, name: &str) -> Result<Arc<[u8]>> {
        match self.source(name)? {
            ImageSource::Bytes { bytes, .. } => Ok(bytes),
            ImageSource::Path(path) => {
                let fail = |e: &dyn std::fmt::Display| Error::new(DOING, e).at_path(&path);
                bounded::file(&path, MAX_BYTES).map(Into::into).map_err(|e| fail(&e))
            }
            ImageSource::Picture(_) => Err(Error::new(DOING, "it has no file").at(name)),
        }
    }

    /// The SHA-256 of a picture's file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn hash(&self, name: &str) -> Result<[u8; 32]> {
        // Whoever panicked while it had them left whole hashes behind.
        let hashes = || self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hashes().get(name) {
            return known.clone();
        }
        let hash = self.bytes(name).map(|bytes| Sha256::digest(&bytes).into());
        hashes().insert(name.to_owned(), hash.clone());
        hash
    }

    /// A picture's name for people.
    #[must_use]
    pub fn shown(&self, name: &str) -> String {
        match self.source(name) {
            Ok(ImageSource::Bytes { name, .. }) => name,
            _ => Path::new(name).file_name().map_or(name.to_owned(), |n| n.to_string_lossy().into_owned()),
        }
    }
}
