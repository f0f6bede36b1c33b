//! `ocelli bench`: speed and memory of a model on this machine, each figure beside the device's own limit.

mod bare;
mod sweep;

use std::sync::atomic::AtomicBool;

use super::profile::{self, table};
use super::workload::{Workload, WorkloadArgs, patches};
use super::{ModelArgs, print, print_json, say};
use crate::error::Result;
use crate::gpu::{Gpu, ProfileReport, Tuning, measure_read_bandwidth};
use crate::model::calibration::{self, Candidate};
use crate::model::loaded::{LoadedModel, MemoryPlan};

/// Measure speed and memory: the vision tower, prefill, decoding, and the device's own read bandwidth in the same run.
///
/// Tokens and pixels are random; speed does not depend on what they are. Decoding is greedy, with a few steps in flight as in
/// a conversation. bandwidth_share is what decoding reads a second over what the device can read.
#[derive(clap::Args, Clone, Debug)]
pub struct BenchArgs {
    /// Model and device
    #[command(flatten)]
    pub model: ModelArgs,

    /// Prompt, picture and batch
    #[command(flatten)]
    pub work: WorkloadArgs,

    /// Tokens to decode in each session
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub new_tokens: usize,

    /// Also list the time by kernel, in one more run of each part, slower for it
    #[arg(long)]
    pub profile: bool,

    /// Measure again which kernels are the fastest on this device, and keep the choice for this and other commands
    #[arg(long)]
    pub tune: bool,

    /// Measure along the context (to 32768 tokens), the prompt (to 4096), the batch (to 8) and the picture (to 1792 pixels), as
    /// far as --context allows, instead of one point
    #[arg(long)]
    pub sweep: bool,

    /// With --sweep: seconds a point may take; longer ones end their row
    #[arg(long, value_name = "S", default_value_t = 60.0)]
    pub longest: f64,

