//! Room `app`: draws what came of a comparison: a summary, then a row for each set of values with the answers side by side.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use egui::cache::{ComputerMut, FrameCache};
use egui::text::LayoutJob;
use egui::{
    Color32, ColorImage, Frame, Image, Label, Margin, RichText, TextEdit, TextFormat, TextStyle,
    TextureHandle, TextureOptions, Ui,
};

use super::command::Command;
use super::comparing::{Comparing, PAGE};
use super::comparing_ui::{CompareCommand, ComparingView, block};
use super::grounding_ui;
use super::pictures::small;
use super::style;
use super::texts::{Texts, figure, fill};
use crate::chat::grounding::{Found, find};
use crate::compare::judge::{Change, Difference, Rating};
use crate::compare::{CellResult, PictureFiles, Place, Plan, Stage};
use crate::engine::StopReason;
use crate::model::picture::Picture;

/// Height of a row's picture, points.
const PICTURE_HEIGHT: f32 = 130.0;
/// Characters of an answer that are drawn; the rest is in the chat that can be made of it, and in reports.
const MOST_CHARACTERS: usize = 6000;
/// Thumbnails that are kept.
const MOST_THUMBNAILS: usize = 256;

enum Thumbnail {
    Reading(Receiver<Result<ColorImage, String>>),
    Ready(TextureHandle),
    Failed(String),
}

/// Small pictures of a comparison, read on threads of their own.
#[derive(Default)]
pub(super) struct Thumbnails {
    of: HashMap<String, Thumbnail>,
    plan: Option<Arc<PictureFiles>>,
}

impl Thumbnails {
    /// The small picture of this name, once it is read.
    fn get(
        &mut self,
        ui: &Ui,
        files: &Arc<PictureFiles>,
        name: &str,
    ) -> Result<Option<&TextureHandle>, String> {
        if self.plan.as_ref().is_none_or(|plan| !Arc::ptr_eq(plan, files)) || self.of.len() > MOST_THUMBNAILS
        {
            self.of.clear();
            self.plan = Some(Arc::clone(files));
        }
        let ctx = ui.ctx().clone();
        let thumbnail = self.of.entry(name.to_owned()).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel();
            let (files, name) = (Arc::clone(files), name.to_owned());
            let read = move || {
                let read = files
                    .bytes(&name)
                    .and_then(|bytes| Picture::from_bytes(&bytes, &name))
                    .and_then(|picture| small(&picture));
                let _ = sender.send(read.map_err(|e| e.to_string()));
                ctx.request_repaint();
            };
            match std::thread::Builder::new().name("thumbnail".into()).spawn(read) {
                Ok(_) => Thumbnail::Reading(receiver),
                Err(e) => Thumbnail::Failed(e.to_string()),
            }
        });
        if let Thumbnail::Reading(receiver) = thumbnail
            && let Ok(read) = receiver.try_recv()
        {
            *thumbnail = match read {
                Ok(image) => Thumbnail::Ready(ui.ctx().load_texture(name, image, TextureOptions::LINEAR)),
                Err(error) => Thumbnail::Failed(error),
            };
        }
        match thumbnail {
            Thumbnail::Reading(_) => Ok(None),
            Thumbnail::Ready(texture) => Ok(Some(texture)),
            Thumbnail::Failed(error) => Err(error.clone()),
        }
    }
}

/// Draws them.
pub(super) fn cells_ui(
    ui: &mut Ui,
    comparing: &mut Comparing,
    view: &mut ComparingView,
    gutter: f32,
    widths: &[f32],
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let Some(plan) = comparing.plan.clone() else {
        ui.add_space(24.0);
        ui.vertical_centered(|ui| ui.weak(t.nothing_run));
        return;
    };
    // What is written may have other columns by now.
    let mut widths = widths.to_vec();
    let usual = widths.iter().copied().fold(0.0, f32::max).max(200.0);
    widths.resize(plan.columns.len(), usual);
    summary_ui(ui, comparing, &plan, gutter, &widths, t);
    let groups = comparing.shown_groups();
    if groups.is_empty() {
        ui.vertical_centered(|ui| ui.weak(t.nothing_found));
    }
    for &group in groups.iter().skip(comparing.looking.page * PAGE).take(PAGE) {
        ui.push_id(("group", group), |ui| {
            ui.separator();
            ui.horizontal_top(|ui| group_ui(ui, comparing, view, &plan, group, gutter, &widths, t, commands));
        });
    }
}

