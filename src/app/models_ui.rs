//! Room `app`: draws the models: those of this machine, those that can be had, and what is being done with them.

use std::path::PathBuf;

use egui::{Context, Grid, Id, Label, Modal, RichText, ScrollArea, TextEdit, Ui};

use super::actions::Action;
use super::command::Command;
use super::models::{Fit, Models, Outcome, Task, Work, fit, taken};
use super::style;
use super::texts::{Texts, fill, texts};
use crate::error::Error;
use crate::hub::library::{Kind, Model};
use crate::hub::pull::{PullProgress, PullStage};
use crate::hub::{PullRequest, RepoId, catalogue};
use crate::model::gguf::find::{Found, Trouble};
use crate::model::recipe::Recipe;

/// The drawing, from frame to frame.
#[derive(Debug, Default)]
pub(super) struct ModelsView {
    /// Is it on the screen?
    pub open: bool,
    /// What is typed into the field for any repository.
    repo: String,
    /// Why that is none.
    repo_error: Option<Error>,
    /// The model that is being named, and its new name.
    naming: Option<(PathBuf, String)>,
    /// The model whose removal is asked about.
    removing: Option<PathBuf>,
    /// Thinking models and GGUF files are shown as well.
    shows_all: bool,
}

/// Draws it over everything else; false when it is to be closed.
pub(super) fn models_ui(
    ctx: &Context,
    models: &Models,
    view: &mut ModelsView,
    opened: Option<&std::path::Path>,
    commands: &mut Vec<Command>,
) {
    if !view.open {
        return;
    }
    let t = texts(ctx);
    let size = ctx.content_rect().size();
    let height = (size.y - 140.0).max(160.0);
    let modal = Modal::new(Id::unique("models")).show(ctx, |ui| {
        ui.set_width((size.x - 60.0).clamp(280.0, 860.0));
        ui.horizontal(|ui| {
            ui.heading(t.models);
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                ui.button(t.close).clicked()
            })
            .inner
        })
        .inner
            | ScrollArea::vertical()
                .id_salt("models")
                .max_height(height)
                // Before it scrolls it is as high as that: the window's own height follows what is in it.
                .min_scrolled_height(height)
                .auto_shrink([false, true])
                .show(ui, |ui| {
                    tasks_ui(ui, models, t, commands);
                    here_ui(ui, models, view, opened, t, commands);
                    ui.add_space(10.0);
                    catalogue_ui(ui, models, view, t, commands);
                    false
                })
                .inner
    });
    if modal.inner || modal.should_close() {
        view.open = false;
    }
}

/// Work under way, and how it ended.
fn tasks_ui(ui: &mut Ui, models: &Models, t: &Texts, commands: &mut Vec<Command>) {
    for task in &models.tasks {
        ui.push_id(task.id, |ui| {
            ui.group(|ui| {
                ui.set_width(ui.available_width());
                task_ui(ui, task, t, commands);
            });
        });
    }
    if !models.tasks.is_empty() {
        ui.add_space(8.0);
    }
}

