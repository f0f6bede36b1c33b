//! Room `app`: draws the bar at the top: the model, where it runs, the context, and how a load goes.

use egui::{Label, RichText, Ui};

use super::state::{Command, Loading, ModelState, State};
use super::style;
use crate::model::builtin;

/// Width of the bars in it, points.
const BAR_WIDTH: f32 = 150.0;

/// Draws it. `adapter`: the name of what it all runs on.
pub(super) fn top_bar_ui(
    ui: &mut Ui,
    state: &State,
    adapter: &str,
    settings_open: &mut bool,
    commands: &mut Vec<Command>,
) {
    ui.horizontal(|ui| {
        if ui
            .button("Open model…")
            .on_hover_text("Choose a model folder: from the Hugging Face hub, or converted")
            .clicked()
        {
            commands.push(Command::ChooseModel);
        }
        let has_chat = !state.turns.is_empty();
        let new_chat = ui.add_enabled(has_chat, egui::Button::new("New chat"));
        if new_chat.on_hover_text("Start an empty conversation with the same model").clicked() {
            commands.push(Command::NewChat);
        }
        ui.separator();
        // From the right first, so that long names give way, not the meter.
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            ui.toggle_value(settings_open, "Settings");
            match &state.model {
                ModelState::Ready(info) => context_ui(ui, state.context_used, info.context),
                ModelState::Loading(loading) => loading_ui(ui, loading, commands),
                ModelState::None => {}
            }
            ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                model_ui(ui, state, adapter);
            });
        });
    });
}

fn model_ui(ui: &mut Ui, state: &State, adapter: &str) {
    match &state.model {
        ModelState::None => {
            ui.add(Label::new(RichText::new(format!("No model · {adapter}")).weak()).truncate());
        }
        ModelState::Loading(loading) => {
            let folder = &loading.folder;
            let name = if builtin::is_meant(folder) {
                builtin::FULL_NAME.into()
            } else {
                folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy()
            };
            ui.add(Label::new(RichText::new(name).strong()).truncate());
        }
        ModelState::Ready(info) => {
            let memory = style::bytes(info.memory.weights_bytes + info.memory.kv_bytes);
            let detail = format!(
                "{}\nrecipe {}, loaded in {}\n{memory} on {adapter}\n({} weights, {} KV cache for {})",
                if state.is_demo() {
                    "inside this program".to_owned()
                } else {
                    info.folder.display().to_string()
                },
                info.recipe,
                style::secs(info.load_secs),
                style::bytes(info.memory.weights_bytes),
                style::bytes(info.memory.kv_bytes),
                style::count(info.context, "token", "tokens"),
            );
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

fn context_ui(ui: &mut Ui, used: usize, context: usize) {
    let share = style::share(used as f64, context as f64);
    let text = format!("{} / {} tokens", style::grouped(used), style::grouped(context));
    let mut bar = style::bar(ui, share, BAR_WIDTH).text(RichText::new(text).small());
    if share > 0.9 {
        bar = bar.fill(ui.visuals().warn_fg_color.gamma_multiply(0.6));
    }
    ui.add(bar).on_hover_text(
        "How much of the model's context this conversation fills: prompt, pictures and answers",
    );
}

fn loading_ui(ui: &mut Ui, loading: &Loading, commands: &mut Vec<Command>) {
    let cancel = ui.add_enabled(!loading.stopping, egui::Button::new("Cancel"));
    if cancel.on_hover_text("Stop loading this model").clicked() {
        commands.push(Command::CancelLoad);
    }
    let (done, total) = loading.bytes.unwrap_or_default();
    let step = if loading.stopping { "Stopping" } else { loading.step };
    let text = match loading.bytes {
        Some(_) => format!("{step} {} of {}", style::bytes(done), style::bytes(total)),
        None => format!("{step}…"),
    };
    let share = style::share(done as f64, total as f64);
    let bar = ui.add(style::bar(ui, share, BAR_WIDTH * 1.4).text(RichText::new(text).small()));
    if let Some(plan) = &loading.plan {
        let (weights, cache) = (style::bytes(plan.weights_bytes), style::bytes(plan.kv_bytes));
        let context = style::count(plan.context, "token", "tokens");
        bar.on_hover_text(format!(
            "It will take {weights} for weights and {cache} of KV cache for {context}"
        ));
    }
}
