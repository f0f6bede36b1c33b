//! Room `app`: one conversation as the window holds it: its tree of messages, its settings, the question in the making.
//! Plain data; `state` changes it, [`crate::chat::store`] keeps it.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::settings::Settings;
use crate::chat::history::ConversationId;
use crate::chat::message::{ImageSource, Message, Part, Role, VideoSource};
use crate::chat::tree::{Attachment, AttachmentKind, Entry, MessageId, Tree};
use crate::engine::{PictureReport, RemoteSummary, StopReason, Summary};
use crate::error::Error;
use crate::model::picture::Picture;
use crate::model::sampler::Sampling;

/// SHA-256 of a file's bytes.
pub type Hash = [u8; 32];

/// How a picture's reading goes.
#[derive(Clone, Debug)]
pub enum PictureState {
    /// Being read, away from the window's thread.
    Reading,
    /// There: its file, and its size in pixels, upright.
    Ready(Hash, u32, u32),
    /// It cannot be read.
    Failed(Error),
}

/// A picture, or a clip, in a question that is being made.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Tells it from all others of this window.
    pub id: u64,
    /// What to call it.
    pub name: String,
    /// A picture, or a piece of a clip.
    pub kind: AttachmentKind,
    /// How its reading goes.
    pub state: PictureState,
}

impl Attached {
    /// Its file, once it is read.
    #[must_use]
    pub fn hash(&self) -> Option<Hash> {
        match self.state {
            PictureState::Ready(hash, ..) => Some(hash),
            PictureState::Reading | PictureState::Failed(_) => None,
        }
    }
}

/// A question in the making.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The text.
    pub text: String,
    /// The pictures, which come before the text.
    pub pictures: Vec<Attached>,
}

impl Draft {
    /// Is there nothing to send?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.trim().is_empty() && self.pictures.is_empty()
    }

    /// Are pictures still being read?
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.pictures.iter().any(|p| matches!(p.state, PictureState::Reading))
    }

    /// Puts a question that was not answered back in front of what has been typed since.
    pub fn take_back(&mut self, question: Self) {
        let since = std::mem::replace(self, question);
        if !since.text.trim().is_empty() {
            if !self.text.is_empty() {
                self.text.push_str("\n\n");
            }
            self.text.push_str(&since.text);
        }
        self.pictures.extend(since.pictures);
    }
}

/// A message that is being changed in its place.
#[derive(Clone, Debug)]
pub struct Editing {
    /// Which.
    pub message: MessageId,
    /// What it is to become.
    pub draft: Draft,
}

/// A file that came with a message, in memory.
#[derive(Clone, Debug)]
pub struct FileData {
    /// Its bytes, as they were added.
    pub bytes: Arc<[u8]>,
    /// Its pixels (of a clip: the first frame's), as long as there is room for them.
    pub picture: Option<Arc<Picture>>,
    /// Width and height in pixels, upright.
    pub size: (u32, u32),
    /// Frames, of an animated file.
    pub frames: usize,
}

/// Files in memory.
pub type Files = HashMap<Hash, FileData>;

/// One conversation.
#[derive(Debug)]
pub struct Chat {
    /// Its number.
    pub id: ConversationId,
    /// Its messages.
    pub tree: Tree,
    /// How answers are made in it.
    pub settings: Settings,
    /// The question in the making.
    pub draft: Draft,
    /// The message that is being changed.
    pub editing: Option<Editing>,
    /// It is in the history.
    pub is_kept: bool,
    /// Its messages are still on their way from the history.
    pub is_loading: bool,
    /// Settings and draft as they were kept last.
    pub(super) kept_settings: Value,
}

impl Chat {
    /// An empty one.
    #[must_use]
    pub fn new(id: ConversationId, settings: Settings) -> Self {
        Self {
            id,
            tree: Tree::default(),
            settings,
            draft: Draft::default(),
            editing: None,
            is_kept: false,
            is_loading: false,
            kept_settings: Value::Null,
        }
    }

    /// The messages shown, first to last.
    pub fn shown(&self) -> impl Iterator<Item = &Entry> {
        self.tree.path().iter().filter_map(|id| self.tree.get(*id))
    }

