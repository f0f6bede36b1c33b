//! Room `app`: a comparison in the window: what is being written, what runs, what came. Knows nothing of egui. Files are read and
//! written on a thread of their own (`worker`); a frame takes in what came.

mod models;
mod starting;
mod worker;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use indexmap::IndexMap;

use crate::compare::judge::{Rating, blind_order};
use crate::compare::{
    CellResult, Comparison, Cost, Line, PictureFiles, Plan, Rates, Run, Savings, Stage, Summary, samples,
};
use crate::costs::Costs;
use crate::costs::write::Plot;
use crate::error::Error;

pub(super) use models::RunAsker;
pub use starting::Told;
pub(super) use worker::Wake;
use worker::{Job, Worker};

/// Groups of cells (a row's repeat, all columns) on one page.
pub const PAGE: usize = 20;
/// The most columns that can be added in the window; files may have more.
pub const MOST_COLUMNS: usize = 8;

/// Tokens of cells whose costs are in memory, at most.
const MOST_COSTS: usize = 100_000;

/// Which groups of cells are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// All.
    #[default]
    All,
    /// Those whose answers differ.
    Differing,
    /// Those with a cell that fails.
    Failing,
    /// Those with an answer that nobody has rated.
    Unrated,
}

/// How results are looked at.
#[derive(Clone, Debug, Default)]
pub struct Looking {
    /// Differences are shown against the column of this number.
    pub against: Option<usize>,
    /// Which groups are shown.
    pub filter: Filter,
    /// Nobody sees which column an answer is of until all of its group are rated.
    pub blind: bool,
    /// Which page.
    pub page: usize,
    /// Columns that are narrow and show nothing, by number.
    pub collapsed: HashSet<usize>,
    /// The place where columns are written is hidden.
    pub hide_editor: bool,
    /// The cell whose note is being written.
    pub noting: Option<String>,
    /// The group whose tokens' costs are plotted beside each other.
    pub costs: Option<usize>,
    /// The plot.
    pub plot: Plot,
}

/// Which groups are shown, by number, and as of when: results, changes, filter.
type Shown = ((usize, usize, Filter), Arc<Vec<usize>>);

/// A comparison in the window.
#[derive(Debug)]
pub struct Comparing {
    /// What is being written.
    pub comparison: Comparison,
    /// Assertions as they are typed: a line of TOML each.
    pub assertion_lines: Vec<String>,
    /// Values of variables as they are typed, by place: the name, and a value a line.
    pub variable_lines: Vec<(String, String)>,
    /// The file it was read from or written to last.
    pub path: Option<PathBuf>,
    /// Where relative names of pictures start.
    pub base: PathBuf,
    /// Pictures of a chat, by what the comparison calls them.
    pub memory: HashMap<String, (String, Arc<[u8]>)>,
    /// How results are looked at.
    pub looking: Looking,
    /// What is wrong with what is written.
    pub problem: Option<Error>,
    /// The run, while there is one.
    pub run: Option<Run>,
    /// What the results are of.
    pub plan: Option<Arc<Plan>>,
    /// Finished cells by number in the plan.
    pub results: HashMap<usize, Arc<CellResult>>,
    /// What the tokens of cells cost that were answered since the window was opened, by number; the latest.
    pub costs: IndexMap<usize, Costs>,
    /// Ratings by key.
    pub ratings: HashMap<String, Rating>,
    /// A run is being laid out.
    pub preparing: bool,
    /// Results in numbers, as of the results that were there then.
    summary: Option<(usize, usize, Arc<Summary>)>,
    changes: usize,
    worker: Option<Worker>,
    /// Where results are kept; `None`: nowhere.
    folder: Option<PathBuf>,
    /// The model of a column that is being loaded for the run.
    asked_model: Option<crate::compare::Target>,
    /// What the comparison that is written will cost, and what it was asked of.
    cost: Option<(Comparison, Option<Cost>)>,
    /// What the rates of cells were, in whichever comparison.
    rates: Option<Rates>,
    /// Which groups are shown, and as of when.
    shown: Option<Shown>,
    /// When the run began, and cells that were finished before.
    began: Option<(Instant, usize)>,
}

