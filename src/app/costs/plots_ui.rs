//! Room `app`: plots of what answers cost, of one or of several beside each other.

use egui::{Color32, Rect, RichText, Sense, Stroke, StrokeKind, Ui, pos2, vec2};
use egui_plot::{Bar, BarChart, Legend, Line, Plot as Chart, PlotPoints, Points};

use super::timeline::Lane;
use super::timeline_ui::lane_colour;
use super::token_card::milliseconds;
use crate::app::texts::{Texts, figure};
use crate::costs::write::Plot;
use crate::costs::{Costs, Part, floor_ms, histogram, parts, rate_over_time};

/// Points drawn of one answer, at most.
const MOST_POINTS: usize = 20_000;
const BINS: usize = 48;
/// Seconds that a rate is taken over.
const RATE_SECS: f64 = 1.0;

/// The colours of answers beside each other, which people of any sight tell apart (Okabe and Ito's).
fn colour(n: usize, dark: bool) -> Color32 {
    let first = if dark { Color32::from_rgb(86, 180, 233) } else { Color32::from_rgb(0, 114, 178) };
    let others = [
        Color32::from_rgb(213, 94, 0),
        Color32::from_rgb(0, 158, 115),
        Color32::from_rgb(204, 121, 167),
        Color32::from_rgb(230, 159, 0),
        Color32::from_rgb(148, 148, 148),
    ];
    n.checked_sub(1).map_or(first, |n| others[n % others.len()])
}

/// A part's name.
fn part_name(part: Part, t: &Texts) -> &'static str {
    match part {
        Part::Sampling => t.stage_sampling,
        Part::Decode => t.lane_decode,
        Part::Prefill => t.lane_prefill,
        Part::Vision => t.lane_vision,
        Part::Prompt => t.part_prompt,
        Part::Window => t.lane_frames,
        Part::Recording => t.stage_recording,
        Part::Queue => t.stage_queue,
        Part::Readback => t.stage_readback,
        Part::Gaps => t.part_gaps,
    }
}

fn part_colour(part: Part, ui: &Ui) -> Color32 {
    let lane = match part {
        Part::Sampling => Lane::Sampling,
        Part::Decode => Lane::Decode,
        Part::Prefill => Lane::Prefill,
        Part::Vision => Lane::Vision,
        Part::Window => Lane::Frames,
        Part::Recording => Lane::Recording,
        Part::Queue => Lane::Queue,
        Part::Readback => Lane::Readback,
        Part::Prompt => return Color32::from_rgb(240, 228, 66),
        Part::Gaps => return ui.visuals().faint_bg_color,
    };
    lane_colour(lane, ui.visuals().dark_mode)
}

/// Draws a plot of some answers, each with its name, in the space there is.
pub(in crate::app) fn plots_ui(ui: &mut Ui, plot: Plot, answers: &[(String, Vec<&Costs>)], t: &Texts) {
    // Pieces of an answer that it took over from another have no times of its own.
    let own: Vec<(&str, Vec<&Costs>)> = answers
        .iter()
        .map(|(name, pieces)| (name.as_str(), pieces.iter().copied().filter(|c| !c.is_copied).collect()))
        .collect();
    if plot == Plot::Parts {
        parts_ui(ui, &own, t);
        return;
    }
    let (x, y) = match plot {
        Plot::Latency => (t.axis_context, "ms"),
        Plot::Histogram => ("ms", t.axis_tokens),
        Plot::Rate => (t.axis_seconds, "tok/s"),
        Plot::Parts => ("", ""),
    };
    let dark = ui.visuals().dark_mode;
    Chart::new(("costs", plot as u8))
        .legend(Legend::default())
        .x_axis_label(x)
        .y_axis_label(y)
        .include_y(0.0)
        .allow_scroll(false)
        .label_formatter(move |at| {
            let (x, y) = match at {
                egui_plot::HoverPosition::NearDataPoint { position, .. }
                | egui_plot::HoverPosition::Elsewhere { position } => (position.x, position.y),
            };
            Some(match plot {
                Plot::Latency => figure(&format!("{x:.0}: {y:.2} ms")),
                Plot::Histogram => figure(&format!("{x:.2} ms: {y:.0}")),
                Plot::Rate | Plot::Parts => figure(&format!("{x:.2} s: {y:.1} tok/s")),
            })
        })
        .show(ui, |drawn| {
            for (n, (name, pieces)) in own.iter().enumerate() {
                for costs in pieces {
                    one(drawn, plot, name, costs, colour(n, dark), t);
                }
            }
        });
}

