//! Room `app`: draws the lanes of answers over time, with the mouse and the keyboard to move in them.

use egui::{
    Align2, Color32, FontId, Id, Key, Modifiers, Rect, Response, Role, Sense, Stroke, StrokeKind, Ui,
    WidgetInfo, pos2, vec2,
};

use super::timeline::{Bar, Lane, What};
use super::token_card::milliseconds;
use super::view::{CostsView, count};
use super::{token_card, tokens_ui};
use crate::app::texts::{Texts, figure, fill};
use crate::chat::tree::MessageId;
use crate::costs::{Cause, Costs};

/// Width of the lanes' names, points.
const NAMES: f32 = 92.0;
/// Height of the axis, points.
const AXIS: f32 = 18.0;
/// How much one step of a key zooms or moves.
const ZOOM: f64 = 0.7;
const PAN: f64 = 0.2;

/// Okabe and Ito's colours, which people of any sight tell apart, by lane.
pub(super) fn lane_colour(lane: Lane, dark: bool) -> Color32 {
    let (r, g, b) = match lane {
        Lane::Frames => (148, 148, 148),
        Lane::Recording => (230, 159, 0),
        Lane::Queue => (176, 164, 122),
        Lane::Vision => (204, 121, 167),
        Lane::Prefill => (0, 158, 115),
        Lane::Decode => (0, 114, 178),
        Lane::Sampling => (86, 180, 233),
        Lane::Readback => (167, 134, 190),
        Lane::Stalls => (213, 94, 0),
    };
    let colour = Color32::from_rgb(r, g, b);
    if dark && lane == Lane::Decode { Color32::from_rgb(52, 152, 219) } else { colour }
}

/// A lane's name.
pub(super) fn lane_name(lane: Lane, t: &Texts) -> &'static str {
    match lane {
        Lane::Frames => t.lane_frames,
        Lane::Recording => t.stage_recording,
        Lane::Queue => t.stage_queue,
        Lane::Vision => t.lane_vision,
        Lane::Prefill => t.lane_prefill,
        Lane::Decode => t.lane_decode,
        Lane::Sampling => t.stage_sampling,
        Lane::Readback => t.stage_readback,
        Lane::Stalls => t.lane_stalls,
    }
}

/// Why a token came late, in words.
pub(super) fn cause_words(cause: Cause, t: &Texts) -> &'static str {
    match cause {
        Cause::Compiling => t.cause_compiling,
        Cause::OtherPrompt => t.cause_other_prompt,
        Cause::LargerBatch => t.cause_batch,
        Cause::WindowFrame => t.cause_window,
        Cause::NewPage => t.cause_page,
        Cause::Slower => t.cause_slower,
        Cause::Unknown => t.cause_unknown,
    }
}