    /// The last message shown.
    #[must_use]
    pub fn last(&self) -> Option<&Entry> {
        self.tree.path().last().and_then(|id| self.tree.get(*id))
    }

    /// The last message of the user on the path shown.
    #[must_use]
    pub fn last_question(&self) -> Option<&Entry> {
        self.tree.path().iter().rev().filter_map(|id| self.tree.get(*id)).find(|e| e.role == Role::User)
    }
}

/// What is kept of a user's message besides its text: what the model saw of each picture and clip.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct QuestionDetails {
    /// One for each picture or clip, in order; `None`: not seen yet.
    pub pictures: Vec<Option<PictureReport>>,
}

/// What is kept of an answer besides its text.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct AnswerDetails {
    /// The model's name.
    pub model: String,
    /// How its tokens were chosen.
    pub sampling: Option<Sampling>,
    /// What it cost.
    pub figures: Option<Figures>,
    /// The server it came from; empty: this machine.
    pub server: String,
    /// What is known of its cost, where it came from a server.
    pub remote: Option<RemoteFigures>,
    /// What the model thought before it answered, where a server tells that apart.
    pub thinking: String,
    /// The user has changed it.
    pub is_edited: bool,
    /// What went wrong, where something did.
    pub error: Option<String>,
}

/// Figures of a finished answer, without its tokens.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Figures {
    /// Why it ended.
    pub reason: StopReason,
    /// Tokens of the answer (of an answer that was gone on with: of its last part).
    pub new_tokens: usize,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of those, found in the cache.
    pub reused_tokens: usize,
    /// Seconds in the vision tower.
    pub vision_secs: f64,
    /// Seconds of prefill.
    pub prefill_secs: f64,
    /// Seconds from the request to the first token.
    pub ttft_secs: f64,
    /// Seconds from the first token to the last.
    pub decode_secs: f64,
}

impl From<&Summary> for Figures {
    fn from(summary: &Summary) -> Self {
        Self {
            reason: summary.reason,
            new_tokens: summary.ids.len(),
            prompt_tokens: summary.prompt_tokens,
            reused_tokens: summary.reused_tokens,
            vision_secs: summary.vision_secs,
            prefill_secs: summary.prefill_secs,
            ttft_secs: summary.ttft_secs,
            decode_secs: summary.decode_secs,
        }
    }
}

/// Figures of an answer from a server: times are as seen from here, and what the server did not tell is not known.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RemoteFigures {
    /// Why it ended.
    pub reason: StopReason,
    /// Tokens of the answer.
    pub new_tokens: Option<usize>,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<usize>,
    /// Of those, found in the server's cache.
    pub cached_tokens: Option<usize>,
    /// Tokens a second.
    pub tok_s: Option<f64>,
    /// Seconds from the question to the first piece.
    pub ttft_secs: Option<f64>,
    /// Seconds from the question to the end.
    pub total_secs: f64,
}

impl From<&RemoteSummary> for RemoteFigures {
    fn from(summary: &RemoteSummary) -> Self {
        Self {
            reason: summary.reason,
            new_tokens: summary.new_tokens,
            prompt_tokens: summary.prompt_tokens,
            cached_tokens: summary.cached_tokens,
            tok_s: summary.tok_s(),
            ttft_secs: summary.ttft_secs,
            total_secs: summary.total_secs,
        }
    }
}

impl Figures {
    /// Prompt tokens computed a second.
    #[must_use]
    pub fn prefill_tok_s(&self) -> f64 {
        self.prompt_tokens.saturating_sub(self.reused_tokens) as f64 / self.prefill_secs.max(1e-9)
    }

    /// Tokens decoded a second, the first one (which prefill made) not counted.
    #[must_use]
    pub fn decode_tok_s(&self) -> f64 {
        self.new_tokens.saturating_sub(1) as f64 / self.decode_secs.max(1e-9)
    }
}

/// Details of a kind, read from an entry; what is not of that kind gives empty ones.
#[must_use]
pub fn details<T: Default + serde::de::DeserializeOwned>(entry: &Entry) -> T {
    T::deserialize(&entry.details).unwrap_or_default()
}

