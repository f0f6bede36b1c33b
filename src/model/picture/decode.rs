//! Room `model`, pictures: from a file's bytes to upright 8-bit RGB, as transformers and Pillow have it.
//! Sizes are checked before anything is decoded. Touches the file system only to read.

use crate::error::{Error, ErrorKind, Result};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Most pixels a picture may have: 256 megapixels.
pub const MAX_PIXELS: u64 = 256 << 20;
/// Largest picture file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 512 << 20;
/// Most memory a decoder may take, in bytes: [`MAX_PIXELS`] of 16-bit RGBA and some working space.
const MAX_DECODER_BYTES: u64 = MAX_PIXELS * 8 + (512 << 20);
const DOING: &str = "reading the picture";
const DAMAGED: &str = "the file is damaged; save it again";
const SMALLER: &str = "make it smaller first";
const FORMATS: &str = "Ocelli reads PNG, JPEG, WebP, GIF, BMP and TIFF";

/// The bytes of a picture file.
///
/// # Errors
/// When it cannot be read, is empty, is not a regular file, or is larger than [`MAX_FILE_BYTES`].
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // The file may grow while it is read, so the limit is the reader's, not the one of its metadata.
    open_file(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| file_error(path, &e))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let most = MAX_FILE_BYTES >> 20;
        return Err(Error::new(DOING, format!("it is larger than {most} MiB")).at_path(path).help(SMALLER));
    }
    Ok(bytes)
}

/// Whether a file is there and may be read, without reading it.
///
/// # Errors
/// Those of [`read_file`], before it reads.
pub fn check_file(path: &Path) -> Result<()> {
    open_file(path).map(drop)
}

fn open_file(path: &Path) -> Result<File> {
    // Looked at before it is opened: opening a pipe would wait for its other end.
    let meta = std::fs::metadata(path).map_err(|e| file_error(path, &e))?;
    if !meta.is_file() {
        return Err(Error::new(DOING, "it is not a file").at_path(path).help("give the path of a picture"));
    }
    File::open(path).map_err(|e| file_error(path, &e))
}

fn file_error(path: &Path, e: &std::io::Error) -> Error {
    Error::new(DOING, e).at_path(path).help(match e.kind() {
        std::io::ErrorKind::PermissionDenied => "you may not read this file",
        _ => "check the path",
    })
}

/// What a picture's header says, without decoding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model) struct Header {
    /// The format.
    pub(in crate::model) format: ImageFormat,
    /// Pixels in a row of the upright picture.
    pub(in crate::model) width: u32,
    /// Rows of the upright picture.
    pub(in crate::model) height: u32,
}

impl Header {
    /// Reads the header of the picture in `bytes`; the same checks as decoding it.
    pub(in crate::model) fn read(bytes: &[u8], name: &str) -> Result<Self> {
        let format = recognise(bytes, name)?;
        guarded(name, || {
            let mut decoder = open(bytes, format, name)?;
            let (width, height) = decoder.dimensions();
            let turned = matches!(
                orientation(&mut decoder),
                Orientation::Rotate90
                    | Orientation::Rotate270
                    | Orientation::Rotate90FlipH
                    | Orientation::Rotate270FlipH
            );
            Ok(if turned {
                Self { format, width: height, height: width }
            } else {
                Self { format, width, height }
            })
        })
    }
}

/// What a picture file is, as others would have to show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileKind {
    /// Its format.
    pub format: ImageFormat,
    /// Its metadata ask for it to be turned or mirrored.
    pub is_turned: bool,
}

/// What kind of file these bytes are, from their header.
///
/// # Errors
/// They are no picture that is read here.
pub fn file_kind(bytes: &[u8], name: &str) -> Result<FileKind> {
    let format = recognise(bytes, name)?;
    guarded(name, || {
        let mut decoder = open(bytes, format, name)?;
        Ok(FileKind { format, is_turned: orientation(&mut decoder) != Orientation::NoTransforms })
    })
}

/// Width, height and row-major RGB of the (first) picture in `bytes`, upright.
pub(super) fn decode(bytes: &[u8], name: &str) -> Result<(u32, u32, Vec<u8>)> {
    let format = recognise(bytes, name)?;
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        // The decoder would fill the missing rows with grey and say nothing.
        return Err(cut_short(name));
    }
    guarded(name, || {
        let mut decoder = open(bytes, format, name)?;
        let orientation = orientation(&mut decoder);
        let image = DynamicImage::from_decoder(decoder).map_err(|e| explain(&e, name))?;
        let rgb = eight_bit(image, name)?;
        if orientation == Orientation::NoTransforms {
            return Ok((rgb.width(), rgb.height(), rgb.into_raw()));
        }
        let mut image = DynamicImage::ImageRgb8(rgb);
        image.apply_orientation(orientation);
        let rgb = image.into_rgb8();
        Ok((rgb.width(), rgb.height(), rgb.into_raw()))
    })
}

