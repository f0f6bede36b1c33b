//! Room `app`: the one linear conversation of the first window: questions with pictures, and replies. Plain data.

use crate::chat::message::{ImageSource, Message, Part, Role};
use crate::engine::{PictureReport, Summary};
use crate::error::Error;
use crate::model::sampler::Sampling;

/// How a picture's reading goes.
#[derive(Clone, Debug)]
pub enum PictureState {
    /// Being read, away from the window's thread.
    Reading,
    /// There; width and height in pixels, upright.
    Ready(u32, u32),
    /// It cannot be read.
    Failed(Error),
}

/// A picture of a question.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Tells it from all other pictures of this window.
    pub id: u64,
    /// What to call it.
    pub name: String,
    /// How its reading goes.
    pub state: PictureState,
    /// What the engine gets; there once it is [`PictureState::Ready`].
    pub source: Option<ImageSource>,
    /// What the model saw, once it has.
    pub report: Option<PictureReport>,
}

/// What is typed and added: a question, or one in the making.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The text.
    pub text: String,
    /// The pictures, which come before the text.
    pub pictures: Vec<Attachment>,
}

impl Draft {
    /// Is there nothing to send?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.trim().is_empty() && self.pictures.is_empty()
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

    fn message(&self) -> Message {
        let pictures = self.pictures.iter().filter_map(|p| p.source.clone()).map(Part::Image);
        let text = self.text.trim();
        let text = (!text.is_empty()).then(|| Part::Text(text.to_owned()));
        Message::new(Role::User, pictures.chain(text).collect())
    }
}

/// How a reply ended.
#[derive(Clone, Debug)]
pub enum ReplyEnd {
    /// With figures.
    Finished(Box<Summary>),
    /// With an error, which was shown; what had come stays.
    Broken,
}

/// What the model says.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The text so far.
    pub text: String,
    /// How its tokens are chosen.
    pub sampling: Sampling,
    /// How it ended; `None`: it is under way.
    pub end: Option<ReplyEnd>,
}

/// A question and its reply.
#[derive(Clone, Debug)]
pub struct Turn {
    /// What was asked.
    pub question: Draft,
    /// What was answered.
    pub reply: Reply,
}

/// The messages of a request: instructions, the turns, the last one without its reply.
#[must_use]
pub fn messages(system_prompt: &str, turns: &[Turn]) -> Vec<Message> {
    let mut messages = Vec::with_capacity(turns.len() * 2 + 1);
    if !system_prompt.trim().is_empty() {
        messages.push(Message::text(Role::System, system_prompt.trim()));
    }
    for (index, turn) in turns.iter().enumerate() {
        messages.push(turn.question.message());
        if index + 1 < turns.len() && !turn.reply.text.is_empty() {
            messages.push(Message::text(Role::Assistant, turn.reply.text.as_str()));
        }
    }
    messages
}
