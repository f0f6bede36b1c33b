//! Room `app`: draws a comparison: its bar, its columns as they are written, and under them what came.

use std::path::PathBuf;

use egui::{Button, ComboBox, Frame, Id, Layout, Margin, Modal, RichText, ScrollArea, TextEdit, Ui};

use super::cells_ui::{self, Thumbnails};
use super::columns_ui::{self, Choices};
use super::command::Command;
use super::comparing::{Comparing, Filter, MOST_COLUMNS, PAGE};
use super::costs::{plot_choice, plots_ui};
use super::sorting::COMPARISONS;
use super::style;
use super::texts::{Texts, fill, texts};
use crate::compare::judge::Rating;
use crate::costs::Costs;

/// Width of what columns share, and of what rows are about, points.
const GUTTER: f32 = 250.0;
/// The narrowest column, and a collapsed one, points.
const NARROWEST: f32 = 240.0;
const COLLAPSED: f32 = 30.0;

/// What the user can ask of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum CompareCommand {
    /// Show it, or the chat again.
    Toggle,
    /// Begin a new one.
    New,
    /// Begin with the example.
    Example,
    /// Choose a file to read.
    Open,
    /// Choose a file to write.
    Save,
    /// Choose a file for a report.
    Report,
    /// Run what has not run, or all of it anew.
    Run(bool),
    /// Hold the run, or let it go on.
    Pause(bool),
    /// Stop the run.
    Stop,
    /// Rate the answer of this key.
    Rate(String, Rating),
    /// Make a chat of the cell of this number.
    ToChat(usize),
    /// Compare from this message on.
    From(crate::chat::tree::MessageId),
    /// Choose pictures for a column, or for all.
    AddPictures(Option<usize>),
}

/// Pictures of a comparison on the screen, and what is typed and is nothing yet.
#[derive(Default)]
pub(super) struct ComparingView {
    pub thumbnails: Thumbnails,
    pub note: String,
}

/// Draws it all.
pub(super) fn comparing_ui(
    ui: &mut Ui,
    comparing: &mut Comparing,
    view: &mut ComparingView,
    choices: &Choices<'_>,
    commands: &mut Vec<Command>,
) {
    let t = texts(ui.ctx());
    bar_ui(ui, comparing, t, commands);
    ui.separator();
    let columns = comparing.comparison.columns.len();
    let collapsed = (0..columns).filter(|n| comparing.looking.collapsed.contains(n)).count();
    let spacing = ui.spacing().item_spacing.x;
    let open = (columns - collapsed).max(1) as f32;
    let room = ui.available_width() - GUTTER - 24.0 - spacing * (columns as f32 + 1.0);
    let width = ((room - COLLAPSED * collapsed as f32) / open).max(NARROWEST);
    let widths: Vec<f32> = (0..columns)
        .map(|n| if comparing.looking.collapsed.contains(&n) { COLLAPSED } else { width })
        .collect();
    ScrollArea::both().auto_shrink(false).id_salt("comparison").show(ui, |ui| {
        if !comparing.looking.hide_editor {
            editor_ui(ui, comparing, &widths, choices, t, commands);
            ui.separator();
        }
        cells_ui::cells_ui(ui, comparing, view, GUTTER, &widths, t, commands);
    });
    costs_ui(ui, comparing, t);
}

/// What the tokens of a row's columns cost, beside each other.
fn costs_ui(ui: &Ui, comparing: &mut Comparing, t: &Texts) {
    let (Some(group), Some(plan)) = (comparing.looking.costs, comparing.plan.clone()) else { return };
    let names = plan.comparison.column_names();
    let numbers = (0..names.len()).map(|n| group * names.len() + n);
    let shown: Vec<(String, Vec<&Costs>)> = names
        .iter()
        .zip(numbers)
        .filter_map(|(name, number)| Some((name.clone(), vec![comparing.costs.get(&number)?])))
        .collect();
    let mut plot = comparing.looking.plot;
    let modal = Modal::new(Id::unique("costs of columns")).show(ui.ctx(), |ui| {
        let room = ui.ctx().content_rect().size();
        ui.set_width((room.x * 0.8).min(980.0));
        ui.heading(fill(t.costs_of_row_named, &[("n", &(group + 1))]));
        plot_choice(ui, &mut plot, t);
        ui.allocate_ui(egui::vec2(ui.available_width(), (room.y * 0.6).min(520.0)), |ui| {
            ui.set_min_height(200.0);
            plots_ui(ui, plot, &shown, t);
        });
        ui.button(t.close).clicked()
    });
    let closes = modal.inner || modal.should_close();
    comparing.looking.plot = plot;
    if closes {
        comparing.looking.costs = None;
    }
}

