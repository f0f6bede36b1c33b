//! Buffers: creation with the device's own errors, sizes and uploads.

use wgpu::BufferUsages as Usage;

use super::device::Gpu;
use super::injected::Point;
use crate::error::{Error, ErrorKind, Result};

const MIB: f64 = 1_048_576.0;

/// Bytes rounded up so that a storage buffer of them can be bound and copied.
#[must_use]
pub fn storage_bytes(bytes: usize) -> u64 {
    (bytes.max(16) as u64).next_multiple_of(16)
}

/// Small conveniences on wgpu's buffers.
pub trait BufferExt {
    /// The size in bytes as `usize`.
    fn len_bytes(&self) -> usize;
}

impl BufferExt for wgpu::Buffer {
    fn len_bytes(&self) -> usize {
        usize::try_from(self.size()).unwrap_or(usize::MAX)
    }
}

impl Gpu {
    /// A storage buffer of `bytes` that kernels read and write and the queue copies from and to.
    /// Its first contents are zeros.
    ///
    /// # Errors
    /// It is larger than the adapter allows in one binding, or memory is short.
    pub fn storage_buffer(&self, label: &str, bytes: usize) -> Result<wgpu::Buffer> {
        let size = storage_bytes(bytes);
        if size > self.max_binding_bytes() as u64 {
            let why = format!(
                "it needs {:.1} MiB in one buffer and {} allows {:.1} MiB",
                size as f64 / MIB,
                self.adapter_name(),
                self.max_binding_bytes() as f64 / MIB
            );
            return Err(Error::new("allocating GPU memory for", why)
                .at(label)
                .help("use a shorter context, fewer image tokens or another adapter")
                .kind(ErrorKind::DoesNotFit));
        }
        self.buffer(label, size, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)
    }

    /// A buffer of `size` bytes with the given usages.
    ///
    /// # Errors
    /// Memory is short, or the adapter's limits refuse it.
    pub fn buffer(&self, label: &str, size: u64, usage: Usage) -> Result<wgpu::Buffer> {
        let limit = self.device().limits().max_buffer_size;
        if size > limit {
            let why = format!("{size} bytes are asked for and the adapter allows {limit} in a buffer");
            return Err(Error::new("allocating GPU memory for", why).at(label).kind(ErrorKind::DoesNotFit));
        }
        let buffer = self.scoped("allocating GPU memory for", label, Point::Allocate, |device| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            })
        })?;
        self.count_bytes(size);
        Ok(buffer)
    }

    /// A storage buffer with `contents`.
    ///
    /// # Errors
    /// As [`Gpu::storage_buffer`].
    pub fn storage_buffer_with(&self, label: &str, contents: &[u8]) -> Result<wgpu::Buffer> {
        let buffer = self.storage_buffer(label, contents.len())?;
        self.write(&buffer, 0, contents);
        Ok(buffer)
    }

    /// Queues a write of `contents` at `offset`, padded with zeros to whole words.
    pub fn write(&self, buffer: &wgpu::Buffer, offset: u64, contents: &[u8]) {
        if contents.is_empty() {
            return;
        }
        let whole = contents.len() / 4 * 4;
        if whole > 0 {
            self.queue().write_buffer(buffer, offset, &contents[..whole]);
        }
        if whole < contents.len() {
            let mut last = [0u8; 4];
            last[..contents.len() - whole].copy_from_slice(&contents[whole..]);
            self.queue().write_buffer(buffer, offset + whole as u64, &last);
        }
    }

    /// Fills a buffer with `word`, repeated; the tests poison memory with it.
    pub fn fill(&self, buffer: &wgpu::Buffer, word: u32) {
        let chunk = vec![word; 1 << 18];
        let bytes: &[u8] = bytemuck::cast_slice(&chunk);
        let mut offset = 0;
        while offset < buffer.size() {
            let n = (buffer.size() - offset).min(bytes.len() as u64);
            self.queue().write_buffer(buffer, offset, &bytes[..usize::try_from(n).unwrap_or(0)]);
            offset += n;
        }
    }
}
