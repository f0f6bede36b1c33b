//! Room `app`: draws what is inside a token: the pictures with what it attended to, the text, and what each layer would have said.

use egui::text::{LayoutJob, TextFormat};
use egui::{
    Color32, ComboBox, FontId, Grid, Rect, RichText, ScrollArea, Sense, TextStyle, Ui, UiBuilder, WidgetInfo,
    pos2, vec2,
};

use super::token_card::{percent, visible};
use super::tokens_ui::heat;
use super::view::{CostsCommand, CostsView};
use crate::app::chat::units;
use crate::app::pictures::Pictures;
use crate::app::state::{Looking, Outcome, State};
use crate::app::texts::{Texts, fill};
use crate::chat::tree::MessageId;
use crate::engine::{Inside, LayerLens, PicturePlace, Selection};

/// Tokens of text that are drawn, at most: the last ones.
const MOST_TEXT: usize = 3000;
/// Tokens of a layer that are named.
const NAMED: usize = 5;

/// Draws the page. `token` is the chosen one of `answer`; `None`: none is.
#[expect(clippy::too_many_arguments, reason = "a drawing and everything it shows")]
pub(super) fn inside_ui(
    ui: &mut Ui,
    state: &State,
    pictures: &Pictures,
    answer: MessageId,
    token: Option<usize>,
    view: &mut CostsView,
    t: &Texts,
    commands: &mut Vec<CostsCommand>,
) {
    let Some(token) = token else {
        ui.centered_and_justified(|ui| ui.weak(t.inside_choose));
        return;
    };
    let looking = state.looking.as_ref().filter(|looking| looking.answer == answer && looking.token == token);
    let Some(looking) = looking else {
        commands.push(CostsCommand::LookInside(answer, token));
        ui.centered_and_justified(|ui| ui.weak(t.inside_running));
        return;
    };
    match &looking.outcome {
        Outcome::Running(_) => {
            ui.centered_and_justified(|ui| ui.weak(t.inside_running));
        }
        Outcome::Failed(error) => {
            ui.add_space(8.0);
            ui.label(RichText::new(error.to_string()).color(ui.visuals().error_fg_color));
            if ui.button(t.try_again).clicked() {
                commands.push(CostsCommand::LookInside(answer, token));
            }
        }
        Outcome::There(inside) => there_ui(ui, state, pictures, looking, inside, view, t),
    }
}

fn there_ui(
    ui: &mut Ui,
    state: &State,
    pictures: &Pictures,
    looking: &Looking,
    inside: &Inside,
    view: &mut CostsView,
    t: &Texts,
) {
    ui.horizontal(|ui| {
        ui.label(RichText::new(visible(&inside.chosen.1)).monospace().strong());
        choose(ui, t.layer, t.all_layers, inside.layers, &mut view.layer);
        choose(ui, t.head, t.all_heads, inside.heads, &mut view.head);
        ui.label(RichText::new(t.inside_note).small().weak()).on_hover_text(t.inside_hint);
    });
    let key = (looking.answer, looking.token, view.layer, view.head);
    if view.weights.as_ref().is_none_or(|(of, _)| *of != key) {
        let weights = inside.weights(&Selection::new(view.layer, view.head));
        view.weights = Some((key, weights));
    }
    let Some((_, weights)) = &view.weights else { return };
    let whole = ui.available_rect_before_wrap();
    let has_pictures = !inside.pictures.is_empty();
    let shares = if has_pictures { [0.36, 0.32, 0.32] } else { [0.0, 0.5, 0.5] };
    let mut left = whole.left();
    let mut column = |ui: &mut Ui, share: f32, draw: &mut dyn FnMut(&mut Ui)| {
        let width = whole.width() * share;
        if width < 1.0 {
            return;
        }
        let rect = Rect::from_min_size(pos2(left, whole.top()), vec2(width - 10.0, whole.height()));
        left += width;
        let mut child = ui.new_child(UiBuilder::new().id_salt(left as i32).max_rect(rect));
        child.set_clip_rect(rect.expand(1.0).intersect(ui.clip_rect()));
        draw(&mut child);
    };
    column(ui, shares[0], &mut |ui| {
        ScrollArea::vertical().id_salt("inside pictures").auto_shrink(false).show(ui, |ui| {
            for (place, of) in inside.pictures.iter().zip(&looking.pictures) {
                picture_ui(ui, state, pictures, place, *of, weights, t);
            }
        });
    });
    column(ui, shares[1], &mut |ui| text_ui(ui, inside, weights, t));
    column(ui, shares[2], &mut |ui| lens_ui(ui, inside, view.layer, t));
    ui.advance_cursor_after_rect(whole);
}

