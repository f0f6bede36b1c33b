//! What `ocelli compare` says: what would run, the columns' figures, what went wrong.

use super::DOING;
use crate::compare::{CellResult, Comparison, Cost, Fields, Plan, Summary, Target};
use crate::error::{Error, Result};

/// How large it is, in words.
pub(super) fn size_words(plan: &Plan) -> String {
    let (columns, rows, repeats) = (plan.columns.len(), plan.rows(), plan.repeats());
    let repeats = if repeats > 1 { format!(" × {repeats} repeats") } else { String::new() };
    format!("{} cells: {columns} columns × {rows} rows{repeats}", plan.len())
}

/// What it will cost, in words.
pub(super) fn cost_words(cost: &Cost) -> String {
    format!(
        "about {} tokens of prompts if nothing were shared, {} of them of pictures; at most {} new ones",
        cost.prompt_tokens, cost.image_tokens, cost.new_tokens
    )
}

/// What each column asks in the first row, as it would stand in a file, values filled in.
///
/// # Errors
/// The first row cannot be asked.
pub(super) fn questions(plan: &Plan) -> Result<String> {
    let mut text = String::new();
    for (name, values) in &plan.comparison.variables {
        text += &format!("{name}: {}\n", values_words(values.iter().map(ToString::to_string)));
    }
    for (number, column) in plan.columns.iter().enumerate() {
        let cell = plan.cell(number)?;
        let model =
            |model: &Option<String>| model.clone().unwrap_or_else(|| "the model of --model".to_owned());
        let by = match &column.target {
            Target::Model(name, None) => model(name),
            Target::Model(name, Some(recipe)) => format!("{} in {recipe}", model(name)),
            Target::Server(url, model) => format!("{model} at {url}"),
        };
        text += &format!("\n{}: asks {by}\n", column.name);
        // Who answers is said; a seed where nothing is drawn says nothing.
        let drawn = cell.fields.temperature != Some(0.0);
        let fields = Fields {
            model: None,
            recipe: None,
            server: None,
            server_model: None,
            seed: cell.fields.seed.filter(|_| drawn),
            ..cell.fields
        };
        let column = Comparison { columns: vec![fields], ..Comparison::default() }.print()?;
        let lines = column.lines().filter(|line| *line != "[[columns]]" && !line.is_empty());
        for line in lines {
            text += &format!("  {line}\n");
        }
    }
    Ok(text.trim_start().to_owned())
}

/// The first values, and how many there are.
fn values_words(values: impl ExactSizeIterator<Item = String>) -> String {
    const SHOWN: usize = 8;
    let count = values.len();
    let shown: Vec<String> = values.take(SHOWN).collect();
    if count > SHOWN { format!("{}, … ({count} values)", shown.join(", ")) } else { shown.join(", ") }
}

/// Can every cell be asked, as far as can be seen without asking?
///
/// # Errors
/// Some cannot; how many, and the first.
pub(super) fn check_cells(plan: &Plan) -> Result<()> {
    let errors = (0..plan.len()).filter_map(|number| plan.cell(number).err());
    let (count, first) =
        errors.fold((0_usize, None), |(count, first), error| (count + 1, first.or(Some(error))));
    match first {
        Some(first) => Err(Error::new(
            DOING,
            format!("{count} of {} cells cannot be asked; the first: {first}", plan.len()),
        )),
        None => Ok(()),
    }
}

/// The columns' figures, as a table.
pub(super) fn table(summary: &Summary) -> String {
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

/// What cells shared.
pub(super) fn savings_words(summary: &Summary) -> String {
    let s = &summary.savings;
    format!(
        "shared: {} of {} prompt tokens, {} of {} pictures; about {:.1} s saved",
        s.reused_tokens, s.prompt_tokens, s.shared_pictures, s.pictures, s.saved_secs
    )
}

/// The first of what went wrong, as the command's error.
pub(super) fn verdict(results: &[CellResult]) -> Result<()> {
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
