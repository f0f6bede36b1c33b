//! Room `app`: draws the bar at the top: menus, the model, where it runs, the context, and how a load goes.

use egui::{Label, RichText, Ui};

use super::actions::Action;
use super::command::Command;
use super::models::Models;
use super::prompt_ui::context_ui;
use super::servers_ui::place_ui;
use super::state::{LoadStep, Loading, ModelState, State};
use super::texts::{Texts, fill, texts};
use super::{menus_ui, status_ui, style};
use crate::model::builtin;
use crate::model::source::model_name;

/// Width of the bars in it, points.
const BAR_WIDTH: f32 = 150.0;

/// Draws it. `adapter`: the name of what it all runs on.
pub(super) fn top_bar_ui(
    ui: &mut Ui,
    state: &State,
    models: &Models,
    adapter: &str,
    (history_open, settings_open): (bool, bool),
    commands: &mut Vec<Command>,
) {
    let t = texts(ui.ctx());
    ui.horizontal(|ui| {
        let list = ui.selectable_label(history_open, "☰").on_hover_text(t.toggle_history);
        list.widget_info(|| {
            egui::WidgetInfo::selected(egui::Role::Button, true, history_open, t.toggle_history)
        });
        if list.clicked() {
            commands.push(Command::Do(Action::ToggleHistory));
        }
        menus_ui::menus_ui(ui, state, commands);
        ui.separator();
        // From the right first, so that long names give way, not the meter.
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            if ui.selectable_label(settings_open, t.settings).clicked() {
                commands.push(Command::Do(Action::ToggleSettings));
            }
            downloads_ui(ui, models, t, commands);
            match &state.model {
                // How large a server's context is, is not known.
                ModelState::Ready(_) if !state.answers_here() => {}
                ModelState::Ready(_) => context_ui(ui, state, BAR_WIDTH),
                ModelState::Loading(loading) => loading_ui(ui, loading, t, commands),
                ModelState::None => {}
            }
            ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                model_ui(ui, state, adapter, t);
            });
        });
    });
}

/// A download under way, and the way to it.
fn downloads_ui(ui: &mut Ui, models: &Models, t: &Texts, commands: &mut Vec<Command>) {
    if let Some(progress) = models.pulling() {
        let percent = progress.done_bytes * 100 / progress.total_bytes.max(1);
        let name = fill(t.downloading, &[("percent", &percent)]);
        if style::named(ui.button(format!("⬇ {percent} %")), &name).clicked() {
            commands.push(Command::Do(Action::Models));
        }
    }
}

fn model_ui(ui: &mut Ui, state: &State, adapter: &str, t: &Texts) {
    if !state.answers_here() {
        place_ui(ui, state, t);
        return;
    }
    match &state.model {
        ModelState::None => {
            ui.add(Label::new(RichText::new(format!("{} · {adapter}", t.no_model)).weak()).truncate());
        }
        ModelState::Loading(loading) => {
            let folder = &loading.folder;
            let name =
                if builtin::is_meant(folder) { builtin::FULL_NAME.to_owned() } else { model_name(folder) };
            ui.add(Label::new(RichText::new(name).strong()).truncate());
        }
        ModelState::Ready(info) => {
            let place =
                if state.is_demo() { t.inside_program.to_owned() } else { info.folder.display().to_string() };
            let values: [(&str, &dyn std::fmt::Display); 9] = [
                ("place", &place),
                ("recipe", &info.recipe),
                ("time", &style::secs(info.load_secs)),
                ("memory", &style::bytes(info.measured_bytes)),
                ("working", &style::bytes(info.memory.working_bytes)),
                ("adapter", &adapter),
                ("weights", &style::bytes(info.memory.weights_bytes)),
                ("cache", &style::bytes(info.memory.kv_bytes)),
                ("tokens", &status_ui::tokens(info.context, t)),
            ];
            let detail = fill(t.model_details, &values);
            let name = Label::new(RichText::new(&info.name).strong());
            if state.is_demo() {
                // What it is must be read before where it runs.
                ui.add(name.truncate()).on_hover_text(detail);
                return;
            }
            ui.add(name).on_hover_text(&detail);
            let place = format!("{} · {adapter}", info.recipe);
            ui.add(Label::new(RichText::new(place).weak()).truncate()).on_hover_text(detail);
        }
    }
}

fn loading_ui(ui: &mut Ui, loading: &Loading, t: &Texts, commands: &mut Vec<Command>) {
    let cancel = ui.add_enabled(!loading.stopping, egui::Button::new(t.cancel));
    if cancel.on_hover_text(t.cancel_load_hint).clicked() {
        commands.push(Command::CancelLoad);
    }
    let (done, total) = loading.bytes.unwrap_or_default();
    let step = match loading.step {
        _ if loading.stopping => t.step_stopping,
        LoadStep::Opening => t.step_opening,
        LoadStep::Converting => t.step_converting,
        LoadStep::Uploading => t.step_loading,
    };
    let text = match loading.bytes {
        Some(_) => {
            let (done, total) = (style::bytes(done), style::bytes(total));
            fill(t.step_of, &[("step", &step), ("done", &done), ("total", &total)])
        }
        None => format!("{step}…"),
    };
    let share = style::share(done as f64, total as f64);
    let bar = ui.add(style::bar(ui, share, BAR_WIDTH * 1.4).text(RichText::new(text).small()));
    if let Some(plan) = &loading.plan {
        let values: [(&str, &dyn std::fmt::Display); 5] = [
            ("all", &style::bytes(plan.loaded_bytes())),
            ("working", &style::bytes(plan.working_bytes)),
            ("weights", &style::bytes(plan.weights_bytes)),
            ("cache", &style::bytes(plan.kv_bytes)),
            ("tokens", &status_ui::tokens(plan.context, t)),
        ];
        bar.on_hover_text(fill(t.will_take, &values));
    }
}
