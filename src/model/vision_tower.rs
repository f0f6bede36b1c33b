//! The vision tower on the device (`Qwen3VLVisionModel` of transformers): patches of one picture, or of one pair of a clip's frames,
//! to merged tokens and DeepStack features in the picture arena. Frames never see each other, so each is
//! encoded on its own and memory follows the largest frame, not the clip.

use std::sync::Arc;

use super::config::VisionConfig;
use super::converted::ConvertedModel;
use super::flash::{Flash, Piece};
use super::linear::{Epilogue, Linear, Product, word};
use super::picture_arena::PictureArena;
use super::recipe::Recipe;
use super::stages;
use super::tensor_names::{
    PATCH_EMBED, PATCH_EMBED_BIAS, POSITION_TABLE, TensorKind, deepstack_merger, merger, vision_block,
};
use super::weights::{Matrix, Uploader, WeightFormat};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Gpu, Kernel, KernelKey, Recorder, Work};

#[derive(Debug)]
struct Norm {
    weight: wgpu::Buffer,
    bias: wgpu::Buffer,
}

#[derive(Debug)]
struct Block {
    norm1: Norm,
    q: Matrix,
    k: Matrix,
    v: Matrix,
    proj: Matrix,
    norm2: Norm,
    fc1: Matrix,
    fc2: Matrix,
}

#[derive(Debug)]
struct Merger {
    norm: Norm,
    fc1: Matrix,
    fc2: Matrix,
}

/// The tower's weights, kernels and working memory.
#[derive(Debug)]
pub struct VisionTower {
    gpu: Gpu,
    config: VisionConfig,
    patch_embed: Matrix,
    position_table: wgpu::Buffer,
    blocks: Vec<Block>,
    merger: Merger,
    deepstack: Vec<Merger>,
    linear: Linear,
    layer_norm: Arc<Kernel>,
    position: Arc<Kernel>,
    rope: Arc<Kernel>,
    attention: Flash,
    scratch: Option<Scratch>,
}

/// Working memory for frames of up to `patches` patches.
#[derive(Debug)]
struct Scratch {
    patches: usize,
    x: wgpu::Buffer,
    normed: wgpu::Buffer,
    q: wgpu::Buffer,
    k: wgpu::Buffer,
    v: wgpu::Buffer,
    state: wgpu::Buffer,
    mlp: wgpu::Buffer,
    pixels: wgpu::Buffer,
    turns: wgpu::Buffer,
}

/// Patches that go through the MLP, and pixels through the patch embedding, at a time.
const CHUNK_PATCHES: usize = 1024;
/// Rows and keys one dispatch of attention covers at most.
const ATTENTION_ROWS: usize = 2048;
const ATTENTION_KEYS: usize = 4096;
const LAYER_NORM_EPS: f32 = 1e-6;
const ROPE_THETA: f64 = 10_000.0;

/// One frame to encode: its grid in patches and its pixels.
pub struct Frame<'a> {
    /// Patch rows.
    pub gh: usize,
    /// Patch columns.
    pub gw: usize,
    /// `pixel_values` of a range of patches, in block order: `[patches, 1536]` f32.
    pub pixels: &'a dyn Fn(std::ops::Range<usize>) -> Vec<f32>,
}

impl std::fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame of {} x {} patches", self.gh, self.gw)
    }
}

