//! Pictures and clips of questions in the making, and the files of messages.

use super::{ChosenSample, State};
use crate::app::chat::{Attached, Draft, FileData, Hash, PictureState, one_clip};
use crate::chat::message::Role;
use crate::chat::store::Job;
use crate::chat::tree::{Attachment, AttachmentKind};
use crate::error::{Error, Result};

/// Decoded pixels kept in memory, all pictures together; what does not fit is decoded again when it is sent.
const MAX_PIXEL_BYTES: usize = 512 << 20;

/// A file that was read for a draft.
#[derive(Debug)]
pub struct ReadFile {
    /// SHA-256 of its bytes.
    pub hash: Hash,
    /// What it is.
    pub kind: AttachmentKind,
    /// Its bytes and pixels.
    pub data: FileData,
}

impl State {
    /// The draft that new pictures go to: of the message being changed, or of the next question.
    pub(super) fn open_draft(&mut self) -> &mut Draft {
        let tree = &self.chat.tree;
        let is_question =
            |id| tree.path().contains(&id) && tree.get(id).is_some_and(|e| e.role == Role::User);
        match &mut self.chat.editing {
            Some(editing) if is_question(editing.message) => &mut editing.draft,
            _ => &mut self.chat.draft,
        }
    }

    fn drafts_mut(&mut self) -> impl Iterator<Item = &mut Draft> {
        let chats = std::iter::once(&mut self.chat).chain(self.others.values_mut());
        let typed = chats.flat_map(|chat| {
            std::iter::once(&mut chat.draft).chain(chat.editing.as_mut().map(|editing| &mut editing.draft))
        });
        typed.chain(self.waiting.iter_mut().filter_map(|waiting| waiting.draft.as_mut()))
    }

    fn drafts(&self) -> impl Iterator<Item = &Draft> {
        let chats = std::iter::once(&self.chat).chain(self.others.values());
        let typed = chats.flat_map(|chat| {
            std::iter::once(&chat.draft).chain(chat.editing.as_ref().map(|editing| &editing.draft))
        });
        typed.chain(self.waiting.iter().filter_map(|waiting| waiting.draft.as_ref()))
    }

    /// Adds a picture to the draft; [`State::picture_read`] says when it is there.
    pub fn add_picture(&mut self, name: String, kind: AttachmentKind) -> u64 {
        let id = self.new_id();
        self.open_draft().pictures.push(Attached { id, name, kind, state: PictureState::Reading });
        id
    }

    /// The clips of frames in drafts, by name.
    pub(in crate::app) fn clip_names(&self) -> std::collections::HashSet<String> {
        let frames =
            self.drafts().flat_map(|draft| &draft.pictures).filter(|p| p.kind == AttachmentKind::Frame);
        frames.map(|p| crate::app::chat::clip_name(&p.name).to_owned()).collect()
    }

    /// A picture of a draft is to be another: it is read anew. `false`: it is gone.
    pub fn replace_picture(&mut self, id: u64, name: String) -> bool {
        let picture = self.drafts_mut().flat_map(|draft| &mut draft.pictures).find(|p| p.id == id);
        let found = picture.is_some();
        if let Some(picture) = picture {
            (picture.name, picture.kind, picture.state) =
                (name, AttachmentKind::Image, PictureState::Reading);
        }
        found
    }

    /// A picture has been read, or not. One that was removed meanwhile is nobody's concern.
    pub fn picture_read(&mut self, id: u64, result: Result<ReadFile>) {
        let Some(picture) = self.drafts_mut().flat_map(|draft| &mut draft.pictures).find(|p| p.id == id)
        else {
            return;
        };
        match result {
            Ok(mut read) => {
                let (width, height) = read.data.size;
                picture.state = PictureState::Ready(read.hash, width, height);
                if picture.kind == AttachmentKind::Frame {
                    // The engine decodes a clip's frames one at a time.
                    read.data.picture = None;
                } else {
                    picture.kind = read.kind;
                }
                self.files.insert(read.hash, read.data);
                self.bound_pixels();
            }
            Err(error) => picture.state = PictureState::Failed(error),
        }
    }

    /// An animated file is to be looked at as a clip, or as its first frame alone.
    pub fn set_clip(&mut self, id: u64, is_clip: bool) {
        if let Some(picture) = self.drafts_mut().flat_map(|draft| &mut draft.pictures).find(|p| p.id == id) {
            picture.kind = if is_clip { AttachmentKind::Animation } else { AttachmentKind::Image };
        }
    }

    /// Takes a picture out of its draft.
    pub fn remove_picture(&mut self, id: u64) {
        self.drafts_mut().for_each(|draft| draft.pictures.retain(|p| p.id != id));
    }

    /// Puts a picture of a draft at the place `to` (or at the end); a clip of frames is passed as a whole.
    pub fn move_picture(&mut self, id: u64, to: usize) {
        for draft in self.drafts_mut() {
            if let Some(from) = draft.pictures.iter().position(|p| p.id == id) {
                let picture = draft.pictures.remove(from);
                let mut to = to.min(draft.pictures.len());
                let splits = |to: usize| {
                    let (before, after) = draft.pictures.split_at(to);
                    before.last().zip(after.first()).is_some_and(|(a, b)| one_clip(a, b))
                };
                while to > 0 && to < draft.pictures.len() && splits(to) {
                    to = if to > from { to + 1 } else { to - 1 };
                }
                draft.pictures.insert(to.min(draft.pictures.len()), picture);
            }
        }
    }

