//! Room `app`: a list of thousands of items of different heights, of which only those in sight are laid out. What is in
//! sight stays where it is when an item above turns out higher or lower than it was thought to be, when items come and go, and
//! when the width changes. At the end, the list stays at the end.

use std::collections::HashMap;

use egui::scroll_area::State;
use egui::{
    Align, Button, Context, Id, Key, Layout, Modifiers, Rect, Role, ScrollArea, Ui, UiBuilder, WidgetInfo,
    pos2, vec2,
};

use super::texts::texts;

/// Laid out above and below what is in sight, points: an item's height is known before a person scrolls to it.
const MARGIN: f64 = 400.0;
/// Differences below this are rounding, points.
const SMALL: f64 = 0.5;
/// As near to the end as this is at the end, points.
const NEAR_END: f64 = 2.0;
/// The share of the view that a page moves.
const PAGE: f64 = 0.9;
/// The button that leads to the end, points.
const BUTTON: f32 = 30.0;

/// Where the list is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrollTo<K> {
    /// The end, and stay there.
    End,
    /// The item of this key, at the top of the view.
    Item(K),
}

/// The list's memory between two frames.
#[derive(Debug)]
pub struct MessageList {
    keys: Vec<i64>,
    /// One for each key: measured, or estimated.
    heights: Vec<f64>,
    /// Where each item begins; one more for the end.
    tops: Vec<f64>,
    measured: HashMap<i64, f64>,
    /// The width and the pixels per point that heights were measured at.
    measured_at: (f32, f32),
    /// What was in sight, and how far below the view's top it began; the one that keeps its place first.
    seen: Vec<(i64, f64)>,
    /// How far the view's top was below the list's.
    offset: f64,
    /// What the scroll area called it.
    area_offset: f32,
    area: Option<Id>,
    view_height: f64,
    at_end: bool,
    target: Option<i64>,
}

impl Default for MessageList {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            heights: Vec::new(),
            tops: vec![0.0],
            measured: HashMap::new(),
            measured_at: (0.0, 0.0),
            seen: Vec::new(),
            offset: 0.0,
            area_offset: 0.0,
            area: None,
            view_height: 0.0,
            at_end: true,
            target: None,
        }
    }
}

/// An item tells the list that its part above the view has grown by so many points since the last frame, so that the part in
/// sight keeps its place. To be called while the item is drawn.
pub fn grew_above(ctx: &Context, points: f32) {
    ctx.data_mut(|data| *data.get_temp_mut_or_default::<f32>(growth_id()) += points);
}

fn growth_id() -> Id {
    Id::unique("message_list_growth")
}

/// A length as it is, or nothing where it is none: one that is no number would make all others so, for good, and egui panics at that.
fn finite(points: f32, what: &str) -> f32 {
    if points.is_finite() {
        return points;
    }
    tracing::error!("{what} is {points}");
    0.0
}

fn take_growth(ctx: &Context) -> f64 {
    ctx.data_mut(|data| f64::from(data.remove_temp::<f32>(growth_id()).unwrap_or_default()))
}