impl VisionTower {
    /// Uploads the tower.
    ///
    /// # Errors
    /// A tensor is missing, a kernel does not compile, or memory is short.
    pub fn load(gpu: &Gpu, model: &ConvertedModel, upload: &mut Uploader<'_>) -> Result<Self> {
        let config = model.config().vision.clone();
        let d = config.hidden_size;
        let norm = |upload: &mut Uploader<'_>, name: &dyn Fn(&str) -> String, which: &str| -> Result<Norm> {
            Ok(Norm {
                weight: upload.vector(&name(&format!("{which}.weight")))?,
                bias: upload.vector(&name(&format!("{which}.bias")))?,
            })
        };
        let linear = |upload: &mut Uploader<'_>, name: &dyn Fn(&str) -> String, which: &str| {
            upload.matrix(&name(&format!("{which}.weight")), Some(&name(&format!("{which}.bias"))))
        };
        let patch_embed = upload.matrix(PATCH_EMBED, Some(PATCH_EMBED_BIAS))?;
        let position_table = upload.vector(POSITION_TABLE)?;
        let mut blocks = Vec::new();
        for n in 0..config.depth {
            let name = |tail: &str| vision_block(n, tail);
            let (qkv, bias) = (name("attn.qkv.weight"), name("attn.qkv.bias"));
            blocks.push(Block {
                norm1: norm(upload, &name, "norm1")?,
                q: upload.matrix_rows(&qkv, &bias, 0..d)?,
                k: upload.matrix_rows(&qkv, &bias, d..2 * d)?,
                v: upload.matrix_rows(&qkv, &bias, 2 * d..3 * d)?,
                proj: linear(upload, &name, "attn.proj")?,
                norm2: norm(upload, &name, "norm2")?,
                fc1: linear(upload, &name, "mlp.linear_fc1")?,
                fc2: linear(upload, &name, "mlp.linear_fc2")?,
            });
        }
        let read_merger = |upload: &mut Uploader<'_>, name: &dyn Fn(&str) -> String| -> Result<Merger> {
            Ok(Merger {
                norm: norm(upload, name, "norm")?,
                fc1: linear(upload, name, "linear_fc1")?,
                fc2: linear(upload, name, "linear_fc2")?,
            })
        };
        let main = read_merger(upload, &|tail| merger(tail))?;
        let deepstack = (0..config.deepstack_indexes.len())
            .map(|i| read_merger(upload, &|tail| deepstack_merger(i, tail)))
            .collect::<Result<_>>()?;
        let head_dim = config.head_dim();
        if !head_dim.is_multiple_of(4) || head_dim > 128 {
            let why =
                format!("vision head_dim {head_dim} is not supported: it must be a multiple of 4 up to 128");
            return Err(Error::new("loading the vision tower", why));
        }
        Ok(Self {
            gpu: gpu.clone(),
            linear: Linear::new(gpu)?,
            layer_norm: gpu.kernel(&KernelKey::new("layer_norm"))?,
            position: gpu.kernel(&KernelKey::new("vision_position"))?,
            rope: gpu.kernel(&KernelKey::new("vision_rope"))?,
            attention: Flash::new(gpu, "dense", config.head_dim())?,
            config,
            patch_embed,
            position_table,
            blocks,
            merger: main,
            deepstack,
            scratch: None,
        })
    }

    /// Kernels that encoding a picture will want, to be compiled ahead.
    #[must_use]
    pub fn kernel_keys(gpu: &Gpu, config: &VisionConfig, recipe: Recipe) -> Vec<KernelKey> {
        let format = WeightFormat::of_storage(recipe.storage(TensorKind::Vision));
        let mut keys = ["layer_norm", "vision_position", "vision_rope"].map(KernelKey::new).to_vec();
        keys.push(Flash::key(gpu, "dense", config.head_dim()));
        for epilogue in [Epilogue::None, Epilogue::GeluTanh, Epilogue::GeluErf] {
            keys.extend(Linear::keys(gpu, format, epilogue, 0));
        }
        keys
    }

    /// The matrices that every patch goes through, and those that every merged token does.
    #[must_use]
    pub fn matrices(&self) -> (Vec<&Matrix>, Vec<&Matrix>) {
        let blocks = self.blocks.iter().flat_map(|b| [&b.q, &b.k, &b.v, &b.proj, &b.fc1, &b.fc2]);
        let mergers = self.deepstack.iter().chain([&self.merger]).flat_map(|m| [&m.fc1, &m.fc2]);
        ([&self.patch_embed].into_iter().chain(blocks).collect(), mergers.collect())
    }

    /// The largest frame, in merged tokens, whose rows fit into the device's bindings.
    #[must_use]
    pub fn most_tokens_per_frame(&self) -> usize {
        self.gpu.max_binding_bytes() / (self.config.hidden_size * 4) / self.config.merge_unit()
    }

    /// Bytes of working memory a frame of `patches` patches needs.
    #[must_use]
    pub fn scratch_bytes(&self, patches: usize) -> usize {
        let c = &self.config;
        let chunk = patches.min(self.chunk_patches());
        4 * (patches * (5 * c.hidden_size + 2 * c.num_heads)
            + chunk * (c.intermediate_size + c.patch_elements()))
    }

    /// Patches whose pixels or MLP rows are in memory at a time.
    fn chunk_patches(&self) -> usize {
        let widest = self.config.intermediate_size.max(self.config.patch_elements()) * 4;
        CHUNK_PATCHES.min(self.gpu.max_binding_bytes() / widest).max(1)
    }

    fn make_scratch(&mut self, recorder: &mut Recorder, patches: usize, side: usize) -> Result<()> {
        let c = &self.config;
        let turns = side * c.head_dim() / 4 * 8;
        if let Some(s) = &self.scratch
            && s.patches >= patches
            && s.turns.size() >= turns as u64
        {
            return Ok(());
        }
        if patches / c.merge_unit() > self.most_tokens_per_frame() {
            let why = format!(
                "it has {} image tokens and {} can hold at most {} of a picture",
                patches / c.merge_unit(),
                self.gpu.adapter_name(),
                self.most_tokens_per_frame()
            );
            return Err(Error::new("encoding a picture", why)
                .help("give it fewer image tokens")
                .kind(ErrorKind::DoesNotFit));
        }
        // Free the old memory before asking for the new.
        recorder.finish()?;
        recorder.forget();
        if let Some(old) = self.scratch.take() {
            let all =
                [&old.x, &old.normed, &old.q, &old.k, &old.v, &old.state, &old.mlp, &old.pixels, &old.turns];
            self.gpu.uncount_bytes(all.iter().map(|b| b.size()).sum());
        }
        let patches = patches.next_multiple_of(256).min(self.most_tokens_per_frame() * c.merge_unit());
        let chunk = patches.min(self.chunk_patches());
        let f32s = |label: &str, n: usize| {
            self.gpu.storage_buffer(&format!("a picture of {patches} patches ({label})"), n * 4)
        };
        let d = c.hidden_size;
        self.scratch = Some(Scratch {
            patches,
            x: f32s("residual stream", patches * d)?,
            normed: f32s("normed rows", patches * d)?,
            q: f32s("q", patches * d)?,
            k: f32s("k", patches * d)?,
            v: f32s("v", patches * d)?,
            state: f32s("attention state", patches * c.num_heads * 2)?,
            mlp: f32s("MLP rows", chunk * c.intermediate_size)?,
            pixels: f32s("pixels", chunk * c.patch_elements())?,
            turns: f32s("rotary angles", side.max(256) * c.head_dim() / 4 * 2)?,
        });
        Ok(())
    }

    /// Fills the working memory with a word; tests poison it with NaN.
    pub fn fill(&self, value: u32) {
        if let Some(s) = &self.scratch {
            for b in [&s.x, &s.normed, &s.q, &s.k, &s.v, &s.state, &s.mlp, &s.pixels] {
                self.gpu.fill(b, value);
            }
        }
    }

    /// Encodes a frame into rows `slot..` of the arena. `progress` is told the blocks done and may stop it.
    ///
    /// # Errors
    /// The frame is too large for the device, memory is short, the device failed, or `progress` said stop.
    pub fn encode(
        &mut self,
        recorder: &mut Recorder,
        arena: &PictureArena,
        frame: &Frame<'_>,
        slot: usize,
        progress: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<()> {
        let (gh, gw) = (frame.gh, frame.gw);
        let patches = gh * gw;
        self.make_scratch(recorder, patches, gh.max(gw))?;
        let Some(s) = self.scratch.take() else { return Ok(()) };
        let result = self.encode_in(recorder, arena, frame, slot, &s, progress);
        self.scratch = Some(s);
        if result.is_err() {
            recorder.forget();
        }
        result
    }

    fn encode_in(
        &mut self,
        recorder: &mut Recorder,
        arena: &PictureArena,
        frame: &Frame<'_>,
        slot: usize,
        s: &Scratch,
        progress: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<()> {
        let (gh, gw) = (frame.gh, frame.gw);
        let patches = gh * gw;
        recorder.begin_part(stages::VISION);
        self.embed_patches(recorder, frame, s)?;
        let quarter = self.config.head_dim() / 4;
        self.gpu.write(&s.turns, 0, bytemuck::cast_slice(&turns(gh.max(gw), quarter)));
        for n in 0..self.blocks.len() {
            progress(n, self.blocks.len())?;
            self.block(recorder, n, gh, gw, s)?;
            if let Some(level) = self.config.deepstack_indexes.iter().position(|&i| i == n) {
                recorder.at(Some(n), stages::MERGER);
                self.merge(recorder, Some(level), patches, arena, slot, s)?;
            }
        }
        recorder.at(None, stages::MERGER);
        self.merge(recorder, None, patches, arena, slot, s)?;
        progress(self.blocks.len(), self.blocks.len())
    }

    fn embed_patches(&mut self, recorder: &mut Recorder, frame: &Frame<'_>, s: &Scratch) -> Result<()> {
        let patches = frame.gh * frame.gw;
        let d = self.config.hidden_size;
        recorder.at(None, stages::PATCHES);
        let mut first = 0;
        while first < patches {
            let count = self.chunk_patches().min(patches - first);
            // The upload is queued after what is already submitted: submit first, then overwrite.
            recorder.submit()?;
            self.gpu.write(&s.pixels, 0, bytemuck::cast_slice(&(frame.pixels)(first..first + count)));
            let product = Product::new(&s.pixels, &s.x, count).at(0, first);
            self.linear.record_many(recorder, &self.patch_embed, &product)?;
            recorder.submit()?;
            first += count;
        }
        let side = self.config.position_side();
        recorder.at(None, stages::POSITIONS);
        let mut first = 0;
        while first < patches {
            let count = 32768.min(patches - first);
            let params = [word(d), word(side), word(frame.gh), word(frame.gw), word(first)];
            let groups = [word((d / 4).div_ceil(64)), word(count), 1];
            // Four taps, each read once in all where patches are as dense as the table, and the stream read and written.
            let work = Work::new(8 * count * d, 12 * count * d).costing((count * d * 60) as f64);
            recorder.dispatch(&self.position, &params, &[&self.position_table, &s.x], groups, work)?;
            first += count;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "what is normed, with what, from where to where")]
    fn norm(
        &self,
        recorder: &mut Recorder,
        norm: &Norm,
        x: &wgpu::Buffer,
        y: &wgpu::Buffer,
        width: usize,
        x_first: usize,
        rows: usize,
    ) -> Result<()> {
        let mut first = 0;
        while first < rows {
            let count = 32768.min(rows - first);
            let params = [word(width), LAYER_NORM_EPS.to_bits(), word(x_first + first), word(first)];
            let buffers = [x, &norm.weight, &norm.bias, y];
            let work = Work::new(8 * count * width, 4 * (2 * count * width + 2 * width));
            let work = work.costing((count * width * 30) as f64);
            recorder.dispatch(&self.layer_norm, &params, &buffers, [word(count), 1, 1], work)?;
            first += count;
        }
        Ok(())
    }

    fn block(&mut self, recorder: &mut Recorder, n: usize, gh: usize, gw: usize, s: &Scratch) -> Result<()> {
        let patches = gh * gw;
        let d = self.config.hidden_size;
        let block = &self.blocks[n];
        recorder.at(Some(n), stages::NORM);
        self.norm(recorder, &block.norm1, &s.x, &s.normed, d, 0, patches)?;
        recorder.at(Some(n), stages::QKV);
        for (w, y) in [(&block.q, &s.q), (&block.k, &s.k), (&block.v, &s.v)] {
            self.linear.record_many(recorder, w, &Product::new(&s.normed, y, patches))?;
        }
        let pairs = patches * d / 2;
        let groups = pairs.div_ceil(64);
        let (gx, gy) = (groups.min(32768), groups.div_ceil(32768));
        let params = [
            word(patches),
            word(self.config.num_heads),
            word(self.config.head_dim()),
            word(gh),
            word(gw),
            word(gx),
        ];
        // A pair of q and one of k are turned: six operations each, read and written.
        let work = Work::new(12 * pairs, 32 * pairs).costing((pairs * 60) as f64);
        recorder.at(Some(n), stages::ROPE);
        recorder.dispatch(&self.rope, &params, &[&s.turns, &s.q, &s.k], [word(gx), word(gy), 1], work)?;
        recorder.at(Some(n), stages::ATTENTION);
        self.attend(recorder, patches, s)?;
        let block = &self.blocks[n];
        recorder.at(Some(n), stages::OUTPUT);
        self.linear.record_many(
            recorder,
            &block.proj,
            &Product::new(&s.normed, &s.x, patches).accumulate(),
        )?;
        let mut first = 0;
        while first < patches {
            let count = self.chunk_patches().min(patches - first);
            let block = &self.blocks[n];
            recorder.at(Some(n), stages::NORM);
            self.norm(recorder, &block.norm2, &s.x, &s.normed, d, first, count)?;
            recorder.at(Some(n), stages::UP);
            self.linear.record_many(
                recorder,
                &block.fc1,
                &Product::new(&s.normed, &s.mlp, count).epilogue(Epilogue::GeluTanh),
            )?;
            recorder.at(Some(n), stages::DOWN);
            let down = Product::new(&s.mlp, &s.x, count).accumulate().at(0, first);
            self.linear.record_many(recorder, &block.fc2, &down)?;
            first += count;
        }
        Ok(())
    }

    /// Full attention within the frame, from q, k, v into `normed`.
    fn attend(&self, recorder: &mut Recorder, patches: usize, s: &Scratch) -> Result<()> {
        let (heads, head_dim) = (self.config.num_heads, self.config.head_dim());
        let scale = (1.0 / (head_dim as f64).sqrt()) as f32;
        let per_row_key = (4 * heads * head_dim) as f64;
        // As many rows as the shortest run of keys allows in one piece.
        let most_rows = ((recorder.piece_cost() / (per_row_key * 64.0)) as usize).clamp(256, ATTENTION_ROWS);
        let mut first_row = 0;
        while first_row < patches {
            let rows = most_rows.min(patches - first_row);
            let step = (recorder.piece_cost() / (per_row_key * rows as f64)) as usize;
            let step = step.clamp(64, ATTENTION_KEYS) / 64 * 64;
            let mut first = 0;
            while first < patches {
                let count = step.min(patches - first);
                let flags = u32::from(first == 0) | (u32::from(first + count == patches) << 1);
                let params = [
                    word(rows),
                    word(first_row),
                    word(heads),
                    word(heads),
                    word(first),
                    word(count),
                    0,
                    scale.to_bits(),
                    flags,
                ];
                let buffers = [&s.q, &s.k, &s.v, &s.normed, &s.state];
                let row_groups = rows.div_ceil(self.attention.rows_in_workgroup);
                let groups = [word(row_groups), word(heads), 1];
                let work = Flash::work(Piece {
                    rows,
                    heads,
                    head_dim,
                    kv_bytes: 8 * count * heads * head_dim,
                    seen: rows * count,
                    first: first == 0,
                    last: first + count == patches,
                });
                let work = work.costing(per_row_key * (rows * count) as f64);
                recorder.dispatch(&self.attention.kernel, &params, &buffers, groups, work)?;
                first += count;
            }
            first_row += rows;
        }
        Ok(())
    }

    /// The final merger (`None`) or one of DeepStack's, of the stream as it is now, into the arena.
    fn merge(
        &mut self,
        recorder: &mut Recorder,
        level: Option<usize>,
        patches: usize,
        arena: &PictureArena,
        slot: usize,
        s: &Scratch,
    ) -> Result<()> {
        let merger = level.map_or(&self.merger, |i| &self.deepstack[i]);
        let target = level.map_or(arena.embeddings(), |i| arena.deepstack(i));
        let (d, unit) = (self.config.hidden_size, self.config.merge_unit());
        let tokens = patches / unit;
        // Four consecutive patches are one block, so [patches, d] and [tokens, 4d] are the same memory:
        // the final merger norms each patch, DeepStack's norm the joined row.
        let (width, rows) = if level.is_some() { (d * unit, tokens) } else { (d, patches) };
        self.norm(recorder, &merger.norm, &s.x, &s.normed, width, 0, rows)?;
        self.linear.record_many(
            recorder,
            &merger.fc1,
            &Product::new(&s.normed, &s.q, tokens).epilogue(Epilogue::GeluErf),
        )?;
        self.linear.record_many(recorder, &merger.fc2, &Product::new(&s.q, target, tokens).at(0, slot))
    }
}

/// `[side, quarter]` (cos, sin) of `place * 10000^(-2k / (d/2))`, k < d/4.
fn turns(side: usize, quarter: usize) -> Vec<[f32; 2]> {
    let mut table = Vec::with_capacity(side * quarter);
    for place in 0..side {
        for k in 0..quarter {
            let frequency = (1.0 / ROPE_THETA.powf((2 * k) as f64 / (2 * quarter) as f64)) as f32;
            let angle = f64::from(place as f32 * frequency);
            table.push([angle.cos() as f32, angle.sin() as f32]);
        }
    }
    table
}
