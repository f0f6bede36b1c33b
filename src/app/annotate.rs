//! Room `app`: a picture at its full size with boxes, points and names drawn into it, to be saved. Names are small bitmaps made
//! from the window's own fonts ([`label_images`], on the window's thread); the drawing itself ([`annotate`]) may run anywhere.

use egui::{Color32, Context, FontId};
use image::{Rgb, RgbImage};

use super::grounding_ui::{Pixels, colour, pixels, short_label};
use crate::chat::grounding::Found;
use crate::model::picture::Picture;

const DARK: [u8; 3] = [0, 0, 0];

/// A name as a bitmap: how much of each pixel is covered, row by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelImage {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 0 to 255.
    pub coverage: Vec<u8>,
}

/// The width of a line in a picture of this size, pixels.
#[must_use]
pub fn line_width(width: u32, height: u32) -> u32 {
    (width.max(height) / 400).clamp(2, 24)
}

/// Height of letters in a picture of this size, pixels.
fn letter_size(width: u32, height: u32) -> f32 {
    (width.max(height) as f32 / 55.0).clamp(12.0, 96.0)
}

/// Makes the bitmaps of the names for a picture of this size, in the order of `found`; empty where there is no name.
#[must_use]
pub fn label_images(ctx: &Context, found: &[Found], (width, height): (u32, u32)) -> Vec<LabelImage> {
    let scale = ctx.pixels_per_point();
    let font = FontId::proportional(letter_size(width, height) / scale);
    ctx.fonts_mut(|fonts| {
        // All glyphs first: one copy of the fonts' picture is enough.
        let galleys: Vec<_> = found
            .iter()
            .map(|thing| fonts.layout_no_wrap(short_label(&thing.label), font.clone(), Color32::WHITE))
            .collect();
        let atlas = fonts.image();
        galleys.iter().map(|galley| rasterise(galley, &atlas, scale)).collect()
    })
}

fn rasterise(galley: &egui::Galley, atlas: &egui::ColorImage, scale: f32) -> LabelImage {
    let pixels = |points: f32| (points * scale).ceil().clamp(0.0, 8192.0) as usize;
    let (width, height) = (pixels(galley.size().x), pixels(galley.size().y));
    if galley.text().is_empty() || width == 0 || height == 0 {
        return LabelImage::default();
    }
    let mut coverage = vec![0_u8; width * height];
    for row in &galley.rows {
        for glyph in &row.row.glyphs {
            let uv = glyph.uv_rect;
            let corner = row.pos + glyph.pos.to_vec2() + uv.offset;
            let corner = (corner.to_vec2() * scale).round();
            for y in uv.min[1]..uv.max[1] {
                for x in uv.min[0]..uv.max[0] {
                    let to_x = corner.x as i64 + i64::from(x - uv.min[0]);
                    let to_y = corner.y as i64 + i64::from(y - uv.min[1]);
                    let (Ok(to_x), Ok(to_y)) = (usize::try_from(to_x), usize::try_from(to_y)) else {
                        continue;
                    };
                    let from = usize::from(y) * atlas.size[0] + usize::from(x);
                    if to_x < width
                        && let (Some(to), Some(from)) =
                            (coverage.get_mut(to_y * width + to_x), atlas.pixels.get(from))
                    {
                        *to = (*to).max(from.a());
                    }
                }
            }
        }
    }
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or_default();
    LabelImage { width: side(width), height: side(height), coverage }
}

