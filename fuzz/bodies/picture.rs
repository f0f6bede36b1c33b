//! Pictures and animations: what their headers say, and what they hold.

use std::io::Cursor;

use image::ImageReader;
use ocelli::model::clip::Clip;
use ocelli::model::picture::{Picture, file_kind};
use ocelli::model::preprocessor::FrameSampling;

use super::read;

/// Larger ones are left alone: that they are refused, or how much memory they take, is tested elsewhere, and here it takes time.
const MOST_PIXELS: u64 = 1 << 18;

/// The bytes of a file.
pub fn run(data: &[u8]) {
    read(file_kind(data, "a.png"));
    let size = ImageReader::new(Cursor::new(data))
        .with_guessed_format()
        .ok()
        .and_then(|file| file.into_dimensions().ok());
    if size.is_some_and(|(width, height)| u64::from(width) * u64::from(height) > MOST_PIXELS) {
        return;
    }
    if let Some(picture) = read(Picture::from_bytes(data, "a.png")) {
        assert_eq!(picture.rgb().len() as u64, u64::from(picture.width()) * u64::from(picture.height()) * 3);
    }
    if let Some(clip) = read(Clip::from_bytes(data.into(), "a.gif", FrameSampling::default())) {
        read(clip.first_frame());
    }
}
