//! Reading results back: whole buffers for tests and traces, small records through a ring for decoding.

use std::cell::Cell;
use std::sync::mpsc;

use super::device::Gpu;
use super::injected::Point;
use crate::clock;
use crate::error::Result;

const READING: &str = "reading results from the GPU";

/// A copy under way from the device to the machine's memory.
#[derive(Debug)]
pub struct Readback {
    buffer: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    mapped: mpsc::Receiver<(std::result::Result<(), wgpu::BufferAsyncError>, u64)>,
    /// When the recording of what it reads began and when its first piece was submitted, nanoseconds of [`crate::clock`].
    pub(super) recorded_ns: u64,
    pub(super) submitted_ns: u64,
    /// The device took its beginning and its end.
    pub(super) is_timed: bool,
    /// When it was found to have arrived.
    pub(super) read_ns: Cell<u64>,
}

impl Readback {
    /// Starts mapping a staging buffer, after the submission that fills it.
    pub(super) fn start(buffer: wgpu::Buffer, submission: wgpu::SubmissionIndex) -> Self {
        let (send, mapped) = mpsc::channel();
        buffer.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = send.send((result, clock::now_ns()));
        });
        Self {
            buffer,
            submission,
            mapped,
            recorded_ns: 0,
            submitted_ns: 0,
            is_timed: false,
            read_ns: Cell::new(0),
        }
    }

    /// Has the copy arrived? Never waits; the device must be polled for it to become true.
    ///
    /// # Errors
    /// The map failed.
    pub fn try_read(&self, gpu: &Gpu) -> Result<Option<Vec<u8>>> {
        match self.mapped.try_recv() {
            Err(mpsc::TryRecvError::Empty) => Ok(None),
            Err(mpsc::TryRecvError::Disconnected) => Err(gpu.failed(READING, "the device dropped it")),
            Ok((Err(e), _)) => Err(gpu.failed(READING, e)),
            Ok((Ok(()), read_ns)) => {
                gpu.pass(Point::Read)?;
                self.read_ns.set(read_ns);
                let bytes = {
                    let view = self.buffer.get_mapped_range(..).map_err(|e| gpu.failed(READING, e))?;
                    view.to_vec()
                };
                self.buffer.unmap();
                Ok(Some(bytes))
            }
        }
    }

    /// Is not waited for any more: its buffer goes once the device is done with it.
    pub fn discard(self, gpu: &Gpu) {
        gpu.uncount_bytes(self.buffer.size());
    }

    /// Waits for the copy and gives its buffer back to the ring.
    ///
    /// # Errors
    /// The device failed.
    pub fn wait_for(self, gpu: &Gpu, ring: &mut ReadbackRing) -> Result<Vec<u8>> {
        let bytes = self.wait(gpu)?;
        ring.recycle(self);
        Ok(bytes)
    }

    /// Waits for the copy.
    ///
    /// # Errors
    /// The device failed.
    pub fn wait(&self, gpu: &Gpu) -> Result<Vec<u8>> {
        loop {
            if let Some(bytes) = self.try_read(gpu)? {
                return Ok(bytes);
            }
            gpu.check()?;
            // This copy's own submission, not the latest: what was queued behind it may go on.
            gpu.wait_for(READING, &self.submission)?;
        }
    }
}

/// Staging buffers of one size that are used again and again.
#[derive(Debug)]
pub struct ReadbackRing {
    bytes: u64,
    free: Vec<wgpu::Buffer>,
}

impl ReadbackRing {
    /// A ring of records of `bytes` each.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self { bytes: bytes.next_multiple_of(4) as u64, free: Vec::new() }
    }

    /// Bytes of one record.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A free staging buffer, to be mapped by [`Readback::start`] once the copy into it is submitted.
    pub(super) fn take(&mut self, gpu: &Gpu) -> Result<wgpu::Buffer> {
        match self.free.pop() {
            Some(buffer) => Ok(buffer),
            None => staging(gpu, self.bytes),
        }
    }

    /// Gives a finished readback's buffer back to the ring.
    pub fn recycle(&mut self, done: Readback) {
        self.free.push(done.buffer);
    }
}

fn staging(gpu: &Gpu, bytes: u64) -> Result<wgpu::Buffer> {
    gpu.buffer("readback", bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
}

impl Gpu {
    /// Reads `len` bytes at `offset` of a buffer, after everything queued before. Both are multiples of 4.
    ///
    /// # Errors
    /// The device failed or memory is short.
    pub fn read_bytes(&self, source: &wgpu::Buffer, offset: u64, len: usize) -> Result<Vec<u8>> {
        let buffer = staging(self, len as u64)?;
        let mut encoder =
            self.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("readback") });
        encoder.copy_buffer_to_buffer(source, offset, &buffer, 0, buffer.size());
        let submission = self.queue().submit([encoder.finish()]);
        let bytes = Readback::start(buffer, submission).wait(self);
        self.uncount_bytes(len as u64);
        bytes
    }

    /// Reads `count` f32 values from element `first` on.
    ///
    /// # Errors
    /// As [`Gpu::read_bytes`].
    pub fn read_f32(&self, source: &wgpu::Buffer, first: usize, count: usize) -> Result<Vec<f32>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.read_bytes(source, first as u64 * 4, count * 4)?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}
