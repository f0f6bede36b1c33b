//! Room `compare`: the page of a report: what its template shows.

use std::collections::HashMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;
use serde_json::{Map, Value};

use super::pictures::{Album, Small};
use super::words::{count, counted, told, utc};
use super::{cells, counts, selection};
use crate::chat::template::jinja;
use crate::compare::journal::Ran;
use crate::compare::judge::Rating;
use crate::compare::plan::{Plan, Target};
use crate::compare::result::CellResult;
use crate::compare::summary::Summary;
use crate::error::{Error, Result};

/// By its ending the template's values are escaped.
const NAME: &str = "report.html";
const TEMPLATE: &str = include_str!("../../../assets/comparisons/report.html");
/// Bytes of the comparison that are shown.
const MAX_SOURCE_BYTES: usize = 64 << 10;
/// Columns next to each other on a page, and on a wide screen.
const MOST_ABREAST: [usize; 2] = [4, 6];

/// Names of settings and their values.
type Settings = Vec<(String, String)>;

#[derive(Debug, Serialize)]
struct Page {
    title: String,
    size: String,
    ran: Vec<String>,
    version: &'static str,
    columns: Vec<ColumnView>,
    shared: Settings,
    /// Where one answers for all columns.
    by: String,
    heads: Vec<(&'static str, &'static str)>,
    counts: Vec<counts::Counts>,
    passed: Option<String>,
    failed: usize,
    savings: Option<String>,
    ratings: Option<counts::Ratings>,
    left_out: Option<String>,
    failing_rows: usize,
    differing_rows: usize,
    abreast: [usize; 2],
    rows: Vec<cells::Row>,
    pictures: Vec<Small>,
    source: String,
}

/// What a column is about.
#[derive(Debug, Serialize)]
struct ColumnView {
    /// From 1.
    number: usize,
    name: String,
    by: String,
    /// Its settings that others have otherwise.
    own: Settings,
}

/// The page.
pub(super) fn render(
    plan: &Plan,
    results: &[CellResult],
    ratings: &HashMap<String, Rating>,
    runs: &[Ran],
) -> Result<String> {
    let names: Vec<String> = plan.columns.iter().map(|column| column.name.clone()).collect();
    let summary = Summary::new(&names, results, ratings);
    let mut groups = selection::groups(plan, results);
    let of = |kind| groups.iter().filter(|group| group.interest() == kind).count();
    let (failing_rows, differing_rows) =
        (of(selection::Interest::Failing), of(selection::Interest::Differing));
    let left_out = selection::keep_most_interesting(&mut groups);
    let mut album = Album::new(&plan.pictures);
    let rows = groups.iter().map(|group| cells::row(plan, group, ratings, &mut album)).collect();
    let (mut columns, shared) = settings(plan, results)?;
    let by = match columns.first() {
        Some(first) if columns.iter().all(|column| column.by == first.by) => first.by.clone(),
        _ => String::new(),
    };
    if !by.is_empty() {
        for column in &mut columns {
            column.by.clear();
        }
    }
    let (heads, counts) = counts::columns(&summary);
    let page = Page {
        title: match plan.comparison.title.trim() {
            "" => "A comparison".to_owned(),
            title => title.to_owned(),
        },
        size: size(plan, results.len()),
        ran: runs_in_words(runs),
        version: env!("CARGO_PKG_VERSION"),
        columns,
        shared,
        by,
        heads,
        counts,
        passed: (summary.passed.of > 0).then(|| {
            format!(
                "All that is asserted holds of {} of {}.",
                count(summary.passed.yes),
                counted(summary.passed.of, "answer")
            )
        }),
        failed: summary.failed,
        savings: counts::savings(&summary),
        ratings: counts::ratings(&summary),
        left_out,
        failing_rows,
        differing_rows,
        abreast: MOST_ABREAST.map(|most| plan.columns.len().div_ceil(plan.columns.len().div_ceil(most))),
        rows,
        pictures: album.all,
        source: source(plan)?,
    };
    let fail =
        |e: minijinja::Error| Error::new("writing the report", format!("{e:#}")).help("please report this");
    let page = serde_json::to_value(page).map_err(|e| Error::new("writing the report", e))?;
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(fail)?;
    environment.set_syntax(syntax);
    environment.add_template(NAME, TEMPLATE).map_err(fail)?;
    environment.get_template(NAME).and_then(|template| template.render(jinja(page))).map_err(fail)
}

