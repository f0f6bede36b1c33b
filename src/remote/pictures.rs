//! Room `remote`: pictures and clips as servers take them: data URLs.

use std::io::Cursor;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageFormat};

use crate::chat::message::{ImageSource, VideoSource};
use crate::error::{Error, Result};
use crate::model::picture::{Picture, file_kind, read_file};
use crate::model::preprocessor::FrameSampling;

/// Frames of a clip that are sent, at most: to a server each is a picture.
pub const CLIP_FRAMES: usize = 32;
/// Quality of a photograph that had to be turned.
const JPEG_QUALITY: u8 = 95;
const DOING: &str = "writing a picture for the server";

/// A picture as a data URL: its file as it is where any server can read it, upright otherwise.
pub(super) fn data_url(source: &ImageSource) -> Result<String> {
    match source {
        ImageSource::Path(path) => file_url(&read_file(path)?, &path.display().to_string()),
        ImageSource::Bytes { name, bytes } => file_url(bytes, name),
        ImageSource::Picture(picture) => png_url(picture),
    }
}

fn file_url(bytes: &[u8], name: &str) -> Result<String> {
    let kind = file_kind(bytes, name)?;
    match (kind.format, kind.is_turned) {
        (ImageFormat::Png, false) => Ok(url("png", bytes)),
        (ImageFormat::Jpeg, false) => Ok(url("jpeg", bytes)),
        (ImageFormat::WebP, false) => Ok(url("webp", bytes)),
        (ImageFormat::Gif, false) => Ok(url("gif", bytes)),
        // As PNG a photograph would be ten times as large.
        (ImageFormat::Jpeg, true) => jpeg_url(&Picture::from_bytes(bytes, name)?).map_err(|e| e.at(name)),
        _ => png_url(&Picture::from_bytes(bytes, name)?).map_err(|e| e.at(name)),
    }
}

fn url(kind: &str, bytes: &[u8]) -> String {
    let mut url = format!("data:image/{kind};base64,");
    STANDARD.encode_string(bytes, &mut url);
    url
}

fn png_url(picture: &Picture) -> Result<String> {
    let mut file = Cursor::new(Vec::new());
    PngEncoder::new(&mut file)
        .write_image(picture.rgb(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .map_err(|e| Error::new(DOING, e))?;
    Ok(url("png", file.get_ref()))
}

fn jpeg_url(picture: &Picture) -> Result<String> {
    let mut file = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY)
        .write_image(picture.rgb(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .map_err(|e| Error::new(DOING, e))?;
    Ok(url("jpeg", file.get_ref()))
}

/// A clip as the data URLs of its frames, in order: at most [`CLIP_FRAMES`], spread over it evenly.
pub(super) fn frame_urls(source: &VideoSource) -> Result<Vec<String>> {
    if let VideoSource::Frames { frames, .. } = source {
        return spread(frames.len()).filter_map(|at| frames.get(at)).map(data_url).collect();
    }
    let clip = source.load(FrameSampling { max_frames: CLIP_FRAMES, ..FrameSampling::default() })?;
    let chosen: Vec<usize> = spread(clip.num_frames()).collect();
    let (mut urls, mut at) = (Vec::new(), 0);
    clip.visit(|frame: Arc<Picture>| {
        if chosen.contains(&at) {
            urls.push(png_url(&frame)?);
        }
        at += 1;
        Ok(true)
    })?;
    Ok(urls)
}

/// Places of at most [`CLIP_FRAMES`] of `count` frames, the first and the last among them.
fn spread(count: usize) -> impl Iterator<Item = usize> {
    let shown = count.min(CLIP_FRAMES);
    (0..shown).map(move |place| if shown < 2 { 0 } else { place * (count - 1) / (shown - 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_spread_evenly_from_the_first_to_the_last() {
        assert_eq!(spread(0).count(), 0);
        assert_eq!(spread(3).collect::<Vec<_>>(), [0, 1, 2]);
        let many: Vec<usize> = spread(1000).collect();
        assert_eq!((many.len(), many[0], many[CLIP_FRAMES - 1]), (CLIP_FRAMES, 0, 999));
        assert!(many.windows(2).all(|pair| pair[0] < pair[1]));
    }

    fn decoded(url: &str) -> (&str, Picture) {
        let (kind, data) = url.strip_prefix("data:image/").unwrap().split_once(";base64,").unwrap();
        (kind, Picture::from_bytes(&STANDARD.decode(data).unwrap(), "sent").unwrap())
    }

    #[test]
    fn files_go_as_they_are_and_strange_or_turned_ones_upright() {
        let pixels = image::RgbImage::from_fn(32, 16, |x, _| image::Rgb([u8::from(x < 16) * 255; 3]));
        let file = |format| {
            let mut file = Cursor::new(Vec::new());
            pixels.write_to(&mut file, format).unwrap();
            file.into_inner()
        };
        for (format, kind) in [
            (ImageFormat::Png, "png"),
            (ImageFormat::Jpeg, "jpeg"),
            (ImageFormat::WebP, "webp"),
            (ImageFormat::Gif, "gif"),
        ] {
            let bytes = file(format);
            let source = ImageSource::Bytes { name: "a".into(), bytes: bytes.clone().into() };
            assert_eq!(data_url(&source).unwrap(), url(kind, &bytes));
        }
        let bmp = ImageSource::Bytes { name: "a".into(), bytes: file(ImageFormat::Bmp).into() };
        let sent = data_url(&bmp).unwrap();
        let (kind, picture) = decoded(&sent);
        assert_eq!((kind, picture.rgb()), ("png", pixels.as_raw().as_slice()));

        // Orientation 6: the file lies on its side.
        let exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
        let mut jpeg = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, 100);
        encoder.set_exif_metadata(exif).unwrap();
        encoder.encode_image(&pixels).unwrap();
        let sent = data_url(&ImageSource::Bytes { name: "a".into(), bytes: jpeg.into() }).unwrap();
        let (kind, picture) = decoded(&sent);
        assert_eq!((kind, picture.width(), picture.height()), ("jpeg", 16, 32));
        assert!(picture.rgb()[0] > 240 && *picture.rgb().last().unwrap() < 15, "white is on top");
    }

    #[test]
    fn what_is_no_picture_is_not_sent() {
        let text = ImageSource::Bytes { name: "diary.txt".into(), bytes: b"Dear diary".as_slice().into() };
        assert!(data_url(&text).unwrap_err().to_string().contains("it is not a picture"));
        assert!(data_url(&ImageSource::Path("/no/such.png".into())).is_err());
    }
}