    /// The picture of sample `index` is in the draft, in place of another sample's.
    pub fn sample_added(&mut self, index: usize, picture: u64) {
        if let Some(before) = self.sample.replace(ChosenSample { index, picture }) {
            self.remove_picture(before.picture);
        }
    }

    /// The sample whose picture is in the draft.
    #[must_use]
    pub fn chosen_sample(&self) -> Option<usize> {
        let chosen = self.sample?;
        self.chat.draft.pictures.iter().any(|p| p.id == chosen.picture).then_some(chosen.index)
    }

    /// Asks the history for files of messages that are not in memory; true when all are there.
    pub(super) fn want_files<'a>(&mut self, attachments: impl IntoIterator<Item = &'a Attachment>) -> bool {
        let mut all = true;
        for attachment in attachments {
            if self.files.contains_key(&attachment.hash) {
                continue;
            }
            all = false;
            if self.lost_files.contains_key(&attachment.hash) {
                continue;
            }
            if self.requested.insert(attachment.hash) {
                self.jobs.push(Job::File(attachment.clone()));
            }
        }
        all
    }

    /// Asks for the pictures of a message that is on the screen.
    pub fn want_picture(&mut self, attachment: &Attachment) {
        self.want_files([attachment]);
    }

    /// A file has come from the history, or has not.
    pub(super) fn file_came(&mut self, hash: Hash, result: Result<std::sync::Arc<[u8]>>) {
        match result {
            Ok(bytes) => {
                self.requested.remove(&hash);
                let data = FileData { bytes, picture: None, size: (0, 0), frames: 1 };
                self.files.entry(hash).or_insert(data);
                self.fresh_files.push((hash, String::new()));
            }
            Err(error) => {
                self.requested.remove(&hash);
                self.report(&error);
                self.lost_files.insert(hash, error);
            }
        }
    }

    /// Holds a file that is about to be a message's; its pixels are read later.
    pub(super) fn hold_file(&mut self, hash: Hash, bytes: &std::sync::Arc<[u8]>) {
        if !self.files.contains_key(&hash) {
            self.file_came(hash, Ok(std::sync::Arc::clone(bytes)));
        }
    }

    /// Why one of these cannot be had.
    pub(super) fn lost_file(&self, attachments: &[Attachment]) -> Option<Error> {
        let error = attachments.iter().find_map(|attachment| self.lost_files.get(&attachment.hash))?;
        Some(error.clone().help("edit the message and take the picture out, or add it again"))
    }

    /// The pixels of a file that came from the history have been read.
    pub fn pixels_read(&mut self, hash: Hash, result: Result<FileData>) {
        match result {
            Ok(data) => {
                self.files.insert(hash, data);
                self.bound_pixels();
            }
            Err(error) => {
                self.report(&error);
                self.lost_files.insert(hash, error);
            }
        }
    }

    /// Lets go of pixels until the rest fits; files can be decoded again.
    fn bound_pixels(&mut self) {
        let bytes = |data: &FileData| data.picture.as_ref().map_or(0, |picture| picture.rgb().len());
        let mut total: usize = self.files.values().map(bytes).sum();
        if total <= MAX_PIXEL_BYTES {
            return;
        }
        let in_drafts: Vec<Hash> =
            self.drafts().flat_map(|draft| draft.pictures.iter().filter_map(Attached::hash)).collect();
        for (hash, data) in &mut self.files {
            if total > MAX_PIXEL_BYTES && !in_drafts.contains(hash) {
                total -= bytes(data);
                data.picture = None;
            }
        }
    }

    /// Forgets files that no conversation in memory has.
    pub(super) fn forget_files(&mut self) {
        let mut used: std::collections::HashSet<Hash> =
            self.drafts().flat_map(|draft| draft.pictures.iter().filter_map(Attached::hash)).collect();
        for chat in std::iter::once(&self.chat).chain(self.others.values()) {
            used.extend(chat.tree.entries().flat_map(|entry| entry.attachments.iter().map(|a| a.hash)));
        }
        for undoable in &self.undo {
            used.extend(undoable.hashes());
        }
        self.files.retain(|hash, _| used.contains(hash));
        self.requested.retain(|hash| used.contains(hash));
        self.lost_files.retain(|hash, _| used.contains(hash));
    }

    /// Is the file used by what is in memory?
    #[must_use]
    pub fn has_file(&self, hash: &Hash) -> bool {
        self.files.contains_key(hash)
    }

    /// Why a draft with pictures that cannot be read cannot be sent.
    pub(super) fn unreadable(draft: &Draft) -> Option<Error> {
        draft.pictures.iter().find_map(|p| match &p.state {
            PictureState::Failed(error) => {
                Some(Error::new("sending the question", error).help("remove the picture, then send again"))
            }
            PictureState::Reading | PictureState::Ready(..) => None,
        })
    }
}
