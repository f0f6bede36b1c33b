//! Room `app`: ties state, drawing and eframe together, and opens the window on the engine's own device.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eframe::egui_wgpu::{WgpuConfiguration, WgpuSetup, WgpuSetupExisting};
use egui::{
    Align2, CentralPanel, Context, Event, FontId, Frame, Key, LayerId, Margin, Modifiers, Order, Panel,
    ScrollArea, ThemePreference, Ui, ViewportBuilder, ViewportCommand,
};

use super::actions::{self, Action};
use super::backend::Backend;
use super::chat_ui::ChatView;
use super::command::Command;
use super::composition::Composition;
use super::device_loss::{self, DeviceWatch, Left};
use super::dialogs::{Chosen, Dialogs};
use super::frame_meter::FrameMeter;
use super::history_ui::Naming;
use super::message_list::ScrollTo;
use super::pictures::{Origin, Pictures};
use super::preferences::{Preferences, Preset, WindowPlace, system_language};
use super::prompt_ui::PromptView;
use super::settings_ui::SettingsView;
use super::state::{News, State};
use super::texts::{fill, set_language, texts};
use super::viewing::Viewing;
use super::{
    chat_ui, composer_ui, empty_ui, history_ui, menus_ui, plain_text, prompt_ui, samples, settings_ui,
    status_ui, style, top_bar_ui,
};
use crate::chat::history::ConversationId;
use crate::chat::message::Role;
use crate::chat::store::{Job, Store};
use crate::chat::transfer::Format;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Gpu, GpuOptions};
use crate::model::builtin;
use crate::model::recipe::Recipe;

/// From an event of the engine to the frame that shows it, at most: events that come together share a frame.
pub(super) const WAKE_DELAY: Duration = Duration::from_millis(8);
/// Settings and preferences that have changed are kept this long after.
const KEEP_AFTER: Duration = Duration::from_millis(700);
/// Steps of the size of everything, as a factor, and its limits.
const ZOOM_STEP: f32 = 0.1;
const ZOOM_RANGE: std::ops::RangeInclusive<f32> = 0.5..=4.0;
/// While something is under way, its times are drawn anew this often, even if nothing else happens.
const TICK: Duration = Duration::from_millis(250);
const ICON: &[u8] = include_bytes!("../../assets/icon.png");
/// What a bare Linux needs besides a display; README says it too.
#[cfg(target_os = "linux")]
const LINUX_LIBRARIES: &str = "on Debian: apt install libxkbcommon-x11-0 libxcursor1 libxi6 libx11-xcb1 libxrender1 mesa-vulkan-drivers";

/// How to open the window.
#[derive(Clone, Debug)]
pub struct WindowOptions {
    /// The device to share with the engine.
    pub gpu: GpuOptions,
    /// A model to load at once; `None`: the one that was open last, or the one in this program.
    pub model: Option<PathBuf>,
    /// The folder of conversations and preferences; `None`: the system's place for them.
    pub data: Option<PathBuf>,
    /// Show the conversation that was changed last, not an empty one.
    pub show_newest: bool,
    /// The recipe for hub checkpoints; `None`: the engine's choice.
    pub recipe: Option<Recipe>,
    /// Tokens of context to make room for.
    pub context: usize,
}

/// Where the window keeps what is to outlive it.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The database of conversations; `None`: they are gone with the window.
    pub history: Option<PathBuf>,
    /// The preferences; `None`: not kept.
    pub preferences: Option<PathBuf>,
}

impl Places {
    /// The files in this folder, or in the system's place for them.
    ///
    /// # Errors
    /// The system has no such place.
    pub fn find(folder: Option<&Path>) -> Result<Self> {
        let folder = match folder {
            Some(folder) => folder.to_path_buf(),
            None => directories::ProjectDirs::from("", "", "ocelli")
                .map(|dirs| dirs.data_dir().to_path_buf())
                .ok_or_else(|| {
                    Error::new("finding the folder for conversations", "this system has no home folder")
                        .help("set OCELLI_DATA to a folder")
                })?,
        };
        Ok(Self {
            history: Some(folder.join("conversations.sqlite")),
            preferences: Some(folder.join("preferences.json")),
        })
    }
}

