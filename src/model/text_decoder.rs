//! The text model on the device: embeddings, layers with M-RoPE, grouped-query attention over the paged
//! cache, DeepStack adds, and the head (`Qwen3VLTextModel` of transformers). One path serves prefill (many rows of one session) and
//! decode (one row of each of up to eight sessions).

use std::sync::Arc;

use super::attention_tap::AttentionTap;
use super::config::{ModelConfig, TextConfig};
use super::converted::ConvertedModel;
use super::flash::{Flash, Piece};
use super::kv_cache::{KvCache, KvFormat};
use super::linear::{Epilogue, Linear, MAX_BATCH, Product, word};
use super::picture_arena::PictureArena;
use super::recipe::Recipe;
use super::stages;
use super::tensor_names::{EMBEDDING, FINAL_NORM, HEAD, TensorKind, text_layer};
use super::weights::{Matrix, Stacking, Uploader, WeightFormat};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Kernel, KernelKey, Recorder, Work};

/// What a row of activations stands for; the layout of the kernels' `RowInfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RowInfo {
    /// Text id, or vocabulary size + slot in the picture arena.
    pub token: u32,
    /// M-RoPE position (t, h, w).
    pub position: [u32; 3],
    /// Place in the sequence and in the cache.
    pub index: u32,
    /// Row of the page table and of the sampler's state.
    pub slot: u32,
    /// Random draws made so far.
    pub draws: u32,
    /// 1 in rows of a verify pass, where a slot has several: the sampler leaves the slot's state alone.
    pub verify: u32,
}

/// Keys one dispatch of prefill attention covers at most; also keeps each invocation's loops short.
const FLASH_KEYS: usize = 4096;
/// Keys of one piece of decode attention.
const DECODE_PIECE: usize = 256;
/// Positions the rotary table has beyond the context.
const SPARE_POSITIONS: usize = 8;

#[derive(Debug)]
struct Layer {
    input_norm: wgpu::Buffer,
    qkv: Matrix,
    /// q's norm, then k's.
    head_norms: wgpu::Buffer,
    o: Matrix,
    post_norm: wgpu::Buffer,
    gate_up: Matrix,
    down: Matrix,
}

#[derive(Debug)]
struct Kernels {
    embed_tokens: Arc<Kernel>,
    embed_pictures: Arc<Kernel>,
    rms_norm: Arc<Kernel>,
    rope_and_cache: Arc<Kernel>,
    flash: Flash,
    decode: Arc<Kernel>,
    reduce: Arc<Kernel>,
}

/// The text model's weights and the buffers its activations live in.
#[derive(Debug)]
pub struct TextDecoder {
    gpu: Gpu,
    config: ModelConfig,
    embedding: Matrix,
    layers: Vec<Layer>,
    final_norm: wgpu::Buffer,
    /// `None`: tied to the embedding.
    head: Option<Matrix>,
    kernels: Kernels,
    linear: Linear,
    rope_table: wgpu::Buffer,
    rope_positions: usize,
    /// Rows a pass may have.
    max_rows: usize,
    max_pieces: usize,
    buffers: Activations,
    /// The layer after which DeepStack's first level is added: 0. The tests plant a fault by moving it.
    #[doc(hidden)]
    pub first_deepstack_layer: usize,
}

/// Activations, `[max_rows, ..]` f32 each.
#[derive(Debug)]
struct Activations {
    rows: wgpu::Buffer,
    x: wgpu::Buffer,
    normed: wgpu::Buffer,
    qkv: wgpu::Buffer,
    q: wgpu::Buffer,
    attended: wgpu::Buffer,
    mlp: wgpu::Buffer,
    flash_state: wgpu::Buffer,
    partial: wgpu::Buffer,
    logits: wgpu::Buffer,
}

