//! Room `model`, pictures: the bicubic resize of the reference processor, bit for bit.
//!
//! torchvision's uint8 path: separable, antialiased, a = −0.5, the horizontal pass first, integer
//! weights, rounded and clamped to 8 bits after each pass; a pass that changes no size is skipped.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the recipe truncates where it says so; sides are below 2^24"
)]

use std::borrow::Cow;

/// Source pixels × taps below which one thread is quicker than several.
const WORTH_THREADS: usize = 1 << 21;

/// Resizes row-major RGB of `width` × `height` pixels to `to_width` × `to_height`.
///
/// # Panics
/// When a side is 0 or `rgb` is not `width * height * 3` bytes long: a caller's bug, for
/// [`super::Picture`] holds neither.
#[must_use]
pub fn resize_bicubic(rgb: &[u8], (width, height): (u32, u32), (to_width, to_height): (u32, u32)) -> Vec<u8> {
    let [width, height, to_width, to_height] = [width, height, to_width, to_height].map(|side| side as usize);
    assert!(rgb.len() == width * height * 3 && width * height * to_width * to_height > 0, "an empty picture");
    let mut picture = Cow::Borrowed(rgb);
    if to_width != width {
        let axis = Axis::new(width, to_width);
        let mut out = vec![0; to_width * height * 3];
        parallel_rows(&mut out, to_width * 3, height * to_width * axis.width, |y, row| {
            horizontal(&axis, &picture[y * width * 3..][..width * 3], row);
        });
        picture = Cow::Owned(out);
    }
    if to_height != height {
        let axis = Axis::new(height, to_height);
        let mut out = vec![0; to_width * to_height * 3];
        parallel_rows(&mut out, to_width * 3, to_height * to_width * axis.width, |y, row| {
            vertical(&axis, y, &picture, row);
        });
        picture = Cow::Owned(out);
    }
    picture.into_owned()
}

/// The integer weights of one axis.
struct Axis {
    /// First source index and number of taps of each output index.
    spans: Vec<(usize, usize)>,
    /// `[out, width]`, zero after the taps of an index.
    weights: Vec<i32>,
    /// Most taps an output index has.
    width: usize,
    /// Weights are fixed-point numbers with so many bits after the point.
    precision: u32,
}

impl Axis {
    fn new(n_in: usize, n_out: usize) -> Self {
        let scale = n_in as f64 / n_out as f64;
        let stretch = scale.max(1.0);
        let support = 2.0 * stretch;
        let width = support.ceil() as usize * 2 + 1;
        let mut spans = Vec::with_capacity(n_out);
        let mut taps = vec![0.0_f64; n_out * width];
        let mut largest = 0.0_f64;
        for (i, k) in taps.chunks_exact_mut(width).enumerate() {
            let centre = scale * (i as f64 + 0.5);
            let low = (centre - support + 0.5).max(0.0) as usize;
            let high = ((centre + support + 0.5) as usize).min(n_in);
            let k = &mut k[..high - low];
            for (j, k) in k.iter_mut().enumerate() {
                *k = cubic(((low + j) as f64 - centre + 0.5) / stretch);
            }
            let sum: f64 = k.iter().sum();
            for k in k {
                *k /= sum;
                largest = largest.max(*k);
            }
            spans.push((low, high - low));
        }
        // The largest precision up to 22 bits with which every weight fits 16 bits.
        let fits = |p: &u32| ((0.5 + largest * f64::from(1_u32 << (p + 1))) as i64) < 1 << 15;
        let precision = (0..22).find(|p| !fits(p)).unwrap_or(22);
        let one = f64::from(1_u32 << precision);
        let weights = taps.iter().map(|k| (k * one + 0.5_f64.copysign(*k)).trunc() as i32).collect();
        Self { spans, weights, width, precision }
    }

    fn taps(&self, i: usize) -> (usize, &[i32]) {
        let (low, n) = self.spans[i];
        (low, &self.weights[i * self.width..][..n])
    }

    fn round(&self, sum: i32) -> u8 {
        ((sum + self.half()) >> self.precision).clamp(0, 255) as u8
    }

    fn half(&self) -> i32 {
        if self.precision == 0 { 0 } else { 1 << (self.precision - 1) }
    }
}

/// Keys' cubic kernel with a = −0.5.
fn cubic(t: f64) -> f64 {
    const A: f64 = -0.5;
    let t = t.abs();
    if t < 1.0 {
        ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0
    } else if t < 2.0 {
        ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A
    } else {
        0.0
    }
}

