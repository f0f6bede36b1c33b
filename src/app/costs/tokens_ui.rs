//! Room `app`: draws an answer as the tokens it is made of, each coloured by what it cost or how sure the model was. Only what is in
//! sight is laid out.

use std::collections::HashMap;
use std::ops::Range;

use egui::text::{LayoutJob, TextFormat};
use egui::{
    Color32, EventFilter, FontSelection, Galley, Id, Key, Modifiers, Pos2, Rect, Response, Role, Sense,
    Stroke, StrokeKind, TextStyle, Ui, WidgetInfo, pos2, vec2,
};

use super::token_card;
use super::view::{CostsView, count, nth};
use crate::app::message_list::grew_above;
use crate::app::texts::{Texts, fill};
use crate::chat::tree::{Entry, MessageId};
use crate::costs::Costs;
use crate::costs::colour::{Metric, Scale};

/// A piece of text without a line's end is laid out whole up to so many tokens.
const MOST_TOKENS: usize = 1500;
/// Laid out above and below what is in sight, points.
const MARGIN: f32 = 300.0;
/// Answers whose heights are remembered.
const REMEMBERED: usize = 64;

/// Heights of what is not in sight.
#[derive(Debug, Default)]
pub(super) struct TokensView {
    answers: HashMap<MessageId, Blocks>,
}

impl TokensView {
    /// The scale of an answer's tokens: that of its drawing where it is drawn.
    pub fn scale(&self, answer: MessageId, metric: Metric, pieces: &[&Costs]) -> Scale {
        let drawn = self.answers.get(&answer).and_then(|blocks| blocks.scale);
        let drawn = drawn.filter(|(tokens, scale)| *tokens == count(pieces) && scale.metric == metric);
        drawn.map_or_else(|| Scale::new(metric, pieces), |(_, scale)| scale)
    }
}

#[derive(Debug, Default)]
struct Blocks {
    /// Tokens cut into blocks so far.
    tokens: usize,
    list: Vec<Block>,
    width: f32,
    /// The scale of so many tokens.
    scale: Option<(usize, Scale)>,
}

#[derive(Debug)]
struct Block {
    tokens: Range<usize>,
    height: Option<f32>,
}

impl Blocks {
    /// The scale of these tokens, made anew where there are others than before.
    fn scale(&mut self, metric: Metric, pieces: &[&Costs]) -> Scale {
        match self.scale {
            Some((tokens, scale)) if tokens == self.tokens && scale.metric == metric => scale,
            _ => {
                let scale = Scale::new(metric, pieces);
                self.scale = Some((self.tokens, scale));
                scale
            }
        }
    }

    /// Cuts what has come since; the last block grows.
    fn take(&mut self, pieces: &[&Costs], texts: &[&str]) {
        let all = count(pieces);
        if self.tokens == all {
            return;
        }
        if self.tokens > all {
            *self = Self::default();
        }
        let from = self.list.pop().map_or(0, |block| block.tokens.start);
        let mut begin = from;
        for (n, text) in texts.iter().enumerate().take(all).skip(from) {
            if text.contains('\n') || n - begin >= MOST_TOKENS {
                self.list.push(Block { tokens: begin..n + 1, height: None });
                begin = n + 1;
            }
        }
        if begin < all {
            self.list.push(Block { tokens: begin..all, height: None });
        }
        self.tokens = all;
    }
}

/// The colour behind a token that is so remarkable, 0 to 1: one hue, so that it reads by its strength alone.
pub(super) fn heat(ui: &Ui, strength: f64) -> Color32 {
    let (ground, hue) = if ui.visuals().dark_mode {
        (ui.visuals().panel_fill, Color32::from_rgb(214, 110, 0))
    } else {
        (ui.visuals().panel_fill, Color32::from_rgb(255, 150, 40))
    };
    ground.lerp_to_gamma(hue, (strength as f32).clamp(0.0, 1.0) * 0.9)
}

/// What stands where nothing would be seen.
fn shown(text: &str) -> String {
    if text.trim_end_matches('\n').is_empty() && text.contains('\n') {
        format!("↵{text}")
    } else {
        text.to_owned()
    }
}

