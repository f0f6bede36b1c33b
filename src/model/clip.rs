//! Room `model`: clips. A clip is a list of frame files or pictures, taken as it is, or an animated GIF,
//! WebP or PNG, from which frames are chosen by time. Frames are decoded one at a time when
//! the clip is prepared, so a long clip never lies in memory at full size. Pure CPU.

use crate::error::{Error, ErrorKind, Result};
use crate::model::picture::{
    Header, MAX_PIXELS, Picture, PreparedPicture, Resized, VisionKind, drop_alpha, guarded, limits,
    limits_of, read_file, recognise, resized, too_many_pixels,
};
use crate::model::preprocessor::{FrameSampling, PreprocessorConfig, TokenRange};
use image::codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder};
use image::{AnimationDecoder, Frames, ImageDecoder, ImageFormat};
use sha2::{Digest, Sha256};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Frames per second of a list of frames that does not say.
pub const DEFAULT_FPS: f64 = 2.0;
/// Most frames a clip may have, before any are chosen.
pub const MAX_FRAMES: usize = 100_000;
/// Most pixels of all frames of an animation together: about ten minutes of full HD at 10 frames a second.
const MAX_ANIMATION_PIXELS: u64 = 12 << 30;
const DOING: &str = "reading the clip";

/// Puts the files of frames in order: by their names, numbers in names as numbers.
pub fn sort_frames(files: &mut [PathBuf]) {
    files.sort_by_cached_key(|path| natural(&path.file_name().unwrap_or_default().to_string_lossy()));
}

/// A name cut into (text, number) pieces, so that frame 10 comes after frame 9.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut pieces = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, after) = rest.split_at(text_end);
        let number_end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, after) = after.split_at(number_end);
        pieces.push((text.to_owned(), number.parse().unwrap_or(u64::MAX)));
        rest = after;
    }
    pieces
}

/// A clip whose frames are known to exist and to have one size.
#[derive(Clone, Debug)]
pub struct Clip {
    source: Source,
    name: String,
    width: u32,
    height: u32,
    /// Which frames of the source are looked at, ascending.
    indices: Vec<usize>,
    /// Frames per second of the source: frame `i` is shown at `i / fps` seconds.
    fps: f64,
}

#[derive(Clone, Debug)]
enum Source {
    Pictures(Vec<Arc<Picture>>),
    Files(Vec<PathBuf>),
    Animation(Arc<[u8]>, ImageFormat),
}

impl Clip {
    /// A clip of frame files, all of them, in the order given, `fps` of them a second
    /// ([`DEFAULT_FPS`] when not known).
    ///
    /// # Errors
    /// When there are none or too many, one is not a picture, or their sizes differ.
    pub fn from_files(paths: Vec<PathBuf>, fps: Option<f64>) -> Result<Self> {
        let name = paths.first().map_or_else(String::new, |p| p.display().to_string());
        let mut size = None;
        for path in &paths {
            let name = path.display().to_string();
            let header = Header::read(&read_file(path)?, &name)?;
            check_size(&mut size, (header.width, header.height), &name)?;
        }
        Self::list(Source::Files(paths), size, name, fps)
    }

    /// As [`Clip::from_files`], for pictures already decoded.
    ///
    /// # Errors
    /// As [`Clip::from_files`].
    pub fn from_pictures(frames: Vec<Arc<Picture>>, fps: Option<f64>) -> Result<Self> {
        let mut size = None;
        for (i, frame) in frames.iter().enumerate() {
            check_size(&mut size, (frame.width(), frame.height()), &format!("frame {i}"))?;
        }
        Self::list(Source::Pictures(frames), size, String::new(), fps)
    }

    fn list(source: Source, size: Option<(u32, u32)>, name: String, fps: Option<f64>) -> Result<Self> {
        let fps = fps.unwrap_or(DEFAULT_FPS);
        check_fps(fps)?;
        let Some((width, height)) = size else {
            return Err(Error::new(DOING, "it has no frames").help("give at least two"));
        };
        let count = match &source {
            Source::Pictures(frames) => frames.len(),
            Source::Files(paths) => paths.len(),
            Source::Animation(..) => 0,
        };
        if count > MAX_FRAMES {
            return Err(Error::new(
                DOING,
                format!("{count} frames are more than the {MAX_FRAMES} that are read"),
            ));
        }
        Ok(Self { source, name, width, height, indices: (0..count).collect(), fps })
    }