/// The picture at its full size with what was found; `labels` as from [`label_images`].
#[must_use]
pub fn annotate(picture: &Picture, found: &[Found], labels: &[LabelImage]) -> RgbImage {
    let (width, height) = (picture.width(), picture.height());
    let mut image = RgbImage::from_raw(width, height, picture.rgb().to_vec())
        .unwrap_or_else(|| RgbImage::new(width, height));
    let line = i64::from(line_width(width, height));
    let outline = (line / 2).max(1);
    for (i, thing) in found.iter().enumerate() {
        match pixels(thing.place, (width, height)) {
            Pixels::Box(edges) => {
                frame(&mut image, edges, line + 2 * outline, DARK);
                frame(&mut image, edges, line, colour(i));
            }
            Pixels::Point([x, y]) => {
                disc(&mut image, (x, y), 2 * line + outline, DARK);
                disc(&mut image, (x, y), 2 * line, colour(i));
            }
        }
    }
    let mut taken: Vec<[i64; 4]> = Vec::new();
    for (i, (thing, label)) in found.iter().zip(labels).enumerate() {
        if label.width > 0 {
            let [x1, y1, _, y2] = match pixels(thing.place, (width, height)) {
                Pixels::Box(edges) => edges,
                Pixels::Point([x, y]) => [x + 2 * line, y - 2 * line, x + 2 * line, y + 2 * line],
            };
            let pad = outline + line;
            let size = [i64::from(label.width) + 2 * pad, i64::from(label.height) + pad];
            let within = |x: i64, y: i64| {
                let x = x.min(i64::from(width) - size[0]).max(0);
                let y = y.min(i64::from(height) - size[1]).max(0);
                [x, y, x + size[0], y + size[1]]
            };
            let places = [y1 - size[1], y1 + line, y2 + line, y2 - size[1] - line].map(|y| within(x1, y));
            let free = |place: &&[i64; 4]| !taken.iter().any(|other| cross(other, place));
            let place = *places.iter().find(free).unwrap_or(&places[0]);
            taken.push(place);
            fill_rect(&mut image, place, colour(i));
            stamp(&mut image, (place[0] + pad, place[1] + pad / 2), label);
        }
    }
    image
}

fn cross(a: &[i64; 4], b: &[i64; 4]) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

/// The part of a rectangle (left, top, right, bottom; the last two outside) that is in the picture.
fn fill_rect(image: &mut RgbImage, [x1, y1, x2, y2]: [i64; 4], colour: [u8; 3]) {
    let within = |n: i64, side: u32| u32::try_from(n.clamp(0, i64::from(side))).unwrap_or_default();
    for y in within(y1, image.height())..within(y2, image.height()) {
        for x in within(x1, image.width())..within(x2, image.width()) {
            image.put_pixel(x, y, Rgb(colour));
        }
    }
}

/// A frame whose lines lie half in and half out of the box.
fn frame(image: &mut RgbImage, [x1, y1, x2, y2]: [i64; 4], line: i64, colour: [u8; 3]) {
    let out = line / 2;
    let inner = line - out;
    fill_rect(image, [x1 - out, y1 - out, x2 + out, y1 + inner], colour);
    fill_rect(image, [x1 - out, y2 - inner, x2 + out, y2 + out], colour);
    fill_rect(image, [x1 - out, y1 - out, x1 + inner, y2 + out], colour);
    fill_rect(image, [x2 - inner, y1 - out, x2 + out, y2 + out], colour);
}

fn disc(image: &mut RgbImage, (x, y): (i64, i64), radius: i64, colour: [u8; 3]) {
    for dy in -radius..=radius {
        let half = ((radius * radius - dy * dy) as f64).sqrt() as i64;
        fill_rect(image, [x - half, y + dy, x + half + 1, y + dy + 1], colour);
    }
}

