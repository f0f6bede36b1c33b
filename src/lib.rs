//! Ocelli talks about pictures: Qwen3-VL in one process, on WGSL kernels of its own.
//!
//! Rooms, from top to bottom (imports point down only): `app` and `cli`, then `compare`, `costs`, `remote` and
//! `engine`, then `chat`, then `model`, then `gpu`. `ARCHITECTURE.md` is the map.

pub mod app;
pub mod chat;
pub mod cli;
pub mod clock;
pub mod compare;
pub mod costs;
pub mod diagnostics;
pub mod engine;
pub mod error;
pub mod gpu;
pub mod hub;
pub mod log;
pub mod model;
pub mod remote;

pub use error::{Error, ErrorKind, Result};
