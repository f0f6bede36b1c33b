//! Room `app`: draws the settings of the conversation, named presets, and how the window looks.

use egui::{Button, DragValue, Grid, Role, Slider, TextEdit, ThemePreference, Ui, WidgetInfo};

use super::actions::Action;
use super::command::Command;
use super::machine_ui::{MachineView, machine_ui};
use super::preferences::Preferences;
use super::servers_ui::{ChoiceView, choice_ui};
use super::settings::Settings;
use super::state::State;
use super::style;
use super::texts::{Language, Texts, fill, texts};

/// What is being typed in the settings and is no setting yet.
#[derive(Debug, Default)]
pub(super) struct SettingsView {
    preset_name: String,
    choice: ChoiceView,
    machine: MachineView,
}

/// Draws them all.
pub(super) fn settings_ui(
    ui: &mut Ui,
    state: &mut State,
    preferences: &mut Preferences,
    view: &mut SettingsView,
    adapter: &str,
    commands: &mut Vec<Command>,
) {
    let t = texts(ui.ctx());
    let kv = state.kv;
    let has_model = state.model_info().is_some();
    let image_tokens = state.model_info().map(|info| info.image_tokens);
    ui.weak(t.settings_of_chat);
    let settings = &mut state.chat.settings;
    choice_ui(ui, settings, &state.elsewhere, &mut view.choice, t, commands);
    ui.separator();
    let label = ui.strong(t.instructions);
    let prompt = TextEdit::multiline(&mut settings.system_prompt)
        .hint_text(t.instructions_hint)
        .desired_rows(3)
        .desired_width(f32::INFINITY);
    ui.add(prompt).labelled_by(label.id);
    ui.separator();
    let before = (settings.greedy, settings.sampling, settings.new_seed);
    sampling_ui(ui, settings, t);
    settings.own_sampling |= before != (settings.greedy, settings.sampling, settings.new_seed);
    presets_ui(ui, preferences, view, has_model, t, commands);
    ui.separator();
    let before = (settings.choose_image_tokens, settings.image_tokens);
    limits_ui(ui, settings, image_tokens, t);
    settings.own_image_tokens |= before != (settings.choose_image_tokens, settings.image_tokens);
    let label = ui.label(t.stop_strings);
    let stop = TextEdit::multiline(&mut settings.stop_lines)
        .hint_text(t.stop_strings_hint)
        .desired_rows(1)
        .desired_width(f32::INFINITY);
    ui.add(stop).labelled_by(label.id);
    ui.separator();
    appearance_ui(ui, preferences, t, commands);
    ui.separator();
    machine_ui(ui, &mut view.machine, (adapter, preferences.adapter.as_deref()), kv, t, commands);
}

fn sampling_ui(ui: &mut Ui, settings: &mut Settings, t: &Texts) {
    ui.strong(t.choosing_tokens);
    ui.horizontal_wrapped(|ui| {
        ui.radio_value(&mut settings.greedy, true, t.greedy);
        ui.radio_value(&mut settings.greedy, false, t.sample);
    });
    let greedy = settings.greedy;
    let sampling = &mut settings.sampling;
    ui.add_enabled_ui(!greedy, |ui| {
        ui.add(Slider::new(&mut sampling.temperature, 0.05..=2.0).fixed_decimals(2).text(t.temperature))
            .on_hover_text(t.temperature_hint);
        ui.add(Slider::new(&mut sampling.top_k, 0..=200).text("Top-k")).on_hover_text(t.top_k_hint);
        ui.add(Slider::new(&mut sampling.top_p, 0.01..=1.0).fixed_decimals(2).text("Top-p"))
            .on_hover_text(t.top_p_hint);
        ui.add(Slider::new(&mut sampling.min_p, 0.0..=1.0).fixed_decimals(2).text("Min-p"))
            .on_hover_text(t.min_p_hint);
    });
    ui.add(Slider::new(&mut sampling.presence_penalty, 0.0..=2.0).fixed_decimals(2).text(t.presence_penalty))
        .on_hover_text(t.presence_penalty_hint);
    ui.add(
        Slider::new(&mut sampling.repetition_penalty, 1.0..=2.0).fixed_decimals(2).text(t.repetition_penalty),
    )
    .on_hover_text(t.repetition_penalty_hint);
    ui.add_enabled_ui(!greedy, |ui| {
        ui.checkbox(&mut settings.new_seed, t.new_seed);
        ui.horizontal(|ui| {
            let label = ui.label(t.seed);
            let seed = DragValue::new(&mut settings.sampling.seed);
            ui.add_enabled(!settings.new_seed, seed).labelled_by(label.id);
        });
    });
}

