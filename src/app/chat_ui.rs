//! Room `app`: draws the conversation.

use egui::{Align, Frame, Image, Label, Layout, Margin, RichText, ScrollArea, TextWrapMode, Ui};

use super::conversation::{Attachment, PictureState, Reply, ReplyEnd, Turn};
use super::pictures::Pictures;
use super::state::{Command, State};
use super::{status_ui, style};

/// Draws the conversation, which is not empty, the latest at the bottom in sight.
/// `to_end`: show the end, wherever the user had scrolled to.
pub(super) fn chat_ui(
    ui: &mut Ui,
    state: &State,
    pictures: &Pictures,
    to_end: bool,
    commands: &mut Vec<Command>,
) {
    ScrollArea::vertical().id_salt("conversation").auto_shrink(false).stick_to_bottom(true).show(ui, |ui| {
        column_ui(ui, |ui| {
            let name = state.model_info().map_or("Answer", |info| info.name.as_str());
            let last = state.turns.len().saturating_sub(1);
            for (index, turn) in state.turns.iter().enumerate() {
                ui.push_id(index, |ui| {
                    question_ui(ui, turn, pictures);
                    reply_ui(ui, &turn.reply, name, index == last && state.can_ask_again(), commands);
                });
            }
            ui.add_space(8.0);
        });
        if to_end {
            ui.scroll_to_cursor(Some(Align::BOTTOM));
        }
    });
}

/// A column in the middle, not too wide to read.
fn column_ui(ui: &mut Ui, contents: impl FnOnce(&mut Ui)) {
    let margin = ((ui.available_width() - style::COLUMN_WIDTH) / 2.0).max(0.0);
    ui.horizontal_top(|ui| {
        ui.add_space(margin);
        ui.with_layout(Layout::top_down(Align::Min), |ui| {
            ui.set_width(ui.available_width().min(style::COLUMN_WIDTH));
            contents(ui);
        });
    });
}

fn question_ui(ui: &mut Ui, turn: &Turn, pictures: &Pictures) {
    ui.add_space(8.0);
    let frame = Frame::new()
        .fill(ui.visuals().faint_bg_color)
        .corner_radius(8.0)
        .inner_margin(Margin::symmetric(12, 8));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.label(RichText::new("You").small().weak());
        if !turn.question.pictures.is_empty() {
            ui.with_layout(Layout::left_to_right(Align::TOP).with_main_wrap(true), |ui| {
                for picture in &turn.question.pictures {
                    picture_ui(ui, picture, pictures);
                }
            });
        }
        let text = turn.question.text.trim();
        if !text.is_empty() {
            ui.add(Label::new(text).selectable(true).wrap());
        }
    });
}

/// A picture with what the model saw of it.
fn picture_ui(ui: &mut Ui, picture: &Attachment, pictures: &Pictures) {
    let texture = pictures.small(picture.id);
    let shape = texture.map_or(1.0, egui::TextureHandle::aspect_ratio);
    let width = (style::PICTURE_HEIGHT * shape).clamp(style::PICTURE_HEIGHT, style::PICTURE_HEIGHT * 2.4);
    ui.allocate_ui_with_layout(
        egui::vec2(width, style::PICTURE_HEIGHT),
        Layout::top_down(Align::Min),
        |ui| {
            ui.set_width(width);
            if let Some(texture) = texture {
                let image =
                    Image::new(texture).max_size(egui::vec2(width, style::PICTURE_HEIGHT)).corner_radius(4.0);
                ui.add(image.alt_text(&picture.name));
            }
            ui.spacing_mut().item_spacing.y = 1.0;
            ui.add(Label::new(RichText::new(&picture.name).small()).truncate());
            if let Some(report) = &picture.report {
                let text = RichText::new(status_ui::picture_text(report)).small().weak();
                let [frames, rows, columns] = report.grid;
                let size = match picture.state {
                    PictureState::Ready(width, height) => format!("The file has {width}×{height} pixels.\n"),
                    PictureState::Reading | PictureState::Failed(_) => String::new(),
                };
                ui.add(Label::new(text).wrap_mode(TextWrapMode::Wrap))
                    .on_hover_text(format!("{size}Grid of {frames}×{rows}×{columns} patches"));
            }
        },
    );
}

fn reply_ui(ui: &mut Ui, reply: &Reply, name: &str, may_ask_again: bool, commands: &mut Vec<Command>) {
    ui.add_space(4.0);
    Frame::new().inner_margin(Margin::symmetric(12, 4)).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.label(RichText::new(name).small().weak());
        if !reply.text.is_empty() {
            ui.add(Label::new(reply.text.as_str()).selectable(true).wrap());
        }
        match &reply.end {
            None if reply.text.is_empty() => {
                ui.weak("…");
            }
            None => {}
            Some(ReplyEnd::Finished(summary)) => {
                if reply.text.is_empty() {
                    ui.weak("(The model ended its answer without a word.)");
                }
                let seed = (reply.sampling.temperature > 0.0).then_some(reply.sampling.seed);
                let figures = RichText::new(status_ui::summary_text(summary, seed)).small().weak();
                ui.add(Label::new(figures).selectable(true).wrap());
            }
            Some(ReplyEnd::Broken) => {
                ui.label(RichText::new("Broken off by an error.").small().color(ui.visuals().error_fg_color));
            }
        }
        if reply.end.is_some() {
            ui.horizontal(|ui| {
                if !reply.text.is_empty()
                    && ui.small_button("Copy").on_hover_text("Copy the answer").clicked()
                {
                    ui.ctx().copy_text(reply.text.clone());
                }
                if may_ask_again
                    && ui
                        .small_button("Ask again")
                        .on_hover_text("Ask the same question again, in place of this answer")
                        .clicked()
                {
                    commands.push(Command::AskAgain);
                }
            });
        }
    });
}
