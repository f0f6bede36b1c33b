//! Room `app`: the panel of costs: its pages, which answer it is about, and the token that was chosen.

use egui::{ComboBox, RichText, Ui};

use super::inside_ui::inside_ui;
use super::kernels_ui::kernels_ui;
use super::plots_ui::plots_ui;
use super::timeline_ui::timeline_ui;
use super::token_card::{card_ui, milliseconds};
use super::tokens_ui::legend_ui;
use super::view::{CostsCommand, CostsView, Page, count, nth};
use crate::app::composer_ui::obstacle_text;
use crate::app::pictures::Pictures;
use crate::app::state::State;
use crate::app::style;
use crate::app::texts::{Texts, figure, fill, texts};
use crate::chat::message::Role;
use crate::chat::tree::MessageId;
use crate::costs::colour::Metric;
use crate::costs::write::{Form, Plot};
use crate::costs::{Costs, Figures};

/// Width of the column of the chosen token, points: of a wide panel, and of a narrow one.
const CARD: f32 = 450.0;
const NARROW_CARD: f32 = 230.0;
/// A panel of this width is wide, points.
const WIDE: f32 = 900.0;
/// Width of the legend of colours, points.
const LEGEND: f32 = 215.0;
/// Tokens of a name that an answer is told by.
const NAME_CHARS: usize = 26;

/// The metric's name.
fn metric_name(metric: Metric, t: &Texts) -> &'static str {
    match metric {
        Metric::Latency => t.latency,
        Metric::Probability => t.probability,
        Metric::Entropy => t.entropy,
        Metric::Rank => t.rank,
    }
}

/// What an answer is told by: its number on the path and its first words.
fn answer_name(state: &State, answer: MessageId, t: &Texts) -> String {
    let Some(entry) = state.chat.tree.get(answer) else { return t.another_chat.to_owned() };
    let words: String = entry
        .text
        .get(..entry.text.floor_char_boundary(400))
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(NAME_CHARS)
        .collect();
    let number = state.chat.shown().filter(|e| e.role == Role::Assistant).position(|e| e.id == answer);
    let number = number.map_or(String::new(), |n| format!("{}. ", n + 1));
    format!("{number}{words}")
}

/// Answers of the conversation that may have costs: those shown, then those beside them.
fn answers(state: &State) -> Vec<MessageId> {
    let mut all: Vec<MessageId> =
        state.chat.shown().filter(|entry| entry.role == Role::Assistant).map(|entry| entry.id).collect();
    let shown = all.clone();
    for id in shown {
        let parent = state.chat.tree.get(id).and_then(|entry| entry.parent);
        all.extend(state.chat.tree.followers(parent).iter().copied().filter(|other| *other != id));
    }
    all
}