/// Attachments as the model gets them: each picture, each animated file and each run of frames (of one folder) is one.
#[must_use]
pub fn units(attachments: &[Attachment]) -> Vec<&[Attachment]> {
    attachments
        .chunk_by(|a, b| {
            a.kind == AttachmentKind::Frame
                && b.kind == AttachmentKind::Frame
                && clip_name(&a.name) == clip_name(&b.name)
        })
        .collect()
}

/// The clip a frame belongs to: frames are called `clip/frame`.
#[must_use]
pub fn clip_name(name: &str) -> &str {
    name.split_once('/').map_or("", |(clip, _)| clip)
}

/// Are both frames of one clip?
#[must_use]
pub fn one_clip(a: &Attached, b: &Attached) -> bool {
    let frames = a.kind == AttachmentKind::Frame && b.kind == AttachmentKind::Frame;
    frames && clip_name(&a.name) == clip_name(&b.name)
}

/// A unit of attachments as a part of a message; `None`: its files are not in memory. `as_files`: pictures as the files they
/// are, not decoded.
fn part(unit: &[Attachment], files: &Files, as_files: bool) -> Option<Part> {
    let source = |attachment: &Attachment| {
        let file = files.get(&attachment.hash)?;
        let bytes = ImageSource::Bytes { name: attachment.name.clone(), bytes: Arc::clone(&file.bytes) };
        let whole = attachment.kind == AttachmentKind::Image && !as_files;
        Some(file.picture.clone().filter(|_| whole).map_or(bytes, ImageSource::Picture))
    };
    let first = unit.first()?;
    Some(match first.kind {
        AttachmentKind::Image => Part::Image(source(first)?),
        AttachmentKind::Animation => Part::Video(VideoSource::Animation { file: source(first)?, fps: None }),
        AttachmentKind::Frame => Part::Video(VideoSource::Frames {
            frames: unit.iter().map(source).collect::<Option<_>>()?,
            fps: None,
        }),
    })
}

/// An entry as the engine gets it, or, `as_files`, a server; `None`: its files are not in memory.
#[must_use]
pub fn message(entry: &Entry, files: &Files, as_files: bool) -> Option<Message> {
    let units = units(&entry.attachments);
    let mut parts = units.into_iter().map(|u| part(u, files, as_files)).collect::<Option<Vec<_>>>()?;
    let text = if entry.role == Role::User { entry.text.trim() } else { &entry.text };
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
    Some(Message::new(entry.role, parts))
}

/// A title for a conversation that begins with this question: its first words, or its first picture's name.
#[must_use]
pub fn title_of(text: &str, first_picture: Option<&str>) -> String {
    const MOST: usize = 48;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return first_picture.unwrap_or_default().to_owned();
    }
    if line.chars().count() <= MOST {
        return line;
    }
    let cut: String = line.chars().take(MOST).collect();
    // At a word's end, unless the language has none or the word is endless.
    let end = cut.rfind(' ').filter(|end| *end > cut.len() / 2).unwrap_or(cut.len());
    format!("{}…", cut.get(..end).unwrap_or(&cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_short_and_end_at_words() {
        assert_eq!(title_of("  What is\nthis? ", None), "What is this?");
        assert_eq!(title_of("", Some("cat.png")), "cat.png");
        let long = title_of(&"word ".repeat(40), None);
        assert!(long.ends_with("word…") && long.chars().count() < 50, "{long}");
        assert_eq!(title_of(&"語".repeat(90), None).chars().count(), 49);
    }

    #[test]
    fn frames_of_one_folder_are_one_unit() {
        let attachment = |kind, name: &str| Attachment { kind, name: name.into(), hash: [0; 32] };
        let list = [
            attachment(AttachmentKind::Image, "a.png"),
            attachment(AttachmentKind::Image, "b.png"),
            attachment(AttachmentKind::Frame, "x/1.png"),
            attachment(AttachmentKind::Frame, "x/2.png"),
            attachment(AttachmentKind::Frame, "y/1.png"),
            attachment(AttachmentKind::Animation, "z.gif"),
        ];
        let sizes: Vec<usize> = units(&list).iter().map(|unit| unit.len()).collect();
        assert_eq!(sizes, [1, 1, 2, 1, 1]);
    }
}