/// The format of `bytes`, told from their beginning; an error that says what they are instead.
pub(in crate::model) fn recognise(bytes: &[u8], name: &str) -> Result<ImageFormat> {
    if bytes.is_empty() {
        return Err(Error::new(DOING, "the file is empty").at(name).help("copy or download it again"));
    }
    match image::guess_format(bytes) {
        Ok(
            format @ (ImageFormat::Png
            | ImageFormat::Jpeg
            | ImageFormat::WebP
            | ImageFormat::Gif
            | ImageFormat::Bmp
            | ImageFormat::Tiff),
        ) => Ok(format),
        other => {
            let brand = bytes.get(4..12).unwrap_or_default();
            let (what, help) = match (other, brand) {
                (_, b"ftypheic" | b"ftypheix" | b"ftypmif1" | b"ftypmsf1" | b"ftyphevc") => {
                    ("it is a HEIC picture, which is not supported", "save it as JPEG or PNG")
                }
                (_, b"ftypavif" | b"ftypavis") => {
                    ("it is an AVIF picture, which is not supported", "save it as JPEG or PNG")
                }
                (_, [b'f', b't', b'y', b'p', ..]) => (
                    "it is a video file, which is not supported",
                    "save its frames as pictures, or as an animated GIF or WebP",
                ),
                (Ok(_), _) => ("it is a picture of a format that is not supported", FORMATS),
                (Err(_), _) => ("it is not a picture", FORMATS),
            };
            Err(Error::new(DOING, what).at(name).help(help))
        }
    }
}

/// The limits every decoder gets.
pub(in crate::model) fn limits() -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    limits
}

/// The limits of a decoder whose picture has this size. A frame of a GIF, for one, may claim to be far larger than the picture it
/// belongs to.
pub(in crate::model) fn limits_of(width: u32, height: u32) -> Limits {
    /// What the widest pixels take, once as they are read and once as they are given.
    const BYTES_A_PIXEL: u64 = 32;
    /// Tables, profiles of colours, a row or two.
    const BESIDES: u64 = 64 << 20;
    let most = u64::from(width) * u64::from(height) * BYTES_A_PIXEL + BESIDES;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(most.min(MAX_DECODER_BYTES));
    limits
}

/// The error for a picture of more than [`MAX_PIXELS`].
pub(in crate::model) fn too_many_pixels(width: u32, height: u32) -> Error {
    let most = MAX_PIXELS >> 20;
    Error::new(DOING, format!("{width}x{height} pixels are more than the {most} megapixels that are read"))
        .help(SMALLER)
        .kind(ErrorKind::DoesNotFit)
}

/// Runs a decoder so that a bug in it, met on a damaged file, is an error and not the end of the program.
pub(in crate::model) fn guarded<T>(name: &str, decode: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(Error::new(DOING, "the decoder failed on it").at(name).help(DAMAGED)))
}

/// Drops the alpha channel; the colour under it stays.
pub(in crate::model) fn drop_alpha(rgba: &[u8]) -> Vec<u8> {
    rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect()
}

fn open<'a>(bytes: &'a [u8], format: ImageFormat, name: &str) -> Result<impl ImageDecoder + 'a> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(|e| explain(&e, name))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(too_many_pixels(width, height).at(name));
    }
    if width == 0 || height == 0 {
        return Err(Error::new(DOING, "it has no pixels").at(name).help(DAMAGED));
    }
    decoder.set_limits(limits_of(width, height)).map_err(|e| explain(&e, name))?;
    Ok(decoder)
}

/// The EXIF orientation. Damaged metadata are no reason to refuse a picture.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    match decoder.orientation() {
        Ok(Orientation::NoTransforms) | Err(_) => {
            // Some writers put JPEG's "Exif\0\0" before the chunk in WebP and PNG too.
            let exif = decoder.exif_metadata().ok().flatten().unwrap_or_default();
            let chunk = exif.strip_prefix(b"Exif\0\0").unwrap_or_default();
            Orientation::from_exif_chunk(chunk).unwrap_or(Orientation::NoTransforms)
        }
        Ok(orientation) => orientation,
    }
}