/// Draws an answer as tokens. What comes before its first token is not coloured.
pub(in crate::app) fn tokens_ui(
    ui: &mut Ui,
    entry: &Entry,
    pieces: &[&Costs],
    metric: Metric,
    view: &mut CostsView,
    t: &Texts,
) {
    let ranges: Vec<Range<usize>> = pieces.iter().flat_map(|costs| costs.text_ranges()).collect();
    let texts: Vec<&str> =
        ranges.iter().map(|range| entry.text.get(range.clone()).unwrap_or_default()).collect();
    let width = ui.available_width();
    let mut all = std::mem::take(&mut view.tokens.answers);
    let blocks = all.entry(entry.id).or_default();
    blocks.take(pieces, &texts);
    let scale = blocks.scale(metric, pieces);
    if (blocks.width - width).abs() > 0.5 {
        blocks.width = width;
        blocks.list.iter_mut().for_each(|block| block.height = None);
    }
    let begin = ranges.first().map_or(entry.text.len(), |range| range.start);
    let end = ranges.last().map_or(begin, |range| range.end);
    let plain = |ui: &mut Ui, text: &str| {
        if !text.is_empty() {
            ui.add(egui::Label::new(text).selectable(true).wrap());
        }
    };
    plain(ui, entry.text.get(..begin).unwrap_or_default());
    ui.spacing_mut().item_spacing.y = 0.0;
    let line = ui.text_style_height(&TextStyle::Body);
    let focus_first = view.pinned.filter(|_| view.current == Some(entry.id));
    for block in &mut blocks.list {
        let top = ui.cursor().top();
        let clip = ui.clip_rect();
        let thought = block.height.unwrap_or_else(|| estimate(&texts[block.tokens.clone()], width, line));
        let wanted = view.reveal && focus_first.is_some_and(|token| block.tokens.contains(&token));
        let near = top + thought >= clip.top() - MARGIN && top <= clip.bottom() + MARGIN;
        if !near && !wanted {
            ui.allocate_space(vec2(width, thought));
            continue;
        }
        let height = block_ui(ui, entry.id, &block.tokens, &texts, pieces, &scale, view, t);
        if block.height.is_none() && top < clip.top() {
            grew_above(ui.ctx(), height - thought);
        }
        block.height = Some(height);
    }
    plain(ui, entry.text.get(end..).unwrap_or_default());
    if all.len() > REMEMBERED {
        all.retain(|id, _| *id == entry.id);
    }
    view.tokens.answers = all;
}

fn estimate(texts: &[&str], width: f32, line: f32) -> f32 {
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    ((bytes as f32 * line * 0.42 / width.max(50.0)).ceil().max(1.0)) * line
}

#[expect(clippy::too_many_arguments, reason = "a drawing and everything it shows")]
fn block_ui(
    ui: &mut Ui,
    answer: MessageId,
    tokens: &Range<usize>,
    texts: &[&str],
    pieces: &[&Costs],
    scale: &Scale,
    view: &mut CostsView,
    t: &Texts,
) -> f32 {
    let mut job = LayoutJob::default();
    job.wrap.max_width = ui.available_width();
    let font = FontSelection::Style(TextStyle::Body).resolve(ui.style());
    let colour = ui.visuals().text_color();
    // The place of each token's first character.
    let mut starts = Vec::with_capacity(tokens.len() + 1);
    let mut chars = 0;
    for token in tokens.clone() {
        starts.push(chars);
        let mut text = shown(texts[token]);
        if token + 1 == tokens.end {
            text.truncate(text.trim_end_matches('\n').len());
        }
        chars += text.chars().count();
        let value = nth(pieces, token).and_then(|(costs, n)| scale.value(costs, n));
        let background = value.map_or(Color32::TRANSPARENT, |value| heat(ui, scale.strength(value)));
        let format = TextFormat { font_id: font.clone(), color: colour, background, ..TextFormat::default() };
        job.append(&text, 0.0, format);
    }
    starts.push(chars);
    let galley = ui.painter().layout_job(job);
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), galley.rect.height()), Sense::hover());
    // The keyboard stays with the answer while the chosen token moves from block to block.
    let id = Id::unique(("tokens", answer, tokens.start));
    let response = ui.interact(rect, id, Sense::click());
    ui.painter().galley(rect.min, galley.clone(), colour);
    let name = fill(t.tokens_named, &[("n", &tokens.len())]);
    response.widget_info(|| WidgetInfo::labeled(Role::Paragraph, true, &name));
    let outline = |from: usize, to: usize, stroke: Stroke| {
        for rect in rects(&galley, starts[from]..starts[to]) {
            let rect = rect.translate(rect_offset(&response));
            ui.painter().rect_stroke(rect, 1.0, stroke, StrokeKind::Middle);
        }
    };
    let strong = ui.visuals().strong_text_color();
    if view.current == Some(answer) {
        if let Some(chosen) = &view.selection {
            let (from, to) = (chosen.start.max(tokens.start), chosen.end.min(tokens.end));
            for rect in (from < to)
                .then(|| rects(&galley, starts[from - tokens.start]..starts[to - tokens.start]))
                .into_iter()
                .flatten()
            {
                let rect = rect.translate(rect_offset(&response));
                ui.painter().rect_filled(rect, 0.0, ui.visuals().selection.bg_fill.gamma_multiply(0.35));
            }
        }
        if let Some(pinned) = view.pinned.filter(|pinned| tokens.contains(pinned)) {
            let local = pinned - tokens.start;
            outline(local, local + 1, Stroke::new(1.4, strong));
            if std::mem::take(&mut view.reveal)
                && let Some(first) = rects(&galley, starts[local]..starts[local + 1]).first()
            {
                ui.scroll_to_rect(first.translate(rect_offset(&response)), None);
            }
        }
    }
    let pointed = response
        .hover_pos()
        .and_then(|at| char_at(&galley, at - rect.min.to_vec2()))
        .and_then(|at| starts.partition_point(|&start| start <= at).checked_sub(1))
        .filter(|local| *local < tokens.len());
    if let Some(local) = pointed {
        outline(local, local + 1, Stroke::new(1.0, strong));
        let token = tokens.start + local;
        if response.clicked() {
            let extend = ui.input(|input| input.modifiers.shift);
            match view.pinned.filter(|_| extend && view.current == Some(answer)) {
                Some(from) => {
                    view.selection = Some(from.min(token)..from.max(token) + 1);
                }
                None => {
                    view.pin(answer, token);
                    view.reveal = false;
                    view.timeline.reveal = true;
                }
            }
            response.request_focus();
        }
        if let Some((costs, n)) = nth(pieces, token) {
            response.clone().on_hover_ui_at_pointer(|ui| token_card::short_ui(ui, costs, n, t));
        }
    }
    if response.has_focus() && view.current == Some(answer) {
        step_by_keys(ui, &response, count(pieces), view);
    }
    rect.height()
}