/// Opens the window and returns when it is closed. When the device is lost, it opens again on another one, or the same one
/// anew; the conversations are where they were.
///
/// # Errors
/// There is no display, no device, or the device cannot draw on the display.
pub fn run(options: &WindowOptions) -> Result<()> {
    check_display()?;
    let places = Places::find(options.data.as_deref())?;
    let mut options = options.clone();
    let mut losses = 0;
    if let Some(left) = Left::from_start() {
        losses = left.losses;
        options.go_on_from(&left);
    }
    loop {
        let Some(left) = run_once(&options, &places, losses)? else { return Ok(()) };
        losses = left.losses;
        if losses > MOST_LOSSES {
            return Err(Error::new("opening the window again", "the device was lost again and again")
                .help("update the graphics driver, or choose another adapter with --adapter")
                .kind(ErrorKind::DeviceLost));
        }
        if !left.is_loss {
            // The loop of events ended in a panic.
            return device_loss::start_anew(&left);
        }
        tracing::warn!("the device was lost; opening the window on a new one");
        options.go_on_from(&left);
    }
}

impl WindowOptions {
    fn go_on_from(&mut self, left: &Left) {
        if let Some(model) = &left.model {
            self.model = Some(model.clone());
        }
        self.show_newest = left.has_chat;
    }
}

/// A window that lost its device this often in one run of the program stays closed.
const MOST_LOSSES: u32 = 5;

/// One window on one device; what it leaves when the device was lost.
fn run_once(options: &WindowOptions, places: &Places, losses: u32) -> Result<Option<Left>> {
    const DOING: &str = "opening the window";
    let start = Instant::now();
    let gpu = Gpu::new(&options.gpu)?;
    let adapter = gpu.adapter_name().to_owned();
    let preferences = places.preferences.as_deref().map(Preferences::read).unwrap_or_default();
    let mut viewport = ViewportBuilder::default()
        .with_title("Ocelli")
        .with_app_id("ocelli")
        .with_inner_size([1100.0, 760.0])
        .with_min_inner_size([420.0, 320.0])
        .with_icon(icon()?);
    if let Some(place) = &preferences.window {
        viewport = viewport.with_inner_size(place.size).with_maximized(place.maximized);
        if let Some(position) = place.position {
            viewport = viewport.with_position(position);
        }
    }
    let native = eframe::NativeOptions {
        viewport,
        renderer: eframe::Renderer::Wgpu,
        wgpu_options: WgpuConfiguration {
            wgpu_setup: WgpuSetup::Existing(WgpuSetupExisting {
                instance: gpu.instance().clone(),
                adapter: gpu.adapter().clone(),
                device: gpu.device().clone(),
                queue: gpu.queue().clone(),
            }),
            ..eframe::NativeOptions::default().wgpu_options
        },
        ..eframe::NativeOptions::default()
    };
    let left = std::rc::Rc::new(std::cell::RefCell::new(Left { losses, ..Left::default() }));
    let watch = DeviceWatch::new(gpu.clone(), left.clone());
    let device = gpu.clone();
    let (options, places) = (options.clone(), places.clone());
    let window = move || {
        eframe::run_native(
            "Ocelli",
            native,
            Box::new(move |creation| {
                let ctx = creation.egui_ctx.clone();
                gpu.when_lost(move || ctx.request_repaint());
                let ctx = creation.egui_ctx.clone();
                let engine = Engine::start(gpu, Arc::new(move || ctx.request_repaint_after(WAKE_DELAY)))?;
                let mut state = State::new(options.context, options.recipe);
                state.chat.draft.text.clone_from(&preferences.unsent);
                state.usual_settings.clone_from(&preferences.settings);
                state.chat.settings.clone_from(&preferences.settings);
                let ctx = &creation.egui_ctx;
                let mut app = WindowApp::new(ctx, Box::new(engine), adapter, state, places, preferences)?;
                (app.started, app.loading_since) = (Some(start), Some(start));
                app.watch = Some(watch);
                app.open_first_model(options.model);
                app.state.show_newest = options.show_newest;
                Ok(Box::new(app))
            }),
        )
    };
    let ended = match catch_unwind(AssertUnwindSafe(window)) {
        Ok(ended) => ended,
        // egui_wgpu panics when the device is lost while it draws.
        Err(_) if device.find_out_if_lost() => {
            tracing::warn!("the device was lost while a frame was drawn; starting anew");
            let losses = losses + 1;
            return Ok(Some(Left { losses, is_loss: false, ..left.take() }));
        }
        Err(panic) => resume_unwind(panic),
    };
    ended.map_err(|e| match e {
        eframe::Error::AppCreation(e) => Error::new(DOING, e),
        eframe::Error::Wgpu(e) => Error::new(DOING, e).help(
            "this adapter may be unable to draw on this display: `ocelli devices` lists others for --adapter",
        ),
        e => with_library_help(Error::new(DOING, e)),
    })?;
    let left = left.take();
    Ok(left.is_loss.then(|| Left { losses: losses + 1, ..left }))
}

