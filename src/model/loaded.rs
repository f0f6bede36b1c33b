//! A model on the device, with its cache, picture arena and sampler: all that a session needs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::config::{GenerationDefaults, ModelConfig};
use super::converted::ConvertedModel;
use super::kv_cache::{KvCache, KvFormat, PAGE_TOKENS};
use super::linear::MAX_BATCH;
pub use super::memory::MemoryPlan;
use super::memory::{Room, check_room};
use super::picture_arena::PictureArena;
use super::recipe::Recipe;
use super::sampler::Sampler;
use super::stages;
use super::text_decoder::{LayerTaps, Pass, RowInfo, TextDecoder};
use super::vision_tower::VisionTower;
use super::weights::Uploader;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Gpu, KernelKey, Pacing, Recorder};

/// Room to make when loading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadOptions {
    /// Tokens the KV cache holds, for all sessions together; also the longest session.
    pub context: usize,
    /// Where the model allows fewer tokens, take as many as it does; otherwise that is an error.
    pub up_to: bool,
    /// Tokens a prefill pass takes at most.
    pub prefill_rows: usize,
    /// How work is divided for the queue.
    pub pacing: Pacing,
    /// Bytes the model may take at its peak; `None`: what adapter and machine report.
    pub memory_limit_bytes: Option<u64>,
    /// Without the vision tower, also where there is none: a request with pictures is refused then.
    pub text_only: bool,
    /// How keys and values are stored; `None`: [`KvFormat::default_for`] the recipe.
    pub kv: Option<KvFormat>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            context: 8192,
            up_to: true,
            prefill_rows: 256,
            pacing: Pacing::HEADLESS,
            memory_limit_bytes: None,
            text_only: false,
            kv: None,
        }
    }
}

impl LoadOptions {
    /// The options for this model: with no more context than it allows, where that is what is wanted.
    #[must_use]
    pub fn for_model(self, model: &ConvertedModel) -> Self {
        let most = if self.up_to { model.config().text.max_position_embeddings } else { usize::MAX };
        Self { context: self.context.min(most), ..self }
    }

    /// How keys and values of a model of this recipe are stored.
    #[must_use]
    pub fn kv_format(&self, recipe: Recipe) -> KvFormat {
        self.kv.unwrap_or(KvFormat::default_for(recipe))
    }
}

/// A model on the device.
#[derive(Debug)]
pub struct LoadedModel {
    /// Where it runs.
    pub gpu: Gpu,
    /// Its configuration.
    pub config: ModelConfig,
    /// Its own sampling defaults.
    pub generation: GenerationDefaults,
    /// How its weights are stored.
    pub recipe: Recipe,
    /// The text model.
    pub text: TextDecoder,
    /// The vision tower; `None` where it was not loaded ([`LoadOptions::text_only`]) or the model has none.
    pub vision: Option<VisionTower>,
    /// Encoded pictures.
    pub arena: PictureArena,
    /// Keys and values.
    pub cache: KvCache,
    /// Sampling.
    pub sampler: Sampler,
    /// Work on its way to the device.
    pub recorder: Recorder,
    /// Seconds from opening the files to the last byte on the device.
    pub load_secs: f64,
}

