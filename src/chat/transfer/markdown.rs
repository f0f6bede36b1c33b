//! Room `chat`: conversations as Markdown, for reading: the path that is shown, and its pictures in a folder beside
//! it.

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{EXPORTING, Source, disk_error, title_of, write_whole};
use crate::chat::history::Conversation;
use crate::chat::message::Role;
use crate::chat::tree::{Attachment, AttachmentKind, Entry, MessageState};
use crate::error::{Error, Result};

/// Characters of a picture's own name that are kept.
const NAME: usize = 60;
/// Folders that are tried before the user is told.
const FOLDERS: u32 = 1000;

pub(super) fn write(history: &dyn Source, list: &[Conversation], to: &Path) -> Result<()> {
    let mut pictures = Pictures { to, folder: None, written: HashMap::new() };
    let result = write_whole(to, EXPORTING, |out| {
        for conversation in list {
            let text = text_of(history, conversation, &mut pictures)?;
            out.write_all(text.as_bytes()).map_err(|e| disk_error(EXPORTING, to, &e))?;
        }
        Ok(())
    });
    if result.is_err()
        && let Some(folder) = &pictures.folder
    {
        // It is ours, and nothing names what is in it.
        drop(fs::remove_dir_all(folder));
    }
    result
}

fn text_of(history: &dyn Source, conversation: &Conversation, pictures: &mut Pictures<'_>) -> Result<String> {
    let title: Vec<&str> = title_of(conversation).split_whitespace().collect();
    let mut text = format!("# {}\n\n", title.join(" "));
    let system = ["system_prompt", "system"].iter().find_map(|key| conversation.settings.get(key)?.as_str());
    if let Some(system) = system.filter(|system| !system.trim().is_empty()) {
        for line in system.trim().lines() {
            text += format!("> {line}").trim_end();
            text.push('\n');
        }
        text.push('\n');
    }
    let tree = history.tree(conversation.id)?;
    for entry in tree.path().iter().filter_map(|id| tree.get(*id)) {
        text += &format!("## {}\n\n", speaker(entry));
        for attachment in &entry.attachments {
            let link = pictures.link(history, attachment)?;
            let kind = match attachment.kind {
                AttachmentKind::Image => "",
                AttachmentKind::Animation => "Animation: ",
                AttachmentKind::Frame => "Frame: ",
            };
            text += &format!("![{kind}{}]({link})\n\n", escaped(&attachment.name));
        }
        if !entry.text.trim().is_empty() {
            text += entry.text.trim_end();
            text += "\n\n";
        }
        let reason = entry.details.get("error").and_then(Value::as_str);
        match (entry.state, reason) {
            (MessageState::Complete, _) => {}
            (MessageState::Stopped, _) => text += "*(stopped here)*\n\n",
            (MessageState::Streaming, _) => text += "*(still being written)*\n\n",
            (MessageState::Failed, None) => text += "*(ended by an error)*\n\n",
            (MessageState::Failed, Some(why)) => {
                text += &format!("*(ended by an error: {})*\n\n", escaped(why));
            }
        }
    }
    Ok(text)
}

fn speaker(entry: &Entry) -> String {
    match entry.role {
        Role::User => "You".to_owned(),
        Role::System => "System".to_owned(),
        Role::Tool => "Tool".to_owned(),
        Role::Assistant => {
            let model = entry.details.get("model").and_then(Value::as_str).unwrap_or_default();
            let words: Vec<&str> = model.split_whitespace().collect();
            if words.is_empty() { "Assistant".to_owned() } else { words.join(" ") }
        }
    }
}

/// Text on one line that Markdown takes as it is.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.push(' ');
            continue;
        }
        if "\\[]()*_`<>!".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The folder of pictures, made with the first one.
struct Pictures<'a> {
    to: &'a Path,
    folder: Option<PathBuf>,
    /// What was written already: the same picture is written once.
    written: HashMap<[u8; 32], String>,
}

impl Pictures<'_> {
    fn link(&mut self, history: &dyn Source, attachment: &Attachment) -> Result<String> {
        if let Some(link) = self.written.get(&attachment.hash) {
            return Ok(link.clone());
        }
        let folder = match &self.folder {
            Some(folder) => folder.clone(),
            None => self.folder.insert(new_folder(self.to)?).clone(),
        };
        let bytes = history.file(attachment)?;
        let name = format!("{:02}-{}", self.written.len() + 1, safe_name(&attachment.name, &bytes));
        let path = folder.join(&name);
        fs::write(&path, bytes).map_err(|e| disk_error(EXPORTING, &path, &e))?;
        let folder = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let link = format!("{}/{}", percent_encoded(&folder), percent_encoded(&name));
        self.written.insert(attachment.hash, link.clone());
        Ok(link)
    }
}

/// A folder that was not there before: never are pictures put among others.
fn new_folder(to: &Path) -> Result<PathBuf> {
    let stem = to.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    for n in 1..=FOLDERS {
        let end = if n == 1 { String::new() } else { format!("-{n}") };
        let folder = to.with_file_name(format!("{stem}-pictures{end}"));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(disk_error(EXPORTING, &folder, &e)),
        }
    }
    Err(Error::new(EXPORTING, format!("there are {FOLDERS} folders of its pictures already"))
        .at_path(to)
        .help("choose another name"))
}

/// A name that every file system takes and that names nothing outside its folder: letters, digits, `-` and `_`, and
/// one ending. (A number comes before it, so that it is unique and none of the names Windows keeps for itself.)
fn safe_name(name: &str, bytes: &[u8]) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let stem: String = stem.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).take(NAME).collect();
    let stem = stem.trim_matches('-');
    let stem = if stem.is_empty() { "picture" } else { stem };
    let ending_is_usual =
        (1..=5).contains(&ending.len()) && ending.bytes().all(|b| b.is_ascii_alphanumeric());
    let ending = if ending_is_usual {
        ending.to_ascii_lowercase()
    } else {
        image::guess_format(bytes)
            .ok()
            .and_then(|format| format.extensions_str().first().copied())
            .unwrap_or("bin")
            .to_owned()
    };
    format!("{stem}.{ending}")
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() || "-_.~".contains(c) {
            out.push(c);
        } else {
            let mut buffer = [0; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                out += &format!("%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        let png = b"\x89PNG\r\n\x1a\n";
        for (name, safe) in [
            ("cat.png", "cat.png"),
            ("../../etc/passwd", "passwd.png"),
            ("C:\\x\\con.PNG", "con.png"),
            ("..", "picture.png"),
            ("", "picture.png"),
            ("a b\u{202e}\n.tar gz", "a-b.png"),
            ("猫.jpeg", "猫.jpeg"),
        ] {
            assert_eq!(safe_name(name, png), safe, "{name:?}");
        }
        assert_eq!(safe_name("x", b"?"), "x.bin");
        assert!(safe_name(&"x".repeat(1000), b"?").len() < 80);
        assert_eq!(percent_encoded("a (1)%"), "a%20%281%29%25");
    }
}
