//! Room `app`: ties state, drawing and eframe together, and opens the window on the engine's own device.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eframe::egui_wgpu::{WgpuConfiguration, WgpuSetup, WgpuSetupExisting};
use egui::{
    Align2, CentralPanel, Context, Event, FontId, Frame, LayerId, Margin, Order, Panel, ScrollArea, Ui,
    ViewportBuilder, ViewportCommand,
};

use super::backend::Backend;
use super::composition::Composition;
use super::dialogs::{Chosen, Dialogs};
use super::frame_meter::FrameMeter;
use super::pictures::{Origin, Pictures};
use super::state::{Command, State};
use super::{chat_ui, composer_ui, empty_ui, samples, settings_ui, status_ui, style, top_bar_ui};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuOptions};
use crate::model::recipe::Recipe;

/// From an event of the engine to the frame that shows it, at most: events that come together share a frame.
pub(super) const WAKE_DELAY: Duration = Duration::from_millis(8);
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
    /// A model to load at once.
    pub model: Option<PathBuf>,
    /// The recipe for hub checkpoints; `None`: the engine's choice.
    pub recipe: Option<Recipe>,
    /// Tokens of context to make room for.
    pub context: usize,
}

/// Opens the window and returns when it is closed.
///
/// # Errors
/// There is no display, no device, or the device cannot draw on the display.
pub fn run(options: WindowOptions) -> Result<()> {
    const DOING: &str = "opening the window";
    check_display()?;
    let gpu = Gpu::new(&options.gpu)?;
    let adapter = gpu.adapter_name().to_owned();
    let native = eframe::NativeOptions {
        viewport: ViewportBuilder::default()
            .with_title("Ocelli")
            .with_app_id("ocelli")
            .with_inner_size([1100.0, 760.0])
            .with_min_inner_size([420.0, 320.0])
            .with_icon(icon()?),
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
    eframe::run_native(
        "Ocelli",
        native,
        Box::new(move |creation| {
            let ctx = creation.egui_ctx.clone();
            let engine = Engine::start(gpu, Arc::new(move || ctx.request_repaint_after(WAKE_DELAY)))?;
            let mut app = WindowApp::new(
                &creation.egui_ctx,
                Box::new(engine),
                adapter,
                State::new(options.context, options.recipe),
            )?;
            if let Some(folder) = &options.model {
                app.state.open_model(folder, &mut *app.backend);
            }
            Ok(Box::new(app))
        }),
    )
    .map_err(|e| match e {
        eframe::Error::AppCreation(e) => Error::new(DOING, e),
        eframe::Error::Wgpu(e) => Error::new(DOING, e).help(
            "this adapter may be unable to draw on this display: `ocelli devices` lists others for --adapter",
        ),
        e => with_library_help(Error::new(DOING, e)),
    })
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
    backend: Box<dyn Backend>,
    adapter: String,
    pictures: Pictures,
    samples: Vec<samples::Shown>,
    /// The window's title as it was set last.
    title: String,
    dialogs: Dialogs,
    composition: Composition,
    settings_open: bool,
    /// Scroll to the end of the conversation in the next frame.
    show_end: bool,
    /// Which rows stand above the question: progress, errors, no pictures.
    composer_rows: (bool, usize, bool),
    meter: FrameMeter,
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
    pub fn new(ctx: &Context, backend: Box<dyn Backend>, adapter: String, state: State) -> Result<Self> {
        style::apply(ctx);
        ctx.memory_mut(|memory| memory.request_focus(composer_ui::text_id()));
        Ok(Self {
            state,
            backend,
            adapter,
            pictures: Pictures::start(ctx)?,
            samples: samples::load(ctx),
            title: String::new(),
            dialogs: Dialogs::default(),
            composition: Composition::default(),
            settings_open: false,
            show_end: false,
            composer_rows: (false, 0, true),
            meter: FrameMeter::default(),
        })
    }

    /// Loads a model, as if its folder had been chosen.
    pub fn open_model(&mut self, folder: PathBuf) {
        self.chosen(Chosen::Model(folder));
    }

    /// Adds pictures to the question, as if their files had been chosen.
    pub fn add_pictures(&mut self, files: Vec<PathBuf>) {
        self.chosen(Chosen::Pictures(files));
    }

    fn chosen(&mut self, chosen: Chosen) {
        match chosen {
            Chosen::Model(folder) => self.state.open_model(&folder, &mut *self.backend),
            Chosen::Pictures(files) => {
                for file in files {
                    let _ = self.pictures.add(&mut self.state, Origin::File(file));
                }
            }
        }
    }

    fn run_command(&mut self, ctx: &Context, frame: &eframe::Frame, command: Command) {
        let (state, backend) = (&mut self.state, &mut *self.backend);
        let goes_on_typing =
            !matches!(command, Command::CancelLoad | Command::UseModelDefaults | Command::UseSample(_));
        let asks = matches!(command, Command::Send | Command::AskAgain | Command::AskSample(_));
        match command {
            Command::ChooseModel => {
                let near = state.last_folder.as_ref().and_then(|folder| folder.parent()).map(PathBuf::from);
                self.dialogs.choose_model(ctx, frame, near);
            }
            Command::ChoosePictures => self.dialogs.choose_pictures(ctx, frame),
            Command::OpenModel(folder) => state.open_model(&folder, backend),
            Command::CancelLoad => state.cancel_load(),
            Command::RemovePicture(id) => state.remove_picture(id),
            Command::UseSample(index) => {
                if let Some(shown) = self.samples.get(index).filter(|_| state.chosen_sample() != Some(index))
                {
                    match samples::file(&shown.sample) {
                        Ok((name, bytes)) => {
                            let picture = self.pictures.add(state, Origin::Bytes(name, bytes));
                            state.sample_added(index, picture);
                        }
                        Err(error) => state.report(&error),
                    }
                }
            }
            Command::AskSample(question) => state.ask_sample(question, backend, Instant::now()),
            Command::Send => state.send(backend, Instant::now()),
            Command::Stop => state.stop(),
            Command::AskAgain => state.ask_again(backend, Instant::now()),
            Command::NewChat => state.new_chat(),
            Command::Dismiss(id) => state.dismiss(id),
            Command::UseModelDefaults => state.use_model_defaults(),
        }
        self.show_end |= asks;
        if goes_on_typing {
            ctx.memory_mut(|memory| memory.request_focus(composer_ui::text_id()));
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
}

impl eframe::App for WindowApp {
    fn logic(&mut self, ctx: &Context, _frame: &mut eframe::Frame) {
        for chosen in self.dialogs.poll() {
            match chosen {
                Ok(chosen) => self.chosen(chosen),
                Err(error) => self.state.report(&error),
            }
        }
        self.pictures.poll(ctx, &mut self.state);
        self.state.poll(&mut *self.backend, Instant::now());
    }

    fn ui(&mut self, ui: &mut Ui, frame: &mut eframe::Frame) {
        let now = Instant::now();
        self.meter.frame(now, self.state.is_busy());
        let title = self.state.title();
        if self.title != title {
            ui.ctx().send_viewport_cmd(ViewportCommand::Title(title.clone()));
            self.title = title;
        }
        self.take_input(&ui.ctx().clone());
        let mut commands = Vec::new();
        Panel::top("top bar").frame(panel_frame(ui)).show(ui, |ui| {
            top_bar_ui::top_bar_ui(ui, &self.state, &self.adapter, &mut self.settings_open, &mut commands);
        });
        Panel::right("settings")
            .resizable(true)
            .default_size(300.0)
            .size_range(240.0..=420.0)
            .show_collapsible(ui, &mut self.settings_open, |ui| {
                ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
                    settings_ui::settings_ui(ui, &mut self.state, &mut commands);
                });
            });
        Panel::bottom("composer").frame(panel_frame(ui)).show(ui, |ui| {
            status_ui::notices_ui(ui, &self.state.notices, &mut commands);
            if let Some(progress) = self.state.progress() {
                status_ui::progress_ui(ui, progress, now);
            }
            composer_ui::composer_ui(
                ui,
                &mut self.state,
                &self.pictures,
                &mut self.composition,
                &mut commands,
            );
        });
        let to_end = std::mem::take(&mut self.show_end);
        let rows =
            (self.state.progress().is_some(), self.state.notices.len(), self.state.draft.pictures.is_empty());
        if std::mem::replace(&mut self.composer_rows, rows) != rows {
            // The panel was laid out with the height it had before.
            ui.ctx().request_discard("rows came or went above the question");
        }
        CentralPanel::default().show(ui, |ui| {
            if self.state.turns.is_empty() {
                empty_ui::empty_ui(ui, &self.state, &self.samples, &mut commands);
            } else {
                chat_ui::chat_ui(ui, &self.state, &self.pictures, to_end, &mut commands);
            }
        });
        drop_overlay(ui.ctx());
        let ctx = ui.ctx().clone();
        for command in commands {
            self.run_command(&ctx, frame, command);
            ctx.request_repaint();
        }
        if self.state.is_busy() {
            ctx.request_repaint_after(TICK);
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
    let painter = ctx.layer_painter(LayerId::new(Order::Foreground, egui::Id::unique("drop overlay")));
    let (rect, visuals) = (ctx.content_rect(), ctx.global_style().visuals.clone());
    painter.rect_filled(rect, 0.0, visuals.extreme_bg_color.gamma_multiply(0.94));
    let (font, colour) = (FontId::proportional(24.0), visuals.strong_text_color());
    for (text, place) in [
        ("Drop pictures to add them,", Align2::CENTER_BOTTOM),
        ("or a model folder to open it", Align2::CENTER_TOP),
    ] {
        painter.text(rect.center(), place, text, font.clone(), colour);
    }
}