/// A column's figures in words.
fn column_words(c: &crate::compare::ColumnSummary, t: &Texts) -> Vec<String> {
    let mut words = Vec::new();
    if c.passed.of > 0 {
        let (yes, of) = (c.passed.yes, c.passed.of);
        let mut text = fill(t.passed_of, &[("n", &yes), ("of", &of)]);
        if let Some(i) = c.passed.interval() {
            text += &figure(&format!(" ({:.0}–{:.0} %)", i.low * 100.0, i.high * 100.0));
        }
        words.push(text);
    }
    let (wins, losses, ties) = (c.record.wins, c.record.losses, c.record.ties);
    if wins + losses + ties > 0 {
        let values: [(&str, &dyn std::fmt::Display); 3] =
            [("wins", &wins), ("losses", &losses), ("ties", &ties)];
        let mut text = fill(t.record, &values);
        if let Some(i) = c.record.win_rate().interval() {
            text += &figure(&format!(" ({:.0}–{:.0} %)", i.low * 100.0, i.high * 100.0));
        }
        words.push(text);
    }
    if let Some(stars) = c.stars {
        words.push(figure(&format!("★ {:.2}", stars.value)));
    }
    words.extend(c.ttft_ms.map(|ms| fill(t.first_after, &[("time", &style::secs(ms / 1e3))])));
    words.extend(c.decode_tok_s.map(style::rate));
    words.extend(c.mean_logprob.map(|m| figure(&format!("log p {:.3}", m.value))));
    words.extend(c.perplexity.map(|p| perplexity_words(p, t)));
    words
}

fn summary_ui(ui: &mut Ui, comparing: &mut Comparing, plan: &Plan, gutter: f32, widths: &[f32], t: &Texts) {
    let Some(summary) = comparing.summary() else { return };
    let hidden = comparing.looking.blind;
    ui.horizontal_top(|ui| {
        block(ui, gutter, |ui| {
            ui.strong(t.summary);
            let all = &summary.passed;
            if all.of > 0 {
                ui.label(fill(t.passed_of, &[("n", &all.yes), ("of", &all.of)]));
            }
            if summary.agreement.same.of > 0 {
                let same = summary.agreement.same;
                let kappa = summary.agreement.kappa.map_or("–".to_owned(), |k| figure(&format!("{k:.2}")));
                let values: [(&str, &dyn std::fmt::Display); 3] =
                    [("n", &same.yes), ("of", &same.of), ("kappa", &kappa)];
                ui.label(RichText::new(fill(t.agreement, &values)).small()).on_hover_text(t.agreement_hint);
            }
        });
        for (n, width) in widths.iter().enumerate() {
            block(ui, *width, |ui| {
                if comparing.looking.collapsed.contains(&n) {
                    return;
                }
                if hidden {
                    ui.weak(t.hidden_column);
                    return;
                }
                ui.strong(&plan.columns[n].name);
                if let Some(c) = summary.columns.get(n) {
                    let text = RichText::new(column_words(c, t).join(" · ")).small();
                    ui.add(Label::new(text).wrap().selectable(true));
                }
            });
        }
    });
}

#[expect(clippy::too_many_arguments, reason = "a drawing and everything it shows")]
fn group_ui(
    ui: &mut Ui,
    comparing: &mut Comparing,
    view: &mut ComparingView,
    plan: &Arc<Plan>,
    group: usize,
    gutter: f32,
    widths: &[f32],
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let (row, repeat) = (group / plan.repeats(), group % plan.repeats());
    block(ui, gutter, |ui| row_ui(ui, comparing, view, plan, (row, repeat), t));
    let (order, named) = comparing.order(group);
    let numbers: Vec<usize> =
        order.iter().map(|&column| plan.number(Place { row, repeat, column })).collect();
    let against = comparing.looking.against.map(|column| plan.number(Place { row, repeat, column }));
    let against = against.and_then(|n| comparing.results.get(&n)).map(|result| result.answer.clone());
    for (place, (&column, number)) in order.iter().zip(numbers).enumerate() {
        let name = if named { plan.columns[column].name.clone() } else { (place + 1).to_string() };
        block(ui, widths[place], |ui| {
            if comparing.looking.collapsed.contains(&place) {
                return;
            }
            ui.push_id(("cell", place), |ui| {
                let is_base = comparing.looking.against == Some(column);
                let base = against.as_deref().filter(|_| !is_base && named);
                cell_ui(ui, comparing, view, (number, &name), base, t, commands);
            });
        });
    }
}

/// Differences that were on the screen in the last frame.
type Differences = FrameCache<Arc<Difference>, Differ>;