#[cfg(target_os = "linux")]
fn check_display() -> Result<()> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if ["DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"].into_iter().any(set) {
        return Ok(());
    }
    Err(Error::new("opening the window", "there is no display: neither DISPLAY nor WAYLAND_DISPLAY is set")
        .help("start it on a desktop, or use `ocelli generate`, which needs no window"))
}

#[cfg(not(target_os = "linux"))]
fn check_display() -> Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn with_library_help(error: Error) -> Error {
    error.help(LINUX_LIBRARIES)
}

#[cfg(not(target_os = "linux"))]
fn with_library_help(error: Error) -> Error {
    error
}

fn icon() -> Result<egui::IconData> {
    eframe::icon_data::from_png_bytes(ICON).map_err(|e| Error::new("reading the window's icon", e))
}

/// The window's contents, on any backend: eframe draws it on the screen, tests without one.
pub struct WindowApp {
    /// What is true.
    pub state: State,
    /// What is remembered from one start to the next.
    pub preferences: Preferences,
    pub(super) ctx: Context,
    backend: Box<dyn Backend>,
    store: Store,
    places: Places,
    adapter: String,
    pub(super) pictures: Pictures,
    samples: Vec<samples::Shown>,
    /// The window's title as it was set last.
    title: String,
    dialogs: Dialogs,
    composition: Composition,
    chat_view: ChatView,
    settings_view: SettingsView,
    prompt_view: PromptView,
    palette: Option<menus_ui::Palette>,
    sheet_open: bool,
    naming: Option<Naming>,
    pub(super) viewing: Option<Viewing>,
    /// The conversation and the message whose text fields were drawn last.
    typed_in: (Option<ConversationId>, Option<crate::chat::tree::MessageId>),
    /// Where to scroll in the next frame.
    scroll_to: Option<ScrollTo<i64>>,
    /// Which rows stand above the question.
    composer_rows: (bool, usize, bool),
    /// Preferences as they were kept last, and when a change was first seen.
    kept_preferences: String,
    changed_at: Option<Instant>,
    meter: FrameMeter,
    /// When the program started, until the first frame has been drawn.
    started: Option<Instant>,
    /// When the program started, until the model is ready.
    loading_since: Option<Instant>,
    watch: Option<DeviceWatch>,
}

impl std::fmt::Debug for WindowApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowApp").field("state", &self.state).finish_non_exhaustive()
    }
}

