//! Room `model`: where each token of a prompt stands, as M-RoPE has it: `(t, h, w)` per token
//! (`get_rope_index` of transformers). Pure arithmetic.

use crate::error::{Error, ErrorKind, Result};
use crate::model::picture::Grid;

const DOING: &str = "placing the prompt's tokens";

/// A run of tokens of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// So many tokens of text (all that is not a pad).
    Text(usize),
    /// The pads of one picture or of temporal patches of a clip; the grid counts patches.
    Vision(Grid),
}

/// The places of a sequence's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// `(t, h, w)` of each token, `[tokens]`.
    pub thw: Vec<[u32; 3]>,
    /// The next token, at sequence index `p`, has `t = h = w = p + rope_delta`. Never above 0.
    pub rope_delta: i64,
}

impl Positions {
    /// Walks runs of tokens; `merge_size` patches make the side of a token.
    ///
    /// # Errors
    /// When a grid is empty or does not divide by `merge_size`, or the sequence is too long to number.
    pub fn from_spans(spans: &[Span], merge_size: usize) -> Result<Self> {
        let mut walk = Walk::default();
        for span in spans {
            match *span {
                Span::Text(n) => walk.text(n)?,
                Span::Vision(grid) => walk.vision(grid, merge_size)?,
            }
        }
        walk.finish()
    }

    /// The places of `ids`, whose pads belong to `images` and `videos` in order of occurrence. A clip's
    /// temporal patches may have text between them.
    ///
    /// # Errors
    /// When the pads are not as many as the grids make, and as [`Positions::from_spans`].
    pub fn from_ids(
        ids: &[u32],
        (image_pad, images): (u32, &[Grid]),
        (video_pad, videos): (u32, &[Grid]),
        merge_size: usize,
    ) -> Result<Self> {
        let mut spans = Vec::new();
        let mut images = images.iter().copied();
        let mut videos = videos.iter().flat_map(|grid| (0..grid.t).map(|_| Grid { t: 1, ..*grid }));
        let mut at = 0;
        while let Some(&id) = ids.get(at) {
            let grid = if id == image_pad {
                images.next().ok_or_else(|| mismatch("<|image_pad|>", "no picture is left for it", at))?
            } else if id == video_pad {
                videos.next().ok_or_else(|| mismatch("<|video_pad|>", "no frame is left for it", at))?
            } else {
                match spans.last_mut() {
                    Some(Span::Text(n)) => *n += 1,
                    _ => spans.push(Span::Text(1)),
                }
                at += 1;
                continue;
            };
            let count = tokens(grid, merge_size)?;
            let run = ids[at..].iter().take(count).take_while(|&&other| other == id).count();
            if run != count {
                let what = format!("{run} pads, and a grid of {:?} makes {count}", grid.thw());
                return Err(mismatch("a run of pads", &what, at));
            }
            spans.push(Span::Vision(grid));
            at += count;
        }
        let left = images.count() + videos.count();
        if left > 0 {
            return Err(Error::new(DOING, format!("{left} grid(s) have no pads in the prompt")));
        }
        Self::from_spans(&spans, merge_size)
    }

    /// Tokens placed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.thw.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.thw.is_empty()
    }
}

/// Merged tokens of a grid.
///
/// # Errors
/// When the grid is empty or does not divide by `merge_size`.
pub fn tokens(grid: Grid, merge_size: usize) -> Result<usize> {
    let divides = |side: u32| side > 0 && merge_size > 0 && (side as usize).is_multiple_of(merge_size);
    if grid.t == 0 || !divides(grid.h) || !divides(grid.w) {
        return Err(Error::new(DOING, format!("a grid of {:?} patches has no whole tokens", grid.thw())));
    }
    Ok(grid.num_patches() / (merge_size * merge_size))
}

fn mismatch(what: &str, why: &str, at: usize) -> Error {
    Error::new(DOING, why)
        .at(format!("{what} at token {at}"))
        .help("pictures and placeholders must match one to one")
}

#[derive(Default)]
struct Walk {
    thw: Vec<[u32; 3]>,
    next: u32,
}

impl Walk {
    fn text(&mut self, n: usize) -> Result<()> {
        let end = self.advance(n)?;
        self.thw.extend((self.next..end).map(|p| [p; 3]));
        self.next = end;
        Ok(())
    }

