//! The thread that lays comparisons out, reads and writes their files, and keeps results: nothing of it makes a frame late.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use crate::compare::judge::Rating;
use crate::compare::{
    Begin, CellResult, Comparison, Cost, Journal, Kept, Line, PictureFiles, Plan, Run, report,
};
use crate::error::{Error, Result};
use crate::log;
use crate::model::preprocessor::PreprocessorConfig;

/// Called after each event, so that the window draws it.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// What it is to do.
pub enum Job {
    /// Lay a comparison out and find what is known of it.
    Prepare {
        /// What.
        comparison: Box<Comparison>,
        /// Its pictures.
        pictures: Box<PictureFiles>,
        /// Where results are kept; `None`: nowhere.
        journal: Option<PathBuf>,
        /// Device and driver, for the file of results.
        device: (String, String),
        /// Run again what has run.
        anew: bool,
        /// Run what is missing; otherwise show what is there.
        runs: bool,
    },
    /// Say what a comparison will cost.
    Cost(Box<Comparison>, Box<PictureFiles>, PreprocessorConfig),
    /// Keep a line.
    Add(Box<Line>),
    /// Read a comparison.
    Open(PathBuf),
    /// Write a comparison, and pictures in memory beside it.
    Save(Box<Comparison>, HashMap<String, (String, Arc<[u8]>)>, PathBuf),
    /// Write a report.
    Report(Arc<Plan>, Vec<CellResult>, HashMap<String, Rating>, PathBuf),
}

/// What it did.
pub enum Event {
    /// A comparison is laid out.
    Prepared(Box<Prepared>),
    /// It cannot be.
    NotPrepared(Error),
    /// What a comparison will cost; `None`: it cannot be laid out.
    Cost(Option<Cost>),
    /// A comparison was read.
    Opened(Box<Comparison>, PathBuf),
    /// A comparison was written, with the names its pictures have now.
    Saved(Box<Comparison>, PathBuf),
    /// A report was written.
    Reported(PathBuf),
    /// Something else failed.
    Failed(Error),
}

/// A comparison laid out.
pub struct Prepared {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Finished cells by number.
    pub results: HashMap<usize, Arc<CellResult>>,
    /// Ratings by key.
    pub ratings: HashMap<String, Rating>,
    /// The run of what is missing, where it was wanted.
    pub run: Option<Run>,
    /// Cells that have not run.
    pub missing: usize,
}

/// The thread.
pub struct Worker {
    jobs: Sender<Job>,
    events: Receiver<Event>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Worker")
    }
}

impl Worker {
    /// Starts it.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(wake: Wake) -> Result<Self> {
        let (jobs, receiver) = mpsc::channel();
        let (sender, events) = mpsc::channel();
        let work = move || {
            let mut journal = None;
            for job in receiver {
                let is_preparation = matches!(job, Job::Prepare { .. });
                let event = log::catching("working on the comparison", || done(job, &mut journal));
                let event = event.unwrap_or_else(|panic| {
                    Some(if is_preparation { Event::NotPrepared(panic) } else { Event::Failed(panic) })
                });
                if let Some(event) = event {
                    let _ = sender.send(event);
                    wake();
                }
            }
        };
        std::thread::Builder::new()
            .name("comparison".into())
            .spawn(work)
            .map_err(|e| Error::new("starting the comparison", e))?;
        Ok(Self { jobs, events })
    }

    /// Hands it a job.
    pub fn send(&self, job: Job) {
        // Without a thread nothing comes back, and the window says so where it waits.
        let _ = self.jobs.send(job);
    }

    /// What it has done.
    pub fn poll(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}

fn done(job: Job, journal: &mut Option<Journal>) -> Option<Event> {
    match job {
        Job::Prepare { comparison, pictures, journal: place, device, anew, runs } => {
            // The one before lets go of its file first: it may be the same.
            *journal = None;
            let prepared = prepare(*comparison, *pictures, place.as_deref(), device, (anew, runs), journal);
            Some(prepared.map_or_else(Event::NotPrepared, |prepared| Event::Prepared(Box::new(prepared))))
        }
        Job::Cost(comparison, pictures, image) => {
            let plan = Plan::with_pictures(*comparison, Arc::new(*pictures));
            Some(Event::Cost(plan.ok().map(|plan| Cost::of(&plan, &image))))
        }
        Job::Add(line) => {
            let added = journal.as_mut().map(|journal| journal.add(&line));
            added.and_then(Result::err).map(Event::Failed)
        }
        Job::Open(path) => {
            let read = Comparison::read(&path);
            Some(read.map_or_else(Event::Failed, |comparison| Event::Opened(Box::new(comparison), path)))
        }
        Job::Save(comparison, memory, path) => {
            let saved = save(*comparison, &memory, &path);
            Some(saved.map_or_else(Event::Failed, |comparison| Event::Saved(Box::new(comparison), path)))
        }
        Job::Report(plan, results, ratings, path) => {
            let csv = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
            let text = if csv {
                report::csv_rated(&results, &ratings)
            } else {
                report::html(&plan, &results, &ratings)
            };
            let written = text.and_then(|text| {
                std::fs::write(&path, text).map_err(|e| Error::new("writing the report", e).at_path(&path))
            });
            Some(written.map_or_else(Event::Failed, |()| Event::Reported(path)))
        }
    }
}

