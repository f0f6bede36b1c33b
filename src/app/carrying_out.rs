//! Room `app`: carries out what the user asked for while a frame was drawn.

use std::path::{Path, PathBuf};
use std::time::Instant;

use egui::{Context, ThemePreference, ViewportCommand};

use super::about_ui::About;
use super::actions::Action;
use super::command::Command;
use super::comparing_ui::CompareCommand;
use super::dialogs::Chosen;
use super::history_ui::Naming;
use super::message_list::ScrollTo;
use super::pictures::Origin;
use super::preferences::Preset;
use super::servers_ui::ServersView;
use super::settings::Settings;
use super::texts::{set_language, texts};
use super::viewing::Viewing;
use super::window::WindowApp;
use super::{chat_ui, composer_ui, history_ui, menus_ui, plain_text, samples};
use crate::chat::history::ConversationId;
use crate::chat::message::Role;
use crate::chat::transfer::Format;
use crate::error::Error;
use crate::log;
use crate::model::builtin;

/// Steps of the size of everything, as a factor, and its limits.
const ZOOM_STEP: f32 = 0.1;
const ZOOM_RANGE: std::ops::RangeInclusive<f32> = 0.5..=4.0;

impl WindowApp {
    /// The commands that take the keyboard back to the question.
    pub(super) fn goes_on_typing(command: &Command) -> bool {
        match command {
            Command::Do(action) => matches!(
                action,
                Action::NewChat
                    | Action::Send
                    | Action::Stop
                    | Action::Regenerate
                    | Action::Continue
                    | Action::AddPictures
            ),
            Command::AskSample(_)
            | Command::OpenChat(..)
            | Command::RemovePicture(_)
            | Command::SendEdit
            | Command::SaveEdit
            | Command::CancelEdit
            | Command::Regenerate(_)
            | Command::Continue(_)
            | Command::Dismiss(_) => true,
            _ => false,
        }
    }

