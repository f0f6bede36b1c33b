//! Room `compare`: what a comparison will cost, before it runs: tokens, from its texts and the sizes of its pictures; time, at the
//! rates that cells before had. An estimate: what cells share is not taken off, and text is not tokenised.

use std::collections::HashMap;
use std::io::Cursor;

use super::pictures::PictureFiles;
use super::plan::Plan;
use super::request::image_tokens;
use super::result::CellResult;
use super::summary::median;
use crate::model::preprocessor::PreprocessorConfig;

/// Cells that are looked at; of more, every so-manieth.
const MOST_LOOKED_AT: usize = 256;
/// Tokens of an answer that has no limit, as a guess.
const USUAL_TOKENS: usize = 256;
/// Tokens that a template puts around messages, about.
const TEMPLATE_TOKENS: usize = 12;

/// What a comparison will cost, about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Cells.
    pub cells: usize,
    /// Tokens of all prompts, pictures included, if nothing were shared.
    pub prompt_tokens: usize,
    /// Of those, tokens of pictures.
    pub image_tokens: usize,
    /// Tokens of all answers, if each is as long as it may be.
    pub new_tokens: usize,
}

/// How fast cells were.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Seconds for a token of prefill.
    pub prefill_secs: f64,
    /// Seconds in the vision tower for a token of a picture.
    pub image_secs: f64,
    /// Seconds for a token of an answer, in a batch as full as it was.
    pub decode_secs: f64,
    /// How many of the prompts' tokens had to be computed, and of the answers' longest how many came, 0 to 1.
    shares: (f64, f64),
}

impl Cost {
    /// Of a plan, for a model that resizes pictures so.
    #[must_use]
    pub fn of(plan: &Plan, image: &PreprocessorConfig) -> Self {
        let step = plan.len().div_ceil(MOST_LOOKED_AT).max(1);
        let mut sizes = HashMap::new();
        let mut looked = Self::default();
        for number in (0..plan.len()).step_by(step) {
            let Ok(cell) = plan.cell(number) else { continue };
            let fields = &cell.fields;
            let range = fields.picture_size.as_ref().and_then(|size| image_tokens(size, image.factor()).ok());
            let before = fields.before.iter().flatten();
            let pictures = before.clone().flat_map(|turn| &turn.pictures);
            let of_pictures: usize = pictures
                .chain(fields.pictures.iter().flatten())
                .filter_map(|name| {
                    *sizes.entry(name.clone()).or_insert_with(|| size_of(&plan.pictures, name))
                })
                .filter_map(|(width, height)| image.image_tokens(range, width, height))
                .sum();
            let texts = before.map(|turn| turn.text.as_str());
            let texts = texts.chain(
                [&fields.prompt, &fields.system, &fields.answer_start]
                    .into_iter()
                    .flatten()
                    .map(String::as_str),
            );
            let of_texts: usize = texts.map(|text| text_tokens(text) + TEMPLATE_TOKENS).sum();
            looked.cells += 1;
            looked.image_tokens += of_pictures;
            looked.prompt_tokens += of_pictures + of_texts;
            looked.new_tokens += fields.max_tokens.unwrap_or(USUAL_TOKENS);
        }
        let all = |n: usize| n * plan.len() / looked.cells.max(1);
        Self {
            cells: plan.len(),
            prompt_tokens: all(looked.prompt_tokens),
            image_tokens: all(looked.image_tokens),
            new_tokens: all(looked.new_tokens),
        }
    }

    /// Seconds it will take, about.
    #[must_use]
    pub fn secs(&self, rates: &Rates) -> f64 {
        let (computed, said) = rates.shares;
        computed
            * (self.prompt_tokens as f64 * rates.prefill_secs + self.image_tokens as f64 * rates.image_secs)
            + said * self.new_tokens as f64 * rates.decode_secs
    }
}

/// Width and height of a picture, read off the beginning of its file.
fn size_of(pictures: &PictureFiles, name: &str) -> Option<(u32, u32)> {
    let bytes = pictures.bytes(name).ok()?;
    let reader = image::ImageReader::new(Cursor::new(&bytes)).with_guessed_format().ok()?;
    reader.into_dimensions().ok()
}