/// Arrow keys step through the tokens, with Shift the selection grows.
pub(super) fn step_by_keys(ui: &Ui, response: &Response, count: usize, view: &mut CostsView) {
    let filter = EventFilter { tab: false, horizontal_arrows: true, vertical_arrows: true, escape: true };
    ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
    for (key, by) in [(Key::ArrowLeft, -1), (Key::ArrowRight, 1), (Key::ArrowUp, -10), (Key::ArrowDown, 10)] {
        for (modifiers, extend) in [(Modifiers::SHIFT, true), (Modifiers::NONE, false)] {
            let times = ui.input_mut(|input| input.count_and_consume_key(modifiers, key));
            for _ in 0..times {
                view.step(by, count, extend);
                view.timeline.reveal = true;
            }
        }
    }
    if ui.input_mut(|input| input.consume_key(Modifiers::NONE, Key::Escape)) {
        (view.pinned, view.selection) = (None, None);
    }
}

fn rect_offset(response: &Response) -> egui::Vec2 {
    response.rect.min.to_vec2()
}

/// The character at a place in a galley.
fn char_at(galley: &Galley, at: Pos2) -> Option<usize> {
    let mut chars = 0;
    for row in &galley.rows {
        if (row.rect().top()..row.rect().bottom()).contains(&at.y) {
            let x = at.x - row.pos.x;
            let glyph = row
                .row
                .glyphs
                .iter()
                .position(|glyph| x >= glyph.pos.x && x < glyph.pos.x + glyph.advance_width);
            return glyph.map(|glyph| chars + glyph);
        }
        chars += row.row.glyphs.len() + usize::from(row.ends_with_newline);
    }
    None
}

/// Where some characters are in a galley, a rectangle a row.
fn rects(galley: &Galley, wanted: Range<usize>) -> Vec<Rect> {
    let mut found = Vec::new();
    let mut chars = 0;
    for row in &galley.rows {
        let glyphs = &row.row.glyphs;
        let from = wanted.start.max(chars) - chars;
        let to = wanted.end.min(chars + glyphs.len()).saturating_sub(chars);
        if let (true, Some(first), Some(last)) =
            (from < to, glyphs.get(from), to.checked_sub(1).and_then(|n| glyphs.get(n)))
        {
            let rect = row.rect();
            found.push(Rect::from_min_max(
                pos2(row.pos.x + first.pos.x, rect.top()),
                pos2(row.pos.x + last.pos.x + last.advance_width, rect.bottom()),
            ));
        }
        chars += glyphs.len() + usize::from(row.ends_with_newline);
    }
    found
}

/// What the colours mean.
pub(super) fn legend_ui(ui: &mut Ui, scale: &Scale, t: &Texts) {
    let words = |value: f64| match scale.metric {
        Metric::Latency => format!("{} ms", crate::app::texts::figure(&format!("{value:.0}"))),
        Metric::Probability => format!("{:.0} %", value * 100.0),
        Metric::Entropy => crate::app::texts::figure(&format!("{value:.1}")),
        Metric::Rank => format!("{}", value.round_ties_even() as u32 + 1),
    };
    let (rect, response) = ui.allocate_exact_size(vec2(80.0, 12.0), Sense::hover());
    let steps = 22;
    for n in 0..steps {
        let share = |n: usize| rect.left() + rect.width() * n as f32 / steps as f32;
        let cell = Rect::from_min_max(pos2(share(n), rect.top()), pos2(share(n + 1), rect.bottom()));
        ui.painter().rect_filled(cell, 0.0, heat(ui, (n as f64 + 0.5) / steps as f64));
    }
    let edge = ui.visuals().weak_text_color();
    ui.painter().rect_stroke(rect, 0.0, Stroke::new(1.0, edge), StrokeKind::Outside);
    let text = [0.0, 0.5, 1.0].map(|strength| words(scale.value_at(strength))).join(" · ");
    let name = fill(t.legend_named, &[("values", &text)]);
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &name));
    ui.label(egui::RichText::new(text).small());
}
