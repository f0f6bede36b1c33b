//! A folder that appears under its name only when it is complete.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Held locked by the process that fills the folder, so that others can tell a dead one's leavings.
const LOCK_FILE: &str = ".lock";
/// What the names of unfinished folders contain.
const PARTIAL: &str = ".partial-";

/// A hidden sibling `.<name>.partial-<process>-<count>` of the destination. It is renamed to the destination by
/// [`PartialFolder::finish`] and removed when dropped before that; what a killed process left behind is removed by the
/// next one that writes to the same destination.
#[derive(Debug)]
pub(crate) struct PartialFolder {
    path: PathBuf,
    destination: PathBuf,
    lock: Option<File>,
    doing: &'static str,
}

impl PartialFolder {
    /// Makes the folder. The destination must not exist, or be an empty folder.
    pub(crate) fn create(destination: &Path, doing: &'static str) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let fail = |path: &Path, e: &std::io::Error| io_error(doing, path, e, None);
        check_destination(destination, doing)?;
        let (parent, name) = parent_and_name(destination, doing)?;
        fs::create_dir_all(&parent).map_err(|e| fail(&parent, &e))?;
        let prefix = format!(".{name}{PARTIAL}");
        remove_where(&parent, |other| other.starts_with(&prefix));
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{prefix}{}-{count}", std::process::id()));
        fs::create_dir(&path).map_err(|e| fail(&path, &e))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = File::create(&lock_path).map_err(|e| fail(&lock_path, &e))?;
        // Some network file systems have no locks; then a killed process's leavings stay until removed by hand.
        drop(lock.try_lock());
        Ok(Self { path, destination: destination.to_owned(), lock: Some(lock), doing })
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the folder its final name.
    pub(crate) fn finish(mut self) -> Result<()> {
        check_destination(&self.destination, self.doing)?;
        drop(self.lock.take());
        let lock_path = self.path.join(LOCK_FILE);
        fs::remove_file(&lock_path).map_err(|e| io_error(self.doing, &lock_path, &e, None))?;
        // An empty folder may stand there already (it was checked); not every system renames onto it.
        match fs::remove_dir(&self.destination) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(io_error(self.doing, &self.destination, &e, None)),
        }
        fs::rename(&self.path, &self.destination)
            .map_err(|e| io_error(self.doing, &self.destination, &e, None))
    }
}

impl Drop for PartialFolder {
    fn drop(&mut self) {
        drop(self.lock.take());
        // After `finish` there is nothing of this name. Where removing fails, the next conversion tries again.
        drop(fs::remove_dir_all(&self.path));
    }
}

/// An error of the file system, with what to do when the disk is full.
pub(crate) fn io_error(doing: &str, path: &Path, e: &std::io::Error, needed_bytes: Option<u64>) -> Error {
    let error = Error::new(doing, e).at_path(path);
    match (e.kind(), needed_bytes) {
        (ErrorKind::StorageFull | ErrorKind::QuotaExceeded, Some(bytes)) => error
            .help(format!("the result takes {}: free that much, or choose another disk", gigabytes(bytes))),
        (ErrorKind::StorageFull | ErrorKind::QuotaExceeded, None) => {
            error.help("free some space on this disk")
        }
        (ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem, _) => {
            error.help("choose a folder that you may write to")
        }
        (ErrorKind::AlreadyExists | ErrorKind::NotADirectory, _) => {
            error.help("a file is in the way: choose another folder")
        }
        _ => error.help("check the path and the disk"),
    }
}

/// A size as a person reads it: "4.26 GB".
pub(crate) fn gigabytes(bytes: u64) -> String {
    // Whole hundredths of a gigabyte, or of a megabyte where that is all there is.
    let (unit, name) = if bytes >= 1_000_000_000 { (10_000_000, "GB") } else { (10_000, "MB") };
    let hundredths = bytes.div_ceil(unit);
    format!("{}.{:02} {name}", hundredths / 100, hundredths % 100)
}

