//! `ocelli compare`: runs a comparison without a window: prompts, settings, pictures and models next to each other. Results go
//! to a file line by line, as they come; an assertion that fails makes the exit status 1.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::convert::ProgressLine;
use super::elsewhere::keys;
use super::generate::load;
use super::{ModelArgs, models, print, say};
use crate::compare::{
    Asker, Begin, CellResult, Comparison, Journal, Kept, Line, Plan, Run, Summary, Target, samples,
};
use crate::engine::{Answer, Engine, ModelInfo, Request, Wake};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::calibration;
use crate::remote::{Ask, Choosing, Keys, Limits, Server, ask};

const DOING: &str = "running the comparison";

/// Test prompts, settings, pictures and models next to each other
///
/// FILE is a comparison in TOML (README.md shows the form), or example for the one in this program. Cells of one model decode in
/// one batch and share what their prompts have in common. With --out, a run that was broken off goes on where it was. The exit
/// status is 1 if an assertion fails or a cell has no answer.
#[derive(clap::Args, Debug)]
pub struct CompareArgs {
    /// The comparison: a file in TOML, or example
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Keep results here, a line of JSON for each cell; what is there already is not run again
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Write a report to read in a browser, with its pictures inside
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Write a table of results for spreadsheets
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,

    /// Say what would run, and run nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Model and device; columns that name a model have their own
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Runs it.
///
/// # Errors
/// The comparison cannot be run, or an assertion failed, or a cell has no answer.
pub fn run(args: &CompareArgs) -> Result<()> {
    let (comparison, base) = if args.file.as_os_str() == "example" {
        (Comparison::parse(samples::EXAMPLE)?, PathBuf::new())
    } else {
        let base = args.file.parent().map(Path::to_owned).unwrap_or_default();
        (Comparison::read(&args.file)?, base)
    };
    let plan = Arc::new(Plan::new(comparison, &base)?);
    say(&size_words(&plan));
    if args.dry_run {
        return dry_run(&plan);
    }
    for (flag, path) in [("--html", &args.html), ("--csv", &args.csv), ("--out", &args.out)] {
        if let Some(path) = path {
            super::batch::check_out(path, &args.file).map_err(|e| e.at(flag))?;
        }
    }
    let (mut journal, kept) = match &args.out {
        Some(path) => {
            let (journal, kept) = Journal::open(path)?;
            (Some(journal), kept)
        }
        None => (None, Kept::default()),
    };
    let done: HashSet<String> = kept.cells.keys().cloned().collect();
    let run = Run::new(Arc::clone(&plan), &done);
    if run.progress().done > 0 {
        say(&format!("{} of {} cells are there already", run.progress().done, run.progress().total));
    }
    let results =
        if run.is_over() { Vec::new() } else { Driver::new(args, &plan, journal.as_mut())?.drive(run)? };
    let all = in_order(&plan, kept.cells, results);
    let names: Vec<String> = plan.columns.iter().map(|column| column.name.clone()).collect();
    let summary = Summary::new(&names, &all, &kept.ratings);
    if let Some(path) = &args.csv {
        write(path, &crate::compare::report::csv(&all)?)?;
    }
    if let Some(path) = &args.html {
        write(path, &crate::compare::report::html(&plan, &all, &kept.ratings)?)?;
    }
    print(&table(&summary))?;
    say(&savings_words(&summary));
    verdict(&all)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| Error::new("writing the report", e).at_path(path))?;
    say(&format!("written: {}", path.display()));
    Ok(())
}

/// How large it is, in words.
fn size_words(plan: &Plan) -> String {
    let (columns, rows, repeats) = (plan.columns.len(), plan.rows(), plan.repeats());
    let repeats = if repeats > 1 { format!(" × {repeats} repeats") } else { String::new() };
    format!("{} cells: {columns} columns × {rows} rows{repeats}", plan.len())
}

/// Says what each column of the first row would ask.
fn dry_run(plan: &Plan) -> Result<()> {
    let mut text = String::new();
    for number in 0..plan.columns.len() {
        let column = &plan.columns[number];
        let cell = plan.cell(number)?;
        let by = match &column.target {
            Target::Model(None, None) => "the model of --model".to_owned(),
            Target::Model(model, recipe) => {
                format!(
                    "{} {}",
                    model.as_deref().unwrap_or("the model of --model"),
                    recipe.unwrap_or_default()
                )
            }
            Target::Server(url, model) => format!("{model} at {url}"),
        };
        text += &format!("{}: {by}\n", column.name);
        let said = cell.fields.said();
        text += &format!("  its fields: {}\n", said.join(", "));
        text +=
            &format!("  prompt of the first row: {}\n", cell.fields.prompt.as_deref().unwrap_or_default());
    }
    print(&text)
}