/// To 8-bit RGB as Pillow's `convert("RGB")` does it: alpha is dropped, 16-bit grey saturates at 255,
/// 16-bit colour keeps its high byte.
fn eight_bit(image: DynamicImage, name: &str) -> Result<RgbImage> {
    let (width, height) = (image.width(), image.height());
    let high = |v: u16| v.to_be_bytes()[0];
    let rgb: Vec<u8> = match image {
        DynamicImage::ImageRgb8(rgb) => return Ok(rgb),
        DynamicImage::ImageRgba8(i) => drop_alpha(i.as_raw()),
        DynamicImage::ImageLuma8(i) => i.as_raw().iter().flat_map(|&v| [v; 3]).collect(),
        DynamicImage::ImageLumaA8(i) => i.as_raw().chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        DynamicImage::ImageLuma16(i) => {
            i.as_raw().iter().flat_map(|&v| [u8::try_from(v).unwrap_or(u8::MAX); 3]).collect()
        }
        DynamicImage::ImageLumaA16(i) => i.as_raw().chunks_exact(2).flat_map(|p| [high(p[0]); 3]).collect(),
        DynamicImage::ImageRgb16(i) => i.as_raw().iter().map(|&v| high(v)).collect(),
        DynamicImage::ImageRgba16(i) => {
            i.as_raw().chunks_exact(4).flat_map(|p| [high(p[0]), high(p[1]), high(p[2])]).collect()
        }
        other => {
            let what = format!("its pixels are of type {:?}, which is not supported", other.color());
            return Err(Error::new(DOING, what).at(name).help("save it with 8 bits per channel"));
        }
    };
    RgbImage::from_raw(width, height, rgb).ok_or_else(|| Error::new(DOING, "it is too large").at(name))
}

/// Whether a JPEG file's scan data end in an end-of-image marker. Embedded thumbnails, which have one
/// of their own, lie in the segments that are stepped over.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        match bytes.get(at..at + 4) {
            // Start of scan: nothing but the end may hold an unescaped FF D9 from here on.
            Some(&[0xff, 0xda, ..]) => return bytes[at..].windows(2).any(|w| w == [0xff, 0xd9]),
            // Fill bytes, or a marker without a length.
            Some(&[0xff, 0xff, ..]) => at += 1,
            Some(&[0xff, 0x01 | 0xd0..=0xd8, ..]) => at += 2,
            Some(&[0xff, _, high, low]) => at += 2 + usize::from(u16::from_be_bytes([high, low])),
            // Not as expected: let the decoder say what is wrong.
            Some(_) => return true,
            None => return false,
        }
    }
}

fn cut_short(name: &str) -> Error {
    Error::new(DOING, "the file ends too early").at(name).help("copy or download it again")
}

