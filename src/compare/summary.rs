//! Room `compare`: results in numbers: of each column, and of what cells shared.

use std::collections::HashMap;

use serde::Serialize;

use super::judge::Rating;
use super::judge::statistics::{Agreement, Mean, Proportion, Record, Wins};
use super::result::CellResult;

/// A column's results in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct ColumnSummary {
    /// Its name.
    pub name: String,
    /// Cells with an answer.
    pub answered: usize,
    /// Cells without one.
    pub failed: usize,
    /// Of the cells of which something was asserted, those of which all held.
    pub passed: Proportion,
    /// Tokens of an answer.
    pub tokens: Option<Mean>,
    /// Median milliseconds to the first token.
    pub ttft_ms: Option<f64>,
    /// Median milliseconds in the vision tower, of cells that encoded a picture.
    pub vision_ms: Option<f64>,
    /// Median prompt tokens computed a second.
    pub prefill_tok_s: Option<f64>,
    /// Median tokens decoded a second.
    pub decode_tok_s: Option<f64>,
    /// Mean log-probability of an answer's tokens.
    pub mean_logprob: Option<Mean>,
    /// Perplexity of all references together, each token counted once.
    pub perplexity: Option<f64>,
    /// Wins, ties and losses against all other columns, by ratings.
    pub record: Record,
    /// Stars.
    pub stars: Option<Mean>,
}

/// What cells shared, and about what that saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Savings {
    /// Tokens of all prompts.
    pub prompt_tokens: usize,
    /// Of those, found in the cache.
    pub reused_tokens: usize,
    /// Pictures of all prompts.
    pub pictures: usize,
    /// Of those, encoded before.
    pub shared_pictures: usize,
    /// About how many seconds more it would have taken without, at the rates of this run.
    pub saved_secs: f64,
}

/// All results in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Column by column.
    pub columns: Vec<ColumnSummary>,
    /// What cells shared.
    pub savings: Savings,
    /// Cells with an answer, and cells without.
    pub answered: usize,
    /// Cells without one.
    pub failed: usize,
    /// Of the cells of which something was asserted, those of which all held.
    pub passed: Proportion,
    /// Which column was rated better than which.
    pub wins: Wins,
    /// How well ratings agree with assertions, over cells that have both.
    pub agreement: Agreement,
}

impl Summary {
    /// Of the results of columns of these names, with ratings by key.
    #[must_use]
    pub fn new<'a>(
        columns: &[String],
        results: impl IntoIterator<Item = &'a CellResult>,
        ratings: &HashMap<String, Rating>,
    ) -> Self {
        let results: Vec<&CellResult> = results.into_iter().collect();
        let mut of_column: HashMap<&str, Vec<&CellResult>> = HashMap::new();
        let mut groups: HashMap<(usize, usize), Vec<Option<&Rating>>> = HashMap::new();
        for &result in &results {
            of_column.entry(&result.column).or_default().push(result);
            let number = columns.iter().position(|name| *name == result.column);
            if let (Some(number), Some(rating)) = (number, ratings.get(&result.key)) {
                groups.entry(result.group()).or_insert_with(|| vec![None; columns.len()])[number] =
                    Some(rating);
            }
        }
        let mut wins = Wins::new(columns.len());
        for group in groups.values() {
            wins.add_ratings(group);
        }
        let both = results
            .iter()
            .filter(|result| !result.verdicts.is_empty())
            .filter_map(|result| Some((ratings.get(&result.key)?.liked()?, result.passed())));
        let summary = |(n, name): (usize, &String)| {
            let cells = of_column.get(name.as_str()).map_or(&[][..], Vec::as_slice);
            column_summary(name, cells, wins.total(n), ratings)
        };
        Self {
            columns: columns.iter().enumerate().map(summary).collect(),
            savings: savings(&results),
            answered: results.iter().filter(|result| result.error.is_none()).count(),
            failed: results.iter().filter(|result| result.error.is_some()).count(),
            passed: passed(&results),
            wins,
            agreement: Agreement::between(both),
        }
    }
}

fn passed(cells: &[&CellResult]) -> Proportion {
    Proportion::count(cells.iter().filter(|cell| !cell.verdicts.is_empty()).map(|cell| cell.passed()))
}

fn column_summary(
    name: &str,
    cells: &[&CellResult],
    record: Record,
    ratings: &HashMap<String, Rating>,
) -> ColumnSummary {
    let failed = cells.iter().filter(|cell| cell.error.is_some()).count();
    let of = |value: fn(&CellResult) -> Option<f64>| -> Vec<f64> {
        cells.iter().filter(|cell| cell.error.is_none()).filter_map(|cell| value(cell)).collect()
    };
    let (tokens, logprob) = cells
        .iter()
        .filter_map(|cell| cell.reference)
        .fold((0, 0.0), |(n, sum), r| (n + r.tokens, sum + r.mean_logprob * r.tokens as f64));
    let stars: Vec<f64> =
        cells.iter().filter_map(|cell| ratings.get(&cell.key)?.stars).map(f64::from).collect();
    ColumnSummary {
        name: name.to_owned(),
        answered: cells.len() - failed,
        failed,
        passed: passed(cells),
        tokens: Mean::of(&of(|cell| cell.figures.new_tokens.map(|n| n as f64))),
        ttft_ms: median(of(|cell| cell.figures.ttft_ms)),
        vision_ms: median(of(|cell| cell.figures.vision_ms.filter(|ms| *ms > 0.0))),
        prefill_tok_s: median(of(|cell| cell.figures.prefill_tok_s)),
        decode_tok_s: median(of(|cell| cell.figures.decode_tok_s)),
        mean_logprob: Mean::of(&of(CellResult::mean_logprob)),
        perplexity: (tokens > 0).then(|| (-logprob / tokens as f64).exp()),
        record,
        stars: Mean::of(&stars),
    }
}

