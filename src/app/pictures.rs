//! Room `app`: reads pictures on a thread of their own and keeps small ones for the screen.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use egui::{ColorImage, Context, TextureHandle, TextureOptions};

use super::state::State;
use super::window::WAKE_DELAY;
use crate::chat::message::ImageSource;
use crate::error::{Error, Result};
use crate::model::picture::Picture;

/// Longest side of the small picture, pixels: enough for its place on the screen at twice the scale.
const SMALL_SIDE_PX: u32 = 384;

/// Where a picture comes from.
pub(super) enum Origin {
    /// A file.
    File(PathBuf),
    /// The clipboard.
    Pixels(Arc<ColorImage>),
    /// This program: a file's name and content.
    Bytes(String, Arc<[u8]>),
}

struct Job {
    id: u64,
    origin: Origin,
}

struct Done {
    id: u64,
    result: Result<(Arc<Picture>, ColorImage)>,
}

/// The reading thread and what it has brought.
pub(super) struct Pictures {
    jobs: mpsc::Sender<Job>,
    done: mpsc::Receiver<Done>,
    small: HashMap<u64, TextureHandle>,
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
                for Job { id, origin } in queue {
                    if sender.send(Done { id, result: read(origin) }).is_err() {
                        return;
                    }
                    ctx.request_repaint_after(WAKE_DELAY);
                }
            })
            .map_err(|e| Error::new("starting the window", e))?;
        Ok(Self { jobs, done, small: HashMap::new() })
    }

    /// Adds a picture to the draft and has it read. What comes back tells it from the others.
    pub fn add(&self, state: &mut State, origin: Origin) -> u64 {
        let name = match &origin {
            Origin::File(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            Origin::Pixels(_) => "pasted picture".to_owned(),
            Origin::Bytes(name, _) => name.clone(),
        };
        let id = state.add_picture(name);
        if self.jobs.send(Job { id, origin }).is_err() {
            let gone = Error::new("reading the picture", "the thread that reads them has stopped");
            state.picture_read(id, Err(gone.help("restart the program")));
        }
        id
    }

    /// Hands what was read to `state`, and forgets small pictures that are no longer anywhere.
    pub fn poll(&mut self, ctx: &Context, state: &mut State) {
        for Done { id, result } in self.done.try_iter() {
            let read = result.map(|(picture, small)| {
                let texture = ctx.load_texture(format!("picture {id}"), small, TextureOptions::LINEAR);
                self.small.insert(id, texture);
                let (width, height) = (picture.width(), picture.height());
                (ImageSource::Picture(picture), width, height)
            });
            state.picture_read(id, read);
        }
        self.small.retain(|&id, _| state.has_picture(id));
    }

    /// The small picture, once it is there.
    pub fn small(&self, id: u64) -> Option<&TextureHandle> {
        self.small.get(&id)
    }
}

fn read(origin: Origin) -> Result<(Arc<Picture>, ColorImage)> {
    let picture = match origin {
        Origin::File(path) => ImageSource::Path(path).load()?,
        Origin::Bytes(name, bytes) => ImageSource::Bytes { name, bytes }.load()?,
        Origin::Pixels(pixels) => {
            // Without alpha, as files are read.
            let rgb = pixels.pixels.iter().flat_map(|pixel| {
                let [r, g, b, _] = pixel.to_srgba_unmultiplied();
                [r, g, b]
            });
            let [width, height] = pixels.size.map(|side| u32::try_from(side).unwrap_or(u32::MAX));
            Arc::new(Picture::from_rgb(width, height, rgb.collect()).map_err(|e| e.at("from the clipboard"))?)
        }
    };
    let small = small(&picture)?;
    Ok((picture, small))
}

/// The picture, small enough for the screen.
pub(super) fn small(picture: &Picture) -> Result<ColorImage> {
    let (width, height) = (picture.width(), picture.height());
    let bad = || Error::new("making a small picture", "its pixels do not fit its size");
    let full = image::ImageBuffer::<image::Rgb<u8>, &[u8]>::from_raw(width, height, picture.rgb())
        .ok_or_else(bad)?;
    let scale = (f64::from(SMALL_SIDE_PX) / f64::from(width.max(height))).min(1.0);
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
    fn a_pasted_picture_keeps_its_colours() {
        let pixels = ColorImage::from_rgba_unmultiplied([2, 1], &[10, 20, 30, 255, 200, 100, 50, 255]);
        let (picture, _) = read(Origin::Pixels(Arc::new(pixels))).unwrap();
        assert_eq!(picture.rgb(), [10, 20, 30, 200, 100, 50]);
    }
}
