//! Room `compare`: pictures of a report: small, each content once, within a budget.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, RgbImage};
use serde::Serialize;

use crate::compare::pictures::PictureFiles;
use crate::model::picture::Picture;

/// Pixels of a small picture's longer side, at most; also the longer side of the drawing that shows it.
const SIDE: u32 = 320;
/// Quality of photographs.
const JPEG_QUALITY: u8 = 82;
/// Small pictures of a report, at most.
const MAX_PICTURES: usize = 500;
/// Bytes of their data URLs together, at most.
const MAX_BYTES: usize = 24 << 20;

/// A small picture, embedded once.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Small {
    /// Its number in the report.
    pub id: usize,
    /// Its size as it is drawn.
    pub width: u32,
    /// Its size as it is drawn.
    pub height: u32,
    /// The data.
    pub url: String,
}

/// What is shown of a picture.
#[derive(Clone, Debug)]
pub(super) enum Shown {
    /// The small picture of this number.
    Small(usize),
    /// Nothing, because of this.
    Nothing(String),
}

/// All small pictures of a report.
pub(super) struct Album<'a> {
    files: &'a PictureFiles,
    by_name: HashMap<String, Shown>,
    by_hash: HashMap<[u8; 32], Shown>,
    pub all: Vec<Small>,
    bytes: usize,
}

impl<'a> Album<'a> {
    pub(super) fn new(files: &'a PictureFiles) -> Self {
        Self { files, by_name: HashMap::new(), by_hash: HashMap::new(), all: Vec::new(), bytes: 0 }
    }

    /// A picture by what the comparison calls it.
    pub(super) fn show(&mut self, name: &str) -> Shown {
        if let Some(shown) = self.by_name.get(name) {
            return shown.clone();
        }
        let shown = match self.files.hash(name) {
            Ok(hash) => match self.by_hash.get(&hash) {
                Some(shown) => shown.clone(),
                None => {
                    let shown = self.add(name);
                    self.by_hash.insert(hash, shown.clone());
                    shown
                }
            },
            Err(error) => Shown::Nothing(error.to_string()),
        };
        self.by_name.insert(name.to_owned(), shown.clone());
        shown
    }

    fn add(&mut self, name: &str) -> Shown {
        if self.all.len() >= MAX_PICTURES || self.bytes >= MAX_BYTES {
            return Shown::Nothing("left out: the report has as many pictures as it can hold".to_owned());
        }
        let small = self.files.bytes(name).and_then(|bytes| Picture::from_bytes(&bytes, name));
        match small.map(|picture| shrink(&picture)) {
            Ok(Some((width, height, url))) => {
                self.bytes += url.len();
                let id = self.all.len();
                self.all.push(Small { id, width, height, url });
                Shown::Small(id)
            }
            Ok(None) => Shown::Nothing("it could not be made small".to_owned()),
            Err(error) => Shown::Nothing(error.to_string()),
        }
    }
}

/// A picture as it is drawn: width, height, and a data URL of whichever is shorter, PNG or JPEG.
fn shrink(picture: &Picture) -> Option<(u32, u32, String)> {
    let (width, height) = (picture.width(), picture.height());
    let full = RgbImage::from_raw(width, height, picture.rgb().to_vec())?;
    let small = if width.max(height) > SIDE {
        DynamicImage::ImageRgb8(full).thumbnail(SIDE, SIDE).into_rgb8()
    } else {
        full
    };
    let (mut png, mut jpeg) = (Vec::new(), Vec::new());
    let (raw, width_kept, height_kept) = (small.as_raw(), small.width(), small.height());
    let rgb = ExtendedColorType::Rgb8;
    PngEncoder::new(&mut png).write_image(raw, width_kept, height_kept, rgb).ok()?;
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY);
    encoder.write_image(raw, width_kept, height_kept, rgb).ok()?;
    let (kind, bytes) = if png.len() <= jpeg.len() { ("png", png) } else { ("jpeg", jpeg) };
    let mut url = format!("data:image/{kind};base64,");
    STANDARD.encode_string(bytes, &mut url);
    // Small ones are drawn larger, or nothing could be marked in them.
    let scale = f64::from(SIDE) / f64::from(width.max(height));
    let side = |n: u32| ((f64::from(n) * scale).round_ties_even() as u32).max(1);
    Some((side(width), side(height), url))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn each_content_is_embedded_once_and_what_cannot_be_read_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let sample = crate::compare::samples::picture("cross.png").unwrap();
        std::fs::write(folder.path().join("same.png"), sample).unwrap();
        std::fs::write(folder.path().join("broken.png"), b"no picture").unwrap();
        let files = PictureFiles::new(folder.path());
        let mut album = Album::new(&files);
        for name in ["sample:cross.png", "same.png", "sample:cross.png"] {
            assert!(matches!(album.show(name), Shown::Small(0)), "{name}");
        }
        assert!(matches!(album.show("sample:shapes.png"), Shown::Small(1)));
        for name in ["gone.png", "broken.png"] {
            assert!(matches!(album.show(name), Shown::Nothing(why) if why.contains(name)), "{name}");
        }
        assert_eq!(album.all.len(), 2);
        assert_eq!(PictureFiles::new(Path::new("")).shown("a/b.png"), "b.png");
    }

    #[test]
    fn a_picture_is_at_most_320_pixels_and_keeps_its_shape() {
        let wide = Picture::from_rgb(1000, 500, vec![200; 1_500_000]).unwrap();
        let (width, height, url) = shrink(&wide).unwrap();
        assert_eq!((width, height), (320, 160));
        let data = STANDARD.decode(url.split_once(',').unwrap().1).unwrap();
        let small = Picture::from_bytes(&data, "small").unwrap();
        assert_eq!((small.width(), small.height()), (320, 160));
        let tiny = Picture::from_rgb(4, 8, vec![0; 96]).unwrap();
        let (width, height, url) = shrink(&tiny).unwrap();
        assert_eq!((width, height), (160, 320));
        assert!(url.len() < 300, "it is drawn larger, not stored larger");
    }
}
