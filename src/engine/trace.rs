//! The numerics instrument: one prompt run greedily with every stage recorded. What `ocelli trace` writes
//! and the oracle tests compare.

use std::collections::BTreeMap;

use super::front_end::Prepared;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::model::linear::MAX_BATCH;
use crate::model::loaded::LoadedModel;
use crate::model::picture::{PreparedPicture, VisionKind};
use crate::model::runner::Runner;
use crate::model::sampler::{Sampling, TokenRecord};
use crate::model::vision_tower::Frame;

/// A recorded f32 tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

/// Every stage of a prompt.
#[derive(Clone, Debug)]
pub struct Trace {
    /// `pixel_values`, `image_embeds`, `image_deepstack_{i}`, the same of clips (`pixel_values_videos`,
    /// `video_…`), `layer_inputs_last`, `layer_outputs_last`, `final_norm_last`, `logits`.
    pub tensors: BTreeMap<String, Recorded>,
    /// Greedy tokens with their most likely alternatives.
    pub greedy: Vec<TokenRecord>,
}

/// Encodes all pictures of a prompt; its tokens with extension ids for pads.
///
/// # Errors
/// A picture does not fit, or the device failed.
pub fn encode_pictures(model: &mut LoadedModel, prepared: &Prepared) -> Result<Vec<u32>> {
    let clips = prepared.clips.iter().map(|clip| &clip.picture);
    let all: Vec<&PreparedPicture> = prepared.images.iter().chain(clips).collect();
    let mut first_slots = Vec::new();
    for picture in all {
        let key = *picture.key();
        let first = match model.arena.find(&key) {
            Some(first) => first,
            None => {
                let first = model.arena.allocate(&mut model.recorder, key, picture.num_tokens())?;
                encode_frames(model, picture, first)?;
                first
            }
        };
        model.arena.pin(&key);
        first_slots.push(first);
    }
    let vocab = model.config.text.vocab_size;
    Ok(prepared.prompt.ids_with(|span, row| {
        let at = if span.kind == VisionKind::Image { span.index } else { prepared.images.len() + span.index };
        u32::try_from(vocab + first_slots[at] + row).unwrap_or(u32::MAX)
    }))
}

fn encode_frames(model: &mut LoadedModel, picture: &PreparedPicture, first: usize) -> Result<()> {
    let grid = picture.grid();
    for t in 0..grid.t as usize {
        let offset = t * grid.frame_patches();
        let frame = Frame {
            gh: grid.h as usize,
            gw: grid.w as usize,
            pixels: &|rows| picture.pixel_values(offset + rows.start..offset + rows.end),
        };
        let slot = first + t * picture.tokens_per_frame();
        let Some(vision) = &mut model.vision else {
            return Err(LoadedModel::no_vision("encoding a picture"));
        };
        vision.encode(&mut model.recorder, &model.arena, &frame, slot, &mut |_, _| Ok(()))?;
        model.recorder.finish()?;
    }
    Ok(())
}

/// Runs a prompt and `tokens` greedy tokens, recording everything. Prefill runs in chunks of `chunk` tokens.
///
/// # Errors
/// A picture does not fit, or the device failed.
pub fn trace(model: &mut LoadedModel, prepared: &Prepared, tokens: usize, chunk: usize) -> Result<Trace> {
    let gpu = model.gpu.clone();
    let (hidden, layers, vocab) =
        (model.config.text.hidden_size, model.config.text.num_layers, model.config.text.vocab_size);
    let ids = encode_pictures(model, prepared)?;
    let mut tensors = BTreeMap::new();
    let images: Vec<&PreparedPicture> = prepared.images.iter().collect();
    let clips: Vec<&PreparedPicture> = prepared.clips.iter().map(|clip| &clip.picture).collect();
    record_pictures(&gpu, model, &images, "pixel_values", "image_", &mut tensors)?;
    record_pictures(&gpu, model, &clips, "pixel_values_videos", "video_", &mut tensors)?;

    let taps = model.text.make_taps()?;
    let mut runner = Runner::new(model);
    let rows = runner.prefill(&ids, &prepared.prompt.positions.thw, chunk, Some(&taps))?;
    let last = rows - 1;
    let logits = runner.logits(last)?;
    let mut put =
        |name: &str, shape: Vec<usize>, values| tensors.insert(name.to_owned(), Recorded { shape, values });
    put("logits", vec![vocab], logits);
    put("final_norm_last", vec![hidden], gpu.read_f32(runner.model.text.final_normed(), 0, hidden)?);
    put("layer_inputs_last", vec![layers, hidden], gpu.read_f32(&taps.inputs, 0, layers * hidden)?);
    put("layer_outputs_last", vec![layers, hidden], gpu.read_f32(&taps.outputs, 0, layers * hidden)?);
    let greedy = runner.generate(last, tokens, &Sampling::GREEDY, &[])?;
    debug_assert!(rows <= model.text.max_rows().max(MAX_BATCH));
    Ok(Trace { tensors, greedy })
}

/// Pixels, embeddings and DeepStack rows of several pictures, one after the other.
fn record_pictures(
    gpu: &Gpu,
    model: &mut LoadedModel,
    pictures: &[&PreparedPicture],
    pixels_name: &str,
    prefix: &str,
    tensors: &mut BTreeMap<String, Recorded>,
) -> Result<()> {
    if pictures.is_empty() {
        return Ok(());
    }
    let hidden = model.config.text.hidden_size;
    let mut pixels = Vec::new();
    let mut stages = vec![Vec::new(); 1 + model.arena.levels()];
    for picture in pictures {
        pixels.extend(picture.pixel_values(0..picture.grid().num_patches()));
        let Some(first) = model.arena.find(picture.key()) else { continue };
        for (level, stage) in stages.iter_mut().enumerate() {
            let buffer = if level == 0 { model.arena.embeddings() } else { model.arena.deepstack(level - 1) };
            stage.extend(gpu.read_f32(buffer, first * hidden, picture.num_tokens() * hidden)?);
        }
    }
    let width = pictures.first().map_or(1, |p| p.row_len());
    tensors.insert(
        pixels_name.to_owned(),
        Recorded { shape: vec![pixels.len() / width, width], values: pixels },
    );
    for (level, values) in stages.into_iter().enumerate() {
        let name =
            if level == 0 { format!("{prefix}embeds") } else { format!("{prefix}deepstack_{}", level - 1) };
        tensors.insert(name, Recorded { shape: vec![values.len() / hidden, hidden], values });
    }
    Ok(())
}