/// What a pass is for, and so how attention runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Consecutive tokens of one session; its cache is `length` long after them.
    Prefill {
        /// Tokens in the cache after the pass.
        length: usize,
        /// Rows of the pass that stand for pictures.
        pictures: usize,
        /// What is written does not depend on how many rows the pass has: a few go through the kernels for many, too.
        reproducible: bool,
    },
    /// One token of each of the batch's sessions; the longest cache is `length` after them.
    Decode {
        /// Tokens in the longest cache after the pass.
        length: usize,
    },
}

/// Copies of the last row at every layer, for whoever looks inside: `[layers, hidden]` f32 each.
#[derive(Debug)]
pub struct LayerTaps {
    gpu: Gpu,
    /// What enters each layer.
    pub inputs: wgpu::Buffer,
    /// What leaves it, DeepStack included.
    pub outputs: wgpu::Buffer,
    /// What the row attends to, where that was asked for: then the pass has one row.
    pub attention: Option<AttentionTap>,
}

impl Drop for LayerTaps {
    fn drop(&mut self) {
        self.gpu.uncount_bytes(self.inputs.size() + self.outputs.size());
    }
}

impl TextDecoder {
    /// Uploads the text model and makes room for passes of `max_rows` rows and sessions of `context` tokens, whose keys and
    /// values are stored as `kv`.
    ///
    /// # Errors
    /// A tensor is missing, a kernel does not compile, or memory is short.
    pub fn load(
        gpu: &Gpu,
        model: &ConvertedModel,
        upload: &mut Uploader<'_>,
        kv: KvFormat,
        max_rows: usize,
        context: usize,
    ) -> Result<Self> {
        let config = model.config().clone();
        let text = &config.text;
        let embedding = upload.matrix(EMBEDDING, None)?;
        let mut layers = Vec::new();
        for n in 0..text.num_layers {
            let name = |tail: &str| text_layer(n, tail);
            layers.push(Layer {
                input_norm: upload.vector(&name("input_layernorm.weight"))?,
                qkv: upload.stacked(
                    &["q", "k", "v"].map(|x| name(&format!("self_attn.{x}_proj.weight"))),
                    Stacking::Concatenated,
                )?,
                head_norms: upload
                    .vectors(&["q", "k"].map(|x| name(&format!("self_attn.{x}_norm.weight"))))?,
                o: upload.matrix(&name("self_attn.o_proj.weight"), None)?,
                post_norm: upload.vector(&name("post_attention_layernorm.weight"))?,
                gate_up: upload.stacked(
                    &["gate", "up"].map(|x| name(&format!("mlp.{x}_proj.weight"))),
                    Stacking::Interleaved,
                )?,
                down: upload.matrix(&name("mlp.down_proj.weight"), None)?,
            });
        }
        let final_norm = upload.vector(FINAL_NORM)?;
        let head = if model.recipe().has_own_head(text.tie_word_embeddings) {
            Some(upload.matrix(HEAD, None)?)
        } else {
            None
        };

        let head_dim = text.head_dim;
        if !matches!(head_dim, 64 | 128) {
            return Err(Error::new(
                "loading the text model",
                format!("head_dim {head_dim} is not supported, only 64 and 128"),
            ));
        }
        let key = |file| Self::kv_key(file, kv, head_dim);
        let kernels = Kernels {
            embed_tokens: gpu
                .kernel(&KernelKey::new("embed_tokens").with("WEIGHTS", embedding.format.name()))?,
            embed_pictures: gpu.kernel(&KernelKey::new("embed_pictures"))?,
            rms_norm: gpu.kernel(&KernelKey::new("rms_norm"))?,
            rope_and_cache: gpu.kernel(&key("rope_and_cache"))?,
            flash: Flash::new(gpu, kv.name(), head_dim)?,
            decode: gpu.kernel(&Self::decode_key(text, kv))?,
            reduce: gpu.kernel(&KernelKey::new("attention_reduce").with("HEAD_DIM", head_dim))?,
        };
        let rope_positions = context + SPARE_POSITIONS;
        let rope_table = gpu.storage_buffer_with(
            "rotary position table",
            bytemuck::cast_slice(&rope_table(rope_positions, head_dim, text.rope_theta)),
        )?;
        let max_rows = max_rows.max(MAX_BATCH);
        let max_pieces = context.div_ceil(DECODE_PIECE);
        let f32s = |label: &str, n: usize| gpu.storage_buffer(label, n * 4);
        let (heads, kv_heads) = (text.num_heads, text.num_kv_heads);
        let buffers = Activations {
            rows: f32s("rows", max_rows * 8)?,
            x: f32s("residual stream", max_rows * text.hidden_size)?,
            normed: f32s("normed rows", max_rows * text.hidden_size)?,
            qkv: f32s("q, k, v", max_rows * (heads + 2 * kv_heads) * head_dim)?,
            q: f32s("turned q", max_rows * heads * head_dim)?,
            attended: f32s("attended values", max_rows * heads * head_dim)?,
            mlp: f32s("MLP rows", max_rows * text.intermediate_size)?,
            flash_state: f32s("attention state", max_rows * heads * 2)?,
            partial: f32s("attention pieces", MAX_BATCH * heads * max_pieces * (head_dim + 4))?,
            logits: f32s("logits", MAX_BATCH * text.vocab_size)?,
        };
        Ok(Self {
            gpu: gpu.clone(),
            linear: Linear::new(gpu)?,
            config,
            embedding,
            layers,
            final_norm,
            head,
            kernels,
            rope_table,
            rope_positions,
            max_rows,
            max_pieces,
            buffers,
            first_deepstack_layer: 0,
        })
    }