/// The middle value; of an even number the mean of the two in the middle. `None`: of none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

fn savings(results: &[&CellResult]) -> Savings {
    let mut all = Savings::default();
    // What a picture of that grid takes, and what a token of prefill does, as this run measured them.
    let mut vision_secs: HashMap<[u32; 3], Vec<f64>> = HashMap::new();
    let (mut computed, mut prefill_ms) = (0, 0.0);
    for figures in results.iter().map(|result| &result.figures).filter(|figures| !figures.seen_from_here) {
        let (prompt, reused) = (figures.prompt_tokens.unwrap_or(0), figures.reused_tokens.unwrap_or(0));
        all.prompt_tokens += prompt;
        all.reused_tokens += reused;
        computed += prompt.saturating_sub(reused);
        prefill_ms += figures.prefill_ms.unwrap_or(0.0);
        for picture in &figures.pictures {
            all.pictures += 1;
            match picture.vision_secs {
                Some(secs) => vision_secs.entry(picture.grid).or_default().push(secs),
                None => all.shared_pictures += 1,
            }
        }
    }
    let a_picture: HashMap<[u32; 3], f64> =
        vision_secs.into_iter().filter_map(|(grid, secs)| Some((grid, median(secs)?))).collect();
    let shared =
        results.iter().flat_map(|result| &result.figures.pictures).filter(|p| p.vision_secs.is_none());
    let pictures_secs: f64 = shared.filter_map(|p| a_picture.get(&p.grid)).sum();
    let a_token_secs = if computed > 0 { prefill_ms / 1e3 / computed as f64 } else { 0.0 };
    all.saved_secs = pictures_secs + a_token_secs * all.reused_tokens as f64;
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::result::{Figures, ReferenceScore};
    use crate::engine::PictureReport;

    fn cell(key: &str, column: &str, row: usize) -> CellResult {
        CellResult { key: key.into(), column: column.into(), row, ..CellResult::default() }
    }

    #[test]
    fn columns_are_counted_each_for_itself_and_ratings_make_wins() {
        let mut cells = vec![cell("a", "A", 0), cell("b", "B", 0), cell("c", "A", 1), cell("d", "B", 1)];
        cells[3].error = Some("gone".into());
        cells[0].reference = Some(ReferenceScore { tokens: 1, mean_logprob: -2.0, perplexity: 0.0 });
        cells[2].reference = Some(ReferenceScore { tokens: 3, mean_logprob: -1.0, perplexity: 0.0 });
        let up = Rating { thumb: Some(1), ..Rating::default() };
        let down = Rating { thumb: Some(-1), ..Rating::default() };
        let ratings = HashMap::from([("a".to_owned(), up), ("b".to_owned(), down)]);
        let names = ["A".to_owned(), "B".to_owned()];
        let s = Summary::new(&names, &cells, &ratings);
        assert_eq!((s.answered, s.failed), (3, 1));
        assert_eq!((s.columns[0].record.wins, s.columns[1].record.losses), (1, 1));
        assert!((s.columns[0].perplexity.unwrap() - 1.25_f64.exp()).abs() < 1e-12);
        assert_eq!((s.columns[1].answered, s.columns[1].failed), (1, 1));
    }

    #[test]
    fn savings_are_what_was_reused_at_the_rates_that_were_measured() {
        let picture = |vision_secs| PictureReport {
            index: 0,
            is_clip: false,
            resized: (64, 64),
            grid: [1, 4, 4],
            tokens: 4,
            vision_secs,
        };
        let mut cells = vec![cell("a", "A", 0), cell("b", "B", 0)];
        let figures = |reused, prefill_ms, secs| Figures {
            prompt_tokens: Some(100),
            reused_tokens: Some(reused),
            prefill_ms: Some(prefill_ms),
            pictures: vec![picture(secs)],
            ..Figures::default()
        };
        cells[0].figures = figures(0, 1000.0, Some(2.0));
        cells[1].figures = figures(90, 100.0, None);
        let s = Summary::new(&["A".into(), "B".into()], &cells, &HashMap::new()).savings;
        assert_eq!((s.prompt_tokens, s.reused_tokens, s.pictures, s.shared_pictures), (200, 90, 2, 1));
        assert!((s.saved_secs - (2.0 + 0.9)).abs() < 1e-9, "{}", s.saved_secs);
    }

    #[test]
    fn the_median_is_the_middle_and_of_nothing_there_is_none() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, f64::NAN, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![f64::NAN]), None);
    }
}
