//! Room `app`: what is known of one token, short beside the pointer and whole in the panel.

use egui::{Grid, Label, Rect, RichText, ScrollArea, Sense, Ui, UiBuilder, pos2, vec2};

use super::view::CostsCommand;
use crate::app::style;
use crate::app::texts::{Texts, figure, fill};
use crate::chat::tree::MessageId;
use crate::costs::{Costs, Stage};

/// From this width on, points, figures stand beside the alternatives.
const TWO_COLUMNS: f32 = 340.0;

/// A token's text with what cannot be seen made visible.
pub(super) fn visible(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '\n' => '↵',
            '\t' => '→',
            ' ' => '·',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect();
    if escaped.is_empty() { "∅".to_owned() } else { escaped }
}

/// Bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// "12.3 %", and enough digits that no small probability reads as none.
pub(super) fn percent(probability: f32) -> String {
    let percent = f64::from(probability) * 100.0;
    if (0.0..0.000_01).contains(&percent) {
        return figure("< 0.00001 %");
    }
    let digits = if percent >= 10.0 {
        1
    } else if percent >= 0.01 {
        2
    } else {
        5
    };
    figure(&format!("{percent:.digits$} %"))
}

/// "8.25 ms", "340 µs".
pub(super) fn milliseconds(ms: f64) -> String {
    let text = if ms < 1.0 {
        format!("{:.0} µs", ms * 1e3)
    } else if ms < 100.0 {
        format!("{ms:.2} ms")
    } else if ms < 10_000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1e3)
    };
    figure(&text)
}

/// Beside the pointer.
pub(super) fn short_ui(ui: &mut Ui, costs: &Costs, n: usize, t: &Texts) {
    let Some(token) = costs.tokens.get(n) else { return };
    ui.label(RichText::new(visible(&costs.text_of(token.id))).monospace().strong());
    if !costs.adapter.is_empty() {
        ui.label(
            RichText::new(format!("{} {}  ·  {}", t.token_id, token.id, hex(costs.piece(token.id)))).small(),
        );
    }
    let mut lines = Vec::new();
    if token.logprob.is_finite() {
        lines.push(format!("{} {}", t.probability, percent(token.probability())));
    }
    if token.rank != u32::MAX {
        lines.push(format!("{} {}", t.rank, token.rank + 1));
    }
    if let Some(ms) = costs.latency_ms(n).filter(|_| !costs.is_copied) {
        lines.push(format!("{} {}", t.latency, milliseconds(ms)));
    }
    ui.label(lines.join("  ·  "));
    ui.weak(t.click_for_more);
}

/// In the panel: everything, and the alternatives, of which each can be gone on with. `can_branch`: why not, where it cannot.
#[expect(clippy::too_many_arguments, reason = "a drawing and everything it shows")]
pub(super) fn card_ui(
    ui: &mut Ui,
    answer: MessageId,
    token_of_all: usize,
    costs: &Costs,
    n: usize,
    can_branch: Result<(), &str>,
    t: &Texts,
    commands: &mut Vec<CostsCommand>,
) {
    let Some(token) = costs.tokens.get(n) else { return };
    ui.horizontal(|ui| {
        ui.label(RichText::new(visible(&costs.text_of(token.id))).monospace().strong().size(16.0));
        let place = fill(t.token_place, &[("n", &style::grouped(token_of_all + 1))]);
        ui.label(RichText::new(place).small().weak());
    });
    let whole = ui.available_rect_before_wrap();
    let beside = whole.width() > TWO_COLUMNS;
    let width = if beside { whole.width() / 2.0 } else { whole.width() };
    let left = Rect::from_min_size(whole.min, vec2(width - 6.0, whole.height()));
    let list = |ui: &mut Ui, commands: &mut Vec<CostsCommand>| {
        alternatives_ui(ui, answer, token_of_all, costs, n, can_branch, t, commands);
    };
    ui.scope_builder(UiBuilder::new().id_salt("token alternatives").max_rect(left), |ui| {
        ScrollArea::vertical().id_salt("token card").auto_shrink(false).show(ui, |ui| {
            list(ui, commands);
            if !beside {
                figures_ui(ui, costs, n, t);
            }
        });
    });
    if beside {
        let right = Rect::from_min_max(pos2(left.right() + 12.0, whole.top()), whole.max);
        ui.scope_builder(UiBuilder::new().id_salt("token figures").max_rect(right), |ui| {
            ScrollArea::vertical().id_salt("token figures").auto_shrink(false).show(ui, |ui| {
                figures_ui(ui, costs, n, t);
            });
        });
    }
}

fn figures_ui(ui: &mut Ui, costs: &Costs, n: usize, t: &Texts) {
    Grid::new("token figures").num_columns(2).spacing([10.0, 1.0]).min_row_height(15.0).show(ui, |ui| {
        for (name, value) in figures(costs, n, t) {
            ui.label(RichText::new(name).small().weak());
            ui.add(Label::new(RichText::new(value).small()).selectable(true));
            ui.end_row();
        }
    });
}