    fn kv_key(file: &'static str, kv: KvFormat, head_dim: usize) -> KernelKey {
        KernelKey::new(file).with("KV", kv.name()).with("HEAD_DIM", head_dim)
    }

    /// Decode attention for this model.
    #[must_use]
    pub fn decode_key(text: &TextConfig, kv: KvFormat) -> KernelKey {
        Self::kv_key("attention_decode", kv, text.head_dim)
            .with("GROUP", heads_together(text.num_heads, text.num_kv_heads))
    }

    /// Kernels that answering will want, to be compiled ahead: for one session and for prefill.
    #[must_use]
    pub fn kernel_keys(gpu: &Gpu, text: &TextConfig, recipe: Recipe, kv: KvFormat) -> Vec<KernelKey> {
        let body = WeightFormat::of_storage(recipe.storage(TensorKind::Body));
        let head = WeightFormat::of_storage(recipe.storage(TensorKind::Head));
        let embedding = WeightFormat::of_storage(recipe.storage(TensorKind::Embedding));
        let mut keys = vec![
            KernelKey::new("embed_tokens").with("WEIGHTS", embedding.name()),
            KernelKey::new("embed_pictures"),
            KernelKey::new("rms_norm"),
        ];
        keys.push(Self::kv_key("rope_and_cache", kv, text.head_dim));
        keys.push(Flash::key(gpu, kv.name(), text.head_dim));
        keys.push(Self::decode_key(text, kv));
        keys.push(KernelKey::new("attention_reduce").with("HEAD_DIM", text.head_dim));
        for batch in [1, 0] {
            for epilogue in [Epilogue::None, Epilogue::SwiGlu] {
                keys.extend(Linear::keys(gpu, body, epilogue, batch));
            }
        }
        keys.extend(Linear::keys(gpu, head, Epilogue::None, 1));
        keys
    }

    /// Kernels that are wanted later: by steps of several rows, which several sessions have, or guesses to verify.
    #[must_use]
    pub fn later_kernel_keys(gpu: &Gpu, recipe: Recipe) -> Vec<KernelKey> {
        let body = WeightFormat::of_storage(recipe.storage(TensorKind::Body));
        let head = WeightFormat::of_storage(recipe.storage(TensorKind::Head));
        let of_batch = |batch| {
            let products = [(body, Epilogue::None), (body, Epilogue::SwiGlu), (head, Epilogue::None)];
            products.map(|(format, epilogue)| Linear::keys(gpu, format, epilogue, batch))
        };
        [2, 8, 4].into_iter().flat_map(of_batch).flatten().collect()
    }