#[derive(Default)]
struct Differ;

impl ComputerMut<(&str, &str), Arc<Difference>> for Differ {
    fn compute(&mut self, (base, answer): (&str, &str)) -> Arc<Difference> {
        Arc::new(Difference::between(base, answer))
    }
}

/// What answers that were on the screen in the last frame have found on their pictures.
type Things = FrameCache<Arc<Vec<Found>>, Finder>;

#[derive(Default)]
struct Finder;

impl ComputerMut<&str, Arc<Vec<Found>>> for Finder {
    fn compute(&mut self, answer: &str) -> Arc<Vec<Found>> {
        Arc::new(find(answer))
    }
}

/// What a row is about: its values, its pictures with what the answers found on them.
fn row_ui(
    ui: &mut Ui,
    comparing: &Comparing,
    view: &mut ComparingView,
    plan: &Arc<Plan>,
    (row, repeat): (usize, usize),
    t: &Texts,
) {
    let mut head = fill(t.row, &[("n", &(row + 1))]);
    if plan.repeats() > 1 {
        head += &fill(t.repeat_of, &[("n", &(repeat + 1)), ("of", &plan.repeats())]);
    }
    ui.label(RichText::new(head).small().weak());
    for (name, value) in plan.values(row) {
        let text = RichText::new(format!("{name}: {value}")).small();
        ui.add(Label::new(text).wrap().selectable(true));
    }
    let columns = plan.columns.len();
    let results: Vec<(usize, &CellResult)> = (0..columns)
        .filter_map(|column| {
            Some((column, &**comparing.results.get(&plan.number(Place { row, repeat, column }))?))
        })
        .collect();
    let mut pictures: Vec<&String> = Vec::new();
    for picture in results.iter().flat_map(|(_, result)| &result.pictures) {
        if !pictures.contains(&picture) {
            pictures.push(picture);
        }
    }
    let mut found: Vec<(usize, Found)> = Vec::new();
    for (column, result) in &results {
        let name = &plan.columns[*column].name;
        let things =
            ui.memory_mut(|memory| memory.caches.cache::<Things>().get(result.answer.as_str()).clone());
        for thing in things.iter() {
            let label =
                if thing.label.is_empty() { name.clone() } else { format!("{name}: {}", thing.label) };
            found.push((*column, Found { label, ..thing.clone() }));
        }
    }
    for (n, picture) in pictures.iter().enumerate() {
        match view.thumbnails.get(ui, &plan.pictures, picture) {
            Ok(Some(texture)) => {
                let shape = texture.aspect_ratio();
                let height = PICTURE_HEIGHT.min((ui.available_width() - 4.0) / shape);
                let name = plan.pictures.shown(picture);
                let size = egui::vec2(height * shape, height);
                let image = Image::new(texture).fit_to_exact_size(size).corner_radius(4.0).alt_text(&name);
                let image = ui.add(image).on_hover_text(&name);
                // Boxes say of no picture which one they mean: the first is the usual one.
                if n == 0 && !comparing.looking.blind {
                    let things: Vec<Found> = found.iter().map(|(_, found)| found.clone()).collect();
                    let colours: Vec<usize> = found.iter().map(|(column, _)| *column).collect();
                    grounding_ui::overlay_coloured(ui, image.rect, &things, &colours);
                }
            }
            Ok(None) => drop(ui.weak(t.reading)),
            Err(error) => {
                let text = RichText::new(t.cannot_be_read).small().color(ui.visuals().error_fg_color);
                ui.label(text).on_hover_text(error);
            }
        }
    }
}

fn stage_words(stage: Stage, t: &Texts) -> String {
    match stage {
        Stage::Waiting => t.stage_waiting.to_owned(),
        Stage::Pictures => t.stage_pictures.to_owned(),
        Stage::Prefill(done, total) => fill(t.stage_prefill, &[("done", &done), ("total", &total)]),
        Stage::Writing => t.stage_writing.to_owned(),
        Stage::Measuring => t.stage_measuring.to_owned(),
    }
}

