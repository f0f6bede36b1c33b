//! Room `model`, pictures: from a picture to the patches the vision tower reads.
//! Keeps the resized pixels as bytes; values are made for the rows that are asked for. Pure CPU.

use super::{Picture, resize_bicubic};
use crate::error::Result;
use crate::model::preprocessor::{PreprocessorConfig, TokenRange};
use sha2::{Digest, Sha256};
use std::fmt;
use std::ops::Range;

/// The patches of a picture or clip: `t` temporal patches of `h` × `w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Temporal patches (1 for a picture).
    pub t: u32,
    /// Rows of patches.
    pub h: u32,
    /// Columns of patches.
    pub w: u32,
}

impl Grid {
    /// Patches of one temporal patch.
    #[must_use]
    pub fn frame_patches(&self) -> usize {
        self.h as usize * self.w as usize
    }

    /// All patches: the rows of `pixel_values`.
    #[must_use]
    pub fn num_patches(&self) -> usize {
        self.t as usize * self.frame_patches()
    }

    /// `[t, h, w]`, as `image_grid_thw` has it.
    #[must_use]
    pub fn thw(&self) -> [u32; 3] {
        [self.t, self.h, self.w]
    }
}

/// Whether patches come from a picture or a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VisionKind {
    /// A picture: `<|image_pad|>`.
    Image,
    /// A clip: `<|video_pad|>`.
    Video,
}

/// A picture or clip ready for the vision tower.
#[derive(Clone, PartialEq, Eq)]
pub struct PreparedPicture {
    grid: Grid,
    kind: VisionKind,
    patch_size: usize,
    temporal_patch_size: usize,
    merge_size: usize,
    /// Resized frames, `[h * patch_size, w * patch_size, 3]` each; a still picture has one.
    frames: Vec<Vec<u8>>,
    key: [u8; 32],
}

/// Resized frames and where they come from; what [`PreparedPicture::new`] is made of.
pub(in crate::model) struct Resized {
    /// Picture or clip.
    pub(in crate::model) kind: VisionKind,
    /// Size of a resized frame `(height, width)`, multiples of the config's factor.
    pub(in crate::model) size: (u32, u32),
    /// RGB of each frame.
    pub(in crate::model) frames: Vec<Vec<u8>>,
    /// SHA-256 of the content before resizing.
    pub(in crate::model) content_hash: [u8; 32],
}

/// Resizes and cuts a picture. `tokens` replaces the checkpoint's own limits.
///
/// # Errors
/// When the picture's shape is refused by [`smart_resize`](crate::model::preprocessor::smart_resize), or
/// the range of tokens is empty.
pub fn prepare_image(
    picture: &Picture,
    config: &PreprocessorConfig,
    tokens: Option<TokenRange>,
) -> Result<PreparedPicture> {
    let config = tokens.map_or(Ok(*config), |range| config.with_tokens(range, 1))?;
    let size = config.image_size(picture.height(), picture.width())?;
    let (kind, content_hash) = (VisionKind::Image, *picture.content_hash());
    Ok(PreparedPicture::new(
        Resized { kind, size, frames: vec![resized(picture, size)], content_hash },
        &config,
    ))
}

/// The picture's RGB at `(height, width)`.
pub(in crate::model) fn resized(picture: &Picture, (height, width): (u32, u32)) -> Vec<u8> {
    resize_bicubic(picture.rgb(), (picture.width(), picture.height()), (width, height))
}

impl PreparedPicture {
    pub(in crate::model) fn new(resized: Resized, config: &PreprocessorConfig) -> Self {
        let Resized { kind, size: (height, width), frames, content_hash } = resized;
        let t = match kind {
            VisionKind::Image => 1,
            VisionKind::Video => {
                u32::try_from(frames.len()).unwrap_or(u32::MAX).div_ceil(config.temporal_patch_size)
            }
        };
        let grid = Grid { t, h: height / config.patch_size, w: width / config.patch_size };
        let mut hash = Sha256::new();
        hash.update(b"ocelli prepared picture 1");
        hash.update([match kind {
            VisionKind::Image => 0,
            VisionKind::Video => 1,
        }]);
        hash.update(content_hash);
        let numbers =
            [grid.t, grid.h, grid.w, config.patch_size, config.temporal_patch_size, config.merge_size];
        hash.update(numbers.map(u32::to_le_bytes).as_flattened());
        Self {
            grid,
            kind,
            patch_size: config.patch_size as usize,
            temporal_patch_size: config.temporal_patch_size as usize,
            merge_size: config.merge_size as usize,
            frames,
            key: hash.finalize().into(),
        }
    }

