//! Looking inside: one token of an answer, with what the step that chose it attended to and what each layer would have said.
//! Plain data, and what is drawn of it; `core::look_inside` computes it.

use std::ops::Range;
use std::sync::Arc;

use super::front_end::{FrontEnd, Prepared};
use crate::error::{Error, Result};
use crate::model::lens::Lens;
use crate::model::picture::VisionKind;

const DOING: &str = "looking inside an answer";

/// Likely tokens that each layer's lens names.
pub const LENS_TOKENS: usize = 10;

/// Which token of which answer to look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The answer's tokens, as [`super::Summary::ids`] has them; those after the one that is meant may be missing.
    pub answer: Arc<[u32]>,
    /// Which of them, from 0.
    pub token: usize,
}

impl Step {
    /// The answer's tokens that the step saw.
    pub(super) fn before(&self) -> &[u32] {
        &self.answer[..self.token.min(self.answer.len())]
    }

    /// The token that the step chose; `None`: the answer has no such token.
    pub(super) fn chosen(&self) -> Option<u32> {
        self.answer.get(self.token).copied()
    }

    /// # Errors
    /// The answer has no such token, an id is none of the vocabulary's, or an answer is to be measured too.
    pub(super) fn check(&self, vocab_size: u32, is_measured: bool) -> Result<()> {
        if self.chosen().is_none() {
            let why = format!(
                "token {} is asked for (counted from 0) and the answer has {}",
                self.token,
                self.answer.len()
            );
            return Err(Error::new(DOING, why).help("choose one of its tokens"));
        }
        if let Some(id) = self.answer.iter().find(|&&id| id >= vocab_size) {
            return Err(Error::new(DOING, format!("token {id} is beyond the vocabulary"))
                .help("look into it with the model that gave the answer"));
        }
        if is_measured {
            return Err(
                Error::new(DOING, "the same request measures an answer").help("ask one after the other")
            );
        }
        Ok(())
    }
}

/// A token that a layer's lens names.
#[derive(Clone, Debug, PartialEq)]
pub struct LensToken {
    /// Its id.
    pub id: u32,
    /// The text it stands for; bytes that are half a character: U+FFFD.
    pub text: String,
    /// Its natural log-probability.
    pub logprob: f32,
}

/// What one layer's output would say if the model ended there: final norm and head applied to it.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerLens {
    /// The [`LENS_TOKENS`] most likely tokens, best first.
    pub top: Vec<LensToken>,
    /// Entropy of the distribution, nats.
    pub entropy: f32,
    /// Natural log-probability of the token that was chosen in the end.
    pub chosen_logprob: f32,
    /// How many tokens are more likely than that one here.
    pub chosen_rank: u32,
}

/// Where a picture's or a clip's tokens are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PicturePlace {
    /// Its number in the prompt, from 0, over pictures and clips.
    pub index: usize,
    /// Is it a clip?
    pub is_clip: bool,
    /// Width and height after resizing, pixels: the grid of tokens lies over this.
    pub resized: (u32, u32),
    /// The first token of each temporal patch; one for a picture. Its tokens follow row by row.
    pub frames: Vec<usize>,
    /// Rows of tokens in a frame.
    pub rows: usize,
    /// Tokens in a row.
    pub cols: usize,
}

impl PicturePlace {
    /// Pictures and clips of a prompt, in order.
    pub(super) fn all(prepared: &Prepared) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for span in &prepared.prompt.vision {
            if span.frame > 0
                && let Some(clip) = all.last_mut()
            {
                clip.frames.push(span.start);
                continue;
            }
            let picture = prepared.picture(span);
            let (grid, merge) = (picture.grid(), picture.merge_size().max(1));
            all.push(Self {
                index: all.len(),
                is_clip: span.kind == VisionKind::Video,
                resized: picture.resized_size(),
                frames: vec![span.start],
                rows: grid.h as usize / merge,
                cols: grid.w as usize / merge,
            });
        }
        all
    }
}

/// Layers and heads, over which attention is averaged. What is beyond those there are is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Layers, from 0.
    pub layers: Range<usize>,
    /// Query heads, from 0.
    pub heads: Range<usize>,
}

impl Selection {
    /// All layers and heads.
    pub const ALL: Self = Self { layers: 0..usize::MAX, heads: 0..usize::MAX };

    /// One layer or all, one head or all.
    #[must_use]
    pub fn new(layer: Option<usize>, head: Option<usize>) -> Self {
        let range = |one: Option<usize>| one.map_or(0..usize::MAX, |n| n..n.saturating_add(1));
        Self { layers: range(layer), heads: range(head) }
    }
}

/// Attention over a picture's tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// Temporal patches; 1 for a picture.
    pub frames: usize,
    /// Rows of tokens.
    pub rows: usize,
    /// Tokens in a row.
    pub cols: usize,
    /// `[frames, rows, cols]`: shares of the row's whole attention, so they add up to what the picture has of it.
    pub weights: Vec<f32>,
}

impl HeatMap {
    /// One frame, `[rows, cols]`; empty beyond the last.
    #[must_use]
    pub fn frame(&self, frame: usize) -> &[f32] {
        let tokens = self.rows * self.cols;
        self.weights.get(frame * tokens..(frame + 1) * tokens).unwrap_or_default()
    }

    /// The picture's share of the row's attention, from 0 to 1.
    #[must_use]
    pub fn share(&self) -> f32 {
        self.weights.iter().sum()
    }

