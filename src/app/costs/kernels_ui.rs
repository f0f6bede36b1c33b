//! Room `app`: draws time by kernel: the switch of profile mode, a table to sort, and the roofline.

use egui::{ComboBox, Grid, Label, Rect, RichText, ScrollArea, Ui, UiBuilder, WidgetInfo, pos2, vec2};
use egui_plot::{GridInput, GridMark, HoverPosition, Line, MarkerShape, Plot, PlotPoints, Points, Text};

use super::token_card::milliseconds;
use super::view::{CostsCommand, CostsView, SortBy};
use crate::app::state::State;
use crate::app::texts::{Texts, figure, fill};
use crate::gpu::{Bound, Ceilings, Group, GroupBy, METHOD, ProfileReport, Totals};

/// Dots with words beside them, at most; of more, each says what it is when it is pointed at.
const MOST_LABELS: usize = 16;
/// Share of the page that the table takes.
const TABLE: f32 = 0.62;

/// Draws the page.
pub(super) fn kernels_ui(
    ui: &mut Ui,
    state: &State,
    view: &mut CostsView,
    t: &Texts,
    commands: &mut Vec<CostsCommand>,
) {
    let profiling = &state.profiling;
    let report = profiling.report.as_deref();
    let parts: Vec<&str> =
        report.map(|report| report.parts.iter().map(|part| part.part.as_str()).collect()).unwrap_or_default();
    if !parts.contains(&view.part.as_str())
        && let Some(last) = parts.last()
    {
        (*last).clone_into(&mut view.part);
    }
    ui.horizontal(|ui| {
        let mut on = profiling.is_on;
        let switch = ui.add_enabled(!profiling.is_busy(), egui::Checkbox::new(&mut on, t.profile_mode));
        if switch.on_hover_text(METHOD).changed() {
            commands.push(CostsCommand::Profile(on));
        }
        if !parts.is_empty() {
            combo(ui, t.profile_part, &view.part.clone(), |ui| {
                for part in &parts {
                    ui.selectable_value(&mut view.part, (*part).to_owned(), *part);
                }
            });
            let names = |by| match by {
                GroupBy::Kind => t.by_kind,
                GroupBy::Kernel => t.by_kernel,
                GroupBy::Layer => t.by_layer,
            };
            combo(ui, t.profile_by, names(view.group.0), |ui| {
                for by in [GroupBy::Kind, GroupBy::Kernel, GroupBy::Layer] {
                    ui.selectable_value(&mut view.group.0, by, names(by));
                }
            });
        }
        let note = match profiling.is_on {
            _ if profiling.is_busy() => t.profile_switching,
            true => t.profile_slows,
            false => t.profile_off,
        };
        ui.add(Label::new(RichText::new(note).small().weak()).truncate()).on_hover_text(METHOD);
    });
    if let Some(error) = &profiling.error {
        ui.label(RichText::new(error.to_string()).color(ui.visuals().error_fg_color));
    }
    if profiling.is_on {
        commands.push(CostsCommand::WantProfile);
    }
    let Some(report) = report.filter(|report| !report.parts.is_empty()) else {
        let words = if profiling.is_on { t.profile_ask } else { t.profile_none };
        ui.centered_and_justified(|ui| ui.weak(words));
        return;
    };
    sums_ui(ui, report, &view.part, t);
    let whole = ui.available_rect_before_wrap();
    let width = if report.ceilings.is_some() { whole.width() * TABLE } else { whole.width() };
    let table = Rect::from_min_size(whole.min, vec2(width - 8.0, whole.height()));
    let mut groups = report.groups(&view.part, view.group.0);
    let all_ms = report.totals(&view.part).ms;
    sort(&mut groups, view.sort, report.ceilings.as_ref());
    ui.scope_builder(UiBuilder::new().id_salt("kernel table").max_rect(table), |ui| {
        ui.set_clip_rect(table.intersect(ui.clip_rect()));
        table_ui(ui, &groups, all_ms, report.ceilings.as_ref(), view, t);
    });
    if let Some(ceilings) = &report.ceilings {
        let plot = Rect::from_min_max(pos2(table.right() + 8.0, whole.top()), whole.max);
        ui.scope_builder(UiBuilder::new().id_salt("roofline").max_rect(plot), |ui| {
            roofline_ui(ui, &groups, ceilings, t);
        });
    }
    ui.advance_cursor_after_rect(whole);
}

