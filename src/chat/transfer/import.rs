//! Room `chat`: reading exported conversations back, all or none. The file is read as it comes, so that one picture at
//! a time is in memory; it may have been made by anyone, so that nothing in it is believed.

mod messages;
mod shape;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;

use super::{FORMAT, VERSION, disk_error, hex};
use crate::bounded::Values;
use crate::chat::history::{ConversationId, History, Importer};
use crate::chat::openai;
use crate::error::{Error, Result};

pub(super) const DOING: &str = "importing conversations";
/// Larger files are not looked at.
const MAX_BYTES: u64 = 16 << 30;
const MAX_CONVERSATIONS: usize = 100_000;
/// Values in the file besides pictures: a message has about ten.
const MAX_VALUES: usize = 10_000_000;
/// The largest picture of a list of messages.
const MAX_PICTURE: u64 = 512 << 20;

/// Puts the conversations of a file into the database, all or none: one that [`super::export()`] wrote as JSON, or a
/// list of messages as [`openai`] reads it. Gives their numbers, in the file's order.
///
/// # Errors
/// The file cannot be read, is none of these, is damaged, or holds what cannot be; the error says where. Or it cannot
/// be saved. Nothing of it stays then.
pub fn import(history: &mut History, from: &Path) -> Result<Vec<ConversationId>> {
    let disk = |e: std::io::Error| disk_error(DOING, from, &e);
    // Looked at before it is opened: opening a pipe would wait for its other end.
    let about = from.metadata().map_err(disk)?;
    if !about.is_file() {
        return Err(Error::new(DOING, "it is no file").at_path(from).help("choose a .json file"));
    }
    if about.len() > MAX_BYTES {
        return Err(Error::new(DOING, format!("it is larger than {} GiB", MAX_BYTES >> 30))
            .at_path(from)
            .help("export fewer conversations into one file"));
    }
    let file = File::open(from).map_err(disk)?;
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let first = first_byte(&mut reader).map_err(disk)?;
    let imported = if first == Some(b'[') {
        list_of_messages(history, reader, from)
    } else {
        history.import(|importer| exported(importer, reader, from))
    };
    imported.map_err(|e| e.at_path(from))
}

/// Skips what may stand before the text; the byte given is not taken.
fn first_byte(reader: &mut impl BufRead) -> std::io::Result<Option<u8>> {
    if reader.fill_buf()?.starts_with(b"\xEF\xBB\xBF") {
        reader.consume(3);
    }
    loop {
        let ahead = reader.fill_buf()?;
        let space = ahead.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        match ahead.get(space) {
            Some(byte) => return Ok(Some(*byte)),
            None if ahead.is_empty() => return Ok(None),
            None => reader.consume(space),
        }
    }
}

fn list_of_messages(history: &mut History, reader: impl Read, from: &Path) -> Result<Vec<ConversationId>> {
    let mut text = String::new();
    reader
        .take(openai::MAX_JSON_BYTES as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|e| Error::new(DOING, e).help("it must be a text file in UTF-8"))?;
    let base = from.parent().unwrap_or(Path::new(""));
    let conversation = openai::parse_conversation(&text, base)?;
    drop(text);
    history.import(|importer| messages::insert(importer, conversation, from))
}

fn exported(importer: &Importer<'_>, reader: impl Read, from: &Path) -> Result<Vec<ConversationId>> {
    let mut parts = Parts::default();
    let mut trouble = None;
    let mut json = serde_json::Deserializer::from_reader(reader);
    let seed = Top { importer, parts: &mut parts, trouble: &mut trouble };
    let read = seed.deserialize(&mut json).and_then(|()| json.end());
    if let Some(error) = trouble {
        return Err(error);
    }
    read.map_err(|e| unreadable(&e))?;
    match (parts.format.take(), parts.messages.take()) {
        (None, Some(list)) => {
            let base = from.parent().unwrap_or(Path::new(""));
            let object = Value::Object([("messages".to_owned(), list)].into_iter().collect());
            return messages::insert(importer, openai::conversation_from(object, base)?, from);
        }
        (Some(Value::String(format)), _) if format == FORMAT => {}
        _ => {
            return Err(Error::new(DOING, format!("it does not say `\"format\": \"{FORMAT}\"`"))
                .help("choose a file that was exported as JSON, or a list of messages"));
        }
    }
    check_version(parts.version.as_ref())?;
    let Some(Value::Array(list)) = parts.conversations.take() else {
        return Err(Error::new(DOING, "it has no list `conversations`").help("export it again"));
    };
    if list.len() > MAX_CONVERSATIONS {
        return Err(Error::new(DOING, format!("it holds {} conversations", list.len()))
            .help(format!("at most {MAX_CONVERSATIONS} are possible: split it")));
    }
    let mut wanted = HashMap::new();
    let mut read = Vec::with_capacity(list.len());
    for (n, value) in (1..).zip(list) {
        let at = |e: Error| e.at(format!("conversation {n}"));
        read.push(shape::conversation(value, &mut wanted).map_err(at)?);
    }
    if let Some((hash, place)) = wanted.iter().find(|(hash, _)| !parts.files.contains(*hash)) {
        return Err(Error::new(DOING, format!("its file {} is not in `files`", hex(hash)))
            .at(place)
            .help("export the conversations again"));
    }
    // Among those changed at the same moment the list shows the newest number first.
    let mut ids = Vec::with_capacity(read.len());
    for conversation in read.iter().rev() {
        ids.push(conversation.insert(importer)?);
    }
    ids.reverse();
    if parts.files.len() > wanted.len() {
        importer.forget_unused_files()?;
    }
    Ok(ids)
}