    /// Bytes of everything but weights that loading makes: activations, the rotary table, logits.
    #[must_use]
    pub fn working_bytes(text: &TextConfig, max_rows: usize, context: usize) -> usize {
        let max_rows = max_rows.max(MAX_BATCH);
        let (heads, kv_heads, head_dim) = (text.num_heads, text.num_kv_heads, text.head_dim);
        let row = 8
            + 2 * text.hidden_size
            + (heads + 2 * kv_heads) * head_dim
            + 2 * heads * head_dim
            + text.intermediate_size
            + 2 * heads;
        let pieces = MAX_BATCH * heads * context.div_ceil(DECODE_PIECE) * (head_dim + 4);
        4 * (max_rows * row + pieces + MAX_BATCH * text.vocab_size + (context + SPARE_POSITIONS) * head_dim)
    }

    /// Rows a pass may have.
    #[must_use]
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// `[max_rows]` [`RowInfo`]: what the rows of the next pass stand for.
    #[must_use]
    pub fn rows(&self) -> &wgpu::Buffer {
        &self.buffers.rows
    }

    /// `[8, vocab]` f32: the logits of the last [`TextDecoder::head`].
    #[must_use]
    pub fn logits(&self) -> &wgpu::Buffer {
        &self.buffers.logits
    }

    /// `[max_rows, hidden]` f32: the rows after the final norm, as of the last [`TextDecoder::head`].
    #[must_use]
    pub fn final_normed(&self) -> &wgpu::Buffer {
        &self.buffers.normed
    }

    /// Bytes of weights one decode step reads.
    #[must_use]
    pub fn bytes_per_step(&self) -> usize {
        let layers: usize = self
            .layers
            .iter()
            .map(|l| l.qkv.bytes() + l.o.bytes() + l.gate_up.bytes() + l.down.bytes())
            .sum();
        layers + self.head.as_ref().unwrap_or(&self.embedding).bytes()
    }

    /// The matrices that every row goes through, and the head, which only rows whose token is wanted do.
    #[must_use]
    pub fn matrices(&self) -> (Vec<&Matrix>, &Matrix) {
        let body = self.layers.iter().flat_map(|l| [&l.qkv, &l.o, &l.gate_up, &l.down]).collect();
        (body, self.head.as_ref().unwrap_or(&self.embedding))
    }

    /// Fills every activation with a word; tests poison them with NaN.
    pub fn fill(&self, value: u32) {
        let b = &self.buffers;
        for buffer in
            [&b.x, &b.normed, &b.qkv, &b.q, &b.attended, &b.mlp, &b.flash_state, &b.partial, &b.logits]
        {
            self.gpu.fill(buffer, value);
        }
    }

    /// Buffers for [`LayerTaps`].
    ///
    /// # Errors
    /// Memory is short.
    pub fn make_taps(&self) -> Result<LayerTaps> {
        let bytes = self.layers.len() * self.config.text.hidden_size * 4;
        Ok(LayerTaps {
            gpu: self.gpu.clone(),
            inputs: self.gpu.storage_buffer("layer inputs", bytes)?,
            outputs: self.gpu.storage_buffer("layer outputs", bytes)?,
            attention: None,
        })
    }

    /// Buffers for [`LayerTaps`] of the row at the end of a sequence of `length` tokens, its attention included.
    ///
    /// # Errors
    /// A kernel does not compile, or memory is short.
    pub fn make_step_taps(&self, kv: KvFormat, length: usize) -> Result<LayerTaps> {
        let mut taps = self.make_taps()?;
        taps.attention = Some(AttentionTap::new(&self.gpu, &self.config.text, kv, length)?);
        Ok(taps)
    }