/// Those of the plan, in its order; of what the file of results has besides, nothing is told.
fn in_order(plan: &Plan, mut kept: HashMap<String, CellResult>, new: Vec<CellResult>) -> Vec<CellResult> {
    let mut new: HashMap<(usize, usize, String), CellResult> =
        new.into_iter().map(|r| ((r.row, r.repeat, r.column.clone()), r)).collect();
    let result = |number: usize| {
        let place = plan.place(number);
        let at = (place.row, place.repeat, plan.columns[place.column].name.clone());
        new.remove(&at).or_else(|| {
            let mut result = kept.remove(&plan.cell(number).ok()?.key)?;
            result.stand_at(place);
            Some(result)
        })
    };
    (0..plan.len()).filter_map(result).collect()
}

/// Asks the engine and servers, and keeps what comes.
struct Driver<'a> {
    args: &'a CompareArgs,
    journal: Option<&'a mut Journal>,
    engine: Engine,
    servers: HashMap<String, (Server, Keys)>,
    wake: Wake,
    woken: Receiver<()>,
    /// The gpu's name and driver, for the file of results.
    device: (String, String),
    comparison: String,
    title: String,
}

impl Asker for Driver<'_> {
    fn ask(&mut self, request: Request) -> Answer {
        self.engine.ask(request)
    }

    fn ask_server(
        &mut self,
        base_url: &str,
        model: &str,
        request: Request,
        choosing: Choosing,
    ) -> Result<Answer> {
        if !self.servers.contains_key(base_url) {
            let mut server = Server::new("", base_url)?;
            let keys = keys(&mut server)?;
            if server.is_readable_on_the_way() {
                say(&format!(
                    "{base_url}: without https, anyone on the way can read the question and the key"
                ));
            }
            self.servers.insert(base_url.to_owned(), (server, keys));
        }
        let Some((server, keys)) = self.servers.get(base_url).cloned() else {
            return Err(Error::new(DOING, "there is no such server").at(base_url));
        };
        let model = model.to_owned();
        Ok(ask(
            Ask { server, model, request, choosing, keys, limits: Limits::default() },
            Arc::clone(&self.wake),
        ))
    }
}

impl<'a> Driver<'a> {
    fn new(args: &'a CompareArgs, plan: &Plan, journal: Option<&'a mut Journal>) -> Result<Self> {
        let gpu = Gpu::new(&args.model.gpu_options())?;
        calibration::apply_remembered(&gpu);
        // One token in it is enough: after it every answer is looked at.
        let (sender, woken) = mpsc::sync_channel(1);
        let wake: Wake = Arc::new(move || {
            let _ = sender.try_send(());
        });
        let summary = gpu.summary();
        let device = (summary.name.clone(), summary.driver.clone());
        let engine = Engine::start(gpu.clone(), Arc::clone(&wake))?;
        let servers = HashMap::new();
        let (comparison, title) = (plan.comparison.print()?, plan.comparison.title.clone());
        Ok(Self { args, journal, engine, servers, wake, woken, device, comparison, title })
    }

    fn drive(mut self, mut run: Run) -> Result<Vec<CellResult>> {
        let begin = Begin {
            ocelli: env!("CARGO_PKG_VERSION").to_owned(),
            title: self.title.clone(),
            comparison: self.comparison.clone(),
            adapter: self.device.0.clone(),
            driver: self.device.1.clone(),
            cells: run.progress().total,
        };
        self.keep(&Line::Begin(begin))?;
        let (began, before) = (Instant::now(), run.progress().done);
        let mut line = ProgressLine::new("comparing");
        let mut results = Vec::new();
        while !run.is_over() {
            if let Some(target) = run.wants_model().cloned() {
                line.end();
                match self.load(&target) {
                    Ok(info) => run.model_ready(info),
                    Err(error) => {
                        say(&error.to_string());
                        let failed = run.model_failed(&error);
                        self.take(failed, &mut results)?;
                    }
                }
            }
            let finished = run.poll(&mut self)?;
            let any = !finished.is_empty();
            self.take(finished, &mut results)?;
            let progress = run.progress();
            let secs = began.elapsed().as_secs_f64();
            let rate = (progress.done - before) as f64 / secs.max(1e-9);
            let left = (progress.total - progress.done) as f64 / rate.max(1e-9);
            let mut text = format!("{} of {} cells", progress.done, progress.total);
            if progress.done > before && secs > 5.0 {
                text += &format!(", about {left:.0} s left");
            }
            line.show_text(progress.done as u64 * 10 / progress.total.max(1) as u64, &text);
            if !any && !run.is_over() {
                // Not for ever: if the engine's thread is gone its answers are, and nobody wakes us.
                let _ = self.woken.recv_timeout(Duration::from_secs(1));
            }
        }
        line.end();
        let secs = began.elapsed().as_secs_f64();
        let tokens: usize = results.iter().filter_map(|r| r.figures.new_tokens).sum();
        say(&format!(
            "{} cells in {secs:.1} s: {tokens} tokens, {:.1} a second in all",
            results.len(),
            tokens as f64 / secs.max(1e-9)
        ));
        Ok(results)
    }

