//! Room `chat`: boxes and points in an answer. Qwen3-VL writes them as JSON, fenced or bare, in coordinates from 0 to
//! 1000 of each side of the picture: `{"bbox_2d": [x1, y1, x2, y2], "label": "cat"}`, `{"point_2d": [x, y], "label":
//! "eye"}`, one object or a list. What is still coming in, or cut off, gives the objects that are whole. Pure text
//! work.

use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::Value;

/// Coordinates run from 0 to this.
pub const FULL_SCALE: f64 = 1000.0;

/// Where a thing is, in thousandths of the picture's sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// Left, top, right, bottom; left ≤ right and top ≤ bottom.
    Box([f64; 4]),
    /// Horizontal and vertical.
    Point([f64; 2]),
}

impl Place {
    /// The same in pixels of a picture of this size.
    #[must_use]
    pub fn in_pixels(self, width: u32, height: u32) -> Self {
        let (w, h) = (f64::from(width) / FULL_SCALE, f64::from(height) / FULL_SCALE);
        match self {
            Self::Box([x1, y1, x2, y2]) => Self::Box([x1 * w, y1 * h, x2 * w, y2 * h]),
            Self::Point([x, y]) => Self::Point([x * w, y * h]),
        }
    }

    /// The share of two boxes that both cover, of what either covers (IoU); 0 where one is a point.
    #[must_use]
    pub fn overlap(self, other: Self) -> f64 {
        let (Self::Box(a), Self::Box(b)) = (self, other) else { return 0.0 };
        let area = |[x1, y1, x2, y2]: [f64; 4]| (x2 - x1).max(0.0) * (y2 - y1).max(0.0);
        let both = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
        let either = area(a) + area(b) - both;
        if either > 0.0 { both / either } else { 0.0 }
    }
}

/// A thing the answer shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Where it is.
    pub place: Place,
    /// What it is called; empty where the answer does not say.
    pub label: String,
    /// Which picture of the prompt, from 0, where the answer says (`image`, `image_index`: from 1; `img_idx`: from 0).
    pub picture: Option<usize>,
    /// Where it stands in the answer, in bytes.
    pub range: Range<usize>,
}

/// Everything found in an answer, in its order. The work is bounded by a multiple of the answer's length, whatever is
/// in it: what is hidden behind many braces that lead to nothing may stay unfound.
#[must_use]
pub fn find(answer: &str) -> Vec<Found> {
    find_counted(answer).0
}

/// [`find`], and the work it was: bytes looked at, and a share for each attempt that led to nothing.
fn find_counted(answer: &str) -> (Vec<Found>, usize) {
    /// What such an attempt costs besides the bytes it reads.
    const ATTEMPT: usize = 64;
    let mut found = Vec::new();
    // Behind the last key that makes a place there is nothing to find.
    let Some(last) = ["\"bbox", "\"point"].iter().filter_map(|key| answer.rfind(key)).max() else {
        return (found, 0);
    };
    // A list that is still coming in is read once as a whole, and once more object by object.
    let most = answer.len().saturating_mul(8).saturating_add(1 << 16);
    let (mut at, mut work) = (0, 0);
    while let Some(start) = answer.get(at..=last).and_then(|rest| rest.find('{')).map(|i| at + i) {
        at = start + 1;
        let Some(rest) = answer.get(start..) else { break };
        // Only a string can begin an object that holds something.
        if !rest.get(1..).is_some_and(|inner| inner.trim_start().starts_with('"')) {
            continue;
        }
        // Where it ends is found without keeping anything of it.
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(IgnoredAny)) => {
                let end = start + values.byte_offset();
                work += end - start;
                if let Some(value) = answer.get(start..end).and_then(|text| serde_json::from_str(text).ok()) {
                    collect(&value, start..end, &mut found);
                    at = end;
                }
            }
            // Not closed yet, or no JSON: whole objects may lie inside.
            Some(Err(e)) => work += offset(rest, e.line(), e.column()) + ATTEMPT,
            None => {}
        }
        if work > most {
            break;
        }
    }
    (found, work)
}

/// How many bytes of a text lie before this line and column (both from 1).
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    before + column
}

/// Objects with a place in a value, itself included.
fn collect(value: &Value, range: Range<usize>, found: &mut Vec<Found>) {
    match value {
        Value::Object(object) => {
            let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
            let label = text("label")
                .or_else(|| text("sub_label"))
                .or_else(|| text("text_content"))
                .unwrap_or_default();
            let number =
                |key: &str| object.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
            let picture = number("img_idx")
                .or_else(|| number("image").or_else(|| number("image_index")).and_then(|n| n.checked_sub(1)));
            let mut places = Vec::new();
            for key in ["bbox_2d", "bbox"] {
                places.extend(object.get(key).and_then(box_of));
            }
            for key in ["point_2d", "point"] {
                places.extend(object.get(key).and_then(point_of));
            }
            if places.is_empty() {
                object.values().for_each(|inner| collect(inner, range.clone(), found));
            }
            found.extend(places.into_iter().map(|place| Found {
                place,
                label: label.clone(),
                picture,
                range: range.clone(),
            }));
        }
        Value::Array(list) => list.iter().for_each(|inner| collect(inner, range.clone(), found)),
        _ => {}
    }
}

