//! Room `app`: the window's contents: takes in what happened, draws everything, has commands carried out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egui::{
    Align2, CentralPanel, Context, Event, FontId, Frame, Key, LayerId, Margin, Modifiers, Order, Panel,
    ScrollArea, Ui, ViewportCommand,
};

use super::about_ui::{About, about_ui};
use super::actions::{self, Action};
use super::backend::Backend;
use super::chat_ui::ChatView;
use super::columns_ui::Choices;
use super::command::Command;
use super::comparing_ui::{ComparingView, comparing_ui};
use super::composition::Composition;
use super::costs::{CostsCommand, CostsFiles, Page, panel_ui};
use super::device_loss::DeviceWatch;
use super::dialogs::{Chosen, Dialogs};
use super::frame_meter::FrameMeter;
use super::history_ui::Naming;
use super::message_list::ScrollTo;
use super::models::{Models, Work};
use super::models_ui::{self, ModelsView};
use super::opened_files::OpenedFiles;
use super::opening::Places;
use super::pictures::{Origin, Pictures};
use super::preferences::{Preferences, system_language};
use super::prompt_ui::PromptView;
use super::servers_ui::ServersView;
use super::settings_ui::SettingsView;
use super::sorting::sort;
use super::state::State;
use super::texts::{set_language, texts};
use super::viewing::Viewing;
use super::{
    chat_ui, composer_ui, empty_ui, history_ui, menus_ui, prompt_ui, samples, servers_ui, settings_ui,
    status_ui, style, top_bar_ui,
};
use crate::chat::history::ConversationId;
use crate::chat::store::Store;
use crate::chat::transfer::Format;
use crate::clock;
use crate::error::Result;
use crate::model::builtin;

