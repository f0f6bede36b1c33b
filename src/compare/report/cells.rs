//! Room `compare`: rows and cells of a report: answers with what differs, verdicts, figures, ratings, boxes on pictures.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::pictures::{Album, Shown, Small};
use super::selection::{Group, Interest};
use super::words::{count, counted, ended, number, percent, time};
use crate::chat::grounding::{self, FULL_SCALE};
use crate::compare::judge::{Change, Difference, Rating};
use crate::compare::plan::Plan;
use crate::compare::result::{CellResult, Figures};

/// Bytes of an answer that are shown.
const MAX_ANSWER_BYTES: usize = 16 << 10;
/// Bytes of a prompt that are shown.
const MAX_PROMPT_BYTES: usize = 4 << 10;
/// Boxes of an answer that are drawn.
const MAX_BOXES: usize = 100;
/// How long two answers are compared.
const TIME_LIMIT: Duration = Duration::from_millis(50);
/// Answers with less in common than this are shown as they are: a difference would be all difference.
const LEAST_SIMILARITY: f64 = 0.2;

/// What became of each piece of an answer, and the piece.
type Pieces = Vec<(&'static str, String)>;

/// A row as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// From 1.
    number: usize,
    /// From 1; `None`: cells run once.
    repeat: Option<usize>,
    values: Vec<(String, String)>,
    failing: bool,
    differing: bool,
    /// Where all cells ask the same.
    prompt: Option<String>,
    /// Where all cells have the same.
    pictures: Vec<PictureView>,
    cells: Vec<CellView>,
}

/// A picture with what answers mark on it.
#[derive(Debug, Serialize)]
struct PictureView {
    name: String,
    /// The small picture's number.
    small: Option<usize>,
    width: u32,
    height: u32,
    /// Why it is not shown.
    why: String,
    marks: Vec<Mark>,
}

/// A box, or a point with `width` and `height` 0, in the drawing's units.
#[derive(Debug, Serialize)]
struct Mark {
    /// From 1.
    column: usize,
    label: String,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    /// Where its column's number stands.
    tag_x: f64,
    tag_y: f64,
}

#[derive(Debug, Default, Serialize)]
struct CellView {
    /// Its column, from 1.
    column: usize,
    name: String,
    ran: bool,
    error: Option<String>,
    /// The answer: what became of each piece, and the piece.
    pieces: Pieces,
    empty: bool,
    /// The column it is compared with, from 1, and what came out.
    compared: Option<(usize, String)>,
    cut: Option<String>,
    ended: Option<&'static str>,
    verdicts: Vec<VerdictView>,
    figures: Vec<String>,
    liked: Option<bool>,
    stars: Option<u8>,
    note: String,
    prompt: Option<String>,
    pictures: Vec<PictureView>,
}

#[derive(Debug, Serialize)]
struct VerdictView {
    passed: bool,
    what: String,
    why: String,
}

/// A row's view.
pub(super) fn row(
    plan: &Plan,
    group: &Group<'_>,
    ratings: &HashMap<String, Rating>,
    album: &mut Album<'_>,
) -> Row {
    let there = || group.cells.iter().copied().flatten();
    let first = there().next();
    // Of a cell that could not be laid out nothing is known that it would share.
    let known = || there().filter(|cell| cell.error.is_none() || !cell.prompt.is_empty());
    let first_known = known().next();
    let same_prompt = first_known.filter(|first| known().all(|cell| cell.prompt == first.prompt));
    let same_pictures = first_known.filter(|first| known().all(|cell| cell.pictures == first.pictures));
    let numbered = || group.cells.iter().enumerate().filter_map(|(n, cell)| Some((n, (*cell)?)));
    let cells = group.cells.iter().enumerate().map(|(n, result)| {
        let name = plan.columns[n].name.clone();
        let Some(result) = *result else {
            return CellView { column: n + 1, name, ..CellView::default() };
        };
        let own_pictures = match same_pictures {
            Some(_) => Vec::new(),
            None => pictures(plan, &result.pictures, &[(n, result)], album),
        };
        let prompt =
            same_prompt.is_none().then(|| shortened(&result.prompt, MAX_PROMPT_BYTES).0.into_owned());
        CellView {
            column: n + 1,
            name,
            prompt,
            pictures: own_pictures,
            ..cell(group, n, result, ratings.get(&result.key))
        }
    });
    let cells: Vec<CellView> = cells.collect();
    let interest = group.interest();
    let mut answers = there().filter(|cell| cell.error.is_none()).map(|cell| cell.answer.trim());
    let one = answers.next();
    Row {
        number: group.row + 1,
        repeat: (plan.repeats() > 1).then_some(group.repeat + 1),
        values: first.map_or_else(Vec::new, |first| first.values.clone()),
        failing: interest == Interest::Failing,
        differing: answers.any(|answer| Some(answer) != one),
        prompt: same_prompt.map(|cell| shortened(&cell.prompt, MAX_PROMPT_BYTES).0.into_owned()),
        pictures: match same_pictures {
            Some(first) => pictures(plan, &first.pictures, &numbered().collect::<Vec<_>>(), album),
            None => Vec::new(),
        },
        cells,
    }
}