/// Draws the panel.
pub(in crate::app) fn panel_ui(
    ui: &mut Ui,
    state: &State,
    pictures: &Pictures,
    view: &mut CostsView,
    commands: &mut Vec<CostsCommand>,
) -> bool {
    let t = texts(ui.ctx());
    view.rect = Some(ui.max_rect());
    view.follow(state.shelf.run().last().map(|(_, id)| *id));
    let answer = view.answer.filter(|id| state.chat.tree.get(*id).is_some()).or_else(|| {
        state
            .message_under_way()
            .or_else(|| state.chat.shown().filter(|e| e.role == Role::Assistant).last().map(|e| e.id))
    });
    let open = header_ui(ui, state, view, answer, t, commands);
    if view.page == Page::Kernels {
        kernels_ui(ui, state, view, t, commands);
        return open;
    }
    let Some(answer) = answer else {
        ui.centered_and_justified(|ui| ui.weak(t.no_costs_yet));
        return open;
    };
    commands.push(CostsCommand::Want(answer));
    let pieces = state.costs_of(answer);
    if count(&pieces) == 0 {
        ui.centered_and_justified(|ui| ui.weak(t.no_costs));
        return open;
    }
    view.look_at(answer);
    if matches!(view.page, Page::Timeline | Page::Plots) {
        ui.horizontal(|ui| {
            page_ui(ui, state, view, answer, t, commands);
            if let Some(figures) = figures(&pieces, answer, state.shelf.version, view) {
                figures_ui(ui, &figures, view, t);
            }
            let note = match pieces.last() {
                Some(costs) if costs.adapter.is_empty() => Some(t.only_arrivals),
                Some(costs) if !costs.has_device_times => Some(t.no_timestamps),
                _ => None,
            };
            if let Some(note) = note {
                ui.add(egui::Label::new(RichText::new(note).small().weak()).truncate()).on_hover_text(note);
            }
        });
    }
    let mut rest = ui.available_rect_before_wrap();
    let chosen = view.pinned.and_then(|token| nth(&pieces, token).map(|found| (token, found)));
    if let Some((token, (costs, n))) = chosen.filter(|_| view.page == Page::Timeline) {
        let obstacle = state.cannot_ask().map(|obstacle| obstacle_text(obstacle, t));
        let can = obstacle.map_or(Ok(()), Err);
        let whole = ui.available_rect_before_wrap();
        let width = if whole.width() > WIDE { CARD } else { NARROW_CARD };
        let card = egui::Rect::from_min_max(egui::pos2(whole.right() - width, whole.top()), whole.max);
        ui.scope_builder(egui::UiBuilder::new().max_rect(card.shrink2(egui::vec2(8.0, 0.0))), |ui| {
            ui.set_clip_rect(card.intersect(ui.clip_rect()));
            card_ui(ui, answer, token, costs, n, can, t, commands);
        });
        rest.max.x = card.left();
    }
    let mut rest_ui = ui.new_child(egui::UiBuilder::new().max_rect(rest));
    ui.advance_cursor_after_rect(rest);
    let ui = &mut rest_ui;
    ui.set_clip_rect(rest.intersect(ui.clip_rect()));
    match view.page {
        Page::Timeline => {
            let shown = if view.whole_run {
                let run = state.shelf.run().iter().map(|(_, id)| *id);
                run.map(|id| (id, state.costs_of(id))).filter(|(_, pieces)| !pieces.is_empty()).collect()
            } else {
                vec![(answer, pieces.clone())]
            };
            timeline_ui(ui, &shown, answer, state.shelf.version, view, t);
        }
        Page::Plots => {
            let mut shown = vec![(answer_name(state, answer, t), pieces.clone())];
            if let Some(beside) = view.beside.filter(|beside| *beside != answer) {
                commands.push(CostsCommand::Want(beside));
                let pieces = state.costs_of(beside);
                if !pieces.is_empty() {
                    shown.push((answer_name(state, beside, t), pieces));
                }
            }
            plots_ui(ui, view.plot, &shown, t);
        }
        Page::Inside => {
            let token = view.pinned.filter(|token| *token < count(&pieces));
            inside_ui(ui, state, pictures, answer, token, view, t, commands);
        }
        Page::Kernels => {}
    }
    open
}

fn header_ui(
    ui: &mut Ui,
    state: &State,
    view: &mut CostsView,
    answer: Option<MessageId>,
    t: &Texts,
    commands: &mut Vec<CostsCommand>,
) -> bool {
    let mut open = true;
    ui.horizontal(|ui| {
        let pages = [
            (Page::Timeline, t.page_timeline),
            (Page::Plots, t.page_plots),
            (Page::Kernels, t.page_kernels),
            (Page::Inside, t.page_inside),
        ];
        for (page, name) in pages {
            ui.selectable_value(&mut view.page, page, name);
        }
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            if style::quiet_button(ui, "✖", t.close, true).clicked() {
                open = false;
            }
            export_ui(ui, view, answer, t, commands);
            let shown = view.metric.map_or(t.colour_none, |metric| metric_name(metric, t));
            combo(ui, "colour", t.colour_by, shown, |ui| {
                ui.selectable_value(&mut view.metric, None, t.colour_none);
                for metric in Metric::ALL {
                    ui.selectable_value(&mut view.metric, Some(metric), metric_name(metric, t));
                }
            });
            let is_room = ui.available_width() > LEGEND;
            if let (Some(metric), Some(answer)) = (view.metric.filter(|_| is_room), answer) {
                // From the left, as it is read.
                let scale = view.tokens.scale(answer, metric, &state.costs_of(answer));
                ui.allocate_ui_with_layout(
                    egui::vec2(LEGEND - 10.0, 16.0),
                    egui::Layout::left_to_right(egui::Align::Center),
                    |ui| legend_ui(ui, &scale, t),
                );
            }
        });
    });
    open
}

fn combo(ui: &mut Ui, id: &str, name: &str, shown: &str, contents: impl FnOnce(&mut Ui)) {
    let shown: String = shown.chars().take(28).collect();
    let combo = ComboBox::from_id_salt(("costs", id)).selected_text(shown).show_ui(ui, contents);
    let response = combo.response.on_hover_text(name);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::ComboBox, true, name));
}

fn export_ui(
    ui: &mut Ui,
    view: &CostsView,
    answer: Option<MessageId>,
    t: &Texts,
    commands: &mut Vec<CostsCommand>,
) {
    ui.menu_button(t.export_costs, |ui| {
        let forms = [
            (Form::Trace, t.export_trace),
            (Form::Csv, t.export_csv),
            (Form::JsonLines, t.export_json_lines),
            (Form::Svg(view.plot), t.export_svg),
        ];
        for (form, name) in forms {
            if ui.add_enabled(answer.is_some(), egui::Button::new(name)).clicked() {
                let both = answer.into_iter().chain(view.beside.filter(|_| view.page == Page::Plots));
                commands.push(CostsCommand::Export(form, both.collect()));
                ui.close();
            }
        }
        if ui.button(t.export_panel).clicked() {
            commands.push(CostsCommand::Picture);
            ui.close();
        }
    });
}

