//! Room `app`: the large view of a picture: near and far, as it is or as the model saw it, with the grids the model cuts it into
//! and with what an answer has found on it.

use egui::{
    Align, Button, Color32, CursorIcon, EventFilter, Key, Label, Layout, Modifiers, Painter, Pos2, Rect,
    Response, RichText, Role, ScrollArea, Sense, Stroke, TextureHandle, Ui, UiBuilder, Vec2, WidgetInfo,
    pos2, vec2,
};

use super::grounding_ui::{list, overlay};
use super::texts::{Texts, fill, texts};
use crate::chat::grounding::Found;

/// The largest zoom: so many pixels of the screen for one of the picture.
const LARGEST: f32 = 64.0;
/// One step of the buttons and keys.
const STEP: f32 = 1.25;
/// Points of the wheel that double the size.
const WHEEL_POINTS: f32 = 250.0;
/// How far an arrow key moves, points.
const ARROW: f32 = 60.0;
/// A grid whose cells are smaller than this is not drawn, points.
const SMALLEST_CELL: f32 = 4.0;
/// A grid whose cells are at least this is drawn in full strength, points.
const CLEAR_CELL: f32 = 12.0;
/// Width of the list of what was found, points.
const LIST_WIDTH: f32 = 270.0;
/// A view narrower than this has no list, points.
const ROOM_FOR_LIST: f32 = 640.0;

/// How a person looks at a picture.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// Pixels of the screen for one of the original picture; none: the whole picture fits.
    zoom: Option<f32>,
    /// The place of the picture in the middle of the view, 0 to 1.
    middle: Vec2,
    as_seen: bool,
    patches: bool,
    tokens: bool,
    found: bool,
    highlighted: Option<usize>,
}

impl Default for Viewer {
    fn default() -> Self {
        Self {
            zoom: None,
            middle: Vec2::splat(0.5),
            as_seen: false,
            patches: false,
            tokens: false,
            found: true,
            highlighted: None,
        }
    }
}

/// What there is to see.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// The picture as it is.
    pub original: Option<&'a TextureHandle>,
    /// The picture as it was resized for the model.
    pub seen: Option<&'a TextureHandle>,
    /// Width and height of the original, pixels.
    pub size_px: (u32, u32),
    /// Frames, rows and columns of patches.
    pub grid: Option<[u32; 3]>,
    /// A token is so many patches wide and high.
    pub merge: u32,
    /// What an answer has found.
    pub found: &'a [Found],
    /// A line of figures.
    pub facts: &'a str,
    /// The picture's name.
    pub name: &'a str,
}

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shown")
            .field("name", &self.name)
            .field("size_px", &self.size_px)
            .finish_non_exhaustive()
    }
}

/// What the person asks for beyond looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewerAction {
    /// Back to the conversation.
    Close,
    /// Save the picture with boxes and names.
    ExportPicture,
    /// Copy what was found, in pixels.
    CopyCoordinates,
}

/// What keys, wheel and buttons ask for in a frame.
#[derive(Default)]
struct Wish {
    factor: Option<f32>,
    fit: bool,
    full: bool,
    pan: Vec2,
}