/// From an event of the engine to the frame that shows it, at most: events that come together share a frame.
pub(super) const WAKE_DELAY: Duration = Duration::from_millis(8);
/// Below this width, points, the list of conversations hides until it is asked for.
const NARROW: f32 = 640.0;
/// While something is under way, its times are drawn anew this often, even if nothing else happens.
const TICK: Duration = Duration::from_millis(250);
/// Heights that the conversation and the panel of costs have at least, points.
const LEAST_CHAT: f32 = 120.0;
const LEAST_COSTS: f32 = 170.0;
/// The window's contents, on any backend: eframe draws it on the screen, tests without one.
pub struct WindowApp {
    /// What is true.
    pub state: State,
    /// What is remembered from one start to the next.
    pub preferences: Preferences,
    pub(super) ctx: Context,
    pub(super) backend: Box<dyn Backend>,
    pub(super) store: Store,
    pub(super) places: Places,
    pub(super) adapter: String,
    pub(super) pictures: Pictures,
    pub(super) samples: Vec<samples::Shown>,
    /// The window's title as it was set last.
    pub(super) title: String,
    pub(super) dialogs: Dialogs,
    pub(super) composition: Composition,
    pub(super) chat_view: ChatView,
    pub(super) settings_view: SettingsView,
    pub(super) prompt_view: PromptView,
    pub(super) costs_files: CostsFiles,
    pub(super) comparing_view: ComparingView,
    /// The models of this machine.
    pub models: Models,
    pub(super) models_view: ModelsView,
    pub(super) palette: Option<menus_ui::Palette>,
    pub(super) sheet_open: bool,
    /// What the program is, while it is shown.
    pub(super) about: Option<About>,
    /// The window of servers, while it is open.
    pub(super) servers: Option<ServersView>,
    /// The window is too narrow for the list and a conversation side by side.
    pub(super) is_narrow: bool,
    /// The list is there all the same.
    pub(super) narrow_history: bool,
    pub(super) naming: Option<Naming>,
    pub(super) viewing: Option<Viewing>,
    /// The conversation and the message whose text fields were drawn last.
    pub(super) typed_in: (Option<ConversationId>, Option<crate::chat::tree::MessageId>),
    /// Where to scroll in the next frame.
    pub(super) scroll_to: Option<ScrollTo<i64>>,
    /// Which rows stand above the question.
    pub(super) composer_rows: (bool, usize, bool),
    /// Preferences as they were kept last, and when a change was first seen.
    pub(super) kept_preferences: Preferences,
    pub(super) changed_at: Option<Instant>,
    pub(super) meter: FrameMeter,
    /// When the program started, until the first frame has been drawn.
    pub(super) started: Option<Instant>,
    /// When the program started, until the model is ready.
    pub(super) loading_since: Option<Instant>,
    pub(super) watch: Option<DeviceWatch>,
    /// Files that the system wants opened.
    pub opened: OpenedFiles,
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
        let mut state = state;
        state.elsewhere.servers.clone_from(&preferences.servers);
        let wake = ctx.clone();
        state.elsewhere.wake = Arc::new(move || wake.request_repaint_after(WAKE_DELAY));
        let wake = ctx.clone();
        let models = Models::new(
            places.folder().as_deref(),
            None,
            Arc::new(move || wake.request_repaint_after(WAKE_DELAY)),
        );
        let wake = ctx.clone();
        let store =
            Store::start(places.history.clone(), Arc::new(move || wake.request_repaint_after(WAKE_DELAY)))?;
        Ok(Self {
            state,
            kept_preferences: preferences.clone(),
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
            costs_files: CostsFiles::default(),
            comparing_view: ComparingView::default(),
            models,
            models_view: ModelsView::default(),
            palette: None,
            sheet_open: false,
            about: None,
            servers: None,
            is_narrow: false,
            narrow_history: false,
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
            opened: OpenedFiles::default(),
        })
    }

    /// Loads the model asked for, the one that was open last, or the one in this program.
    pub fn open_first_model(&mut self, asked: Option<PathBuf>) {
        let last = self.preferences.last_model.clone().filter(|place| place.exists());
        let folder = asked.or(last).unwrap_or_else(|| builtin::NAME.into());
        self.open_model(folder);
    }

    /// Opens what the program was started with, as if it had been dropped onto the window; a model among it is loaded instead
    /// of `model`, which is as [`WindowApp::open_first_model`] takes it.
    pub fn open_given(&mut self, files: Vec<PathBuf>, model: Option<PathBuf>) {
        let (mut given, mut first) = (Vec::new(), model);
        for chosen in sort(files) {
            match chosen {
                Chosen::Model(folder) => first = Some(folder),
                other => given.push(other),
            }
        }
        self.open_first_model(first);
        for chosen in given {
            self.chosen(chosen);
        }
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

    pub(super) fn chosen(&mut self, chosen: Chosen) {
        match chosen {
            Chosen::Model(folder) => {
                self.preferences.last_model = (!builtin::is_meant(&folder)).then(|| folder.clone());
                self.state.open_model(&folder, &mut *self.backend);
            }
            Chosen::ImportModel(place) => self.models.begin(Work::Import(place), false),
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
            Chosen::Costs(..) | Chosen::CostsPicture(_) => self.costs_chosen(chosen),
            Chosen::Comparison(_)
            | Chosen::SaveComparison(_)
            | Chosen::Report(_)
            | Chosen::ComparisonPictures(..) => self.chosen_for_comparison(chosen),
        }
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
            || self.about.is_some()
            || self.servers.is_some()
            || self.viewing.is_some()
            || self.state.preview.is_some()
            || self.models_view.open
            || self.naming.is_some();
        let pressed = ctx.input_mut(actions::pressed);
        commands.extend(
            pressed
                .into_iter()
                .filter(|action| menus_ui::is_possible(*action, &self.state))
                .filter(|action| {
                    !is_covered
                        || matches!(
                            action,
                            Action::Palette | Action::Shortcuts | Action::Models | Action::Quit
                        )
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
}

// The one who drops it may be eframe at the end, or a panic on its way.
impl Drop for WindowApp {
    fn drop(&mut self) {
        self.leave();
    }
}

impl eframe::App for WindowApp {
    fn logic(&mut self, ctx: &Context, _frame: &mut eframe::Frame) {
        for chosen in self.dialogs.poll() {
            match chosen {
                Ok(chosen) => self.chosen(chosen),
                Err(error) => self.state.report(&error),
            }
        }
        let opened = self.opened.take(ctx);
        if !opened.is_empty() {
            self.dialogs.dropped(ctx, opened);
        }
        self.poll_history(ctx);
        // A model that comes must not break off an answer, or take the place of one that was chosen.
        let may_open = !self.state.is_busy() && (self.state.model_info().is_none() || self.state.is_demo());
        for model in self.models.poll(may_open) {
            self.chosen(Chosen::Model(model));
            self.models_view.open = false;
        }
        self.pictures.poll(ctx, &mut self.state);
        self.state.poll(&mut *self.backend, Instant::now());
        self.poll_costs(ctx);
        self.tell_of_comparison(ctx);
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
        let begin_ns = clock::now_ns();
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
            if !matches!(
                command,
                Command::WantPicture(_) | Command::Costs(CostsCommand::Want(_) | CostsCommand::WantProfile)
            ) {
                ctx.request_repaint();
            }
            self.run_command(&ctx, frame, command);
        }
        self.state.drawn(begin_ns, clock::now_ns());
        self.send_jobs();
        if self.state.is_busy() {
            ctx.request_repaint_after(TICK);
        }
        self.meter.drawn(now.elapsed(), frame.info().cpu_usage, busy);
    }
}

impl WindowApp {
    /// Is the list of conversations there, in a window of this width?
    pub(super) fn history_shown(&mut self) -> &mut bool {
        if self.is_narrow { &mut self.narrow_history } else { &mut self.preferences.history_open }
    }

    fn panels_ui(&mut self, ui: &mut Ui, now: Instant, commands: &mut Vec<Command>) {
        self.is_narrow = ui.ctx().content_rect().width() < NARROW;
        let history = if self.is_narrow { self.narrow_history } else { self.preferences.history_open };
        let open = (history, self.preferences.settings_open);
        Panel::top("top bar").frame(panel_frame(ui)).show(ui, |ui| {
            top_bar_ui::top_bar_ui(ui, &self.state, &self.models, &self.adapter, open, commands);
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
                    let watch = self.watch.as_ref();
                    let adapter = watch.map(|watch| watch.gpu().summary().full_name());
                    let adapter = adapter.as_deref().unwrap_or(&self.adapter);
                    settings_ui::settings_ui(ui, &mut self.state, preferences, view, adapter, commands);
                    if before != self.state.chat.settings {
                        self.state.settings_touched = true;
                        // What was drawn before this panel shows them too.
                        ui.ctx().request_repaint();
                    }
                });
            });
        // Both can be dragged open and shut.
        *self.history_shown() = history_open;
        self.preferences.settings_open = settings_open;
        if self.state.shows_comparison {
            self.comparison_panels(ui, now, commands);
            return;
        }
        Panel::bottom("composer").frame(panel_frame(ui)).show(ui, |ui| {
            status_ui::notices_ui(ui, &self.state.notices, commands);
            status_ui::without_vision_ui(ui, &self.state, commands);
            status_ui::undo_ui(ui, &self.state, now, commands);
            if let Some(progress) = self.state.progress() {
                status_ui::progress_ui(ui, progress, now);
            }
            composer_ui::composer_ui(ui, &mut self.state, &self.pictures, &mut self.composition, commands);
        });
        self.costs_panel(ui, commands);
        let looks = self.preferences.costs_open && self.chat_view.costs.page == Page::Inside;
        if self.state.looking.is_some() && !looks {
            commands.push(Command::Costs(CostsCommand::StopLooking));
        }
        let rows = (
            self.state.progress().is_some(),
            self.state.notices.len()
                + self.state.undo.len()
                + usize::from(self.state.without_vision.is_some()),
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
                empty_ui::empty_ui(ui, &self.state, &self.models, &self.samples, commands);
            } else {
                self.chat_view.as_text = !self.preferences.markdown;
                let to = self.scroll_to.take();
                chat_ui::chat_ui(ui, &mut self.state, &mut self.chat_view, &self.pictures, to, commands);
            }
        });
    }

    fn costs_panel(&mut self, ui: &mut Ui, commands: &mut Vec<Command>) {
        let view = &mut self.chat_view.costs;
        view.metric = self.preferences.colour_by;
        let most = (ui.available_height() - LEAST_CHAT).max(LEAST_COSTS);
        let mut open = self.preferences.costs_open;
        let margin = panel_frame(ui).total_margin().sum().y;
        let (height, state, pictures) = (&mut self.preferences.costs_height, &self.state, &self.pictures);
        let mut wishes = Vec::new();
        let mut stays = true;
        Panel::bottom("costs")
            .frame(panel_frame(ui))
            .resizable(true)
            .default_size(height.clamp(LEAST_COSTS, most))
            .size_range(LEAST_COSTS..=most)
            .show_collapsible(ui, &mut open, |ui| {
                *height = ui.max_rect().height() + margin;
                stays = panel_ui(ui, state, pictures, view, &mut wishes);
            });
        commands.extend(wishes.into_iter().map(Command::Costs));
        self.preferences.colour_by = view.metric;
        self.preferences.costs_open = open && stays;
    }

    fn comparison_panels(&mut self, ui: &mut Ui, now: Instant, commands: &mut Vec<Command>) {
        let something = !self.state.notices.is_empty() || !self.state.undo.is_empty();
        if something {
            Panel::bottom("notices").frame(panel_frame(ui)).show(ui, |ui| {
                status_ui::notices_ui(ui, &self.state.notices, commands);
                status_ui::undo_ui(ui, &self.state, now, commands);
            });
        }
        let image = self.state.model_info().map(|info| info.preprocessors.image);
        let wake = self.comparison_wake();
        if let Some((image, comparing)) = image.zip(self.state.comparing.as_mut()) {
            comparing.ask_cost(image, &wake);
        }
        let servers = &self.state.elsewhere.servers;
        let models =
            self.models.listing.as_ref().map(|listing| listing.models.as_slice()).unwrap_or_default();
        let choices = Choices {
            models: std::iter::once(builtin::NAME.to_owned())
                .chain(models.iter().filter(|model| model.is_there).map(|model| model.name.clone()))
                .collect(),
            servers: servers.iter().map(|s| (s.base_url.as_str(), s.models.as_slice())).collect(),
        };
        CentralPanel::default().show(ui, |ui| {
            if let Some(comparing) = &mut self.state.comparing {
                comparing_ui(ui, comparing, &mut self.comparing_view, &choices, commands);
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
            app.viewing.is_some()
                || app.state.preview.is_some()
                || app.models_view.open
                || app.sheet_open
                || app.about.is_some()
                || app.servers.is_some()
                || app.palette.is_some()
        };
        let was_covered = is_covered(self);
        self.viewing_ui(ctx, commands);
        prompt_ui::prompt_ui(ctx, &self.state, &mut self.prompt_view, commands);
        let opened = self.state.model_info().map(|info| info.folder.as_path());
        models_ui::models_ui(ctx, &self.models, &mut self.models_view, opened, commands);
        if self.sheet_open {
            self.sheet_open = menus_ui::sheet_ui(ctx);
        }
        if self.about.as_ref().is_some_and(|about| !about_ui(ctx, about)) {
            self.about = None;
        }
        if let Some(view) = &mut self.servers
            && !servers_ui::servers_ui(ctx, &self.state, view, commands)
        {
            self.servers = None;
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
