//! Room `model`: from a rendered chat to the ids the decoder reads. Every `<|image_pad|>` of the template
//! becomes as many pads as its picture has tokens, every `<|video_pad|>` the frames of its clip with their
//! times. Pure CPU.

use crate::error::{Error, Result};
use crate::model::clip::PreparedClip;
use crate::model::picture::{Grid, PreparedPicture, VisionKind};
use crate::model::positions::{Positions, Span};
use crate::model::tokenizer::{MarkedText, Piece, SpecialIds, Tokenizer};
use std::borrow::Borrow;
use std::fmt::Write as _;

const DOING: &str = "building the prompt";

/// How a clip is written. transformers 4.57, with which the checkpoints were released, and 5.x differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VideoPrompt {
    /// The times and frames replace the template's `<|vision_start|><|video_pad|><|vision_end|>`.
    #[default]
    V457,
    /// They replace only its `<|video_pad|>`, so another pair stays around the whole clip.
    V5,
}

/// The pads of one picture, or of one temporal patch of a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisionSpan {
    /// Index of the first pad in [`Prompt::input_ids`].
    pub start: usize,
    /// Pads: merged tokens.
    pub len: usize,
    /// Picture or clip.
    pub kind: VisionKind,
    /// Which of the pictures, or which of the clips.
    pub index: usize,
    /// Which temporal patch of it; 0 for a picture.
    pub frame: usize,
}

impl VisionSpan {
    /// The row of the picture's or clip's embeddings that belongs to the first pad.
    #[must_use]
    pub fn first_row(&self) -> usize {
        self.frame * self.len
    }
}

/// A prompt, ready for prefill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The text with pads expanded, as transformers' processor makes it.
    pub text: String,
    /// Token ids, pads as pads, `[tokens]`.
    pub input_ids: Vec<u32>,
    /// Runs of text and of pads; together `tokens` long.
    pub spans: Vec<Span>,
    /// M-RoPE positions, `[tokens]`.
    pub positions: Positions,
    /// Where the pads of which picture or clip are, in order.
    pub vision: Vec<VisionSpan>,
}

impl Prompt {
    /// [`Prompt::input_ids`] with each pad replaced: `id(span, row)` gives the id for row `row` of the
    /// embeddings of the picture or clip of `span`.
    #[must_use]
    pub fn ids_with(&self, mut id: impl FnMut(&VisionSpan, usize) -> u32) -> Vec<u32> {
        let mut ids = self.input_ids.clone();
        for span in &self.vision {
            for (row, slot) in ids[span.start..][..span.len].iter_mut().enumerate() {
                *slot = id(span, span.first_row() + row);
            }
        }
        ids
    }
}

/// Expands and encodes a rendered chat. `images` and `clips` are in the order of their placeholders.
///
/// # Errors
/// When the placeholders are not as many as the pictures and clips, or text cannot be encoded.
pub fn build_prompt<I: Borrow<PreparedPicture>, C: Borrow<PreparedClip>>(
    tokenizer: &Tokenizer,
    special: &SpecialIds,
    rendered: &MarkedText,
    images: &[I],
    clips: &[C],
    form: VideoPrompt,
) -> Result<Prompt> {
    let pieces = tokenizer.added().split(rendered);
    count("picture", &pieces, special.image_pad, images.len())?;
    count("clip", &pieces, special.video_pad, clips.len())?;

    let mut out = Expanded::default();
    let (mut image, mut clip) = (0, 0);
    let mut pieces = pieces.into_iter().peekable();
    while let Some(piece) = pieces.next() {
        match piece {
            Piece::Token(id) if id == special.image_pad => {
                out.pads(VisionKind::Image, image, 0, images[image].borrow());
                image += 1;
            }
            Piece::Token(id) if id == special.video_pad => {
                // As 4.57: without the two tokens around it, the pad alone is replaced.
                if form == VideoPrompt::V457
                    && out.last_token() == Some(special.vision_start)
                    && pieces.next_if_eq(&Piece::Token(special.vision_end)).is_some()
                {
                    out.parts.pop();
                }
                let prepared: &PreparedClip = clips[clip].borrow();
                for (frame, seconds) in prepared.timestamps.iter().enumerate() {
                    out.text(&format!("<{} seconds>", one_decimal(*seconds)));
                    out.parts.push(Part::Token(special.vision_start));
                    out.pads(VisionKind::Video, clip, frame, &prepared.picture);
                    out.parts.push(Part::Token(special.vision_end));
                }
                clip += 1;
            }
            Piece::Token(id) => out.parts.push(Part::Token(id)),
            Piece::Text(text) => out.text(&text),
        }
    }
    let merge_size = images
        .iter()
        .map(|i| i.borrow().merge_size())
        .chain(clips.iter().map(|c| c.borrow().picture.merge_size()))
        .next()
        .unwrap_or(1);
    out.encode(tokenizer, special, merge_size)
}

