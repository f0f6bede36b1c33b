//! Room `app`: reads pictures and clips on a thread of their own and keeps what the screen shows of them: small ones,
//! the frames of clips, and the one that is looked at in large, as it is and as the model saw it.

use std::collections::{HashMap, HashSet};
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use egui::{ColorImage, Context, TextureHandle, TextureOptions};
use sha2::{Digest, Sha256};

use super::annotate::{LabelImage, annotate};
use super::chat::{FileData, Hash};
use super::state::{ReadFile, State};
use super::window::WAKE_DELAY;
use crate::chat::grounding::Found;
use crate::chat::message::ImageSource;
use crate::chat::tree::AttachmentKind;
use crate::error::{Error, Result};
use crate::log;
use crate::model::clip::Clip;
use crate::model::picture::{Picture, read_file, resize_bicubic};
use crate::model::preprocessor::FrameSampling;

/// Longest side of the small picture, pixels: enough for its place on the screen at twice the scale.
const SMALL_SIDE_PX: u32 = 384;
/// The same of a frame in a strip.
const FRAME_SIDE_PX: u32 = 160;
/// Frames of a clip that a strip shows.
const STRIP_FRAMES: usize = 8;

/// Where a picture comes from.
pub(super) enum Origin {
    /// A file.
    File(PathBuf),
    /// The clipboard.
    Pixels(Arc<ColorImage>),
    /// This program: a file's name and content.
    Bytes(String, Arc<[u8]>),
}

/// What is drawn onto a copy of a picture.
pub(super) struct Annotation {
    pub file: (Arc<[u8]>, String),
    pub found: Vec<Found>,
    pub labels: Vec<LabelImage>,
    pub to: PathBuf,
}

enum Job {
    Draft { id: u64, origin: Origin },
    Stored { hash: Hash, bytes: Arc<[u8]> },
    Large { hash: Hash, bytes: Arc<[u8]>, most_side: u32 },
    Seen { hash: Hash, bytes: Arc<[u8]>, size: (u32, u32) },
    Annotate(Box<Annotation>),
}

/// Pixels for the screen: the picture, or the frames of a strip.
type Small = Vec<ColorImage>;

enum Done {
    Draft { id: u64, result: Result<(ReadFile, Small)> },
    Stored { hash: Hash, result: Result<(FileData, Small)> },
    Large { hash: Hash, result: Result<ColorImage> },
    Seen { hash: Hash, size: (u32, u32), result: Result<ColorImage> },
    Annotated(Result<PathBuf>),
}

/// The reading thread and what it has brought.
pub(super) struct Pictures {
    jobs: mpsc::Sender<Job>,
    done: mpsc::Receiver<Done>,
    small: HashMap<Hash, Vec<TextureHandle>>,
    large: Option<(Hash, TextureHandle)>,
    seen: Option<(Hash, (u32, u32), TextureHandle)>,
    asked: HashSet<(Hash, Option<(u32, u32)>)>,
    /// Pictures that were written with their boxes since the last look.
    pub annotated: Vec<PathBuf>,
}

