//! The command line: one file a subcommand, on the same library the window uses. Answers go to standard
//! output, all else to standard error.

pub mod batch;
pub mod bench;
pub mod compare;
pub mod convert;
pub mod devices;
mod elsewhere;
pub mod generate;
pub mod licences;
pub mod models;
pub mod profile;
pub mod sampling;
pub mod synth;
pub mod trace;
pub mod workload;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Parser, Subcommand};

use crate::engine::Wake;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Gpu, GpuOptions};
use crate::model::builtin;
use crate::model::calibration;
use crate::model::kv_cache::KvFormat;
use crate::model::loaded::LoadOptions;
use crate::model::recipe::Recipe;
use crate::model::source::{ModelSource, Wanted};
use convert::ProgressLine;

/// Talk about pictures with Qwen3-VL, in one process, on any GPU.
///
/// Without a command the window opens. Models are folders: a checkpoint as on the Hugging Face hub (converted once, into the
/// cache), or one made by `ocelli convert`; or GGUF files; without one, a small demo model runs that knows drawn shapes only. Answers go to standard output, everything else to standard error; the exit
/// status is 0, or 1 with one line that says what went wrong and what to do.
#[derive(Parser, Debug)]
#[command(name = "ocelli", version, max_term_width = 110)]
pub struct Cli {
    /// What to do; nothing: open the window
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to open in the window: pictures, a folder of frames, an exported chat, a comparison, a model
    #[arg(value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub files: Vec<PathBuf>,
    /// Model and device for the window
    #[command(flatten)]
    pub window: ModelArgs,
    /// Folder for the window's conversations and preferences instead of the system's place for them
    #[arg(long, value_name = "FOLDER", env = "OCELLI_DATA", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub data: Option<PathBuf>,
    /// The program's own: what the window before this one has left
    #[arg(long, hide = true, value_name = "TEXT")]
    pub after_loss: Option<String>,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Ask a question about pictures, or just a question
    Generate(Box<generate::GenerateArgs>),
    /// Answer many questions from a file, eight at a time
    Batch(Box<batch::BatchArgs>),
    /// Test prompts, settings, pictures and models next to each other
    Compare(Box<compare::CompareArgs>),
    /// Make a hub checkpoint into the form Ocelli loads
    Convert(convert::ConvertArgs),
    /// Find, download, verify, name and remove models
    Models(models::ModelsArgs),
    /// Measure speed and memory
    Bench(bench::BenchArgs),
    /// List the time by kernel, beside what the device could do
    Profile(profile::ProfileArgs),
    /// Record every stage of a prompt, for comparing numbers
    Trace(trace::TraceArgs),
    /// Print the licences of the program and of everything in it
    #[command(alias = "licenses")]
    Licences(licences::LicencesArgs),
    /// List the adapters of this machine
    Devices(devices::DevicesArgs),
    /// Write a checkpoint of a real size with random weights, for measuring
    Synth(synth::SynthArgs),
}

/// Which model, and on which device.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ModelArgs {
    /// The model: the folder of a hub checkpoint or of a converted one, a GGUF file (its vision file is found beside it), or demo, the small one in this program, which is also
    /// what runs without this
    // Not clap's own parser of paths: a variable that is set to nothing would be a mistake there.
    #[arg(long, value_name = "MODEL", env = "OCELLI_MODEL", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub model: Option<PathBuf>,

    /// How to store the weights of a hub checkpoint: int8hu (the default), int8lin, f16 or f32; f16 and f32 also of a
    /// converted int8 model
    #[arg(long, value_name = "RECIPE")]
    pub recipe: Option<Recipe>,

    /// How to store keys and values in the KV cache: f16 (the default), int8 (half the memory, at a small cost in accuracy
    /// that docs/guide/models.md states) or f32 (the default of the recipe f32)
    #[arg(long, value_name = "FORMAT")]
    pub kv: Option<KvFormat>,

    /// Load the model without its vision tower, for texts only: saves its memory, and lets a GGUF file without its vision file
    /// answer
    #[arg(long)]
    pub text_only: bool,

    /// Tokens of context to make room for: prompt, pictures and answer together; 8192 by default, or what the model allows
    #[arg(long, value_name = "TOKENS")]
    pub context: Option<usize>,

    /// Gigabytes the model may take on the device, where what the system reports is not what you want
    #[arg(long, value_name = "GB", env = "OCELLI_MEMORY_LIMIT")]
    pub memory_limit: Option<String>,

    /// Adapter: part of its name or its number in `ocelli devices`
    #[arg(long, value_name = "NAME", env = "OCELLI_ADAPTER")]
    pub adapter: Option<String>,
}

