//! Room `app`: draws the pictures of a question in the making: to reorder by dragging or by keys, replace, remove, look at in
//! large; and what they will cost.

use egui::{Frame, Image, Label, Margin, RichText, Role, ScrollArea, Sense, Ui, WidgetInfo};

use super::chat::{Attached, Draft, PictureState, clip_name, one_clip};
use super::command::{Command, Look};
use super::pictures::Pictures;
use super::state::State;
use super::style;
use super::texts::{Texts, fill, texts};
use crate::chat::tree::AttachmentKind;
use crate::engine::ModelInfo;
use crate::model::preprocessor::TokenRange;

/// Frames of a clip that are shown before it is sent.
const STRIP_FRAMES: usize = 4;

/// A picture being dragged: its number.
#[derive(Clone, Copy)]
struct Dragged(u64);

/// Image tokens that a picture of this size takes; `None`: the model refuses it.
#[must_use]
pub fn picture_cost(info: &ModelInfo, range: Option<TokenRange>, width: u32, height: u32) -> Option<usize> {
    info.preprocessors.image.image_tokens(range, width, height)
}

/// Image tokens of a clip of so many frames of this size; `None`: the model refuses it.
fn clip_cost(
    info: &ModelInfo,
    range: Option<TokenRange>,
    frames: usize,
    width: u32,
    height: u32,
) -> Option<usize> {
    let clip = info.preprocessors.video?.pixels;
    let config = range.map_or(Ok(clip), |range| clip.with_tokens(range, clip.temporal_patch_size)).ok()?;
    let (height, width) = config.video_size(frames, height, width).ok()?;
    let patches = frames.div_ceil(clip.temporal_patch_size as usize);
    Some(patches * (height / config.factor()) as usize * (width / config.factor()) as usize)
}

/// Image tokens of a whole draft, as far as its pictures are read.
pub(super) fn draft_cost(state: &State, draft: &Draft) -> Option<usize> {
    let info = state.local_model()?;
    let range = state.chat.settings.image_token_range();
    let mut total = 0;
    for unit in draft.pictures.chunk_by(one_clip) {
        let Some(first) = unit.first() else { continue };
        let PictureState::Ready(hash, width, height) = first.state else { return None };
        total += match first.kind {
            AttachmentKind::Image => picture_cost(info, range, width, height)?,
            AttachmentKind::Animation => {
                let frames = state.files.get(&hash).map_or(1, |file| file.frames);
                clip_cost(info, range, frames, width, height)?
            }
            AttachmentKind::Frame => clip_cost(info, range, unit.len(), width, height)?,
        };
    }
    Some(total)
}

/// Draws the pictures of a draft in a row.
pub(super) fn attachments_ui(
    ui: &mut Ui,
    state: &State,
    draft: &Draft,
    pictures: &Pictures,
    commands: &mut Vec<Command>,
) {
    if draft.pictures.is_empty() {
        return;
    }
    let t = texts(ui.ctx());
    let cost = draft_cost(state, draft);
    ScrollArea::horizontal().id_salt("draft pictures").show(ui, |ui| {
        ui.horizontal(|ui| {
            let mut place = 0;
            for unit in draft.pictures.chunk_by(one_clip) {
                if let [picture] = unit {
                    ui.push_id(picture.id, |ui| {
                        picture_ui(ui, state, picture, (place, draft.pictures.len()), pictures, t, commands);
                    });
                } else {
                    frames_ui(ui, unit, pictures, t, commands);
                }
                place += unit.len();
            }
        });
    });
    if let Some(tokens) = cost {
        let context = state.model_info().map_or(0, |info| info.context);
        let text = fill(
            t.pictures_cost,
            &[("tokens", &style::grouped(tokens)), ("context", &style::grouped(context))],
        );
        let left = context.saturating_sub(state.context_used());
        let colour = if tokens >= left { ui.visuals().warn_fg_color } else { ui.visuals().weak_text_color() };
        ui.label(RichText::new(text).small().color(colour)).on_hover_text(t.pictures_cost_hint);
    }
}

/// Frames of one clip together.
fn frames_ui(ui: &mut Ui, unit: &[Attached], pictures: &Pictures, t: &Texts, commands: &mut Vec<Command>) {
    let Some(first) = unit.first() else { return };
    let name = clip_name(&first.name);
    let frame =
        Frame::new().fill(ui.visuals().faint_bg_color).corner_radius(6.0).inner_margin(Margin::same(4));
    frame.show(ui, |ui| {
        ui.horizontal_top(|ui| {
            ui.spacing_mut().item_spacing.x = 3.0;
            let every = unit.len().div_ceil(STRIP_FRAMES).max(1);
            for picture in unit.iter().step_by(every) {
                if let Some(texture) = picture.hash().and_then(|hash| pictures.small(&hash)) {
                    let size = egui::vec2(style::DRAFT_PICTURE_HEIGHT * 1.2, style::DRAFT_PICTURE_HEIGHT);
                    ui.add(Image::new(texture).max_size(size).corner_radius(3.0).alt_text(&picture.name));
                }
            }
            ui.vertical(|ui| {
                ui.spacing_mut().item_spacing.y = 1.0;
                ui.set_max_width(136.0);
                ui.add(Label::new(RichText::new(name).small()).truncate());
                let reading = unit.iter().filter(|p| matches!(p.state, PictureState::Reading)).count();
                let failed = unit.iter().find_map(|p| match &p.state {
                    PictureState::Failed(error) => Some(error),
                    _ => None,
                });
                let frames = fill(t.as_clip, &[("frames", &unit.len())]);
                match failed {
                    Some(error) => {
                        let text = RichText::new(t.cannot_be_read).small();
                        ui.label(text.color(ui.visuals().error_fg_color)).on_hover_text(error.to_string());
                    }
                    None if reading > 0 => {
                        ui.label(RichText::new(t.reading).small().weak());
                    }
                    None => {
                        ui.label(RichText::new(frames).small().weak());
                    }
                }
                let remove = fill(t.remove_named, &[("name", &name)]);
                if style::quiet_button(ui, "×", &remove, true).clicked() {
                    commands.extend(unit.iter().map(|picture| Command::RemovePicture(picture.id)));
                }
            });
        });
    });
}

