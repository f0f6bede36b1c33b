//! Room `app`: draws the prompt as the model would get it, token by token, and the context meter.

use egui::{Color32, Context, Frame, Id, Label, Margin, Modal, RichText, ScrollArea, Ui};

use super::chat::{QuestionDetails, details};
use super::command::Command;
use super::state::{Preview, State};
use super::style;
use super::texts::{Texts, fill, texts};
use crate::engine::PromptPreview;

/// Tokens in a row of the list: rows are drawn only where they are in sight.
const TOKENS_IN_ROW: usize = 12;
/// Characters of the prompt's text in a row.
const TEXT_IN_ROW: usize = 110;

/// The prompt's drawing, from frame to frame.
#[derive(Debug, Default)]
pub(super) struct PromptView {
    as_tokens: bool,
    rows: Vec<String>,
    /// The preview that the rows are of: its length.
    rows_of: Option<usize>,
}

/// Draws the prompt over everything else; false when it is to be closed.
pub(super) fn prompt_ui(ctx: &Context, state: &State, view: &mut PromptView, commands: &mut Vec<Command>) {
    let t = texts(ctx);
    let Some(preview) = &state.preview else {
        view.rows_of = None;
        return;
    };
    let size = ctx.content_rect().size();
    let modal = Modal::new(Id::unique("prompt")).show(ctx, |ui| {
        ui.set_width((size.x - 80.0).clamp(300.0, 900.0));
        ui.heading(t.show_prompt);
        match preview {
            Preview::Making(..) => {
                ui.label(t.making_prompt);
            }
            Preview::Failed(error) => {
                ui.label(RichText::new(error.to_string()).color(ui.visuals().error_fg_color));
            }
            Preview::Made(made) => made_ui(ui, made, view, size.y * 0.62, t, commands),
        }
        ui.add_space(6.0);
        ui.button(t.close).clicked()
    });
    if modal.inner || modal.should_close() {
        commands.push(Command::ClosePrompt);
    }
}

fn made_ui(
    ui: &mut Ui,
    made: &PromptPreview,
    view: &mut PromptView,
    height: f32,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let image_tokens: usize = made.pictures.iter().map(|picture| picture.tokens).sum();
    let facts = fill(
        t.prompt_facts,
        &[
            ("tokens", &style::grouped(made.tokens.len())),
            ("pictures", &style::grouped(image_tokens)),
            ("characters", &style::grouped(made.text.chars().count())),
        ],
    );
    ui.horizontal(|ui| {
        ui.selectable_value(&mut view.as_tokens, false, t.as_text);
        ui.selectable_value(&mut view.as_tokens, true, t.as_tokens);
        ui.label(facts);
        if style::quiet_button(ui, t.copy, t.copy_prompt, true).clicked() {
            commands.push(Command::Copy(if view.as_tokens {
                let ids: Vec<String> = made.tokens.iter().map(|(id, _)| id.to_string()).collect();
                format!("[{}]", ids.join(", "))
            } else {
                made.text.clone()
            }));
        }
    });
    ui.separator();
    if view.as_tokens {
        tokens_ui(ui, made, height, t);
    } else {
        if view.rows_of != Some(made.text.len()) {
            view.rows_of = Some(made.text.len());
            view.rows = rows(&made.text);
        }
        let line = ui.text_style_height(&egui::TextStyle::Monospace);
        ScrollArea::both().id_salt("prompt text").max_height(height).auto_shrink([false, true]).show_rows(
            ui,
            line,
            view.rows.len(),
            |ui, range| {
                for row in view.rows.get(range).unwrap_or_default() {
                    ui.add(Label::new(RichText::new(row).monospace()).extend());
                }
            },
        );
    }
}

/// The text in rows that fit; long runs of pads are written once with their number.
fn rows(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for line in text.split('\n') {
        let line = fold_pads(line);
        let characters: Vec<char> = line.chars().collect();
        if characters.is_empty() {
            out.push(String::new());
        }
        out.extend(characters.chunks(TEXT_IN_ROW).map(|chunk| chunk.iter().collect::<String>()));
    }
    out
}