impl Viewer {
    /// Draws the picture and its tools in the space there is.
    pub fn show(&mut self, ui: &mut Ui, shown: &Shown<'_>) -> Option<ViewerAction> {
        let words = texts(ui.ctx());
        let mut wish = Wish::default();
        let mut action = keys(ui, &mut wish);
        self.tools_ui(ui, shown, words, &mut wish, &mut action);
        let facts_height = if shown.facts.is_empty() { 0.0 } else { ui.spacing().interact_size.y };
        let all = ui.available_rect_before_wrap();
        let mut canvas = all;
        canvas.max.y = (all.max.y - facts_height).max(canvas.min.y);
        let lists = self.found && !shown.found.is_empty() && all.width() >= ROOM_FOR_LIST;
        if lists {
            canvas.max.x -= LIST_WIDTH;
        }
        let on_picture = self.canvas_ui(ui, canvas, shown, words, &wish);
        let mut in_list = None;
        if lists {
            let rect = Rect::from_min_max(pos2(canvas.max.x + 8.0, all.min.y), pos2(all.max.x, canvas.max.y));
            let mut child = ui.new_child(UiBuilder::new().id_salt("found").max_rect(rect));
            ScrollArea::both().auto_shrink(false).show(&mut child, |ui| {
                in_list = list(ui, shown.found, shown.size_px, self.highlighted);
            });
        }
        let highlighted = on_picture.or(in_list);
        if highlighted != self.highlighted {
            self.highlighted = highlighted;
            ui.ctx().request_repaint();
        }
        if !shown.facts.is_empty() {
            let rect = Rect::from_min_max(pos2(all.min.x, canvas.max.y), all.max);
            let mut child = ui.new_child(
                UiBuilder::new().id_salt("facts").max_rect(rect).layout(Layout::left_to_right(Align::Center)),
            );
            child.add(Label::new(RichText::new(shown.facts).small()).selectable(true).truncate());
        }
        ui.advance_cursor_after_rect(all);
        action
    }

    fn tools_ui(
        &mut self,
        ui: &mut Ui,
        shown: &Shown<'_>,
        words: &Texts,
        wish: &mut Wish,
        action: &mut Option<ViewerAction>,
    ) {
        ui.horizontal_wrapped(|ui| {
            if named(ui, Button::new(words.close), words.viewer_close).clicked() {
                *action = Some(ViewerAction::Close);
            }
            let name = ui.add(Label::new(RichText::new(shown.name).strong()).truncate());
            name.on_hover_text(shown.name);
            ui.separator();
            if named(ui, Button::new("-").min_size(Vec2::splat(24.0)), words.viewer_zoom_out).clicked() {
                wish.factor = Some(1.0 / STEP);
            }
            if named(ui, Button::new("+").min_size(Vec2::splat(24.0)), words.viewer_zoom_in).clicked() {
                wish.factor = Some(STEP);
            }
            wish.fit |= ui.button(words.viewer_fit).on_hover_text(words.viewer_fit_hint).clicked();
            wish.full |= ui.button(words.viewer_full).on_hover_text(words.viewer_full_hint).clicked();
            if shown.seen.is_some() {
                ui.separator();
                ui.selectable_value(&mut self.as_seen, false, words.viewer_original);
                ui.selectable_value(&mut self.as_seen, true, words.viewer_seen);
            }
            if shown.grid.is_some() {
                ui.separator();
                ui.toggle_value(&mut self.patches, words.viewer_patches)
                    .on_hover_text(words.viewer_patches_hint);
                ui.toggle_value(&mut self.tokens, words.viewer_tokens)
                    .on_hover_text(words.viewer_tokens_hint);
            }
            if !shown.found.is_empty() {
                ui.separator();
                ui.toggle_value(&mut self.found, words.viewer_found);
                if ui.button(words.export_picture).clicked() {
                    *action = Some(ViewerAction::ExportPicture);
                }
                if ui.button(words.copy_coordinates).clicked() {
                    *action = Some(ViewerAction::CopyCoordinates);
                }
            }
        });
    }

