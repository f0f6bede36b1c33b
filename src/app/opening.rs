//! Room `app`: opens the window on the engine's own device, and opens it again when that device is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eframe::egui_wgpu::{WgpuConfiguration, WgpuSetup, WgpuSetupExisting};
use egui::ViewportBuilder;

use super::device_loss::{self, DeviceWatch, Left};
use super::machine_ui::words_after;
use super::opened_files::OpenedFiles;
use super::preferences::Preferences;
use super::state::State;
use super::texts::texts;
use super::window::{WAKE_DELAY, WindowApp};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Gpu, GpuOptions};
use crate::log;
use crate::model::calibration;
use crate::model::kv_cache::KvFormat;
use crate::model::memory::Room;
use crate::model::recipe::Recipe;
use crate::remote::Keys;

/// By this name the desktop knows the window: its desktop entry is called so (packaging/linux).
const APP_ID: &str = "org.ocelli.Ocelli";
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
    /// What to open besides: pictures, clips, chats, comparisons; a model among it comes before `model`.
    pub files: Vec<PathBuf>,
    /// The folder of conversations and preferences; `None`: the system's place for them.
    pub data: Option<PathBuf>,
    /// Show the conversation that was changed then, milliseconds since 1970, or the one changed last where none was; `None`: an empty one.
    pub show_changed_at: Option<i64>,
    /// How `model` is asked for: its recipe, and for texts only; `None`: as all are.
    pub model_as: Option<(Option<Recipe>, bool)>,
    /// What happened to the window before this one.
    pub after: Option<After>,
    /// The recipe for hub checkpoints; `None`: the engine's choice.
    pub recipe: Option<Recipe>,
    /// Tokens of context to make room for.
    pub context: usize,
    /// Models are loaded without their vision towers.
    pub text_only: bool,
    /// How keys and values are stored; `None`: as the recipe has it.
    pub kv: Option<KvFormat>,
    /// Bytes a model may take at most; `None`: what adapter and machine report.
    pub memory_limit_bytes: Option<u64>,
}

/// What the window tells of the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// Its device was lost.
    Loss,
    /// Another adapter was chosen in the settings; there is nothing to tell.
    Chosen,
    /// It panicked, and said this.
    Panic(String),
    /// The adapter that was wanted cannot be used.
    AdapterGone {
        /// Its name.
        wanted: String,
        /// The one that is used instead.
        got: String,
    },
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
    /// The folder of it all; `None` where nothing is kept.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        self.history.as_ref().and_then(|file| file.parent()).map(Path::to_path_buf)
    }

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
    let opened = OpenedFiles::default();
    #[cfg(target_os = "macos")]
    super::opened_on_macos::listen(opened.clone());
    loop {
        let Some(left) = run_once(&options, &places, &opened, losses)? else { return Ok(()) };
        losses = left.losses;
        if losses > MOST_LOSSES {
            let (why, help) = match &left.panic {
                Some(panic) => (panic.as_str(), "report it; what was written is kept"),
                None => (
                    "the device was lost again and again",
                    "update the graphics driver, or choose another adapter with --adapter",
                ),
            };
            let error = Error::new("opening the window again", why).help(help);
            return Err(if left.panic.is_some() { error } else { error.kind(ErrorKind::DeviceLost) });
        }
        if !left.opens_again {
            // The loop of events ended in a panic.
            return device_loss::start_anew(&left);
        }
        match &left.adapter {
            Some(name) => tracing::info!("opening the window on {name}"),
            None if left.is_chosen => tracing::info!("opening the window on the best adapter"),
            None => tracing::warn!("the device was lost; opening the window on a new one"),
        }
        options.go_on_from(&left);
    }
}

impl WindowOptions {
    fn go_on_from(&mut self, left: &Left) {
        if let Some(model) = &left.model {
            self.model = Some(model.clone());
            self.model_as = Some(left.opened_as);
        }
        self.show_changed_at = left.chat;
        // They have been opened.
        self.files.clear();
        if left.is_chosen {
            self.gpu.adapter.clone_from(&left.adapter);
        }
        self.after = match (&left.panic, left.is_chosen) {
            (Some(why), _) => Some(After::Panic(why.clone())),
            (None, true) => Some(After::Chosen),
            (None, false) => Some(After::Loss),
        };
    }