impl Pictures {
    /// Starts the thread; it ends with this value.
    pub fn start(ctx: &Context) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (sender, done) = mpsc::channel();
        let ctx = ctx.clone();
        std::thread::Builder::new()
            .name("pictures".into())
            .spawn(move || {
                for job in queue {
                    if sender.send(work(job)).is_err() {
                        return;
                    }
                    ctx.request_repaint_after(WAKE_DELAY);
                }
            })
            .map_err(|e| Error::new("starting the window", e))?;
        Ok(Self {
            jobs,
            done,
            small: HashMap::new(),
            large: None,
            seen: None,
            asked: HashSet::new(),
            annotated: Vec::new(),
        })
    }

    /// Adds a picture to the draft and has it read. What comes back tells it from the others.
    pub fn add(&self, state: &mut State, origin: Origin) -> u64 {
        let id = state.add_picture(name_of(&origin), AttachmentKind::Image);
        self.read(state, id, origin);
        id
    }

    /// Adds the frames of a clip, in order.
    pub fn add_frames(&self, state: &mut State, clip: &str, files: Vec<PathBuf>) {
        // Two folders of one name are two clips.
        let taken = state.clip_names();
        let clip = std::iter::once(clip.to_owned())
            .chain((2..1000).map(|n| format!("{clip} ({n})")))
            .find(|name| !taken.contains(name))
            .unwrap_or_else(|| clip.to_owned());
        for file in files {
            let origin = Origin::File(file);
            let id = state.add_picture(format!("{clip}/{}", name_of(&origin)), AttachmentKind::Frame);
            self.read(state, id, origin);
        }
    }

    /// Reads a picture of a draft anew, from elsewhere.
    pub fn replace(&self, state: &mut State, id: u64, origin: Origin) {
        if state.replace_picture(id, name_of(&origin)) {
            self.read(state, id, origin);
        }
    }

    fn read(&self, state: &mut State, id: u64, origin: Origin) {
        if self.jobs.send(Job::Draft { id, origin }).is_err() {
            state.picture_read(id, Err(thread_gone()));
        }
    }

    /// Writes a picture with boxes and points on it.
    pub fn annotate(&self, state: &mut State, annotation: Annotation) {
        if self.jobs.send(Job::Annotate(Box::new(annotation))).is_err() {
            state.report(&thread_gone());
        }
    }

    /// Hands what was read to `state`, and forgets small pictures that are no longer anywhere.
    pub fn poll(&mut self, ctx: &Context, state: &mut State) {
        for (hash, _) in std::mem::take(&mut state.fresh_files) {
            if let Some(file) = state.files.get(&hash) {
                let bytes = Arc::clone(&file.bytes);
                let _ = self.jobs.send(Job::Stored { hash, bytes });
            }
        }
        for done in self.done.try_iter() {
            match done {
                Done::Draft { id, result } => {
                    let read = result.map(|(read, small)| {
                        self.small.insert(read.hash, textures(ctx, small));
                        read
                    });
                    state.picture_read(id, read);
                }
                Done::Stored { hash, result } => {
                    let read = result.map(|(data, small)| {
                        self.small.insert(hash, textures(ctx, small));
                        data
                    });
                    state.pixels_read(hash, read);
                }
                Done::Large { hash, result } => match result {
                    Ok(image) => {
                        let texture = ctx.load_texture("large picture", image, TextureOptions::LINEAR);
                        self.large = Some((hash, texture));
                    }
                    Err(error) => state.report(&error),
                },
                Done::Seen { hash, size, result } => match result {
                    Ok(image) => {
                        let texture = ctx.load_texture("picture as seen", image, TextureOptions::NEAREST);
                        self.seen = Some((hash, size, texture));
                    }
                    Err(error) => state.report(&error),
                },
                Done::Annotated(Ok(path)) => self.annotated.push(path),
                Done::Annotated(Err(error)) => state.report(&error),
            }
        }
        self.small.retain(|hash, _| state.has_file(hash));
    }

    /// The small picture (of a clip: its first frame), once it is there.
    pub fn small(&self, hash: &Hash) -> Option<&TextureHandle> {
        self.small.get(hash).and_then(|frames| frames.first())
    }

    /// The frames of a clip's strip; one for a picture.
    pub fn frames(&self, hash: &Hash) -> &[TextureHandle] {
        self.small.get(hash).map_or(&[], Vec::as_slice)
    }

    /// The picture in large; asked for where it is not there.
    pub fn large(&mut self, ctx: &Context, state: &State, hash: Hash) -> Option<&TextureHandle> {
        if self.large.as_ref().is_none_or(|(have, _)| *have != hash)
            && let Some(file) = state.files.get(&hash)
            && self.asked.insert((hash, None))
        {
            let most_side = ctx.input(|input| input.max_texture_side).clamp(256, 8192) as u32;
            let _ = self.jobs.send(Job::Large { hash, bytes: Arc::clone(&file.bytes), most_side });
        }
        self.large.as_ref().filter(|(have, _)| *have == hash).map(|(_, texture)| texture)
    }

    /// The picture resized to what the model saw (width, height); asked for where it is not there.
    pub fn seen(&mut self, state: &State, hash: Hash, size: (u32, u32)) -> Option<&TextureHandle> {
        if self.seen.as_ref().is_none_or(|(have, at, _)| (*have, *at) != (hash, size))
            && let Some(file) = state.files.get(&hash)
            && self.asked.insert((hash, Some(size)))
        {
            let _ = self.jobs.send(Job::Seen { hash, bytes: Arc::clone(&file.bytes), size });
        }
        self.seen.as_ref().filter(|(have, at, _)| (*have, *at) == (hash, size)).map(|(.., texture)| texture)
    }

    /// Nothing is looked at in large any more.
    pub fn forget_large(&mut self) {
        (self.large, self.seen) = (None, None);
        self.asked.clear();
    }
}

