//! All integration tests in one binary: they link once and share one device.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_wrap,
    clippy::format_collect,
    clippy::items_after_statements,
    clippy::large_stack_arrays,
    clippy::unreadable_literal,
    missing_docs
)]

mod attention;
mod bad_input;
mod batch;
mod bounds;
mod checkpoints;
mod commands;
mod compare;
mod costs;
mod costs_window;
mod demo;
mod device_faults;
mod dragging;
mod end_to_end;
mod engine;
mod faults;
mod front_end;
mod fuzz_regressions;
mod gguf;
mod hub;
mod inside;
mod int8_cache;
mod kernels;
mod matrix_products;
mod narrow_products;
mod parity;
mod played;
mod privacy;
mod profile;
mod remote;
mod sampling;
mod screenshots;
mod servers;
mod sharing;
mod side_by_side;
mod snapshots;
mod soak;
mod speculation;
mod support;
mod window;
