//! Room `compare`: the summary of a report: each column in numbers, ratings, and what cells shared.

use serde::Serialize;

use super::words::{count, counted, number, p_value, percent, percents, share, time};
use crate::compare::judge::statistics::{Interval, Mean, Proportion, Record};
use crate::compare::summary::{ColumnSummary, Summary};

/// Pairs of columns whose ratings are told, at most.
const MAX_PAIRS: usize = 45;

/// A column in numbers.
#[derive(Debug, Serialize)]
pub(super) struct Counts {
    /// From 1.
    column: usize,
    name: String,
    cells: String,
    failed: usize,
    passed: Option<Passed>,
    /// The other numbers, in order of their heads; empty: not known.
    numbers: Vec<String>,
}

/// How many passed, in words, and as a bar from 0 to 100.
#[derive(Debug, Serialize)]
struct Passed {
    words: String,
    sure: String,
    rate: f64,
    low: f64,
    high: f64,
}

/// What the numbers of a column are, and in more words.
const HEADS: [(&str, &str); 7] = [
    ("Tokens", "Mean tokens of an answer"),
    ("First token", "Median time from the question to the first token, waiting for its turn included"),
    ("Vision", "Median time in the vision tower, of cells that encoded a picture"),
    ("Prefill", "Median prompt tokens computed a second"),
    ("Decode", "Median tokens decoded a second, as a cell saw it beside the others of its steps"),
    ("Log-probability", "Mean natural log-probability of an answer's tokens, with its 95 % interval"),
    ("Perplexity", "Of the references, each token counted once"),
];

/// Ratings of one column.
#[derive(Debug, Serialize)]
pub(super) struct Rated {
    column: usize,
    name: String,
    stars: String,
    record: String,
    rate: String,
    /// How often it alone was the best of its row.
    first: String,
    p: String,
}

/// How one column fared against another.
#[derive(Debug, Serialize)]
pub(super) struct Pair {
    columns: [usize; 2],
    names: [String; 2],
    record: String,
    rate: String,
    p: String,
}

/// What people thought.
#[derive(Debug, Serialize)]
pub(super) struct Ratings {
    columns: Vec<Rated>,
    pairs: Vec<Pair>,
    more_pairs: usize,
    agreement: Option<String>,
}

/// Columns in numbers, and what the numbers are; what is known of no column is left out.
pub(super) fn columns(summary: &Summary) -> (Vec<(&'static str, &'static str)>, Vec<Counts>) {
    let mut all: Vec<Counts> =
        summary.columns.iter().enumerate().map(|(n, column)| counts(n, column)).collect();
    let known: Vec<usize> =
        (0..HEADS.len()).filter(|&at| all.iter().any(|column| !column.numbers[at].is_empty())).collect();
    for column in &mut all {
        column.numbers = known.iter().map(|&at| std::mem::take(&mut column.numbers[at])).collect();
    }
    (known.iter().map(|&at| HEADS[at]).collect(), all)
}

fn counts(n: usize, c: &ColumnSummary) -> Counts {
    let or_nothing = Option::unwrap_or_default;
    let a_second =
        |rate: Option<f64>, digits| or_nothing(rate.map(|rate| format!("{}/s", number(rate, digits))));
    Counts {
        column: n + 1,
        name: c.name.clone(),
        cells: count(c.answered),
        failed: c.failed,
        passed: passed(c.passed),
        numbers: vec![
            or_nothing(c.tokens.map(|mean| number(mean.value, 1))),
            or_nothing(c.ttft_ms.map(time)),
            or_nothing(c.vision_ms.map(time)),
            a_second(c.prefill_tok_s, 0),
            a_second(c.decode_tok_s, 1),
            or_nothing(c.mean_logprob.map(|mean| with_interval(mean, 3))),
            or_nothing(c.perplexity.map(|value| number(value, 3))),
        ],
    }
}

