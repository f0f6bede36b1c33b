//! Room `app`: the picture that is looked at in large: which it is, what the model saw of it, what an answer found in it.

use std::path::PathBuf;

use egui::{Context, Id, Modal};

use super::annotate::label_images;
use super::chat::{Hash, QuestionDetails, details, units};
use super::chat_ui::picture_of;
use super::command::{Command, Look};
use super::grounding_ui;
use super::pictures::Annotation;
use super::status_ui;
use super::style;
use super::texts::{Texts, fill, texts};
use super::viewer::{Shown, Viewer, ViewerAction};
use super::window::WindowApp;
use crate::chat::grounding::Found;
use crate::chat::tree::AttachmentKind;
use crate::engine::PictureReport;
use crate::error::Error;

/// A picture in large.
pub(super) struct Viewing {
    look: Look,
    viewer: Viewer,
}

impl Viewing {
    /// Begins to look at a picture.
    pub fn new(look: Look) -> Self {
        Self { look, viewer: Viewer::default() }
    }
}

/// What is shown in large.
struct Subject {
    hash: Hash,
    name: String,
    report: Option<PictureReport>,
    found: Vec<Found>,
    is_clip: bool,
}

impl WindowApp {
    fn subject(&mut self, look: &Look) -> Option<Subject> {
        let (message, place, found) = match look {
            Look::Draft(hash, name) => {
                let (hash, name) = (*hash, name.clone());
                return Some(Subject { hash, name, report: None, found: Vec::new(), is_clip: false });
            }
            Look::Message(message, place) => (*message, *place, Vec::new()),
            Look::Grounded(answer, message, place) => {
                let entry = self.state.chat.tree.get(*answer)?;
                let all = self.chat_view.found(entry).to_vec();
                let here =
                    |found: &Found| picture_of(&self.state, *answer, found) == Some((*message, *place));
                (*message, *place, all.into_iter().filter(here).collect())
            }
        };
        let entry = self.state.chat.tree.get(message)?;
        let all = units(&entry.attachments);
        let first = all.get(place)?.first()?;
        let seen: QuestionDetails = details(entry);
        Some(Subject {
            hash: first.hash,
            name: first.name.clone(),
            report: seen.pictures.get(place).cloned().flatten(),
            found,
            is_clip: first.kind != AttachmentKind::Image,
        })
    }

    /// Draws the picture in large over everything else.
    pub(super) fn viewing_ui(&mut self, ctx: &Context, commands: &mut Vec<Command>) {
        let Some(mut viewing) = self.viewing.take() else { return };
        let Some(subject) = self.subject(&viewing.look) else {
            self.pictures.forget_large();
            return;
        };
        let t = texts(ctx);
        let size_px = self.state.files.get(&subject.hash).map_or((0, 0), |file| file.size);
        let seen_size = subject.report.as_ref().filter(|_| !subject.is_clip).map(|report| report.resized);
        let seen = seen_size.and_then(|size| self.pictures.seen(&self.state, subject.hash, size).cloned());
        let original = self.pictures.large(ctx, &self.state, subject.hash).cloned();
        let original = original.or_else(|| self.pictures.small(&subject.hash).cloned());
        let facts = facts(&subject, size_px, self.state.files.get(&subject.hash).map(|f| f.bytes.len()), t);
        let shown = Shown {
            original: original.as_ref(),
            seen: seen.as_ref(),
            size_px,
            grid: subject.report.as_ref().filter(|_| !subject.is_clip).map(|report| report.grid),
            merge: 2,
            found: &subject.found,
            facts: &facts,
            name: &subject.name,
        };
        let rect = ctx.content_rect();
        let modal = Modal::new(Id::unique("picture in large")).show(ctx, |ui| {
            ui.set_width((rect.width() - 60.0).max(200.0));
            ui.set_height((rect.height() - 60.0).max(160.0));
            viewing.viewer.show(ui, &shown)
        });
        match modal.inner {
            Some(ViewerAction::Close) => {
                self.pictures.forget_large();
                return;
            }
            Some(ViewerAction::CopyCoordinates) => {
                commands.push(Command::Copy(grounding_ui::coordinates_text(&subject.found, size_px)));
            }
            Some(ViewerAction::ExportPicture) => {
                commands.push(Command::ExportAnnotated(viewing.look.clone(), subject.name.clone()));
            }
            None => {}
        }
        if modal.should_close() {
            self.pictures.forget_large();
            return;
        }
        self.viewing = Some(viewing);
    }

    /// Writes the picture in large with its boxes.
    pub(super) fn write_annotated(&mut self, look: &Look, to: PathBuf) {
        let ctx = self.ctx.clone();
        let subject = self.subject(look);
        let file = subject.as_ref().and_then(|subject| self.state.files.get(&subject.hash)).cloned();
        let (Some(subject), Some(file)) = (subject, file) else {
            let gone = Error::new(
                "writing the picture with its boxes",
                "its conversation is not on the screen any more",
            );
            self.state.report(&gone.at_path(&to).help("open the conversation and save it again"));
            return;
        };
        let labels = label_images(&ctx, &subject.found, file.size);
        let annotation = Annotation { file: (file.bytes, subject.name), found: subject.found, labels, to };
        self.pictures.annotate(&mut self.state, annotation);
    }
}

fn facts(subject: &Subject, (width, height): (u32, u32), bytes: Option<usize>, t: &Texts) -> String {
    let mut facts = Vec::new();
    if width > 0 {
        facts.push(fill(t.file_has, &[("width", &width), ("height", &height)]));
    }
    if let Some(bytes) = bytes {
        facts.push(style::bytes(bytes as u64));
    }
    match &subject.report {
        Some(report) => {
            facts.push(status_ui::picture_text(report, t));
            facts.push(status_ui::grid_text(report, t));
        }
        None => facts.push(t.not_seen_yet.to_owned()),
    }
    facts.join(" · ")
}