/// Tokens of a text, about: four letters each, or a sign of a script without spaces.
fn text_tokens(text: &str) -> usize {
    let wide = text.chars().filter(|c| *c as u32 >= 0x2E80).count();
    wide + (text.chars().count() - wide).div_ceil(4)
}

impl Rates {
    /// Of cells that ran; `None`: none of them says how fast this machine is.
    #[must_use]
    pub fn of<'a>(results: impl IntoIterator<Item = &'a CellResult>) -> Option<Self> {
        let (mut prefill, mut vision, mut decode) = (Vec::new(), Vec::new(), Vec::new());
        let (mut prompt, mut computed, mut said, mut cells) = (0, 0, 0, 0_usize);
        for figures in results.into_iter().map(|r| &r.figures).filter(|figures| !figures.seen_from_here) {
            prefill.extend(figures.prefill_tok_s.map(|rate| 1.0 / rate));
            let batch = figures.batch.unwrap_or(1.0).max(1.0);
            decode.extend(figures.decode_tok_s.map(|rate| 1.0 / (rate * batch)));
            let encoded = figures.pictures.iter().filter_map(|p| Some((p.vision_secs?, p.tokens)));
            vision.extend(encoded.map(|(secs, tokens)| secs / tokens.max(1) as f64));
            prompt += figures.prompt_tokens.unwrap_or(0);
            computed += figures.prompt_tokens.unwrap_or(0).saturating_sub(figures.reused_tokens.unwrap_or(0));
            said += figures.new_tokens.unwrap_or(0);
            cells += 1;
        }
        let share = computed as f64 / prompt.max(1) as f64;
        // How long answers may be is not in their figures: what they were is held against the usual limit.
        let length = (said as f64 / cells.max(1) as f64 / USUAL_TOKENS as f64).clamp(0.01, 1.0);
        Some(Self {
            prefill_secs: median(prefill)?,
            image_secs: median(vision).unwrap_or(0.0),
            decode_secs: median(decode)?,
            shares: (share, length),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Comparison, Figures};
    use std::path::Path;

    const IMAGE: PreprocessorConfig = PreprocessorConfig {
        patch_size: 16,
        temporal_patch_size: 2,
        merge_size: 2,
        min_pixels: 65_536,
        max_pixels: 16_777_216,
    };

    fn cost(text: &str) -> Cost {
        Cost::of(&Plan::new(Comparison::parse(text).unwrap(), Path::new("")).unwrap(), &IMAGE)
    }

    #[test]
    fn pictures_cost_what_their_size_says_and_answers_what_they_may_have() {
        let text = "[shared]\nprompt = \"12345678\"\npictures = [\"sample:count.png\"]\nmax_tokens = 10\n[[columns]]\npicture_size = 256\n[[columns]]\npicture_size = 512\n";
        let c = cost(text);
        assert_eq!((c.cells, c.new_tokens), (2, 20));
        assert!((64 + 256..=64 + 256 + 16).contains(&c.image_tokens), "{c:?}");
        assert_eq!(c.prompt_tokens - c.image_tokens, 2 * (2 + TEMPLATE_TOKENS));
        // Many cells are looked at here and there.
        let values = (0..5000).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
        let many = cost(&format!("{text}[variables]\nv = [{values}]"));
        assert_eq!((many.cells, many.new_tokens), (10_000, 100_000));
    }

    #[test]
    fn signs_of_scripts_without_spaces_are_tokens_each() {
        assert_eq!((text_tokens("abcdefgh"), text_tokens("中文字"), text_tokens("")), (2, 3, 0));
    }

    #[test]
    fn time_follows_the_rates_of_cells_before() {
        let figures = Figures {
            prompt_tokens: Some(100),
            reused_tokens: Some(50),
            new_tokens: Some(USUAL_TOKENS),
            prefill_tok_s: Some(10.0),
            decode_tok_s: Some(5.0),
            batch: Some(2.0),
            ..Figures::default()
        };
        let cell = CellResult { figures, ..CellResult::default() };
        let rates = Rates::of([&cell]).unwrap();
        let cost = Cost { cells: 1, prompt_tokens: 200, image_tokens: 0, new_tokens: 50 };
        assert!((cost.secs(&rates) - (0.5 * 20.0 + 50.0 * 0.1)).abs() < 1e-9, "{}", cost.secs(&rates));
        assert_eq!(Rates::of([]), None);
    }
}