    /// A column's model: a name or a folder as `--model` takes it, seen from the comparison's folder first.
    fn load(&self, target: &Target) -> Result<ModelInfo> {
        let mut args = self.args.model.clone();
        if let Target::Model(Some(model), _) = target {
            let beside = self.args.file.parent().map(|base| base.join(model)).filter(|path| path.exists());
            args.model = Some(match beside {
                Some(path) => path,
                None => models::library()?.resolve(Path::new(model))?,
            });
        }
        args.recipe = target.recipe().or(args.recipe);
        load(&self.engine, &args)
    }

    fn take(&mut self, finished: Vec<CellResult>, results: &mut Vec<CellResult>) -> Result<()> {
        for result in finished {
            self.keep(&Line::Cell(Box::new(result.clone())))?;
            results.push(result);
        }
        Ok(())
    }

    fn keep(&mut self, line: &Line) -> Result<()> {
        self.journal.as_mut().map_or(Ok(()), |journal| journal.add(line))
    }
}

/// The columns' figures, as a table.
fn table(summary: &Summary) -> String {
    let number =
        |value: Option<f64>, digits: usize| value.map_or("–".to_owned(), |v| format!("{v:.digits$}"));
    let head = [
        "column",
        "cells",
        "passed",
        "tokens",
        "first ms",
        "vision ms",
        "prefill/s",
        "decode/s",
        "logprob",
        "perplexity",
    ];
    let mut rows: Vec<Vec<String>> = vec![head.map(str::to_owned).to_vec()];
    for c in &summary.columns {
        let passed =
            if c.passed.of == 0 { "–".to_owned() } else { format!("{}/{}", c.passed.yes, c.passed.of) };
        let cells = if c.failed == 0 {
            c.answered.to_string()
        } else {
            format!("{} +{} failed", c.answered, c.failed)
        };
        rows.push(vec![
            c.name.clone(),
            cells,
            passed,
            number(c.tokens.map(|m| m.value), 1),
            number(c.ttft_ms, 0),
            number(c.vision_ms, 0),
            number(c.prefill_tok_s, 1),
            number(c.decode_tok_s, 1),
            number(c.mean_logprob.map(|m| m.value), 3),
            number(c.perplexity, 3),
        ]);
    }
    let widths: Vec<usize> =
        (0..head.len()).map(|n| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(n, (text, &width))| {
            if n == 0 { format!("{text:width$}") } else { format!("{text:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn savings_words(summary: &Summary) -> String {
    let s = &summary.savings;
    format!(
        "shared: {} of {} prompt tokens, {} of {} pictures; about {:.1} s saved",
        s.reused_tokens, s.prompt_tokens, s.shared_pictures, s.pictures, s.saved_secs
    )
}

/// The first of what went wrong, as the command's error.
fn verdict(results: &[CellResult]) -> Result<()> {
    let failed = results.iter().filter(|result| result.error.is_some()).count();
    let wrong = results.iter().filter(|result| result.error.is_none() && !result.passed()).count();
    let Some(first) = results.iter().find(|result| !result.passed()) else { return Ok(()) };
    let place = format!("row {} of column {}", first.row + 1, first.column);
    let why = match &first.error {
        Some(error) => error.clone(),
        None => {
            let checked = first.verdicts.iter().find(|checked| !checked.verdict.passed);
            checked.map_or(String::new(), |checked| format!("{}: {}", checked.what, checked.verdict.why))
        }
    };
    let mut counts = Vec::new();
    if wrong > 0 {
        counts.push(format!("{wrong} of {} answers do not hold what is asserted", results.len()));
    }
    if failed > 0 {
        counts.push(format!("{failed} cells have no answer"));
    }
    Err(Error::new(DOING, format!("{}; the first: {place}: {why}", counts.join(", "))))
}
