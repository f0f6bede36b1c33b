//! Room `compare`: results for people and for other programs: a report to read in a browser, a table for spreadsheets. Pure
//! functions of a plan, its results and ratings; of the disk only pictures are read.
#![expect(clippy::implicit_hasher, reason = "ratings are kept in one kind of map")]

mod cells;
mod counts;
mod page;
mod pictures;
mod selection;
mod table;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;

use super::journal::Ran;
use super::judge::Rating;
use super::plan::Plan;
use super::result::CellResult;
use crate::error::Result;

/// A table of results without ratings: [`csv_rated`].
///
/// # Errors
/// Memory is short.
pub fn csv(results: &[CellResult]) -> Result<String> {
    csv_rated(results, &HashMap::new())
}

/// A table of results, a line for each cell, for spreadsheets: CSV in UTF-8 with a byte order mark and lines that end as
/// RFC 4180 has it. Rows and repeats count from 1. A text that a spreadsheet would run as a formula (it begins with `=`, `+`, `-` or
/// `@`, and is no number) has an apostrophe before it; whoever reads the table with a program takes that away, or reads the file of
/// results instead.
///
/// # Errors
/// Memory is short.
pub fn csv_rated(results: &[CellResult], ratings: &HashMap<String, Rating>) -> Result<String> {
    table::table(results, ratings)
}

/// A report that does not say where its cells ran: [`html_of_runs`].
///
/// # Errors
/// As [`html_of_runs`].
pub fn html(plan: &Plan, results: &[CellResult], ratings: &HashMap<String, Rating>) -> Result<String> {
    html_of_runs(plan, results, ratings, &[])
}

/// A report to read in a browser: one file with everything inside, that fetches nothing and runs no script. However many cells there
/// are, it stays of a size that a browser opens: rows that failed or differ come first then, and it says what it leaves out. A picture
/// that cannot be read is named and not shown.
///
/// # Errors
/// The comparison cannot be printed.
pub fn html_of_runs(
    plan: &Plan,
    results: &[CellResult],
    ratings: &HashMap<String, Rating>,
    runs: &[Ran],
) -> Result<String> {
    page::render(plan, results, ratings, runs)
}