fn combo(ui: &mut Ui, name: &str, shown: &str, contents: impl FnOnce(&mut Ui)) {
    let combo = ComboBox::from_id_salt(name).selected_text(shown).show_ui(ui, contents);
    combo.response.widget_info(|| WidgetInfo::labeled(egui::Role::ComboBox, true, name));
}

/// Kernels and gaps, which are the steps.
fn sums_ui(ui: &mut Ui, report: &ProfileReport, part: &str, t: &Texts) {
    let Some(part) = report.parts.iter().find(|time| time.part == part) else { return };
    let (whole, kernels, gaps) =
        (milliseconds(part.whole_ms), milliseconds(part.kernels_ms), milliseconds(part.gaps_ms));
    let share = figure(&format!("{:.1}", part.kernels_ms / part.whole_ms.max(1e-9) * 100.0));
    let values: [(&str, &dyn std::fmt::Display); 5] = [
        ("steps", &part.steps),
        ("whole", &whole),
        ("kernels", &kernels),
        ("gaps", &gaps),
        ("share", &share),
    ];
    ui.add(Label::new(RichText::new(fill(t.profile_sums, &values)).small()).selectable(true).truncate());
}

fn sort(groups: &mut [Group], by: SortBy, ceilings: Option<&Ceilings>) {
    let key = |totals: &Totals| match by {
        SortBy::Order => 0.0,
        SortBy::Ms => totals.ms,
        SortBy::Count => totals.count as f64,
        SortBy::GbS => totals.gb_s(),
        SortBy::GflopS => totals.gflop_s(),
        SortBy::Roofline => ceilings.map_or(0.0, |ceilings| totals.roofline_share(ceilings)),
    };
    groups.sort_by(|a, b| key(&b.totals).total_cmp(&key(&a.totals)));
}

fn table_ui(
    ui: &mut Ui,
    groups: &[Group],
    all_ms: f64,
    ceilings: Option<&Ceilings>,
    view: &mut CostsView,
    t: &Texts,
) {
    ScrollArea::both().id_salt("kernels").auto_shrink(false).show(ui, |ui| {
        Grid::new("kernels").num_columns(8).striped(true).spacing([12.0, 2.0]).min_row_height(16.0).show(
            ui,
            |ui| {
                let heads = [
                    (SortBy::Order, t.profile_what),
                    (SortBy::Ms, t.profile_time),
                    (SortBy::Order, "%"),
                    (SortBy::Count, t.profile_count),
                    (SortBy::GbS, "GB/s"),
                    (SortBy::GflopS, "GFLOP/s"),
                    (SortBy::Roofline, t.profile_roof),
                    (SortBy::Order, t.profile_bound),
                ];
                for (by, name) in heads {
                    if by == SortBy::Order {
                        ui.label(RichText::new(name).small().weak());
                    } else if ui
                        .selectable_label(view.sort == by, RichText::new(name).small())
                        .on_hover_text(t.profile_sort)
                        .clicked()
                    {
                        view.sort = by;
                    }
                }
                ui.end_row();
                for group in groups {
                    row_ui(ui, group, all_ms, ceilings, t);
                }
            },
        );
    });
}

/// What a group is called.
fn name(group: &Group, t: &Texts) -> String {
    match (group.layer, group.kind.as_str(), group.kernel.as_str()) {
        (Some(layer), "", _) => format!("{} {}", t.layer, layer + 1),
        (None, "", _) => t.outside_layers.to_owned(),
        (_, kind, "") => kind.to_owned(),
        (_, kind, kernel) => format!("{kind}: {kernel}"),
    }
}

