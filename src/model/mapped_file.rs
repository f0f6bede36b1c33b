//! Room: `model`. A file mapped into memory for reading.
#![allow(unsafe_code, reason = "mapping a file has no safe form; every use is argued below")]

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::model::builtin;

/// The bytes of a file, mapped read-only; pages come from disk when they are first looked at. Files of the model in
/// this program are in memory already, and are taken from there.
///
/// # If the file changes
/// The mapping shows the file, not a copy. A program that overwrites the file while it is mapped changes the bytes
/// under us, and one that truncates it makes the next access to the lost part end this process (`SIGBUS`; an
/// exception on Windows, which for this reason refuses to truncate mapped files). Ocelli's own downloads and
/// conversions write to a temporary name and rename, so they never touch a mapped file. Nobody else has a reason to
/// write into a model's folder; and whoever does gets wrong numbers or a crash, never more than that, because the
/// bytes are read as plain integers whose every bit pattern is valid, and everything derived from them that could
/// steer memory accesses (header, offsets, shapes) is copied out and checked once.
#[derive(Debug)]
pub struct MappedFile {
    bytes: Bytes,
    path: PathBuf,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    /// In this program already.
    BuiltIn(&'static [u8]),
}

impl MappedFile {
    /// Maps the whole of `path`.
    ///
    /// # Errors
    /// It does not exist, is not a regular file, is empty, or cannot be mapped; the error names the path.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(bytes) = builtin::bytes(path) {
            return Ok(Self { bytes: Bytes::BuiltIn(bytes), path: path.to_owned() });
        }
        let fail = |cause: &dyn std::fmt::Display| Error::new("opening", cause).at_path(path);
        let missing = |e: std::io::Error| {
            let error = fail(&e);
            if e.kind() == std::io::ErrorKind::NotFound {
                error.help("the file is missing: download or copy the model again")
            } else {
                error
            }
        };
        // Looked at before it is opened: opening a pipe would wait for its other end.
        if !std::fs::metadata(path).map_err(missing)?.is_file() {
            return Err(fail(&"this is not a file"));
        }
        let file = File::open(path).map_err(missing)?;
        let metadata = file.metadata().map_err(|e| fail(&e))?;
        if !metadata.is_file() {
            return Err(fail(&"this is not a file"));
        }
        if metadata.len() == 0 {
            return Err(fail(&"the file is empty").help("download it again"));
        }
        // SAFETY: a file mapping is undefined behaviour if the file is changed while references into it exist. We
        // map read-only, never write to a file under its final name, and treat the bytes as untrusted integers (see
        // the type's documentation for what remains if someone else changes the file).
        let map = unsafe { Mmap::map(&file) }.map_err(|e| fail(&e))?;
        Ok(Self { bytes: Bytes::Mapped(map), path: path.to_owned() })
    }

    /// The path it was opened with.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the system that the bytes in `range` will be needed soon, so that it reads them from the disk meanwhile. A hint; does
    /// nothing where the system has no such call.
    pub fn will_need(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.bytes {
            let end = range.end.min(map.len());
            if range.start < end {
                // Only a hint: where it fails the bytes come when they are looked at.
                drop(map.advise_range(memmap2::Advice::WillNeed, range.start, end - range.start));
            }
        }
        #[cfg(not(unix))]
        drop(range);
    }

    /// Tells the system that the bytes in `range` are not needed for now, so that they stop counting as this
    /// process's memory. They can still be read: they come from the page cache or the disk again. A hint; does
    /// nothing where the system has no such call.
    pub fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        {
            // From the page the range begins in, so that ranges released one after the other leave nothing over. 64 KiB
            // is a multiple of every page size in use.
            const PAGE: usize = 1 << 16;
            let Bytes::Mapped(map) = &self.bytes else { return };
            let start = range.start / PAGE * PAGE;
            let end = range.end.min(map.len()) / PAGE * PAGE;
            if start < end {
                // SAFETY: `DontNeed` is unsafe because on private anonymous or written memory it discards data. This
                // is a shared, read-only mapping of a file: dropped pages are read from the same file again, with
                // the same bytes (or see the type's documentation).
                let advised = unsafe {
                    map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
                };
                // Only a hint: where it fails the pages simply stay.
                drop(advised);
            }
        }
        #[cfg(not(unix))]
        drop(range);
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::BuiltIn(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_shows_its_bytes_also_after_they_were_released() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("data");
        let bytes: Vec<u8> = (0..300_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        std::fs::write(&path, &bytes).expect("writable");
        let file = MappedFile::open(&path).expect("readable");
        assert_eq!(&file[..], &bytes[..]);
        file.release(0..300_000);
        file.release(10..20);
        file.release(100_000..usize::MAX);
        assert_eq!(&file[..], &bytes[..]);
    }

    #[test]
    fn missing_and_empty_files_and_folders_are_refused_by_name() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let empty = folder.path().join("empty");
        std::fs::write(&empty, b"").expect("writable");
        for path in [folder.path().join("none"), empty, folder.path().to_owned()] {
            let error = MappedFile::open(&path).expect_err("must be refused").to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }
}
