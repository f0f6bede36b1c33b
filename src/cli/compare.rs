//! `ocelli compare`: runs a comparison without a window: prompts, settings, pictures and models next to each other. Results go
//! to a file line by line, as they come; an assertion that fails makes the exit status 1.

mod words;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use self::words::{check_cells, cost_words, questions, savings_words, size_words, table, verdict};
use super::convert::ProgressLine;
use super::elsewhere::keys;
use super::generate::load;
use super::{ModelArgs, models, print, say, waker};
use crate::compare::report::{csv_rated, html_of_runs};
use crate::compare::{
    Asker, Begin, CellResult, Comparison, Cost, Journal, Kept, Line, Plan, Ran, Run, Summary, Target, samples,
};
use crate::engine::{Answer, Engine, ModelInfo, Request, Wake};
use crate::error::{Error, Result};
use crate::remote::{Ask, Choosing, Keys, Limits, Server, ask};

const DOING: &str = "running the comparison";

/// Test prompts, settings, pictures and models next to each other
///
/// FILE is a comparison in TOML (docs/guide/comparisons.md shows the form), or example for the one in this program. Cells of one model decode in
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
        print(&questions(&plan)?)?;
        return check_cells(&plan);
    }
    check_places(args)?;
    let (mut journal, mut kept) = match &args.out {
        Some(path) => {
            let (journal, kept) = Journal::open(path)?;
            (Some(journal), kept)
        }
        None => (None, Kept::default()),
    };
    let mut results = kept.take_answered(&plan);
    let run = Run::new(Arc::clone(&plan), &results);
    if run.progress().done > 0 {
        say(&format!("{} of {} cells are there already", run.progress().done, run.progress().total));
    }
    if !run.is_over() {
        let driver = Driver::new(args, &plan, journal.as_mut())?;
        kept.runs.push(driver.ran.clone());
        let new = driver.drive(run)?;
        results.extend(new.into_iter().filter_map(|result| Some((result.number(&plan)?, result))));
    }
    let all: Vec<CellResult> = (0..plan.len()).filter_map(|number| results.remove(&number)).collect();
    let names: Vec<String> = plan.columns.iter().map(|column| column.name.clone()).collect();
    let summary = Summary::new(&names, &all, &kept.ratings);
    if let Some(path) = &args.csv {
        write(path, &csv_rated(&all, &kept.ratings)?)?;
    }
    if let Some(path) = &args.html {
        write(path, &html_of_runs(&plan, &all, &kept.ratings, &kept.runs)?)?;
    }
    print(&table(&summary))?;
    say(&savings_words(&summary));
    verdict(&all)
}

/// Can results and reports go where they are to go? An older file is not lost to a slip.
fn check_places(args: &CompareArgs) -> Result<()> {
    let places = [("--out", &args.out), ("--html", &args.html), ("--csv", &args.csv)];
    let places: Vec<(&str, &PathBuf)> =
        places.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?))).collect();
    for (n, (flag, path)) in places.iter().enumerate() {
        super::batch::check_out(path, &args.file).map_err(|e| e.at(flag))?;
        let place = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if let Some((other, _)) = places[..n].iter().find(|(_, other)| place(other) == place(path)) {
            return Err(Error::new(DOING, format!("{other} and {flag} name the same file"))
                .at_path(path)
                .help("give each a file of its own"));
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| Error::new("writing the report", e).at_path(path))?;
    say(&format!("written: {}", path.display()));
    Ok(())
}

/// Asks the engine and servers, and keeps what comes.
struct Driver<'a> {
    args: &'a CompareArgs,
    journal: Option<&'a mut Journal>,
    engine: Engine,
    servers: HashMap<String, (Server, Keys)>,
    wake: Wake,
    woken: Receiver<()>,
    /// What is written of the run.
    ran: Ran,
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
        let gpu = args.model.device()?;
        let (wake, woken) = waker();
        let summary = gpu.summary();
        let begin = Begin::new(plan, summary.name.clone(), summary.driver.clone())?;
        let engine = Engine::start(gpu.clone(), Arc::clone(&wake))?;
        let servers = HashMap::new();
        Ok(Self { args, journal, engine, servers, wake, woken, ran: Ran::now(begin) })
    }

    fn drive(mut self, mut run: Run) -> Result<Vec<CellResult>> {
        self.keep(&Line::Begin(self.ran.begin.clone()))?;
        let (began, before) = (Instant::now(), run.progress().done);
        let mut line = ProgressLine::new("comparing");
        let mut results = Vec::new();
        while !run.is_over() {
            if let Some(target) = run.wants_model().cloned() {
                line.end();
                match self.load(&target) {
                    Ok(info) => {
                        if results.is_empty() {
                            let cost = Cost::of(run.plan(), &info.preprocessors.image);
                            say(&cost_words(&cost));
                        }
                        run.model_ready(info);
                    }
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