fn row_ui(ui: &mut Ui, group: &Group, all_ms: f64, ceilings: Option<&Ceilings>, t: &Texts) {
    let totals = &group.totals;
    let cell = |ui: &mut Ui, text: String| {
        ui.label(RichText::new(text).small().monospace());
    };
    let words = name(group, t);
    ui.add(Label::new(RichText::new(&words).small())).on_hover_text(&words);
    cell(ui, milliseconds(totals.ms));
    cell(ui, figure(&format!("{:.1}", totals.ms / all_ms.max(1e-9) * 100.0)));
    cell(ui, totals.count.to_string());
    cell(ui, figure(&format!("{:.2}", totals.gb_s())));
    cell(ui, figure(&format!("{:.2}", totals.gflop_s())));
    if let Some(ceilings) = ceilings {
        cell(ui, figure(&format!("{:.0} %", totals.roofline_share(ceilings) * 100.0)));
        cell(
            ui,
            if totals.bound(ceilings) == Bound::Memory { t.bound_memory } else { t.bound_compute }.to_owned(),
        );
    }
    ui.end_row();
}

/// Operations a second over operations a byte, both as powers of ten, below the two roofs.
fn roofline_ui(ui: &mut Ui, groups: &[Group], ceilings: &Ceilings, t: &Texts) {
    let (peak, bandwidth) = (ceilings.gflop_s.max(1e-9), ceilings.read_gb_s.max(1e-9));
    let ridge = peak / bandwidth;
    let dots: Vec<(String, [f64; 2])> = groups
        .iter()
        .filter(|group| group.totals.flops > 0.0 && group.totals.bytes > 0.0 && group.totals.ms > 0.0)
        .map(|group| (name(group, t), [group.totals.intensity().log10(), group.totals.gflop_s().log10()]))
        .collect();
    let least = dots.iter().map(|dot| dot.1[0]).fold(ridge.log10() - 1.0, f64::min) - 0.3;
    let most = dots.iter().map(|dot| dot.1[0]).fold(ridge.log10() + 1.0, f64::max) + 0.3;
    let roof = vec![
        [least, (10f64.powf(least) * bandwidth).log10()],
        [ridge.log10(), peak.log10()],
        [most, peak.log10()],
    ];
    let spacer = |input: GridInput| -> Vec<GridMark> {
        let (from, to) = (input.bounds.0.ceil() as i32, input.bounds.1.floor() as i32);
        (from..=to.min(from + 40)).map(|n| GridMark { value: f64::from(n), step_size: 1.0 }).collect()
    };
    let power = |mark: GridMark, _: &std::ops::RangeInclusive<f64>| {
        let value = 10f64.powf(mark.value);
        figure(&if value >= 1.0 { format!("{value:.0}") } else { format!("{value}") })
    };
    let strong = ui.visuals().strong_text_color();
    let colour = ui.visuals().selection.bg_fill;
    let words = fill(
        t.roofline_named,
        &[
            ("peak", &figure(&format!("{peak:.0}")) as &dyn std::fmt::Display),
            ("bandwidth", &figure(&format!("{bandwidth:.1}"))),
        ],
    );
    ui.add(Label::new(RichText::new(&words).small().weak()).truncate());
    Plot::new("roofline")
        .x_axis_label(t.axis_intensity)
        .y_axis_label("GFLOP/s")
        .x_grid_spacer(spacer)
        .y_grid_spacer(spacer)
        .x_axis_formatter(power)
        .y_axis_formatter(power)
        .allow_scroll(false)
        .label_formatter(|at| match at {
            HoverPosition::NearDataPoint { plot_name, .. } => Some((*plot_name).to_owned()),
            HoverPosition::Elsewhere { .. } => None,
        })
        .show(ui, |plot| {
            plot.line(Line::new(words, PlotPoints::from(roof)).color(strong).width(1.5));
            let few = dots.len() <= MOST_LABELS;
            for (name, at) in dots {
                let dot = Points::new(name.clone(), PlotPoints::from(vec![at]));
                plot.points(dot.radius(4.0).shape(MarkerShape::Circle).color(colour));
                if !few {
                    continue;
                }
                let label = RichText::new(name.chars().take(16).collect::<String>()).small();
                let place = egui_plot::PlotPoint::new(at[0], at[1] + 0.06);
                plot.text(Text::new("", place, label).color(strong).anchor(egui::Align2::CENTER_BOTTOM));
            }
        });
}
