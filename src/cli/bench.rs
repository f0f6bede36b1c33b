//! `ocelli bench`: speed and memory of a model on this machine, each figure beside the device's own limit.

mod bare;
mod sweep;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{ModelArgs, print, print_json, say};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, KernelTime, Recorder, Tuning, measure_read_bandwidth};
use crate::model::calibration::{self, Candidate};
use crate::model::kv_cache::PAGE_TOKENS;
use crate::model::linear::MAX_BATCH;
use crate::model::loaded::{LoadedModel, MemoryPlan};
use crate::model::sampler::{Sampler, Sampling};
use crate::model::text_decoder::RowInfo;
use crate::model::vision_tower::Frame;

/// Measure speed and memory: the vision tower, prefill, decoding, and the device's own read bandwidth in the same run.
///
/// Tokens and pixels are random; speed does not depend on what they are. Decoding is greedy, with a few steps in flight as in
/// a conversation. bandwidth_share is what decoding reads a second over what the device can read.
#[derive(clap::Args, Clone, Debug)]
pub struct BenchArgs {
    /// Model and device
    #[command(flatten)]
    pub model: ModelArgs,

    /// Tokens of text in the prompt
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub prompt_tokens: usize,

    /// Tokens to decode in each session
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub new_tokens: usize,

    /// Sessions in a step, 1 to 8
    #[arg(long, value_name = "B", default_value_t = 1)]
    pub batch: usize,

    /// The picture's size in pixels; 0x0 for none
    #[arg(long, value_name = "WxH", default_value = "448x448")]
    pub image_size: String,

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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kernels: Vec<ProfiledPart>,
    /// Memory right after loading, before any picture or prompt.
    #[serde(flatten)]
    pub loading: Loading,
}

/// Time by kernel of one part of the work.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ProfiledPart {
    /// Vision, prefill or decode.
    pub part: &'static str,
    /// The longest first.
    pub kernels: Vec<KernelTime>,
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
    if args.batch == 0 || args.batch > MAX_BATCH || args.prompt_tokens == 0 || args.new_tokens == 0 {
        let why = format!("--batch must be 1 to {MAX_BATCH}, --prompt-tokens and --new-tokens at least 1");
        return Err(Error::new("reading the arguments", why).help("`ocelli bench --help` says what they do"));
    }
    let size = parse_size(&args.image_size)?;
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
    let mut bench = Bench { gpu: &gpu, model: &mut model, random: Random::new(), size, loading };
    if args.sweep {
        bench.sweep(args)?;
        keep_tuning(&gpu, tuned);
        return Ok(());
    }
    let report = bench.measure(args, &source.name, copy_gb_s)?;
    keep_tuning(&gpu, tuned);
    if args.json {
        return print_json(&report);
    }
    let vision = report
        .vision_ms
        .map_or("none".to_owned(), |ms| format!("{ms:.1} ms for {} tokens", report.image_tokens));
    for part in &report.kernels {
        let all: f64 = part.kernels.iter().map(|kernel| kernel.ms).sum();
        print(&format!("{}: {all:.1} ms in kernels\n", part.part))?;
        for kernel in &part.kernels {
            let (ms, share) = (kernel.ms, 100.0 * kernel.ms / all);
            print(&format!("{ms:10.2} ms {share:5.1} % {:6} x {}\n", kernel.count, kernel.kernel))?;
        }
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
    let (tuning, candidates) = calibration::calibrate(gpu)?;
    gpu.set_tuning(tuning);
    Ok(candidates)
}

