//! Room `model`: what a checkpoint's preprocessor files say about pictures and clips, and the size a
//! picture is resized to (`smart_resize`). Reads the model's folder; touches no pixel and no GPU.

use crate::bounded;
use crate::error::{Error, Result};
use crate::model::builtin;
use crate::model::config::{MAX_VALUES, VisionConfig};
use serde_json::{Map, Value};
use std::path::Path;

/// A preprocessor file larger than this is not one.
const MAX_FILE_BYTES: u64 = 1 << 20;
const DOING: &str = "reading the preprocessor settings";
const FROM_THE_MODEL: &str = "take the file from the model's own page";
/// Most pixels after resizing, all frames together: half a million image tokens, twice the longest context.
const MAX_RESIZED_PIXELS: f64 = (1_u32 << 29) as f64;

/// How many image tokens a picture (or a whole clip) may take, chosen by the user instead of the
/// checkpoint's own limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct TokenRange {
    /// Fewest image tokens; small pictures are enlarged to reach it.
    pub min_tokens: u32,
    /// Most image tokens; large pictures are shrunk to stay below it.
    pub max_tokens: u32,
}

/// How pixels become patches. Mean and standard deviation are always 0.5 (checked on reading).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PreprocessorConfig {
    /// Side of a patch, in pixels.
    pub patch_size: u32,
    /// Frames in a patch.
    pub temporal_patch_size: u32,
    /// Patches on the side of a merged token.
    pub merge_size: u32,
    /// Smallest area after resizing, in pixels (for a clip: of all its frames together).
    pub min_pixels: u64,
    /// Largest area after resizing, in pixels (for a clip: of all its frames together).
    pub max_pixels: u64,
}

/// [`PreprocessorConfig`] of clips, and how frames are chosen from an animation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VideoPreprocessorConfig {
    /// Patch sizes and the area limits of a whole clip.
    pub pixels: PreprocessorConfig,
    /// Which frames of an animation are looked at.
    pub sampling: FrameSampling,
}

/// Which frames of an animation are looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameSampling {
    /// Frames looked at per second.
    pub fps: f64,
    /// Fewest frames, where the animation has that many.
    pub min_frames: usize,
    /// Most frames.
    pub max_frames: usize,
}

impl Default for FrameSampling {
    /// The values of `Qwen3VLVideoProcessor`, which the hub's files leave out.
    fn default() -> Self {
        Self { fps: 2.0, min_frames: 4, max_frames: 768 }
    }
}

/// Both preprocessors of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocessors {
    /// For pictures.
    pub image: PreprocessorConfig,
    /// For clips; `None` where the folder says nothing of them.
    pub video: Option<VideoPreprocessorConfig>,
}

impl Preprocessors {
    /// Reads `preprocessor_config.json` and `video_preprocessor_config.json`, or the
    /// `processor_config.json` of transformers 5 that nests both (which then comes first, as there).
    ///
    /// # Errors
    /// When the image settings are missing, a file is malformed, or it asks for a preprocessing that is
    /// not Qwen3-VL's. A missing value is never replaced by a default, except the frame sampling.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let both = read_object(folder, "processor_config.json")?;
        let part = |key: &str| both.as_ref().and_then(|o| o.get(key)).and_then(Value::as_object).cloned();
        let settings = |key: &str, name: &str| -> Result<Option<(Map<String, Value>, String)>> {
            if let Some(nested) = part(key) {
                return Ok(Some((nested, format!("processor_config.json ({key})"))));
            }
            Ok(read_object(folder, name)?.map(|o| (o, name.to_owned())))
        };

        let (image, name) = settings("image_processor", "preprocessor_config.json")?.ok_or_else(|| {
            Error::new(DOING, "there is neither preprocessor_config.json nor processor_config.json")
                .at_path(folder)
                .help("the folder is not a complete Qwen3-VL checkpoint; download or convert it again")
        })?;
        let image = Settings { object: &image, name: &name, folder }.image()?;
        let video = match settings("video_processor", "video_preprocessor_config.json")? {
            Some((video, name)) => Some(Settings { object: &video, name: &name, folder }.video()?),
            None => None,
        };
        Ok(Self { image, video })
    }

    /// The settings for clips.
    ///
    /// # Errors
    /// When the checkpoint has none.
    pub fn video(&self) -> Result<&VideoPreprocessorConfig> {
        self.video.as_ref().ok_or_else(|| {
            Error::new("preparing a clip", "the model's folder has no video_preprocessor_config.json")
                .help("add the file from the model's page, or send the frames as pictures")
        })
    }
}