    /// A clip from an animated GIF, WebP or PNG file; see [`Clip::from_bytes`].
    ///
    /// # Errors
    /// As [`Clip::from_bytes`], or when the file cannot be read.
    pub fn from_path(path: &Path, sampling: FrameSampling) -> Result<Self> {
        Self::from_bytes(read_file(path)?.into(), &path.display().to_string(), sampling)
    }

    /// A clip from an animated GIF, WebP or PNG in memory. Its rate is its frames over the sum of their
    /// delays; `sampling` says which of them are looked at. `name` is what errors call it.
    ///
    /// # Errors
    /// When it is not such a file, is not animated, is damaged or is too long.
    pub fn from_bytes(bytes: Arc<[u8]>, name: &str, sampling: FrameSampling) -> Result<Self> {
        check_fps(sampling.fps)?;
        let format = recognise(&bytes, name)?;
        let mut size = None;
        let (mut count, mut total_ms) = (0_usize, 0.0_f64);
        for_each_frame(&bytes, format, name, |index, frame| {
            if index >= MAX_FRAMES {
                return Err(Error::new(DOING, format!("it has more than {MAX_FRAMES} frames")));
            }
            let here = frame.buffer().dimensions();
            check_size(&mut size, here, &format!("frame {index}"))?;
            if u64::from(here.0) * u64::from(here.1) * (index as u64 + 1) > MAX_ANIMATION_PIXELS {
                return Err(Error::new(DOING, "its frames have too many pixels together")
                    .help("make it smaller or shorter first")
                    .kind(ErrorKind::DoesNotFit));
            }
            count = index + 1;
            total_ms += delay_ms(&frame, format);
            Ok(true)
        })?;
        let Some((width, height)) = size.filter(|_| count > 1) else {
            return Err(Error::new(DOING, "it has only one frame").at(name).help("send it as a picture"));
        };
        #[expect(clippy::cast_precision_loss, reason = "at most MAX_FRAMES")]
        let fps = count as f64 / (total_ms / 1000.0);
        let indices = sample_frames(count, fps, sampling);
        Ok(Self {
            source: Source::Animation(bytes, format),
            name: name.to_owned(),
            width,
            height,
            indices,
            fps,
        })
    }

    /// Frames that are looked at.
    #[must_use]
    pub fn num_frames(&self) -> usize {
        self.indices.len()
    }

    /// Pixels in a row of a frame.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows of a frame.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Which frames of the source are looked at, ascending.
    #[must_use]
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// Frames per second of the source.
    #[must_use]
    pub fn fps(&self) -> f64 {
        self.fps
    }

    /// The first frame, for showing.
    ///
    /// # Errors
    /// When it can no longer be decoded.
    pub fn first_frame(&self) -> Result<Arc<Picture>> {
        let mut first = None;
        self.visit(|frame| {
            first = Some(frame);
            Ok(false)
        })?;
        first.ok_or_else(|| self.changed())
    }

    /// Calls `visit` for the chosen frames in order, decoded one at a time, until it says `false`.
    ///
    /// # Errors
    /// When a frame can no longer be decoded, has another size than before, or `visit` fails.
    pub fn visit(&self, mut visit: impl FnMut(Arc<Picture>) -> Result<bool>) -> Result<()> {
        let mut checked = |frame: Arc<Picture>| {
            if (frame.width(), frame.height()) == (self.width, self.height) {
                visit(frame)
            } else {
                Err(self.changed())
            }
        };
        match &self.source {
            Source::Pictures(frames) => {
                for frame in frames {
                    if !checked(Arc::clone(frame))? {
                        break;
                    }
                }
                Ok(())
            }
            Source::Files(paths) => {
                for path in paths {
                    if !checked(Arc::new(Picture::from_path(path)?))? {
                        break;
                    }
                }
                Ok(())
            }
            Source::Animation(bytes, format) => {
                let mut wanted = self.indices.iter().copied().peekable();
                for_each_frame(bytes, *format, &self.name, |index, frame| {
                    if wanted.next_if_eq(&index).is_some() {
                        let (width, height) = frame.buffer().dimensions();
                        let picture = Picture::from_rgb(width, height, drop_alpha(frame.buffer().as_raw()))?;
                        if !checked(Arc::new(picture))? {
                            return Ok(false);
                        }
                    }
                    Ok(wanted.peek().is_some())
                })
            }
        }
    }