    fn vision(&mut self, grid: Grid, merge_size: usize) -> Result<()> {
        tokens(grid, merge_size)?;
        let (rows, columns) = (grid.h as usize / merge_size, grid.w as usize / merge_size);
        for _ in 0..grid.t {
            // Time does not advance inside a frame; after it the text goes on behind its longer side.
            let end = self.advance(rows.max(columns))?;
            let at = self.next;
            // Both sides are at most the longer one, which `advance` has checked to fit.
            for h in (at..end).take(rows) {
                self.thw.extend((at..end).take(columns).map(|w| [at, h, w]));
            }
            self.next = end;
        }
        Ok(())
    }

    fn advance(&self, by: usize) -> Result<u32> {
        u32::try_from(by)
            .ok()
            .and_then(|by| self.next.checked_add(by))
            .ok_or_else(|| Error::new(DOING, "the prompt is too long").kind(ErrorKind::DoesNotFit))
    }

    fn finish(self) -> Result<Positions> {
        let len = i64::try_from(self.thw.len())
            .map_err(|_| Error::new(DOING, "the prompt is too long").kind(ErrorKind::DoesNotFit))?;
        // `next` is one more than the largest place, or 0 without tokens.
        Ok(Positions { rope_delta: i64::from(self.next) - len, thw: self.thw })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(t: u32, h: u32, w: u32) -> Grid {
        Grid { t, h, w }
    }

    #[test]
    fn text_counts_up_on_all_three_axes() {
        let p = Positions::from_spans(&[Span::Text(3)], 2).unwrap();
        assert_eq!((p.thw, p.rope_delta), (vec![[0; 3], [1; 3], [2; 3]], 0));
        assert_eq!(Positions::from_spans(&[], 2).unwrap(), Positions::default());
    }

    #[test]
    fn a_picture_has_one_time_and_its_own_rows_and_columns() {
        let p =
            Positions::from_spans(&[Span::Text(2), Span::Vision(grid(1, 4, 6)), Span::Text(1)], 2).unwrap();
        let want = [[0; 3], [1; 3], [2, 2, 2], [2, 2, 3], [2, 2, 4], [2, 3, 2], [2, 3, 3], [2, 3, 4], [5; 3]];
        assert_eq!(p.thw, want);
        assert_eq!(p.rope_delta, 6 - 9);
    }

    #[test]
    fn a_clip_is_a_row_of_frames_with_text_between() {
        let (image, video) = (7, 8);
        let ids = [1, video, video, 2, video, video, 3, image];
        let p = Positions::from_ids(&ids, (image, &[grid(1, 2, 2)]), (video, &[grid(2, 2, 4)]), 2).unwrap();
        let spans = [
            Span::Text(1),
            Span::Vision(grid(1, 2, 4)),
            Span::Text(1),
            Span::Vision(grid(1, 2, 4)),
            Span::Text(1),
            Span::Vision(grid(1, 2, 2)),
        ];
        assert_eq!(p, Positions::from_spans(&spans, 2).unwrap());
        assert_eq!(p.thw[4..6], [[4, 4, 4], [4, 4, 5]]);
        // Without text between, the temporal patches follow one another.
        let together = Positions::from_spans(&[Span::Vision(grid(2, 2, 4))], 2).unwrap();
        assert_eq!(together.thw, [[0, 0, 0], [0, 0, 1], [2, 2, 2], [2, 2, 3]]);
    }

    #[test]
    fn pads_and_grids_must_match() {
        let said = |ids: &[u32], images: &[Grid]| {
            Positions::from_ids(ids, (7, images), (8, &[]), 2).unwrap_err().to_string()
        };
        assert!(said(&[1, 7], &[]).contains("no picture is left"));
        assert!(said(&[1, 7, 7, 1], &[grid(1, 4, 4)]).contains("2 pads"));
        assert!(said(&[1], &[grid(1, 4, 4)]).contains("have no pads"));
        assert!(said(&[8], &[]).contains("no frame"));
        assert!(said(&[7], &[grid(1, 3, 2)]).contains("no whole tokens"));
    }

    #[test]
    fn a_length_past_the_numbers_is_an_error() {
        let e =
            Positions::from_spans(&[Span::Vision(grid(1, 2, u32::MAX - 1)), Span::Text(usize::MAX)], 1 << 30);
        assert!(e.is_err());
    }
}
