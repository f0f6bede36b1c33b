//! Room `compare`: answers side by side.

pub mod judge;