fn task_ui(ui: &mut Ui, task: &Task, t: &Texts, commands: &mut Vec<Command>) {
    let what = match &task.work {
        Work::Pull(request) => request.repo.to_string(),
        Work::Verify(model) => fill(t.verifying_model, &[("name", &model.name)]),
        Work::Remove(model) | Work::RemoveConversions(model, _) => {
            fill(t.removing_model, &[("name", &model.name)])
        }
        Work::Import(path) => fill(t.importing_model, &[("name", &path.display())]),
        Work::Rename(model, _) => model.name.clone(),
        Work::Discard(_) => t.discard_damaged.to_owned(),
        Work::Find => t.find_ggufs.to_owned(),
    };
    let is_pull = matches!(task.work, Work::Pull(_));
    ui.horizontal(|ui| {
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            match &task.outcome {
                Outcome::Running => {
                    let word = if is_pull { t.pause } else { t.cancel };
                    if ui.add_enabled(!task.stopping, egui::Button::new(word)).clicked() {
                        commands.push(Command::StopWork(task.id));
                    }
                }
                Outcome::Paused | Outcome::Failed(_) => {
                    if ui.button(t.close).on_hover_text(t.close_work_hint).clicked() {
                        commands.push(Command::CloseWork(task.id));
                    }
                    if ui.button(if is_pull { t.resume } else { t.try_again }).clicked() {
                        commands.push(Command::WorkAgain(task.id));
                    }
                }
                Outcome::Verified(_)
                | Outcome::Pulled(..)
                | Outcome::Done(_)
                | Outcome::Discarded(_)
                | Outcome::Found(_) => {
                    if ui.button(t.close).clicked() {
                        commands.push(Command::CloseWork(task.id));
                    }
                }
            }
            if let (Outcome::Pulled(model, _), false) = (&task.outcome, task.opens)
                && ui.button(t.open_it).clicked()
            {
                commands.push(Command::OpenModel(model.clone()));
            }
            ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                ui.add(Label::new(RichText::new(&what).strong()).truncate());
            });
        });
    });
    match &task.outcome {
        Outcome::Running | Outcome::Paused => {
            progress_ui(ui, task, t);
            if matches!(task.outcome, Outcome::Paused) {
                ui.weak(if is_pull { t.paused_words } else { t.stopped });
            }
        }
        Outcome::Failed(error) => {
            ui.label(RichText::new(error.to_string()).color(ui.visuals().error_fg_color));
        }
        Outcome::Done(bytes) => {
            if let Some(bytes) = bytes {
                ui.label(fill(t.freed, &[("bytes", &style::bytes(*bytes))]));
            }
        }
        Outcome::Pulled(_, None) => {
            ui.label(t.pulled_words);
        }
        Outcome::Pulled(_, Some(error)) => {
            let words = fill(t.not_asked_words, &[("error", error)]);
            ui.label(RichText::new(words).color(ui.visuals().warn_fg_color));
        }
        Outcome::Discarded(left) => {
            let names: Vec<String> = left.iter().map(|path| path.display().to_string()).collect();
            ui.label(fill(t.discard_left, &[("files", &names.join(", "))]));
        }
        Outcome::Found(found) => found_ui(ui, found, t, commands),
        Outcome::Verified(verified) if verified.damaged.is_empty() => {
            ui.label(fill(
                t.verified_words,
                &[("files", &verified.files), ("bytes", &style::bytes(verified.bytes))],
            ));
        }
        Outcome::Verified(verified) => {
            let names: Vec<String> = verified.damaged.iter().map(|path| path.display().to_string()).collect();
            let text = fill(t.damaged_words, &[("files", &names.join(", "))]);
            ui.label(RichText::new(text).color(ui.visuals().error_fg_color));
            if ui.button(t.discard_damaged).on_hover_text(t.discard_damaged_hint).clicked() {
                commands.push(Command::Work(Work::Discard(verified.damaged.clone()), false));
                commands.push(Command::CloseWork(task.id));
            }
        }
    }
}

/// GGUF files of other programs.
fn found_ui(ui: &mut Ui, found: &[Found], t: &Texts, commands: &mut Vec<Command>) {
    if found.is_empty() {
        ui.label(t.found_no_ggufs);
    }
    for model in found {
        ui.horizontal_wrapped(|ui| {
            let name = fill(t.import_named, &[("name", &model.name)]);
            if style::named(ui.button(t.import_it), &name).clicked() {
                commands.push(Command::Work(Work::Import(model.text.clone()), false));
            }
            ui.label(&model.name).on_hover_text(model.text.display().to_string());
            ui.weak(format!("{} · {}", model.quantisation, style::bytes(model.bytes)));
            if let Some(trouble) = &model.trouble {
                ui.label(RichText::new(trouble_words(trouble, t)).color(ui.visuals().warn_fg_color));
            }
        });
    }
}

/// What is wrong with a file of another program.
fn trouble_words(trouble: &Trouble, t: &Texts) -> String {
    match trouble {
        Trouble::Architecture(name) => fill(t.found_architecture, &[("name", name)]),
        Trouble::Format(name) => fill(t.found_format, &[("name", name)]),
        Trouble::Vision(error) => fill(t.found_bad_vision, &[("error", error)]),
        Trouble::VisionInside => t.found_vision_inside.to_owned(),
        Trouble::VisionMissing => t.found_no_vision.to_owned(),
    }
}

fn progress_ui(ui: &mut Ui, task: &Task, t: &Texts) {
    let (done, total, words) = match (&task.pulling, task.bytes) {
        (Some(progress), _) => (progress.done_bytes, progress.total_bytes, pull_words(progress, t)),
        (None, Some((done, total))) => {
            let of = fill(t.bytes_of, &[("done", &style::bytes(done)), ("total", &style::bytes(total))]);
            (done, total, of)
        }
        (None, None) => (0, 0, t.one_moment.to_owned()),
    };
    let share = style::share(done as f64, total as f64);
    let width = ui.available_width();
    ui.add(style::bar(ui, share, width).text(RichText::new(words).small()));
    if let Some(trouble) = task.pulling.as_ref().and_then(|progress| progress.trouble.as_ref()) {
        ui.add(Label::new(RichText::new(fill(t.trying_again, &[("error", trouble)])).small().weak()).wrap());
    }
}

