//! Room `app`: a block of code in an answer: coloured, scrolled sideways, with a button that copies it. Lines are coloured once,
//! a few hundred in a frame, and only those in sight are laid out; what comes in is coloured from where the last line ended.

use egui::text::{LayoutJob, TextFormat};
use egui::{
    Align, Button, Color32, FontId, Frame, Label, Layout, Margin, RichText, Role, ScrollArea, TextStyle,
    TextWrapMode, Ui, WidgetInfo, vec2,
};
use egui_commonmark::syntect::highlighting::{
    HighlightIterator, HighlightState, Highlighter, Theme, ThemeSet,
};
use egui_commonmark::syntect::parsing::{ParseState, ScopeStack, SyntaxSet};

use super::texts::texts;

/// The colours of code on a dark and on a light ground.
pub(super) const THEMES: [&str; 2] = ["base16-ocean.dark", "InspiredGitHub"];
/// Lines coloured in one frame.
const LINES_A_FRAME: usize = 60;
/// Lines laid out together.
const CHUNK_LINES: usize = 50;
/// A longer line is shown in pieces and not coloured, bytes.
const LONG_LINE: usize = 2_000;
/// Laid out above and below what is in sight, points.
const MARGIN: f32 = 200.0;

/// The languages and colours; read when the first code is shown.
#[derive(Default)]
pub(super) struct Colours(Option<(SyntaxSet, ThemeSet)>);

/// What is known of one block of code.
#[derive(Default)]
pub(super) struct Code {
    language: String,
    dark: bool,
    /// How much of the code is coloured; whole lines.
    done: usize,
    hash_of_done: u64,
    state: Option<(ParseState, HighlightState)>,
    chunks: Vec<(LayoutJob, usize)>,
    widest: f32,
}

impl Colours {
    fn get(&mut self) -> &(SyntaxSet, ThemeSet) {
        self.0.get_or_insert_with(|| (SyntaxSet::load_defaults_newlines(), ThemeSet::load_defaults()))
    }
}

fn colour(colour: egui_commonmark::syntect::highlighting::Color) -> Color32 {
    Color32::from_rgb(colour.r, colour.g, colour.b)
}

impl Code {
    /// Colours what has come, or some of it; says whether all is done.
    fn take(&mut self, colours: &mut Colours, language: &str, code: &str, dark: bool, font: &FontId) -> bool {
        let same = self.language == language
            && self.dark == dark
            && code.get(..self.done).is_some_and(|done| egui::util::hash(done) == self.hash_of_done);
        if !same {
            *self = Self { language: language.to_owned(), dark, widest: self.widest, ..Self::default() };
        }
        let rest = code.get(self.done..).unwrap_or_default();
        // The last line may grow: it is not coloured before it is whole.
        let whole = rest.rfind('\n').map_or(0, |end| end + 1);
        if whole == 0 {
            return true;
        }
        let (syntaxes, themes) = colours.get();
        let theme = themes.themes.get(theme_name(dark));
        let syntax =
            syntaxes.find_syntax_by_token(language).unwrap_or_else(|| syntaxes.find_syntax_plain_text());
        let highlighter = theme.map(Highlighter::new);
        if self.state.is_none()
            && let Some(highlighter) = &highlighter
        {
            let state = HighlightState::new(highlighter, ScopeStack::new());
            self.state = Some((ParseState::new(syntax), state));
        }
        let mut taken = 0;
        for line in rest.get(..whole).unwrap_or_default().split_inclusive('\n').take(LINES_A_FRAME) {
            taken += line.len();
            if self.chunks.last().is_none_or(|(_, lines)| *lines >= CHUNK_LINES) {
                self.chunks.push((LayoutJob::default(), 0));
            }
            let Some((job, lines)) = self.chunks.last_mut() else { break };
            // Each chunk is a text of its own: the break before a line, not after it.
            if *lines > 0 {
                job.append("\n", 0.0, TextFormat::simple(font.clone(), Color32::GRAY));
            }
            let line = line.trim_end_matches(['\n', '\r']);
            if line.len() > LONG_LINE {
                *lines += plain(job, line, font, foreground(theme));
                continue;
            }
            *lines += 1;
            let parsed = self.state.as_mut().and_then(|(parse, state)| {
                Some((parse.parse_line(&format!("{line}\n"), syntaxes).ok()?, state))
            });
            match (parsed, &highlighter) {
                (Some((operations, state)), Some(highlighter)) => {
                    for (style, part) in
                        HighlightIterator::new(state, &operations, &format!("{line}\n"), highlighter)
                    {
                        let format = TextFormat::simple(font.clone(), colour(style.foreground));
                        job.append(part.trim_end_matches('\n'), 0.0, format);
                    }
                }
                _ => job.append(line, 0.0, TextFormat::simple(font.clone(), foreground(theme))),
            }
        }
        self.done += taken;
        self.hash_of_done = egui::util::hash(code.get(..self.done).unwrap_or_default());
        taken == whole
    }