    /// Runs all layers over `rows` rows, whose [`RowInfo`] are already in [`TextDecoder::rows`].
    ///
    /// # Errors
    /// The device failed.
    pub fn layers(
        &mut self,
        recorder: &mut Recorder,
        cache: &KvCache,
        arena: &PictureArena,
        rows: usize,
        pass: Pass,
        taps: Option<&LayerTaps>,
    ) -> Result<()> {
        let pictures = match pass {
            Pass::Prefill { pictures, .. } => pictures,
            Pass::Decode { .. } => 0,
        };
        self.embed(recorder, arena, rows, pictures)?;
        let hidden = self.config.text.hidden_size;
        let last_row = ((rows - 1) * hidden * 4) as u64;
        let row_bytes = (hidden * 4) as u64;
        for n in 0..self.layers.len() {
            if let Some(taps) = taps {
                recorder.copy(&self.buffers.x, last_row, &taps.inputs, n as u64 * row_bytes, row_bytes);
            }
            self.layer(recorder, cache, n, rows, pass)?;
            if let Some(tap) = taps.and_then(|taps| taps.attention.as_ref()) {
                tap.record(recorder, cache, n, &self.buffers.q, &self.buffers.rows)?;
            }
            let level = n.checked_sub(self.first_deepstack_layer);
            if let Some(level) = level.filter(|&level| level < arena.levels()) {
                recorder.at(Some(n), stages::PICTURE_ROWS);
                self.add_pictures(recorder, arena.deepstack(level), [rows, pictures], true)?;
            }
            if let Some(taps) = taps {
                recorder.copy(&self.buffers.x, last_row, &taps.outputs, n as u64 * row_bytes, row_bytes);
            }
        }
        Ok(())
    }

    fn embed(
        &mut self,
        recorder: &mut Recorder,
        arena: &PictureArena,
        rows: usize,
        pictures: usize,
    ) -> Result<()> {
        let hidden = self.config.text.hidden_size;
        let row_bytes = self.embedding.format.row_cost_bytes(hidden) + 4 * hidden;
        recorder.at(None, stages::EMBEDDING);
        for slice in &self.embedding.slices {
            let params = [word(hidden), word(slice.first_row), word(slice.rows)];
            let buffers = [&self.buffers.rows, &slice.data, &self.buffers.x];
            let groups = [word((hidden / 4).div_ceil(64)), word(rows), 1];
            // Which tokens are of this slice is not known here: as many as its share of the vocabulary.
            let bytes = (rows - pictures) * row_bytes * slice.rows / self.embedding.rows;
            let work = Work::new(0, bytes).costing((rows * hidden * 18) as f64);
            recorder.dispatch(&self.kernels.embed_tokens, &params, &buffers, groups, work)?;
        }
        recorder.at(None, stages::PICTURE_ROWS);
        self.add_pictures(recorder, arena.embeddings(), [rows, pictures], false)
    }

    /// Writes or adds the arena's rows where tokens are extension ids: in `pictures` of `rows` rows.
    fn add_pictures(
        &self,
        recorder: &mut Recorder,
        source: &wgpu::Buffer,
        [rows, pictures]: [usize; 2],
        add: bool,
    ) -> Result<()> {
        let hidden = self.config.text.hidden_size;
        let params = [word(hidden), word(self.config.text.vocab_size), u32::from(add)];
        let groups = [word((hidden / 4).div_ceil(64)), word(rows), 1];
        let buffers = [&self.buffers.rows, source, &self.buffers.x];
        let elements = pictures * hidden;
        let (flops, moved) = if add { (elements, 3 * elements) } else { (0, 2 * elements) };
        let work = Work::new(flops, 4 * moved + rows * size_of::<RowInfo>());
        let work = work.costing((rows * hidden * 24) as f64);
        recorder.dispatch(&self.kernels.embed_pictures, &params, &buffers, groups, work)
    }