fn thread_gone() -> Error {
    Error::new("reading the picture", "the thread that reads them has stopped").help("restart the program")
}

fn name_of(origin: &Origin) -> String {
    match origin {
        Origin::File(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        Origin::Pixels(_) => "pasted.png".to_owned(),
        Origin::Bytes(name, _) => name.clone(),
    }
}

fn textures(ctx: &Context, images: Small) -> Vec<TextureHandle> {
    images.into_iter().map(|image| ctx.load_texture("small picture", image, TextureOptions::LINEAR)).collect()
}

/// One piece of work, on the thread.
fn work(job: Job) -> Done {
    match job {
        Job::Draft { id, origin } => Done::Draft { id, result: guarded(|| read(origin)) },
        Job::Stored { hash, bytes } => {
            Done::Stored { hash, result: guarded(|| decode(bytes, "a saved picture")) }
        }
        Job::Large { hash, bytes, most_side } => {
            let large = || Picture::from_bytes(&bytes, "the picture").and_then(|p| within(&p, most_side));
            Done::Large { hash, result: guarded(large) }
        }
        Job::Seen { hash, bytes, size: (width, height) } => {
            let seen = || {
                let picture = Picture::from_bytes(&bytes, "the picture")?;
                let from = (picture.width(), picture.height());
                let rgb = resize_bicubic(picture.rgb(), from, (width, height));
                Ok(ColorImage::from_rgb([width as usize, height as usize], &rgb))
            };
            Done::Seen { hash, size: (width, height), result: guarded(seen) }
        }
        Job::Annotate(annotation) => Done::Annotated(guarded(|| write_annotated(*annotation))),
    }
}

/// A file from outside that finds a fault in a decoder ends that picture, not the thread.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    log::guarded("reading a picture", work)
}

fn write_annotated(annotation: Annotation) -> Result<PathBuf> {
    let Annotation { file: (bytes, name), found, labels, to } = annotation;
    let picture = Picture::from_bytes(&bytes, &name)?;
    let drawn = annotate(&picture, &found, &labels);
    drawn.save_with_format(&to, image::ImageFormat::Png).map_err(|e| {
        Error::new("writing the picture with its boxes", e).at_path(&to).help("choose another place")
    })?;
    Ok(to)
}

fn read(origin: Origin) -> Result<(ReadFile, Small)> {
    let (bytes, name): (Arc<[u8]>, String) = match origin {
        Origin::File(path) => (read_file(&path)?.into(), path.display().to_string()),
        Origin::Bytes(name, bytes) => (bytes, name),
        Origin::Pixels(pixels) => (png_of(&pixels)?.into(), "the clipboard".into()),
    };
    let hash: Hash = Sha256::digest(&bytes).into();
    let (data, small) = decode(bytes, &name)?;
    let kind = if data.frames > 1 { AttachmentKind::Animation } else { AttachmentKind::Image };
    Ok((ReadFile { hash, kind, data }, small))
}

/// Pixels of the clipboard as a file, without alpha, as files are read.
fn png_of(pixels: &ColorImage) -> Result<Vec<u8>> {
    let rgb = pixels.pixels.iter().flat_map(|pixel| {
        let [r, g, b, _] = pixel.to_srgba_unmultiplied();
        [r, g, b]
    });
    let [width, height] = pixels.size.map(|side| u32::try_from(side).unwrap_or(u32::MAX));
    let picture = Picture::from_rgb(width, height, rgb.collect()).map_err(|e| e.at("from the clipboard"))?;
    let mut file = Cursor::new(Vec::new());
    image::write_buffer_with_format(
        &mut file,
        picture.rgb(),
        width,
        height,
        image::ExtendedColorType::Rgb8,
        image::ImageFormat::Png,
    )
    .map_err(|e| Error::new("keeping the pasted picture", e))?;
    Ok(file.into_inner())
}