fn cell_ui(
    ui: &mut Ui,
    comparing: &mut Comparing,
    view: &mut ComparingView,
    (number, name): (usize, &str),
    against: Option<&str>,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let Some(result) = comparing.results.get(&number).cloned() else {
        ui.label(RichText::new(name).small().weak());
        match comparing.under_way(number) {
            Some((stage, text)) => {
                ui.label(RichText::new(stage_words(stage, t)).small().weak());
                ui.add(Label::new(text).wrap());
            }
            None => drop(ui.weak("·")),
        }
        return;
    };
    let failed = !result.passed();
    let stroke = if failed {
        ui.visuals().error_fg_color
    } else {
        ui.visuals().widgets.noninteractive.bg_stroke.color
    };
    let frame = Frame::new().corner_radius(6.0).inner_margin(Margin::symmetric(8, 4)).stroke((1.0, stroke));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.label(RichText::new(name).small().weak());
        if let Some(error) = &result.error {
            ui.label(RichText::new(error).small().color(ui.visuals().error_fg_color));
            if result.answer.is_empty() {
                return;
            }
        }
        answer_ui(ui, &result.answer, against, t);
        for checked in &result.verdicts {
            let (sign, colour) = if checked.verdict.passed {
                ("✔", ui.visuals().weak_text_color())
            } else {
                ("×", ui.visuals().error_fg_color)
            };
            let text = RichText::new(format!("{sign} {}", checked.what)).small().color(colour);
            ui.add(Label::new(text).wrap()).on_hover_text(&checked.verdict.why);
        }
        let (words, detail) = figures_words(&result, t);
        ui.add(Label::new(RichText::new(words).small().weak()).wrap()).on_hover_text(detail);
        ui.horizontal_wrapped(|ui| {
            rating_ui(ui, comparing, view, &result, name, t, commands);
            let to_chat = fill(t.to_chat_named, &[("name", &name)]);
            if style::quiet_button(ui, t.to_chat, &to_chat, true).clicked() {
                commands.push(Command::Compare(CompareCommand::ToChat(number)));
            }
            // Columns have names there, which a blind reading must not see.
            if comparing.costs.contains_key(&number)
                && !comparing.looking.blind
                && style::quiet_button(ui, t.costs_of_answer, t.costs_of_row, true).clicked()
            {
                let columns = comparing.plan.as_ref().map_or(1, |plan| plan.columns.len()).max(1);
                comparing.looking.costs = Some(number / columns);
            }
            if style::quiet_button(ui, t.copy, t.copy_answer, !result.answer.is_empty()).clicked() {
                commands.push(Command::Copy(result.answer.clone()));
            }
        });
        note_ui(ui, comparing, view, &result, t, commands);
    });
}

/// An answer, with the words that it has otherwise.
fn answer_ui(ui: &mut Ui, answer: &str, against: Option<&str>, t: &Texts) {
    if answer.is_empty() {
        ui.weak(t.empty_answer);
        return;
    }
    let cut = answer.char_indices().nth(MOST_CHARACTERS).map_or(answer.len(), |(at, _)| at);
    let Some(base) = against else {
        ui.add(Label::new(&answer[..cut]).wrap().selectable(true));
        return;
    };
    let base_cut = base.char_indices().nth(MOST_CHARACTERS).map_or(base.len(), |(at, _)| at);
    let texts = (&base[..base_cut], &answer[..cut]);
    let difference = ui.memory_mut(|memory| memory.caches.cache::<Differences>().get(texts).clone());
    if difference.is_none() {
        ui.add(Label::new(&answer[..cut]).wrap().selectable(true));
        ui.label(RichText::new(t.same_answer).small().weak());
        return;
    }
    let font = TextStyle::Body.resolve(ui.style());
    let plain = ui.visuals().text_color();
    let (added, removed) = if ui.visuals().dark_mode {
        (Color32::from_rgb(20, 62, 110), Color32::from_rgb(104, 52, 0))
    } else {
        (Color32::from_rgb(196, 222, 255), Color32::from_rgb(255, 222, 180))
    };
    let mut job = LayoutJob::default();
    for piece in &difference.pieces {
        let mut format = TextFormat { font_id: font.clone(), color: plain, ..TextFormat::default() };
        match piece.change {
            Change::Same => {}
            // Not by colour alone: what is new is underlined, what is gone struck through.
            Change::Added => {
                format.background = added;
                format.underline = egui::Stroke::new(1.0, plain);
            }
            Change::Removed => {
                format.background = removed;
                format.strikethrough = egui::Stroke::new(1.0, plain);
            }
        }
        job.append(&piece.text, 0.0, format);
    }
    ui.add(Label::new(job).wrap().selectable(true));
}

