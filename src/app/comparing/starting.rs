//! From what is written to a run: typed lines become assertions and values, the comparison is laid out, cells are taken in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use indexmap::IndexMap;

use super::worker::{Event, Job, Wake, Worker};
use super::{Comparing, RunAsker};
use crate::compare::{CellResult, Check, Comparison, Fields, Rates, Run, Scalar, Target};
use crate::engine::ModelInfo;
use crate::error::{Error, Result};
use crate::hub::library::Library;
use crate::model::preprocessor::PreprocessorConfig;

/// The file in the window's folder with the comparison that was run last, and its results.
const LAST: &str = "last.toml";
const RESULTS: &str = "last.results.jsonl";

impl Comparing {
    /// Writes down assertions and values as lines to type in.
    pub fn write_lines(&mut self) {
        let line = |check: &Check| {
            // A table on one line is what stands to the right of `x =`.
            let table = std::collections::BTreeMap::from([("x", [check.table()])]);
            let inline = toml::Value::try_from(&table).ok().and_then(|value| value.get("x").cloned());
            let text = inline.map(|value| value.to_string()).unwrap_or_default();
            let inside = text.trim().trim_start_matches('[').trim_end_matches(']').trim();
            inside.trim_start_matches('{').trim_end_matches('}').trim().trim_end_matches(',').to_owned()
        };
        self.assertion_lines = self.comparison.assertions.iter().map(line).collect();
        let lines = |values: &Vec<Scalar>| {
            values.iter().map(|value| value.to_string().replace('\n', "\\n")).collect::<Vec<_>>().join("\n")
        };
        let variables = &self.comparison.variables;
        self.variable_lines = variables.iter().map(|(name, values)| (name.clone(), lines(values))).collect();
    }

    /// Reads the lines that were typed into the comparison, and says what is wrong.
    pub fn read_lines(&mut self) {
        self.problem = self.take_lines().and_then(|()| self.comparison.check()).err();
    }

