//! Room `chat`: one conversation of an exported file, checked.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use serde_json::{Map, Value};

use super::DOING;
use crate::chat::history::{Conversation, ConversationId, Importer, now_ms};
use crate::chat::message::Role;
use crate::chat::tree::{Attachment, AttachmentKind, Entry, MessageId, MessageState};
use crate::error::{Error, Result};

const MAX_MESSAGES: usize = 1_000_000;
const MAX_ATTACHMENTS: usize = 10_000;
/// Bytes of a title, a folder's name, or a file's.
const MAX_NAME: usize = 10_000;
/// Bytes of a text.
const MAX_TEXT: usize = 256 << 20;
/// The end of the year 9999.
const MAX_MS: i64 = 253_402_300_799_999;

/// A conversation whose parts fit together. The numbers are still the file's.
pub(super) struct Read {
    about: Conversation,
    chosen_beginning: Option<MessageId>,
    /// Each behind its parent.
    entries: Vec<Entry>,
}

impl Read {
    /// Adds it to the database, with numbers of its own.
    pub(super) fn insert(&self, importer: &Importer<'_>) -> Result<ConversationId> {
        let conversation = importer.conversation(&self.about)?;
        let mut numbers: HashMap<MessageId, MessageId> = HashMap::with_capacity(self.entries.len());
        let new = |numbers: &HashMap<MessageId, MessageId>, id: Option<MessageId>| {
            id.and_then(|id| numbers.get(&id).copied())
        };
        for entry in &self.entries {
            let entry_in_place = Entry { parent: new(&numbers, entry.parent), ..entry.clone() };
            let id = importer.message(conversation, &entry_in_place)?;
            numbers.insert(entry.id, id);
        }
        for entry in &self.entries {
            if let (parent @ Some(_), Some(chosen)) =
                (new(&numbers, Some(entry.id)), new(&numbers, entry.chosen))
            {
                importer.choose(conversation, parent, chosen)?;
            }
        }
        if let Some(chosen) = new(&numbers, self.chosen_beginning) {
            importer.choose(conversation, None, chosen)?;
        }
        Ok(conversation)
    }
}

/// Checks a conversation; the files it needs go to `wanted`, with the place that needs them.
pub(super) fn conversation(value: Value, wanted: &mut HashMap<[u8; 32], String>) -> Result<Read> {
    let mut fields = Fields::of(value)?;
    let created_ms = fields.time("created_ms")?.unwrap_or_else(now_ms);
    let settings = match fields.0.remove("settings") {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(settings @ Value::Object(_)) => settings,
        Some(_) => return Err(wrong("settings", "an object")),
    };
    let about = Conversation {
        id: ConversationId(0),
        title: fields.name("title")?,
        title_is_own: fields.flag("title_is_own")?,
        pinned: fields.flag("pinned")?,
        folder: fields.name("folder")?,
        settings,
        created_ms,
        changed_ms: fields.time("changed_ms")?.unwrap_or(created_ms),
        messages: 0,
    };
    let chosen_beginning = fields.number("chosen_beginning")?;
    let Some(Value::Array(list)) = fields.0.remove("messages") else {
        return Err(wrong("messages", "a list"));
    };
    if list.len() > MAX_MESSAGES {
        return Err(Error::new(DOING, format!("{} messages are more than {MAX_MESSAGES}", list.len()))
            .help("split the conversation"));
    }
    let mut entries = Vec::with_capacity(list.len());
    for (n, value) in (1..).zip(list) {
        let place = format!("message {n}");
        let entry = message(value, &place, created_ms, wanted).map_err(|e| e.at(&place))?;
        entries.push(entry);
    }
    let entries = in_order(entries, chosen_beginning)?;
    Ok(Read { about, chosen_beginning, entries })
}

fn message(
    value: Value,
    place: &str,
    created_ms: i64,
    wanted: &mut HashMap<[u8; 32], String>,
) -> Result<Entry> {
    let mut fields = Fields::of(value)?;
    let Some(id) = fields.number("id")? else { return Err(wrong("id", "a number from 1")) };
    let role = fields.text("role", MAX_NAME)?.unwrap_or_default();
    let role = [Role::System, Role::User, Role::Assistant, Role::Tool]
        .into_iter()
        .find(|known| known.as_str() == role)
        .ok_or_else(|| unknown("role", &role))?;
    let state = match fields.text("state", MAX_NAME)? {
        None => MessageState::Complete,
        Some(state) => MessageState::from_name(&state).ok_or_else(|| unknown("state", &state))?,
    };
    let mut attachments = Vec::new();
    match fields.0.remove("attachments") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) if list.len() <= MAX_ATTACHMENTS => {
            for (n, value) in (1..).zip(list) {
                let attachment = attachment(value).map_err(|e| e.at(format!("attachment {n}")))?;
                wanted.entry(attachment.hash).or_insert_with(|| place.to_owned());
                attachments.push(attachment);
            }
        }
        Some(_) => return Err(wrong("attachments", &format!("a list of at most {MAX_ATTACHMENTS}"))),
    }
    Ok(Entry {
        id,
        parent: fields.number("parent")?,
        role,
        text: fields.text("text", MAX_TEXT)?.ok_or_else(|| wrong("text", "text"))?,
        attachments,
        // Nothing is coming any more.
        state: if state == MessageState::Streaming { MessageState::Stopped } else { state },
        details: fields.0.remove("details").unwrap_or_default(),
        created_ms: fields.time("created_ms")?.unwrap_or(created_ms),
        chosen: fields.number("chosen")?,
    })
}