fn size(plan: &Plan, done: usize) -> String {
    let mut words = format!("{} of {}", counted(plan.columns.len(), "column"), counted(plan.rows(), "row"));
    if plan.repeats() > 1 {
        words += &format!(", each {} times", count(plan.repeats()));
    }
    match plan.len().saturating_sub(done) {
        0 => format!("{words}: {}", counted(plan.len(), "cell")),
        missing => {
            format!(
                "{words}: {} of {}; {} did not run",
                count(done),
                counted(plan.len(), "cell"),
                count(missing)
            )
        }
    }
}

/// Where and when cells ran, each device once with the first time.
fn runs_in_words(runs: &[Ran]) -> Vec<String> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for Ran { begin, at } in runs {
        let driver = if begin.driver.is_empty() { String::new() } else { format!(" ({})", begin.driver) };
        let place = format!("{}{driver}, Ocelli {}", begin.adapter, begin.ocelli);
        let time: Vec<String> = at.map(utc).into_iter().collect();
        match all.iter_mut().find(|(known, _)| *known == place) {
            Some((_, times)) => times.extend(time),
            None => all.push((place, time)),
        }
    }
    let words = |(place, times): (String, Vec<String>)| match times.as_slice() {
        [] => place,
        [one] => format!("{place}, {one}"),
        [first, .., last] => format!("{place}, {} runs from {first} to {last}", times.len()),
    };
    all.into_iter().map(words).collect()
}

/// Settings by column where they differ, and those that all columns share.
fn settings(plan: &Plan, results: &[CellResult]) -> Result<(Vec<ColumnView>, Settings)> {
    let fields = |column: &crate::compare::plan::Column| match serde_json::to_value(&column.fields) {
        Ok(Value::Object(table)) => Ok(table),
        Ok(_) => Ok(Map::new()),
        Err(e) => Err(Error::new("writing the report", e)),
    };
    let all: Vec<Map<String, Value>> = plan.columns.iter().map(fields).collect::<Result<_>>()?;
    let is_shared = |name: &String, value: &Value| {
        all.len() > 1 && all.iter().all(|table| table.get(name) == Some(value))
    };
    let list = |table: &Map<String, Value>, wants_shared: bool| -> Settings {
        let wanted = table.iter().filter(|(name, value)| is_shared(name, value) == wants_shared);
        wanted.map(|(name, value)| (name.clone(), told(value))).collect()
    };
    let mut answered_by: HashMap<&str, &str> = HashMap::new();
    for result in results.iter().filter(|result| !result.answered_by.is_empty()) {
        answered_by.entry(&result.column).or_insert(&result.answered_by);
    }
    let columns = plan.columns.iter().zip(&all).enumerate().map(|(n, (column, table))| ColumnView {
        number: n + 1,
        name: column.name.clone(),
        by: match (answered_by.get(column.name.as_str()), &column.target) {
            (Some(by), _) => (*by).to_owned(),
            (None, Target::Server(url, model)) => format!("{model} at {url}"),
            (None, Target::Model(model, _)) => model.clone().unwrap_or_default(),
        },
        own: list(table, false),
    });
    let shared = all.first().map_or_else(Vec::new, |table| list(table, true));
    Ok((columns.collect(), shared))
}

/// The comparison as a file has it.
fn source(plan: &Plan) -> Result<String> {
    let text = plan.comparison.print()?;
    let end = text.floor_char_boundary(MAX_SOURCE_BYTES);
    Ok(if end < text.len() {
        format!("{}\n… and {} more", &text[..end], counted(text.len() - end, "byte"))
    } else {
        text
    })
}