impl LoadedModel {
    /// Loads a converted model. `progress` is told the weight bytes on the device and those in all, and may
    /// stop the load with an error.
    ///
    /// # Errors
    /// A file is damaged, memory is short, the device cannot run a kernel, or `progress` said stop.
    pub fn load(
        gpu: &Gpu,
        model: &ConvertedModel,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64) -> Result<()>,
    ) -> Result<Self> {
        let start = Instant::now();
        let config = model.config().clone();
        let longest = config.text.max_position_embeddings;
        if options.context == 0 || options.context > longest {
            let why = format!(
                "a context of {} tokens is asked for and the model allows 1 to {longest}",
                options.context
            );
            return Err(Error::new("loading the model", why)
                .at_path(model.folder())
                .kind(ErrorKind::DoesNotFit));
        }
        let plan = MemoryPlan::new(model, options);
        if let Some(room) = options.memory_limit_bytes.map(Room::limited).or_else(|| Room::of(gpu)) {
            check_room(&config, model.recipe(), options, &plan, &room)
                .map_err(|e| e.at_path(model.folder()))?;
        }
        // The cache first: what cannot fit is refused before gigabytes are read.
        let pages = options.context.div_ceil(PAGE_TOKENS);
        let format = options.kv_format(model.recipe());
        let cache = KvCache::new(gpu, &config.text, format, pages).map_err(|e| {
            let per_layer = KvCache::bytes_per_page(&config.text, format) / (2 * config.text.num_layers);
            let most = gpu.max_binding_bytes() / per_layer * PAGE_TOKENS;
            e.help(format!("this adapter can hold a context of at most {most} tokens: set --context"))
        })?;
        let mut keys = TextDecoder::kernel_keys(gpu, &config.text, model.recipe(), format);
        keys.extend(["sample", "begin_step"].map(KernelKey::new));
        let with_vision = !options.text_only && model.has_vision();
        if with_vision {
            keys.extend(VisionTower::kernel_keys(gpu, &config.vision, model.recipe()));
        }
        let stop = AtomicBool::new(false);
        let total = plan.weights_bytes;
        let mut tell = |done: u64| progress(done.min(total), total);
        let mut upload = Uploader::new(gpu, model, &mut tell);
        let context = pages * PAGE_TOKENS;
        // The driver compiles kernels while weights are read and copied.
        let (text, vision) = std::thread::scope(|scope| {
            scope.spawn(|| gpu.compile_ahead(&keys, &stop));
            let loaded = TextDecoder::load(gpu, model, &mut upload, format, options.prefill_rows, context)
                .and_then(|text| {
                    let vision =
                        with_vision.then(|| VisionTower::load(gpu, model, &mut upload)).transpose()?;
                    Ok((text, vision))
                });
            if loaded.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            loaded
        })?;
        gpu.queue().submit([]);
        gpu.wait_for_all("loading the model")?;
        progress(total, total)?;
        Ok(Self {
            arena: PictureArena::new(gpu, &config)?,
            sampler: Sampler::new(gpu, config.text.vocab_size)?,
            recorder: Recorder::new(gpu, options.pacing)?,
            gpu: gpu.clone(),
            generation: model.generation().clone(),
            recipe: model.recipe(),
            config,
            text,
            vision,
            cache,
            load_secs: start.elapsed().as_secs_f64(),
        })
    }

    /// The error of a picture for a model without a vision tower.
    #[must_use]
    pub fn no_vision(doing: &str) -> Error {
        Error::new(doing, "the model was loaded for texts only, without its vision tower")
            .help("load it with its vision file, and not for texts only, to send pictures")
    }

    /// Tokens the cache holds, which is also the longest session.
    #[must_use]
    pub fn context(&self) -> usize {
        self.cache.pages * PAGE_TOKENS
    }

    /// Bytes the KV cache takes for a token of context, in all layers.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> usize {
        KvCache::bytes_per_page(&self.config.text, self.cache.format) / PAGE_TOKENS
    }

    /// Bytes one decode step must read: all weights of the text model and the head, and the KV cache at `length`.
    #[must_use]
    pub fn bytes_per_token(&self, length: usize) -> usize {
        self.text.bytes_per_step() + self.kv_bytes_per_token() * length
    }

    /// Queues the rows of the next pass and runs the layers over them: `rows` are consecutive tokens of one
    /// session. Work recorded before is submitted first, so that it still sees its own rows.
    ///
    /// # Errors
    /// There are too many rows, or the device failed.
    pub fn prefill(&mut self, rows: &[RowInfo], taps: Option<&LayerTaps>) -> Result<()> {
        self.prefill_pass(rows, taps, false)
    }

    /// [`LoadedModel::prefill`] by kernels that give a row the same bits however many rows are in its pass.
    ///
    /// # Errors
    /// As [`LoadedModel::prefill`].
    pub fn prefill_reproducibly(&mut self, rows: &[RowInfo]) -> Result<()> {
        self.prefill_pass(rows, None, true)
    }

    fn prefill_pass(&mut self, rows: &[RowInfo], taps: Option<&LayerTaps>, reproducible: bool) -> Result<()> {
        let Some(last) = rows.last() else { return Ok(()) };
        if rows.len() > self.text.max_rows() {
            return Err(Error::new(
                "running a prefill pass",
                format!("{} rows are more than {}", rows.len(), self.text.max_rows()),
            ));
        }
        self.recorder.submit()?;
        self.gpu.write(self.text.rows(), 0, bytemuck::cast_slice(rows));
        self.recorder.begin_part(stages::PREFILL);
        let vocab = self.config.text.vocab_size;
        let pictures = rows.iter().filter(|row| row.token as usize >= vocab).count();
        let pass = Pass::Prefill { length: last.index as usize + 1, pictures, reproducible };
        self.text.layers(&mut self.recorder, &self.cache, &self.arena, rows.len(), pass, taps)
    }

    /// Records one decode step of the given slots, whose longest cache is `length` tokens after it.
    ///
    /// # Errors
    /// There are too many slots, or the device failed.
    pub fn decode_step(&mut self, slots: &[usize], length: usize) -> Result<()> {
        if slots.is_empty() || slots.len() > MAX_BATCH {
            return Err(Error::new(
                "running a decode step",
                format!("{} sessions are not 1 to {MAX_BATCH}", slots.len()),
            ));
        }
        self.recorder.begin_step(stages::DECODE);
        self.sampler.begin_step(&mut self.recorder, self.text.rows(), slots)?;
        self.decode(slots.len(), length)
    }

    /// Queues the given rows and records a decode step of them: each session's next token and, where `verify` is set,
    /// guesses at those after it, at the places after it. A row's sums and draw are those it has in a step of its own;
    /// the states of slots with guesses stay as they are ([`Sampler::set_state`]).
    ///
    /// # Errors
    /// There are too many rows, or the device failed.
    pub fn verify_step(&mut self, rows: &[RowInfo]) -> Result<()> {
        if rows.is_empty() || rows.len() > MAX_BATCH {
            let why = format!("{} rows are not 1 to {MAX_BATCH}", rows.len());
            return Err(Error::new("running a verify pass", why));
        }
        self.recorder.submit()?;
        self.gpu.write(self.text.rows(), 0, bytemuck::cast_slice(rows));
        self.recorder.begin_step(stages::DECODE);
        let length = rows.iter().map(|row| row.index as usize + 1).max().unwrap_or(1);
        self.decode(rows.len(), length)
    }

    /// Queues the row of a session's last token and runs the layers over it, once more or for the first time, as a decode step
    /// of that session alone does. Nothing is sampled, and no slot's state is touched.
    ///
    /// # Errors
    /// The device failed.
    pub fn tapped_step(&mut self, row: RowInfo, taps: &LayerTaps) -> Result<()> {
        self.recorder.submit()?;
        self.gpu.write(self.text.rows(), 0, bytemuck::bytes_of(&row));
        let pass = Pass::Decode { length: row.index as usize + 1 };
        self.text.layers(&mut self.recorder, &self.cache, &self.arena, 1, pass, Some(taps))
    }

    /// The layers, the head and the sampler over the first `rows` rows.
    fn decode(&mut self, rows: usize, length: usize) -> Result<()> {
        let pass = Pass::Decode { length };
        self.text.layers(&mut self.recorder, &self.cache, &self.arena, rows, pass, None)?;
        self.text.head(&mut self.recorder, 0, rows)?;
        self.recorder.mark();
        self.sampler.sample(&mut self.recorder, self.text.rows(), 0, self.text.logits(), rows)
    }
}