    /// The picture itself; says which of what was found the pointer is on.
    fn canvas_ui(
        &mut self,
        ui: &mut Ui,
        canvas: Rect,
        shown: &Shown<'_>,
        words: &Texts,
        wish: &Wish,
    ) -> Option<usize> {
        let response = ui.interact(canvas, ui.scope_id().with("canvas"), Sense::click_and_drag());
        if response.has_focus() {
            let filter = EventFilter {
                horizontal_arrows: true,
                vertical_arrows: true,
                escape: true,
                ..EventFilter::default()
            };
            ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
            ui.painter().rect_stroke(canvas, 0.0, ui.visuals().selection.stroke, egui::StrokeKind::Inside);
        }
        let picture = self.place(ui, canvas, shown.size_px, &response, wish);
        let zoom = picture.width() * ui.pixels_per_point() / shown.size_px.0.max(1) as f32;
        response.widget_info(|| {
            let percent = (zoom * 100.0).round_ties_even();
            let name = fill(words.viewer_picture, &[("name", &shown.name), ("zoom", &percent)]);
            WidgetInfo::labeled(Role::Image, true, name)
        });
        if response.dragged() {
            ui.set_cursor_icon(CursorIcon::Grabbing);
        } else if response.hovered() {
            ui.set_cursor_icon(CursorIcon::Grab);
        }
        let painter = ui.painter().with_clip_rect(canvas.intersect(ui.clip_rect()));
        let texture =
            if self.as_seen { shown.seen.or(shown.original) } else { shown.original.or(shown.seen) };
        match texture {
            Some(texture) => {
                let whole = Rect::from_min_max(Pos2::ZERO, pos2(1.0, 1.0));
                painter.image(texture.id(), picture, whole, Color32::WHITE);
            }
            None => {
                painter.rect_filled(picture, 0.0, ui.visuals().faint_bg_color);
                let font = egui::TextStyle::Body.resolve(ui.style());
                let colour = ui.visuals().weak_text_color();
                painter.text(
                    canvas.center(),
                    egui::Align2::CENTER_CENTER,
                    words.viewer_no_picture,
                    font,
                    colour,
                );
            }
        }
        if let Some([_, rows, columns]) = shown.grid {
            if self.patches {
                grid(&painter, picture, columns as f32, rows as f32, Color32::WHITE, 1.0);
            }
            if self.tokens {
                let merge = shown.merge.max(1) as f32;
                let colour = Color32::from_rgb(90, 230, 255);
                grid(&painter, picture, columns as f32 / merge, rows as f32 / merge, colour, 1.5);
            }
        }
        if !self.found {
            return None;
        }
        let mut child = ui.new_child(UiBuilder::new().id_salt("overlay").max_rect(canvas));
        child.set_clip_rect(canvas.intersect(ui.clip_rect()));
        overlay(&child, picture, shown.found, self.highlighted)
    }

    /// Moves and zooms as asked; gives where the picture now is.
    fn place(
        &mut self,
        ui: &Ui,
        canvas: Rect,
        size_px: (u32, u32),
        response: &Response,
        wish: &Wish,
    ) -> Rect {
        let scale = ui.pixels_per_point();
        let size = vec2(size_px.0.max(1) as f32, size_px.1.max(1) as f32);
        let room = (canvas.size() * scale).max(Vec2::splat(1.0));
        // Small pictures are not blown up beyond what is needed to see their pixels.
        let fit = (room / size).min_elem().clamp(1e-5, 8.0);
        let smallest = (fit * 0.5).min(1.0);
        let mut zoom = self.zoom.unwrap_or(fit);
        let on_screen = |zoom: f32| size * zoom / scale;

        if wish.fit || (response.double_clicked() && self.zoom.is_some()) {
            self.zoom = None;
            zoom = fit;
        } else if wish.full || response.double_clicked() {
            zoom = self.zoom_to(1.0, on_screen(zoom), size / scale, response.interact_pointer_pos(), canvas);
        }
        let mut factor = wish.factor.unwrap_or(1.0);
        let hovered = response.contains_pointer();
        if hovered {
            let (wheel, pinch) = ui.input(|input| (input.smooth_scroll_delta().y, input.zoom_delta()));
            factor *= pinch * (wheel / WHEEL_POINTS).exp2();
        }
        if (factor - 1.0).abs() > 1e-4 {
            let wanted = (zoom * factor).clamp(smallest, LARGEST);
            let pointer = response.hover_pos().filter(|_| wish.factor.is_none());
            zoom = self.zoom_to(wanted, on_screen(zoom), size * wanted / scale, pointer, canvas);
        }
        let shown = on_screen(zoom);
        self.middle -= (response.drag_delta() + wish.pan) / shown;
        if self.zoom.is_none() {
            self.middle = Vec2::splat(0.5);
        }
        // The middle of the view stays on the picture; a side that fits stays in the middle.
        for axis in 0..2 {
            let slack = ((shown[axis] - canvas.size()[axis]) / 2.0 / shown[axis]).max(0.0);
            self.middle[axis] = self.middle[axis].clamp(0.5 - slack, 0.5 + slack);
        }
        Rect::from_min_size(canvas.center() - self.middle * shown, shown)
    }