fn decode(bytes: Arc<[u8]>, name: &str) -> Result<(FileData, Small)> {
    let source = ImageSource::Bytes { name: name.to_owned(), bytes: Arc::clone(&bytes) };
    let picture = source.load()?;
    let size = (picture.width(), picture.height());
    let (mut frames, mut strip) = (1, Vec::new());
    if may_be_animated(&bytes)
        && let Ok(clip) = Clip::from_bytes(Arc::clone(&bytes), name, FrameSampling::default())
    {
        frames = clip.num_frames();
        let every = frames.div_ceil(STRIP_FRAMES).max(1);
        let mut index = 0;
        clip.visit(|frame| {
            if index % every == 0 {
                strip.push(within(&frame, FRAME_SIDE_PX)?);
            }
            index += 1;
            Ok(true)
        })?;
    }
    if strip.is_empty() {
        strip.push(within(&picture, SMALL_SIDE_PX)?);
    }
    Ok((FileData { bytes, picture: Some(picture), size, frames }, strip))
}

/// A look at the first bytes, so that still pictures are not decoded twice.
fn may_be_animated(bytes: &[u8]) -> bool {
    let head = bytes.get(..bytes.len().min(4096)).unwrap_or_default();
    let has = |mark: &[u8]| head.windows(mark.len()).any(|window| window == mark);
    head.starts_with(b"GIF8")
        || (head.starts_with(b"RIFF") && has(b"ANIM"))
        || (head.starts_with(b"\x89PNG") && has(b"acTL"))
}

/// The picture, small enough for the screen.
pub(super) fn small(picture: &Picture) -> Result<ColorImage> {
    within(picture, SMALL_SIDE_PX)
}

/// The picture with no side longer than `most_side` pixels.
fn within(picture: &Picture, most_side: u32) -> Result<ColorImage> {
    let (width, height) = (picture.width(), picture.height());
    if width.max(height) <= most_side {
        return Ok(ColorImage::from_rgb([width as usize, height as usize], picture.rgb()));
    }
    let bad = || Error::new("making a small picture", "its pixels do not fit its size");
    let full = image::ImageBuffer::<image::Rgb<u8>, &[u8]>::from_raw(width, height, picture.rgb())
        .ok_or_else(bad)?;
    let scale = f64::from(most_side) / f64::from(width.max(height));
    let side = |pixels: u32| ((f64::from(pixels) * scale).round_ties_even() as u32).max(1);
    let (width, height) = (side(width), side(height));
    let small = image::imageops::thumbnail(&full, width, height);
    Ok(ColorImage::from_rgb([width as usize, height as usize], &small))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_keep_their_shape() {
        let picture = Picture::from_rgb(1000, 10, vec![7; 30_000]).unwrap();
        assert_eq!(small(&picture).unwrap().size, [384, 4]);
        let picture = Picture::from_rgb(3, 5000, vec![7; 45_000]).unwrap();
        assert_eq!(small(&picture).unwrap().size, [1, 384]);
        let picture = Picture::from_rgb(3, 2, vec![7; 18]).unwrap();
        assert_eq!(small(&picture).unwrap().size, [3, 2]);
    }

    #[test]
    fn a_pasted_picture_keeps_its_colours_and_becomes_a_file() {
        let pixels = ColorImage::from_rgba_unmultiplied([2, 1], &[10, 20, 30, 255, 200, 100, 50, 255]);
        let (read, small) = read(Origin::Pixels(Arc::new(pixels))).unwrap();
        assert_eq!(read.data.picture.unwrap().rgb(), [10, 20, 30, 200, 100, 50]);
        assert!(read.data.bytes.starts_with(b"\x89PNG"));
        assert_eq!((read.kind, read.data.frames, small.len()), (AttachmentKind::Image, 1, 1));
    }

    #[test]
    fn an_animated_file_is_a_clip_with_a_strip() {
        let mut file = Vec::new();
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut file);
        for shade in 0..20_u8 {
            let pixels = image::RgbaImage::from_pixel(30, 20, image::Rgba([shade * 12, 0, 0, 255]));
            let delay = image::Delay::from_numer_denom_ms(500, 1);
            encoder.encode_frame(image::Frame::from_parts(pixels, 0, 0, delay)).unwrap();
        }
        drop(encoder);
        let (read, strip) = read(Origin::Bytes("a.gif".into(), file.into())).unwrap();
        assert_eq!(read.kind, AttachmentKind::Animation);
        assert!(
            read.data.frames > 1 && strip.len() > 1 && strip.len() <= STRIP_FRAMES,
            "{}",
            read.data.frames
        );
        assert_eq!(read.data.size, (30, 20));
    }
}
