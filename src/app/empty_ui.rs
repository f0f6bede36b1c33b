//! Room `app`: draws what an empty chat offers: what the model is, sample pictures to begin with, and how to get another.

use egui::{Button, Image, Label, Layout, Response, RichText, Role, ScrollArea, Ui, WidgetInfo};

use super::samples::Shown;
use super::state::{Command, ModelState, State};
use crate::model::builtin;

/// Width of the words, points.
const WORDS_WIDTH: f32 = 520.0;
/// Side of a sample's picture, points.
const SAMPLE_SIDE: f32 = 104.0;
/// Between two samples, points.
const GAP: f32 = 10.0;
/// Where a real model comes from.
const REAL_MODEL: &str = "https://huggingface.co/Qwen/Qwen3-VL-2B-Instruct";

/// Draws it.
pub(super) fn empty_ui(ui: &mut Ui, state: &State, samples: &[Shown], commands: &mut Vec<Command>) {
    ScrollArea::vertical().id_salt("welcome").auto_shrink(false).show(ui, |ui| {
        let height = ui.available_height();
        ui.vertical_centered(|ui| {
            match &state.model {
                ModelState::None => {
                    ui.add_space((height * 0.28).max(8.0));
                    words_ui(ui, |ui| no_model_ui(ui, state, commands));
                    return;
                }
                ModelState::Loading(loading) => {
                    ui.add_space((height * 0.12).max(8.0));
                    words_ui(ui, |ui| {
                        ui.heading("One moment");
                        if builtin::is_meant(&loading.folder) {
                            ui.label(format!("{} is on its way.", builtin::FULL_NAME));
                        } else {
                            ui.label(format!("The model in {} is on its way.", loading.folder.display()));
                        }
                        ui.weak("You can already add pictures and type your question.");
                    });
                }
                ModelState::Ready(_) if state.is_demo() => {
                    ui.add_space((height * 0.12).max(8.0));
                    words_ui(ui, demo_ui);
                }
                ModelState::Ready(_) => {
                    ui.add_space((height * 0.12).max(8.0));
                    words_ui(ui, |ui| ready_ui(ui, commands));
                }
            }
            samples_ui(ui, state, samples, commands);
            if state.is_demo() {
                ui.add_space(16.0);
                words_ui(ui, |ui| real_model_ui(ui, commands));
            }
            ui.add_space(8.0);
        });
    });
}

/// A column of words in the middle.
fn words_ui(ui: &mut Ui, contents: impl FnOnce(&mut Ui)) {
    let width = WORDS_WIDTH.min(ui.available_width());
    ui.allocate_ui_with_layout(egui::vec2(width, 0.0), Layout::top_down(egui::Align::Center), |ui| {
        ui.set_width(width);
        contents(ui);
    });
}

fn no_model_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
    ui.heading("Open a model to begin");
    ui.label("Choose the folder of a Qwen3-VL model, or drop it here: one from the Hugging Face hub (it is converted once), or one that was converted.");
    if ui.button("Choose a folder…").clicked() {
        commands.push(Command::ChooseModel);
    }
    let last = state.last_folder.as_ref().filter(|folder| !builtin::is_meant(folder));
    if let Some(folder) = last {
        let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
        if ui.button(format!("Open {name} again")).on_hover_text(folder.display().to_string()).clicked() {
            commands.push(Command::OpenModel(folder.clone()));
        }
    }
    if ui.button("Use the demo model").on_hover_text(builtin::FULL_NAME).clicked() {
        commands.push(Command::OpenModel(builtin::NAME.into()));
    }
    ui.weak("Everything stays on this computer.");
}

fn ready_ui(ui: &mut Ui, commands: &mut Vec<Command>) {
    ui.heading("Ask about pictures");
    ui.label("Drop pictures anywhere in this window, paste one, or choose files.");
    if ui.button("Add pictures…").clicked() {
        commands.push(Command::ChoosePictures);
    }
    ui.weak("Or just type a question, or begin with one of these:");
}

fn demo_ui(ui: &mut Ui) {
    ui.heading(builtin::FULL_NAME);
    ui.label(
        "It looks at drawn shapes on a plain background: it names shapes and colours, counts them, says where they are, \
         gives boxes, and reads a single letter or digit. Of anything else it knows nothing.",
    );
    ui.weak("Begin with one of these pictures, or draw your own and drop it here:");
}

fn real_model_ui(ui: &mut Ui, commands: &mut Vec<Command>) {
    ui.label("For photographs, documents and all else, download the real model:");
    ui.hyperlink_to("Qwen3-VL-2B-Instruct (4.3 GB, huggingface.co)", REAL_MODEL);
    if ui
        .button("Open its folder…")
        .on_hover_text("Choose the folder of a real model; README.md says how to download one")
        .clicked()
    {
        commands.push(Command::ChooseModel);
    }
}

/// The sample pictures, and the questions of the one that was chosen.
fn samples_ui(ui: &mut Ui, state: &State, samples: &[Shown], commands: &mut Vec<Command>) {
    if samples.is_empty() {
        return;
    }
    ui.add_space(10.0);
    let chosen = state.chosen_sample();
    // As many in a row as there is room for.
    let room = ui.available_width();
    let in_row = (((room + GAP) / (SAMPLE_SIDE + GAP)) as usize).clamp(1, samples.len());
    for (row, part) in samples.chunks(in_row).enumerate() {
        let width = part.len() as f32 * (SAMPLE_SIDE + GAP) - GAP;
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 0.0;
            ui.add_space(((ui.available_width() - width) / 2.0).max(0.0));
            for (column, shown) in part.iter().enumerate() {
                let index = row * in_row + column;
                if column > 0 {
                    ui.add_space(GAP);
                }
                let layout = Layout::top_down(egui::Align::Center);
                ui.allocate_ui_with_layout(egui::vec2(SAMPLE_SIDE, SAMPLE_SIDE + 22.0), layout, |ui| {
                    ui.set_width(SAMPLE_SIDE);
                    if sample_ui(ui, shown, chosen == Some(index)).clicked() {
                        commands.push(Command::UseSample(index));
                    }
                    ui.add(Label::new(RichText::new(&shown.sample.title).small()).truncate());
                });
            }
        });
    }
    let Some(shown) = chosen.and_then(|index| samples.get(index)) else { return };
    ui.add_space(8.0);
    let reason = state.cannot_send();
    for question in &shown.sample.questions {
        let button = ui.add_enabled(reason.is_none(), Button::new(question));
        if button.clicked() {
            commands.push(Command::AskSample(question.clone()));
        }
        if let Some(reason) = reason {
            button.on_disabled_hover_text(reason);
        }
    }
}

fn sample_ui(ui: &mut Ui, shown: &Shown, chosen: bool) -> Response {
    let padding = 2.0 * ui.spacing().button_padding;
    let image = Image::new(&shown.texture)
        .fit_to_exact_size(egui::vec2(SAMPLE_SIDE, SAMPLE_SIDE) - egui::Vec2::splat(padding.x))
        .corner_radius(3.0);
    let title = &shown.sample.title;
    let button = ui.scope(|ui| {
        ui.spacing_mut().button_padding = egui::Vec2::splat(padding.x / 2.0);
        ui.add(Button::image(image).selected(chosen))
    });
    let button = button.inner.on_hover_text(format!("{title}: add it to the question, and see what to ask"));
    button.widget_info(|| WidgetInfo::selected(Role::Button, true, chosen, format!("Sample: {title}")));
    button
}