/// `1.58 GB of 4.26 GB · 85 MB/s · 32 s left`
pub(super) fn pull_words(progress: &PullProgress, t: &Texts) -> String {
    let mut words = match progress.stage {
        PullStage::Asking => return t.asking_hub.to_owned(),
        PullStage::Waiting => return t.waiting_for_other.to_owned(),
        PullStage::Fetching | PullStage::Verifying => fill(
            t.bytes_of,
            &[("done", &style::bytes(progress.done_bytes)), ("total", &style::bytes(progress.total_bytes))],
        ),
    };
    if progress.stage == PullStage::Verifying {
        return format!("{words} · {}", t.checking);
    }
    if let Some(speed) = progress.bytes_per_sec {
        words += &format!(" · {}/s", style::bytes(speed as u64));
    }
    if let Some(left) = progress.left_secs {
        words += &format!(" · {}", fill(t.time_left, &[("time", &left_words(left))]));
    }
    words
}

fn left_words(secs: f64) -> String {
    let secs = secs.min(359_999.0) as u64;
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{}:{:02} min", secs / 60, secs % 60),
        _ => format!("{}:{:02} h", secs / 3600, secs / 60 % 60),
    }
}

/// The models of this machine.
fn here_ui(
    ui: &mut Ui,
    models: &Models,
    view: &mut ModelsView,
    opened: Option<&std::path::Path>,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    ui.strong(t.on_this_machine);
    let listing = match &models.listing {
        Ok(listing) => listing,
        Err(error) => {
            ui.label(RichText::new(error.to_string()).color(ui.visuals().error_fg_color));
            return;
        }
    };
    for model in &listing.models {
        ui.push_id(("model", &model.place), |ui| model_ui(ui, model, view, opened, t, commands));
    }
    ui.horizontal_wrapped(|ui| {
        if ui.button(t.import_folder).on_hover_text(t.import_folder_hint).clicked() {
            commands.push(Command::ChooseModelToImport(false));
        }
        if ui.button(t.import_gguf).on_hover_text(t.import_gguf_hint).clicked() {
            commands.push(Command::ChooseModelToImport(true));
        }
        if ui.button(t.find_ggufs).on_hover_text(t.find_ggufs_hint).clicked() {
            commands.push(Command::Work(Work::Find, false));
        }
        if ui.button(t.servers).clicked() {
            view.open = false;
            commands.push(Command::Do(Action::OpenServers));
        }
    });
}

fn model_ui(
    ui: &mut Ui,
    model: &Model,
    view: &mut ModelsView,
    opened: Option<&std::path::Path>,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let is_open = opened == Some(model.place.as_path());
    ui.horizontal(|ui| {
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            menu_ui(ui, model, view, t, commands);
            let hint = fill(t.open_named, &[("name", &model.name)]);
            let open = ui.add_enabled(model.is_there && !is_open, egui::Button::new(t.open_it));
            if style::named(open, &hint).clicked() {
                commands.push(Command::OpenModel(model.place.clone()));
                view.open = false;
            }
            ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                if let Some((_, name)) = view.naming.as_mut().filter(|(named, _)| *named == model.place) {
                    let label = ui.label(t.model_name);
                    let field = ui.add(TextEdit::singleline(name).desired_width(220.0)).labelled_by(label.id);
                    if ui.button(t.save).clicked()
                        || field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter))
                    {
                        commands
                            .push(Command::Work(Work::Rename(Box::new(model.clone()), name.clone()), false));
                        view.naming = None;
                    }
                } else {
                    ui.add(Label::new(&model.name).truncate())
                        .on_hover_text(model.place.display().to_string());
                }
            });
        });
    });
    let mut facts = vec![match model.kind {
        Kind::BuiltIn => t.inside_program.to_owned(),
        Kind::Hub => fill(t.in_hub_cache, &[("bytes", &style::bytes(model.bytes))]),
        Kind::Imported if !model.is_there => t.not_there.to_owned(),
        Kind::Imported | Kind::Conversion => style::bytes(model.bytes),
    }];
    if model.kind == Kind::Conversion {
        facts.push(t.source_gone.to_owned());
    }
    if is_open {
        facts.push(t.open_now.to_owned());
    }
    for conversion in &model.conversions {
        let values: [(&str, &dyn std::fmt::Display); 2] =
            [("recipe", &conversion.recipe), ("bytes", &style::bytes(conversion.bytes))];
        facts.push(fill(t.converted_as, &values));
    }
    ui.indent("facts", |ui| ui.add(Label::new(RichText::new(facts.join(" · ")).small().weak()).wrap()));
    if view.removing.as_ref() == Some(&model.place) {
        removing_ui(ui, model, view, t, commands);
    }
}

