//! Room `chat`: a conversation as a tree. Every message knows the one before it; editing, asking again and going on
//! from another token make siblings, and one path from the first message to the last is the one shown. Plain data:
//! [`super::history`] keeps it on disk.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::message::Role;

/// A message's number; never given twice in one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub i64);

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// It is as it was meant.
    Complete,
    /// Text is still coming. Found so after a start, the program ended in the middle of it.
    Streaming,
    /// It was stopped; what had come is kept.
    Stopped,
    /// An error ended it; what had come is kept.
    Failed,
}

impl MessageState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Complete, Self::Streaming, Self::Stopped, Self::Failed];

    /// Its name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Streaming => "streaming",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// What an attachment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachmentKind {
    /// A picture.
    Image,
    /// An animated file.
    Animation,
    /// One frame of a clip; consecutive frames belong together.
    Frame,
}

impl AttachmentKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Image, Self::Animation, Self::Frame];

    /// Its name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Animation => "animation",
            Self::Frame => "frame",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A file that came with a message. Its bytes are in the database, so the original may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// What it is.
    pub kind: AttachmentKind,
    /// What it was called.
    pub name: String,
    /// SHA-256 of its bytes: where they are kept.
    pub hash: [u8; 32],
}

/// A message in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its number.
    pub id: MessageId,
    /// The message before it; `None`: it begins the conversation.
    pub parent: Option<MessageId>,
    /// Who says it.
    pub role: Role,
    /// Its text.
    pub text: String,
    /// What came with it, in order, before the text.
    pub attachments: Vec<Attachment>,
    /// How far it is.
    pub state: MessageState,
    /// What else is known of it: sampling, figures, the model's name. An object, or null.
    pub details: Value,
    /// When it was made, in milliseconds since 1970 (UTC).
    pub created_ms: i64,
    /// Which of its followers is shown; `None`: the newest.
    pub chosen: Option<MessageId>,
}

/// Where a message stands among those with the same parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Siblings {
    /// Its index, from 0.
    pub index: usize,
    /// How many there are, itself included.
    pub count: usize,
    /// The one before.
    pub previous: Option<MessageId>,
    /// The one after.
    pub next: Option<MessageId>,
}

/// The messages of one conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    entries: BTreeMap<MessageId, Entry>,
    /// Followers of a message (`None`: beginnings), oldest first.
    followers: HashMap<Option<MessageId>, Vec<MessageId>>,
    chosen_beginning: Option<MessageId>,
    /// The messages shown, first to last: a long conversation is not walked through for each frame.
    path: Vec<MessageId>,
}

