//! Room `app`: the window. Draws state, sends commands to the engine; never blocks, never touches a
//! buffer or a kernel. `state` is what is true, the files named `_ui` draw it, `window` ties both to eframe.

mod backend;
mod chat_ui;
mod composer_ui;
mod composition;
mod conversation;
mod dialogs;
mod empty_ui;
mod frame_meter;
mod pictures;
mod progress;
mod samples;
mod settings;
mod settings_ui;
mod state;
mod status_ui;
mod style;
pub mod texts;
mod top_bar_ui;
mod window;

pub use backend::Backend;
pub use composition::Composition;
pub use conversation::{Attachment, Draft, PictureState, Reply, ReplyEnd, Turn};
pub use progress::{Progress, Stage};
pub use samples::Sample;
pub use settings::Settings;
pub use state::{Command, Loading, ModelState, Notice, State};
pub use window::{WindowApp, WindowOptions, run};