    /// Its patches.
    #[must_use]
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Picture or clip.
    #[must_use]
    pub fn kind(&self) -> VisionKind {
        self.kind
    }

    /// SHA-256 of content, grid, patch sizes and kind: what is encoded under one key need not be
    /// encoded again.
    #[must_use]
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Merged tokens: the pads it takes in the prompt, and the rows the vision tower returns for it.
    #[must_use]
    pub fn num_tokens(&self) -> usize {
        self.grid.t as usize * self.tokens_per_frame()
    }

    /// Merged tokens of one temporal patch.
    #[must_use]
    pub fn tokens_per_frame(&self) -> usize {
        self.grid.frame_patches() / (self.merge_size * self.merge_size)
    }

    /// Patches on the side of a merged token.
    #[must_use]
    pub fn merge_size(&self) -> usize {
        self.merge_size
    }

    /// Length of a row of [`PreparedPicture::pixel_values`]: channels × temporal × patch × patch.
    #[must_use]
    pub fn row_len(&self) -> usize {
        3 * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Bytes of the resized pixels held.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.frames.iter().map(Vec::len).sum()
    }

    /// Size `(width, height)` in pixels of a resized frame.
    #[must_use]
    pub fn resized_size(&self) -> (u32, u32) {
        let side = |patches: u32| u32::try_from(patches as usize * self.patch_size).unwrap_or(u32::MAX);
        (side(self.grid.w), side(self.grid.h))
    }

    /// The rows `rows` of `pixel_values`, `[rows, 1536]`: `(v − 127.5) / 127.5` of each byte of
    /// [`PreparedPicture::pixel_bytes`], in f32, as the processor computes it.
    ///
    /// # Panics
    /// When `rows` reaches past the grid: a caller's bug.
    #[must_use]
    pub fn pixel_values(&self, rows: Range<usize>) -> Vec<f32> {
        let mut table = [0.0_f32; 256];
        for (value, entry) in (0_u8..=255).zip(&mut table) {
            *entry = (f32::from(value) - 127.5) / 127.5;
        }
        self.pixel_bytes(rows).into_iter().map(|value| table[usize::from(value)]).collect()
    }

    /// The rows `rows` of the patches as bytes, `[rows, 1536]`.
    ///
    /// Row `((bh*(w/m) + bw)*m + ih)*m + iw` of a temporal patch is the patch at row `m*bh + ih`, column
    /// `m*bw + iw` (m × m block order, m = `merge_size`); temporal patches follow one another. Inside a
    /// row: channel, frame, y, x. A picture, and a clip's odd last frame, repeat.
    ///
    /// # Panics
    /// When `rows` reaches past the grid: a caller's bug.
    #[must_use]
    pub fn pixel_bytes(&self, rows: Range<usize>) -> Vec<u8> {
        assert!(rows.end <= self.grid.num_patches(), "rows {rows:?} of {:?}", self.grid);
        let (p, m) = (self.patch_size, self.merge_size);
        let columns = self.grid.w as usize;
        let stride = columns * p * 3;
        let mut out = Vec::with_capacity(rows.len() * self.row_len());
        for row in rows {
            let (frame, r) = (row / self.grid.frame_patches(), row % self.grid.frame_patches());
            let (block, inside) = (r / (m * m), r % (m * m));
            let patch_row = block / (columns / m) * m + inside / m;
            let patch_column = block % (columns / m) * m + inside % m;
            let corner = patch_row * p * stride + patch_column * p * 3;
            for channel in 0..3 {
                for slice in 0..self.temporal_patch_size {
                    let frame = (frame * self.temporal_patch_size + slice).min(self.frames.len() - 1);
                    for y in 0..p {
                        let line = &self.frames[frame][corner + y * stride..][..p * 3];
                        out.extend(line.chunks_exact(3).map(|pixel| pixel[channel]));
                    }
                }
            }
        }
        out
    }
}