    /// Zooms so that what is under the pointer stays there; without a pointer, what is in the middle.
    fn zoom_to(&mut self, zoom: f32, from: Vec2, to: Vec2, pointer: Option<Pos2>, canvas: Rect) -> f32 {
        let arm = pointer.map_or(Vec2::ZERO, |pointer| pointer - canvas.center());
        self.middle += arm / from - arm / to;
        self.zoom = Some(zoom);
        zoom
    }
}

/// A button without words, which has a name all the same.
fn named(ui: &mut Ui, button: Button<'_>, name: &str) -> Response {
    let response = ui.add(button).on_hover_text(name);
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, name));
    response
}

/// What the keyboard asks for, where no text field has it.
fn keys(ui: &Ui, wish: &mut Wish) -> Option<ViewerAction> {
    if !ui.is_enabled() || ui.ctx().text_edit_focused() {
        return None;
    }
    ui.input_mut(|input| {
        let mut pressed = |key| input.consume_key(Modifiers::NONE, key);
        // Not "or": each key is taken, so that nothing else acts on it.
        if pressed(Key::Plus) | pressed(Key::Equals) {
            wish.factor = Some(STEP);
        }
        if pressed(Key::Minus) {
            wish.factor = Some(1.0 / STEP);
        }
        wish.fit |= pressed(Key::Num0);
        wish.full |= pressed(Key::Num1);
        for (key, way) in [
            (Key::ArrowLeft, vec2(1.0, 0.0)),
            (Key::ArrowRight, vec2(-1.0, 0.0)),
            (Key::ArrowUp, vec2(0.0, 1.0)),
            (Key::ArrowDown, vec2(0.0, -1.0)),
        ] {
            if pressed(key) {
                wish.pan += way * ARROW;
            }
        }
        pressed(Key::Escape).then_some(ViewerAction::Close)
    })
}

/// How strongly a grid with cells of this size is drawn, 0 to 1.
fn grid_strength(cell: Vec2) -> f32 {
    ((cell.min_elem() - SMALLEST_CELL) / (CLEAR_CELL - SMALLEST_CELL)).clamp(0.0, 1.0)
}

fn grid(painter: &Painter, picture: Rect, columns: f32, rows: f32, colour: Color32, width: f32) {
    if columns < 1.0 || rows < 1.0 {
        return;
    }
    let cell = picture.size() / vec2(columns, rows);
    let strength = grid_strength(cell);
    if strength <= 0.0 {
        return;
    }
    let view = picture.intersect(painter.clip_rect());
    let dark = Stroke::new(width + 1.0, Color32::BLACK.gamma_multiply(0.45 * strength));
    let bright = Stroke::new(width, colour.gamma_multiply(0.8 * strength));
    // Only lines in sight: there may be thousands.
    let lines = |from: f32, to: f32, begin: f32, step: f32, count: f32| {
        let first = ((from - begin) / step).floor().max(0.0) as u32;
        let last = ((to - begin) / step).ceil().min(count.floor()).max(0.0) as u32;
        (first..=last).map(move |i| begin + i as f32 * step)
    };
    for stroke in [dark, bright] {
        for x in lines(view.left(), view.right(), picture.left(), cell.x, columns) {
            painter.vline(x, view.y_range(), stroke);
        }
        for y in lines(view.top(), view.bottom(), picture.top(), cell.y, rows) {
            painter.hline(view.x_range(), y, stroke);
        }
    }
}

#[cfg(test)]
mod tests;