impl Preprocessors {
    /// Whether both cut pixels into the patches that the model's vision tower reads.
    ///
    /// # Errors
    /// When one does not; the error names the first setting that differs.
    pub fn check(&self, vision: &VisionConfig) -> Result<()> {
        let video = self.video.map(|video| ("clips", video.pixels));
        for (what, config) in std::iter::once(("pictures", self.image)).chain(video) {
            for (key, ours, towers) in [
                ("patch_size", config.patch_size, vision.patch_size),
                ("temporal_patch_size", config.temporal_patch_size, vision.temporal_patch_size),
                ("merge_size", config.merge_size, vision.spatial_merge_size),
            ] {
                if ours as usize != towers {
                    let why = format!("{key} of {what} is {ours}, and config.json asks for {towers}");
                    return Err(Error::new(DOING, why).help(FROM_THE_MODEL));
                }
            }
        }
        Ok(())
    }
}

impl PreprocessorConfig {
    /// The multiple that both sides are rounded to, in pixels: the side of one merged token.
    #[must_use]
    pub fn factor(&self) -> u32 {
        self.patch_size * self.merge_size
    }

    /// The same with the area limits of `range`. A clip's token covers `temporal_patch_size` frames, so
    /// for clips pass `temporal_patch_size`, for pictures 1.
    ///
    /// # Errors
    /// When the range is empty or starts at 0.
    pub fn with_tokens(mut self, range: TokenRange, frames_per_token: u32) -> Result<Self> {
        if range.min_tokens == 0 || range.min_tokens > range.max_tokens {
            return Err(Error::new(
                "limiting image tokens",
                format!("{} to {} is not a range of tokens", range.min_tokens, range.max_tokens),
            )
            .help("give at least 1, and no more for the minimum than for the maximum"));
        }
        let area = u64::from(self.factor()).pow(2) * u64::from(frames_per_token);
        self.min_pixels = u64::from(range.min_tokens) * area;
        self.max_pixels = u64::from(range.max_tokens) * area;
        Ok(self)
    }

    /// Image tokens of a picture of this size, within the limits of `range` where one is given; `None`: it is refused.
    #[must_use]
    pub fn image_tokens(self, range: Option<TokenRange>, width: u32, height: u32) -> Option<usize> {
        let config = range.map_or(Ok(self), |range| self.with_tokens(range, 1)).ok()?;
        let (height, width) = config.image_size(height, width).ok()?;
        Some((height / config.factor()) as usize * (width / config.factor()) as usize)
    }

    /// [`smart_resize`] of a picture of `height` × `width` pixels.
    ///
    /// # Errors
    /// As [`smart_resize`].
    pub fn image_size(&self, height: u32, width: u32) -> Result<(u32, u32)> {
        smart_resize(height, width, self.factor(), self.min_pixels, self.max_pixels)
    }

    /// [`smart_resize_video`] of `frames` frames of `height` × `width` pixels.
    ///
    /// # Errors
    /// As [`smart_resize_video`].
    pub fn video_size(&self, frames: usize, height: u32, width: u32) -> Result<(u32, u32)> {
        smart_resize_video(frames, height, width, self)
    }
}

/// The size `(height, width)` in pixels that a picture is resized to: multiples of `factor`, the aspect
/// ratio about kept, the area between `min_pixels` and `max_pixels`:
/// `transformers/models/qwen2_vl/image_processing_qwen2_vl.py`. Half-even rounding, as Python's `round`.
///
/// # Errors
/// When a side is 0 or one is more than 200 times the other.
pub fn smart_resize(
    height: u32,
    width: u32,
    factor: u32,
    min_pixels: u64,
    max_pixels: u64,
) -> Result<(u32, u32)> {
    check_shape("resizing a picture", f64::from(height), f64::from(width))?;
    fit(
        f64::from(height),
        f64::from(width),
        Fit { factor, frames: 1.0, frames_rounded: 1.0, min_pixels, max_pixels },
    )
}

