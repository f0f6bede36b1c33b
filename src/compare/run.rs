//! Room `compare`: a run. Cells are handed to whoever answers, as many at once as decode in one batch; what comes is taken in
//! whenever somebody looks ([`Run::poll`]); nothing here waits. Cells of one model run together; models take turns in the order
//! of their columns; servers answer meanwhile.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::Instant;

use super::check::verdicts;
use super::plan::{Cell, Plan, Target};
use super::request::{request, server_request};
use super::result::{CellResult, Figures, ReferenceScore};
use crate::costs::{About, Costs, Ledger};
use crate::engine::{Answer, AnswerEvent, ModelInfo, PictureReport, Request, StopReason};
use crate::error::{Error, ErrorKind, Result};
use crate::remote::Choosing;

/// Cells that the engine has at once: eight in its slots, eight whose prompts are made meanwhile.
const ASKED: usize = 16;
/// Cells that one server has at once.
const ASKED_OF_SERVER: usize = 4;
/// Cells whose costs wait to be taken, at most.
const MOST_COSTS: usize = 64;
const DOING: &str = "running the comparison";

/// Asks models and servers for a run.
pub trait Asker {
    /// Asks the model that is loaded.
    fn ask(&mut self, request: Request) -> Answer;
    /// Asks a server.
    ///
    /// # Errors
    /// There is no such server, or it cannot be asked.
    fn ask_server(
        &mut self,
        base_url: &str,
        model: &str,
        request: Request,
        choosing: Choosing,
    ) -> Result<Answer>;
}

/// What a cell that is under way does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Stage {
    /// It waits for its turn.
    #[default]
    Waiting,
    /// Its pictures are encoded.
    Pictures,
    /// Its prompt is prefilled: tokens done, and in all.
    Prefill(usize, usize),
    /// Its answer comes.
    Writing,
    /// Its reference is measured.
    Measuring,
}

/// A cell that is under way.
#[derive(Debug)]
pub struct UnderWay {
    /// Its number in the plan.
    pub number: usize,
    /// What it asks.
    pub cell: Cell,
    /// What it does.
    pub stage: Stage,
    /// What came of its answer.
    pub text: String,
    /// Tokens of it.
    pub tokens: usize,
    /// When it was asked.
    pub asked: Instant,
    target: usize,
    answer: Answer,
    /// As it was asked, for its reference and for asking it again alone.
    request: Request,
    alone: bool,
    ids: Vec<u32>,
    logprobs: Vec<f32>,
    batches: usize,
    pictures: Vec<PictureReport>,
    /// What its tokens cost; `None`: its reference is being measured.
    ledger: Option<Ledger>,
    result: Option<CellResult>,
}

/// How a look at a cell ended.
enum Look {
    Waits,
    /// It needs more of the cache than the others leave.
    Crowded,
    Done(Box<CellResult>),
    /// Stopped: it counts as not run.
    Dropped,
    /// The model it was asked of is gone: it is asked again of the next.
    Again,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Cells finished, now or before.
    pub done: usize,
    /// Of those, cells without an answer, finished now.
    pub failed: usize,
    /// Cells in all.
    pub total: usize,
}

/// The model that is loaded.
#[derive(Debug)]
struct Loaded {
    target: usize,
    info: Box<ModelInfo>,
}

/// A run of a plan.
#[derive(Debug)]
pub struct Run {
    plan: Arc<Plan>,
    targets: Vec<Target>,
    /// Numbers of cells not begun, by target.
    todo: Vec<VecDeque<usize>>,
    crowded: VecDeque<(usize, Cell)>,
    under_way: Vec<UnderWay>,
    loaded: Option<Loaded>,
    progress: Progress,
    paused: bool,
    cancelled: bool,
    /// What cells cost that have finished and were not asked for yet.
    costs: Vec<(usize, Costs)>,
}

impl Run {
    /// A run of all cells but those of these numbers, which are finished.
    #[must_use]
    pub fn new<T>(plan: Arc<Plan>, done: &HashMap<usize, T>) -> Self {
        let targets = plan.targets();
        let mut todo = vec![VecDeque::new(); targets.len()];
        let of_column: Vec<usize> = plan
            .columns
            .iter()
            .map(|column| targets.iter().position(|target| *target == column.target).unwrap_or(0))
            .collect();
        for number in (0..plan.len()).filter(|number| !done.contains_key(number)) {
            todo[of_column[plan.place(number).column]].push_back(number);
        }
        let progress = Progress { done: done.len(), failed: 0, total: plan.len() };
        Self {
            plan,
            targets,
            todo,
            crowded: VecDeque::new(),
            under_way: Vec::new(),
            costs: Vec::new(),
            loaded: None,
            progress,
            paused: false,
            cancelled: false,
        }
    }

