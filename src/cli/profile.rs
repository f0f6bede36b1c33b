//! `ocelli profile`: time by kernel, kind and layer, beside the device's ceilings.

mod roofline;
pub(super) mod table;

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};

use super::workload::{Workload, WorkloadArgs, patches};
use super::{ModelArgs, print, print_json, say};
use crate::error::{Error, Result};
use crate::gpu::{GroupBy, ProfileReport};
use crate::model::loaded::LoadedModel;
use crate::model::stages::{DECODE, PREFILL, VISION};
use table::Sort;

/// List the time by kernel within the vision tower, prefill and decoding, and how near each comes to what the device could do.
///
/// Each kernel is timed on its own, which slows things; the same work is timed without that too, so that you see by how
/// much. Operations and bytes are those that the work asks for at least. roof is the share of the lower of two ceilings, which are
/// measured first: reading, and multiplying and adding. It passes 100 % where data comes out of caches.
#[derive(clap::Args, Clone, Debug)]
pub struct ProfileArgs {
    /// Model and device
    #[command(flatten)]
    pub model: ModelArgs,

    /// Prompt, picture and batch
    #[command(flatten)]
    pub work: WorkloadArgs,

    /// Decode steps to time
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub new_tokens: usize,

    /// Print one table only: by kernel, by kind (what is computed), or by layer
    #[arg(long, value_name = "kernel|kind|layer")]
    pub by: Option<By>,

    /// Sort by time, bandwidth, operations a second, dispatches, or the share of the roofline
    #[arg(long, value_name = "ms|gb_s|gflop_s|count|roofline", default_value = "ms")]
    pub sort: Sort,

    /// Also draw the roofline into this file, an SVG picture
    #[arg(long, value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub svg: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Each kernel.
    Kernel,
    /// What is computed.
    Kind,
    /// Each layer.
    Layer,
}

impl std::str::FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kernel" => Ok(Self::Kernel),
            "kind" => Ok(Self::Kind),
            "layer" => Ok(Self::Layer),
            _ => Err("write kernel, kind or layer".to_owned()),
        }
    }
}

/// The same work of a part without its kernels timed, and with.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Beside {
    /// Vision, prefill, decode.
    pub part: &'static str,
    /// As it runs, milliseconds by the clock of the processor.
    pub plain_ms: f64,
    /// With each kernel timed.
    pub profiled_ms: f64,
    /// Decoding as it runs by the clock of the device: its steps from their begins to their ends, added up.
    pub plain_device_ms: Option<f64>,
}

/// What `--json` prints.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ProfileOutput {
    /// The model's name.
    pub model: String,
    /// How its weights are stored.
    pub recipe: &'static str,
    /// How keys and values are stored.
    pub kv: &'static str,
    /// Tokens of the prompt, those of the picture counted.
    pub prompt_tokens: usize,
    /// Of those, of the picture.
    pub image_tokens: usize,
    /// Steps of decoding.
    pub new_tokens: usize,
    /// Sessions in a step.
    pub batch: usize,
    /// What was timed.
    #[serde(flatten)]
    pub profile: ProfileReport,
    /// How much that slowed it.
    pub beside: Vec<Beside>,
}

/// Runs the command.
///
/// # Errors
/// The adapter has no timestamps, the model cannot be loaded or does not fit, or the device failed.
pub fn run(args: &ProfileArgs) -> Result<()> {
    let size = args.work.check(args.new_tokens, "profile")?;
    let options = args.model.load_options()?;
    let (gpu, source) = args.model.open()?;
    gpu.check_timestamps()?;
    say("measuring the device's ceilings");
    // Before the model takes its memory. Without them the table says less.
    if let Err(error) = gpu.ceilings() {
        say(&format!("note: {error}"));
    }
    say("loading");
    let options = options.for_model(&source.model);
    let mut model =
        LoadedModel::load(&gpu, &source.model, &options, &mut |_, _| Ok(())).map_err(ModelArgs::advise)?;
    let size = patches(size, &model)?;
    let mut workload = Workload::new(&gpu, &mut model, size);
    let image_tokens = workload.image_tokens();
    let prompt = args.work.prompt_tokens.saturating_add(image_tokens);
    let each = workload.room(args.work.batch, prompt.saturating_add(args.new_tokens))?;
    let slots: Vec<usize> = (0..args.work.batch).collect();
    say("warming up: compiling kernels");
    workload.warm_up(&slots, prompt)?;
    let runs = Runs { slots: &slots, prompt, each, steps: args.new_tokens };
    let (profile, beside) = profile(&mut workload, &runs)?;
    if let Some(file) = &args.svg {
        std::fs::write(file, roofline::svg(&profile)).map_err(|e| {
            Error::new("writing the roofline", e).at_path(file).help("choose another place for --svg")
        })?;
        say(&format!("the roofline is in {}", file.display()));
    }
    let output = ProfileOutput {
        model: source.name,
        recipe: model.recipe.name(),
        kv: model.cache.format.name(),
        prompt_tokens: prompt,
        image_tokens,
        new_tokens: args.new_tokens,
        batch: args.work.batch,
        profile,
        beside,
    };
    if args.json { print_json(&output) } else { print(&text(&output, args)) }
}

