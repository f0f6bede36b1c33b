//! Room `app`: draws where questions are made: added pictures, the text, and the buttons that send or stop.

use egui::{Align, Button, Id, Key, KeyboardShortcut, Layout, Modifiers, RichText, ScrollArea, TextEdit, Ui};

use super::actions::Action;
use super::attachments_ui::attachments_ui;
use super::chat_ui::editing_id;
use super::command::Command;
use super::composition::Composition;
use super::pictures::Pictures;
use super::state::{Obstacle, State};
use super::texts::{Texts, texts};

/// Height the text may grow to, points.
const TEXT_HEIGHT: f32 = 150.0;

/// The question's text field, for keeping the keyboard on it.
pub(super) fn text_id() -> Id {
    Id::unique("question")
}

/// Why something cannot be sent, in words.
pub(super) fn obstacle_text(obstacle: Obstacle, t: &Texts) -> &'static str {
    match obstacle {
        Obstacle::NoModel => t.open_model_first,
        Obstacle::ModelLoading => t.model_still_loading,
        Obstacle::ChatLoading => t.chat_still_loading,
        Obstacle::Answering => t.answer_under_way,
        Obstacle::Empty => t.type_or_add,
        Obstacle::NoVision => t.opened_text_only,
        Obstacle::UnknownServer => t.server_unknown,
        Obstacle::NoServerModel => t.server_model_first,
    }
}

/// Draws it all.
pub(super) fn composer_ui(
    ui: &mut Ui,
    state: &mut State,
    pictures: &Pictures,
    composition: &mut Composition,
    commands: &mut Vec<Command>,
) {
    let t = texts(ui.ctx());
    let typed = ui.memory(|memory| memory.has_focus(text_id()));
    // The message that is being changed is sent by Enter too.
    let edited = ui.memory(|memory| memory.has_focus(editing_id()));
    if ui.input_mut(|input| composition.take_enter(&mut input.events, typed || edited)) {
        commands.push(if edited { Command::SendEdit } else { Command::Do(Action::Send) });
    }
    let can_edit = typed && state.chat.draft.text.is_empty() && state.chat.editing.is_none();
    if can_edit
        && !composition.is_composing()
        && ui.input_mut(|i| i.consume_key(Modifiers::NONE, Key::ArrowUp))
    {
        commands.push(Command::Do(Action::EditLast));
    }
    attachments_ui(ui, state, &state.chat.draft, pictures, commands);
    let hint = match state.model_info() {
        _ if state.answering_server().is_some() => t.question_hint,
        Some(_) if state.chat.draft.pictures.is_empty() => t.question_hint,
        Some(_) => t.question_hint_pictures,
        None => t.question_hint_no_model,
    };
    ScrollArea::vertical().id_salt("question text").max_height(TEXT_HEIGHT).show(ui, |ui| {
        let text = TextEdit::multiline(&mut state.chat.draft.text)
            .id(text_id())
            .hint_text(hint)
            .desired_rows(2)
            .desired_width(f32::INFINITY)
            .return_key(KeyboardShortcut::new(Modifiers::SHIFT, Key::Enter));
        let text = ui.add(text);
        text.widget_info(|| egui::WidgetInfo::labeled(egui::Role::MultilineTextInput, true, t.question));
    });
    ui.horizontal(|ui| {
        if ui.button(t.add_pictures).on_hover_text(t.add_pictures_hint).clicked() {
            commands.push(Command::Do(Action::AddPictures));
        }
        // In a narrow window the palette and the menu have it.
        let has_room = ui.available_width() > 170.0;
        if has_room && ui.button(t.show_prompt_short).on_hover_text(t.show_prompt_hint).clicked() {
            commands.push(Command::Do(Action::ShowPrompt));
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if state.progress().is_some() {
                if ui.button(RichText::new(t.stop_short).strong()).on_hover_text(t.stop_hint).clicked() {
                    commands.push(Command::Do(Action::Stop));
                }
                return;
            }
            let obstacle = state.cannot_send();
            let send = ui.add_enabled(obstacle.is_none(), Button::new(RichText::new(t.send).strong()));
            if send.clicked() {
                commands.push(Command::Do(Action::Send));
            }
            if let Some(obstacle) = obstacle {
                let reason = obstacle_text(obstacle, t);
                send.on_disabled_hover_text(reason);
                if !state.chat.draft.is_empty() {
                    ui.weak(reason);
                }
            }
        });
    });
}
