//! From a conversation to the request for an answer.

use super::{Intent, attachments_of};
use crate::app::chat::{Chat, message, units};
use crate::app::state::State;
use crate::chat::history::ConversationId;
use crate::chat::message::{Message, Role};
use crate::chat::tree::{Attachment, Entry, MessageId, MessageState};
use crate::engine::Request;
use crate::error::{Error, Result};
use crate::remote::ServerModel;

impl State {
    /// The request for an answer, with the place of each of its pictures; `None`: files are on their way.
    #[expect(clippy::type_complexity, reason = "a pair, and whether it is there yet")]
    pub(in crate::app::state) fn request(
        &mut self,
        conversation: ConversationId,
        intent: Intent,
        answers_from: Option<&ServerModel>,
    ) -> Result<Option<(Request, Vec<(MessageId, usize)>)>> {
        let gone = || Error::new("asking", "the message is gone").help("send it again");
        let (last, start) = match intent {
            Intent::Continue(answer) => {
                let entry =
                    self.chat_of(conversation).and_then(|chat| chat.tree.get(answer)).ok_or_else(gone)?;
                (entry.parent.ok_or_else(gone)?, Some(entry.text.clone()).filter(|text| !text.is_empty()))
            }
            Intent::Answer(question) => (question, None),
            Intent::Send | Intent::SendEdit(_) => return Err(gone()),
        };
        let chat = self.chat_of(conversation).ok_or_else(gone)?;
        let path = chat.tree.path_to(last);
        if path.is_empty() {
            return Err(gone());
        }
        let attachments: Vec<Attachment> =
            path.iter().filter_map(|id| chat.tree.get(*id)).flat_map(|e| e.attachments.clone()).collect();
        if let Some(error) = self.lost_file(&attachments) {
            return Err(error);
        }
        if let Some(server) = answers_from.filter(|_| start.is_some()) {
            self.elsewhere.check_goes_on(server)?;
        }
        let as_files = answers_from.is_some();
        let Some((messages, pictures)) = self.messages(conversation, &path, as_files) else {
            return Ok(None);
        };
        let chat = self.chat_mut(conversation).ok_or_else(gone)?;
        let mut request = request_of(chat, messages);
        request.answer_start = start;
        Ok(Some((request, pictures)))
    }

    /// The messages of a path as the engine gets them, or with their pictures `as_files` as servers do; `None`: files are on
    /// their way.
    #[expect(clippy::type_complexity, reason = "a pair, and whether it is there yet")]
    fn messages(
        &mut self,
        conversation: ConversationId,
        path: &[MessageId],
        as_files: bool,
    ) -> Option<(Vec<Message>, Vec<(MessageId, usize)>)> {
        let chat = self.chat_of(conversation)?;
        let entries: Vec<&Entry> = path.iter().filter_map(|id| chat.tree.get(*id)).collect();
        let wanted: Vec<Attachment> = entries.iter().flat_map(|entry| entry.attachments.clone()).collect();
        if !self.want_files(&wanted) {
            return None;
        }
        let chat = self.chat_of(conversation)?;
        let (mut messages, mut pictures) = (Vec::new(), Vec::new());
        let system = chat.settings.system_prompt.trim();
        if !system.is_empty() {
            messages.push(Message::text(Role::System, system));
        }
        for entry in path.iter().filter_map(|id| chat.tree.get(*id)) {
            if entry.role == Role::Assistant && entry.text.is_empty() {
                continue;
            }
            messages.push(message(entry, &self.files, as_files)?);
            // The template shows those of users and tools only.
            if matches!(entry.role, Role::User | Role::Tool) {
                pictures.extend((0..units(&entry.attachments).len()).map(|place| (entry.id, place)));
            }
        }
        Some((messages, pictures))
    }

    /// The request that sending now would make.
    pub(in crate::app::state) fn preview_request(&mut self) -> Result<Request> {
        const DOING: &str = "making the prompt";
        let reading = || Error::new(DOING, "its pictures are still being read").help("try again in a moment");
        if !self.answers_here() {
            let why = "answers of this chat come from a server, which makes the prompt itself";
            return Err(
                Error::new(DOING, why).help("choose this machine in the settings to see its own prompt")
            );
        }
        let conversation = self.chat.id;
        let path = self.chat.tree.path().to_vec();
        let shown: Vec<Attachment> = self.chat.shown().flat_map(|e| e.attachments.clone()).collect();
        if let Some(error) = self.lost_file(&shown) {
            return Err(error);
        }
        let (mut messages, _) = self.messages(conversation, &path, false).ok_or_else(reading)?;
        let draft = &self.chat.draft;
        if !draft.is_empty() {
            if draft.is_reading() {
                return Err(reading());
            }
            let entry = Entry {
                id: MessageId(0),
                parent: None,
                role: Role::User,
                text: draft.text.clone(),
                attachments: attachments_of(draft),
                state: MessageState::Complete,
                details: serde_json::Value::Null,
                created_ms: 0,
                chosen: None,
            };
            messages.push(message(&entry, &self.files, false).ok_or_else(reading)?);
        }
        if messages.iter().all(|message| message.role == Role::System) {
            return Err(Error::new(DOING, "there is no question yet").help("type one"));
        }
        Ok(request_of(&mut self.chat, messages))
    }
}

/// A request with the conversation's settings; draws its seed.
fn request_of(chat: &mut Chat, messages: Vec<Message>) -> Request {
    let settings = &mut chat.settings;
    Request {
        sampling: settings.next_sampling(),
        max_tokens: settings.token_limit(),
        image_tokens: settings.image_token_range(),
        stop: settings.stop_strings(),
        ..Request::new(messages)
    }
}