/// The likeliest tokens at its place, of which each but the chosen one can be gone on with.
#[expect(clippy::too_many_arguments, reason = "a drawing and everything it shows")]
fn alternatives_ui(
    ui: &mut Ui,
    answer: MessageId,
    token_of_all: usize,
    costs: &Costs,
    n: usize,
    can_branch: Result<(), &str>,
    t: &Texts,
    commands: &mut Vec<CostsCommand>,
) {
    let Some(token) = costs.tokens.get(n) else { return };
    ui.spacing_mut().item_spacing.y = 1.0;
    ui.spacing_mut().interact_size.y = 15.0;
    ui.spacing_mut().button_padding.y = 0.0;
    if !token.alternatives.is_empty() {
        ui.label(RichText::new(t.alternatives).small().weak()).on_hover_text(t.alternatives_hint);
    }
    for &(id, logprob) in &token.alternatives {
        let text = visible(&costs.text_of(id));
        let is_chosen = id == token.id;
        ui.horizontal(|ui| {
            let (rect, _) = ui.allocate_exact_size(vec2(36.0, 10.0), Sense::hover());
            let mut bar = rect;
            bar.set_width(rect.width() * logprob.exp().clamp(0.0, 1.0));
            ui.painter().rect_filled(rect, 2.0, ui.visuals().faint_bg_color);
            ui.painter().rect_filled(bar, 2.0, ui.visuals().selection.bg_fill);
            ui.label(RichText::new(format!("{:>9}", percent(logprob.exp()))).small().monospace());
            let words = RichText::new(&text).monospace().small();
            let words = if is_chosen { words.strong() } else { words };
            let name = fill(t.go_on_with, &[("token", &text)]);
            let can = !is_chosen && can_branch.is_ok();
            let button = ui.add_enabled(can, egui::Button::new(words).frame_when_inactive(false));
            button.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, can, &name));
            let button = match can_branch {
                _ if is_chosen => button.on_disabled_hover_text(t.chosen_token),
                Ok(()) => button.on_hover_text(&name),
                Err(why) => button.on_disabled_hover_text(why),
            };
            if button.clicked() {
                commands.push(CostsCommand::Branch { answer, token: token_of_all, id });
            }
        });
    }
}

/// Names and values of all that is known of a token.
fn figures(costs: &Costs, n: usize, t: &Texts) -> Vec<(&'static str, String)> {
    let Some(token) = costs.tokens.get(n) else { return Vec::new() };
    let is_here = !costs.adapter.is_empty();
    let mut rows = Vec::new();
    if is_here {
        rows.push((t.token_id, token.id.to_string()));
    }
    rows.push((t.token_bytes, hex(costs.piece(token.id))));
    if token.logprob.is_finite() {
        let words =
            format!("{} ({})", percent(token.probability()), figure(&format!("{:.4}", token.logprob)));
        rows.push((t.probability, words));
    }
    if token.rank != u32::MAX {
        rows.push((t.rank, (token.rank + 1).to_string()));
    }
    if token.entropy.is_finite() {
        let bits = token.entropy / std::f32::consts::LN_2;
        rows.push((t.entropy, figure(&format!("{:.2} nat ({bits:.2} bit)", token.entropy))));
    }
    if let Some(ms) = costs.latency_ms(n).filter(|_| !costs.is_copied) {
        rows.push((t.latency, milliseconds(ms)));
    }
    if costs.is_copied {
        rows.push((t.origin, if token.forced { t.chosen_by_you } else { t.taken_over }.to_owned()));
        return rows;
    }
    for (stage, name) in stages(t) {
        if let Some((begin, end)) = token.times.stage(stage) {
            rows.push((name, milliseconds((end - begin) as f64 / 1e6)));
        }
    }
    if is_here {
        rows.push((t.batch, token.batch.to_string()));
        rows.push((t.context_pages, format!("{} ({})", style::grouped(token.index as usize), token.pages())));
    }
    if token.bytes > 0 {
        let share = token.gb_s().map(|gb_s| {
            let of = costs
                .bandwidth_gb_s
                .map_or(String::new(), |most| format!(" = {:.0} %", gb_s / f64::from(most) * 100.0));
            figure(&format!("{gb_s:.2} GB/s{of}"))
        });
        let share = share.map_or(String::new(), |share| format!(", {share}"));
        rows.push((t.moved, format!("{}{share}", style::bytes(token.bytes))));
    }
    let flags = [
        (token.ends_prefill, t.flag_first),
        (token.drafted, t.flag_drafted),
        (token.grew_page, t.flag_page),
        (token.compiled, t.flag_compiled),
        (token.interrupted, t.flag_interrupted),
    ];
    for (_, words) in flags.into_iter().filter(|(is_so, _)| *is_so) {
        rows.push(("", words.to_owned()));
    }
    rows
}

/// The stages with their names.
pub(super) fn stages(t: &Texts) -> [(Stage, &'static str); 7] {
    [
        (Stage::Recording, t.stage_recording),
        (Stage::Queue, t.stage_queue),
        (Stage::Device, t.stage_device),
        (Stage::Sampling, t.stage_sampling),
        (Stage::Readback, t.stage_readback),
        (Stage::Text, t.stage_text),
        (Stage::Window, t.stage_window),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_shown() {
        assert_eq!(visible(" a\n"), "·a↵");
        assert_eq!(visible(""), "∅");
        assert_eq!(hex(&[0xe4, 0x0a]), "e4 0a");
        assert_eq!([0.5, 0.012_34, 0.000_01].map(percent), ["50.0 %", "1.23 %", "0.00100 %"]);
        assert_eq!(
            [0.34, 8.25, 340.0, 12_345.0].map(milliseconds),
            ["340 µs", "8.25 ms", "340 ms", "12.3 s"]
        );
    }
}