    fn take_lines(&mut self) -> Result<()> {
        let mut assertions = Vec::new();
        for (n, line) in self.assertion_lines.iter().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let fail = |e: &dyn std::fmt::Display| {
                Error::new("reading the assertions", e)
                    .quoting()
                    .at(format!("line {}", n + 1))
                    .help("write it like: contains = \"cat\", ignore_case = true")
            };
            let text = format!("x = {{ {} }}", line.trim());
            let mut table: toml::Table = toml::from_str(&text).map_err(|e| fail(&e.message()))?;
            let table = table.remove("x").unwrap_or(toml::Value::Boolean(false));
            assertions.push(table.try_into::<Check>().map_err(|e| fail(&e.message()))?);
        }
        let mut variables = IndexMap::new();
        for (name, lines) in &self.variable_lines {
            let values: Vec<Scalar> = lines
                .lines()
                .filter(|line| !line.trim().is_empty())
                .map(|line| Scalar::from(line.replace("\\n", "\n")))
                .collect();
            if variables.insert(name.trim().to_owned(), values).is_some() {
                let why = format!("two of them are called {name:?}");
                return Err(Error::new("reading the variables", why).quoting());
            }
        }
        (self.comparison.assertions, self.comparison.variables) = (assertions, variables);
        Ok(())
    }

    /// Where results of this comparison are kept.
    fn journal(&self) -> Option<PathBuf> {
        match &self.path {
            Some(path) => Some(path.with_extension("results.jsonl")),
            None => self.folder.as_ref().map(|folder| folder.join(RESULTS)),
        }
    }

    fn worker(&mut self, wake: &Wake) -> Result<&Worker> {
        if self.worker.is_none() {
            self.worker = Some(Worker::start(Arc::clone(wake))?);
        }
        let gone = || Error::new("starting the comparison", "its thread is gone");
        self.worker.as_ref().ok_or_else(gone)
    }

    /// Lays out what is written and runs what has not run; `anew`: everything. Without `runs` it shows what is known.
    pub fn begin(&mut self, device: (String, String), (anew, runs): (bool, bool), wake: &Wake) {
        self.read_lines();
        if self.problem.is_some() || self.is_busy() {
            return;
        }
        let (comparison, pictures) = (Box::new(self.comparison.clone()), Box::new(self.pictures()));
        let journal = self.journal();
        let job = Job::Prepare { comparison, pictures, journal, device, anew, runs };
        // An unsaved comparison is there again at the next start, with its results.
        let last = self.folder.as_ref().filter(|_| self.path.is_none() && runs).map(|f| f.join(LAST));
        let keep = last.map(|last| Job::Save(Box::new(self.comparison.clone()), self.memory.clone(), last));
        match self.worker(wake) {
            Ok(worker) => {
                worker.send(job);
                if let Some(keep) = keep {
                    worker.send(keep);
                }
                self.preparing = true;
            }
            Err(error) => self.problem = Some(error),
        }
    }

    /// Reads the comparison that was run last, if there is one.
    pub fn open_last(&mut self, wake: &Wake) {
        let last = self.folder.as_ref().map(|folder| folder.join(LAST)).filter(|last| last.is_file());
        if let Some(last) = last {
            self.open(last, wake);
        }
    }

    /// Reads a comparison.
    pub fn open(&mut self, path: PathBuf, wake: &Wake) {
        self.send(Job::Open(path), wake);
    }

    /// Writes the comparison.
    pub fn save(&mut self, path: PathBuf, wake: &Wake) {
        self.read_lines();
        let job = Job::Save(Box::new(self.comparison.clone()), self.memory.clone(), path);
        self.send(job, wake);
    }

    /// Writes a report: HTML, or CSV where the name ends so.
    pub fn report(&mut self, path: PathBuf, wake: &Wake) {
        let Some(plan) = self.plan.clone() else { return };
        let mut numbers: Vec<usize> = self.results.keys().copied().collect();
        numbers.sort_unstable();
        let results =
            numbers.iter().filter_map(|n| self.results.get(n).map(|result| (**result).clone())).collect();
        self.send(Job::Report(plan, results, self.ratings.clone(), path), wake);
    }

    fn send(&mut self, job: Job, wake: &Wake) {
        match self.worker(wake) {
            Ok(worker) => worker.send(job),
            Err(error) => self.problem = Some(error),
        }
    }

    /// Has the cost of what is written worked out, for pictures resized so, where it has changed.
    pub fn ask_cost(&mut self, image: PreprocessorConfig, wake: &Wake) {
        let known = self.cost.as_ref().is_some_and(|(asked, _)| *asked == self.comparison);
        if known || self.problem.is_some() || self.is_busy() {
            return;
        }
        self.cost = Some((self.comparison.clone(), None));
        let (comparison, pictures) = (Box::new(self.comparison.clone()), Box::new(self.pictures()));
        self.send(Job::Cost(comparison, pictures, image), wake);
    }

    /// Takes in what the thread has done; what is to be told.
    pub fn take_events(&mut self) -> Vec<Result<Told>> {
        let mut told = Vec::new();
        while let Some(event) = self.worker.as_ref().and_then(Worker::poll) {
            match event {
                Event::Prepared(prepared) => {
                    self.preparing = false;
                    self.changes += 1;
                    self.looking.page = 0;
                    self.plan = Some(prepared.plan);
                    self.rates = Rates::of(prepared.results.values().map(Arc::as_ref)).or(self.rates);
                    self.began = prepared.run.as_ref().map(|run| (Instant::now(), run.progress().done));
                    self.costs.clear();
                    (self.results, self.ratings, self.run) =
                        (prepared.results, prepared.ratings, prepared.run);
                    if self.looking.against.is_some_and(|n| n >= self.comparison.columns.len()) {
                        self.looking.against = None;
                    }
                    // All is there already: whoever asks for a run means to see something run.
                    if self.run.is_some() && prepared.missing == 0 {
                        told.push(Ok(Told::NothingMissing));
                    }
                }
                Event::Cost(cost) => {
                    if let Some(asked) = &mut self.cost {
                        asked.1 = cost;
                    }
                }
                Event::NotPrepared(error) => {
                    self.preparing = false;
                    self.problem = Some(error);
                }
                Event::Opened(comparison, path) => {
                    let is_last = self.folder.as_ref().is_some_and(|folder| path == folder.join(LAST));
                    self.replace(*comparison, Some(path.clone()));
                    if is_last {
                        self.path = None;
                    }
                    told.push(Ok(Told::Opened));
                }
                Event::Saved(comparison, path) => {
                    let is_last = self.folder.as_ref().is_some_and(|folder| path == folder.join(LAST));
                    if !is_last {
                        // Its pictures are files now.
                        self.comparison = *comparison;
                        self.base = path.parent().map(Path::to_owned).unwrap_or_default();
                        self.path = Some(path.clone());
                        told.push(Ok(Told::Written(path)));
                    }
                }
                Event::Reported(path) => told.push(Ok(Told::Written(path))),
                Event::Failed(error) => told.push(Err(error)),
            }
        }
        told
    }

    /// Takes in what has come of the run.
    ///
    /// # Errors
    /// The device is lost.
    pub(in crate::app) fn poll_run(&mut self, asker: &mut RunAsker<'_>) -> Result<()> {
        let Some(run) = &mut self.run else { return Ok(()) };
        if run.is_over() {
            return Ok(());
        }
        let finished = run.poll(asker)?;
        let costs = run.take_costs();
        self.keep_costs(costs);
        let any = !finished.is_empty();
        for result in finished {
            self.finished(result);
        }
        if any && self.run.as_ref().is_some_and(Run::is_over) {
            self.rates = Rates::of(self.results.values().map(Arc::as_ref)).or(self.rates);
        }
        Ok(())
    }

    /// The model that the run wants loaded.
    #[must_use]
    pub fn wanted_model(&self) -> Option<&Target> {
        self.run
            .as_ref()
            .filter(|run| !run.is_paused() && !run.is_cancelled())
            .and_then(|run| run.wants_model())
    }

    /// Where a column's model is: beside the comparison, or by a name this machine knows.
    ///
    /// # Errors
    /// There is no model of that name.
    pub fn model_place(&self, name: &str) -> Result<PathBuf> {
        let beside = self.base.join(name);
        if self.path.is_some() && beside.exists() {
            return Ok(beside);
        }
        Library::find(self.folder.as_deref().and_then(Path::parent))?.resolve(Path::new(name))
    }

    /// There is no model. Where the run did not ask for another one, the user has: it waits until it is told to go on.
    pub fn model_gone(&mut self) {
        let ours = self.asked_model.is_some();
        if let Some(run) = self.run.as_mut().filter(|run| !run.is_over())
            && run.model_gone()
            && !ours
        {
            run.pause(true);
        }
    }

    /// That model is there.
    pub fn model_ready(&mut self, info: ModelInfo) {
        self.asked_model = None;
        if let Some(run) = &mut self.run {
            run.model_ready(info);
        }
    }

    /// That model cannot be had.
    pub fn model_failed(&mut self, error: &Error) {
        self.asked_model = None;
        let failed: Vec<CellResult> =
            self.run.as_mut().map(|run| run.model_failed(error)).unwrap_or_default();
        for result in failed {
            self.finished(result);
        }
    }

    /// Was that model asked for already?
    #[must_use]
    pub fn has_asked_for(&self, target: &Target) -> bool {
        self.asked_model.as_ref() == Some(target)
    }

    /// It is being loaded.
    pub fn asks_for(&mut self, target: Target) {
        self.asked_model = Some(target);
    }

    /// A new comparison of two columns.
    pub fn begin_new(&mut self) {
        let columns = vec![Fields::default(); 2];
        self.replace(Comparison { columns, ..Comparison::default() }, None);
    }
}

/// What is told of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// All of it has run already.
    NothingMissing,
    /// A comparison was read.
    Opened,
    /// A file was written.
    Written(PathBuf),
}