/// Draws the lanes in the space there is. `answers` are those in them; arrow keys step through the tokens of `chosen`.
pub(super) fn timeline_ui(
    ui: &mut Ui,
    answers: &[(MessageId, Vec<&Costs>)],
    chosen: MessageId,
    version: u64,
    view: &mut CostsView,
    t: &Texts,
) {
    view.timeline.take(answers, version);
    let (whole, _) = ui.allocate_exact_size(ui.available_size(), Sense::hover());
    // An id of its own: what is drawn beside it must not take the keyboard away.
    let response = ui.interact(whole, Id::unique("costs timeline"), Sense::click_and_drag());
    let pieces = answers.iter().find(|(id, _)| *id == chosen).map(|(_, pieces)| pieces.as_slice());
    let pieces = pieces.unwrap_or_default();
    let tokens = count(pieces);
    response.widget_info(|| {
        let token = view.pinned.map_or(0, |n| n + 1);
        let values: [(&str, &dyn std::fmt::Display); 2] = [("n", &tokens), ("token", &token)];
        WidgetInfo::labeled(Role::Canvas, true, fill(t.timeline_named, &values))
    });
    let area = Rect::from_min_max(pos2(whole.left() + NAMES, whole.top()), whole.max);
    if response.clicked() || response.drag_started() {
        response.request_focus();
    }
    if response.has_focus() {
        keys(ui, &response, tokens, view);
    }
    pointer(ui, &response, area, view);
    if std::mem::take(&mut view.timeline.reveal)
        && let Some((begin, end)) = view.pinned.and_then(|token| view.timeline.of_token(chosen, token))
    {
        view.timeline.bring_into_sight(f64::midpoint(begin, end));
    }
    let lanes = Rect::from_min_max(area.min, pos2(area.right(), area.bottom() - AXIS));
    let height = lanes.height() / Lane::ALL.len() as f32;
    let lane_rect = |n: usize| {
        let top = lanes.top() + height * n as f32;
        Rect::from_min_max(pos2(lanes.left(), top), pos2(lanes.right(), top + height))
    };
    let dark = ui.visuals().dark_mode;
    let painter = ui.painter_at(whole);
    axis(ui, &painter, area, view);
    for (n, lane) in Lane::ALL.into_iter().enumerate() {
        let rect = lane_rect(n);
        let words = ui.visuals().text_color();
        let font = FontId::proportional(11.0);
        painter.text(
            pos2(whole.left(), rect.center().y),
            Align2::LEFT_CENTER,
            lane_name(lane, t),
            font,
            words,
        );
        painter.hline(whole.x_range(), rect.bottom(), Stroke::new(0.5, ui.visuals().faint_bg_color));
        let bars = ui.painter_at(area);
        let colour = lane_colour(lane, dark);
        let inner = rect.shrink2(vec2(0.0, (height * 0.12).min(3.0)));
        view.timeline.drawn(lane, lanes.width(), |from, to, bar| {
            let bar_rect = Rect::from_min_max(
                pos2(lanes.left() + from, inner.top()),
                pos2(lanes.left() + to - if to - from > 3.0 { 0.7 } else { 0.0 }, inner.bottom()),
            );
            bars.rect_filled(bar_rect, 0.0, colour);
            if lane == Lane::Decode && to - from > 26.0 && height > 13.0 {
                bar_text(ui, bar_rect, bar, answers);
            }
        });
        if let Some(selection) = view.selection.clone().filter(|_| lane == Lane::Decode) {
            let ends = [selection.start, selection.end.saturating_sub(1)]
                .map(|token| view.timeline.of_token(chosen, token));
            // The first token of all has no step of its own.
            let begin = ends[0].or_else(|| view.timeline.of_token(chosen, 1)).map(|(begin, _)| begin);
            if let Some((begin, end)) = begin.zip(ends[1].map(|(_, end)| end)) {
                let x = |moment: f64| x_of(lanes, view, moment);
                let chosen = Rect::from_x_y_ranges(x(begin)..=x(end), lanes.y_range());
                bars.rect_filled(chosen, 0.0, ui.visuals().selection.bg_fill.gamma_multiply(0.25));
            }
        }
        if let Some((begin, end)) = view
            .pinned
            .filter(|_| lane == Lane::Decode)
            .and_then(|token| view.timeline.of_token(chosen, token))
        {
            let (left, right) =
                (x_of(lanes, view, begin), x_of(lanes, view, end).max(x_of(lanes, view, begin) + 2.0));
            let mark = Rect::from_x_y_ranges(left..=right, inner.y_range());
            let strong = ui.visuals().strong_text_color();
            bars.rect_stroke(mark, 0.0, Stroke::new(1.8, strong), StrokeKind::Outside);
            bars.vline(
                f32::midpoint(left, right),
                lanes.y_range(),
                Stroke::new(0.6, strong.gamma_multiply(0.5)),
            );
        }
    }
    hover(&response, lanes, height, answers, view, t);
    if response.has_focus() {
        let stroke = Stroke::new(1.0, ui.visuals().selection.bg_fill);
        ui.painter().rect_stroke(whole, 2.0, stroke, StrokeKind::Inside);
    }
}

