//! Room `app`: draws the conversation: questions with their pictures, answers, and what can be done with each.

use std::collections::HashMap;

use egui::{
    Frame, Image, KeyboardShortcut, Label, Layout, Margin, Modifiers, RichText, Role as Kind, Sense,
    TextEdit, TextWrapMode, Ui, WidgetInfo,
};

use super::attachments_ui::attachments_ui;
use super::chat::{AnswerDetails, Editing, QuestionDetails, details, units};
use super::command::{Command, Look};
use super::comparing_ui::CompareCommand;
use super::composer_ui::obstacle_text;
use super::costs::{CostsCommand, CostsView, count, tokens_ui};
use super::grounding_ui;
use super::markdown_ui::Markdown;
use super::message_list::{MessageList, ScrollTo};
use super::pictures::Pictures;
use super::plain_text::plain_text;
use super::state::{Obstacle, State};
use super::texts::{Texts, fill, texts};
use super::{status_ui, style};
use crate::chat::grounding::{Found, find};
use crate::chat::message::Role;
use crate::chat::tree::{Attachment, AttachmentKind, Entry, MessageId, MessageState};

/// Height of a picture under an answer with its boxes, points.
const GROUNDED_HEIGHT: f32 = 260.0;

/// What the conversation's drawing remembers from frame to frame.
#[derive(Default)]
pub(super) struct ChatView {
    list: MessageList,
    markdown: Markdown,
    /// Boxes in answers: the length of the text they were found in, and they.
    found: HashMap<MessageId, (usize, Vec<Found>)>,
    /// The box that is pointed at, from the last frame and for the next one.
    pointed: Option<(MessageId, usize)>,
    pointed_next: Option<(MessageId, usize)>,
    /// The message that a search has led to, marked.
    pub marked: Option<MessageId>,
    /// Answers are shown as the text they are.
    pub as_text: bool,
    /// How costs are looked at.
    pub costs: CostsView,
}

impl ChatView {
    /// The boxes and points of an answer.
    pub fn found(&mut self, entry: &Entry) -> &[Found] {
        let kept = self.found.entry(entry.id).or_insert((usize::MAX, Vec::new()));
        if kept.0 != entry.text.len() {
            *kept = (entry.text.len(), find(&entry.text));
        }
        &kept.1
    }
}

/// The picture that a thing found in an answer is in: its message and its place there. An answer that does not say means the
/// first picture of the last question with pictures.
pub(super) fn picture_of(state: &State, answer: MessageId, found: &Found) -> Option<(MessageId, usize)> {
    let path = state.chat.tree.path_to(answer);
    let entries = || path.iter().filter_map(|id| state.chat.tree.get(*id));
    let pictures = |entry: &Entry| units(&entry.attachments).len();
    match found.picture {
        Some(index) => {
            let mut all = entries().flat_map(|e| (0..pictures(e)).map(move |place| (e.id, place)));
            all.nth(index)
        }
        None => entries().rev().find(|e| pictures(e) > 0).map(|e| (e.id, 0)),
    }
}

/// Draws the conversation, which is not empty.
pub(super) fn chat_ui(
    ui: &mut Ui,
    state: &mut State,
    view: &mut ChatView,
    pictures: &Pictures,
    scroll_to: Option<ScrollTo<i64>>,
    commands: &mut Vec<Command>,
) {
    let t = texts(ui.ctx());
    view.pointed = view.pointed_next.take();
    let mut editing = state.chat.editing.take();
    let path = state.chat.tree.path().to_vec();
    let keys: Vec<i64> = path.iter().map(|id| id.0).collect();
    let width = ui.available_width().min(style::COLUMN_WIDTH);
    let tree = &state.chat.tree;
    let estimate = |index: usize| {
        path.get(index).and_then(|id| tree.get(*id)).map_or(60.0, |entry| {
            let lines = entry.text.len() as f32 * 7.5 / width.max(100.0) + entry.text.lines().count() as f32;
            let picture_rows = if entry.attachments.is_empty() { 0.0 } else { style::PICTURE_HEIGHT + 50.0 };
            60.0 + lines * 19.0 + picture_rows
        })
    };
    let mut list = std::mem::take(&mut view.list);
    list.show(ui, &keys, estimate, scroll_to, |ui, index| {
        let Some(entry) = path.get(index).and_then(|id| state.chat.tree.get(*id)) else { return };
        style::column(ui, |ui| {
            if let Some(editing) = editing.as_mut().filter(|editing| editing.message == entry.id) {
                editing_ui(ui, state, entry, editing, pictures, t, commands);
            } else if entry.role == Role::Assistant {
                answer_ui(ui, state, entry, view, pictures, t, commands);
            } else {
                question_ui(ui, state, entry, view, pictures, t, commands);
            }
        });
    });
    view.list = list;
    if view.pointed != view.pointed_next {
        ui.ctx().request_repaint();
    }
    // Only if nothing else has begun an edit meanwhile.
    if state.chat.editing.is_none() {
        state.chat.editing = editing;
    }
}