/// A cell's figures on one line, and all of them.
fn figures_words(result: &CellResult, t: &Texts) -> (String, String) {
    let f = &result.figures;
    let mut words = Vec::new();
    words.extend(f.ttft_ms.map(|ms| fill(t.first_after, &[("time", &style::secs(ms / 1e3))])));
    words.extend(
        f.vision_ms.filter(|ms| *ms > 0.0).map(|ms| fill(t.vision_took, &[("time", &style::secs(ms / 1e3))])),
    );
    words.extend(f.prefill_tok_s.map(|rate| fill(t.prefill_rate, &[("rate", &style::rate(rate))])));
    words.extend(f.decode_tok_s.map(style::rate));
    words.extend(f.new_tokens.map(|n| super::status_ui::tokens(n, t)));
    words.extend(result.mean_logprob().map(|p| figure(&format!("log p {p:.3}"))));
    words.extend(result.reference.map(|r| perplexity_words(r.perplexity, t)));
    words.push(reason_words(result.reason, t).to_owned());
    let mut detail = vec![result.answered_by.clone()];
    if let (Some(prompt), Some(reused)) = (f.prompt_tokens, f.reused_tokens) {
        detail.push(fill(t.prompt_shared, &[("tokens", &prompt), ("reused", &reused)]));
    }
    for picture in &f.pictures {
        detail.push(super::status_ui::picture_text(picture, t));
    }
    detail.extend(f.batch.map(|batch| fill(t.in_batch, &[("n", &figure(&format!("{batch:.1}")))])));
    detail.extend(result.seed.map(|seed| fill(t.seed_was, &[("seed", &seed)])));
    (words.join(" · "), detail.join("\n"))
}

fn reason_words(reason: StopReason, t: &Texts) -> &'static str {
    match reason {
        StopReason::End => t.ended_itself,
        StopReason::StopString => t.ended_stop_string,
        StopReason::MaxTokens => t.ended_limit,
        StopReason::ContextFull => t.ended_context,
        StopReason::Cancelled => t.ended_not,
    }
}

/// A perplexity with as many digits as say something.
fn perplexity_words(perplexity: f64, t: &Texts) -> String {
    let digits = if perplexity < 100.0 { 2 } else { 0 };
    fill(t.perplexity, &[("p", &figure(&format!("{perplexity:.digits$}")))])
}

/// Thumbs, stars and the way to a note.
fn rating_ui(
    ui: &mut Ui,
    comparing: &mut Comparing,
    view: &mut ComparingView,
    result: &CellResult,
    name: &str,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let rating = comparing.ratings.get(&result.key).cloned().unwrap_or_default();
    let mut rate =
        |new: Rating| commands.push(Command::Compare(CompareCommand::Rate(result.key.clone(), new)));
    ui.spacing_mut().item_spacing.x = 2.0;
    for (thumb, shown, hint) in [(1, "👍", t.thumb_up), (-1, "👎", t.thumb_down)] {
        let chosen = rating.thumb == Some(thumb);
        let button = ui.selectable_label(chosen, RichText::new(shown).small());
        if style::named(button, &format!("{hint}: {name}")).clicked() {
            rate(Rating { thumb: (!chosen).then_some(thumb), ..rating.clone() });
        }
    }
    for stars in 1..=5_u8 {
        let lit = rating.stars.is_some_and(|given| given >= stars);
        let shown = if lit { "★" } else { "☆" };
        let hint = format!("{}: {name}", fill(t.stars, &[("n", &stars)]));
        if style::quiet_button(ui, shown, &hint, true).clicked() {
            let same = rating.stars == Some(stars);
            rate(Rating { stars: (!same).then_some(stars), ..rating.clone() });
        }
    }
    if style::quiet_button(ui, t.note, &format!("{}: {name}", t.note), true).clicked() {
        view.note.clone_from(&rating.note);
        comparing.looking.noting = Some(result.key.clone());
    }
}

fn note_ui(
    ui: &mut Ui,
    comparing: &mut Comparing,
    view: &mut ComparingView,
    result: &CellResult,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let rating = comparing.ratings.get(&result.key).cloned().unwrap_or_default();
    if comparing.looking.noting.as_deref() != Some(result.key.as_str()) {
        if !rating.note.is_empty() {
            ui.add(Label::new(RichText::new(&rating.note).small().italics()).wrap());
        }
        return;
    }
    let field =
        TextEdit::multiline(&mut view.note).hint_text(t.note).desired_rows(2).desired_width(f32::INFINITY);
    style::named(ui.add(field), t.note);
    if ui.small_button(t.save).clicked() {
        let note = std::mem::take(&mut view.note);
        commands.push(Command::Compare(CompareCommand::Rate(result.key.clone(), Rating { note, ..rating })));
        comparing.looking.noting = None;
    }
}
