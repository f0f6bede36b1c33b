//! Room `app`: the system's file dialogs and the look at dropped files, both on threads of their own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use egui::Context;
use poll_promise::{Promise, Sender};
use wgpu::rwh::{HasDisplayHandle, HasWindowHandle};

use crate::error::{Error, Result};

/// A dialog that is gone sooner than a person can close it never appeared.
const NEVER_APPEARED: Duration = Duration::from_millis(350);

/// What a dialog or a drop has brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    /// A folder to load a model from.
    Model(PathBuf),
    /// Pictures to add, in order.
    Pictures(Vec<PathBuf>),
}

struct Pending {
    chosen: Promise<Result<Vec<Chosen>>>,
    is_dialog: bool,
}

/// Dialogs on the screen and drops being looked at.
#[derive(Default)]
pub(super) struct Dialogs {
    pending: Vec<Pending>,
}

impl Dialogs {
    /// Asks for a model folder, starting at `near`.
    pub fn choose_model(
        &mut self,
        ctx: &Context,
        parent: &(impl HasWindowHandle + HasDisplayHandle),
        near: Option<PathBuf>,
    ) {
        let mut dialog = rfd::AsyncFileDialog::new().set_title("Open a model folder").set_parent(parent);
        if let Some(near) = near {
            dialog = dialog.set_directory(near);
        }
        let answer = dialog.pick_folder();
        self.show(ctx, async move { answer.await.map(|folder| Chosen::Model(folder.path().to_path_buf())) });
    }

    /// Asks for pictures.
    pub fn choose_pictures(&mut self, ctx: &Context, parent: &(impl HasWindowHandle + HasDisplayHandle)) {
        let dialog = rfd::AsyncFileDialog::new()
            .set_title("Add pictures")
            .set_parent(parent)
            .add_filter("Pictures", &["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"])
            .add_filter("All files", &["*"]);
        let answer = dialog.pick_files();
        self.show(ctx, async move {
            answer
                .await
                .map(|files| Chosen::Pictures(files.iter().map(|file| file.path().to_path_buf()).collect()))
        });
    }

    /// Waits for a dialog on a thread. One at a time: a second click while it is open changes nothing.
    fn show(&mut self, ctx: &Context, answer: impl Future<Output = Option<Chosen>> + Send + 'static) {
        if self.pending.iter().any(|pending| pending.is_dialog) {
            return;
        }
        self.spawn(ctx, true, move || {
            let opened = Instant::now();
            let chosen = pollster::block_on(answer);
            if chosen.is_none() && cfg!(target_os = "linux") && opened.elapsed() < NEVER_APPEARED {
                return Err(Error::new("showing a file dialog", "this desktop offers none")
                    .help("drop the files onto the window, or install xdg-desktop-portal or zenity"));
            }
            Ok(chosen.into_iter().collect())
        });
    }

    /// Tells dropped folders from dropped pictures.
    pub fn dropped(&mut self, ctx: &Context, paths: Vec<PathBuf>) {
        self.spawn(ctx, false, move || {
            let (folders, files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
            let model = folders.into_iter().next().map(Chosen::Model);
            let pictures = (!files.is_empty()).then_some(Chosen::Pictures(files));
            Ok(model.into_iter().chain(pictures).collect())
        });
    }

    fn spawn(
        &mut self,
        ctx: &Context,
        is_dialog: bool,
        work: impl FnOnce() -> Result<Vec<Chosen>> + Send + 'static,
    ) {
        let (sender, chosen): (Sender<Result<Vec<Chosen>>>, _) = Promise::new();
        let ctx = ctx.clone();
        let thread =
            std::thread::Builder::new().name("files".into()).spawn(move || {
                // A promise without an answer would bring the window down when it is next looked at.
                let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                sender.send(answer.unwrap_or_else(|_| {
                    Err(Error::new("looking at files", "it went wrong inside the program"))
                }));
                ctx.request_repaint();
            });
        let chosen = match thread {
            Ok(_) => chosen,
            Err(e) => Promise::from_ready(Err(Error::new("looking at files", e))),
        };
        self.pending.push(Pending { chosen, is_dialog });
    }

    /// What has been chosen since the last call.
    pub fn poll(&mut self) -> Vec<Result<Chosen>> {
        let mut chosen = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            match pending.chosen.try_take() {
                Ok(Ok(ready)) => chosen.extend(ready.into_iter().map(Ok)),
                Ok(Err(error)) => chosen.push(Err(error)),
                Err(waiting) => self.pending.push(Pending { chosen: waiting, is_dialog: pending.is_dialog }),
            }
        }
        chosen
    }
}