fn question_ui(
    ui: &mut Ui,
    state: &State,
    entry: &Entry,
    view: &ChatView,
    pictures: &Pictures,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    ui.add_space(8.0);
    let marked = view.marked == Some(entry.id);
    let frame = Frame::new()
        .fill(ui.visuals().faint_bg_color)
        .corner_radius(8.0)
        .stroke(mark(ui, marked))
        .inner_margin(Margin::symmetric(12, 8));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.label(RichText::new(t.you).small().weak());
        if !entry.attachments.is_empty() {
            let seen: QuestionDetails = details(entry);
            ui.with_layout(Layout::left_to_right(egui::Align::TOP).with_main_wrap(true), |ui| {
                for (place, unit) in units(&entry.attachments).into_iter().enumerate() {
                    let report = seen.pictures.get(place).and_then(Option::as_ref);
                    picture_ui(ui, state, (entry.id, place), unit, report, pictures, t, commands);
                }
            });
        }
        let text = entry.text.trim();
        if !text.is_empty() {
            ui.add(Label::new(text).selectable(true).wrap());
        }
        ui.horizontal_wrapped(|ui| {
            siblings_ui(ui, state, entry.id, t, commands);
            if style::quiet_button(ui, t.edit, t.edit_question_hint, true).clicked() {
                commands.push(Command::Edit(entry.id));
            }
            if !text.is_empty() && style::quiet_button(ui, t.copy, t.copy_question_hint, true).clicked() {
                commands.push(Command::Copy(text.to_owned()));
            }
            if style::quiet_button(ui, t.delete, t.delete_hint, true).clicked() {
                commands.push(Command::DeleteBranch(entry.id));
            }
        });
    });
}

fn mark(ui: &Ui, marked: bool) -> egui::Stroke {
    if marked { egui::Stroke::new(1.5, ui.visuals().selection.bg_fill) } else { egui::Stroke::NONE }
}

/// `‹ 2/3 ›`: the versions of a message.
fn siblings_ui(ui: &mut Ui, state: &State, id: MessageId, t: &Texts, commands: &mut Vec<Command>) {
    let Some(siblings) = state.chat.tree.siblings(id).filter(|siblings| siblings.count > 1) else { return };
    ui.spacing_mut().item_spacing.x = 4.0;
    let may = state.message_under_way().is_none();
    for (shown, name, to) in
        [("‹", t.previous_version, siblings.previous), ("›", t.next_version, siblings.next)]
    {
        if shown == "›" {
            let text = format!("{}/{}", siblings.index + 1, siblings.count);
            ui.label(RichText::new(text).small().weak());
        }
        if style::quiet_button(ui, shown, name, may && to.is_some()).clicked()
            && let Some(to) = to
        {
            commands.push(Command::ShowBranch(to));
        }
    }
}