fn choose(ui: &mut Ui, name: &str, all: &str, count: usize, chosen: &mut Option<usize>) {
    let shown = chosen.map_or(all.to_owned(), |n| format!("{name} {}", n + 1));
    let combo = ComboBox::from_id_salt(name).selected_text(shown).show_ui(ui, |ui| {
        ui.selectable_value(chosen, None, all);
        for n in 0..count {
            ui.selectable_value(chosen, Some(n), format!("{name} {}", n + 1));
        }
    });
    combo.response.widget_info(|| WidgetInfo::labeled(egui::Role::ComboBox, true, name));
}

/// A picture with the grid of its tokens over it.
fn picture_ui(
    ui: &mut Ui,
    state: &State,
    pictures: &Pictures,
    place: &PicturePlace,
    (message, unit): (MessageId, usize),
    weights: &[f32],
    t: &Texts,
) {
    let Some(map) = Inside::heat_map_of(place, weights) else { return };
    let share = percent(map.share());
    let words = fill(t.picture_attention, &[("n", &(place.index + 1)), ("share", &share)]);
    ui.label(RichText::new(&words).small());
    let entry = state.chat.tree.get(message);
    let attachments = entry.map(|entry| units(&entry.attachments)).unwrap_or_default();
    let hash = attachments.get(unit).and_then(|unit| unit.first()).map(|first| first.hash);
    let (width, height) = (place.resized.0.max(1) as f32, place.resized.1.max(1) as f32);
    let scale = (ui.available_width() / width).min((ui.clip_rect().height() - 30.0).max(80.0) / height);
    let (rect, response) = ui.allocate_exact_size(vec2(width, height) * scale, Sense::hover());
    if let Some(texture) = hash.and_then(|hash| pictures.small(&hash)) {
        let uv = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
        ui.painter().image(texture.id(), rect, uv, Color32::from_gray(200));
    } else {
        ui.painter().rect_filled(rect, 0.0, ui.visuals().extreme_bg_color);
    }
    // Of a clip: the mean of its frames.
    let cells = place.rows * place.cols;
    let mean: Vec<f32> = (0..cells)
        .map(|cell| {
            (0..map.frames).map(|frame| map.frame(frame).get(cell).copied().unwrap_or(0.0)).sum::<f32>()
        })
        .collect();
    let (lowest, highest) = mean.iter().fold((f32::INFINITY, 0f32), |(a, b), w| (a.min(*w), b.max(*w)));
    let size = vec2(rect.width() / place.cols as f32, rect.height() / place.rows as f32);
    for (cell, weight) in mean.iter().enumerate() {
        let at = vec2((cell % place.cols) as f32 * size.x, (cell / place.cols) as f32 * size.y);
        let strength = (weight - lowest) / (highest - lowest).max(1e-12);
        // Red shows on most pictures; what is attended to little stays as it is.
        let colour = Color32::from_rgba_unmultiplied(225, 30, 60, (strength.powf(0.8) * 200.0) as u8);
        ui.painter().rect_filled(Rect::from_min_size(rect.min + at, size), 0.0, colour);
    }
    response.widget_info(|| WidgetInfo::labeled(egui::Role::Image, true, &words));
    if let Some(at) = response.hover_pos() {
        let (x, y) = ((at.x - rect.left()) / size.x, (at.y - rect.top()) / size.y);
        let cell = (y as usize).min(place.rows - 1) * place.cols + (x as usize).min(place.cols - 1);
        let weight = percent(mean.get(cell).copied().unwrap_or(0.0));
        response.on_hover_text_at_pointer(weight);
    }
}

