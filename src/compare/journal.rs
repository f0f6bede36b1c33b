//! Room `compare`: a file of results: a line of JSON for each cell, written whole and at once, so that whatever ends the program loses
//! no finished cell; read again, a run goes on where it was.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::judge::Rating;
use super::plan::Plan;
use super::result::{Begin, CellResult, Line};
use crate::bounded;
use crate::error::{Error, Result};

/// Bytes of a line, at most.
const MAX_LINE_BYTES: usize = 64 << 20;
/// Values in a line, at most: two for each token of an answer.
const MAX_VALUES: usize = 2_000_000;

/// What every line begins with.
const BEGINNING: &str = r#"{"kind":""#;

/// What a file of results holds.
#[derive(Debug, Default)]
pub struct Kept {
    /// The first run's beginning.
    pub begin: Option<Begin>,
    /// All runs that wrote it, the first first.
    pub runs: Vec<Ran>,
    /// Finished cells by key.
    pub cells: HashMap<String, CellResult>,
    /// Ratings by key.
    pub ratings: HashMap<String, Rating>,
}

impl Kept {
    /// Takes out the cells of a plan that were answered, by number. What went wrong may go right the next time.
    pub fn take_answered(&mut self, plan: &Plan) -> HashMap<usize, CellResult> {
        let mut results = HashMap::new();
        for number in 0..plan.len() {
            if self.cells.is_empty() {
                break;
            }
            let Ok(cell) = plan.cell(number) else { continue };
            if let Some(mut result) = self.cells.remove(&cell.key).filter(|result| result.error.is_none()) {
                result.stand_at(cell.place);
                results.insert(number, result);
            }
        }
        results
    }
}

/// A run that wrote a file of results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Where and with what.
    pub begin: Begin,
    /// When it began, in seconds since 1970; `None`: nobody wrote it down.
    pub at: Option<u64>,
}

impl Ran {
    /// One that begins now.
    #[must_use]
    pub fn now(begin: Begin) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self { begin, at: since.ok().map(|since| since.as_secs()) }
    }
}

/// When a line was written; stands in lines of beginnings.
#[derive(Deserialize, Serialize)]
struct Dated<T> {
    #[serde(flatten)]
    line: T,
    at: Option<u64>,
}

/// What is read of a line for its date.
#[derive(Deserialize)]
struct Nothing {}

/// A file of results that is being written; nobody else writes it meanwhile.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    /// When the disk was last asked to keep what is written, and if there is something new since.
    synced: Instant,
    is_new: bool,
}

/// What is written survives the program at once, and the machine after this: a disk may take longer for that than a cell does.
const SYNC_EVERY: Duration = Duration::from_secs(1);

impl Drop for Journal {
    fn drop(&mut self) {
        if self.is_new
            && let Err(error) = self.file.sync_data()
        {
            tracing::warn!("{}: {error}", self.path.display());
        }
    }
}