/// A picture or clip with what the model saw of it.
#[expect(clippy::too_many_arguments, reason = "a drawing and everything it shows")]
fn picture_ui(
    ui: &mut Ui,
    state: &State,
    (message, place): (MessageId, usize),
    unit: &[Attachment],
    report: Option<&crate::engine::PictureReport>,
    pictures: &Pictures,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let Some(first) = unit.first() else { return };
    for attachment in unit {
        if !state.files.contains_key(&attachment.hash) {
            commands.push(Command::WantPicture(attachment.clone()));
        }
    }
    let frames: Vec<&egui::TextureHandle> = match first.kind {
        AttachmentKind::Image => pictures.small(&first.hash).into_iter().collect(),
        AttachmentKind::Animation => pictures.frames(&first.hash).iter().collect(),
        AttachmentKind::Frame => {
            let every = unit.len().div_ceil(8).max(1);
            unit.iter().step_by(every).filter_map(|a| pictures.small(&a.hash)).collect()
        }
    };
    let shape = frames.first().map_or(1.0, |texture| texture.aspect_ratio());
    let is_strip = frames.len() > 1;
    let height = if is_strip { style::PICTURE_HEIGHT * 0.6 } else { style::PICTURE_HEIGHT };
    let shown = frames.len().max(1) as f32;
    let width = (height * shape * shown + 4.0 * (shown - 1.0))
        .clamp(style::PICTURE_HEIGHT, if is_strip { 740.0 } else { style::PICTURE_HEIGHT * 2.4 });
    let width = width.min(ui.available_width().max(style::PICTURE_HEIGHT));
    let name = if first.kind == AttachmentKind::Frame {
        super::chat::clip_name(&first.name)
    } else {
        first.name.as_str()
    };
    ui.allocate_ui_with_layout(egui::vec2(width, height), Layout::top_down(egui::Align::Min), |ui| {
        ui.set_width(width);
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 4.0;
            for texture in &frames {
                let most = egui::vec2(width / shown - 4.0 * (shown - 1.0) / shown, height);
                let image = Image::new(*texture)
                    .max_size(most)
                    .corner_radius(4.0)
                    .alt_text(name)
                    .sense(Sense::click());
                let image = ui.add(image).on_hover_text(t.enlarge_hint);
                image.widget_info(|| {
                    WidgetInfo::labeled(Kind::Button, true, fill(t.enlarge_named, &[("name", &name)]))
                });
                if image.clicked() {
                    commands.push(Command::Look(Look::Message(message, place)));
                }
            }
            if let Some(error) = unit.iter().find_map(|a| state.lost_files.get(&a.hash)) {
                let text = RichText::new(t.cannot_be_read).small().color(ui.visuals().error_fg_color);
                ui.label(text).on_hover_text(error.to_string());
            } else if frames.is_empty() {
                ui.weak(t.reading);
            }
        });
        ui.spacing_mut().item_spacing.y = 1.0;
        ui.add(Label::new(RichText::new(name).small()).truncate());
        if let Some(report) = report {
            let text = RichText::new(status_ui::picture_text(report, t)).small().weak();
            let size = state.files.get(&first.hash).map_or((0, 0), |file| file.size);
            ui.add(Label::new(text).wrap_mode(TextWrapMode::Wrap))
                .on_hover_text(status_ui::picture_details(report, size, t));
        }
    });
}

fn answer_ui(
    ui: &mut Ui,
    state: &State,
    entry: &Entry,
    view: &mut ChatView,
    pictures: &Pictures,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    ui.add_space(4.0);
    let about: AnswerDetails = details(entry);
    let is_coming = state.message_under_way() == Some(entry.id);
    let marked = view.marked == Some(entry.id);
    let frame =
        Frame::new().corner_radius(8.0).stroke(mark(ui, marked)).inner_margin(Margin::symmetric(12, 4));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        let name = if about.model.is_empty() { t.answer } else { about.model.as_str() };
        let edited = if about.is_edited { t.edited } else { "" };
        let name = match about.server.as_str() {
            "" => name.to_owned(),
            server => fill(t.from_server, &[("model", &name), ("server", &server)]),
        };
        ui.label(RichText::new(format!("{name} {edited}")).small().weak());
        if !about.thinking.is_empty() {
            ui.collapsing(RichText::new(t.thoughts).small(), |ui| {
                ui.add(Label::new(RichText::new(&about.thinking).small().weak()).selectable(true).wrap());
            });
        }
        let pieces = match view.costs.metric {
            // The tokens of a text that was changed are not its own.
            Some(_) if !about.is_edited => state.costs_of(entry.id),
            _ => Vec::new(),
        };
        if view.costs.metric.is_some() && pieces.is_empty() && !is_coming {
            commands.push(Command::Costs(CostsCommand::Want(entry.id)));
        }
        if let Some(metric) = view.costs.metric.filter(|_| count(&pieces) > 0) {
            ui.scope(|ui| tokens_ui(ui, entry, &pieces, metric, &mut view.costs, t));
        } else if view.as_text {
            ui.add(Label::new(entry.text.as_str()).selectable(true).wrap());
        } else if !entry.text.is_empty() {
            view.markdown.show(ui, entry.id.0, &entry.text);
        }
        if is_coming && entry.text.is_empty() {
            ui.weak("…");
        } else if !is_coming && entry.text.is_empty() {
            ui.weak(t.empty_answer);
        }
        grounding(ui, state, entry, view, pictures, t, commands);
        if is_coming {
            return;
        }
        if let Some(error) = &about.error {
            let text = RichText::new(fill(t.broken_off, &[("error", error)])).small();
            ui.label(text.color(ui.visuals().error_fg_color));
        }
        if let Some(figures) = &about.figures {
            let seed = about.sampling.filter(|sampling| sampling.temperature > 0.0).map(|s| s.seed);
            let line = RichText::new(status_ui::figures_text(figures, seed, t)).small().weak();
            ui.add(Label::new(line).selectable(true).wrap());
        } else if let Some(figures) = &about.remote {
            let line = RichText::new(status_ui::remote_figures_text(figures, t)).small().weak();
            ui.add(Label::new(line).selectable(true).wrap());
        } else if entry.state == MessageState::Stopped {
            ui.label(RichText::new(t.interrupted).small().weak());
        }
        answer_buttons(ui, state, entry, t, commands);
    });
}