fn parent_and_name(destination: &Path, doing: &str) -> Result<(PathBuf, String)> {
    let name = destination.file_name().ok_or_else(|| {
        Error::new(doing, "this names no new folder")
            .at_path(destination)
            .help("give the path of the folder to make")
    })?;
    let parent = match destination.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((parent, name.to_string_lossy().into_owned()))
}

fn check_destination(destination: &Path, doing: &str) -> Result<()> {
    let mut entries = match fs::read_dir(destination) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound && fs::symlink_metadata(destination).is_err() => {
            return Ok(());
        }
        Err(e) => {
            return Err(
                io_error(doing, destination, &e, None).help("choose a folder that does not exist yet")
            );
        }
    };
    if entries.next().is_none() {
        return Ok(());
    }
    Err(Error::new(doing, "the folder exists already, and is not empty")
        .at_path(destination)
        .help("choose another name, or remove it first"))
}

/// Removes what killed processes left behind in `parent`, under whatever name.
pub(crate) fn remove_all_stale(parent: &Path) {
    remove_where(parent, |name| name.starts_with('.') && name.contains(PARTIAL));
}

/// Removes what killed processes left behind. A folder whose lock is held, or cannot be tried, stays.
fn remove_where(parent: &Path, ours: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if !ours(&entry.file_name().to_string_lossy()) || !entry.path().is_dir() {
            continue;
        }
        let stale = match File::open(entry.path().join(LOCK_FILE)) {
            Ok(lock) => match lock.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
            },
            // Killed between making the folder and its lock, or between removing the lock and the renaming.
            Err(e) => e.kind() == ErrorKind::NotFound && is_old(&entry.path()),
        };
        if stale {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// Whether nothing has happened to a folder for a minute.
fn is_old(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age.as_secs() >= 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("a folder")
            .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_partial_folder_appears_under_its_name_when_finished_and_vanishes_when_dropped() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let destination = folder.path().join("model");
        let partial = PartialFolder::create(&destination, "converting").expect("made");
        fs::write(partial.path().join("file"), b"x").expect("writable");
        assert!(!destination.exists());
        drop(partial);
        assert_eq!(names(folder.path()), Vec::<String>::new());

        fs::create_dir(&destination).expect("an empty folder may be there already");
        let partial = PartialFolder::create(&destination, "converting").expect("made");
        fs::write(partial.path().join("file"), b"x").expect("writable");
        partial.finish().expect("renamed");
        assert_eq!(names(folder.path()), ["model"]);
        assert_eq!(names(&destination), ["file"]);

        let error = PartialFolder::create(&destination, "converting").expect_err("it exists").to_string();
        assert!(error.contains("exists already") && error.contains("choose another name"), "{error}");
    }

    #[test]
    fn leavings_of_a_killed_process_are_removed_and_those_of_a_living_one_are_not() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let destination = folder.path().join("model");
        let living = PartialFolder::create(&destination, "converting").expect("made");
        let dead = folder.path().join(".model.partial-1-0");
        fs::create_dir(&dead).expect("made");
        fs::write(dead.join(LOCK_FILE), b"").expect("writable");
        fs::write(dead.join("model-00001-of-00001.safetensors"), b"half").expect("writable");
        let other = folder.path().join(".other.partial-1-0");
        fs::create_dir(&other).expect("made");
        let second = PartialFolder::create(&destination, "converting").expect("made");
        assert!(!dead.exists());
        assert!(other.exists() && living.path().exists() && second.path().exists());
    }

    #[test]
    fn sizes_are_rounded_up_to_two_digits() {
        assert_eq!(gigabytes(4_256_000_000), "4.26 GB");
        assert_eq!(gigabytes(1_830_000_000), "1.83 GB");
        assert_eq!(gigabytes(999_999), "1.00 MB");
    }
}