fn passed(of: Proportion) -> Option<Passed> {
    let (rate, Interval { low, high }) = (of.rate()?, of.interval()?);
    let hundredths = |share: f64| (share * 1000.0).round_ties_even() / 10.0;
    Some(Passed {
        words: format!("{} of {}, {}", count(of.yes), count(of.of), percent(rate)),
        sure: percents(Interval { low, high }),
        rate: hundredths(rate),
        low: hundredths(low),
        high: hundredths(high),
    })
}

fn with_interval(mean: Mean, digits: usize) -> String {
    let value = number(mean.value, digits);
    match mean.interval() {
        Some(interval) => format!("{value} ± {}", number((interval.high - interval.low) / 2.0, digits)),
        None => value,
    }
}

fn record(record: Record) -> String {
    format!("{}–{}–{}", record.wins, record.ties, record.losses)
}

/// What people thought; `None`: nobody rated anything.
pub(super) fn ratings(summary: &Summary) -> Option<Ratings> {
    let compared = |record: Record| record.wins + record.ties + record.losses > 0;
    let rated = |c: &ColumnSummary| c.stars.is_some() || compared(c.record);
    if !summary.columns.iter().any(rated) && summary.agreement.same.of == 0 {
        return None;
    }
    let columns = &summary.columns;
    let column = |(n, c): (usize, &ColumnSummary)| Rated {
        column: n + 1,
        name: c.name.clone(),
        stars: c.stars.map_or(String::new(), |mean| {
            format!("{}, {}", with_interval(mean, 2), counted(mean.count, "rating"))
        }),
        record: if compared(c.record) { record(c.record) } else { String::new() },
        rate: share(c.record.win_rate()).unwrap_or_default(),
        first: share(summary.wins.firsts(n)).unwrap_or_default(),
        p: if c.record.win_rate().of > 0 { p_value(c.record.p_value()) } else { String::new() },
    };
    let pairs = (0..columns.len()).flat_map(|a| (a + 1..columns.len()).map(move |b| (a, b)));
    let mut pairs: Vec<Pair> = pairs
        .map(|(a, b)| (a, b, summary.wins.between(a, b)))
        .filter(|(_, _, between)| compared(*between))
        .map(|(a, b, between)| Pair {
            columns: [a + 1, b + 1],
            names: [columns[a].name.clone(), columns[b].name.clone()],
            record: record(between),
            rate: share(between.win_rate()).unwrap_or_default(),
            p: p_value(between.p_value()),
        })
        .collect();
    let more_pairs = pairs.len().saturating_sub(MAX_PAIRS);
    pairs.truncate(MAX_PAIRS);
    let same = summary.agreement.same;
    let agreement = (same.of > 0).then(|| {
        let kappa =
            summary.agreement.kappa.map_or(String::new(), |k| format!(", Cohen’s kappa {}", number(k, 2)));
        format!(
            "Ratings and assertions say the same of {} of {}{kappa}.",
            count(same.yes),
            counted(same.of, "answer")
        )
    });
    // With two columns the pair says what the columns do.
    if columns.len() < 3 {
        pairs.clear();
    }
    Some(Ratings { columns: columns.iter().enumerate().map(column).collect(), pairs, more_pairs, agreement })
}

/// What cells shared, in words; `None`: nothing is known of it.
pub(super) fn savings(summary: &Summary) -> Option<String> {
    let s = &summary.savings;
    if s.prompt_tokens == 0 {
        return None;
    }
    let mut words = format!(
        "{} of {} were taken from the cache, where another cell had put them",
        count(s.reused_tokens),
        counted(s.prompt_tokens, "prompt token")
    );
    if s.pictures > 0 {
        words += &format!(
            "; {} of {} needed no pass through the vision tower, because the same picture had gone through it at the same size",
            count(s.shared_pictures),
            counted(s.pictures, "picture")
        );
    }
    Some(format!("{words}. At the rates of this run that saved about {} s.", number(s.saved_secs, 1)))
}
