//! Room `app`: what every token cost, seen: coloured texts, lanes over time, plots, kernels, and what a token looked at.

mod doing;
mod inside_ui;
mod kernels_ui;
mod panel_ui;
mod plots_ui;
pub mod timeline;
mod timeline_ui;
mod token_card;
mod tokens_ui;
mod view;

pub(super) use doing::CostsFiles;
pub(super) use panel_ui::{panel_ui, plot_choice};
pub(super) use plots_ui::plots_ui;
pub(super) use tokens_ui::tokens_ui;
pub use view::{CostsCommand, CostsView, Page, count, nth};
