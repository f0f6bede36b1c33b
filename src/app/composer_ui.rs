//! Room `app`: draws where questions are made: added pictures, the text, and the buttons that send or stop.

use egui::{
    Align, Button, Frame, Id, Image, Key, KeyboardShortcut, Label, Layout, Margin, Modifiers, RichText,
    ScrollArea,
};
use egui::{Role, TextEdit, Ui, WidgetInfo};

use super::composition::Composition;
use super::conversation::{Attachment, PictureState};
use super::pictures::Pictures;
use super::state::{Command, State};
use super::style;

/// Height the text may grow to, points.
const TEXT_HEIGHT: f32 = 150.0;

/// The question's text field, for keeping the keyboard on it.
pub(super) fn text_id() -> Id {
    Id::unique("question")
}

/// Draws it all.
pub(super) fn composer_ui(
    ui: &mut Ui,
    state: &mut State,
    pictures: &Pictures,
    composition: &mut Composition,
    commands: &mut Vec<Command>,
) {
    let typed = ui.memory(|memory| memory.has_focus(text_id()));
    if ui.input_mut(|input| composition.take_enter(&mut input.events, typed)) {
        commands.push(Command::Send);
    }
    if !state.draft.pictures.is_empty() {
        ScrollArea::horizontal().id_salt("draft pictures").show(ui, |ui| {
            ui.horizontal(|ui| {
                for picture in &state.draft.pictures {
                    ui.push_id(picture.id, |ui| picture_ui(ui, picture, pictures, commands));
                }
            });
        });
    }
    let hint = match state.model_info() {
        Some(_) if state.draft.pictures.is_empty() => {
            "Ask a question. Enter sends, Shift+Enter starts a new line."
        }
        Some(_) => "What about these pictures? Enter sends, Shift+Enter starts a new line.",
        None => "You can type already; open a model to send.",
    };
    ScrollArea::vertical().id_salt("question text").max_height(TEXT_HEIGHT).show(ui, |ui| {
        let text = TextEdit::multiline(&mut state.draft.text)
            .id(text_id())
            .hint_text(hint)
            .desired_rows(2)
            .desired_width(f32::INFINITY)
            .return_key(KeyboardShortcut::new(Modifiers::SHIFT, Key::Enter));
        ui.add(text);
    });
    ui.horizontal(|ui| {
        if ui
            .button("Add pictures…")
            .on_hover_text("PNG, JPEG, WebP, GIF, BMP, TIFF; or drop them, or paste one")
            .clicked()
        {
            commands.push(Command::ChoosePictures);
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if state.progress().is_some() {
                if ui
                    .button(RichText::new("Stop").strong())
                    .on_hover_text("Stop the answer; what is there stays")
                    .clicked()
                {
                    commands.push(Command::Stop);
                }
                return;
            }
            let reason = state.cannot_send();
            let send = ui.add_enabled(reason.is_none(), Button::new(RichText::new("Send").strong()));
            if send.clicked() {
                commands.push(Command::Send);
            }
            if let Some(reason) = reason {
                send.on_disabled_hover_text(reason);
                if !state.draft.is_empty() {
                    ui.weak(reason);
                }
            }
        });
    });
}

fn picture_ui(ui: &mut Ui, picture: &Attachment, pictures: &Pictures, commands: &mut Vec<Command>) {
    let frame =
        Frame::new().fill(ui.visuals().faint_bg_color).corner_radius(6.0).inner_margin(Margin::same(4));
    frame.show(ui, |ui| {
        if let Some(texture) = pictures.small(picture.id) {
            let size = egui::vec2(style::DRAFT_PICTURE_HEIGHT * 2.4, style::DRAFT_PICTURE_HEIGHT);
            ui.add(Image::new(texture).max_size(size).corner_radius(3.0).alt_text(&picture.name));
        }
        ui.vertical(|ui| {
            ui.spacing_mut().item_spacing.y = 1.0;
            ui.set_max_width(130.0);
            ui.add(Label::new(RichText::new(&picture.name).small()).truncate());
            match &picture.state {
                PictureState::Reading => ui.label(RichText::new("reading…").small().weak()),
                PictureState::Ready(width, height) => {
                    ui.label(RichText::new(format!("{width}×{height}")).small().weak())
                }
                PictureState::Failed(error) => ui
                    .label(RichText::new("cannot be read").small().color(ui.visuals().error_fg_color))
                    .on_hover_text(error.to_string()),
            };
            let remove = ui.small_button("Remove").on_hover_text(format!("Remove {}", picture.name));
            remove
                .widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Remove {}", picture.name)));
            if remove.clicked() {
                commands.push(Command::RemovePicture(picture.id));
            }
        });
    });
}