fn bar_text(ui: &Ui, rect: Rect, bar: &Bar, answers: &[(MessageId, Vec<&Costs>)]) {
    let What::Token(answer, token) = bar.what else { return };
    let pieces = answers.iter().find(|(id, _)| *id == answer).map(|(_, pieces)| pieces.as_slice());
    let Some((costs, n)) = super::view::nth(pieces.unwrap_or_default(), token as usize) else { return };
    let Some(cost) = costs.tokens.get(n) else { return };
    let text = token_card::visible(&costs.text_of(cost.id));
    let painter = ui.painter_at(rect.intersect(ui.clip_rect()));
    let left = pos2(rect.left() + 3.0, rect.center().y);
    painter.text(left, Align2::LEFT_CENTER, text, FontId::monospace(10.0), Color32::WHITE);
}

fn x_of(lanes: Rect, view: &CostsView, moment: f64) -> f32 {
    let (begin, end) = view.timeline.seen();
    lanes.left() + ((moment - begin) / (end - begin) * f64::from(lanes.width())) as f32
}

fn moment_of(lanes: Rect, view: &CostsView, x: f32) -> f64 {
    let (begin, end) = view.timeline.seen();
    begin + f64::from((x - lanes.left()) / lanes.width().max(1.0)) * (end - begin)
}

/// Round moments along the bottom.
fn axis(ui: &Ui, painter: &egui::Painter, area: Rect, view: &CostsView) {
    let (begin, end) = view.timeline.seen();
    let raw = (end - begin) / f64::from((area.width() / 110.0).max(2.0));
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|step| *step >= raw).unwrap_or(raw);
    let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    let first = (begin / step).ceil() as i64;
    let (weak, line) = (ui.visuals().weak_text_color(), ui.visuals().faint_bg_color);
    for n in first..first + 64 {
        let moment = n as f64 * step;
        if moment > end {
            break;
        }
        let x = x_of(area, view, moment);
        painter.vline(x, area.y_range(), Stroke::new(1.0, line));
        let text = figure(&format!("{moment:.digits$} s"));
        painter.text(
            pos2(x + 2.0, area.bottom()),
            Align2::LEFT_BOTTOM,
            text,
            FontId::proportional(10.5),
            weak,
        );
    }
}

/// Dragging moves, the wheel zooms around the pointer (sideways, or with Shift, it moves), dragging with Shift or the right button chooses
/// tokens, a click chooses one.
fn pointer(ui: &Ui, response: &Response, area: Rect, view: &mut CostsView) {
    if let Some(at) = response.hover_pos().filter(|at| area.x_range().contains(at.x)) {
        let (scroll, zoom) = ui.input(|input| (input.smooth_scroll_delta(), input.zoom_delta()));
        let around = moment_of(area, view, at.x);
        if (zoom - 1.0).abs() > 1e-4 {
            view.timeline.zoom(1.0 / f64::from(zoom), around);
        } else if scroll.y != 0.0 {
            view.timeline.zoom((-f64::from(scroll.y) / 160.0).exp(), around);
        }
        if scroll.x != 0.0 {
            view.timeline.pan(-f64::from(scroll.x / area.width()));
        }
    }
    let shift = ui.input(|input| input.modifiers.shift);
    let selects = response.dragged_by(egui::PointerButton::Secondary)
        || response.dragged_by(egui::PointerButton::Primary) && shift;
    if selects {
        let origin = ui.input(|input| input.pointer.press_origin());
        if let Some((from, to)) = origin.zip(response.interact_pointer_pos()) {
            let moments = [from.x, to.x].map(|x| moment_of(area, view, x));
            select_between(moments[0].min(moments[1]), moments[0].max(moments[1]), view);
        }
    } else if response.dragged_by(egui::PointerButton::Primary) {
        view.timeline.pan(-f64::from(response.drag_delta().x / area.width()));
    }
    if response.double_clicked() {
        view.timeline.fit();
    }
}