fn attachment(value: Value) -> Result<Attachment> {
    let mut fields = Fields::of(value)?;
    let kind = fields.text("kind", MAX_NAME)?.unwrap_or_default();
    let hash_text = fields.text("sha256", MAX_NAME)?.unwrap_or_default();
    Ok(Attachment {
        kind: AttachmentKind::from_name(&kind).ok_or_else(|| unknown("kind", &kind))?,
        name: fields.name("name")?,
        hash: hash(&hash_text).ok_or_else(|| wrong("sha256", "a SHA-256 in 64 hexadecimal digits"))?,
    })
}

/// The messages with each behind its parent, and otherwise in the file's order.
fn in_order(entries: Vec<Entry>, chosen_beginning: Option<MessageId>) -> Result<Vec<Entry>> {
    let mut index: HashMap<MessageId, usize> = HashMap::with_capacity(entries.len());
    for (i, entry) in entries.iter().enumerate() {
        if let Some(first) = index.insert(entry.id, i) {
            let what = format!("its id {} is that of message {} too", entry.id.0, first + 1);
            return Err(Error::new(DOING, what).at(format!("message {}", i + 1)).help("ids must differ"));
        }
    }
    let absent = |i: usize, key: &str, id: MessageId| {
        Error::new(DOING, format!("its {key} {} is not in this conversation", id.0))
            .at(format!("message {}", i + 1))
            .help("the file is incomplete: export it again")
    };
    let mut followers: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut ready = BinaryHeap::new();
    for (i, entry) in entries.iter().enumerate() {
        if let Some(chosen) = entry.chosen.filter(|id| !index.contains_key(id)) {
            return Err(absent(i, "chosen", chosen));
        }
        match entry.parent {
            None => ready.push(Reverse(i)),
            Some(parent) => {
                let parent = *index.get(&parent).ok_or_else(|| absent(i, "parent", parent))?;
                followers.entry(parent).or_default().push(i);
            }
        }
    }
    if let Some(chosen) = chosen_beginning.filter(|id| !index.contains_key(id)) {
        return Err(Error::new(DOING, format!("its chosen_beginning {} is not in it", chosen.0))
            .help("the file is incomplete: export it again"));
    }
    let mut entries: Vec<Option<Entry>> = entries.into_iter().map(Some).collect();
    let mut ordered = Vec::with_capacity(entries.len());
    while let Some(Reverse(i)) = ready.pop() {
        ordered.extend(entries.get_mut(i).and_then(Option::take));
        ready.extend(followers.remove(&i).unwrap_or_default().into_iter().map(Reverse));
    }
    match entries.iter().position(Option::is_some) {
        None => Ok(ordered),
        Some(i) => Err(Error::new(DOING, "its parents lead in a circle")
            .at(format!("message {}", i + 1))
            .help("a parent must be an earlier message")),
    }
}

/// The hash written as 64 hexadecimal digits.
pub(super) fn hash(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        })
        .collect::<Option<_>>()?;
    bytes.try_into().ok()
}

fn wrong(key: &str, wanted: &str) -> Error {
    Error::new(DOING, format!("`{key}` is missing, or not {wanted}")).help("export the conversations again")
}

fn unknown(key: &str, value: &str) -> Error {
    let value: String = value.chars().take(40).collect();
    Error::new(DOING, format!("{value:?} is no {key} that this program knows"))
        .quoting()
        .help("use a newer Ocelli")
}

/// An object whose values are taken out by name; `null` is as good as absent.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(value: Value) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(Error::new(DOING, "it is no object").help("export the conversations again")),
        }
    }

    fn text(&mut self, key: &str, most: usize) -> Result<Option<String>> {
        match self.0.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.len() <= most => Ok(Some(text)),
            Some(_) => Err(wrong(key, &format!("text of at most {most} bytes"))),
        }
    }

    fn name(&mut self, key: &str) -> Result<String> {
        Ok(self.text(key, MAX_NAME)?.unwrap_or_default())
    }

    fn flag(&mut self, key: &str) -> Result<bool> {
        match self.0.remove(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(wrong(key, "true or false")),
        }
    }

    fn integer(&mut self, key: &str, least: i64, most: i64, what: &str) -> Result<Option<i64>> {
        match self.0.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
                _ => Err(wrong(key, what)),
            },
        }
    }

    fn number(&mut self, key: &str) -> Result<Option<MessageId>> {
        Ok(self.integer(key, 1, i64::MAX, "a number from 1")?.map(MessageId))
    }

    fn time(&mut self, key: &str) -> Result<Option<i64>> {
        self.integer(key, 0, MAX_MS, "a time in milliseconds since 1970")
    }
}