fn numbers<const N: usize>(value: &Value) -> Option<[f64; N]> {
    let list: Vec<f64> = value.as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?;
    let all: [f64; N] = list.try_into().ok()?;
    // Far outside is no coordinate of this kind (pixels of a large picture, say): drawing it would mislead.
    all.iter().all(|n| (-50.0..=FULL_SCALE + 50.0).contains(n)).then(|| all.map(|n| n.clamp(0.0, FULL_SCALE)))
}

fn box_of(value: &Value) -> Option<Place> {
    let [x1, y1, x2, y2] = numbers::<4>(value)?;
    Some(Place::Box([x1.min(x2), y1.min(y2), x1.max(x2), y1.max(y2)]))
}

fn point_of(value: &Value) -> Option<Place> {
    numbers::<2>(value).map(Place::Point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_found_in_fenced_and_in_bare_json() {
        let fenced = "Here:\n```json\n[\n\t{\"bbox_2d\": [10, 20, 500, 600], \"label\": \"a {cat}\"},\n\t{\"bbox_2d\": [700, 20, 650, 10], \
                      \"label\": \"dog\"}\n]\n```";
        let found = find(fenced);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].place, Place::Box([10.0, 20.0, 500.0, 600.0]));
        assert_eq!(found[0].label, "a {cat}");
        assert_eq!(found[1].place, Place::Box([650.0, 10.0, 700.0, 20.0]));
        assert!(fenced[found[1].range.clone()].starts_with("{\"bbox_2d\": [700"));
        assert_eq!(find("{\"bbox_2d\": [1, 2, 3, 4]}").len(), 1);
    }

    #[test]
    fn points_and_picture_numbers_are_understood() {
        let found = find(r#"{"point_2d": [500, 250], "label": "eye", "image": 2}"#);
        assert_eq!(found[0].place, Place::Point([500.0, 250.0]));
        assert_eq!(found[0].picture, Some(1));
        assert_eq!(find(r#"{"point": [1, 2], "img_idx": 0}"#)[0].picture, Some(0));
        assert_eq!(find(r#"{"things": [{"bbox": [1, 2, 3, 4]}, {"point": [5, 6]}]}"#).len(), 2);
    }

    #[test]
    fn an_answer_that_is_still_coming_gives_what_is_whole() {
        let whole =
            "[{\"bbox_2d\": [1, 2, 3, 4], \"label\": \"a\"}, {\"bbox_2d\": [5, 6, 7, 8], \"label\": \"b\"}]";
        let first = whole.find('}').unwrap() + 1;
        for end in 0..=whole.len() {
            let expected = usize::from(end >= first) + usize::from(end >= whole.len() - 1);
            assert_eq!(find(&whole[..end]).len(), expected, "{}", &whole[..end]);
        }
    }

    #[test]
    fn what_is_no_place_is_left_out() {
        for text in [
            "{\"bbox_2d\": [1, 2, 3]}",
            "{\"bbox_2d\": [1, 2, 3, \"4\"]}",
            "{\"bbox_2d\": [100, 200, 3000, 4000]}",
            "{\"bbox_2d\": null}",
            "no json { at all",
            "fn main() { let x = {1}; }",
            "{{{{{{",
        ] {
            assert!(find(text).is_empty(), "{text}");
        }
        assert_eq!(find("{\"bbox_2d\": [-3, 2, 1004, 4]}")[0].place, Place::Box([0.0, 2.0, 1000.0, 4.0]));
    }

    #[test]
    fn pixels_and_overlap() {
        let place = Place::Box([0.0, 0.0, 500.0, 500.0]);
        assert_eq!(place.in_pixels(640, 480), Place::Box([0.0, 0.0, 320.0, 240.0]));
        assert!((place.overlap(Place::Box([0.0, 0.0, 500.0, 250.0])) - 0.5).abs() < 1e-12);
        assert!(place.overlap(Place::Box([600.0, 0.0, 700.0, 250.0])) < 1e-12);
        assert!(place.overlap(Place::Point([1.0, 1.0])) < 1e-12);
    }

    #[test]
    fn the_work_grows_with_the_length_and_not_with_its_square() {
        let closing = "{\"bbox_2d\": [1, 2, 3, 4]}";
        for piece in [
            "{",
            "{ ",
            "{\"",
            "{\"a\":",
            "{\"a\":[",
            "{\"a\":[1,1,1,1,1,{},",
            "{\":",
            "[{\"a\":\"",
            "{\\\"",
            "{}",
            "}",
        ] {
            let text = piece.repeat((1 << 20) / piece.len()) + closing;
            let (_, work) = find_counted(&text);
            // The last attempt may go on to the end.
            assert!(work <= 9 * text.len() + (1 << 17), "{piece}: {work}");
        }
        assert_eq!(find(&("{".repeat(1 << 20) + closing)).len(), 1);
        let many = format!("[{}", format!("{closing},").repeat(1 << 12));
        assert_eq!(find_counted(&many).0.len(), 1 << 12);
        assert_eq!(find(&format!("{{\"all\": {many}")).len(), 1 << 12);
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,200}", braces in "[{}\\[\\]\":,a0-9 \\\\]{0,200}") {
            for text in [&text, &braces] {
                for found in find(text) {
                    proptest::prop_assert!(text.get(found.range).is_some());
                }
            }
        }
    }
}
