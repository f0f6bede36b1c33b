//! Room `compare`, its judging half: what an answer must hold, what differs between two, what people thought of them, and
//! what all of that says in numbers. Pure functions of texts and figures; knows nothing of the GPU, of files and of the window.

pub mod assertion;
pub mod difference;
pub mod ratings;
pub mod statistics;

pub use assertion::{Assertion, Subject, Verdict};
pub use difference::{Change, Difference, Piece};
pub use ratings::{Rating, blind_order};