    /// The largest weight, which colours are to be scaled by; 0 of no picture.
    #[must_use]
    pub fn highest(&self) -> f32 {
        self.weights.iter().copied().fold(0.0, f32::max)
    }
}

/// A step laid open: the row of the token before the chosen one, with everything before it in the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct Inside {
    /// Which token of the answer was chosen there, from 0.
    pub token: usize,
    /// That token: its id and text.
    pub chosen: (u32, String),
    /// Layers of the model.
    pub layers: usize,
    /// Query heads of a layer.
    pub heads: usize,
    /// Tokens of the prompt; those of [`Inside::tokens`] from there on are the answer's.
    pub prompt_tokens: usize,
    /// Tokens found in the cache.
    pub reused_tokens: usize,
    /// What the step saw, its own row the last: ids (pads as pads) and the texts they stand for.
    pub tokens: Vec<(u32, String)>,
    /// Where pictures and clips are.
    pub pictures: Vec<PicturePlace>,
    /// `[layers, heads, tokens]`: what the row attends to, each head's sum 1. Of the keys as the cache has them.
    pub attention: Vec<f32>,
    /// What each layer would say; the last layer's is what the model said.
    pub lens: Vec<LayerLens>,
}

impl Inside {
    /// Tokens that the step saw, its own included.
    #[must_use]
    pub fn length(&self) -> usize {
        self.tokens.len()
    }

    /// Attention over all tokens, averaged: `[tokens]`, whose sum is 1. Zeros where nothing is selected.
    #[must_use]
    pub fn weights(&self, selection: &Selection) -> Vec<f32> {
        let length = self.length();
        let within = |range: &Range<usize>, most: usize| range.start.min(most)..range.end.min(most);
        let (layers, heads) = (within(&selection.layers, self.layers), within(&selection.heads, self.heads));
        let mut sums = vec![0f64; length];
        let mut count = 0usize;
        for layer in layers {
            for head in heads.clone() {
                let first = (layer * self.heads + head) * length;
                let Some(row) = self.attention.get(first..first + length) else { continue };
                for (sum, weight) in sums.iter_mut().zip(row) {
                    *sum += f64::from(*weight);
                }
                count += 1;
            }
        }
        sums.into_iter().map(|sum| (sum / count.max(1) as f64) as f32).collect()
    }

    /// Attention over the tokens of one picture or clip (its place in [`Inside::pictures`]); `None`: there is no such one.
    #[must_use]
    pub fn heat_map(&self, picture: usize, selection: &Selection) -> Option<HeatMap> {
        Self::heat_map_of(self.pictures.get(picture)?, &self.weights(selection))
    }

    /// [`Inside::heat_map`] from weights that are averaged already: one averaging serves all pictures and the text.
    #[must_use]
    pub fn heat_map_of(place: &PicturePlace, weights: &[f32]) -> Option<HeatMap> {
        let tokens = place.rows * place.cols;
        let frames = place.frames.iter().map(|&first| weights.get(first..first + tokens));
        let parts = frames.collect::<Option<Vec<_>>>()?;
        let (frames, rows, cols) = (place.frames.len(), place.rows, place.cols);
        Some(HeatMap { frames, rows, cols, weights: parts.concat() })
    }

    /// Is a token one of a picture's or a clip's?
    #[must_use]
    pub fn is_picture(&self, token: usize) -> bool {
        let within = |place: &PicturePlace| {
            place.frames.iter().any(|&first| (first..first + place.rows * place.cols).contains(&token))
        };
        self.pictures.iter().any(within)
    }
}

/// What the device computed, to be made into an [`Inside`] without the engine's thread: a vocabulary's logits for every
/// layer take a while.
pub(super) struct Replayed {
    pub step: Step,
    pub heads: usize,
    pub input_ids: Vec<u32>,
    pub reused_tokens: usize,
    pub pictures: Vec<PicturePlace>,
    /// `[layers, heads, tokens]`.
    pub attention: Vec<f32>,
    /// `[layers]` of `[vocab]`.
    pub logits: Vec<Vec<f32>>,
}

impl Replayed {
    /// # Errors
    /// A logit is no number.
    pub fn finish(self, front_end: &FrontEnd) -> Result<Inside> {
        let chosen = self.step.chosen().ok_or_else(|| Error::new(DOING, "the answer has no such token"))?;
        let text_of = |id: u32| front_end.text_of(id);
        let lens = self.logits.iter().enumerate().map(|(layer, logits)| {
            let lens = Lens::of(logits, chosen, LENS_TOKENS).map_err(|e| e.at(format!("layer {layer}")))?;
            let top = lens.top.into_iter().map(|(id, logprob)| LensToken { id, text: text_of(id), logprob });
            Ok(LayerLens {
                top: top.collect(),
                entropy: lens.entropy,
                chosen_logprob: lens.chosen_logprob,
                chosen_rank: lens.chosen_rank,
            })
        });
        let lens = lens.collect::<Result<Vec<_>>>()?;
        let ids = self.input_ids.iter().chain(self.step.before());
        Ok(Inside {
            token: self.step.token,
            chosen: (chosen, text_of(chosen)),
            layers: self.logits.len(),
            heads: self.heads,
            prompt_tokens: self.input_ids.len(),
            reused_tokens: self.reused_tokens,
            tokens: ids.map(|&id| (id, text_of(id))).collect(),
            pictures: self.pictures,
            attention: self.attention,
            lens,
        })
    }
}

#[cfg(test)]
mod tests;