/// Seconds as Python's `f"{seconds:.1f}"`: the exact binary value, ties to even.
#[must_use]
pub fn one_decimal(seconds: f64) -> String {
    format!("{seconds:.1}")
}

fn count(what: &str, pieces: &[Piece], pad: u32, given: usize) -> Result<()> {
    let places = pieces.iter().filter(|p| **p == Piece::Token(pad)).count();
    if places == given {
        return Ok(());
    }
    let what = format!("the chat template shows {places} {what}(s), and the messages have {given}");
    Err(Error::new(DOING, what).help("pictures and clips belong into messages of the user"))
}

enum Part {
    Token(u32),
    Text(String),
    Pads(VisionSpan, Grid),
}

#[derive(Default)]
struct Expanded {
    parts: Vec<Part>,
}

impl Expanded {
    /// Adds text to the last text, if there is one: text between two added tokens is encoded in one run.
    fn text(&mut self, text: &str) {
        if let Some(Part::Text(last)) = self.parts.last_mut() {
            last.push_str(text);
        } else {
            self.parts.push(Part::Text(text.to_owned()));
        }
    }

    fn pads(&mut self, kind: VisionKind, index: usize, frame: usize, picture: &PreparedPicture) {
        let span = VisionSpan { start: 0, len: picture.tokens_per_frame(), kind, index, frame };
        self.parts.push(Part::Pads(span, Grid { t: 1, ..picture.grid() }));
    }

    fn last_token(&self) -> Option<u32> {
        match self.parts.last() {
            Some(Part::Token(id)) => Some(*id),
            _ => None,
        }
    }