impl ModelArgs {
    /// The device asked for.
    #[must_use]
    pub fn gpu_options(&self) -> GpuOptions {
        GpuOptions { adapter: self.adapter.clone(), ..GpuOptions::default() }
    }

    /// What to open for the model asked for, or the one in this program, which is then named on standard error. A variable that is
    /// set to nothing asks for none.
    ///
    /// # Errors
    /// There is no model of that name.
    pub fn choose(&self) -> Result<PathBuf> {
        match &self.model {
            Some(model) if !model.as_os_str().is_empty() => models::library()?.resolve(model),
            _ => {
                say(&format!(
                    "no --model and no OCELLI_MODEL: this is {} (README.md says how to get Qwen3-VL itself)",
                    builtin::FULL_NAME
                ));
                Ok(builtin::NAME.into())
            }
        }
    }

    /// The room to make for it.
    ///
    /// # Errors
    /// That is no context any model could have.
    pub fn load_options(&self) -> Result<LoadOptions> {
        const MOST: usize = 1 << 26;
        // A variable that is set to nothing limits nothing.
        let memory_limit = self.memory_limit.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let memory_limit_bytes = match memory_limit.map(|text| (text, text.parse::<f64>())) {
            Some((_, Ok(gigabytes))) if gigabytes.is_finite() && gigabytes > 0.0 => {
                Some((gigabytes * 1e9) as u64)
            }
            Some((text, _)) => {
                let why = format!("{text} is no number of gigabytes");
                return Err(Error::new("reading --memory-limit", why).help("6.5 means 6.5 GB"));
            }
            None => None,
        };
        let usual = LoadOptions {
            memory_limit_bytes,
            text_only: self.text_only,
            kv: self.kv,
            ..LoadOptions::default()
        };
        let Some(context) = self.context else { return Ok(usual) };
        if context == 0 || context > MOST {
            let why = format!("{context} is no number of tokens from 1 to {MOST}");
            return Err(Error::new("reading --context", why).help("8192 is the default"));
        }
        Ok(LoadOptions { context, up_to: false, ..usual })
    }

    /// What the command line can do about a model that does not fit.
    #[must_use]
    pub fn advise(error: Error) -> Error {
        match error.get_kind() {
            ErrorKind::DoesNotFit => error.help("set a smaller --context"),
            _ => error,
        }
    }

    /// Opens the device; it runs the kernels that were measured to be the fastest there, if any were.
    ///
    /// # Errors
    /// No adapter.
    pub fn device(&self) -> Result<Gpu> {
        let gpu = Gpu::new(&self.gpu_options())?;
        calibration::apply_remembered(&gpu);
        Ok(gpu)
    }

    /// Opens the device and the model's files, converting a hub checkpoint if need be.
    ///
    /// # Errors
    /// No adapter, no model, or a damaged one.
    pub fn open(&self) -> Result<(Gpu, ModelSource)> {
        let model = self.choose()?;
        // The device first: without one nobody wants to wait for a conversion.
        let gpu = self.device()?;
        calibration::settle(&gpu, &AtomicBool::new(false))?;
        let mut line = ProgressLine::new("converting");
        let wanted = Wanted { recipe: self.recipe, text_only: self.text_only };
        let source = ModelSource::resolve(&model, wanted, &mut |p| line.show(p), &AtomicBool::new(false));
        line.end();
        let source = source?;
        source.notes.iter().for_each(|note| say(&format!("note: {note}")));
        Ok((gpu, source))
    }
}