/// The size `(height, width)` in pixels that every frame of a clip is resized to. As [`smart_resize`],
/// but the limits hold for all `frames` together, rounded to whole temporal patches:
/// `transformers/models/qwen3_vl/video_processing_qwen3_vl.py` (without `cap_pixels_per_frame`).
///
/// # Errors
/// When there are fewer frames than a temporal patch has, a side is 0, or one is more than 200 times the other.
pub fn smart_resize_video(
    frames: usize,
    height: u32,
    width: u32,
    config: &PreprocessorConfig,
) -> Result<(u32, u32)> {
    const DOING: &str = "resizing a clip";
    let frames_u32 = u32::try_from(frames).map_err(|_| Error::new(DOING, "it has too many frames"))?;
    if frames_u32 < config.temporal_patch_size {
        return Err(Error::new(
            DOING,
            format!(
                "it has {frames} frame(s), and the model looks at {} at a time",
                config.temporal_patch_size
            ),
        )
        .help("give more frames, or send a single frame as a picture"));
    }
    let factor = f64::from(config.factor());
    let (mut h, mut w) = (f64::from(height), f64::from(width));
    if height == 0 || width == 0 {
        return Err(Error::new(DOING, format!("a frame of {width}x{height} pixels is empty")));
    }
    if h < factor || w < factor {
        let scale = (factor / h).max(factor / w);
        (h, w) = ((h * scale).trunc(), (w * scale).trunc());
    }
    check_shape(DOING, h, w)?;
    let step = f64::from(config.temporal_patch_size);
    let frames = f64::from(frames_u32);
    let frames_rounded = (frames / step).round_ties_even() * step;
    let (min_pixels, max_pixels) = (config.min_pixels, config.max_pixels);
    fit(h, w, Fit { factor: config.factor(), frames, frames_rounded, min_pixels, max_pixels })
}

/// What both `smart_resize`s hand to [`fit`]. A picture counts as one frame.
#[derive(Clone, Copy)]
struct Fit {
    factor: u32,
    /// Frames as they are, for the scale.
    frames: f64,
    /// Frames in whole temporal patches, for the comparison with the limits.
    frames_rounded: f64,
    min_pixels: u64,
    max_pixels: u64,
}

fn fit(h: f64, w: f64, to: Fit) -> Result<(u32, u32)> {
    let factor = f64::from(to.factor);
    #[expect(clippy::cast_precision_loss, reason = "areas are far below 2^53")]
    let (min, max) = (to.min_pixels as f64, to.max_pixels as f64);
    let round = |side: f64| (side / factor).round_ties_even() * factor;
    let (mut height, mut width) = (round(h), round(w));
    let area = to.frames_rounded * height * width;
    if area > max {
        let beta = (to.frames * h * w / max).sqrt();
        let shrink = |side: f64| ((side / beta / factor).floor() * factor).max(factor);
        (height, width) = (shrink(h), shrink(w));
    } else if area < min {
        let beta = (min / (to.frames * h * w)).sqrt();
        let enlarge = |side: f64| (side * beta / factor).ceil() * factor;
        (height, width) = (enlarge(h), enlarge(w));
    }
    // Whatever the limits: a size the picture code cannot hold is an error, not a wrapped number or all the memory.
    let fits = to.frames_rounded * height * width <= MAX_RESIZED_PIXELS;
    let side = |side: f64| {
        if fits && (1.0..=f64::from(1_u32 << 24)).contains(&side) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just above")]
            Ok(side as u32)
        } else {
            Err(Error::new("resizing a picture", format!("{w}x{h} pixels would become {width}x{height}"))
                .help("choose other limits for the image tokens"))
        }
    };
    Ok((side(height)?, side(width)?))
}

fn check_shape(doing: &str, height: f64, width: f64) -> Result<()> {
    let (long, short) = (height.max(width), height.min(width));
    if short < 1.0 {
        return Err(Error::new(doing, format!("{width}x{height} pixels are no picture")));
    }
    if long / short > 200.0 {
        return Err(Error::new(
            doing,
            format!("{width}x{height} pixels: one side is more than 200 times the other"),
        )
        .help("crop it"));
    }
    Ok(())
}

/// One preprocessor's JSON object, with the names for its errors.
struct Settings<'a> {
    object: &'a Map<String, Value>,
    name: &'a str,
    folder: &'a Path,
}

