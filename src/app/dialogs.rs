//! Room `app`: the system's file dialogs and the look at dropped files, both on threads of their own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use egui::Context;
use poll_promise::{Promise, Sender};
use wgpu::rwh::{HasDisplayHandle, HasWindowHandle};

use super::command::Look;
use super::sorting::{CHATS, COMPARISONS, PICTURES, frames_of, sort};
use super::texts::texts;
use crate::chat::history::ConversationId;
use crate::chat::transfer::Format;
use crate::chat::tree::MessageId;
use crate::costs::write::Form;
use crate::error::{Error, Result};

/// A dialog that is gone sooner than a person can close it never appeared.
const NEVER_APPEARED: Duration = Duration::from_millis(350);

/// What a dialog or a drop has brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    /// A folder to load a model from.
    Model(PathBuf),
    /// A model for the list.
    ImportModel(PathBuf),
    /// Pictures to add, in order.
    Pictures(Vec<PathBuf>),
    /// A folder whose pictures are a clip's frames, in order.
    Frames(String, Vec<PathBuf>),
    /// A file for this picture of a draft.
    Replacement(u64, PathBuf),
    /// Where to write conversations: one, or all.
    Export(Option<ConversationId>, Format, PathBuf),
    /// Where to read conversations from.
    Import(PathBuf),
    /// Something that was dropped is of no use, and why.
    Nothing(Error),
    /// Where to write a picture with its boxes.
    Annotated(Look, PathBuf),
    /// Where to write what answers cost.
    Costs(Form, Vec<MessageId>, PathBuf),
    /// Where to write a picture of the panel of costs.
    CostsPicture(PathBuf),
    /// A comparison to read.
    Comparison(PathBuf),
    /// Where to write the comparison.
    SaveComparison(PathBuf),
    /// Where to write a report of it.
    Report(PathBuf),
    /// Pictures for a column of it, or for all.
    ComparisonPictures(Option<usize>, Vec<PathBuf>),
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
        let mut dialog =
            rfd::AsyncFileDialog::new().set_title(texts(ctx).open_model_title).set_parent(parent);
        if let Some(near) = near {
            dialog = dialog.set_directory(near);
        }
        let answer = dialog.pick_folder();
        self.show(ctx, async move { answer.await.map(|folder| Chosen::Model(folder.path().to_path_buf())) });
    }

    /// Asks for a model to import: its folder, or a GGUF file.
    pub fn choose_import_model(
        &mut self,
        ctx: &Context,
        parent: &(impl HasWindowHandle + HasDisplayHandle),
        gguf: bool,
    ) {
        let dialog = rfd::AsyncFileDialog::new().set_title(texts(ctx).import_model_title).set_parent(parent);
        if gguf {
            let answer = dialog.add_filter("GGUF", &["gguf"]).pick_file();
            self.show(
                ctx,
                async move { answer.await.map(|file| Chosen::ImportModel(file.path().to_path_buf())) },
            );
        } else {
            let answer = dialog.pick_folder();
            self.show(ctx, async move {
                answer.await.map(|folder| Chosen::ImportModel(folder.path().to_path_buf()))
            });
        }
    }

    /// Asks for pictures.
    pub fn choose_pictures(&mut self, ctx: &Context, parent: &(impl HasWindowHandle + HasDisplayHandle)) {
        let dialog = rfd::AsyncFileDialog::new()
            .set_title(texts(ctx).add_pictures_title)
            .set_parent(parent)
            .add_filter(texts(ctx).pictures_filter, &PICTURES)
            .add_filter(texts(ctx).all_files, &["*"]);
        let answer = dialog.pick_files();
        self.show(ctx, async move {
            answer
                .await
                .map(|files| Chosen::Pictures(files.iter().map(|file| file.path().to_path_buf()).collect()))
        });
    }

    /// Waits for a dialog on a thread. One at a time: a second click while it is open changes nothing.
    fn show(&mut self, ctx: &Context, answer: impl Future<Output = Option<Chosen>> + Send + 'static) {
        self.ask(ctx, async move { Ok(answer.await) });
    }

    fn ask(&mut self, ctx: &Context, answer: impl Future<Output = Result<Option<Chosen>>> + Send + 'static) {
        if self.pending.iter().any(|pending| pending.is_dialog) {
            return;
        }
        self.spawn(ctx, true, move || {
            let opened = Instant::now();
            let chosen = pollster::block_on(answer)?;
            if chosen.is_none() && cfg!(target_os = "linux") && opened.elapsed() < NEVER_APPEARED {
                return Err(Error::new("showing a file dialog", "this desktop offers none")
                    .help("drop the files onto the window, or install xdg-desktop-portal or zenity"));
            }
            Ok(chosen.into_iter().collect())
        });
    }

    /// Asks for the folder of a clip's frames.
    pub fn choose_frames(&mut self, ctx: &Context, parent: &(impl HasWindowHandle + HasDisplayHandle)) {
        let title = texts(ctx).frames_title;
        let answer = rfd::AsyncFileDialog::new().set_title(title).set_parent(parent).pick_folder();
        self.ask(ctx, async move { answer.await.map(|folder| frames_of(folder.path())).transpose() });
    }

    /// Asks for another file in place of a draft's picture.
    pub fn choose_replacement(
        &mut self,
        ctx: &Context,
        parent: &(impl HasWindowHandle + HasDisplayHandle),
        picture: u64,
    ) {
        let t = texts(ctx);
        let dialog = rfd::AsyncFileDialog::new()
            .set_title(t.replace_title)
            .set_parent(parent)
            .add_filter(t.pictures_filter, &PICTURES);
        let answer = dialog.pick_file();
        self.show(ctx, async move {
            answer.await.map(|file| Chosen::Replacement(picture, file.path().to_path_buf()))
        });
    }

    /// Asks where to write conversations.
    pub fn choose_export(
        &mut self,
        ctx: &Context,
        parent: &(impl HasWindowHandle + HasDisplayHandle),
        (conversation, format, name): (Option<ConversationId>, Format, &str),
    ) {
        let endings: &[&str] = match format {
            Format::Json => &CHATS,
            Format::Markdown => &["md"],
        };
        let mut dialog = rfd::AsyncFileDialog::new()
            .set_title(texts(ctx).export_title)
            .set_parent(parent)
            .set_file_name(format!("{name}.{}", endings.first().unwrap_or(&"json")));
        // One filter an ending: some systems append the filter's first one.
        for ending in endings {
            dialog = dialog.add_filter(*ending, &[ending]);
        }
        let answer = dialog.save_file();
        self.show(ctx, async move {
            answer.await.map(|file| Chosen::Export(conversation, format, file.path().to_path_buf()))
        });
    }

    /// Asks where to write what answers cost in a form or, without one, a picture of the panel.
    pub fn choose_costs(
        &mut self,
        ctx: &Context,
        parent: &(impl HasWindowHandle + HasDisplayHandle),
        what: Option<(Form, Vec<MessageId>)>,
    ) {
        let ending = match what.as_ref().map(|(form, _)| form) {
            Some(Form::Trace) => "json",
            Some(Form::Csv) => "csv",
            Some(Form::JsonLines) => "jsonl",
            Some(Form::Svg(_)) => "svg",
            None => "png",
        };
        let dialog = rfd::AsyncFileDialog::new()
            .set_title(texts(ctx).costs)
            .set_parent(parent)
            .set_file_name(format!("tokens.{ending}"))
            .add_filter(ending, &[ending]);
        let answer = dialog.save_file();
        self.show(ctx, async move {
            let path = answer.await?.path().to_path_buf();
            Some(match what {
                Some((form, answers)) => Chosen::Costs(form, answers, path),
                None => Chosen::CostsPicture(path),
            })
        });
    }

    /// Asks which file to read conversations from.
    pub fn choose_import(&mut self, ctx: &Context, parent: &(impl HasWindowHandle + HasDisplayHandle)) {
        let dialog = rfd::AsyncFileDialog::new()
            .set_title(texts(ctx).import_title)
            .set_parent(parent)
            .add_filter("JSON", &CHATS);
        let answer = dialog.pick_file();
        self.show(ctx, async move { answer.await.map(|file| Chosen::Import(file.path().to_path_buf())) });
    }

    /// Asks where to write a picture with its boxes.
    pub fn choose_annotated(
        &mut self,
        ctx: &Context,
        parent: &(impl HasWindowHandle + HasDisplayHandle),
        look: Look,
        name: &str,
    ) {
        let dialog = rfd::AsyncFileDialog::new()
            .set_title(texts(ctx).annotated_title)
            .set_parent(parent)
            .set_file_name(format!("{name}.png"))
            .add_filter("PNG", &["png"]);
        let answer = dialog.save_file();
        self.show(
            ctx,
            async move { answer.await.map(|file| Chosen::Annotated(look, file.path().to_path_buf())) },
        );
    }

    /// Asks which comparison to read.
    pub fn choose_comparison(&mut self, ctx: &Context, parent: &(impl HasWindowHandle + HasDisplayHandle)) {
        let dialog = rfd::AsyncFileDialog::new()
            .set_title(texts(ctx).open_comparison)
            .set_parent(parent)
            .add_filter("TOML", &COMPARISONS);
        let answer = dialog.pick_file();
        self.show(ctx, async move { answer.await.map(|file| Chosen::Comparison(file.path().to_path_buf())) });
    }

    /// Asks where to write the comparison, or a report of it.
    pub fn choose_comparison_file(
        &mut self,
        ctx: &Context,
        parent: &(impl HasWindowHandle + HasDisplayHandle),
        (name, is_report): (&str, bool),
    ) {
        let t = texts(ctx);
        let mut dialog = rfd::AsyncFileDialog::new()
            .set_title(if is_report { t.write_report } else { t.save_comparison_title })
            .set_parent(parent)
            .set_file_name(name);
        dialog = if is_report {
            dialog.add_filter("HTML", &["html"]).add_filter("CSV", &["csv"])
        } else {
            COMPARISONS.into_iter().fold(dialog, |dialog, ending| dialog.add_filter(ending, &[ending]))
        };
        let answer = dialog.save_file();
        self.show(ctx, async move {
            let path = answer.await.map(|file| file.path().to_path_buf())?;
            Some(if is_report { Chosen::Report(path) } else { Chosen::SaveComparison(path) })
        });
    }

    /// Asks which pictures a column, or all of them, are to have.
    pub fn choose_comparison_pictures(
        &mut self,
        ctx: &Context,
        parent: &(impl HasWindowHandle + HasDisplayHandle),
        column: Option<usize>,
    ) {
        let t = texts(ctx);
        let dialog = rfd::AsyncFileDialog::new()
            .set_title(t.add_pictures)
            .set_parent(parent)
            .add_filter(t.pictures_filter, &PICTURES);
        let answer = dialog.pick_files();
        self.show(ctx, async move {
            let files = answer.await?.iter().map(|file| file.path().to_path_buf()).collect();
            Some(Chosen::ComparisonPictures(column, files))
        });
    }

    /// Finds out what dropped files and folders are.
    pub fn dropped(&mut self, ctx: &Context, paths: Vec<PathBuf>) {
        self.spawn(ctx, false, move || Ok(sort(paths)));
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
