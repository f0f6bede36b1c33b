//! Room `app`: draws what an answer has found on a picture, lists it, and writes it down in pixels.

use egui::{
    Align2, Color32, CornerRadius, FontId, Painter, Pos2, Rect, RichText, Sense, Shape, Stroke, StrokeKind,
    Ui, Vec2, pos2, vec2,
};
use serde_json::{Map, Value, json};

use super::texts::{fill, texts};
use crate::chat::grounding::{FULL_SCALE, Found, Place};

/// Bright colours, far from one another; each is drawn on a dark outline.
const COLOURS: [[u8; 3]; 8] = [
    [255, 92, 80],
    [80, 220, 110],
    [90, 170, 255],
    [255, 205, 60],
    [235, 120, 255],
    [70, 225, 225],
    [255, 150, 50],
    [190, 230, 70],
];
/// A label is cut after so many characters.
const LABEL_CHARACTERS: usize = 40;
/// On a picture narrower than this on screen only the thing pointed at has its label, points.
const SMALL_PICTURE: f32 = 140.0;
/// How near to a point the pointer is on it, points.
const NEAR_POINT: f32 = 9.0;
/// The pixels of the radius of a point drawn on screen, points.
const POINT_RADIUS: f32 = 5.0;

/// The colour of the thing found at this place of the list.
#[must_use]
pub fn colour(place: usize) -> [u8; 3] {
    COLOURS.get(place % COLOURS.len()).copied().unwrap_or([255; 3])
}

fn colour32(place: usize) -> Color32 {
    let [r, g, b] = colour(place);
    Color32::from_rgb(r, g, b)
}

/// The name of a thing as it is drawn: on one line, and not too long.
#[must_use]
pub fn short_label(label: &str) -> String {
    let mut one_line = label.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = one_line.char_indices().nth(LABEL_CHARACTERS) {
        one_line.truncate(cut);
        one_line.push('…');
    }
    one_line
}

/// Where the thing is on screen; a point is a rectangle without area.
fn on_screen(place: Place, picture: Rect) -> Rect {
    let at = |x: f64, y: f64| {
        let share = vec2((x / FULL_SCALE) as f32, (y / FULL_SCALE) as f32);
        picture.min + share * picture.size()
    };
    match place {
        Place::Box([x1, y1, x2, y2]) => Rect::from_min_max(at(x1, y1), at(x2, y2)),
        Place::Point([x, y]) => Rect::from_min_max(at(x, y), at(x, y)),
    }
}

/// Draws what was found on the picture that fills this rectangle. Says which of it the pointer is on.
#[must_use]
pub fn overlay(ui: &Ui, picture: Rect, found: &[Found], highlighted: Option<usize>) -> Option<usize> {
    if !picture.is_finite() || !picture.is_positive() {
        return None;
    }
    let painter = ui.painter().with_clip_rect(ui.clip_rect().intersect(picture.expand(4.0)));
    // The one pointed at comes last, on top of the others.
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by_key(|&i| Some(i) == highlighted);
    for &i in &order {
        if let Some(thing) = found.get(i) {
            shape(&painter, on_screen(thing.place, picture), thing.place, i, Some(i) == highlighted);
        }
    }
    let mut taken: Vec<Rect> = Vec::new();
    for &i in order.iter().rev() {
        let Some(thing) = found.get(i) else { continue };
        let shown = Some(i) == highlighted || picture.width() >= SMALL_PICTURE;
        if shown && !thing.label.trim().is_empty() {
            label(&painter, picture, on_screen(thing.place, picture), &thing.label, i, &mut taken);
        }
    }
    let pointer =
        ui.input(|input| input.pointer.hover_pos()).filter(|_| ui.rect_contains_pointer(picture))?;
    pointed_at(found, picture, pointer)
}

