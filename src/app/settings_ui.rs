//! Room `app`: draws the settings beside the conversation.

use egui::{DragValue, Grid, Slider, TextEdit, ThemePreference, Ui};

use super::settings::Settings;
use super::state::{Command, State};

/// Steps of the size of everything, as a factor.
const ZOOM_STEP: f32 = 0.1;
const ZOOM_RANGE: std::ops::RangeInclusive<f32> = 0.6..=3.0;

/// Draws them all.
pub(super) fn settings_ui(ui: &mut Ui, state: &mut State, commands: &mut Vec<Command>) {
    let has_model = state.model_info().is_some();
    let image_tokens = state.model_info().map(|info| info.image_tokens);
    let settings = &mut state.settings;
    let label = ui.strong("Instructions");
    let prompt = TextEdit::multiline(&mut settings.system_prompt)
        .hint_text("System prompt, sent before the conversation")
        .desired_rows(3)
        .desired_width(f32::INFINITY);
    ui.add(prompt).labelled_by(label.id);
    ui.separator();
    sampling_ui(ui, settings);
    let own = ui.add_enabled(has_model, egui::Button::new("Use the model's own settings"));
    if own.on_hover_text("Sample as the model's authors suggest, in its generation_config.json").clicked() {
        commands.push(Command::UseModelDefaults);
    }
    ui.separator();
    limits_ui(ui, settings, image_tokens);
    ui.separator();
    appearance_ui(ui);
}

fn sampling_ui(ui: &mut Ui, settings: &mut Settings) {
    ui.strong("Choosing tokens");
    ui.horizontal_wrapped(|ui| {
        ui.radio_value(&mut settings.greedy, true, "Always the likeliest");
        ui.radio_value(&mut settings.greedy, false, "Sample");
    });
    let greedy = settings.greedy;
    let sampling = &mut settings.sampling;
    ui.add_enabled_ui(!greedy, |ui| {
        ui.add(Slider::new(&mut sampling.temperature, 0.05..=2.0).fixed_decimals(2).text("Temperature"))
            .on_hover_text("Above 1 more surprising, below 1 more predictable");
        ui.add(Slider::new(&mut sampling.top_k, 0..=200).text("Top-k"))
            .on_hover_text("Only the k likeliest tokens; 0: all");
        ui.add(Slider::new(&mut sampling.top_p, 0.01..=1.0).fixed_decimals(2).text("Top-p"))
            .on_hover_text("Only the likeliest tokens that together reach this probability; 1: all");
        ui.add(Slider::new(&mut sampling.min_p, 0.0..=1.0).fixed_decimals(2).text("Min-p"))
            .on_hover_text("Only tokens at least this likely, measured against the likeliest; 0: all");
    });
    ui.add(Slider::new(&mut sampling.presence_penalty, 0.0..=2.0).fixed_decimals(2).text("Presence penalty"))
        .on_hover_text(
            "Against endless repetition: makes tokens less likely that the answer already has; 0: off",
        );
    ui.add(
        Slider::new(&mut sampling.repetition_penalty, 1.0..=2.0).fixed_decimals(2).text("Repetition penalty"),
    )
    .on_hover_text(
        "Above 1, makes tokens less likely that prompt or answer already have; it breaks tables and lists",
    );
    ui.add_enabled_ui(!greedy, |ui| {
        ui.checkbox(&mut settings.new_seed, "New seed for each answer");
        ui.horizontal(|ui| {
            let label = ui.label("Seed");
            let seed = DragValue::new(&mut settings.sampling.seed);
            ui.add_enabled(!settings.new_seed, seed).labelled_by(label.id);
        });
    });
}

fn limits_ui(ui: &mut Ui, settings: &mut Settings, image_tokens: Option<(usize, usize)>) {
    ui.strong("Limits");
    Grid::new("limits").num_columns(2).show(ui, |ui| {
        ui.checkbox(&mut settings.limit_tokens, "Tokens of an answer");
        let limit = DragValue::new(&mut settings.max_tokens).range(1..=1_000_000).speed(8.0);
        ui.add_enabled(settings.limit_tokens, limit).on_hover_text("Tokens of an answer, at most");
        ui.end_row();
        ui.checkbox(&mut settings.choose_image_tokens, "Image tokens of a picture")
            .on_hover_text("More tokens show the model more detail and take more time and context. Without the tick, the model's own limits hold.");
        ui.end_row();
        let (least, most) = image_tokens.unwrap_or((1, 16_384));
        let (least, most) = (u32::try_from(least).unwrap_or(1).max(1), u32::try_from(most).unwrap_or(u32::MAX).max(1));
        ui.add_enabled_ui(settings.choose_image_tokens, |ui| {
            ui.horizontal(|ui| {
                let range = &mut settings.image_tokens;
                let from = ui.label("from");
                let lower = DragValue::new(&mut range.min_tokens).range(least.min(4)..=range.max_tokens);
                ui.add(lower).labelled_by(from.id).on_hover_text("Smaller pictures are enlarged to this many tokens");
                let to = ui.label("to");
                let upper = DragValue::new(&mut range.max_tokens).range(range.min_tokens..=most.max(range.min_tokens)).speed(4.0);
                ui.add(upper).labelled_by(to.id).on_hover_text("Larger pictures are shrunk to this many tokens");
            });
        });
        ui.end_row();
    });
}

fn appearance_ui(ui: &mut Ui) {
    ui.strong("Appearance");
    ui.horizontal_wrapped(|ui| {
        let mut theme = ui.options(|options| options.theme_preference);
        for (choice, name) in [
            (ThemePreference::System, "As the system"),
            (ThemePreference::Light, "Light"),
            (ThemePreference::Dark, "Dark"),
        ] {
            if ui.radio_value(&mut theme, choice, name).changed() {
                ui.ctx().set_theme(theme);
            }
        }
    });
    ui.horizontal(|ui| {
        let zoom = ui.ctx().zoom_factor();
        ui.label("Size");
        for (name, hover, to) in [
            ("Smaller", "Make text and everything else smaller", zoom - ZOOM_STEP),
            ("Larger", "Make text and everything else larger", zoom + ZOOM_STEP),
        ] {
            let to = (to * 10.0).round_ties_even() / 10.0;
            let button = ui.add_enabled(ZOOM_RANGE.contains(&to), egui::Button::new(name));
            if button.on_hover_text(hover).clicked() {
                ui.ctx().set_zoom_factor(to);
            }
        }
        ui.label(format!("{:.0} %", zoom * 100.0));
    });
}