/// The letters, dark.
fn stamp(image: &mut RgbImage, (left, top): (i64, i64), label: &LabelImage) {
    let places = (0..label.height).flat_map(|y| (0..label.width).map(move |x| (x, y)));
    for ((x, y), &coverage) in places.zip(&label.coverage) {
        let (x, y) = (left + i64::from(x), top + i64::from(y));
        if let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y))
            && let Some(Rgb(pixel)) = image.get_pixel_mut_checked(x, y)
        {
            for (channel, dark) in pixel.iter_mut().zip(DARK) {
                let mixed =
                    u32::from(*channel) * (255 - u32::from(coverage)) + u32::from(dark) * u32::from(coverage);
                *channel = (mixed / 255) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use egui_kittest::Harness;

    use super::*;
    use crate::chat::grounding::Place;

    fn found(place: Place, label: &str) -> Found {
        Found { place, label: label.into(), picture: None, range: 0..0 }
    }

    fn bitmaps(found: &[Found], size: (u32, u32), scale: f32) -> Vec<LabelImage> {
        let mut harness = Harness::builder().with_pixels_per_point(scale).build_ui(|ui| {
            ui.label("text");
        });
        harness.run();
        label_images(&harness.ctx, found, size)
    }

    #[test]
    fn edges_are_where_they_should_be_at_every_size() {
        for (width, height) in [(64_u32, 48_u32), (800, 600), (4000, 3000)] {
            let picture = Picture::from_rgb(width, height, vec![128; (width * height * 3) as usize]).unwrap();
            let all = [found(Place::Box([250.0, 250.0, 750.0, 750.0]), "")];
            let image = annotate(&picture, &all, &bitmaps(&all, (width, height), 1.0));
            assert_eq!(image.dimensions(), (width, height));
            let line = line_width(width, height);
            let (left, right, middle) = (width / 4, width * 3 / 4, height / 2);
            let (inner, outline) = (line - line / 2, (line / 2).max(1));
            for x in 0..width {
                let inside = |edge: u32, out: u32, inward: u32, is_left: bool| {
                    let (from, to) =
                        if is_left { (edge - out, edge + inward) } else { (edge - inward, edge + out) };
                    (from..to).contains(&x)
                };
                let bright = inside(left, line / 2, inner, true) || inside(right, line / 2, inner, false);
                let thick = line + 2 * outline;
                let (out, inward) = (thick / 2, thick - thick / 2);
                let dark = inside(left, out, inward, true) || inside(right, out, inward, false);
                let expected = if bright {
                    colour(0)
                } else if dark {
                    DARK
                } else {
                    [128; 3]
                };
                assert_eq!(image.get_pixel(x, middle).0, expected, "{width}×{height} at {x}");
            }
            assert_eq!(image.get_pixel(width / 2, height / 4).0, colour(0));
            assert_eq!(image.get_pixel(width / 2, height * 3 / 4 - 1).0, colour(0));
        }
    }

    #[test]
    fn labels_are_readable_at_every_scale_of_the_screen() {
        for scale in [1.0, 1.5, 2.0] {
            let all = [
                found(Place::Box([100.0, 200.0, 900.0, 900.0]), "Cat, Käfig"),
                found(Place::Point([500.0, 500.0]), "eye"),
                found(Place::Point([0.0, 0.0]), ""),
            ];
            let labels = bitmaps(&all, (800, 600), scale);
            assert_eq!(labels[2], LabelImage::default());
            for label in &labels[..2] {
                let inked = label.coverage.iter().filter(|&&coverage| coverage > 128).count();
                let share = inked as f64 / label.coverage.len() as f64;
                assert!((0.05..0.6).contains(&share), "{share} at {scale}");
                assert!((14..24).contains(&label.height), "{} at {scale}", label.height);
            }
            let picture = Picture::from_rgb(800, 600, vec![255; 800 * 600 * 3]).unwrap();
            let image = annotate(&picture, &all, &labels);
            // Above the box's upper left corner: ground in its colour, letters in the dark.
            let part: Vec<[u8; 3]> = (80..200)
                .flat_map(|x| (98..116).map(move |y| (x, y)))
                .map(|(x, y)| image.get_pixel(x, y).0)
                .collect();
            assert!(part.contains(&colour(0)));
            assert!(part.iter().filter(|pixel| pixel.iter().all(|&c| c < 90)).count() > 50);
        }
    }

    #[test]
    fn what_lies_at_the_edge_does_not_leave_the_picture() {
        let all = [
            found(Place::Box([0.0, 0.0, 1000.0, 1000.0]), "a label much wider than the picture is itself"),
            found(Place::Point([1000.0, 1000.0]), "x"),
            found(Place::Point([0.0, 0.0]), "y"),
        ];
        for (width, height) in [(1_u32, 1_u32), (3, 500), (30, 20)] {
            let picture = Picture::from_rgb(width, height, vec![9; (width * height * 3) as usize]).unwrap();
            let image = annotate(&picture, &all, &bitmaps(&all, (width, height), 1.0));
            assert_eq!(image.dimensions(), (width, height));
        }
    }
}
