//! Room `model`, pictures: files and bytes become [`Picture`]s (8-bit RGB, upright), pictures become
//! [`PreparedPicture`]s (resized, in patches) for the vision tower. Pure CPU; touches no GPU.
//!
//! `decode` reads the formats, `resize` is the processor's bicubic, `prepare` cuts patches.

mod decode;
mod prepare;
mod resize;

pub use decode::{FileKind, MAX_FILE_BYTES, MAX_PIXELS, check_file, file_kind, read_file};
pub(in crate::model) use decode::{
    Header, drop_alpha, guarded, limits, limits_of, recognise, too_many_pixels,
};
pub use prepare::{Grid, PreparedPicture, VisionKind, prepare_image};
pub(in crate::model) use prepare::{Resized, resized};
pub use resize::resize_bicubic;

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::Path;

/// A decoded picture: upright, 8-bit RGB without alpha, never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
    content_hash: [u8; 32],
}

impl Picture {
    /// Reads a PNG, JPEG, WebP, GIF, BMP or TIFF file (of an animation: its first frame). What it is is
    /// told from its content, not from its name.
    ///
    /// # Errors
    /// When the file cannot be read, is too large, or is not such a picture.
    pub fn from_path(path: &Path) -> Result<Self> {
        Self::from_bytes(&read_file(path)?, &path.display().to_string())
    }

    /// As [`Picture::from_path`], for a file already in memory. `name` is what errors call it.
    ///
    /// # Errors
    /// When the bytes are not such a picture, or it has more than [`MAX_PIXELS`] pixels.
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Self> {
        let (width, height, rgb) = decode::decode(bytes, name)?;
        Self::from_rgb(width, height, rgb)
    }

    /// A picture from its pixels: row-major RGB, `width * height * 3` bytes.
    ///
    /// # Errors
    /// When it is empty, has more than [`MAX_PIXELS`] pixels, or the number of bytes does not fit.
    pub fn from_rgb(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self> {
        const DOING: &str = "taking a picture's pixels";
        if width == 0 || height == 0 {
            return Err(Error::new(DOING, format!("{width}x{height} pixels are no picture")));
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > MAX_PIXELS {
            return Err(too_many_pixels(width, height));
        }
        if rgb.len() as u64 != pixels * 3 {
            return Err(Error::new(
                DOING,
                format!("{} bytes are not the {width}x{height}x3 of the picture", rgb.len()),
            ));
        }
        let mut hash = Sha256::new();
        hash.update(width.to_le_bytes());
        hash.update(height.to_le_bytes());
        hash.update(&rgb);
        Ok(Self { width, height, rgb, content_hash: hash.finalize().into() })
    }

    /// Pixels in a row.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels, `[height, width, 3]`, row-major.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// SHA-256 of width, height (little-endian u32) and pixels: equal for equal pictures, whatever
    /// file they came from.
    #[must_use]
    pub fn content_hash(&self) -> &[u8; 32] {
        &self.content_hash
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = &self.content_hash;
        let short = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
        write!(f, "Picture {}x{} {short:08x}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_must_fit_the_size() {
        assert!(Picture::from_rgb(2, 2, vec![0; 12]).is_ok());
        assert!(Picture::from_rgb(2, 2, vec![0; 11]).unwrap_err().to_string().contains("11 bytes"));
        assert!(Picture::from_rgb(0, 2, vec![]).is_err());
        assert!(Picture::from_rgb(1 << 20, 1 << 20, vec![]).unwrap_err().to_string().contains("megapixels"));
    }

    #[test]
    fn the_content_hash_tells_pixels_and_shapes_apart() {
        let hash = |w, h, rgb| *Picture::from_rgb(w, h, rgb).unwrap().content_hash();
        let a = hash(2, 1, vec![1, 2, 3, 4, 5, 6]);
        assert_eq!(a, hash(2, 1, vec![1, 2, 3, 4, 5, 6]));
        assert_ne!(a, hash(1, 2, vec![1, 2, 3, 4, 5, 6]));
        assert_ne!(a, hash(2, 1, vec![1, 2, 3, 4, 5, 7]));
    }
}