fn one(drawn: &mut egui_plot::PlotUi<'_>, plot: Plot, name: &str, costs: &Costs, colour: Color32, t: &Texts) {
    match plot {
        Plot::Latency => {
            let every = costs.tokens.len().div_ceil(MOST_POINTS).max(1);
            let tokens = costs.tokens.iter().enumerate().skip(1).step_by(every);
            let points: Vec<[f64; 2]> = tokens
                .filter_map(|(n, token)| Some([f64::from(token.index), costs.latency_ms(n)?]))
                .collect();
            let ends: Vec<[f64; 2]> = [points.first(), points.last()]
                .into_iter()
                .flatten()
                .filter_map(|[at, _]| floor_ms(costs, *at as u32).map(|ms| [*at, ms]))
                .collect();
            drawn.points(Points::new(name.to_owned(), PlotPoints::from(points)).radius(2.0).color(colour));
            if !ends.is_empty() {
                let floor = format!("{name}: {}", t.bandwidth_floor);
                drawn.line(
                    Line::new(floor, PlotPoints::from(ends))
                        .color(colour)
                        .style(egui_plot::LineStyle::dashed_loose())
                        .width(1.5),
                );
            }
        }
        Plot::Histogram => {
            let bars = histogram(costs, BINS)
                .into_iter()
                .map(|(from, to, count)| {
                    Bar::new(f64::midpoint(from, to), count as f64)
                        .width(to - from)
                        .fill(colour.gamma_multiply(0.6))
                })
                .collect();
            drawn.bar_chart(BarChart::new(name.to_owned(), bars).color(colour));
        }
        Plot::Rate => {
            let rates = rate_over_time(costs, RATE_SECS, 2000).into_iter().map(|(at, rate)| [at, rate]);
            drawn.line(Line::new(name.to_owned(), PlotPoints::from(rates.collect::<Vec<_>>())).color(colour));
        }
        Plot::Parts => {}
    }
}

/// An answer's name, the nanoseconds of its parts, and of all.
type Sums<'a> = (&'a str, Vec<(Part, u64)>, u64);

/// Where the time went: a bar an answer, its parts beside each other, and what each took.
fn parts_ui(ui: &mut Ui, answers: &[(&str, Vec<&Costs>)], t: &Texts) {
    let sums: Vec<Sums<'_>> = answers
        .iter()
        .map(|(name, pieces)| {
            let mut all: Vec<(Part, u64)> = Part::SHOWN.iter().map(|&part| (part, 0)).collect();
            for costs in pieces {
                for (sum, time) in all.iter_mut().zip(parts(costs)) {
                    sum.1 += time.ns;
                }
            }
            let whole = all.iter().map(|part| part.1).sum();
            (*name, all, whole)
        })
        .collect();
    let most = sums.iter().map(|sum| sum.2).max().unwrap_or(0).max(1) as f64;
    egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        for (name, all, whole) in &sums {
            ui.horizontal(|ui| {
                ui.weak(milliseconds(*whole as f64 / 1e6));
                ui.add(egui::Label::new(RichText::new(*name).strong()).truncate());
            });
            let (rect, response) =
                ui.allocate_exact_size(vec2(ui.available_width() - 8.0, 30.0), Sense::hover());
            let mut left = rect.left();
            for &(part, ns) in all {
                let width = (ns as f64 / most * f64::from(rect.width())) as f32;
                let piece = Rect::from_min_size(pos2(left, rect.top()), vec2(width, rect.height()));
                ui.painter().rect_filled(piece, 0.0, part_colour(part, ui));
                if response.hover_pos().is_some_and(|at| piece.contains(at)) {
                    let stroke = Stroke::new(1.5, ui.visuals().strong_text_color());
                    ui.painter().rect_stroke(piece, 0.0, stroke, StrokeKind::Inside);
                    let words = part_words(part, ns, *whole, t);
                    response.clone().on_hover_text_at_pointer(words);
                }
                left += width;
            }
            let words: Vec<String> = all.iter().map(|&(part, ns)| part_words(part, ns, *whole, t)).collect();
            response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, words.join("; ")));
            ui.horizontal_wrapped(|ui| {
                for &(part, ns) in all.iter().filter(|(_, ns)| *ns > 0) {
                    let (dot, _) = ui.allocate_exact_size(vec2(10.0, 10.0), Sense::hover());
                    ui.painter().rect_filled(dot, 2.0, part_colour(part, ui));
                    let edge = Stroke::new(0.5, ui.visuals().weak_text_color());
                    ui.painter().rect_stroke(dot, 2.0, edge, StrokeKind::Inside);
                    ui.label(RichText::new(part_words(part, ns, *whole, t)).small());
                    ui.add_space(6.0);
                }
            });
            ui.add_space(8.0);
        }
        ui.add(egui::Label::new(RichText::new(t.parts_note).small().weak()).wrap());
    });
}

fn part_words(part: Part, ns: u64, whole: u64, t: &Texts) -> String {
    let share = ns as f64 / whole.max(1) as f64 * 100.0;
    let share = figure(&format!("{share:.1}"));
    format!("{} {} ({share} %)", part_name(part, t), milliseconds(ns as f64 / 1e6))
}