    pub(super) fn run_command(&mut self, ctx: &Context, frame: &eframe::Frame, command: Command) {
        let now = Instant::now();
        if Self::goes_on_typing(&command) {
            ctx.memory_mut(|memory| memory.request_focus(composer_ui::text_id()));
        }
        let (state, backend) = (&mut self.state, &mut *self.backend);
        match command {
            Command::Do(action) => self.act(ctx, frame, action),
            Command::OpenModel(folder) => self.chosen(Chosen::Model(folder)),
            Command::OpenModelAs(folder, recipe) => {
                self.preferences.last_model = Some(folder.clone());
                state.open_model_as(&folder, Some(recipe), false, backend);
            }
            Command::OpenTextOnly(folder) => state.open_model_as(&folder, None, true, backend),
            Command::Work(work, opens) => self.models.begin(work, opens),
            Command::StopWork(id) => self.models.stop(id),
            Command::WorkAgain(id) => self.models.again(id),
            Command::CloseWork(id) => self.models.close(id),
            Command::ChooseModelToImport(gguf) => self.dialogs.choose_import_model(ctx, frame, gguf),
            Command::Reveal(path) => self.reveal(&path),
            Command::CancelLoad => state.cancel_load(),
            Command::UseSample(index) => self.use_sample(index),
            Command::AskSample(question) => {
                state.ask_sample(question, backend, now);
                self.scroll_to = Some(ScrollTo::End);
            }
            Command::RemovePicture(id) => state.remove_picture(id),
            Command::MovePicture(id, to) => state.move_picture(id, to),
            Command::ReplacePicture(id) => self.dialogs.choose_replacement(ctx, frame, id),
            Command::SetClip(id, is_clip) => state.set_clip(id, is_clip),
            Command::Look(look) => self.viewing = Some(Viewing::new(look)),
            Command::WantPicture(attachment) => state.want_picture(&attachment),
            Command::Dismiss(id) => state.dismiss(id),
            Command::Undo(id) => state.undo(Some(id)),
            Command::UseModelDefaults => {
                state.use_model_defaults();
                state.settings_touched = true;
            }
            Command::OpenChat(id, message) => {
                state.open_chat(id, message);
                self.narrow_history = false;
                self.chat_view.marked = message;
                self.scroll_to = message.is_none().then_some(ScrollTo::End);
            }
            Command::StartRename(id) => self.start_naming(id, false),
            Command::StartFolder(id) => self.start_naming(id, true),
            Command::Rename(id, title) => state.rename(id, &title),
            Command::Pin(id, pinned) => state.pin(id, pinned),
            Command::Folder(id, folder) => state.set_folder(id, &folder),
            Command::DeleteChat(id) => state.delete_chat(id, now),
            Command::Export(id, format) => self.choose_export(ctx, frame, id, format),
            Command::Edit(id) => {
                state.edit(id);
                chat_ui::focus_edited(ctx, state);
            }
            Command::SendEdit => self.send_edit(now),
            Command::SaveEdit => {
                state.save_edit();
            }
            Command::CancelEdit => state.cancel_edit(),
            Command::Regenerate(id) => state.regenerate(id, backend, now),
            Command::Continue(id) => state.continue_answer(id, backend, now),
            Command::ShowBranch(id) => state.show_branch(id),
            Command::DeleteBranch(id) => state.delete_branch(id, now),
            Command::Copy(text) => ctx.copy_text(text),
            Command::ClosePrompt => {
                state.close_preview();
                ctx.memory_mut(|memory| memory.request_focus(composer_ui::text_id()));
            }
            Command::ExportAnnotated(look, name) => self.dialogs.choose_annotated(ctx, frame, look, &name),
            Command::SavePreset(name) => self.save_preset(&name),
            Command::UsePreset(index) => self.use_preset(index),
            Command::UseRecommended(pictures) => {
                state.chat.settings.use_recommended(pictures);
                state.settings_touched = true;
            }
            Command::DeletePreset(index) => {
                if index < self.preferences.presets.len() {
                    self.preferences.presets.remove(index);
                }
            }
            Command::ListModels(server, key) => state.elsewhere.list_models(&server, key),
            Command::SaveServer(before, server, key) => state.save_server(before.as_deref(), *server, key),
            Command::RemoveServer(base_url) => state.elsewhere.remove(&base_url),
            Command::ForgetKey(base_url) => state.elsewhere.forget_key(&base_url),
            Command::UseAdapter(name) => self.use_adapter(ctx, name),
            Command::UseKv(kv) => {
                self.preferences.kv = kv.map(|kv| kv.name().to_owned());
                state.use_kv(kv, backend);
            }
            Command::Costs(command) => self.costs_command(ctx, frame, command),
            Command::Compare(command) => self.compare(ctx, frame, command),
            Command::SetLanguage(language) => {
                self.preferences.language = Some(language);
                set_language(ctx, language);
            }
        }
    }

    /// Shows a folder, or the folder of a file, in the system's file manager.
    fn reveal(&mut self, path: &Path) {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        if let Err(e) = open::that_detached(folder) {
            let error =
                Error::new("showing the folder", e).at_path(folder).help("open it in your file manager");
            self.state.report(&error);
        }
    }