/// Says what was found, where anything was, and keeps it, once a model has run on it; where that fails the figures are right
/// all the same.
fn keep_tuning(gpu: &Gpu, candidates: Option<Vec<Candidate>>) {
    let Some(candidates) = candidates else { return };
    for candidate in candidates {
        let [rows, outputs, inputs] = candidate.shape;
        say(&format!("{:9.2} ms  {rows} x {inputs} -> {outputs}  {}", candidate.ms, candidate.kernel));
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

const IMAGE_SIZE: &str = "reading --image-size";

/// Width and height in pixels.
fn parse_size(text: &str) -> Result<(usize, usize)> {
    let parsed = text
        .split_once(['x', 'X'])
        .and_then(|(w, h)| Some((w.parse::<usize>().ok()?, h.parse::<usize>().ok()?)));
    parsed.ok_or_else(|| Error::new(IMAGE_SIZE, format!("'{text}' is no size")).help("write it like 448x448"))
}

/// Patches (rows, columns) of a picture; `None` for no picture.
fn patches((width, height): (usize, usize), model: &LoadedModel) -> Result<Option<(usize, usize)>> {
    if width == 0 || height == 0 {
        return Ok(None);
    }
    // To whole merged tokens, as smart_resize does.
    let vision = &model.config.vision;
    let factor = vision.patch_size * vision.spatial_merge_size;
    let patches = |pixels: usize| pixels.saturating_add(factor / 2) / factor * vision.spatial_merge_size;
    let (gh, gw) = (patches(height), patches(width));
    let Some(tower) = &model.vision else { return Err(LoadedModel::no_vision(IMAGE_SIZE)) };
    let most = tower.most_tokens_per_frame();
    if gh == 0 || gw == 0 || gh.saturating_mul(gw) / vision.merge_unit() > most {
        let why = format!("{width}x{height} makes no picture of 1 to {most} image tokens");
        return Err(Error::new(IMAGE_SIZE, why).help("choose another size"));
    }
    Ok(Some((gh, gw)))
}

/// splitmix64: speed does not ask for more.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| u64::from(d.subsec_nanos())))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

struct Bench<'a> {
    gpu: &'a Gpu,
    model: &'a mut LoadedModel,
    random: Random,
    size: Option<(usize, usize)>,
    loading: Loading,
}

impl Bench<'_> {
    fn measure(&mut self, args: &BenchArgs, name: &str, copy_gb_s: f64) -> Result<BenchReport> {
        let image_tokens = self.size.map_or(0, |(gh, gw)| gh * gw / self.model.config.vision.merge_unit());
        let prompt = args.prompt_tokens.saturating_add(image_tokens);
        let pages = prompt.saturating_add(args.new_tokens).div_ceil(PAGE_TOKENS);
        let needed = pages.saturating_mul(PAGE_TOKENS).saturating_mul(args.batch);
        if needed > self.model.context() {
            let why = format!(
                "{} sessions need {needed} tokens of context and there are {}",
                args.batch,
                self.model.context()
            );
            return Err(Error::new("benchmarking", why).help("set a larger --context"));
        }
        say("warming up: compiling kernels");
        self.session(0, 0, args.prompt_tokens.min(16), 0)?;
        let slots: Vec<usize> = (0..args.batch).collect();
        self.model.decode_step(&slots, prompt + 1)?;
        self.model.recorder.finish()?;
        let mut vision_ms = None;
        if self.size.is_some() {
            // The first run makes kernels and working memory.
            self.encode()?;
            say("vision");
            vision_ms = Some(median(|| self.encode(), args.repeat)?);
        }
        say("prefill");
        let each = needed / args.batch;
        for &slot in &slots[1..] {
            self.session(slot, slot * each, prompt, image_tokens)?;
        }
        let prefill_secs = median(|| self.session(0, 0, prompt, image_tokens), args.repeat)?;
        say("decode");
        let decode_secs = median(
            || {
                for &slot in &slots {
                    self.place(slot, slot * each, prompt);
                }
                self.decode(&slots, prompt, args.new_tokens)
            },
            args.repeat,
        )?;
        say("their matrix products alone");
        let bare_decode_secs = median(|| self.bare_decode(args.batch), 2 * args.repeat + 1)?;
        let bare_prefill_secs = median(|| self.bare_prefill(prompt), args.repeat)?;
        let vision_bare_ms = match self.size {
            Some((gh, gw)) => Some(median(|| self.bare_vision(gh * gw), args.repeat)? * 1e3),
            None => None,
        };
        let bytes_per_token = self.model.bytes_per_token(prompt + args.new_tokens / 2);
        let steps_per_sec = args.new_tokens as f64 / decode_secs;
        let decode_gb_s = bytes_per_token as f64 * steps_per_sec / 1e9;
        let kernels = if args.profile { self.profile(&slots, prompt, image_tokens)? } else { Vec::new() };
        Ok(BenchReport {
            kernels,
            adapter: self.gpu.adapter_name().to_owned(),
            driver: self.gpu.summary().driver.clone(),
            model: name.to_owned(),
            recipe: self.model.recipe.name(),
            kv: self.model.cache.format.name(),
            kv_bytes_per_token: self.model.kv_bytes_per_token(),
            load_s: self.model.load_secs,
            vision_ms,
            image_tokens,
            prefill_tok_s: prompt as f64 / prefill_secs,
            prefill_bare_tok_s: prompt as f64 / bare_prefill_secs,
            prefill_share: bare_prefill_secs / prefill_secs,
            decode_bare_tok_s: args.batch as f64 / bare_decode_secs,
            decode_share: bare_decode_secs * steps_per_sec,
            vision_bare_ms,
            vision_share: vision_bare_ms.zip(vision_ms).map(|(bare, all)| bare / all),
            tuning: self.gpu.tuning(),
            decode_tok_s: steps_per_sec * args.batch as f64,
            batch: args.batch,
            ttft_ms: vision_ms.unwrap_or(0.0) + prefill_secs * 1e3,
            bytes_per_token,
            decode_gb_s,
            copy_gb_s,
            bandwidth_share: decode_gb_s / copy_gb_s,
            peak_rss_mb: status_mb("VmHWM:"),
            gpu_mb: self.gpu.allocated_bytes() as f64 / 1e6,
            loading: self.loading,
        })
    }

    /// Each part once more with each kernel timed; decoding: two steps.
    fn profile(&mut self, slots: &[usize], prompt: usize, image_tokens: usize) -> Result<Vec<ProfiledPart>> {
        say("time by kernel");
        let mut parts = Vec::new();
        for part in ["vision", "prefill", "decode"] {
            self.model.recorder.set_profiling(true)?;
            match part {
                "vision" => drop(self.encode()?),
                "prefill" => drop(self.session(0, 0, prompt, image_tokens)?),
                _ => drop(self.decode(slots, prompt, 2)?),
            }
            parts.push(ProfiledPart { part, kernels: self.model.recorder.profile() });
        }
        self.model.recorder.set_profiling(false)?;
        Ok(parts)
    }

    /// A random picture through the tower, milliseconds.
    fn encode(&mut self) -> Result<f64> {
        let Some((gh, gw)) = self.size else { return Ok(0.0) };
        let width = self.model.config.vision.patch_elements();
        let seed = self.random.next();
        let pixels = move |rows: std::ops::Range<usize>| {
            let mut random = Random(seed ^ rows.start as u64);
            (0..rows.len() * width)
                .map(|_| (random.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
                .collect()
        };
        let model = &mut *self.model;
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let tokens = gh * gw / model.config.vision.merge_unit();
        let slot = model.arena.allocate(&mut model.recorder, key, tokens)?;
        model.recorder.finish()?;
        let start = Instant::now();
        let frame = Frame { gh, gw, pixels: &pixels };
        let Some(vision) = &mut model.vision else {
            return Err(LoadedModel::no_vision("measuring"));
        };
        vision.encode(&mut model.recorder, &model.arena, &frame, slot, &mut |_, _| Ok(()))?;
        model.recorder.finish()?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        model.arena.remove(&key);
        Ok(ms)
    }

    /// Prefills a slot to its first token, seconds. Its pages begin at page `first_token / 64`; the first
    /// `image_tokens` tokens are rows of the picture arena.
    fn session(
        &mut self,
        slot: usize,
        first_token: usize,
        tokens: usize,
        image_tokens: usize,
    ) -> Result<f64> {
        self.pages(slot, first_token);
        let model = &mut *self.model;
        model.sampler.begin(slot, &Sampling::GREEDY, &[], &[]);
        let vocab = model.config.text.vocab_size;
        let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let rows: Vec<RowInfo> = (0..tokens)
            .map(|i| {
                let token =
                    if i < image_tokens { vocab + i } else { (self.random.next() % vocab as u64) as usize };
                RowInfo {
                    token: word(token),
                    position: [word(i); 3],
                    index: word(i),
                    slot: word(slot),
                    ..RowInfo::default()
                }
            })
            .collect();
        model.recorder.finish()?;
        let start = Instant::now();
        let mut last = 0;
        for chunk in rows.chunks(model.text.max_rows()) {
            model.prefill(chunk, None)?;
            last = chunk.len() - 1;
        }
        model.text.head(&mut model.recorder, last, 1)?;
        model.sampler.sample(&mut model.recorder, model.text.rows(), last, model.text.logits(), 1)?;
        model.recorder.finish()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// A slot's pages begin at page `first_token / 64`.
    fn pages(&mut self, slot: usize, first_token: usize) {
        let first = first_token / PAGE_TOKENS;
        let pages: Vec<u32> =
            (first..self.model.cache.pages).filter_map(|page| u32::try_from(page).ok()).collect();
        self.model.cache.write_page_table(slot, 0, &pages);
    }

    /// Puts a session behind its first `length` tokens, which are in the cache, as after prefill.
    fn place(&mut self, slot: usize, first_token: usize, length: usize) {
        self.pages(slot, first_token);
        let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let row = RowInfo {
            token: word(slot + 1),
            position: [word(length); 3],
            index: word(length),
            slot: word(slot),
            ..RowInfo::default()
        };
        self.model.sampler.begin(slot, &Sampling::GREEDY, &[], &[]);
        self.model.sampler.set_state(slot, &row);
    }

    /// Decodes `steps` steps with a few in flight, seconds.
    fn decode(&mut self, slots: &[usize], length: usize, steps: usize) -> Result<f64> {
        let model = &mut *self.model;
        let mut ring = Recorder::record_ring(Sampler::records_bytes());
        let mut in_flight = std::collections::VecDeque::new();
        model.recorder.finish()?;
        let start = Instant::now();
        for step in 0..steps {
            model.decode_step(slots, length + step + 1)?;
            in_flight.push_back(model.recorder.submit_and_read(&mut ring, model.sampler.records())?);
            if in_flight.len() == 3
                && let Some(oldest) = in_flight.pop_front()
            {
                oldest.wait_for(self.gpu, &mut ring)?;
            }
        }
        for readback in in_flight {
            readback.wait_for(self.gpu, &mut ring)?;
        }
        Ok(start.elapsed().as_secs_f64())
    }
}

/// What the kernel says of this process's memory, MB: `VmRSS:` now, `VmHWM:` at most.
fn status_mb(line: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|text| text.strip_prefix(line))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib * 1024.0 / 1e6)
}