impl Journal {
    /// Opens a file of results, or makes one, and reads what it holds. A line that was cut off when the program ended is taken away.
    ///
    /// # Errors
    /// It cannot be read or written, is no file of results, or another run writes it.
    pub fn open(path: &Path) -> Result<(Self, Kept)> {
        let doing = "opening the file of results";
        let fail = |e: &dyn std::fmt::Display| Error::new(doing, e).at_path(path);
        check_file(path).map_err(|e| fail(&e).help("choose another place"))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|e| fail(&e).help("choose another place"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(fail(&"another run is writing it").help("wait for it, or choose another file"));
            }
            // Where files cannot be locked two runs are the user's own affair.
            Err(TryLockError::Error(e)) => tracing::debug!("{}: {e}", path.display()),
        }
        let (kept, end) = read(&file).map_err(|e| e.at_path(path))?;
        file.set_len(end).map_err(|e| fail(&e))?;
        let mut journal = Self { file, path: path.to_owned(), synced: Instant::now(), is_new: false };
        journal.file.seek(SeekFrom::End(0)).map_err(|e| fail(&e))?;
        Ok((journal, kept))
    }

    /// Adds a line; to a beginning the time is added.
    ///
    /// # Errors
    /// The disk is full, or the file is gone.
    pub fn add(&mut self, line: &Line) -> Result<()> {
        let doing = "writing the results";
        let text = match line {
            Line::Begin(begin) => serde_json::to_string(&Dated { line, at: Ran::now(begin.clone()).at }),
            Line::Cell(_) | Line::Rating { .. } => serde_json::to_string(line),
        };
        let mut text = text.map_err(|e| Error::new(doing, e))?;
        text.push('\n');
        let mut written = self.file.write_all(text.as_bytes());
        self.is_new = true;
        if written.is_ok() && self.synced.elapsed() > SYNC_EVERY {
            written = self.file.sync_data();
            (self.synced, self.is_new) = (Instant::now(), false);
        }
        written.map_err(|e| {
            Error::new(doing, e).at_path(&self.path).help("make room; what is written so far is kept")
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads a file of results that nobody writes.
///
/// # Errors
/// It cannot be read, or is no file of results.
pub fn read_results(path: &Path) -> Result<Kept> {
    let fail = |e: std::io::Error| Error::new("reading the results", e).at_path(path);
    check_file(path).map_err(fail)?;
    let file = File::open(path).map_err(fail)?;
    Ok(read(&file).map_err(|e| e.at_path(path))?.0)
}

/// Pipes and devices have no end.
fn check_file(path: &Path) -> std::io::Result<()> {
    match path.metadata() {
        Ok(about) if !about.is_file() => Err(std::io::Error::other("it is not a file")),
        _ => Ok(()),
    }
}

/// What a file holds, and where its last whole line ends.
fn read(file: &File) -> Result<(Kept, u64)> {
    let doing = "reading the results";
    let mut kept = Kept::default();
    let mut reader = BufReader::new(file);
    let (mut line, mut end, mut number) = (Vec::new(), 0_u64, 0_usize);
    loop {
        line.clear();
        number += 1;
        let read = std::io::Read::take(&mut reader, MAX_LINE_BYTES as u64).read_until(b'\n', &mut line);
        if read.map_err(|e| Error::new(doing, e))? == 0 {
            break;
        }
        if line.last() != Some(&b'\n') {
            if line.len() == MAX_LINE_BYTES {
                let why = format!("line {number} is longer than {} MiB", MAX_LINE_BYTES >> 20);
                return Err(Error::new(doing, why));
            }
            // The program ended while it was written. Anything else is somebody's text.
            let begin = BEGINNING.as_bytes();
            if !line.starts_with(begin) && !begin.starts_with(&line) {
                return Err(Error::new(doing, format!("line {number} is no line of results"))
                    .help("choose another file"));
            }
            break;
        }
        // What a line becomes is some twenty times its length, if all of it is numbers.
        let line_read = bounded::check_json(&line, MAX_VALUES).and_then(|()| serde_json::from_slice(&line));
        match line_read {
            Ok(Line::Begin(begin)) => {
                let at = serde_json::from_slice::<Dated<Nothing>>(&line).ok().and_then(|dated| dated.at);
                kept.runs.push(Ran { begin: begin.clone(), at });
                kept.begin.get_or_insert(begin);
            }
            Ok(Line::Cell(cell)) => drop(kept.cells.insert(cell.key.clone(), *cell)),
            Ok(Line::Rating { key, rating }) => drop(kept.ratings.insert(key, rating)),
            Err(e) => {
                let why = format!("line {number} is no line of results: {e}");
                return Err(Error::new(doing, why)
                    .quoting()
                    .help("choose another file, or take the line out"));
            }
        }
        end += line.len() as u64;
    }
    Ok((kept, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(key: &str, answer: &str) -> Line {
        Line::Cell(Box::new(CellResult { key: key.into(), answer: answer.into(), ..CellResult::default() }))
    }

    #[test]
    fn what_was_written_is_read_again_and_a_cut_off_line_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        let (mut journal, kept) = Journal::open(&path).unwrap();
        assert!(kept.cells.is_empty() && kept.begin.is_none());
        journal.add(&Line::Begin(Begin { title: "t".into(), ..Begin::default() })).unwrap();
        journal.add(&cell("a", "first")).unwrap();
        journal.add(&cell("a", "中文 \n second")).unwrap();
        journal.add(&Line::Rating { key: "a".into(), rating: Rating::default() }).unwrap();
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..40 {
            // A kill in the middle of the next line.
            let next = serde_json::to_string(&cell("b", "third")).unwrap();
            let cut_off = [whole.as_slice(), &next.as_bytes()[..cut]].concat();
            std::fs::write(&path, cut_off).unwrap();
            let (mut journal, kept) = Journal::open(&path).unwrap();
            assert_eq!(kept.cells["a"].answer, "中文 \n second");
            assert_eq!((kept.cells.len(), kept.ratings.len()), (1, 1));
            let ran = &kept.runs[0];
            assert!(ran.begin.title == "t" && ran.at.is_some_and(|at| at > 1_700_000_000), "{ran:?}");
            journal.add(&cell("b", "third")).unwrap();
            drop(journal);
            assert_eq!(read_results(&path).unwrap().cells.len(), 2);
        }
    }

    #[test]
    fn what_is_no_file_of_results_is_refused_and_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        for text in ["Dear diary,\nhello", "hello", "{\"kind\": 1}"] {
            std::fs::write(&path, text).unwrap();
            let error = Journal::open(&path).unwrap_err().to_string();
            assert!(error.contains("line 1 is no line of results"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn two_runs_do_not_write_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        let (_journal, _) = Journal::open(&path).unwrap();
        assert!(Journal::open(&path).unwrap_err().to_string().contains("another run is writing it"));
    }
}
