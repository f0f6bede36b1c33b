//! Room `chat`: what is said in a conversation, by whom, with which pictures and clips. Plain data; loading
//! a picture is left to `model`.

use crate::error::{Error, Result};
use crate::model::clip::Clip;
use crate::model::picture::Picture;
use crate::model::preprocessor::FrameSampling;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions before the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool the model has called.
    Tool,
}

impl Role {
    /// The name templates know it by.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a picture comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// A file.
    Path(PathBuf),
    /// A file's bytes, and what to call them (dropped, pasted, or from a data URL).
    Bytes {
        /// For errors and labels.
        name: String,
        /// The file's content.
        bytes: Arc<[u8]>,
    },
    /// Already decoded.
    Picture(Arc<Picture>),
}

impl ImageSource {
    /// What errors call it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Bytes { name, .. } => name.clone(),
            Self::Picture(_) => "the picture".to_owned(),
        }
    }

    /// Decodes it.
    ///
    /// # Errors
    /// When it cannot be read or is no picture.
    pub fn load(&self) -> Result<Arc<Picture>> {
        match self {
            Self::Path(path) => Picture::from_path(path).map(Arc::new),
            Self::Bytes { name, bytes } => Picture::from_bytes(bytes, name).map(Arc::new),
            Self::Picture(picture) => Ok(Arc::clone(picture)),
        }
    }
}

/// Where a clip comes from.
#[derive(Clone, Debug)]
pub enum VideoSource {
    /// Its frames, all of which are looked at.
    Frames {
        /// In order.
        frames: Vec<ImageSource>,
        /// Frames per second, where known.
        fps: Option<f64>,
    },
    /// An animated GIF, WebP or PNG, from which frames are chosen.
    Animation {
        /// The file.
        file: ImageSource,
        /// Frames per second to choose, instead of the checkpoint's own rate.
        fps: Option<f64>,
    },
    /// Already opened.
    Clip(Arc<Clip>),
}

impl VideoSource {
    /// Opens it; `sampling` is the checkpoint's rule for choosing frames.
    ///
    /// # Errors
    /// When it cannot be read or is no clip.
    pub fn load(&self, sampling: FrameSampling) -> Result<Arc<Clip>> {
        match self {
            Self::Frames { frames, fps } => {
                let paths = frames.iter().map(|frame| match frame {
                    ImageSource::Path(path) => Some(path.clone()),
                    _ => None,
                });
                // Files are decoded when they are needed; what is in memory already stays there.
                if let Some(paths) = paths.collect::<Option<Vec<PathBuf>>>() {
                    return Clip::from_files(paths, *fps).map(Arc::new);
                }
                let pictures = frames.iter().map(ImageSource::load).collect::<Result<_>>()?;
                Clip::from_pictures(pictures, *fps).map(Arc::new)
            }
            Self::Animation { file, fps } => {
                let sampling = FrameSampling { fps: fps.unwrap_or(sampling.fps), ..sampling };
                match file {
                    ImageSource::Path(path) => Clip::from_path(path, sampling).map(Arc::new),
                    ImageSource::Bytes { name, bytes } => {
                        Clip::from_bytes(Arc::clone(bytes), name, sampling).map(Arc::new)
                    }
                    ImageSource::Picture(_) => Err(Error::new("reading the clip", "it is a single picture")
                        .help("give an animated file, or a list of frames")),
                }
            }
            Self::Clip(clip) => Ok(Arc::clone(clip)),
        }
    }
}

/// A piece of a message.
#[derive(Clone, Debug)]
pub enum Part {
    /// Text, exactly as typed.
    Text(String),
    /// A picture.
    Image(ImageSource),
    /// A clip.
    Video(VideoSource),
}

/// One message of a conversation.
#[derive(Clone, Debug)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What, in order, with nothing between.
    pub parts: Vec<Part>,
    /// The assistant's tool calls: a list in the form of `OpenAI`, `function.arguments` as a string or an object.
    pub tool_calls: Option<Value>,
    /// Which call a tool message answers.
    pub tool_call_id: Option<String>,
    /// The name of the tool or speaker.
    pub name: Option<String>,
    /// What the assistant thought before it answered, where it is kept apart from the answer.
    pub reasoning: Option<String>,
}

impl Message {
    /// A message of these parts.
    #[must_use]
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Self { role, parts, tool_calls: None, tool_call_id: None, name: None, reasoning: None }
    }

    /// A message of text alone.
    #[must_use]
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self::new(role, vec![Part::Text(text.into())])
    }

    /// Its text parts, joined.
    #[must_use]
    pub fn plain_text(&self) -> String {
        let text = |part: &Part| match part {
            Part::Text(text) => Some(text.clone()),
            _ => None,
        };
        self.parts.iter().filter_map(text).collect()
    }

    /// Its pictures, in order.
    pub fn images(&self) -> impl Iterator<Item = &ImageSource> {
        self.parts.iter().filter_map(|part| match part {
            Part::Image(source) => Some(source),
            _ => None,
        })
    }

    /// Its clips, in order.
    pub fn videos(&self) -> impl Iterator<Item = &VideoSource> {
        self.parts.iter().filter_map(|part| match part {
            Part::Video(source) => Some(source),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_by_kind_and_in_order() {
        let path = |name: &str| ImageSource::Path(name.into());
        let message = Message::new(
            Role::User,
            vec![
                Part::Text("a".into()),
                Part::Image(path("1")),
                Part::Text("b".into()),
                Part::Image(path("2")),
                Part::Video(VideoSource::Animation { file: path("3"), fps: None }),
            ],
        );
        assert_eq!(message.plain_text(), "ab");
        assert_eq!(message.images().collect::<Vec<_>>(), [&path("1"), &path("2")]);
        assert_eq!(message.videos().count(), 1);
    }

    #[test]
    fn roles_are_written_in_lower_case() {
        assert_eq!(serde_json::to_string(&Role::Assistant).unwrap(), "\"assistant\"");
        assert_eq!(Role::Tool.to_string(), "tool");
    }
}