    /// What runs.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Cells under way.
    #[must_use]
    pub fn under_way(&self) -> &[UnderWay] {
        &self.under_way
    }

    /// Nothing more will come of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.under_way.is_empty() && self.crowded.is_empty() && self.todo.iter().all(VecDeque::is_empty)
    }

    /// Begins nothing new until it is told to go on; what is under way is finished.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Is it paused?
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Stops everything. Cells that are not finished count as not run.
    pub fn cancel(&mut self) {
        self.cancelled = true;
        self.todo.iter_mut().for_each(VecDeque::clear);
        self.crowded.clear();
        self.under_way.iter().for_each(|cell| cell.answer.cancel.cancel());
    }

    /// Was it stopped?
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// The model that must be loaded for the run to go on; `None`: none, for now.
    #[must_use]
    pub fn wants_model(&self) -> Option<&Target> {
        let local = |n: &usize| matches!(self.targets[*n], Target::Model(..));
        let has_work = |n: usize| {
            !self.todo[n].is_empty()
                || self.under_way.iter().any(|cell| cell.target == n)
                || self.crowded.iter().any(|(number, _)| self.target_of(*number) == n)
        };
        if self.loaded.as_ref().is_some_and(|loaded| has_work(loaded.target)) {
            return None;
        }
        (0..self.targets.len()).filter(local).find(|&n| has_work(n)).map(|n| &self.targets[n])
    }

    /// The model is not there any more: cells that it was asked are asked again once there is one. Was there one?
    pub fn model_gone(&mut self) -> bool {
        self.loaded.take().is_some()
    }

    /// The model it wanted is there.
    pub fn model_ready(&mut self, info: ModelInfo) {
        if let Some(target) = self.wants_model().and_then(|t| self.targets.iter().position(|x| x == t)) {
            self.loaded = Some(Loaded { target, info: Box::new(info) });
        }
    }

    /// The model it wanted cannot be loaded: its cells fail, the others go on.
    pub fn model_failed(&mut self, error: &Error) -> Vec<CellResult> {
        let Some(target) = self.wants_model().and_then(|t| self.targets.iter().position(|x| x == t)) else {
            return Vec::new();
        };
        let numbers = std::mem::take(&mut self.todo[target]);
        numbers.into_iter().map(|number| self.failed(number, error)).collect()
    }

    fn target_of(&self, number: usize) -> usize {
        let column = &self.plan.columns[self.plan.place(number).column];
        self.targets.iter().position(|target| *target == column.target).unwrap_or(0)
    }

    /// Begins what there is room for, and takes in what has come; the cells that are finished.
    ///
    /// # Errors
    /// The device is lost: nothing after it can be answered here.
    pub fn poll(&mut self, asker: &mut dyn Asker) -> Result<Vec<CellResult>> {
        let mut finished = Vec::new();
        if !self.paused && !self.cancelled {
            self.begin(asker, &mut finished);
        }
        let mut index = 0;
        while index < self.under_way.len() {
            match self.look(index, asker)? {
                Look::Waits => index += 1,
                Look::Crowded => {
                    let cell = self.under_way.remove(index);
                    self.crowded.push_back((cell.number, cell.cell));
                }
                Look::Dropped => drop(self.under_way.remove(index)),
                Look::Again => {
                    let cell = self.under_way.remove(index);
                    self.todo[cell.target].push_front(cell.number);
                }
                Look::Done(result) => {
                    self.under_way.remove(index);
                    self.progress.done += 1;
                    self.progress.failed += usize::from(result.error.is_some());
                    finished.push(*result);
                }
            }
        }
        Ok(finished)
    }

    /// What the tokens of cells cost that have finished since the last call, by number in the plan.
    pub fn take_costs(&mut self) -> Vec<(usize, Costs)> {
        std::mem::take(&mut self.costs)
    }

    fn begin(&mut self, asker: &mut dyn Asker, finished: &mut Vec<CellResult>) {
        for target in 0..self.targets.len() {
            let is_local = matches!(self.targets[target], Target::Model(..));
            if is_local && self.loaded.as_ref().is_none_or(|loaded| loaded.target != target) {
                continue;
            }
            if is_local
                && let Some((number, cell)) =
                    self.crowded.pop_front_if(|_| !self.under_way.iter().any(|cell| cell.target == target))
            {
                self.ask(asker, number, cell, target, true, finished);
            }
            let most = if is_local { ASKED } else { ASKED_OF_SERVER };
            loop {
                let here = self.under_way.iter().filter(|cell| cell.target == target);
                let (count, alone) = here.fold((0, false), |(n, alone), cell| (n + 1, alone || cell.alone));
                if count >= most || alone || (is_local && !self.crowded.is_empty()) {
                    break;
                }
                let Some(number) = self.todo[target].pop_front() else { break };
                match self.plan.cell(number) {
                    Ok(cell) => self.ask(asker, number, cell, target, false, finished),
                    Err(error) => finished.push(self.failed(number, &error)),
                }
            }
        }
    }

    fn ask(
        &mut self,
        asker: &mut dyn Asker,
        number: usize,
        cell: Cell,
        target: usize,
        alone: bool,
        finished: &mut Vec<CellResult>,
    ) {
        let pictures = &self.plan.pictures;
        let asked = match (&self.targets[target], &self.loaded) {
            (Target::Server(base_url, model), _) => {
                server_request(&cell.fields, pictures).and_then(|(request, choosing)| {
                    asker
                        .ask_server(base_url, model, request.clone(), choosing)
                        .map(|answer| (request, answer))
                })
            }
            (Target::Model(..), Some(loaded)) => {
                request(&cell.fields, pictures, &loaded.info).map(|request| {
                    let answer = asker.ask(request.clone());
                    (request, answer)
                })
            }
            (Target::Model(..), None) => Err(Error::new(DOING, "no model is loaded")),
        };
        let asked_at = Instant::now();
        let about = match (&self.targets[target], &self.loaded) {
            (Target::Model(..), Some(loaded)) => About::from(&*loaded.info),
            (Target::Model(..), None) => About::default(),
            (Target::Server(_, model), _) => About { model: model.clone(), ..About::default() },
        };
        match asked {
            Ok((request, answer)) => self.under_way.push(UnderWay {
                number,
                cell,
                stage: Stage::Waiting,
                text: String::new(),
                tokens: 0,
                asked: asked_at,
                target,
                answer,
                request,
                alone,
                ids: Vec::new(),
                logprobs: Vec::new(),
                batches: 0,
                pictures: Vec::new(),
                ledger: Some(Ledger::new(about, asked_at, 0)),
                result: None,
            }),
            Err(error) => finished.push(self.failed(number, &error)),
        }
    }

    /// A cell that could not be asked.
    fn failed(&mut self, number: usize, error: &Error) -> CellResult {
        self.progress.done += 1;
        self.progress.failed += 1;
        let result = match self.plan.cell(number) {
            Ok(cell) => self.about(&cell),
            Err(_) => {
                let place = self.plan.place(number);
                let column = self.plan.columns[place.column].name.clone();
                // It has no fields that could tell it from others: its place must.
                let key = format!("{}.{}.{column}", place.row, place.repeat);
                let values = self.plan.values(place.row).into_iter();
                let values = values.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
                CellResult {
                    key,
                    row: place.row,
                    repeat: place.repeat,
                    column,
                    values,
                    ..CellResult::default()
                }
            }
        };
        CellResult { error: Some(error.to_string()), reason: StopReason::Cancelled, ..result }
    }

    /// What is known of a cell before it is asked.
    fn about(&self, cell: &Cell) -> CellResult {
        let fields = &cell.fields;
        CellResult {
            key: cell.key.clone(),
            row: cell.place.row,
            repeat: cell.place.repeat,
            column: self.plan.columns[cell.place.column].name.clone(),
            values: cell.values.clone(),
            prompt: fields.prompt.clone().unwrap_or_default(),
            pictures: fields.pictures.clone().unwrap_or_default(),
            ..CellResult::default()
        }
    }

    /// Takes in what has come of a cell.
    fn look(&mut self, index: usize, asker: &mut dyn Asker) -> Result<Look> {
        loop {
            let under_way = &mut self.under_way[index];
            let event = match under_way.answer.events.try_recv() {
                Ok(event) => event,
                Err(TryRecvError::Empty) => return Ok(Look::Waits),
                Err(TryRecvError::Disconnected) => {
                    let why = "whoever answered stopped without a word";
                    AnswerEvent::Failed(Error::new(DOING, why).help("please report this"))
                }
            };
            if let Some(ledger) = &mut under_way.ledger {
                ledger.see(&event);
            }
            match event {
                AnswerEvent::Prepared { .. }
                | AnswerEvent::Encoded { .. }
                | AnswerEvent::Chunk { .. }
                | AnswerEvent::Thinking(_)
                | AnswerEvent::Inside(_) => {}
                AnswerEvent::Vision { .. } => under_way.stage = Stage::Pictures,
                AnswerEvent::Picture(report) => under_way.pictures.push(report),
                AnswerEvent::Prefill { done, total, .. } => {
                    if under_way.result.is_none() {
                        under_way.stage = Stage::Prefill(done, total);
                    }
                }
                AnswerEvent::Token(token) => {
                    under_way.stage = Stage::Writing;
                    under_way.text.push_str(&token.text);
                    under_way.tokens += 1;
                    under_way.ids.push(token.record.id);
                    under_way.logprobs.push(token.record.logprob);
                    under_way.batches += token.batch;
                }
                AnswerEvent::RemoteToken(token) => {
                    under_way.stage = Stage::Writing;
                    under_way.text.push_str(&token.text);
                    under_way.tokens += 1;
                    under_way.logprobs.extend(token.logprob);
                }
                AnswerEvent::Text(text) => under_way.text.push_str(&text),
                AnswerEvent::Finished(summary) => {
                    if summary.reason == StopReason::Cancelled {
                        return Ok(Look::Dropped);
                    }
                    // The context may be full of the others' tokens.
                    if summary.reason == StopReason::ContextFull && !under_way.alone {
                        return Ok(Look::Crowded);
                    }
                    let batch = under_way.batches as f64 / under_way.tokens.max(1) as f64;
                    let pictures = std::mem::take(&mut under_way.pictures);
                    let figures = Figures::of(&summary, batch, pictures);
                    let result = self.answered(index, &summary.text, summary.reason, figures);
                    let under_way = &mut self.under_way[index];
                    let Some(reference) = under_way.cell.fields.reference.clone() else {
                        return Ok(Look::Done(Box::new(result)));
                    };
                    let measure = Request { reference: Some(reference), ..under_way.request.clone() };
                    under_way.answer = asker.ask(measure);
                    under_way.stage = Stage::Measuring;
                    under_way.result = Some(result);
                }
                AnswerEvent::Scored(score) => {
                    let Some(mut result) = under_way.result.take() else { return Ok(Look::Dropped) };
                    result.reference = Some(ReferenceScore::from(&*score));
                    return Ok(Look::Done(Box::new(result)));
                }
                AnswerEvent::RemoteFinished(summary) => {
                    if summary.reason == StopReason::Cancelled {
                        return Ok(Look::Dropped);
                    }
                    let figures = Figures::of_remote(&summary);
                    let result = self.answered(index, &summary.text, summary.reason, figures);
                    return Ok(Look::Done(Box::new(result)));
                }
                AnswerEvent::Failed(error) => match error.get_kind() {
                    ErrorKind::DeviceLost => return Err(error),
                    ErrorKind::Cancelled if self.cancelled => return Ok(Look::Dropped),
                    ErrorKind::Cancelled | ErrorKind::ModelChanged => return Ok(Look::Again),
                    ErrorKind::DoesNotFit if !under_way.alone => return Ok(Look::Crowded),
                    _ => {
                        let result = match self.under_way[index].result.take() {
                            Some(result) => result,
                            None => {
                                let text = std::mem::take(&mut self.under_way[index].text);
                                let cell = &self.under_way[index].cell;
                                CellResult { answer: text, reason: StopReason::Cancelled, ..self.about(cell) }
                            }
                        };
                        let result = CellResult { error: Some(error.to_string()), ..result };
                        return Ok(Look::Done(Box::new(result)));
                    }
                },
            }
        }
    }

    /// The result of a cell that was answered.
    fn answered(&mut self, index: usize, text: &str, reason: StopReason, figures: Figures) -> CellResult {
        let under_way = &mut self.under_way[index];
        if let Some(ledger) = under_way.ledger.take() {
            // Where nobody takes them, as on the command line, the latest few wait.
            if self.costs.len() == MOST_COSTS {
                self.costs.remove(0);
            }
            self.costs.push((under_way.number, ledger.into_costs()));
        }
        let (ids, logprobs) = (std::mem::take(&mut under_way.ids), std::mem::take(&mut under_way.logprobs));
        let under_way = &self.under_way[index];
        let answered_by = match (&self.targets[under_way.target], &self.loaded) {
            (Target::Server(base_url, model), _) => format!("{model} at {base_url}"),
            (Target::Model(..), Some(loaded)) => format!("{} ({})", loaded.info.name, loaded.info.recipe),
            (Target::Model(..), None) => String::new(),
        };
        let draws = under_way.request.sampling.temperature > 0.0;
        let mut result = CellResult {
            answer: text.to_owned(),
            reason,
            answered_by,
            seed: under_way.cell.fields.seed.filter(|_| draws),
            figures,
            ids,
            logprobs,
            ..self.about(&under_way.cell)
        };
        result.verdicts = verdicts(&self.plan, &result);
        result
    }
}