/// A column of this width.
pub(super) fn block(ui: &mut Ui, width: f32, contents: impl FnOnce(&mut Ui)) {
    ui.allocate_ui_with_layout(egui::vec2(width, 0.0), Layout::top_down(egui::Align::Min), |ui| {
        ui.set_width(width);
        contents(ui);
    });
}

fn editor_ui(
    ui: &mut Ui,
    comparing: &mut Comparing,
    widths: &[f32],
    choices: &Choices<'_>,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let before =
        (comparing.assertion_lines.clone(), comparing.variable_lines.clone(), comparing.comparison.clone());
    ui.horizontal_top(|ui| {
        block(ui, GUTTER, |ui| columns_ui::shared_ui(ui, comparing, choices, t, commands));
        for (n, width) in widths.iter().enumerate() {
            if comparing.looking.collapsed.contains(&n) {
                block(ui, *width, |ui| {
                    let names = comparing.comparison.column_names();
                    let name = fill(t.expand_named, &[("name", &names[n])]);
                    if style::quiet_button(ui, "▸", &name, true).clicked() {
                        comparing.looking.collapsed.remove(&n);
                    }
                });
                continue;
            }
            let frame = Frame::new().fill(ui.visuals().faint_bg_color).corner_radius(6.0);
            frame.show(ui, |ui| {
                block(ui, *width, |ui| {
                    Frame::new().inner_margin(Margin::same(8)).show(ui, |ui| {
                        ui.push_id(("column", n), |ui| {
                            columns_ui::column_ui(ui, comparing, n, choices, t, commands);
                        });
                    });
                });
            });
        }
    });
    let after = (&comparing.assertion_lines, &comparing.variable_lines, &comparing.comparison);
    if (&before.0, &before.1, &before.2) != after {
        comparing.read_lines();
    }
}

fn bar_ui(ui: &mut Ui, comparing: &mut Comparing, t: &Texts, commands: &mut Vec<Command>) {
    let mut command = |what: CompareCommand| commands.push(Command::Compare(what));
    ui.horizontal_wrapped(|ui| {
        if ui.button(format!("← {}", t.back_to_chat)).clicked() {
            command(CompareCommand::Toggle);
        }
        ui.menu_button(t.comparison, |ui| {
            let items = [
                (t.new_comparison, CompareCommand::New),
                (t.example_comparison, CompareCommand::Example),
                (t.open_comparison, CompareCommand::Open),
                (t.save_comparison, CompareCommand::Save),
            ];
            for (name, what) in items {
                if ui.button(name).clicked() {
                    command(what);
                    ui.close();
                }
            }
            let has_results = !comparing.results.is_empty();
            if ui.add_enabled(has_results, Button::new(t.write_report)).clicked() {
                command(CompareCommand::Report);
                ui.close();
            }
        });
        let title = TextEdit::singleline(&mut comparing.comparison.title)
            .hint_text(t.comparison_title)
            .desired_width(220.0);
        style::named(ui.add(title), t.comparison_title);
        let has_room = comparing.comparison.columns.len() < MOST_COLUMNS;
        if ui.add_enabled(has_room, Button::new(t.add_column)).clicked() {
            comparing.comparison.columns.push(crate::compare::Fields::default());
            comparing.looking.collapsed.clear();
        }
        let (shown, hint) = if comparing.looking.hide_editor {
            (t.show_editor, t.show_editor)
        } else {
            (t.hide_editor, t.hide_editor)
        };
        if style::named(ui.button(shown), hint).clicked() {
            comparing.looking.hide_editor = !comparing.looking.hide_editor;
        }
    });
    ui.horizontal_wrapped(|ui| run_ui(ui, comparing, t, &mut command));
    if let Some(problem) = &comparing.problem {
        ui.label(RichText::new(problem.to_string()).color(ui.visuals().error_fg_color));
    }
    if comparing.plan.is_some() {
        ui.horizontal_wrapped(|ui| looking_ui(ui, comparing, t));
        savings_ui(ui, comparing, t);
    }
}