    /// Draws the code.
    pub fn show(&mut self, ui: &mut Ui, colours: &mut Colours, language: &str, code: &str) {
        let font = TextStyle::Monospace.resolve(ui.style());
        let dark = ui.visuals().dark_mode;
        if !self.take(colours, language, code, dark, &font) {
            ui.ctx().request_repaint();
        }
        let theme = colours.get().1.themes.get(theme_name(dark));
        let ground = theme.and_then(|theme| theme.settings.background).map(colour);
        let fore = foreground(theme);
        let frame = Frame::new()
            .fill(ground.unwrap_or(ui.visuals().extreme_bg_color))
            .stroke(ui.visuals().widgets.noninteractive.bg_stroke)
            .corner_radius(6.0)
            .inner_margin(Margin::symmetric(10, 6));
        frame.show(ui, |ui| {
            ui.set_width(ui.available_width());
            head_ui(ui, language, code, fore);
            let row = ui.text_style_height(&TextStyle::Monospace);
            ScrollArea::horizontal().id_salt("code").auto_shrink([false, true]).show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = 0.0;
                ui.set_min_width(self.widest);
                let mut draw = |ui: &mut Ui, job: &LayoutJob, lines: usize| {
                    let (top, height) = (ui.cursor().top(), row * lines as f32);
                    let clip = ui.clip_rect();
                    if top + height < clip.top() - MARGIN || top > clip.bottom() + MARGIN {
                        ui.allocate_space(vec2(1.0, height));
                    } else {
                        let label = Label::new(job.clone()).selectable(true).wrap_mode(TextWrapMode::Extend);
                        let size = ui.add(label).rect.size();
                        self.widest = self.widest.max(size.x);
                        ui.add_space(height - size.y);
                    }
                };
                for (job, lines) in &self.chunks {
                    draw(ui, job, *lines);
                }
                // What is not coloured yet.
                let rest = code.get(self.done..).unwrap_or_default();
                let mut lines = rest.lines();
                loop {
                    let (mut job, mut count) = (LayoutJob::default(), 0);
                    for line in lines.by_ref().take(CHUNK_LINES) {
                        if count > 0 {
                            job.append("\n", 0.0, TextFormat::simple(font.clone(), fore));
                        }
                        count += plain(&mut job, line, &font, fore);
                    }
                    if count == 0 {
                        break;
                    }
                    draw(ui, &job, count);
                }
            });
        });
    }
}

/// Appends a line in pieces that are not too long; says how many.
fn plain(job: &mut LayoutJob, line: &str, font: &FontId, colour: Color32) -> usize {
    let (mut rest, mut pieces) = (line, 0);
    loop {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(LONG_LINE.min(rest.len())));
        if pieces > 0 {
            job.append("\n", 0.0, TextFormat::simple(font.clone(), colour));
        }
        job.append(piece, 0.0, TextFormat::simple(font.clone(), colour));
        pieces += 1;
        rest = after;
        if rest.is_empty() {
            return pieces;
        }
    }
}

fn theme_name(dark: bool) -> &'static str {
    let [on_dark, on_light] = THEMES;
    if dark { on_dark } else { on_light }
}

fn foreground(theme: Option<&Theme>) -> Color32 {
    theme.and_then(|theme| theme.settings.foreground).map_or(Color32::GRAY, colour)
}

/// The language and the button.
fn head_ui(ui: &mut Ui, language: &str, code: &str, fore: Color32) {
    ui.horizontal(|ui| {
        ui.label(RichText::new(language).small().color(fore.gamma_multiply(0.8)));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let words = texts(ui.ctx());
            let id = ui.scope_id().with("copied");
            let copied = ui.data(|data| data.get_temp::<bool>(id)).unwrap_or_default();
            let text = RichText::new(if copied { words.code_copied } else { words.copy }).small().color(fore);
            let button = ui.add(Button::new(text).small().frame(false));
            button.widget_info(|| WidgetInfo::labeled(Role::Button, true, words.copy_code));
            let hovered = button.hovered() || button.has_focus();
            let button = button.on_hover_text(words.copy_code);
            if button.clicked() {
                ui.copy_text(code.to_owned());
                ui.data_mut(|data| data.insert_temp(id, true));
            } else if copied && !hovered {
                ui.data_mut(|data| data.remove_temp::<bool>(id));
            }
        });
    });
}
