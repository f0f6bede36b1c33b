//! Room `hub`: a file on its way. Its bytes are written where they belong, in any order; beside it lies a note of how far
//! each segment is, so that a killed program goes on where it was.
//!
//! The note is written after the bytes it speaks of, so a killed process can only have written more than is noted. After a
//! power cut the bytes may be missing all the same: the checksum over the whole file, which is read back from the disk,
//! finds that.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Bytes of a segment: what one connection fetches at a time.
pub(super) const SEGMENT_BYTES: u64 = 32 << 20;
const MAGIC: u64 = u64::from_le_bytes(*b"OCELLI\x01P");
/// Magic, the file's size, the segments' size.
const HEADER_BYTES: u64 = 24;

/// A file that is not complete yet. Segments may be written by several threads, each by one.
#[derive(Debug)]
pub(super) struct PartialFile {
    data: File,
    note: File,
    data_path: PathBuf,
    note_path: PathBuf,
    bytes: u64,
    /// Bytes there from the beginning of each segment.
    done: Vec<AtomicU64>,
}

impl PartialFile {
    /// Opens what was begun, or begins; `blob` is the path of the finished file.
    pub(super) fn open(blob: &Path, bytes: u64) -> Result<Self> {
        const DOING: &str = "making room for";
        let (data_path, note_path) = (with_end(blob, ".ocelli-part"), with_end(blob, ".ocelli-note"));
        let fail = |e: io::Error| no_room(DOING, &data_path, bytes, e);
        let open =
            |path: &Path| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let data = open(&data_path).map_err(fail)?;
        let note = open(&note_path).map_err(fail)?;
        let segments = usize::try_from(bytes.div_ceil(SEGMENT_BYTES)).map_err(|_| {
            Error::new(DOING, format!("{bytes} bytes are more than this system can hold")).at_path(blob)
        })?;
        let known = read_note(&note, bytes, segments);
        let same = known.is_some() && data.metadata().is_ok_and(|metadata| metadata.len() == bytes);
        let done = known.filter(|_| same).unwrap_or_else(|| vec![0; segments]);
        let file = Self {
            data,
            note,
            data_path,
            note_path,
            bytes,
            done: done.into_iter().map(AtomicU64::new).collect(),
        };
        if !same {
            file.begin().map_err(|e| no_room(DOING, &file.data_path, bytes, e))?;
        }
        Ok(file)
    }

    /// Forgets what is there.
    fn begin(&self) -> io::Result<()> {
        self.note.set_len(0)?;
        self.data.set_len(0)?;
        self.data.set_len(self.bytes)?;
        for done in &self.done {
            done.store(0, Ordering::Release);
        }
        self.note.set_len(HEADER_BYTES + 8 * self.done.len() as u64)?;
        write_at(&self.note, &self.bytes.to_le_bytes(), 8)?;
        write_at(&self.note, &SEGMENT_BYTES.to_le_bytes(), 16)?;
        write_at(&self.note, &MAGIC.to_le_bytes(), 0)
    }

    /// Begins anew: what came was wrong.
    pub(super) fn begin_anew(&self) -> Result<()> {
        self.begin().map_err(|e| no_room("beginning anew with", &self.data_path, self.bytes, e))
    }

    pub(super) fn segments(&self) -> usize {
        self.done.len()
    }

    /// Where a segment begins in the file, and its length.
    pub(super) fn segment(&self, index: usize) -> (u64, u64) {
        let start = index as u64 * SEGMENT_BYTES;
        (start, SEGMENT_BYTES.min(self.bytes.saturating_sub(start)))
    }

    /// Bytes of a segment that are there, from its beginning.
    pub(super) fn done(&self, index: usize) -> u64 {
        self.done.get(index).map_or(0, |done| done.load(Ordering::Acquire))
    }

    /// Bytes that are there in all.
    pub(super) fn total_done(&self) -> u64 {
        (0..self.segments()).map(|index| self.done(index)).sum()
    }

    /// Bytes that are there without a gap, from the file's beginning.
    pub(super) fn front(&self) -> u64 {
        let mut front = 0;
        for index in 0..self.segments() {
            let done = self.done(index);
            front += done;
            if done < self.segment(index).1 {
                break;
            }
        }
        front
    }

    /// Appends to a segment.
    pub(super) fn write(&self, index: usize, bytes: &[u8]) -> Result<()> {
        let (start, length) = self.segment(index);
        let Some(done) = self.done.get(index) else { return Ok(()) };
        let before = done.load(Ordering::Acquire);
        let room = usize::try_from(length - before.min(length)).unwrap_or(usize::MAX);
        let bytes = bytes.get(..room).unwrap_or(bytes);
        let after = before + bytes.len() as u64;
        write_at(&self.data, bytes, start + before)
            .and_then(|()| write_at(&self.note, &after.to_le_bytes(), HEADER_BYTES + 8 * index as u64))
            .map_err(|e| no_room("writing", &self.data_path, self.bytes - self.total_done(), e))?;
        done.store(after, Ordering::Release);
        Ok(())
    }