    /// Opens the device. An adapter that is named and cannot be used is no reason to stay closed where it was chosen in the settings, or
    /// has been there until now: the best one is taken, and the window says so.
    fn open_device(&mut self, preferences: &Preferences) -> Result<Gpu> {
        let named_now = self.gpu.adapter.is_some() && self.after.is_none();
        let wanted = self.gpu.adapter.clone().or_else(|| preferences.adapter.clone());
        let error = match Gpu::new(&GpuOptions { adapter: wanted.clone(), ..self.gpu.clone() }) {
            Err(error) if !named_now && wanted.is_some() => error,
            opened => return opened,
        };
        tracing::warn!("{error}");
        let gpu = Gpu::new(&GpuOptions { adapter: None, ..self.gpu.clone() })?;
        self.gpu.adapter = None;
        let (wanted, got) = (wanted.unwrap_or_default(), gpu.adapter_name().to_owned());
        self.after = Some(After::AdapterGone { wanted, got });
        Ok(gpu)
    }
}

/// A window that lost its device or panicked this often, one time soon after the other, stays closed.
const MOST_LOSSES: u32 = 5;
/// A window that lived as long has made good for those before it: a computer that sleeps every day may lose its device each time.
const LONG_ENOUGH: Duration = Duration::from_mins(5);

/// Losses in a row, with that of a window that was opened then.
fn one_more(losses: u32, opened: Instant) -> u32 {
    if opened.elapsed() >= LONG_ENOUGH { 1 } else { losses + 1 }
}

/// The window as it was left, or as it is at first.
fn viewport(preferences: &Preferences) -> Result<ViewportBuilder> {
    let mut viewport = ViewportBuilder::default()
        .with_title("Ocelli")
        .with_app_id(APP_ID)
        .with_inner_size([1100.0, 760.0])
        .with_min_inner_size([420.0, 320.0])
        .with_icon(icon()?);
    if let Some(place) = &preferences.window {
        viewport = viewport.with_inner_size(place.size).with_maximized(place.maximized);
        if let Some(position) = place.position {
            viewport = viewport.with_position(position);
        }
    }
    Ok(viewport)
}