    /// Seconds at which each temporal patch is shown: the mean of its first and its last frame.
    #[must_use]
    pub fn timestamps(&self, temporal_patch_size: u32) -> Vec<f64> {
        timestamps(&self.indices, self.fps, temporal_patch_size)
    }

    fn changed(&self) -> Error {
        let name = if self.name.is_empty() { "the clip" } else { &self.name };
        Error::new(DOING, "its frames have changed").at(name).help("add the clip again")
    }
}

/// A clip ready for the vision tower, and when its temporal patches are shown.
#[derive(Clone, Debug, PartialEq)]
pub struct PreparedClip {
    /// Its patches.
    pub picture: PreparedPicture,
    /// Seconds, one for each temporal patch.
    pub timestamps: Vec<f64>,
}

/// Resizes and cuts a clip. `tokens` replaces the checkpoint's own limits, for the whole clip.
///
/// # Errors
/// When it has fewer than two frames, a frame cannot be decoded, or the shape or range is refused.
pub fn prepare_clip(
    clip: &Clip,
    config: &PreprocessorConfig,
    tokens: Option<TokenRange>,
) -> Result<PreparedClip> {
    let config = tokens.map_or(Ok(*config), |range| config.with_tokens(range, config.temporal_patch_size))?;
    let size = config
        .video_size(clip.num_frames(), clip.height, clip.width)
        .map_err(|e| e.at(if clip.name.is_empty() { "the clip" } else { &clip.name }))?;
    let mut frames = Vec::with_capacity(clip.num_frames());
    let mut hash = Sha256::new();
    clip.visit(|frame| {
        hash.update(frame.content_hash());
        frames.push(resized(&frame, size));
        Ok(true)
    })?;
    if frames.len() != clip.num_frames() {
        return Err(clip.changed());
    }
    let content_hash = hash.finalize().into();
    let resized = Resized { kind: VisionKind::Video, size, frames, content_hash };
    Ok(PreparedClip {
        picture: PreparedPicture::new(resized, &config),
        timestamps: clip.timestamps(config.temporal_patch_size),
    })
}

/// `transformers`' `Qwen3VLProcessor._calculate_timestamps`: `index / fps`, the last index repeated to
/// fill the last temporal patch, then the mean of the first and last frame of each.
#[must_use]
pub fn timestamps(indices: &[usize], fps: f64, temporal_patch_size: u32) -> Vec<f64> {
    #[expect(clippy::cast_precision_loss, reason = "frame numbers are far below 2^53")]
    let seconds = |index: usize| index as f64 / fps;
    indices
        .chunks(temporal_patch_size.max(1) as usize)
        // A patch that is not full is filled with its own last frame, which is the clip's last.
        .filter_map(|patch| Some(f64::midpoint(seconds(*patch.first()?), seconds(*patch.last()?))))
        .collect()
}

/// `transformers`' `Qwen3VLVideoProcessor.sample_frames`: evenly spaced frames, `sampling.fps` a second of
/// a source of `total` frames at `fps`.
#[must_use]
pub fn sample_frames(total: usize, fps: f64, sampling: FrameSampling) -> Vec<usize> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small"
    )]
    {
        let wanted = (total as f64 / fps * sampling.fps) as usize;
        let count = wanted.max(sampling.min_frames).min(sampling.max_frames).min(total);
        // numpy.linspace(0, total - 1, count).round()
        let last = total.saturating_sub(1) as f64;
        let step = last / (count.max(2) - 1) as f64;
        let at = |i: usize| if i > 0 && i + 1 == count { last } else { i as f64 * step };
        (0..count).map(|i| at(i).round_ties_even() as usize).collect()
    }
}

fn check_fps(fps: f64) -> Result<()> {
    if fps > 0.0 && fps.is_finite() {
        return Ok(());
    }
    Err(Error::new(DOING, format!("{fps} frames per second is not a rate")).help("give a number above 0"))
}

fn check_size(size: &mut Option<(u32, u32)>, here: (u32, u32), name: &str) -> Result<()> {
    let first = *size.get_or_insert(here);
    if here == first {
        return Ok(());
    }
    let (w, h) = here;
    Err(Error::new(DOING, format!("it has {w}x{h} pixels, the first frame {}x{}", first.0, first.1))
        .at(name)
        .help("all frames of a clip must have one size"))
}

