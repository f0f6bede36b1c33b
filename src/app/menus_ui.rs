//! Room `app`: draws what is made from the table of actions: the menus, the command palette, the sheet of shortcuts.

use egui::{
    Align2, Area, Button, Context, Frame, Grid, Id, Key, Modal, Modifiers, Order, RichText, ScrollArea,
    TextEdit, Ui,
};

use super::actions::{Action, MENUS, Row, TABLE, fit};
use super::command::Command;
use super::state::State;
use super::texts::{Texts, texts};

/// Can the action be done now?
pub(super) fn is_possible(action: Action, state: &State) -> bool {
    let last = || state.chat.last();
    match action {
        Action::Send => state.cannot_send().is_none(),
        Action::Stop => state.progress().is_some(),
        Action::EditLast => state.chat.last_question().is_some(),
        Action::Regenerate => state.cannot_ask().is_none() && last().is_some(),
        Action::Continue => {
            state.cannot_ask().is_none()
                && last().is_some_and(|entry| entry.role == crate::chat::message::Role::Assistant)
        }
        Action::CopyAnswer => {
            state.chat.shown().any(|entry| entry.role == crate::chat::message::Role::Assistant)
        }
        Action::Undo => !state.undo.is_empty(),
        Action::NewChat | Action::ExportChat | Action::ExportMarkdown => !state.chat.tree.is_empty(),
        Action::Rename | Action::Pin | Action::DeleteChat => state.listed(state.chat.id).is_some(),
        Action::ExportAll | Action::NextChat | Action::PreviousChat => !state.list.is_empty(),
        _ => true,
    }
}

fn keys_text(ctx: &Context, row: &Row) -> String {
    row.keys.map(|keys| ctx.format_shortcut(&keys)).unwrap_or_default()
}

/// Draws the menus.
pub(super) fn menus_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
    let t = texts(ui.ctx());
    for menu in MENUS {
        ui.menu_button(menu.name(t), |ui| {
            ui.set_min_width(260.0);
            for row in TABLE.iter().filter(|row| row.menu == menu) {
                if row.begins_group {
                    ui.separator();
                }
                let mut button = Button::new((row.name)(t));
                // (An empty text of keys would be read out as a blank after the name.)
                if row.keys.is_some() {
                    button = button.shortcut_text(keys_text(ui.ctx(), row));
                }
                if ui.add_enabled(is_possible(row.action, state), button).clicked() {
                    commands.push(Command::Do(row.action));
                    ui.close();
                }
            }
        });
    }
}

/// The command palette while it is open.
#[derive(Debug, Default)]
pub(super) struct Palette {
    typed: String,
    selected: usize,
}

/// What can be chosen in the palette.
struct Choice {
    name: String,
    keys: String,
    command: Command,
}

fn choices(ctx: &Context, state: &State, t: &Texts, typed: &str) -> Vec<Choice> {
    let mut found: Vec<(usize, Choice)> = Vec::new();
    for row in TABLE.iter().filter(|row| row.action != Action::Palette && is_possible(row.action, state)) {
        let name = (row.name)(t).to_owned();
        if let Some(order) = fit(&name, typed) {
            found.push((order, Choice { name, keys: keys_text(ctx, row), command: Command::Do(row.action) }));
        }
    }
    if !typed.trim().is_empty() {
        for conversation in &state.list {
            if let Some(order) = fit(&conversation.title, typed) {
                let name = format!("{}: {}", t.open_chat, conversation.title);
                let command = Command::OpenChat(conversation.id, None);
                found.push((order + 50, Choice { name, keys: String::new(), command }));
            }
        }
    }
    found.sort_by_key(|(order, _)| *order);
    found.into_iter().map(|(_, choice)| choice).take(40).collect()
}

/// Draws the palette; false when it is to be closed.
pub(super) fn palette_ui(
    ctx: &Context,
    state: &State,
    palette: &mut Palette,
    commands: &mut Vec<Command>,
) -> bool {
    let t = texts(ctx);
    let mut open = true;
    let area = Area::new(Id::unique("palette area"))
        .order(Order::Foreground)
        .anchor(Align2::CENTER_TOP, egui::vec2(0.0, 70.0));
    let modal = Modal::new(Id::unique("palette")).area(area).show(ctx, |ui| {
        ui.set_width(520.0_f32.min(ctx.content_rect().width() - 40.0));
        let (up, down, enter) = ui.input_mut(|input| {
            (
                input.consume_key(Modifiers::NONE, Key::ArrowUp),
                input.consume_key(Modifiers::NONE, Key::ArrowDown),
                input.consume_key(Modifiers::NONE, Key::Enter),
            )
        });
        let field = TextEdit::singleline(&mut palette.typed)
            .hint_text(t.palette_hint)
            .desired_width(f32::INFINITY)
            .id(Id::unique("palette field"));
        let field = ui.add(field);
        field.request_focus();
        if field.changed() {
            palette.selected = 0;
        }
        let choices = choices(ctx, state, t, &palette.typed);
        let last = choices.len().saturating_sub(1);
        if down {
            palette.selected = (palette.selected + 1).min(last);
        }
        if up {
            palette.selected = palette.selected.saturating_sub(1);
        }
        palette.selected = palette.selected.min(last);
        let mut chosen = enter.then_some(palette.selected);
        ui.add_space(4.0);
        ScrollArea::vertical().max_height(ctx.content_rect().height() * 0.5).show(ui, |ui| {
            if choices.is_empty() {
                ui.weak(t.nothing_found);
            }
            for (index, choice) in choices.iter().enumerate() {
                let selected = index == palette.selected;
                let button =
                    Button::selectable(selected, choice.name.as_str()).shortcut_text(choice.keys.as_str());
                let response = ui.add_sized([ui.available_width(), 26.0], button);
                if selected && (up || down) {
                    response.scroll_to_me(None);
                }
                if response.clicked() {
                    chosen = Some(index);
                }
            }
        });
        if let Some(choice) = chosen.and_then(|index| choices.into_iter().nth(index)) {
            commands.push(choice.command);
            open = false;
        }
    });
    open && !modal.should_close()
}

/// Draws the sheet of shortcuts; false when it is to be closed.
pub(super) fn sheet_ui(ctx: &Context) -> bool {
    let t = texts(ctx);
    let modal = Modal::new(Id::unique("shortcuts")).show(ctx, |ui| {
        ui.set_width(640.0_f32.min(ctx.content_rect().width() - 60.0));
        ui.heading(t.shortcuts);
        ui.add_space(6.0);
        ScrollArea::vertical().max_height(ctx.content_rect().height() * 0.7).show(ui, |ui| {
            for menu in MENUS {
                ui.add_space(4.0);
                ui.label(RichText::new(menu.name(t)).strong());
                Frame::new().inner_margin(egui::Margin { left: 10, ..egui::Margin::ZERO }).show(ui, |ui| {
                    Grid::new(("shortcuts", menu.name(t))).num_columns(2).min_col_width(180.0).show(
                        ui,
                        |ui| {
                            for row in TABLE.iter().filter(|row| row.menu == menu && row.keys.is_some()) {
                                ui.label(RichText::new(keys_text(ctx, row)).monospace());
                                ui.label((row.name)(t));
                                ui.end_row();
                            }
                        },
                    );
                });
            }
            ui.add_space(4.0);
            ui.weak(t.shortcuts_more);
        });
        ui.add_space(6.0);
        ui.button(t.close).clicked()
    });
    !modal.inner && !modal.should_close()
}
