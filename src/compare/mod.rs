//! Room `compare`: prompts, settings, pictures and models tested next to each other. A comparison ([`Comparison`], a file) is laid
//! out ([`Plan`]), run ([`Run`]) and kept ([`Journal`]); answers are judged ([`judge`]). Knows of the engine and of servers as
//! somebody to ask; nothing of the window.

mod check;
mod cost;
mod file;
mod journal;
pub mod judge;
mod pictures;
mod plan;
pub mod report;
mod request;
mod result;
mod run;
pub mod samples;
mod summary;
mod variables;

pub use check::Check;
pub use cost::{Cost, Rates};
pub use file::{Comparison, Fields, MAX_COLUMNS, Matrix, Pairing, Scalar, Turn};
pub use journal::{Journal, Kept, Ran, read_results};
pub use pictures::{MEMORY, PictureFiles, SAMPLE};
pub use plan::{Cell, Column, MAX_CELLS, Place, Plan, Target, parse_csv};
pub use request::{area_pixels, image_tokens};
pub use result::{Begin, CellResult, Checked, Figures, Line, ReferenceScore};
pub use run::{Asker, Progress, Run, Stage, UnderWay};
pub use summary::{ColumnSummary, Savings, Summary, median};