/// The text it saw, coloured by what it attended to. Runs of a picture's tokens are one sign.
fn text_ui(ui: &mut Ui, inside: &Inside, weights: &[f32], t: &Texts) {
    let picture = |n: usize| {
        inside
            .pictures
            .iter()
            .find(|p| p.frames.iter().any(|&first| (first..first + p.rows * p.cols).contains(&n)))
    };
    let text = || (0..inside.length()).filter(|&n| !inside.is_picture(n));
    let highest = text().map(|n| weights.get(n).copied().unwrap_or(0.0)).fold(0.0f32, f32::max).max(1e-9);
    let share: f32 = text().filter_map(|n| weights.get(n)).sum();
    ui.label(RichText::new(fill(t.text_attention, &[("share", &percent(share))])).small());
    ScrollArea::vertical().id_salt("inside text").auto_shrink(false).stick_to_bottom(true).show(ui, |ui| {
        let mut job = LayoutJob::default();
        job.wrap.max_width = ui.available_width();
        let font = TextStyle::Small.resolve(ui.style());
        let colour = ui.visuals().text_color();
        let mut last_picture = None;
        let first = inside.length().saturating_sub(MOST_TEXT);
        for n in first..inside.length() {
            let mut format = TextFormat { font_id: font.clone(), color: colour, ..TextFormat::default() };
            if let Some(place) = picture(n) {
                if last_picture.replace(place.index) != Some(place.index) {
                    format.color = ui.visuals().weak_text_color();
                    let words = format!("[{}]", fill(t.picture_number, &[("n", &(place.index + 1))]));
                    job.append(&words, 0.0, format);
                }
                continue;
            }
            last_picture = None;
            let weight = weights.get(n).copied().unwrap_or(0.0);
            format.background = heat(ui, f64::from((weight / highest).sqrt()));
            let text = inside.tokens.get(n).map(|(_, text)| text.as_str()).unwrap_or_default();
            job.append(text, 0.0, format);
        }
        ui.label(job);
    });
}

/// What each layer would have said, the last one first.
fn lens_ui(ui: &mut Ui, inside: &Inside, layer: Option<usize>, t: &Texts) {
    ui.label(RichText::new(t.lens).small()).on_hover_text(t.lens_hint);
    ScrollArea::both().id_salt("lens").auto_shrink(false).show(ui, |ui| {
        Grid::new("lens").num_columns(3 + NAMED).spacing([8.0, 2.0]).min_row_height(15.0).striped(true).show(
            ui,
            |ui| {
                for head in [t.layer, t.probability, t.rank, t.lens_top] {
                    ui.label(RichText::new(head).small().weak());
                }
                ui.end_row();
                for (n, lens) in inside.lens.iter().enumerate().rev() {
                    lens_row(ui, n, lens, layer == Some(n), inside.chosen.0);
                }
            },
        );
    });
}

fn lens_row(ui: &mut Ui, n: usize, lens: &LayerLens, is_chosen: bool, chosen: u32) {
    let small = |text: String| RichText::new(text).font(FontId::monospace(10.5));
    let number = small(format!("{:>3}", n + 1));
    ui.label(if is_chosen { number.strong() } else { number });
    ui.label(small(percent(lens.chosen_logprob.exp())));
    ui.label(small((lens.chosen_rank + 1).to_string()));
    for token in lens.top.iter().take(NAMED) {
        let background = heat(ui, f64::from(token.logprob.exp()));
        let words = small(visible(&token.text)).background_color(background);
        let words = if token.id == chosen { words.strong().underline() } else { words };
        ui.label(words).on_hover_text(percent(token.logprob.exp()));
    }
    ui.end_row();
}