impl Comparing {
    /// The example. Results are kept in `folder`.
    #[must_use]
    pub fn new(folder: Option<&Path>) -> Self {
        let example = Comparison::parse(samples::EXAMPLE).unwrap_or_default();
        Self::of(example, folder)
    }

    /// Of a comparison.
    #[must_use]
    pub fn of(comparison: Comparison, folder: Option<&Path>) -> Self {
        let mut new = Self {
            comparison,
            assertion_lines: Vec::new(),
            variable_lines: Vec::new(),
            path: None,
            base: PathBuf::new(),
            memory: HashMap::new(),
            looking: Looking::default(),
            problem: None,
            run: None,
            plan: None,
            results: HashMap::new(),
            costs: IndexMap::new(),
            ratings: HashMap::new(),
            preparing: false,
            summary: None,
            changes: 0,
            worker: None,
            folder: folder.map(Path::to_owned),
            asked_model: None,
            began: None,
            cost: None,
            rates: None,
            shown: None,
        };
        new.write_lines();
        new
    }

    /// Takes over a comparison in place of the one there is.
    pub fn replace(&mut self, comparison: Comparison, path: Option<PathBuf>) {
        self.stop();
        let base = path.as_deref().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
        let (worker, rates) = (self.worker.take(), self.rates);
        *self = Self { path, base, worker, rates, ..Self::of(comparison, self.folder.clone().as_deref()) };
    }

    /// The pictures of what is written.
    #[must_use]
    pub fn pictures(&self) -> PictureFiles {
        PictureFiles::with_memory(&self.base, self.memory.clone())
    }