impl WindowApp {
    /// A window in this state; `adapter` is the name of the device the backend runs on.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn new(
        ctx: &Context,
        backend: Box<dyn Backend>,
        adapter: String,
        state: State,
        places: Places,
        preferences: Preferences,
    ) -> Result<Self> {
        style::apply(ctx);
        set_language(ctx, preferences.language.unwrap_or_else(system_language));
        ctx.set_theme(preferences.theme_preference());
        ctx.set_zoom_factor(preferences.zoom);
        ctx.memory_mut(|memory| memory.request_focus(composer_ui::text_id()));
        let wake = ctx.clone();
        let store =
            Store::start(places.history.clone(), Arc::new(move || wake.request_repaint_after(WAKE_DELAY)))?;
        Ok(Self {
            state,
            kept_preferences: preferences.to_text(),
            preferences,
            ctx: ctx.clone(),
            backend,
            store,
            places,
            adapter,
            pictures: Pictures::start(ctx)?,
            samples: samples::load(ctx),
            title: String::new(),
            dialogs: Dialogs::default(),
            composition: Composition::default(),
            chat_view: ChatView::default(),
            settings_view: SettingsView::default(),
            prompt_view: PromptView::default(),
            palette: None,
            sheet_open: false,
            naming: None,
            viewing: None,
            typed_in: (None, None),
            scroll_to: None,
            composer_rows: (false, 0, true),
            changed_at: None,
            meter: FrameMeter::default(),
            started: None,
            loading_since: None,
            watch: None,
        })
    }

    /// Loads the model asked for, the one that was open last, or the one in this program.
    pub fn open_first_model(&mut self, asked: Option<PathBuf>) {
        let last = self.preferences.last_model.clone().filter(|folder| folder.is_dir());
        let folder = asked.or(last).unwrap_or_else(|| builtin::NAME.into());
        self.open_model(folder);
    }

    /// Loads a model, as if its folder had been chosen.
    pub fn open_model(&mut self, folder: PathBuf) {
        self.chosen(Chosen::Model(folder));
    }

    /// Adds pictures to the question, as if their files had been chosen.
    pub fn add_pictures(&mut self, files: Vec<PathBuf>) {
        self.chosen(Chosen::Pictures(files));
    }

    /// Reads conversations from a file, as if it had been chosen.
    pub fn import(&mut self, file: PathBuf) {
        self.chosen(Chosen::Import(file));
    }

    /// Writes conversations to a file, as if it had been chosen: one, or all.
    pub fn export(&mut self, conversation: Option<ConversationId>, format: Format, to: PathBuf) {
        self.chosen(Chosen::Export(conversation, format, to));
    }

    fn chosen(&mut self, chosen: Chosen) {
        match chosen {
            Chosen::Model(folder) => {
                self.preferences.last_model = (!builtin::is_meant(&folder)).then(|| folder.clone());
                self.state.open_model(&folder, &mut *self.backend);
            }
            Chosen::Pictures(files) => {
                for file in files {
                    let _ = self.pictures.add(&mut self.state, Origin::File(file));
                }
            }
            Chosen::Nothing(error) => self.state.report(&error),
            Chosen::Frames(clip, files) => self.pictures.add_frames(&mut self.state, &clip, files),
            Chosen::Replacement(id, file) => {
                self.pictures.replace(&mut self.state, id, Origin::File(file));
            }
            Chosen::Export(conversation, format, to) => self.state.export(conversation, format, to),
            Chosen::Import(from) => self.state.import(from),
            Chosen::Annotated(look, to) => self.write_annotated(&look, to),
        }
    }

    /// The commands that take the keyboard back to the question.
    fn goes_on_typing(command: &Command) -> bool {
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

    fn run_command(&mut self, ctx: &Context, frame: &eframe::Frame, command: Command) {
        let now = Instant::now();
        if Self::goes_on_typing(&command) {
            ctx.memory_mut(|memory| memory.request_focus(composer_ui::text_id()));
        }
        let (state, backend) = (&mut self.state, &mut *self.backend);
        match command {
            Command::Do(action) => self.act(ctx, frame, action),
            Command::OpenModel(folder) => self.chosen(Chosen::Model(folder)),
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
            Command::UsePreset(index) => {
                if let Some(preset) = self.preferences.presets.get(index) {
                    state.chat.settings.clone_from(&preset.settings);
                    state.settings_touched = true;
                }
            }
            Command::UseRecommended(pictures) => {
                state.chat.settings.use_recommended(pictures);
                state.settings_touched = true;
            }
            Command::DeletePreset(index) => {
                if index < self.preferences.presets.len() {
                    self.preferences.presets.remove(index);
                }
            }
            Command::SetLanguage(language) => {
                self.preferences.language = Some(language);
                set_language(ctx, language);
            }
        }
    }

    /// Does what a row of the table says.
    fn act(&mut self, ctx: &Context, frame: &eframe::Frame, action: Action) {
        let now = Instant::now();
        let id = self.state.chat.id;
        let (state, backend) = (&mut self.state, &mut *self.backend);
        match action {
            Action::NewChat => state.new_chat(),
            Action::OpenModel => {
                let near = state.last_folder.as_ref().and_then(|folder| folder.parent()).map(PathBuf::from);
                self.dialogs.choose_model(ctx, frame, near);
            }
            Action::UseDemo => self.chosen(Chosen::Model(builtin::NAME.into())),
            Action::AddPictures => self.dialogs.choose_pictures(ctx, frame),
            Action::AddFrames => self.dialogs.choose_frames(ctx, frame),
            Action::ExportChat => self.choose_export(ctx, frame, Some(id), Format::Json),
            Action::ExportMarkdown => self.choose_export(ctx, frame, Some(id), Format::Markdown),
            Action::ExportAll => self.choose_export(ctx, frame, None, Format::Json),
            Action::Import => self.dialogs.choose_import(ctx, frame),
            Action::Quit => ctx.send_viewport_cmd(ViewportCommand::Close),
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
                self.preferences.history_open = true;
                ctx.memory_mut(|memory| memory.request_focus(history_ui::search_id()));
            }
            Action::Palette => {
                self.palette = match self.palette {
                    Some(_) => None,
                    None => Some(menus_ui::Palette::default()),
                }
            }
            Action::Shortcuts => self.sheet_open = !self.sheet_open,
            Action::ToggleHistory => self.preferences.history_open = !self.preferences.history_open,
            Action::ToggleSettings => self.preferences.settings_open = !self.preferences.settings_open,
            Action::ShowPrompt => state.make_preview(backend),
            Action::ZoomIn => zoom_by(ctx, ZOOM_STEP),
            Action::ZoomOut => zoom_by(ctx, -ZOOM_STEP),
            Action::ZoomReset => ctx.set_zoom_factor(1.0),
            Action::ThemeSystem => ctx.set_theme(ThemePreference::System),
            Action::ThemeLight => ctx.set_theme(ThemePreference::Light),
            Action::ThemeDark => ctx.set_theme(ThemePreference::Dark),
        }
    }

    /// Puts a sample's picture into the draft.
    fn use_sample(&mut self, index: usize) {
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

    fn start_naming(&mut self, id: ConversationId, is_folder: bool) {
        if let Some(conversation) = self.state.listed(id) {
            let text = if is_folder { conversation.folder.clone() } else { conversation.title.clone() };
            self.naming = Some(Naming { id, text, is_folder, had_focus: false, was_drawn: true });
            self.preferences.history_open = true;
            self.state.search.query.clear();
        }
    }

    /// Sends a changed question; of a changed answer, has the model go on from its end.
    fn send_edit(&mut self, now: Instant) {
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

    fn step_chat(&mut self, down: bool) {
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

    fn choose_export(
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

    fn save_preset(&mut self, name: &str) {
        let mut settings = self.state.chat.settings.clone();
        // What stands there now is meant, whatever the next model would suggest.
        (settings.own_sampling, settings.own_image_tokens) = (true, true);
        let preset = Preset { name: name.trim().to_owned(), settings };
        self.preferences.presets.retain(|other| other.name != preset.name);
        self.preferences.presets.push(preset);
    }

    /// Pictures and folders that were dropped or pasted.
    fn take_input(&mut self, ctx: &Context) {
        let (dropped, pasted) = ctx.input(|input| {
            let dropped: Vec<PathBuf> =
                input.raw.dropped_files.iter().map(|file| file.path().to_path_buf()).collect();
            let pasted: Vec<_> = input
                .events
                .iter()
                .filter_map(|event| match event {
                    Event::PasteImage(pixels) => Some(pixels.clone()),
                    _ => None,
                })
                .collect();
            (dropped, pasted)
        });
        if !dropped.is_empty() {
            self.dialogs.dropped(ctx, dropped);
        }
        for pixels in pasted {
            let _ = self.pictures.add(&mut self.state, Origin::Pixels(pixels));
        }
    }

    /// What the keys of the table ask for. Escape goes to what is open, then to the answer.
    fn take_keys(&mut self, ctx: &Context, commands: &mut Vec<Command>) {
        if self.composition.is_composing() {
            return;
        }
        let is_covered = self.palette.is_some()
            || self.sheet_open
            || self.viewing.is_some()
            || self.state.preview.is_some()
            || self.naming.is_some();
        let pressed = ctx.input_mut(actions::pressed);
        commands.extend(
            pressed
                .into_iter()
                .filter(|action| menus_ui::is_possible(*action, &self.state))
                .filter(|action| {
                    !is_covered || matches!(action, Action::Palette | Action::Shortcuts | Action::Quit)
                })
                .map(Command::Do),
        );
        // Escape belongs to what is open, and to a text field that is not the question's or the changed message's.
        let focus = ctx.memory(egui::Memory::focused);
        let ours = [composer_ui::text_id(), chat_ui::editing_id(), history_ui::search_id()];
        let elsewhere = ctx.text_edit_focused() && focus.is_none_or(|id| !ours.contains(&id));
        if is_covered || elsewhere || egui::Popup::is_any_open(ctx) {
            return;
        }
        ctx.input_mut(|input| {
            if !self.state.search.query.is_empty() && input.consume_key(Modifiers::NONE, Key::Escape) {
                self.state.search.query.clear();
            } else if self.state.chat.editing.is_some() && input.consume_key(Modifiers::NONE, Key::Escape) {
                commands.push(Command::CancelEdit);
            } else if self.state.progress().is_some() && input.consume_key(Modifiers::NONE, Key::Escape) {
                commands.push(Command::Do(Action::Stop));
            }
        });
    }

    /// Keeps what has changed: messages at once, settings and preferences when the user is done with them.
    fn keep(&mut self, ctx: &Context, now: Instant) {
        for job in std::mem::take(&mut self.state.jobs) {
            self.store.send(job);
        }
        if ctx.input(|input| input.pointer.any_down()) {
            return;
        }
        self.preferences.set_theme(ctx.options(|options| options.theme_preference));
        self.preferences.zoom = ctx.zoom_factor();
        self.preferences.settings.clone_from(&self.state.usual_settings);
        let unsent = self.state.unsent_text();
        if self.preferences.unsent != unsent {
            self.preferences.unsent = unsent.to_owned();
        }
        // A window's place is given in points as they are without our zoom.
        let (zoom, size) = (ctx.zoom_factor(), ctx.content_rect().size());
        let place = ctx.input(|input| {
            let viewport = input.viewport();
            let position = viewport.outer_rect.map(|rect| [rect.min.x * zoom, rect.min.y * zoom]);
            let maximized = viewport.maximized.unwrap_or(false);
            WindowPlace { position, size: [size.x * zoom, size.y * zoom], maximized }
        });
        // The size to come back to from a window that fills the screen is the one it had before.
        match &mut self.preferences.window {
            Some(kept) if place.maximized => kept.maximized = true,
            window => *window = Some(place),
        }
        let text = self.preferences.to_text();
        if text == self.kept_preferences && !self.state.settings_changed() {
            self.changed_at = None;
            return;
        }
        let changed = *self.changed_at.get_or_insert(now);
        if now.saturating_duration_since(changed) >= KEEP_AFTER {
            self.state.keep_settings();
            self.changed_at = None;
            if let Some(path) = self.places.preferences.clone().filter(|_| text != self.kept_preferences) {
                self.store.send(Job::WritePreferences { path, text: text.clone() });
            }
            self.kept_preferences = text;
        } else {
            ctx.request_repaint_after(KEEP_AFTER);
        }
    }

    fn poll_history(&mut self, ctx: &Context) {
        let t = texts(ctx);
        let events: Vec<_> = self.store.events().collect();
        for event in events {
            match self.state.history_event(event) {
                None => {}
                Some(News::Exported(to, n)) => {
                    let words = if n == 1 { t.exported_one } else { t.exported };
                    let text = fill(words, &[("n", &n), ("file", &to.display())]);
                    self.state.tell(text, false);
                }
                Some(News::Imported(n)) => {
                    let words = if n == 1 { t.imported_one } else { t.imported };
                    self.state.tell(fill(words, &[("n", &n)]), false);
                }
                Some(News::SavingFails(error)) => {
                    self.state.tell(format!("{} {error}", t.saving_fails), true);
                }
                Some(News::SavingWorks) => {
                    self.state.notices.retain(|notice| !notice.text.starts_with(t.saving_fails));
                    self.state.tell(t.saving_works.to_owned(), false);
                }
            }
        }
        if let Some(id) = self.state.bring_into_sight
            && self.state.chat.tree.path().contains(&id)
        {
            self.state.bring_into_sight = None;
            self.scroll_to = Some(ScrollTo::Item(id.0));
        }
        for path in std::mem::take(&mut self.pictures.annotated) {
            self.state.tell(fill(t.picture_written, &[("file", &path.display())]), false);
        }
    }

    /// A lost device takes the window with it; the next one begins where this one ended.
    fn leave_lost_device(&mut self, ctx: &Context, now: Instant) {
        let Some(watch) = &mut self.watch else { return };
        let state = &self.state;
        if let Some(rest) = watch.lose_if_asked(state, now) {
            ctx.request_repaint_after(rest);
        }
        let (model, has_chat) = (state.last_folder.as_ref(), state.chat.is_kept);
        let busy = state.is_busy() && !state.device_lost;
        if watch.must_leave(model, has_chat, busy, now) {
            self.state.keep_settings();
            for job in std::mem::take(&mut self.state.jobs) {
                self.store.send(job);
            }
            ctx.send_viewport_cmd(ViewportCommand::Close);
        } else if watch.is_lost() {
            ctx.request_repaint_after(WAKE_DELAY);
        }
    }
}

// The one who drops it may be eframe at the end, or a panic on its way.
impl Drop for WindowApp {
    fn drop(&mut self) {
        self.leave();
    }
}

fn zoom_by(ctx: &Context, step: f32) {
    let to = ((ctx.zoom_factor() + step) * 10.0).round_ties_even() / 10.0;
    ctx.set_zoom_factor(to.clamp(*ZOOM_RANGE.start(), *ZOOM_RANGE.end()));
}

impl eframe::App for WindowApp {
    fn logic(&mut self, ctx: &Context, _frame: &mut eframe::Frame) {
        for chosen in self.dialogs.poll() {
            match chosen {
                Ok(chosen) => self.chosen(chosen),
                Err(error) => self.state.report(&error),
            }
        }
        self.poll_history(ctx);
        self.pictures.poll(ctx, &mut self.state);
        self.state.poll(&mut *self.backend, Instant::now());
        self.keep(ctx, Instant::now());
        if self.state.model_info().is_some()
            && let Some(since) = self.loading_since.take()
        {
            tracing::debug!(
                "the model is ready {:.0} ms after the start",
                since.elapsed().as_secs_f64() * 1e3
            );
        }
        self.leave_lost_device(ctx, Instant::now());
    }

    fn ui(&mut self, ui: &mut Ui, frame: &mut eframe::Frame) {
        if self.watch.as_ref().is_some_and(DeviceWatch::is_lost) {
            // egui_wgpu panics where something is to be drawn on a lost device.
            return;
        }
        let now = Instant::now();
        let busy = self.state.is_busy();
        self.meter.frame(now, busy);
        if let Some(started) = self.started.take() {
            tracing::debug!("first frame {:.0} ms after the start", started.elapsed().as_secs_f64() * 1e3);
        }
        let title = self.state.title();
        if self.title != title {
            ui.ctx().send_viewport_cmd(ViewportCommand::Title(title.clone()));
            self.title = title;
        }
        let ctx = ui.ctx().clone();
        self.take_input(&ctx);
        let mut commands = Vec::new();
        self.take_keys(&ctx, &mut commands);
        self.forget_undone_typing(&ctx);
        self.panels_ui(ui, now, &mut commands);
        self.overlays_ui(&ctx, &mut commands);
        drop_overlay(&ctx);
        for command in commands {
            // A picture that is asked for in each frame until it is there is no reason for another frame.
            if !matches!(command, Command::WantPicture(_)) {
                ctx.request_repaint();
            }
            self.run_command(&ctx, frame, command);
        }
        for job in std::mem::take(&mut self.state.jobs) {
            self.store.send(job);
        }
        if self.state.is_busy() {
            ctx.request_repaint_after(TICK);
        }
        self.meter.drawn(now.elapsed(), frame.info().cpu_usage, busy);
    }
}

impl WindowApp {
    /// Keeps everything as it is now: the window is going.
    fn leave(&mut self) {
        self.meter.report();
        self.state.poll(&mut *self.backend, Instant::now());
        self.state.settle_all();
        self.state.keep_settings();
        self.preferences.settings.clone_from(&self.state.usual_settings);
        self.preferences.unsent = self.state.unsent_text().to_owned();
        for job in std::mem::take(&mut self.state.jobs) {
            self.store.send(job);
        }
        let text = self.preferences.to_text();
        if let Some(path) = self.places.preferences.clone().filter(|_| text != self.kept_preferences) {
            self.store.send(Job::WritePreferences { path, text });
        }
    }

    fn panels_ui(&mut self, ui: &mut Ui, now: Instant, commands: &mut Vec<Command>) {
        let open = (self.preferences.history_open, self.preferences.settings_open);
        Panel::top("top bar").frame(panel_frame(ui)).show(ui, |ui| {
            top_bar_ui::top_bar_ui(ui, &self.state, &self.adapter, open, commands);
        });
        let mut history_open = open.0;
        let margin = panel_frame(ui).total_margin().sum().x;
        Panel::left("history")
            .frame(panel_frame(ui))
            .resizable(true)
            .default_size(self.preferences.history_width.clamp(160.0, 420.0))
            .size_range(160.0..=420.0)
            .show_collapsible(ui, &mut history_open, |ui| {
                self.preferences.history_width = ui.max_rect().width() + margin;
                history_ui::history_ui(ui, &mut self.state, &mut self.naming, commands);
            });
        let mut settings_open = open.1;
        Panel::right("settings")
            .frame(panel_frame(ui))
            .resizable(true)
            .default_size(self.preferences.settings_width.clamp(240.0, 420.0))
            .size_range(240.0..=420.0)
            .show_collapsible(ui, &mut settings_open, |ui| {
                self.preferences.settings_width = ui.max_rect().width() + margin;
                ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
                    let (preferences, view) = (&mut self.preferences, &mut self.settings_view);
                    let before = self.state.chat.settings.clone();
                    settings_ui::settings_ui(ui, &mut self.state, preferences, view, commands);
                    self.state.settings_touched |= before != self.state.chat.settings;
                });
            });
        // Both can be dragged open and shut.
        (self.preferences.history_open, self.preferences.settings_open) = (history_open, settings_open);
        Panel::bottom("composer").frame(panel_frame(ui)).show(ui, |ui| {
            status_ui::notices_ui(ui, &self.state.notices, commands);
            status_ui::undo_ui(ui, &self.state, now, commands);
            if let Some(progress) = self.state.progress() {
                status_ui::progress_ui(ui, progress, now);
            }
            composer_ui::composer_ui(ui, &mut self.state, &self.pictures, &mut self.composition, commands);
        });
        let rows = (
            self.state.progress().is_some(),
            self.state.notices.len() + self.state.undo.len(),
            self.state.chat.draft.pictures.is_empty(),
        );
        if std::mem::replace(&mut self.composer_rows, rows) != rows {
            // The panel was laid out with the height it had before.
            ui.ctx().request_discard("rows came or went above the question");
        }
        // A name that is being typed in a row that is not drawn any more would keep Escape for itself.
        if self.naming.as_ref().is_some_and(|naming| !naming.was_drawn) {
            self.naming = None;
        }
        if let Some(naming) = &mut self.naming {
            naming.was_drawn = false;
        }
        CentralPanel::default().show(ui, |ui| {
            if self.state.chat.is_loading {
                ui.centered_and_justified(|ui| ui.weak(texts(ui.ctx()).chat_still_loading));
            } else if self.state.chat.tree.path().is_empty() {
                empty_ui::empty_ui(ui, &self.state, &self.samples, commands);
            } else {
                self.chat_view.as_text = !self.preferences.markdown;
                let to = self.scroll_to.take();
                chat_ui::chat_ui(ui, &mut self.state, &mut self.chat_view, &self.pictures, to, commands);
            }
        });
    }

    /// Undoing in a text field must not bring back what was typed in another conversation.
    fn forget_undone_typing(&mut self, ctx: &Context) {
        let editing = self.state.chat.editing.as_ref().map(|editing| editing.message);
        let now = (Some(self.state.chat.id), editing);
        let before = std::mem::replace(&mut self.typed_in, now);
        for (id, is_other) in
            [(composer_ui::text_id(), before.0 != now.0), (chat_ui::editing_id(), before != now)]
        {
            if is_other && let Some(mut state) = egui::widgets::text_edit::TextEditState::load(ctx, id) {
                state.clear_undoer();
                state.store(ctx, id);
            }
        }
    }

    fn overlays_ui(&mut self, ctx: &Context, commands: &mut Vec<Command>) {
        let is_covered = |app: &Self| {
            app.viewing.is_some() || app.state.preview.is_some() || app.sheet_open || app.palette.is_some()
        };
        let was_covered = is_covered(self);
        self.viewing_ui(ctx, commands);
        prompt_ui::prompt_ui(ctx, &self.state, &mut self.prompt_view, commands);
        if self.sheet_open {
            self.sheet_open = menus_ui::sheet_ui(ctx);
        }
        if let Some(palette) = &mut self.palette
            && !menus_ui::palette_ui(ctx, &self.state, palette, commands)
        {
            self.palette = None;
        }
        if was_covered && !is_covered(self) {
            // What was behind has lost the keyboard.
            let id = if self.state.chat.editing.is_some() {
                chat_ui::editing_id()
            } else {
                composer_ui::text_id()
            };
            ctx.memory_mut(|memory| memory.request_focus(id));
        }
    }
}

fn panel_frame(ui: &Ui) -> Frame {
    Frame::side_top_panel(ui.style()).inner_margin(Margin::symmetric(10, 8))
}

/// Says what will happen to files held over the window.
fn drop_overlay(ctx: &Context) {
    if ctx.input(|input| input.raw.hovered_files.is_empty()) {
        return;
    }
    let t = texts(ctx);
    let painter = ctx.layer_painter(LayerId::new(Order::Foreground, egui::Id::unique("drop overlay")));
    let (rect, visuals) = (ctx.content_rect(), ctx.global_style().visuals.clone());
    painter.rect_filled(rect, 0.0, visuals.extreme_bg_color.gamma_multiply(0.94));
    let (font, colour) = (FontId::proportional(24.0), visuals.strong_text_color());
    for (text, place) in [(t.drop_pictures, Align2::CENTER_BOTTOM), (t.drop_model, Align2::CENTER_TOP)] {
        painter.text(rect.center(), place, text, font.clone(), colour);
    }
}
