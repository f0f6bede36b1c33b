//! Work for measuring: random tokens and pixels through a model. Speed does not depend on what they are.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Readback, ReadbackRing, Recorder};
use crate::model::kv_cache::PAGE_TOKENS;
use crate::model::linear::MAX_BATCH;
use crate::model::loaded::LoadedModel;
use crate::model::sampler::{Sampler, Sampling};
use crate::model::text_decoder::RowInfo;
use crate::model::vision_tower::Frame;

/// What is measured.
#[derive(clap::Args, Clone, Debug)]
pub struct WorkloadArgs {
    /// Tokens of text in the prompt
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub prompt_tokens: usize,

    /// Sessions in a step, 1 to 8
    #[arg(long, value_name = "B", default_value_t = 1)]
    pub batch: usize,

    /// The picture's size in pixels; 0x0 for none
    #[arg(long, value_name = "WxH", default_value = "448x448")]
    pub image_size: String,
}

impl WorkloadArgs {
    /// Refuses numbers that measure nothing; the picture's width and height in pixels.
    ///
    /// # Errors
    /// A number is out of its range, or the size is none; `command` tells more.
    pub fn check(&self, new_tokens: usize, command: &str) -> Result<(usize, usize)> {
        if self.batch == 0 || self.batch > MAX_BATCH || self.prompt_tokens == 0 || new_tokens == 0 {
            let why =
                format!("--batch must be 1 to {MAX_BATCH}, --prompt-tokens and --new-tokens at least 1");
            return Err(Error::new("reading the arguments", why)
                .help(format!("`ocelli {command} --help` says what they do")));
        }
        parse_size(&self.image_size)
    }
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
pub(super) fn patches(
    (width, height): (usize, usize),
    model: &LoadedModel,
) -> Result<Option<(usize, usize)>> {
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

/// A model and random work for it.
pub(super) struct Workload<'a> {
    gpu: &'a Gpu,
    pub model: &'a mut LoadedModel,
    random: Random,
    /// The picture in patches (rows, columns).
    pub size: Option<(usize, usize)>,
}

/// How long decoding took.
pub(super) struct Decoded {
    /// Seconds, from the first step's submission to the last one's record.
    pub secs: f64,
    /// Each step on the device, milliseconds; empty without timestamps.
    pub device_ms: Vec<f64>,
}

impl<'a> Workload<'a> {
    pub fn new(gpu: &'a Gpu, model: &'a mut LoadedModel, size: Option<(usize, usize)>) -> Self {
        Self { gpu, model, random: Random::new(), size }
    }

    /// Image tokens of the picture.
    pub fn image_tokens(&self) -> usize {
        self.size.map_or(0, |(gh, gw)| gh * gw / self.model.config.vision.merge_unit())
    }

    /// Tokens of context that each of `batch` sessions of `tokens` tokens takes, in whole pages.
    ///
    /// # Errors
    /// There is not so much.
    pub fn room(&self, batch: usize, tokens: usize) -> Result<usize> {
        let each = tokens.div_ceil(PAGE_TOKENS).saturating_mul(PAGE_TOKENS);
        let needed = each.saturating_mul(batch);
        if needed > self.model.context() {
            let why = format!(
                "{batch} sessions need {needed} tokens of context and there are {}",
                self.model.context()
            );
            return Err(Error::new("benchmarking", why).help("set a larger --context"));
        }
        Ok(each)
    }

    /// Has the kernels of this work compiled.
    pub fn warm_up(&mut self, slots: &[usize], prompt: usize) -> Result<()> {
        self.session(0, 0, prompt.min(16), 0)?;
        self.model.decode_step(slots, prompt + 1)?;
        self.model.recorder.finish()
    }

    /// A random picture through the tower, milliseconds.
    pub fn encode(&mut self) -> Result<f64> {
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
    pub fn session(
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
    pub fn place(&mut self, slot: usize, first_token: usize, length: usize) {
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

    /// Decodes `steps` steps with a few in flight.
    pub fn decode(&mut self, slots: &[usize], length: usize, steps: usize) -> Result<Decoded> {
        let model = &mut *self.model;
        let mut ring = Recorder::record_ring(Sampler::records_bytes());
        let mut in_flight = std::collections::VecDeque::new();
        let mut device_ms = Vec::new();
        let mut take = |model: &mut LoadedModel, ring: &mut ReadbackRing, done: Readback| {
            let mut record = done.wait(self.gpu)?;
            let times = model.recorder.split_times(&mut record, &done);
            ring.recycle(done);
            if times.end_ns > times.begin_ns {
                device_ms.push((times.end_ns - times.begin_ns) as f64 / 1e6);
            }
            Ok(())
        };
        model.recorder.finish()?;
        let start = Instant::now();
        for step in 0..steps {
            model.decode_step(slots, length + step + 1)?;
            in_flight.push_back(model.recorder.submit_and_read(&mut ring, model.sampler.records())?);
            if in_flight.len() == 3
                && let Some(oldest) = in_flight.pop_front()
            {
                take(model, &mut ring, oldest)?;
            }
        }
        for readback in in_flight {
            take(model, &mut ring, readback)?;
        }
        let secs = start.elapsed().as_secs_f64();
        Ok(Decoded { secs, device_ms })
    }
}
