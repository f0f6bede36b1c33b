//! Models from a hub, against one on loopback that misbehaves.

mod pulling;
mod server;
mod through_window;
mod whole_program;
