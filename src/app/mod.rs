//! Room `app`: the window. Draws state, sends commands to the engine and to the history; never blocks, never touches a
//! buffer or a kernel. `state` is what is true, the files named `_ui` draw it, `window` ties both to eframe, `texts` has
//! every word, `actions` every command that menus, keys and the palette give.

mod about_ui;
mod actions;
pub mod annotate;
mod attachments_ui;
mod backend;
mod carrying_out;
mod cells_ui;
mod chat;
mod chat_ui;
mod columns_ui;
mod command;
pub mod comparing;
mod comparing_ui;
mod comparisons;
mod composer_ui;
mod composition;
pub mod costs;
mod device_loss;
mod dialogs;
mod empty_ui;
mod frame_meter;
pub mod grounding_ui;
mod history_ui;
mod keeping;
mod machine_ui;
mod markdown_blocks;
mod markdown_code;
pub mod markdown_ui;
mod menus_ui;
pub mod message_list;
pub mod models;
mod models_ui;
mod opened_files;
#[cfg(target_os = "macos")]
mod opened_on_macos;
mod opening;
mod pictures;
mod plain_text;
mod preferences;
mod progress;
mod prompt_ui;
mod samples;
mod servers_ui;
mod settings;
mod settings_ui;
mod sorting;
mod state;
mod status_ui;
mod style;
pub mod texts;
mod top_bar_ui;
#[cfg(all(unix, not(target_os = "macos")))]
mod unseen;
pub mod viewer;
mod viewing;
mod window;

pub use actions::{Action, Menu, Row, TABLE};
pub use attachments_ui::picture_cost;
pub use backend::Backend;
pub use chat::{
    AnswerDetails, Attached, Chat, Draft, Editing, Figures, FileData, Files, Hash, PictureState,
    QuestionDetails, RemoteFigures, details,
};
pub use command::{Command, Look};
pub use comparing_ui::CompareCommand;
pub use composition::Composition;
pub use costs::CostsCommand;
pub use opened_files::OpenedFiles;
pub use opening::{Places, WindowOptions, run};
#[doc(hidden)]
pub use preferences::reread_preferences;
pub use preferences::{Preferences, Preset, WindowPlace};
pub use progress::{Progress, Stage};
pub use samples::Sample;
pub use settings::Settings;
pub use state::{
    Elsewhere, Loading, Looking, ModelList, ModelState, Notice, Obstacle, Outcome, Profiling, ReadFile,
    Shelf, State,
};
pub use window::WindowApp;
