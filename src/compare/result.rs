//! Room `compare`: what came of a cell: plain data, a line of JSON each.

use serde::{Deserialize, Serialize};

use super::judge::{Rating, Verdict};
use super::plan::{Place, Plan};
use crate::engine::{PictureReport, RemoteSummary, Score, StopReason, Summary};
use crate::error::Result;

/// What came of a cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CellResult {
    /// [`super::plan::Cell::key`].
    pub key: String,
    /// Its row, from 0.
    pub row: usize,
    /// Which of the repeats, from 0.
    pub repeat: usize,
    /// Its column's name.
    pub column: String,
    /// Its values, by variable.
    pub values: Vec<(String, String)>,
    /// The prompt as it was sent, values filled in.
    pub prompt: String,
    /// Its pictures, as the comparison names them.
    pub pictures: Vec<String>,
    /// The answer.
    pub answer: String,
    /// Why it ended.
    pub reason: StopReason,
    /// Why there is no answer, or not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Who answered: the model and its recipe, or the model and its server.
    pub answered_by: String,
    /// The seed, where tokens were drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What it took.
    pub figures: Figures,
    /// The answer's tokens; empty where a server answered.
    pub ids: Vec<u32>,
    /// Their natural log-probabilities; empty where none were told.
    pub logprobs: Vec<f32>,
    /// How likely the reference answer is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<ReferenceScore>,
    /// What was asserted, in order of the file, and what came out; only those that are for this column.
    pub verdicts: Vec<Checked>,
}

/// An assertion and what came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Its number in the file, from 0.
    pub number: usize,
    /// What was asserted, in words.
    pub what: String,
    /// What came out.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// How likely a reference answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReferenceScore {
    /// Its tokens.
    pub tokens: usize,
    /// Mean natural log-probability of a token.
    pub mean_logprob: f64,
    /// `exp(-mean)`.
    pub perplexity: f64,
}

impl From<&Score> for ReferenceScore {
    fn from(score: &Score) -> Self {
        Self { tokens: score.ids.len(), mean_logprob: score.mean(), perplexity: score.perplexity() }
    }
}

/// What a cell took. What is `None` is not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Tokens of the prompt.
    pub prompt_tokens: Option<usize>,
    /// Of those, found in the cache: shared with other cells.
    pub reused_tokens: Option<usize>,
    /// Tokens of the answer.
    pub new_tokens: Option<usize>,
    /// Milliseconds from the question to the first token, waiting for its turn included.
    pub ttft_ms: Option<f64>,
    /// Milliseconds in the vision tower; 0 where the picture was shared.
    pub vision_ms: Option<f64>,
    /// Milliseconds of prefill.
    pub prefill_ms: Option<f64>,
    /// Milliseconds from the first token to the last.
    pub decode_ms: Option<f64>,
    /// Prompt tokens computed a second.
    pub prefill_tok_s: Option<f64>,
    /// Tokens decoded a second, as this cell saw it beside the others of its steps.
    pub decode_tok_s: Option<f64>,
    /// Sessions in its steps, on average.
    pub batch: Option<f64>,
    /// Its pictures as the model saw them.
    pub pictures: Vec<PictureReport>,
    /// It came from a server: times are as seen from here.
    pub seen_from_here: bool,
}

impl Figures {
    /// Of an answer of the engine, whose steps had `batch` sessions on average.
    #[must_use]
    pub fn of(summary: &Summary, batch: f64, pictures: Vec<PictureReport>) -> Self {
        let computed = summary.prompt_tokens > summary.reused_tokens && summary.prefill_secs > 0.0;
        let decoded = summary.ids.len() > 1 && summary.decode_secs > 0.0;
        Self {
            prompt_tokens: Some(summary.prompt_tokens),
            reused_tokens: Some(summary.reused_tokens),
            new_tokens: Some(summary.ids.len()),
            ttft_ms: Some(summary.ttft_secs * 1e3),
            vision_ms: Some(summary.vision_secs * 1e3),
            prefill_ms: Some(summary.prefill_secs * 1e3),
            decode_ms: Some(summary.decode_secs * 1e3),
            prefill_tok_s: computed.then(|| summary.prefill_tok_s()),
            decode_tok_s: decoded.then(|| summary.decode_tok_s()),
            batch: (batch > 0.0).then_some(batch),
            pictures,
            seen_from_here: false,
        }
    }

    /// Of an answer of a server.
    #[must_use]
    pub fn of_remote(summary: &RemoteSummary) -> Self {
        Self {
            prompt_tokens: summary.prompt_tokens,
            reused_tokens: summary.cached_tokens,
            new_tokens: summary.new_tokens,
            ttft_ms: summary.ttft_secs.map(|secs| secs * 1e3),
            decode_ms: summary.decode_secs.map(|secs| secs * 1e3),
            decode_tok_s: summary.tok_s(),
            seen_from_here: true,
            ..Self::default()
        }
    }
}

impl CellResult {
    /// Mean natural log-probability of the answer's tokens.
    #[must_use]
    pub fn mean_logprob(&self) -> Option<f64> {
        let sum: f64 = self.logprobs.iter().map(|&p| f64::from(p)).sum();
        (!self.logprobs.is_empty()).then(|| sum / self.logprobs.len() as f64)
    }

    /// Is there an answer of which all holds that was asserted?
    #[must_use]
    pub fn passed(&self) -> bool {
        self.error.is_none() && self.verdicts.iter().all(|checked| checked.verdict.passed)
    }

    /// Its row and repeat: the cells of one group differ in their columns only.
    #[must_use]
    pub fn group(&self) -> (usize, usize) {
        (self.row, self.repeat)
    }

    /// Its number in the plan; `None`: the plan has no column of that name.
    #[must_use]
    pub fn number(&self, plan: &Plan) -> Option<usize> {
        let column = plan.columns.iter().position(|column| column.name == self.column)?;
        Some(plan.number(Place { row: self.row, repeat: self.repeat, column }))
    }

    /// Takes over where the cell of this key stands now: the file may have been changed since.
    pub fn stand_at(&mut self, place: Place) {
        (self.row, self.repeat) = (place.row, place.repeat);
    }
}

/// A line of a file of results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// A run begins, or goes on.
    Begin(Begin),
    /// A cell is finished.
    Cell(Box<CellResult>),
    /// A cell is rated; the last rating of a key counts.
    Rating {
        /// The cell's key.
        key: String,
        /// The rating.
        rating: Rating,
    },
}

/// Where and with what a run goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Begin {
    /// The program's version.
    pub ocelli: String,
    /// The comparison's title.
    pub title: String,
    /// The comparison itself, as TOML.
    pub comparison: String,
    /// The device's name.
    pub adapter: String,
    /// Its driver.
    pub driver: String,
    /// Cells in all.
    pub cells: usize,
}

impl Begin {
    /// Of this plan on a device, with this program.
    ///
    /// # Errors
    /// The comparison holds what TOML cannot.
    pub fn new(plan: &Plan, adapter: String, driver: String) -> Result<Self> {
        Ok(Self {
            ocelli: env!("CARGO_PKG_VERSION").to_owned(),
            title: plan.comparison.title.clone(),
            comparison: plan.comparison.print()?,
            adapter,
            driver,
            cells: plan.len(),
        })
    }
}