fn presets_ui(
    ui: &mut Ui,
    preferences: &Preferences,
    view: &mut SettingsView,
    has_model: bool,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    ui.add_space(4.0);
    ui.menu_button(t.presets, |ui| {
        ui.set_min_width(220.0);
        let mut chosen = None;
        let mut item = |ui: &mut Ui, enabled: bool, name: &str, hint: &str, command: Command| {
            if ui.add_enabled(enabled, Button::new(name)).on_hover_text(hint).clicked() {
                chosen = Some(command);
            }
        };
        item(ui, has_model, t.models_own, t.models_own_hint, Command::UseModelDefaults);
        item(ui, true, t.qwen_pictures, t.qwen_hint, Command::UseRecommended(true));
        item(ui, true, t.qwen_text, t.qwen_hint, Command::UseRecommended(false));
        if !preferences.presets.is_empty() {
            ui.separator();
        }
        for (index, preset) in preferences.presets.iter().enumerate() {
            ui.horizontal(|ui| {
                item(ui, true, &preset.name, t.use_preset_hint, Command::UsePreset(index));
                let name = fill(t.delete_preset, &[("name", &preset.name)]);
                if style::quiet_button(ui, "×", &name, true).clicked() {
                    commands.push(Command::DeletePreset(index));
                }
            });
        }
        ui.separator();
        ui.horizontal(|ui| {
            let name =
                TextEdit::singleline(&mut view.preset_name).hint_text(t.preset_name).desired_width(140.0);
            let name = ui.add(name);
            name.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, t.preset_name));
            let can = !view.preset_name.trim().is_empty();
            if ui.add_enabled(can, Button::new(t.save)).on_hover_text(t.save_preset_hint).clicked() {
                chosen = Some(Command::SavePreset(std::mem::take(&mut view.preset_name)));
            }
        });
        if let Some(command) = chosen {
            commands.push(command);
            ui.close();
        }
    });
}

fn limits_ui(ui: &mut Ui, settings: &mut Settings, image_tokens: Option<(usize, usize)>, t: &Texts) {
    ui.strong(t.limits);
    Grid::new("limits").num_columns(2).show(ui, |ui| {
        ui.checkbox(&mut settings.limit_tokens, t.limit_tokens);
        let limit = DragValue::new(&mut settings.max_tokens).range(1..=1_000_000).speed(8.0);
        let limit = ui.add_enabled(settings.limit_tokens, limit).on_hover_text(t.limit_tokens_hint);
        limit.widget_info(|| {
            WidgetInfo::labeled(Role::SpinButton, settings.limit_tokens, t.limit_tokens_hint)
        });
        ui.end_row();
    });
    ui.checkbox(&mut settings.choose_image_tokens, t.image_tokens).on_hover_text(t.image_tokens_hint);
    let (least, most) = image_tokens.unwrap_or((1, 16_384));
    let (least, most) =
        (u32::try_from(least).unwrap_or(1).max(1), u32::try_from(most).unwrap_or(u32::MAX).max(1));
    ui.add_enabled_ui(settings.choose_image_tokens, |ui| {
        ui.horizontal(|ui| {
            let range = &mut settings.image_tokens;
            let from = ui.label(t.from);
            let lower = DragValue::new(&mut range.min_tokens).range(least.min(4)..=range.max_tokens);
            ui.add(lower).labelled_by(from.id).on_hover_text(t.fewest_tokens_hint);
            let to = ui.label(t.to);
            let upper = DragValue::new(&mut range.max_tokens)
                .range(range.min_tokens..=most.max(range.min_tokens))
                .speed(4.0);
            ui.add(upper).labelled_by(to.id).on_hover_text(t.most_tokens_hint);
        });
    });
}

fn appearance_ui(ui: &mut Ui, preferences: &mut Preferences, t: &Texts, commands: &mut Vec<Command>) {
    ui.strong(t.appearance);
    ui.horizontal_wrapped(|ui| {
        let theme = ui.options(|options| options.theme_preference);
        for (choice, name, action) in [
            (ThemePreference::System, t.theme_system_short, Action::ThemeSystem),
            (ThemePreference::Light, t.theme_light_short, Action::ThemeLight),
            (ThemePreference::Dark, t.theme_dark_short, Action::ThemeDark),
        ] {
            if ui.radio(theme == choice, name).clicked() {
                commands.push(Command::Do(action));
            }
        }
    });
    ui.horizontal(|ui| {
        ui.label(t.size);
        if ui.button(t.smaller).on_hover_text(t.zoom_out).clicked() {
            commands.push(Command::Do(Action::ZoomOut));
        }
        if ui.button(t.larger).on_hover_text(t.zoom_in).clicked() {
            commands.push(Command::Do(Action::ZoomIn));
        }
        ui.label(format!("{:.0} %", ui.ctx().zoom_factor() * 100.0));
    });
    ui.checkbox(&mut preferences.markdown, t.show_markdown).on_hover_text(t.show_markdown_hint);
    ui.horizontal(|ui| {
        ui.label(t.language);
        let now = super::texts::language(ui.ctx());
        for (language, name) in Language::ALL {
            if ui.radio(now == language, name).clicked() {
                commands.push(Command::SetLanguage(language));
            }
        }
    });
}
