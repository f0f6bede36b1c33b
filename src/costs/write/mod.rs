//! Costs for other programs: traces for Perfetto and Chrome, tables, lines of JSON, plots.

mod svg;
mod table;
mod trace;

pub use svg::{Plot, svg};
pub use table::{csv, json_lines, safe};
pub use trace::trace;

use std::path::Path;

use super::Costs;
use crate::error::{Error, Result};

/// The form of a file of costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A trace: `.json`; ui.perfetto.dev and chrome://tracing open it.
    Trace,
    /// A line for each token: `.csv`.
    Csv,
    /// A JSON object for each answer, picture, piece of a prompt and token: `.jsonl`.
    JsonLines,
    /// A plot: `.svg`.
    Svg(Plot),
}

impl Form {
    /// The form that a file's name asks for; a plot is that of latencies.
    ///
    /// # Errors
    /// The name ends in none of those known.
    pub fn of_path(path: &Path) -> Result<Self> {
        let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
        match end.as_str() {
            "json" => Ok(Self::Trace),
            "csv" => Ok(Self::Csv),
            "jsonl" | "ndjson" => Ok(Self::JsonLines),
            "svg" => Ok(Self::Svg(Plot::Latency)),
            _ => Err(Error::new("choosing the form of a file", format!("'{end}' is none that is known"))
                .at_path(path)
                .help("let its name end in .json (a trace for ui.perfetto.dev), .csv, .jsonl or .svg")),
        }
    }

    /// The file's text.
    ///
    /// # Errors
    /// The table cannot be made.
    pub fn text(self, costs: &[Costs]) -> Result<String> {
        match self {
            Self::Trace => Ok(trace(costs)),
            Self::Csv => csv(costs),
            Self::JsonLines => Ok(json_lines(costs)),
            Self::Svg(plot) => Ok(svg(costs, plot)),
        }
    }
}