fn answer_buttons(ui: &mut Ui, state: &State, entry: &Entry, t: &Texts, commands: &mut Vec<Command>) {
    ui.horizontal_wrapped(|ui| {
        siblings_ui(ui, state, entry.id, t, commands);
        let has_text = !entry.text.is_empty();
        if has_text && style::quiet_button(ui, t.copy, t.copy_answer, true).clicked() {
            commands.push(Command::Copy(plain_text(&entry.text)));
        }
        if has_text && style::quiet_button(ui, t.copy_markdown, t.copy_markdown_hint, true).clicked() {
            commands.push(Command::Copy(entry.text.clone()));
        }
        let obstacle = state.cannot_ask();
        let can = obstacle.is_none();
        let why = |name: &'static str| match obstacle {
            Some(obstacle @ (Obstacle::NoModel | Obstacle::UnknownServer | Obstacle::NoServerModel)) => {
                obstacle_text(obstacle, t)
            }
            _ => name,
        };
        if style::quiet_button(ui, t.again, why(t.again_hint), can).clicked() {
            commands.push(Command::Regenerate(entry.id));
        }
        if style::quiet_button(ui, t.go_on, why(t.continue_answer), can).clicked() {
            commands.push(Command::Continue(entry.id));
        }
        if style::quiet_button(ui, t.edit, t.edit_answer_hint, true).clicked() {
            commands.push(Command::Edit(entry.id));
        }
        if style::quiet_button(ui, t.costs_of_answer, t.costs_of_answer_hint, true).clicked() {
            commands.push(Command::Costs(CostsCommand::Open(entry.id)));
        }
        if style::quiet_button(ui, t.compare_from_here, t.compare_from_hint, true).clicked() {
            commands.push(Command::Compare(CompareCommand::From(entry.id)));
        }
        if style::quiet_button(ui, t.delete, t.delete_hint, true).clicked() {
            commands.push(Command::DeleteBranch(entry.id));
        }
    });
}