fn cell(group: &Group<'_>, n: usize, result: &CellResult, rating: Option<&Rating>) -> CellView {
    let (answer, rest) = shortened(&result.answer, MAX_ANSWER_BYTES);
    let (pieces, compared) = compare(group, n, result, &answer);
    let verdicts = result.verdicts.iter().map(|checked| VerdictView {
        passed: checked.verdict.passed,
        what: checked.what.clone(),
        why: checked.verdict.why.clone(),
    });
    CellView {
        ran: true,
        error: result.error.clone(),
        pieces,
        empty: result.answer.is_empty() && result.error.is_none(),
        compared,
        cut: (rest > 0)
            .then(|| format!("{} of this answer more are in the file of results", counted(rest, "byte"))),
        ended: ended(result),
        verdicts: verdicts.collect(),
        figures: figures(result),
        liked: rating.and_then(|rating| rating.thumb).map(|thumb| thumb > 0),
        stars: rating.and_then(|rating| rating.stars),
        note: rating.map_or(String::new(), |rating| rating.note.clone()),
        ..CellView::default()
    }
}

/// The beginning of a text, and how many bytes more it has.
fn shortened(text: &str, most: usize) -> (Cow<'_, str>, usize) {
    let end = text.floor_char_boundary(most);
    if end < text.len() {
        (Cow::Owned(format!("{}…", &text[..end])), text.len() - end)
    } else {
        (Cow::Borrowed(text), 0)
    }
}

/// An answer in pieces, against that of the first column that asked the same, or of the first of all.
fn compare(
    group: &Group<'_>,
    n: usize,
    result: &CellResult,
    answer: &str,
) -> (Pieces, Option<(usize, String)>) {
    let plain = || vec![("same", answer.to_owned())];
    let answered = |at: usize| group.cells[at].filter(|cell| cell.error.is_none());
    let same = (0..n).find(|&at| answered(at).is_some_and(|cell| cell.prompt == result.prompt));
    let Some(base) = same.or_else(|| (0..n).find(|&at| answered(at).is_some())) else {
        return (plain(), None);
    };
    let Some(old) = answered(base).filter(|_| result.error.is_none()) else { return (plain(), None) };
    let (old, _) = shortened(&old.answer, MAX_ANSWER_BYTES);
    if old == answer {
        return (plain(), Some((base + 1, "the same as".to_owned())));
    }
    let difference = Difference::within(&old, answer, TIME_LIMIT);
    if difference.is_blank() {
        return (plain(), Some((base + 1, "the same, but for white space, as".to_owned())));
    }
    if difference.similarity < LEAST_SIMILARITY {
        // To another question another answer is no news.
        let news = same.map(|base| (base + 1, "hardly a word in common with".to_owned()));
        return (plain(), news);
    }
    let words = format!("{} of the words are those of", percent(difference.similarity));
    let kind = |change| match change {
        Change::Same => "same",
        Change::Removed => "removed",
        Change::Added => "added",
    };
    let pieces = difference.pieces.into_iter().map(|piece| (kind(piece.change), piece.text));
    (pieces.collect(), Some((base + 1, words)))
}