    fn norm(
        &self,
        recorder: &mut Recorder,
        weight: &wgpu::Buffer,
        x_first_row: usize,
        rows: usize,
    ) -> Result<()> {
        let hidden = self.config.text.hidden_size;
        let params = [word(hidden), self.config.text.rms_norm_eps.to_bits(), word(x_first_row), 0];
        let buffers = [&self.buffers.x, weight, &self.buffers.normed];
        let work = Work::new(4 * rows * hidden, 4 * (2 * rows * hidden + hidden));
        let work = work.costing((rows * hidden * 30) as f64);
        recorder.dispatch(&self.kernels.rms_norm, &params, &buffers, [word(rows), 1, 1], work)
    }

    fn layer(
        &mut self,
        recorder: &mut Recorder,
        cache: &KvCache,
        n: usize,
        rows: usize,
        pass: Pass,
    ) -> Result<()> {
        let text = &self.config.text;
        let (heads, kv_heads, head_dim) = (text.num_heads, text.num_kv_heads, text.head_dim);
        let as_many = matches!(pass, Pass::Prefill { reproducible: true, .. });
        let layer = &self.layers[n];
        recorder.at(Some(n), stages::NORM);
        self.norm(recorder, &layer.input_norm, 0, rows)?;
        let b = &self.buffers;
        recorder.at(Some(n), stages::QKV);
        let product = Product::new(&b.normed, &b.qkv, rows).as_many(as_many);
        self.linear.record(recorder, &layer.qkv, &product)?;

        let [_, section_h, section_w] = text.mrope_section;
        let params = [
            word(heads),
            word(kv_heads),
            cache.max_pages(),
            word(section_h),
            word(section_w),
            text.rms_norm_eps.to_bits(),
            word(self.rope_positions),
        ];
        let buffers = [
            &b.rows,
            &b.qkv,
            &layer.head_norms,
            &self.rope_table,
            &cache.page_table,
            &b.q,
            &cache.k[n],
            &cache.v[n],
        ];
        let all_heads = heads + 2 * kv_heads;
        // Of q and k an element is squared, scaled twice and turned; v is moved only.
        let turned = rows * (heads + kv_heads) * head_dim;
        let cached = rows * 2 * kv_heads * cache.format.head_bytes(head_dim);
        let table_and_norms = 4 * (rows * head_dim + 2 * head_dim);
        let moved = 4 * rows * (all_heads + heads) * head_dim + cached + table_and_norms;
        let work = Work::new(7 * turned, moved).costing((rows * all_heads * head_dim * 40) as f64);
        recorder.at(Some(n), stages::ROPE_AND_CACHE);
        let groups = [word(all_heads), word(rows), 1];
        recorder.dispatch(&self.kernels.rope_and_cache, &params, &buffers, groups, work)?;
        recorder.at(Some(n), stages::ATTENTION);
        self.attend(recorder, cache, n, rows, pass)?;

        let (layer, b) = (&self.layers[n], &self.buffers);
        recorder.at(Some(n), stages::OUTPUT);
        let product = Product::new(&b.attended, &b.x, rows).accumulate().as_many(as_many);
        self.linear.record(recorder, &layer.o, &product)?;
        recorder.at(Some(n), stages::NORM);
        self.norm(recorder, &layer.post_norm, 0, rows)?;
        let b = &self.buffers;
        recorder.at(Some(n), stages::GATE_AND_UP);
        let product = Product::new(&b.normed, &b.mlp, rows).epilogue(Epilogue::SwiGlu).as_many(as_many);
        self.linear.record(recorder, &layer.gate_up, &product)?;
        recorder.at(Some(n), stages::DOWN);
        let product = Product::new(&b.mlp, &b.x, rows).accumulate().as_many(as_many);
        self.linear.record(recorder, &layer.down, &product)
    }