impl MessageList {
    /// Whether the end is in sight; the list then stays there.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// Draws the list in the space there is. `keys` are the items, each once; `estimate` is what the height of one not yet drawn
    /// may be; `item` draws one. What `item` draws may be drawn twice for one frame.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        keys: &[i64],
        estimate: impl Fn(usize) -> f32,
        scroll_to: Option<ScrollTo<i64>>,
        mut item: impl FnMut(&mut Ui, usize),
    ) {
        self.take_keys(keys, &estimate);
        let mut moved = self.keys_pressed(ui);
        match scroll_to {
            Some(ScrollTo::End) => (self.at_end, self.target) = (true, None),
            Some(ScrollTo::Item(key)) => (self.at_end, self.target) = (false, Some(key)),
            None => {}
        }
        let state = self.area.and_then(|id| State::load(ui.ctx(), id));
        let area_offset = finite(state.map_or(0.0, |state| state.unclamped_offset().y), "the list's offset");
        moved += f64::from(area_offset) - f64::from(self.area_offset);
        let set = self.resolve(moved);

        let view = ui.available_rect_before_wrap();
        let output = ui
            .scope(|ui| {
                // The offset is set here; springing back from beyond the end would fight it.
                ui.spacing_mut().scroll.kinetic.rubber_band = false;
                let mut area = ScrollArea::vertical()
                    .id_salt("message_list")
                    .auto_shrink(false)
                    .content_margin(0.0)
                    .animated(false);
                if (set - f64::from(area_offset)).abs() > 0.01 {
                    area = area.vertical_scroll_offset(set as f32);
                }
                let set = if (set - f64::from(area_offset)).abs() > 0.01 { set as f32 } else { area_offset };
                area.show_viewport(ui, |ui, viewport| {
                    self.area_offset = finite(viewport.min.y, "the list's place");
                    self.view_height = f64::from(finite(viewport.height(), "the list's height"));
                    // What dragging and coasting have added since.
                    let moved = moved + f64::from(self.area_offset - set);
                    let (width, scale) = (ui.available_width(), ui.pixels_per_point());
                    let (width_then, scale_then) = self.measured_at;
                    if (width_then - width).abs() > 0.01 || (scale_then - scale).abs() > 0.001 {
                        self.measured_at = (width, scale);
                        self.measured.clear();
                        self.estimate_all(&estimate);
                    }
                    self.items_ui(ui, view.top(), moved, &mut item);
                })
            })
            .inner;
        self.area = Some(output.id);
        // As the scroll area has limited it: what else it differs by in the next frame is what the user has moved.
        let last = (output.content_size.y - output.inner_rect.height()).max(0.0);
        self.area_offset = self.area_offset.clamp(0.0, last);
        if !self.at_end {
            self.button_ui(ui, output.inner_rect);
        }
    }

    /// Takes over the items, with what is known of them.
    fn take_keys(&mut self, keys: &[i64], estimate: &impl Fn(usize) -> f32) {
        if self.keys != keys {
            self.keys.clear();
            self.keys.extend_from_slice(keys);
            self.estimate_all(estimate);
            if self.measured.len() > 4 * self.keys.len() + 1000 {
                let kept: std::collections::HashSet<i64> = keys.iter().copied().collect();
                self.measured.retain(|key, _| kept.contains(key));
            }
        }
    }

    fn estimate_all(&mut self, estimate: &impl Fn(usize) -> f32) {
        self.heights.clear();
        self.heights.extend(self.keys.iter().enumerate().map(|(i, key)| {
            self.measured.get(key).copied().unwrap_or_else(|| f64::from(estimate(i)).clamp(1.0, 1e6).ceil())
        }));
        self.add_up();
    }

    fn add_up(&mut self) {
        self.tops.clear();
        let mut top = 0.0;
        self.tops.push(top);
        self.tops.extend(self.heights.iter().map(|height| {
            top += height;
            top
        }));
    }

    /// How far down the view can go.
    fn last_offset(&self) -> f64 {
        (self.tops.last().copied().unwrap_or(0.0) - self.view_height).max(0.0)
    }

    fn place_of(&self, key: i64) -> Option<usize> {
        self.keys.iter().position(|&other| other == key)
    }

    fn top(&self, place: usize) -> f64 {
        self.tops.get(place).copied().unwrap_or(0.0)
    }

    /// How far the view's top is below the list's, after the user has moved it by so much.
    fn resolve(&self, moved: f64) -> f64 {
        let last = self.last_offset();
        if self.at_end && moved > -SMALL {
            return last;
        }
        if let Some(place) = self.target.filter(|_| moved.abs() < SMALL).and_then(|key| self.place_of(key)) {
            return self.top(place).min(last);
        }
        let kept = self.seen.iter().find_map(|&(key, y)| self.place_of(key).map(|place| self.top(place) - y));
        (kept.unwrap_or(self.offset) + moved).clamp(0.0, last)
    }

    /// What the keyboard asks for: how far to move.
    fn keys_pressed(&mut self, ui: &Ui) -> f64 {
        if !ui.is_enabled() {
            return 0.0;
        }
        let pressed = |key| ui.input_mut(|input| input.consume_key(Modifiers::NONE, key));
        let page = (self.view_height * PAGE).round_ties_even();
        let paged = f64::from(u8::from(pressed(Key::PageDown))) * page
            - f64::from(u8::from(pressed(Key::PageUp))) * page;
        // Text fields have no use for pages, but for the ends of a line.
        if ui.ctx().text_edit_focused() {
            return paged;
        }
        if pressed(Key::End) {
            (self.at_end, self.target) = (true, None);
        }
        if pressed(Key::Home) {
            (self.at_end, self.target) = (false, self.keys.first().copied());
        }
        paged
    }

    fn items_ui(&mut self, ui: &mut Ui, view_top: f32, moved: f64, item: &mut impl FnMut(&mut Ui, usize)) {
        let height = self.view_height;
        let offset = self.resolve(moved);
        self.at_end = (self.at_end && moved > -SMALL) || offset >= self.last_offset() - NEAR_END;
        if moved.abs() >= SMALL || self.at_end {
            self.target = None;
        }
        let before = self.tops.last().copied().unwrap_or(0.0);
        let count = self.keys.len();
        let known = |list: &Self, place: usize| {
            list.keys.get(place).is_some_and(|key| list.measured.contains_key(key))
        };

        // What lies in the view and its margins, as far as is known, and the one that keeps its place.
        let begins = |y: f64| self.tops.partition_point(|&top| top <= y).saturating_sub(1);
        let first_in_sight = begins(offset);
        let first = begins(offset - MARGIN);
        let in_sight =
            |place: usize| place < count && self.top(place + 1) > offset && self.top(place) < offset + height;
        let anchor = self
            .seen
            .iter()
            .find_map(|&(key, _)| self.place_of(key).filter(|&place| in_sight(place)))
            .or_else(|| (first_in_sight..count).take_while(|&i| in_sight(i)).find(|&i| known(self, i)))
            .unwrap_or(first_in_sight);

        let scale = f64::from(ui.pixels_per_point());
        let to_pixels = |points: f64| (points * scale).round_ties_even() / scale;
        let (left, width) = (ui.max_rect().left(), ui.available_width());
        let (mut seen, mut unknown, mut jumped) = (Vec::new(), false, false);
        let mut y = self.top(first) - offset;
        let mut anchor_y = None;
        take_growth(ui.ctx());
        for place in first..count {
            if place <= anchor {
                y = self.top(place) - offset;
            } else if y > height + MARGIN {
                break;
            }
            let Some(&key) = self.keys.get(place) else { break };
            let corner = pos2(left, view_top + to_pixels(y) as f32);
            let rect = Rect::from_min_size(corner, vec2(width, height as f32));
            let builder = UiBuilder::new()
                .id_salt(("message", key))
                .max_rect(rect)
                .layout(Layout::top_down(Align::Min));
            let mut child = ui.new_child(builder);
            item(&mut child, place);
            // Whole pixels, so that all items move alike.
            let drawn = finite(child.min_rect().height(), "a message's height");
            let real = (f64::from(drawn) * scale - 0.01).ceil() / scale;
            let thought = self.heights.get(place).copied().unwrap_or(real);
            let growth = f64::from(finite(take_growth(ui.ctx()) as f32, "a message's growth"));
            let bottom = y + real;
            unknown |= !known(self, place);
            if place < anchor {
                jumped |= (real - thought).abs() > SMALL && bottom > 0.0;
            } else if place == anchor {
                jumped |= growth.abs() > SMALL;
                anchor_y = Some(y - growth);
            }
            if bottom > 0.0 && y < height {
                let entry = (key, if place == anchor { y - growth } else { y });
                if place == anchor { seen.insert(0, entry) } else { seen.push(entry) }
            }
            if let Some(slot) = self.heights.get_mut(place) {
                *slot = real;
            }
            self.measured.insert(key, real);
            y = bottom;
        }
        self.add_up();
        self.seen = seen;
        self.offset = anchor_y.map_or(offset, |y| self.top(anchor) - y);
        let wanted = self.resolve(0.0);
        jumped |= (wanted - self.offset).abs() > SMALL;
        if jumped && unknown {
            ui.ctx().request_discard("heights of items in sight were not known");
        }
        if jumped {
            ui.ctx().request_repaint();
        } else if !unknown {
            self.target = None;
        }
        // Never less than it was, or the scroll area would move the view; the next frame says the truth.
        let after = self.tops.last().copied().unwrap_or(0.0);
        if after < before - SMALL {
            ui.ctx().request_repaint();
        }
        ui.set_min_height(before.max(after) as f32);
    }

    fn button_ui(&mut self, ui: &mut Ui, view: Rect) {
        let words = texts(ui.ctx());
        let centre = pos2(view.center().x, view.bottom() - BUTTON * 0.5 - 10.0);
        let rect = Rect::from_center_size(centre, vec2(BUTTON, BUTTON));
        let mut child = ui.new_child(UiBuilder::new().id_salt("to_end").max_rect(rect));
        let button = Button::new("").corner_radius(BUTTON / 2.0).min_size(rect.size());
        let button = child.add(button).on_hover_text(words.to_end);
        let stroke = child.style().interact(&button).fg_stroke;
        child.painter().arrow(centre - vec2(0.0, 7.0), vec2(0.0, 14.0), stroke);
        button.widget_info(|| WidgetInfo::labeled(Role::Button, true, words.to_end));
        if button.clicked() {
            (self.at_end, self.target) = (true, None);
            ui.ctx().request_repaint();
        }
    }
}

#[cfg(test)]
mod tests;