/// The things an answer shows, drawn on their pictures, and listed.
fn grounding(
    ui: &mut Ui,
    state: &State,
    entry: &Entry,
    view: &mut ChatView,
    pictures: &Pictures,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    if view.found(entry).is_empty() {
        return;
    }
    let found = view.found(entry).to_vec();
    let mut groups: Vec<((MessageId, usize), Vec<usize>)> = Vec::new();
    for (index, thing) in found.iter().enumerate() {
        let Some(picture) = picture_of(state, entry.id, thing) else { continue };
        match groups.iter_mut().find(|(at, _)| *at == picture) {
            Some((_, things)) => things.push(index),
            None => groups.push((picture, vec![index])),
        }
    }
    for ((message, place), indices) in groups {
        let Some(question) = state.chat.tree.get(message) else { continue };
        let all = units(&question.attachments);
        let Some(first) = all.get(place).and_then(|unit| unit.first()) else { continue };
        if !state.files.contains_key(&first.hash) {
            commands.push(Command::WantPicture(first.clone()));
        }
        let size = state.files.get(&first.hash).map_or((0, 0), |file| file.size);
        let things: Vec<Found> = indices.iter().filter_map(|index| found.get(*index).cloned()).collect();
        let local = |global: usize| indices.iter().position(|index| *index == global);
        let highlighted =
            view.pointed.filter(|(id, _)| *id == entry.id).and_then(|(_, global)| local(global));
        let mut pointed = None;
        ui.add_space(4.0);
        ui.horizontal_top(|ui| {
            if let Some(texture) = pictures.small(&first.hash) {
                let shape = texture.aspect_ratio();
                let most_width = (ui.available_width() * 0.62).max(120.0);
                let width = (GROUNDED_HEIGHT * shape).min(most_width);
                let image = Image::new(texture)
                    .fit_to_exact_size(egui::vec2(width, width / shape))
                    .corner_radius(4.0)
                    .sense(Sense::click())
                    .alt_text(&first.name);
                let image = ui.add(image);
                image.widget_info(|| {
                    WidgetInfo::labeled(Kind::Button, true, fill(t.enlarge_named, &[("name", &first.name)]))
                });
                pointed = grounding_ui::overlay(ui, image.rect, &things, highlighted);
                if image.clicked() {
                    commands.push(Command::Look(Look::Grounded(entry.id, message, place)));
                }
            }
            ui.vertical(|ui| {
                let row = grounding_ui::list(ui, &things, size, highlighted);
                pointed = pointed.or(row);
                let copy = style::quiet_button(ui, t.copy_coordinates, t.copy_coordinates_hint, size.0 > 0);
                if copy.clicked() {
                    commands.push(Command::Copy(grounding_ui::coordinates_text(&things, size)));
                }
                if style::quiet_button(ui, t.enlarge, t.enlarge_hint, true).clicked() {
                    commands.push(Command::Look(Look::Grounded(entry.id, message, place)));
                }
            });
        });
        if let Some(global) = pointed.and_then(|local| indices.get(local)) {
            view.pointed_next = Some((entry.id, *global));
        }
    }
}

/// A message being changed.
fn editing_ui(
    ui: &mut Ui,
    state: &State,
    entry: &Entry,
    editing: &mut Editing,
    pictures: &Pictures,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    ui.add_space(8.0);
    let is_answer = entry.role == Role::Assistant;
    let frame = Frame::new()
        .fill(ui.visuals().faint_bg_color)
        .stroke(egui::Stroke::new(1.0, ui.visuals().selection.bg_fill))
        .corner_radius(8.0)
        .inner_margin(Margin::symmetric(12, 8));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.label(RichText::new(if is_answer { t.editing_answer } else { t.editing_question }).small().weak());
        attachments_ui(ui, state, &editing.draft, pictures, commands);
        let field = TextEdit::multiline(&mut editing.draft.text)
            .id(editing_id())
            .desired_rows(2)
            .desired_width(f32::INFINITY)
            .return_key(KeyboardShortcut::new(Modifiers::SHIFT, egui::Key::Enter));
        let field = ui.add(field);
        field.widget_info(|| WidgetInfo::labeled(Kind::MultilineTextInput, true, t.edited_message));
        ui.horizontal(|ui| {
            let can = state.cannot_ask().is_none();
            let (name, hint) = if is_answer {
                (t.save_and_go_on, t.save_and_go_on_hint)
            } else {
                (t.send, t.send_edit_hint)
            };
            if ui
                .add_enabled(can, egui::Button::new(RichText::new(name).strong()))
                .on_hover_text(hint)
                .clicked()
            {
                commands.push(Command::SendEdit);
            }
            if ui.button(t.save).on_hover_text(t.save_edit_hint).clicked() {
                commands.push(Command::SaveEdit);
            }
            if ui.button(t.cancel).on_hover_text(t.cancel_edit_hint).clicked() {
                commands.push(Command::CancelEdit);
            }
            if !is_answer && ui.button(t.add_pictures).clicked() {
                commands.push(Command::Do(super::actions::Action::AddPictures));
            }
        });
    });
}

/// The text field of the message that is being changed.
pub(super) fn editing_id() -> egui::Id {
    egui::Id::unique("edited message")
}

/// Gives the keyboard to the message that is being changed, at its end.
pub(super) fn focus_edited(ctx: &egui::Context, state: &State) {
    let length = state.chat.editing.as_ref().map_or(0, |editing| editing.draft.text.chars().count());
    let end = egui::text::CCursorRange::one(egui::text::CCursor::new(length));
    let mut field = egui::text_edit::TextEditState::load(ctx, editing_id()).unwrap_or_default();
    field.cursor.set_char_range(Some(end));
    field.store(ctx, editing_id());
    ctx.memory_mut(|memory| memory.request_focus(editing_id()));
}