    fn attend(
        &self,
        recorder: &mut Recorder,
        cache: &KvCache,
        n: usize,
        rows: usize,
        pass: Pass,
    ) -> Result<()> {
        let text = &self.config.text;
        let (heads, head_dim) = (text.num_heads, text.head_dim);
        let kv_heads = text.num_kv_heads;
        let scale = (1.0 / (head_dim as f64).sqrt()) as f32;
        let b = &self.buffers;
        // Of one token, keys and values of all heads.
        let key_bytes = 2 * kv_heads * cache.format.head_bytes(head_dim);
        match pass {
            Pass::Prefill { length, .. } => {
                let per_key = (4 * rows * heads * head_dim) as f64;
                let step = ((recorder.piece_cost() / per_key) as usize).clamp(64, FLASH_KEYS) / 64 * 64;
                let mut first = 0;
                while first < length {
                    let count = step.min(length - first);
                    let flags = u32::from(first == 0) | (u32::from(first + count == length) << 1);
                    let params = [
                        word(rows),
                        0,
                        word(heads),
                        word(kv_heads),
                        word(first),
                        word(count),
                        cache.max_pages(),
                        scale.to_bits(),
                        flags,
                    ];
                    let buffers = [
                        &b.q,
                        &cache.k[n],
                        &cache.v[n],
                        &b.attended,
                        &b.flash_state,
                        &b.rows,
                        &cache.page_table,
                    ];
                    let row_groups = rows.div_ceil(self.kernels.flash.rows_in_workgroup);
                    let groups = [word(row_groups), word(heads), 1];
                    let work = Flash::work(Piece {
                        rows,
                        heads,
                        head_dim,
                        kv_bytes: count * key_bytes,
                        seen: seen_keys(length, rows, first..first + count),
                        first: first == 0,
                        last: first + count == length,
                    });
                    let work = work.costing(per_key * count as f64);
                    recorder.dispatch(&self.kernels.flash.kernel, &params, &buffers, groups, work)?;
                    first += count;
                }
                Ok(())
            }
            Pass::Decode { length } => {
                let pieces = length.div_ceil(DECODE_PIECE);
                let params =
                    [word(heads), word(kv_heads), cache.max_pages(), word(self.max_pieces), scale.to_bits()];
                let buffers = [&b.q, &cache.k[n], &cache.v[n], &b.rows, &cache.page_table, &b.partial];
                // All rows are taken to see as many keys as the longest: which are shorter is known on the device only.
                let cost = (4 * rows * heads * head_dim * length) as f64;
                let row_bytes = 4 * heads * head_dim;
                // A piece's largest score, sum of weights and weighted values.
                let piece_bytes = 4 * heads * (head_dim + 2);
                let moved = rows * (length * key_bytes + row_bytes + pieces * piece_bytes);
                let work = Work::new(4 * rows * heads * head_dim * length, moved).costing(cost);
                let groups = [
                    word(pieces),
                    word(heads / heads_together(text.num_heads, text.num_kv_heads)),
                    word(rows),
                ];
                recorder.dispatch(&self.kernels.decode, &params, &buffers, groups, work)?;
                let params = [word(heads), word(self.max_pieces)];
                let buffers = [&b.partial, &b.rows, &b.attended];
                let moved = rows * (pieces * piece_bytes + row_bytes);
                let work = Work::new(2 * rows * pieces * heads * head_dim, moved).costing(cost / 64.0);
                recorder.dispatch(&self.kernels.reduce, &params, &buffers, [word(heads), word(rows), 1], work)
            }
        }
    }

    /// Final norm and head of rows `first..first + rows` (at most eight) into [`TextDecoder::logits`].
    ///
    /// # Errors
    /// The device failed.
    pub fn head(&mut self, recorder: &mut Recorder, first: usize, rows: usize) -> Result<()> {
        recorder.at(None, stages::NORM);
        self.norm(recorder, &self.final_norm, first, rows)?;
        recorder.at(None, stages::HEAD);
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        let b = &self.buffers;
        self.linear.record(recorder, head, &Product::new(&b.normed, &b.logits, rows))
    }