fn removing_ui(ui: &mut Ui, model: &Model, view: &mut ModelsView, t: &Texts, commands: &mut Vec<Command>) {
    let words = if model.kind == Kind::Imported { t.remove_imported_words } else { t.remove_words };
    let bytes = model.bytes + model.conversions.iter().map(|conversion| conversion.bytes).sum::<u64>();
    ui.label(fill(words, &[("name", &model.name), ("bytes", &style::bytes(bytes))]));
    ui.horizontal(|ui| {
        if ui.button(t.remove_it).clicked() {
            commands.push(Command::Work(Work::Remove(Box::new(model.clone())), false));
            view.removing = None;
        }
        if ui.button(t.cancel).clicked() {
            view.removing = None;
        }
    });
}

/// What else can be done with a model.
fn menu_ui(ui: &mut Ui, model: &Model, view: &mut ModelsView, t: &Texts, commands: &mut Vec<Command>) {
    let more = ui.menu_button("…", |ui| {
        for recipe in Recipe::ALL {
            let there = model.conversions.iter().any(|conversion| conversion.recipe == recipe);
            let words = if there { t.open_as } else { t.convert_as };
            if model.kind != Kind::BuiltIn && ui.button(fill(words, &[("recipe", &recipe)])).clicked() {
                commands.push(Command::OpenModelAs(model.place.clone(), recipe));
                view.open = false;
            }
        }
        if model.kind == Kind::BuiltIn {
            return;
        }
        ui.separator();
        if ui.button(t.verify_it).on_hover_text(t.verify_hint).clicked() {
            commands.push(Command::Work(Work::Verify(Box::new(model.clone())), false));
        }
        if let (Kind::Hub, Some(Ok(repo))) = (&model.kind, model.repo.as_deref().map(str::parse::<RepoId>))
            && ui.button(t.look_for_newer).clicked()
        {
            commands.push(Command::Work(Work::Pull(PullRequest::new(repo)), false));
        }
        if ui.button(t.reveal).clicked() {
            commands.push(Command::Reveal(model.place.clone()));
        }
        if matches!(model.kind, Kind::Hub | Kind::Imported) && ui.button(t.rename_it).clicked() {
            view.naming = Some((model.place.clone(), model.name.clone()));
        }
        ui.separator();
        for conversion in &model.conversions {
            if ui.button(fill(t.remove_conversion, &[("recipe", &conversion.recipe)])).clicked() {
                let work = Work::RemoveConversions(Box::new(model.clone()), conversion.recipe);
                commands.push(Command::Work(work, false));
            }
        }
        if ui.button(t.remove_it).clicked() {
            view.removing = Some(model.place.clone());
        }
    });
    style::named(more.response, &fill(t.more_for, &[("name", &model.name)]));
}

/// The models that can be had.
fn catalogue_ui(ui: &mut Ui, models: &Models, view: &mut ModelsView, t: &Texts, commands: &mut Vec<Command>) {
    ui.strong(t.to_download);
    if let Some(room) = &models.room {
        let values: [(&str, &dyn std::fmt::Display); 2] =
            [("bytes", &style::bytes(room.bytes)), ("all", &style::bytes(room.of_bytes))];
        ui.weak(fill(t.room_words, &values));
    } else {
        ui.weak(t.room_unknown);
    }
    Grid::new("catalogue").num_columns(4).striped(true).spacing([14.0, 6.0]).show(ui, |ui| {
        for text in ["", t.download_size, t.needs_memory, t.licence] {
            ui.label(RichText::new(text).small().weak());
        }
        ui.end_row();
        for entry in &catalogue::MODELS {
            if view.shows_all || (!entry.thinks && !entry.is_gguf) {
                entry_ui(ui, entry, models, t, commands);
                ui.end_row();
            }
        }
    });
    ui.checkbox(&mut view.shows_all, t.show_all_models).on_hover_text(t.show_all_models_hint);
    ui.add_space(4.0);
    ui.horizontal_wrapped(|ui| {
        let label = ui.label(t.any_repository);
        let field = ui.add(TextEdit::singleline(&mut view.repo).hint_text("owner/name").desired_width(260.0));
        let entered = field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
        drop(field.labelled_by(label.id));
        let button = ui.add_enabled(!view.repo.trim().is_empty(), egui::Button::new(t.download));
        if style::named(button, t.download_repository).clicked() || entered && !view.repo.trim().is_empty() {
            match view.repo.parse::<RepoId>() {
                Ok(repo) => {
                    commands.push(Command::Work(Work::Pull(PullRequest::new(repo)), false));
                    view.repo_error = None;
                    view.repo.clear();
                }
                Err(error) => view.repo_error = Some(error),
            }
        }
    });
    if let Some(error) = &view.repo_error {
        ui.label(RichText::new(error.to_string()).color(ui.visuals().error_fg_color));
    }
    if let Some(hub) = models.hub() {
        let cache = hub.cache.display();
        ui.weak(fill(t.hub_words, &[("hub", &hub.endpoint), ("cache", &cache)]));
    }
}

