//! Room `app`: files that the system asks to open while the program runs. Only macOS does: a double click, or a drop onto the icon,
//! comes as an event there; elsewhere it starts the program with arguments.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use egui::Context;

/// What was asked for and not yet taken; a handle, all clones of which are one.
#[derive(Clone, Debug, Default)]
pub struct OpenedFiles(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    files: Vec<PathBuf>,
    /// The window that takes them, once there is one.
    window: Option<Context>,
}

impl OpenedFiles {
    /// Notes files, and wakes the window.
    pub fn add(&self, files: Vec<PathBuf>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.files.extend(files);
        if let Some(window) = &waiting.window {
            window.request_repaint();
        }
    }

    /// Takes what has come; later files wake this window.
    pub fn take(&self, window: &Context) -> Vec<PathBuf> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.window.as_ref() != Some(window) {
            waiting.window = Some(window.clone());
        }
        std::mem::take(&mut waiting.files)
    }
}