    /// Does what a row of the table says.
    pub(super) fn act(&mut self, ctx: &Context, frame: &eframe::Frame, action: Action) {
        let now = Instant::now();
        let id = self.state.chat.id;
        let (state, backend) = (&mut self.state, &mut *self.backend);
        match action {
            Action::NewChat => state.new_chat(),
            Action::Models => self.toggle_models(),
            Action::OpenModel => {
                let near = state.last_folder.as_ref().and_then(|folder| folder.parent()).map(PathBuf::from);
                self.dialogs.choose_model(ctx, frame, near);
            }
            Action::UseDemo => self.chosen(Chosen::Model(builtin::NAME.into())),
            Action::OpenServers => self.servers = Some(ServersView::default()),
            Action::AddPictures => self.dialogs.choose_pictures(ctx, frame),
            Action::AddFrames => self.dialogs.choose_frames(ctx, frame),
            Action::ExportChat => self.choose_export(ctx, frame, Some(id), Format::Json),
            Action::ExportMarkdown => self.choose_export(ctx, frame, Some(id), Format::Markdown),
            Action::ExportAll => self.choose_export(ctx, frame, None, Format::Json),
            Action::Import => self.dialogs.choose_import(ctx, frame),
            Action::Quit => ctx.send_viewport_cmd(ViewportCommand::Close),
            Action::Compare => self.compare(ctx, frame, CompareCommand::Toggle),
            Action::OpenComparison => self.compare(ctx, frame, CompareCommand::Open),
            Action::Send => {
                state.send(backend, now);
                self.scroll_to = Some(ScrollTo::End);
            }
            Action::Stop => state.stop(),
            Action::EditLast => {
                tracing::debug!("a message is being changed");
                state.edit_last();
                self.scroll_to = state.chat.editing.as_ref().map(|editing| ScrollTo::Item(editing.message.0));
                chat_ui::focus_edited(ctx, state);
            }
            Action::Regenerate | Action::Continue => {
                if let Some(last) = state.chat.last().map(|entry| entry.id) {
                    if action == Action::Regenerate {
                        state.regenerate(last, backend, now);
                    } else {
                        state.continue_answer(last, backend, now);
                    }
                    self.scroll_to = Some(ScrollTo::End);
                }
            }
            Action::CopyAnswer => {
                let path = state.chat.tree.path().iter().rev();
                let answer =
                    path.filter_map(|id| state.chat.tree.get(*id)).find(|e| e.role == Role::Assistant);
                if let Some(answer) = answer {
                    ctx.copy_text(plain_text::plain_text(&answer.text));
                }
            }
            Action::Undo => state.undo(None),
            Action::Rename => self.start_naming(id, false),
            Action::Pin => {
                if let Some(pinned) = state.listed(id).map(|conversation| conversation.pinned) {
                    state.pin(id, !pinned);
                }
            }
            Action::DeleteChat => state.delete_chat(id, now),
            Action::PreviousChat | Action::NextChat => self.step_chat(action == Action::NextChat),
            Action::Search => {
                *self.history_shown() = true;
                ctx.memory_mut(|memory| memory.request_focus(history_ui::search_id()));
            }
            Action::Palette => {
                self.palette = match self.palette {
                    Some(_) => None,
                    None => Some(menus_ui::Palette::default()),
                }
            }
            Action::Shortcuts => self.sheet_open = !self.sheet_open,
            Action::About => self.show_about(),
            Action::ToggleHistory => {
                let shown = self.history_shown();
                *shown = !*shown;
            }
            Action::ToggleSettings => self.preferences.settings_open = !self.preferences.settings_open,
            Action::Costs => self.preferences.costs_open = !self.preferences.costs_open,
            Action::ShowPrompt => state.make_preview(backend),
            Action::ZoomIn => zoom_by(ctx, ZOOM_STEP),
            Action::ZoomOut => zoom_by(ctx, -ZOOM_STEP),
            Action::ZoomReset => ctx.set_zoom_factor(1.0),
            Action::ThemeSystem => ctx.set_theme(ThemePreference::System),
            Action::ThemeLight => ctx.set_theme(ThemePreference::Light),
            Action::ThemeDark => ctx.set_theme(ThemePreference::Dark),
            Action::CopyDiagnostics => {
                ctx.copy_text(self.diagnostics(ctx));
                self.state.tell(texts(ctx).diagnostics_copied.to_owned(), false);
            }
            Action::ShowLogs => match self.places.folder().map(|folder| log::folder_in(&folder)) {
                Some(folder) => self.reveal(&folder),
                None => self.state.report(
                    &Error::new("showing the log", "this window keeps none")
                        .help("start it with --data FOLDER"),
                ),
            },
        }
    }

    fn toggle_models(&mut self) {
        self.models_view.open = !self.models_view.open;
        if self.models_view.open {
            self.models.look();
        }
    }