fn prepare(
    comparison: Comparison,
    pictures: PictureFiles,
    place: Option<&Path>,
    device: (String, String),
    (anew, runs): (bool, bool),
    journal: &mut Option<Journal>,
) -> Result<Prepared> {
    let plan = Arc::new(Plan::with_pictures(comparison, Arc::new(pictures))?);
    let mut kept = Kept::default();
    if let Some(place) = place {
        if let Some(folder) = place.parent() {
            let made = std::fs::create_dir_all(folder);
            made.map_err(|e| Error::new("making the folder for results", e).at_path(folder))?;
        }
        let (mut opened, found) = Journal::open(place)?;
        kept = found;
        if runs {
            opened.add(&Line::Begin(Begin::new(&plan, device.0, device.1)?))?;
        }
        *journal = Some(opened);
    }
    if anew {
        kept.cells.clear();
    }
    let results = kept.take_answered(&plan);
    let missing = plan.len() - results.len();
    let run = runs.then(|| Run::new(Arc::clone(&plan), &results));
    let results = results.into_iter().map(|(number, result)| (number, Arc::new(result))).collect();
    Ok(Prepared { plan, results, ratings: kept.ratings, run, missing })
}

/// Writes a comparison; pictures in memory become files in a folder beside it.
fn save(
    mut comparison: Comparison,
    memory: &HashMap<String, (String, Arc<[u8]>)>,
    path: &Path,
) -> Result<Comparison> {
    let doing = "saving the comparison";
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |e: std::io::Error| Error::new(doing, e).at_path(&path)
    };
    let stem = path.file_stem().map_or("comparison".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let folder = format!("{stem}.pictures");
    let base = path.parent().unwrap_or(Path::new(""));
    let mut written: HashMap<String, String> = HashMap::new();
    let mut place = |name: &mut String| -> Result<()> {
        let Some((shown, bytes)) = memory.get(name) else { return Ok(()) };
        if let Some(known) = written.get(name) {
            name.clone_from(known);
            return Ok(());
        }
        let into = base.join(&folder);
        std::fs::create_dir_all(&into).map_err(fail(&into))?;
        // Names of chats' pictures are anything; two may be called the same.
        let safe: String =
            shown.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
        let file = format!("{}-{}", written.len() + 1, safe.trim_start_matches('.'));
        std::fs::write(into.join(&file), bytes).map_err(fail(&into))?;
        let new = format!("{folder}/{file}");
        written.insert(name.clone(), new.clone());
        *name = new;
        Ok(())
    };
    for fields in std::iter::once(&mut comparison.shared).chain(&mut comparison.columns) {
        fields.pictures.iter_mut().flatten().try_for_each(&mut place)?;
        for turn in fields.before.iter_mut().flatten() {
            turn.pictures.iter_mut().try_for_each(&mut place)?;
        }
    }
    // Beside the old one first: a full disk must not cost it.
    let new = path.with_extension("toml.new");
    std::fs::write(&new, comparison.print()?).map_err(fail(&new))?;
    std::fs::rename(&new, path).map_err(fail(path))?;
    Ok(comparison)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_a_chat_are_saved_beside_the_comparison_under_names_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut comparison = Comparison::parse(
            "[shared]\nprompt = \"x\"\npictures = [\"sha256:1\", \"sha256:2\", \"sha256:1\"]\n[[columns]]",
        )
        .unwrap();
        comparison.columns[0].pictures = Some(vec!["other.png".into()]);
        let bytes: Arc<[u8]> = Arc::from(&b"abc"[..]);
        let memory = HashMap::from([
            ("sha256:1".to_owned(), ("../a b.png".to_owned(), Arc::clone(&bytes))),
            ("sha256:2".to_owned(), ("a b.png".to_owned(), bytes)),
        ]);
        let path = folder.path().join("c.toml");
        let saved = save(comparison, &memory, &path).unwrap();
        let names = saved.shared.pictures.clone().unwrap();
        assert_eq!(names[0], names[2]);
        assert_eq!(names[..2], ["c.pictures/1-_a_b.png", "c.pictures/2-a_b.png"]);
        assert_eq!(saved.columns[0].pictures, Some(vec!["other.png".into()]));
        assert_eq!(std::fs::read(folder.path().join(&names[0])).unwrap(), b"abc");
        assert_eq!(Comparison::read(&path).unwrap(), saved);
    }
}
