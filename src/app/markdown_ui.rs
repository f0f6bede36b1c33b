//! Room `app`: draws an answer as Markdown. It may come from anyone: nothing in it is fetched, and nothing is opened without a
//! click. Only what is in sight is laid out, so that an answer may be as long as it likes.

use std::collections::HashMap;

use egui::{Label, OutputCommand, TextStyle, Ui, UiBuilder, vec2};
use egui_commonmark::{AlertBundle, CommonMarkCache, CommonMarkViewer};

use super::markdown_blocks::{Block, Kind, blocks, link_names};
use super::markdown_code::{Code, Colours, THEMES};
use super::message_list::grew_above;

/// Answers remembered.
const REMEMBERED: usize = 64;
/// An answer up to this long is laid out whole when it is first seen, bytes.
const SHORT: usize = 16_000;
/// Laid out above and below what is in sight, points.
const MARGIN: f32 = 400.0;
/// Between two blocks, points.
const GAP: f32 = 8.0;
/// What stands in by one column is set in by so many points.
const COLUMN: f32 = 7.0;
/// What a link may lead to.
const SCHEMES: [&str; 3] = ["https://", "http://", "mailto:"];

/// Draws answers, and remembers what it knows of them.
#[derive(Default)]
pub struct Markdown {
    cache: CommonMarkCache,
    colours: Colours,
    answers: HashMap<i64, Answer>,
    clock: u64,
}

impl std::fmt::Debug for Markdown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Markdown").field("answers", &self.answers.len()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Answer {
    text: String,
    names: String,
    blocks: Vec<(Block, Height, Code)>,
    /// The width, the pixels per point and the height of a row that heights were measured at.
    measured_at: [f32; 3],
    used: u64,
}

#[derive(Clone, Copy)]
enum Height {
    Unknown,
    Estimated(f32),
    Real(f32),
}

impl Answer {
    /// Takes over the text; what was there and has not changed keeps its blocks.
    fn take(&mut self, text: &str) {
        if self.text == text {
            return;
        }
        let names = link_names(text);
        let kept = if text.starts_with(&self.text) && names == self.names {
            self.blocks.iter().rposition(|(block, ..)| block.clean).unwrap_or(0)
        } else {
            0
        };
        let from = self.blocks.get(kept).map_or(0, |(block, ..)| block.range.start);
        let from = if kept == 0 { 0 } else { from };
        let mut old = self.blocks.split_off(kept).into_iter();
        self.blocks.extend(blocks(text, from).into_iter().map(|block| {
            // A block that grows is as high as it was until it is drawn again.
            let (height, code) =
                old.next().map_or((Height::Unknown, Code::default()), |(_, height, code)| (height, code));
            (block, height, code)
        }));
        text.clone_into(&mut self.text);
        self.names = names;
    }
}

impl Markdown {
    /// Draws the answer of this name in the width there is. The text may have grown since the last frame.
    pub fn show(&mut self, ui: &mut Ui, id: i64, text: &str) {
        self.clock += 1;
        let answer = self.answers.entry(id).or_default();
        answer.used = self.clock;
        answer.take(text);
        let row = ui.text_style_height(&TextStyle::Body);
        let measured_at = [ui.available_width(), ui.pixels_per_point(), row];
        let same = answer.measured_at.iter().zip(measured_at).all(|(then, now)| (then - now).abs() < 0.01);
        if !same {
            answer.measured_at = measured_at;
            answer.blocks.iter_mut().for_each(|(_, height, _)| *height = Height::Unknown);
        }
        let builder = UiBuilder::new().id_salt(("answer", id));
        ui.scope_builder(builder, |ui| {
            ui.style_mut().url_in_tooltip = true;
            let width = ui.available_width();
            for (place, (block, height, code)) in answer.blocks.iter_mut().enumerate() {
                if place > 0 {
                    ui.spacing_mut().item_spacing.y = 0.0;
                    ui.add_space(GAP);
                }
                let (top, clip) = (ui.cursor().top(), ui.clip_rect());
                let is_near =
                    |height: f32| top + height >= clip.top() - MARGIN && top <= clip.bottom() + MARGIN;
                // Not drawn where its height is known well enough and it is far from what is in sight.
                let thought = match *height {
                    Height::Real(points) | Height::Estimated(points) => Some(points),
                    Height::Unknown if text.len() <= SHORT => None,
                    Height::Unknown => Some(estimate(block, text, width, row)),
                };
                if let Some(points) = thought.filter(|&points| !is_near(points)) {
                    if !matches!(height, Height::Real(_)) {
                        *height = Height::Estimated(points);
                    }
                    ui.allocate_space(vec2(width, points));
                    continue;
                }
                let builder = UiBuilder::new().id_salt(place);
                let drawn = ui.scope_builder(builder, |ui| {
                    let mut rect = ui.available_rect_before_wrap();
                    rect.min.x += (block.indent as f32 * COLUMN).min(width / 2.0);
                    ui.scope_builder(UiBuilder::new().max_rect(rect), |ui| {
                        block_ui(ui, &mut self.cache, &mut self.colours, block, text, code);
                    });
                });
                let real = drawn.response.rect.height();
                if let Height::Estimated(thought) = *height
                    && top < clip.top()
                {
                    grew_above(ui.ctx(), real - thought);
                }
                *height = Height::Real(real);
            }
        });
        self.forget();
    }

    fn forget(&mut self) {
        if self.answers.len() > REMEMBERED {
            let oldest = self.answers.iter().min_by_key(|(_, answer)| answer.used).map(|(id, _)| *id);
            oldest.map(|id| self.answers.remove(&id));
        }
    }
}

/// About how high a block will be, points.
fn estimate(block: &Block, text: &str, width: f32, row: f32) -> f32 {
    let text = text.get(block.range.clone()).unwrap_or_default();
    let columns = (width / (row * 0.4)).max(8.0);
    let lines = text.lines().map(|line| match block.kind {
        Kind::Code(..) => 1.0,
        Kind::Markdown(_) | Kind::Plain => (line.len() as f32 / columns).ceil().max(0.5),
    });
    lines.sum::<f32>() * row
}

fn block_ui(
    ui: &mut Ui,
    cache: &mut CommonMarkCache,
    colours: &mut Colours,
    block: &Block,
    text: &str,
    code: &mut Code,
) {
    match &block.kind {
        Kind::Markdown(markdown) => {
            let [dark, light] = THEMES;
            let earlier = ui.output(|output| output.commands.len());
            ui.spacing_mut().item_spacing.y = 4.0;
            // A table's stripes would be wider than a table with narrow columns.
            ui.spacing_mut().interact_size.x = 0.0;
            CommonMarkViewer::new()
                .syntax_theme_dark(dark)
                .syntax_theme_light(light)
                // Their signs are in none of the window's own fonts, and their names not in its language.
                .alerts(AlertBundle::empty())
                .show(ui, cache, markdown.trim());
            ui.output_mut(|output| {
                let mut place = 0;
                output.commands.retain(|command| {
                    place += 1;
                    place <= earlier || is_harmless(command)
                });
            });
        }
        Kind::Code(language, text) => code.show(ui, colours, language, text),
        Kind::Plain => {
            let plain = text.get(block.range.clone()).unwrap_or_default();
            ui.add(Label::new(plain.trim_end()).selectable(true).wrap());
        }
    }
}

/// A link may lead to the web or to a letter, not to a file or a program.
fn is_harmless(command: &OutputCommand) -> bool {
    let OutputCommand::OpenUrl(url) = command else { return true };
    SCHEMES.iter().any(|scheme| url.url.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme)))
}

#[cfg(test)]
mod tests;