    /// Times each part is measured; the median is reported
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub repeat: usize,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What was measured; `--json` prints it as it is.
#[derive(Clone, Debug, serde::Serialize)]
pub struct BenchReport {
    /// The adapter's name.
    pub adapter: String,
    /// Its driver and version.
    pub driver: String,
    /// The model folder's name.
    pub model: String,
    /// How its weights are stored.
    pub recipe: &'static str,
    /// How keys and values are stored.
    pub kv: &'static str,
    /// Bytes the KV cache takes for a token of context, in all layers.
    pub kv_bytes_per_token: usize,
    /// From opening the files to the last byte on the device, seconds.
    pub load_s: f64,
    /// The picture through the tower, milliseconds; null without one.
    pub vision_ms: Option<f64>,
    /// Image tokens of the picture.
    pub image_tokens: usize,
    /// Prompt tokens a second, pictures' tokens counted.
    pub prefill_tok_s: f64,
    /// Tokens a second over all sessions.
    pub decode_tok_s: f64,
    /// Sessions in a step.
    pub batch: usize,
    /// Picture, prompt and first token, milliseconds.
    pub ttft_ms: f64,
    /// Bytes a decode step reads: weights, and keys and values at the middle of the answer.
    pub bytes_per_token: usize,
    /// Tokens a second if a step were its matrix products alone, on the same kernels in the same run.
    pub decode_bare_tok_s: f64,
    /// The ratio of the two.
    pub decode_share: f64,
    /// Prompt tokens a second if prefill were its matrix products alone.
    pub prefill_bare_tok_s: f64,
    /// The ratio of the two.
    pub prefill_share: f64,
    /// The tower's matrix products alone, milliseconds.
    pub vision_bare_ms: Option<f64>,
    /// The ratio of the two.
    pub vision_share: Option<f64>,
    /// The kernels that matrix products ran on.
    pub tuning: Tuning,
    /// Those bytes a second, GB/s.
    pub decode_gb_s: f64,
    /// The device's own read bandwidth, GB/s.
    pub copy_gb_s: f64,
    /// The ratio of the two.
    pub bandwidth_share: f64,
    /// The process's largest resident size, MB; null where the system does not tell.
    pub peak_rss_mb: Option<f64>,
    /// Buffers on the device, MB.
    pub gpu_mb: f64,
    /// Time by kernel, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileReport>,
    /// Memory right after loading, before any picture or prompt.
    #[serde(flatten)]
    pub loading: Loading,
}

/// What loading took, beside what was announced.
#[derive(Clone, Copy, Debug, serde::Serialize)]
#[expect(clippy::struct_field_names, reason = "names in JSON say their units")]
pub struct Loading {
    /// Announced, once loaded, MB.
    pub planned_mb: f64,
    /// Buffers made, MB.
    pub loaded_mb: f64,
    /// What the driver's allocator holds for them, MB; null where it does not tell.
    pub reserved_mb: Option<f64>,
    /// By how much the process grew, MB: on a software device buffers are its memory; null where the system does not tell.
    pub grown_mb: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// The model cannot be loaded, does not fit, or the device failed.
pub fn run(args: &BenchArgs) -> Result<()> {
    let size = args.work.check(args.new_tokens, "bench")?;
    let options = args.model.load_options()?;
    let (gpu, source) = args.model.open()?;
    let tuned = if args.tune || !gpu.is_tuned() { Some(tune(&gpu)?) } else { None };
    say("measuring the device's read bandwidth");
    let copy_gb_s = measure_read_bandwidth(&gpu)?;
    say("loading");
    let options = options.for_model(&source.model);
    let resident = status_mb("VmRSS:");
    let before = gpu.allocated_bytes();
    let mut model =
        LoadedModel::load(&gpu, &source.model, &options, &mut |_, _| Ok(())).map_err(ModelArgs::advise)?;
    let loading = Loading {
        planned_mb: MemoryPlan::new(&source.model, &options).loaded_bytes() as f64 / 1e6,
        loaded_mb: (gpu.allocated_bytes() - before) as f64 / 1e6,
        reserved_mb: gpu.reserved_bytes().map(|bytes| bytes as f64 / 1e6),
        grown_mb: status_mb("VmRSS:").zip(resident).map(|(after, before)| after - before),
    };
    let size = patches(size, &model)?;
    let mut workload = Workload::new(&gpu, &mut model, size);
    if args.sweep {
        workload.sweep(args)?;
        keep_tuning(&gpu, tuned);
        return Ok(());
    }
    let report = measure(&gpu, &mut workload, args, &source.name, copy_gb_s, loading)?;
    keep_tuning(&gpu, tuned);
    if args.json {
        return print_json(&report);
    }
    let vision = report
        .vision_ms
        .map_or("none".to_owned(), |ms| format!("{ms:.1} ms for {} tokens", report.image_tokens));
    if let Some(profile) = &report.profile {
        print(&table::kernels(profile, table::Sort::Ms))?;
    }
    print(&format!(
        "adapter    {} ({})\nmodel      {} {}\nKV cache   {}, {} bytes a token\nload       {:.1} s\nvision     {vision}\nprefill    {:.1} tok/s\ndecode     {:.2} tok/s, \
         batch {}\nttft       {:.0} ms\nproducts   {:.0} % of decoding, {:.0} % of prefill, {} of vision are matrix products\nbandwidth  {:.2} of {:.2} GB/s ({:.0} %), {:.2} GB a step\nmemory     {:.0} MB on the device ({:.0} announced, {:.0} made by loading, {} resident), peak {} MB resident\n",
        report.adapter,
        report.driver,
        report.model,
        report.recipe,
        report.kv,
        report.kv_bytes_per_token,
        report.load_s,
        report.prefill_tok_s,
        report.decode_tok_s,
        report.batch,
        report.ttft_ms,
        report.decode_share * 100.0,
        report.prefill_share * 100.0,
        report.vision_share.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0)),
        report.decode_gb_s,
        report.copy_gb_s,
        report.bandwidth_share * 100.0,
        report.bytes_per_token as f64 / 1e9,
        report.gpu_mb,
        report.loading.planned_mb,
        report.loading.loaded_mb,
        report.loading.grown_mb.map_or("?".to_owned(), |mb| format!("{mb:.0}")),
        report.peak_rss_mb.map_or("?".to_owned(), |mb| format!("{mb:.0}")),
    ))
}

/// Measures which kernels are the fastest and takes them.
fn tune(gpu: &Gpu) -> Result<Vec<Candidate>> {
    say("measuring which kernels are the fastest");
    let (tuning, candidates) = calibration::calibrate(gpu, &AtomicBool::new(false))?;
    gpu.set_tuning(tuning);
    Ok(candidates)
}

/// Says what was found, where anything was, and keeps it, once a model has run on it; where that fails the figures are right
/// all the same.
fn keep_tuning(gpu: &Gpu, candidates: Option<Vec<Candidate>>) {
    let Some(candidates) = candidates else { return };
    for candidate in candidates {
        let [rows, outputs, inputs] = candidate.shape;
        let ms = candidate.ms.map_or("  left out   ".to_owned(), |ms| format!("{ms:10.3} ms"));
        say(&format!("{ms}  {rows} x {inputs} -> {outputs} {:4}  {}", candidate.weights, candidate.kernel));
    }
    match calibration::remember(gpu, gpu.tuning()) {
        Ok(file) => say(&format!("the choice of kernels is kept in {}", file.display())),
        Err(error) => say(&format!("note: {error}")),
    }
}

