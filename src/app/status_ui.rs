//! Room `app`: draws how far an answer is, the figures of one that is done, notices, and what can be undone.

use std::time::{Duration, Instant};

use egui::{Frame, Label, RichText, Ui};

use super::chat::{Figures, RemoteFigures};
use super::command::Command;
use super::progress::{Progress, Stage};
use super::state::{Notice, State, Undo};
use super::style;
use super::texts::{Texts, fill, texts};
use crate::engine::{PictureReport, StopReason};

/// Without a token for this long, the wait is shown.
const LONG_SILENCE: Duration = Duration::from_secs(2);

/// "1 token", "12 tokens".
pub(super) fn tokens(n: usize, t: &Texts) -> String {
    fill(if n == 1 { t.token } else { t.tokens }, &[("n", &style::grouped(n))])
}

/// What is being done, in words, and the share of it that is done where that is known.
fn stage_text(progress: &Progress, now: Instant, t: &Texts) -> (String, Option<f32>) {
    match progress.stage {
        Stage::Reading => (t.reading_pictures.to_owned(), None),
        Stage::Preparing => (t.making_prompt.to_owned(), None),
        Stage::Vision { index, done, total } => {
            let values: [(&str, &dyn std::fmt::Display); 4] = [
                ("picture", &(index + 1)),
                ("pictures", &progress.pictures),
                ("done", &done),
                ("total", &total),
            ];
            (fill(t.looking, &values), Some(style::share(done as f64, total as f64)))
        }
        Stage::Prefill { done, total } => {
            let (done_text, total_text) = (style::grouped(done), style::grouped(total));
            let mut text = fill(t.prefilling, &[("done", &done_text), ("total", &total_text)]);
            if progress.reused_tokens > 0 {
                text += &fill(t.of_those_reused, &[("n", &style::grouped(progress.reused_tokens))]);
            }
            (text, Some(style::share(done as f64, total as f64)))
        }
        Stage::Elsewhere => (t.waiting_elsewhere.to_owned(), None),
        Stage::Thinking => (t.thinking_elsewhere.to_owned(), None),
        // What comes at once need not be one token: no rate is known.
        Stage::Writing if progress.is_remote => {
            let mut text = fill(t.coming_in, &[("n", &style::grouped(progress.tokens))]);
            if let Some(silent) = progress.silent(now).filter(|silent| *silent > LONG_SILENCE) {
                text += &fill(t.silent_for, &[("time", &style::duration(silent))]);
            }
            (text, None)
        }
        Stage::Writing => {
            let mut text = fill(t.writing, &[("tokens", &tokens(progress.tokens, t))]);
            if let Some(rate) = progress.tokens_per_sec(now) {
                text += &format!(", {}", style::rate(rate));
            }
            if let Some(silent) = progress.silent(now).filter(|silent| *silent > LONG_SILENCE) {
                text += &fill(t.silent_for, &[("time", &style::duration(silent))]);
            }
            (text, None)
        }
    }
}

/// Draws how far an answer is.
pub(super) fn progress_ui(ui: &mut Ui, progress: &Progress, now: Instant) {
    let t = texts(ui.ctx());
    let (text, share) = stage_text(progress, now, t);
    let mut facts = vec![style::duration(now.saturating_duration_since(progress.asked))];
    if let Some(first) = progress.first_token {
        facts.push(fill(t.first_token_after, &[("time", &style::duration(first))]));
    }
    if progress.is_remote && progress.first_token.is_some() {
        facts.push(t.seen_from_here.to_owned());
    }
    if progress.pictures_done.1 > 0 {
        facts.push(fill(t.pictures_reused, &[("n", &progress.pictures_done.1)]));
    }
    ui.horizontal_wrapped(|ui| {
        let text = if progress.stopping { t.stopping.to_owned() } else { text };
        ui.label(RichText::new(text).strong());
        if let Some(share) = share.filter(|_| !progress.stopping) {
            ui.add(style::bar(ui, share, 120.0).desired_height(8.0));
        }
        ui.weak(facts.join(" · "));
    });
}

/// Figures of a finished answer, on a line: why it ended, tokens, speed, times.
#[must_use]
pub(super) fn figures_text(figures: &Figures, seed: Option<u64>, t: &Texts) -> String {
    let mut facts: Vec<String> = ended_text(figures.reason, t).map(str::to_owned).into_iter().collect();
    facts.push(tokens(figures.new_tokens, t));
    if figures.new_tokens > 1 {
        facts.push(style::rate(figures.decode_tok_s()));
    }
    facts.push(fill(t.first_token_after, &[("time", &style::secs(figures.ttft_secs))]));
    let mut prompt = fill(t.prompt_of, &[("tokens", &tokens(figures.prompt_tokens, t))]);
    if figures.reused_tokens > 0 {
        prompt += &fill(t.of_those_reused, &[("n", &style::grouped(figures.reused_tokens))]);
    }
    if figures.prompt_tokens > figures.reused_tokens {
        prompt += &format!(", {}", style::rate(figures.prefill_tok_s()));
    }
    facts.push(prompt);
    if figures.vision_secs > 0.0 {
        facts.push(fill(t.pictures_took, &[("time", &style::secs(figures.vision_secs))]));
    }
    facts.extend(seed.map(|seed| fill(t.seed_was, &[("seed", &seed)])));
    facts.join(" · ")
}

