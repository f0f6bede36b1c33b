//! Room `app`: draws what the program is, and the licences of everything in it.

use egui::{Context, Id, Modal, RichText, ScrollArea, TextStyle};

use super::texts::{fill, texts};
use crate::error::Result;
use crate::licences;

/// Width of the window, points.
const WIDTH: f32 = 720.0;

/// What is shown, while it is open.
#[derive(Debug)]
pub(super) struct About {
    licences: String,
    /// Where each of its lines begins and ends.
    lines: Vec<std::ops::Range<usize>>,
}

impl About {
    /// Unpacks the licences.
    ///
    /// # Errors
    /// The program's file is damaged.
    pub fn new() -> Result<Self> {
        let licences = licences::third_party()?;
        let mut at = 0;
        let lines = licences
            .split_inclusive('\n')
            .map(|line| {
                let start = at;
                at += line.len();
                start..start + line.trim_end().len()
            })
            .collect();
        Ok(Self { licences, lines })
    }
}

/// Draws it; false when it is to be closed.
pub(super) fn about_ui(ctx: &Context, about: &About) -> bool {
    let t = texts(ctx);
    let size = ctx.content_rect().size();
    let modal = Modal::new(Id::unique("about")).show(ctx, |ui| {
        ui.set_width(WIDTH.min(size.x - 40.0));
        ui.heading(fill(t.version, &[("version", &env!("CARGO_PKG_VERSION"))]));
        ui.label(t.about_words);
        ui.weak(licences::OWN);
        ui.add_space(6.0);
        ui.label(RichText::new(t.third_party).strong());
        ui.weak(t.third_party_words);
        ui.add_space(4.0);
        // Thousands of lines: only those in sight are laid out.
        let height = ui.text_style_height(&TextStyle::Monospace);
        let area = ScrollArea::both().max_height(size.y * 0.5).auto_shrink([false, true]);
        area.show_rows(ui, height, about.lines.len(), |ui, rows| {
            for line in about.lines.get(rows).unwrap_or_default() {
                let text = about.licences.get(line.clone()).unwrap_or_default();
                ui.add(egui::Label::new(RichText::new(text).monospace()).extend());
            }
        });
        ui.add_space(6.0);
        ui.horizontal(|ui| {
            if ui.button(t.copy_licences).clicked() {
                ui.ctx().copy_text(about.licences.clone());
            }
            ui.button(t.close).clicked()
        })
        .inner
    });
    !modal.inner && !modal.should_close()
}