/// Cells that the comparison would have, as it is written.
fn cells_in_all(comparing: &Comparing) -> Option<usize> {
    let c = &comparing.comparison;
    let values = c.variables.values().map(Vec::len);
    let rows = match c.matrix.pairing {
        crate::compare::Pairing::Cartesian => values.product::<usize>(),
        crate::compare::Pairing::Paired => c.variables.values().map(Vec::len).next().unwrap_or(1),
    };
    // How many lines a file of values has is known when it is read.
    c.matrix.csv.is_none().then(|| rows * c.columns.len() * c.matrix.repeats)
}

fn run_ui(ui: &mut Ui, comparing: &mut Comparing, t: &Texts, command: &mut impl FnMut(CompareCommand)) {
    let busy = comparing.is_busy();
    let paused = comparing.run.as_ref().is_some_and(|run| run.is_paused() && !run.is_over());
    if busy || paused {
        let (name, what) = if paused { (t.go_on_run, false) } else { (t.pause, true) };
        if ui.add_enabled(comparing.run.is_some(), Button::new(name)).clicked() {
            command(CompareCommand::Pause(what));
        }
        if ui.button(t.stop).clicked() {
            command(CompareCommand::Stop);
        }
    } else {
        let can = comparing.problem.is_none();
        let missing = comparing.plan.as_ref().map_or(0, |plan| plan.len() - comparing.results.len());
        let is_current = comparing.plan.is_some() && !comparing.is_outdated();
        let goes_on = is_current && missing > 0 && !comparing.results.is_empty();
        let all_there = is_current && missing == 0;
        let name = match cells_in_all(comparing) {
            Some(_) if goes_on => fill(t.run_missing, &[("n", &style::grouped(missing))]),
            Some(cells) => fill(t.run_cells, &[("n", &style::grouped(cells))]),
            None => t.run.to_owned(),
        };
        let run = Button::new(RichText::new(name).strong());
        if !all_there && ui.add_enabled(can, run).clicked() {
            command(CompareCommand::Run(false));
        }
        let again = Button::new(t.run_anew);
        if ui
            .add_enabled(can && !comparing.results.is_empty(), again)
            .on_hover_text(t.run_anew_hint)
            .clicked()
        {
            command(CompareCommand::Run(true));
        }
    }
    if comparing.preparing {
        ui.spinner();
    }
    if let Some(run) = comparing.run.as_ref().filter(|run| busy || paused || run.progress().done > 0) {
        let progress = run.progress();
        let share = style::share(progress.done as f64, progress.total as f64);
        let text = fill(
            t.cells_of,
            &[("done", &style::grouped(progress.done)), ("total", &style::grouped(progress.total))],
        );
        ui.add(style::bar(ui, share, 200.0).text(RichText::new(text).small()));
        if let Some(secs) = comparing.secs_left() {
            ui.label(RichText::new(fill(t.secs_left, &[("time", &style::secs(secs))])).small().weak());
        }
        if progress.failed > 0 {
            let text = RichText::new(fill(t.cells_failed, &[("n", &progress.failed)]));
            ui.label(text.small().color(ui.visuals().error_fg_color));
        }
    } else if let Some((cost, secs)) = comparing.cost() {
        let values: [(&str, &dyn std::fmt::Display); 3] = [
            ("prompt", &style::grouped(cost.prompt_tokens)),
            ("pictures", &style::grouped(cost.image_tokens)),
            ("new", &style::grouped(cost.new_tokens)),
        ];
        let mut words = fill(t.will_cost, &values);
        if let Some(secs) = secs {
            words += &fill(t.will_take_about, &[("time", &style::secs(secs))]);
        }
        ui.label(RichText::new(words).small().weak()).on_hover_text(t.will_cost_hint);
    }
    if comparing.is_outdated() && !busy {
        ui.label(RichText::new(t.results_outdated).small().color(ui.visuals().warn_fg_color));
    }
}