/// How long a frame is shown, in milliseconds. Like browsers, a GIF's delays up to 10 ms, and any
/// frame without one, count as 100 ms.
fn delay_ms(frame: &image::Frame, format: ImageFormat) -> f64 {
    let (numerator, denominator) = frame.delay().numer_denom_ms();
    let ms = f64::from(numerator) / f64::from(denominator.max(1));
    let shortest = if format == ImageFormat::Gif { 10.0 } else { 0.0 };
    if ms > shortest { ms } else { 100.0 }
}

/// Calls `visit(index, frame)` for the composed RGBA frames of an animation until it says `false`.
fn for_each_frame(
    bytes: &[u8],
    format: ImageFormat,
    name: &str,
    mut visit: impl FnMut(usize, image::Frame) -> Result<bool>,
) -> Result<()> {
    guarded(name, || {
        for (index, frame) in animation(bytes, format, name)?.enumerate() {
            let frame = frame.map_err(|e| {
                Error::new(DOING, format!("frame {index}: {e}"))
                    .at(name)
                    .help("the file is damaged or cut short")
            })?;
            if !visit(index, frame).map_err(|e| e.at(name))? {
                break;
            }
        }
        Ok(())
    })
}

fn animation<'a>(bytes: &'a [u8], format: ImageFormat, name: &str) -> Result<Frames<'a>> {
    let fail =
        |e: image::ImageError| Error::new(DOING, e).at(name).help("the file is damaged; save it again");
    let still = || {
        Error::new(DOING, "it is not an animation").at(name).help(
            "give an animated GIF, WebP or PNG, or a list of frame files; send a single picture as a picture",
        )
    };
    let reader = Cursor::new(bytes);
    match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(reader).map_err(fail)?;
            limit(&mut decoder, name)?;
            Ok(decoder.into_frames())
        }
        ImageFormat::WebP => {
            let mut decoder = WebPDecoder::new(reader).map_err(fail)?;
            limit(&mut decoder, name)?;
            if decoder.has_animation() { Ok(decoder.into_frames()) } else { Err(still()) }
        }
        ImageFormat::Png => {
            let mut decoder = PngDecoder::with_limits(reader, limits()).map_err(fail)?;
            limit(&mut decoder, name)?;
            if !decoder.is_apng().map_err(fail)? {
                return Err(still());
            }
            Ok(decoder.apng().map_err(fail)?.into_frames())
        }
        _ => Err(still()),
    }
}