/// Which plot is drawn.
pub(in crate::app) fn plot_choice(ui: &mut Ui, plot: &mut Plot, t: &Texts) {
    let names = |plot| match plot {
        Plot::Latency => t.plot_latency,
        Plot::Histogram => t.plot_histogram,
        Plot::Rate => t.plot_rate,
        Plot::Parts => t.plot_parts,
    };
    combo(ui, "plot", t.plot_which, names(*plot), |ui| {
        for other in Plot::ALL {
            ui.selectable_value(plot, other, names(other));
        }
    });
}

/// What belongs to the page.
fn page_ui(
    ui: &mut Ui,
    state: &State,
    view: &mut CostsView,
    answer: MessageId,
    t: &Texts,
    commands: &mut Vec<CostsCommand>,
) {
    if view.page == Page::Plots {
        plot_choice(ui, &mut view.plot, t);
        let profiling = &state.profiling;
        if view.plot == Plot::Latency && profiling.ceilings.is_none() && state.model_info().is_some() {
            let measure = style::quiet_button(ui, t.measure, t.measure_hint, !profiling.is_measuring());
            if measure.clicked() {
                commands.push(CostsCommand::Measure);
            }
        }
        let beside = view.beside.filter(|id| *id != answer);
        let shown = beside.map_or(t.beside_none.to_owned(), |id| answer_name(state, id, t));
        combo(ui, "beside", t.beside, &shown, |ui| {
            ui.selectable_value(&mut view.beside, None, t.beside_none);
            for id in answers(state).into_iter().filter(|id| *id != answer) {
                ui.selectable_value(&mut view.beside, Some(id), answer_name(state, id, t));
            }
        });
    }
    if view.page == Page::Timeline {
        ui.checkbox(&mut view.whole_run, t.whole_run).on_hover_text(t.whole_run_hint);
        if style::quiet_button(ui, t.fit, t.fit_hint, true).clicked() {
            view.timeline.fit();
        }
    }
}

/// Figures of what is chosen, or of the whole answer, made anew where that has changed.
fn figures(pieces: &[&Costs], answer: MessageId, version: u64, view: &mut CostsView) -> Option<Figures> {
    let key = (answer, count(pieces), view.selection.clone(), version);
    if let Some((of, figures)) = &view.figures
        && *of == key
    {
        return Some(*figures);
    }
    // A selection over several pieces: the one with most of it speaks.
    let (mut first, mut best) = (0, None);
    for costs in pieces {
        let end = first + costs.tokens.len();
        let range = view
            .selection
            .clone()
            .map_or(0..usize::MAX, |s| s.start.clamp(first, end) - first..s.end.clamp(first, end) - first);
        first = end;
        if costs.is_copied {
            continue;
        }
        let figures = Figures::of(costs, range);
        if best.is_none_or(|best: Figures| figures.count > best.count) {
            best = Some(figures);
        }
    }
    view.figures = best.map(|figures| (key, figures));
    best
}

fn figures_ui(ui: &mut Ui, figures: &Figures, view: &CostsView, t: &Texts) {
    let what = if view.selection.is_some() { t.figures_selection } else { t.figures_answer };
    let rate = figure(&format!("{:.2}", figures.tok_s));
    let unsure = figures.mean_probability.is_finite();
    let sure = if unsure {
        let words = [
            ("p", &super::token_card::percent(figures.mean_probability as f32) as &dyn std::fmt::Display),
            ("perplexity", &figure(&format!("{:.2}", figures.perplexity))),
        ];
        fill(t.figures_sure, &words)
    } else {
        String::new()
    };
    let (median, p95, p99, most, total) = (
        milliseconds(figures.median_ms),
        milliseconds(figures.p95_ms),
        milliseconds(figures.p99_ms),
        milliseconds(figures.most_ms),
        milliseconds(figures.total_ms),
    );
    let values: [(&str, &dyn std::fmt::Display); 7] = [
        ("n", &style::grouped(figures.count)),
        ("median", &median),
        ("p95", &p95),
        ("p99", &p99),
        ("most", &most),
        ("total", &total),
        ("rate", &rate),
    ];
    let words = format!("{what}: {}{sure}", fill(t.figures_line, &values));
    ui.add(egui::Label::new(RichText::new(words).small()).selectable(true).truncate());
}