    fn encode(self, tokenizer: &Tokenizer, special: &SpecialIds, merge_size: usize) -> Result<Prompt> {
        let mut text = String::new();
        let (mut input_ids, mut spans, mut vision) = (Vec::new(), Vec::new(), Vec::new());
        let name = |id: u32| {
            tokenizer
                .added_token(id)
                .map(|t| t.text.as_str())
                .ok_or_else(|| Error::new(DOING, format!("id {id} is no added token of tokenizer.json")))
        };
        for part in self.parts {
            let before = input_ids.len();
            match part {
                Part::Token(id) => {
                    text.push_str(name(id)?);
                    input_ids.push(id);
                }
                Part::Text(run) => {
                    input_ids.extend(tokenizer.encode_plain(&run)?);
                    text.push_str(&run);
                }
                Part::Pads(span, grid) => {
                    let pad = match span.kind {
                        VisionKind::Image => special.image_pad,
                        VisionKind::Video => special.video_pad,
                    };
                    let name = name(pad)?;
                    for _ in 0..span.len {
                        text.push_str(name);
                    }
                    input_ids.resize(before + span.len, pad);
                    vision.push(VisionSpan { start: before, ..span });
                    spans.push(Span::Vision(grid));
                    continue;
                }
            }
            let new = input_ids.len() - before;
            match spans.last_mut() {
                Some(Span::Text(n)) => *n += new,
                _ => spans.push(Span::Text(new)),
            }
        }
        let positions = Positions::from_spans(&spans, merge_size)?;
        if positions.len() != input_ids.len() {
            let mut what = String::new();
            let _ = write!(what, "{} positions for {} tokens", positions.len(), input_ids.len());
            return Err(Error::new(DOING, what));
        }
        Ok(Prompt { text, input_ids, spans, positions, vision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clip::{Clip, prepare_clip};
    use crate::model::picture::{Picture, prepare_image};
    use crate::model::preprocessor::PreprocessorConfig;
    use crate::model::tokenizer::Literals;
    use crate::model::tokenizer::tests::{small, small_ids};
    use std::sync::Arc;

    const CONFIG: PreprocessorConfig = PreprocessorConfig {
        patch_size: 16,
        temporal_patch_size: 2,
        merge_size: 2,
        min_pixels: 1024,
        max_pixels: 1 << 20,
    };

    fn picture(width: u32, height: u32) -> Picture {
        Picture::from_rgb(width, height, vec![9; (width * height * 3) as usize]).unwrap()
    }

    fn image(width: u32, height: u32) -> PreparedPicture {
        prepare_image(&picture(width, height), &CONFIG, None).unwrap()
    }

    fn clip(frames: usize) -> PreparedClip {
        let frames = std::iter::repeat_n(Arc::new(picture(64, 32)), frames).collect();
        prepare_clip(&Clip::from_pictures(frames, None).unwrap(), &CONFIG, None).unwrap()
    }

    fn prompt(
        text: &str,
        images: &[PreparedPicture],
        clips: &[PreparedClip],
        form: VideoPrompt,
    ) -> Result<Prompt> {
        build_prompt(&small(), &small_ids(), &MarkedText::new(text.into(), None), images, clips, form)
    }

    #[test]
    fn a_placeholder_becomes_the_pads_of_its_picture() {
        let p = prompt(
            "a<|vision_start|><|image_pad|><|vision_end|>b<|image_pad|>",
            &[image(64, 32), image(32, 96)],
            &[],
            VideoPrompt::V457,
        )
        .unwrap();
        assert_eq!(p.input_ids, [97, 260, 262, 262, 261, 98, 262, 262, 262]);
        assert_eq!(p.text, format!("a<|vision_start|>{0}{0}<|vision_end|>b{0}{0}{0}", "<|image_pad|>"));
        let span = |start, len, index| VisionSpan { start, len, kind: VisionKind::Image, index, frame: 0 };
        assert_eq!(p.vision, [span(2, 2, 0), span(6, 3, 1)]);
        assert_eq!(p.positions.thw[6..], [[6, 6, 6], [6, 7, 6], [6, 8, 6]]);
    }

    #[test]
    fn a_clip_is_written_in_either_form() {
        let text = "a<|vision_start|><|video_pad|><|vision_end|>";
        let p = prompt(text, &[], &[clip(4)], VideoPrompt::V457).unwrap();
        let frame = |t| format!("<{t} seconds><|vision_start|><|video_pad|><|video_pad|><|vision_end|>");
        let both = frame("0.2") + &frame("1.2");
        assert_eq!(p.text, format!("a{both}"));
        assert_eq!(
            p.vision.iter().map(|v| (v.frame, v.len, v.first_row())).collect::<Vec<_>>(),
            [(0, 2, 0), (1, 2, 2)]
        );
        let p = prompt(text, &[], &[clip(4)], VideoPrompt::V5).unwrap();
        assert_eq!(p.text, format!("a<|vision_start|>{both}<|vision_end|>"));
        let p = prompt("<|video_pad|>x", &[], &[clip(4)], VideoPrompt::V457).unwrap();
        assert_eq!(p.text, format!("{both}x"));
    }

    #[test]
    fn text_and_the_time_behind_it_are_one_run() {
        let text = "a<|vision_start|><|video_pad|><|vision_end|>";
        let p = prompt(text, &[], &[clip(2)], VideoPrompt::V457).unwrap();
        let run = small().encode_plain("a<0.2 seconds>").unwrap();
        assert_eq!(p.input_ids[..run.len()], run);
        assert_eq!(p.spans[0], Span::Text(run.len() + 1));
    }

    #[test]
    fn pictures_and_placeholders_must_be_as_many() {
        let e = prompt("<|image_pad|>", &[], &[], VideoPrompt::V457).unwrap_err().to_string();
        assert!(e.contains("shows 1 picture(s), and the messages have 0"), "{e}");
        assert!(prompt("", &[], &[clip(2)], VideoPrompt::V457).is_err());
    }

    #[test]
    fn a_placeholder_typed_by_the_user_is_text() {
        let t = small();
        let mark = '\u{f0000}';
        let typed = t.added().mark("<|image_pad|>", mark, Literals::All).into_owned();
        let rendered = MarkedText::new(format!("<|im_start|>{typed}<|image_pad|>"), Some(mark));
        let p = build_prompt(
            &t,
            &small_ids(),
            &rendered,
            &[image(32, 32)],
            &[] as &[PreparedClip],
            VideoPrompt::V457,
        )
        .unwrap();
        assert_eq!(p.input_ids.iter().filter(|&&id| id == 262).count(), 1);
        assert_eq!(p.text, "<|im_start|><|image_pad|><|image_pad|>");
    }

    #[test]
    fn pads_can_be_replaced_by_ids_of_their_own() {
        let p =
            prompt("a<|image_pad|><|video_pad|>", &[image(32, 64)], &[clip(4)], VideoPrompt::V457).unwrap();
        let ids = p.ids_with(|span, row| {
            let base = if span.kind == VisionKind::Image { 1000 } else { 2000 };
            base + u32::try_from(row).unwrap()
        });
        let extended: Vec<u32> = ids.into_iter().filter(|&id| id >= 1000).collect();
        assert_eq!(extended, [1000, 1001, 2000, 2001, 2002, 2003]);
    }

    #[test]
    fn times_are_printed_as_python_prints_them() {
        for (seconds, text) in [
            (0.25, "0.2"),
            (0.75, "0.8"),
            (1.25, "1.2"),
            (0.35, "0.3"),
            (0.05, "0.1"),
            (0.15, "0.1"),
            (2.0, "2.0"),
            (1e6 + 0.25, "1000000.2"),
        ] {
            assert_eq!(one_decimal(seconds), text);
        }
    }
}