/// Chooses the tokens of the chosen answer that ran between two moments.
fn select_between(from: f64, to: f64, view: &mut CostsView) {
    let bars = view.timeline.bars(Lane::Decode);
    let first = bars.partition_point(|bar| bar.end < from);
    let inside = bars.get(first..).unwrap_or_default().iter().take_while(|bar| bar.begin <= to);
    let tokens = inside.filter_map(|bar| match bar.what {
        What::Token(id, n) if view.current.is_none_or(|answer| answer == id) => Some(n as usize),
        _ => None,
    });
    let (least, most) = tokens.fold((usize::MAX, 0), |(least, most), n| (least.min(n), most.max(n)));
    view.selection = (least <= most).then_some(least..most + 1);
}

fn keys(ui: &Ui, response: &Response, tokens: usize, view: &mut CostsView) {
    tokens_ui::step_by_keys(ui, response, tokens, view);
    let pressed = |key| ui.input_mut(|input| input.consume_key(Modifiers::NONE, key));
    let middle =
        view.pinned.zip(view.current).and_then(|(token, answer)| view.timeline.of_token(answer, token));
    let (begin, end) = view.timeline.seen();
    let around = middle.map_or(f64::midpoint(begin, end), |(begin, end)| f64::midpoint(begin, end));
    for (keys, factor) in [([Key::W, Key::Plus], ZOOM), ([Key::S, Key::Minus], 1.0 / ZOOM)] {
        if keys.into_iter().any(pressed) {
            view.timeline.zoom(factor, around);
        }
    }
    for (key, share) in [(Key::A, -PAN), (Key::D, PAN)] {
        if pressed(key) {
            view.timeline.pan(share);
        }
    }
    if pressed(Key::F) {
        view.timeline.fit();
    }
    for (key, token) in [(Key::Home, Some(0)), (Key::End, tokens.checked_sub(1))] {
        if pressed(key)
            && let Some(token) = token
        {
            (view.pinned, view.selection) = (Some(token), None);
            (view.reveal, view.timeline.reveal) = (true, true);
        }
    }
}

fn hover(
    response: &Response,
    lanes: Rect,
    height: f32,
    answers: &[(MessageId, Vec<&Costs>)],
    view: &mut CostsView,
    t: &Texts,
) {
    let Some(at) = response.hover_pos().filter(|at| lanes.contains(*at)) else { return };
    let Some(&lane) = Lane::ALL.get(((at.y - lanes.top()) / height) as usize) else { return };
    let (begin, end) = view.timeline.seen();
    let reach = (end - begin) * 3.0 / f64::from(lanes.width());
    let Some(bar) = view.timeline.at(lane, moment_of(lanes, view, at.x), reach).copied() else { return };
    if response.clicked()
        && let What::Token(answer, token) | What::Stall(answer, token, ..) = bar.what
    {
        view.pin(answer, token as usize);
    }
    let took = milliseconds((bar.end - bar.begin) * 1e3);
    response.clone().on_hover_ui_at_pointer(|ui| {
        ui.strong(format!("{}: {took}", lane_name(lane, t)));
        match bar.what {
            What::Token(answer, token) => {
                let pieces =
                    answers.iter().find(|(id, _)| *id == answer).map(|(_, pieces)| pieces.as_slice());
                if let Some((costs, n)) = super::view::nth(pieces.unwrap_or_default(), token as usize) {
                    token_card::short_ui(ui, costs, n, t);
                }
            }
            What::Chunk(tokens) => {
                ui.label(fill(t.chunk_of, &[("n", &tokens)]));
            }
            What::Picture(index) => {
                ui.label(fill(t.picture_number, &[("n", &(index + 1))]));
            }
            What::Frame => {}
            What::Stall(_, token, cause, ms, usual_ms) => {
                let (ms, usual) = (milliseconds(f64::from(ms)), milliseconds(f64::from(usual_ms)));
                let values: [(&str, &dyn std::fmt::Display); 3] =
                    [("token", &(token + 1)), ("time", &ms), ("usual", &usual)];
                ui.label(fill(t.stall_details, &values));
                ui.label(cause_words(cause, t));
            }
        }
    });
}