impl Settings<'_> {
    fn image(&self) -> Result<PreprocessorConfig> {
        let size = self.object.get("size").and_then(Value::as_object);
        // Explicit limits override `size` (transformers keeps them for old files).
        let min = self.number(self.object, "min_pixels")?.or(self.edge(size, "shortest_edge")?);
        let max = self.number(self.object, "max_pixels")?.or(self.edge(size, "longest_edge")?);
        self.config(min, max)
    }

    fn video(&self) -> Result<VideoPreprocessorConfig> {
        let size = self.object.get("size").and_then(Value::as_object);
        let min = self.edge(size, "shortest_edge")?.or(self.number(self.object, "min_pixels")?);
        let max = self.edge(size, "longest_edge")?.or(self.number(self.object, "max_pixels")?);
        let pixels = self.config(min, max)?;

        let mut sampling = FrameSampling::default();
        match self.object.get("fps") {
            None | Some(Value::Null) => {}
            Some(fps) => {
                sampling.fps = fps
                    .as_f64()
                    .filter(|f| *f > 0.0 && f.is_finite())
                    .ok_or_else(|| self.error(format!("fps is {fps}, not a rate")))?;
            }
        }
        let frames = |key: &str, default: usize| -> Result<usize> {
            match self.number(self.object, key)? {
                None => Ok(default),
                Some(n) => usize::try_from(n)
                    .ok()
                    .filter(|n| (1..=1_000_000).contains(n))
                    .ok_or_else(|| self.error(format!("{key} is {n}, not a number of frames"))),
            }
        };
        sampling.min_frames = frames("min_frames", sampling.min_frames)?;
        sampling.max_frames = frames("max_frames", sampling.max_frames)?;
        if sampling.min_frames > sampling.max_frames {
            return Err(self.error("min_frames is above max_frames"));
        }
        Ok(VideoPreprocessorConfig { pixels, sampling })
    }

    fn config(&self, min: Option<u64>, max: Option<u64>) -> Result<PreprocessorConfig> {
        let needed =
            |key: &str, value: Option<u64>| value.ok_or_else(|| self.error(format!("{key} is missing")));
        let min_pixels = needed("size.shortest_edge", min)?;
        let max_pixels = needed("size.longest_edge", max)?;
        if min_pixels == 0 || min_pixels > max_pixels || max_pixels > 1 << 40 {
            return Err(self.error(format!("{min_pixels} to {max_pixels} is not a range of pixels")));
        }
        let side = |key: &str, limit: u32| -> Result<u32> {
            let n = needed(key, self.number(self.object, key)?)?;
            u32::try_from(n)
                .ok()
                .filter(|n| (1..=limit).contains(n))
                .ok_or_else(|| self.error(format!("{key} is {n}; 1 to {limit} are possible")))
        };
        let temporal_patch_size = side("temporal_patch_size", 16)?;
        if temporal_patch_size != 2 {
            return Err(
                self.error(format!("temporal_patch_size is {temporal_patch_size}, and Qwen3-VL's is 2"))
            );
        }
        let config = PreprocessorConfig {
            patch_size: side("patch_size", 256)?,
            temporal_patch_size,
            merge_size: side("merge_size", 16)?,
            min_pixels,
            max_pixels,
        };
        for key in ["image_mean", "image_std"] {
            let value = self.object.get(key).unwrap_or(&Value::Null);
            let half =
                value.as_array().is_some_and(|a| a.len() == 3 && a.iter().all(|v| v.as_f64() == Some(0.5)));
            if !half {
                return Err(self.error(format!("{key} is {value}, and Qwen3-VL's is [0.5, 0.5, 0.5]")));
            }
        }
        for key in ["do_resize", "do_rescale", "do_normalize"] {
            if self.object.get(key) == Some(&Value::Bool(false)) {
                return Err(self.error(format!("{key} is false, which Qwen3-VL's pictures are not made for")));
            }
        }
        if let Some(resample) = self.number(self.object, "resample")?
            && resample != 3
        {
            return Err(self.error(format!("resample is {resample}; only bicubic (3) is supported")));
        }
        if let Some(factor) = self.object.get("rescale_factor").and_then(Value::as_f64)
            && (factor * 255.0 - 1.0).abs() > 1e-6
        {
            return Err(self.error(format!("rescale_factor is {factor}; only 1/255 is supported")));
        }
        Ok(config)
    }

    fn edge(&self, size: Option<&Map<String, Value>>, key: &str) -> Result<Option<u64>> {
        size.map_or(Ok(None), |size| self.number(size, key))
    }

    fn number(&self, object: &Map<String, Value>, key: &str) -> Result<Option<u64>> {
        match object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(n) => Ok(Some(n)),
                None => Err(self.error(format!("{key} is {value}, not a whole number"))),
            },
        }
    }

    fn error(&self, cause: impl std::fmt::Display) -> Error {
        Error::new(DOING, cause).at(self.name).at_path(self.folder).help(FROM_THE_MODEL)
    }
}

