//! Room `app`: draws what an empty chat offers: what the model is, sample pictures to begin with, and how to get another.

use egui::{Button, Image, Label, Layout, Response, RichText, Role, ScrollArea, Ui, WidgetInfo};

use super::actions::Action;
use super::command::Command;
use super::composer_ui::obstacle_text;
use super::models::{Models, Outcome, Work, first_choice, taken};
use super::samples::Shown;
use super::servers_ui::place_ui;
use super::state::{ModelState, State};
use super::texts::{Texts, fill, texts};
use super::{models_ui, style};
use crate::hub::PullRequest;
use crate::model::builtin;
use crate::model::source::model_name;

/// Width of the words, points.
const WORDS_WIDTH: f32 = 520.0;
/// Side of a sample's picture, points.
const SAMPLE_SIDE: f32 = 104.0;
/// Between two samples, points.
const GAP: f32 = 10.0;

/// Draws it.
pub(super) fn empty_ui(
    ui: &mut Ui,
    state: &State,
    models: &Models,
    samples: &[Shown],
    commands: &mut Vec<Command>,
) {
    let t = texts(ui.ctx());
    ScrollArea::vertical().id_salt("welcome").auto_shrink(false).show(ui, |ui| {
        let height = ui.available_height();
        ui.vertical_centered(|ui| {
            match &state.model {
                _ if !state.answers_here() => {
                    ui.add_space((height * 0.12).max(8.0));
                    words_ui(ui, |ui| {
                        ready_ui(ui, t, commands);
                        place_ui(ui, state, t);
                    });
                }
                ModelState::None => {
                    ui.add_space((height * 0.28).max(8.0));
                    words_ui(ui, |ui| no_model_ui(ui, state, models, t, commands));
                    return;
                }
                ModelState::Loading(loading) => {
                    ui.add_space((height * 0.12).max(8.0));
                    words_ui(ui, |ui| {
                        ui.heading(t.one_moment);
                        if builtin::is_meant(&loading.folder) {
                            ui.label(fill(t.demo_on_its_way, &[("name", &builtin::FULL_NAME)]));
                        } else {
                            ui.label(fill(t.model_on_its_way, &[("folder", &loading.folder.display())]));
                        }
                        ui.weak(t.already_type);
                    });
                }
                ModelState::Ready(_) if state.is_demo() => {
                    ui.add_space((height * 0.12).max(8.0));
                    words_ui(ui, |ui| demo_ui(ui, t));
                }
                ModelState::Ready(_) => {
                    ui.add_space((height * 0.12).max(8.0));
                    words_ui(ui, |ui| ready_ui(ui, t, commands));
                }
            }
            samples_ui(ui, state, samples, t, commands);
            if state.is_demo() && state.answers_here() {
                ui.add_space(16.0);
                words_ui(ui, |ui| real_model_ui(ui, models, t, commands));
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

fn no_model_ui(ui: &mut Ui, state: &State, models: &Models, t: &Texts, commands: &mut Vec<Command>) {
    ui.heading(t.open_model_to_begin);
    first_model_ui(ui, models, t, commands);
    ui.add_space(10.0);
    ui.label(t.choose_folder_words);
    if ui.button(t.choose_folder).clicked() {
        commands.push(Command::Do(Action::OpenModel));
    }
    let last = state.last_folder.as_ref().filter(|folder| !builtin::is_meant(folder));
    if let Some(folder) = last {
        let name = model_name(folder);
        if ui
            .button(fill(t.open_again, &[("name", &name)]))
            .on_hover_text(folder.display().to_string())
            .clicked()
        {
            commands.push(Command::OpenModel(folder.clone()));
        }
    }
    if ui.button(t.use_demo).on_hover_text(builtin::FULL_NAME).clicked() {
        commands.push(Command::OpenModel(builtin::NAME.into()));
    }
    ui.weak(t.stays_here);
}

fn ready_ui(ui: &mut Ui, t: &Texts, commands: &mut Vec<Command>) {
    ui.heading(t.ask_about_pictures);
    ui.label(t.drop_anywhere);
    if ui.button(t.add_pictures).clicked() {
        commands.push(Command::Do(Action::AddPictures));
    }
    ui.weak(t.or_type);
}

fn demo_ui(ui: &mut Ui, t: &Texts) {
    ui.heading(builtin::FULL_NAME);
    ui.label(t.demo_words);
    ui.weak(t.begin_with);
}

fn real_model_ui(ui: &mut Ui, models: &Models, t: &Texts, commands: &mut Vec<Command>) {
    ui.label(t.real_model_words);
    first_model_ui(ui, models, t, commands);
}

/// One click to the real model: what it is, what it costs, and the button; while it comes, how far it is.
fn first_model_ui(ui: &mut Ui, models: &Models, t: &Texts, commands: &mut Vec<Command>) {
    if let Some(progress) = models.pulling() {
        let share = style::share(progress.done_bytes as f64, progress.total_bytes as f64);
        let words = models_ui::pull_words(progress, t);
        ui.add(style::bar(ui, share, WORDS_WIDTH * 0.8).text(RichText::new(words).small()));
    } else {
        let entry = first_choice(models.room.as_ref());
        let name = entry.repo.split('/').nth(1).unwrap_or(entry.repo);
        let listing = models.listing.as_ref().ok();
        let here = listing.and_then(|listing| {
            listing.models.iter().find(|model| model.repo.as_deref() == Some(entry.repo))
        });
        if let Some(model) = here {
            if ui.button(fill(t.open_named, &[("name", &name)])).clicked() {
                commands.push(Command::OpenModel(model.place.clone()));
            }
        } else if ui.button(RichText::new(fill(t.get_model, &[("name", &name)])).strong()).clicked()
            && let Ok(repo) = entry.repo_id()
        {
            commands.push(Command::Work(Work::Pull(PullRequest::new(repo)), true));
        }
        let ended = models
            .tasks
            .iter()
            .find(|task| matches!(&task.work, Work::Pull(request) if request.repo.as_str() == entry.repo));
        match ended.map(|task| &task.outcome) {
            Some(Outcome::Failed(error)) => {
                ui.label(RichText::new(error.to_string()).color(ui.visuals().error_fg_color));
            }
            Some(Outcome::Paused) => {
                ui.weak(t.paused_words);
            }
            _ => {}
        }
        let taken = taken(entry);
        let memory = taken.plan.map_or(0, |plan| plan.loaded_bytes());
        let hub = models.hub().map_or("", |hub| hub.endpoint.as_str());
        let values: [(&str, &dyn std::fmt::Display); 4] = [
            ("download", &style::bytes(taken.download_bytes)),
            ("memory", &style::bytes(memory)),
            ("licence", &entry.licence),
            ("hub", &hub),
        ];
        ui.weak(fill(t.get_model_words, &values));
    }
    if ui.button(t.models_and_more).clicked() {
        commands.push(Command::Do(Action::Models));
    }
}

/// The sample pictures, and the questions of the one that was chosen.
fn samples_ui(ui: &mut Ui, state: &State, samples: &[Shown], t: &Texts, commands: &mut Vec<Command>) {
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
                    if sample_ui(ui, shown, chosen == Some(index), t).clicked() {
                        commands.push(Command::UseSample(index));
                    }
                    ui.add(Label::new(RichText::new(&shown.sample.title).small()).truncate());
                });
            }
        });
    }
    let Some(shown) = chosen.and_then(|index| samples.get(index)) else { return };
    ui.add_space(8.0);
    let reason = state.cannot_send().map(|obstacle| obstacle_text(obstacle, t));
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

fn sample_ui(ui: &mut Ui, shown: &Shown, chosen: bool, t: &Texts) -> Response {
    let padding = 2.0 * ui.spacing().button_padding;
    let image = Image::new(&shown.texture)
        .fit_to_exact_size(egui::vec2(SAMPLE_SIDE, SAMPLE_SIDE) - egui::Vec2::splat(padding.x))
        .corner_radius(3.0);
    let title = &shown.sample.title;
    let button = ui.scope(|ui| {
        ui.spacing_mut().button_padding = egui::Vec2::splat(padding.x / 2.0);
        // All of one size, whatever the shape of the picture: their titles stand on one line.
        ui.add(Button::image(image).selected(chosen).min_size(egui::Vec2::splat(SAMPLE_SIDE)))
    });
    let button = button.inner.on_hover_text(fill(t.sample_hint, &[("title", title)]));
    button.widget_info(|| {
        WidgetInfo::selected(Role::Button, true, chosen, fill(t.sample_named, &[("title", title)]))
    });
    button
}