impl Tree {
    /// The tree of these messages. A message whose parent is missing begins the conversation anew, so that nothing
    /// is lost; so does the oldest message of a circle.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = Entry>, chosen_beginning: Option<MessageId>) -> Self {
        let mut tree = Self { chosen_beginning, ..Self::default() };
        tree.entries = entries.into_iter().map(|entry| (entry.id, entry)).collect();
        let ids: Vec<MessageId> = tree.entries.keys().copied().collect();
        for id in ids {
            if !tree.parent_is_sound(id)
                && let Some(entry) = tree.entries.get_mut(&id)
            {
                entry.parent = None;
            }
        }
        for entry in tree.entries.values() {
            tree.followers.entry(entry.parent).or_default().push(entry.id);
        }
        tree.walk();
        tree
    }

    /// Does walking up from the message end at a beginning, and not in the void or where it started?
    fn parent_is_sound(&self, id: MessageId) -> bool {
        let Some(mut parent) = self.entries.get(&id).and_then(|entry| entry.parent) else { return true };
        // A parent is older than its followers: numbers fall on the way up, so there are no circles.
        let mut below = id;
        loop {
            let Some(entry) = self.entries.get(&parent) else { return below != id };
            if parent >= below {
                return below != id;
            }
            match entry.parent {
                Some(next) => (below, parent) = (parent, next),
                None => return true,
            }
        }
    }

    /// Are there no messages?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many messages there are, on all branches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The message of this number.
    #[must_use]
    pub fn get(&self, id: MessageId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// The message of this number, to change its text, state or details.
    pub fn get_mut(&mut self, id: MessageId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    /// All messages, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Which beginning is shown, where one was chosen.
    #[must_use]
    pub fn chosen_beginning(&self) -> Option<MessageId> {
        self.chosen_beginning
    }

    /// The followers of a message, oldest first; of `None`: the beginnings.
    #[must_use]
    pub fn followers(&self, parent: Option<MessageId>) -> &[MessageId] {
        self.followers.get(&parent).map_or(&[], Vec::as_slice)
    }

    /// The follower that is shown.
    #[must_use]
    pub fn shown_follower(&self, parent: Option<MessageId>) -> Option<MessageId> {
        let followers = self.followers(parent);
        let chosen = match parent {
            Some(id) => self.entries.get(&id).and_then(|entry| entry.chosen),
            None => self.chosen_beginning,
        };
        chosen.filter(|id| followers.contains(id)).or_else(|| followers.last().copied())
    }

    /// The messages shown, first to last.
    #[must_use]
    pub fn path(&self) -> &[MessageId] {
        &self.path
    }

    fn walk(&mut self) {
        self.path.clear();
        while let Some(next) = self.shown_follower(self.path.last().copied()) {
            self.path.push(next);
        }
    }

    /// The messages from the beginning to this one, itself included; empty for a number that is not there.
    #[must_use]
    pub fn path_to(&self, id: MessageId) -> Vec<MessageId> {
        let mut path: Vec<MessageId> =
            std::iter::successors(self.entries.get(&id), |entry| self.entries.get(&entry.parent?))
                .map(|entry| entry.id)
                .collect();
        path.reverse();
        path
    }

    /// Where a message stands among its siblings.
    #[must_use]
    pub fn siblings(&self, id: MessageId) -> Option<Siblings> {
        let all = self.followers(self.entries.get(&id)?.parent);
        let index = all.iter().position(|other| *other == id)?;
        Some(Siblings {
            index,
            count: all.len(),
            previous: index.checked_sub(1).and_then(|i| all.get(i)).copied(),
            next: all.get(index + 1).copied(),
        })
    }

    /// Adds a message behind its parent and shows it. A parent that is not there makes it a beginning.
    pub fn add(&mut self, mut entry: Entry) {
        entry.parent = entry.parent.filter(|parent| self.entries.contains_key(parent));
        let (id, parent) = (entry.id, entry.parent);
        let followers = self.followers.entry(parent).or_default();
        if let Err(index) = followers.binary_search(&id) {
            followers.insert(index, id);
        }
        self.entries.insert(id, entry);
        self.choose(id);
    }

    /// Shows the path through this message. Gives the parent whose choice has changed, for keeping.
    pub fn choose(&mut self, id: MessageId) {
        for id in self.path_to(id) {
            match self.entries.get(&id).and_then(|entry| entry.parent) {
                Some(parent) => {
                    if let Some(parent) = self.entries.get_mut(&parent) {
                        parent.chosen = Some(id);
                    }
                }
                None => self.chosen_beginning = Some(id),
            }
        }
        self.walk();
    }

    /// A message and all that follows it, each after its parent.
    #[must_use]
    pub fn branch(&self, id: MessageId) -> Vec<MessageId> {
        let mut branch: Vec<MessageId> = self.entries.get(&id).map(|entry| entry.id).into_iter().collect();
        let mut done = 0;
        while let Some(id) = branch.get(done).copied() {
            branch.extend_from_slice(self.followers(Some(id)));
            done += 1;
        }
        branch
    }

    /// Takes a message and all that follows it out; [`Tree::restore`] puts them back.
    pub fn remove_branch(&mut self, id: MessageId) -> Vec<Entry> {
        let branch = self.branch(id);
        let parent = self.entries.get(&id).and_then(|entry| entry.parent);
        if let Some(followers) = self.followers.get_mut(&parent) {
            followers.retain(|other| *other != id);
        }
        for id in &branch {
            self.followers.remove(&Some(*id));
        }
        let removed = branch.iter().filter_map(|id| self.entries.remove(id)).collect();
        self.walk();
        removed
    }

    /// Puts a branch back that was taken out, and shows it.
    pub fn restore(&mut self, branch: Vec<Entry>) {
        let first = branch.first().map(|entry| entry.id);
        let choices: Vec<_> = branch.iter().map(|entry| (entry.id, entry.chosen)).collect();
        for entry in branch {
            self.add(entry);
        }
        // Adding chose each message in turn.
        for (id, chosen) in choices {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.chosen = chosen;
            }
        }
        match first {
            Some(first) => self.choose(first),
            None => self.walk(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: i64, parent: i64) -> Entry {
        Entry {
            id: MessageId(id),
            parent: (parent > 0).then_some(MessageId(parent)),
            role: if id % 2 == 1 { Role::User } else { Role::Assistant },
            text: format!("message {id}"),
            attachments: Vec::new(),
            state: MessageState::Complete,
            details: Value::Null,
            created_ms: id,
            chosen: None,
        }
    }

    fn numbers(ids: &[MessageId]) -> Vec<i64> {
        ids.iter().map(|id| id.0).collect()
    }

    /// 1 ─ 2 ─ 3 ─ 4, and 5 as a sibling of 3 with 6 behind it, and 7 as a sibling of 2.
    fn branched() -> Tree {
        let pairs = [(1, 0), (2, 1), (3, 2), (4, 3), (5, 2), (6, 5), (7, 1)];
        Tree::new(pairs.map(|(id, parent)| entry(id, parent)), None)
    }

    #[test]
    fn the_newest_branch_is_shown_until_another_is_chosen() {
        let mut tree = branched();
        assert_eq!(numbers(tree.path()), [1, 7]);
        tree.choose(MessageId(4));
        assert_eq!(numbers(tree.path()), [1, 2, 3, 4]);
        tree.choose(MessageId(5));
        assert_eq!(numbers(tree.path()), [1, 2, 5, 6]);
        assert_eq!(numbers(&tree.path_to(MessageId(6))), [1, 2, 5, 6]);
        assert!(tree.path_to(MessageId(99)).is_empty());
    }

    #[test]
    fn siblings_are_counted_and_lead_to_each_other() {
        let tree = branched();
        let of_five = tree.siblings(MessageId(5)).unwrap();
        assert_eq!((of_five.index, of_five.count), (1, 2));
        assert_eq!((of_five.previous, of_five.next), (Some(MessageId(3)), None));
        assert_eq!(tree.siblings(MessageId(1)).unwrap().count, 1);
        assert!(tree.siblings(MessageId(99)).is_none());
    }

    #[test]
    fn a_branch_taken_out_comes_back_as_it_was() {
        let mut tree = branched();
        tree.choose(MessageId(4));
        let before = tree.clone();
        let removed = tree.remove_branch(MessageId(2));
        assert_eq!(removed.len(), 5);
        assert_eq!(numbers(tree.path()), [1, 7]);
        tree.restore(removed);
        assert_eq!(numbers(tree.path()), numbers(before.path()));
        assert_eq!(tree.len(), before.len());
        assert_eq!(tree.entries().collect::<Vec<_>>(), before.entries().collect::<Vec<_>>());
    }

    #[test]
    fn messages_without_their_parent_and_circles_stay_readable() {
        let tree = Tree::new([entry(5, 4), entry(6, 5), entry(7, 8), entry(8, 7)], None);
        assert_eq!(tree.len(), 4);
        let mut seen: Vec<i64> =
            tree.followers(None).iter().flat_map(|id| numbers(&tree.branch(*id))).collect();
        seen.sort_unstable();
        assert_eq!(seen, [5, 6, 7, 8]);
    }

    #[test]
    fn an_added_message_is_shown() {
        let mut tree = branched();
        tree.choose(MessageId(4));
        tree.add(entry(8, 1));
        assert_eq!(numbers(tree.path()), [1, 8]);
        tree.add(entry(9, 77));
        assert_eq!(numbers(tree.path()), [9]);
    }

    proptest::proptest! {
        #[test]
        fn every_message_of_any_list_is_reached_once(parents in proptest::collection::vec(0_i64..40, 1..30)) {
            let entries = (1_i64..).zip(&parents).map(|(id, parent)| entry(id, *parent));
            let tree = Tree::new(entries, None);
            let mut seen: Vec<MessageId> =
                tree.followers(None).iter().flat_map(|id| tree.branch(*id)).collect();
            seen.sort_unstable();
            let all: Vec<MessageId> = (1_i64..).zip(&parents).map(|(id, _)| MessageId(id)).collect();
            proptest::prop_assert_eq!(seen, all);
            for id in tree.path() {
                proptest::prop_assert!(tree.siblings(*id).is_some());
            }
        }
    }
}