/// What is known of an answer from a server, on a line.
#[must_use]
pub(super) fn remote_figures_text(figures: &RemoteFigures, t: &Texts) -> String {
    let ended = match figures.reason {
        // Whether its context is full or it stops everyone there is not told.
        StopReason::ContextFull => Some(t.ended_server_limit),
        reason => ended_text(reason, t),
    };
    let mut facts: Vec<String> = ended.map(str::to_owned).into_iter().collect();
    facts.extend(figures.new_tokens.map(|n| tokens(n, t)));
    facts.extend(figures.tok_s.map(style::rate));
    facts.extend(figures.ttft_secs.map(|secs| fill(t.first_token_after, &[("time", &style::secs(secs))])));
    facts.push(fill(t.took, &[("time", &style::secs(figures.total_secs))]));
    if let Some(n) = figures.prompt_tokens {
        let mut prompt = fill(t.prompt_of, &[("tokens", &tokens(n, t))]);
        if let Some(cached) = figures.cached_tokens.filter(|cached| *cached > 0) {
            prompt += &fill(t.of_those_reused, &[("n", &style::grouped(cached))]);
        }
        facts.push(prompt);
    }
    facts.push(t.seen_from_here.to_owned());
    facts.join(" · ")
}

/// Why an answer ended, where it did not end by itself.
fn ended_text(reason: StopReason, t: &Texts) -> Option<&'static str> {
    match reason {
        StopReason::End => None,
        StopReason::StopString => Some(t.ended_stop_string),
        StopReason::MaxTokens => Some(t.ended_limit),
        StopReason::ContextFull => Some(t.ended_context),
        StopReason::Cancelled => Some(t.stopped),
    }
}

/// What can be done about a model whose vision file is missing.
pub(super) fn without_vision_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
    let Some(folder) = &state.without_vision else { return };
    let t = texts(ui.ctx());
    if ui.button(t.open_text_only).on_hover_text(t.open_text_only_hint).clicked() {
        commands.push(Command::OpenTextOnly(folder.clone()));
    }
}

/// What the model saw of a picture, on a line.
#[must_use]
pub(super) fn picture_text(report: &PictureReport, t: &Texts) -> String {
    let (width, height) = report.resized;
    let time = match report.vision_secs {
        Some(secs) => style::secs(secs),
        None => t.reused.to_owned(),
    };
    let values: [(&str, &dyn std::fmt::Display); 4] =
        [("width", &width), ("height", &height), ("tokens", &tokens(report.tokens, t)), ("time", &time)];
    fill(t.seen_at, &values)
}

/// How a picture was cut: its grid in patches and in tokens.
#[must_use]
pub(super) fn grid_text(report: &PictureReport, t: &Texts) -> String {
    let [frames, rows, columns] = report.grid;
    let values: [(&str, &dyn std::fmt::Display); 5] = [
        ("frames", &frames),
        ("rows", &rows),
        ("columns", &columns),
        ("merged_rows", &(rows / 2)),
        ("merged_columns", &(columns / 2)),
    ];
    fill(t.grid_is, &values)
}

/// All that is known of what the model saw of a picture.
#[must_use]
pub(super) fn picture_details(report: &PictureReport, (width, height): (u32, u32), t: &Texts) -> String {
    let mut text = String::new();
    if width > 0 {
        text = fill(t.file_has, &[("width", &width), ("height", &height)]) + "\n";
    }
    text + &picture_text(report, t) + "\n" + &grid_text(report, t)
}

/// Draws errors and news.
pub(super) fn notices_ui(ui: &mut Ui, notices: &[Notice], commands: &mut Vec<Command>) {
    let t = texts(ui.ctx());
    for notice in notices {
        let colour =
            if notice.is_error { ui.visuals().error_fg_color } else { ui.visuals().selection.bg_fill };
        line_ui(ui, &notice.text, colour, t.close, t.close_hint, |clicked| {
            if clicked {
                commands.push(Command::Dismiss(notice.id));
            }
        });
    }
}

/// Draws what can be undone.
pub(super) fn undo_ui(ui: &mut Ui, state: &State, now: Instant, commands: &mut Vec<Command>) {
    let t = texts(ui.ctx());
    for undoable in &state.undo {
        let name = if undoable.name.is_empty() { t.untitled } else { &undoable.name };
        let text = match &undoable.undo {
            Undo::Conversation(_) => fill(t.chat_deleted, &[("name", &name)]),
            Undo::Branch(_, entries) => {
                let words = if entries.len() == 1 { t.message_deleted } else { t.messages_deleted };
                fill(words, &[("n", &entries.len()), ("name", &name)])
            }
        };
        line_ui(ui, &text, ui.visuals().selection.bg_fill, t.undo, t.undo_deletion, |clicked| {
            if clicked {
                commands.push(Command::Undo(undoable.id));
            }
        });
        ui.ctx().request_repaint_after(undoable.until.saturating_duration_since(now));
    }
}

fn line_ui(
    ui: &mut Ui,
    text: &str,
    colour: egui::Color32,
    button: &str,
    hint: &str,
    clicked: impl FnOnce(bool),
) {
    let frame = Frame::new()
        .stroke(egui::Stroke::new(1.0, colour))
        .fill(colour.gamma_multiply(0.08))
        .corner_radius(4.0)
        .inner_margin(egui::Margin::symmetric(8, 4));
    frame.show(ui, |ui| {
        // From the right first: the text has what the button leaves.
        ui.with_layout(egui::Layout::right_to_left(egui::Align::TOP), |ui| {
            clicked(ui.button(button).on_hover_text(hint).clicked());
            ui.with_layout(egui::Layout::top_down(egui::Align::Min), |ui| {
                // On one line with the button's word.
                let row = ui.text_style_height(&egui::TextStyle::Body);
                ui.add_space(((ui.spacing().interact_size.y - row) / 2.0).max(0.0));
                ui.add(Label::new(text).selectable(true).wrap());
            });
        });
    });
}
