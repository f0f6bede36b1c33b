//! Room `chat`: conversations leave the program as a file, and come back. JSON keeps everything: all branches,
//! settings and pictures; Markdown is for reading, and holds what is shown.

mod export;
mod import;
mod markdown;

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

pub use import::import;

use super::history::{Conversation, ConversationId, History};
use super::tree::{Attachment, Tree};
use crate::error::{Error, Result};

/// What tells our files from others.
const FORMAT: &str = "ocelli-conversations";
/// The version this program writes, and the only one there is.
const VERSION: u64 = 1;
const EXPORTING: &str = "exporting conversations";

/// The form of an exported file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Everything, to be imported again.
    Json,
    /// What is shown, to be read; pictures lie in a new folder beside the file.
    Markdown,
}

/// Where conversations are read that are exported.
pub trait Source {
    /// All that are not deleted.
    ///
    /// # Errors
    /// They cannot be read.
    fn conversations(&self) -> Result<Vec<Conversation>>;

    /// The messages of one.
    ///
    /// # Errors
    /// They cannot be read.
    fn tree(&self, id: ConversationId) -> Result<Tree>;

    /// The bytes of a file that came with a message.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    fn file(&self, attachment: &Attachment) -> Result<Vec<u8>>;
}

impl Source for History {
    fn conversations(&self) -> Result<Vec<Conversation>> {
        Self::conversations(self)
    }

    fn tree(&self, id: ConversationId) -> Result<Tree> {
        Self::tree(self, id)
    }

    fn file(&self, attachment: &Attachment) -> Result<Vec<u8>> {
        Self::file(self, attachment)
    }
}

/// Writes conversations (`None`: all that are not deleted) to the file `to`, which appears when it is complete. Gives
/// how many there are in it.
///
/// # Errors
/// They cannot be read, one of them is not there, or the file cannot be written.
pub fn export(
    history: &dyn Source,
    conversations: Option<&[ConversationId]>,
    format: Format,
    to: &Path,
) -> Result<usize> {
    let mut list = history.conversations()?;
    if let Some(wanted) = conversations {
        list.retain(|conversation| wanted.contains(&conversation.id));
        if let Some(missing) = wanted.iter().find(|id| !list.iter().any(|c| c.id == **id)) {
            return Err(Error::new(EXPORTING, "it is deleted, or was never saved")
                .at(format!("conversation {}", missing.0))
                .help("choose among those in the list"));
        }
    }
    match format {
        Format::Json => export::json(history, &list, to)?,
        Format::Markdown => markdown::write(history, &list, to)?,
    }
    Ok(list.len())
}

/// The title, or what stands for one.
fn title_of(conversation: &Conversation) -> &str {
    if conversation.title.trim().is_empty() { "Conversation" } else { conversation.title.trim() }
}

/// The file system's words with ours around them.
pub(super) fn disk_error(doing: &str, path: &Path, e: &io::Error) -> Error {
    let error = Error::new(doing, e).at_path(path);
    match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => error.help("free some space on this disk"),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            error.help("choose a folder that you may write to")
        }
        ErrorKind::NotFound => error.help("is the folder still there?"),
        _ => error.help("check the path and the disk"),
    }
}

/// Writes a file beside its place and then gives it its name, so that it is never seen half written: what was there
/// before stays until then, also when the program is killed.
pub(super) fn write_whole(
    path: &Path,
    doing: &str,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
) -> Result<()> {
    let partial = partial_name(path, doing)?;
    let disk = |e: io::Error| disk_error(doing, path, &e);
    let write = || -> Result<()> {
        let mut writer = BufWriter::new(File::create(&partial).map_err(disk)?);
        fill(&mut writer)?;
        writer.flush().map_err(disk)?;
        let file = writer.into_inner().map_err(|e| disk(e.into_error()))?;
        file.sync_all().map_err(disk)?;
        drop(file);
        fs::rename(&partial, path).map_err(disk)
    };
    write().inspect_err(|_| drop(fs::remove_file(&partial)))
}

/// Writes a file of this content so that it is never seen half written.
///
/// # Errors
/// It cannot be written; what was there before stays.
pub fn write_file(path: &Path, doing: &str, content: &[u8]) -> Result<()> {
    write_whole(path, doing, |out| out.write_all(content).map_err(|e| disk_error(doing, path, &e)))
}

fn partial_name(path: &Path, doing: &str) -> Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| Error::new(doing, "this names no file").at_path(path).help("give a file's path"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".partial-{}", std::process::id()));
    Ok(path.with_file_name(hidden))
}

/// SHA-256 as it stands in files.
fn hex(hash: &[u8; 32]) -> String {
    hash.iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests;