/// The JSON object in a small file of the folder; `None` where there is no such file.
fn read_object(folder: &Path, name: &str) -> Result<Option<Map<String, Value>>> {
    let path = folder.join(name);
    let fail = |cause: &dyn std::fmt::Display| Error::new(DOING, cause).at_path(&path).help(FROM_THE_MODEL);
    match builtin::facts(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(fail(&e)),
        Ok(facts) if !facts.is_file => return Err(fail(&"it is not a file")),
        Ok(facts) if facts.len > MAX_FILE_BYTES => {
            return Err(fail(&format!("{} bytes are too many for a settings file", facts.len)));
        }
        Ok(_) => {}
    }
    let bytes = builtin::read(&path, MAX_FILE_BYTES).map_err(|e| fail(&e))?;
    match bounded::json(&bytes, MAX_VALUES) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => Err(fail(&"it holds no JSON object")),
        Err(e) => Err(fail(&e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUB: &str = r#"{"size": {"longest_edge": 16777216, "shortest_edge": 65536}, "patch_size": 16,
        "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "processor_class": "Qwen3VLProcessor", "image_processor_type": "Qwen2VLImageProcessorFast"}"#;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn hub() -> PreprocessorConfig {
        PreprocessorConfig {
            patch_size: 16,
            temporal_patch_size: 2,
            merge_size: 2,
            min_pixels: 65536,
            max_pixels: 16_777_216,
        }
    }

    #[test]
    fn the_hub_files_are_read() {
        let video = HUB.replace("16777216", "25165824").replace("65536", "4096");
        let dir = folder(&[("preprocessor_config.json", HUB), ("video_preprocessor_config.json", &video)]);
        let both = Preprocessors::from_folder(dir.path()).unwrap();
        assert_eq!(both.image, hub());
        let video = both.video().unwrap();
        assert_eq!((video.pixels.min_pixels, video.pixels.max_pixels), (4096, 25_165_824));
        assert_eq!(video.sampling, FrameSampling::default());
    }

    #[test]
    fn the_nested_file_of_transformers_5_is_read_and_comes_first() {
        let nested = format!(r#"{{"image_processor": {HUB}, "video_processor": {HUB}}}"#);
        let other = HUB.replace("16777216", "70000");
        let dir = folder(&[("processor_config.json", &nested), ("preprocessor_config.json", &other)]);
        let both = Preprocessors::from_folder(dir.path()).unwrap();
        assert_eq!(both.image, hub());
        assert!(both.video.is_some());
    }

    #[test]
    fn explicit_pixel_limits_override_the_size() {
        let text =
            HUB.replace("\"patch_size\"", "\"min_pixels\": 1024, \"max_pixels\": null, \"patch_size\"");
        let dir = folder(&[("preprocessor_config.json", &text)]);
        let image = Preprocessors::from_folder(dir.path()).unwrap().image;
        assert_eq!((image.min_pixels, image.max_pixels), (1024, 16_777_216));
    }

    #[test]
    fn a_wrong_or_missing_setting_is_an_error_that_names_file_and_key() {
        let said = |text: &str| {
            let dir = folder(&[("preprocessor_config.json", text)]);
            Preprocessors::from_folder(dir.path()).unwrap_err().to_string()
        };
        for (from, to, words) in [
            ("\"shortest_edge\"", "\"other\"", "size.shortest_edge is missing"),
            ("\"patch_size\": 16", "\"patch_size\": 0", "patch_size is 0"),
            ("\"patch_size\": 16", "\"patch_size\": \"x\"", "not a whole number"),
            ("\"temporal_patch_size\": 2", "\"temporal_patch_size\": 3", "Qwen3-VL's is 2"),
            ("\"image_mean\": [0.5", "\"image_mean\": [0.48", "image_mean is [0.48"),
            ("\"merge_size\"", "\"do_resize\": false, \"merge_size\"", "do_resize"),
            ("\"merge_size\"", "\"resample\": 2, \"merge_size\"", "only bicubic"),
            ("{\"size\"", "{{\"size\"", "preprocessor_config.json"),
        ] {
            let e = said(&HUB.replace(from, to));
            assert!(e.contains(words) && e.contains("preprocessor_config.json"), "{words}: {e}");
        }
        let dir = folder(&[]);
        assert!(Preprocessors::from_folder(dir.path()).unwrap_err().to_string().contains("neither"));
    }

    #[test]
    fn patches_must_be_those_of_the_tower() {
        let mut vision = crate::model::synth::Preset::Tiny.config().vision;
        let both = |json: &str| {
            let files = [("preprocessor_config.json", HUB), ("video_preprocessor_config.json", json)];
            Preprocessors::from_folder(folder(&files).path()).unwrap()
        };
        both(HUB).check(&vision).unwrap();
        // The same 32 pixels a token, cut differently.
        let odd = HUB
            .replace("\"patch_size\": 16", "\"patch_size\": 8")
            .replace("\"merge_size\": 2", "\"merge_size\": 4");
        let e = both(&odd).check(&vision).unwrap_err().to_string();
        assert!(e.contains("patch_size of clips is 8, and config.json asks for 16 ("), "{e}");
        vision.spatial_merge_size = 4;
        let e = both(HUB).check(&vision).unwrap_err().to_string();
        assert!(e.contains("merge_size of pictures is 2, and config.json asks for 4 ("), "{e}");
    }

    #[test]
    fn a_checkpoint_without_video_settings_refuses_clips() {
        let dir = folder(&[("preprocessor_config.json", HUB)]);
        let both = Preprocessors::from_folder(dir.path()).unwrap();
        assert!(both.video().unwrap_err().to_string().contains("video_preprocessor_config.json"));
    }

    #[test]
    fn sizes_are_those_of_the_reference() {
        // From transformers 5.23 `smart_resize(h, w, 32, 65536, 16777216)`.
        for ((h, w), want) in [
            ((30, 40), (224, 320)),
            ((480, 640), (480, 640)),
            ((48, 5000), (64, 4992)),
            ((80, 2000), (64, 1984)),
            ((272, 3000), (256, 3008)),
            ((5000, 7000), (3456, 4832)),
            ((1, 150), (32, 3136)),
        ] {
            assert_eq!(hub().image_size(h, w).unwrap(), want, "{h}x{w}");
        }
    }

    #[test]
    fn a_strip_or_an_empty_picture_is_refused() {
        assert!(hub().image_size(1, 201).unwrap_err().to_string().contains("200 times"));
        assert!(hub().image_size(0, 5).is_err());
        assert!(hub().video_size(4, 0, 5).is_err());
    }

    #[test]
    fn clips_need_two_frames_and_share_their_area() {
        let config = PreprocessorConfig { min_pixels: 4096, max_pixels: 25_165_824, ..hub() };
        assert!(config.video_size(1, 64, 64).unwrap_err().to_string().contains("2 at a time"));
        assert_eq!(config.video_size(4, 64, 96).unwrap(), (64, 96));
        // 24 Mi pixels over 100 frames of 1080p.
        assert_eq!(config.video_size(100, 1080, 1920).unwrap(), (352, 640));
        // Sides below 32 are scaled up first.
        assert_eq!(config.video_size(2, 10, 50).unwrap(), (32, 160));
    }

    #[test]
    fn a_token_range_becomes_pixel_limits() {
        let config = hub().with_tokens(TokenRange { min_tokens: 4, max_tokens: 16 }, 1).unwrap();
        assert_eq!((config.min_pixels, config.max_pixels), (4096, 16384));
        let (h, w) = config.image_size(1000, 1000).unwrap();
        assert_eq!(h * w / 1024, 16);
        assert!(hub().with_tokens(TokenRange { min_tokens: 5, max_tokens: 4 }, 1).is_err());
        assert!(hub().with_tokens(TokenRange { min_tokens: 0, max_tokens: 4 }, 1).is_err());
    }
}