/// Draws what several columns found on one picture, each in the colour of its column.
pub fn overlay_coloured(ui: &Ui, picture: Rect, found: &[Found], colours: &[usize]) {
    if !picture.is_finite() || !picture.is_positive() {
        return;
    }
    let painter = ui.painter().with_clip_rect(ui.clip_rect().intersect(picture.expand(4.0)));
    let mut taken: Vec<Rect> = Vec::new();
    for (thing, &colour) in found.iter().zip(colours) {
        let rect = on_screen(thing.place, picture);
        shape(&painter, rect, thing.place, colour, false);
        label(&painter, picture, rect, &thing.label, colour, &mut taken);
    }
}

/// The smallest thing at this place of the screen; points before boxes.
fn pointed_at(found: &[Found], picture: Rect, pointer: Pos2) -> Option<usize> {
    let size = |thing: &Found| {
        let rect = on_screen(thing.place, picture);
        match thing.place {
            Place::Point(_) => {
                let distance = rect.min.distance(pointer);
                (distance <= NEAR_POINT).then_some(distance - NEAR_POINT)
            }
            Place::Box(_) => rect.expand(2.0).contains(pointer).then(|| rect.area()),
        }
    };
    let sizes = found.iter().enumerate().filter_map(|(i, thing)| size(thing).map(|size| (i, size)));
    sizes.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
}

fn shape(painter: &Painter, rect: Rect, place: Place, i: usize, highlighted: bool) {
    let bright = colour32(i);
    let dark = Color32::from_black_alpha(190);
    let width = if highlighted { 3.0 } else { 2.0 };
    match place {
        Place::Box(_) => {
            if highlighted {
                painter.rect_filled(rect, CornerRadius::ZERO, bright.gamma_multiply(0.18));
            }
            let outline = Stroke::new(width + 2.0, dark);
            painter.rect_stroke(rect, CornerRadius::ZERO, outline, StrokeKind::Middle);
            painter.rect_stroke(rect, CornerRadius::ZERO, Stroke::new(width, bright), StrokeKind::Middle);
        }
        Place::Point(_) => {
            let radius = POINT_RADIUS + if highlighted { 2.0 } else { 0.0 };
            painter.circle_filled(rect.min, radius + 1.5, dark);
            painter.circle_filled(rect.min, radius, bright);
            painter.circle_filled(rect.min, 1.5, Color32::BLACK);
        }
    }
}

/// Draws a label at the first of several places that is free, always within the picture.
fn label(painter: &Painter, picture: Rect, thing: Rect, text: &str, i: usize, taken: &mut Vec<Rect>) {
    let galley = painter.layout_no_wrap(short_label(text), FontId::proportional(12.0), Color32::BLACK);
    let size = galley.size() + vec2(8.0, 2.0);
    let rect = label_place(picture, thing, size, taken);
    taken.push(rect);
    painter.rect_filled(rect.expand(1.0), CornerRadius::same(3), Color32::from_black_alpha(190));
    painter.rect_filled(rect, CornerRadius::same(2), colour32(i));
    let at = Align2::LEFT_CENTER.pos_in_rect(&rect) + vec2(4.0, -galley.size().y / 2.0);
    painter.add(Shape::galley(at, galley, Color32::BLACK));
}

fn label_place(picture: Rect, thing: Rect, size: Vec2, taken: &[Rect]) -> Rect {
    let (left, right) = (thing.left() - 1.0, thing.right() + 1.0 - size.x);
    let middle = thing.center().x - size.x / 2.0;
    let (above, below) = (thing.top() - size.y - 2.0, thing.bottom() + 2.0);
    let (top, bottom) = (thing.top() + 2.0, thing.bottom() - size.y - 2.0);
    let candidates = [
        (left, above),
        (right, above),
        (left, top),
        (right, top),
        (left, below),
        (right, below),
        (left, bottom),
        (right, bottom),
        (middle, above),
        (middle, thing.center().y - size.y / 2.0),
    ];
    let within = |(x, y): (f32, f32)| {
        let x = x.min(picture.right() - size.x).max(picture.left());
        let y = y.min(picture.bottom() - size.y).max(picture.top());
        Rect::from_min_size(pos2(x, y), size)
    };
    let free = |rect: &Rect| !taken.iter().any(|other| other.shrink(0.5).intersects(*rect));
    let places = candidates.map(within);
    places.into_iter().find(free).unwrap_or_else(|| {
        // Down from the thing, row by row.
        let rows = (1..20_u8).map(|row| within((left, thing.top() + f32::from(row) * (size.y + 2.0))));
        rows.into_iter().find(free).unwrap_or(places[0])
    })
}