fn entry_ui(ui: &mut Ui, entry: &catalogue::Entry, models: &Models, t: &Texts, commands: &mut Vec<Command>) {
    let listing = models.listing.as_ref().ok();
    // Of several quantisations the one that would be fetched.
    let is_it = |model: &Model| {
        model.repo.as_deref() == Some(entry.repo)
            && (!entry.is_gguf || model.place.to_string_lossy().to_ascii_lowercase().ends_with("q8_0.gguf"))
    };
    let is_here = listing.is_some_and(|listing| listing.models.iter().any(is_it));
    let begun = listing.and_then(|listing| listing.unfinished.iter().find(|begun| begun.repo == entry.repo));
    let running = models.tasks.iter().any(|task| {
        matches!(&task.work, Work::Pull(request) if request.repo.as_str() == entry.repo)
            && matches!(task.outcome, Outcome::Running)
    });
    ui.horizontal(|ui| {
        let (word, name) = match begun {
            _ if is_here => (t.is_here, fill(t.is_here_named, &[("name", &entry.repo)])),
            Some(_) => (t.resume, fill(t.resume_named, &[("name", &entry.repo)])),
            None => (t.download, fill(t.download_named, &[("name", &entry.repo)])),
        };
        let button = ui.add_enabled(!is_here && !running, egui::Button::new(word));
        if style::named(button, &name).clicked()
            && let Ok(repo) = entry.repo_id()
        {
            commands.push(Command::Work(Work::Pull(PullRequest::new(repo)), true));
        }
        ui.label(entry.repo);
        match fit(entry, models.room.as_ref()) {
            Fit::Recommended => {
                ui.label(RichText::new(t.recommended).small().color(ui.visuals().hyperlink_color));
            }
            Fit::TooLarge => {
                ui.label(RichText::new(t.too_large).small().color(ui.visuals().warn_fg_color));
            }
            Fit::Fits | Fit::Unknown => {}
        }
    });
    let taken = taken(entry);
    let size = style::bytes(taken.download_bytes);
    ui.label(begun.map_or(size.clone(), |begun| {
        fill(t.bytes_of, &[("done", &style::bytes(begun.bytes)), ("total", &size)])
    }));
    ui.label(taken.plan.map_or_else(String::new, |plan| style::bytes(plan.loaded_bytes())));
    ui.label(entry.licence);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::texts::Language;

    #[test]
    fn what_is_wrong_with_a_file_of_another_program_is_said_in_the_windows_language() {
        for (trouble, english, german) in [
            (
                Trouble::Architecture("qwen3vlmoe".into()),
                "qwen3vlmoe, a mixture",
                "qwen3vlmoe, eine Mischung",
            ),
            (Trouble::Format("IQ4_XS"), "It has IQ4_XS tensors", "Es enthält IQ4_XS-Tensoren"),
            (
                Trouble::Vision("why".into()),
                "cannot be used, texts only: why",
                "nicht brauchbar, nur Texte: why",
            ),
            (Trouble::VisionInside, "Ollama's own layout", "Ollamas eigener Anordnung"),
            (Trouble::VisionMissing, "Its vision file is missing", "Seine Bilddatei fehlt"),
        ] {
            for (language, words) in [(Language::English, english), (Language::German, german)] {
                let said = trouble_words(&trouble, language.texts());
                assert!(said.contains(words) && !said.contains('{'), "{said}");
            }
        }
    }
}