    /// Final norm and head of what layers `first..first + layers` (at most eight) gave the tapped row, into
    /// [`TextDecoder::logits`]: the logit lens.
    ///
    /// # Errors
    /// The device failed.
    pub fn head_of_layers(
        &mut self,
        recorder: &mut Recorder,
        taps: &LayerTaps,
        first: usize,
        layers: usize,
    ) -> Result<()> {
        let row_bytes = self.config.text.hidden_size * 4;
        let (from, bytes) = ((first * row_bytes) as u64, (layers * row_bytes) as u64);
        recorder.copy(&taps.outputs, from, &self.buffers.x, 0, bytes);
        self.head(recorder, 0, layers)
    }

    /// Storage of the head, for reports.
    #[must_use]
    pub fn head_format(&self) -> WeightFormat {
        self.head.as_ref().unwrap_or(&self.embedding).format
    }
}

/// Query heads of one KV head that a workgroup of decode attention runs together: its define GROUP.
#[must_use]
pub fn heads_together(heads: usize, kv_heads: usize) -> usize {
    [4, 2].into_iter().find(|group| (heads / kv_heads).is_multiple_of(*group)).unwrap_or(1)
}

/// Pairs of one of the last `rows` of `length` tokens and a key of the range at or before it.
fn seen_keys(length: usize, rows: usize, keys: std::ops::Range<usize>) -> usize {
    (length - rows + 1..=length).map(|sees| sees.min(keys.end).saturating_sub(keys.start)).sum()
}

/// `[positions, head_dim / 2]` (cos, sin): the angle is position * theta^(-2k/head_dim), its product rounded
/// to f32 as transformers does, the functions exact.
fn rope_table(positions: usize, head_dim: usize, theta: f64) -> Vec<[f32; 2]> {
    let frequencies: Vec<f32> =
        (0..head_dim / 2).map(|k| (1.0 / theta.powf((2 * k) as f64 / head_dim as f64)) as f32).collect();
    let mut table = Vec::with_capacity(positions * frequencies.len());
    for position in 0..positions {
        for &frequency in &frequencies {
            let angle = f64::from(position as f32 * frequency);
            table.push([angle.cos() as f32, angle.sin() as f32]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_layout_of_the_kernels_row_info() {
        assert_eq!(size_of::<RowInfo>(), 32);
        let row = RowInfo { token: 1, position: [2, 3, 4], index: 5, slot: 6, draws: 7, verify: 8 };
        assert_eq!(bytemuck::bytes_of(&row), bytemuck::cast_slice::<u32, u8>(&[1, 2, 3, 4, 5, 6, 7, 8]));
    }

    #[test]
    fn a_row_sees_itself_and_what_is_before_it_in_each_piece_of_the_keys() {
        // Rows 7, 8, 9 of ten: they see 8, 9, 10 keys.
        assert_eq!(seen_keys(10, 3, 0..10), 27);
        assert_eq!(seen_keys(10, 3, 0..8) + seen_keys(10, 3, 8..10), 27);
        assert_eq!(seen_keys(10, 3, 8..10), 3);
        assert_eq!(seen_keys(5, 5, 0..5), 15);
    }

    #[test]
    fn the_rope_table_holds_cosine_and_sine_of_position_times_frequency() {
        let table = rope_table(10, 64, 5e6);
        assert!((table[0][0] - 1.0).abs() < 1e-9 && table[0][1].abs() < 1e-9);
        let [c, s] = table[9 * 32];
        assert!((f64::from(c) - 9f64.cos()).abs() < 1e-7 && (f64::from(s) - 9f64.sin()).abs() < 1e-7);
    }
}