fn figures(result: &CellResult) -> Vec<String> {
    let f: &Figures = &result.figures;
    let mut all = Vec::new();
    all.extend(f.new_tokens.map(|n| counted(n, "token")));
    if let (Some(prompt), Some(reused)) = (f.prompt_tokens, f.reused_tokens) {
        all.push(format!("prompt {}, {} of it shared", counted(prompt, "token"), count(reused)));
    }
    for picture in &f.pictures {
        let (width, height) = picture.resized;
        let vision = match picture.vision_secs {
            Some(secs) => time(secs * 1e3),
            None => "shared".to_owned(),
        };
        all.push(format!("picture {width}×{height}, {}, {vision}", counted(picture.tokens, "token")));
    }
    all.extend(f.ttft_ms.map(|ms| format!("first token after {}", time(ms))));
    all.extend(f.prefill_tok_s.map(|rate| format!("prefill {} tokens/s", number(rate, 0))));
    all.extend(f.decode_tok_s.map(|rate| format!("decode {} tokens/s", number(rate, 1))));
    all.extend(
        f.batch.filter(|batch| *batch > 1.0).map(|batch| format!("in a batch of {}", number(batch, 1))),
    );
    all.extend(result.mean_logprob().map(|mean| format!("log-probability {}", number(mean, 3))));
    all.extend(result.reference.map(|r| {
        format!("reference: perplexity {}, {}", number(r.perplexity, 3), counted(r.tokens, "token"))
    }));
    all.extend(result.seed.map(|seed| format!("seed {seed}")));
    if f.seen_from_here {
        all.push("times as seen from here".to_owned());
    }
    all
}

/// Pictures with what these cells, by column, mark on them.
fn pictures(
    plan: &Plan,
    names: &[String],
    cells: &[(usize, &CellResult)],
    album: &mut Album<'_>,
) -> Vec<PictureView> {
    let found: Vec<(usize, Vec<grounding::Found>)> = if names.is_empty() {
        Vec::new()
    } else {
        cells.iter().map(|(n, cell)| (*n, grounding::find(&cell.answer))).collect()
    };
    let view = |(at, name): (usize, &String)| {
        let shown = plan.pictures.shown(name);
        match album.show(name) {
            Shown::Nothing(why) => {
                PictureView { name: shown, small: None, width: 0, height: 0, why, marks: Vec::new() }
            }
            Shown::Small(id) => {
                let Small { width, height, .. } = album.all[id];
                let marks = found.iter().flat_map(|(n, found)| {
                    let here = found.iter().filter(move |found| found.picture.unwrap_or(0) == at);
                    here.take(MAX_BOXES).map(|found| mark(*n, found, width, height))
                });
                let marks = marks.collect();
                PictureView { name: shown, small: Some(id), width, height, why: String::new(), marks }
            }
        }
    };
    names.iter().enumerate().map(view).collect()
}

fn mark(column: usize, found: &grounding::Found, width: u32, height: u32) -> Mark {
    /// Of a tag with a column's number.
    const TAG: f64 = 16.0;
    let (w, h) = (f64::from(width), f64::from(height));
    let tenth = |value: f64| (value * 10.0).round_ties_even() / 10.0;
    let (x, y, box_width, box_height) = match found.place {
        grounding::Place::Box([x1, y1, x2, y2]) => {
            (x1 / FULL_SCALE * w, y1 / FULL_SCALE * h, (x2 - x1) / FULL_SCALE * w, (y2 - y1) / FULL_SCALE * h)
        }
        grounding::Place::Point([x, y]) => (x / FULL_SCALE * w, y / FULL_SCALE * h, 0.0, 0.0),
    };
    // Columns that mark the same have their numbers next to each other.
    let tag_x = (x + TAG * column as f64).min(w - TAG).max(0.0);
    let tag_y = if y >= TAG { y - TAG } else { (y + box_height).min(h - TAG).max(0.0) };
    Mark {
        column: column + 1,
        label: found.label.chars().take(80).collect(),
        x: tenth(x),
        y: tenth(y),
        width: tenth(box_width),
        height: tenth(box_height),
        tag_x: tenth(tag_x),
        tag_y: tenth(tag_y),
    }
}
