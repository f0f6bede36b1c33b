//! Boxes and points in answers.

use ocelli::chat::grounding::{FULL_SCALE, Place, find};

/// An answer.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut before = 0;
    for found in find(&text) {
        assert!(text.get(found.range.clone()).is_some() && found.range.start >= before);
        before = found.range.start;
        let inside = |n: &f64| (0.0..=FULL_SCALE).contains(n);
        match found.place {
            Place::Box(all) => assert!(all.iter().all(inside) && all[0] <= all[2] && all[1] <= all[3]),
            Place::Point(both) => assert!(both.iter().all(inside)),
        }
        let _ = found.place.in_pixels(u32::MAX, 1);
    }
}
