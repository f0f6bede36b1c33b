//! Room `app`: what the user asks of the window. Pushed while drawing, carried out after.

use std::path::PathBuf;

use super::actions::Action;
use super::chat::Hash;
use super::comparing_ui::CompareCommand;
use super::costs::CostsCommand;
use super::models::Work;
use super::texts::Language;
use crate::chat::history::ConversationId;
use crate::chat::transfer::Format;
use crate::chat::tree::{Attachment, MessageId};
use crate::model::kv_cache::KvFormat;
use crate::model::recipe::Recipe;
use crate::remote::{Key, Server};

/// A picture that is to be looked at in large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// A picture or clip of a message: its place among them.
    Message(MessageId, usize),
    /// A picture with the boxes of an answer: the answer, the message of the picture, the picture's place in it.
    Grounded(MessageId, MessageId, usize),
    /// A picture of a draft.
    Draft(Hash, String),
}

/// What the user can ask of the window.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A row of the table of actions.
    Do(Action),
    /// Load this model.
    OpenModel(PathBuf),
    /// Load this model, its weights stored so.
    OpenModelAs(PathBuf, Recipe),
    /// Load this model without its vision tower.
    OpenTextOnly(PathBuf),
    /// Do something with a model; if it is a download, open it once it is there.
    Work(Work, bool),
    /// Stop this piece of work.
    StopWork(u64),
    /// Do this piece of work again.
    WorkAgain(u64),
    /// Take the end of this piece of work off the screen.
    CloseWork(u64),
    /// Choose a model's folder, or a GGUF file, for the list.
    ChooseModelToImport(bool),
    /// Show a file or a folder in the system's file manager.
    Reveal(PathBuf),
    /// Stop the load.
    CancelLoad,
    /// Put this sample's picture into the draft.
    UseSample(usize),
    /// Ask this of the draft's pictures at once.
    AskSample(String),
    /// Take a picture out of its draft.
    RemovePicture(u64),
    /// Put a picture of a draft at this place.
    MovePicture(u64, usize),
    /// Choose another file for a picture of a draft.
    ReplacePicture(u64),
    /// Look at an animated file as a clip, or as one picture.
    SetClip(u64, bool),
    /// Look at a picture in large.
    Look(Look),
    /// A picture of a message is on the screen and not in memory.
    WantPicture(Attachment),
    /// Close a notice.
    Dismiss(u64),
    /// Undo this deletion.
    Undo(u64),
    /// Take the model's own sampling settings.
    UseModelDefaults,
    /// Put this conversation on the screen, with a message in sight.
    OpenChat(ConversationId, Option<MessageId>),
    /// Begin to type another title.
    StartRename(ConversationId),
    /// Give it this title.
    Rename(ConversationId, String),
    /// Keep it on top, or not.
    Pin(ConversationId, bool),
    /// Put it into a folder.
    Folder(ConversationId, String),
    /// Begin to type the name of a folder for it.
    StartFolder(ConversationId),
    /// Delete it.
    DeleteChat(ConversationId),
    /// Write it to a file.
    Export(Option<ConversationId>, Format),
    /// Change a message.
    Edit(MessageId),
    /// Send the changed message, or have the model go on with the changed answer.
    SendEdit,
    /// Keep the changed message without asking.
    SaveEdit,
    /// Leave it as it was.
    CancelEdit,
    /// Another answer beside this one.
    Regenerate(MessageId),
    /// Go on with this answer.
    Continue(MessageId),
    /// Show the branch through this message.
    ShowBranch(MessageId),
    /// Delete a message and all that follows.
    DeleteBranch(MessageId),
    /// Put a text into the clipboard.
    Copy(String),
    /// Close the prompt.
    ClosePrompt,
    /// Write the picture that is looked at with its boxes, under a name like this.
    ExportAnnotated(Look, String),
    /// Keep the settings under this name.
    SavePreset(String),
    /// Take the settings of this preset.
    UsePreset(usize),
    /// Take what Qwen recommends, for pictures or for text.
    UseRecommended(bool),
    /// Open the window anew on the adapter of this full name, or on the best one.
    UseAdapter(Option<String>),
    /// Store keys and values so, and load the model anew.
    UseKv(Option<KvFormat>),
    /// Forget this preset.
    DeletePreset(usize),
    /// Ask a server for its models, with a key that was typed and is not kept yet.
    ListModels(Box<Server>, Option<Key>),
    /// Keep a server, in place of the one that had this address, and its key where one was typed.
    SaveServer(Option<String>, Box<Server>, Option<Key>),
    /// Forget the server of this address and its key.
    RemoveServer(String),
    /// Forget the key of the server of this address.
    ForgetKey(String),
    /// Something about what answers cost.
    Costs(CostsCommand),
    /// Something about a comparison.
    Compare(CompareCommand),
    /// Speak another language.
    SetLanguage(Language),
}