impl fmt::Debug for PreparedPicture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = u32::from_be_bytes([self.key[0], self.key[1], self.key[2], self.key[3]]);
        write!(f, "PreparedPicture {:?} {:?} {key:08x}", self.kind, self.grid.thw())
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the pictures are small")]
mod tests {
    use super::*;

    fn config() -> PreprocessorConfig {
        PreprocessorConfig {
            patch_size: 16,
            temporal_patch_size: 2,
            merge_size: 2,
            min_pixels: 1024,
            max_pixels: 1 << 20,
        }
    }

    /// A picture whose red channel is the patch column, green the patch row, blue y*16+x in the patch.
    fn chart(width: u32, height: u32) -> Picture {
        let rgb = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| [(x / 16) as u8, (y / 16) as u8, (y % 16 * 16 + x % 16) as u8])
            .collect();
        Picture::from_rgb(width, height, rgb).unwrap()
    }

    #[test]
    fn rows_follow_the_2x2_block_order() {
        let prepared = prepare_image(&chart(96, 64), &config(), None).unwrap();
        assert_eq!(prepared.grid(), Grid { t: 1, h: 4, w: 6 });
        assert_eq!(prepared.num_tokens(), 6);
        let bytes = prepared.pixel_bytes(0..24);
        let order = bytes.chunks_exact(1536).map(|row| (row[512], row[0])).collect::<Vec<_>>();
        let want = [
            [(0, 0), (0, 1), (1, 0), (1, 1)],
            [(0, 2), (0, 3), (1, 2), (1, 3)],
            [(0, 4), (0, 5), (1, 4), (1, 5)],
            [(2, 0), (2, 1), (3, 0), (3, 1)],
            [(2, 2), (2, 3), (3, 2), (3, 3)],
            [(2, 4), (2, 5), (3, 4), (3, 5)],
        ];
        assert_eq!(order, want.concat());
    }

    #[test]
    fn a_row_is_channel_frame_y_x_and_a_still_repeats() {
        let prepared = prepare_image(&chart(64, 64), &config(), None).unwrap();
        let row = prepared.pixel_bytes(5..6);
        assert!(row[..512].iter().all(|&v| v == 3), "red: patch column");
        assert!(row[512..1024].iter().all(|&v| v == 0), "green: patch row");
        let blue = (0..=255).collect::<Vec<u8>>();
        assert_eq!((&row[1024..1280], &row[1280..]), (&blue[..], &blue[..]));
    }

    #[test]
    fn some_rows_are_the_same_as_in_all_rows() {
        let prepared = prepare_image(&chart(96, 64), &config(), None).unwrap();
        let all = prepared.pixel_values(0..24);
        assert_eq!(prepared.pixel_values(7..19), all[7 * 1536..19 * 1536]);
        assert!(all.iter().all(|v| (-1.0..=1.0).contains(v)));
    }

    #[test]
    fn the_key_changes_with_content_and_size_only() {
        let key = |picture: &Picture, max| {
            *prepare_image(picture, &PreprocessorConfig { max_pixels: max, ..config() }, None).unwrap().key()
        };
        let chart_key = key(&chart(96, 64), 1 << 20);
        assert_eq!(chart_key, key(&chart(96, 64), 1 << 19));
        assert_ne!(chart_key, key(&chart(96, 64), 2048));
        assert_ne!(chart_key, key(&chart(64, 96), 1 << 20));
    }

    #[test]
    fn a_token_range_overrides_the_limits() {
        let range = TokenRange { min_tokens: 20, max_tokens: 30 };
        let prepared = prepare_image(&chart(96, 64), &config(), Some(range)).unwrap();
        assert!((20..=30).contains(&prepared.num_tokens()), "{prepared:?}");
    }
}