fn picture_ui(
    ui: &mut Ui,
    state: &State,
    picture: &Attached,
    (place, count): (usize, usize),
    pictures: &Pictures,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let frame =
        Frame::new().fill(ui.visuals().faint_bg_color).corner_radius(6.0).inner_margin(Margin::same(4));
    let card = frame.show(ui, |ui| {
        ui.horizontal_top(|ui| {
            if let Some(texture) = picture.hash().and_then(|hash| pictures.small(&hash)) {
                let size = egui::vec2(style::DRAFT_PICTURE_HEIGHT * 2.4, style::DRAFT_PICTURE_HEIGHT);
                let image = Image::new(texture)
                    .max_size(size)
                    .corner_radius(3.0)
                    .alt_text(&picture.name)
                    .sense(Sense::click_and_drag());
                let image = ui.add(image).on_hover_text(t.picture_drag_hint);
                image.widget_info(|| {
                    WidgetInfo::labeled(Role::Button, true, fill(t.enlarge_named, &[("name", &picture.name)]))
                });
                image.dnd_set_drag_payload(Dragged(picture.id));
                if image.clicked()
                    && let Some(hash) = picture.hash()
                {
                    commands.push(Command::Look(Look::Draft(hash, picture.name.clone())));
                }
            }
            ui.vertical(|ui| {
                ui.spacing_mut().item_spacing.y = 1.0;
                ui.set_max_width(136.0);
                ui.add(Label::new(RichText::new(&picture.name).small()).truncate());
                state_ui(ui, state, picture, t);
                ui.horizontal(|ui| {
                    ui.spacing_mut().item_spacing.x = 2.0;
                    buttons_ui(ui, picture, (place, count), t, commands);
                });
                clip_ui(ui, state, picture, t, commands);
            });
        });
    });
    // Somebody else's picture dropped here takes this place.
    if let Some(dragged) = card.response.dnd_hover_payload::<Dragged>()
        && dragged.0 != picture.id
    {
        ui.painter().rect_stroke(
            card.response.rect,
            6.0,
            egui::Stroke::new(2.0, ui.visuals().selection.bg_fill),
            egui::StrokeKind::Inside,
        );
    }
    if let Some(dragged) = card.response.dnd_release_payload::<Dragged>() {
        commands.push(Command::MovePicture(dragged.0, place));
    }
}

fn state_ui(ui: &mut Ui, state: &State, picture: &Attached, t: &Texts) {
    match &picture.state {
        PictureState::Reading => {
            ui.label(RichText::new(t.reading).small().weak());
        }
        PictureState::Ready(hash, width, height) => {
            let mut text = format!("{width}×{height}");
            let info = state.local_model();
            let range = state.chat.settings.image_token_range();
            let frames = state.files.get(hash).map_or(1, |file| file.frames);
            let cost = info.and_then(|info| match picture.kind {
                AttachmentKind::Image => picture_cost(info, range, *width, *height),
                AttachmentKind::Animation => clip_cost(info, range, frames, *width, *height),
                AttachmentKind::Frame => None,
            });
            if let Some(cost) = cost {
                text += &format!(" · {}", fill(t.tokens, &[("n", &style::grouped(cost))]));
            }
            ui.label(RichText::new(text).small().weak());
        }
        PictureState::Failed(error) => {
            ui.label(RichText::new(t.cannot_be_read).small().color(ui.visuals().error_fg_color))
                .on_hover_text(error.to_string());
        }
    }
}

fn buttons_ui(
    ui: &mut Ui,
    picture: &Attached,
    (place, count): (usize, usize),
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let name = &picture.name;
    let named = |text: &str| fill(text, &[("name", name)]);
    if count > 1 {
        if style::quiet_button(ui, "←", &named(t.move_left_named), place > 0).clicked() {
            commands.push(Command::MovePicture(picture.id, place - 1));
        }
        if style::quiet_button(ui, "→", &named(t.move_right_named), place + 1 < count).clicked() {
            commands.push(Command::MovePicture(picture.id, place + 1));
        }
    }
    if style::quiet_button(ui, "↺", &named(t.replace_named), true).clicked() {
        commands.push(Command::ReplacePicture(picture.id));
    }
    if style::quiet_button(ui, "✖", &named(t.remove_named), true).clicked() {
        commands.push(Command::RemovePicture(picture.id));
    }
}

/// An animated file may be looked at as a clip or as one picture.
fn clip_ui(ui: &mut Ui, state: &State, picture: &Attached, t: &Texts, commands: &mut Vec<Command>) {
    let frames = picture.hash().and_then(|hash| state.files.get(&hash)).map_or(1, |file| file.frames);
    if frames < 2 || picture.kind == AttachmentKind::Frame {
        return;
    }
    let mut is_clip = picture.kind == AttachmentKind::Animation;
    let text = RichText::new(fill(t.as_clip, &[("frames", &frames)])).small();
    if ui.checkbox(&mut is_clip, text).on_hover_text(t.as_clip_hint).changed() {
        commands.push(Command::SetClip(picture.id, is_clip));
    }
}