    fn show_about(&mut self) {
        match About::new() {
            Ok(about) => self.about = Some(about),
            Err(error) => self.state.report(&error),
        }
    }

    /// Puts a sample's picture into the draft.
    pub(super) fn use_sample(&mut self, index: usize) {
        let is_new = self.state.chosen_sample() != Some(index);
        let Some(shown) = self.samples.get(index).filter(|_| is_new) else { return };
        match samples::file(&shown.sample) {
            Ok((name, bytes)) => {
                let picture = self.pictures.add(&mut self.state, Origin::Bytes(name, bytes));
                self.state.sample_added(index, picture);
            }
            Err(error) => self.state.report(&error),
        }
    }

    pub(super) fn start_naming(&mut self, id: ConversationId, is_folder: bool) {
        if let Some(conversation) = self.state.listed(id) {
            let text = if is_folder { conversation.folder.clone() } else { conversation.title.clone() };
            self.naming = Some(Naming { id, text, is_folder, had_focus: false, was_drawn: true });
            *self.history_shown() = true;
            self.state.search.query.clear();
        }
    }

    /// Sends a changed question; of a changed answer, has the model go on from its end.
    pub(super) fn send_edit(&mut self, now: Instant) {
        let is_answer = self.state.chat.editing.as_ref().is_some_and(|editing| {
            self.state.chat.tree.get(editing.message).is_some_and(|entry| entry.role == Role::Assistant)
        });
        let backend = &mut *self.backend;
        if is_answer {
            if self.state.cannot_ask().is_none()
                && let Some(answer) = self.state.save_edit()
            {
                self.state.continue_answer(answer, backend, now);
            }
        } else {
            self.state.send_edit(backend, now);
        }
    }

    pub(super) fn step_chat(&mut self, down: bool) {
        let shown: Vec<ConversationId> = self.state.in_order().iter().map(|c| c.id).collect();
        let here = shown.iter().position(|id| *id == self.state.chat.id);
        let to = match (here, down) {
            (Some(at), true) => at + 1,
            (Some(at), false) => at.wrapping_sub(1),
            (None, _) => 0,
        };
        if let Some(id) = shown.get(to) {
            self.state.open_chat(*id, None);
            self.scroll_to = Some(ScrollTo::End);
        }
    }

    pub(super) fn choose_export(
        &mut self,
        ctx: &Context,
        frame: &eframe::Frame,
        id: Option<ConversationId>,
        format: Format,
    ) {
        let title = id.and_then(|id| self.state.listed(id)).map(|conversation| conversation.title.as_str());
        let safe = |c: char| if c.is_alphanumeric() || "-_ ".contains(c) { c } else { '_' };
        let name: String = title.unwrap_or("ocelli").chars().map(safe).take(60).collect();
        let name = if name.trim().is_empty() { "ocelli" } else { name.trim() };
        self.dialogs.choose_export(ctx, frame, (id, format, name));
    }

    fn use_preset(&mut self, index: usize) {
        let Some(preset) = self.preferences.presets.get(index) else { return };
        let state = &mut self.state;
        // A preset says how answers are made; where they come from is the chat's.
        let answers_from = state.chat.settings.answers_from.take();
        state.chat.settings = Settings { answers_from, ..preset.settings.clone() };
        state.settings_touched = true;
    }

    pub(super) fn save_preset(&mut self, name: &str) {
        let mut settings = self.state.chat.settings.clone();
        // What stands there now is meant, whatever the next model would suggest.
        (settings.own_sampling, settings.own_image_tokens) = (true, true);
        settings.answers_from = None;
        let preset = Preset { name: name.trim().to_owned(), settings };
        self.preferences.presets.retain(|other| other.name != preset.name);
        self.preferences.presets.push(preset);
    }
}

fn zoom_by(ctx: &Context, step: f32) {
    let to = ((ctx.zoom_factor() + step) * 10.0).round_ties_even() / 10.0;
    ctx.set_zoom_factor(to.clamp(*ZOOM_RANGE.start(), *ZOOM_RANGE.end()));
}