/// The middle of an odd number of measurements, the upper middle of an even one.
fn median(mut measure: impl FnMut() -> Result<f64>, times: usize) -> Result<f64> {
    let mut all = (0..times.max(1)).map(|_| measure()).collect::<Result<Vec<_>>>()?;
    all.sort_by(f64::total_cmp);
    Ok(all.get(all.len() / 2).copied().unwrap_or(f64::NAN))
}

fn measure(
    gpu: &Gpu,
    workload: &mut Workload<'_>,
    args: &BenchArgs,
    name: &str,
    copy_gb_s: f64,
    loading: Loading,
) -> Result<BenchReport> {
    let (batch, image_tokens) = (args.work.batch, workload.image_tokens());
    let prompt = args.work.prompt_tokens.saturating_add(image_tokens);
    let each = workload.room(batch, prompt.saturating_add(args.new_tokens))?;
    say("warming up: compiling kernels");
    let slots: Vec<usize> = (0..batch).collect();
    workload.warm_up(&slots, prompt)?;
    let mut vision_ms = None;
    if workload.size.is_some() {
        // The first run makes kernels and working memory.
        workload.encode()?;
        say("vision");
        vision_ms = Some(median(|| workload.encode(), args.repeat)?);
    }
    say("prefill");
    for &slot in &slots[1..] {
        workload.session(slot, slot * each, prompt, image_tokens)?;
    }
    let prefill_secs = median(|| workload.session(0, 0, prompt, image_tokens), args.repeat)?;
    say("decode");
    let decode_secs = median(
        || {
            for &slot in &slots {
                workload.place(slot, slot * each, prompt);
            }
            workload.decode(&slots, prompt, args.new_tokens).map(|decoded| decoded.secs)
        },
        args.repeat,
    )?;
    say("their matrix products alone");
    let bare_decode_secs = median(|| workload.bare_decode(batch), 2 * args.repeat + 1)?;
    let bare_prefill_secs = median(|| workload.bare_prefill(prompt), args.repeat)?;
    let vision_bare_ms = match workload.size {
        Some((gh, gw)) => Some(median(|| workload.bare_vision(gh * gw), args.repeat)? * 1e3),
        None => None,
    };
    let bytes_per_token = workload.model.bytes_per_token(prompt + args.new_tokens / 2);
    let steps_per_sec = args.new_tokens as f64 / decode_secs;
    let decode_gb_s = bytes_per_token as f64 * steps_per_sec / 1e9;
    let profile = if args.profile {
        say("time by kernel");
        let runs = profile::Runs { slots: &slots, prompt, each, steps: 2 };
        Some(profile::profile(workload, &runs)?.0)
    } else {
        None
    };
    Ok(BenchReport {
        profile,
        adapter: gpu.adapter_name().to_owned(),
        driver: gpu.summary().driver.clone(),
        model: name.to_owned(),
        recipe: workload.model.recipe.name(),
        kv: workload.model.cache.format.name(),
        kv_bytes_per_token: workload.model.kv_bytes_per_token(),
        load_s: workload.model.load_secs,
        vision_ms,
        image_tokens,
        prefill_tok_s: prompt as f64 / prefill_secs,
        prefill_bare_tok_s: prompt as f64 / bare_prefill_secs,
        prefill_share: bare_prefill_secs / prefill_secs,
        decode_bare_tok_s: batch as f64 / bare_decode_secs,
        decode_share: bare_decode_secs * steps_per_sec,
        vision_bare_ms,
        vision_share: vision_bare_ms.zip(vision_ms).map(|(bare, all)| bare / all),
        tuning: gpu.tuning(),
        decode_tok_s: steps_per_sec * batch as f64,
        batch,
        ttft_ms: vision_ms.unwrap_or(0.0) + prefill_secs * 1e3,
        bytes_per_token,
        decode_gb_s,
        copy_gb_s,
        bandwidth_share: decode_gb_s / copy_gb_s,
        peak_rss_mb: status_mb("VmHWM:"),
        gpu_mb: gpu.allocated_bytes() as f64 / 1e6,
        loading,
    })
}

/// What the kernel says of this process's memory, MB: `VmRSS:` now, `VmHWM:` at most.
fn status_mb(line: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|text| text.strip_prefix(line))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib * 1024.0 / 1e6)
}
