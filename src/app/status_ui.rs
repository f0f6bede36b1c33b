//! Room `app`: draws how far an answer is, the figures of one that is done, and errors.

use std::time::{Duration, Instant};

use egui::{Frame, Label, RichText, Ui};

use super::progress::{Progress, Stage};
use super::state::{Command, Notice};
use super::style;
use crate::engine::{PictureReport, StopReason, Summary};

/// Without a token for this long, the wait is shown.
const LONG_SILENCE: Duration = Duration::from_secs(2);
/// Room for the button that closes an error, points.
const CLOSE_WIDTH: f32 = 64.0;

/// What is being done, in words, and the share of it that is done where that is known.
fn stage_text(progress: &Progress, now: Instant) -> (String, Option<f32>) {
    match progress.stage {
        Stage::Reading => ("Reading pictures…".to_owned(), None),
        Stage::Preparing => ("Making the prompt…".to_owned(), None),
        Stage::Vision { index, done, total } => {
            let text =
                format!("Looking at picture {} of {}: block {done} of {total}", index + 1, progress.pictures);
            (text, Some(style::share(done as f64, total as f64)))
        }
        Stage::Prefill { done, total } => {
            let (done_text, total_text) = (style::grouped(done), style::grouped(total));
            let mut text = format!("Reading the prompt: {done_text} of {total_text} tokens");
            if progress.reused_tokens > 0 {
                text += &format!(", {} reused", style::grouped(progress.reused_tokens));
            }
            (text, Some(style::share(done as f64, total as f64)))
        }
        Stage::Writing => {
            let mut text = format!("Writing: {}", style::count(progress.tokens, "token", "tokens"));
            if let Some(rate) = progress.tokens_per_sec(now) {
                text += &format!(", {rate:.1} tok/s");
            }
            if let Some(silent) = progress.silent(now).filter(|silent| *silent > LONG_SILENCE) {
                text += &format!(", none for {}", style::duration(silent));
            }
            (text, None)
        }
    }
}

/// Draws how far an answer is.
pub(super) fn progress_ui(ui: &mut Ui, progress: &Progress, now: Instant) {
    let (text, share) = stage_text(progress, now);
    let mut facts = vec![style::duration(now.saturating_duration_since(progress.asked))];
    if let Some(first) = progress.first_token {
        facts.push(format!("first token after {}", style::duration(first)));
    }
    if progress.pictures_done.1 > 0 {
        facts.push(format!("{} reused", style::count(progress.pictures_done.1, "picture", "pictures")));
    }
    ui.horizontal_wrapped(|ui| {
        let text = if progress.stopping { "Stopping…".to_owned() } else { text };
        ui.label(RichText::new(text).strong());
        if let Some(share) = share.filter(|_| !progress.stopping) {
            ui.add(style::bar(ui, share, 120.0).desired_height(8.0));
        }
        ui.weak(facts.join(" · "));
    });
}

/// Figures of a finished answer, on a line: why it ended, tokens, speed, times.
#[must_use]
pub(super) fn summary_text(summary: &Summary, seed: Option<u64>) -> String {
    let mut facts = Vec::new();
    match summary.reason {
        StopReason::End => {}
        StopReason::StopString => facts.push("ended at a stop string".to_owned()),
        StopReason::MaxTokens => facts.push("ended at the token limit".to_owned()),
        StopReason::ContextFull => facts.push("ended: the context is full".to_owned()),
        StopReason::Cancelled => facts.push("stopped".to_owned()),
    }
    facts.push(style::count(summary.ids.len(), "token", "tokens"));
    if summary.ids.len() > 1 {
        facts.push(format!("{:.1} tok/s", summary.decode_tok_s()));
    }
    facts.push(format!("first token after {}", style::secs(summary.ttft_secs)));
    let mut prompt = format!("prompt of {}", style::count(summary.prompt_tokens, "token", "tokens"));
    if summary.reused_tokens > 0 {
        prompt += &format!(", {} reused", style::grouped(summary.reused_tokens));
    }
    if summary.prompt_tokens > summary.reused_tokens {
        prompt += &format!(", {:.0} tok/s", summary.prefill_tok_s());
    }
    facts.push(prompt);
    if summary.vision_secs > 0.0 {
        facts.push(format!("pictures {}", style::secs(summary.vision_secs)));
    }
    facts.extend(seed.map(|seed| format!("seed {seed}")));
    facts.join(" · ")
}

/// What the model saw of a picture, on a line.
#[must_use]
pub(super) fn picture_text(report: &PictureReport) -> String {
    let (width, height) = report.resized;
    let time = match report.vision_secs {
        Some(secs) => style::secs(secs),
        None => "reused, 0 s".to_owned(),
    };
    format!("seen at {width}×{height}, {}, {time}", style::count(report.tokens, "token", "tokens"))
}

/// Draws the errors.
pub(super) fn notices_ui(ui: &mut Ui, notices: &[Notice], commands: &mut Vec<Command>) {
    for notice in notices {
        let colour = ui.visuals().error_fg_color;
        let frame = Frame::new()
            .stroke(egui::Stroke::new(1.0, colour))
            .fill(colour.gamma_multiply(0.08))
            .corner_radius(4.0)
            .inner_margin(egui::Margin::symmetric(8, 4));
        frame.show(ui, |ui| {
            ui.horizontal_top(|ui| {
                let width = ui.available_width() - CLOSE_WIDTH;
                ui.allocate_ui_with_layout(
                    egui::vec2(width, 0.0),
                    egui::Layout::top_down(egui::Align::Min),
                    |ui| {
                        ui.set_width(width);
                        ui.add(Label::new(&notice.text).selectable(true).wrap());
                    },
                );
                if ui.button("Close").on_hover_text("Close this message").clicked() {
                    commands.push(Command::Dismiss(notice.id));
                }
            });
        });
    }
}