fn looking_ui(ui: &mut Ui, comparing: &mut Comparing, t: &Texts) {
    let names: Vec<String> = comparing
        .plan
        .iter()
        .flat_map(|plan| plan.columns.iter().map(|column| column.name.clone()))
        .collect();
    let looking = &mut comparing.looking;
    let label = ui.label(RichText::new(t.show_groups).small());
    let filter_name = |filter: Filter| match filter {
        Filter::All => t.filter_all,
        Filter::Differing => t.filter_differing,
        Filter::Failing => t.filter_failing,
        Filter::Unrated => t.filter_unrated,
    };
    let before = looking.filter;
    let filter =
        ComboBox::from_id_salt("filter").selected_text(filter_name(looking.filter)).show_ui(ui, |ui| {
            for filter in [Filter::All, Filter::Differing, Filter::Failing, Filter::Unrated] {
                ui.selectable_value(&mut looking.filter, filter, filter_name(filter));
            }
        });
    filter.response.labelled_by(label.id);
    if before != looking.filter {
        looking.page = 0;
    }
    let label = ui.label(RichText::new(t.differences).small());
    let shown = looking.against.and_then(|n| names.get(n)).map_or(t.no_differences, String::as_str);
    let against = ComboBox::from_id_salt("against").selected_text(shown).truncate().show_ui(ui, |ui| {
        ui.selectable_value(&mut looking.against, None, t.no_differences);
        for (n, name) in names.iter().enumerate() {
            ui.selectable_value(&mut looking.against, Some(n), fill(t.against_column, &[("name", name)]));
        }
    });
    against.response.labelled_by(label.id);
    ui.checkbox(&mut looking.blind, t.blind).on_hover_text(t.blind_hint);
    let groups = comparing.shown_groups().len();
    let pages = groups.div_ceil(PAGE).max(1);
    let looking = &mut comparing.looking;
    looking.page = looking.page.min(pages - 1);
    if pages > 1 {
        if style::quiet_button(ui, "‹", t.previous_page, looking.page > 0).clicked() {
            looking.page -= 1;
        }
        let (first, last) = (looking.page * PAGE + 1, ((looking.page + 1) * PAGE).min(groups));
        let values: [(&str, &dyn std::fmt::Display); 3] =
            [("first", &first), ("last", &last), ("all", &style::grouped(groups))];
        ui.label(RichText::new(fill(t.rows_of, &values)).small());
        if style::quiet_button(ui, "›", t.next_page, looking.page + 1 < pages).clicked() {
            looking.page += 1;
        }
    }
}

/// What cells shared, and what that saved.
fn savings_ui(ui: &mut Ui, comparing: &mut Comparing, t: &Texts) {
    let Some(s) = comparing.savings().filter(|s| s.prompt_tokens > 0) else { return };
    let values: [(&str, &dyn std::fmt::Display); 5] = [
        ("reused", &style::grouped(s.reused_tokens)),
        ("tokens", &style::grouped(s.prompt_tokens)),
        ("shared", &style::grouped(s.shared_pictures)),
        ("pictures", &style::grouped(s.pictures)),
        ("time", &style::secs(s.saved_secs)),
    ];
    ui.label(RichText::new(fill(t.savings, &values)).small().weak()).on_hover_text(t.savings_hint);
}

/// The name under which a comparison is saved, where it has none yet.
pub(super) fn file_name(comparing: &Comparing) -> String {
    if let Some(name) = comparing.path.as_deref().and_then(std::path::Path::file_name) {
        return name.to_string_lossy().into_owned();
    }
    let title: String = comparing
        .comparison
        .title
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let title = title.trim_matches('-').to_owned();
    PathBuf::from(if title.is_empty() { "comparison".to_owned() } else { title })
        .with_extension(COMPARISONS[0])
        .display()
        .to_string()
}
