//! Waiting for the device, and asking it without waiting: one place, so that a device that is lost meanwhile is always reported as that.

use super::device::Gpu;
use super::injected::Point;
use crate::error::{Error, ErrorKind, Result};

impl Gpu {
    /// Waits until a submission is done.
    ///
    /// # Errors
    /// The device failed.
    pub fn wait_for(&self, doing: &str, submission: &wgpu::SubmissionIndex) -> Result<()> {
        // Without a time-out: one that passes can meet another thread's poll of the same device (the window's) in
        // a way that wgpu-core 30 takes for a broken promise, and panics.
        let wait = wgpu::PollType::Wait { submission_index: Some(submission.clone()), timeout: None };
        self.ask_device(doing, wait)
    }

    /// Waits until all that is submitted is done.
    ///
    /// # Errors
    /// The device failed.
    pub fn wait_for_all(&self, doing: &str) -> Result<()> {
        self.ask_device(doing, wgpu::PollType::wait_indefinitely())
    }

    /// Lets what has arrived be known, without waiting.
    ///
    /// # Errors
    /// The device failed.
    pub fn poll(&self) -> Result<()> {
        self.ask_device("polling the GPU", wgpu::PollType::Poll)
    }

    /// The error of a device that failed at something.
    pub(super) fn failed(&self, doing: &str, why: impl std::fmt::Display) -> Error {
        let error = Error::new(doing, why).at(self.adapter_name()).kind(ErrorKind::DeviceFailed);
        self.check().err().unwrap_or_else(|| error.help("ask again; if it happens again, update the driver"))
    }

    fn ask_device(&self, doing: &str, what: wgpu::PollType) -> Result<()> {
        self.pass(Point::Wait)?;
        let asked = self.device().poll(what);
        // What the device says of itself says more than that waiting failed.
        self.check()?;
        asked.map(drop).map_err(|e| self.failed(doing, e))
    }
}