fn limit(decoder: &mut impl ImageDecoder, name: &str) -> Result<()> {
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(too_many_pixels(width, height).at(name));
    }
    decoder
        .set_limits(limits_of(width, height))
        .map_err(|e| Error::new(DOING, e).at(name).kind(ErrorKind::DoesNotFit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::gif::GifEncoder;
    use image::{Delay, Rgba, RgbaImage};

    fn config() -> PreprocessorConfig {
        PreprocessorConfig {
            patch_size: 16,
            temporal_patch_size: 2,
            merge_size: 2,
            min_pixels: 4096,
            max_pixels: 1 << 20,
        }
    }

    fn picture(shade: u8) -> Arc<Picture> {
        Arc::new(Picture::from_rgb(64, 64, vec![shade; 64 * 64 * 3]).unwrap())
    }

    fn gif(frames: u8, delay_ms: u32) -> Arc<[u8]> {
        let mut bytes = Vec::new();
        let mut encoder = GifEncoder::new(&mut bytes);
        for i in 0..frames {
            let shade = Rgba([i * 20, i * 20, i * 20, 255]);
            let image = RgbaImage::from_pixel(64, 64, shade);
            let delay = Delay::from_numer_denom_ms(delay_ms, 1);
            encoder.encode_frame(image::Frame::from_parts(image, 0, 0, delay)).unwrap();
        }
        drop(encoder);
        bytes.into()
    }

    #[test]
    fn pairs_of_frames_share_a_patch_and_an_odd_one_repeats() {
        let clip = Clip::from_pictures([0, 255, 51].map(picture).into(), None).unwrap();
        let prepared = prepare_clip(&clip, &config(), None).unwrap();
        assert_eq!(prepared.picture.grid().thw(), [2, 4, 4]);
        assert_eq!(prepared.picture.num_tokens(), 8);
        assert_eq!(prepared.timestamps, [0.25, 1.0]);
        let first = prepared.picture.pixel_bytes(0..1);
        assert!(first[..256].iter().all(|&v| v == 0) && first[256..512].iter().all(|&v| v == 255));
        let last = prepared.picture.pixel_bytes(31..32);
        assert!(last.iter().all(|&v| v == 51));
    }

    #[test]
    fn frames_are_spaced_as_numpy_does() {
        let sample = |total, fps| sample_frames(total, fps, FrameSampling::default());
        assert_eq!(sample(10, 10.0), [0, 3, 6, 9]);
        assert_eq!(sample(3, 30.0), [0, 1, 2]);
        assert_eq!(sample(30, 5.0), [0, 3, 5, 8, 11, 13, 16, 18, 21, 24, 26, 29]);
        assert_eq!(sample(100_000, 10.0).len(), 768);
        assert_eq!(sample(1, 10.0), [0]);
    }

    #[test]
    fn an_animation_takes_its_rate_from_its_delays() {
        let clip = Clip::from_bytes(gif(12, 250), "a.gif", FrameSampling::default()).unwrap();
        assert_eq!((clip.fps(), clip.num_frames()), (4.0, 6));
        assert_eq!(clip.indices(), [0, 2, 4, 7, 9, 11]);
        let mut shades = Vec::new();
        clip.visit(|frame| {
            shades.push(frame.rgb()[0]);
            Ok(true)
        })
        .unwrap();
        assert_eq!(shades, [0, 40, 80, 140, 180, 220]);
        assert_eq!(clip.first_frame().unwrap().rgb()[0], 0);
        assert_eq!(prepare_clip(&clip, &config(), None).unwrap().picture.grid().t, 3);
        // No delay at all: as browsers show it.
        let fps = Clip::from_bytes(gif(4, 0), "a.gif", FrameSampling::default()).unwrap().fps();
        assert!((fps - 10.0).abs() < 1e-12);
    }

    #[test]
    fn frames_of_several_sizes_are_refused() {
        let odd = Arc::new(Picture::from_rgb(32, 64, vec![0; 32 * 64 * 3]).unwrap());
        let e = Clip::from_pictures(vec![picture(0), odd], None).unwrap_err().to_string();
        assert!(e.contains("frame 1") && e.contains("32x64") && e.contains("64x64"), "{e}");
    }

    #[test]
    fn what_is_no_clip_says_what_to_do() {
        let said = |bytes: Arc<[u8]>| {
            Clip::from_bytes(bytes, "a", FrameSampling::default()).unwrap_err().to_string()
        };
        assert!(said(gif(1, 100)).contains("send it as a picture"));
        let mut png = Cursor::new(Vec::new());
        RgbaImage::new(4, 4).write_to(&mut png, ImageFormat::Png).unwrap();
        assert!(said(png.into_inner().into()).contains("not an animation"));
        assert!(said(b"\0\0\0\x20ftypisom".as_slice().into()).contains("video file"));
        let whole = gif(4, 100);
        assert!(said(whole[..whole.len() / 2].into()).contains("damaged or cut short"));
        assert!(Clip::from_pictures(vec![], None).unwrap_err().to_string().contains("no frames"));
        assert!(Clip::from_pictures(vec![picture(0)], Some(0.0)).is_err());
        let one = Clip::from_pictures(vec![picture(0)], None).unwrap();
        assert!(prepare_clip(&one, &config(), None).unwrap_err().to_string().contains("single frame"));
    }

    #[test]
    fn the_key_depends_on_every_frame() {
        let key = |shades: [u8; 3]| {
            let clip = Clip::from_pictures(shades.map(picture).into(), None).unwrap();
            *prepare_clip(&clip, &config(), None).unwrap().picture.key()
        };
        assert_eq!(key([1, 2, 3]), key([1, 2, 3]));
        assert_ne!(key([1, 2, 3]), key([1, 2, 4]));
        assert_ne!(key([1, 2, 3]), key([2, 1, 3]));
    }

    #[test]
    fn a_file_replaced_between_adding_and_preparing_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [0, 1].map(|i| dir.path().join(format!("{i}.png")));
        for path in &paths {
            RgbaImage::new(64, 64).save(path).unwrap();
        }
        let clip = Clip::from_files(paths.to_vec(), Some(4.0)).unwrap();
        assert_eq!(clip.timestamps(2), [0.125]);
        RgbaImage::new(32, 64).save(&paths[1]).unwrap();
        assert!(prepare_clip(&clip, &config(), None).unwrap_err().to_string().contains("changed"));
    }
}