/// One window on one device; what it leaves when the device was lost.
fn run_once(
    options: &WindowOptions,
    places: &Places,
    opened: &OpenedFiles,
    losses: u32,
) -> Result<Option<Left>> {
    const DOING: &str = "opening the window";
    let start = Instant::now();
    let mut options = options.clone();
    let (preferences, unread) = places.preferences.as_deref().map(Preferences::read).unwrap_or_default();
    let gpu = options.open_device(&preferences)?;
    tracing::info!("Ocelli {} on {}", env!("CARGO_PKG_VERSION"), gpu.adapter_name());
    calibration::apply_remembered(&gpu);
    let adapter = gpu.adapter_name().to_owned();
    let viewport = viewport(&preferences)?;
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
    let room = options.memory_limit_bytes.map(Room::limited).or_else(|| Room::of(&gpu));
    let (places, opened) = (places.clone(), opened.clone());
    let window = move || {
        eframe::run_native(
            "Ocelli",
            native,
            Box::new(move |creation| {
                #[cfg(all(unix, not(target_os = "macos")))]
                super::unseen::watch(creation);
                let ctx = creation.egui_ctx.clone();
                gpu.when_lost(move || ctx.request_repaint());
                let ctx = creation.egui_ctx.clone();
                let engine = Engine::start(gpu, Arc::new(move || ctx.request_repaint_after(WAKE_DELAY)))?;
                let mut state = State::new(options.context, options.recipe);
                (state.text_only, state.first_as) = (options.text_only, options.model_as);
                let chosen = preferences.kv.as_deref().and_then(|name| name.parse().ok());
                state.kv = options.kv.or(chosen);
                state.memory_limit_bytes = options.memory_limit_bytes;
                state.elsewhere.keys = Keys::system();
                state.chat.draft.text.clone_from(&preferences.unsent);
                state.usual_settings.clone_from(&preferences.settings);
                state.chat.settings.clone_from(&preferences.settings);
                let ctx = &creation.egui_ctx;
                let mut app = WindowApp::new(ctx, Box::new(engine), adapter, state, places, preferences)?;
                app.models.room = room;
                app.models.look();
                (app.started, app.loading_since) = (Some(start), Some(start));
                app.watch = Some(watch);
                app.opened = opened;
                app.open_given(options.files, options.model);
                app.state.show_changed_at = options.show_changed_at;
                if let Some(error) = unread {
                    app.state.report(&error);
                }
                let words =
                    options.after.as_ref().and_then(|after| words_after(after, texts(&creation.egui_ctx)));
                if let Some((text, is_error)) = words {
                    app.state.tell(text, is_error);
                }
                Ok(Box::new(app))
            }),
        )
    };
    let ended = match catch_unwind(AssertUnwindSafe(window)) {
        Ok(ended) => ended,
        // egui_wgpu panics when the device is lost while it draws.
        Err(_) if device.find_out_if_lost() => {
            tracing::warn!("the device was lost while a frame was drawn; starting anew");
            let losses = one_more(losses, start);
            return Ok(Some(Left { losses, opens_again: false, ..left.take() }));
        }
        // The window's state is in the history and in the preferences: dropping it has written them.
        Err(panic) => {
            let error = log::panicked("drawing the window", &*panic);
            tracing::error!("{}; starting anew", error.for_log());
            let losses = one_more(losses, start);
            // Where the program starts anew this is among its arguments, which others on the machine can read.
            let panic = Some(error.for_log());
            return Ok(Some(Left { losses, panic, opens_again: false, ..left.take() }));
        }
    };
    ended.map_err(|e| match e {
        eframe::Error::AppCreation(e) => Error::new(DOING, e),
        eframe::Error::Wgpu(e) => Error::new(DOING, e).help(
            "this adapter may be unable to draw on this display: `ocelli devices` lists others for --adapter",
        ),
        e => with_library_help(Error::new(DOING, e)),
    })?;
    let left = left.take();
    let losses = if left.is_chosen { losses } else { one_more(losses, start) };
    Ok(left.opens_again.then_some(Left { losses, ..left }))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(adapter: Option<&str>, after: Option<After>) -> WindowOptions {
        WindowOptions {
            gpu: GpuOptions { adapter: adapter.map(str::to_owned), ..GpuOptions::default() },
            model: None,
            files: Vec::new(),
            data: None,
            show_changed_at: None,
            model_as: None,
            after,
            recipe: None,
            context: 2048,
            text_only: false,
            kv: None,
            memory_limit_bytes: None,
        }
    }

    #[test]
    fn an_adapter_that_was_chosen_and_cannot_be_opened_is_replaced_and_one_of_the_command_line_is_not() {
        const NAME: &str = "Nobody's adapter";
        let usual = Preferences::default();
        let error = named(Some(NAME), None).open_device(&usual).unwrap_err();
        assert!(error.to_string().contains(NAME), "{error}");

        let remembered = Preferences { adapter: Some(NAME.to_owned()), ..Preferences::default() };
        for (mut options, preferences) in [
            // Chosen in the settings just now; there when the device was lost; kept from another day.
            (named(Some(NAME), Some(After::Chosen)), &usual),
            (named(Some(NAME), Some(After::Loss)), &usual),
            (named(None, None), &remembered),
        ] {
            let got = options.open_device(preferences).unwrap().adapter_name().to_owned();
            assert_eq!(options.after, Some(After::AdapterGone { wanted: NAME.to_owned(), got }));
            assert_eq!(options.gpu.adapter, None, "it is not asked for again after a loss");
        }
        let mut options = named(None, None);
        options.open_device(&usual).unwrap();
        assert_eq!(options.after, None);
    }
}
