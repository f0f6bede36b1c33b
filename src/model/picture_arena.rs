//! The picture arena: the tower's output rows of encoded pictures, looked up by extension id
//! (`vocab_size + slot`). One buffer of merged tokens and one for each DeepStack level, `[slots, hidden]` f32.
//! Pictures are kept until their room is wanted by others; least recently used go first.

use std::collections::HashMap;

use super::config::ModelConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Gpu, Recorder};

/// What identifies an encoded picture or frame pair: its content, size and preprocessing.
pub type PictureKey = [u8; 32];

#[derive(Clone, Copy, Debug)]
struct Entry {
    first: usize,
    count: usize,
    last_use: u64,
    pins: usize,
}

/// Rows of encoded pictures.
#[derive(Debug)]
pub struct PictureArena {
    gpu: Gpu,
    hidden: usize,
    /// Merged tokens, then each DeepStack level.
    buffers: Vec<wgpu::Buffer>,
    slots: usize,
    most_slots: usize,
    entries: HashMap<PictureKey, Entry>,
    clock: u64,
}

/// Slots to begin with: a few pictures of ordinary size.
const FIRST_SLOTS: usize = 1024;

impl PictureArena {
    /// An arena that may grow to what one binding of the device holds.
    ///
    /// # Errors
    /// Memory is short.
    pub fn new(gpu: &Gpu, config: &ModelConfig) -> Result<Self> {
        let hidden = config.text.hidden_size;
        let most_slots = gpu.max_binding_bytes() / (hidden * 4);
        let slots = FIRST_SLOTS.min(most_slots).max(1);
        let levels = config.vision.deepstack_indexes.len();
        let buffers = Self::make(gpu, levels, slots, hidden)?;
        Ok(Self { gpu: gpu.clone(), hidden, buffers, slots, most_slots, entries: HashMap::new(), clock: 0 })
    }

    fn make(gpu: &Gpu, levels: usize, slots: usize, hidden: usize) -> Result<Vec<wgpu::Buffer>> {
        let label = format!("the picture arena ({slots} image tokens)");
        (0..=levels).map(|_| gpu.storage_buffer(&label, slots * hidden * 4)).collect()
    }

    /// Bytes an arena has to begin with.
    #[must_use]
    pub fn first_bytes(config: &ModelConfig) -> usize {
        (1 + config.vision.deepstack_indexes.len()) * FIRST_SLOTS * config.text.hidden_size * 4
    }

    /// DeepStack levels.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.buffers.len() - 1
    }

    /// `[slots, hidden]` f32: merged picture tokens.
    #[must_use]
    pub fn embeddings(&self) -> &wgpu::Buffer {
        &self.buffers[0]
    }

    /// `[slots, hidden]` f32: DeepStack features of `level`.
    #[must_use]
    pub fn deepstack(&self, level: usize) -> &wgpu::Buffer {
        &self.buffers[level + 1]
    }

    /// Slots there are now.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The first slot of an encoded picture that is still here; it counts as used now.
    pub fn find(&mut self, key: &PictureKey) -> Option<usize> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        entry.last_use = self.clock;
        Some(entry.first)
    }

    /// Keeps a picture from being dropped until [`PictureArena::unpin`].
    pub fn pin(&mut self, key: &PictureKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.pins += 1;
        }
    }

    /// Ends one [`PictureArena::pin`].
    pub fn unpin(&mut self, key: &PictureKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.pins = entry.pins.saturating_sub(1);
        }
    }

    /// Forgets a picture whose encoding did not finish.
    pub fn remove(&mut self, key: &PictureKey) {
        self.entries.remove(key);
    }

    /// Forgets all pictures. None may be in use.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Room for `count` rows under `key`, dropping pictures not used for longest or growing.
    /// Growing moves the rows to new buffers: the recorder's bind groups are forgotten.
    ///
    /// # Errors
    /// There cannot be that much room.
    pub fn allocate(&mut self, recorder: &mut Recorder, key: PictureKey, count: usize) -> Result<usize> {
        self.clock += 1;
        let first = loop {
            if let Some(first) = self.gap(count) {
                break first;
            }
            if self.slots < self.most_slots {
                let wanted = (self.slots * 2).max(self.slots + count).min(self.most_slots);
                match self.grow(recorder, wanted) {
                    Ok(()) => continue,
                    Err(e) if e.get_kind() != ErrorKind::DoesNotFit => return Err(e),
                    // No memory for more: make do with what is here.
                    Err(_) => self.most_slots = self.slots,
                }
            }
            let oldest = self.entries.iter().filter(|(_, e)| e.pins == 0).min_by_key(|(_, e)| e.last_use);
            let Some((&oldest, _)) = oldest else {
                let why = format!(
                    "the pictures in use and this one's {count} image tokens need more than the {} there is room for",
                    self.slots
                );
                return Err(Error::new("encoding a picture", why)
                    .help("use fewer image tokens or fewer pictures at once")
                    .kind(ErrorKind::DoesNotFit));
            };
            self.entries.remove(&oldest);
        };
        self.entries.insert(key, Entry { first, count, last_use: self.clock, pins: 0 });
        Ok(first)
    }

    /// The first free run of `count` slots.
    fn gap(&self, count: usize) -> Option<usize> {
        let mut taken: Vec<(usize, usize)> =
            self.entries.values().map(|e| (e.first, e.first + e.count)).collect();
        taken.sort_unstable();
        let mut at = 0;
        for (first, end) in taken {
            if first - at >= count {
                return Some(at);
            }
            at = end;
        }
        (self.slots - at >= count).then_some(at)
    }

    fn grow(&mut self, recorder: &mut Recorder, slots: usize) -> Result<()> {
        let new = Self::make(&self.gpu, self.levels(), slots, self.hidden)?;
        let bytes = (self.slots * self.hidden * 4) as u64;
        for (old, new) in self.buffers.iter().zip(&new) {
            recorder.copy(old, 0, new, 0, bytes);
        }
        let moved = recorder.finish();
        recorder.forget();
        if moved.is_err() {
            self.gpu.uncount_bytes(new.iter().map(wgpu::Buffer::size).sum());
        }
        moved?;
        let freed = self.buffers.iter().map(wgpu::Buffer::size).sum();
        self.gpu.uncount_bytes(freed);
        self.buffers = new;
        self.slots = slots;
        Ok(())
    }
}