/// A row for each thing found: its colour, its name, where it is in the original picture. Says which row the pointer is on.
pub fn list(ui: &mut Ui, found: &[Found], size_px: (u32, u32), highlighted: Option<usize>) -> Option<usize> {
    let words = texts(ui.ctx());
    let mut pointed = None;
    for (i, thing) in found.iter().enumerate() {
        let background = ui.painter().add(Shape::Noop);
        let row = ui.horizontal(|ui| {
            let side = ui.text_style_height(&egui::TextStyle::Body) * 0.7;
            let (swatch, _) = ui.allocate_exact_size(Vec2::splat(side), Sense::hover());
            let outline = Stroke::new(1.0, ui.visuals().text_color());
            let corner = CornerRadius::same(if matches!(thing.place, Place::Point(_)) { 8 } else { 2 });
            ui.painter().rect(swatch, corner, colour32(i), outline, StrokeKind::Inside);
            let name = short_label(&thing.label);
            ui.label(if name.is_empty() { RichText::new(words.found_unnamed).weak() } else { name.into() });
            ui.label(RichText::new(place_text(thing.place, size_px, words)).weak().monospace());
        });
        let mut rect = row.response.rect;
        rect.max.x = rect.max.x.max(ui.max_rect().right());
        let response = ui.interact(rect, ui.scope_id().with(("found", i)), Sense::hover());
        if response.contains_pointer() {
            pointed = Some(i);
        }
        response.on_hover_text(words.found_hint);
        if highlighted == Some(i) {
            let fill = ui.visuals().selection.bg_fill.gamma_multiply(0.4);
            ui.painter().set(background, Shape::rect_filled(rect, CornerRadius::same(3), fill));
        }
    }
    pointed
}

fn place_text(place: Place, (width, height): (u32, u32), words: &super::texts::Texts) -> String {
    match pixels(place, (width, height)) {
        Pixels::Box([x1, y1, x2, y2]) => {
            fill(words.found_box, &[("x1", &x1), ("y1", &y1), ("x2", &x2), ("y2", &y2)])
        }
        Pixels::Point([x, y]) => fill(words.found_point, &[("x", &x), ("y", &y)]),
    }
}

/// A place in whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pixels {
    /// Left, top, right, bottom.
    Box([i64; 4]),
    /// Horizontal and vertical.
    Point([i64; 2]),
}

/// Whole pixels of the original picture.
pub(super) fn pixels(place: Place, (width, height): (u32, u32)) -> Pixels {
    let whole = |n: f64| n.round_ties_even() as i64;
    match place.in_pixels(width, height) {
        Place::Box(edges) => Pixels::Box(edges.map(whole)),
        Place::Point(at) => Pixels::Point(at.map(whole)),
    }
}

/// What was found as a JSON list, an object a line: `label`, and `bbox_px` or `point_px` in whole pixels of the original picture.
#[must_use]
pub fn coordinates_text(found: &[Found], size_px: (u32, u32)) -> String {
    let lines: Vec<String> = found
        .iter()
        .map(|thing| {
            let mut object = Map::new();
            object.insert("label".into(), Value::from(thing.label.as_str()));
            match pixels(thing.place, size_px) {
                Pixels::Box(edges) => object.insert("bbox_px".into(), json!(edges)),
                Pixels::Point(at) => object.insert("point_px".into(), json!(at)),
            };
            format!("  {}", Value::Object(object))
        })
        .collect();
    if lines.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", lines.join(",\n")) }
}