    /// Is something of it under way?
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.preparing
            || self.run.as_ref().is_some_and(|run| !run.is_over() && !run.is_paused())
            || self.run.as_ref().is_some_and(|run| !run.under_way().is_empty())
    }

    /// Stops the run; what is finished stays.
    pub fn stop(&mut self) {
        if let Some(run) = &mut self.run {
            run.cancel();
        }
        self.asked_model = None;
    }

    /// Holds the run, or lets it go on.
    pub fn pause(&mut self, paused: bool) {
        if let Some(run) = &mut self.run {
            run.pause(paused);
        }
    }

    /// Rates an answer.
    pub fn rate(&mut self, key: &str, rating: Rating) {
        self.changes += 1;
        self.keep(Line::Rating { key: key.to_owned(), rating: rating.clone() });
        self.ratings.insert(key.to_owned(), rating);
    }

    fn keep(&self, line: Line) {
        if let Some(worker) = &self.worker {
            worker.send(Job::Add(Box::new(line)));
        }
    }

    /// Keeps what cells cost, of the latest ones.
    fn keep_costs(&mut self, new: Vec<(usize, Costs)>) {
        for (number, costs) in new {
            // The latest last.
            self.costs.shift_remove(&number);
            self.costs.insert(number, costs);
        }
        let tokens = |costs: &Costs| costs.tokens.len();
        let mut sum: usize = self.costs.values().map(tokens).sum();
        while sum > MOST_COSTS {
            let Some((_, oldest)) = self.costs.shift_remove_index(0) else { break };
            sum -= tokens(&oldest);
        }
    }

    /// Takes over a finished cell.
    fn finished(&mut self, result: CellResult) {
        let Some(plan) = self.plan.clone() else { return };
        let Some(number) = result.number(&plan) else { return };
        self.changes += 1;
        self.keep(Line::Cell(Box::new(result.clone())));
        self.results.insert(number, Arc::new(result));
    }

    /// Results in numbers.
    pub fn summary(&mut self) -> Option<Arc<Summary>> {
        let plan = self.plan.as_ref()?;
        let now = (self.results.len(), self.changes);
        if let Some((results, changes, summary)) = &self.summary
            && (*results, *changes) == now
        {
            return Some(Arc::clone(summary));
        }
        let names: Vec<String> = plan.columns.iter().map(|column| column.name.clone()).collect();
        let summary = Arc::new(Summary::new(&names, self.results.values().map(Arc::as_ref), &self.ratings));
        self.summary = Some((now.0, now.1, Arc::clone(&summary)));
        Some(summary)
    }

    /// Seconds that are left of the run, at the rate it has had; `None`: it cannot be said yet.
    #[must_use]
    pub fn secs_left(&self) -> Option<f64> {
        let run = self.run.as_ref().filter(|run| !run.is_over())?;
        let (began, before) = self.began?;
        let progress = run.progress();
        let done = progress.done.checked_sub(before).filter(|done| *done > 0)?;
        let left = progress.total - progress.done;
        Some(began.elapsed().as_secs_f64() / done as f64 * left as f64)
    }

    /// What the comparison that is written will cost, as far as it is known, and how many seconds, if cells have run before.
    #[must_use]
    pub fn cost(&self) -> Option<(Cost, Option<f64>)> {
        let cost = self.cost.as_ref()?.1?;
        Some((cost, self.rates.as_ref().map(|rates| cost.secs(rates))))
    }

    /// The groups that are shown, found again only where something has changed.
    pub fn shown_groups(&mut self) -> Arc<Vec<usize>> {
        let now = (self.results.len(), self.changes, self.looking.filter);
        if let Some((then, groups)) = &self.shown
            && *then == now
        {
            return Arc::clone(groups);
        }
        let groups = Arc::new(self.groups());
        self.shown = Some((now, Arc::clone(&groups)));
        groups
    }

    /// What cells shared.
    pub fn savings(&mut self) -> Option<Savings> {
        self.summary().map(|summary| summary.savings)
    }

    /// Results of what is shown are not of what is written any more.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.comparison != self.comparison)
    }

    /// The groups that are shown, by number: row and repeat.
    #[must_use]
    pub fn groups(&self) -> Vec<usize> {
        let Some(plan) = &self.plan else { return Vec::new() };
        let columns = plan.columns.len();
        let groups = plan.len() / columns;
        (0..groups).filter(|group| self.is_shown(plan, *group)).collect()
    }

    fn is_shown(&self, plan: &Plan, group: usize) -> bool {
        let columns = plan.columns.len();
        let mut cells = (group * columns..(group + 1) * columns).filter_map(|n| self.results.get(&n));
        match self.looking.filter {
            Filter::All => true,
            Filter::Failing => cells.any(|cell| !cell.passed()),
            Filter::Unrated => cells
                .any(|cell| cell.error.is_none() && self.ratings.get(&cell.key).is_none_or(Rating::is_empty)),
            Filter::Differing => {
                let Some(first) = cells.next() else { return false };
                cells.any(|cell| cell.answer.trim() != first.answer.trim())
            }
        }
    }

    /// In which order a group's columns are shown, and whether their names are.
    #[must_use]
    pub fn order(&self, group: usize) -> (Vec<usize>, bool) {
        let Some(plan) = &self.plan else { return (Vec::new(), true) };
        let columns = plan.columns.len();
        if !self.looking.blind {
            return ((0..columns).collect(), true);
        }
        let is_rated = |number: usize| {
            self.results.get(&number).is_some_and(|cell| {
                cell.error.is_some() || self.ratings.get(&cell.key).is_some_and(|rating| !rating.is_empty())
            })
        };
        let all_rated = (group * columns..(group + 1) * columns).all(is_rated);
        (blind_order(0, &group.to_string(), columns), all_rated)
    }

    /// What a cell that is not finished does, and its text so far.
    #[must_use]
    pub fn under_way(&self, number: usize) -> Option<(Stage, &str)> {
        let cells = self.run.as_ref()?.under_way();
        cells.iter().find(|cell| cell.number == number).map(|cell| (cell.stage, cell.text.as_str()))
    }
}
