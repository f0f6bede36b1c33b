//! Models from a hub, against one on loopback that misbehaves.

pub mod pulling;
pub mod server;
mod through_window;
mod whole_program;