#[cfg(test)]
mod tests {
    use egui_kittest::Harness;
    use egui_kittest::kittest::Queryable;

    use super::*;

    fn found(place: Place, label: &str) -> Found {
        Found { place, label: label.into(), picture: None, range: 0..0 }
    }

    fn some() -> Vec<Found> {
        vec![
            found(Place::Box([0.0, 0.0, 1000.0, 1000.0]), "all"),
            found(Place::Box([100.0, 100.0, 400.0, 400.0]), "cat"),
            found(Place::Point([250.0, 250.0]), "eye"),
        ]
    }

    #[test]
    fn coordinates_are_whole_pixels_of_the_original() {
        let text = coordinates_text(&some()[1..], (1234, 567));
        assert_eq!(
            text,
            "[\n  {\"label\":\"cat\",\"bbox_px\":[123,57,494,227]},\n  {\"label\":\"eye\",\"point_px\":[308,142]}\n]\n"
        );
        assert!(serde_json::from_str::<Value>(&text).is_ok());
        assert_eq!(coordinates_text(&[], (1, 1)), "[]\n");
    }

    #[test]
    fn the_pointer_is_on_the_smallest_thing() {
        let picture = Rect::from_min_size(pos2(10.0, 20.0), vec2(1000.0, 500.0));
        let all = some();
        assert_eq!(pointed_at(&all, picture, pos2(262.0, 146.0)), Some(2));
        assert_eq!(pointed_at(&all, picture, pos2(130.0, 90.0)), Some(1));
        assert_eq!(pointed_at(&all, picture, pos2(900.0, 400.0)), Some(0));
        assert_eq!(pointed_at(&all, picture, pos2(2000.0, 400.0)), None);
    }

    #[test]
    fn labels_stay_in_the_picture_and_off_one_another() {
        let picture = Rect::from_min_size(pos2(10.0, 20.0), vec2(300.0, 200.0));
        let mut taken = Vec::new();
        for corner in [pos2(10.0, 20.0), pos2(300.0, 210.0), pos2(150.0, 100.0)] {
            for _ in 0..6 {
                let thing = Rect::from_min_size(corner, vec2(8.0, 8.0));
                let rect = label_place(picture, thing, vec2(60.0, 15.0), &taken);
                assert!(picture.contains_rect(rect), "{rect:?}");
                if corner.x < 200.0 {
                    assert!(!taken.iter().any(|other: &Rect| other.shrink(0.5).intersects(rect)));
                }
                taken.push(rect);
            }
        }
    }

    #[test]
    fn a_row_and_its_box_point_to_each_other() {
        let picture = Rect::from_min_size(pos2(0.0, 0.0), vec2(200.0, 200.0));
        let mut harness = Harness::builder().with_size(vec2(400.0, 400.0)).build_ui_state(
            move |ui, state: &mut (Option<usize>, Option<usize>)| {
                state.0 = overlay(ui, picture, &some(), state.0.or(state.1));
                ui.add_space(220.0);
                state.1 = list(ui, &some(), (640, 480), state.0.or(state.1));
            },
            (None, None),
        );
        harness.hover_at(pos2(30.0, 70.0));
        harness.run();
        assert_eq!(*harness.state(), (Some(1), None));
        let row = harness.get_by_label("64, 48 to 256, 192").rect().center();
        harness.hover_at(row);
        harness.run();
        assert_eq!(*harness.state(), (None, Some(1)));
    }

    #[test]
    fn a_picture_without_a_size_shows_nothing() {
        let harness = Harness::new_ui(|ui| {
            for rect in [Rect::NOTHING, Rect::NAN, Rect::from_min_size(pos2(5.0, 5.0), Vec2::ZERO)] {
                assert_eq!(overlay(ui, rect, &some(), Some(7)), None);
            }
        });
        drop(harness);
    }
}
