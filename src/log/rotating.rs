//! A file that lines are added to, and that is put aside when it is large. Two windows may share one, and a person may take files
//! away at any time: whatever cannot be moved stays, and nothing here panics, since the log is where panics are told.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file, and those put aside as `NAME.1` (the newest) and so on.
#[derive(Debug)]
pub(super) struct Rotating {
    path: PathBuf,
    most_bytes: u64,
    most_files: usize,
    /// None: it could not be opened when it was last tried.
    file: Option<File>,
    bytes: u64,
}

impl Rotating {
    /// Opens the file, or makes it. One of `most_bytes` is put aside, and `most_files` are kept besides it.
    pub fn open(path: PathBuf, most_bytes: u64, most_files: usize) -> io::Result<Self> {
        let (file, bytes) = open(&path)?;
        Ok(Self { path, most_bytes, most_files, file: Some(file), bytes })
    }

    fn aside(&self, n: usize) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{n}"));
        self.path.with_file_name(name)
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        // Another window may have put it aside already.
        if fs::metadata(&self.path).is_ok_and(|file| file.len() >= self.most_bytes) {
            for n in (1..self.most_files).rev() {
                let _ = fs::rename(self.aside(n), self.aside(n + 1));
            }
            let _ = fs::rename(&self.path, self.aside(1));
        }
        let (file, _) = open(&self.path)?;
        // Where it could not be moved it grows on, and is tried again when as much has come.
        (self.file, self.bytes) = (Some(file), 0);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

impl Write for Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.bytes >= self.most_bytes || self.file.is_none() {
            self.rotate()?;
        }
        let Some(file) = &mut self.file else { return Ok(line.len()) };
        file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), File::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(folder: &Path) -> Vec<u64> {
        ["log", "log.1", "log.2", "log.3"]
            .iter()
            .map_while(|name| fs::metadata(folder.join(name)).ok())
            .map(|file| file.len())
            .collect()
    }

    #[test]
    fn two_windows_share_a_log_and_files_may_be_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Rotating::open(folder.path().join("log"), 1000, 2).unwrap();
        let mut windows = [open(), open()];
        for n in 0..100 {
            windows[n % 2].write_all(&[b'x'; 100]).unwrap();
            if n == 50 {
                fs::remove_file(folder.path().join("log.1")).unwrap();
            }
        }
        let lengths = lengths(folder.path());
        assert!(lengths.len() == 3 && lengths.iter().all(|&bytes| bytes <= 2000), "{lengths:?}");
        // The folder itself goes, and comes back.
        fs::remove_dir_all(folder.path()).unwrap();
        for _ in 0..30 {
            let _ = windows[0].write_all(&[b'x'; 100]);
        }
        fs::create_dir_all(folder.path()).unwrap();
        for _ in 0..3 {
            windows[0].write_all(b"again\n").unwrap();
        }
        assert!(fs::read_to_string(folder.path().join("log")).unwrap().contains("again"));
    }
}
