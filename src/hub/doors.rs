//! Room `hub`: doors for `fuzz/`. What a hub says is read by functions that need a hub to be asked; here it is bytes.

use std::path::{Path, PathBuf};

use super::listing;
use super::partial::PartialFile;
use crate::error::{Error, Result};

/// The paths on this disk of the files that a hub's answer makes us fetch.
///
/// # Errors
/// The answer makes no sense, or names no model.
pub fn wanted_files(answer: &str, quantisation: Option<&str>) -> Result<Vec<PathBuf>> {
    let listing = listing::read(answer).map_err(|cause| Error::new("reading the hub's answer", cause))?;
    let chosen = listing.choose(&"owner/name".parse()?, quantisation)?;
    Ok(chosen.files.into_iter().map(|file| file.path).collect())
}

/// Opens the download of `blob` that was begun, as its note says, and gives the bytes that are there.
///
/// # Errors
/// It cannot be opened.
pub fn resume(blob: &Path, bytes: u64) -> Result<u64> {
    PartialFile::open(blob, bytes).map(|file| file.total_done())
}