fn fold_pads(line: &str) -> String {
    let mut out = line.to_owned();
    for pad in ["<|image_pad|>", "<|video_pad|>"] {
        let mut folded = String::with_capacity(out.len().min(4096));
        let mut rest = out.as_str();
        while let Some(at) = rest.find(pad) {
            let (before, from) = rest.split_at(at);
            folded.push_str(before);
            let mut count = 0;
            let mut after = from;
            while let Some(next) = after.strip_prefix(pad) {
                (count, after) = (count + 1, next);
            }
            folded.push_str(pad);
            if count > 1 {
                folded.push_str(&format!("×{count} "));
            }
            rest = after;
        }
        folded.push_str(rest);
        out = folded;
    }
    out
}

fn tokens_ui(ui: &mut Ui, made: &PromptPreview, height: f32, t: &Texts) {
    let count = made.tokens.len().div_ceil(TOKENS_IN_ROW);
    let line = ui.text_style_height(&egui::TextStyle::Monospace) + 4.0;
    let colours = [ui.visuals().faint_bg_color, ui.visuals().selection.bg_fill.gamma_multiply(0.25)];
    ScrollArea::both().id_salt("prompt tokens").max_height(height).auto_shrink([false, true]).show_rows(
        ui,
        line,
        count,
        |ui, range| {
            for row in range {
                ui.horizontal(|ui| {
                    ui.spacing_mut().item_spacing.x = 2.0;
                    let from = row * TOKENS_IN_ROW;
                    let number = RichText::new(format!("{from:>6} ")).monospace().weak();
                    ui.label(number);
                    let tokens = made.tokens.iter().enumerate().skip(from).take(TOKENS_IN_ROW);
                    for (place, (id, text)) in tokens {
                        token_ui(ui, place, *id, text, colours, t);
                    }
                });
            }
        },
    );
}

fn token_ui(ui: &mut Ui, place: usize, id: u32, text: &str, colours: [Color32; 2], t: &Texts) {
    let shown = text.replace('\n', "↵").replace('\t', "⇥").replace(' ', "·");
    let frame = Frame::new()
        .fill(colours.get(place % 2).copied().unwrap_or_default())
        .inner_margin(Margin::symmetric(2, 0))
        .corner_radius(2.0);
    frame.show(ui, |ui| {
        ui.label(RichText::new(shown).monospace()).on_hover_text(fill(
            t.token_hover,
            &[("place", &place), ("id", &id), ("text", &text.escape_debug())],
        ));
    });
}

/// Draws how much of the model's context the conversation fills, and by what.
pub(super) fn context_ui(ui: &mut Ui, state: &State, bar_width: f32) {
    let t = texts(ui.ctx());
    let Some(info) = state.model_info() else { return };
    let (used, context) = (state.context_used(), info.context);
    let share = style::share(used as f64, context as f64);
    let text =
        fill(t.context_used, &[("used", &style::grouped(used)), ("context", &style::grouped(context))]);
    let mut bar = style::bar(ui, share, bar_width).text(RichText::new(text).small());
    if share > 0.9 {
        bar = bar.fill(ui.visuals().warn_fg_color.gamma_multiply(0.6));
    }
    ui.add(bar).on_hover_ui(|ui| {
        ui.set_max_width(340.0);
        let pictures: usize = state
            .chat
            .shown()
            .flat_map(|entry| details::<QuestionDetails>(entry).pictures)
            .flatten()
            .map(|report| report.tokens)
            .sum();
        let pictures = pictures.min(used);
        let per_token = info.memory.kv_bytes / info.context.max(1) as u64;
        let values: [(&str, &dyn std::fmt::Display); 7] = [
            ("used", &style::grouped(used)),
            ("context", &style::grouped(context)),
            ("pictures", &style::grouped(pictures)),
            ("rest", &style::grouped(used - pictures)),
            ("left", &style::grouped(context.saturating_sub(used))),
            ("memory", &style::bytes(per_token * used as u64)),
            ("all", &style::bytes(info.memory.kv_bytes)),
        ];
        ui.label(fill(t.context_details, &values));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_pads_are_folded_and_nothing_else_is() {
        let text = format!("a<|vision_start|>{}<|vision_end|>b<|image_pad|>c", "<|image_pad|>".repeat(64));
        assert_eq!(fold_pads(&text), "a<|vision_start|><|image_pad|>×64 <|vision_end|>b<|image_pad|>c");
    }

    #[test]
    fn rows_keep_every_character() {
        let text = "ä".repeat(250) + "\n\nend";
        let rows = rows(&text);
        assert_eq!(rows.iter().map(|row| row.chars().count()).collect::<Vec<_>>(), [110, 110, 30, 0, 3]);
    }
}