    /// Reads what is there.
    pub(super) fn read(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        read_at(&self.data, buffer, at)
            .map_err(|e| Error::new("reading back", e).at_path(&self.data_path).help("check the disk"))
    }

    /// Gives the complete file its name.
    pub(super) fn finish(&self, blob: &Path) -> Result<()> {
        let fail = |e: io::Error| no_room("finishing", &self.data_path, 0, e);
        self.data.sync_all().map_err(fail)?;
        std::fs::rename(&self.data_path, blob).map_err(fail)?;
        drop(std::fs::remove_file(&self.note_path));
        Ok(())
    }
}

/// Bytes of the file `blob` that an earlier download left, of `bytes`.
pub(super) fn already_there(blob: &Path, bytes: u64) -> u64 {
    let segments = usize::try_from(bytes.div_ceil(SEGMENT_BYTES)).unwrap_or(0);
    File::open(with_end(blob, ".ocelli-note"))
        .ok()
        .and_then(|note| read_note(&note, bytes, segments))
        .map_or(0, |done| done.iter().sum())
}

/// Is this the name of a part, or of its note?
pub(super) fn is_part(name: &str) -> bool {
    name.ends_with(".ocelli-part") || name.ends_with(".ocelli-note")
}

/// How far each segment is, if the note is whole and speaks of a file of this size.
fn read_note(note: &File, bytes: u64, segments: usize) -> Option<Vec<u64>> {
    let expected = HEADER_BYTES + 8 * segments as u64;
    if note.metadata().ok()?.len() != expected {
        return None;
    }
    let mut words = vec![0; usize::try_from(expected).ok()?];
    read_at(note, &mut words, 0).ok()?;
    let mut words = words.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    if (words.next()?, words.next()?, words.next()?) != (MAGIC, bytes, SEGMENT_BYTES) {
        return None;
    }
    let done: Vec<u64> = words.collect();
    let fits = done
        .iter()
        .enumerate()
        .all(|(index, done)| *done <= SEGMENT_BYTES.min(bytes.saturating_sub(index as u64 * SEGMENT_BYTES)));
    fits.then_some(done)
}

fn no_room(doing: &str, path: &Path, missing: u64, e: io::Error) -> Error {
    let full = matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let error = Error::new(doing, e).at_path(path);
    if full {
        error.help(format!(
            "free {} on this disk and go on: what has come is kept",
            super::space::words(missing)
        ))
    } else {
        error
    }
}

pub(super) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn write_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        let count = file.seek_write(bytes, at)?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(count..).unwrap_or_default();
        at += count as u64;
    }
    Ok(())
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        let count = file.seek_read(bytes, at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = bytes.get_mut(count..).unwrap_or_default();
        at += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_there_after_opening_it_again() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let blob = folder.path().join("blob");
        let bytes = SEGMENT_BYTES * 2 + 1000;
        let file = PartialFile::open(&blob, bytes).expect("opens");
        file.write(1, b"later").expect("writes");
        file.write(0, b"first").expect("writes");
        file.write(2, &[7; 5000]).expect("writes no more than the segment holds");
        drop(file);
        assert_eq!(already_there(&blob, bytes), 1010);
        let file = PartialFile::open(&blob, bytes).expect("opens");
        assert_eq!((file.done(0), file.done(1), file.done(2), file.front()), (5, 5, 1000, 5));
        let mut buffer = [0; 5];
        file.read(&mut buffer, SEGMENT_BYTES).expect("reads");
        assert_eq!(&buffer, b"later");
        assert!(!blob.exists());
        file.finish(&blob).expect("finishes");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn a_note_that_is_damaged_or_of_another_file_means_beginning_anew() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let blob = folder.path().join("blob");
        for damage in 0..4 {
            PartialFile::open(&blob, 5000).expect("opens").write(0, b"first").expect("writes");
            let note = with_end(&blob, ".ocelli-note");
            let mut bytes = std::fs::read(&note).expect("a note");
            match damage {
                0 => bytes.truncate(20),
                1 => bytes[0] ^= 1,
                2 => bytes[24..].copy_from_slice(&u64::MAX.to_le_bytes()),
                _ => std::fs::write(with_end(&blob, ".ocelli-part"), b"short").expect("writable"),
            }
            std::fs::write(&note, bytes).expect("writable");
            let file = PartialFile::open(&blob, 5000).expect("opens");
            assert_eq!(file.total_done(), 0, "damage {damage}");
            assert_eq!(std::fs::metadata(&file.data_path).expect("there").len(), 5000);
        }
        assert_eq!(PartialFile::open(&blob, 6000).expect("opens").total_done(), 0);
    }
}