/// Runs what was asked for.
///
/// # Errors
/// Whatever stopped it.
pub fn run(cli: &Cli) -> Result<()> {
    match &cli.command {
        None => crate::app::run(&crate::app::WindowOptions {
            gpu: cli.window.gpu_options(),
            model: match cli.window.model.as_ref().filter(|model| !model.as_os_str().is_empty()) {
                Some(model) => Some(models::library()?.resolve(model)?),
                None => None,
            },
            files: cli.files.iter().map(|file| existing(file)).collect::<Result<_>>()?,
            data: cli.data().map(PathBuf::from),
            show_changed_at: None,
            model_as: None,
            after: None,
            recipe: cli.window.recipe,
            context: cli.window.load_options()?.context,
            memory_limit_bytes: cli.window.load_options()?.memory_limit_bytes,
            text_only: cli.window.text_only,
            kv: cli.window.kv,
        }),
        Some(Command::Generate(args)) => generate::run(args),
        Some(Command::Batch(args)) => batch::run(args),
        Some(Command::Compare(args)) => compare::run(args),
        Some(Command::Convert(args)) => convert::run(args),
        Some(Command::Models(args)) => models::run(args),
        Some(Command::Bench(args)) => bench::run(args),
        Some(Command::Profile(args)) => profile::run(args),
        Some(Command::Trace(args)) => trace::run(args),
        Some(Command::Licences(args)) => licences::run(args),
        Some(Command::Devices(args)) => devices::run(args),
        Some(Command::Synth(args)) => synth::run(args),
    }
}

impl Cli {
    /// The window's folder, where one is given. A variable that is set to nothing gives none.
    fn data(&self) -> Option<&Path> {
        self.data.as_deref().filter(|folder| !folder.as_os_str().is_empty())
    }

    /// Where the log goes besides standard error: the window has no terminal that somebody reads.
    #[must_use]
    pub fn log_folder(&self) -> Option<PathBuf> {
        // A command that is mistyped looks like a file that is not there: it opens none, and leaves nothing.
        let opens_window = self.command.is_none() && self.files.iter().all(|file| existing(file).is_ok());
        let places = opens_window.then(|| crate::app::Places::find(self.data()).ok()).flatten()?;
        places.folder().map(|data| crate::log::folder_in(&data))
    }
}

/// A file the window is to open, by its whole path: it may be remembered longer than the folder the program runs in.
fn existing(file: &Path) -> Result<PathBuf> {
    const DOING: &str = "opening what the command line names";
    let path = std::path::absolute(file).map_err(|e| Error::new(DOING, e).at_path(file))?;
    match path.try_exists() {
        Ok(true) => Ok(path),
        Ok(false) => {
            let why = format!("'{}' is neither a command nor a file or folder", file.display());
            Err(Error::new(DOING, why).help("`ocelli --help` lists the commands"))
        }
        Err(e) => Err(Error::new(DOING, e).at_path(file)),
    }
}

/// Called after each event of an engine, and where it is noticed.
pub(crate) fn waker() -> (Wake, Receiver<()>) {
    // One token in it is enough: after it every answer is looked at.
    let (sender, woken) = mpsc::sync_channel(1);
    let wake = move || {
        let _ = sender.try_send(());
    };
    (Arc::new(wake), woken)
}

/// Writes to standard output; a reader that went away is no error of ours.
pub(crate) fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::new("writing to standard output", e).help("send it somewhere else"))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error. Nobody can be told that standard error is closed.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    drop(std::io::stderr().lock().write_all(format!("{text}\n").as_bytes()));
}

/// What is wrong with the words of a command, on one line: clap's own message takes several.
#[must_use]
pub fn usage_error(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    let mut cause = String::new();
    let mut command = "ocelli";
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            // "ocelli generate [OPTIONS] [PROMPT]" and the like
            let words = usage.find(" [").into_iter().chain(usage.find(" <")).chain(usage.find(" --")).min();
            command = &usage[..words.unwrap_or(usage.len())];
        } else if !line.starts_with("For more information") {
            let separator = match line.starts_with("tip:") {
                _ if cause.is_empty() => "",
                true => "; ",
                false => " ",
            };
            cause = cause + separator + line.strip_prefix("error: ").unwrap_or(line);
        }
    }
    Error::new("reading the command line", cause).help(format!("`{command} --help` shows what can be said"))
}

/// Writes a JSON object and a newline to standard output.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|e| Error::new("writing JSON", e))?;
    print(&(text + "\n"))
}