fn explain(error: &image::ImageError, name: &str) -> Error {
    use image::ImageError;
    match error {
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => cut_short(name),
        ImageError::Limits(_) => Error::new(DOING, "decoding it takes too much memory")
            .at(name)
            .help(SMALLER)
            .kind(ErrorKind::DoesNotFit),
        ImageError::Unsupported(e) => {
            Error::new(DOING, e).at(name).help("save it as an ordinary PNG or JPEG")
        }
        e => Error::new(DOING, e).at(name).help("the file is damaged or cut short; save it again"),
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the pictures are small, and noise may be cut")]
mod tests {
    use super::super::Picture;
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::{ExtendedColorType, ImageEncoder};

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        gradient().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn gradient() -> RgbImage {
        RgbImage::from_fn(40, 30, |x, y| image::Rgb([(x * 6) as u8, (y * 8) as u8, ((x ^ y) * 4) as u8]))
    }

    fn error(bytes: &[u8]) -> String {
        Picture::from_bytes(bytes, "p.png").unwrap_err().to_string()
    }

    #[test]
    fn every_format_is_recognised_by_its_content() {
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff] {
            let picture = Picture::from_bytes(&encoded(format), "p.txt").unwrap();
            assert_eq!(picture.rgb(), gradient().as_raw(), "{format:?}");
        }
        for format in [ImageFormat::Jpeg, ImageFormat::Gif] {
            let picture = Picture::from_bytes(&encoded(format), "p.txt").unwrap();
            assert_eq!((picture.width(), picture.height()), (40, 30), "{format:?}");
        }
    }

    #[test]
    fn what_is_no_picture_is_named() {
        assert!(error(b"").starts_with("reading the picture p.png: the file is empty ("));
        assert!(error(b"Dear diary, today").contains("it is not a picture"));
        assert!(error(b"\0\0\0\x1cftypheic....").contains("HEIC"));
        assert!(error(b"\0\0\0\x1cftypisom....").contains("video"));
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_and_never_a_panic() {
        for format in [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::WebP,
            ImageFormat::Gif,
            ImageFormat::Bmp,
            ImageFormat::Tiff,
        ] {
            let bytes = encoded(format);
            for cut in [1, 3, 8, 12, 20, 30, 60, bytes.len() / 2, bytes.len() * 3 / 4] {
                let cut = cut.min(bytes.len() - 30);
                let result = Picture::from_bytes(&bytes[..cut], "cut");
                assert!(result.is_err(), "{format:?} cut to {cut} of {}", bytes.len());
            }
        }
    }

    #[test]
    fn noise_after_a_good_start_is_an_error_or_a_picture_but_no_panic() {
        let mut state = 1_u32;
        for format in [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::WebP,
            ImageFormat::Gif,
            ImageFormat::Bmp,
            ImageFormat::Tiff,
        ] {
            for _ in 0..50 {
                let mut bytes = encoded(format);
                for _ in 0..8 {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let at = (state >> 8) as usize % bytes.len();
                    bytes[at] = state as u8;
                }
                let _ = Picture::from_bytes(&bytes, "noise");
            }
        }
    }

    #[test]
    fn a_decompression_bomb_is_refused_from_its_header() {
        // A PNG header of 60000 x 60000 pixels and no data.
        let mut png = encoded(ImageFormat::Png);
        png.truncate(33);
        png[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        png.extend_from_slice(&encoded(ImageFormat::Png)[33..]);
        let e = Picture::from_bytes(&png, "bomb").unwrap_err();
        assert!(e.to_string().contains("60000x60000") && e.get_kind() == ErrorKind::DoesNotFit, "{e}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc: u32, b| {
            (0..8).fold(crc ^ u32::from(*b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
        })
    }

    #[test]
    fn paths_that_cannot_be_read_say_why() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            Picture::from_path(&dir.path().join("none.png"))
                .unwrap_err()
                .to_string()
                .contains("check the path")
        );
        assert!(Picture::from_path(dir.path()).unwrap_err().to_string().contains("not a file"));
    }

    fn png16(data: &[u16], color: ExtendedColorType) -> Picture {
        let mut bytes = Vec::new();
        let samples = data.iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<_>>();
        image::codecs::png::PngEncoder::new(&mut bytes).write_image(&samples, 1, 1, color).unwrap();
        Picture::from_bytes(&bytes, "16 bit").unwrap()
    }

    #[test]
    fn sixteen_bits_become_eight_as_pillow_does_it() {
        // Pillow 13: mode "I;16" clips, mode "RGB" has read the high bytes.
        assert_eq!(png16(&[300], ExtendedColorType::L16).rgb(), [255; 3]);
        assert_eq!(png16(&[200], ExtendedColorType::L16).rgb(), [200; 3]);
        assert_eq!(png16(&[256, 1000, 65535], ExtendedColorType::Rgb16).rgb(), [1, 3, 255]);
        assert_eq!(png16(&[256, 1000, 65535, 7], ExtendedColorType::Rgba16).rgb(), [1, 3, 255]);
        assert_eq!(png16(&[1000, 7], ExtendedColorType::La16).rgb(), [3; 3]);
    }

    #[test]
    fn alpha_is_dropped_and_the_colour_under_it_stays() {
        let mut bytes = Vec::new();
        image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(&[10, 20, 30, 0, 40, 50, 60, 128], 2, 1, ExtendedColorType::Rgba8)
            .unwrap();
        assert_eq!(Picture::from_bytes(&bytes, "alpha").unwrap().rgb(), [10, 20, 30, 40, 50, 60]);
    }

    #[test]
    fn exif_orientation_is_applied() {
        // Orientation 6: the camera was turned, the picture must be rotated by 90 degrees.
        let exif =
            [b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".as_slice()].concat();
        let mut jpeg = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, 100);
        encoder.set_exif_metadata(exif.clone()).unwrap();
        let mut tall = RgbImage::from_pixel(32, 16, image::Rgb([0, 0, 0]));
        for y in 0..16 {
            for x in 0..16 {
                tall.put_pixel(x, y, image::Rgb([255, 255, 255]));
            }
        }
        encoder.encode_image(&tall).unwrap();
        let picture = Picture::from_bytes(&jpeg, "turned").unwrap();
        assert_eq!((picture.width(), picture.height()), (16, 32));
        // The white left half is the top half now.
        assert!(picture.rgb()[0] > 250 && picture.rgb()[picture.rgb().len() - 1] < 5);
        assert_eq!(
            Header::read(&jpeg, "turned").unwrap(),
            Header { format: ImageFormat::Jpeg, width: 16, height: 32 }
        );

        let mut png = Vec::new();
        let mut encoder = image::codecs::png::PngEncoder::new(&mut png);
        encoder.set_exif_metadata([b"Exif\0\0".as_slice(), &exif].concat()).unwrap();
        encoder.write_image(tall.as_raw(), 32, 16, ExtendedColorType::Rgb8).unwrap();
        assert_eq!(Picture::from_bytes(&png, "turned").unwrap().width(), 16);
    }
}