fn horizontal(axis: &Axis, from: &[u8], to: &mut [u8]) {
    for (i, out) in to.chunks_exact_mut(3).enumerate() {
        let (low, weights) = axis.taps(i);
        let mut sum = [0_i32; 3];
        for (pixel, &k) in from[low * 3..].chunks_exact(3).zip(weights) {
            sum[0] += k * i32::from(pixel[0]);
            sum[1] += k * i32::from(pixel[1]);
            sum[2] += k * i32::from(pixel[2]);
        }
        out.copy_from_slice(&sum.map(|s| axis.round(s)));
    }
}

/// Output row `y`. Sums run along the rows in strips that stay in the cache.
fn vertical(axis: &Axis, y: usize, from: &[u8], to: &mut [u8]) {
    const STRIP: usize = 1024;
    let stride = to.len();
    let (low, weights) = axis.taps(y);
    let mut sums = [0_i32; STRIP];
    for (strip, out) in to.chunks_mut(STRIP).enumerate() {
        let sums = &mut sums[..out.len()];
        sums.fill(0);
        for (row, &k) in weights.iter().enumerate() {
            let row = &from[(low + row) * stride + strip * STRIP..][..out.len()];
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += k * i32::from(value);
            }
        }
        for (out, &sum) in out.iter_mut().zip(&*sums) {
            *out = axis.round(sum);
        }
    }
}

/// Calls `fill(y, row)` for every row of `out`, on several threads when `work` is large.
fn parallel_rows(out: &mut [u8], row_bytes: usize, work: usize, fill: impl Fn(usize, &mut [u8]) + Sync) {
    let rows = out.len() / row_bytes;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16).min(rows);
    if work < WORTH_THREADS || threads < 2 {
        out.chunks_exact_mut(row_bytes).enumerate().for_each(|(y, row)| fill(y, row));
        return;
    }
    let share = rows.div_ceil(threads);
    std::thread::scope(|scope| {
        for (part, out) in out.chunks_mut(share * row_bytes).enumerate() {
            let fill = &fill;
            scope.spawn(move || {
                out.chunks_exact_mut(row_bytes).enumerate().for_each(|(y, row)| fill(part * share + y, row));
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize) -> Vec<u8> {
        let mut state = 12345_u32;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        std::iter::repeat_with(next).take(n).collect()
    }

    #[test]
    fn an_unchanged_size_changes_nothing() {
        let rgb = noise(7 * 5 * 3);
        assert_eq!(resize_bicubic(&rgb, (7, 5), (7, 5)), rgb);
    }

    #[test]
    fn a_flat_picture_stays_flat() {
        let out = resize_bicubic(&[77; 180], (10, 6), (32, 64));
        assert!(out.iter().all(|&v| v == 77));
        let out = resize_bicubic(&vec![255; 18_000], (100, 60), (32, 32));
        assert!(out.iter().all(|&v| v == 255));
    }

    #[test]
    fn threads_make_no_difference() {
        let (w, h) = (1500, 900);
        let rgb = noise(w * h * 3);
        let (w, h) = (w as u32, h as u32);
        let whole = resize_bicubic(&rgb, (w, h), (640, 1000));
        let axis = Axis::new(w as usize, 640);
        let mut wide = vec![0; 640 * 900 * 3];
        for y in 0..900 {
            horizontal(&axis, &rgb[y * 4500..][..4500], &mut wide[y * 1920..][..1920]);
        }
        let axis = Axis::new(900, 1000);
        let mut one = vec![0; 640 * 1000 * 3];
        one.chunks_exact_mut(1920).enumerate().for_each(|(y, row)| vertical(&axis, y, &wide, row));
        assert_eq!(whole, one);
    }

    #[test]
    fn a_small_picture_matches_torchvision() {
        // torchvision 0.24.1, resize((4, 6), BICUBIC, antialias=True) of [[0, 40, 80], [255, 9, 200]] in grey.
        let rgb = [0, 40, 80, 255, 9, 200].iter().flat_map(|&v| [v; 3]).collect::<Vec<_>>();
        let out = resize_bicubic(&rgb, (3, 2), (6, 4));
        let grey = out.chunks_exact(3).map(|p| p[0]).collect::<Vec<_>>();
        assert_eq!(grey, TORCHVISION);
    }

    #[rustfmt::skip]
    const TORCHVISION: [u8; 24] = [
        0, 0, 26, 54, 65, 72,
        53, 48, 33, 48, 91, 112,
        202, 163, 45, 38, 140, 189,
        255, 221, 52, 32, 166, 229,
    ];
}