/// What is run.
pub(super) struct Runs<'a> {
    /// The sessions of a decode step.
    pub slots: &'a [usize],
    /// Tokens of the prompt, pictures included.
    pub prompt: usize,
    /// Tokens of context for each session, in whole pages.
    pub each: usize,
    /// Decode steps.
    pub steps: usize,
}

/// Runs each part as it is and then with its kernels timed.
pub(super) fn profile(workload: &mut Workload<'_>, runs: &Runs<'_>) -> Result<(ProfileReport, Vec<Beside>)> {
    say("as it runs");
    if workload.size.is_some() {
        // The first picture makes working memory.
        workload.encode()?;
    }
    let plain = run_parts(workload, runs)?;
    say("with each kernel timed");
    workload.model.recorder.set_profiling(true)?;
    let timed = run_parts(workload, runs);
    let report = workload.model.recorder.profile();
    workload.model.recorder.set_profiling(false)?;
    let (timed, report) = timed.and_then(|timed| {
        let report = report.ok_or_else(|| Error::new("timing kernels", "nothing was timed"))?;
        Ok((timed, report))
    })?;
    let ceilings = workload.model.gpu.known_ceilings();
    let beside = plain.into_iter().zip(timed).map(|(plain, timed)| Beside {
        part: plain.part,
        plain_ms: plain.ms,
        profiled_ms: timed.ms,
        plain_device_ms: plain.device_ms,
    });
    Ok((ProfileReport { ceilings, ..report }, beside.collect()))
}

/// A part as it was run.
struct Ran {
    part: &'static str,
    ms: f64,
    device_ms: Option<f64>,
}

fn run_parts(workload: &mut Workload<'_>, runs: &Runs<'_>) -> Result<Vec<Ran>> {
    let mut all = Vec::new();
    let image_tokens = workload.image_tokens();
    if workload.size.is_some() {
        all.push(Ran { part: VISION, ms: workload.encode()?, device_ms: None });
    }
    let secs = workload.session(0, 0, runs.prompt, image_tokens)?;
    all.push(Ran { part: PREFILL, ms: secs * 1e3, device_ms: None });
    for &slot in runs.slots {
        workload.place(slot, slot * runs.each, runs.prompt);
    }
    let decoded = workload.decode(runs.slots, runs.prompt, runs.steps)?;
    let device_ms = (decoded.device_ms.len() == runs.steps).then(|| decoded.device_ms.iter().sum());
    all.push(Ran { part: DECODE, ms: decoded.secs * 1e3, device_ms });
    Ok(all)
}

fn text(output: &ProfileOutput, args: &ProfileArgs) -> String {
    let profile = &output.profile;
    let mut text = format!(
        "{} ({})\n{} {}, KV cache {}; a prompt of {} tokens ({} of a picture), {} steps of {} session{}\n",
        profile.adapter,
        profile.driver,
        output.model,
        output.recipe,
        output.kv,
        output.prompt_tokens,
        output.image_tokens,
        output.new_tokens,
        output.batch,
        if output.batch == 1 { "" } else { "s" }
    );
    text += &table::ceilings(profile);
    for part in &profile.parts {
        let mut tables = Vec::new();
        if args.by.is_none_or(|by| by == By::Kernel) {
            tables.push(table::rows(profile, &part.part, GroupBy::Kernel, args.sort));
        }
        if args.by.is_none_or(|by| by == By::Kind) {
            tables.push(table::rows(profile, &part.part, GroupBy::Kind, args.sort));
        }
        if args.by.is_none_or(|by| by == By::Layer) {
            tables.push(table::layers(profile, &part.part));
        }
        text += &format!("\n{}{}", table::head(part), tables.join("\n"));
    }
    text += "\nas it runs, and with each kernel timed\n";
    for run in &output.beside {
        let slower = (run.profiled_ms / run.plain_ms - 1.0) * 100.0;
        text += &format!(
            "{:<8} {:>10.2} ms {:>10.2} ms ({slower:+.0} %)",
            run.part, run.plain_ms, run.profiled_ms
        );
        if let Some(device) = run.plain_device_ms {
            text += &format!(", {device:.2} ms of the former in steps on the device");
        }
        text += "\n";
    }
    text + "\n" + &table::wrapped(&profile.method, 110)
}