fn check_version(version: Option<&Value>) -> Result<()> {
    match version.and_then(Value::as_u64) {
        Some(VERSION) => Ok(()),
        Some(newer) if newer > VERSION => {
            Err(Error::new(DOING, format!("it is of version {newer}, and this program knows {VERSION}"))
                .help("use a newer Ocelli"))
        }
        _ => Err(Error::new(DOING, "its `version` is no version").help("export the conversations again")),
    }
}

fn unreadable(e: &serde_json::Error) -> Error {
    let what = match e.classify() {
        Category::Eof => format!("it ends in the middle ({e})"),
        Category::Io => format!("it cannot be read: {e}"),
        Category::Syntax if e.to_string().contains("unicode code point") => {
            format!("it is not text in UTF-8 ({e})")
        }
        Category::Syntax | Category::Data => format!("it is not JSON as it should be: {e}"),
    };
    Error::new(DOING, what).quoting().help("copy or export the file again")
}

/// What was read of the outermost object. The files are in the database already.
#[derive(Default)]
struct Parts {
    format: Option<Value>,
    version: Option<Value>,
    conversations: Option<Value>,
    messages: Option<Value>,
    files: HashSet<[u8; 32]>,
}

/// Reads the outermost object.
struct Top<'a, 'c> {
    importer: &'a Importer<'c>,
    parts: &'a mut Parts,
    /// An error of our own, which the reader cannot carry.
    trouble: &'a mut Option<Error>,
}

impl<'de> DeserializeSeed<'de> for Top<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `format`, `version`, `conversations` and `files`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let values = Values::at_most(MAX_VALUES);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "format" => self.parts.format = Some(map.next_value_seed(&values)?),
                "version" => {
                    let version = map.next_value_seed(&values)?;
                    if let Err(error) = check_version(Some(&version)) {
                        // Another program's `version` is not ours to judge.
                        if self.parts.format.as_ref().and_then(Value::as_str) == Some(FORMAT) {
                            *self.trouble = Some(error);
                            return Err(A::Error::custom("version"));
                        }
                    }
                    self.parts.version = Some(version);
                }
                "conversations" => self.parts.conversations = Some(map.next_value_seed(&values)?),
                "messages" => self.parts.messages = Some(map.next_value_seed(&values)?),
                "files" => map.next_value_seed(Files {
                    importer: self.importer,
                    seen: &mut self.parts.files,
                    trouble: &mut *self.trouble,
                })?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Reads `files`, one at a time.
struct Files<'a, 'c> {
    importer: &'a Importer<'c>,
    seen: &'a mut HashSet<[u8; 32]>,
    trouble: &'a mut Option<Error>,
}

impl<'de> DeserializeSeed<'de> for Files<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Files<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of files in base64")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, text)) = map.next_entry::<String, String>()? {
            match file(self.importer, &name, &text) {
                Ok(hash) => self.seen.insert(hash),
                Err(error) => {
                    let name: String = name.chars().take(64).collect();
                    *self.trouble = Some(error.at(format!("file {name}")));
                    return Err(A::Error::custom("file"));
                }
            };
        }
        Ok(())
    }
}

fn file(importer: &Importer<'_>, name: &str, text: &str) -> Result<[u8; 32]> {
    let damaged = |what: &str| Error::new(DOING, what).help("it is damaged: copy or export the file again");
    let expected = shape::hash(name).ok_or_else(|| damaged("its name is no SHA-256"))?;
    let bytes = STANDARD.decode(text).map_err(|e| damaged(&format!("it is not base64: {e}")))?;
    let hash = importer.file(&bytes)?;
    if hash == expected { Ok(hash) } else { Err(damaged("its bytes do not have the SHA-256 of its name")) }
}
